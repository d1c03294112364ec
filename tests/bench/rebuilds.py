# SPDX-License-Identifier: GPL-2.0-only
"""What building again takes: nothing changed, one line changed, each patch of the series, beside one clean build.

Changes are comments that no cache has seen, at the end of a line: objects that have it are compiled again, and stay as
they were.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from tests.bench.builds import build, plain, variants
from tests.bench.lab import Lab, Part, Rows, timed
from tests.build.conftest import write_patch
from tests.conftest import PLAN

_LINE = "+\tskb->slow_gro = 1;\n"
"""A line of a .c file in the customer's last patch."""
_ELSEWHERE = "drivers/net/dummy.c"
"""A file that the customer's series does not touch."""
_STEPS = "both"
"""The variant that is built after each patch."""


def measure(lab: Lab) -> Rows:
    names = variants(lab)
    words = [word for name in names for word in ("--variant", name)]
    build(PLAN, *words)
    count = len(lab.inputs.steps()) - 1
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        again = timed(lambda: build(PLAN, *words))
        edited = timed(lambda: build(_edited(work / "edited"), *words))
        other = _other_base(lab, work / "other")
        build(other, "--side", "base", "--variant", _STEPS)
        steps = timed(lambda: build(other, "--each-patch", "--variant", _STEPS, codes=(0, 1)))
        clean = plain(lab, lab.kernel("base", _STEPS), work / "clean")
    return [
        (f"make, base/{_STEPS}", f"{clean:.0f} s", "from nothing, no sandbox"),
        ("both kernels of each variant again", f"{again:.1f} s", "wanted: at most 10 s"),
        ("one line changed in a .c file of the last patch", f"{edited:.0f} s",
         f"for {len(names)} variants; {edited / len(names) / clean:.2f} of a clean build each (wanted: at most 0.15)"),
        (f"{_STEPS} after each of the {count} patches", f"{steps:.0f} s",
         f"{steps / count / clean:.2f} of a clean build for each (wanted: at most 0.5)"),
    ]


def _edited(plan: Path) -> Path:
    """The customer's plan with one line of its last patch changed."""
    shutil.copytree(PLAN, plan)
    last = max((plan / "series").glob("*.patch"))
    text = last.read_text(encoding="utf-8")
    if text.count(_LINE) != 1:
        raise SystemExit(f"{last}: no longer has the line that this bench changes: {_LINE!r}")
    last.write_text(text.replace(_LINE, f"{_LINE[:-1]} /* {time.time_ns()} */\n"), encoding="utf-8")
    return plan


def _other_base(lab: Lab, plan: Path) -> Path:
    """The customer's plan on a base that no cache has seen, so that none of its steps is there."""
    shutil.copytree(PLAN, plan)
    text = (lab.tree / _ELSEWHERE).read_text(encoding="utf-8")
    patch = write_patch(plan / "extra", _ELSEWHERE, text, f"{text}/* {time.time_ns()} */\n")
    patch.rename(plan / "base" / "9999-other.patch")
    return plan


PART = Part(name="rebuilds", what="Building again, from the user's cache, beside one clean build.",
            takes="quarter of an hour", measure=measure, long=True)
