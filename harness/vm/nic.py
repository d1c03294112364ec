# SPDX-License-Identifier: GPL-2.0-only
"""Network cards that QEMU emulates: what QEMU calls them, which kernel driver they need; and a machine's NIC.

Sources: `qemu-system-x86_64 -device help`; `drivers/net/ethernet/*/Kconfig` and the drivers' PCI id tables.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from harness.errors import UsageError

DEFAULT_MODEL = "e1000"
_NAME_MAX = 15
"""IFNAMSIZ of `include/uapi/linux/if.h`, without the closing NUL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of network card.

    Attributes:
        name: what plans call it.
        device: QEMU's `-device`.
        driver: the kernel module that drives it.
        options: kernel options that bring this driver.
        properties: properties of the QEMU device that this model sets.
        boot_rom: whether the device has a `romfile`, which is then left out: guests boot with `-kernel`.
    """

    name: str
    device: str
    driver: str
    options: tuple[str, ...]
    properties: tuple[str, ...] = ()
    boot_rom: bool = True


_MODELS = (
    Model(name="virtio-net-pci", device="virtio-net-pci", driver="virtio_net",
          options=("VIRTIO_PCI", "VIRTIO_NET")),
    Model(name="e1000", device="e1000", driver="e1000", options=("NET_VENDOR_INTEL", "E1000")),
    Model(name="e1000e", device="e1000e", driver="e1000e", options=("NET_VENDOR_INTEL", "E1000E")),
    Model(name="igb", device="igb", driver="igb", options=("NET_VENDOR_INTEL", "IGB")),
    Model(name="rtl8139", device="rtl8139", driver="8139cp", options=("NET_VENDOR_REALTEK", "8139CP")),
    Model(name="vmxnet3", device="vmxnet3", driver="vmxnet3", options=("VMXNET3",)),
    Model(name="pcnet", device="pcnet", driver="pcnet32", options=("NET_VENDOR_AMD", "PCNET32")),
    Model(name="e100", device="i82559c", driver="e100", options=("NET_VENDOR_INTEL", "E100")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A network card of a machine.

    Attributes:
        name: its name in the lab, and its interface's name in the guest.
        link: the link it is plugged into; unplugged otherwise. Exactly two NICs of a lab share a link.
        model: a row of the table of models.
        mac: its address; made from the machine's name and its own otherwise, see `mac_of`.
        properties: more properties of the QEMU device, as in `mq=on`.
    """

    name: str
    link: str | None = None
    model: str = DEFAULT_MODEL
    mac: str | None = None
    properties: tuple[str, ...] = ()


def models() -> tuple[Model, ...]:
    """Every model the table has. Which of them this QEMU has, `-device help` says (7.2 lacks igb)."""
    return _MODELS


def model(name: str) -> Model:
    """The model called `name`.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    for row in _MODELS:
        if row.name == name:
            return row
    raise UsageError(f"unknown NIC model {name!r}", hint=f"known: {', '.join(row.name for row in _MODELS)}")


def mac_of(machine: str, nic: str) -> str:
    """A MAC address made from names, the same in every run.

    Locally administered and unicast (second-least and least significant bit of the first octet: 1 and 0).
    """
    digest = hashlib.sha256(f"{machine}/{nic}".encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x52, 0x54, *digest[:4]))


def address(machine: str, nic: Nic) -> str:
    """The MAC address of `nic` of `machine`, in lower case as sysfs has it."""
    return (nic.mac or mac_of(machine, nic.name)).lower()


def check_name(name: str) -> None:
    """Refuse what Linux refuses as an interface's name, or what would break a command line (dev_valid_name()).

    Raises:
        UsageError: it is empty, too long, reserved, or has odd characters.
    """
    if not name or len(name) > _NAME_MAX or not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"not a name for a NIC: {name!r}",
                         hint=f"1 to {_NAME_MAX} letters, digits, '-' and '_'")
    if name in ("lo", "mgmt0"):
        raise UsageError(f"the name {name!r} is taken in every guest")
