# SPDX-License-Identifier: GPL-2.0-only
"""Pure: network cards that QEMU emulates, as a table; a machine's cards, their addresses, and links.

Sources: `qemu-system-x86_64 -device help` and QEMU's `hw/net/*.c`; `drivers/net/ethernet/*/Kconfig` and the drivers'
device id tables.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harness.errors import UsageError

DEFAULT_MODEL = "e1000"
PCI, USB, SWITCH = "pci", "usb", "switch"
"""How cards of a model are plugged in: each into PCI, each into a USB controller, or as the ports of one switch."""
_NAME_MAX = 15
"""IFNAMSIZ of `include/uapi/linux/if.h`, without the closing NUL."""
_TAKEN = re.compile(r"lo|mgmt0|(eth|usb|sw)\d.*")
"""Names that are in every guest, and those that the kernel gives by itself before ours are set."""


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
        bus: `pci`, `usb` or `switch`.
        queues: the most transmit queues that its driver makes of it; a driver makes no more than there are CPUs.
        wrong_offloads: what QEMU gets wrong, by the short names of `ethtool -K`; labs turn it off.
        tells_carrier: whether the guest is told when its cable is pulled.
        burst: frames that it takes at once where QEMU drops what comes when its ring is full; 0 where the sender is
            held up instead, and nothing is lost.
    """

    name: str
    device: str
    driver: str
    options: tuple[str, ...]
    properties: tuple[str, ...] = ()
    boot_rom: bool = True
    bus: str = PCI
    queues: int = 1
    wrong_offloads: tuple[str, ...] = ()
    tells_carrier: bool = True
    burst: int = 0


