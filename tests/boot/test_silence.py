# SPDX-License-Identifier: GPL-2.0-only
"""Silence on real machines: what counts as progress, and what is found out about a guest that makes none."""
# ruff: noqa: PT012 - it is the end of the block, after its body, that raises

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import KernelError
from harness.vm import timeline
from harness.vm.klog import Kind
from harness.vm.machine import boot
from harness.vm.qemu import MachineSpec
from tests.boot.conftest import BOOT

SILENCE = 3.0


def test_a_guest_that_lives_while_its_work_stands_still(spec: MachineSpec, tmp_path: Path) -> None:
    with (pytest.raises(KernelError, match="silence: no progress") as caught,
          boot(replace(spec, name="still"), tmp_path, deadline=Deadline.after(BOOT)) as machine,
          machine.watched(SILENCE, memory=True)):
        machine.run("sleep", "1000", deadline=Deadline.after(60))
    (event,) = machine.events
    said = "\n".join(event.lines)
    assert event.kind is Kind.SILENCE
    assert "the guest's init still answers" in said
    for key in "lwm":
        assert f"sysrq {key}: answered" in said
    assert "NMI: " not in said  # it would have killed a guest that lives
    assert "sleep 1000" in caught.value.what
    assert (machine.files.hang / "memory.elf").read_bytes()[:4] == b"\x7fELF"
    assert "sysrq: Show Memory" in machine.files.console.read_text(errors="replace")


def test_a_machine_that_stands_still(spec: MachineSpec, tmp_path: Path) -> None:
    with (pytest.raises(KernelError, match="silence: no progress"),
          boot(replace(spec, name="stopped"), tmp_path, deadline=Deadline.after(BOOT)) as machine,
          machine.watched(SILENCE)):
        machine.qmp.execute("stop", deadline=Deadline.after(10))
        machine.run("true", deadline=Deadline.after(60))
    assert any("QEMU says that the machine is paused" in line for line in machine.events[0].lines)
    assert any("the guest's init does not answer" in line for line in machine.events[0].lines)


def test_output_and_marks_are_progress_and_idleness_is_no_silence(spec: MachineSpec, tmp_path: Path) -> None:
    with (boot(spec, tmp_path, deadline=Deadline.after(BOOT)) as machine, machine.watched(SILENCE)):
        done = machine.shell("for n in 1 2 3 4 5 6 7 8; do sleep 1; echo $n; done", deadline=Deadline.after(60))
        assert done.stdout.split() == [*"12345678"]
        running = machine.start("sleep", "5")
        machine.progress("the test itself goes on")
        running.wait(Deadline.after(60))
    assert machine.events == ()
    times = timeline.parse(timeline.beside(machine.files.console).read_text(encoding="ascii"))
    count = machine.files.console.read_bytes().count(b"\n")
    assert len(times.lines) > 10
    assert times.lines[-1] <= count + 1
