# SPDX-License-Identifier: GPL-2.0-only
"""The tables that the kernel's macros and objtool write beside the code, taken apart into records.

Pure, and the one reader of these tables. Rules for noise ask where their records hold line numbers (`lines`), those
who put words to a difference how long a record is (`layout`), and the proof by symbol which place in the code each
record is about (`by_place`): the kernel sorts these tables, searches them, or goes through all of their records, so
where functions stand in another order, the records of each function are what counts; those of one function keep theirs.

Whoever judges uses layouts that are known, and asks that the relocations are just the pointers of every record. For
words a length is enough that the relocations show: they must stand at the same places in every record.

Sources: include/asm-generic/bug.h, arch/x86/include/asm/{extable,alternative,jump_label,orc_types}.h,
include/linux/dynamic_debug.h, tools/objtool/check.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.compare.elf import SHF_EXECINSTR, content
from harness.compare.machine import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.compare.machine import Lines, Machine
    from harness.compare.model import Model, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One row.

    Attributes:
        name: what a reader calls it.
        sections: names of the sections that it is.
        layouts: those that are known, of any machine and kernel. Without one the proof compares the section as it is.
        pointers: how many relocations a record may have whose layout is not known; none where a symbol covers each.
        index: the section that says whose each part of this one is: its n-th record's first pointer says whose, the
            second, if there is one, where the part begins; without a second all parts are equally long.
    """

    name: str
    sections: tuple[str, ...]
    layouts: tuple[Layout, ...] = ()
    pointers: tuple[int, ...] = ()
    index: str = ""


def _row(name: str, sections: str, *layouts: Layout, pointers: tuple[int, ...] = (), index: str = "") -> Table:
    return Table(name=name, sections=tuple(sections.split()), layouts=layouts, pointers=pointers, index=index)


_SHORT, _LONG = Layout(4, (0,)), Layout(8, (0,))
_PAIR = Layout(8, (0, 4))

TABLES: tuple[Table, ...] = (
    # searched for an address, or sorted at build time or at boot
    _row("exception table", "__ex_table", Layout(12, (0, 4)), _PAIR, pointers=(2,)),
    _row("bug table", "__bug_table", Layout(12, (0, 4)), Layout(24, (0, 8)), _LONG, pointers=(2, 1)),
    _row("jump labels", "__jump_table", Layout(16, (0, 4, 8)), Layout(12, (0, 4, 8)), pointers=(3,)),
    _row("static calls", ".static_call_sites", _PAIR, pointers=(2,)),
    _row("ftrace sites", "__mcount_loc", _LONG, _SHORT, pointers=(1,)),
    _row("ftrace sites", "__patchable_function_entries", pointers=(1,)),
    _row("unwind table", ".orc_unwind_ip", _SHORT, pointers=(1,)),
    _row("unwind table", ".orc_unwind", Layout(6, ()), index=".orc_unwind_ip"),
    # each record is applied to its place, whatever the others say
    _row("alternatives", ".altinstructions", Layout(12, (0, 4)), Layout(14, (0, 4)), pointers=(2,)),
    _row("alternatives", ".altinstr_replacement", index=".altinstructions"),
    _row("lock prefixes", ".smp_locks", _SHORT, pointers=(1,)),
    _row("paravirt sites", ".parainstructions", pointers=(1,)),
    _row("retpoline sites", ".retpoline_sites .return_sites .call_sites", _SHORT, pointers=(1,)),
    _row("retpoline sites", ".ibt_endbr_seal", pointers=(1,)),
    # read by objtool, or by nothing at all: the linker leaves them out
    _row("objtool annotations", ".discard.reachable .discard.unreachable", _SHORT, pointers=(1,)),
    _row("objtool annotations", ".discard.retpoline_safe .discard.instr_begin .discard.instr_end "
         ".discard.ibt_endbr_noseal", pointers=(1,)),
    _row("marks of what is kept", ".discard.addressable", _LONG, _SHORT),
)


_BY_SECTION: Mapping[str, Table] = {section: row for row in TABLES for section in row.sections}


def table(section: str) -> Table | None:
    """The row of a section's name."""
    return _BY_SECTION.get(section)


def owned(section: str) -> Table | None:
    """The row of a section whose records are told of by the functions they are about; None where symbols cover them."""
    row = table(section)
    return row if row and (row.pointers or row.index) else None


def name_of(section: str) -> str:
    """What a reader calls a section: its table's name, or its own."""
    row = owned(section)
    return row.name if row else section


def fits(layout: Layout, size: int, relocs: Sequence[Target]) -> bool:
    """Whether a section of this size is records of a layout, and its relocations are just their pointers."""
    return size % layout.size == 0 and len(relocs) * layout.size == size * len(layout.pointers) and [
        reloc[0] for reloc in relocs] == [start + at for start in range(0, size, layout.size) for at in layout.pointers]


def lines(machine: Machine, section: str, size: int, relocs: Sequence[Target]) -> Lines | None:
    """Where the records of a section hold line numbers; None where that is not known for certain."""
    return next((row for row in machine.lines if row.section == section and fits(row.layout, size, relocs)
                 and {reloc[1] for reloc in relocs} <= {row.reloc_type}), None)


def layout(row: Table, size: int, relocs: Sequence[Target]) -> Layout | None:
    """A table's layout: one that is known, else what its relocations show; None where the records cannot be told apart.

    With a layout that is only shown nothing may be judged.
    """
    if row.index or not size:
        return None
    known = next((found for found in row.layouts if fits(found, size, relocs)), None)
    return known or next((found for count in row.pointers for found in _shown(count, size, relocs)), None)


def _shown(count: int, size: int, relocs: Sequence[Target]) -> list[Layout]:
    number, rest = divmod(len(relocs), count)
    if rest or not number or size % number:
        return []
    found = Layout(size // number, tuple([reloc[0] for reloc in relocs[:count]]))
    return [found] if fits(found, size, relocs) else []


def movable(key: str) -> bool:
    """Whether a section's records may come in the order of the functions they are about, whatever that is."""
    row = table(key)
    return row is not None and bool(row.layouts) and not row.index


def beside(key: str) -> str:
    """The table whose records a section has another part of, in the same order; empty for other sections."""
    row = table(key)
    return row.index if row and row.layouts else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """A table's records by the place each is about, and for each record in file order its place and number there."""

    size: int
    by_place: dict[str, list[tuple[bytes, list[Target]]]] = field(default_factory=dict)
    places: list[tuple[str, int]] = field(default_factory=list)


def by_place(model: Model, key: str, data: bytes, relocs: Sequence[Target]) -> Records | None:
    """The records of a movable table, of a section's contents as `model.resolve` gives them.

    What stands for a record in a section beside it is added to its bytes. None where the table has no layout that is
    known, or a record is not about code or a global symbol.
    """
    row = table(key)
    known = next((found for found in row.layouts if fits(found, len(data), relocs)), None) if row else None
    others = [(section, table(name)) for name, section in model.sections.items() if beside(name) == key]
    if known is None or len(others) > 1:
        return None
    more, width = b"", 0
    for section, other in others:
        assert other is not None
        more, width = content(model.elf, section), other.layouts[0].size
        if len(more) * known.size != len(data) * width:
            return None
    found = Records(size=known.size)
    step = len(known.pointers)
    for index in range(len(data) // known.size):
        own = [r._replace(offset=r.offset - index * known.size) for r in relocs[index * step:(index + 1) * step]]
        place = _place(model, own[0])
        if not place:
            return None
        record = data[index * known.size:(index + 1) * known.size] + more[index * width:(index + 1) * width]
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
