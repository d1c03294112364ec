# SPDX-License-Identifier: GPL-2.0-only
"""Branches that the assembler resolved, in code that is compared byte by byte: which differ only because what they go
to has moved.

Pure and cheap, without a disassembler: what looks like such a branch is taken for one here. Whoever says so to a
reader has it confirmed by `disasm` first. Machines are rows of `FIELDS`.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from harness.compare.elf import EM_386, EM_X86_64

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.compare.content import Content
    from harness.compare.naming import Unit


class Moved(NamedTuple):
    """What is left of two functions of one length.

    Attributes:
        applied: the patched bytes with those of the base where a branch goes to the same name.
        every: no other byte differs.
        fields: (offset, width) in bytes of the displacements of these branches.
        target: name and offset in it of where the first of them goes; None where there is none. The whole name:
            functions of one stem (.part.0, .part.1) are different functions.
    """

    applied: bytes
    every: bool
    fields: tuple[tuple[int, int], ...]
    target: tuple[str, int] | None


def _x86(data: bytes | bytearray, at: int) -> Iterator[tuple[int, int]]:
    """(offset, width) of displacements that byte `at` may be in: call, jmp, jcc rel32; jmp, jcc, loop rel8."""
    for field in range(max(at - 3, 1), at + 1):
        opcode = data[field - 1]
        if opcode in (0xE8, 0xE9) or (opcode & 0xF0 == 0x80 and field > 1 and data[field - 2] == 0x0F):
            yield field, 4
    if at and (data[at - 1] == 0xEB or data[at - 1] & 0xF0 == 0x70 or data[at - 1] & 0xFC == 0xE0):
        yield at, 1


def _x86_recoded(base: bytes, patched: bytes, at: int) -> bool:
    """Whether the first byte that differs can be due to a branch being longer on one side."""
    opcodes = {base[at], patched[at]}
    if opcodes == {0xEB, 0xE9} or (0x0F in opcodes and any(op & 0xF0 == 0x70 for op in opcodes)):
        return True
    return next(_x86(base, at), None) is not None


FIELDS: Mapping[int, Callable[[bytes | bytearray, int], Iterator[tuple[int, int]]]] = {
    EM_386: _x86,
    EM_X86_64: _x86,
}
"""e_machine to the fields of a branch a byte may belong to. Little endian; counted from the field's end."""

RECODED: Mapping[int, Callable[[bytes, bytes, int], bool]] = {EM_386: _x86_recoded, EM_X86_64: _x86_recoded}
"""e_machine to whether two functions of different length may differ in the encoding of branches only."""


def may_be_recoded(base: Content, a: Unit, patched: Content, b: Unit) -> bool:
    """Whether it is worth decoding two functions of different length to see if only distances differ."""
    data, other = base.data[a.start:a.end], patched.data[b.start:b.end]
    row = RECODED.get(base.names.model.elf.machine)
    at = _next(data, other, 0)
    return row is not None and at < min(len(data), len(other)) and row(data, other, at)


def moved_branches(base: Content, a: Unit, patched: Content, b: Unit) -> Moved:
    """Take the branches to places of the same name out of the difference of two functions of one length."""
    data, other = base.data[a.start:a.end], bytearray(patched.data[b.start:b.end])
    fields = FIELDS.get(base.names.model.elf.machine)
    taken: list[tuple[int, int]] = []
    target = None
    at = _next(data, other, 0)
    while at < len(data) and fields:
        found = None
        for field, width in fields(data, at):
            if field + width <= len(data):
                found = _target(base, a, field, width, data)
                if found is not None and found == _target(patched, b, field, width, other):
                    break
                found = None
        if found is None:
            break
        target = target or found
        taken.append((field, width))
        other[field:field + width] = data[field:field + width]
        at = _next(data, other, at)
    return Moved(bytes(other), at == len(data), tuple(taken), target)


def _next(data: bytes, other: bytes | bytearray, start: int) -> int:
    """Offset of the first byte that differs, from `start` on; the length where none does."""
    step = 64
    for at in range(start, len(data), step):
        if data[at:at + step] != other[at:at + step]:
            return next((i for i in range(at, min(len(data), len(other))) if data[i] != other[i]), len(other))
    return len(data)


def _target(side: Content, unit: Unit, field: int, width: int, data: bytes | bytearray) -> tuple[str, int] | None:
    """(name, offset in it) of the place outside of the function that a displacement leads to; None where it stays
    inside."""
    end = field + width
    place = end + int.from_bytes(data[field:end], "little", signed=True)
    if 0 <= place < unit.end - unit.start:
        return None
    value = unit.start + place
    number = side.section.number
    index = bisect_right(side.names.starts.get(number, ()), value) - 1
    found = side.names.units[number][index] if index >= 0 else None
    if found is None or value >= max(found.end, found.start + 1):
        return "", value
    return found.name, value - found.start
