# SPDX-License-Identifier: GPL-2.0-only
"""Several machines at once beside one: until all answer, and until a whole lab is linked, addressed and reached."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from harness.deadline import Deadline
from harness.lab.bench import up
from harness.lab.shapes import BRIDGE
from harness.vm.machine import boot_all
from harness.vm.qemu import MachineSpec
from tests.bench.lab import Lab, Part, Rows

COUNT = 3


def measure(lab: Lab) -> Rows:
    """From the first start of a QEMU to the last answer, for one machine, three, and the lab `bridge`: in turns."""
    template = MachineSpec(name="guest", kernel=lab.kernel("patched", "both").image, initrd=(lab.userland,),
                           memory_mib=256)
    one, three, whole = [], [], []
    with tempfile.TemporaryDirectory() as name:
        for number in range(lab.runs):
            one.append(_ready(template, 1, Path(name) / f"one-{number}"))
            three.append(_ready(template, COUNT, Path(name) / f"three-{number}"))
            started = time.monotonic()
            with up(BRIDGE, template, Path(name) / f"lab-{number}", deadline=Deadline.after(120),
                    model="virtio-net-pci"):
                whole.append(time.monotonic() - started)
    first, second, third = map(statistics.median, (one, three, whole))
    return [("one machine answers", f"{first:.2f} s", f"median of {lab.runs}, in turns with the next rows"),
            ("three machines answer", f"{second:.2f} s",
             f"{second / first:.2f} times one machine (wanted: at most 2.2)"),
            ("the topology `bridge` is up, on virtio-net-pci", f"{third:.2f} s",
             f"{third / first:.2f} times one machine; all of its addresses have answered")]


def _ready(template: MachineSpec, count: int, folder: Path) -> float:
    """Seconds until so many machines have answered a command each."""
    specs = [MachineSpec(name=f"guest{number}", kernel=template.kernel, initrd=template.initrd,
                         memory_mib=template.memory_mib) for number in range(count)]
    started = time.monotonic()
    with boot_all(specs, folder, deadline=Deadline.after(120)) as machines:
        for machine in machines.values():
            machine.run("true")
        return time.monotonic() - started


PART = Part(name="machines", what="Machines under TCG, 256 MiB each, the patched kernel of variant `both`.",
            takes="a minute", measure=measure)
