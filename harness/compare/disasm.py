# SPDX-License-Identifier: GPL-2.0-only
"""Machine code to instructions with names in them. For explanation only: no verdict rests on it.

Pure, with capstone, which is loaded at the first call. A function is decoded whole or not at all: where the bytes do
not end on an instruction's end, or a relocation reaches over one, `decode` says None and the reader gets bytes. So a
wrong mode (16-bit code in an object that says i386) or data among code does not become a wrong word.

How a relocation finds its operand: its field is filled with a number that nothing else has, and that number is then
looked for in the text of the instruction.

Machines are rows of `DECODERS`. Sources: psABI x86-64 and i386, section "Relocation Types"; capstone's Python binding.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from harness.compare.content import within
from harness.compare.elf import EM_386, EM_X86_64, SHF_EXECINSTR, byte_order
from harness.compare.naming import place_name, target_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import capstone

    from harness.compare.content import Content
    from harness.compare.model import Model, Target
    from harness.compare.naming import Unit

MAX_CODE = 1 << 18
"""Longest function that is decoded, in bytes; the longest of a kernel are some 50 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """One row.

    Attributes:
        arch, mode: names of capstone's constants; `narrow` is the mode of 16-bit objects, "" where there are none.
        branch: mnemonics whose operand is a place in the code; a direct operand is a bare number.
        widths: relocation type to the bytes of its field. A type that is not here is shown behind the instruction.
        relative: relocation types that count from the end of the instruction.
        pointers: relocation types that put a whole pointer into data.
        spelling: mnemonics as kernel people write them.
    """

    arch: str
    mode: str
    narrow: str = ""
    branch: re.Pattern[str]
    widths: Mapping[int, int]
    relative: frozenset[int]
    pointers: frozenset[int]
    spelling: Mapping[str, str] = field(default_factory=dict)


_X86_BRANCH = re.compile(r"(j\w+|call\w?|loop\w*)")
_X86_SPELLING: Mapping[str, str] = {"callq": "call", "calll": "call", "callw": "call", "jmpq": "jmp", "retq": "ret",
                                    "retl": "ret", "retw": "ret"}

DECODERS: Mapping[int, Decoder] = {
    EM_X86_64: Decoder(
        arch="CS_ARCH_X86", mode="CS_MODE_64", branch=_X86_BRANCH, spelling=_X86_SPELLING,
        # 64, PC32, PLT32, GOTPCREL, 32, 32S, PC64, GOTPCRELX, REX_GOTPCRELX
        widths={1: 8, 2: 4, 4: 4, 9: 4, 10: 4, 11: 4, 24: 8, 41: 4, 42: 4},
        relative=frozenset({2, 4, 9, 41, 42}), pointers=frozenset({1})),
    EM_386: Decoder(
        arch="CS_ARCH_X86", mode="CS_MODE_32", narrow="CS_MODE_16", branch=_X86_BRANCH, spelling=_X86_SPELLING,
        widths={1: 4, 2: 4, 3: 4, 4: 4, 9: 4, 10: 4}, relative=frozenset({2, 4}), pointers=frozenset({1})),
}

_NARROW = re.compile(r"(?:.*/)?arch/x86/(?:boot/(?!compressed/)|realmode/rm/).*")
"""Objects whose code runs in real mode (`.code16gcc`); their ELF header says i386 like any other."""

_new = tuple.__new__

_MARK = 0x6D3A5C10
_DIRECT = re.compile(r"-?(?:0x[0-9a-f]+|\d+)")


class Insn(NamedTuple):
    """One instruction.

    Attributes:
        offset, size: bytes, from the start of the function.
        mnemonic, operands: as text in AT&T syntax, with names in place of what relocations and the assembler resolved.
        inner: where a direct branch goes, when that is within the same function, from its start.
        outer: what a direct branch that the assembler resolved goes to, when that is outside of the function.
    """

    offset: int
    size: int
    mnemonic: str
    operands: str
    inner: int | None = None
    outer: str | None = None

    @property
    def text(self) -> str:
        """The whole instruction."""
        return f"{self.mnemonic} {self.operands}".rstrip()

    @property
    def is_branch(self) -> bool:
        """Whether it is a direct branch that the assembler resolved."""
        return self.inner is not None or self.outer is not None

    @property
    def word(self) -> tuple[str, str | None]:
        """Equal for two instructions that do the same, but for where a branch within the function goes."""
        return self.mnemonic, None if self.inner is not None else self.operands


def decoder(model: Model) -> Decoder | None:
    """The row of an object's machine, None where there is none (then nothing is disassembled)."""
    row = DECODERS.get(model.elf.machine)
    return row if row and byte_order(model.elf) == "little" else None


def decode(side: Content, unit: Unit) -> tuple[Insn, ...] | None:
    """The instructions of one function; None where it cannot be told what they are."""
    row = decoder(side.names.model)
    size = unit.end - unit.start
    if row is None or not side.section.flags & SHF_EXECINSTR or not 0 < size <= MAX_CODE:
        return None
    data = bytearray(side.data[unit.start:unit.end])
    pending = []
    for number, reloc in enumerate(within(side, unit)):
        width = row.widths.get(reloc.type, 0)
        at = reloc.offset - unit.start
        if at + width > size:
            return None
        mark = _MARK + (number & 0xFFFF) * 0x100 if width else 0
        data[at:at + width] = mark.to_bytes(width, "little")
        pending.append((at, width, mark, reloc))
    return _stream(side, unit, row, bytes(data), pending)


_Pending = tuple[int, int, int, "Target"]
"""A relocation of a function: offset, width, the number that was put there, and what it is."""


