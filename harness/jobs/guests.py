# SPDX-License-Identifier: GPL-2.0-only
"""The steps of a run that need machines: every kernel booted, suites on it, the kernel's own tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from harness.claims import Row, Verdict, earned
from harness.forks import cores
from harness.jobs import boots, selftests, suites
from harness.jobs.builds import packed_selftests
from harness.jobs.state import Run
from harness.kernel.kbuild import Build
from harness.kernel.selftests import Selftest
from harness.plan.plan import SIDES, Suite
from harness.plan.topologies import NicUse

_MORE_THAN_CORES = 1
"""Suites at once: the machines of a suite mostly wait for each other, and two suites left a fifth of two cores idle."""
_LOOK_EVERY = 0.25
"""Seconds between looks at how far suites are."""


def boot_all(state: Run, machine: boots.Lab, variants: Sequence[str], nics: Sequence[NicUse]) -> None:
    """Boot every kernel, and run a variant's suites, as many as there is room, while the next one's kernels boot."""
    at_once = cores() + _MORE_THAN_CORES
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
            for suite, model in _on_models(state, machine, sides["patched"], nics):
                _await_suites(state, running, at_once - 1)
                state.progress.step(f"suite {suite.name} on {sides['patched'].name}{f' with {model}' if model else ''}")
                running.append(stack.enter_context(machine.suite(suite, sides["patched"], model, sides)))
        _await_suites(state, running, 0)
    state.rows += suites.never_ran(state.inputs.plan, state.unfit)


def run_selftests(state: Run, machine: boots.Lab, variant: str, tests: Sequence[Selftest]) -> None:
    """The kernel's own tests on the kernels of a variant."""
    sides = state.inputs.plan.variant(variant).sides
    kernels = {side: state.builds[side, variant] for side in sides if (side, variant) in state.builds}
    if len(kernels) < len(sides):
        return
    with state.row("selftest", f"selftests/{variant}", variant):
        packed = packed_selftests(state.inputs, tests, store=state.store, progress=state.progress)
        earned = {side: selftests.on_kernel(kernel, tests, packed, machine.machine, state.progress.step)
                  for side, kernel in kernels.items()}
        state.rows += selftests.compare(variant, tests, earned)


def _on_models(state: Run, machine: boots.Lab, build: Build, nics: Sequence[NicUse]) -> Iterator[tuple[Suite, str]]:
    """A kernel's suites, each with the NIC models it runs on; once, and with none, where it has no such NICs.

    Each model that the kernel cannot have gets a row that says why not.
    """
    plan, variant = state.inputs.plan, build.variant
    kernel, here = boots.kernel_of(build), list[Suite]()
    for suite in plan.suites:
        if suite.runs_on(variant):
            lacking = kernel.why_not(suites.needs_of(suite))
            if lacking:
                state.unfit[suite.name, variant] = suites.unfit(suite, variant, lacking)
            else:
                here.append(suite)
    wanted = [use for use in nics if any(use.covers(suite.name, variant) for suite in here)]
    reasons = {use.model: machine.why_not(use.model, build) for use in wanted}
    refused = {model: reason for model, reason in reasons.items() if reason}
    state.rows += [Row(kind="nic", id=model, variant=variant, verdict=Verdict.SKIP,
                       evidence=f"its suites were not run: {reason}") for model, reason in refused.items()]
    for suite in here:
        if not suites.has_nics_of_the_run(suite, plan.topologies):
            yield suite, ""
            continue
        models = [use.model for use in wanted if use.model not in refused and use.covers(suite.name, variant)]
        yield from ((suite, model) for model in models)
        if not models:
            why = "; ".join(f"{model}: {reason}" for model, reason in refused.items())
            state.unfit[suite.name, variant] = Row(
                kind="suite", id=suite.name, variant=variant, verdict=Verdict.ERROR,
                evidence=f"it has no NICs to run on: {why or 'no model that is asked for is for it'}")


def _await_suites(state: Run, running: list[suites.Running], most: int) -> None:
    """Wait until at most `most` suites run, and take the rows of those that have ended."""
    with state.progress.counting("suites", unit="tests") as counted:
        while len(running) > most:
            running[0].wait(_LOOK_EVERY)
            counted(sum(each.finished for each in running))
            for ended in [each for each in running if each.wait(0)]:
                running.remove(ended)
                with state.row("suite", ended.suite.name, ended.variant):
                    row = ended.row()
                    if row is None:
                        state.unfit[ended.suite.name, ended.variant] = ended.unfit
                    else:
                        state.rows.append(row)
                        state.tests[ended.variant] = (*state.tests.get(ended.variant, ()), *earned(row))
