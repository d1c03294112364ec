# SPDX-License-Identifier: GPL-2.0-only
"""report: one result in three forms that agree, with nothing hostile in any of them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import JUnitXml
from rich.console import Console

from harness import engine
from harness.claims import Check, Claim, Row, TestResult, Verdict
from harness.errors import ExitCode
from harness.report import junit, model, terminal
from harness.report.model import RunReport


def report(*rows: Row, error: str = "", code: ExitCode | None = None) -> RunReport:
    claim = Claim(id="C1", says="no [bold]change[/]", check=Check.OBJDIFF, variants=("none",), expect="identical")
    return RunReport(plan="p", command="harness run p", started="2026-01-01T00:00:00+00:00", seconds=1.25, host={},
                     sandbox="bubblewrap 1", inputs={}, claims=(claim,), rows=rows, builds=(), error=error,
                     error_code=code)


def row(verdict: Verdict, **changes: object) -> Row:
    return Row(**{"kind": "claim", "id": "C1", "variant": "none", "verdict": verdict, "evidence": "seen",  # type: ignore[arg-type]
                  **changes})


def shown(value: RunReport, width: int = 80) -> str:
    out = io.StringIO()
    terminal.show(value, Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


def xml(value: RunReport) -> JUnitXml:
    return JUnitXml.fromstring(junit.to_junit(value))


@pytest.mark.parametrize(("verdict", "counts"), [
    (Verdict.PASS, (1, 0, 0, 0)), (Verdict.FAIL, (1, 1, 0, 0)), (Verdict.ERROR, (1, 0, 1, 0)),
    (Verdict.INCONCLUSIVE, (1, 0, 1, 0)), (Verdict.SKIP, (1, 0, 0, 1)),
])
def test_junit_counts_each_verdict(verdict: Verdict, counts: tuple[int, ...]) -> None:
    read = xml(report(row(verdict)))
    assert (read.tests, read.failures, read.errors, read.skipped) == counts


def test_junit_has_a_case_for_each_guest_test() -> None:
    tests = (TestResult(id="s.py::a", verdict=Verdict.PASS), TestResult(id="s.py::b", verdict=Verdict.FAIL, reason="x"))
    read = xml(report(row(Verdict.FAIL, kind="suite", id="s.py", tests=tests)))
    assert (read.tests, read.failures) == (2, 1)


@pytest.mark.parametrize(("kind", "verdict", "tests", "counts"), [
    ("suite", Verdict.ERROR, (Verdict.PASS,), (2, 0, 1, 0)),  # it crashed at its end
    ("suite", Verdict.PASS, (Verdict.PASS, Verdict.SKIP), (2, 0, 0, 1)),
    ("selftest", Verdict.FAIL, (Verdict.PASS, Verdict.SKIP), (1, 1, 0, 0)),  # it no longer runs
    ("selftest", Verdict.SKIP, (Verdict.FAIL, Verdict.FAIL), (1, 0, 0, 1)),  # it fails before the series, too
    ("selftest", Verdict.PASS, (Verdict.FAIL, Verdict.PASS), (1, 0, 0, 0)),
])
def test_junit_says_of_a_row_what_the_row_does(kind: str, verdict: Verdict, tests: Sequence[Verdict],
                                               counts: tuple[int, ...]) -> None:
    results = tuple(TestResult(id=f"s.py::{number}", verdict=earned) for number, earned in enumerate(tests))
    read = xml(report(row(verdict, kind=kind, tests=results)))
    assert (read.tests, read.failures, read.errors, read.skipped) == counts


def test_every_form_names_the_nic_model_that_a_suite_ran_on() -> None:
    value = report(*(row(Verdict.PASS, kind="suite", id="s.py", variant="both", nic=nic,
                         tests=(TestResult(id="s.py::a", nic=nic, verdict=Verdict.PASS),))
                     for nic in ("e1000", "rtl8139")))
    assert [case.classname for suite in xml(value) for case in suite] == ["s.py.both.e1000", "s.py.both.rtl8139"]
    assert re.search(r"s\.py +both +PASS +rtl8139: ", shown(value, width=200))
    rows = json.loads(json.dumps(model.to_json(value)))["rows"]
    assert [(found["nic"], found["tests"][0]["nic"]) for found in rows] == [("e1000",) * 2, ("rtl8139",) * 2]


def test_the_table_leaves_out_folders_of_suites_where_the_name_says_it_all() -> None:
    value = report(*(row(Verdict.PASS, kind="suite", id=name) for name in ("a/link.py", "b/link.py", "a/bridge.py")))
    listed = shown(value, width=200)
    assert "a/link.py" in listed
    assert "b/link.py" in listed
    assert "a/bridge.py" not in listed
    assert "bridge.py" in listed


def test_a_nic_model_that_cannot_be_had_is_skipped_with_the_reason() -> None:
    value = report(row(Verdict.SKIP, kind="nic", id="igb", evidence="its suites were not run: this QEMU has no igb"))
    assert xml(value).skipped == 1
    assert "this QEMU has no igb" in shown(value, width=200)


def test_a_run_that_stopped_is_an_error_everywhere() -> None:
    value = report(error="the disk is full", code=ExitCode.LAB)
    assert model.to_json(value)["exit_code"] == 3
    assert xml(value).errors == 1


def test_json_has_its_schema_and_round_trips() -> None:
    value = json.loads(json.dumps(model.to_json(report(row(Verdict.PASS)))))
    assert value["schema"] == "harness.results/1"
    assert value["rows"][0]["verdict"] == "PASS"
    assert value["exit_code"] == 0


def test_the_table_fits_80_columns_and_shows_failures_in_detail() -> None:
    text = shown(report(row(Verdict.FAIL, evidence="word " * 60, detail=tuple(f"line {n}" for n in range(30)))))
    assert max(map(len, text.splitlines())) <= 80
    assert "line 0" in text
    assert "18 more lines in results.json" in text
    assert "no [bold]change[/]" in text


@pytest.mark.parametrize("verdict", Verdict)
def test_what_is_not_well_is_shown_in_detail(verdict: Verdict) -> None:
    assert ("the reason" in shown(report(row(verdict, detail=("the reason",))))) is (
        verdict not in (Verdict.PASS, Verdict.SKIP))


def test_every_form_says_what_the_sandbox_was() -> None:
    value = report(row(Verdict.PASS))
    assert model.to_json(value)["sandbox"] == "bubblewrap 1"
    assert "sandbox: bubblewrap 1" in shown(value)
    assert b'<property name="sandbox" value="bubblewrap 1"' in junit.to_junit(value)


@given(st.text())
def test_no_text_breaks_a_form_or_reaches_the_terminal_raw(text: str) -> None:
    value = report(row(Verdict.FAIL, evidence=text, detail=(text,)), error=text)
    json.dumps(model.to_json(value)).encode()
    xml(value)
    out = shown(value)
    assert not set(out) & set("\x1b\x07\x08\x00\x9b\u202e")


def test_a_name_that_is_no_text_breaks_no_form(tmp_path: Path) -> None:
    value = replace(report(row(Verdict.PASS)), plan="lat\udce9", command="harness run 'lat\udce9'")
    engine.write(value, tmp_path)
    assert b"harness run 'lat\xe9'" in (tmp_path / "repeat.sh").read_bytes()
    assert xml(value).name == "lat\ufffd"


def test_only_claims_that_were_judged_are_told() -> None:
    assert "C1: no [bold]change[/]" in shown(report(row(Verdict.PASS)))
    assert "C1: " not in shown(report(row(Verdict.PASS, kind="boot", id="base/none")))


def test_what_xml_cannot_hold_is_in_no_report() -> None:
    odd = "".join(map(chr, (*range(32), 0x7F, 0xFFFE, 0xFFFF, 0xD800)))
    read = xml(report(row(Verdict.FAIL, evidence=odd, detail=(odd,))))
    assert (read.tests, read.failures) == (1, 1)
