# SPDX-License-Identifier: GPL-2.0-only
"""A program that was left running in a guest: what it says, signals to it, its end."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import paramiko

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.proc import Completed
from harness.vm import session
from harness.vm.session import Output
from harness.vm.words import decode

if TYPE_CHECKING:
    from harness.vm.ssh import Shell


class Running:
    """A program that runs in the guest. Made by `Shell.start`."""

    def __init__(self, shell: Shell, argv: tuple[str, ...], channel: paramiko.Channel, output: Output) -> None:
        self._shell = shell
        self._channel = channel
        self._output = output
        self._started = time.monotonic()
        self.argv = argv
        self.pid = 0

    def read_pid(self, deadline: Deadline) -> None:
        """Take the process's id, which is the first line it prints."""
        line = b""
        while not line.endswith(b"\n"):
            self._channel.settimeout(max(deadline.remaining, 0.001))
            with self._shell.explained(deadline, f"starting {shlex.join(self.argv)}"):
                byte = self._channel.recv(1)
            if not byte:
                lost = InfraError(f"did not start: {shlex.join(self.argv)}", where=self._shell.where)
                raise self._shell._vitals.explain(lost, deadline)
            line += byte
        self.pid = int(line)

    def lines(self, deadline: Deadline) -> Iterator[str]:
        """The lines of its standard output, each as soon as it has come, to the last; `wait` has all of them, too.

        Raises:
            KernelError: the machine is not well any more.
            DeadlineExpired: it goes on.
        """
        seen = 0
        for _ in self._pump(deadline):
            self._shell.progress(f"output of {self.argv[0]}")
            *lines, rest = self._output.since(seen).split(b"\n")
            seen += sum(len(line) + 1 for line in lines)
            yield from map(decode, lines)
        *lines, rest = self._output.since(seen).split(b"\n")
        yield from map(decode, [*lines, *([rest] if rest else [])])
        self._shell.check()

    def signal(self, name: str, deadline: Deadline) -> None:
        """Send a signal (`HUP`, `USR1`, ...) to its process group; it may have ended by then."""
        self._shell.run("kill", "-s", name, "--", f"-{self.pid}", check=False, deadline=deadline)

    def wait(self, deadline: Deadline, *, check: bool = True) -> Completed:
        """Wait for its end.

        Raises:
            GuestCommandFailed: it ended with another code than 0 and `check` is set.
            KernelError: the machine is not well any more.
            DeadlineExpired: it still runs.
        """
        for _ in self._pump(deadline):
            self._shell.progress(f"output of {self.argv[0]}")
        status = self._shell.status(self._channel, self.argv, deadline)
        session.done(self._channel)
        return self._shell.completed(self.argv, status, self._output, self._started, check=check)

    def stop(self, deadline: Deadline, signal: str = "TERM") -> Completed:
        """Send it `signal`, wait for the end, and return what it printed. No exit code is wrong."""
        self.signal(signal, deadline)
        return self.wait(deadline, check=False)

    def _pump(self, deadline: Deadline) -> Iterator[None]:
        return session.pump(self._channel, self._output, deadline,
                            lambda: self._shell.late(self.argv, deadline, self._output))
