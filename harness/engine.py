# SPDX-License-Identifier: GPL-2.0-only
"""A plan to results: which trees, configurations, builds, comparisons, boots and suites, and in which order.

Steps that cost nothing come first, so that bad input stops a run in seconds; what fails for one variant does not
stop the others. Everything slow is in the store, so a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import itertools
import json
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from harness import claims
from harness.claims import Check, Claim, Row, TestResult, Verdict
from harness.compare import size_text
from harness.compare.layout import Layout, Unmeasured
from harness.compare.opened import Opened, to_json
from harness.compare.size import SizeReport
from harness.compare.values import Comparison
from harness.deadline import Deadline
from harness.errors import ExitCode, HarnessError
from harness.jobs import boots, layouts, suites
from harness.jobs import selftests as own_tests
from harness.jobs.builds import (
    BUILD_SECONDS,
    SIDES,
    Inputs,
    applied,
    blame,
    build,
    build_facts,
    configure,
    each_patch,
    input_facts,
    is_proved,
    lab,
    measure,
    packed_selftests,
    prove,
    resolve,
    source_of,
)
from harness.jobs.compared import code_digest, compared, compared_sizes
from harness.kernel import selftests
from harness.kernel.kbuild import Build
from harness.kernel.kconfig import Config
from harness.kernel.selftests import Selftest
from harness.kernel.tree import prepare
from harness.plan.plan import Plan, Suite
from harness.plan.topologies import NicUse
from harness.report import blame as blaming
from harness.report import junit, model, objdiff_page
from harness.report.model import RunReport
from harness.report.progress import Progress
from harness.store.store import Store, digest

_SUITES_AT_ONCE = 2
_LOOK_EVERY = 0.25
"""Seconds between looks at how far suites are."""

Configs = dict[tuple[str, str], Config]
"""By side and variant."""


@dataclass(slots=True, kw_only=True)
class _Run:
    """A run under way: its inputs, where things go, and what is known so far."""

    inputs: Inputs
    store: Store
    out: Path
    progress: Progress
    rows: list[Row] = field(default_factory=list)
    builds: dict[tuple[str, str], Build] = field(default_factory=dict)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    sizes: dict[str, SizeReport] = field(default_factory=dict)
    tests: dict[str, tuple[TestResult, ...]] = field(default_factory=dict)
    layouts: dict[tuple[str, str, tuple[str, ...]], Layout | Unmeasured] = field(default_factory=dict)

    @contextmanager
    def row(self, kind: str, id_: str, variant: str) -> Iterator[None]:
        """A step that ends in a row of its own when it fails, whoever's fault that is."""
        try:
            yield
        except HarnessError as error:
            verdict = Verdict.FAIL if error.exit_code is ExitCode.FAILED else Verdict.ERROR
            what = f"{error.what} ({error.where})" if error.where else error.what
            self.rows.append(Row(kind=kind, id=id_, variant=variant, verdict=verdict, evidence=what,
                                 detail=(*error.detail, *([f"hint: {error.hint}"] if error.hint else []))))


