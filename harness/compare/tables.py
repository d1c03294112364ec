# SPDX-License-Identifier: GPL-2.0-only
"""The tables that the kernel's macros and objtool write beside the code: whose each record is.

Pure. A record belongs to the function its first pointer points into, so that a reader is told of the function and
not of bytes in a section. A record's length is not known here (it differs by kernel version): it is found from the
relocations, which must stand at the same places in every record, or nothing is said.

Sources: include/asm-generic/bug.h, arch/x86/include/asm/{extable,alternative,jump_label,orc_types}.h,
tools/objtool/check.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.compare.content import bias, within
from harness.compare.model import resolve
from harness.compare.naming import Owners, Unit, target_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.compare.content import Content
    from harness.compare.machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One row.

    Attributes:
        name: what a reader calls it.
        section: the section's name.
        pointers: how many relocations a record may have.
        index: the section that says whose each part of this one is: its n-th record's first pointer says whose, the
            second, if there is one, where the part begins; without a second all parts are equally long.
    """

    name: str
    section: re.Pattern[str]
    pointers: tuple[int, ...]
    index: str = ""


def _row(name: str, section: str, *pointers: int, index: str = "") -> Table:
    return Table(name=name, section=re.compile(section), pointers=pointers, index=index)


TABLES: tuple[Table, ...] = (
    _row("exception table", r"__ex_table", 2),
    _row("bug table", r"__bug_table", 2, 1),
    _row("alternatives", r"\.altinstructions", 2),
    _row("alternatives", r"\.altinstr_replacement", 2, index=".altinstructions"),
    _row("jump labels", r"__jump_table", 3),
    _row("static calls", r"\.static_call_sites", 2),
    _row("lock prefixes", r"\.smp_locks", 1),
    _row("paravirt sites", r"\.parainstructions", 1),
    _row("ftrace sites", r"__mcount_loc|__patchable_function_entries", 1),
    _row("unwind table", r"\.orc_unwind_ip", 1),
    _row("unwind table", r"\.orc_unwind", 1, index=".orc_unwind_ip"),
    _row("retpoline sites", r"\.retpoline_sites|\.return_sites|\.call_sites|\.ibt_endbr_seal", 1),
    _row("objtool annotations", r"\.discard\.(reachable|unreachable|retpoline_safe|instr_begin|instr_end|ibt_\w+)", 1),
)


def table(section: str) -> Table | None:
    """The row of a section's name."""
    return next((row for row in TABLES if row.section.fullmatch(section)), None)


def name_of(section: str) -> str:
    """What a reader calls a section: its table's name, or its own."""
    row = table(section)
    return row.name if row else section


PLACES, LINES = "at other places", "with other line numbers"
"""What `differing_owners` can know to be all that differs."""

Records = dict[str, list[tuple[object, ...]]]
"""By owner: offset in the owner, what the other pointers point at, and the bytes of each record."""


def records(side: Content) -> Records | None:
    """The records of a table by owner; None where the section is no table or its records cannot be told apart."""
    row = table(side.section.name)
    if row is None:
        return None
    if row.index:
        return _indexed(side, row)
    for count in row.pointers:
        found = _split(side, count)
        if found is not None:
            return found
    return None


def _split(side: Content, count: int) -> Records | None:
    number, rest = divmod(len(side.relocs), count)
    if rest or not number or len(side.data) % number:
        return {} if not side.relocs and not side.data else None
    size = len(side.data) // number
    places = [r.offset for r in side.relocs[:count]]
    if any(r.offset != places[i % count] + i // count * size for i, r in enumerate(side.relocs)):
        return None
    found: Records = {}
    named = Owners(side.names)
    names, data, relocs = side.names, side.data, side.relocs
    last, own = "", list[tuple[object, ...]]()
    for index in range(number):
        first = relocs[index * count]
        who, at = named.of(first)
        said: tuple[object, ...] = ()
        if count > 1:
            others = relocs[index * count + 1:(index + 1) * count]
            said = tuple([(r.type, target_name(names, r, bias=0)) for r in others])
        # neighbours mostly belong to the same function
        if who is not last:
            last, own = who, found.setdefault(who, [])
        own.append((at, first[1], said, data[index * size:index * size + size]))
    return found


def _indexed(side: Content, row: Table) -> Records | None:
    """The parts of a section that another one points into."""
    model = side.names.model
    index = model.sections.get(row.index)
    if index is None:
        return None
    relocs = resolve(model, index)[1]
    count = row.pointers[0]
    number = len(relocs) // count
    if not number or len(relocs) % count:
        return None
    named = Owners(side.names)
    if count == 1:
        if len(side.data) % number or side.relocs:
            return None
        size = len(side.data) // number
        starts = [at * size for at in range(number)]
    else:
        targets = [relocs[at * count + 1] for at in range(number)]
        if any(r.key != (side.section.name,) or not 0 <= r.addend <= len(side.data) for r in targets):
            return None
        starts = [r.addend for r in targets]
    ends = dict(pairwise(sorted({*starts, len(side.data)})))
    found: Records = {}
    for at, start in enumerate(starts):
        who, place = named.of(relocs[at * count])
        end = ends.get(start, start)
        inside = within(side, Unit(start, end, ""))
        said = tuple([(r.offset - start, r.type, target_name(side.names, r, bias(side))) for r in inside])
        found.setdefault(who, []).append((place, 0, said, side.data[start:end]))
    return found


def differing_owners(base: Records, patched: Records,
                     lined: Machine | None) -> Iterator[tuple[str, int, int, str]]:
    """(owner, number of records on each side, what is all that differs if that is known) where records differ.

    `lined`: the machine whose records have line numbers, for a bug table.
    """
    for who in sorted(base.keys() | patched.keys()):
        a, b = base.get(who, []), patched.get(who, [])
        if a != b:
            what = ""
            if len(a) == len(b):
                left, right = ([record[1:] for record in side] for side in (a, b))
                if left == right:
                    what = PLACES
                elif lined and _without_lines(left, lined) == _without_lines(right, lined):
                    what = LINES
            yield who, len(a), len(b), what


def _without_lines(found: list[tuple[object, ...]], machine: Machine) -> object:
    """Records of a bug table with their line numbers cut out; something equal to nothing where there is no such row."""
    result: list[tuple[object, ...]] = []
    for kind, others, data in found:
        row = next((row for row in machine.records if row.section == "__bug_table" and isinstance(data, bytes)
                    and (row.size, row.reloc_type) == (len(data), kind) and isinstance(others, tuple)
                    and len(others) == 1), None)
        if row is None or not isinstance(data, bytes):
            return object()
        result.append((others, data[:row.line], data[row.line + row.width:]))
    return result
