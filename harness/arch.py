# SPDX-License-Identifier: GPL-2.0-only
"""What differs between architectures, one row each: names for make, for Debian, for QEMU, and the console.

Sources: the kernel's `Makefile` (SUBARCH) and `arch/*/Makefile`, Debian's architecture names
(dpkg-architecture(1)), QEMU's `docs/system/target-*.rst`.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import PurePosixPath

from harness.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Arch:
    """One architecture.

    Attributes:
        name: what plans and messages call it; also what `uname -m` says on it.
        make_arch: the kernel's `ARCH=`.
        image: what to boot, below the build's output folder.
        image_target: what makes it, as an argument of make.
        debian: Debian's name for it.
        multiarch: the folder of its shared libraries below `/usr/lib`.
        qemu: the system emulator.
        machine: its `-machine`.
        cpus: its `-cpu` by accelerator.
        console: the guest's device of the first serial port, as in `console=`.
        console_args: words of the kernel command line that make this console speak early.
        boot_args: words of the kernel command line that an emulated machine on a busy host needs.
    """

    name: str
    make_arch: str
    image: PurePosixPath
    image_target: str
    debian: str
    multiarch: str
    qemu: str
    machine: str
    cpus: tuple[tuple[str, str], ...]
    console: str
    console_args: tuple[str, ...]
    boot_args: tuple[str, ...]

    def cpu(self, accel: str) -> str:
        """The `-cpu` that goes with accelerator `accel`."""
        return dict(self.cpus)[accel]


_ROWS = (
    Arch(
        name="x86_64",
        make_arch="x86_64",
        image=PurePosixPath("arch/x86/boot/bzImage"),
        image_target="bzImage",
        debian="amd64",
        multiarch="x86_64-linux-gnu",
        qemu="qemu-system-x86_64",
        machine="q35",
        cpus=(("kvm", "host"), ("tcg", "qemu64")),
        console="ttyS0",
        console_args=("console=ttyS0,115200", "earlyprintk=ttyS0,115200"),
        # Where QEMU's CPU gets too little of the host, the kernel's check that timer interrupts arrive within 10
        # ticks panics: "IO-APIC + timer doesn't work!" (timer_irq_works() in arch/x86/kernel/apic/io_apic.c).
        # Its guest then also reports stalls that are the host's: 45 s in place of 21 s for RCU and 40 s in place of
        # 20 s for the soft lockup detector (kernel/rcu/update.c, kernel/watchdog.c) leave it some air.
        boot_args=("no_timer_check", "rcupdate.rcu_cpu_stall_timeout=45", "watchdog_thresh=20"),
    ),
)


def names() -> tuple[str, ...]:
    """The architectures that are known."""
    return tuple(row.name for row in _ROWS)


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
    return get(platform.machine())
