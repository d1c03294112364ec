# SPDX-License-Identifier: GPL-2.0-only
"""What `harness objdiff` costs, whole processes, beside the kernel's own scripts/objdiff on the same objects."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.compare import elf, walk
from harness.compare.objdiff import compare
from harness.deadline import Deadline
from harness.jobs.again import Side
from harness.jobs.proof import prove
from harness.kernel.recompile import Job, recompile, source_of
from harness.kernel.source import fetch
from tests.bench.lab import Lab, Part, Rows

_NOISY = 95
"""Objects with line noise, as many as a real series left in a configuration full of WARN_ONs."""
_GROWTH = (300, 1400, 5000)


def measure(lab: Lab) -> Rows:
    """Rows for: no object changed, a real series, `_NOISY` objects with line noise, growth with the number."""
    control = lab.kernel("base", "none", again="control")
    unchanged = (lab.kernel("base", "none"), control)
    series = (lab.kernel("base", "both"), lab.kernel("patched", "both"))
    tree, runs, full_build = lab.tree, lab.runs, control.seconds
    script = fetch(lab.inputs.trees["base"].source, lab.store, deadline=Deadline.after(900)) / "scripts" / "objdiff"
    first, second = (build.out for build in unchanged)
    rows = _against("no object changed", first, second, script, runs, 70)
    rows.append(_ours(f"the series in {series[0].variant}", series[0].out, series[1].out, runs)[0])
    with tempfile.TemporaryDirectory(dir=first.parents[3]) as name:
        noisy, edits = Path(name) / "noisy", Path(name) / "edits"
        shown = _noisy(first, noisy, tree, edits)
        count = sum((first / path).read_bytes() != (noisy / path).read_bytes() for path in walk.find(first).objects)
        rows += _against(f"{count} objects with line noise", first, noisy, script, runs, 40)
        rows.append(_proof(Side(out=first, tree=tree), Side(out=first, tree=tree, shown=shown, objects=noisy),
                           full_build))
        rows += _growth(first, noisy, Path(name), runs)
    return rows


def _against(what: str, base: Path, patched: Path, script: Path, runs: int, wanted: int) -> Rows:
    row, seconds = _ours(what, base, patched, runs)
    turns = min(runs, 3)
    theirs = statistics.median(_timed(lambda: kernels_own(base, patched, script)) for _ in range(turns))
    ratio = f"{theirs / seconds:.0f} times ours (wanted: at least {wanted})"
    return [row, (f"scripts/objdiff, {what}", f"{theirs:.1f} s", f"record, record, diff, median of {turns}: {ratio}")]


def _ours(what: str, base: Path, patched: Path, runs: int) -> tuple[tuple[str, str, str], float]:
    """Its row, and the seconds."""
    ours = [_whole([sys.executable, "-m", "harness", "objdiff", str(base), str(patched)]) for _ in range(runs)]
    seconds = statistics.median(second for second, _ in ours)
    peak = max(megabytes for _, megabytes in ours)
    return (f"harness objdiff, {what}", f"{seconds:.2f} s",
            f"median of {runs}; peak memory of each process below {peak:.0f} MB (wanted: 1 s, 300 MB)"), seconds


def _growth(base: Path, patched: Path, work: Path, runs: int) -> Rows:
    """The same comparison with fewer and more objects, each a hard link to one of the build's."""
    names = sorted(walk.find(base).objects)
    rows: Rows = []
    for size in _GROWTH:
        for side, out in (("a", base), ("b", patched)):
            for index in range(size):
                copy, name = divmod(index, len(names))
                target = work / f"{size}{side}" / f"copy{copy}" / names[name]
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(out / names[name], target)
        argv = [sys.executable, "-m", "harness", "objdiff", str(work / f"{size}a"), str(work / f"{size}b")]
        figures = [_whole(argv) for _ in range(runs)]
        seconds, peak = statistics.median(second for second, _ in figures), max(megabytes for _, megabytes in figures)
        rows.append((f"harness objdiff, {size} objects", f"{seconds:.2f} s",
                     f"{1000 * seconds / size:.2f} ms an object; peak memory of each process below {peak:.0f} MB"))
    return rows


def _proof(base: Side, patched: Side, full_build: float) -> tuple[str, str, str]:
    """What it takes to prove by compiling that the objects with line noise did not change."""
    started = time.monotonic()
    found = prove(compare(base.out, patched.objects or patched.out), base, patched, patched.shown,
                  deadline=Deadline.after(1800))
    seconds = time.monotonic() - started
    return (f"the proof of {found.proved} of {found.explained} explained objects", f"{seconds:.0f} s",
            f"{100 * seconds / full_build:.0f} % of a build from nothing ({full_build:.0f} s; wanted: at most 10)")


def _noisy(out: Path, noisy: Path, tree: Path, edits: Path) -> dict[str, Path]:
    """A copy of a build whose sources have three more lines at their top; the edited sources, by path in the tree."""
    subprocess.run(["cp", "-al", str(out), str(noisy)], check=True)
    chosen: dict[str, str] = {}
    for name in sorted(walk.find(out).objects):
        source = source_of(out, name)
        if source and source.endswith(".c") and source.startswith(("net/", "kernel/", "mm/", "fs/")) and any(
                section.name == "__bug_table" and section.size for section in elf.read(out / name).sections):
            chosen[name] = source
        if len(chosen) == _NOISY:
            break
    edits.mkdir()
    shown = {}
    for number, source in enumerate(chosen.values()):
        shown[source] = edits / str(number)
        shown[source].write_bytes(b"\n\n\n" + (tree / source).read_bytes())
    made = recompile(out, tree, [Job(object=name) for name in chosen], overrides=shown, deadline=Deadline.after(1800))
    for name, data in zip(chosen, made, strict=True):
        if isinstance(data, Exception):
            raise data
        (noisy / name).unlink()
        (noisy / name).write_bytes(data)
    return shown


def _whole(argv: Sequence[str]) -> tuple[float, float]:
    """Seconds and an upper bound of the peak resident memory (MB) of a process.

    The kernel keeps the peak of before exec, which is the bench's own: ru_maxrss in getrusage(2).
    """
    started = time.monotonic()
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{argv}: exit code {process.returncode}")
    return time.monotonic() - started, usage.ru_maxrss / 1000


def _timed(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def kernels_own(base: Path, patched: Path, script: Path) -> None:
    """What a developer would run otherwise, in a repository of its own, on the objects that we compare."""
    with tempfile.TemporaryDirectory(dir=base.parents[3]) as name:
        work = Path(name)
        git = ("git", "-c", "user.name=bench", "-c", "user.email=bench@localhost")
        _run("git", "init", "-q", cwd=work)
        for side in (base, patched):
            _run("rm", "-rf", "out", cwd=work)
            for name in walk.find(side).objects:
                (work / "out" / name).parent.mkdir(parents=True, exist_ok=True)
                os.link(side / name, work / "out" / name)
            _run(*git, "commit", "-q", "--allow-empty", "-m", "x", cwd=work)
            _run("bash", str(script), "record", "out", cwd=work)
        _run("bash", str(script), "diff", cwd=work, codes=(0, 1))


def _run(*argv: str, cwd: Path, codes: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        raise SystemExit(f"{argv}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


PART = Part(name="objdiff", what="Objects of variants `none` and `both`, hot cache, beside the tree's scripts/objdiff.",
            takes="five minutes", measure=measure)
