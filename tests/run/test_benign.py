# SPDX-License-Identifier: GPL-2.0-only
"""Reports that a plan knows as benign: they fail nothing, and the result says that they were there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run.conftest import PlanMaker, Runner

SUITE = """\
from harness.vm.handle import Machine

def test_a_kernel_that_complains(machine: Machine) -> None:
    done = machine.run("sh", "-c", "echo 'kernel BUG at on_purpose.c:1!' > /dev/kmsg")
    assert done.returncode == 0
"""
ENTRY = "benign: [{pattern: 'on_purpose\\.c', reason: provoked by this test, expires: %s}]"


@pytest.mark.parametrize(("entry", "code", "verdict", "said"), [
    (ENTRY % "2999-01-01", 0, "PASS", "1 pass; dut: 1 reports known as benign: provoked by this test"),
    (ENTRY % "2020-01-01", 1, "FAIL", "dut: BUG: kernel BUG"),
    ("", 1, "FAIL", "dut: BUG: kernel BUG"),
], ids=["known", "expired", "unknown"])
def test_what_is_known_as_benign_is_hidden_and_counted(run: Runner, derived_plan: PlanMaker, tmp_path: Path, entry: str,
                                                        code: int, verdict: str, said: str) -> None:
    (tmp_path / "test_complains.py").write_text(SUITE)
    ran = run(derived_plan(suites=["test_complains.py"], more=entry))
    assert ran.code == code, ran
    (row,) = ran.rows("suite")
    assert row["verdict"] == verdict, ran
    assert said in row["evidence"], row["evidence"]
