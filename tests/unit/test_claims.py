# SPDX-License-Identifier: GPL-2.0-only
"""claims: no evidence is no pass, and the worst result decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness import claims
from harness.claims import Check, Claim, LayoutStatement, Row, TestResult, Verdict
from harness.compare.layout import Layout, Member, Unmeasured
from harness.compare.size import Figure, SectionSizes, SizeDelta, SizeReport
from harness.errors import ExitCode


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
    assert claims.exit_code(verdicts) == code


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


@pytest.mark.parametrize(("text", "dropped", "expect", "verdict", "said"), [
    (95, 20, "smaller", Verdict.INCONCLUSIVE, "(-5), but +5 without"),  # 10 less of .modinfo, 5 more of code
    (110, 45, "smaller", Verdict.INCONCLUSIVE, "(+10), but -5 without"),
    (100, 35, "equal", Verdict.INCONCLUSIVE, "(+0), but -5 without"),
    (90, 31, "smaller", Verdict.PASS, "(-10)"),
    (120, 31, "not-larger", Verdict.FAIL, "(+20)"),
])
def test_what_no_kernel_has_decides_nothing(text: int, dropped: int, expect: str, verdict: Verdict, said: str) -> None:
    base, patched = replace(FIGURES, dropped=(30, 30, 0, 0, 30)), replace(FIGURES, text=text,
                                                                         dropped=(dropped, dropped, 0, 0, dropped))
    delta = SizeDelta(path="vmlinux.o", base=base, patched=patched)
    judged = claims.judge_size(Claim(id="C2", says="", check=Check.SIZE, variants=("v",), expect=expect), "v",
                               SizeReport(vmlinux_o=delta, vmlinux=None, objects=(), compared=1))
    assert (judged.verdict, said in judged.evidence) == (verdict, True)


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


SKIPPED = [result("s.py::a[1]", Verdict.PASS), result("s.py::a[2]", Verdict.SKIP), result("s.py::b", Verdict.SKIP),
           result("s.py::c", Verdict.FAIL), result("s.py::d", Verdict.ERROR)]


@pytest.mark.parametrize(("tests", "verdict", "evidence"), [
    (("s.py::a",), Verdict.PASS, "1 test passed, 1 skipped; s.py::a[2]: SKIP: "),
    (("s.py::b",), Verdict.SKIP, "s.py::b: SKIP: "),
    (("s.py::a", "s.py::b"), Verdict.SKIP, "s.py::b was skipped: "),  # of b there is no evidence
    (("s.py::a", "s.py::b", "s.py::c"), Verdict.FAIL, "s.py::c: FAIL: "),
    (("s.py",), Verdict.FAIL, "s.py::c: FAIL: "),
])
def test_a_claim_on_tests_of_which_some_are_skipped(tests: tuple[str, ...], verdict: Verdict, evidence: str) -> None:
    judged = claims.judge_tests(claim(*tests), "v", SKIPPED)
    assert judged.verdict is verdict
    assert judged.evidence.startswith(evidence)


def test_a_suite_says_first_what_decides_it() -> None:
    judged = claims.judge_suite("s.py", "v", SKIPPED, 1)
    assert (judged.verdict, judged.evidence.partition("; ")[2]) == (Verdict.FAIL, "c: because")
    assert list(judged.detail) == [f"s.py::{name}: because" for name in ("c", "d", "a[2]", "b")]


def test_a_claim_on_tests_holds_on_every_nic_model_or_not_at_all() -> None:
    results = [replace(result("s.py::a", verdict), nic=nic) for nic, verdict in (
        ("e1000", Verdict.PASS), ("rtl8139", Verdict.FAIL))]
    judged = claims.judge_tests(claim("s.py::a"), "v", results)
    assert judged.verdict is Verdict.FAIL
    assert judged.evidence.startswith("s.py::a on rtl8139: FAIL")
    assert claims.judge_tests(claim("s.py::a"), "v", results[:1]).verdict is Verdict.PASS


def members(text: str) -> tuple[Member, ...]:
    """`p@0 n@8` with one byte each, `n@8*4` with four."""
    rows = [word.replace("*", "@").split("@") for word in text.split()]
    return tuple(Member(name=row[0], declaration=f"char {row[0]}", start=8 * int(row[1]),
                        bits=8 * int(row[2] if len(row) > 2 else 1)) for row in rows)


def struct(size: int, text: str) -> Layout:
    return Layout(name="s", size=size, members=members(text))


BASE = struct(24, "gone@0*8 p@8 n@16*8")
PATCHED = struct(16, "p@0 m@1 n@8*8")
MISSING = Unmeasured(why="there is no struct s in s.h")
DOUBTFUL = struct(16, "p@0 m@1 o@2 n@12*4")


@pytest.mark.parametrize(("says", "expect", "base", "patched", "verdict", "evidence"), [
    ({"size_delta": -8}, "as-stated", BASE, PATCHED, Verdict.PASS, "s 24 -> 16 (-8)"),
    ({"size_delta": -16}, "as-stated", BASE, PATCHED, Verdict.FAIL, "s 24 -> 16 (-8); not -16"),
    ({"size_delta": 8}, "as-stated", BASE, PATCHED, Verdict.FAIL, "s 24 -> 16 (-8); not +8"),
    ({"size_delta": 0}, "as-stated", BASE, BASE, Verdict.PASS, "s 24 -> 24"),
    ({"size_delta": 0}, "as-stated", BASE, PATCHED, Verdict.FAIL, "s 24 -> 16 (-8); not +0"),
    ({"size_delta": -8, "member": "m", "fills_hole": True}, "as-stated", BASE, PATCHED, Verdict.PASS,
     "s 24 -> 16 (-8); m fills a hole at 1 (9 in base)"),
    ({"size_delta": -9, "member": "m", "fills_hole": True}, "as-stated", BASE, PATCHED, Verdict.FAIL,
     "s 24 -> 16 (-8); not -9; m fills a hole at 1 (9 in base)"),
    ({"member": "m"}, "as-stated", BASE, PATCHED, Verdict.PASS, "s 24 -> 16 (-8); m is there"),
    ({"member": "gone"}, "as-stated", BASE, PATCHED, Verdict.FAIL, "s 24 -> 16 (-8); patched has no member gone"),
    ({"member": "gone", "fills_hole": True}, "as-stated", BASE, PATCHED, Verdict.FAIL,
     "s 24 -> 16 (-8); patched has no member gone"),
    ({"member": "p", "fills_hole": True}, "as-stated", BASE, PATCHED, Verdict.FAIL,
     "s 24 -> 16 (-8); p fills no hole: base has `gone` there, at 0"),
    ({"member": "m", "fills_hole": True}, "as-stated", BASE, DOUBTFUL, Verdict.INCONCLUSIVE,
     "s 24 -> 16 (-8); m lies between `p` and `n`; the series changes `n`, and maybe its alignment"),
    ({"size_delta": 8, "member": "m", "fills_hole": True}, "as-stated", BASE, DOUBTFUL, Verdict.FAIL,
     "s 24 -> 16 (-8); not +8; m lies between `p` and `n`; the series changes `n`, and maybe its alignment"),
    ({}, "identical", BASE, BASE, Verdict.PASS, "s 24 -> 24; no member differs"),
    ({}, "identical", BASE, PATCHED, Verdict.FAIL, "s 24 -> 16 (-8); 4 members differ, first gone"),
    ({}, "identical", BASE, struct(32, "gone@0*8 p@8 n@16*8"), Verdict.FAIL,
     "s 24 -> 32 (+8); its size differs"),
    ({}, "identical", BASE, replace(BASE, align=8), Verdict.FAIL, "s 24 -> 24; its alignment differs"),
    ({"size_delta": 0}, "as-stated", MISSING, MISSING, Verdict.ERROR, f"base and patched: {MISSING.why}"),
    ({"size_delta": 0}, "as-stated", MISSING, BASE, Verdict.FAIL, f"base: {MISSING.why}"),
    ({"size_delta": 0}, "as-stated", BASE, MISSING, Verdict.FAIL, f"patched: {MISSING.why}"),
    ({}, "identical", MISSING, MISSING, Verdict.ERROR, f"base and patched: {MISSING.why}"),
    ({}, "as-stated", BASE, BASE, Verdict.ERROR, "the claim says nothing that a layout could tell"),
])
def test_claims_on_layouts(says: dict[str, Any], expect: str, base: Layout | Unmeasured, patched: Layout | Unmeasured,
                           verdict: Verdict, evidence: str) -> None:
    statement = LayoutStatement(struct="s", headers=("s.h",), **says)
    stated = Claim(id="C3", says="", check=Check.LAYOUT, variants=("v",), expect=expect, layout=statement)
    judged = claims.judge_layout(stated, "v", base, patched)
    assert (judged.verdict, judged.evidence) == (verdict, evidence)
    if (base, patched) == (BASE, PATCHED):
        assert judged.detail == ("gone: char gone at 0 -> -", "p: char p at 8 -> char p at 0", "m: - -> char m at 1",
                                 "n: char n at 16 -> char n at 8")
    nothing = Claim(id="C3", says="", check=Check.LAYOUT, variants=("v",), expect=expect)
    assert claims.judge_layout(nothing, "v", base, patched).verdict is Verdict.ERROR


@pytest.mark.parametrize("tests", [(result("s.py::a", Verdict.PASS),), ()], ids=["after its tests", "before any"])
@pytest.mark.parametrize("name", ["s.py", "s.py::a"])
def test_a_suite_that_crashed_is_no_pass_for_a_claim_on_it(name: str, tests: tuple[TestResult, ...]) -> None:
    well = claims.judge_suite("s.py", "v", [result("s.py::a", Verdict.PASS)], 1)
    assert claims.judge_tests(claim(name), "v", claims.earned(well)).verdict is Verdict.PASS
    row = Row(kind="suite", id="s.py", variant="v", verdict=Verdict.ERROR, evidence="pytest ended with signal SIGKILL",
              tests=tests, nic="rtl8139")
    judged = claims.judge_tests(claim(name), "v", [*claims.earned(well), *claims.earned(row)])
    assert (judged.verdict, judged.evidence) == (
        Verdict.ERROR, "s.py on rtl8139: ERROR: pytest ended with signal SIGKILL")
