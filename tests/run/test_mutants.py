# SPDX-License-Identifier: GPL-2.0-only
"""A green suite is worth what it would have caught: one essential line of the series undone turns it red."""

from __future__ import annotations

import pytest

from tests.conftest import PLAN
from tests.run.conftest import PlanMaker, Runner

MUTANTS = {path.stem: path for path in sorted((PLAN / "mutants").glob("*.patch"))}
CAUGHT_BY = {
    "leak": "tests/guest/test_bridge.py",
    "fragment": "tests/guest/test_ipsec.py",
}


@pytest.mark.parametrize("mutant", CAUGHT_BY)
def test_a_mutant_is_caught(run: Runner, derived_plan: PlanMaker, mutant: str) -> None:
    (path,) = [path for name, path in MUTANTS.items() if mutant in name]
    ran = run(derived_plan(extra=[path], suites=[CAUGHT_BY[mutant]]), "--variant", "both")
    assert ran.code == 1, ran
    (suite,) = ran.rows("suite")
    assert suite["verdict"] == "FAIL", ran
    assert all(row["verdict"] == "PASS" for row in ran.rows("boot")), ran
