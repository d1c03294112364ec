# SPDX-License-Identifier: GPL-2.0-only
"""The accelerator is proven by booting Linux with it; what cannot boot is not chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import arch
from harness.deadline import Deadline
from harness.errors import DeadlineExpired, KernelError, UsageError
from harness.vm import accel


def test_the_probe_is_right_about_kvm_and_its_verdict_is_kept(kernel_image: Path, bare_rootfs: Path,
                                                              tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "accel.json"
    said: list[str] = []
    first = accel.choose(kernel_image, bare_rootfs, cache=cache, deadline=Deadline.after(60), progress=said.append)
    assert first.name in accel.NAMES
    assert first.reason
    seconds = accel.bare_boot(kernel_image, bare_rootfs, arch=arch.native(), accel=first.name,
                              deadline=Deadline.after(60))
    assert seconds > 0
    again = accel.choose(kernel_image, bare_rootfs, cache=cache, deadline=Deadline.after(60), progress=said.append)
    assert again == first
    assert len(said) == 1


def test_a_damaged_cache_is_as_good_as_none(kernel_image: Path, bare_rootfs: Path, tmp_path: Path) -> None:
    cache = tmp_path / "accel.json"
    for damage in ("", "[]", '{"x": 1}', "\0"):
        cache.write_text(damage)
        assert accel.choose(kernel_image, bare_rootfs, cache=cache, deadline=Deadline.after(60)).name in accel.NAMES


def test_it_can_be_overridden(kernel_image: Path, bare_rootfs: Path, tmp_path: Path) -> None:
    cache = tmp_path / "accel.json"
    chosen = accel.choose(kernel_image, bare_rootfs, cache=cache, deadline=Deadline.after(5), override="tcg")
    assert (chosen.name, chosen.reason) == ("tcg", "asked for")
    assert not cache.exists()
    with pytest.raises(UsageError, match="known: kvm, tcg"):
        accel.choose(kernel_image, bare_rootfs, cache=cache, deadline=Deadline.after(5), override="xen")


def test_a_kernel_that_hangs_is_not_believed(kernel_image: Path, tmp_path: Path) -> None:
    empty = tmp_path / "hang.cpio"
    empty.write_bytes(bytes(512))
    with pytest.raises((DeadlineExpired, KernelError)):
        accel.bare_boot(kernel_image, empty, arch=arch.native(), accel="tcg", deadline=Deadline.after(10))
