# SPDX-License-Identifier: GPL-2.0-only
"""Every patch of a series builds, and which one brings in a warning: `harness build --each-patch`, `check: builds`."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from tests.build.conftest import write_patch
from tests.run.conftest import PlanMaker, Ran, Runner, harness

FILE = "drivers/net/dummy.c"
WHERE = "static int numdummies = 1;\n"
UNUSED = "static int unused_one;\n"
STEPS = (
    ("a blank line moves what is warned of", "\n" + WHERE),
    ("a warning", "\n" + WHERE + UNUSED),
    ("it moves", "\n\n" + WHERE + UNUSED),
    ("it does not build", "\n\n" + WHERE + UNUSED + "int broken = ;\n"),
    ("it builds again, with one more", "\n\n" + WHERE + UNUSED + "static int unused_two;\n"),
)


@pytest.fixture
def warning_series(clean_tree: Path, tmp_path: Path) -> list[Path]:
    text = (clean_tree / FILE).read_text(encoding="utf-8")
    assert text.count(WHERE) == 1
    states = [text, *(text.replace(WHERE, new) for _, new in STEPS)]
    return [write_patch(tmp_path / "extra", FILE, *pair) for pair in pairwise(states)]


def test_the_command_says_which_patch_warns_and_which_does_not_build(
        derived_plan: PlanMaker, warning_series: list[Path], tmp_path: Path) -> None:
    plan = derived_plan(series=False, extra=warning_series)
    done = harness("build", str(plan), "--each-patch", "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    (variant,) = json.loads(done.stdout)
    builds = [row["builds"] for row in variant["patches"]]
    new = [[one["text"] for one in row["new_warnings"]] for row in variant["patches"]]
    assert builds == [True, True, True, False, True], done.stdout
    assert [len(rows) for rows in new] == [0, 1, 0, 0, 1], done.stdout
    assert "unused_one" in new[1][0]
    assert "unused_two" in new[4][0]
    assert any("expected expression" in line for line in variant["patches"][3]["error"])
    said = harness("build", str(plan), "--each-patch", cwd=tmp_path)
    assert said.returncode == 1
    assert "does not build" in said.stdout
    assert "1 new warning" in said.stdout


def judged(ran: Ran) -> list[tuple[str, str]]:
    return [(row["id"], row["verdict"]) for row in ran.rows("claim")]


def test_a_claim_is_judged_by_it(derived_plan: PlanMaker, warning_series: list[Path], run: Runner) -> None:
    claims = ("claims:\n"
              "  clean: {says: no new warning, check: builds, variants: [both]}\n"
              "  builds: {says: each builds, check: builds, variants: [both], expect: builds}\n")
    ran = run(derived_plan(series=False, extra=warning_series[:2], more=claims))
    assert judged(ran) == [("clean", "FAIL"), ("builds", "PASS")], str(ran)
    assert ran.code == 1
    evidence = ran.rows("claim", id="clean")[0]["evidence"]
    assert "first with patch 2" in evidence
    assert "unused_one" in evidence
