# SPDX-License-Identifier: GPL-2.0-only
"""A plan to results: which trees, configurations, builds, comparisons, boots and suites, and in which order.

Steps that cost nothing come first, so that bad input stops a run in seconds; what fails for one variant does not
stop the others. Everything slow is in the store, so a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from harness import claims
from harness.claims import Row, Verdict
from harness.compare import size_text
from harness.compare.opened import Opened, to_json
from harness.compare.size import SizeReport
from harness.compare.values import Comparison
from harness.deadline import Deadline
from harness.errors import ExitCode, HarnessError
from harness.jobs import boots, guests, judging, suites
from harness.jobs.builds import (
    build,
    build_facts,
    configure,
    input_facts,
    is_proved,
    lab,
    prove,
    source_of,
)
from harness.jobs.compared import code_digest, compared, compared_sizes
from harness.jobs.inputs import BUILD_SECONDS, Inputs, applied, resolve
from harness.jobs.state import Run
from harness.kernel import selftests
from harness.kernel.kbuild import Build
from harness.kernel.kconfig import Config
from harness.kernel.tree import prepare
from harness.plan.plan import SIDES, Plan
from harness.plan.topologies import NicUse
from harness.report import junit, model, objdiff_page
from harness.report.model import RunReport
from harness.report.progress import Progress
from harness.store.store import Store, digest

Configs = dict[tuple[str, str], Config]
"""By side and variant."""


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
    state: Run | None = None
    failure: BaseException | None = None
    inputs: Inputs | None = None
    try:
        inputs = resolve(plan, Deadline.after(60), store=store, progress=progress.step)
        state = Run(inputs=inputs, store=store, out=out, progress=progress)
        chosen = tuple(variants) or tuple(variant.name for variant in plan.variants)
        _steps(state, chosen, accel, tuple(NicUse(model=name) for name in nics) if nics else plan.nics)
        if walking:
            judging.blame_failed(state, chosen)
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
            error_code=None if failure is None else _code_of(failure))
        write(report, out)
    return report


def _code_of(failure: BaseException) -> ExitCode:
    """The exit code that the command will end with."""
    if isinstance(failure, HarnessError):
        return failure.exit_code
    return ExitCode.LAB if isinstance(failure, Exception) else ExitCode.INTERRUPTED


def write(report: RunReport, out: Path) -> None:
    """Write the machine-readable forms of a report and the command that repeats it, each whole or not at all."""
    again = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {report.command} "$@"\n'
    for name, data in (("results.json", json.dumps(model.to_json(report), indent=1).encode()),
                       ("junit.xml", junit.to_junit(report)),
                       ("repeat.sh", os.fsencode(again))):
        temporary = out / f".{name}"
        temporary.write_bytes(data)
        temporary.rename(out / name)


def _steps(state: Run, variants: Sequence[str], accel: str, nics: Sequence[NicUse]) -> None:
    plan = state.inputs.plan
    for suite in plan.suites:
        suites.check(suite, plan.topologies, plan.claims)
    state.inputs = applied(state.inputs, store=state.store, progress=state.progress)
    if state.inputs.fuzz:
        state.rows.append(Row(kind="series", id="fuzz", variant="", verdict=Verdict.PASS, detail=state.inputs.fuzz,
                              evidence="patches applied with fuzz, which the plan allows"))
    for tree in state.inputs.trees.values():
        prepare(tree, state.store, deadline=Deadline.after(BUILD_SECONDS), progress=state.progress.step)
    tests = {variant: selftests.find(source_of(state.inputs, "patched", state.store), names)
             for variant, names in plan.selftests if variant in variants}
    configs = {(side, variant): configure(state.inputs, side, variant, store=state.store, progress=state.progress)
               for variant in variants for side in plan.variant(variant).sides}
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
        guests.boot_all(state, machines, variants, nics)
        for variant, named in tests.items():
            guests.run_selftests(state, machines, variant, named)
    judging.judge(state, variants, nics)


def _build_all(state: Run, configs: Configs, variants: Sequence[str]) -> None:
    """Build everything; the control's variant last, so that it is an incremental build that its control checks."""
    for variant in sorted(variants, key=lambda name: name == state.inputs.plan.control):
        for side in state.inputs.plan.variant(variant).sides:
            with state.row("build", f"{side}/{variant}", variant):
                _keep(state, build(state.inputs, side, configs[side, variant], store=state.store,
                                   progress=state.progress))


def _keep(state: Run, finished: Build) -> Build:
    state.builds[finished.tree, finished.variant] = finished
    folder = state.out / "builds"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(finished.log, folder / f"{finished.tree}-{finished.variant}.log")
    (folder / f"{finished.tree}-{finished.variant}.config").write_text(finished.config.text, encoding="utf-8")
    return finished


def _control(state: Run, configs: Configs, variants: Sequence[str]) -> None:
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
        same = comparison.identical_bytes
        how = f"incremental (from {first.seed}) against clean" if first.seed else "two clean builds"
        evidence = f"{how}: {claims.objdiff_evidence(comparison)}"
        _write_comparison(state, f"control-{variant}", comparison)
        state.rows.append(Row(kind="control", id="base twice", variant=variant, evidence=evidence,
                              verdict=Verdict.PASS if same else Verdict.ERROR,
                              detail=tuple(delta.path for delta in comparison.deltas if delta.status != "identical")))


def _write_comparison(state: Run, name: str, comparison: Comparison) -> None:
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


def _compare(state: Run, variant: str) -> None:
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


def _write_sizes(state: Run, name: str, sizes: SizeReport) -> None:
    folder = state.out / "size"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(size_text.to_json(sizes), indent=1), encoding="utf-8")
    (folder / f"{name}.txt").write_text("\n".join([*size_text.lines(sizes, limit=None), ""]), encoding="utf-8")
