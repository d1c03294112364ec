# SPDX-License-Identifier: GPL-2.0-only
"""Cards: what `ethtool -k` says, and the verbs against a machine that only notes what it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.deadline import Deadline
from harness.errors import KernelError, UsageError
from harness.lab.card import Card, Feature, parse_features
from harness.proc import Completed
from harness.vm.nic import Nic
from harness.vm.qemu import MachineSpec
from harness.vm.qmp import Event
from harness.vm.vitals import Vitals

LISTING = """Features for lan0:
rx-checksumming: off [fixed]
tx-checksumming: on
\ttx-checksum-ipv4: off [fixed]
\ttx-checksum-ip-generic: on
tcp-segmentation-offload: off
\ttx-tcp-segmentation: off [requested on]
"""


def test_features() -> None:
    found = parse_features(LISTING)
    assert found["rx-checksumming"] == Feature(on=False, fixed=True)
    assert found["tx-checksum-ip-generic"] == Feature(on=True, fixed=False)
    assert found["tx-tcp-segmentation"] == Feature(on=False, fixed=False)
    assert "Features for lan0" not in found


class Monitor:
    """A QEMU that answers `device_del` with these events."""

    def __init__(self, *answers: Event, earlier: tuple[Event, ...] = ()) -> None:
        self.events = earlier
        self.asked: list[tuple[str, Mapping[str, object]]] = []
        self._answers = answers

    def execute(self, command: str, arguments: Mapping[str, object], *, deadline: Deadline) -> None:
        self.asked.append((command, dict(arguments)))
        if command == "device_del":
            self.events = (*self.events, *self._answers)

    @contextmanager
    def waking(self, _: threading.Condition) -> Iterator[None]:
        yield


def card(model: str, monitor: Monitor, *, hotplug: bool = False, condition: int = 0) -> Card:
    """A card whose guest answers every condition with exit code `condition`."""
    spec = MachineSpec(name="a", kernel=Path("k"), initrd=(), nics=(Nic(name="lan0", model=model, hotplug=hotplug),))

    def run(*args: object, **_: object) -> Completed:
        return Completed(argv=(), returncode=condition, stdout="1500", stderr="", seconds=0.0)

    machine = SimpleNamespace(name="a", spec=spec, qmp=monitor, run=run, nic=lambda name: name,
                              console=SimpleNamespace(vitals=Vitals("a", Path("console.log"))))
    return Card(machine=cast(Any, machine), name="lan0")


GONE = Event(name="DEVICE_DELETED", data={"device": "lan0", "path": "/machine/peripheral/lan0"})
OTHER = Event(name="DEVICE_DELETED", data={"device": "lan1"})


def test_a_card_without_a_slot_stays_where_it_is() -> None:
    monitor = Monitor(GONE)
    for verb in (card("e1000", monitor).unplug, card("e1000", monitor).plug):
        with pytest.raises(UsageError, match="no slot"):
            verb()
    assert monitor.asked == []
    card("usb-net", monitor).unplug()
    assert monitor.asked == [("device_del", {"id": "lan0"})]


def test_unplugging_waits_for_this_card_and_for_what_comes_after_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    card("e1000", Monitor(OTHER, GONE, earlier=(GONE,)), hotplug=True).unplug()
    monkeypatch.setattr("harness.lab.card._PATIENCE", 0.05)
    for monitor in (Monitor(OTHER), Monitor(earlier=(GONE,))):
        with pytest.raises(KernelError, match="does not let go of lan0"):
            card("e1000", monitor, hotplug=True).unplug()


def test_an_interface_that_stays_when_its_card_is_gone_is_the_kernels_fault() -> None:
    with pytest.raises(KernelError, match="still there though its card is gone"):
        card("e1000", Monitor(GONE), hotplug=True, condition=1).unplug()


@pytest.mark.parametrize("on", [True, False])
def test_a_driver_that_does_not_notice_its_cable_is_the_kernels_fault(on: bool) -> None:
    monitor = Monitor()
    with pytest.raises(KernelError, match="has no carrier" if on else "still has a carrier"):
        card("e1000", monitor, condition=1).carrier(on)
    assert monitor.asked == [("set_link", {"name": "nic0", "up": on})]
    card("tulip", Monitor(), condition=1).carrier(on)  # which nobody tells


def test_a_card_that_the_machine_does_not_have() -> None:
    stray = Card(machine=card("e1000", Monitor()).machine, name="wan0")
    with pytest.raises(UsageError, match="no NIC 'wan0'") as caught:
        stray.carrier(True)
    assert "lan0" in str(caught.value.hint)
