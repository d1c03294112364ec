# SPDX-License-Identifier: GPL-2.0-only
"""What an author's sentence becomes, and how evidence turns into a verdict. No I/O: values in, verdicts out.

No evidence is never a pass. A verdict always comes with the few words of evidence that a table has room for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from harness.compare.fit import Answer, fills_hole
from harness.compare.layout import Layout, LayoutDelta, Unmeasured, compare_layouts, find
from harness.compare.layout_text import size_words
from harness.compare.size import FIGURES, Figure, SizeReport
from harness.compare.values import Comparison, printable
from harness.errors import ExitCode
from harness.jobs.steps import Stepped


class Verdict(StrEnum):
    """The five words."""

    PASS = "PASS"  # noqa: S105 - not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    ERROR = "ERROR"
    SKIP = "SKIP"


_BAD: Mapping[Verdict, ExitCode] = {Verdict.FAIL: ExitCode.FAILED, Verdict.ERROR: ExitCode.LAB,
                                    Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE}
"""What keeps others from passing, the worst first, and the exit code it makes."""


class Check(StrEnum):
    """What a claim is judged by."""

    OBJDIFF = "objdiff"
    SIZE = "size"
    LAYOUT = "layout"
    TESTS = "tests"
    BUILDS = "builds"


EXPECTATIONS: Mapping[Check, tuple[str, ...]] = {
    Check.OBJDIFF: ("identical", "changed"),
    Check.SIZE: ("smaller", "not-larger", "equal"),
    Check.LAYOUT: ("as-stated", "identical"),
    Check.TESTS: ("pass",),
    Check.BUILDS: ("no-new-warnings", "builds"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutStatement:
    """What a claim says of a structure.

    Attributes:
        struct: its tag.
        headers: what to include for it, in order.
        size_delta: bytes by which it grows, exactly; None where nothing is said.
        member: one that the patched structure must have, as C reaches it; empty where nothing is said.
        fills_hole: the member lies where base had a hole (`harness.compare.fit`).
    """

    struct: str
    headers: tuple[str, ...]
    size_delta: int | None = None
    member: str = ""
    fills_hole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A sentence of the series' author, with the check that it became.

    Attributes:
        id: the plan's name for it.
        says: the sentence.
        check: what judges it.
        variants: where it must hold.
        expect: one of `EXPECTATIONS[check]`.
        objects: for `objdiff` with `changed`, objects that must be among the changed ones.
        tests: for `tests`, node ids (`tests/guest/test_link.py::test_ping`) or suite files that must all pass.
        margin: for `size`, bytes by which it must be smaller (or may be larger) than base.
        of: for `size`, the figure of vmlinux.o that is judged.
        layout: for `layout`, what is said of which structure.
        extra_warnings: for `builds`, kbuild's `W=`, as `1`; empty for the ordinary warnings.
    """

    id: str
    says: str
    check: Check
    variants: tuple[str, ...]
    expect: str
    objects: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    margin: int = 0
    of: Figure = "text"
    layout: LayoutStatement | None = None
    extra_warnings: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """One guest test that was planned, and what became of it; it is an ERROR until it has earned something else."""

    __test__ = False

    id: str
    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0
    detail: tuple[str, ...] = ()
    nic: str = ""

    @property
    def label(self) -> str:
        """Its id and, where known, the NIC model it ran on."""
        return f"{self.id} on {self.nic}" if self.nic else self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a run's result.

    Attributes:
        kind: `control`, `claim`, `build`, `objdiff`, `size`, `boot`, `suite`, `nic`, `selftest`, `step` or `blame`.
        id: the claim's id, the suite's file, the build's name, the NIC model that cannot be had.
        variant: the configuration it speaks of; empty where none.
        verdict: one of the five words.
        evidence: what was seen, in a few words.
        detail: more of it, a line each.
        tests: for suites, each test's result.
        seconds: what it took.
        nic: for suites, the NIC model.
    """

    kind: str
    id: str
    variant: str
    verdict: Verdict
    evidence: str
    detail: tuple[str, ...] = ()
    tests: tuple[TestResult, ...] = field(default=())
    seconds: float = 0.0
    nic: str = ""


def exit_code(verdicts: Iterable[Verdict]) -> ExitCode:
    """The command's exit code for all that it judged: the worst decides; where nothing passed, the lab has failed."""
    seen = set(verdicts)
    for verdict, code in _BAD.items():
        if verdict in seen:
            return code
    return ExitCode.PASSED if Verdict.PASS in seen else ExitCode.LAB


