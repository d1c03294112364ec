# SPDX-License-Identifier: GPL-2.0-only
"""A machine of a topology that is booted anew: it has its place on the wire again, and its neighbour did not notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.lab import shapes, traffic
from harness.lab.bench import up
from harness.vm.qemu import MachineSpec
from tests.boot.conftest import BOOT


@pytest.mark.parametrize("model", ["e1000", "virtio-net-pci"])
def test_traffic_passes_again(spec: MachineSpec, tmp_path: Path, model: str) -> None:
    with up(shapes.PAIR, spec, tmp_path, deadline=Deadline.after(BOOT), model=model) as lab:
        a, b = lab["a"], lab["b"]
        before = a.read("/proc/sys/kernel/random/boot_id")
        lab.reboot("b")
        assert traffic.ping(a, b.ipv4, count=5).whole
        assert traffic.tcp(b, a, a.ipv6, size=50_000).whole
        assert a.read("/proc/sys/kernel/random/boot_id") == before
        lab.check("the reboot")
    assert [host.machine.events for host in lab.hosts.values()] == [(), ()]
