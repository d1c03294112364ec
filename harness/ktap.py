# SPDX-License-Identifier: GPL-2.0-only
"""Pure: KTAP, what kernel tests report in (Documentation/dev-tools/ktap.rst), to results.

A test that was planned and did not report is missing, and a plan that does not match makes the whole report bad: no
evidence is no pass. Subtests are told by their parents' names: `suite.case`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

_INDENT = 2
"""Spaces that a level of subtests stands further in (ktap.rst)."""
_PLAN = re.compile(r"^1\.\.(\d+)")
_RESULT = re.compile(r"^(?P<word>not ok|ok)\s+(?P<number>\d+)\s*(?:-\s+)?(?P<name>.*?)\s*"
                     r"(?:#\s*(?P<directive>SKIP|TODO|XFAIL|TIMEOUT|ERROR)(?:PED)?\b:?\s*(?P<reason>.*)|"
                     r"\s# (?P<data>.*))?$", re.IGNORECASE)
"""What stands behind a lone `#` is diagnostic data, which may vary; a `#` in a word is part of the name."""
_FAILURE = re.compile(r"^not ok\s+\d")
_BAIL = re.compile(r"^Bail out!\s*(.*)$")
_LABEL = re.compile(r"^\[\s*\d+\.\d+\](?:\s?\[\s*[TC]\d+\])?\s?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A test's result.

    Attributes:
        name: with its parents', dots between.
        passed: whether it is `ok`, for whatever reason.
        directive: `SKIP`, `TODO`, `XFAIL`, `TIMEOUT`, `ERROR`, or empty.
        reason: what stands behind the directive.
        said: the diagnostic lines since the result before it.
    """

    name: str
    passed: bool
    directive: str = ""
    reason: str = ""
    said: tuple[str, ...] = ()

    @property
    def skipped(self) -> bool:
        return self.directive == "SKIP"

    @property
    def failed(self) -> bool:
        """Whether it counts against the kernel: `XFAIL` and `TODO` are known to fail."""
        return not self.passed and self.directive not in ("SKIP", "TODO", "XFAIL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one program reported.

    Attributes:
        cases: every test that reported, parents after their subtests, in order.
        problems: why it is no whole report: a plan that does not match, numbers out of order, an early end.
    """

    cases: tuple[Case, ...]
    problems: tuple[str, ...]

    def case(self, name: str) -> Case | None:
        """The last result of that name."""
        return next((case for case in reversed(self.cases) if case.name == name), None)


@dataclass(slots=True)
class _Level:
    """The tests of one depth whose parent has not reported yet."""

    cases: list[Case] = field(default_factory=list)
    planned: int | None = None
    seen: int = 0

    def problems(self, where: str) -> Iterator[str]:
        if self.planned is None and self.seen:
            yield f"{where}no plan says how many tests there are"
        elif self.planned not in (None, self.seen):
            yield f"{where}{self.planned} tests were planned, {self.seen} reported"


def parse(lines: Iterable[str]) -> Report:
    """Results from a report's lines; printk's time in front of them does not matter."""
    levels: defaultdict[int, _Level] = defaultdict(_Level)
    problems: list[str] = []
    said: list[str] = []
    for line in lines:
        text = _LABEL.sub("", line.rstrip())
        depth = (len(text) - len(text.lstrip(" "))) // _INDENT
        text = text.strip()
        if found := _PLAN.match(text):
            if levels[depth].planned is not None:
                problems.append(f"the plan was {levels[depth].planned} tests, and then {found[1]}")
            levels[depth].planned = int(found[1])
        elif found := _RESULT.match(text):
            case = _case(found, tuple(said))
            # ktap.rst indents by two spaces, KUnit by four.
            deeper = min((each for each in levels if each > depth), default=depth + 1)
            below, level = levels.pop(deeper, _Level()), levels[depth]
            problems += below.problems(f"{case.name}: ")
            level.seen += 1
            if int(found["number"]) != level.seen:
                problems.append(f"{case.name} reports as test {found['number']} where {level.seen} is due")
            level.cases += [*(replace(each, name=f"{case.name}.{each.name}") for each in below.cases), case]
            said = []
        elif found := _BAIL.match(text):
            problems.append(f"the tests gave up: {found[1] or 'no reason given'}")
        elif text.startswith("#"):
            said.append(text.lstrip("# "))
    if 0 not in levels:
        problems.append("nothing was reported")
    for depth, level in sorted(levels.items()):
        problems += level.problems("")
        if depth and level.cases:
            problems.append(f"{level.cases[0].name}: its parent did not report")
    cases = [case for _, level in sorted(levels.items()) for case in level.cases]
    return Report(cases=tuple(cases), problems=tuple(problems))


def reports(lines: Iterable[str]) -> bool:
    """Whether lines hold a report, or the pieces of one: a plan, a failure, an early end."""
    texts = (_LABEL.sub("", line).strip() for line in lines)
    return any(_PLAN.match(text) or _BAIL.match(text) or _FAILURE.match(text) for text in texts)


def _case(found: re.Match[str], said: tuple[str, ...]) -> Case:
    return Case(name=found["name"].strip() or f"test {found['number']}", passed=found["word"].lower() == "ok",
                directive=(found["directive"] or "").upper(), reason=(found["reason"] or "").strip(), said=said)
