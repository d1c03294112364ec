# SPDX-License-Identifier: GPL-2.0-only
"""A machine's serial console: drained by a thread of its own from first byte to last, kept whole in a file, watched.

The thread ends when QEMU does. Memory is bounded whatever the guest prints: the log is on disk, the last lines are
kept for messages, a line without end is cut for the watcher (never in the file). The log is what the guest wrote, byte
for byte; when its lines came stands beside it (`harness.vm.timeline`).
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pexpect
from pexpect.socket_pexpect import SocketSpawn

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.vm import klog, symbolize, timeline
from harness.vm.klog import Ignore, Scanner
from harness.vm.symbolize import Symbols
from harness.vm.vitals import Vitals

_CHUNK = 1 << 16
_TAIL = 40
_LONGEST = 1 << 16
_SILENCE = 1.0
"""Seconds without output after which an open report is taken to be complete."""
_RESOLVED = 20
"""Reports whose addresses are looked up; a flood of them must not cost more than reading it."""
_PATIENCE = 3.0
"""Seconds after its first line at which a report is taken as it is, though lines still come."""


class Console:
    """The console of one machine. Made by `drained`."""

    def __init__(self, sock: socket.socket, vitals: Vitals, ignores: Iterable[Ignore] = ()) -> None:
        self.vitals = vitals
        self._spawn = SocketSpawn(sock, timeout=_SILENCE)
        self._scanner = Scanner(ignores)
        self._tail: deque[bytes] = deque(maxlen=_TAIL)
        self._partial = b""
        self._opened: float | None = None
        self._markers: list[tuple[re.Pattern[str], list[str]]] = []
        self._symbols: Symbols | None = None
        self._resolved = 0
        vitals.tail_from(self.tail)

    def tail(self) -> tuple[str, ...]:
        """The last lines, an unfinished one included."""
        lines = (*self._tail, self._partial) if self._partial else tuple(self._tail)
        return tuple(klog.clean(line.decode(errors="replace")) for line in lines)[-_TAIL:]

    def resolve_with(self, image: Path) -> None:
        """Name the addresses in reports with the vmlinux of the build that kernel `image` is of, if it is there."""
        found = symbolize.beside(image)
        self._symbols = Symbols(found) if found else None

    @property
    def hidden(self) -> Mapping[str, int]:
        """By reason, the reports that the allow-list hid."""
        return dict(self._scanner.hidden)

    @contextmanager
    def watch(self, pattern: str) -> Iterator[Marker]:
        """Look out for a line in which `pattern` is found, from now on; see `Marker.wait`."""
        entry: tuple[re.Pattern[str], list[str]] = (re.compile(pattern), [])
        with self.vitals.changed:
            self._markers.append(entry)
        try:
            yield Marker(self.vitals, entry[1], pattern)
        finally:
            with self.vitals.changed:
                self._markers.remove(entry)

    def wait_for(self, pattern: str, deadline: Deadline) -> str:
        """Wait for a line in which `pattern` is found, from now on, and return it.

        Raises:
            KernelError: the machine is not well any more.
            DeadlineExpired: no such line in time.
        """
        with self.watch(pattern) as marker:
            return marker.wait(deadline)

    @property
    def lines(self) -> int:
        """The whole lines that have come until now."""
        return self._scanner.number

    def send(self, text: str) -> None:
        """Type `text` at the console."""
        with contextlib.suppress(OSError):
            self._spawn.send(text.encode())

    def drain(self) -> None:
        """Read to the end of the console (the thread's work)."""
        log = self.vitals.log
        with log.open("ab", buffering=0) as sink, timeline.beside(log).open("w", encoding="ascii") as times:
            clock = timeline.Writer(times)
            while True:
                try:
                    chunk = self._spawn.read_nonblocking(_CHUNK, _SILENCE)
                except pexpect.TIMEOUT:
                    self._report(self._scanner.finish())
                    continue
                except (pexpect.EOF, OSError):
                    break
                # Without an encoding pexpect hands out bytes; its type stubs say str.
                data = cast(bytes, chunk)
                sink.write(data)
                if not self._partial:
                    clock.line(self._scanner.number + 1)
                elif b"\n" in data[:-1]:
                    clock.line(self._scanner.number + 2)
                self._take(data)
                self._limit()
        if self._partial:
            self._line(self._partial)
        self._report(self._scanner.finish())
        self.vitals.end()

    def _limit(self) -> None:
        """End a report that has been open for long enough: a guest that goes on printing must not hold it back."""
        if not self._scanner.reading:
            self._opened = None
        elif self._opened is None:
            self._opened = time.monotonic()
        elif time.monotonic() - self._opened > _PATIENCE:
            self._opened = None
            self._report(self._scanner.finish())

    def _take(self, chunk: bytes) -> None:
        lines, newline, rest = (self._partial + chunk).rpartition(b"\n")
        self._partial = rest[-_LONGEST:]
        if newline:
            self._block(lines + newline)
        with self.vitals.changed:
            self.vitals.changed.notify_all()

    def _block(self, block: bytes) -> None:
        """Take whole lines. What nobody looks out for and no rule could match costs a few searches for all of it."""
        if not self._markers and not self._scanner.reading and not klog.suspicious(block):
            self._scanner.skip(block)
            self._tail.extend(block[:-1].rsplit(b"\n", _TAIL)[-_TAIL:])
            return
        for line in block[:-1].split(b"\n"):
            self._line(line)

    def _line(self, raw: bytes) -> None:
        line = raw.decode(errors="replace")
        self._tail.append(raw[:_LONGEST])
        for pattern, hits in tuple(self._markers):
            if not hits and pattern.search(text := klog.clean(line)):
                hits.append(text)
        self._report(self._scanner.feed(line))

    def _report(self, events: Iterable[klog.KernelEvent]) -> None:
        for event in events:
            self.vitals.report(self._named(event))

    def _named(self, event: klog.KernelEvent) -> klog.KernelEvent:
        if self._symbols is None or self._resolved >= _RESOLVED:
            return event
        self._resolved += 1
        with contextlib.suppress(UsageError):
            return symbolize.resolved(event, self._symbols)
        return event


class Marker:
    """A line that is looked out for."""

    def __init__(self, vitals: Vitals, hits: list[str], pattern: str) -> None:
        self._vitals = vitals
        self._hits = hits
        self._pattern = pattern

    def came(self, deadline: Deadline) -> bool:
        """Whether it comes in time, however the machine is."""
        with self._vitals.changed:
            return self._vitals.changed.wait_for(lambda: bool(self._hits), deadline.remaining)

    def wait(self, deadline: Deadline) -> str:
        """The line, as soon as it has come.

        Raises:
            KernelError: the machine is not well any more.
            DeadlineExpired: it has not come in time.
        """
        return self._vitals.wait_for(lambda: self._hits[0] if self._hits else None, deadline,
                                     f"waiting for {self._pattern!r} on the console")


@contextmanager
def drained(sock: socket.socket, name: str, log: Path, ignores: Iterable[Ignore] = ()) -> Iterator[Console]:
    """The console at the other end of `sock`, drained into `log` until QEMU ends, or until the block does."""
    console = Console(sock, Vitals(name, log), ignores)
    thread = threading.Thread(target=console.drain, name=f"console-{name}", daemon=True)
    thread.start()
    try:
        yield console
    finally:
        # QEMU is gone by now in the ordinary course; what it left in the socket is still read to its end.
        thread.join(_SILENCE)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        thread.join()
        sock.close()