def run(plan: Plan, *, store: Store, out: Path, progress: Progress, command: Sequence[str],
        variants: Sequence[str] = (), accel: str = "", nics: Sequence[str] = (), walking: bool = True) -> RunReport:
    """Run a plan and leave `results.json`, `junit.xml`, logs and comparisons in `out`.

    Args:
        variants: only these; all where empty.
        accel: `kvm` or `tcg`; probed where empty.
        nics: models that all suites run on, in place of what the plan says; those that cannot be had are skipped.
        walking: where a claim on objects or sizes fails, walk the series to say which patch did it.

    Raises:
        HarnessError: the run could not be finished; `results.json` holds what was found until then, and why.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    state: _Run | None = None
    failure: BaseException | None = None
    inputs: Inputs | None = None
    try:
        inputs = resolve(plan, Deadline.after(60), store=store, progress=progress.step)
        state = _Run(inputs=inputs, store=store, out=out, progress=progress)
        chosen = tuple(variants) or tuple(variant.name for variant in plan.variants)
        _steps(state, chosen, accel, tuple(NicUse(model=name) for name in nics) if nics else plan.nics)
        if walking:
            _blame_failed(state, chosen)
    except BaseException as error:
        failure = error
        raise
    finally:
        report = RunReport(
            plan=plan.name, command=shlex.join(command), started=started.isoformat(timespec="seconds"),
            seconds=time.monotonic() - clock, host=boots.host_facts(),
            sandbox=inputs.sandbox if inputs else "",
            inputs=input_facts(state.inputs) if state else input_facts(inputs) if inputs else {},
            claims=plan.claims, rows=tuple(state.rows) if state else (),
            builds=tuple(build_facts(item) for item in state.builds.values()) if state else (),
            error="" if failure is None else str(failure) or type(failure).__name__,
            error_code=None if failure is None else getattr(failure, "exit_code", ExitCode.INTERRUPTED))
        write(report, out)
    return report


def write(report: RunReport, out: Path) -> None:
    """Write the machine-readable forms of a report and the command that repeats it, each whole or not at all."""
    again = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {report.command} "$@"\n'
    for name, data in (("results.json", json.dumps(model.to_json(report), indent=1).encode()),
                       ("junit.xml", junit.to_junit(report)),
                       ("repeat.sh", again.encode())):
        temporary = out / f".{name}"
        temporary.write_bytes(data)
        temporary.rename(out / name)


def _steps(state: _Run, variants: Sequence[str], accel: str, nics: Sequence[NicUse]) -> None:
    plan = state.inputs.plan
    for suite in plan.suites:
        suites.check(suite, plan.topologies)
    state.inputs = applied(state.inputs, store=state.store, progress=state.progress)
    if state.inputs.fuzz:
        state.rows.append(Row(kind="series", id="fuzz", variant="", verdict=Verdict.PASS, detail=state.inputs.fuzz,
                              evidence="patches applied with fuzz, which the plan allows"))
    for tree in state.inputs.trees.values():
        prepare(tree, state.store, deadline=Deadline.after(BUILD_SECONDS), progress=state.progress.step)
    tests = {variant: selftests.find(source_of(state.inputs, "patched", state.store), names)
             for variant, names in plan.selftests if variant in variants}
    configs = {(side, variant): configure(state.inputs, side, variant, store=state.store, progress=state.progress)
               for variant in variants for side in SIDES}
    userland = boots.userland(state.store, state.inputs.arch, progress=state.progress.step)
    _build_all(state, configs, variants)
    _control(state, configs, variants)
    for variant in variants:
        _compare(state, variant)
    if state.builds:
        kernel = next(iter(state.builds.values())).image
        chosen = boots.accelerator(state.store, state.inputs.arch, kernel, override=accel,
                                   progress=state.progress.step)
        state.progress.step(f"machines run under {chosen.name}: {chosen.reason}")
        machines = lab(state.inputs, userland, chosen, state.out, store=state.store, progress=state.progress)
        _boot_all(state, machines, variants, nics)
        for variant, named in tests.items():
            _selftests(state, machines, variant, named)
    _judge(state, variants, nics)


def _build_all(state: _Run, configs: Configs, variants: Sequence[str]) -> None:
    """Build everything; the control's variant last, so that it is an incremental build that its control checks."""
    for variant in sorted(variants, key=lambda name: name == state.inputs.plan.control):
        for side in SIDES:
            with state.row("build", f"{side}/{variant}", variant):
                _keep(state, build(state.inputs, side, configs[side, variant], store=state.store,
                                   progress=state.progress))


def _keep(state: _Run, finished: Build) -> Build:
    state.builds[finished.tree, finished.variant] = finished
    folder = state.out / "builds"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(finished.log, folder / f"{finished.tree}-{finished.variant}.log")
    (folder / f"{finished.tree}-{finished.variant}.config").write_text(finished.config.text, encoding="utf-8")
    return finished


def _control(state: _Run, configs: Configs, variants: Sequence[str]) -> None:
    """The negative control: base built a second time, from nothing, must be identical in every byte.

    It shows that a build repeats itself, and that an incremental one is what a clean one would have been.
    """
    variant = state.inputs.plan.control
    first = state.builds.get(("base", variant))
    if variant not in variants or first is None:
        return
    with state.row("control", "base twice", variant):
        second = build(state.inputs, "base", configs["base", variant], store=state.store, progress=state.progress,
                       again="control")
        comparison = compared(first, second, store=state.store)
        same = comparison.objects > 0 and comparison.identical == comparison.objects
        how = f"incremental (from {first.seed}) against clean" if first.seed else "two clean builds"
        evidence = f"{how}: {claims.objdiff_evidence(comparison)}"
        _write_comparison(state, f"control-{variant}", comparison)
        state.rows.append(Row(kind="control", id="base twice", variant=variant, evidence=evidence,
                              verdict=Verdict.PASS if same else Verdict.ERROR,
                              detail=tuple(delta.path for delta in comparison.deltas if delta.status != "identical")))