# Until 8.0 QEMU's net_tx_pkt_do_sw_fragmentation() (hw/net/net_tx_pkt.c) cuts what e1000e and vmxnet3 are to segment
# into IPv4 fragments: whole for the receiver's TCP, but nothing on the way or in a capture sees its ports.
# Who does not tell of a carrier: QEMU's eepro100, ne2000, tulip and usb-net have no link state; with MSI-X QEMU 7.2's
# e1000e interrupts for the first change of its link only. pcnet32 looks every two seconds (PCNET32_WATCHDOG_TIMEOUT).
# Bursts: in the mode that 8139cp uses rtl8139 holds nobody up (rtl8139_can_receive() in QEMU's hw/net/rtl8139.c), nor
# do pcnet and ne2000. Rings: CP_RX_RING_SIZE of 8139cp.c, RX_RING_SIZE of pcnet32.c, 52 pages in an NE2000.
# e100's is i82557b, which drops what goes beyond the driver's list (nic_receive() in eepro100.c, 256 by e100.c). For
# i82558 and later QEMU reads a second buffer behind the one that e100 wrote (tx_command() in eepro100.c): from the
# control blocks that once configured the card, 6 of 128, full frames leave too long to arrive.
# virtio-net-pci has one queue because the backends that need no rights of the host (dgram, hubport) have one.
_MODELS = (
    Model(name="virtio-net-pci", device="virtio-net-pci", driver="virtio_net",
          options=("VIRTIO_PCI", "VIRTIO_NET")),
    Model(name="e1000", device="e1000", driver="e1000", options=("NET_VENDOR_INTEL", "E1000")),
    Model(name="e1000e", device="e1000e", driver="e1000e", options=("NET_VENDOR_INTEL", "E1000E"),
          wrong_offloads=("tso",), tells_carrier=False),
    Model(name="igb", device="igb", driver="igb", options=("NET_VENDOR_INTEL", "IGB"), queues=8),
    Model(name="rtl8139", device="rtl8139", driver="8139cp", options=("NET_VENDOR_REALTEK", "8139CP"), burst=64),
    Model(name="vmxnet3", device="vmxnet3", driver="vmxnet3", options=("VMXNET3", "PCI_MSI"), queues=8,
          wrong_offloads=("tso",)),
    Model(name="pcnet", device="pcnet", driver="pcnet32", options=("NET_VENDOR_AMD", "PCNET32"), burst=32),
    Model(name="i82557b", device="i82557b", driver="e100", options=("NET_VENDOR_INTEL", "E100"),
          tells_carrier=False, burst=256),
    Model(name="ne2k_pci", device="ne2k_pci", driver="ne2k-pci", tells_carrier=False, burst=8,
          options=("NET_VENDOR_NATSEMI", "NET_VENDOR_8390", "NE2K_PCI")),
    Model(name="tulip", device="tulip", driver="tulip", options=("NET_VENDOR_DEC", "NET_TULIP", "TULIP"),
          boot_rom=False, tells_carrier=False),
    Model(name="usb-net", device="usb-net", driver="cdc_ether", boot_rom=False, bus=USB, tells_carrier=False,
          options=("USB_SUPPORT", "USB", "USB_PCI", "USB_XHCI_HCD", "USB_NET_DRIVERS", "USB_USBNET",
                   "USB_NET_CDCETHER")),
    Model(name="rocker", device="rocker", driver="rocker", boot_rom=False, bus=SWITCH,
          options=("BRIDGE", "NET_SWITCHDEV", "NET_VENDOR_ROCKER", "ROCKER")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A network card of a machine.

    Attributes:
        name: its name in the lab, and its interface's name in the guest.
        link: the link it is plugged into; unplugged otherwise.
        model: a row of the table of models.
        mac: its address; made from the machine's name and its own otherwise, see `mac_of`.
        properties: more properties of the QEMU device, as in `mq=on`.
        hotplug: it sits in a slot of its own, from which it can be unplugged while the machine runs.
    """

    name: str
    link: str | None = None
    model: str = DEFAULT_MODEL
    mac: str | None = None
    properties: tuple[str, ...] = ()
    hotplug: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What NICs are plugged into: a cable where it has two ends, a shared segment where it has more.

    Attributes:
        name: what NICs call it.
        loss: the share of frames that are lost at each end, 0 to 1.
        delay: seconds that a frame is under way.
        mtu: of the NICs on it; theirs where 0. For those who configure guests; the link itself carries any size.
    """

    name: str
    loss: float = 0.0
    delay: float = 0.0
    mtu: int = 0


def models() -> tuple[Model, ...]:
    """Every model the table has. Which of them a QEMU and a kernel have, `why_not` says."""
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


def parse_devices(listing: str) -> frozenset[str]:
    """The devices and their aliases that the output of QEMU's `-device help` lists."""
    return frozenset(re.findall(r'(?:name|alias) "([^"]+)"', listing))


def why_not(row: Model, devices: Collection[str], lacking: Sequence[str]) -> str:
    """Why a run cannot have NICs of a model; empty where it can.

    Args:
        devices: what this QEMU emulates, from `parse_devices`.
        lacking: those of its options that the kernel does not have.
    """
    if row.device not in devices:
        return f"this QEMU has no {row.device}"
    if lacking:
        return f"the kernel lacks {', '.join(f'CONFIG_{option}' for option in lacking)}"
    return ""


def mac_of(machine: str, nic: str) -> str:
    """A MAC address made from names, the same in every run.

    Locally administered and unicast (second-least and least significant bit of the first octet: 1 and 0).
    """
    digest = hashlib.sha256(f"{machine}/{nic}".encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x52, 0x54, *digest[:4]))


def switch_mac(machine: str) -> str:
    """The address of the first port of a machine's switch; the others count on from there (fp_port_alloc() in QEMU)."""
    return f"{mac_of(machine, SWITCH)[:-2]}00"


def addresses(machine: str, cards: Sequence[Nic]) -> dict[str, str]:
    """By name, the MAC address that the guest sees of each card, in lower case as sysfs has it."""
    found: dict[str, str] = {}
    ports = 0
    for card in cards:
        row = model(card.model)
        address = (card.mac or mac_of(machine, card.name)).lower()
        if row.bus == SWITCH:
            address, ports = f"{switch_mac(machine)[:-2]}{ports:02x}", ports + 1
        found[card.name] = address
    return found


def check_cards(machine: str, cards: Sequence[Nic]) -> None:
    """Refuse cards that no machine can have.

    Raises:
        UsageError: an odd name, an unknown model, two with one name or address, a switch's port that says what only a
            card of its own can be.
    """
    for card in cards:
        check_name(card.name)
        if model(card.model).bus == SWITCH and (card.mac or card.properties or card.hotplug):
            raise UsageError(f"NIC {card.name} is a port of a switch: it has no address, properties or slot of its own",
                             where=f"machine {machine}")
    names = [card.name for card in cards]
    if len(set(names)) < len(names) or len(set(addresses(machine, cards).values())) < len(names):
        raise UsageError("two NICs share a name or an address", where=f"machine {machine}")


def check_name(name: str) -> None:
    """Refuse what Linux refuses as an interface's name, or what would break a command line (dev_valid_name()).

    Raises:
        UsageError: it is empty, too long, taken, or has odd characters.
    """
    if not name or len(name) > _NAME_MAX or not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"not a name for a NIC: {name!r}",
                         hint=f"1 to {_NAME_MAX} letters, digits, '-' and '_'")
    if _TAKEN.fullmatch(name):
        raise UsageError(f"the name {name!r} is taken in every guest, or may be before ours are given")
