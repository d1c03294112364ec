# SPDX-License-Identifier: GPL-2.0-only
"""What differs between architectures, one row each: names for make, for Debian, for QEMU, and the console.

A further architecture is a further row, and a fragment `kernel-configs/qemu-<name>.config`. Sources: the kernel's
`Makefile` (SUBARCH, SRCARCH) and `arch/*/Makefile`, Debian's architecture names (dpkg-architecture(1)) and cross
compilers, QEMU's `docs/system/target-*.rst`, the System V ABI supplements for the names of dynamic loaders.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import PurePosixPath

from harness.errors import UsageError
from harness.host import Package


@dataclass(frozen=True, slots=True, kw_only=True)
class Arch:
    """One architecture.

    Attributes:
        name: what plans and messages call it.
        machines: what `uname -m` says on it.
        make_arch: the kernel's `ARCH=`.
        srcarch: its folder below the kernel's `arch/`.
        gnu: the triplet that its cross compiler's programs begin with.
        builders: machines (`uname -m`) whose own compiler and binutils make its kernels.
        image: what to boot, below the build's output folder.
        image_target: what makes it, as an argument of make.
        debian: Debian's name for it.
        multiarch: the folder of its shared libraries below `/usr/lib`.
        loader: the dynamic loader that its programs name.
        qemu: the system emulator.
        qemu_package: the Debian package that brings it.
        machine: its `-machine`.
        cpus: its `-cpu` by accelerator.
        kvm_hosts: machines (`uname -m`) whose KVM can run its guests.
        console: the guest's device of the first serial port, as in `console=`.
        console_args: words of the kernel command line that make this console speak early.
        boot_args: words of the kernel command line that an emulated machine on a busy host needs.
    """

    name: str
    machines: tuple[str, ...]
    make_arch: str
    srcarch: str
    gnu: str
    builders: tuple[str, ...]
    image: PurePosixPath
    image_target: str
    debian: str
    multiarch: str
    loader: PurePosixPath
    qemu: str
    qemu_package: str
    machine: str
    cpus: tuple[tuple[str, str], ...]
    kvm_hosts: tuple[str, ...]
    console: str
    console_args: tuple[str, ...]
    boot_args: tuple[str, ...]

    def cpu(self, accel: str) -> str:
        """The `-cpu` that goes with accelerator `accel`."""
        return dict(self.cpus)[accel]

    def cross(self, host: str) -> str:
        """What programs of its toolchain begin with on a `host` (`uname -m`): empty where the host's own will do."""
        return "" if host in self.builders else f"{self.gnu}-"

    @property
    def emulator(self) -> Package:
        """What a host needs to run its machines."""
        return Package(name=self.qemu_package, probes=(self.qemu,), why=f"machines of {self.name}")

    def compiler(self, host: str) -> Package | None:
        """What a `host` (`uname -m`) needs to build its kernels besides its own compiler; None where that will do."""
        prefix = self.cross(host)
        return Package(name=f"gcc-{self.gnu.replace('_', '-')}", probes=(f"{prefix}gcc", f"{prefix}ld"),
                       why=f"kernels for {self.name}") if prefix else None


_PATIENCE = ("rcupdate.rcu_cpu_stall_timeout=45", "watchdog_thresh=20")
"""Where QEMU's CPU gets too little of the host, its guest reports stalls that are the host's: 45 s in place of 21 s
for RCU and 40 s in place of 20 s for the soft lockup detector (kernel/rcu/update.c, kernel/watchdog.c) leave it some
air."""

_PC_CONSOLE = ("console=ttyS0,115200", "earlyprintk=ttyS0,115200")
_PC_BOOT = ("no_timer_check", *_PATIENCE)
"""On that busy host the kernel's check that timer interrupts arrive within 10 ticks panics: "IO-APIC + timer doesn't
work!" (timer_irq_works() in arch/x86/kernel/apic/io_apic.c)."""

_ROWS = (
    Arch(
        name="x86_64", machines=("x86_64",), make_arch="x86_64", srcarch="x86",
        gnu="x86_64-linux-gnu", builders=("x86_64",),
        image=PurePosixPath("arch/x86/boot/bzImage"), image_target="bzImage",
        debian="amd64", multiarch="x86_64-linux-gnu", loader=PurePosixPath("lib64/ld-linux-x86-64.so.2"),
        qemu="qemu-system-x86_64", qemu_package="qemu-system-x86", machine="q35",
        cpus=(("kvm", "host"), ("tcg", "qemu64")), kvm_hosts=("x86_64",),
        console="ttyS0", console_args=_PC_CONSOLE, boot_args=_PC_BOOT,
    ),
    Arch(
        name="i386", machines=("i386", "i486", "i586", "i686"), make_arch="i386", srcarch="x86",
        # gcc of x86_64 knows -m32, which arch/x86/Makefile gives it; a kernel needs no 32-bit C library
        gnu="i686-linux-gnu", builders=("x86_64", "i386", "i486", "i586", "i686"),
        image=PurePosixPath("arch/x86/boot/bzImage"), image_target="bzImage",
        debian="i386", multiarch="i386-linux-gnu", loader=PurePosixPath("lib/ld-linux.so.2"),
        qemu="qemu-system-i386", qemu_package="qemu-system-x86", machine="q35",
        cpus=(("kvm", "host"), ("tcg", "qemu32")), kvm_hosts=("x86_64", "i386", "i486", "i586", "i686"),
        console="ttyS0", console_args=_PC_CONSOLE, boot_args=_PC_BOOT,
    ),
    Arch(
        name="arm64", machines=("aarch64",), make_arch="arm64", srcarch="arm64",
        gnu="aarch64-linux-gnu", builders=("aarch64",),
        image=PurePosixPath("arch/arm64/boot/Image"), image_target="Image",
        debian="arm64", multiarch="aarch64-linux-gnu", loader=PurePosixPath("lib/ld-linux-aarch64.so.1"),
        qemu="qemu-system-aarch64", qemu_package="qemu-system-arm", machine="virt",
        # not `max`: its pointer authentication and SVE cost TCG time that no test here is about
        cpus=(("kvm", "host"), ("tcg", "cortex-a57")), kvm_hosts=("aarch64",),
        console="ttyAMA0", console_args=("console=ttyAMA0,115200", "earlycon"), boot_args=_PATIENCE,
    ),
)


def names() -> tuple[str, ...]:
    """The architectures that are known."""
    return tuple(row.name for row in _ROWS)


def packages(host: str) -> tuple[Package, ...]:
    """What a `host` (`uname -m`) needs for the architectures besides its own, each once."""
    rows = [row for row in _ROWS if host not in row.machines]
    found = [package for row in rows for package in (row.emulator, row.compiler(host)) if package]
    return tuple({package.name: package for package in found}.values())


def get(name: str) -> Arch:
    """The row of architecture `name`.

    Raises:
        UsageError: there is none of that name; the message lists those there are.
    """
    for row in _ROWS:
        if row.name == name:
            return row
    raise UsageError(f"unknown architecture {name!r}", hint=f"known: {', '.join(names())}")


def native() -> Arch:
    """The row of this host.

    Raises:
        UsageError: the host is of an architecture without a row.
    """
    machine = platform.machine()
    for row in _ROWS:
        if machine in row.machines:
            return row
    raise UsageError(f"this host is of an architecture without a row in harness/arch.py: {machine}",
                     hint=f"known: {', '.join(names())}")