def _write_comparison(state: _Run, name: str, comparison: Comparison) -> None:
    """Write a comparison as JSON and as a page, which are made once for what they say."""
    def make(stage: Path) -> None:
        opened = Opened(comparison)
        (stage / "comparison.json").write_text(json.dumps(to_json(opened), indent=1), encoding="utf-8")
        objdiff_page.write(opened, stage / "comparison.html")

    key = digest("objdiff", {**comparison.to_json(), "seconds": 0}, code_digest())
    made = state.store.get("report", key, make, deadline=Deadline.after(BUILD_SECONDS), what=name)
    folder = state.out / "objdiff"
    folder.mkdir(exist_ok=True)
    for suffix in ("json", "html"):
        shutil.copyfile(made / f"comparison.{suffix}", folder / f"{name}.{suffix}")


def _compare(state: _Run, variant: str) -> None:
    base, patched = (state.builds.get((side, variant)) for side in SIDES)
    if base is None or patched is None:
        return
    state.progress.step(f"comparing {variant}")
    with state.row("objdiff", f"objdiff/{variant}", variant):
        state.comparisons[variant] = compared(base, patched, store=state.store)
        _write_comparison(state, variant, state.comparisons[variant])
        if is_proved(state.inputs.plan, variant):
            state.comparisons[variant] = prove(state.inputs, state.comparisons[variant], base, patched,
                                               store=state.store, progress=state.progress)
            _write_comparison(state, variant, state.comparisons[variant])
    with state.row("size", f"size/{variant}", variant):
        state.sizes[variant] = compared_sizes(base, patched, store=state.store)
        _write_sizes(state, variant, state.sizes[variant])


def _write_sizes(state: _Run, name: str, sizes: SizeReport) -> None:
    folder = state.out / "size"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(size_text.to_json(sizes), indent=1), encoding="utf-8")
    (folder / f"{name}.txt").write_text("\n".join([*size_text.lines(sizes, limit=None), ""]), encoding="utf-8")


def _boot_all(state: _Run, machine: boots.Lab, variants: Sequence[str], nics: Sequence[NicUse]) -> None:
    """Boot every kernel, and run the suites of a variant while the next one's kernels boot, as many as there is room.

    An emulated machine keeps less than a core busy, and the machines of a suite mostly wait for each other.
    """
    with ExitStack() as stack:
        running: list[suites.Running] = []
        for variant in variants:
            for side in SIDES:
                finished = state.builds.get((side, variant))
                if finished is not None:
                    state.progress.step(f"booting {finished.name}")
                    with state.row("boot", finished.name, variant):
                        state.rows.append(machine.boot(finished))
            sides = {side: state.builds[side, variant] for side in SIDES if (side, variant) in state.builds}
            if "patched" not in sides:
                continue
            offered = _offered(state, machine, sides["patched"], nics)
            for suite, model in _on_models(state, offered, variant):
                _await_suites(state, running, _SUITES_AT_ONCE - 1)
                state.progress.step(f"suite {suite.name} on {sides['patched'].name}{f' with {model}' if model else ''}")
                running.append(stack.enter_context(machine.suite(suite, sides["patched"], model, sides)))
        _await_suites(state, running, 0)


def _selftests(state: _Run, machine: boots.Lab, variant: str, tests: Sequence[Selftest]) -> None:
    """The kernel's own tests on both kernels of a variant."""
    kernels = [state.builds[side, variant] for side in SIDES if (side, variant) in state.builds]
    if len(kernels) < len(SIDES):
        return
    with state.row("selftest", f"selftests/{variant}", variant):
        packed = packed_selftests(state.inputs, tests, store=state.store, progress=state.progress)
        base, patched = (own_tests.on_kernel(kernel, tests, packed, machine.machine, state.progress.step)
                         for kernel in kernels)
        state.rows += own_tests.compare(variant, tests, base, patched)


def _on_models(state: _Run, offered: Sequence[NicUse], variant: str) -> Iterator[tuple[Suite, str]]:
    """The suites of a variant, each with the NIC models it runs on; once, and with none, where it has no such NICs."""
    plan = state.inputs.plan
    for suite in plan.suites:
        if suites.has_nics_of_the_run(suite, plan.topologies):
            yield from ((suite, use.model) for use in offered if use.covers(suite.name, variant))
        else:
            yield suite, ""


def _offered(state: _Run, machine: boots.Lab, build: Build, nics: Sequence[NicUse]) -> list[NicUse]:
    """The NIC models that a kernel's suites are to run on and can; each of the others gets a row that says why not."""
    offered = []
    for use in nics:
        if not any(use.covers(suite.name, build.variant) for suite in state.inputs.plan.suites):
            continue
        reason = machine.why_not(use.model, build)
        if reason:
            state.rows.append(Row(kind="nic", id=use.model, variant=build.variant, verdict=Verdict.SKIP,
                                  evidence=f"its suites were not run: {reason}"))
        else:
            offered.append(use)
    return offered


