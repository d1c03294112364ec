# SPDX-License-Identifier: GPL-2.0-only
"""Draining a child's pipes: whole lines as they come, the end of them kept, nothing that grows without bound.

The child may be foreign code, so a line has a longest length, and what goes into a log holds no control characters
(it may be shown on a terminal).
"""

from __future__ import annotations

import os
import re
import selectors
from collections import deque
from collections.abc import Callable, Mapping
from typing import IO

LONGEST_LINE = 65536
TAIL_LINES = 30

_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")

Sink = Callable[[bytes], None]


def drain(streams: Mapping[IO[bytes], Sink], stdin: tuple[IO[bytes], bytes] | None, tick: Callable[[], float]) -> None:
    """Read each stream to its end and hand every chunk to its sink; meanwhile write `stdin`.

    Args:
        tick: called at every turn; says how many seconds may pass until the next, and raises to stop.
    """
    with selectors.DefaultSelector() as ready:
        for stream, sink in streams.items():
            ready.register(stream, selectors.EVENT_READ, sink)
        left = memoryview(stdin[1]) if stdin else memoryview(b"")
        if stdin:
            os.set_blocking(stdin[0].fileno(), False)
            ready.register(stdin[0], selectors.EVENT_WRITE)
        while len(ready.get_map()):
            for key, _ in ready.select(tick()):
                if stdin and key.fileobj is stdin[0]:
                    left = _write(stdin[0], left)
                    if not left:
                        ready.unregister(stdin[0])
                        stdin[0].close()
                    continue
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    ready.unregister(key.fileobj)
                key.data(chunk)


def _write(pipe: IO[bytes], data: memoryview) -> memoryview:
    """Write what goes in; what is left. A reader that is gone takes nothing more."""
    try:
        return data[os.write(pipe.fileno(), data[:65536]):]
    except BrokenPipeError:
        return data[:0]


class Bounded:
    """Bytes kept up to a bound, then `full()` is called, which raises."""

    def __init__(self, most: int | None, full: Callable[[], None]) -> None:
        self._most, self._full, self.data = most, full, bytearray()

    def __call__(self, chunk: bytes) -> None:
        self.data += chunk
        if self._most is not None and len(self.data) > self._most:
            self._full()


class Lines:
    """A sink that cuts a stream into lines: into a log, to a callback, and the last ones kept."""

    def __init__(self, log: IO[bytes] | None, on_line: Callable[[str], None] | None, most: int | None,
                 full: Callable[[], None]) -> None:
        self._log, self._on_line, self._most, self._full = log, on_line, most, full
        self._seen = 0
        self._pending = b""
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    @property
    def tail(self) -> str:
        """The last lines."""
        return "\n".join(self._tail)

    def __call__(self, chunk: bytes) -> None:
        """Take a chunk; an empty one is the end."""
        self._seen += len(chunk)
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            self._line(line, b"\n")
        if len(self._pending) > LONGEST_LINE or (not chunk and self._pending):
            self._line(self._pending, b"")
            self._pending = b""
        if self._most is not None and self._seen > self._most:
            self._full()

    def _line(self, line: bytes, end: bytes) -> None:
        line = _CONTROL.sub(b"\xef\xbf\xbd", line)
        if self._log:
            self._log.write(line + end)
        text = line.decode(errors="replace")
        self._tail.append(text)
        if self._on_line:
            self._on_line(text)
