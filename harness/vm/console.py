# SPDX-License-Identifier: GPL-2.0-only
"""A machine's serial console: drained by a thread of its own from first byte to last, kept whole in a file, watched.

The thread ends when QEMU does. The log is what the guest wrote, byte for byte; when its lines came stands beside it
(`harness.vm.timeline`). What watches it (`harness.vm.feed`) is bounded in memory whatever the guest prints.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pexpect
from pexpect.socket_pexpect import SocketSpawn

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.vm import symbolize, timeline
from harness.vm.event import KernelEvent
from harness.vm.feed import Feed, Sought
from harness.vm.klog import Ignore
from harness.vm.symbolize import Symbols
from harness.vm.vitals import Vitals

_CHUNK = 1 << 16
_SILENCE = 1.0
"""Seconds without output after which an open report is taken to be complete."""
_LOOK = 0.1
"""Seconds between looks at whether a report is complete."""
_RESOLVED = 20
"""Reports whose addresses are looked up; a flood of them must not cost more than reading it."""
_PATIENCE = 3.0
"""Seconds after its first line at which a report is taken as it is, though lines still come."""


class Console:
    """The console of one machine. Made by `drained`."""

    def __init__(self, sock: socket.socket, vitals: Vitals, ignores: Iterable[Ignore] = ()) -> None:
        self.vitals = vitals
        self._spawn = SocketSpawn(sock, timeout=_SILENCE)
        self._feed = Feed(self._report, ignores)
        self._opened: float | None = None
        self._symbols: Symbols | None = None
        self._resolved = 0
        self._taps: list[Callable[[bytes], None]] = []
        self._tapping = threading.Lock()
        vitals.tail_from(self.tail)
        vitals.count_more_with(lambda: self._feed.scanner.uncounted)

    def tail(self) -> tuple[str, ...]:
        """The last lines, an unfinished one included."""
        return self._feed.tail()

    @property
    def lines(self) -> int:
        """The whole lines that have come until now."""
        return self._feed.scanner.number

    @property
    def hidden(self) -> Mapping[str, int]:
        """By reason, the reports that the allow-list hid."""
        return dict(self._feed.scanner.hidden)

    def settle(self) -> None:
        """Wait until a report that is being read is complete, so that `Vitals.check` knows of it."""
        limit = Deadline.after(_PATIENCE + _SILENCE)
        while self._feed.scanner.reading and not self.vitals.ended and not limit.expired:
            with self.vitals.changed:
                self.vitals.changed.wait(limit.within(_LOOK).remaining)

    def resolve_with(self, image: Path) -> None:
        """Name the addresses in reports with the vmlinux of the build that kernel `image` is of, if it is there."""
        found = symbolize.beside(image)
        self._symbols = Symbols(found) if found else None

    @contextmanager
    def watch(self, pattern: str) -> Iterator[Marker]:
        """Look out for a line in which `pattern` is found, from now on; see `Marker.wait`."""
        entry = Sought(pattern)
        with self.vitals.changed:
            self._feed.sought.append(entry)
        try:
            yield Marker(self.vitals, entry)
        finally:
            with self.vitals.changed:
                self._feed.sought.remove(entry)

    def wait_for(self, pattern: str, deadline: Deadline) -> str:
        """Wait for a line in which `pattern` is found, from now on, and return it.

        Raises:
            KernelError: the machine is not well any more.
            DeadlineExpired: no such line in time.
        """
        with self.watch(pattern) as marker:
            return marker.wait(deadline)

    def send(self, text: str) -> None:
        """Type `text` at the console."""
        with contextlib.suppress(OSError):
            self._spawn.send(text.encode())

    def expect_boot(self) -> None:
        """One more boot will come that was asked for: it is no event."""
        self._feed.scanner.expect_boot()

    @contextmanager
    def tapped(self, take: Callable[[bytes], None]) -> Iterator[None]:
        """Have its last lines and then what it prints given to `take`, for the block; its thread must not wait."""
        with self._tapping:
            take(self._feed.recent())
            self._taps.append(take)
        try:
            yield
        finally:
            with self._tapping:
                self._taps.remove(take)

    def drain(self) -> None:
        """Read to the end of the console (the thread's work)."""
        log = self.vitals.log
        with log.open("ab", buffering=0) as sink, timeline.beside(log).open("w", encoding="ascii") as times:
            clock = timeline.Writer(times)
            while True:
                try:
                    chunk = self._spawn.read_nonblocking(_CHUNK, _SILENCE)
                except pexpect.TIMEOUT:
                    self._feed.pause()
                    continue
                except (pexpect.EOF, OSError):
                    break
                # Without an encoding pexpect hands out bytes; its type stubs say str.
                data = cast(bytes, chunk)
                sink.write(data)
                self._note(clock, data)
                with self._tapping:
                    for take in self._taps:
                        take(data)
                    self._feed.take(data)
                self._limit()
                with self.vitals.changed:
                    self.vitals.changed.notify_all()
        self._feed.finish()
        self.vitals.end()

    def _note(self, clock: timeline.Writer, data: bytes) -> None:
        """Note when the first line that begins in `data` came."""
        if self._feed.at_start:
            clock.line(self.lines + 1)
        elif b"\n" in data[:-1]:
            clock.line(self.lines + 2)

    def _limit(self) -> None:
        """End a report that has been open for long enough: a guest that goes on printing must not hold it back."""
        if not self._feed.scanner.reading:
            self._opened = None
        elif self._opened is None:
            self._opened = time.monotonic()
        elif time.monotonic() - self._opened > _PATIENCE:
            self._opened = None
            self._feed.pause()

    def _report(self, event: KernelEvent) -> None:
        if self._symbols is not None and self._resolved < _RESOLVED:
            self._resolved += 1
            with contextlib.suppress(UsageError):
                event = symbolize.resolved(event, self._symbols)
        self.vitals.report(event)


class Marker:
    """A line that is looked out for."""

    def __init__(self, vitals: Vitals, sought: Sought) -> None:
        self._vitals = vitals
        self._sought = sought

    def came(self, deadline: Deadline) -> bool:
        """Whether it comes in time, however the machine is."""
        with self._vitals.changed:
            return self._vitals.changed.wait_for(lambda: bool(self._sought.hits), deadline.remaining)

    def wait(self, deadline: Deadline) -> str:
        """The line, as soon as it has come.

        Raises:
            KernelError: the machine is not well any more.
            DeadlineExpired: it has not come in time.
        """
        return self._vitals.wait_for(lambda: next(iter(self._sought.hits), None), deadline,
                                     f"waiting for {self._sought.pattern.pattern!r} on the console")


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
