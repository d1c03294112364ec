# SPDX-License-Identifier: GPL-2.0-only
"""What a run does with machines: boots each kernel once, runs the suites on it, opens a shell in it."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import proc
from harness.arch import Arch, native
from harness.claims import Row, Verdict
from harness.deadline import Deadline
from harness.errors import KernelError
from harness.guest import apt, rootfs
from harness.jobs import suites
from harness.kernel import kbuild
from harness.kernel.kbuild import Build
from harness.kernel.toolchain import Toolchain
from harness.lab.kernel import Kernel, parse_config
from harness.lab.topology import to_json
from harness.plan.plan import Plan, Suite
from harness.store.store import Store, digest
from harness.vm import accel
from harness.vm import nic as nics
from harness.vm.accel import Accel
from harness.vm.handle import Machine
from harness.vm.machine import boot
from harness.vm.qemu import MachineSpec

_SPARE = 30.0
"""Seconds a booted kernel has for the few commands of the boot check and to power off."""
_USERLAND_SECONDS = 900


def userland(store: Store, arch: Arch, *, progress: Callable[[str], None]) -> Path:
    """The guest's initramfs, made once for the packages that apt offers now.

    Raises:
        InfraError: a package cannot be had.
    """
    deadline = Deadline.after(_USERLAND_SECONDS)
    lists = _lists(store, arch, deadline, progress)

    def make(stage: Path) -> None:
        rootfs.build_rootfs(stage / "initramfs.cpio", arch=arch, lists=lists, deadline=deadline, progress=progress)

    key = digest("rootfs", _rootfs_key(store, arch, lists, deadline))
    return store.get("rootfs", key, make, deadline=deadline, waiting=progress, what=arch.name) / "initramfs.cpio"


def _lists(store: Store, arch: Arch, deadline: Deadline, progress: Callable[[str], None]) -> Path | None:
    """Package lists of another architecture than the host's, as old as the host's own; None for the host's."""
    if arch == native():
        return None

    def make(stage: Path) -> None:
        progress(f"fetching Debian's package lists for {arch.debian}")
        with tempfile.TemporaryDirectory(prefix="harness-apt-") as state:
            apt.fetch_lists(arch, stage, Path(state), deadline=deadline, progress=progress)

    key = digest("apt-lists", arch.debian, apt.host_stamp())
    return store.get("apt", key, make, deadline=deadline, waiting=progress, what=f"package lists of {arch.debian}")


def _rootfs_key(store: Store, arch: Arch, lists: Path | None, deadline: Deadline) -> tuple[str, ...]:
    store.root.mkdir(parents=True, exist_ok=True)
    return rootfs.rootfs_key(arch=arch, lists=lists, memo=store.root / f"apt-resolved-{arch.debian}.json",
                             deadline=deadline)


def accelerator(store: Store, arch: Arch, kernel: Path, *, override: str, progress: Callable[[str], None]) -> Accel:
    """The accelerator for a run: `override`, or the fastest that really boots `kernel` (`harness.vm.accel`)."""
    deadline = Deadline.after(_USERLAND_SECONDS)
    lists = _lists(store, arch, deadline, progress)

    def make(stage: Path) -> None:
        rootfs.build_bare_rootfs(stage / "bare.cpio", arch=arch, lists=lists, deadline=deadline, progress=progress)

    key = digest("bare", _rootfs_key(store, arch, lists, deadline))
    bare = store.get("rootfs", key, make, deadline=deadline, waiting=progress, what=f"bare, {arch.name}") / "bare.cpio"
    return accel.choose(kernel, bare, cache=store.root / "accel.json", deadline=deadline, override=override or None,
                        arch=arch, progress=progress)


def emulated(arch: Arch) -> frozenset[str]:
    """The devices that this host's QEMU emulates for an architecture.

    Raises:
        InfraError: there is no QEMU for it, or it does not say.
    """
    listing = proc.run([arch.qemu, "-machine", "none", "-device", "help"], deadline=Deadline.after(_SPARE)).stdout
    return nics.parse_devices(listing)


def kernel_of(build: Build) -> Kernel:
    """What can be asked about a kernel that was built."""
    config = (build.out / ".config").read_text(encoding="utf-8")
    return Kernel(tree=build.tree, variant=build.variant, config=parse_config(config))


