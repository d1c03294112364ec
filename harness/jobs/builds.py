# SPDX-License-Identifier: GPL-2.0-only
"""What a plan comes down to before anything runs: its inputs, and the kernels that are made and compared from them.

`harness.engine` runs a whole plan on top of this; single commands (`harness build`, `boot`, `layout`, `blame`) and
tests use it alone. Everything slow is in the store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.claims import Check
from harness.compare.layout import Layout, Unmeasured
from harness.compare.values import Comparison
from harness.deadline import Deadline
from harness.jobs import boots, layouts, proof, selftests
from harness.jobs.again import Side
from harness.jobs.blame import Blame, by_rule, walk
from harness.jobs.compared import code_digest, contents
from harness.jobs.inputs import BUILD_SECONDS, Inputs
from harness.jobs.seeds import may_serve, nearest
from harness.jobs.steps import Built, Make, Stepped, steps
from harness.kernel import kbuild, kconfig
from harness.kernel.kbuild import Build
from harness.kernel.kconfig import Config
from harness.kernel.selftests import Selftest
from harness.kernel.tree import Tree, apply, difference, prepare
from harness.plan.plan import SIDES, Plan
from harness.report import model
from harness.report.progress import Progress
from harness.store.store import Store, digest, file_digest
from harness.vm.accel import Accel

PROOF_SECONDS = 900
PROBE_SECONDS = 300


def configure(inputs: Inputs, side: str, variant: str, *, store: Store, progress: Progress) -> Config:
    """The checked configuration of one side and variant."""
    asked = kconfig.read_fragments(inputs.plan.variant(variant).fragments)
    return kconfig.configure(inputs.trees[side], variant, asked, arch=inputs.arch, toolchain=inputs.toolchain,
                             store=store, deadline=_step(inputs), progress=progress.step, limits=inputs.plan.limits)


def build(inputs: Inputs, side: str, config: Config, *, store: Store, progress: Progress, again: str = "",
          seed: Build | None = None) -> Build:
    """One build, started from a finished one, the nearest where none is given; a control (`again`) from nothing."""
    tree = inputs.trees[side]
    finished = None if again else kbuild.cached(tree, config, arch=inputs.arch, toolchain=inputs.compiling, store=store)
    if finished is not None:
        return finished
    if again:
        seed = None
    elif seed is None or not may_serve(inputs, side, seed, store):
        seed = nearest(inputs, side, config, store)
    with progress.counting(f"{side}/{config.variant}") as counted:
        return kbuild.build(tree, config, arch=inputs.arch, toolchain=inputs.compiling,
                            store=store, deadline=_step(inputs), again=again, seed=seed,
                            progress=progress.step, counted=counted, limits=inputs.plan.limits)


def _step(inputs: Inputs) -> Deadline:
    """What a step has for itself, and for waiting and all that it needs first."""
    return Deadline.after(BUILD_SECONDS + inputs.plan.limits.seconds)


def blame(inputs: Inputs, variant: str, *, store: Store, progress: Progress) -> Blame:
    """Walk the series patch by patch and say which patch changed which function (`harness.jobs.blame`).

    Where the plan claims `identical`, each step is compared as that claim is judged: what is proved to be no change is
    none here either.

    Raises:
        KernelError: base does not build.
    """
    def proved(before: Built, after: Built) -> Comparison:
        ends = replace(inputs, trees=dict(zip(SIDES, (before.tree, after.tree), strict=True)))
        return prove(ends, by_rule(before, after), before.build, after.build, store=store, progress=progress)

    return walk(variant, inputs.steps(), _making(inputs, variant, store, progress), progress=progress.step,
                comparing=proved if is_proved(inputs.plan, variant) else by_rule)


def each_patch(inputs: Inputs, variant: str, *, store: Store, progress: Progress) -> tuple[Stepped, ...]:
    """Build the kernel with each further patch of the series (`harness.jobs.steps`).

    Raises:
        KernelError: base does not build.
    """
    return tuple(steps(variant, inputs.steps(), _making(inputs, variant, store, progress), progress=progress.step))


def _making(inputs: Inputs, variant: str, store: Store, progress: Progress) -> Make:
    def make(tree: Tree, seed: Build | None) -> Build:
        step = replace(inputs, trees={**inputs.trees, tree.name: tree})
        config = configure(step, tree.name, variant, store=store, progress=progress)
        return build(step, tree.name, config, store=store, progress=progress, seed=seed)

    return make


def is_proved(plan: Plan, variant: str) -> bool:
    """Whether a claim needs what differs in a variant to be proved: only `identical` does."""
    return any(claim.check is Check.OBJDIFF and claim.expect == "identical" and variant in claim.variants
               for claim in plan.claims)


def prove(inputs: Inputs, comparison: Comparison, base: Build, patched: Build, *, store: Store,
          progress: Progress) -> Comparison:
    """A comparison of two builds of a plan with its differing objects proved, where that can be done.

    The same two builds are not compiled again by the same harness: what was found is in the store.
    """
    if not comparison.explained and not comparison.changed:
        return comparison
    deadline = Deadline.after(PROOF_SECONDS)
    key = digest("proof", base.key, patched.key, contents(base, patched, store), code_digest())
    saved = store.load("proof", key)
    if saved is not None:
        return proof.restored(comparison, (saved / "proof.json").read_text(encoding="utf-8"))
    trees = [inputs.trees[side] for side in SIDES]
    sides = [Side(out=built.out, tree=prepare(tree, store, deadline=deadline))
             for built, tree in zip((base, patched), trees, strict=True)]
    progress.step(f"proving {comparison.explained} explained and {comparison.changed} changed objects "
                  f"of {patched.variant}")
    with progress.counting(f"proving {patched.variant}", unit="objects") as counted:
        found = proof.prove(comparison, sides[0], sides[1], difference(trees[0], trees[1], store, deadline),
                            deadline=deadline, counted=counted)
    text = proof.saved(found)
    if text is not None:
        def make(stage: Path) -> None:
            (stage / "proof.json").write_text(text, encoding="utf-8")

        store.get("proof", key, make, deadline=Deadline.after(BUILD_SECONDS), what=patched.variant)
    return found


def measure(inputs: Inputs, finished: Build, struct: str, headers: Sequence[str], *,
            store: Store) -> Layout | Unmeasured:
    """The layout of a structure in one of the plan's builds."""
    deadline = Deadline.after(PROBE_SECONDS)
    tree = prepare(inputs.trees[finished.tree], store, deadline=deadline)
    return layouts.measure(finished, tree, struct, headers, deadline)


