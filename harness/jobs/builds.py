# SPDX-License-Identifier: GPL-2.0-only
"""What a plan comes down to before anything runs: its inputs, and the kernels that are made and compared from them.

`harness.engine` runs a whole plan on top of this; single commands (`harness build`, `boot`, `layout`, `blame`) and
tests use it alone. Everything slow is in the store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import arch as arches
from harness import host
from harness.arch import Arch
from harness.claims import Check
from harness.compare.layout import Layout, Unmeasured
from harness.compare.values import Comparison
from harness.deadline import Deadline
from harness.jobs import boots, layouts, proof, selftests
from harness.jobs.again import Side
from harness.jobs.blame import Blame, by_rule, walk
from harness.jobs.compared import code_digest, contents
from harness.jobs.steps import Make, Stepped, steps
from harness.kernel import kbuild, kconfig, source
from harness.kernel.collect import read_series
from harness.kernel.kbuild import Build, Seed
from harness.kernel.kconfig import Config
from harness.kernel.selftests import Selftest
from harness.kernel.series import Series
from harness.kernel.toolchain import Toolchain, toolchain
from harness.kernel.tree import Tree, apply, difference, prepare
from harness.plan.plan import SIDES, Plan, SourceSpec
from harness.report import model
from harness.report.progress import Progress
from harness.sandbox import bwrap
from harness.store.store import Store, default_root, digest, file_digest
from harness.vm.accel import Accel

BUILD_SECONDS = 3600
FETCH_SECONDS = 3600
PROOF_SECONDS = 900
PROBE_SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a plan comes down to before anything is built.

    Attributes:
        trees: `base` and `patched`.
        series: of base and of the patches under test: with cover letters, and what was decided when they were read.
        fuzz: what `applied` found.
        extra_warnings: kbuild's `W=`, as `1`; empty for the ordinary warnings.
        sandbox: what foreign code runs in, with its version.
    """

    plan: Plan
    arch: Arch
    toolchain: Toolchain
    trees: dict[str, Tree]
    sandbox: str
    series: tuple[Series, ...] = ()
    fuzz: tuple[str, ...] = ()
    extra_warnings: str = ""

    @property
    def compiling(self) -> Toolchain:
        """The toolchain of builds; configurations do not depend on `extra_warnings`."""
        return self.toolchain.with_var("W", self.extra_warnings) if self.extra_warnings else self.toolchain

    def steps(self) -> tuple[Tree, ...]:
        """Base, then the tree with each further patch of the series, the last one `patched`."""
        base, patched = (self.trees[side] for side in SIDES)
        least = len(base.patches)
        return (base, *(replace(patched, name=f"patch-{number - least}", patches=patched.patches[:number])
                        for number in range(least + 1, len(patched.patches))), patched)


def resolve(plan: Plan, deadline: Deadline, *, store: Store | None = None,
            progress: Callable[[str], None] = lambda _: None) -> Inputs:
    """Read the patches, pin the source and the toolchain.

    Args:
        plan: what the user asks for.
        deadline: for the toolchain; what has to be fetched has a time of its own.
        store: where git repositories are mirrored; the user's cache where none is given.
        progress: told what is fetched, and every note on the series.

    Raises:
        UsageError: a patch or the source is not there or malformed.
        InfraError: something the host must have is not installed, the sandbox does not work here, or a repository
                cannot be reached.
    """
    row = arches.get(plan.arch)
    host.require((row.emulator,))
    box = bwrap.describe(deadline)
    cache, root = store or Store(root=default_root()), plan.path.parent
    fetching = Deadline.after(FETCH_SECONDS)
    base, patches = (read_series(asked, root, cache, deadline=fetching, progress=progress)
                     for asked in (plan.base, plan.series))
    for note in (*base.notes, *patches.notes):
        progress(model.clean(note))
    pinned = _pinned(plan.source, cache, fetching, progress)
    trees = {"base": Tree(name="base", source=pinned, patches=base.patches, fuzz=plan.fuzz),
             "patched": Tree(name="patched", source=pinned, patches=(*base.patches, *patches.patches), fuzz=plan.fuzz)}
    return Inputs(plan=plan, arch=row, trees=trees, series=(base, patches), sandbox=box,
                  toolchain=toolchain(deadline, plan.cc, dict(plan.make_vars), arch=row))


