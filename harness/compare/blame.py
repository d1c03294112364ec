# SPDX-License-Identifier: GPL-2.0-only
"""Which patch of a series changed which function: the comparisons of its steps, to one answer per function.

Pure. A step is the way from one kernel of the series to the next that builds, so it is one patch, or several where
those in between do not build. What changed in a step is what `objdiff` calls a change there; whether it still differs
in the end is asked of the comparison of the two ends, not added up from the steps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from harness.compare.naming import stem
from harness.compare.owners import LINES
from harness.compare.tables import owned
from harness.compare.values import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.compare.size import SizeDelta
    from harness.compare.values import Change, Comparison, ObjectDelta

Kind = Literal["function", "datum", "object"]
Verb = Literal["changed", "new", "gone"]

_CODE = re.compile(r"\.(?!rodata|data|bss)(\w+\.)*text\d*([.\\].*)?")
"""`.text`, `.text.unlikely`, `.init.text`, `.noinstr.text` ... (include/asm-generic/vmlinux.lds.h), x86's `.text32`; a
second section of one name has an escaped mark behind it."""

_NO_DATA = re.compile(r"UND|ABS|COMMON|special .*|\.discard\..*|__ksymtab_strings|_{2,3}ksymtab.*")
"""Where a symbol is no datum of this object: mere references, what the link discards, exports (they are said of the
object, and of the function they export)."""


class Place(NamedTuple):
    """A function or datum by its object's path and its name, without numbers; or the object, with no name."""

    path: str
    kind: Kind
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step did.

    Attributes:
        first, last: numbers of its patches, from 1; equal unless those before the last do not build.
        comparison: of the kernels before and after it.
        size: vmlinux.o before and after it; None where it was not measured.
    """

    first: int
    last: int
    comparison: Comparison
    size: SizeDelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """That a step changed a place: the numbers of the step's patches, and how."""

    first: int
    last: int
    verb: Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a change of one place comes from.

    Attributes:
        place: what changed. Its text is printable ASCII.
        touches: the steps that changed it, in order; empty where the ends differ and no single step does.
        net: whether it differs between the two ends.
    """

    place: Place
    touches: tuple[Touch, ...]
    net: bool

    @property
    def back(self) -> Touch | None:
        """The step after which it is again what it was before the series; None where it differs in the end."""
        return self.touches[-1] if not self.net and len(self.touches) > 1 else None


def attribute(steps: Sequence[Step], net: Comparison) -> tuple[Origin, ...]:
    """Say for each place that a step changed, or that differs between the ends, which steps changed it.

    Args:
        steps: in the order of the series; each starts where the one before ended.
        net: the comparison of the first step's start with the last one's end.

    Returns:
        Sorted by the first step, then by path, functions before data before the object itself.
    """
    found: dict[Place, list[Touch]] = {place: [] for place in places(net)}
    ends = frozenset(found)
    for step in steps:
        for place, verb in places(step.comparison).items():
            found.setdefault(place, []).append(Touch(first=step.first, last=step.last, verb=verb))
    order: Mapping[Kind, int] = {"function": 0, "datum": 1, "object": 2}
    return tuple(Origin(place=place, touches=tuple(touches), net=place in ends) for place, touches in sorted(
        found.items(), key=lambda item: (item[1][0].first if item[1] else 0, item[0].path, order[item[0].kind],
                                         item[0].name)))


def places(comparison: Comparison) -> dict[Place, Verb]:
    """What changed: each object, and the functions and data in it that hold a difference.

    What only moved because something before it changed its size is no change of its own; it is one of the object.
    """
    found: dict[Place, Verb] = {}
    for delta in comparison.differing:
        path = printable(delta.path)
        found[Place(path, "object", "")] = _object_verb(delta)
        for change in delta.changes:
            kind = _kind(change)
            if kind is not None and change.symbol:
                place = Place(path, kind, stem(change.symbol).rstrip("."))
                verb = _verb(change)
                found[place] = verb if found.get(place, verb) == verb else "changed"
    return found


def count(comparison: Comparison) -> tuple[int, int, int]:
    """How many objects, functions and data changed."""
    kinds = [place.kind for place in places(comparison)]
    return kinds.count("object"), kinds.count("function"), kinds.count("datum")


def _object_verb(delta: ObjectDelta) -> Verb:
    return {"only-base": "gone", "only-patched": "new"}.get(delta.status, "changed")  # type: ignore[return-value]


def _kind(change: Change) -> Kind | None:
    """What the symbol of a change is; None where the change is no change of a function or datum."""
    if change.kind in ("moved", "archive", "header", "group", "file"):
        return None
    # a record of a table, of unwinding or of bugs, belongs to the function it is about; its line number is noise
    if owned(change.section):
        return None if str(change.patched).endswith(LINES) else "function"
    if _CODE.fullmatch(change.section):
        return "function"
    return None if _NO_DATA.fullmatch(change.section) else "datum"


def _verb(change: Change) -> Verb:
    if change.kind == "symbol" and change.base is None:
        return "new"
    return "gone" if change.kind == "symbol" and change.patched is None else "changed"
