# SPDX-License-Identifier: GPL-2.0-only
"""The shell in the guest, over SSH: one connection, a pinned host key, arguments quoted here and nowhere else.

Every wait ends at its deadline, and at once when the machine is not well any more: what the console or QEMU says
then outranks "connection lost".
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import select
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

import paramiko

from harness.deadline import Deadline
from harness.errors import DeadlineExpired, HarnessError, InfraError, KernelError
from harness.proc import Completed
from harness.vm.keys import KeyPair
from harness.vm.vitals import Vitals
from harness.vm.words import GO, TAG, Word, command, decode

__all__ = ["GuestCommandFailed", "Running", "Shell", "Target", "Word", "connect"]

_CHUNK = 1 << 15
_NO_STATUS = -1
_CLEANUP = 5.0
"""Seconds that killing an overdue command may take."""
_KILL_TAGGED = r"""strings -f /proc/[0-9]*/environ 2>/dev/null |
    sed -n "s|^/proc/\([0-9]*\)/environ: $1\$|\1|p" | xargs -r kill -KILL"""


class GuestCommandFailed(KernelError):  # noqa: N818 - like proc.CommandFailed
    """A command in the guest ended with another exit code than 0; `completed` holds it."""

    def __init__(self, machine: str, completed: Completed) -> None:
        super().__init__(f"command in the guest failed with {completed.ending}: {shlex.join(completed.argv)}",
                         where=f"machine {machine}", detail=completed.tail)
        self.completed = completed


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a guest's SSH server is and whom to trust.

    Attributes:
        name: the machine's name, for messages.
        host: address on this host.
        port: TCP port on this host.
        host_key: the guest's key; any other is refused.
        client_key: ours.
    """

    name: str
    host: str
    port: int
    host_key: KeyPair
    client_key: KeyPair


