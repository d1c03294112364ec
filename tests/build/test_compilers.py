# SPDX-License-Identifier: GPL-2.0-only
"""Slow: objects of real trees by other compilers than the default, for the host's architecture and for another."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.jobs import builds
from harness.jobs.inputs import resolve
from harness.kernel import partial
from harness.plan.plan import read_plan
from harness.report.progress import Progress
from harness.store.store import Store
from tests.build.conftest import Edit, PlanMaker
from tests.build.test_configuring import DUMMY

pytestmark = pytest.mark.slow

OBJECTS = ("lib/percpu-refcount.o", "init/main.o")


def made(plan: Path, store: Store, progress: Progress) -> tuple[str, Path]:
    """The first line of the compiler's version, and a folder with the objects that it made."""
    inputs = resolve(read_plan(plan), Deadline.after(60), store=store)
    config = builds.configure(inputs, "base", "none", store=store, progress=progress)
    out = partial.objects(inputs.trees["base"], config, OBJECTS, arch=inputs.arch, toolchain=inputs.toolchain,
                          store=store, deadline=Deadline.after(900))
    return inputs.toolchain.cc_version, out


@pytest.mark.parametrize(("cc", "arch", "machine", "says"), [
    ("gcc-11", "x86_64", "Advanced Micro Devices X86-64", r"gcc-11 \(Debian 11\.\d+\.\d+-\d+\) 11\."),
    ("gcc", "i386", "Intel 80386", r"gcc \(Debian 12\."),
    ("gcc", "arm64", "AArch64", r"aarch64-linux-gnu-gcc \(Debian 12\."),
    ("clang-14", "x86_64", "Advanced Micro Devices X86-64", r"Debian clang version 14\."),
    ("clang-14", "i386", "Intel 80386", r"Debian clang version 14\."),
    ("clang-14", "arm64", "AArch64", r"Debian clang version 14\."),
])
def test_the_plans_compiler_made_the_objects(make_plan: PlanMaker, patch_of: Edit, store: Store, progress: Progress,
                                             cc: str, arch: str, machine: str, says: str) -> None:
    patch_of(*DUMMY)
    version, out = made(make_plan("[qemu]", more=f"cc: {cc}\narch: {arch}\n"), store, progress)
    assert re.match(says, version)
    for name in OBJECTS:
        header = subprocess.run(["readelf", "-h", "-p", ".comment", str(out / name)], capture_output=True, text=True,
                                check=True).stdout
        assert machine in header
        # what the compiler says of itself in the object is what was recorded of it
        assert version.rpartition(")")[2].strip() in header
