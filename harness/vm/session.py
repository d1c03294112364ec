# SPDX-License-Identifier: GPL-2.0-only
"""One SSH session of many on a connection: how a command in it begins, is fed, is read from, and how it ended.

What paramiko does not tell: that a program was ended by a signal (`exit-signal`, RFC 4254, section 6.10), and whether
a session ended because the server closed it or because the connection is gone.
"""

from __future__ import annotations

import contextlib
import io
import select
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO, ClassVar

import paramiko
from paramiko.common import MSG_CHANNEL_CLOSE, MSG_CHANNEL_REQUEST
from paramiko.message import Message

from harness import pipes
from harness.deadline import Deadline
from harness.errors import HarnessError, KernelError
from harness.proc import Completed
from harness.vm.files import Sink
from harness.vm.words import decode

__all__ = ["LOST", "GuestCommandFailed", "Output", "Transport", "begun", "ending", "feed", "pump"]

CHUNK = 1 << 15
MOST = 1 << 26
"""Bytes of output that are kept of one command. Its caller is told, rather than let our memory grow."""
LOST = None
_LINGER = 5.0
"""Seconds that one who sends has to notice that nothing more is taken; its source may not give it anything to send."""
_NO_STATUS = -1
_UNNAMED = ""


class GuestCommandFailed(KernelError):  # noqa: N818 - like proc.CommandFailed
    """A command in the guest ended with another exit code than 0; `completed` holds it."""

    def __init__(self, machine: str, completed: Completed) -> None:
        super().__init__(f"command in the guest failed with {completed.ending}: {shlex.join(completed.argv)}",
                         where=f"machine {machine}", detail=completed.tail)
        self.completed = completed


class Transport(paramiko.Transport):
    """A connection that keeps what the server says about the ends of its sessions."""

    _channel_handler_table: ClassVar[dict[int, Callable[[paramiko.Channel, Message], None]]]

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.signals: dict[int, str] = {}
        self.changed = threading.Condition()
        self.live: set[int] = set()
        """Sessions whose process may still run; see `Shell.open`."""
        self.claimed = False

    def ended(self, chanid: int) -> None:
        """A session's process has ended."""
        with self.changed:
            self.live.discard(chanid)
            self.changed.notify_all()

    def await_end(self, chanid: int, seconds: float) -> None:
        """Wait until the server has closed a session whose program has ended, which it does at once."""
        with self.changed:
            self.changed.wait_for(lambda: chanid not in self.live, seconds)


def _on_request(channel: paramiko.Channel, message: Message) -> None:
    if message.get_text() == "exit-signal":
        message.get_boolean()
        _signals(channel)[channel.chanid] = message.get_text()
        channel.status_event.set()
        return
    _again(message)
    channel._handle_request(message)  # type: ignore[attr-defined]


def _on_close(channel: paramiko.Channel, message: Message) -> None:
    """Take note that the server closed a session, and leave the answer to whoever holds the session (`done`).

    paramiko answers at once, from its own thread. What another thread is about to send in that session then comes after
    the answer, and dropbear ends the whole connection for it ("Unknown channel", getchannel() in its
    common-channel.c). Until it is answered the session exists, and whatever is sent is only ignored.
    """
    assert isinstance(channel.transport, Transport)
    channel.transport.ended(channel.chanid)
    if channel.exit_status == _NO_STATUS:
        _signals(channel).setdefault(channel.chanid, _UNNAMED)
    if channel.closed:
        channel._handle_close(message)  # type: ignore[attr-defined]
        return
    hush(channel)
    with channel.lock:
        channel.eof_received = True
        channel.in_buffer.close()
        channel.in_stderr_buffer.close()
        channel.event.set()
        channel.status_event.set()
        pipe = getattr(channel, "_pipe", None)
        if pipe is not None:
            pipe.set_forever()


def hush(channel: paramiko.Channel) -> None:
    """Nothing more is sent in a session; who waits until something can be is woken."""
    with channel.lock:
        channel.eof_sent = True
        channel.out_buffer_cv.notify_all()


def done(channel: paramiko.Channel, feeder: threading.Thread | None = None) -> None:
    """Give a session up, once nobody sends in it any more."""
    hush(channel)
    if feeder is not None:
        feeder.join(_LINGER)
    channel.close()


def _again(message: Message) -> None:
    """Back to what follows the channel's number."""
    message.rewind()
    message.get_int()


def _signals(channel: paramiko.Channel) -> dict[int, str]:
    assert isinstance(channel.transport, Transport)
    return channel.transport.signals


Transport._channel_handler_table = {**getattr(paramiko.Transport, "_channel_handler_table"),  # noqa: B009
                                    MSG_CHANNEL_REQUEST: _on_request, MSG_CHANNEL_CLOSE: _on_close}