class Shell:
    """A connection to one guest. Made by `connect`; safe to use from several threads."""

    def __init__(self, target: Target, transport: paramiko.Transport, vitals: Vitals) -> None:
        self._target = target
        self._transport = transport
        self._vitals = vitals
        self._tags = itertools.count(1)

    def run(self, *args: Word, deadline: Deadline, stdin: bytes | None = None, check: bool = True) -> Completed:
        """Run a program in the guest to its end.

        Args:
            args: program and arguments; quoted here.
            stdin: what it reads; nothing otherwise.
            check: raise when it fails.

        Raises:
            GuestCommandFailed: it ended with another code than 0 and `check` is set.
            KernelError: the guest's kernel reported something, or the machine ended.
            DeadlineExpired: it was still running at the deadline.
        """
        return self._run(args, deadline=deadline, stdin=stdin, check=check)

    def shell(self, script: str, *, deadline: Deadline, stdin: bytes | None = None,
              check: bool = True) -> Completed:
        """Run `script` with the guest's `sh -e`; otherwise like `run`."""
        return self._run(("sh", "-ec", script), deadline=deadline, stdin=stdin, check=check)

    def start(self, *args: Word, deadline: Deadline) -> Running:
        """Start a program in the guest and leave it running, in a process group of its own; its stdin is empty.

        Raises:
            KernelError: the machine is not well.
            DeadlineExpired: it did not start in time.
        """
        script = 'echo $$; exec "$@"'
        channel = self._open(command(("setsid", "sh", "-c", script, "sh", *args)), deadline)
        channel.shutdown_write()
        running = Running(self, tuple(map(str, args)), channel)
        running.read_pid(deadline)
        return running

    def put(self, path: str | PurePosixPath, data: bytes, *, deadline: Deadline, mode: int = 0o644) -> None:
        """Write `data` to the guest's file `path`, whole or not at all."""
        script = 'cat > "$1.part" && chmod "$2" "$1.part" && mv "$1.part" "$1"'
        self.run("sh", "-c", script, "put", path, f"{mode:o}", stdin=data, deadline=deadline)

    def get(self, path: str | PurePosixPath, *, deadline: Deadline) -> bytes:
        """The content of the guest's file `path`."""
        return self.run("cat", path, deadline=deadline).stdout.encode(errors="surrogateescape")

    def _run(self, args: Sequence[Word], *, deadline: Deadline, stdin: bytes | None, check: bool) -> Completed:
        started = time.monotonic()
        tag = next(self._tags)
        channel = self._open(command(args, tag), deadline)
        argv = tuple(word if isinstance(word, str) else decode(word) if isinstance(word, bytes) else str(word)
                     for word in args)
        out, err = bytearray(), bytearray()
        try:
            feeder = _feed(channel, stdin or b"")
            self._collect(channel, out, err, argv, deadline)
            status = self._status(channel, argv, deadline)
            feeder.join(deadline.remaining)
        except DeadlineExpired:
            self._kill(tag)
            raise
        finally:
            channel.close()
        completed = Completed(argv=argv, returncode=status, stdout=decode(out), stderr=decode(err),
                              seconds=time.monotonic() - started)
        if check and status != 0:
            raise GuestCommandFailed(self._target.name, completed)
        return completed

    def _kill(self, tag: int) -> None:
        """Kill what is left in the guest of the command with `tag`, as well as it can be done."""
        with contextlib.suppress(HarnessError):
            channel = self._open(command(("sh", "-c", _KILL_TAGGED, "sh", f"{TAG}={tag}")), Deadline.after(_CLEANUP))
            with contextlib.closing(channel):
                channel.status_event.wait(_CLEANUP)

    def _open(self, line: bytes, deadline: Deadline) -> paramiko.Channel:
        """A session in which `line` (made by `words.command`) has begun to run, exactly once.

        When a process of one session ends, dropbear 2022.83 closes every other session that has no process yet
        (common-channel.c, check_close(): FD_UNINIT is taken for an open descriptor and becomes FD_CLOSED). A session
        that is opened at that moment is closed before its command was told to go, so that nothing of it has run, and
        another takes its place.
        """
        while True:
            self._vitals.check()
            with self._explained(deadline, "opening a session in the guest"):
                channel = _begun(self._transport, line, deadline)
                if channel is not None:
                    channel.sendall(GO)
                    return channel

    def _collect(self, channel: paramiko.Channel, out: bytearray, err: bytearray, argv: Sequence[str],
                 deadline: Deadline) -> None:
        """Everything that comes on standard output and standard error until both end."""
        while True:
            ready, _, _ = select.select([channel], [], [], deadline.remaining)
            if channel.recv_ready():
                out += channel.recv(_CHUNK)
                self._vitals.progress(f"output of {argv[0]}")
            elif channel.recv_stderr_ready():
                err += channel.recv_stderr(_CHUNK)
            elif ready and (channel.eof_received or channel.closed):
                # What arrived between the two questions and the end is still there to be read.
                out += _rest(channel.recv_ready, channel.recv)
                err += _rest(channel.recv_stderr_ready, channel.recv_stderr)
                return
            elif deadline.expired:
                raise self._late(argv, deadline, bytes(err or out))

    def _status(self, channel: paramiko.Channel, argv: Sequence[str], deadline: Deadline) -> int:
        if not channel.status_event.wait(deadline.remaining):
            raise self._late(argv, deadline, b"")
        status = channel.recv_exit_status()
        if status == _NO_STATUS:
            lost = InfraError(f"the connection was lost during: {shlex.join(argv)}",
                              where=f"machine {self._target.name}")
            raise self._vitals.explain(lost, deadline)
        self._vitals.check()
        return status

    def _late(self, argv: Sequence[str], deadline: Deadline, said: bytes) -> HarnessError:
        self._vitals.check()
        return DeadlineExpired(f"{shlex.join(argv)}: still running after {deadline.budget:g} s",
                               where=f"machine {self._target.name}", detail=tuple(decode(said).splitlines()[-20:]))

    @contextmanager
    def _explained(self, deadline: Deadline, doing: str) -> Iterator[None]:
        try:
            yield
        except (paramiko.SSHException, EOFError, OSError) as error:
            lost = InfraError(f"{doing}: {error or type(error).__name__}", where=f"machine {self._target.name}")
            raise self._vitals.explain(lost, deadline) from error


class Running:
    """A program that runs in the guest. Made by `Shell.start`."""

    def __init__(self, shell: Shell, argv: tuple[str, ...], channel: paramiko.Channel) -> None:
        self._shell = shell
        self._channel = channel
        self.argv = argv
        self.pid = 0
        self._out, self._err = bytearray(), bytearray()
        self._started = time.monotonic()

    def read_pid(self, deadline: Deadline) -> None:
        """Take the process's id, which is the first line it prints."""
        line = b""
        while not line.endswith(b"\n"):
            self._channel.settimeout(max(deadline.remaining, 0.001))
            with self._shell._explained(deadline, f"starting {shlex.join(self.argv)}"):
                byte = self._channel.recv(1)
            if not byte:
                lost = InfraError(f"did not start: {shlex.join(self.argv)}",
                                  where=f"machine {self._shell._target.name}")
                raise self._shell._vitals.explain(lost, deadline)
            line += byte
        self.pid = int(line)

    def wait(self, deadline: Deadline, *, check: bool = True) -> Completed:
        """Wait for its end.

        Raises:
            GuestCommandFailed: it ended with another code than 0 and `check` is set.
            KernelError: the machine is not well any more.
            DeadlineExpired: it still runs.
        """
        shell = self._shell
        shell._collect(self._channel, self._out, self._err, self.argv, deadline)
        status = shell._status(self._channel, self.argv, deadline)
        self._channel.close()
        completed = Completed(argv=self.argv, returncode=status, stdout=decode(self._out),
                              stderr=decode(self._err), seconds=time.monotonic() - self._started)
        if check and status != 0:
            raise GuestCommandFailed(shell._target.name, completed)
        return completed

    def stop(self, deadline: Deadline, signal: str = "TERM") -> Completed:
        """Send `signal` to its process group, wait for the end, and return what it printed. No exit code is wrong."""
        self._shell.run("kill", "-s", signal, "--", f"-{self.pid}", check=False, deadline=deadline)
        return self.wait(deadline, check=False)


