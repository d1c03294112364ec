# SPDX-License-Identifier: GPL-2.0-only
"""The detector proves itself: a kernel with every detector on is made to do each thing that must be noticed.

LKDTM (`drivers/misc/lkdtm`) provokes most of them, the rest are provoked from user space. Each provocation has a
machine of its own. That the report comes at once is part of what is tested: a wait on the machine must end within
`AT_ONCE` of the kernel's first word of it, and a silent hang within that of the silence that was asked for.
"""
# ruff: noqa: PT012 - it is the block that fails, somewhere in its body

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import KernelError
from harness.jobs import builds
from harness.jobs.inputs import Inputs, resolve
from harness.kernel import module
from harness.kernel.kbuild import Build
from harness.kernel.tree import prepare
from harness.plan.plan import read_plan
from harness.report.progress import Progress
from harness.store.store import Store
from harness.vm import timeline
from harness.vm.handle import Machine
from harness.vm.klog import Kind
from harness.vm.machine import boot
from harness.vm.qemu import MachineSpec
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

BOOT = 240.0
"""Seconds a boot may take: everything is many times slower with KASAN, under TCG, on a busy host."""
BUILD = 900.0
AT_ONCE = 5.0
SILENCE = 4.0
_WAIT = 90.0
_SLEEP = "sleep 80"
_LEAK = "samples/kmemleak/kmemleak-test.ko"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provocation:
    """Something a kernel is made to do.

    Attributes:
        name: for the test's id.
        script: what does it, in the guest's shell.
        kind, title: of the event it must be.
        append: words for the kernel command line.
    """

    name: str
    script: str
    kind: Kind
    title: str
    append: tuple[str, ...] = ()


def lkdtm(name: str, kind: Kind, title: str, *, key: str = "", before: str = "") -> Provocation:
    crash = f"echo {key or name} > /sys/kernel/debug/provoke-crash/DIRECT"
    return Provocation(name=name, script=f"{before}\n{crash}", kind=kind, title=title)


Modules = dict[str, bytes]

_SYSCTL = "/proc/sys/kernel"
PROVOCATIONS = (
    lkdtm("PANIC", Kind.PANIC, "kernel panic: dumptest"),
    lkdtm("BUG", Kind.BUG, "kernel BUG in lkdtm_BUG"),
    lkdtm("WARNING", Kind.WARNING, "WARNING in lkdtm_WARNING"),
    lkdtm("EXCEPTION", Kind.GPF, "general protection fault in lkdtm_EXCEPTION"),
    lkdtm("EXHAUST_STACK", Kind.OOPS, "BUG: stack guard page was hit in direct_entry"),
    lkdtm("READ_AFTER_FREE", Kind.KASAN, "KASAN: use-after-free Read in lkdtm_READ_AFTER_FREE"),
    lkdtm("SLAB_LINEAR_OVERFLOW", Kind.KASAN, "KASAN: slab-out-of-bounds Write in lkdtm_SLAB_LINEAR_OVERFLOW"),
    lkdtm("CORRUPT_LIST_ADD", Kind.LIST, "BUG: corrupted list in lkdtm_CORRUPT_LIST_ADD"),
    lkdtm("REFCOUNT_SUB_AND_TEST_NEGATIVE", Kind.REFCOUNT,
          "WARNING: refcount bug in lkdtm_REFCOUNT_SUB_AND_TEST_NEGATIVE"),
    Provocation(name="spinlock recursion", script="insmod /provoke.ko", kind=Kind.LOCKDEP,
                title="BUG: spinlock recursion in provoke_init"),
    lkdtm("HUNG_TASK", Kind.HUNG_TASK, "INFO: task hung in direct_entry",
          before=f"echo 3 > {_SYSCTL}/hung_task_timeout_secs"),
    lkdtm("SOFTLOCKUP", Kind.SOFT_LOCKUP, "BUG: soft lockup in direct_entry",
          before=f"echo 3 > {_SYSCTL}/watchdog_thresh"),
    lkdtm("RCU stall", Kind.RCU_STALL, "INFO: rcu detected stall in direct_entry", key="SOFTLOCKUP",
          before=f"echo 0 > {_SYSCTL}/soft_watchdog\necho 4 > /sys/module/rcupdate/parameters/rcu_cpu_stall_timeout"),
    Provocation(name="leak", kind=Kind.LEAK, title="memory leak",
                script="insmod /leak.ko\nrmmod kmemleak_test\nfor _ in 1 2 3; do\nsleep 6\n"
                       "echo scan > /sys/kernel/debug/kmemleak\ndone"),
    Provocation(name="OOM", script="tail /dev/zero", kind=Kind.OOM, title="out of memory"),
    Provocation(name="triple fault", script="echo b > /proc/sysrq-trigger", kind=Kind.REBOOT,
                title="unexpected kernel reboot", append=("reboot=triple",)),
)


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return resolve(read_plan(ROOT / "patches" / "skb-extensions" / "debug.yaml"), Deadline.after(60))


