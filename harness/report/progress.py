# SPDX-License-Identifier: GPL-2.0-only
"""Progress of long work: a live line on a terminal, a line per step where there is none, nothing when quiet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.status import Status

_EVERY = 30.0
"""Seconds between the lines of one long step where there is no terminal."""


class Progress:
    """Tells a person, on standard error, what is being done; `step` is safe to call from anywhere in a run."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._started = time.monotonic()
        self._status: Status | None = None

    def step(self, text: str) -> None:
        """A step begins."""
        if self._quiet:
            return
        self._console.print(f"[dim]{time.monotonic() - self._started:6.0f} s[/]  {escape(text)}")

    @contextmanager
    def counting(self, what: str, unit: str = "files") -> Iterator[Callable[[int], None]]:
        """A step that counts up; the block gets a function to call with the number reached."""
        began = shown = time.monotonic()
        status: Status | None = None

        def counted(number: int) -> None:
            nonlocal shown, status
            now = time.monotonic()
            text = f"{what}: {number} {unit}, {now - began:.0f} s"
            if self._console.is_terminal and not self._quiet:
                if status is None:
                    status = self._console.status(escape(text))
                    status.start()
                status.update(escape(text))
            elif now - shown >= _EVERY:
                shown = now
                self.step(text)

        try:
            yield counted
        finally:
            if status is not None:
                status.stop()
