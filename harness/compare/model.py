# SPDX-License-Identifier: GPL-2.0-only
"""An object in the form two of them can be compared in: sections by name, relocations by target, symbols by place.

Pure. The form is exact: two objects whose models are equal hold the same code and data and link the same way. What it
leaves out is what the ELF format merely needs to write them down: the order of string table entries, of symbols and
of relocations, file offsets, section indices, and section symbols.

How a relocation's target is written (its *key*):

* a global or weak symbol, defined here or not: by name, since the linker decides what it is;
* a section symbol, and a local symbol in an ordinary section: section and offset. gas writes either form;
* a local symbol in a mergeable section, a TLS or an IFUNC symbol, or one that is referred to through the GOT: section,
  the symbol's value and type, with the addend apart, since the linker looks the value up first and adds the addend
  afterwards.

Local names are not part of a key. They are compared as symbols, with section, value and size, so that a swapped
target and a swapped name are both seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from harness.compare.debugdata import full_size
from harness.compare.elf import (
    ET_REL,
    SHF_INFO_LINK,
    SHF_MERGE,
    SHN_ABS,
    SHN_COMMON,
    SHT_GROUP,
    SHT_NOBITS,
    SHT_REL,
    SHT_RELA,
    SHT_SYMTAB,
    SHT_SYMTAB_SHNDX,
    STB_LOCAL,
    STT_GNU_IFUNC,
    STT_SECTION,
    STT_TLS,
    Elf,
    Section,
    bad,
    byte_order,
    content,
)
from harness.compare.machine import Machine, machine
from harness.compare.symtab import Symbol, is_reloc_table, raw_relocations, symbols

if TYPE_CHECKING:
    from collections.abc import Mapping

_new = tuple.__new__

Key = tuple[str | int, ...]
"""A relocation's target: ("@", name), (section key,), (section key, value, type), ("abs", value) or
("special", SHN_ number, name)."""


class Target(NamedTuple):
    """One relocation, resolved. `addend` is bytes; for a section key it is the offset in the section."""

    offset: int
    type: int
    key: Key
    addend: int


class SymbolFact(NamedTuple):
    """Everything about a symbol that the comparison holds equal. `where` is a section key, UND, ABS or COMMON."""

    name: str
    bind: int
    type: int
    other: int
    where: str
    value: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One object, ready to compare.

    Attributes:
        elf: what it was made from.
        machine: its row of the machine table.
        keys: section index to section key: the name, with `#2`, `#3` for later sections of that name.
        sections: section key to section, in file order; string, symbol and relocation tables are left out.
        symbols: the symbol table by index.
        targets, bases, forms: by symbol index: the key, what to add to an addend, whether it is a section symbol.
        relocs: section index to the relocation tables for it.
    """

    elf: Elf
    machine: Machine
    keys: tuple[str, ...]
    sections: Mapping[str, Section]
    symbols: tuple[Symbol, ...]
    targets: tuple[Key, ...]
    bases: tuple[int, ...]
    forms: tuple[bool, ...]
    relocs: Mapping[int, tuple[Section, ...]]


def model(elf: Elf) -> Model:
    """Resolve sections and symbols of a parsed file. Raises `InfraError`."""
    keys = _section_keys(elf)
    row = machine(elf.machine)
    table = symbols(elf)
    hidden = _tables(elf)
    relocs: dict[int, tuple[Section, ...]] = {}
    for section in elf.sections:
        if section.number not in hidden and is_reloc_table(elf, section):
            if section.info >= len(elf.sections):
                bad(elf.path, f"section {section.number} relocates section {section.info}, which does not exist")
            # relocations of a table are nonsense; left among the sections they are compared as plain data
            if section.info not in hidden and elf.sections[section.info].type not in (SHT_REL, SHT_RELA):
                relocs[section.info] = (*relocs.get(section.info, ()), section)
    hidden |= {t.number for tables in relocs.values() for t in tables}
    targets, bases = _targets(elf, row, keys, table)
    return Model(
        elf=elf, machine=row, keys=keys, symbols=table, relocs=relocs,
        sections={keys[s.number]: s for s in elf.sections if s.number not in hidden},
        targets=targets, bases=bases, forms=tuple(symbol.type == STT_SECTION for symbol in table),
    )


