# SPDX-License-Identifier: GPL-2.0-only
"""A run that died is continued by the same command: what was finished is taken as it is, the rest is made."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.run.conftest import DummyPatch, PlanMaker, half_written, harness
from tests.run.test_interrupt import all_gone, started


@pytest.mark.parametrize(("moment", "reused"), [
    ("building patched/both", {"base/both": True, "patched/both": False}),
    ("booting base/both", {"base/both": True, "patched/both": True}),
])
def test_a_killed_run_is_continued(derived_plan: PlanMaker, dummy_patch: DummyPatch, tmp_path: Path, moment: str,
                                   reused: dict[str, bool]) -> None:
    """The last patch is one that no cache has seen, so that the killed run alone can have built the kernel with it."""
    change = f"static int numdummies = 1 + {time.time_ns() % 1000000000};\n"
    plan = derived_plan(extra=[dummy_patch("static int numdummies = 1;\n", change)])
    with started(plan, tmp_path / "killed", moment) as (process, children):
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    all_gone(children)
    again = harness("run", str(plan), "--out", str(tmp_path / "again"), cwd=tmp_path)
    assert again.returncode == 0, again.stderr + again.stdout
    results = json.loads((tmp_path / "again" / "results.json").read_text())
    assert {build["name"]: build["reused"] for build in results["builds"]} == reused
    done = [word for word in ("applying", "configuring", "building base", "building patched") if word in again.stderr]
    assert done == ([] if all(reused.values()) else ["building patched"])
    assert not half_written()
