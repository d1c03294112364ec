# SPDX-License-Identifier: GPL-2.0-only
"""How much may be on its way at a time to a card that drops what it has no room for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from harness.lab import traffic
from harness.lab.bench import Host
from harness.proc import Completed
from harness.vm.nic import Nic
from harness.vm.qemu import MachineSpec


@dataclass
class FakeMachine:
    """A machine that keeps what it was told, and whose ping counts whatever it was asked for."""

    spec: MachineSpec
    said: list[tuple[object, ...]]

    def run(self, *args: object, **_: object) -> Completed:
        self.said.append(args)
        return Completed(argv=(), returncode=0, stdout="10 packets transmitted, 10 received", stderr="", seconds=0.0)


def host(*models: str) -> Host:
    spec = MachineSpec(name="a", kernel=Path("k"), initrd=(), nics=tuple(
        Nic(name=f"lan{index}", model=model) for index, model in enumerate(models)))
    return Host(machine=cast(Any, FakeMachine(spec=spec, said=[])), faces=())


@pytest.mark.parametrize(("models", "datagram", "datagrams"), [
    (("e1000", "virtio-net-pci"), 1000, 0),
    (("e1000", "rtl8139"), 1000, 32),
    (("rtl8139",), 1392, 32),
    (("rtl8139",), 1393, 16),
    (("rtl8139",), 8000, 5),
    (("rtl8139",), 65_000, 1),
])
def test_what_may_be_on_its_way_fits_half_the_smallest_ring(models: tuple[str, ...], datagram: int,
                                                            datagrams: int) -> None:
    assert traffic._at_once((host("e1000"), host(*models)), datagram) == datagrams * datagram


@pytest.mark.parametrize(("model", "size", "outstanding"), [
    ("e1000", 56, 32), ("e1000", 3000, 10), ("e1000", 60_000, 1), ("rtl8139", 56, 32), ("rtl8139", 8000, 4)])
def test_a_flood_keeps_to_it(model: str, size: int, outstanding: int) -> None:
    one = host(model)
    traffic.flood(one, "10.0.0.1", count=10, size=size)
    (words,) = cast(Any, one.machine).said
    assert words[words.index("-l") + 1] == outstanding
