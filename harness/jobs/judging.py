# SPDX-License-Identifier: GPL-2.0-only
"""The last steps of a run: claims judged by what the others found, and which patch it was where one failed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from harness import claims
from harness.claims import Check, Claim, Row, Verdict
from harness.compare.layout import Layout, Unmeasured
from harness.errors import HarnessError
from harness.jobs import layouts
from harness.jobs.builds import blame, each_patch, measure
from harness.jobs.state import Run
from harness.plan.plan import SIDES
from harness.plan.topologies import NicUse
from harness.report import blame as blaming


def judge(state: Run, variants: Sequence[str], nics: Sequence[NicUse]) -> None:
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


def _judged(state: Run, claim: Claim, variant: str) -> Row:
    missing = [side for side in state.inputs.plan.variant(variant).sides if (side, variant) not in state.builds]
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


def blame_failed(state: Run, variants: Sequence[str]) -> None:
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


def _layout(state: Run, side: str, variant: str, struct: str, headers: tuple[str, ...]) -> Layout | Unmeasured:
    """A side's layout of a structure, measured once for all claims."""
    finished = state.builds[side, variant]
    key = (finished.key, struct, headers)
    if key not in state.layouts:
        state.layouts[key] = measure(state.inputs, finished, struct, headers, store=state.store)
    return state.layouts[key]
