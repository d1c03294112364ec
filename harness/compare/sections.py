# SPDX-License-Identifier: GPL-2.0-only
"""Compares two objects that were compiled with `-ffunction-sections -fdata-sections`, symbol by symbol.

Pure. Compiled so, each function and datum has a section of its own, and what refers from one to another is a
relocation. What is left of layout is then the order of things, and this is what counts as equal:

* sections are paired by name, so the order of functions and data does not matter; bytes, flags, alignment and
  relocations of each do. Sections that the source names (`.init.text`, `.initcall6.init`, `.data..percpu`) are compared
  whole, in the order they hold, and come in the same order on both sides;
* a static datum whose name carries a number is paired by what refers to it, in the order of functions by name: one for
  one, so that two of them can not be swapped in one place only;
* strings and constants of mergeable sections are what they hold: the linker decides where they stand;
* tables whose records each stand for one place in the code (`tables`) may list functions in another order; the records
  of one function keep theirs.

All else must be equal as it stands. Where the form does not tell what a reference means, the objects count as
different.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.compare import noise, pools, tables
from harness.compare.elf import (
    SHF_EXECINSTR,
    SHF_MERGE,
    SHF_STRINGS,
    SHT_GROUP,
    Elf,
    Section,
    byte_order,
    content,
)
from harness.compare.model import Model, Target, attributes, model, resolve, symbol_facts
from harness.compare.values import printable

_OWN = re.compile(r"\.(?:text|text\.unlikely|text\.hot|text\.startup|data|bss|rodata|data\.rel\.ro(?:\.local)?)"
                  r"\.(?P<name>[^.].*)")
"""Sections that the options make, for one function or datum each."""

_POOL = re.compile(r"\.rodata\.(?:.*\.)?(?P<kind>(?:str|cst)\d+(?:\.\d+)?)")
"""Pools of strings and constants, which gcc names for the function that came first with one of them."""

_PLACELESS = re.compile(
    r"___ksymtab(_gpl)?\+.*|\.text(\.unlikely)?|\.init\.text|\.exit\.text|\.data|\.bss|"
    r"\.rodata|\.altinstr_replacement|\.discard\..*|\.comment|\.note\..*")
"""Other sections whose place among the rest says nothing: the linker sorts them, discards them, or puts those of one
name together."""


Form = tuple[object, ...]
"""A reference's target in a form that is equal on both sides when it means the same."""


class _DiffersError(Exception):
    """What differs, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One object: its model, its contents by section, and the names that sections with numbers were given so far."""

    model: Model
    numbered: dict[str, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)
    contents: dict[str, tuple[bytes, list[Target]]] = field(default_factory=dict)

    def of(self, key: str) -> tuple[bytes, list[Target]]:
        """Data and relocations of a section."""
        if key not in self.contents:
            self.contents[key] = resolve(self.model, self.model.sections[key])[:2]
        return self.contents[key]

    def pool(self, key: str) -> str:
        """The kind of a pool of strings or constants; empty for other sections."""
        match = _POOL.fullmatch(key)
        return match["kind"] if match and _pooled(self.model.sections[key]) else ""

    def name(self, key: str) -> str:
        """A section's name without numbers; those it takes out it gives anew, in the order in which they are met."""
        cut = _cut(key)
        if cut == key:
            return key
        if key not in self.numbered:
            self.count[cut] += 1
            self.numbered[key] = f"{cut}\0{self.count[cut]}"
            self.order.append(key)
        return self.numbered[key]


def difference(base: Elf, patched: Elf, moves: noise.Moves = frozenset()) -> str:
    """The first thing that differs between two such objects, in words; empty when nothing does.

    Args:
        moves: lines whose numbers may differ wherever they stand, as in `pair.diff`.

    Raises `InfraError` for a malformed file.
    """
    sides = _Side(model=model(base)), _Side(model=model(patched))
    try:
        _compare(sides[0], sides[1], moves)
    except _DiffersError as found:
        return printable(str(found))
    return ""


def _cut(key: str) -> str:
    """A section's name without the numbers that name rules know; functions keep theirs."""
    own = _OWN.fullmatch(key)
    if own is None or key.startswith(".text") or _POOL.fullmatch(key):
        return key
    for rule in noise.NAME_RULES:
        match = rule.pattern.fullmatch(own["name"])
        if match and rule.sections is None:
            return key[:own.start("name")] + "#".join(group or "" for group in match.groups()) + "#"
    return key