def judge_objdiff(claim: Claim, variant: str, comparison: Comparison) -> Row:
    """Judge `identical` or `changed` by the comparison of a variant's objects."""
    changed = [printable(delta.path) for delta in comparison.differing]
    evidence = objdiff_evidence(comparison)
    if comparison.objects == 0:
        return _row(claim, variant, Verdict.ERROR, "no objects were compared")
    if claim.expect == "identical":
        verdict = Verdict.PASS if comparison.identical_code and not changed else Verdict.FAIL
        return _row(claim, variant, verdict, evidence, changed)
    missing = [path for path in claim.objects if path not in changed]
    if not changed:
        return _row(claim, variant, Verdict.FAIL, f"no changes found: {evidence}")
    if missing:
        return _row(claim, variant, Verdict.FAIL, f"{missing[0]} did not change: {evidence}", changed)
    return _row(claim, variant, Verdict.PASS, evidence, changed)


def objdiff_evidence(comparison: Comparison) -> str:
    """`1372 objects: 1326 identical, 46 explained (45 proved, 1 by rule: boot-header in 1), 0 changed`."""
    parts = [f"{comparison.identical} identical", f"{comparison.explained} explained{_how_explained(comparison)}",
             f"{comparison.changed} changed"]
    parts += [f"{count} {what}" for count, what in (
        (comparison.only_base, "only in base"), (comparison.only_patched, "only in patched"),
        (comparison.archives_changed, "archives linked differently"),
        (comparison.link_scripts_changed, "linker scripts differ")) if count]
    return f"{comparison.objects} objects: {', '.join(parts)}"


def _how_explained(comparison: Comparison) -> str:
    """How many of the explained objects are proved, and the rules that the others rest on."""
    ruled = [delta for delta in comparison.deltas if delta.proof == "rule"]
    count = Counter(rule for delta in ruled for rule in delta.rules)
    rules = ", ".join(f"{name} in {count[name]}" for name in sorted(count))
    said = [f"{comparison.proved} proved"] * (comparison.proved > 0)
    said += [f"{len(ruled)} by rule: {rules}"] * (len(ruled) > 0)
    return f" ({', '.join(said)})" if said else ""


def judge_size(claim: Claim, variant: str, sizes: SizeReport) -> Row:
    """Judge by a size of `vmlinux.o`: `vmlinux` pads its text to 2 MiB on x86_64 and cannot tell.

    What the linker leaves out of vmlinux counts there; where that decides, the claim is neither true nor false.
    """
    judged = sizes.vmlinux_o
    if judged is None or judged.base is None or judged.patched is None or 0 in (judged.base.text, judged.patched.text):
        return _row(claim, variant, Verdict.ERROR, "vmlinux.o was not measured on both sides")
    delta = judged.growth(claim.of)
    base, patched = (side.figures[FIGURES.index(claim.of)] for side in (judged.base, judged.patched))
    evidence = f"vmlinux.o {claim.of} {base:,} -> {patched:,} ({delta:+,})"
    detail = [f"{printable(row.path)}: text {row.text:+,}, total {row.total:+,}" for row in sizes.objects]
    kept = judged.kept(claim.of)
    passed = _fits(claim, delta)
    if passed != _fits(claim, kept):
        without = "sections that no kernel has (.modinfo, .discard, .exitcall)"
        return _row(claim, variant, Verdict.INCONCLUSIVE, f"{evidence}, but {kept:+,} without {without}", detail)
    return _row(claim, variant, Verdict.PASS if passed else Verdict.FAIL, evidence, detail)


def _fits(claim: Claim, delta: int) -> bool:
    return {"smaller": delta < 0 and -delta >= claim.margin, "not-larger": delta <= claim.margin,
            "equal": delta == 0}[claim.expect]


