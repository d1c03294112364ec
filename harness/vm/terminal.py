# SPDX-License-Identifier: GPL-2.0-only
"""A person's shell in a guest: on a terminal with a pseudo-terminal of its size, through a pipe without one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import paramiko

from harness.deadline import Deadline
from harness.vm.words import Word, command

if TYPE_CHECKING:
    from harness.vm.ssh import Shell

_START = 30.0
"""Seconds until a shell has started."""
_END = 10.0
"""Seconds from the end of a shell's output to its exit code."""
_LOOK = 0.05
"""Seconds between looks whether the session takes input again."""
_CHUNK = 1 << 15
_AWAIT_PTS = "until [ -e /dev/pts/ptmx ]; do usleep 10000; done"


def interact(shell: Shell, *args: Word, deadline: Deadline | None = None) -> int:
    """Run a program (a login shell where there is none) on our own standard input, output and error.

    On a terminal it gets a pseudo-terminal, whose size follows ours. Its exit code is returned; 128 + N where signal N
    ended it, as shells have it.

    Args:
        deadline: when it must have ended; a person has all the time.

    Raises:
        KernelError: the machine is not well any more, which ends the program.
        InfraError: the connection was lost.
        DeadlineExpired: it was still running at the deadline.
    """
    words = args or ("sh", "-l")
    start = Deadline.after(_START)
    with _raw(sys.stdin.fileno()) as on_terminal, _resizes(on_terminal) as resized:
        if on_terminal:
            shell.run("sh", "-c", _AWAIT_PTS, deadline=start)
        channel = shell.open(command(words), start, _pty if on_terminal else lambda _: None)
        with contextlib.closing(channel):
            channel.settimeout(None)
            if not _copy(channel, resized, deadline):
                raise shell.late(tuple(map(str, words)), deadline or start)
            status = shell.status(channel, tuple(map(str, words)), Deadline.after(_END))
    shell.check()
    return status if status >= 0 else 128 - status


def _copy(channel: paramiko.Channel, resized: int, deadline: Deadline | None) -> bool:
    """Our input to the session and its output to ours, until its output ends; whether it did in time."""
    stdin = sys.stdin.fileno()
    poll = select.poll()
    for fd in (stdin, resized, channel.fileno()):
        poll.register(fd, select.POLLIN)
    reads = True
    while deadline is None or not deadline.expired:
        # Nothing is read that cannot be passed on: a program that does not read must not stop what it prints.
        takes = channel.send_ready()
        if reads:
            poll.modify(stdin, select.POLLIN if takes else 0)
        wait = None if takes and deadline is None else _LOOK if not takes or deadline is None else deadline.remaining
        ready = {fd for fd, _ in poll.poll(None if wait is None else 1000 * min(wait, 3600))}
        if resized in ready:
            os.read(resized, _CHUNK)
            channel.resize_pty(*os.get_terminal_size(stdin))
        if reads and takes and stdin in ready:
            data = os.read(stdin, _CHUNK)
            reads = bool(data)
            with contextlib.suppress(OSError):
                channel.sendall(data)
            if not reads:
                poll.unregister(stdin)
                with contextlib.suppress(OSError):
                    channel.shutdown_write()
        if channel.recv_ready():
            _write(1, channel.recv(_CHUNK))
        elif channel.recv_stderr_ready():
            _write(2, channel.recv_stderr(_CHUNK))
        elif channel.eof_received or channel.closed:
            for fd, more, read in ((1, channel.recv_ready, channel.recv),
                                   (2, channel.recv_stderr_ready, channel.recv_stderr)):
                while more():
                    _write(fd, read(_CHUNK))
            return True
    return False


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def _pty(channel: paramiko.Channel) -> None:
    columns, lines = os.get_terminal_size(sys.stdin.fileno())
    channel.get_pty(os.environ.get("TERM", "dumb"), columns, lines)


@contextmanager
def _raw(fd: int) -> Iterator[bool]:
    """Every key to the guest, also Ctrl-C, for the block; whether `fd` is a terminal."""
    if not os.isatty(fd):
        yield False
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield True
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _resizes(on_terminal: bool) -> Iterator[int]:
    """A descriptor that can be read when the terminal's size has changed."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def tell(_: int, __: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writing, b"x")

    before = signal.signal(signal.SIGWINCH, tell) if on_terminal else None
    try:
        yield reading
    finally:
        if on_terminal:
            signal.signal(signal.SIGWINCH, before)
        os.close(reading)
        os.close(writing)