def _pinned(spec: SourceSpec, store: Store, deadline: Deadline, progress: Callable[[str], None]) -> source.Source:
    makers: dict[str, Callable[[], source.Source]] = {
        "debian": lambda: source.debian(spec.name, version=spec.version, sha256=spec.sha256),
        "tarball": lambda: source.tarball(Path(spec.name), sha256=spec.sha256 or None),
        "dir": lambda: source.folder(Path(spec.name)),
        "git": lambda: source.git(spec.name, spec.version, store, deadline=deadline, progress=progress),
    }
    return makers[spec.kind]()


def applied(inputs: Inputs, *, store: Store, progress: Progress) -> Inputs:
    """The inputs, once every patch has applied: with what git says of those that did so with fuzz.

    Raises:
        KernelError: a patch does not apply.
    """
    done = {name: apply(tree, store, deadline=Deadline.after(BUILD_SECONDS), progress=progress.step)
            for name, tree in inputs.trees.items()}
    for row in done["patched"].fuzz:
        progress.step(model.clean(row))
    return replace(inputs, fuzz=done["patched"].fuzz)


def configure(inputs: Inputs, side: str, variant: str, *, store: Store, progress: Progress) -> Config:
    """The checked configuration of one side and variant."""
    asked = kconfig.read_fragments(inputs.plan.variant(variant).fragments)
    return kconfig.configure(inputs.trees[side], variant, asked, arch=inputs.arch, toolchain=inputs.toolchain,
                             store=store, deadline=_step(inputs), progress=progress.step, limits=inputs.plan.limits)


def build(inputs: Inputs, side: str, config: Config, *, store: Store, progress: Progress, again: str = "",
          seed: Seed | None = None) -> Build:
    """One build, started from a finished one, the nearest where none is given; a control (`again`) from nothing."""
    tree = inputs.trees[side]
    finished = None if again else kbuild.cached(tree, config, arch=inputs.arch, toolchain=inputs.compiling, store=store)
    if finished is not None:
        return finished
    seed = None if again else seed or _nearest(inputs, side, config.variant, store)
    with progress.counting(f"{side}/{config.variant}") as counted:
        return kbuild.build(tree, config, arch=inputs.arch, toolchain=inputs.compiling,
                            store=store, deadline=_step(inputs), again=again, seed=seed,
                            progress=progress.step, counted=counted, limits=inputs.plan.limits)


def _step(inputs: Inputs) -> Deadline:
    """What a step has for itself, and for waiting and all that it needs first."""
    return Deadline.after(BUILD_SECONDS + inputs.plan.limits.seconds)


def _nearest(inputs: Inputs, side: str, variant: str, store: Store) -> Seed | None:
    """The finished build to start from.

    In this order: the series without its last patch or two (somebody adds a patch and runs again), base of the same
    variant, another variant of the same tree, then any.
    """
    tree = inputs.trees[side]
    least = len(inputs.trees["base"].patches)
    shorter = [replace(tree, name=f"{side}~{back}", patches=tree.patches[:-back]) for back in (1, 2)
               if side == "patched" and len(tree.patches) - back > least]
    # base is what a series is held against: nothing that the series' own build left may get into it
    others = [(where, row.name) for row in inputs.plan.variants for where in SIDES
              if (where, row.name) != (side, variant) and (where == "base" or side != "base")]
    others.sort(key=lambda key: (key != ("base", variant), key[0] != side, key[1] != variant))
    candidates = [*((other, variant) for other in shorter), *((inputs.trees[where], name) for where, name in others)]
    for other, name in candidates:
        asked = kconfig.read_fragments(inputs.plan.variant(name).fragments)
        config = kconfig.cached(other, name, asked, arch=inputs.arch, toolchain=inputs.toolchain, store=store,
                                deadline=Deadline.after(BUILD_SECONDS))
        found = config and kbuild.cached(other, config, arch=inputs.arch, toolchain=inputs.compiling, store=store)
        if found:
            return Seed(tree=other, build=found)
    return None


def blame(inputs: Inputs, variant: str, *, store: Store, progress: Progress) -> Blame:
    """Walk the series patch by patch and say which patch changed which function (`harness.jobs.blame`).

    Where the plan claims `identical`, each step is compared as that claim is judged: what is proved to be no change is
    none here either.

    Raises:
        KernelError: base does not build.
    """
    def proved(before: Seed, after: Seed) -> Comparison:
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
    def make(tree: Tree, seed: Seed | None) -> Build:
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
