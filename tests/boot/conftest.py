# SPDX-License-Identifier: GPL-2.0-only
"""What real boots need: a kernel and the guest's userland."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.guest import cpio
from harness.guest.rootfs import build_bare_rootfs, build_rootfs
from harness.vm.machine import Machine, boot
from harness.vm.nic import Nic
from harness.vm.qemu import MachineSpec

BOOT = 180.0
"""Seconds a boot may take on a busy host."""


@pytest.fixture(scope="session")
def kernel_image() -> Path:
    """A kernel to boot; with the options of `kernel-configs/` for QEMU, net and nics."""
    path = os.environ.get("HARNESS_TEST_KERNEL")
    if not path:
        pytest.skip("HARNESS_TEST_KERNEL does not name a kernel image to boot")
    return Path(path)


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest's userland, made once a session; HARNESS_TEST_ROOTFS saves that."""
    if saved := os.environ.get("HARNESS_TEST_ROOTFS"):
        return Path(saved)
    out = tmp_path_factory.mktemp("rootfs") / "rootfs.cpio"
    build_rootfs(out, deadline=Deadline.after(300))
    return out


@pytest.fixture(scope="session")
def bare_rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bare") / "bare.cpio"
    build_bare_rootfs(out, deadline=Deadline.after(300))
    return out


@pytest.fixture
def spec(kernel_image: Path, rootfs: Path) -> MachineSpec:
    return MachineSpec(name="guest", kernel=kernel_image, initrd=(rootfs,))


@pytest.fixture(scope="session")
def machine(kernel_image: Path, rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One machine for all tests that do it no harm."""
    spec = MachineSpec(name="shared", kernel=kernel_image, initrd=(rootfs,), nics=(Nic(name="lan0"),))
    with boot(spec, tmp_path_factory.mktemp("shared"), deadline=Deadline.after(BOOT)) as booted:
        yield booted


@pytest.fixture
def overlay(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Makes an archive of scripts that, unpacked over the rootfs, replace files of it."""

    def make(files: dict[str, str]) -> Path:
        out = tmp_path / "overlay.cpio"
        entries = {path: cpio.file(path, text.encode(), 0o755) for path, text in files.items()}
        out.write_bytes(cpio.archive(entries.values()))
        return out

    return make
