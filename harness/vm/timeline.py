# SPDX-License-Identifier: GPL-2.0-only
"""When the lines of a console log came: a small file beside the log, which itself stays as the guest wrote it.

Its first line has the wall-clock time that its seconds count from; each further one says that a line of the log began
to come so many seconds after. Lines that came within `STEP` of each other share an entry: a flood costs nothing.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

from harness.errors import UsageError

STEP = 0.01
"""Seconds between entries, at least."""
_MAGIC = "# seconds since "
SUFFIX = ".times"


def beside(log: Path) -> Path:
    """The timeline's file of a console log."""
    return log.with_name(log.name + SUFFIX)


class Writer:
    """Writes the timeline while the log is written."""

    def __init__(self, sink: TextIO) -> None:
        self._sink = sink
        self._started = time.monotonic()
        self._last = -STEP
        sink.write(f"{_MAGIC}{datetime.now(UTC).isoformat(timespec='milliseconds')}: the line that began to come\n")
        sink.flush()

    def line(self, number: int) -> None:
        """Line `number`, counted from 1, begins to come."""
        now = time.monotonic() - self._started
        if now - self._last >= STEP:
            self._last = now
            self._sink.write(f"{now:.3f} {number}\n")
            self._sink.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """When lines came.

    Attributes:
        start: the wall-clock time at which the console was first listened to.
        lines: the lines that have an entry, ascending.
        seconds: of each, the seconds since `start`.
    """

    start: datetime
    lines: tuple[int, ...]
    seconds: tuple[float, ...]

    def at(self, line: int) -> datetime:
        """When line `line` came, to within `STEP`."""
        index = bisect_right(self.lines, line) - 1
        return self.start + timedelta(seconds=self.seconds[index] if index >= 0 else 0.0)


def parse(text: str) -> Timeline:
    """A timeline from its file's text; a last line that was cut is left out.

    Raises:
        UsageError: it is none.
    """
    head, _, rest = text.partition("\n")
    try:
        start = datetime.fromisoformat(head.removeprefix(_MAGIC).partition(": ")[0])
        rows = [row.split() for row in rest.split("\n")[:-1]]
        return Timeline(start=start, lines=tuple(int(row[1]) for row in rows),
                        seconds=tuple(float(row[0]) for row in rows))
    except (ValueError, IndexError) as error:
        raise UsageError("no timeline of a console log", hint="it is written beside console.log") from error