def _compare(a: _Side, b: _Side, moves: noise.Moves) -> None:
    if a.model.elf.header != b.model.elf.header or a.model.elf.phdrs or b.model.elf.phdrs:
        raise _DiffersError("ELF header")
    if not a.model.machine.folds:
        raise _DiffersError("the machine is not known")
    if SHT_GROUP in {section.type for side in (a, b) for section in side.model.sections.values()}:
        raise _DiffersError("section groups")
    same = _same(a, moves)
    if _pools(a) != _pools(b):
        raise _DiffersError("strings or constants")
    fixed = [[key for key in side.model.sections if _cut(key) == key and not side.pool(key)] for side in (a, b)]
    if set(fixed[0]) != set(fixed[1]):
        raise _DiffersError(f"section {min(set(fixed[0]) ^ set(fixed[1]))}")
    ordered = [[key for key in keys if not _OWN.fullmatch(key) and not _PLACELESS.fullmatch(key)
                and not _tabled(key)] for keys in fixed]
    if ordered[0] != ordered[1]:
        raise _DiffersError("order of sections")
    for key in sorted(fixed[0]):
        _attributes(a, key, b, key)
        if not _tabled(key):
            _section(a, key, b, key, same)
    _numbered(a, b, same)
    for key in sorted(fixed[0]):
        if tables.movable(key):
            _table(a, b, key, same)
        elif tables.beside(key) and tables.beside(key) not in fixed[0]:
            _section(a, key, b, key, same)
    symbols = _symbols(a), _symbols(b)
    if symbols[0] != symbols[1]:
        left = [*(symbols[0] - symbols[1]), *(symbols[1] - symbols[0])]
        raise _DiffersError(f"symbol {min(str(form[1]) for form in left)}")


def _tabled(key: str) -> bool:
    """Whether a section is compared record by record."""
    return tables.movable(key) or bool(tables.beside(key))


def _pools(side: _Side) -> Counter[Form]:
    """All strings and constants that only the linker gives a place, with the kind and the properties of their pools."""
    found: Counter[Form] = Counter()
    for key, section in side.model.sections.items():
        kind = side.pool(key)
        if kind:
            if side.model.relocs.get(section.number):
                raise _DiffersError(f"references in {key}")
            said = attributes(side.model, section)
            found.update((kind, tuple(pair for pair in said if pair[0] != "size"), entry)
                         for entry in _entries(section, content(side.model.elf, section)))
    return found


_Same = Callable[[bytes, bytes], bool]


def _same(side: _Side, moves: noise.Moves) -> _Same:
    order = byte_order(side.model.elf)

    def same(x: bytes, y: bytes) -> bool:
        return x == y or bool(moves and len(x) == len(y) and noise.moved_lines(x, y, order, moves))

    return same


def _numbered(a: _Side, b: _Side, same: _Same) -> None:
    """The sections with numbers: those that were met first, in that order, then what they meet, then the rest."""
    rest = [[key for key in side.model.sections if _cut(key) != key] for side in (a, b)]
    if len(rest[0]) != len(rest[1]):
        raise _DiffersError("number of static data")
    ahead = [iter(keys) for keys in rest]
    for index in range(len(rest[0])):
        for side, keys in zip((a, b), ahead, strict=True):
            while len(side.order) <= index:
                side.name(next(keys))
        key_a, key_b = a.order[index], b.order[index]
        if a.numbered[key_a] != b.numbered[key_b]:
            raise _DiffersError(f"section {key_a}")
        _attributes(a, key_a, b, key_b)
        _section(a, key_a, b, key_b, same)


def _attributes(a: _Side, key_a: str, b: _Side, key_b: str) -> None:
    """What the headers say, but for sizes, which the contents show, and for links, which only tables have."""
    said = [[pair for pair in attributes(side.model, side.model.sections[key]) if pair[0] != "size"]
            for side, key in ((a, key_a), (b, key_b))]
    if said[0] != said[1]:
        raise _DiffersError(f"section {key_a}: attributes")


def _section(a: _Side, key_a: str, b: _Side, key_b: str, same: _Same) -> None:
    x, y = a.model.sections[key_a], b.model.sections[key_b]
    data_a, relocs_a = a.of(key_a)
    data_b, relocs_b = b.of(key_b)
    if _pooled(x) and not relocs_a and not relocs_b:
        if Counter(_entries(x, data_a)) != Counter(_entries(y, data_b)):
            raise _DiffersError(f"strings or constants in {key_a}")
        return
    if x.size != y.size or not same(data_a, data_b):
        raise _DiffersError(f"contents of {key_a}")
    _references(a, b, x, (relocs_a, relocs_b))