def _await_suites(state: _Run, running: list[suites.Running], most: int) -> None:
    """Wait until at most `most` suites run, and take the rows of those that have ended."""
    with state.progress.counting("suites", unit="tests") as counted:
        while len(running) > most:
            running[0].wait(_LOOK_EVERY)
            counted(sum(each.finished for each in running))
            for ended in [each for each in running if each.wait(0)]:
                running.remove(ended)
                with state.row("suite", ended.suite.name, ended.variant):
                    row = ended.row()
                    if row is not None:
                        state.rows.append(row)
                        state.tests[ended.variant] = (*state.tests.get(ended.variant, ()), *row.tests)


def _judge(state: _Run, variants: Sequence[str], nics: Sequence[NicUse]) -> None:
    """Claims come last in time and first in the table."""
    judged: list[Row] = []
    for claim in state.inputs.plan.claims:
        judged += [_judged(state, claim, variant) for variant in claim.variants if variant in variants]
    order = {"control": 1, "build": 2, "objdiff": 3, "size": 4, "boot": 5, "suite": 6, "nic": 7, "selftest": 8}
    models = ["", *(use.model for use in nics)]
    in_plan = {(variant, suite.name, nic): place for place, (variant, suite, nic) in
               enumerate(itertools.product(variants, state.inputs.plan.suites, models))}
    state.rows = judged + sorted(state.rows, key=lambda row: (order.get(row.kind, 9),
                                                              in_plan.get((row.variant, row.id, row.nic), 0)))


def _judged(state: _Run, claim: Claim, variant: str) -> Row:
    missing = [side for side in SIDES if (side, variant) not in state.builds]
    if missing:
        return Row(kind="claim", id=claim.id, variant=variant, verdict=Verdict.SKIP,
                   evidence=f"{missing[0]}/{variant} was not built")
    try:
        if claim.check is Check.OBJDIFF:
            return claims.judge_objdiff(claim, variant, state.comparisons[variant])
        if claim.check is Check.SIZE:
            return claims.judge_size(claim, variant, state.sizes[variant])
        if claim.check is Check.BUILDS:
            asked = replace(state.inputs, extra_warnings=claim.extra_warnings)
            return claims.judge_builds(claim, variant, each_patch(asked, variant, store=state.store,
                                                                  progress=state.progress))
        if claim.check is Check.LAYOUT and claim.layout is not None:
            sides = [_layout(state, side, variant, claim.layout.struct, claim.layout.headers) for side in SIDES]
            layouts.write(state.out / "layout", quote(f"{claim.id}-{variant}", safe=""), *sides)
            return claims.judge_layout(claim, variant, *sides)
        return claims.judge_tests(claim, variant, state.tests.get(variant, ()))
    except KeyError:
        return Row(kind="claim", id=claim.id, variant=variant, verdict=Verdict.ERROR,
                   evidence=f"the evidence is missing: see the {claim.check} row")
    except HarnessError as error:
        return Row(kind="claim", id=claim.id, variant=variant, verdict=Verdict.ERROR, evidence=str(error))


def _blame_failed(state: _Run, variants: Sequence[str]) -> None:
    """Walk the series in each variant where a claim on its objects or sizes failed, and say it in the claim's row."""
    plan = state.inputs.plan
    judged = {claim.id: claim for claim in plan.claims if claim.check is Check.SIZE or claim.expect == "identical"}
    for variant in variants:
        if not any(_failed(row, judged, variant) for row in state.rows):
            continue
        with state.row("blame", f"blame/{variant}", variant):
            found = blame(state.inputs, variant, store=state.store, progress=state.progress)
            folder = state.out / "blame"
            folder.mkdir(exist_ok=True)
            (folder / f"{variant}.json").write_text(json.dumps(blaming.to_json(found), indent=1), encoding="utf-8")
            (folder / f"{variant}.txt").write_text("\n".join([*blaming.lines(found, None), ""]), encoding="utf-8")
            state.rows = [replace(row, detail=(*blaming.for_claim(found, judged[row.id]), *row.detail))
                          if _failed(row, judged, variant) else row for row in state.rows] + blaming.rows(found)


def _failed(row: Row, judged: Mapping[str, Claim], variant: str) -> bool:
    return row.kind == "claim" and row.id in judged and (row.variant, row.verdict) == (variant, Verdict.FAIL)


def _layout(state: _Run, side: str, variant: str, struct: str, headers: tuple[str, ...]) -> Layout | Unmeasured:
    """A side's layout of a structure, measured once for all claims."""
    finished = state.builds[side, variant]
    key = (finished.key, struct, headers)
    if key not in state.layouts:
        state.layouts[key] = measure(state.inputs, finished, struct, headers, store=state.store)
    return state.layouts[key]
