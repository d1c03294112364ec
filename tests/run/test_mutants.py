# SPDX-License-Identifier: GPL-2.0-only
"""A green suite is worth what it would have caught: one essential line of the series undone turns it red."""

from __future__ import annotations

import pytest

from tests.mutants.__main__ import breaks, mutants
from tests.run.conftest import PlanMaker, Runner

CAUGHT_BY = {
    "0001": "tests/guest/test_semantics.py",  # extensions are kept when a buffer is freed
    "0002": "tests/guest/test_ipsec.py",  # fragments lose their extensions
    "0004": "tests/guest/test_bridge.py",  # shared extensions are written to in place
}


@pytest.mark.parametrize("mutant", CAUGHT_BY)
def test_a_mutant_is_caught(run: Runner, derived_plan: PlanMaker, mutant: str) -> None:
    (path,) = [path for name, path in mutants().items() if name.startswith(mutant)]
    ran = run(derived_plan(extra=[path], suites=[CAUGHT_BY[mutant]]), "--variant", "both")
    assert ran.code == 1, ran
    (suite,) = ran.rows("suite")
    assert suite["verdict"] == "FAIL", ran
    assert all(row["verdict"] == "PASS" for row in ran.rows("boot")), ran


def test_every_mutant_says_what_it_breaks() -> None:
    assert len(mutants()) >= 25
    for path in mutants().values():
        assert breaks(path)
