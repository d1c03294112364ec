# SPDX-License-Identifier: GPL-2.0-only
"""A person's own terminal, or pipes, connected to a shell in a guest or to a guest's console.

On a terminal a shell has a pseudo-terminal of its size, and every key goes to the guest, Ctrl-C too; a console is left
with Ctrl-]. Through pipes the bytes are passed on as they are.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import paramiko

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.vm.words import GO, Word, command

if TYPE_CHECKING:
    from harness.vm.ssh import Shell

_START = 30.0
"""Seconds until a program has started."""
_END = 10.0
"""Seconds from the end of a program's output to its exit code."""
_LOOK = 50
"""Milliseconds between looks whether a session takes input again."""
_CHUNK = 1 << 15
_LEAVE = b"\x1d"
_AWAIT_PTS = "until [ -e /dev/pts/ptmx ]; do usleep 10000; done"


def interact(shell: Shell, *args: Word, terminal: bool = True) -> int:
    """Run a program (a login shell where there is none) on our own standard input, output and error.

    Args:
        terminal: give it a pseudo-terminal, whose size follows ours, where our standard input is a terminal.

    Returns:
        its exit code; 128 + N where signal N ended it, as shells have it.

    Raises:
        KernelError: the machine is not well any more, which ends the program.
        InfraError: the connection was lost.
    """
    words = args or ("sh", "-l")
    start = Deadline.after(_START)
    stdin = sys.stdin.fileno()
    with _raw(stdin, terminal) as on_terminal, _resizes(on_terminal) as resized:
        if on_terminal:
            shell.run("sh", "-c", _AWAIT_PTS, deadline=start)
        channel = shell.open(command(words), start, _pty if on_terminal else lambda _: None)
        with contextlib.closing(channel):
            channel.settimeout(None)
            if on_terminal:
                _skip(channel, GO.replace(b"\n", b"\r\n"))
            try:
                _copy(stdin, channel, resized)
                status = shell.status(channel, tuple(map(str, words)), Deadline.after(_END))
            except HarnessError:
                if on_terminal:
                    _write(2, b"\r\n")  # what it says next begins a line
                raise
    return status if status >= 0 else 128 - status


def relay(sock: socket.socket) -> bool:
    """Our standard input to `sock`, and what comes from there to our standard output; until it ends, or Ctrl-].

    Returns:
        whether it was left with Ctrl-].
    """
    stdin = sys.stdin.fileno()
    with _raw(stdin, True) as on_terminal:
        poll = select.poll()
        for fd in (stdin, sock.fileno()):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if sock.fileno() in ready:
                try:
                    data = sock.recv(_CHUNK)
                except OSError:
                    return False
                if not data:
                    return False
                _write(1, data)
            if stdin in ready:
                data = os.read(stdin, _CHUNK)
                typed, left, _ = data.partition(_LEAVE) if on_terminal else (data, b"", b"")
                with contextlib.suppress(OSError):
                    sock.sendall(typed)
                if left:
                    return True
                if not data:
                    poll.unregister(stdin)


def _skip(channel: paramiko.Channel, echo: bytes) -> None:
    """Read the terminal's echo of the word that let the program begin; nothing comes before it."""
    while echo and (got := channel.recv(len(echo))):
        echo = echo[len(got):]


def _copy(stdin: int, channel: paramiko.Channel, resized: int) -> None:
    """Our input to the session and its output to ours, until its output ends."""
    poll = select.poll()
    for fd in (stdin, resized, channel.fileno()):
        poll.register(fd, select.POLLIN)
    reads = True
    while True:
        # Nothing is read that cannot be passed on: a program that does not read must not stop what it prints.
        takes = channel.send_ready()
        if reads:
            poll.modify(stdin, select.POLLIN if takes else 0)
        ready = {fd for fd, _ in poll.poll(None if takes or not reads else _LOOK)}
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
            return


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def _pty(channel: paramiko.Channel) -> None:
    columns, lines = os.get_terminal_size(sys.stdin.fileno())
    channel.get_pty(os.environ.get("TERM", "dumb"), columns, lines)


@contextmanager
def _raw(fd: int, wanted: bool) -> Iterator[bool]:
    """Have every key as it is, for the block, where it is wanted and `fd` is a terminal; whether it is so."""
    if not wanted or not os.isatty(fd):
        yield False
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSADRAIN)  # what was typed already is not thrown away
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
