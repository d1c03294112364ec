# SPDX-License-Identifier: GPL-2.0-only
"""What the README's first command takes: with an empty cache, and again with nothing changed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.store.store import default_root
from tests.bench.lab import HARNESS, Lab, Part, Rows, command, timed
from tests.conftest import PLAN


def measure(_: Lab) -> Rows:
    default_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=default_root().parent) as name:
        cold, warm = (_whole_run(Path(name), f"run-{number}") for number in (1, 2))
    return [("harness run patches/skb-extensions, empty cache", f"{cold / 60:.1f} min", "wanted: at most 40 min"),
            ("the same again", f"{warm:.0f} s", "wanted: at most 180 s")]


def _whole_run(work: Path, out: str) -> float:
    return timed(lambda: command(*HARNESS, "run", str(PLAN), "--out", str(work / out),
                                 env={"HARNESS_CACHE": str(work / "cache")}))


PART = Part(name="run", what="A whole run of the customer's plan: ten kernels, their comparison, boots and suites.",
            takes="half an hour", measure=measure, long=True)