def host_facts() -> dict[str, str]:
    """What a reader of a result must know of the machine it was got on."""
    return {"machine": platform.machine(), "kernel": platform.release(), "python": platform.python_version(),
            "cpus": str(len(os.sched_getaffinity(0))),
            "cpu": accel.parse_cpu_model(Path("/proc/cpuinfo").read_text(encoding="utf-8"))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """Everything but the kernel that a boot needs.

    Attributes:
        rootfs: the guest's initramfs.
        accel: the accelerator, and why.
        out: the run's folder; consoles go below it.
        toolchain: what the kernels were built with.
        source: the folder of a tree, by its name.
        cache: the store's folder.
    """

    plan: Plan
    arch: Arch
    rootfs: Path
    accel: Accel
    out: Path
    toolchain: Toolchain
    source: Callable[[str], Path]
    cache: Path
    progress: Callable[[str], None]

    def why_not(self, model: str, build: Build) -> str:
        """Why a kernel's machines cannot have NICs of a model; empty where they can.

        Raises:
            InfraError: QEMU does not say what it emulates.
        """
        row = nics.model(model)
        return nics.why_not(row, emulated(self.arch), kernel_of(build).lacks(row.options))

    def boot(self, build: Build) -> Row:
        """Boot a kernel to an answer over SSH and shut it down; the row says how long, or the error what went wrong.

        Raises:
            KernelError: it does not boot, or reports something while it does.
            InfraError: QEMU does not start.
        """
        started = time.monotonic()
        with self.machine(build) as machine:
            release = machine.run("uname", "-r").stdout.strip()
            answered = time.monotonic() - started
        if not release:
            raise KernelError("the guest's uname says nothing", where=build.name)
        known = [f"{count} reports known as benign: {reason}" for reason, count in machine.console.hidden.items()]
        said = f"Linux {release} answered over SSH after {answered:.1f} s under {self.accel.name}"
        return Row(kind="boot", id=build.name, variant=build.variant, verdict=Verdict.PASS,
                   evidence="; ".join((said, *known)), seconds=time.monotonic() - started)

    @contextmanager
    def suite(self, suite: Suite, build: Build, nic: str, sides: Mapping[str, Build]) -> Iterator[suites.Running]:
        """Run a suite on a kernel while the block lasts (`suites.started`).

        Args:
            nic: the model of the NICs that do not name one; empty where there are none.
            sides: the kernels of this variant, for topologies that ask for a side.
        """
        folder = self.out / "suites" / f"{build.tree}-{build.variant}" / suite.path.stem / nic
        folder.mkdir(parents=True, exist_ok=True)
        deadline = Deadline.after(self.plan.lab.test_timeout)
        with suites.started(suite, self.session(build, folder, nic, sides), deadline=deadline) as running:
            yield running

    def session(self, build: Build, folder: Path, nic: str, sides: Mapping[str, Build]) -> suites.Session:
        """What tests on a kernel need to know; consoles and results go to `folder`; the rest is as for `suite`."""
        limits = self.plan.lab
        return suites.Session(
            tree=build.tree, variant=build.variant, arch=self.arch.name, image=str(build.image),
            build=build.key, out=str(build.out), source=str(self.source(build.tree)), cc=self.toolchain.cc,
            make_vars=[f"{name}={value}" for name, value in self.toolchain.make_vars], cache=str(self.cache),
            rootfs=str(self.rootfs), memory=limits.memory, cpus=limits.cpus,
            accel=self.accel.name, boot_timeout=limits.boot_timeout, workdir=str(folder),
            results=str(folder / "results.jsonl"), silence=limits.silence,
            benign=str(self.plan.path) if self.plan.benign else "", nic=nic,
            images={side: str(of_side.image) for side, of_side in sides.items()},
            topologies=tuple(map(to_json, self.plan.topologies)))

    @contextmanager
    def machine(self, build: Build) -> Iterator[Machine]:
        """Boot a kernel in one machine for a block.

        Raises:
            KernelError: it does not boot, or reports something until it ends.
            InfraError: QEMU does not start.
        """
        limits = self.plan.lab
        spec = MachineSpec(name="dut", kernel=build.image, initrd=(self.rootfs,), arch=self.arch, accel=self.accel.name,
                           memory_mib=limits.memory, cpus=limits.cpus)
        folder = self.out / "boots" / f"{build.tree}-{build.variant}"
        with boot(spec, folder, deadline=Deadline.after(limits.boot_timeout), ignores=self.plan.benign) as machine:
            yield machine


def known_accel(store: Store, arch: Arch, progress: Callable[[str], None]) -> dict[str, str]:
    """What `harness doctor` says of the accelerator: the verdict of booting a kernel from the cache, if any."""
    kernels = [path for path in sorted(store.root.glob(f"build/*/data/out/{arch.image}"))
               if kbuild.arch_of(path.parents[len(arch.image.parts)]) == arch.name]
    if not kernels:
        return {"accelerator": "unknown",
                "why": "KVM is believed only after it has booted a real Linux: `harness build` one first"}
    found = accelerator(store, arch, kernels[0], override="", progress=progress)
    return {"accelerator": found.name, "why": found.reason}
