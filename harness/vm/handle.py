# SPDX-License-Identifier: GPL-2.0-only
"""What a test holds of a machine that is up: its shell, its console, its monitor, its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from harness.deadline import Deadline
from harness.errors import DeadlineExpired, KernelError, UsageError
from harness.proc import Completed
from harness.vm import hang, keys
from harness.vm import nic as nics
from harness.vm import terminal as terminals
from harness.vm.console import Console
from harness.vm.control import Control
from harness.vm.files import Sink
from harness.vm.hang import Scene
from harness.vm.klog import KernelEvent
from harness.vm.login import Target
from harness.vm.qemu import MachineSpec
from harness.vm.qmp import Qmp
from harness.vm.running import Running
from harness.vm.ssh import Shell
from harness.vm.words import Word

_COMMAND = 60.0
"""Seconds a command in the guest has where the caller gives no deadline."""
_REBOOT = 180.0
"""Seconds a reboot has where the caller gives no deadline."""
_ALIVE = 5.0
"""Seconds the guest's init has to answer before a guest whose command is late is taken to be dead."""
_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What a machine leaves in its folder.

    Attributes:
        console: everything the serial console printed.
        qemu: what QEMU itself printed.
        resets: what QEMU noted of each reset of a CPU (under TCG); kept where one was a triple fault.
        hang: the folder for what is collected when it hangs.
        client_key: our private key, for ssh(1); written where it is asked for, removed at the end.
        known_hosts: the guest's host key, likewise.
        gdb: where QEMU listens for a debugger, if it does.
    """

    console: Path
    qemu: Path
    resets: Path
    hang: Path
    client_key: Path
    known_hosts: Path
    gdb: Path

    @classmethod
    def below(cls, folder: Path) -> Files:
        return cls(console=folder / "console.log", qemu=folder / "qemu.log", resets=folder / "resets.log",
                   hang=folder / "hang", client_key=folder / "ssh-key", known_hosts=folder / "known_hosts",
                   gdb=folder / "gdb.sock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine that is up.

    Attributes:
        spec: what it was made of.
        files: where its logs and keys are.
        console: its serial console.
        qmp: its monitor.
        target: where its SSH server is.
        control: its control port.
        pid: QEMU's.
    """

    spec: MachineSpec
    files: Files
    console: Console
    qmp: Qmp
    target: Target
    control: Control
    pid: int
    _shell: Shell

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def events(self) -> tuple[KernelEvent, ...]:
        """What its kernel reported until now."""
        return self.console.vitals.events

    def check(self) -> None:
        """Raise what is wrong with it, if anything is.

        Raises:
            KernelError: its kernel reported something, or it ended.
        """
        self.console.vitals.check()

    def run(self, *args: Word, deadline: Deadline | None = None, stdin: bytes | BinaryIO | None = None,
            stdout: Sink | None = None, on_line: Callable[[str], None] | None = None, check: bool = True) -> Completed:
        """Run a program in it, see `Shell.run`; one minute where there is no `deadline`."""
        with self._awaited(" ".join(map(str, args))):
            return self._shell.run(*args, deadline=deadline or Deadline.after(_COMMAND), stdin=stdin, stdout=stdout,
                                   on_line=on_line, check=check)

    def shell(self, script: str, *, deadline: Deadline | None = None, stdin: bytes | BinaryIO | None = None,
              on_line: Callable[[str], None] | None = None, check: bool = True) -> Completed:
        """Run a script with its `sh -e`, see `Shell.shell`."""
        with self._awaited(script):
            return self._shell.shell(script, deadline=deadline or Deadline.after(_COMMAND), stdin=stdin,
                                     on_line=on_line, check=check)

    def start(self, *args: Word, deadline: Deadline | None = None) -> Running:
        """Start a program that goes on running, see `Shell.start`."""
        return self._shell.start(*args, deadline=deadline or Deadline.after(_COMMAND))

    def put(self, path: str | PurePosixPath, data: bytes | Path, *, mode: int = 0o644,
            deadline: Deadline | None = None) -> None:
        """Write a file in it, from bytes or from a file of the host, see `Shell.put`."""
        self._shell.put(path, data, mode=mode, deadline=deadline or Deadline.after(_COMMAND))

    def get(self, path: str | PurePosixPath, *, deadline: Deadline | None = None) -> bytes:
        """Read a file in it."""
        return self._shell.get(path, deadline=deadline or Deadline.after(_COMMAND))

    def fetch(self, path: str | PurePosixPath, out: Path, *, deadline: Deadline | None = None) -> None:
        """Copy a file of it to the host's file `out`, see `Shell.fetch`."""
        self._shell.fetch(path, out, deadline=deadline or Deadline.after(_COMMAND))

    def reconnect(self, *, deadline: Deadline | None = None) -> None:
        """Log in anew, to the same key; it happens by itself where the connection is known to be lost."""
        self._shell.reconnect(deadline or Deadline.after(_COMMAND))

    def reboot(self, *, deadline: Deadline | None = None) -> None:
        """Boot its kernel anew in the same QEMU, and log in again; three minutes where there is no `deadline`.

        What runs in it ends as with a lost connection, and addresses and other settings of a topology are gone. QEMU
        ends at any other reset (`-no-reboot`): only for this one it is told not to.

        Raises:
            KernelError: the machine is not well, or does not come up again.
        """
        deadline = deadline or Deadline.after(_REBOOT)
        self.check()
        self._on_reset("reset", deadline)
        try:
            self.console.expect_boot()
            self._shell.hang_up()
            self.control.forget()
            self.control.ask("reboot")
            self.control.await_ready(deadline, lambda: self._examined("rebooting", deadline.budget))
        finally:
            self.check()
            self._on_reset("shutdown", deadline)
        self._shell.reconnect(deadline)

    def console_shell(self) -> None:
        """Have a shell run on its console from now on; once is enough."""
        self.control.ask("shell")

    def log(self, text: str) -> None:
        """Have its kernel log `harness: TEXT`; nothing says whether it has, but its console."""
        self.control.ask(f"log {' '.join(text.split())}")

    def interact(self, *args: Word, terminal: bool = True) -> int:
        """A shell, or a program, in it on our own terminal or pipes; its exit code. See `terminal.interact`."""
        return terminals.interact(self._shell, *args, terminal=terminal)

    def _examined(self, doing: str, quiet: float) -> tuple[str, ...]:
        """What can be had from it when it does not come up."""
        with self.console.vitals.held() as first:
            event = hang.examine(self.scene(), quiet, doing)
            first.append(event)
        return event.lines

    def _on_reset(self, action: str, deadline: Deadline) -> None:
        self.qmp.execute("set-action", {"reboot": action}, deadline=deadline)

    def nic(self, name: str) -> str:
        """The network interface in the guest of the NIC called `name`, found by its MAC address.

        Raises:
            UsageError: the machine has no NIC of that name.
            KernelError: the guest has no interface with its address: the kernel lacks the driver.
        """
        card = next((card for card in self.spec.nics if card.name == name), None)
        if card is None:
            raise UsageError(f"machine {self.name} has no NIC {name!r}",
                             hint=f"it has: {', '.join(card.name for card in self.spec.nics) or 'none'}")
        address = nics.addresses(self.name, self.spec.nics)[name]
        found = parse_addresses(self.run("ip", "-details", "-json", "link").stdout).get(address)
        if found is None:
            model = nics.model(card.model)
            raise KernelError(f"no interface for NIC {name} ({card.model}, {address})", where=f"machine {self.name}",
                              hint=f"the kernel needs {', '.join('CONFIG_' + option for option in model.options)}")
        return found

    def scene(self, *, memory: bool = False) -> Scene:
        """What is needed to examine it when it hangs; with `memory` its memory is dumped, too."""
        return Scene(name=self.name, qmp=self.qmp, console=self.console, control=self.control, folder=self.files.hang,
                     image=self.spec.kernel, memory=memory)

    @contextmanager
    def watched(self, silence: float, *, memory: bool = False) -> Iterator[None]:
        """Report a hang, with all that can be found out about it, when a command makes no progress for so long.

        Args:
            silence: seconds without output, end or mark (`progress`) while a command is waited for.
            memory: whether guest memory is dumped, too.
        """
        with hang.watched((self.scene(memory=memory),), silence):
            yield

    def progress(self, what: str) -> None:
        """Mark progress that the harness cannot see by itself."""
        self.console.vitals.progress(what)

    @contextmanager
    def _awaited(self, what: str) -> Iterator[None]:
        """Silence counts while the block lasts; a deadline that passes in a guest that is dead is a hang of it."""
        shown = " ".join(what.split())[:_SHOWN]
        with self.console.vitals.working(shown):
            try:
                yield
            except DeadlineExpired as error:
                if self.control.answers(Deadline.after(_ALIVE)):
                    raise
                hang.report(self.scene(), (self.console.vitals.quiet() or (0.0, ""))[0], shown)
                self.check()
                raise KernelError(error.what, where=error.where, detail=error.detail) from error
            except KernelError:
                # A command that the kernel killed ends before the kernel has said why.
                self.console.settle()
                self.check()
                raise

    def ssh_argv(self) -> tuple[str, ...]:
        """The command for a shell in it from a terminal, for as long as it is up; writes the files this names."""
        keys.write_private(self.files.client_key, self.target.client_key.private)
        self.files.known_hosts.write_bytes(b"[%s]:%d %s" % (self.target.host.encode(), self.target.port,
                                                            self.target.host_key.public))
        return ("ssh", "-i", str(self.files.client_key), "-p", str(self.target.port),
                "-o", f"UserKnownHostsFile={self.files.known_hosts}", "-o", "StrictHostKeyChecking=yes",
                "-o", "IdentitiesOnly=yes", f"root@{self.target.host}")


def parse_addresses(listing: str) -> dict[str, str]:
    """MAC address to interface, from the output of `ip -details -json link`; of cards only.

    A bridge has the address of one of its ports and a VLAN that of the card below it; such interfaces have a kind.
    Where a card's address was changed, `permaddr` is the one it was made with.
    """
    return {str(row.get("permaddr", row["address"])): str(row["ifname"]) for row in json.loads(listing)
            if "address" in row and "info_kind" not in row.get("linkinfo", {})}