def ending(channel: paramiko.Channel, what: str, where: str) -> int | None:
    """How the program in an ended session ended: exit code, minus the signal's number, or `LOST`: nobody knows.

    Raises:
        KernelError: by a signal that dropbear has no name for (`signames` in its common-chansession.c: SIGBUS, SIGSYS).
    """
    name = _signals(channel).pop(channel.chanid, None)
    status = channel.recv_exit_status()
    if status != _NO_STATUS:
        return status
    if name is None:
        return LOST
    if name == _UNNAMED:
        raise KernelError(f"ended by a signal that the guest's SSH server has no name for: {what}", where=where)
    return -int(signal.Signals[f"SIG{name}"])


def await_closed(channel: paramiko.Channel) -> None:
    """Wait until the server has closed the session of a program that has ended, which it does at once."""
    assert isinstance(channel.transport, Transport)
    channel.transport.await_end(channel.chanid, _LINGER)


def begun(transport: Transport, line: bytes, deadline: Deadline,
          prepare: Callable[[paramiko.Channel], None] = lambda _: None) -> paramiko.Channel | None:
    """A session with a process for `line`; None where the server closed the session before it had one.

    Args:
        prepare: called with the session before it gets its process.

    Raises:
        SSHException: it does not let us have a session or a process, or the connection is lost.
    """
    channel: paramiko.Channel | None = None
    try:
        channel = transport.open_session(timeout=max(deadline.remaining, 0.001))
        transport.live.add(channel.chanid)
        channel.settimeout(max(deadline.remaining, 0.001))
        prepare(channel)
        channel.exec_command(line)
    except paramiko.ChannelException:
        raise
    except paramiko.SSHException as error:
        if deadline.expired or not transport.is_active():
            raise
        # paramiko has no words of its own for a refusal (CHANNEL_FAILURE): no end of file comes before that.
        if channel is not None and not channel.eof_received:
            raise paramiko.SSHException("the SSH server could not start a process: is memory short?") from error
        if channel is not None:
            done(channel)
            transport.ended(channel.chanid)
        return None
    return channel


def feed(channel: paramiko.Channel, data: bytes | BinaryIO, progress: Callable[[], None]) -> threading.Thread:
    """Send `data` as standard input and then its end, beside the reading; ends with the channel.

    Args:
        progress: called for each piece that was taken.
    """
    source = io.BytesIO(data) if isinstance(data, bytes) else data

    def work() -> None:
        with contextlib.suppress(OSError):
            while chunk := source.read(CHUNK):
                while chunk:
                    sent = channel.send(chunk)
                    if sent == 0:
                        return
                    chunk = chunk[sent:]
                    progress()
            channel.shutdown_write()

    thread = threading.Thread(target=work, name="ssh-stdin", daemon=True)
    thread.start()
    return thread


class Output:
    """Where a command's output goes: kept, or handed to a file or a callback as it comes.

    Args:
        sink: takes standard output; nothing of it is kept.
        on_line: called with each line of standard output and of standard error; their last lines are kept.
        full: called when more than `MOST` bytes would have to be kept; raises.
    """

    def __init__(self, full: Callable[[], None], sink: Sink | None = None,
                 on_line: Callable[[str], None] | None = None) -> None:
        self._sink = sink
        self._kept = pipes.Bounded(MOST, full), pipes.Bounded(MOST, full)
        self._lines = tuple(pipes.Lines(None, on_line, None, full) for _ in "oe") if on_line else ()

    def out(self, chunk: bytes) -> None:
        if self._sink is not None:
            self._sink.write(chunk)
        else:
            (self._lines or self._kept)[0](chunk)

    def err(self, chunk: bytes) -> None:
        (self._lines or self._kept)[1](chunk)

    def finish(self) -> None:
        """There is no more: the last lines may have no end."""
        for lines in self._lines:
            lines(b"")

    def since(self, start: int) -> bytes:
        """Standard output from its byte `start` on, where it is kept whole."""
        return bytes(self._kept[0].data[start:])

    @property
    def stdout(self) -> str:
        return self._lines[0].tail if self._lines else decode(self._kept[0].data)

    @property
    def stderr(self) -> str:
        return self._lines[1].tail if self._lines else decode(self._kept[1].data)


def pump(channel: paramiko.Channel, output: Output, deadline: Deadline, late: Callable[[], HarnessError]
         ) -> Iterator[None]:
    """Hand over what comes on standard output and error until both end; yields after each piece.

    Args:
        late: makes the error to raise at the deadline.
    """
    poll = select.poll()  # not select(2), which knows no descriptor above 1023
    poll.register(channel.fileno(), select.POLLIN)
    while True:
        ready = poll.poll(1000 * min(deadline.remaining, 3600))
        if deadline.expired and not (channel.eof_received or channel.closed):
            raise late()
        if channel.recv_ready():
            output.out(channel.recv(CHUNK))
        elif channel.recv_stderr_ready():
            output.err(channel.recv_stderr(CHUNK))
        elif ready and (channel.eof_received or channel.closed):
            # What arrived between the two questions and the end is still there to be read.
            while channel.recv_ready():
                output.out(channel.recv(CHUNK))
            while channel.recv_stderr_ready():
                output.err(channel.recv_stderr(CHUNK))
            output.finish()
            return
        yield
