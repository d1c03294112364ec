# SPDX-License-Identifier: GPL-2.0-only
"""Tables of a kernel object whose records each stand for one place in the code, taken apart by place.

Pure. The kernel sorts these tables, searches them, or goes through all of their records, so where functions stand in
another order, the records of each function are what counts; those of one function keep their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.compare.elf import SHF_EXECINSTR, content
from harness.compare.model import Model, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of records about places in the code.

    Attributes:
        size: bytes of a record.
        pointers: where its relocations are; the first says which place it is about.
        beside: a section with a record of `width` bytes for each of these, in the same order.
    """

    size: int
    pointers: tuple[int, ...]
    beside: str = ""
    width: int = 0


_PLACES = Table(size=4, pointers=(0,))

TABLES: Mapping[str, tuple[Table, ...]] = {
    # searched for an address, or sorted at build time or at boot
    "__bug_table": (Table(size=12, pointers=(0, 4)), Table(size=24, pointers=(0, 8)), Table(size=8, pointers=(0,))),
    "__ex_table": (Table(size=12, pointers=(0, 4)),),
    "__jump_table": (Table(size=16, pointers=(0, 4, 8)),),
    "__mcount_loc": (Table(size=8, pointers=(0,)),),
    ".static_call_sites": (Table(size=8, pointers=(0, 4)),),
    ".orc_unwind_ip": (Table(size=4, pointers=(0,), beside=".orc_unwind", width=6),),
    # each record is applied to its place, whatever the others say
    ".altinstructions": (Table(size=12, pointers=(0, 4)), Table(size=14, pointers=(0, 4))),
    ".smp_locks": (_PLACES,), ".return_sites": (_PLACES,), ".retpoline_sites": (_PLACES,), ".call_sites": (_PLACES,),
    # read by objtool, or by nothing at all: the linker leaves them out
    ".discard.reachable": (_PLACES,), ".discard.unreachable": (_PLACES,),
    ".discard.addressable": (Table(size=8, pointers=(0,)),),
}
"""By section; the first layout counts whose relocations are just the pointers of every record."""

BESIDE = frozenset(table.beside for tables in TABLES.values() for table in tables if table.beside)
"""Sections that belong to a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """A table's records by the place each is about, and for each record in file order its place and number there."""

    size: int
    by_place: dict[str, list[tuple[bytes, list[Target]]]] = field(default_factory=dict)
    places: list[tuple[str, int]] = field(default_factory=list)


def records(model: Model, key: str, data: bytes, relocs: Sequence[Target]) -> Records | None:
    """A table's records, of a section's contents as `model.resolve` gives them.

    None where the table has no layout that is known, or a record is not about code or a global symbol.
    """
    table = next((row for row in TABLES[key] if len(data) % row.size == 0 and [r.offset for r in relocs] == [
        start + p for start in range(0, len(data), row.size) for p in row.pointers]), None)
    other = model.sections.get(table.beside) if table else None
    more = b"" if other is None else content(model.elf, other)
    if table is None or (table.beside and len(more) * table.size != len(data) * table.width):
        return None
    found = Records(size=table.size)
    width, step = table.width, len(table.pointers)
    for index in range(len(data) // table.size):
        own = [r._replace(offset=r.offset - index * table.size) for r in relocs[index * step:(index + 1) * step]]
        place = _place(model, own[0])
        if not place:
            return None
        record = data[index * table.size:(index + 1) * table.size] + more[index * width:(index + 1) * width]
        there = found.by_place.setdefault(place, [])
        found.places.append((place, len(there)))
        there.append((record, own))
    return found


def _place(model: Model, reloc: Target) -> str:
    """What a record is about: a section of code, or a global symbol; empty where it is something else."""
    kind = str(reloc.key[0])
    if kind == "@":
        return f"@{reloc.key[1]}"
    section = model.sections.get(kind)
    return kind if section is not None and section.flags & SHF_EXECINSTR else ""
