# SPDX-License-Identifier: GPL-2.0-only
"""Pure: what a machine is, to QEMU's argv and the guest's kernel command line.

All sockets between us and QEMU, and between one machine's NIC and another's, are socket pairs whose ends QEMU
inherits: no ports, no paths (limited to 107 bytes, left behind), nothing to race for, nobody else can connect.
Source of the options: qemu-system(1); `fd=` of `-chardev socket` and `local.type=fd` of `-netdev dgram` in
QEMU's `qapi/sockets.json` and `net/dgram.c`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.arch import Arch, native
from harness.errors import UsageError
from harness.vm import nic as nics
from harness.vm import tsc
from harness.vm.nic import Nic

CONTROL_PORT = "harness.control"
MGMT = "mgmt"
GUEST_ADDRESS = "100.127.255.15"
_MGMT_NET = "100.127.255.0/24"
_MGMT_PREFIX = 24
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

_NO_SPARE_DEVICES = ("dummy.numdummies=0", "ifb.numifbs=0")
"""Interfaces that drivers make at boot though nobody asked (`drivers/net/dummy.c`, `drivers/net/ifb.c`)."""

_BY_ARCH = {"x86_64": ("unknown_nmi_panic",)}
"""An NMI that nobody knows is ours, sent to a kernel that hangs (`harness.vm.hang`): a panic says where it hangs."""

_BY_ACCEL = {"tcg": ("norandmaps",)}
"""TCG finds a translated block by its virtual address as well. Where each program is mapped elsewhere
(`randomize_va_space` in `mm/memory.c`) all its code is translated again: `ip link` then takes 30 ms, not 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """A machine to boot.

    Attributes:
        name: its name in the lab; letters, digits and `-`.
        kernel: the image to boot.
        initrd: cpio archives, unpacked one over the other.
        arch: its architecture.
        accel: `tcg` or `kvm`, see `harness.vm.accel`.
        memory_mib: memory in MiB.
        cpus: virtual CPUs.
        nics: network cards besides the management NIC, which every machine has.
        append: words for the kernel command line.
        qemu_args: words for QEMU's.
        gdb: whether QEMU listens for a debugger; the kernel is then where its symbols say (`nokaslr`).
    """

    name: str
    kernel: Path
    initrd: tuple[Path, ...]
    arch: Arch = field(default_factory=native)
    accel: str = "tcg"
    memory_mib: int = 512
    cpus: int = 1
    nics: tuple[Nic, ...] = ()
    append: tuple[str, ...] = ()
    qemu_args: tuple[str, ...] = ()
    gdb: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """File descriptors that QEMU inherits.

    Attributes:
        qmp: a stream socket for the monitor.
        console: a stream socket for the serial console.
        control: a stream socket for the guest's port `harness.control`.
        links: by a NIC's name, the datagram socket of its link.
        gdb: a listening socket for debuggers.
        resets: the file in which QEMU notes each reset of a CPU, with its registers.
    """

    qmp: int
    console: int
    control: int
    links: Mapping[str, int]
    gdb: int | None = None
    resets: Path | None = None

    @property
    def fds(self) -> tuple[int, ...]:
        return (self.qmp, self.console, self.control, *self.links.values(), *_given(self.gdb))


def _given(fd: int | None) -> tuple[int, ...]:
    return () if fd is None else (fd,)


def check(spec: MachineSpec) -> None:
    """Refuse a machine that could not be.

    Raises:
        UsageError: its name or a NIC is odd (`nic.check_cards`), a file is missing.
    """
    if not spec.name.replace("-", "").isalnum():
        raise UsageError(f"not a name for a machine: {spec.name!r}", hint="letters, digits and '-'")
    nics.check_cards(spec.name, spec.nics)
    for path in (spec.kernel, *spec.initrd):
        if not path.is_file():
            raise UsageError(f"no such file: {path}", where=f"machine {spec.name}")


def cmdline(spec: MachineSpec) -> str:
    """The kernel command line: console, what to do on a panic (reset at once, which ends QEMU), what init needs."""
    words = [*spec.arch.console_args, *spec.arch.boot_args, "panic=-1", *_BY_ARCH.get(spec.arch.name, ()),
             *_BY_ACCEL.get(spec.accel, ()), *_clock(spec), *_NO_SPARE_DEVICES, f"harness.name={spec.name}"]
    mgmt = nics.mac_of(spec.name, MGMT)
    words.append(f"harness.mgmt={mgmt},{GUEST_ADDRESS}/{_MGMT_PREFIX}")
    words += [f"harness.nic={address},{name}" for name, address in nics.addresses(spec.name, spec.nics).items()]
    return " ".join([*words, *(("nokaslr",) if spec.gdb else ()), *spec.append])


def _clock(spec: MachineSpec) -> tuple[str, ...]:
    """What spares a kernel of x86 to measure its time stamp counter (`harness.vm.tsc`)."""
    khz = tsc.khz() if spec.accel == "tcg" and spec.arch.srcarch == "x86" else None
    return (f"tsc_early_khz={khz}",) if khz else ()


