# SPDX-License-Identifier: GPL-2.0-only
"""A series step by step: the kernel with each further patch, built from the one before it.

Only what depends on the patch is built, and it is in the cache afterwards: a walk that was interrupted goes on where it
was. A patch after which the kernel does not build is a result; the next one starts from the last that did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.errors import KernelError
from harness.kernel import warnings
from harness.kernel.kbuild import Build
from harness.kernel.tree import Tree
from harness.kernel.warnings import Warned

Make = Callable[[Tree, Build | None], Build]
"""Configures and builds a tree, starting from a seed. Raises `KernelError` where the tree is at fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A tree and its kernel."""

    tree: Tree
    build: Build


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """One patch of a series.

    Attributes:
        number: from 1.
        subject: of the patch.
        before: the last kernel before it that builds.
        since: the number of the first patch that it has and `before` has not.
        after: the kernel with the patches up to this one; None where it does not configure or build.
        error: why not.
    """

    number: int
    subject: str
    before: Built
    since: int
    after: Built | None = None
    error: KernelError | None = None

    @property
    def new_warnings(self) -> tuple[Warned, ...]:
        """What the compiler warns of now and did not in the kernel before."""
        return () if self.after is None else warnings.new(self.before.build.warnings, self.after.build.warnings)


def steps(variant: str, trees: Sequence[Tree], make: Make, *, progress: Callable[[str], None]) -> Iterator[Stepped]:
    """Build base, then the tree with each further patch.

    Args:
        variant: its name, for `progress`.
        trees: base, then the tree with each further patch.

    Raises:
        KernelError: base does not build.
        InfraError: the lab failed.
    """
    before, since = Built(tree=trees[0], build=make(trees[0], None)), 1
    for number, tree in enumerate(trees[1:], 1):
        subject = tree.patches[-1].subject
        told = f"patch {number} of {len(trees) - 1} in {variant}"
        progress(f"{told}: {subject}")
        try:
            after = Built(tree=tree, build=make(tree, before.build))
        except KernelError as error:
            progress(f"{told}: {error.what}")
            yield Stepped(number=number, subject=subject, before=before, since=since, error=error)
            continue
        yield Stepped(number=number, subject=subject, before=before, since=since, after=after)
        before, since = after, number + 1
