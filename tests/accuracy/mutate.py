# SPDX-License-Identifier: GPL-2.0-only
"""Damages real objects where it hurts: in the fields of headers, symbols, relocations and groups. Pure.

And writes a little-endian object in big-endian order, so that a real kernel object of the other order can be read
without a cross compiler.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from harness.compare import elf
from harness.compare.elf import SHT_GROUP, SHT_REL, SHT_RELA, SHT_SYMTAB, SHT_SYMTAB_SHNDX

EDGES = (0, 1, 2, 7, 8, 0x10, 0x30, 0x7F, 0x80, 0xFF, 0xFF00, 0xFFF1, 0xFFF2, 0xFFFF, 1 << 16, (1 << 31) - 1, 1 << 31,
         (1 << 32) - 1, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
"""Values at which sizes, indices and flags turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of equal entries in a file: where it starts, how many there are, how one is laid out."""

    offset: int
    count: int
    entry: struct.Struct


def tables(data: bytes) -> tuple[Table, ...]:
    """The ELF header, the section headers, and all symbol, relocation and group tables of an object."""
    parsed = elf.parse(data, "victim")
    layout = parsed.layout
    order = layout.ehdr.format[0]
    (_, headers, _), word = parsed.tables, struct.Struct(f"{order}I")
    found = [Table(offset=16, count=1, entry=layout.ehdr),
             Table(offset=headers[0], count=len(parsed.sections), entry=layout.shdr)]
    forms = {SHT_SYMTAB: layout.sym, SHT_REL: layout.rel, SHT_RELA: layout.rela, SHT_GROUP: word,
             SHT_SYMTAB_SHNDX: word}
    found += [Table(offset=s.offset, count=s.size // forms[s.type].size, entry=forms[s.type])
              for s in parsed.sections if s.type in forms and s.size]
    return tuple(found)


def mutate(data: bytes, edits: list[tuple[int, int, int, int]]) -> bytes:
    """Set fields to values: (table, entry, field, value), each taken modulo what there is."""
    damaged = bytearray(data)
    known = tables(data)
    for which, entry, field, value in edits:
        table = known[which % len(known)]
        at = table.offset + entry % table.count * table.entry.size
        fields = list(table.entry.unpack_from(data, at))
        fields[field % len(fields)] = value
        codes = table.entry.format[1:]
        # Struct formats are spelled out, one letter a field, so a value can be cut to what its field holds
        letters = [letter for letter in codes if letter.isalpha()]
        kept = [_cut(letter, number) for letter, number in zip(letters, fields, strict=True)]
        table.entry.pack_into(damaged, at, *kept)
    return bytes(damaged)


def _cut(letter: str, value: int) -> int:
    bits = 8 * struct.calcsize(f"<{letter}")
    value &= (1 << bits) - 1
    return value - (1 << bits) if letter.islower() and value >> (bits - 1) else value


def big_endian(data: bytes) -> bytes:
    """A little-endian object with its headers and tables in big-endian order; contents stay as they are."""
    turned = bytearray(data)
    turned[5] = 2
    for table in tables(data):
        other = struct.Struct(f">{table.entry.format[1:]}")
        for at in range(table.offset, table.offset + table.count * table.entry.size, table.entry.size):
            other.pack_into(turned, at, *table.entry.unpack_from(data, at))
    return bytes(turned)