def argv(spec: MachineSpec, wiring: Wiring, initrd: Path | None) -> tuple[str, ...]:
    """QEMU's argv for `spec`, with `initrd` as its one initial ramdisk."""
    return (
        *base_argv(spec, initrd),
        "-chardev", f"socket,id=qmp,fd={wiring.qmp}",
        "-mon", "chardev=qmp,mode=control",
        "-chardev", f"socket,id=console,fd={wiring.console}",
        "-serial", "chardev:console",
        "-chardev", f"socket,id=control,fd={wiring.control}",
        "-device", "virtio-serial-pci",
        "-device", f"virtserialport,chardev=control,name={CONTROL_PORT}",
        "-netdev", _mgmt_backend(),
        "-device", f"virtio-net-pci,netdev={MGMT},mac={nics.mac_of(spec.name, MGMT)},romfile=",
        "-object", "rng-random,id=rng,filename=/dev/urandom",
        "-device", "virtio-rng-pci,rng=rng",
        *_nic_args(spec, wiring.links),
        *(word for fd in _given(wiring.gdb) for word in (
            "-chardev", f"socket,id=gdb,fd={fd},server=on,wait=off", "-gdb", "chardev:gdb")),
        *(("-d", "cpu_reset", "-D", str(wiring.resets)) if wiring.resets else ()),
        *spec.qemu_args,
    )


def base_argv(spec: MachineSpec, initrd: Path | None) -> tuple[str, ...]:
    """The part of `argv` that makes a machine without any device."""
    return (
        spec.arch.qemu,
        "-name", f"harness-{spec.name}",
        "-nodefaults", "-no-user-config", "-no-reboot",
        "-display", "none",
        "-sandbox", _SANDBOX,
        "-machine", spec.arch.machine,
        "-accel", spec.accel,
        "-cpu", spec.arch.cpu(spec.accel),
        "-smp", str(spec.cpus),
        "-m", f"{spec.memory_mib}M",
        "-kernel", str(spec.kernel),
        *(("-initrd", str(initrd)) if initrd else ()),
        "-append", cmdline(spec),
    )


def _mgmt_backend() -> str:
    """User networking that leads nowhere but from a free port of the host's loopback to the guest's SSH server."""
    return f"user,id={MGMT},restrict=on,ipv6=off,net={_MGMT_NET},hostfwd=tcp:127.0.0.1:0-{GUEST_ADDRESS}:22"


def device(spec: MachineSpec, nic: Nic) -> dict[str, str]:
    """A card as the properties of its QEMU device, for `-device` and for the monitor's `device_add` alike."""
    model, index = nics.model(nic.model), spec.nics.index(nic)
    address = nics.addresses(spec.name, spec.nics)[nic.name]
    placed = {"bus": "usb.0"} if model.bus == nics.USB else {"bus": _slot(nic)} if nic.hotplug else {}
    more = dict(words.split("=", 1) for words in (*model.properties, *nic.properties))
    return {"driver": model.device, "id": nic.name, "netdev": f"nic{index}", "mac": address, **placed,
            **({"romfile": ""} if model.boot_rom else {}), **more}


def _slot(nic: Nic) -> str:
    return f"slot-{nic.name}"


def _nic_args(spec: MachineSpec, links: Mapping[str, int]) -> Iterator[str]:
    models = {nic.name: nics.model(nic.model) for nic in spec.nics}
    if any(model.bus == nics.USB for model in models.values()):
        yield from ("-device", "qemu-xhci,id=usb")
    for index, nic in enumerate(spec.nics):
        backend = (f"dgram,id=nic{index},local.type=fd,local.str={links[nic.name]}" if nic.name in links
                   else f"hubport,id=nic{index},hubid={index}")
        yield from ("-netdev", backend)
        # A device on the root bus of q35 cannot be unplugged (QEMU's docs/pcie.txt): one that may be has a port.
        if nic.hotplug and models[nic.name].bus == nics.PCI:
            yield from ("-device", f"pcie-root-port,id={_slot(nic)},chassis={index + 1},slot={index + 1}")
        if models[nic.name].bus != nics.SWITCH:
            properties = device(spec, nic)
            yield from ("-device", ",".join([properties.pop("driver"),
                                             *(f"{name}={value}" for name, value in properties.items())]))
    ports = [index for index, nic in enumerate(spec.nics) if models[nic.name].bus == nics.SWITCH]
    if ports:
        # QEMU 6.2 to 8.1 set a device's properties in no order, and an array needs its length before its elements:
        # what is global is set first. (From 8.2 on arrays are lists, and only in JSON.)
        yield from ("-global", f"rocker.len-ports={len(ports)}")
        yield from ("-device", ",".join([f"rocker,name=sw1,fp_start_macaddr={nics.switch_mac(spec.name)}",
                                         *(f"ports[{port}]=nic{index}" for port, index in enumerate(ports))]))