def judge_builds(claim: Claim, variant: str, patches: Sequence[Stepped]) -> Row:
    """Judge by the kernels with each further patch: every one must build, and with `no-new-warnings` none adds any."""
    if not patches:
        return _row(claim, variant, Verdict.ERROR, "the series has no patch")
    broken = [row for row in patches if row.error is not None]
    warned = [row for row in patches if row.new_warnings]
    count = sum(len(row.new_warnings) for row in warned)
    detail = [line for row in patches for line in stepped_lines(row, len(patches))]
    asked = f" with W={claim.extra_warnings}" if claim.extra_warnings else ""
    if broken:
        first, error = broken[0], broken[0].error
        said = f"patch {first.number} of {len(patches)} ({first.subject}): {error.what if error else ''}"
        return _row(claim, variant, Verdict.FAIL, said, detail)
    evidence = f"each of {len(patches)} patches builds{asked}, {count or 'no'} new warning{'s' * (count != 1)}"
    if warned:
        evidence += f", first with patch {warned[0].number}: {warned[0].new_warnings[0]}"
    failed = warned and claim.expect == "no-new-warnings"
    return _row(claim, variant, Verdict.FAIL if failed else Verdict.PASS, evidence, detail)


def stepped_lines(row: Stepped, total: int) -> list[str]:
    """What went wrong with a patch: why it does not build, or each new warning; nothing where all is well."""
    said = [row.error.what, *row.error.detail] if row.error is not None else list(map(str, row.new_warnings))
    return [f"patch {row.number} of {total}: {printable(text)}" for text in said]


def judge_tests(claim: Claim, variant: str, results: Sequence[TestResult]) -> Row:
    """Judge by guest tests: every named one must have run on this variant and passed.

    A name stands for all tests of a file or all parameters of a test, of which some may be skipped, but not all.
    """
    named = {name: [result for result in results if result.id in (name, name.partition("::")[0])
                    or result.id.startswith((f"{name}::", f"{name}["))] for name in claim.tests}
    chosen = list(dict.fromkeys(result for found in named.values() for result in found))
    for name, found in named.items():
        if not found:
            return _row(claim, variant, Verdict.ERROR, f"{name} did not run on this variant")
    if not chosen:
        return _row(claim, variant, Verdict.ERROR, "the claim names no test")
    bad = [f"{result.label}: {result.verdict}: {result.reason}" for result in _worst_first(chosen)]
    verdict, passed = verdict_of(chosen), len(chosen) - len(bad)
    if verdict is not Verdict.PASS:
        return _row(claim, variant, verdict, bad[0], bad)
    for name, found in named.items():
        if verdict_of(found) is Verdict.SKIP:
            return _row(claim, variant, Verdict.SKIP, f"{name} was skipped: {found[0].reason}", bad)
    skipped = f", {len(bad)} skipped; {bad[0]}" if bad else ""
    return _row(claim, variant, verdict, f"{passed} test{'s' * (passed != 1)} passed{skipped}", bad)


def judge_layout(claim: Claim, variant: str, base: Layout | Unmeasured, patched: Layout | Unmeasured) -> Row:
    """Judge what a claim says of a structure by its layouts in a variant.

    Where neither side has a layout the plan is wrong, most likely: ERROR. Where one has, the series adds, removes or
    breaks the structure, and no sentence about before and after is true: FAIL.
    """
    if claim.layout is None:
        return _row(claim, variant, Verdict.ERROR, "the claim says nothing of a structure")
    if isinstance(base, Unmeasured) and isinstance(patched, Unmeasured):
        return _row(claim, variant, Verdict.ERROR, f"base and patched: {patched.why}", patched.detail)
    if isinstance(base, Unmeasured):
        return _row(claim, variant, Verdict.FAIL, f"base: {base.why}", base.detail)
    if isinstance(patched, Unmeasured):
        return _row(claim, variant, Verdict.FAIL, f"patched: {patched.why}", patched.detail)
    delta = compare_layouts(base, patched)
    findings = _layout_findings(claim.layout, claim.expect, delta)
    if not findings:
        return _row(claim, variant, Verdict.ERROR, "the claim says nothing that a layout could tell")
    found = {verdict for verdict, _ in findings}
    worst = next((verdict for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE) if verdict in found), Verdict.PASS)
    evidence = "; ".join([f"{delta.patched.name} {size_words(delta)}", *(words for _, words in findings if words)])
    return _row(claim, variant, worst, evidence, [pair.words for pair in delta.differing])


