# SPDX-License-Identifier: GPL-2.0-only
"""What the comparison has to know about each machine, as a table.

A machine without a row is compared too, only more strictly: its relocations are never folded to section and offset,
its REL addends stay in the data they stand in, and it has no layout of any table, so nothing there is explained.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from harness.compare.elf import EM_386, EM_AARCH64, EM_X86_64

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The layout of the records of one table that hold a line number.

    Attributes:
        rule: the rule for noise that the layout is for.
        section: the table's section.
        size: bytes of a record.
        pointers: offsets of its relocations within the record.
        reloc_type: the type every one of them has.
        line: offset of the word that holds the line number.
        width: bytes of that word.
        bits: bits of that word that are the line number, those of the first bit-field: the lowest on a little-endian
            machine, the highest on a big-endian one.
    """

    rule: str
    section: str
    size: int
    pointers: tuple[int, ...]
    reloc_type: int
    line: int
    width: int
    bits: int

    def mask(self, order: Literal["little", "big"]) -> int:
        """The bits of the word that are the line number."""
        return ((1 << self.bits) - 1) << (0 if order == "little" else 8 * self.width - self.bits)


def _bug_table(*, size: int, pointers: tuple[int, ...], reloc_type: int, line: int) -> Records:
    """A `struct bug_entry` (include/asm-generic/bug.h): address, file, u16 line, u16 flags.

    A layout without the file pointer has no line either, so it has no row.
    """
    return Records(rule="bug-table-line", section="__bug_table", size=size, pointers=pointers, reloc_type=reloc_type,
                   line=line, width=2, bits=16)


def _dyndbg(*, pointer: int, size: int, reloc_type: int) -> Records:
    """A `struct _ddebug` (include/linux/dynamic_debug.h).

    Module, function, file and format as pointers, then `lineno:18` with other bit-fields, then, with
    CONFIG_JUMP_LABEL, a static key without relocations.
    """
    return Records(rule="dyndbg-line", section="__dyndbg", size=size, reloc_type=reloc_type,
                   pointers=tuple(range(0, 4 * pointer, pointer)), line=4 * pointer, width=4, bits=18)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One row.

    Attributes:
        name: as people call it.
        folds: a local symbol and its section's symbol plus offset are the same target to every consumer of the object.
        rel_widths: REL relocation type to the width in bytes of the addend in the data.
        indirect: relocation types whose place gets the address of a GOT entry for the symbol; the addend is added to
            that, so a symbol is not the same as its section's symbol and an offset.
        pc_bias: relocation type to what must be added to the addend to show the target a person would name.
        records: layouts of the tables that hold line numbers.
    """

    name: str
    folds: bool = False
    rel_widths: Mapping[int, int] = field(default_factory=dict)
    indirect: frozenset[int] = frozenset()
    pc_bias: Mapping[int, int] = field(default_factory=dict)
    records: tuple[Records, ...] = ()


R_X86_64_64, R_X86_64_PC32, R_X86_64_PLT32 = 1, 2, 4
R_386_32, R_386_PC32, R_386_PLT32 = 1, 2, 4
R_AARCH64_ABS64, R_AARCH64_PREL32 = 257, 261

MACHINES: Mapping[int, Machine] = {
    EM_X86_64: Machine(
        name="x86_64", folds=True, pc_bias={R_X86_64_PC32: 4, R_X86_64_PLT32: 4},
        # psABI x86_64: GOT32, GOTPCREL, GOT64, GOTPCREL64, GOTPLT64, GOTPCRELX, REX_GOTPCRELX
        indirect=frozenset({3, 9, 27, 28, 30, 41, 42}),
        records=(
            # CONFIG_GENERIC_BUG_RELATIVE_POINTERS: .long addr - ., .long file - ., .word line, .word flags
            _bug_table(size=12, pointers=(0, 4), reloc_type=R_X86_64_PC32, line=8),
            # kernels without it: .quad addr, .quad file, .word line, .word flags, padded to the pointers' alignment
            _bug_table(size=24, pointers=(0, 8), reloc_type=R_X86_64_64, line=16),
            _dyndbg(pointer=8, size=40, reloc_type=R_X86_64_64),
            _dyndbg(pointer=8, size=56, reloc_type=R_X86_64_64),
        ),
    ),
    EM_AARCH64: Machine(
        name="arm64", folds=True,
        # ELF for the Arm 64-bit Architecture: MOVW_GOTOFF_*, GOT_LD_PREL19 to LD64_GOTPAGE_LO15, GOTPCREL32
        indirect=frozenset({*range(300, 307), *range(309, 314), 315}),
        records=(
            # arch/arm64/include/asm/asm-bug.h
            _bug_table(size=12, pointers=(0, 4), reloc_type=R_AARCH64_PREL32, line=8),
            _dyndbg(pointer=8, size=40, reloc_type=R_AARCH64_ABS64),
            _dyndbg(pointer=8, size=56, reloc_type=R_AARCH64_ABS64),
        ),
    ),
    EM_386: Machine(
        name="i386", folds=True, pc_bias={R_386_PLT32: 4},
        # psABI i386: 32, PC32, GOT32, PLT32, GOTOFF, GOTPC, 16, PC16, 8, PC8
        rel_widths={1: 4, 2: 4, 3: 4, 4: 4, 9: 4, 10: 4, 20: 2, 21: 2, 22: 1, 23: 1},
        # GOT32, GOT32X
        indirect=frozenset({3, 43}),
        records=(
            _bug_table(size=12, pointers=(0, 4), reloc_type=R_386_32, line=8),
            _dyndbg(pointer=4, size=24, reloc_type=R_386_32),
            _dyndbg(pointer=4, size=32, reloc_type=R_386_32),
        ),
    ),
}

UNKNOWN = Machine(name="unknown")
"""The row of a machine that has none."""


def machine(number: int) -> Machine:
    """The row of an e_machine number."""
    return MACHINES.get(number, UNKNOWN)
