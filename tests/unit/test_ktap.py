# SPDX-License-Identifier: GPL-2.0-only
"""KTAP: what a report says, and that a report with a hole in it is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import ktap

NESTED = """\
KTAP version 1
1..2
  KTAP version 1
  1..2
  # expected 1, saw 2
  not ok 1 copies
  ok 2 frees # SKIP no slab to count
not ok 1 extensions
ok 2 - secpath # XFAIL known since 6.2
"""


def test_a_report_with_subtests() -> None:
    report = ktap.parse(NESTED.splitlines())
    assert report.problems == ()
    assert [case.name for case in report.cases] == ["extensions.copies", "extensions.frees", "extensions", "secpath"]
    copies, frees, parent, known = report.cases
    assert (copies.failed, copies.said) == (True, ("expected 1, saw 2",))
    assert (frees.failed, frees.skipped, frees.reason) == (False, True, "no slab to count")
    assert parent.failed
    assert (known.failed, known.directive) == (False, "XFAIL")
    assert report.case("extensions.frees") == frees
    assert report.case("frees") is None


def test_what_printk_puts_in_front_does_not_matter() -> None:
    assert ktap.parse(f"[    1.000000] {line}" for line in NESTED.splitlines()) == ktap.parse(NESTED.splitlines())


@pytest.mark.parametrize(("text", "problem"), [
    ("", "nothing was reported"),
    ("1..2\nok 1 a\n", "2 tests were planned, 1 reported"),
    ("1..1\nok 1 a\nok 2 b\n", "1 tests were planned, 2 reported"),
    ("ok 1 a\n", "no plan says how many tests there are"),
    ("1..2\nok 1 a\nok 3 c\n", "c reports as test 3 where 2 is due"),
    ("1..1\n  1..2\n  ok 1 a\nok 1 parent\n", "parent: 2 tests were planned, 1 reported"),
    ("1..1\n  1..1\n  ok 1 a\n", "a: its parent did not report"),
    ("1..2\nok 1 a\n1..1\n", "the plan was 2 tests, and then 1"),
    ("1..1\nBail out! no memory\n", "the tests gave up: no memory"),
])
def test_a_report_with_a_hole_is_none(text: str, problem: str) -> None:
    assert problem in ktap.parse(text.splitlines()).problems


@pytest.mark.parametrize("directive", ["TIMEOUT", "ERROR", ""])
def test_a_failure_counts_whatever_its_reason(directive: str) -> None:
    (case,) = ktap.parse(["1..1", f"not ok 1 a # {directive}" if directive else "not ok 1 a"]).cases
    assert case.failed


@pytest.mark.parametrize(("line", "name", "directive"), [
    ("a # 0.5 s", "a", ""), ("a #5", "a #5", ""),
    ("a#5 # SKIP no card", "a#5", "SKIP"), ("a # skipped: no card", "a", "SKIP"),
    ("# SKIP no card", "test 1", "SKIP"), ("a # SKIPPER", "a", ""),
])
def test_what_stands_behind_a_result(line: str, name: str, directive: str) -> None:
    for word in ("ok", "not ok"):
        report = ktap.parse(["1..1", f"{word} 1 {line}"])
        (case,) = report.cases
        assert (case.name, case.directive, report.problems) == (name, directive, ())


def test_subtests_may_be_indented_by_four_spaces() -> None:
    deep = [line.replace("  ", "    ") for line in NESTED.splitlines()]
    assert ktap.parse(deep) == ktap.parse(NESTED.splitlines())


@given(st.lists(st.text(alphabet="ok nt123.#-\t abS", max_size=30), max_size=20))
def test_no_text_breaks_it(lines: list[str]) -> None:
    ktap.parse(lines)
