# SPDX-License-Identifier: GPL-2.0-only
"""A machine's network card as tests handle it: carrier, slot, offloads, MTU, queues, and what the guest does to it.

A verb returns when the guest shows what it asked for, and raises where it does not: nothing is assumed to have worked.
Monitor commands: `set_link`, `device_del`, `device_add` and the event DEVICE_DELETED of QEMU's `qapi/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from harness.deadline import Deadline
from harness.errors import DeadlineExpired, KernelError, UsageError
from harness.vm import nic as nics
from harness.vm import qemu
from harness.vm.handle import Machine
from harness.vm.nic import Model, Nic

_ROUNDS = 3
"""How often features are turned back: the first round may change others, the second turns these back."""
_PATIENCE = 20.0
"""Seconds that a driver may take; e1000 under TCG needs one to three for its carrier."""
_FEATURE = re.compile(r"^\s*(?P<name>[a-z0-9-]+): (?P<state>on|off)(?P<fixed> \[fixed\])?", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """An offload of an interface: whether it is on, and whether that is fixed."""

    on: bool
    fixed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card of a machine that is up. `Host.card` makes it."""

    machine: Machine
    name: str

    @property
    def nic(self) -> Nic:
        """What the machine was made with.

        Raises:
            UsageError: it has no such card.
        """
        for nic in self.machine.spec.nics:
            if nic.name == self.name:
                return nic
        raise UsageError(f"machine {self.machine.name} has no NIC {self.name!r}",
                         hint=f"it has: {', '.join(nic.name for nic in self.machine.spec.nics) or 'none'}")

    @property
    def model(self) -> Model:
        """Its row in the table of models."""
        return nics.model(self.nic.model)

    @property
    def interface(self) -> str:
        """Its interface in the guest, found by its address. Raises KernelError where there is none."""
        return self.machine.nic(self.name)

    @property
    def driver(self) -> str:
        """The kernel driver that has it."""
        return self.machine.shell(f"basename $(readlink /sys/class/net/{self.interface}/device/driver)").stdout.strip()

    def carrier(self, on: bool) -> None:
        """Plug in its cable or pull it (`set_link`), and wait until the guest has noticed, where its model tells it.

        Raises:
            KernelError: the driver does not notice.
        """
        backend = qemu.device(self.machine.spec, self.nic)["netdev"]
        self.machine.qmp.execute("set_link", {"name": backend, "up": on}, deadline=Deadline.after(_PATIENCE))
        if self.model.tells_carrier:
            self.await_carrier(on)

    def await_carrier(self, on: bool) -> None:
        """Wait until the guest sees a carrier, or none. Raises KernelError where it does not."""
        name = self.interface
        if not self._until(f'[ "$(cat /sys/class/net/{name}/carrier)" = {int(on)} ]'):
            raise KernelError(f"{name} ({self.nic.model}) {'has no carrier' if on else 'still has a carrier'} "
                              f"after {_PATIENCE:g} s", where=f"machine {self.machine.name}")

    def unplug(self) -> None:
        """Take the card out of its slot: ask the guest, and wait until it has let go and QEMU has removed it.

        Raises:
            UsageError: it was made without `hotplug`, and is no USB device.
            KernelError: the guest does not let go of it, or its interface stays.
        """
        self._check_slot()
        name, deadline = self.interface, Deadline.after(_PATIENCE)
        seen = len(self.machine.qmp.events)
        vitals = self.machine.console.vitals
        with self.machine.qmp.waking(vitals.changed):
            self.machine.qmp.execute("device_del", {"id": self.name}, deadline=deadline)
            try:
                vitals.wait_for(lambda: self._deleted(seen), deadline, f"unplugging {self.name}")
            except DeadlineExpired as error:
                raise KernelError(f"the guest does not let go of {self.name} within {_PATIENCE:g} s",
                                  where=f"machine {self.machine.name}", detail=error.detail,
                                  hint="slots need CONFIG_HOTPLUG_PCI and CONFIG_HOTPLUG_PCI_ACPI (fragment hotplug)"
                                  ) from error
        if not self._until(f"[ ! -e /sys/class/net/{name} ]"):
            raise KernelError(f"{name} is still there though its card is gone", where=f"machine {self.machine.name}")

    def plug(self) -> None:
        """Put the card back into its slot, and wait until it is the interface that it was, by its address and name.

        Raises:
            KernelError: no driver takes it.
        """
        self._check_slot()
        properties: dict[str, object] = dict(qemu.device(self.machine.spec, self.nic))
        self.machine.qmp.execute("device_add", properties, deadline=Deadline.after(_PATIENCE))
        self.await_interface()
        found = self.interface
        if found != self.name:
            self.machine.run("ip", "link", "set", found, "name", self.name)

    def await_interface(self) -> None:
        """Wait until the guest has an interface of the card's address. Raises KernelError where it has not."""
        address = nics.addresses(self.machine.name, self.machine.spec.nics)[self.name]
        if not self._until(f"grep -qx {address} /sys/class/net/*/address"):
            self.machine.nic(self.name)

    def features(self) -> dict[str, Feature]:
        """Its offloads by the names of ethtool(8), as `tcp-segmentation-offload`."""
        return parse_features(self.machine.run("ethtool", "-k", self.interface).stdout)

    @contextmanager
    def offloads(self, **wanted: bool) -> Iterator[None]:
        """Turn offloads on or off for the block (`gro=False, tx=True`), by the short names of `ethtool -K`.

        Raises:
            GuestCommandFailed: the driver does not have one, or it is fixed.
            KernelError: the card does not get its carrier back.
        """
        before = self.features()
        self._set_features([word for name, on in wanted.items() for word in (name.replace("_", "-"), _word(on))])
        try:
            yield
        finally:
            self._turn_back(before)

    def _turn_back(self, before: Mapping[str, Feature]) -> None:
        """Give every feature that can be changed the state it had.

        One changes others, and so does turning it back: `tcp-segmentation-offload` stands for several, of which some
        may have been off. What still differs then is turned back by itself.
        """
        for _ in range(_ROUNDS):
            now = self.features()
            back = [word for name, was in before.items() if not was.fixed and name in now and now[name].on != was.on
                    for word in (name, _word(was.on))]
            if not back:
                return
            self._set_features(back)

    @contextmanager
    def mtu(self, size: int) -> Iterator[None]:
        """Another MTU for the block.

        Raises:
            GuestCommandFailed: the driver does not take that size.
            KernelError: the card does not get its carrier back.
        """
        name = self.interface
        before = self.machine.run("cat", f"/sys/class/net/{name}/mtu").stdout.strip()
        with self._carrier_kept():
            self.machine.run("ip", "link", "set", name, "mtu", str(size))
        try:
            yield
        finally:
            with self._carrier_kept():
                self.machine.run("ip", "link", "set", name, "mtu", before)

    def queues(self) -> tuple[int, int]:
        """How many receive and transmit queues its driver made."""
        names = self.machine.shell(f"ls /sys/class/net/{self.interface}/queues").stdout.split()
        return sum(name.startswith("rx-") for name in names), sum(name.startswith("tx-") for name in names)

    @contextmanager
    def netem(self, **conditions: str) -> Iterator[Callable[..., None]]:
        """Treat what the guest sends badly for the block, in tc-netem(8)'s words: `loss="5%", delay="20ms"`.

        It is the guest's kernel that does it: where that must not be, let the topology's link lose and delay frames.

        Yields:
            What gives other conditions to what is sent from then on; what waits in the queue stays there.
        """
        def treat(**conditions: str) -> None:
            words = [word for name, value in conditions.items() for word in (name, *value.split())]
            self.machine.run("tc", "qdisc", "replace", "dev", self.interface, "root", "netem", *words)

        treat(**conditions)
        try:
            yield treat
        finally:
            self.machine.run("tc", "qdisc", "del", "dev", self.interface, "root")

    def _set_features(self, words: Sequence[str]) -> None:
        with self._carrier_kept():
            self.machine.run("ethtool", "-K", self.interface, *words)

    @contextmanager
    def _carrier_kept(self) -> Iterator[None]:
        """Wait after the block for the carrier that was there before: some drivers reset the card for a setting.

        Such a driver takes the carrier away before the setting returns (e1000_down() of e1000 and e1000e).
        """
        before = self.machine.run("cat", f"/sys/class/net/{self.interface}/carrier", check=False)
        yield
        if before.stdout.strip() == "1":
            self.await_carrier(True)

    def _deleted(self, seen: int) -> bool | None:
        """Whether QEMU has removed the device since it had reported `seen` events; None while it has not."""
        for event in self.machine.qmp.events[seen:]:
            if event.name == "DEVICE_DELETED" and event.data.get("device") == self.name:
                return True
        return None

    def _check_slot(self) -> None:
        if not self.nic.hotplug and self.model.bus != nics.USB:
            raise UsageError(f"NIC {self.name} has no slot that it can be unplugged from",
                             where=f"machine {self.machine.name}", hint="say `hotplug: true` where it is described")

    def _until(self, condition: str) -> bool:
        """Wait in the guest until a shell command succeeds; whether it did in time."""
        loop = f"until {condition} 2>/dev/null; do usleep 20000; done"
        done = self.machine.run("timeout", f"{_PATIENCE:g}", "sh", "-c", loop, check=False,
                                deadline=Deadline.after(_PATIENCE + 10))
        return done.returncode == 0


def parse_features(listing: str) -> dict[str, Feature]:
    """Offloads by name, from the output of `ethtool -k`."""
    return {match["name"]: Feature(on=match["state"] == "on", fixed=match["fixed"] is not None)
            for match in _FEATURE.finditer(listing)}


def _word(on: bool) -> str:
    return "on" if on else "off"
