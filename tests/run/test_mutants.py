# SPDX-License-Identifier: GPL-2.0-only
"""A green suite is worth what it would have caught: one essential line of the series undone turns it red."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import tests.mutants.__main__ as runner
from harness.deadline import Deadline
from harness.jobs.inputs import Inputs
from harness.kernel.tree import prepare
from harness.store.store import Store
from tests.mutants.__main__ import breaks, mutants, verdict
from tests.run.conftest import PlanMaker, Runner

CAUGHT_BY = {
    "0001": "tests/guest/test_semantics.py",  # extensions are kept when a buffer is freed
    "0002": "tests/guest/test_ipsec.py",  # fragments lose their extensions
    "0004": "tests/guest/test_bridge.py",  # shared extensions are written to in place
}


@pytest.mark.parametrize("mutant", ["0001", *(pytest.param(name, marks=pytest.mark.slow) for name in CAUGHT_BY
                                              if name != "0001")])
def test_a_mutant_is_caught(run: Runner, derived_plan: PlanMaker, mutant: str) -> None:
    (path,) = [path for name, path in mutants().items() if name.startswith(mutant)]
    ran = run(derived_plan(extra=[path], suites=[CAUGHT_BY[mutant]]), "--variant", "both")
    assert ran.code == 1, ran
    (suite,) = ran.rows("suite")
    assert suite["verdict"] == "FAIL", ran
    assert all(row["verdict"] == "PASS" for row in ran.rows("boot")), ran


@pytest.mark.parametrize(("code", "rows", "killed", "error"), [
    (0, [], False, ""),
    (1, [("suite", "test_x.py", "FAIL")], True, ""),
    (1, [("boot", "patched/both", "FAIL")], True, ""),
    (1, [("boot", "base/both", "FAIL"), ("suite", "test_x.py", "FAIL")], False, "base itself fails: why"),
    (1, [("suite", "test_x.py", "PASS")], False, "exit code 1: what is wrong"),
    (3, [("suite", "test_x.py", "ERROR")], False, "exit code 3: what is wrong"),
    (4, [], False, "exit code 4: what is wrong"),
])
def test_only_what_fails_of_the_mutant_kills_it(tmp_path: Path, code: int, rows: list[tuple[str, str, str]],
                                                killed: bool, error: str) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps({"rows": [{"kind": kind, "id": name, "verdict": word, "evidence": "why", "tests": []}
                                            for kind, name, word in rows]}))
    done = subprocess.CompletedProcess(args=[], returncode=code, stdout="",
                                       stderr="  1 s  a step\nharness: what is wrong\n  hint: do this\n")
    said, why = verdict(done, results)
    assert (bool(said), why) == (killed, error)


def test_a_false_alarm_of_the_control_is_counted_and_its_evidence_kept(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    patched = iter([("", ""), ("`test_x`: why", ""), ("", ""), ("", "exit code 3: why")])
    base = iter(["", "", "base: `test_y`: FAIL: why", ""])
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "judged", lambda *_: next(patched))
    monkeypatch.setattr(runner, "on_base", lambda *_: next(base))
    *_, last = lines = list(runner.control(4))
    assert "1 times in a row: 1 passed (" in lines[0]
    assert ("4 times in a row: 1 passed; false alarms: 2: `test_x`: why; 3: base: `test_y`: FAIL: why; "
            "4: exit code 3: why (") in last
    assert sorted(path.name[-1] for path in (tmp_path / "runs").iterdir()) == ["2", "3", "4"]


def test_every_mutant_says_what_it_breaks() -> None:
    assert len(mutants()) >= 25
    for path in mutants().values():
        assert breaks(path)


@pytest.mark.parametrize("name", mutants())
def test_every_mutant_applies_to_the_whole_series(inputs: Inputs, store: Store, name: str) -> None:
    """One that does not is no mutant that was caught, and none that survived."""
    tree = prepare(inputs.trees["patched"], store, deadline=Deadline.after(900))
    done = subprocess.run(["git", "apply", "--check", "-p1", str(mutants()[name])], cwd=tree, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
