# SPDX-License-Identifier: GPL-2.0-only
"""One side of a comparison, as its objects can be compiled again: a build, its tree, and what is shown in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from harness.compare import elf, pair
from harness.deadline import Deadline
from harness.errors import KernelError
from harness.kernel import recompile
from harness.kernel.recompile import HARNESS, Job, RanAt

VOID = "void"
"""How the note of an object begins that did not come out as it was built."""

DEBUG = frozenset({"debug-sections", "elf-encoding"})
"""Rules that may explain what differs between an object and the same compiled again: debug information has paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison, as it can be compiled again.

    Attributes:
        out: the build's output folder.
        tree: the tree it was built from.
        shown: files that stand in the tree in place of its own, by path below it.
        objects: the folder the objects were compared in; `out` where None.
        at: where the build ran.
    """

    out: Path
    tree: Path
    shown: Mapping[str, Path] = field(default_factory=dict)
    objects: Path | None = None
    at: RanAt = HARNESS

    def file(self, name: str) -> bytes | None:
        """A file of the tree; None where there is none, or something else."""
        path = self.shown.get(name) or self.tree / name
        return path.read_bytes() if path.is_file() and not path.is_symlink() else None

    def object(self, name: str) -> bytes:
        """An object as it was built."""
        return elf.read_bytes((self.objects or self.out) / name)

    def files_of(self, name: str) -> frozenset[str]:
        """The files of the tree that an object is made from."""
        return recompile.files_of(self.out, name, self.at)

    def compiled(self, name: str) -> bool:
        """Whether an object can be made again."""
        return recompile.compiled(self.out, name, self.at)

    def command(self, name: str) -> str:
        """What made an object, wherever the tree and the output folder were."""
        text = recompile.command(self.out, name) or ""
        return text.replace(self.at.out, "OUT").replace(self.at.tree, "TREE")

    def again(self, jobs: Sequence[Job], deadline: Deadline, shown: Mapping[str, Path],
              generated: Mapping[str, Path] = MappingProxyType({})) -> tuple[bytes | KernelError, ...]:
        """Objects, compiled again with more files shown, in the tree and in the output folder."""
        return recompile.recompile(self.out, self.tree, jobs, deadline=deadline, overrides={**self.shown, **shown},
                                   generated=generated, at=self.at)

    def is_own(self, name: str, made: bytes | KernelError) -> bool:
        """Whether an object that was compiled again unchanged is the build's own, debug information aside."""
        if isinstance(made, KernelError):
            return False
        own = self.object(name)
        if made == own:
            return True
        found = pair.diff(name, elf.parse(own, name), elf.parse(made, name), strict=False)
        return not found.changes and found.sites.keys() <= DEBUG

    def newer(self, name: str) -> list[str]:
        """Files of the tree that an object is made from and that were written after it, sorted."""
        made = (self.out / name).stat().st_mtime_ns
        return sorted(file for file in self.files_of(name) if file not in self.shown
                      and (self.tree / file).is_file() and (self.tree / file).stat().st_mtime_ns > made)


def void(side: Side, name: str, made: bytes | KernelError) -> str:
    """Why the proof of an object is void that did not come out as it was built."""
    newer = side.newer(name)
    return (f"{VOID}: compiled again unchanged, {name} is not the object in {side.out}"
            + (f" ({made.detail[-1] if made.detail else made.what})" if isinstance(made, KernelError) else "")
            + (f"; changed since it was built: {', '.join(newer[:3])}" if newer else ""))
