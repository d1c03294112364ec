# SPDX-License-Identifier: GPL-2.0-only
"""Silence: when it counts, what is asked of a machine that hangs and in which order; on stand-ins for both ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from harness.deadline import Deadline
from harness.errors import DeadlineExpired, InfraError, KernelError
from harness.vm import console, hang, registers
from harness.vm.console import Console
from harness.vm.control import Control
from harness.vm.hang import Scene
from harness.vm.klog import Kind
from harness.vm.qmp import Qmp
from harness.vm.vitals import Vitals

REGISTERS = """\
CPU#0
RAX=0000000000000000 RBX=ffff888000000000
RIP=ffffffff81000010 RFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0

CPU#1
RIP=ffffffff81000020 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1

CPU#2
RIP=00007ffff7ec8350 RFL=00000246 [---Z-P-] CPL=3 II=0 A20=1 SMM=0 HLT=0
"""
ARM = "CPU#0\n PC=ffff800080010000 X00=0000000000000000\nPSTATE=600000c5 -ZC- NS EL1h\n"


def test_registers_say_where_each_cpu_is() -> None:
    first, second, third = registers.parse(REGISTERS)
    assert (first.number, first.pc, first.deaf, first.halted, first.user) == (0, 0xFFFFFFFF81000010, True, False, False)
    assert (second.deaf, second.halted) == (False, True)
    assert third.user
    (arm,) = registers.parse(ARM)
    assert (arm.pc, arm.user, arm.deaf) == (0xFFFF800080010000, False, None)
    assert registers.parse("nothing") == ()


def test_the_state_at_the_last_triple_fault() -> None:
    log = ["CPU Reset (CPU 0)", "EIP=0000fff0", "Triple fault", "CPU Reset (CPU 0)", "RIP=ffffffff81000010"]
    assert registers.last_reset(log) == ("Triple fault", "CPU Reset (CPU 0)", "RIP=ffffffff81000010")
    assert registers.last_reset(log[:2]) == ()


class StandIn:
    """QEMU's monitor and its guest, as far as they are asked; answers over the console when it is told to."""

    def __init__(self, guest: socket.socket, answers: frozenset[str]) -> None:
        self.guest = guest
        self.answers = answers
        self.asked: list[str] = []

    def give(self, file: BinaryIO, name: str, *, deadline: Deadline) -> None:
        self.asked.append(f"give {name}")

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, *, deadline: Deadline) -> object:
        self.asked.append(command)
        if command == "query-status":
            return {"status": "running"}
        if command == "human-monitor-command":
            return REGISTERS
        if command == "inject-nmi":
            if "nmi" in self.answers:
                self.guest.sendall(b"[    9.000000] Kernel panic - not syncing: NMI: Not continuing\n"
                                   b"[    9.000000] Call Trace:\n[    9.000001]  panic+0x1/0x2\n"
                                   b"[    9.000002]  exc_nmi+0x1/0x2\n[    9.000003]  stuck_here+0x1/0x2\n")
        elif command == "chardev-send-break" or command.startswith("sysrq "):
            if "sysrq" in self.answers:
                self.guest.sendall(b"[    8.000000] sysrq: Show backtrace of all active CPUs\n")
        else:
            raise InfraError(f"QEMU refused {command!r}")
        return {}


@pytest.fixture
def guest() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def scene_of(view: Console, folder: Path, stand_in: StandIn, control: Control, *, memory: bool = False) -> Scene:
    return Scene(name="m", qmp=cast(Qmp, stand_in), console=view, control=control, folder=folder / "hang",
                 memory=memory)


class Silent(Control):
    """A guest whose init answers, or does not; and asks the kernel as it is told to."""

    def __init__(self, lives: bool, kernel: StandIn | None = None) -> None:
        self.lives = lives
        self.kernel = kernel

    def ask(self, verb: str) -> None:
        if self.kernel is not None:
            self.kernel.execute(verb, deadline=Deadline.after(1))

    def answers(self, deadline: Deadline) -> bool:
        return self.lives


