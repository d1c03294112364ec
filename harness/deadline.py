# SPDX-License-Identifier: GPL-2.0-only
"""A time budget, made once by whoever owns the work and handed down to every wait in it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from harness.errors import DeadlineExpired


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """A point on the monotonic clock, with the budget it came from for messages.

    Attributes:
        at: seconds on `time.monotonic()` after which nothing may wait any more.
        budget: seconds that were given when it was made.
    """

    at: float
    budget: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """A deadline `seconds` from now."""
        return cls(at=time.monotonic() + seconds, budget=seconds)

    @property
    def remaining(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        return time.monotonic() >= self.at

    def within(self, seconds: float) -> Deadline:
        """The earlier of this deadline and one `seconds` from now: a step's share of a larger budget."""
        mine = Deadline.after(seconds)
        return mine if mine.at < self.at else self

    def check(self, doing: str) -> None:
        """Raise `DeadlineExpired` naming `doing` when no time is left."""
        if self.expired:
            raise DeadlineExpired(f"{doing}: no answer within {self.budget:g} s")