def _stream(side: Content, unit: Unit, row: Decoder, data: bytes, pending: list[_Pending]) -> tuple[Insn, ...] | None:
    result = []
    end = used = 0
    known: dict[str, tuple[str, bool]] = {}
    count = len(pending)
    for at, size, raw_mnemonic, raw_operands in _capstone(side, row, data):
        end = at + size
        found = known.get(raw_mnemonic)
        if found is None:
            said = row.spelling.get(raw_mnemonic, raw_mnemonic)
            found = known[raw_mnemonic] = said, row.branch.fullmatch(said) is not None
        mnemonic, branch = found
        if used < count and pending[used][0] < end:
            operands = raw_operands
            while used < count and pending[used][0] < end:
                if pending[used][0] + pending[used][1] > end:
                    return None
                operands = _named(side, row, operands, end, pending[used], branch=branch)
                used += 1
            result.append(Insn(at, size, mnemonic, operands))
        elif branch and _DIRECT.fullmatch(raw_operands):
            result.append(_branch(side, unit, at, size, mnemonic, _signed(int(raw_operands, 0), row, side)))
        else:
            result.append(_new(Insn, (at, size, mnemonic, raw_operands, None, None)))
    return tuple(result) if end == len(data) else None


def ends_of_branches(side: Content, unit: Unit, fields: Sequence[tuple[int, int]]) -> bool:
    """Whether each of these (offset, width) in a function is the end of an instruction. Cheaper than `decode`."""
    row = decoder(side.names.model)
    if row is None or not side.section.flags & SHF_EXECINSTR or not fields:
        return False
    wanted = {offset + width: width for offset, width in fields}
    data = side.data[unit.start:min(unit.start + max(wanted), unit.end)]
    # opcode and prefixes of a branch are at most 3 bytes
    found = sum(1 for at, size, _mnemonic, _operands in _capstone(side, row, data)
                if at + size in wanted and size - wanted[at + size] <= 3)
    return found == len(wanted)


def same_mnemonics(base: Content, a: Unit, patched: Content, b: Unit) -> bool:
    """Whether two functions consist of the same instructions by name, as long ones but for branches. Ends at the first
    that is not, so it costs little where `decode` would be in vain."""
    row = decoder(base.names.model)
    if row is None or row != decoder(patched.names.model) or max(a.end - a.start, b.end - b.start) > MAX_CODE:
        return False
    sides = [_capstone(side, row, side.data[unit.start:unit.end]) for side, unit in ((base, a), (patched, b))]
    return all(x[2] == y[2] and (x[1] == y[1] or row.branch.fullmatch(x[2]) is not None)
               for x, y in zip(*sides, strict=False))


def _capstone(side: Content, row: Decoder, data: bytes) -> Iterator[tuple[int, int, str, str]]:
    """(offset, size, mnemonic, operands) of each instruction, until one cannot be decoded."""
    found: Iterator[tuple[int, int, str, str]] = _engine(
        row.arch, row.narrow if _is_narrow(side, row) else row.mode).disasm_lite(data, 0)
    return found


@functools.cache
def _engine(arch: str, mode: str) -> capstone.Cs:
    """A disassembler: costly to make, and without a state that matters."""
    import capstone

    engine = capstone.Cs(getattr(capstone, arch), getattr(capstone, mode))
    engine.syntax = capstone.CS_OPT_SYNTAX_ATT
    return engine


def _is_narrow(side: Content, row: Decoder) -> bool:
    return bool(row.narrow and _NARROW.fullmatch(side.names.model.elf.path))


def _signed(target: int, row: Decoder, side: Content) -> int:
    """A branch's target from the function's start; capstone counts modulo the size of an address."""
    bits = 16 if _is_narrow(side, row) else 32 if side.names.model.elf.machine == EM_386 else 64
    return target - (1 << bits) if target >= 1 << (bits - 1) else target


def _named(side: Content, row: Decoder, operands: str, end: int, entry: _Pending, *, branch: bool) -> str:
    """Operands with a relocation's target in the place of its mark."""
    at, width, mark, reloc = entry
    relative = reloc.type in row.relative
    name = target_name(side.names, reloc, bias=end - at if relative else 0)
    if branch and width and operands in (hex(mark + end), hex(mark)):
        return name
    spelled = hex(mark)
    if width and operands.count(spelled) == 1:
        # (%rip) says only how the name is reached
        return operands.replace(f"{spelled}(%rip)", name).replace(spelled, name)
    return f"{operands} <{name}>".lstrip()


def _branch(side: Content, unit: Unit, at: int, size: int, mnemonic: str, target: int) -> Insn:
    """A branch that the assembler resolved."""
    if 0 <= target < unit.end - unit.start:
        return Insn(at, size, mnemonic, f"+{target:#x}", inner=target)
    name = place_name(side.names, side.section, unit.start + target)
    return Insn(at, size, mnemonic, name, outer=name)


def same_but_for_places(base: Sequence[Insn], patched: Sequence[Insn]) -> bool:
    """Whether two functions do the same, instruction by instruction, with branches to the same names and places.

    Places within the function are compared by the number of the instruction they point at, so that it does not matter
    whether a branch was encoded short or long.
    """
    if len(base) != len(patched) or any(x.word != y.word for x, y in zip(base, patched, strict=True)):
        return False
    numbers = [{insn.offset: number for number, insn in enumerate(side)} for side in (base, patched)]
    return all((x.inner is None) == (y.inner is None) and (x.inner is None or y.inner is None or (
                x.inner in numbers[0] and numbers[0][x.inner] == numbers[1].get(y.inner)))
               for x, y in zip(base, patched, strict=True))
