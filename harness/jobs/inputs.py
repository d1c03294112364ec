# SPDX-License-Identifier: GPL-2.0-only
"""What a plan comes down to before anything runs: patches read, source and toolchain pinned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness import arch as arches
from harness import host
from harness.arch import Arch
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernel import source
from harness.kernel.collect import read_series
from harness.kernel.series import Series
from harness.kernel.toolchain import Toolchain, toolchain
from harness.kernel.tree import Tree, apply
from harness.plan.plan import SIDES, Plan, SourceSpec
from harness.report import model
from harness.report.progress import Progress
from harness.sandbox import bwrap
from harness.store.store import Store, default_root

BUILD_SECONDS = 3600
FETCH_SECONDS = 3600


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
    for name, asked, found in (("base", plan.base, base), ("series", plan.series, patches)):
        if asked and not found.patches:  # base and patched would be one tree, and every `identical` true
            raise UsageError(f"no patch in `{name}`, only a cover letter", where=str(plan.path),
                             hint="name the patches as well, as `series/*.patch`")
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
