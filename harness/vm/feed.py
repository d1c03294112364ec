# SPDX-License-Identifier: GPL-2.0-only
"""Pure: a console's bytes, in whatever pieces they come, to lines, and those to events and to what is looked out for.

How the bytes are cut into pieces does not matter to what comes out. Memory is bounded whatever they are: the last lines
are kept for messages, of a line without end only its beginning.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable

from harness.vm import klog
from harness.vm.klog import Ignore, KernelEvent, Scanner

TAIL = 40
"""Lines that are kept for messages."""
MOST_EVENTS = 200
"""Reports of one machine that are made events; what a kernel reports beyond them is only counted."""
_LONGEST = 1 << 16


class Sought:
    """A line that is looked out for.

    Attributes:
        pattern: searched in every line, colours aside.
        hits: the first line it was found in, once it was.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = re.compile(pattern)
        self.hits: list[str] = []


class Feed:
    """Takes bytes and tells what they mean.

    Args:
        report: is called with each event, as soon as its report is complete.
        ignores: the allow-list.
    """

    def __init__(self, report: Callable[[KernelEvent], None], ignores: Iterable[Ignore] = ()) -> None:
        self.scanner = Scanner(ignores, most=MOST_EVENTS)
        self.sought: list[Sought] = []
        self._report = report
        self._tail: deque[bytes] = deque(maxlen=TAIL)
        self._partial = b""

    @property
    def at_start(self) -> bool:
        """Whether the next byte begins a line."""
        return not self._partial

    def tail(self) -> tuple[str, ...]:
        """The last lines, an unfinished one included."""
        lines = (*self._tail, self._partial) if self._partial else tuple(self._tail)
        return tuple(klog.clean(line.decode(errors="replace")) for line in lines)[-TAIL:]

    def recent(self) -> bytes:
        """The last lines, as they came."""
        return b"\n".join((*self._tail, self._partial))

    def take(self, chunk: bytes) -> None:
        """Take the next piece."""
        lines, newline, rest = chunk.rpartition(b"\n")
        if newline:
            self._block(self._partial + lines + newline)
            self._partial = rest[:_LONGEST]
        elif len(self._partial) < _LONGEST:
            self._partial = (self._partial + rest)[:_LONGEST]

    def pause(self) -> None:
        """There is nothing more for now: what is open is complete."""
        self._tell(self.scanner.finish())

    def finish(self) -> None:
        """There is nothing more."""
        if self._partial:
            self._line(self._partial)
            self._partial = b""
        self.pause()

    def _block(self, block: bytes) -> None:
        """Take whole lines. What nobody looks out for and no rule could match costs a few searches for all of it."""
        if not self.sought and not self.scanner.reading and not klog.suspicious(block):
            self.scanner.skip(block)
            self._tail.extend(line[:_LONGEST] for line in block[:-1].rsplit(b"\n", TAIL)[-TAIL:])
            return
        for line in block[:-1].split(b"\n"):
            self._line(line[:_LONGEST])

    def _line(self, raw: bytes) -> None:
        line = raw.decode(errors="replace")
        self._tail.append(raw)
        for entry in tuple(self.sought):
            if not entry.hits and entry.pattern.search(text := klog.clean(line)):
                entry.hits.append(text)
        self._tell(self.scanner.feed(line))

    def _tell(self, events: Iterable[KernelEvent]) -> None:
        for event in events:
            self._report(event)
