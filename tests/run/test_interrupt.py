# SPDX-License-Identifier: GPL-2.0-only
"""Ctrl-C, SIGTERM and SIGKILL at any moment: nothing of ours goes on running, nothing is half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.deadline import Deadline
from tests.processes import descendants, running
from tests.run.conftest import HARNESS, DummyPatch, PlanMaker, half_written

SUITE = "tests/guest/test_link.py"


@contextmanager
def started(plan: Path, folder: Path, until: str) -> Iterator[tuple[subprocess.Popen[str], set[int]]]:
    """A run that has just printed `until` on standard error, and its descendants at that moment."""
    process = subprocess.Popen([*HARNESS, "run", str(plan), "--out", str(folder)], stderr=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, start_new_session=True)
    assert process.stderr is not None
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if until in line:
                break
        else:
            raise AssertionError("".join(said))
        deadline = Deadline.after(60)
        while not descendants(process.pid):
            deadline.check("a child of the run")
            time.sleep(0.01)
        yield process, descendants(process.pid)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def all_gone(pids: set[int]) -> None:
    deadline = Deadline.after(20)
    while running(pids):
        deadline.check(f"end of {running(pids)}")
        time.sleep(0.01)


@pytest.mark.parametrize(("moment", "number"), [
    ("applying", signal.SIGINT), ("building patched/both", signal.SIGINT), ("booting base/both", signal.SIGINT),
    ("booting patched/both", signal.SIGTERM), (f"suite {SUITE}", signal.SIGINT),
])
def test_an_interrupted_run_leaves_nothing(derived_plan: PlanMaker, dummy_patch: DummyPatch, tmp_path: Path,
                                           moment: str, number: signal.Signals) -> None:
    extra = []
    if moment in ("applying", "building patched/both"):
        change = f"static int numdummies = 1 + {time.time_ns() % 1000000000};\n"
        extra = [dummy_patch("static int numdummies = 1;\n", change)]
    folder = tmp_path / "run"
    with started(derived_plan(extra=extra, suites=[SUITE]), folder, moment) as (process, children):
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    all_gone(children)
    assert not half_written()
    results = json.loads((folder / "results.json").read_text())
    assert results["exit_code"] == 130
    assert results["error"]


def test_a_killed_run_leaves_no_process_and_the_next_one_works(derived_plan: PlanMaker, tmp_path: Path) -> None:
    with started(derived_plan(), tmp_path / "run", "booting base/both") as (process, children):
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    all_gone(children)
    again = subprocess.run([*HARNESS, "run", str(tmp_path), "--out", str(tmp_path / "again")], capture_output=True,
                           text=True, check=False)
    assert again.returncode == 0, again.stderr + again.stdout
