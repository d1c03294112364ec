# SPDX-License-Identifier: GPL-2.0-only
"""What the comparison has to know about each machine, as a table.

A machine without a row is compared too, only more strictly: its relocations are never folded to section and offset,
its REL addends stay in the data they stand in, and it has no layout of any table, so nothing there is explained.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from harness.compare.elf import EM_386, EM_AARCH64, EM_ARM, EM_S390, EM_X86_64

if TYPE_CHECKING:
    from collections.abc import Mapping


class Layout(NamedTuple):
    """How the records of one table are laid out: the bytes of one, and the offsets of its relocations within it."""

    size: int
    pointers: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Where the records of one table hold a line number.

    Attributes:
        rule: the rule for noise that it is for.
        section: the table's section.
        layout: of the records that have it there.
        reloc_type: the type that every relocation has.
        line: offset of the word that holds the line number.
        width: bytes of that word.
        bits: bits of that word that are the line number, those of the first bit-field: the lowest on a little-endian
            machine, the highest on a big-endian one.
        file: which of the record's pointers goes to the name of the file that the line is in, counted from 0.
    """

    rule: str
    section: str
    layout: Layout
    reloc_type: int
    line: int
    width: int
    bits: int
    file: int

    def mask(self, order: Literal["little", "big"]) -> int:
        """The bits of the word that are the line number."""
        return ((1 << self.bits) - 1) << (0 if order == "little" else 8 * self.width - self.bits)


def _bug_table(*, size: int, pointers: tuple[int, ...], reloc_type: int, line: int) -> Lines:
    """A `struct bug_entry` (include/asm-generic/bug.h): address, file, u16 line, u16 flags.

    A layout without the file pointer has no line either, so it has no row. Since 6.19 x86_64 has a pointer to a format
    before it, also without CONFIG_DEBUG_BUGVERBOSE: address, format, u16 flags. Only what the second pointer goes to
    tells that from this.
    """
    return Lines(rule="bug-table-line", section="__bug_table", layout=Layout(size, pointers), reloc_type=reloc_type,
                 line=line, width=2, bits=16, file=1)


