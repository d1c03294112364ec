# SPDX-License-Identifier: GPL-2.0-only
"""Walks a series patch by patch (`harness.jobs.steps`) and says which patch changed which function.

After a patch with which the kernel does not build, the next step that builds is compared with the last one that did.
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
from harness.jobs.steps import Built, Make, steps
from harness.kernel.kbuild import Build
from harness.kernel.tree import Tree

Compare = Callable[[Built, Built], Comparison]
"""Compares two finished builds; steps and ends must be compared alike, or what one of them explains looks like a
change that was taken back."""


def by_rule(before: Built, after: Built) -> Comparison:
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
    patches: list[Walked] = []
    ends: list[Built] = []
    for at in steps(variant, trees, make, progress=progress):
        if at.after is None:
            patches.append(Walked(number=at.number, subject=at.subject, error=at.error))
            continue
        ends = [*ends[:1], at.after] if ends else [at.before, at.after]
        step = Step(first=at.since, last=at.number, comparison=comparing(at.before, at.after),
                    size=kernel_sizes(at.before.build.out, at.after.build.out))
        patches.append(Walked(number=at.number, subject=at.subject, build=at.after.build, step=step))
    found = [row.step for row in patches if row.step is not None]
    net = comparing(*ends) if ends else None
    return Blame(variant=variant, patches=tuple(patches), net=net, until=found[-1].last if found else 0,
                 size=kernel_sizes(*(end.build.out for end in ends)) if ends else None,
                 origins=core.attribute(found, net) if net is not None else ())