@pytest.mark.parametrize(("lives", "answers", "title"), [
    (False, frozenset({"nmi"}), "no progress in stuck_here"), (False, frozenset(), "no progress"),
    (True, frozenset({"sysrq"}), "no progress"), (False, frozenset({"sysrq"}), "no progress"),
])
def test_a_silent_machine_is_examined_and_the_wait_ends(
        guest: tuple[socket.socket, socket.socket], tmp_path: Path, lives: bool, answers: frozenset[str],
        title: str) -> None:
    ours, theirs = guest
    with console.drained(ours, "m", tmp_path / "console.log") as view:
        theirs.sendall(b"booted\n")
        stand_in = StandIn(theirs, answers)
        scene = scene_of(view, tmp_path, stand_in, Silent(lives, stand_in), memory=True)
        with (hang.watched([scene], 0.3), view.vitals.working("the command"),
              pytest.raises(KernelError, match=f"silence: {title}") as caught):
            view.vitals.wait_for(lambda: None, Deadline.after(20), "running the command")
        event = view.vitals.events[0]
        assert (event.kind, event.title, event.fatal) == (Kind.SILENCE, title, True)
        assert any("CPU 0: in one place at 0xffffffff81000010, interrupts off" in line for line in event.lines)
        assert (tmp_path / "hang" / "registers.txt").read_text().count("RIP=") == 6
        assert any("memory dump: QEMU refused" in line for line in event.lines)
        assert not (tmp_path / "hang" / "memory.elf").exists()
        assert ("inject-nmi" in stand_in.asked) is not lives
        how = ["sysrq l", "sysrq w", "sysrq m"] if lives else ["chardev-send-break"] * (3 if "sysrq" in answers else 1)
        assert [word for word in stand_in.asked if word in how] == how
        assert stand_in.asked.index("human-monitor-command") < stand_in.asked.index(how[0])
        assert any("registers.txt" in line for line in caught.value.detail)
        theirs.close()


def test_silence_counts_only_while_somebody_waits_and_progress_ends_it(tmp_path: Path) -> None:
    vitals = Vitals("m", tmp_path / "log")
    assert vitals.quiet() is None
    with vitals.working("first"):
        time.sleep(0.05)
        quiet = vitals.quiet()
        assert quiet is not None
        assert quiet[0] >= 0.05
        assert quiet[1] == "first"
        vitals.progress("a mark")
        quiet = vitals.quiet()
        assert quiet is not None
        assert quiet[1] == "a mark"
    assert vitals.quiet() is None


def test_console_output_is_no_progress(guest: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    ours, theirs = guest
    with console.drained(ours, "m", tmp_path / "console.log") as view:
        stop = threading.Event()

        def chatter() -> None:
            while not stop.wait(0.02):
                theirs.sendall(b"still here\n")

        talking = threading.Thread(target=chatter)
        talking.start()
        scene = scene_of(view, tmp_path, StandIn(theirs, frozenset()), Silent(lives=True))
        try:
            with (hang.watched([scene], 0.3), view.vitals.working("the command"),
                  pytest.raises(KernelError, match="no progress")):
                view.vitals.wait_for(lambda: None, Deadline.after(20), "running the command")
        finally:
            stop.set()
            talking.join()
        theirs.close()


def test_a_machine_that_goes_on_is_left_alone(guest: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    ours, theirs = guest
    with console.drained(ours, "m", tmp_path / "console.log") as view:
        stand_in = StandIn(theirs, frozenset())
        with hang.watched([scene_of(view, tmp_path, stand_in, Silent(lives=True))], 0.3):
            with view.vitals.working("steps"):
                for step in range(8):
                    view.vitals.progress(f"step {step}")
                    with pytest.raises(DeadlineExpired):
                        view.vitals.wait_for(lambda: None, Deadline.after(0.1), "nothing")
            with pytest.raises(DeadlineExpired):
                view.vitals.wait_for(lambda: None, Deadline.after(0.6), "with nobody waiting for the guest")
        assert stand_in.asked == []
        theirs.close()


def test_init_is_asked_over_the_control_port(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    control = Control(ours, Vitals("m", tmp_path / "log"))
    assert not control.answers(Deadline.after(0.05))
    theirs.sendall(b"ready\n")

    def guest() -> None:
        with theirs.makefile("rb") as asked:
            assert [asked.readline(), asked.readline()] == [b"ping\n"] * 2
        theirs.sendall(b"pong\n")

    answering = threading.Thread(target=guest)
    answering.start()
    assert control.answers(Deadline.after(10))
    answering.join()
    assert control.heard("ready") == "ready"
    assert control.heard("pong") is None
    theirs.close()
    control.close()
