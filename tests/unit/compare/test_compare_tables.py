# SPDX-License-Identifier: GPL-2.0-only
"""The tables beside the code: a record is told by the relocations, and where they do not tell, nothing is said."""

from __future__ import annotations

import pytest

from harness.compare import noise, tables
from harness.compare.elf import EM_X86_64
from harness.compare.machine import MACHINES, Layout
from harness.compare.model import Target

PC32, OTHER = 2, 1


def at(*offsets: int, kind: int = PC32) -> list[Target]:
    return [Target(offset, kind, (".text",), 0) for offset in offsets]


def layout(section: str, size: int, *offsets: int) -> Layout | None:
    row = tables.table(section)
    assert row is not None
    return tables.layout(row, size, at(*offsets))


@pytest.mark.parametrize(("section", "size", "offsets", "found"), [
    ("__bug_table", 24, (0, 4, 12, 16), Layout(12, (0, 4))),
    ("__bug_table", 24, (0, 8), Layout(24, (0, 8))),
    ("__bug_table", 16, (0, 8), Layout(8, (0,))),  # two records of one pointer, not one of two
    ("__ex_table", 32, (0, 4, 16, 20), Layout(16, (0, 4))),  # of a kernel that is not known: as the relocations show
    ("__ex_table", 12, (0, 4, 8), None),
    ("__ex_table", 24, (0, 4, 12, 20), None),
    ("__jump_table", 16, (0, 4, 8), Layout(16, (0, 4, 8))),
    ("__jump_table", 48, (0, 4, 8, 16, 20, 24, 32, 36, 40), Layout(16, (0, 4, 8))),
    ("__jump_table", 36, (0, 4, 8, 12, 16, 20, 24, 28, 32), Layout(12, (0, 4, 8))),  # i386, arm
    (".altinstructions", 28, (0, 4, 14, 18), Layout(14, (0, 4))),
    (".orc_unwind_ip", 8, (0, 4), Layout(4, (0,))),
    (".orc_unwind_ip", 0, (), None),
    (".discard.addressable", 16, (0, 8), Layout(8, (0,))),
    (".discard.addressable", 32, (0, 16), None),
])
def test_the_layout_is_what_the_relocations_say(section: str, size: int, offsets: tuple[int, ...],
                                                found: Layout | None) -> None:
    assert layout(section, size, *offsets) == found


@pytest.mark.parametrize(("size", "relocs", "known"), [
    (24, at(0, 4, 12, 16), True),
    (25, at(0, 4, 12, 16), False),
    (24, at(0, 4, 12), False),
    (24, at(0, 4, 12, 17), False),
    (36, at(0, 4, 12, 16), False),
    (24, at(0, 4, kind=OTHER) + at(12, 16), False),
    (32, at(0, 4, 16, 20), False),  # shown is not known
])
def test_lines_are_where_that_is_certain(size: int, relocs: list[Target], known: bool) -> None:
    assert (tables.lines(MACHINES[EM_X86_64], "__bug_table", size, relocs) is not None) == known
    assert tables.lines(MACHINES[EM_X86_64], "__other_table", size, relocs) is None


def test_the_rows_are_consistent() -> None:
    """Each section has one row; what lies beside a table follows one whose order is free; rules name tables."""
    names = [name for row in tables.TABLES for name in row.sections]
    assert len(names) == len(set(names))
    for row in tables.TABLES:
        if row.index:
            index = tables.table(row.index)
            assert index is not None
            assert index.pointers
            assert [tables.beside(name) for name in row.sections] == [row.index if row.layouts else ""]
            assert tables.movable(row.index)
        assert all(row.pointers or found.pointers or row.index for found in row.layouts)
    for machine in MACHINES.values():
        for lines in machine.lines:
            assert lines.rule in noise.BYTE_RULES
            assert lines.line + lines.width <= lines.layout.size
            known = tables.table(lines.section)
            assert known is None or lines.layout in known.layouts
