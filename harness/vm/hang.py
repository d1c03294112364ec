# SPDX-License-Identifier: GPL-2.0-only
"""A guest that makes no progress: noticed by what the test does, examined while it still can be, reported as an event.

Progress is a command that begins, prints or ends, and whatever a test itself marks (`Vitals.progress`); what the kernel
prints is none. Before anything is killed the harness asks QEMU and the guest where they are: the guest's init, the
registers of each CPU (twice), sysrq, a memory dump where one is asked for, and an NMI, which a kernel
booted with `unknown_nmi_panic` answers with a stack. The order matters: each step may be the last one that is answered.

Sources: QEMU's `qapi/*.json`, the kernel's `Documentation/admin-guide/sysrq.rst` and `arch/x86/kernel/nmi.c`.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import HarnessError, InfraError
from harness.vm import frames, registers, symbolize, titles
from harness.vm.console import Console
from harness.vm.control import Control
from harness.vm.event import KernelEvent
from harness.vm.klog import Kind, message
from harness.vm.qmp import Qmp
from harness.vm.registers import Cpu

_ASK = 1.0
"""Seconds the guest's init has for an answer."""
_STEP = 5.0
"""Seconds QEMU's monitor has for one."""
_APART = 0.2
"""Seconds between two looks at the registers: a CPU that is elsewhere by then runs."""
_ANSWER = 0.7
"""Seconds in which the kernel must begin to answer over the console."""
_QUIET = 0.3
"""Seconds without a line after which an answer is complete."""
_LONGEST = 3.0
"""Seconds an answer may take."""
_DUMP = 120.0
_REQUESTS = ("l", "w", "m")
"""What sysrq is asked for: backtraces of the CPUs, blocked tasks, memory."""
_SYSRQ = re.compile(r"sysrq: ")
_MOST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is needed to examine a machine.

    Attributes:
        name: the machine's.
        qmp, console, control: ways into it.
        folder: where what was found is put.
        image: the kernel it runs, whose vmlinux names addresses if it is beside it.
        memory: whether guest memory is dumped, too.
    """

    name: str
    qmp: Qmp
    console: Console
    control: Control
    folder: Path
    image: Path | None = None
    memory: bool = False


@dataclass(slots=True)
class _Findings:
    lines: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    cpus: tuple[Cpu, ...] = ()
    alive: bool = False


def examine(scene: Scene, quiet: float, doing: str) -> KernelEvent:
    """Collect what can be had from a machine that hangs, and make the event of it. Takes 2 to 5 seconds.

    Args:
        quiet: for how many seconds there was no progress.
        doing: what was the last of it.
    """
    scene.folder.mkdir(parents=True, exist_ok=True)
    found = _Findings()
    first = scene.console.lines
    found.lines.append(f"no progress for {quiet:.1f} s; the last of it: {doing}")
    found.alive = scene.control.answers(Deadline.after(_ASK))
    found.lines.append("the guest's init still answers" if found.alive else "the guest's init does not answer")
    _look(scene, found)
    _sysrq(scene, found)
    if scene.memory:
        _dump(scene, found)
    if not found.alive:
        _interrupt(scene, found)
    if scene.console.lines > first:
        found.lines.append(f"what the kernel said when it was asked: from line {first + 1} of "
                           f"{scene.console.vitals.log}")
    return _event(scene, found, first, f"no progress for {quiet:.1f} s in: {doing}")


def _event(scene: Scene, found: _Findings, first: int, headline: str) -> KernelEvent:
    said = _said(scene.console.vitals.log, first)
    texts = [message(line) for line in said]
    stack = frames.stack(texts)
    busy = [cpu for cpu in found.cpus if not cpu.halted and not cpu.user]
    pointed = tuple(_frame(scene, cpu) for cpu in busy)
    function = titles.stuck(stack) or titles.stuck(pointed)
    return KernelEvent(
        kind=Kind.SILENCE, headline=headline, line=first + 1, stack=(*pointed, *stack)[:_MOST],
        title=f"no progress in {function}" if function else "no progress",
        lines=(*found.lines, *(f"in {path}" for path in found.files), *said[:_MOST]))


def _said(log: Path, first: int) -> list[str]:
    """The lines of the console log after the first `first`."""
    with suppress(OSError), log.open("rb") as source:
        for _ in range(first):
            source.readline()
        return [line.decode(errors="replace").rstrip("\r\n") for line in source.readlines()[:10 * _MOST]]
    return []


def _frame(scene: Scene, cpu: Cpu) -> frames.Frame:
    vmlinux = symbolize.beside(scene.image) if scene.image else None
    bare = frames.Frame(function="", address=cpu.pc, pointer=True)
    if vmlinux is None:
        return bare
    with suppress(HarnessError):
        return symbolize.resolved_frame(bare, symbolize.Symbols(vmlinux))
    return bare


def _look(scene: Scene, found: _Findings) -> None:
    """Where each CPU is, at two moments."""
    texts = []
    try:
        status = scene.qmp.execute("query-status", deadline=Deadline.after(_STEP))
        found.lines.append(f"QEMU says that the machine is {status.get('status')}")
        for number in range(2):
            if number:
                time.sleep(_APART)  # not a wait for anything: the second look is of a later moment
            texts.append(str(scene.qmp.execute("human-monitor-command", {"command-line": "info registers -a"},
                                               deadline=Deadline.after(_STEP))))
    except InfraError as error:
        found.lines.append(f"registers: {error.what}")
    if not texts:
        return
    _write(scene, found, "registers.txt", "\n".join(texts))
    found.cpus = registers.parse(texts[-1])
    before = {cpu.number: cpu.pc for cpu in registers.parse(texts[0])}
    for cpu in found.cpus:
        place = next(symbolize.shown([_frame(scene, cpu)]))
        state = ("halted" if cpu.halted else "in a program" if cpu.user else
                 "in one place" if before.get(cpu.number) == cpu.pc else "running")
        deaf = ", interrupts off" if cpu.deaf else ""
        found.lines.append(f"CPU {cpu.number}: {state} at {place}{deaf}")


def _sysrq(scene: Scene, found: _Findings) -> None:
    """Ask the kernel; one that does not answer the first question is not asked the others.

    Through init while that lives; else over the console, which needs CONFIG_MAGIC_SYSRQ_SERIAL.
    """
    for key in _REQUESTS:
        try:
            with scene.console.watch(_SYSRQ.pattern) as marker:
                if found.alive:
                    scene.control.ask(f"sysrq {key}")
                else:
                    scene.qmp.execute("chardev-send-break", {"id": "console"}, deadline=Deadline.after(_STEP))
                    scene.console.send(key)
                if not marker.came(Deadline.after(_ANSWER)):
                    found.lines.append(f"sysrq {key}: no answer")
                    return
        except InfraError as error:
            found.lines.append(f"sysrq {key}: {error.what}")
            return
        _settle(scene.console)
        found.lines.append(f"sysrq {key}: answered")


def _settle(console: Console) -> None:
    """Until the console is quiet, or has talked for long enough."""
    limit = Deadline.after(_LONGEST)
    while not limit.expired and _talks(console, console.lines, limit.within(_QUIET)):
        pass


def _talks(console: Console, seen: int, deadline: Deadline) -> bool:
    """Whether there come more than `seen` lines in time."""
    with console.vitals.changed:
        return console.vitals.changed.wait_for(lambda: console.lines > seen, deadline.remaining)


def _dump(scene: Scene, found: _Findings) -> None:
    path = scene.folder / "memory.elf"
    try:
        with path.open("wb") as file:
            scene.qmp.give(file, "memory", deadline=Deadline.after(_STEP))
            scene.qmp.execute("dump-guest-memory", {"paging": False, "protocol": "fd:memory"},
                              deadline=Deadline.after(_DUMP))
        found.files.append(path)
    except InfraError as error:
        path.unlink()
        found.lines.append(f"memory dump: {error.what}")


def _interrupt(scene: Scene, found: _Findings) -> None:
    """An NMI: a kernel with `unknown_nmi_panic` says where it is, also with interrupts off."""
    before = scene.console.lines
    try:
        scene.qmp.execute("inject-nmi", deadline=Deadline.after(_STEP))
    except InfraError as error:
        found.lines.append(f"NMI: {error.what}")
        return
    limit = Deadline.after(_ANSWER)
    with scene.console.vitals.changed:
        scene.console.vitals.changed.wait_for(lambda: scene.console.lines > before or scene.console.vitals.ended,
                                              limit.remaining)
    _settle(scene.console)
    found.lines.append("NMI: answered" if scene.console.lines > before else "NMI: no answer")


def _write(scene: Scene, found: _Findings, name: str, text: str) -> None:
    path = scene.folder / name
    path.write_text(text, encoding="utf-8")
    found.files.append(path)


@contextmanager
def watched(scenes: Sequence[Scene], silence: float) -> Iterator[None]:
    """Report a machine that makes no progress for `silence` seconds while somebody waits for its work."""
    stop = threading.Event()
    threads = [threading.Thread(target=_watch, args=(scene, silence, stop), name=f"silence-{scene.name}", daemon=True)
               for scene in scenes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _watch(scene: Scene, silence: float, stop: threading.Event) -> None:
    vitals = scene.console.vitals
    while not stop.wait(min(silence / 10, 0.5)):
        if vitals.ended:
            return
        quiet = vitals.quiet()
        if quiet is not None and quiet[0] > silence:
            report(scene, *quiet)
            return


def report(scene: Scene, quiet: float, doing: str) -> None:
    """Examine a machine and report what was found, in front of what it was made to say by that."""
    vitals = scene.console.vitals
    if vitals.failed:
        return
    with vitals.held() as first:
        first.append(examine(scene, quiet, doing))