def _dyndbg(*, pointer: int, size: int, reloc_type: int) -> Lines:
    """A `struct _ddebug` (include/linux/dynamic_debug.h).

    Module, function, file and format as pointers, then `lineno:18` with other bit-fields, then, with
    CONFIG_JUMP_LABEL, a static key without relocations.
    """
    return Lines(rule="dyndbg-line", section="__dyndbg", reloc_type=reloc_type,
                 layout=Layout(size, tuple(range(0, 4 * pointer, pointer))), line=4 * pointer, width=4, bits=18,
                 file=2)


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
        pc_exact: `pc_bias` is right for every instruction. Where it is not, it depends on what follows the field.
        function_marks: bits of a function's value that are not part of its place: the lowest says that it is Thumb.
        lines: where tables hold line numbers.
    """

    name: str
    folds: bool = False
    rel_widths: Mapping[int, int] = field(default_factory=dict)
    indirect: frozenset[int] = frozenset()
    pc_bias: Mapping[int, int] = field(default_factory=dict)
    pc_exact: bool = False
    function_marks: int = 0
    lines: tuple[Lines, ...] = ()


R_X86_64_64, R_X86_64_PC32, R_X86_64_PLT32 = 1, 2, 4
R_386_32, R_386_PC32, R_386_PLT32 = 1, 2, 4
R_AARCH64_ABS64, R_AARCH64_PREL32 = 257, 261
R_ARM_ABS32, R_ARM_REL32 = 2, 3
R_390_PC32, R_390_64 = 5, 22

MACHINES: Mapping[int, Machine] = {
    EM_X86_64: Machine(
        name="x86_64", folds=True, pc_bias={R_X86_64_PC32: 4, R_X86_64_PLT32: 4},
        # psABI x86_64: GOT32, GOTPCREL, GOT64, GOTPCREL64, GOTPLT64, GOTPCRELX, REX_GOTPCRELX, and the same for APX
        # (CODE_4_, CODE_5_, CODE_6_GOTPCRELX)
        indirect=frozenset({3, 9, 27, 28, 30, 41, 42, 43, 46, 49}),
        lines=(
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
        lines=(
            # arch/arm64/include/asm/asm-bug.h
            _bug_table(size=12, pointers=(0, 4), reloc_type=R_AARCH64_PREL32, line=8),
            _dyndbg(pointer=8, size=40, reloc_type=R_AARCH64_ABS64),
            _dyndbg(pointer=8, size=56, reloc_type=R_AARCH64_ABS64),
        ),
    ),
    EM_386: Machine(
        name="i386", folds=True, pc_bias={R_386_PC32: 4, R_386_PLT32: 4},
        # psABI i386: 32, PC32, GOT32, PLT32, GOTOFF, GOTPC, 16, PC16, 8, PC8
        rel_widths={1: 4, 2: 4, 3: 4, 4: 4, 9: 4, 10: 4, 20: 2, 21: 2, 22: 1, 23: 1},
        # GOT32, GOT32X
        indirect=frozenset({3, 43}),
        lines=(
            _bug_table(size=12, pointers=(0, 4), reloc_type=R_386_32, line=8),
            _dyndbg(pointer=4, size=24, reloc_type=R_386_32),
            _dyndbg(pointer=4, size=32, reloc_type=R_386_32),
        ),
    ),
    EM_ARM: Machine(
        name="arm", folds=True, function_marks=1,
        # ELF for the Arm Architecture: ABS32, REL32, ABS16, ABS8, GOTOFF32, BASE_PREL, GOT_BREL, TARGET1. Others keep
        # their addends in instructions, or in bits of a word; there they stay, and are compared with the code
        rel_widths={2: 4, 3: 4, 5: 2, 8: 1, 24: 4, 25: 4, 26: 4, 38: 4},
        # GOT_BREL, GOT_ABS, GOT_PREL, GOT_BREL12, THM_GOT_BREL12; and all branches: PC24, THM_CALL, XPC25, THM_XPC22,
        # PLT32, CALL, JUMP24, THM_JUMP24, THM_JUMP19. Between Arm and Thumb code the linker looks at the symbol's type
        indirect=frozenset({26, 95, 96, 97, 131, 1, 10, 15, 16, 27, 28, 29, 30, 51}),
        lines=(
            # arch/arm/include/asm/bug.h
            _bug_table(size=12, pointers=(0, 4), reloc_type=R_ARM_ABS32, line=8),
            _dyndbg(pointer=4, size=24, reloc_type=R_ARM_ABS32),
            _dyndbg(pointer=4, size=32, reloc_type=R_ARM_ABS32),
        ),
    ),
    EM_S390: Machine(
        name="s390", folds=True,
        # ELF Application Binary Interface s390x Supplement: PC16DBL, PLT16DBL, PC32DBL, PLT32DBL. The field stands 2
        # bytes behind the instruction's start, from which the distance counts, and ends the instruction
        pc_bias={17: -2, 18: -2, 19: -2, 20: -2}, pc_exact=True,
        # GOT12, GOT32, GOT16, GOT64, GOTENT, GOTPLT12 to GOTPLTENT, GOT20, GOTPLT20
        indirect=frozenset({6, 7, 15, 24, 26, 29, 30, 31, 32, 33, 58, 59}),
        lines=(
            # arch/s390/include/asm/bug.h
            _bug_table(size=12, pointers=(0, 4), reloc_type=R_390_PC32, line=8),
            _dyndbg(pointer=8, size=40, reloc_type=R_390_64),
            _dyndbg(pointer=8, size=56, reloc_type=R_390_64),
        ),
    ),
}

UNKNOWN = Machine(name="unknown")
"""The row of a machine that has none."""


def machine(number: int) -> Machine:
    """The row of an e_machine number."""
    return MACHINES.get(number, UNKNOWN)
