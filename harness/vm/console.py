# SPDX-License-Identifier: GPL-2.0-only
"""A machine's serial console: drained by a thread of its own from first byte to last, kept whole in a file, watched.

The thread ends when QEMU does. Memory is bounded whatever the guest prints: the log is on disk, the last lines are
kept for messages, a line without end is cut for the watcher (never in the file).
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pexpect
from pexpect.socket_pexpect import SocketSpawn

from harness.deadline import Deadline
from harness.vm import klog
from harness.vm.klog import Ignore, Scanner
from harness.vm.vitals import Vitals

_CHUNK = 1 << 16
_TAIL = 40
_LONGEST = 1 << 16
_SILENCE = 2.0
"""Seconds without output after which an open report is taken to be complete."""


class Console:
    """The console of one machine. Made by `drained`."""

    def __init__(self, sock: socket.socket, vitals: Vitals, ignores: Iterable[Ignore] = ()) -> None:
        self.vitals = vitals
        self._spawn = SocketSpawn(sock, timeout=_SILENCE)
        self._scanner = Scanner(ignores)
        self._tail: deque[bytes] = deque(maxlen=_TAIL)
        self._partial = b""
        self._markers: list[tuple[re.Pattern[str], list[str]]] = []
        self._taps: list[Callable[[bytes], None]] = []
        self._tapping = threading.Lock()
        vitals.tail_from(self.tail)

    def tail(self) -> tuple[str, ...]:
        """The last lines, an unfinished one included."""
        lines = (*self._tail, self._partial) if self._partial else tuple(self._tail)
        return tuple(klog.clean(line.decode(errors="replace")) for line in lines)[-_TAIL:]

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

    def expect_boot(self) -> None:
        """One more boot will come that was asked for: it is no event."""
        self._scanner.expect_boot()

    def send(self, text: str) -> None:
        """Type `text` at the console."""
        with contextlib.suppress(OSError):
            self._spawn.send(text.encode())

    @contextmanager
    def tapped(self, take: Callable[[bytes], None]) -> Iterator[None]:
        """Have its last lines and then what it prints given to `take`, for the block; its thread must not wait."""
        with self._tapping:
            take(b"\n".join((*self._tail, self._partial)))
            self._taps.append(take)
        try:
            yield
        finally:
            with self._tapping:
                self._taps.remove(take)

    def drain(self) -> None:
        """Read to the end of the console (the thread's work)."""
        with self.vitals.log.open("ab", buffering=0) as sink:
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
                with self._tapping:
                    for take in self._taps:
                        take(data)
                    self._take(data)
        if self._partial:
            self._line(self._partial)
        self._report(self._scanner.finish())
        self.vitals.end()

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
            self.vitals.report(event)


class Marker:
    """A line that is looked out for."""

    def __init__(self, vitals: Vitals, hits: list[str], pattern: str) -> None:
        self._vitals = vitals
        self._hits = hits
        self._pattern = pattern

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
