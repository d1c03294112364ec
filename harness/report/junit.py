# SPDX-License-Identifier: GPL-2.0-only
"""The result model as JUnit XML: a test suite a kind of row, a test case a row or guest test.

FAIL is `failure`, ERROR is `error`, SKIP is `skipped`; INCONCLUSIVE, which JUnit does not know, is an `error` of
type `inconclusive`, since whoever reads JUnit must not take it for a pass.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from harness.claims import Row, Verdict, verdict_of
from harness.report.model import RunReport, clean

_ELEMENTS = {Verdict.FAIL: "failure", Verdict.ERROR: "error", Verdict.INCONCLUSIVE: "error", Verdict.SKIP: "skipped"}


def to_junit(report: RunReport) -> bytes:
    """The report as an XML document."""
    root = ET.Element("testsuites", name=clean(report.plan))
    kinds = dict.fromkeys(row.kind for row in report.rows)
    for kind in kinds:
        suite = ET.SubElement(root, "testsuite", name=f"{clean(report.plan)}.{kind}")
        for row in report.rows:
            if row.kind == kind:
                _cases(suite, row)
        _count(suite)
        _properties(suite, report)
    if report.error:
        suite = ET.SubElement(root, "testsuite", name=f"{clean(report.plan)}.run")
        case = ET.SubElement(suite, "testcase", classname="run", name="run")
        ET.SubElement(case, "error", message=clean(report.error), type="stopped")
        _count(suite)
        _properties(suite, report)
    _count(root)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _cases(suite: ET.Element, row: Row) -> None:
    """The tests of a suite, and the row itself where they do not say what it does.

    A suite that crashed when all its tests had passed is no pass; of one of the kernel's own tests a row has what it
    earned before the series and after it, and neither alone says what the series did.
    """
    place = ".".join(filter(None, (row.id, row.variant, row.nic)))
    tests = row.tests if row.kind == "suite" else ()
    if verdict_of(tests) is not row.verdict or not tests:
        _case(suite, place if row.nic else row.id, row.variant or row.kind, row.verdict, row.evidence, row.detail,
              row.seconds)
    for test in tests:
        _case(suite, place, test.id.partition("::")[2] or test.id, test.verdict, test.reason,
              test.detail, test.seconds)


def _case(suite: ET.Element, classname: str, name: str, verdict: Verdict, said: str, detail: tuple[str, ...],
          seconds: float) -> None:
    case = ET.SubElement(suite, "testcase", classname=clean(classname), name=clean(name), time=f"{seconds:.2f}")
    tag = _ELEMENTS.get(verdict)
    if tag:
        element = ET.SubElement(case, tag, {"message": clean(said), "type": verdict.value.lower()})
        element.text = clean("\n".join(detail))
    else:
        ET.SubElement(case, "system-out").text = clean(said)


def _properties(suite: ET.Element, report: RunReport) -> None:
    """What foreign code ran in."""
    properties = ET.Element("properties")
    ET.SubElement(properties, "property", name="sandbox", value=clean(report.sandbox or "none: nothing ran"))
    suite.insert(0, properties)


def _count(suite: ET.Element) -> None:
    suite.set("tests", str(sum(1 for _ in suite.iter("testcase"))))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(1 for _ in suite.iter(tag))))