_FITS: Mapping[Answer, Verdict] = {Answer.YES: Verdict.PASS, Answer.NO: Verdict.FAIL,
                                   Answer.UNKNOWN: Verdict.INCONCLUSIVE}


def _layout_findings(said: LayoutStatement, expect: str, delta: LayoutDelta) -> list[tuple[Verdict, str]]:
    """What was found for each thing that is said, in words that come after the sizes."""
    found: list[tuple[Verdict, str]] = []
    if said.size_delta is not None:
        fits = delta.size_delta == said.size_delta
        found.append((Verdict.PASS, "") if fits else (Verdict.FAIL, f"not {said.size_delta:+d}"))
    if expect == "identical":
        count = len(delta.differing)
        differ = f"{count} member{'s' * (count != 1)} differ{'s' * (count == 1)}, first {delta.differing[0].path}" \
            if count else f"its {'size' if delta.size_delta else 'alignment'} differs"
        found.append((Verdict.PASS, "no member differs") if delta.identical else (Verdict.FAIL, differ))
    if said.member and find(delta.patched, said.member) is None:
        found.append((Verdict.FAIL, f"patched has no member {said.member}"))
    elif said.fills_hole:
        fit = fills_hole(delta.base, delta.patched, said.member)
        found.append((_FITS[fit.answer], f"{said.member} {fit.why}"))
    elif said.member:
        found.append((Verdict.PASS, f"{said.member} is there"))
    return found


def judge_suite(file: str, variant: str, results: Sequence[TestResult], seconds: float, ended: str = "",
                nic: str = "") -> Row:
    """A suite's row: its worst test decides, and a suite that ran no test fails.

    `ended` says how the suites' process ended before its time: where there is no test then, the kernel is not at fault.
    """
    if not results:
        return Row(kind="suite", id=file, variant=variant, verdict=Verdict.ERROR if ended else Verdict.FAIL,
                   evidence=ended or "it contains no test", seconds=seconds, nic=nic)
    counts = {verdict: sum(result.verdict is verdict for result in results) for verdict in Verdict}
    said = ", ".join(f"{count} {verdict.lower()}" for verdict, count in counts.items() if count)
    bad = _worst_first(results)
    first = f"; {bad[0].id.partition('::')[2] or bad[0].id}: {bad[0].reason}" if bad else ""
    return Row(kind="suite", id=file, variant=variant, verdict=verdict_of(results), evidence=said + first,
               detail=tuple(line for result in bad for line in (f"{result.id}: {result.reason}", *result.detail)),
               tests=tuple(results), seconds=seconds, nic=nic)


def earned(row: Row) -> tuple[TestResult, ...]:
    """What a suite's row says of its tests, and, under the file's name, what became of it where they do not say it.

    A suite that crashed when all its tests had passed, or before it had any, is no pass for a claim on one of them.
    """
    if row.tests and verdict_of(row.tests) is row.verdict:
        return row.tests
    return (*row.tests, TestResult(id=row.id, verdict=row.verdict, reason=row.evidence, nic=row.nic))


def _worst_first(results: Sequence[TestResult]) -> list[TestResult]:
    """Those that did not pass: first what decides the verdict, skipped ones last."""
    return [result for verdict in (*_BAD, Verdict.SKIP) for result in results if result.verdict is verdict]


def verdict_of(results: Sequence[TestResult]) -> Verdict:
    """The worst of several results; SKIP only where all were skipped, ERROR where there is none."""
    seen = {result.verdict for result in results}
    for verdict in _BAD:
        if verdict in seen:
            return verdict
    if Verdict.PASS in seen:
        return Verdict.PASS
    return Verdict.SKIP if seen else Verdict.ERROR


def _row(claim: Claim, variant: str, verdict: Verdict, evidence: str, detail: Sequence[str] = ()) -> Row:
    return Row(kind="claim", id=claim.id, variant=variant, verdict=verdict, evidence=evidence, detail=tuple(detail))