def source_of(inputs: Inputs, side: str, store: Store) -> Path:
    """The folder of one side's tree, every patch applied; never to be written to."""
    return prepare(inputs.trees[side], store, deadline=Deadline.after(BUILD_SECONDS))


def packed_selftests(inputs: Inputs, tests: Sequence[Selftest], *, store: Store, progress: Progress
                     ) -> dict[str, bytes]:
    """What tests of the patched tree bring into their guests (`harness.jobs.selftests`).

    Raises:
        KernelError: the tree's headers cannot be installed.
    """
    content = apply(inputs.trees["patched"], store, deadline=Deadline.after(BUILD_SECONDS)).key
    return selftests.packed(tests, source_of(inputs, "patched", store), content, arch=inputs.arch,
                            toolchain=inputs.toolchain, store=store, progress=progress.step)


def lab(inputs: Inputs, rootfs: Path, accel: Accel, out: Path, *, store: Store, progress: Progress) -> boots.Lab:
    """Where the plan's kernels are booted."""
    return boots.Lab(plan=inputs.plan, arch=inputs.arch, rootfs=rootfs, accel=accel, out=out, cache=store.root,
                     toolchain=inputs.compiling, source=lambda side: source_of(inputs, side, store),
                     progress=progress.step)


def input_facts(inputs: Inputs) -> dict[str, object]:
    """What went in, for the report."""
    pinned = inputs.trees["base"].source
    commit = {"source_ref": pinned.version, "source_commit": pinned.commit.id} if pinned.commit else {}
    return {
        "source": str(pinned), "source_sha256": pinned.sha256, **commit,
        "arch": inputs.arch.name, "cc": inputs.toolchain.cc_version, "ld": inputs.toolchain.ld_version,
        "toolchain": {row.variable: f"{row.name}: {row.version}" for row in inputs.toolchain.programs},
        "base": [patch.subject for patch in inputs.trees["base"].patches],
        "series": [patch.subject for patch in inputs.trees["patched"].patches[len(inputs.trees["base"].patches):]],
        "covers": [{"subject": model.clean(cover.subject), "text": model.clean(cover.text)}
                   for part in inputs.series for cover in part.covers],
        "notes": [model.clean(note) for part in inputs.series for note in part.notes],
        "fuzz": [model.clean(row) for row in inputs.fuzz],
    }


def build_facts(finished: Build) -> dict[str, object]:
    """What a report says of a build."""
    warnings = [str(row) for rows in finished.warnings.values() for row in rows]
    facts: dict[str, object] = {
        "name": finished.name, "key": finished.key, "seconds": round(finished.seconds, 1), "seed": finished.seed,
        "compiled": finished.rebuilt, "reused": finished.reused, "warnings": [model.clean(line) for line in warnings]}
    with contextlib.suppress(OSError):
        facts["vmlinux_sha256"] = file_digest(finished.vmlinux)
        facts["image_sha256"] = file_digest(finished.image)
    return facts