@contextmanager
def connect(target: Target, vitals: Vitals, *, deadline: Deadline) -> Iterator[Shell]:
    """Log in to the guest, which must listen by now.

    Raises:
        InfraError: what answers does not have the pinned host key, or does not let us in.
        KernelError: the machine is not well any more.
    """
    lost: InfraError | None = None
    try:
        sock = socket.create_connection((target.host, target.port), timeout=max(deadline.remaining, 0.001))
        # Small messages go back and forth: Nagle's algorithm would hold each until the last one's acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(sock)
        _keep_quiet(transport)
    except (OSError, paramiko.SSHException) as error:
        lost = InfraError(f"no connection to the guest's SSH server: {error}", where=f"machine {target.name}")
        raise vitals.explain(lost, deadline) from error
    try:
        with vitals.listening(transport.close):
            _log_in(target, transport, vitals, deadline)
            yield Shell(target, transport, vitals)
    finally:
        transport.close()


def _log_in(target: Target, transport: paramiko.Transport, vitals: Vitals, deadline: Deadline) -> None:
    pinned = target.host_key.paramiko()
    # paramiko's own 15 s for each step would be wrong on a busy host and for a deadline that is shorter.
    budget = max(deadline.remaining, 0.001)
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = budget
    try:
        transport.start_client(timeout=budget)
        offered = transport.get_remote_server_key()
        if offered.asbytes() != pinned.asbytes():
            raise InfraError("what answers is not this guest: another host key than the one made for it",
                             where=f"machine {target.name}, {target.host}:{target.port}",
                             detail=(f"expected {pinned.fingerprint}", f"offered  {offered.fingerprint}"))
        transport.auth_publickey("root", target.client_key.paramiko())
    except (paramiko.SSHException, EOFError, OSError) as error:
        lost = InfraError(f"no SSH session with the guest: {error or type(error).__name__}",
                          where=f"machine {target.name}")
        raise vitals.explain(lost, deadline) from error


def _keep_quiet(transport: paramiko.Transport) -> None:
    """What goes wrong is raised; paramiko also prints it where nobody has set up logging."""
    quiet = logging.getLogger("harness.paramiko")
    quiet.propagate = False
    if not quiet.handlers:
        quiet.addHandler(logging.NullHandler())
    transport.set_log_channel("harness.paramiko")


def _begun(transport: paramiko.Transport, line: bytes, deadline: Deadline) -> paramiko.Channel | None:
    """A session with a process for `line`; None where the server closed the session before it had one.

    Raises:
        SSHException: it does not let us have a session or a process, or the connection is lost.
    """
    channel: paramiko.Channel | None = None
    try:
        channel = transport.open_session(timeout=max(deadline.remaining, 0.001))
        channel.settimeout(max(deadline.remaining, 0.001))
        channel.exec_command(line)
    except paramiko.ChannelException:
        raise
    except paramiko.SSHException as error:
        if deadline.expired or not transport.is_active():
            raise
        # paramiko has no words of its own for a refusal (CHANNEL_FAILURE): no end of file comes before that.
        if channel is not None and not channel.eof_received:
            raise paramiko.SSHException("the SSH server could not start a process: is memory short?") from error
        return None
    return channel


def _feed(channel: paramiko.Channel, data: bytes) -> threading.Thread:
    """Send `data` as standard input and then its end, beside the reading; ends with the channel."""

    def work() -> None:
        with contextlib.suppress(OSError):
            if data:
                channel.sendall(data)
            channel.shutdown_write()

    thread = threading.Thread(target=work, name="ssh-stdin", daemon=True)
    thread.start()
    return thread


def _rest(ready: Callable[[], bool], read: Callable[[int], bytes]) -> bytes:
    parts = bytearray()
    while ready():
        parts += read(_CHUNK)
    return bytes(parts)
