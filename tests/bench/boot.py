# SPDX-License-Identifier: GPL-2.0-only
"""From QEMU's start to the answer of the first SSH command, beside a bare boot of the same kernel."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from harness.arch import native
from harness.deadline import Deadline
from harness.guest import rootfs
from harness.vm.accel import bare_boot
from harness.vm.machine import boot
from harness.vm.qemu import MachineSpec
from tests.bench.lab import Lab, Part, Rows


def measure(lab: Lab) -> Rows:
    """QEMU's start to a bare busybox init, and to the answer of the first SSH command: in turns, same kernel, TCG."""
    bare, ssh = [], []
    image, userland = lab.kernel("patched", "both").image, lab.userland
    with tempfile.TemporaryDirectory() as name:
        small = Path(name) / "bare.cpio"
        rootfs.build_bare_rootfs(small, deadline=Deadline.after(300))
        for number in range(lab.runs):
            bare.append(bare_boot(image, small, arch=native(), accel="tcg", deadline=Deadline.after(120)))
            spec = MachineSpec(name="guest", kernel=image, initrd=(userland,), memory_mib=256)
            started = time.monotonic()
            with boot(spec, Path(name) / str(number), deadline=Deadline.after(120)) as machine:
                machine.run("true")
                ssh.append(time.monotonic() - started)
    first, second = statistics.median(bare), statistics.median(ssh)
    return [("QEMU start to a bare busybox init", f"{first:.2f} s",
             f"median of {lab.runs}, in turns with the next row"),
            ("QEMU start to the first SSH command's answer", f"{second:.2f} s",
             f"{second / first:.2f} times the bare boot (wanted: at most 1.7)")]


PART = Part(name="boot", what="One machine under TCG, 256 MiB, the patched kernel of variant `both`.",
            takes="a minute", measure=measure)