def sibling(other: Model, elf: Elf) -> Model:
    """The model of `elf`, taken from `other` where all that names and places things is equal to the byte.

    So it is when only contents differ, which line numbers in tables do. Raises `InfraError`.
    """
    same = elf.header == other.elf.header and elf.sections == other.elf.sections and elf.shstrndx == other.elf.shstrndx
    if same and all(content(elf, elf.sections[n]) == content(other.elf, elf.sections[n]) for n in _tables(elf)):
        return replace(other, elf=elf)
    return model(elf)


def _section_keys(elf: Elf) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    keys = []
    for section in elf.sections:
        count = seen[section.name] = seen.get(section.name, 0) + 1
        # NUL cannot stand in a name, so a section that is called "a#2" is not taken for the second "a", and none for
        # what is no section
        plain = count == 1 and not _NO_SECTION.fullmatch(section.name)
        keys.append(section.name if plain else f"{section.name}\0#{count}")
    return tuple(keys)


_NO_SECTION = re.compile(r"@|abs|special.*|UND|ABS|COMMON")
"""What keys and symbols have in place of a section."""


def _tables(elf: Elf) -> set[int]:
    """Indices of the sections that only serve the format: null, symbol table, its strings, section names."""
    hidden = {0, elf.shstrndx}
    for section in elf.sections:
        if section.type == SHT_SYMTAB:
            hidden |= {section.number, section.link}
        elif section.type == SHT_SYMTAB_SHNDX and by_number(elf, section):
            hidden.add(section.number)
    return hidden


def by_number(elf: Elf, section: Section) -> bool:
    """Whether a section may speak of symbols by their number: relocations that only the kernel applies do (livepatch,
    SHF_RELA_LIVEPATCH)."""
    return 0 < section.link < len(elf.sections) and elf.sections[section.link].type == SHT_SYMTAB


def _targets(elf: Elf, row: Machine, keys: tuple[str, ...],
             symbols: tuple[Symbol, ...]) -> tuple[tuple[Key, ...], tuple[int, ...]]:
    """Keys and bases of relocations against each symbol."""
    apart = {s.number for s in elf.sections if s.flags & SHF_MERGE or not row.folds}
    targets: list[Key] = []
    bases = []
    for name, value, _size, bind, kind, _other, section, special in symbols:
        base = 0
        if bind != STB_LOCAL:
            targets.append(("@", name))
        elif not section:
            targets.append(("abs", value) if special == SHN_ABS else ("special", special, name))
        elif kind != STT_SECTION and (section in apart or kind in (STT_TLS, STT_GNU_IFUNC)):
            targets.append((keys[section], value, kind))
        else:
            targets.append((keys[section],))
            base = value
        bases.append(base)
    return tuple(targets), tuple(bases)


def symbol_facts(model: Model) -> list[SymbolFact]:
    """The symbols that are compared: all but the null symbol and local section symbols, which gas makes on demand."""
    keys = model.keys
    return [
        _new(SymbolFact, (name, bind, kind, other, keys[section] if section else _SPECIAL.get(special) or
                          f"special {special:#x}", value, size))
        for name, value, size, bind, kind, other, section, special in model.symbols[1:]
        if kind != STT_SECTION or bind != STB_LOCAL
    ]


_SPECIAL: Mapping[int, str] = {0: "UND", SHN_ABS: "ABS", SHN_COMMON: "COMMON"}


def reloc_bytes(model: Model, section: Section) -> tuple[bytes, ...]:
    """The relocation tables of a section as bytes, with their type in front: equal bytes, equal relocations."""
    return tuple(bytes((t.type & 0xFF,)) + content(model.elf, t) for t in model.relocs.get(section.number, ()))


def has_rel(model: Model, section: Section) -> bool:
    """Whether a section keeps addends in its data."""
    return any(table.type == SHT_REL for table in model.relocs.get(section.number, ()))


