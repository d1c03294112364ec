# SPDX-License-Identifier: GPL-2.0-only
"""Flows count what becomes of their transfers: whole, lost where nothing passes, wrong where something else arrives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.kernel.kbuild import Build
from harness.lab import flows
from harness.lab.bench import Lab, up
from harness.lab.flows import Flow, Flows
from harness.lab.shapes import PAIR
from harness.vm.qemu import MachineSpec
from tests.boot.conftest import BOOT
from tests.boot.test_failures import eventually

SOON = 60.0
IN_A_ROW = 100


@pytest.fixture(scope="module")
def pair(patched_both: Build, rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    template = MachineSpec(name="template", kernel=patched_both.image, initrd=(rootfs,), memory_mib=256)
    folder = tmp_path_factory.mktemp("flows")
    with up(replace(PAIR, name="flows"), template, folder, deadline=Deadline.after(BOOT)) as lab:
        yield lab


@pytest.fixture
def running(pair: Lab) -> Iterator[Flows]:
    a, b = pair["a"], pair["b"]
    with flows.running((Flow(name="tcp", sender=a, receiver=b, address=b.ipv6, size=50_000, port=5201),
                        Flow(name="echo", sender=a, receiver=b, address=b.ipv4, size=3000, count=10))) as found:
        yield found


def grows(running: Flows, name: str, field: str) -> bool:
    """Whether more of a flow's transfers become so than until now, in a while."""
    before = getattr(running.tallies()[name], field)
    return eventually(lambda: getattr(running.tallies()[name], field) > before, SOON)


def test_what_nothing_disturbs_arrives_whole(running: Flows) -> None:
    """Of echoes many in a row: one that is late is counted as lost where ping has left by then, on a busy host."""
    assert grows(running, "tcp", "whole")
    seen = [running.tallies()["echo"]]

    def in_a_row() -> bool:
        now = running.tallies()["echo"]
        if now.lost > seen[0].lost:
            seen[0] = now
        return now.whole - seen[0].whole >= IN_A_ROW

    assert eventually(in_a_row, SOON), running.tallies()
    tcp, echo = running.tallies().values()
    assert (tcp.wrong, tcp.lost, echo.wrong) == (0, 0, 0)


def test_what_does_not_pass_is_lost(pair: Lab, running: Flows) -> None:
    with pair["a"].card("lan0").netem(loss="100%"):
        assert grows(running, "tcp", "lost")
        assert grows(running, "echo", "lost")
    assert grows(running, "tcp", "whole")
    assert grows(running, "echo", "whole")
    assert not any(tally.wrong for tally in running.tallies().values())


def test_a_payload_that_is_not_the_one_that_was_meant_is_wrong(pair: Lab, running: Flows) -> None:
    pair["a"].shell("echo more >> /tmp/kph-flows/tcp.data")
    assert grows(running, "tcp", "wrong")


def test_an_interrupt_waits_for_no_transfer(pair: Lab) -> None:
    a, b = pair["a"], pair["b"]
    flow = Flow(name="tcp", sender=a, receiver=b, address=b.ipv4, size=50_000, port=5202)
    with pytest.raises(KeyboardInterrupt), flows.running((flow,)):
        raise KeyboardInterrupt
    assert a.run("test", "-e", "/tmp/kph-flows/run", check=False).returncode == 0, "the loop was told to end"
    assert re.search(":1452 [0-9A-F]+:0000 0A ", b.read("/proc/net/tcp6")), "the server was stopped"
    a.run("rm", "/tmp/kph-flows/run")
