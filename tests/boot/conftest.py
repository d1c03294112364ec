# SPDX-License-Identifier: GPL-2.0-only
"""What real boots need: a kernel and the guest's userland."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.arch import native
from harness.deadline import Deadline
from harness.guest import cpio
from harness.guest.rootfs import build_bare_rootfs
from harness.jobs import boots
from harness.kernel.kbuild import Build
from harness.store.store import Store
from harness.vm.machine import Machine, boot
from harness.vm.nic import Nic
from harness.vm.qemu import MachineSpec

BOOT = 180.0
"""Seconds a boot may take on a busy host."""


@pytest.fixture(scope="session")
def kernel_image(patched_both: Build) -> Path:
    """The customer's patched kernel with both options."""
    return patched_both.image


@pytest.fixture(scope="session")
def rootfs(store: Store) -> Path:
    """The guest's userland, from the cache where it is there."""
    return boots.userland(store, native(), progress=lambda _: None)


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
