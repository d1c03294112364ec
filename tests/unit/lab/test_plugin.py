# SPDX-License-Identifier: GPL-2.0-only
"""The plugin, in a pytest of its own as `harness.jobs.suites` starts it, on tests that boot nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import proc
from harness.deadline import Deadline
from harness.jobs import suites
from harness.jobs.suites import Session
from harness.plan.plan import Suite

SUITE = '''
import pytest
from harness.errors import DeadlineExpired, InfraError, KernelError


@pytest.fixture
def dead():
    raise KernelError("a: panic: Attempted to kill init", where="console.log:7")


@pytest.fixture
def broken():
    raise ValueError("the fixture is wrong")


def test_passes(kernel):
    assert kernel.has("XFRM") and kernel.tree == "patched"

def test_fails():
    sent = 5
    assert sent == 6, "expected 6 packets, saw 5"

def test_skips():
    pytest.skip("no such NIC here")

def test_kernel():
    raise KernelError("a: WARNING: refcount", where="console.log:9", detail=("line of the report",))

def test_lab():
    raise InfraError("QEMU ended")

def test_waits():
    raise DeadlineExpired("ping: still running")

def test_dead(dead):
    assert dead

def test_broken(broken):
    assert broken

def test_asserts_nothing():
    print("nothing")

def test_crash():
    raise RuntimeError("in the test itself")

@pytest.mark.needs("BRIDGE_NETFILTER|XFRM")
def test_needed():
    assert True

@pytest.mark.needs("XFRM", "BRIDGE_NETFILTER", "A|B")
def test_not_applicable():
    assert False

@pytest.mark.parametrize("family", [pytest.param(4, id="ipv4")])
def test_case(family):
    assert family == 4
'''


def session_in(folder: Path, config: str = "CONFIG_XFRM=y\n") -> Session:
    (folder / ".config").write_text(config)
    return Session(tree="patched", variant="xfrm", arch="x86_64", image="bzImage", out=str(folder),
                   build="key", source="src", cc="gcc", make_vars=[], cache="cache", rootfs="rootfs",
                   memory=64, cpus=1, accel="tcg", boot_timeout=5, workdir=str(folder),
                   results=str(folder / "results.jsonl"))


def run(folder: Path, text: str) -> tuple[Path, list[dict[str, Any]]]:
    file = folder / "test_suite.py"
    file.write_text(text)
    with suites.started(Suite(name="test_suite.py", path=file), session_in(folder),
                        deadline=Deadline.after(60)) as running:
        running.row()
    return file, [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_each_test_earns_its_verdict(tmp_path: Path) -> None:
    file, records = run(tmp_path, SUITE)
    finished = {row["id"].removeprefix(f"{file}::"): row for row in records if row["event"] == "finished"}
    assert {name: row["verdict"] for name, row in finished.items()} == {
        "test_passes": "PASS", "test_fails": "FAIL", "test_skips": "SKIP", "test_kernel": "FAIL", "test_lab": "ERROR",
        "test_waits": "ERROR", "test_dead": "FAIL", "test_broken": "ERROR", "test_asserts_nothing": "ERROR",
        "test_crash": "ERROR", "test_needed": "PASS", "test_case[ipv4]": "PASS"}
    reasons = {name: row["reason"] for name, row in finished.items()}
    assert reasons["test_fails"] == "expected 6 packets, saw 5"
    assert reasons["test_skips"] == "no such NIC here"
    assert reasons["test_kernel"] == "a: WARNING: refcount [console.log:9]"
    assert "line of the report" in finished["test_kernel"]["detail"]
    assert reasons["test_asserts_nothing"] == "the test asserts nothing: it cannot fail"
    assert "RuntimeError in call: in the test itself" in reasons["test_crash"]
    assert all("\n" not in reason for reason in reasons.values())


def test_records_say_what_was_planned_and_what_does_not_apply(tmp_path: Path) -> None:
    file, records = run(tmp_path, SUITE)
    planned = [row["id"] for row in records if row["event"] == "planned"]
    assert len(planned) == 12
    assert planned == [row["id"] for row in records if row["event"] == "started"]
    assert [row for row in records if row["event"] == "not-applicable"] == [
        {"event": "not-applicable", "id": f"{file}::test_not_applicable",
         "reason": "the kernel lacks CONFIG_BRIDGE_NETFILTER, CONFIG_A or CONFIG_B"}]


def test_a_test_that_kills_pytest_is_left_as_started(tmp_path: Path) -> None:
    file, records = run(tmp_path, "import os\n\ndef test_dies():\n    assert os._exit(3)\n")
    assert [row["event"] for row in records] == ["planned", "started"]
    assert records[0]["id"] == f"{file}::test_dies"


@pytest.mark.parametrize(("marks", "words"), [
    ('pytestmark = pytest.mark.topology("ring")', "unknown topology 'ring'"),
    ("pytestmark = []", "says once which machines it needs"),
])
def test_a_module_that_asks_for_no_or_an_unknown_topology(tmp_path: Path, marks: str, words: str) -> None:
    _, records = run(tmp_path, f"import pytest\n{marks}\n\ndef test_it(lab):\n    assert lab\n")
    assert records[-1]["verdict"] == "ERROR"
    assert words in records[-1]["reason"]


def test_guest_tests_started_by_hand_say_how_to_start_them(tmp_path: Path) -> None:
    guest = Path(__file__).parents[2] / "guest/test_link.py"
    done = proc.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(guest)], cwd=tmp_path,
                    deadline=Deadline.after(60), check=False)
    assert done.returncode == 4
    assert "harness run" in done.stdout + done.stderr
