# SPDX-License-Identifier: GPL-2.0-only
"""What building the plan's eight kernels from an empty cache takes (what is built again: tests/bench/rebuilds.py).

Held against plain `make -j` into an empty folder, as a developer would run it, without a sandbox.
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
_CONTROL = "both"
"""The variant whose last kernel is also built from nothing."""


def measure(lab: Lab) -> Rows:
    default_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=default_root().parent) as name:
        work = Path(name)
        lab = _elsewhere(lab, work / "cache")
        words = [word for name in variants(lab) for word in ("--variant", name)]
        cold = timed(lambda: build(PLAN, *words, cache=work / "cache"))
        clean = {name: plain(lab, lab.kernel("base", name), work / name) for name in variants(lab)}
        same = _control(lab)
    return [
        *((f"make, base/{variant}", f"{seconds:.0f} s", "from nothing, no sandbox")
          for variant, seconds in clean.items()),
        ("both kernels of each variant, empty cache", f"{cold:.0f} s",
         f"with all that is fetched; {cold / sum(clean.values()) / 2:.2f} of clean builds (wanted: at most 0.45)"),
        (f"patched/{_CONTROL}, incremental against clean", f"{same} objects", "all of them, byte-identical"),
    ]


def variants(lab: Lab) -> tuple[str, ...]:
    """The variants that have a base: two kernels each."""
    return lab.inputs.plan.compared(())


def _elsewhere(lab: Lab, cache: Path) -> Lab:
    """A lab with a cache of its own."""
    other = Lab(runs=lab.runs)
    other.store = Store(root=cache)
    return other


def build(plan: Path, *arguments: str, cache: Path | None = None, codes: tuple[int, ...] = (0,)) -> None:
    """`harness build`; what each kernel took goes to standard error."""
    env = {} if cache is None else {"HARNESS_CACHE": str(cache)}
    for row in json.loads(command(*HARNESS, "build", str(plan), "--json", *arguments, codes=codes, env=env)):
        print(json.dumps({key: value for key, value in row.items() if key in ("name", "seconds")}),  # noqa: T201
              file=sys.stderr)


def plain(lab: Lab, like: Build, out: Path) -> float:
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
    ours, clean = lab.kernel("patched", _CONTROL), lab.kernel("patched", _CONTROL, again="bench")
    if not ours.seed or clean.seed:
        raise SystemExit("the control compares nothing: it needs one incremental and one clean build")
    names = [set(walk.find(build.out).objects) for build in (ours, clean)]
    differ = sorted(name for name in names[0] & names[1]
                    if (ours.out / name).read_bytes() != (clean.out / name).read_bytes())
    if names[0] != names[1] or differ:
        raise SystemExit(f"incremental and clean builds differ: {[*differ, *(names[0] ^ names[1])][:10]}")
    return len(names[0])


PART = Part(name="builds", what="Eight kernels of the customer's plan beside clean builds.",
            takes="forty minutes", measure=measure, long=True)