@pytest.fixture(scope="module")
def build(inputs: Inputs, store: Store, progress: Progress) -> Build:
    """The kernel of variant `debug`."""
    config = builds.configure(inputs, "patched", "debug", store=store, progress=progress)
    return builds.build(inputs, "patched", config, store=store, progress=progress)


@pytest.fixture
def spec(build: Build, rootfs: Path) -> MachineSpec:
    return MachineSpec(name="provoked", kernel=build.image, initrd=(rootfs,), memory_mib=512)


@pytest.fixture(scope="module")
def modules(inputs: Inputs, build: Build, store: Store) -> Modules:
    """What a provocation may need besides LKDTM, by its path in the guest."""
    tree = prepare(inputs.trees["patched"], store, deadline=Deadline.after(BUILD))
    ours = module.build(Path(__file__).parent / "provoke", kernel=build.key, tree=tree, out=build.out,
                        arch=inputs.arch, toolchain=inputs.compiling, store=store, deadline=Deadline.after(BUILD))
    return {"/provoke.ko": ours.read_bytes(), "/leak.ko": (build.out / _LEAK).read_bytes()}


def provide(machine: Machine, modules: Modules) -> None:
    machine.shell("mount -t debugfs none /sys/kernel/debug")
    for path, data in modules.items():
        machine.put(path, data)


@pytest.mark.parametrize("provoked", PROVOCATIONS, ids=lambda provoked: provoked.name)
def test_it_is_reported(provoked: Provocation, spec: MachineSpec, modules: Modules, tmp_path: Path) -> None:
    spec = replace(spec, append=provoked.append)
    with (pytest.raises(KernelError) as caught,
          boot(spec, tmp_path, deadline=Deadline.after(BOOT)) as machine):
        provide(machine, modules)
        try:
            machine.shell(f"{provoked.script}\n{_SLEEP}", deadline=Deadline.after(_WAIT))
        finally:
            noticed = datetime.now(UTC)
    assert machine.events, caught.value
    event = machine.events[0]
    assert (event.kind, event.title) == (provoked.kind, provoked.title), caught.value
    assert event.title in caught.value.what
    if event.line:
        came = timeline.parse(timeline.beside(machine.files.console).read_text(encoding="ascii")).at(event.line)
        assert (noticed - came).total_seconds() < AT_ONCE
        assert event.headline in machine.files.console.read_text(errors="replace").splitlines()[event.line - 1] or (
            "cut here" in event.lines[0])
    else:
        assert "by a triple fault" in event.headline


def test_a_silent_hang_is_examined_and_reported(spec: MachineSpec, modules: Modules, tmp_path: Path) -> None:
    with (pytest.raises(KernelError) as caught,
          boot(spec, tmp_path, deadline=Deadline.after(BOOT)) as machine):
        provide(machine, modules)
        with machine.watched(SILENCE):
            started = time.monotonic()
            machine.shell(f"echo HARDLOCKUP > /sys/kernel/debug/provoke-crash/DIRECT\n{_SLEEP}",
                          deadline=Deadline.after(_WAIT))
    took = time.monotonic() - started
    event = machine.events[0]
    assert (event.kind, event.title) == (Kind.SILENCE, "no progress in lkdtm_HARDLOCKUP"), caught.value
    assert SILENCE < took < SILENCE + AT_ONCE
    assert any("interrupts off" in line and "lkdtm_HARDLOCKUP" in line for line in event.lines)
    assert any(frame.function == "lkdtm_HARDLOCKUP" for frame in event.stack)
    assert "RIP=" in (machine.files.hang / "registers.txt").read_text()
    assert any("registers.txt" in line for line in caught.value.detail)


def test_a_late_command_in_a_dead_guest_is_a_hang_of_it(spec: MachineSpec, modules: Modules, tmp_path: Path) -> None:
    with (pytest.raises(KernelError, match="no progress in lkdtm_HARDLOCKUP"),
          boot(spec, tmp_path, deadline=Deadline.after(BOOT)) as machine):
        provide(machine, modules)
        machine.shell("echo HARDLOCKUP > /sys/kernel/debug/provoke-crash/DIRECT", deadline=Deadline.after(SILENCE))
