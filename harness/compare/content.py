# SPDX-License-Identifier: GPL-2.0-only
"""One side of a section, as those who put words to a difference see it. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.compare.elf import SHF_EXECINSTR
from harness.compare.naming import Unit, stem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.compare.elf import Section
    from harness.compare.model import Target
    from harness.compare.naming import Names


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One side of a section that differs: its data (explained bytes blanked) and its resolved relocations.

    `offsets`: of the relocations, for bisection.
    """

    names: Names
    section: Section
    data: bytes
    relocs: Sequence[Target]
    offsets: Sequence[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "offsets", [reloc[0] for reloc in self.relocs])


def within(side: Content, unit: Unit) -> Sequence[Target]:
    """The relocations within a unit."""
    first = bisect_left(side.offsets, unit[0])
    return side.relocs[first:bisect_left(side.offsets, unit[1], first)]


def bias(side: Content) -> int | None:
    """What to add to addends of PC-relative relocations: nothing in data (`.long f - .`), what is usual in code."""
    return None if side.section.flags & SHF_EXECINSTR else 0


def units(side: Content) -> list[Unit]:
    """The stretches of this section that symbols with a size cover."""
    return [u for u in side.names.units.get(side.section.number, ()) if 0 <= u.start < u.end <= len(side.data)]


def paired(base: Sequence[Unit], patched: Sequence[Unit]) -> list[tuple[Unit, Unit]]:
    """Units of the same name, in the order of the base; the n-th of a name with the n-th."""
    pool: dict[str, deque[Unit]] = {}
    for unit in patched:
        pool.setdefault(stem(unit.name), deque()).append(unit)
    return [(unit, partners.popleft()) for unit in base if (partners := pool.get(stem(unit.name)))]