def _references(a: _Side, b: _Side, section: Section, relocs: tuple[Sequence[Target], Sequence[Target]]) -> None:
    """Relocations of one stretch on both sides, with offsets that count from its start."""
    if len(relocs[0]) != len(relocs[1]):
        raise _DiffersError(f"references in {section.name}")
    code = bool(section.flags & SHF_EXECINSTR)
    for x, y in zip(*relocs, strict=True):
        if x[:2] != y[:2] or _form(a, x, code=code) != _form(b, y, code=code):
            raise _DiffersError(f"reference in {section.name} at {x.offset:#x}")


def _form(side: _Side, reloc: Target, *, code: bool) -> Form:
    """What a relocation refers to."""
    key, addend = reloc.key, reloc.addend
    section = side.model.sections.get(str(key[0])) if key[0] not in ("@", "abs", "special") else None
    if section is None:
        return (*key, addend)
    if _tabled(str(key[0])):
        raise _DiffersError(f"a reference to {section.name}, whose order is not compared")
    if not _pooled(section):
        return (side.name(str(key[0])), *key[1:], addend)
    pool = side.pool(str(key[0])) or str(key[0])
    if len(key) > 1:
        return (pool, _entry(side, section, int(key[1])), key[2], addend)
    row = side.model.machine
    if code and reloc.type in row.pc_bias:
        if not row.pc_exact:
            raise _DiffersError(f"an unclear reference to {section.name}")
        addend += row.pc_bias[reloc.type]
    return (pool, _entry(side, section, addend))


def _pooled(section: Section) -> bool:
    """Whether the linker takes a section apart into strings or constants of a known size."""
    if not section.flags & SHF_MERGE or not pools.unordered(section):
        return False
    return section.entsize == 1 if section.flags & SHF_STRINGS else section.entsize > 1


def _entry(side: _Side, section: Section, at: int) -> tuple[int, bytes]:
    """The string or constant at an offset of a pooled section, from there on; of a constant, all with the offset."""
    data = content(side.model.elf, section)
    if not 0 <= at < len(data) or side.model.relocs.get(section.number):
        raise _DiffersError(f"a reference outside of the entries of {section.name}")
    if section.flags & SHF_STRINGS:
        end = data.find(b"\0", at)
        return 0, data[at:end] if end >= 0 else data[at:]
    start = at - at % section.entsize
    return at - start, data[start:start + section.entsize]


def _entries(section: Section, data: bytes) -> list[bytes]:
    """All strings or constants of a pooled section."""
    if section.flags & SHF_STRINGS:
        return data.removesuffix(b"\0").split(b"\0")
    return [data[i:i + section.entsize] for i in range(0, len(data), section.entsize)]


def _table(a: _Side, b: _Side, key: str, same: _Same) -> None:
    found = [tables.by_place(side.model, key, *side.of(key)) for side in (a, b)]
    if found[0] is None or found[1] is None:
        for name in sorted({key, *(name for name in a.model.sections if tables.beside(name) == key)}):
            _section(a, name, b, name, same)
        return
    first, second = found[0].by_place, found[1].by_place
    if first.keys() != second.keys():
        raise _DiffersError(f"places in {key}")
    for place in sorted(first):
        if len(first[place]) != len(second[place]):
            raise _DiffersError(f"records for {place} in {key}")
        for (data_a, relocs_a), (data_b, relocs_b) in zip(first[place], second[place], strict=True):
            if not same(data_a, data_b):
                raise _DiffersError(f"a record for {place} in {key}")
            _references(a, b, a.model.sections[key], (relocs_a, relocs_b))


def _symbols(side: _Side) -> Counter[Form]:
    """All symbols, local names without their numbers, places in string sections by what stands there."""
    found: Counter[Form] = Counter()
    taken = {key: tables.by_place(side.model, key, *side.of(key)) for key in side.model.sections if tables.movable(key)}
    for fact in symbol_facts(side.model):
        section = side.model.sections.get(fact.where)
        name = noise.normalise(fact) or ("", fact.name)
        place: Form = (fact.where, fact.value)
        table = taken.get(fact.where)
        if table is not None and fact.value < table.size * len(table.places):
            place = (fact.where, table.places[fact.value // table.size], fact.value % table.size)
        elif section is not None and _pooled(section):
            place = (side.pool(fact.where) or fact.where, _entry(side, section, fact.value))
        elif section is not None:
            place = (side.name(fact.where), fact.value)
        found[*name, fact.bind, fact.type, fact.other, *place, fact.size] += 1
    return found
