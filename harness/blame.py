# SPDX-License-Identifier: GPL-2.0-only
"""Walks a series patch by patch, builds the kernel of each step, and says which patch changed which function.

Each step's kernel starts from the one before it, so only what depends on the patch is built, and it is in the cache
afterwards: a walk that was interrupted goes on where it was. A patch after which the kernel does not build is a
result; the walk goes on, and the next step that builds is compared with the last one that did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.compare import blame as core
from harness.compare.blame import Origin, Step
from harness.compare.objdiff import compare
from harness.compare.size import SizeDelta, kernel_sizes
from harness.compare.values import Comparison
from harness.errors import KernelError
from harness.kernel.kbuild import Build, Seed
from harness.kernel.tree import Tree

Make = Callable[[Tree, Seed | None], Build]
"""Configures and builds a tree, starting from a seed. Raises `KernelError` where the tree is at fault."""

Compare = Callable[[Seed, Seed], Comparison]
"""Compares two finished builds; steps and ends must be compared alike, or what one of them explains looks like a
change that was taken back."""


def by_rule(before: Seed, after: Seed) -> Comparison:
    """The comparison of `harness objdiff`."""
    return compare(before.build.out, after.build.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """One patch of the series.

    Attributes:
        number: from 1.
        subject: of the patch.
        build: the kernel with the patches up to this one; None where it does not configure or build.
        error: why not.
        step: from the kernel before it that builds to this one; None where it does not build.
    """

    number: int
    subject: str
    build: Build | None = None
    error: KernelError | None = None
    step: Step | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """A series in one variant, patch by patch.

    Attributes:
        variant: the configuration.
        patches: all of them, in order.
        origins: where each change comes from.
        net: base against the last kernel that builds; None where none but base does.
        size: vmlinux.o of the two.
        until: the number of that kernel's last patch; 0 where none builds.
    """

    variant: str
    patches: tuple[Walked, ...]
    origins: tuple[Origin, ...]
    net: Comparison | None
    size: SizeDelta | None
    until: int

    @property
    def broken(self) -> tuple[Walked, ...]:
        """The patches after which the kernel does not build."""
        return tuple(row for row in self.patches if row.error is not None)


def walk(variant: str, trees: Sequence[Tree], make: Make, *, progress: Callable[[str], None],
         comparing: Compare = by_rule) -> Blame:
    """Build each step of a series and compare it with the one before.

    Args:
        trees: base, then the tree with each further patch.

    Raises:
        KernelError: base does not build.
        InfraError: the lab failed.
    """
    base = Seed(tree=trees[0], build=make(trees[0], None))
    before, since = base, 1
    patches: list[Walked] = []
    for number, tree in enumerate(trees[1:], 1):
        subject = tree.patches[-1].subject
        progress(f"patch {number} of {len(trees) - 1} in {variant}: {subject}")
        try:
            build = make(tree, before)
        except KernelError as error:
            progress(f"patch {number} of {len(trees) - 1} in {variant}: {error.what}")
            patches.append(Walked(number=number, subject=subject, error=error))
            continue
        after = Seed(tree=tree, build=build)
        step = Step(first=since, last=number, comparison=comparing(before, after),
                    size=kernel_sizes(before.build.out, build.out))
        patches.append(Walked(number=number, subject=subject, build=build, step=step))
        before, since = after, number + 1
    steps = [row.step for row in patches if row.step is not None]
    net = comparing(base, before) if steps else None
    return Blame(variant=variant, patches=tuple(patches), net=net, until=steps[-1].last if steps else 0,
                 size=kernel_sizes(base.build.out, before.build.out) if steps else None,
                 origins=core.attribute(steps, net) if net is not None else ())
