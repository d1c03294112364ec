# SPDX-License-Identifier: GPL-2.0-only
"""Reads the symbol table and the relocations of an ELF file that `elf` has parsed; REL and RELA.

The same promise as there: a value or an `InfraError`, in time and memory bounded by the file's size.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from harness.compare.elf import (
    SHF_ALLOC,
    SHN_LORESERVE,
    SHN_XINDEX,
    SHT_NOBITS,
    SHT_NULL,
    SHT_REL,
    SHT_RELA,
    SHT_SYMTAB,
    SHT_SYMTAB_SHNDX,
    Elf,
    Names,
    Section,
    bad,
    content,
)

_new = tuple.__new__


class Symbol(NamedTuple):
    """One entry of `.symtab`; `value` and `size` are bytes, `bind` and `type` the STB_ and STT_ numbers.

    A symbol in a section has that section's number and `special` 0; one that is absolute or common has `section` 0
    and its SHN_ number as `special`; an undefined one has 0 for both.
    """

    name: str
    value: int
    size: int
    bind: int
    type: int
    other: int
    section: int
    special: int


class Reloc(NamedTuple):
    """One relocation as it stands in the file. `addend` is None where a REL entry keeps it in the section's data."""

    offset: int
    type: int
    symbol: int
    addend: int | None


def symtab(elf: Elf) -> Section | None:
    """The static symbol table, or None. Raises `InfraError` when there is more than one."""
    found = [s for s in elf.sections if s.type == SHT_SYMTAB]
    if len(found) > 1:
        bad(elf.path, "it has more than one symbol table")
    return found[0] if found else None


def symbols(elf: Elf) -> tuple[Symbol, ...]:
    """All entries of `.symtab`, the null entry first; empty without a symbol table. Raises `InfraError`."""
    table = symtab(elf)
    if table is None:
        return ()
    layout = elf.layout
    if table.size % layout.sym.size:
        bad(elf.path, "its symbol table does not hold whole entries")
    strings = _linked(elf, table)
    names = Names(elf.data, strings.offset, strings.size, elf.path)
    extended = _extended_indices(elf, table)
    count = len(elf.sections)
    entries = list(layout.sym.iter_unpack(content(elf, table)))
    if not layout.wide:
        entries = [(name, info, other, shndx, value, size) for name, value, size, info, other, shndx in entries]
    found = names.all([entry[0] for entry in entries])
    result = []
    for index, (_at, info, other, shndx, value, size) in enumerate(entries):
        special = 0
        if shndx >= SHN_LORESERVE:
            if shndx == SHN_XINDEX:
                if index >= len(extended):
                    bad(elf.path, f"symbol {index} has no extended section index")
                shndx = extended[index]
            else:
                special, shndx = shndx, 0
        if shndx >= count:
            bad(elf.path, f"symbol {index} is said to be in section {shndx} of {count}")
        result.append(_new(Symbol, (found[index], value, size, info >> 4, info & 15, other, shndx, special)))
    return tuple(result)


def _linked(elf: Elf, section: Section) -> Section:
    """The section that `sh_link` of `section` names, which must have contents."""
    if not 0 < section.link < len(elf.sections):
        bad(elf.path, f"section {section.number} links to section {section.link}, which does not exist")
    target = elf.sections[section.link]
    if target.type in (SHT_NOBITS, SHT_NULL):
        bad(elf.path, f"section {section.number} links to section {section.link}, which has no contents")
    return target


def _extended_indices(elf: Elf, table: Section) -> tuple[int, ...]:
    """SHT_SYMTAB_SHNDX: the section indices of symbols in files with more than 65,279 sections."""
    for section in elf.sections:
        if section.type == SHT_SYMTAB_SHNDX and section.link == table.number:
            data = content(elf, section)
            order = elf.layout.rel.format[0]
            return struct.unpack(f"{order}{len(data) // 4}I", data[:len(data) // 4 * 4])
    return ()


def is_reloc_table(elf: Elf, section: Section) -> bool:
    """Whether a section holds static relocations of another section (dynamic ones are plain data to us)."""
    return (section.type in (SHT_REL, SHT_RELA) and not section.flags & SHF_ALLOC
            and 0 < section.link < len(elf.sections) and elf.sections[section.link].type == SHT_SYMTAB
            and section.info != 0)


def relocations(elf: Elf, table: Section, symbol_count: int) -> list[Reloc]:
    """The entries of one relocation section, in file order. Raises `InfraError`."""
    shift, mask = elf.layout.sym_shift, elf.layout.type_mask
    return [Reloc(at, info & mask, info >> shift, rest[0] if rest else None)
            for at, info, *rest in raw_relocations(elf, table, symbol_count)]


def raw_relocations(elf: Elf, table: Section, symbol_count: int) -> list[tuple[int, ...]]:
    """The same as they stand in the file: (offset, symbol and type as the class packs them[, addend of RELA])."""
    form = elf.layout.rela if table.type == SHT_RELA else elf.layout.rel
    if table.size % form.size:
        bad(elf.path, f"relocation section {table.number} does not hold whole entries")
    if table.info >= len(elf.sections):
        bad(elf.path, f"relocation section {table.number} is for section {table.info}, which does not exist")
    found = list(form.iter_unpack(content(elf, table)))
    if found and max([entry[1] for entry in found]) >> elf.layout.sym_shift >= symbol_count:
        bad(elf.path, f"relocation section {table.number} names a symbol that does not exist")
    return found
