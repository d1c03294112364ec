# SPDX-License-Identifier: GPL-2.0-only
"""Machines booted again and again, one at a time and six at once: does any fail, does anything stay behind?"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.vm.machine import boot_all
from harness.vm.qemu import MachineSpec
from tests import processes
from tests.bench.lab import Lab, Part, Rows, timed

_BOOTS = 40
"""Boots in a row, and rounds of six, for each of the median's runs: 200 and 10 where there are five."""
_ROUNDS = 2
_AT_ONCE = 6
_SECONDS = 180.0


def measure(lab: Lab) -> Rows:
    """Two rows: boots in a row, and six machines at once. Each boot ends in order."""
    image, userland = lab.kernel("patched", "both").image, lab.userland
    spec = MachineSpec(name="again", kernel=image, initrd=(userland,), memory_mib=256)
    one, six = _Series(), _Series()
    for _ in range(_BOOTS * lab.runs):
        one.round((spec,))
    for _ in range(_ROUNDS * lab.runs):
        six.round(tuple(replace(spec, name=f"again{number}") for number in range(_AT_ONCE)))
    return [one.row(f"{_BOOTS * lab.runs} boots in a row, from QEMU's start to its end"),
            six.row(f"{_AT_ONCE} machines at once, {_ROUNDS * lab.runs} times")]


class _Series:
    """Rounds of one kind."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._failures: list[str] = []
        self._left: set[str] = set()

    def round(self, specs: tuple[MachineSpec, ...]) -> None:
        before = _held()
        with tempfile.TemporaryDirectory() as name:
            try:
                self._seconds.append(timed(lambda: _once(specs, Path(name))))
            except HarnessError as error:
                self._failures.append(str(error))
            files = {path.name for path in Path(name).rglob("*") if not path.is_dir()}
        self._left |= (files - {"console.log", "console.log.times", "qemu.log"}) | (_held() - before)

    def row(self, what: str) -> tuple[str, str, str]:
        figure = f"{statistics.median(self._seconds):.1f} s each, at most {max(self._seconds):.1f} s"
        failed = f"{len(self._failures)} failed" + "".join(f"; {text.splitlines()[0]}" for text in self._failures)
        left = ", ".join(sorted(self._left)) or "nothing"
        return what, figure, f"{failed}; left behind: {left} (wanted: none, nothing)"


def _once(specs: tuple[MachineSpec, ...], folder: Path) -> None:
    with boot_all(specs, folder, deadline=Deadline.after(_SECONDS)) as machines:
        for machine in machines.values():
            machine.run("true")


def _held() -> set[str]:
    """What we hold: children, descriptors, threads, each by a name that says what it is."""
    children = {f"process {pid}" for pid in processes.descendants(os.getpid())}
    descriptors = {f"descriptor {path.name}" for path in Path("/proc/self/fd").iterdir()}
    return children | descriptors | {f"thread {thread.name}" for thread in threading.enumerate()}


PART = Part(name="boots",
            what="Machines under TCG, 256 MiB each, the patched kernel of variant `both`, on and off again.",
            takes="ten minutes", long=True, measure=measure)
