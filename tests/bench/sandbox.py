# SPDX-License-Identifier: GPL-2.0-only
"""What the sandbox costs: the same `make` of the same objects with it and without, in turns.

Where it does not run, make works at the host's own paths; the compiler's work is the same. The whole cost is in the
figure: namespaces and mounts, the watchdog's looks, and looking over the output at the end.
"""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harness import proc
from harness.arch import native
from harness.deadline import Deadline
from harness.kernel import kbuild_box
from harness.kernel.kbuild import Build
from harness.kernel.toolchain import Toolchain
from harness.sandbox import bwrap
from tests.bench.lab import Lab, Part, Rows

_FOLDER = "net/core"
_SECONDS = 900


def measure(lab: Lab) -> Rows:
    """Rows for a step that does nothing, and for one that compiles a folder of the kernel."""
    tree, build, toolchain, runs = lab.tree, lab.kernel("base", "none"), lab.inputs.toolchain, lab.runs
    with tempfile.TemporaryDirectory(dir=build.out.parents[3]) as name:
        sides = [_Side(Path(name) / kind, tree, build, toolchain, kind == "boxed") for kind in ("boxed", "plain")]
        for side in sides:
            side.make("prepare")
            side.make(f"{_FOLDER}/")
        figures: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for number in range(runs):  # whichever is first finds the caches colder
            for side in sides if number % 2 else reversed(sides):
                figures[side.inside].append(side.compile())
    boxed, plain = ([statistics.median(column) for column in zip(*figures[inside], strict=True)]
                    for inside in (True, False))
    nothing = statistics.median(_timed(_nothing) for _ in range(20))
    more = 100 * (boxed[1] / plain[1] - 1)
    note = (f"{more:+.1f} % against the same without ({plain[1]:.2f} s); wall-clock {boxed[0]:.1f} s and "
            f"{plain[0]:.1f} s; medians of {runs}, in turns (wanted: at most 2 % of a clean build)")
    return [("a step in the sandbox that does nothing", f"{1000 * nothing:.0f} ms", "wall-clock, median of 20"),
            (f"make {_FOLDER}/ in the sandbox", f"{boxed[1]:.2f} s of processor time", note)]


class _Side:
    """An output folder in which the objects are made, in the sandbox or outside."""

    def __init__(self, out: Path, tree: Path, build: Build, toolchain: Toolchain, inside: bool) -> None:
        self.out, self.tree, self.toolchain, self.inside = out, tree, toolchain, inside
        out.mkdir()
        (out / ".config").write_text(build.config.text, encoding="utf-8")

    def make(self, target: str) -> float:
        """Make a target; seconds of processor time that make and what it ran took, as bash counts them (`times`)."""
        step = kbuild_box.make([target], source=self.tree, out=self.out, arch=native(), toolchain=self.toolchain)
        step = replace(step, argv=("bash", "-c", '"$@" && times', "make", *step.argv))
        if self.inside:
            done = bwrap.run(step, deadline=Deadline.after(_SECONDS), log=self.out.with_suffix(".log"))
        else:
            argv = [word.replace("/build/src", str(self.tree)).replace("/build/out", str(self.out))
                    for word in step.argv]
            done = proc.run(argv, deadline=Deadline.after(_SECONDS), env=kbuild_box.FIXED,
                            log=self.out.with_suffix(".log"))
        found = re.findall(r"(\d+)m([\d.]+)s", done.stdout.splitlines()[-1])
        return sum(60 * int(minutes) + float(seconds) for minutes, seconds in found)

    def compile(self) -> tuple[float, float]:
        """Seconds that the folder's objects take when none is there: wall-clock, and processor time, ours included."""
        for path in (self.out / _FOLDER).iterdir():
            if path.is_file():
                path.unlink()
        started, own = time.monotonic(), time.process_time()
        spent = self.make(f"{_FOLDER}/")
        return time.monotonic() - started, spent + time.process_time() - own


def _nothing() -> None:
    with tempfile.TemporaryDirectory() as name:
        bwrap.run(bwrap.boxed(["true"], read={}, write={"/out": Path(name)}, cwd="/out"),
                    deadline=Deadline.after(_SECONDS))


def _timed(call: Callable[[], None]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


PART = Part(name="sandbox", what="The same `make` in the sandbox and without it, in turns.", takes="three minutes",
            measure=measure)
