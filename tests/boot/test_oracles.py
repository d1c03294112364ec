# SPDX-License-Identifier: GPL-2.0-only
"""What a machine must be again, on real kernels before and after the series: what is left behind is found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import KernelError
from harness.kernel.kbuild import Build
from harness.lab import oracles, slabs
from harness.lab.bench import Lab, up
from harness.lab.shapes import MIXED
from harness.vm.qemu import MachineSpec
from harness.vm.ssh import GuestCommandFailed
from tests.boot.conftest import BOOT

STATE = "ip xfrm state {} src 10.0.0.1 dst 10.0.0.2 proto esp spi {}"
KEYS = "aead 'rfc4106(gcm(aes))' 0x0123456789abcdef0123456789abcdef01234567 128"


@pytest.fixture(scope="module")
def lab(base_both: Build, patched_both: Build, rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """`a` runs the kernel before the series, `b` the one after it."""
    template = MachineSpec(name="template", kernel=patched_both.image, initrd=(rootfs,), memory_mib=256)
    with up(MIXED, template, tmp_path_factory.mktemp("oracles"), model="virtio-net-pci", deadline=Deadline.after(BOOT),
            kernels={"base": base_both.image, "patched": patched_both.image}) as lab:
        yield lab


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize(("leave", "take", "said"), [
    ("ip link add left0 type dummy", "ip link del left0", "interfaces: expected "),
    ("ip netns add left0", "ip netns del left0", "network namespaces: expected "),
    ("\n".join(f"{STATE.format('add', spi)} {KEYS}" for spi in (1, 2, 3)), "ip xfrm state flush",
     "objects in xfrm_state: expected 0, saw 3"),
], ids=["interface", "namespace", "states"])
def test_what_is_left_behind_is_found(lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str, leave: str, take: str,
                                      said: str) -> None:
    before = oracles.look(lab)
    lab[name].shell(leave)
    try:
        with monkeypatch.context() as short:
            short.setattr(oracles, "_BACK", 0.5)
            with pytest.raises(KernelError, match=re.escape(said)) as caught:
                oracles.compare(lab, before)
    finally:
        lab[name].shell(take)
    assert caught.value.where == f"machine {name}"
    assert oracles.compare(lab, before) == before


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_counts_are_those_of_slabinfo(lab: Lab, name: str) -> None:
    lab[name].shell("\n".join(f"{STATE.format('add', spi)} {KEYS}" for spi in range(1, 31)))
    try:
        seen = dict(oracles.look(lab)[name].used)
        counted = slabs.count(lab[name], re.compile("^xfrm_state$"))
    finally:
        lab[name].shell("ip xfrm state flush")
    assert seen["xfrm_state"] == counted["xfrm_state"] == 30


def test_a_kernel_that_does_not_count_is_no_kernel_that_left_nothing(lab: Lab) -> None:
    lab["b"].shell("mount -t tmpfs none /sys/kernel/slab")
    try:
        with pytest.raises(GuestCommandFailed, match="kmalloc-256"):
            oracles.look(lab)
    finally:
        lab["b"].shell("umount /sys/kernel/slab")


def test_a_guest_that_does_not_log_is_not_well(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The label is what says that all before it has been read: without it nothing may pass."""
    lab.check("one test")
    assert "harness: after one test" in lab["a"].run("dmesg").stdout
    monkeypatch.setattr("harness.lab.bench._BARRIER", 0.5)
    lab["a"].shell("mount -t tmpfs none /dev")
    try:
        with pytest.raises(KernelError, match="the console does not show"):
            lab.check("another test")
    finally:
        lab["a"].shell("umount /dev")


def test_a_test_may_have_any_name(lab: Lab) -> None:
    """printk takes no line of more than about 1000 characters (LOG_LINE_MAX)."""
    for name in ("x" * 2000, r"x[a\nb\c]", "x[%s $HOME `id`]", "größe"):
        lab.check(name)
