# SPDX-License-Identifier: GPL-2.0-only
"""Which accelerator really boots Linux here.

`/dev/kvm` may exist, open, answer `query-kvm` and run a small ROM, and still not boot a kernel: the guest hangs
without a word, or QEMU aborts in `kvm_buf_set_msrs`. Only a Linux that came up to userspace under KVM proves KVM.
An abort and a hang alike mean no; the verdict is kept for as long as nothing it hangs on changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from harness import proc
from harness.arch import Arch, native
from harness.deadline import Deadline
from harness.errors import DeadlineExpired, HarnessError, InfraError, UsageError
from harness.guest.rootfs import BARE_MARKER
from harness.vm import console, qemu, user
from harness.vm.qemu import MachineSpec

NAMES = ("kvm", "tcg")
_DEVICE = Path("/dev/kvm")
_PATIENCE = 15.0
"""Seconds that a kernel has to reach userspace under KVM; under TCG, which is slower, it takes 2 to 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accel:
    """An accelerator, and why it was chosen.

    Attributes:
        name: `kvm` or `tcg`, as in QEMU's `-accel`.
        reason: for people.
    """

    name: str
    reason: str


def choose(kernel: Path, bare_initrd: Path, *, cache: Path, deadline: Deadline, override: str | None = None,
           arch: Arch | None = None, progress: Callable[[str], None] = lambda _: None) -> Accel:
    """The fastest accelerator that boots `kernel`: what `override` says, else the cached verdict, else a probe's.

    Args:
        kernel: the image to boot.
        bare_initrd: from `build_bare_rootfs`.
        cache: a file that keeps verdicts; a damaged one is as good as none.
        deadline: bounds the probe, which takes 15 s at most.

    Raises:
        UsageError: `override` is not an accelerator.
        InfraError: QEMU is not installed.
        DeadlineExpired: `deadline` came before the probe's own limit.
    """
    if override is not None:
        if override not in NAMES:
            raise UsageError(f"unknown accelerator {override!r}", hint=f"known: {', '.join(NAMES)}")
        return Accel(name=override, reason="asked for")
    arch = arch or native()
    key = _key(kernel, arch, deadline)
    known = _load(cache)
    if key in known:
        return known[key]
    progress("finding out whether KVM boots a Linux kernel here")
    verdict = probe(kernel, bare_initrd, arch=arch, deadline=deadline)
    _save(cache, key, verdict)
    return verdict


def probe(kernel: Path, bare_initrd: Path, *, arch: Arch, deadline: Deadline) -> Accel:
    """Boot `kernel` to userspace under KVM; `tcg` and what went wrong where it does not get there.

    Raises:
        DeadlineExpired: `deadline` came before the probe's own limit.
    """
    if not _DEVICE.exists():
        return Accel(name="tcg", reason=f"there is no {_DEVICE}")
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return Accel(name="tcg", reason=f"{_DEVICE} may not be opened (is the user in the group kvm?)")
    if platform.machine() not in arch.kvm_hosts:
        return Accel(name="tcg", reason=f"KVM does not run {arch.name} on this host")
    try:
        seconds = bare_boot(kernel, bare_initrd, arch=arch, accel="kvm", deadline=deadline.within(_PATIENCE))
    except HarnessError as error:
        # The caller's own time may be up before a kernel's: that says nothing of KVM, and must not be kept.
        deadline.check("finding out whether KVM boots Linux")
        return Accel(name="tcg", reason=f"KVM does not boot Linux here: {_short(error)}")
    return Accel(name="kvm", reason=f"a Linux kernel reached userspace under KVM in {seconds:.1f} s")


def bare_boot(kernel: Path, bare_initrd: Path, *, arch: Arch, accel: str, deadline: Deadline) -> float:
    """Boot to the first words of a bare userspace; the seconds from starting QEMU to there.

    Raises:
        KernelError: the kernel reported something, or ended.
        InfraError: QEMU ended by itself.
        DeadlineExpired: it did not get there in time.
    """
    spec = MachineSpec(name="bare", kernel=kernel, initrd=(bare_initrd,), arch=arch, accel=accel)
    started = Deadline.after(0).at
    with tempfile.TemporaryDirectory(prefix="harness-accel-") as name, ExitStack() as stack:
        work = Path(name)
        ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
        view = stack.enter_context(console.drained(ours, spec.name, work / "console.log"))
        marker = stack.enter_context(view.watch(re.escape(BARE_MARKER)))
        image, initrd = user.inherited(stack, kernel), user.inherited(stack, bare_initrd)
        argv = (*qemu.base_argv(replace(spec, kernel=user.path_of(image)), user.path_of(initrd)),
                "-chardev", f"socket,id=console,fd={theirs.fileno()}", "-serial", "chardev:console")
        process = stack.enter_context(proc.spawn(argv, log=work / "qemu.log", user=user.here(accel),
                                                 pass_fds=(theirs.fileno(), image.fileno(), initrd.fileno())))
        theirs.close()
        view.vitals.explain_end_with(lambda: _ended(process, work / "qemu.log"))
        marker.wait(deadline)
        seconds = Deadline.after(0).at - started
        view.vitals.expect_end()
        process.kill()
    return seconds


def parse_cpu_model(cpuinfo: str) -> str:
    """The CPU's name in `/proc/cpuinfo`; empty where it has none."""
    match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return match[1].strip() if match else ""


def _ended(process: proc.Process, log: Path) -> HarnessError:
    code = process.wait(Deadline.after(2))
    words = log.read_text(errors="replace").strip().splitlines()
    return InfraError(f"QEMU ended with {'exit code' if code >= 0 else 'signal'} {abs(code)}",
                      detail=tuple(words[-3:]))


def _short(error: HarnessError) -> str:
    if isinstance(error, DeadlineExpired):
        said = f"; it last said: {error.detail[-1]}" if error.detail else " and printed nothing"
        return f"userspace was not reached within {_PATIENCE:g} s{said}"
    return "; ".join((error.what, *error.detail[-1:]))


def verdict_key(*, boot_id: str, qemu_version: str, cpu: str, kernel_sha256: str, usable: bool) -> str:
    """What a verdict is kept under: it holds while all of these stay the same. `usable`: KVM's device may be opened."""
    parts = (boot_id, qemu_version, cpu, kernel_sha256, str(usable))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _key(kernel: Path, arch: Arch, deadline: Deadline) -> str:
    return verdict_key(
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        qemu_version=proc.run([arch.qemu, "--version"], deadline=deadline).stdout.splitlines()[0],
        cpu=parse_cpu_model(Path("/proc/cpuinfo").read_text()),
        kernel_sha256=hashlib.sha256(kernel.read_bytes()).hexdigest(), usable=os.access(_DEVICE, os.R_OK | os.W_OK))


def _load(cache: Path) -> dict[str, Accel]:
    try:
        rows = json.loads(cache.read_text())
        return {key: Accel(name=row["name"], reason=row["reason"]) for key, row in rows.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _save(cache: Path, key: str, verdict: Accel) -> None:
    rows = {key: verdict, **_load(cache)}
    text = json.dumps({key: {"name": row.name, "reason": row.reason} for key, row in rows.items()}, indent=1)
    cache.parent.mkdir(parents=True, exist_ok=True)
    fresh = cache.with_name(f"{cache.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.replace(cache)
