# SPDX-License-Identifier: GPL-2.0-only
"""What the sandbox costs: the same `make` of the same objects with it and without, in turns.

Where it does not run, make works at the host's own paths; the compiler's work is the same. The whole cost is in the
figure: namespaces and mounts, the watchdog's looks, and looking over the output at the end.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import proc, sandbox
from harness.arch import native
from harness.deadline import Deadline
from harness.kernel import kbuild_box
from harness.kernel.kbuild import Build
from harness.kernel.kbuild_box import Toolchain
from tests.bench.objdiff import Rows

_FOLDER = "net/core"
_SECONDS = 900


def measure(tree: Path, build: Build, toolchain: Toolchain, runs: int) -> Rows:
    """Rows for a step that does nothing, and for one that compiles a folder of the kernel.

    Args:
        tree: what `build` was built from.
        build: whose configuration is taken; the work is done beside it.
    """
    with tempfile.TemporaryDirectory(dir=build.out.parents[3]) as name:
        boxed, plain = (_prepared(Path(name) / kind, tree, build, toolchain, kind == "boxed")
                        for kind in ("boxed", "plain"))
        pairs = [(_compile(boxed), _compile(plain)) for _ in range(runs)]
    ratio = statistics.median(first / second for first, second in pairs)
    inside, outside = (statistics.median(side) for side in zip(*pairs, strict=True))
    note = (f"{100 * (ratio - 1):+.1f} % against the same without ({outside:.2f} s), median of {runs} pairs in turns "
            "(wanted: at most 2 % of a clean build)")
    nothing = statistics.median(_timed(_nothing) for _ in range(20))
    return [("a step in the sandbox that does nothing", f"{1000 * nothing:.0f} ms", "median of 20"),
            (f"make {_FOLDER}/ in the sandbox", f"{inside:.2f} s", note)]


def _prepared(out: Path, tree: Path, build: Build, toolchain: Toolchain,
              inside: bool) -> tuple[Path, Callable[[], None]]:
    """An output folder in which all but the objects is made, and what makes these."""
    out.mkdir()
    (out / ".config").write_text(build.config.text, encoding="utf-8")

    def make(target: str) -> None:
        step = kbuild_box.make([target], source=tree, out=out, arch=native(), toolchain=toolchain)
        if inside:
            sandbox.run(step, deadline=Deadline.after(_SECONDS), log=out.with_suffix(".log"))
            return
        argv = [word.replace("/build/src", str(tree)).replace("/build/out", str(out)) for word in step.argv]
        proc.run(argv, deadline=Deadline.after(_SECONDS), env=kbuild_box.FIXED, log=out.with_suffix(".log"))

    make("prepare")
    make(f"{_FOLDER}/")
    return out, lambda: make(f"{_FOLDER}/")


def _compile(side: tuple[Path, Callable[[], None]]) -> float:
    """Seconds that the objects of the folder take when none is there."""
    out, make = side
    for path in (out / _FOLDER).iterdir():
        if path.is_file():
            path.unlink()
    subprocess.run(["sync"], check=True)
    return _timed(make)


def _nothing() -> None:
    with tempfile.TemporaryDirectory() as name:
        sandbox.run(sandbox.boxed(["true"], read={}, write={"/out": Path(name)}, cwd="/out"),
                    deadline=Deadline.after(_SECONDS))


def _timed(call: Callable[[], None]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started
