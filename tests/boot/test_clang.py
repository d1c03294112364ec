# SPDX-License-Identifier: GPL-2.0-only
"""Slow: a whole kernel by another compiler and linker than the default, booted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.arch import native
from harness.deadline import Deadline
from harness.jobs import builds
from harness.jobs.inputs import resolve
from harness.plan.plan import Variant, read_plan
from harness.report.progress import Progress
from harness.store.store import Store
from harness.vm import accel
from tests.boot.conftest import BOOT
from tests.conftest import PLAN, ROOT

pytestmark = pytest.mark.slow


def test_a_kernel_by_clang_and_lld_boots(store: Store, progress: Progress, bare_rootfs: Path) -> None:
    tiny = Variant(name="tiny", fragments=(ROOT / "kernel-configs" / f"qemu-{native().name}.config",))
    plan = replace(read_plan(PLAN), cc="clang-14", variants=(tiny,), claims=(), suites=(), control="")
    inputs = resolve(plan, Deadline.after(60), store=store)
    config = builds.configure(inputs, "base", "tiny", store=store, progress=progress)
    assert (config.value("CC_IS_CLANG"), config.value("LD_IS_LLD")) == ("y", "y")
    built = builds.build(inputs, "base", config, store=store, progress=progress)
    assert b"clang version 14." in built.vmlinux.read_bytes()
    accel.bare_boot(built.image, bare_rootfs, arch=native(), accel="tcg", deadline=Deadline.after(BOOT))
