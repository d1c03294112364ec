# SPDX-License-Identifier: GPL-2.0-only
"""Proofs for build folders that no plan made: their source trees and commands are found from their `.cmd` files.

Kbuild writes beside each object the command that made it, its source file and all files it read. From the source's
path the tree is known; an object that is compiled again unchanged must be the folder's own, or the tree is not the one
the folder was built from (any more), and nothing is proved. All of it runs in the sandbox, the user's folders shown
read-only at the paths they had.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import KernelError, UsageError
from harness.jobs import proof
from harness.jobs.again import Side
from harness.kernel import recompile
from harness.kernel.recompile import HARNESS, Job, RanAt

if TYPE_CHECKING:
    from harness.compare.values import Comparison
    from harness.deadline import Deadline

_TAKEN = ("/", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc", "/dev", "/tmp",  # noqa: S108
          "/build", "/build/job")
"""Paths that mean something else in the sandbox."""

OPTIONS = {"base": "--base-source", "patched": "--patched-source"}


def prove(comparison: Comparison, base: Path, patched: Path, *, deadline: Deadline, sources: dict[str, Path],
          counted: Callable[[int], None] = lambda _: None) -> Comparison:
    """A comparison of two build folders with its differing objects proved, where that can be done.

    Args:
        sources: `base`, `patched`: where the source trees are, if not where they were when the folders were built.

    Raises:
        UsageError: it is not known how the objects were made; a source tree is not there, or is not the one that the
            folder was built from.
    """
    tried = [delta.path for delta in comparison.deltas
             if delta.status in ("explained", "changed") and delta.path.endswith(".o")]
    if not tried:
        return comparison
    sides = [find(name, out, tried, sources.get(name)) for name, out in (("base", base), ("patched", patched))]
    for name, side in zip(OPTIONS, sides, strict=True):
        _control(name, side, tried, deadline)
    differing = {file for path in tried for side in sides for file in side.files_of(path)}
    return proof.prove(comparison, sides[0], sides[1],
                       [file for file in differing if sides[0].file(file) != sides[1].file(file)],
                       deadline=deadline, counted=counted)


def find(name: str, out: Path, objects: Sequence[str], given: Path | None = None) -> Side:
    """One side: a build folder with the tree it was built from.

    Args:
        name: `base` or `patched`.
        objects: some of the folder, as paths below it.
        given: the source tree, if it is not where it was.

    Raises:
        UsageError: it is not known how the objects were made, or the tree is not there.
    """
    written = [(path, source) for path in objects if (source := recompile.source_as_written(out, path))]
    # a source file lies below the tree as its object lies below the folder; the few that do not are outvoted
    trees = Counter(source[:-len(tail)] for path, source in written
                    if source.endswith(tail := f"{Path(path).parent}/{Path(source).name}"))
    if not trees:
        raise UsageError("it is not known how these objects were made", where=str(out),
                         hint="proofs need the folder as kbuild left it, with a .cmd file beside each object")
    prefix = trees.most_common(1)[0][0]
    home = str(out.resolve())
    at = HARNESS if prefix == f"{HARNESS.tree}/" else RanAt(
        tree=os.path.normpath(os.path.join(home, prefix)), out=home, env=())  # noqa: PTH118 - nothing is followed
    tree = given or Path(at.tree)
    hint = f"put it back, or say where it is: {OPTIONS[name]} DIR"
    if given and at.tree == at.out:
        raise UsageError("this kernel was built in its source tree, so no other tree can be its source", where=str(out))
    if not (tree / "Makefile").is_file() or not (tree / "Kconfig").is_file():
        raise UsageError("this is no kernel source tree" if tree.is_dir() else "the source tree is not there",
                         where=f"{tree} ({name})", hint=hint,
                         detail=(f"{out} was built from {at.tree}",))
    wrong = next((path for path in (at.tree, at.out) if path in _TAKEN), "")
    if wrong:
        raise UsageError("objects of a build at this place cannot be compiled again in the sandbox", where=wrong,
                         hint="build it in a folder of its own")
    return Side(out=out.resolve(), tree=tree.resolve(), at=at)


def _control(name: str, side: Side, objects: Sequence[str], deadline: Deadline) -> None:
    """One object, compiled again unchanged, is the folder's own; else the tree is not the one it was built from."""
    path = next((path for path in objects if side.compiled(path)), None)
    if path is None:
        return
    made, = side.again([Job(object=path)], deadline, {})
    if side.is_own(path, made):
        return
    newer = side.newer(path)
    detail = [f"compiled again unchanged, {path} is not the object in {side.out}"]
    if isinstance(made, KernelError):
        detail = [f"{path}: {made.what}", *made.detail[-5:]]
    if newer:
        more = f" and {len(newer) - 5} more" if len(newer) > 5 else ""
        detail.append(f"written after it was built: {', '.join(newer[:5])}{more}")
    raise UsageError("the folder was not built from this source tree, or with other programs than this host has",
                     where=f"{side.tree} ({name})", detail=tuple(detail),
                     hint="build it again" if newer else f"say where its source is: {OPTIONS[name]} DIR")
