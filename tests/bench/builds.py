# SPDX-License-Identifier: GPL-2.0-only
"""What building takes: the plan's eight kernels from an empty cache, and what is built again after a change.

Each is held against plain `make -j` into an empty folder, as a developer would run it, without a sandbox.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness import proc
from harness.arch import native
from harness.compare import walk
from harness.deadline import Deadline
from harness.kernel import kbuild_box
from harness.kernel.kbuild import Build
from harness.store.store import Store, default_root
from tests.bench.lab import HARNESS, Lab, Part, Rows, command, timed
from tests.conftest import PLAN

_SECONDS = 3600
_LINE = ("+\tskb->slow_gro = 1;\n", "+\tskb->slow_gro = !!ext;\n")
"""One line of a .c file in the customer's last patch, and what it is changed to."""
_STEPS = "both"
"""The variant that is built after each patch."""


def measure(lab: Lab) -> Rows:
    default_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=default_root().parent) as name:
        work = Path(name)
        lab = _elsewhere(lab, work / "cache")
        words = [word for name in _variants(lab) for word in ("--variant", name)]
        cold, again = (timed(lambda: _build(PLAN, work, *words)) for _ in range(2))
        edited = timed(lambda: _build(_edited(work), work, *words))
        count = len(lab.inputs.steps()) - 2  # base and the whole series are there
        steps = timed(lambda: _build(PLAN, work, "--each-patch", "--variant", _STEPS, codes=(0, 1)))
        clean = {name: _plain(lab, lab.kernel("base", name), work / name) for name in _variants(lab)}
        same = _control(lab)
    eight = 2 * sum(clean.values())
    return [
        *((f"make, base/{variant}", f"{seconds:.0f} s", "from nothing, no sandbox")
          for variant, seconds in clean.items()),
        ("both kernels of each variant, empty cache", f"{cold:.0f} s",
         f"with all that is fetched; {cold / eight:.2f} of two clean builds for each variant (wanted: at most 0.45)"),
        ("the same again", f"{again:.1f} s", "wanted: at most 10 s"),
        ("one line changed in a .c file of the last patch", f"{edited:.0f} s",
         f"for all variants; {edited / eight * 2:.2f} of a clean build for each (wanted: at most 0.15)"),
        (f"{_STEPS} after each of the first {count} patches", f"{steps:.0f} s",
         f"{steps / count / clean[_STEPS]:.2f} of a clean build for each (wanted: at most 0.5)"),
        (f"patched/{_STEPS}, incremental against clean", f"{same} objects", "all of them, byte-identical"),
    ]


def _variants(lab: Lab) -> tuple[str, ...]:
    """The variants that have a base: two kernels each."""
    return lab.inputs.plan.compared(())


def _elsewhere(lab: Lab, cache: Path) -> Lab:
    """A lab with a cache of its own."""
    other = Lab(runs=lab.runs)
    other.store = Store(root=cache)
    return other


def _build(plan: Path, work: Path, *arguments: str, codes: tuple[int, ...] = (0,)) -> None:
    done = command(*HARNESS, "build", str(plan), "--json", *arguments, codes=codes,
                   env={"HARNESS_CACHE": str(work / "cache")})
    for row in json.loads(done):
        print(json.dumps({key: value for key, value in row.items() if key in ("name", "seconds")}),  # noqa: T201
              file=sys.stderr)


def _edited(work: Path) -> Path:
    """The customer's plan with one line of its last patch changed."""
    plan = work / "edited"
    shutil.copytree(PLAN, plan)
    last = max((plan / "series").glob("*.patch"))
    text = last.read_text(encoding="utf-8")
    if text.count(_LINE[0]) != 1:
        raise SystemExit(f"{last}: no longer has the line that this bench changes: {_LINE[0]!r}")
    last.write_text(text.replace(*_LINE), encoding="utf-8")
    return plan


def _plain(lab: Lab, like: Build, out: Path) -> float:
    """Seconds of a clean build of base, configuration taken from `like`, at the host's own paths."""
    out.mkdir()
    (out / ".config").write_text(like.config.text, encoding="utf-8")
    targets = [native().image_target, *(["modules"] if "CONFIG_MODULES=y\n" in like.config.text else [])]
    step = kbuild_box.make(targets, source=lab.tree, out=out, arch=native(), toolchain=lab.inputs.toolchain)
    words = [word.replace("/build/src", str(lab.tree)).replace("/build/out", str(out)) for word in step.argv]
    env: Mapping[str, str] = {**kbuild_box.FIXED, "PATH": os.environ["PATH"]}
    seconds = timed(lambda: proc.run(words, deadline=Deadline.after(_SECONDS), env=env, log=out.with_suffix(".log")))
    shutil.rmtree(out)
    return seconds


def _control(lab: Lab) -> int:
    """The objects of the incremental build of the last kernel, all the same in a build of it from nothing.

    Raises:
        SystemExit: one is not.
    """
    ours, clean = lab.kernel("patched", _STEPS), lab.kernel("patched", _STEPS, again="bench")
    if not ours.seed or clean.seed:
        raise SystemExit("the control compares nothing: it needs one incremental and one clean build")
    names = [set(walk.find(build.out).objects) for build in (ours, clean)]
    differ = sorted(name for name in names[0] & names[1]
                    if (ours.out / name).read_bytes() != (clean.out / name).read_bytes())
    if names[0] != names[1] or differ:
        raise SystemExit(f"incremental and clean builds differ: {[*differ, *(names[0] ^ names[1])][:10]}")
    return len(names[0])


PART = Part(name="builds", what="Eight kernels of the customer's plan, and each patch of it, beside clean builds.",
            takes="three quarters of an hour", measure=measure, long=True)
