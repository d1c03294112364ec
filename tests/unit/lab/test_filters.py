# SPDX-License-Identifier: GPL-2.0-only
"""Counts of rules that are waited for."""

from __future__ import annotations

from itertools import count

from harness.lab.counters import Count
from harness.lab.filters import Counts


def counting(up: int) -> Counts:
    """A rule, `seen`, that has matched one packet more at each reading, up to so many; and one that matches none."""
    readings = count()
    return Counts(frozenset({"seen", "never"}), lambda: {
        "seen": Count(packets=min(next(readings), up), bytes=0), "never": Count(packets=0, bytes=0)})


def test_what_is_waited_for_ends_the_wait() -> None:
    assert counting(9).reach({"seen": 5, "never": 0}, seconds=60) == {"seen": 5, "never": 0}


def test_what_does_not_come_is_said_as_it_is() -> None:
    assert counting(3).reach({"seen": 5}, seconds=0.05) == {"seen": 3, "never": 0}
