# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tests: which there are, what goes into the guest, and what exit codes and KTAP come to."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from harness.claims import Verdict
from harness.errors import UsageError
from harness.jobs import selftests as job
from harness.jobs.selftests import Outcome, judge
from harness.kernel import selftests
from harness.kernel.selftests import Selftest
from harness.ktap import Case

MAKEFILE = """\
# SPDX-License-Identifier: GPL-2.0
TEST_PROGS := one.sh \\
\ttwo.sh
TEST_PROGS += three.sh
TEST_GEN_PROGS = prog
TEST_GEN_FILES += helper $(OUTPUT)/made
include ../lib.mk
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree" / selftests.ROOT / "net"
    folder.mkdir(parents=True)
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / "settings").write_text("timeout=120\n")
    (folder / "one.sh").write_text("#!/bin/bash\n. ./lib.sh\n./helper\n")
    (folder / "lib.sh").write_text("other=1\n")
    (folder / "prog.c").write_text("int main(void) { return 0; }\n")
    (folder / "secret").symlink_to("/etc/hostname")
    runner = tmp_path / "tree" / selftests.ROOT / "kselftest"
    runner.mkdir()
    (runner / "runner.sh").write_text("true\n")
    return tmp_path / "tree"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "built"
    folder.mkdir()
    for name in ("helper", "prog", "unused"):
        (folder / name).write_bytes(b"\x7fELF")
    (folder / "leak").symlink_to("/etc/passwd")
    return folder


def test_what_a_collection_runs_stands_in_its_makefile(tree: Path) -> None:
    assert selftests.programs(tree / selftests.ROOT / "net") == ["one.sh", "prog", "three.sh", "two.sh"]


def test_tests_are_found_by_name_and_by_collection(tree: Path) -> None:
    assert selftests.find(tree, ["net:one.sh"]) == (Selftest(collection="net", name="one.sh", seconds=120),)
    assert [test.id for test in selftests.find(tree, ["net:*", "net:one.sh"])] == [
        "net:one.sh", "net:three.sh", "net:two.sh"]
    (tree / selftests.ROOT / "net" / "settings").unlink()
    assert selftests.find(tree, ["net:prog"])[0].seconds == 45


@pytest.mark.parametrize(("name", "message", "hint"), [
    ("net", "'net' is no selftest", "COLLECTION:TEST"),
    ("net:", "'net:' is no selftest", "COLLECTION:TEST"),
    ("../net:one.sh", "the tree has no selftests '../net'", "did you mean net?"),
    ("/etc:one.sh", "no selftests '/etc'", ""),
    ("nte:one.sh", "the tree has no selftests 'nte'", "did you mean net?"),
    ("net:onee.sh", "has no test 'onee.sh'", "did you mean one.sh"),
    ("net:lib.sh", "has no test 'lib.sh'", ""),
])
def test_what_is_not_there_is_refused(tree: Path, name: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        selftests.find(tree, [name])
    assert message in str(caught.value)
    assert hint in str(caught.value)


def test_an_archive_has_what_the_test_needs_and_follows_no_link(tree: Path, built: Path) -> None:
    data = selftests.pack(selftests.find(tree, ["net:one.sh"])[0], tree, built)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = set(archive.getnames())
        assert all(member.isfile() for member in archive.getmembers())
    assert {"selftests/net/one.sh", "selftests/net/lib.sh", "selftests/net/helper",
            "selftests/kselftest/runner.sh"} <= names
    assert not names & {f"selftests/net/{name}" for name in ("prog.c", "secret", "leak", "unused", "prog")}
    assert data == selftests.pack(selftests.find(tree, ["net:one.sh"])[0], tree, built)


def test_programs_that_could_not_be_built_are_named(tree: Path, built: Path) -> None:
    one, prog = selftests.find(tree, ["net:one.sh", "net:prog"])
    assert selftests.missing(one, tree, built) == ()
    (built / "helper").unlink()
    assert selftests.missing(one, tree, built) == ("helper",)
    (built / "prog").unlink()
    assert selftests.missing(prog, tree, built) == ("prog",)


@pytest.mark.parametrize(("code", "output", "verdict", "reason"), [
    (0, "PASS: all\n", Verdict.PASS, ""),
    (1, "ok so far\nFAIL: no answer\nbye\n", Verdict.FAIL, "exit code 1: FAIL: no answer"),
    (4, "SKIP: Could not run test without jq\n", Verdict.SKIP, "SKIP: Could not run test without jq"),
    (4, "", Verdict.SKIP, "it skipped"),
    (124, "waiting\n", Verdict.FAIL, "still running after 3 s"),
    (143, "waiting\n", Verdict.FAIL, "still running after 3 s"),
    (139, "", Verdict.FAIL, "exit code 139"),
    (0, "TAP version 13\n1..2\nok 1 a\nok 2 b\n", Verdict.PASS, "2 cases"),
    (0, "TAP version 13\n1..2\nok 1 a\nnot ok 2 b\n", Verdict.FAIL, "1 cases failed: b"),
    (1, "TAP version 13\n1..2\nok 1 a\nnot ok 2 b\n", Verdict.FAIL, "exit code 1: b"),
    (0, "TAP version 13\n1..2\nok 1 a # SKIP no jq\nok 2 b # SKIP\n", Verdict.SKIP, "no jq"),
    (0, "TAP version 13\n1..2\nok 1 a # SKIP no jq\nok 2 b\n", Verdict.PASS, "1 cases"),
    (0, "TAP version 13\n1..0 # SKIP nothing here\n", Verdict.SKIP, "none of its cases ran"),
    (0, "# 1..2 is what a subtest of another program said\n", Verdict.PASS, ""),
    (0, "TAP version 13\n1..2\nok 1 a\n", Verdict.FAIL, "the report is not whole: 2 tests were planned, 1 reported"),
])
def test_what_an_exit_code_and_a_report_come_to(code: int, output: str, verdict: Verdict, reason: str) -> None:
    outcome = judge(code, output, 3.0, 3.0)
    assert (outcome.verdict, outcome.reason) == (verdict, reason)


@pytest.mark.parametrize("stamp", ["", "[    1.000000] "])
@pytest.mark.parametrize("text", ["ok 1 a\nnot ok 2 b", "1..2\nok 1 a # 1 s\nnot ok 2 b # 2 s", "Bail out! no memory"])
def test_a_report_without_a_plan_or_with_data_is_judged_by_its_failures(stamp: str, text: str) -> None:
    outcome = judge(0, "\n".join(f"{stamp}{line}" for line in text.splitlines()), 1.0, 3.0)
    assert outcome.verdict is Verdict.FAIL
    assert outcome.failed == (frozenset("b") if "not ok" in text else frozenset())


def test_who_is_killed_before_the_time_is_up_was_not_slow() -> None:
    assert judge(143, "", 1.0, 3.0).reason == "exit code 143"


TEST = Selftest(collection="net", name="one.sh", seconds=45)
PASS, FAIL = Outcome(verdict=Verdict.PASS), Outcome(verdict=Verdict.FAIL, reason="exit code 1", said=("no",))
SKIP = Outcome(verdict=Verdict.SKIP, reason="no jq")
HUNG = Outcome(verdict=Verdict.FAIL, reason="still running")
OOPS = Outcome(verdict=Verdict.FAIL, reason="dut: oops: f", kernel="dut: oops: f")


def cases(**passed: bool | None) -> Outcome:
    """What failed (False), passed (True), or was skipped (None)."""
    failed = False in passed.values()
    return Outcome(verdict=Verdict.FAIL if failed else Verdict.PASS, reason="1 cases failed" if failed else "",
                   cases=tuple(Case(name=name, passed=ok is not False, directive="SKIP" if ok is None else "")
                               for name, ok in passed.items()))


@pytest.mark.parametrize(("base", "patched", "verdict", "evidence"), [
    (PASS, PASS, Verdict.PASS, "base: PASS; patched: PASS"),
    (FAIL, PASS, Verdict.PASS, "base: FAIL (exit code 1); patched: PASS"),
    (PASS, FAIL, Verdict.FAIL, "base: PASS; patched: FAIL (exit code 1)"),
    (SKIP, FAIL, Verdict.FAIL, "base: SKIP (no jq); patched: FAIL (exit code 1)"),
    (FAIL, FAIL, Verdict.SKIP, "fails before the series, too: exit code 1"),
    (FAIL, HUNG, Verdict.INCONCLUSIVE, ("fails in another way than before the series: base: FAIL (exit code 1); "
                                       "patched: FAIL (still running)")),
    (FAIL, replace(FAIL, reason="exit code 1: 3 failed"), Verdict.SKIP,
     "fails before the series, too: exit code 1: 3 failed"),
    (SKIP, SKIP, Verdict.SKIP, "no jq"),
    (PASS, SKIP, Verdict.FAIL, "no longer runs: base: PASS; patched: SKIP (no jq)"),
    (FAIL, OOPS, Verdict.FAIL, "base: FAIL (exit code 1); patched: FAIL (dut: oops: f)"),
    (OOPS, OOPS, Verdict.INCONCLUSIVE, "the kernel fails before the series, too: dut: oops: f"),
    (OOPS, FAIL, Verdict.SKIP, "fails before the series, too: exit code 1"),
    (cases(a=False, b=True), cases(a=False, b=False), Verdict.FAIL,
     "b fails on patched only (1 such cases; others fail on both)"),
    (cases(a=False, b=False), cases(a=False, b=True), Verdict.SKIP, "fails before the series, too: 1 cases failed"),
    (cases(a=False, b=True), HUNG, Verdict.FAIL,
     "b passes on base and does not run on patched (1 such cases): still running"),
    (cases(a=True, b=True), cases(a=True), Verdict.FAIL, "b passes on base and does not run on patched (1 such cases)"),
    (cases(a=True, b=True), cases(a=True, b=None), Verdict.FAIL,
     "b passes on base and does not run on patched (1 such cases)"),
    (cases(a=True, b_12ms=True), cases(a=True, b_13ms=True), Verdict.PASS, "base: PASS; patched: PASS"),
    (cases(a=True, b=None), cases(a=True), Verdict.PASS, "base: PASS; patched: PASS"),
])
def test_a_failure_is_the_series_fault_only_where_base_has_none(
        base: Outcome, patched: Outcome, verdict: Verdict, evidence: str) -> None:
    (row,) = job.compare("both", [TEST], {"base": {TEST.id: base}, "patched": {TEST.id: patched}})
    assert (row.kind, row.id, row.variant, row.verdict, row.evidence) == (
        "selftest", "net:one.sh", "both", verdict, evidence)
    assert [test.verdict for test in row.tests] == [base.verdict, patched.verdict]


@pytest.mark.parametrize(("patched", "verdict", "evidence"), [
    (PASS, Verdict.PASS, "patched: PASS; no base"),
    (SKIP, Verdict.SKIP, "patched: SKIP (no jq); no base"),
    (FAIL, Verdict.INCONCLUSIVE, "fails, and there is no base to hold it against: exit code 1"),
    (OOPS, Verdict.FAIL, "patched: FAIL (dut: oops: f); no base"),
])
def test_without_a_base_only_the_kernel_can_be_at_fault(patched: Outcome, verdict: Verdict, evidence: str) -> None:
    (row,) = job.compare("mptcp", [TEST], {"patched": {TEST.id: patched}})
    assert (row.verdict, row.evidence) == (verdict, evidence)
    assert [test.id for test in row.tests] == ["net:one.sh on patched"]
