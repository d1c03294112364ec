# SPDX-License-Identifier: GPL-2.0-only
"""What a test holds of a machine that is up: its shell, its console, its monitor, its files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.deadline import Deadline
from harness.errors import KernelError, UsageError
from harness.proc import Completed
from harness.vm import nic as nics
from harness.vm.console import Console
from harness.vm.klog import KernelEvent
from harness.vm.qemu import MachineSpec
from harness.vm.qmp import Qmp
from harness.vm.ssh import Running, Shell, Target
from harness.vm.words import Word

_COMMAND = 60.0
"""Seconds a command in the guest has where the caller gives no deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What a machine leaves in its folder.

    Attributes:
        console: everything the serial console printed.
        qemu: what QEMU itself printed.
        initrd: the initial ramdisk as booted; removed at the end.
        client_key: our private key, for ssh(1); removed at the end.
        known_hosts: the guest's host key, for ssh(1).
    """

    console: Path
    qemu: Path
    initrd: Path
    client_key: Path
    known_hosts: Path

    @classmethod
    def below(cls, folder: Path) -> Files:
        return cls(console=folder / "console.log", qemu=folder / "qemu.log", initrd=folder / "initrd",
                   client_key=folder / "ssh-key", known_hosts=folder / "known_hosts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine that is up.

    Attributes:
        spec: what it was made of.
        files: where its logs and keys are.
        console: its serial console.
        qmp: its monitor.
        target: where its SSH server is.
    """

    spec: MachineSpec
    files: Files
    console: Console
    qmp: Qmp
    target: Target
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

    def run(self, *args: Word, deadline: Deadline | None = None, stdin: bytes | None = None,
            check: bool = True) -> Completed:
        """Run a program in it, see `Shell.run`; one minute where there is no `deadline`."""
        return self._shell.run(*args, deadline=deadline or Deadline.after(_COMMAND), stdin=stdin, check=check)

    def shell(self, script: str, *, deadline: Deadline | None = None, stdin: bytes | None = None,
              check: bool = True) -> Completed:
        """Run a script with its `sh -e`, see `Shell.shell`."""
        return self._shell.shell(script, deadline=deadline or Deadline.after(_COMMAND), stdin=stdin, check=check)

    def start(self, *args: Word, deadline: Deadline | None = None) -> Running:
        """Start a program that goes on running, see `Shell.start`."""
        return self._shell.start(*args, deadline=deadline or Deadline.after(_COMMAND))

    def put(self, path: str | PurePosixPath, data: bytes, *, mode: int = 0o644,
            deadline: Deadline | None = None) -> None:
        """Write a file in it."""
        self._shell.put(path, data, mode=mode, deadline=deadline or Deadline.after(_COMMAND))

    def get(self, path: str | PurePosixPath, *, deadline: Deadline | None = None) -> bytes:
        """Read a file in it."""
        return self._shell.get(path, deadline=deadline or Deadline.after(_COMMAND))

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

    def ssh_argv(self) -> tuple[str, ...]:
        """The command for a shell in it from a terminal."""
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
