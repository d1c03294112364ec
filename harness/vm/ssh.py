# SPDX-License-Identifier: GPL-2.0-only
"""The shell in the guest, over SSH: a pinned host key, arguments quoted here and nowhere else.

Every wait ends at its deadline, and at once when the machine is not well any more: what the console or QEMU says
then outranks "connection lost". A connection that was lost while the machine is well (a link that was down for too
long, a reboot) is made again for the next command, to the same key; a command that ran in it is never run again.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import paramiko

from harness.deadline import Deadline
from harness.errors import DeadlineExpired, HarnessError, InfraError, UsageError
from harness.proc import Completed
from harness.vm import files, session
from harness.vm.login import Target, dial, log_in
from harness.vm.running import Running
from harness.vm.session import LOST, MOST, GuestCommandFailed, Output, Transport
from harness.vm.vitals import Vitals
from harness.vm.words import GO, TAG, Word, command, texts

__all__ = ["GuestCommandFailed", "Running", "Shell", "Target", "Word", "connect"]

_CLEANUP = 5.0
"""Seconds that killing an overdue command may take."""
_KILL_TAGGED = r"""strings -f /proc/[0-9]*/environ 2>/dev/null |
    sed -n "s|^/proc/\([0-9]*\)/environ: $1\$|\1|p" | xargs -r kill -KILL"""


class Shell:
    """What runs commands in one guest. Made by `connect`; safe to use from several threads.

    Attributes:
        logins: how many times it has logged in.
    """

    def __init__(self, target: Target, vitals: Vitals) -> None:
        self._target = target
        self._vitals = vitals
        self._tags = itertools.count(1)
        self._connecting = threading.Lock()
        self._lines: list[Transport] = []
        self.logins = 0

    def run(self, *args: Word, deadline: Deadline, stdin: bytes | BinaryIO | None = None,
            stdout: files.Sink | None = None, on_line: Callable[[str], None] | None = None,
            check: bool = True) -> Completed:
        """Run a program in the guest to its end.

        Args:
            args: program and arguments; quoted here.
            stdin: what it reads, or a file to read that from; nothing otherwise.
            stdout: a file that takes its standard output, however much it is; `Completed.stdout` is then empty.
            on_line: called with each line of its standard output and error as it comes; `Completed` then has the last.
                What it raises ends the program.
            check: raise when it fails.

        Raises:
            GuestCommandFailed: it ended with another code than 0 and `check` is set.
            KernelError: the guest's kernel reported something, or the machine ended.
            DeadlineExpired: it was still running at the deadline.
            UsageError: it cannot be run, or printed more than `session.MOST` bytes for us to keep.
        """
        return self._run(args, deadline=deadline, stdin=stdin, check=check,
                         output=Output(self._full(args), stdout, on_line))

    def shell(self, script: str, *, deadline: Deadline, stdin: bytes | BinaryIO | None = None,
              on_line: Callable[[str], None] | None = None, check: bool = True) -> Completed:
        """Run `script` with the guest's `sh -e`; otherwise like `run`."""
        return self.run("sh", "-ec", script, deadline=deadline, stdin=stdin, on_line=on_line, check=check)

    def start(self, *args: Word, deadline: Deadline) -> Running:
        """Start a program in the guest and leave it running, in a process group of its own; its stdin is empty.

        Raises:
            KernelError: the machine is not well.
            DeadlineExpired: it did not start in time.
        """
        script = 'echo $$; exec "$@"'
        channel = self.open(command(("setsid", "sh", "-c", script, "sh", *args)), deadline)
        channel.shutdown_write()
        running = Running(self, tuple(map(str, args)), channel, Output(self._full(args)))
        running.read_pid(deadline)
        return running

    def put(self, path: str | PurePosixPath, data: bytes | Path, *, deadline: Deadline, mode: int = 0o644) -> None:
        """Write `data`, or the host's file of that name, to the guest's file `path`, whole or not at all.

        Raises:
            KernelError: what then stands in the guest is something else (SHA-256).
        """
        if isinstance(data, bytes):
            self._put(path, io.BytesIO(data), files.digest_of(data), mode, deadline)
        else:
            ours = files.digest(data)
            with data.open("rb") as source:
                self._put(path, source, ours, mode, deadline)

    def get(self, path: str | PurePosixPath, *, deadline: Deadline) -> bytes:
        """The content of the guest's file `path`; for large ones see `fetch`.

        Raises:
            KernelError: something else arrived than was read in the guest (SHA-256).
        """
        data = io.BytesIO()
        self._get(path, data, deadline)
        return data.getvalue()

    def fetch(self, path: str | PurePosixPath, out: Path, *, deadline: Deadline) -> None:
        """Write the guest's file `path` to the host's file `out`, whole or not at all; otherwise like `get`."""
        part = out.with_name(f"{out.name}.part")
        try:
            with part.open("wb") as sink:
                self._get(path, sink, deadline)
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)

    def reconnect(self, deadline: Deadline) -> None:
        """Log in anew, whatever state the connection is in.

        Raises:
            InfraError: what answers does not have the pinned host key, or does not let us in.
            KernelError: the machine is not well any more.
        """
        self.hang_up()
        self._release(self._live(deadline))

    def hang_up(self) -> None:
        """Close all connections; what waits on them is woken."""
        for transport in tuple(self._lines):
            transport.close()

    def open(self, line: bytes, deadline: Deadline,
             prepare: Callable[[paramiko.Channel], None] = lambda _: None) -> paramiko.Channel:
        """A session in which `line` (made by `words.command`) has begun to run, exactly once.

        When a process of one session ends, dropbear 2022.83 closes every other session of that connection that has no
        process yet (common-channel.c, check_close(): FD_UNINIT is taken for an open descriptor and becomes FD_CLOSED).
        Where the request for a process crosses that, the process is started, and the connection ends with a failed
        assertion (`!channel->sent_close`) as soon as it prints or ends. So a session is opened only on a connection on
        which no process of ours runs; where there is none, another connection is made, and kept. A session that is
        closed all the same was closed before its command was told to go, and another takes its place.
        """
        while True:
            self._vitals.check()
            with self.explained(deadline, "opening a session in the guest"):
                transport = self._live(deadline)
                try:
                    channel = session.begun(transport, line, deadline, prepare)
                finally:
                    self._release(transport)
                if channel is not None:
                    channel.sendall(GO)
                    return channel

    def status(self, channel: paramiko.Channel, argv: Sequence[str], deadline: Deadline) -> int:
        """How the program in a session ended, as in `Completed.returncode`.

        Raises:
            InfraError: the connection was lost.
            KernelError: the machine is not well any more.
            DeadlineExpired: it still runs.
        """
        if not channel.status_event.wait(deadline.remaining):
            raise self.late(argv, deadline)
        status = session.ending(channel, shlex.join(argv), self.where)
        if status is LOST:
            lost = InfraError(f"the connection was lost during: {shlex.join(argv)}", where=self.where)
            raise self._vitals.explain(lost, deadline)
        self._vitals.check()
        return status

    def late(self, argv: Sequence[str], deadline: Deadline, output: Output | None = None) -> HarnessError:
        """The error of a program that still runs at its deadline."""
        self._vitals.check()
        said = (output.stderr or output.stdout).splitlines()[-20:] if output else ()
        return DeadlineExpired(f"{shlex.join(argv)}: still running after {deadline.budget:g} s", where=self.where,
                               detail=tuple(said))

    @contextmanager
    def explained(self, deadline: Deadline, doing: str) -> Iterator[None]:
        """Have a broken connection explained by what the machine says, where it says anything."""
        try:
            yield
        except (paramiko.SSHException, EOFError, OSError) as error:
            lost = InfraError(f"{doing}: {error or type(error).__name__}", where=self.where)
            raise self._vitals.explain(lost, deadline) from error

    def progress(self, what: str) -> None:
        """Something of what the test does has gone on."""
        self._vitals.progress(what)

    @property
    def where(self) -> str:
        """What an error names."""
        return f"machine {self._target.name}"

    def check(self) -> None:
        """Raise what is known to be wrong with the machine."""
        self._vitals.check()

    def _run(self, args: Sequence[Word], *, deadline: Deadline, stdin: bytes | BinaryIO | None, check: bool,
             output: Output) -> Completed:
        started = time.monotonic()
        tag = next(self._tags)
        channel = self.open(command(args, tag), deadline)
        argv = texts(args)
        feeder = session.feed(channel, stdin or b"", lambda: self.progress(f"input of {argv[0]}"))
        try:
            for _ in session.pump(channel, output, deadline, lambda: self.late(argv, deadline, output)):
                self.progress(f"output of {argv[0]}")
            status = self.status(channel, argv, deadline)
            session.await_closed(channel)
        except BaseException:
            self._kill(tag)
            raise
        finally:
            session.done(channel, feeder)
        return self.completed(argv, status, output, started, check=check)

    def completed(self, argv: tuple[str, ...], status: int, output: Output, started: float, *, check: bool
                  ) -> Completed:
        """The record of a program that has ended."""
        completed = Completed(argv=argv, returncode=status, stdout=output.stdout, stderr=output.stderr,
                              seconds=time.monotonic() - started)
        if check and status != 0:
            raise GuestCommandFailed(self._target.name, completed)
        return completed

    def _full(self, args: Sequence[Word]) -> Callable[[], None]:
        def full() -> None:
            raise UsageError(f"{shlex.join(texts(args))}: printed more than {MOST >> 20} MiB", where=self.where,
                             hint="let it go to a file: run(..., stdout=FILE), or take its lines: on_line=")
        return full

    def _put(self, path: str | PurePosixPath, data: BinaryIO, ours: str, mode: int, deadline: Deadline) -> None:
        done = self.run("sh", "-c", files.IN, "put", path, f"{mode:o}", ours, stdin=data, deadline=deadline,
                        check=False)
        if done.returncode == files.WRONG:
            files.verify(path, self._target.name, ours, done.stdout.strip())
        if done.returncode != 0:
            raise GuestCommandFailed(self._target.name, done)

    def _get(self, path: str | PurePosixPath, sink: files.Sink, deadline: Deadline) -> None:
        hashing = files.Hashing(sink)
        done = self.run("sh", "-c", files.OUT, "get", path, stdout=hashing, deadline=deadline, check=True)
        files.verify(path, self._target.name, hashing.digest, done.stderr.split()[0])

    def _kill(self, tag: int) -> None:
        """Kill what is left in the guest of the command with `tag`, as well as it can be done."""
        deadline = Deadline.after(_CLEANUP)
        with contextlib.suppress(HarnessError):
            channel = self.open(command(("sh", "-c", _KILL_TAGGED, "sh", f"{TAG}={tag}")), deadline)
            with contextlib.closing(channel):
                if channel.status_event.wait(deadline.remaining):
                    session.await_closed(channel)  # until then its connection is no other command's

    def _live(self, deadline: Deadline) -> Transport:
        """A connection on which nothing runs, claimed for the caller; made where there is none."""
        if not self._connecting.acquire(timeout=deadline.remaining):
            raise DeadlineExpired(f"logging in: not within {deadline.budget:g} s", where=self.where)
        try:
            self._lines = [transport for transport in self._lines if transport.is_active()]
            idle = next((each for each in self._lines if not each.claimed and not each.live), None)
            if idle is None:
                idle = dial(self._target, deadline)
                self._lines.append(idle)
                try:
                    log_in(self._target, idle, deadline)
                except BaseException:
                    idle.close()
                    raise
                self.logins += 1
            idle.claimed = True
            return idle
        finally:
            self._connecting.release()

    def _release(self, transport: Transport) -> None:
        transport.claimed = False


@contextmanager
def connect(target: Target, vitals: Vitals, *, deadline: Deadline) -> Iterator[Shell]:
    """Log in to the guest, which must listen by now.

    Raises:
        InfraError: what answers does not have the pinned host key, or does not let us in.
        KernelError: the machine is not well any more.
    """
    shell = Shell(target, vitals)
    try:
        with vitals.listening(shell.hang_up):
            with shell.explained(deadline, "no SSH session with the guest"):
                shell._release(shell._live(deadline))
            yield shell
    finally:
        shell.hang_up()