def resolve(model: Model, section: Section) -> tuple[bytes, list[Target], list[bool]]:
    """(data, relocations, forms) of a section.

    In the data the fields whose REL addend went into a relocation are zero. Relocations are sorted by offset, those
    of one offset in file order. `forms` says for each whether it was written against a section symbol.
    Raises `InfraError` for a relocation outside the section.
    """
    elf = model.elf
    data = content(elf, section)
    result: list[Target] = []
    written: list[bool] = []
    targets, bases, forms, indirect = model.targets, model.bases, model.forms, model.machine.indirect
    shift, kinds = elf.layout.sym_shift, elf.layout.type_mask
    limit = 0 if section.type == SHT_NOBITS else full_size(elf, section)
    start = section.addr if elf.type != ET_REL else 0
    for table in model.relocs.get(section.number, ()):
        entries = raw_relocations(elf, table, len(targets))
        if table.type == SHT_REL:
            data, entries = _with_addends(model, data, entries, start, limit)
        made = [_new(Target, (at - start, info & kinds, targets[info >> shift], bases[info >> shift] + addend))
                for at, info, addend in entries]
        if indirect and not indirect.isdisjoint([reloc[1] for reloc in made]):
            for number, (reloc, (_at, info, addend)) in enumerate(zip(made, entries, strict=True)):
                if reloc.type in indirect and not forms[info >> shift]:
                    key, base = _apart(model, info >> shift)
                    made[number] = reloc._replace(key=key, addend=base + addend)
        written += [forms[info >> shift] for _at, info, _addend in entries]
        result += made
    offsets = [reloc[0] for reloc in result]
    ordered = sorted(offsets)
    if ordered and not 0 <= ordered[0] <= ordered[-1] <= limit:
        bad(elf.path, f"a relocation lies outside its section {section.number}")
    if offsets != ordered:
        order = sorted(range(len(result)), key=offsets.__getitem__)
        result, written = [result[i] for i in order], [written[i] for i in order]
    return data, result, written


def _with_addends(model: Model, data: bytes, entries: list[tuple[int, ...]], start: int,
                  limit: int) -> tuple[bytes, list[tuple[int, ...]]]:
    """REL entries with the addends that stand in the data, and the data with zeros in their place."""
    masked = bytearray(data)
    widths, kinds, order = model.machine.rel_widths, model.elf.layout.type_mask, byte_order(model.elf)
    found: list[tuple[int, ...]] = []
    for at, info in entries:
        width, offset, addend = widths.get(info & kinds, 0), at - start, 0
        if width and 0 <= offset <= limit - width:
            addend = int.from_bytes(data[offset:offset + width], order, signed=True)
            masked[offset:offset + width] = bytes(width)
        found.append((at, info, addend))
    return bytes(masked), found


def _apart(model: Model, index: int) -> tuple[Key, int]:
    """Key and base of an indirect relocation against a symbol: a local one is not folded into its section."""
    symbol = model.symbols[index]
    if symbol.bind != STB_LOCAL or not symbol.section:
        return model.targets[index], model.bases[index]
    return (model.keys[symbol.section], symbol.value, symbol.type), 0


def attributes(model: Model, section: Section) -> tuple[tuple[str, object], ...]:
    """What a section's header says, by name: type, flags, address, size, alignment, entry size, what it links to."""
    elf = model.elf
    linked = model.keys[section.link] if 0 < section.link < len(model.keys) else section.link
    links: list[tuple[str, object]] = [("link", linked)]
    if section.type == SHT_GROUP:
        links = [("group", group(model, section))]
    elif section.flags & SHF_INFO_LINK and section.info < len(elf.sections):
        links.append(("info", model.keys[section.info]))
    else:
        links.append(("info", section.info))
    return (("type", section.type), ("flags", section.flags), ("address", section.addr), ("size", section.size),
            ("alignment", section.align), ("entry size", section.entsize), *links)


def _section_ref(model: Model, index: int) -> str:
    if index >= len(model.keys):
        bad(model.elf.path, f"a section links to section {index}, which does not exist")
    return model.keys[index]


class Group(NamedTuple):
    """A section group: its flag word, its signature's name, and its members by section key, sorted."""

    flag: int
    signature: str
    members: tuple[str, ...]


def group(model: Model, section: Section) -> Group:
    """Resolve a section of type SHT_GROUP. Raises `InfraError` for a malformed one."""
    data = content(model.elf, section)
    if len(data) % 4 or not data or section.info >= max(len(model.symbols), 1):
        bad(model.elf.path, f"section group {section.number} is malformed")
    order = byte_order(model.elf)
    flag, *numbers = (int.from_bytes(data[i:i + 4], order) for i in range(0, len(data), 4))
    signature = model.symbols[section.info] if model.symbols else None
    name = "" if signature is None else signature.name or model.keys[signature.section]
    return Group(flag, name, tuple(sorted(_section_ref(model, number) for number in numbers)))
