# SPDX-License-Identifier: GPL-2.0-only
"""What the comparison has to know about each machine, as a table.

A machine without a row is compared too, only more strictly: its relocations are never folded to section and offset,
its REL addends stay in the data they stand in, and it has no `__bug_table` layout, so nothing there is explained.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.compare.elf import EM_386, EM_X86_64

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class BugTable:
    """The layout of one `struct bug_entry` (include/asm-generic/bug.h).

    Attributes:
        size: bytes of a record.
        pointers: offsets of its relocations within the record: bug_addr and file.
        reloc_type: the type every one of them has.
        line: (offset, width) of the line number in bytes.
    """

    size: int
    pointers: tuple[int, ...]
    reloc_type: int
    line: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One row.

    Attributes:
        name: as people call it.
        folds: a local symbol and its section's symbol plus offset are the same target to every consumer of the object.
        rel_widths: REL relocation type to the width in bytes of the addend in the data.
        pc_bias: relocation type to what must be added to the addend to show the target a person would name.
        bug_tables: layouts of `__bug_table`. A layout without the file pointer has no line either, so it has no row.
    """

    name: str
    folds: bool = False
    rel_widths: Mapping[int, int] = field(default_factory=dict)
    pc_bias: Mapping[int, int] = field(default_factory=dict)
    bug_tables: tuple[BugTable, ...] = ()


R_X86_64_64, R_X86_64_PC32, R_X86_64_PLT32 = 1, 2, 4
R_386_32, R_386_PC32, R_386_PLT32 = 1, 2, 4

MACHINES: Mapping[int, Machine] = {
    EM_X86_64: Machine(
        name="x86_64", folds=True, pc_bias={R_X86_64_PC32: 4, R_X86_64_PLT32: 4},
        bug_tables=(
            # CONFIG_GENERIC_BUG_RELATIVE_POINTERS: .long addr - ., .long file - ., .word line, .word flags
            BugTable(size=12, pointers=(0, 4), reloc_type=R_X86_64_PC32, line=(8, 2)),
            # kernels without it: .quad addr, .quad file, .word line, .word flags, padded to the pointers' alignment
            BugTable(size=24, pointers=(0, 8), reloc_type=R_X86_64_64, line=(16, 2)),
        ),
    ),
    EM_386: Machine(
        name="i386", folds=True, pc_bias={R_386_PLT32: 4},
        # psABI i386: 32, PC32, GOT32, PLT32, GOTOFF, GOTPC, 16, PC16, 8, PC8
        rel_widths={1: 4, 2: 4, 3: 4, 4: 4, 9: 4, 10: 4, 20: 2, 21: 2, 22: 1, 23: 1},
        bug_tables=(BugTable(size=12, pointers=(0, 4), reloc_type=R_386_32, line=(8, 2)),),
    ),
}

UNKNOWN = Machine(name="unknown")
"""The row of a machine that has none."""


def machine(number: int) -> Machine:
    """The row of an e_machine number."""
    return MACHINES.get(number, UNKNOWN)
