# SPDX-License-Identifier: GPL-2.0-only
"""claims: no evidence is no pass, and the worst result decides."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness import claims
from harness.claims import Check, Claim, Row, TestResult, Verdict
from harness.compare.size import Figure, SectionSizes, SizeDelta, SizeReport
from harness.errors import ExitCode


def row(verdict: Verdict) -> Row:
    return Row(kind="claim", id="C", variant="v", verdict=verdict, evidence="")


def result(name: str, verdict: Verdict) -> TestResult:
    return TestResult(id=name, verdict=verdict, reason="because")


@pytest.mark.parametrize(("verdicts", "code"), [
    ([], ExitCode.LAB),
    ([Verdict.SKIP], ExitCode.LAB),
    ([Verdict.PASS], ExitCode.PASSED),
    ([Verdict.PASS, Verdict.SKIP], ExitCode.PASSED),
    ([Verdict.PASS, Verdict.INCONCLUSIVE], ExitCode.INCONCLUSIVE),
    ([Verdict.INCONCLUSIVE, Verdict.ERROR], ExitCode.LAB),
    ([Verdict.ERROR, Verdict.FAIL, Verdict.PASS], ExitCode.FAILED),
])
def test_exit_codes(verdicts: Sequence[Verdict], code: ExitCode) -> None:
    assert claims.exit_code([row(verdict) for verdict in verdicts]) == code


def test_a_suite_that_ran_no_test_fails() -> None:
    assert claims.judge_suite("s.py", "v", [], 0.0).verdict is Verdict.FAIL


def test_suites_that_ended_before_they_had_a_test_are_not_the_kernels_fault() -> None:
    judged = claims.judge_suite("s.py", "v", [], 0.0, "pytest ended with exit code 4")
    assert (judged.verdict, judged.evidence) == (Verdict.ERROR, "pytest ended with exit code 4")


def test_the_worst_test_decides_its_suite_and_is_named() -> None:
    judged = claims.judge_suite("s.py", "v", [result("s.py::a", Verdict.PASS), result("s.py::b", Verdict.ERROR),
                                              result("s.py::c", Verdict.SKIP)], 1.0)
    assert judged.verdict is Verdict.ERROR
    assert judged.evidence == "1 pass, 1 error, 1 skip; b: because"


def test_all_skipped_is_a_skip_and_nothing_is_an_error() -> None:
    assert claims.verdict_of([result("a", Verdict.SKIP)]) is Verdict.SKIP
    assert claims.verdict_of([]) is Verdict.ERROR


FIGURES = SectionSizes(text=100, rodata=30, data=10, bss=5, total=115, sections=())


@pytest.mark.parametrize(("of", "expect", "margin", "verdict"), [
    ("text", "smaller", 0, Verdict.PASS), ("text", "smaller", 8, Verdict.PASS), ("text", "smaller", 9, Verdict.FAIL),
    ("total", "smaller", 0, Verdict.FAIL), ("total", "not-larger", 4, Verdict.PASS),
    ("total", "not-larger", 3, Verdict.FAIL), ("rodata", "equal", 0, Verdict.PASS), ("data", "equal", 0, Verdict.FAIL),
])
def test_the_size_that_is_judged(of: Figure, expect: str, margin: int, verdict: Verdict) -> None:
    patched = SectionSizes(text=92, rodata=30, data=22, bss=5, total=119, sections=())
    delta = SizeDelta(path="vmlinux.o", base=FIGURES, patched=patched)
    report = SizeReport(vmlinux_o=delta, vmlinux=None, objects=(delta,), compared=1)
    judged = claims.judge_size(Claim(id="C2", says="", check=Check.SIZE, variants=("v",), expect=expect, of=of,
                                     margin=margin), "v", report)
    assert judged.verdict is verdict
    assert judged.evidence.startswith(f"vmlinux.o {of} ")


def claim(*tests: str) -> Claim:
    return Claim(id="C5", says="", check=Check.TESTS, variants=("v",), expect="pass", tests=tests)


@pytest.mark.parametrize(("tests", "verdict"), [
    (("s.py::a",), Verdict.PASS),
    (("s.py::p",), Verdict.PASS),
    (("s.py",), Verdict.FAIL),
    (("s.py::b",), Verdict.FAIL),
    (("s.py::a", "s.py::gone"), Verdict.ERROR),
    (("s.py::",), Verdict.ERROR),
])
def test_claims_on_tests(tests: tuple[str, ...], verdict: Verdict) -> None:
    results = [result("s.py::a", Verdict.PASS), result("s.py::b", Verdict.FAIL), result("s.py::p[1]", Verdict.PASS)]
    assert claims.judge_tests(claim(*tests), "v", results).verdict is verdict
