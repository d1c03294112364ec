# SPDX-License-Identifier: GPL-2.0-only
"""Comparisons of builds that are kept in the store: what was worked out once from the same objects is not again.

The key is what is in the two builds, not what they were made of: a build that had to be made again, and came out
otherwise, is compared anew. Another version of this package has to conclude anew, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from harness import frozen
from harness.compare.objdiff import compare
from harness.compare.size import SizeReport, compare_sizes
from harness.compare.values import Comparison
from harness.deadline import Deadline
from harness.kernel.kbuild import Build
from harness.store.store import Store, digest, file_digest

T = TypeVar("T")
_SECONDS = 3600
_ELSEWHERE = ("cli", "guest", "lab", "vm")
"""Packages that no comparison and no report of one imports."""


def compared(base: Build, patched: Build, *, store: Store) -> Comparison:
    """What differs between the objects of two builds, worked out once for what is in them."""
    found = _worked_out("comparison", Comparison, compare, base, patched, store)
    return replace(found, base=str(base.out), patched=str(patched.out))


def compared_sizes(base: Build, patched: Build, *, store: Store) -> SizeReport:
    """What differs between the sizes of two builds, worked out once for what is in them."""
    return _worked_out("sizes", SizeReport, compare_sizes, base, patched, store)


def _worked_out(name: str, kind: type[T], work: Callable[[Path, Path], T], base: Build, patched: Build,
                store: Store) -> T:
    def make(stage: Path) -> None:
        (stage / "value.json").write_text(frozen.dump(work(base.out, patched.out)), encoding="utf-8")

    key = digest(name, contents(base, patched, store), code_digest())
    entry = store.get(name, key, make, deadline=Deadline.after(_SECONDS), what=f"{base.name} {patched.name}")
    return frozen.load(kind, (entry / "value.json").read_text(encoding="utf-8"))


def contents(base: Build, patched: Build, store: Store) -> list[str]:
    """What is in two builds: one that was made again under its key is compared anew."""
    return [store.content("build", each.key, "out/") for each in (base, patched)]


def code_digest() -> str:
    """The digest of the code that compares: what one version of it concluded, another has to conclude anew."""
    home = Path(__file__).parents[1]
    names = sorted(path.relative_to(home) for path in home.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return digest("code", [[str(name), file_digest(home / name)] for name in names if name.parts[0] not in _ELSEWHERE])
