# SPDX-License-Identifier: GPL-2.0-only
"""Names places in an object as a person would: by the symbol that covers them.

Pure. For messages and for pairing; no verdict rests on it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from harness.compare import noise
from harness.compare.elf import (
    ET_REL,
    MAX_NAME,
    SHF_EXECINSTR,
    SHF_MERGE,
    SHF_STRINGS,
    STB_LOCAL,
    STT_FILE,
    STT_FUNC,
    STT_SECTION,
    Section,
)
from harness.compare.pools import text_of
from harness.compare.values import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.compare.model import Model, Target

_new = tuple.__new__
_SHOWN_TEXT = 60
_DIGIT = re.compile(r"\d")


class Unit(NamedTuple):
    """A stretch of a section that one symbol covers."""

    start: int
    end: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """An object with its symbols sorted by place, made once for all its sections.

    Attributes:
        model: the object.
        units: section index to the stretches its symbols cover, in order, without those inside another.
        starts: the same, start offsets only, for bisection.
    """

    model: Model
    units: Mapping[int, Sequence[Unit]]
    starts: Mapping[int, Sequence[int]]


def names(model: Model) -> Names:
    """Sort the symbols of an object by place; aliases give one unit, named by the global one."""
    units: dict[int, list[Unit]] = {}
    own: list[Unit] = []
    first = end = -1
    # values are offsets in an object, addresses in what is linked
    linked = model.elf.type != ET_REL
    starts = [section.addr if linked else 0 for section in model.elf.sections]
    marks = model.machine.function_marks
    usable = [(section, value & ~marks if kind == STT_FUNC else value, -size, bind == STB_LOCAL, name)
              for name, value, size, bind, kind, _other, section, _special in model.symbols
              if section and kind not in (STT_SECTION, STT_FILE)]
    usable.sort()
    last = 0
    for number, at, less, _local, name in usable:
        if number != last:
            own = units[number] = []
            last, first, end = number, -1, -1
        value = at - starts[number]
        if not own or value >= end > first or value > first == end:
            first, end = value, value - less
            own.append(_new(Unit, (first, end, name)))
    return Names(model=model, units=units, starts={index: [u[0] for u in found] for index, found in units.items()})


def sibling_names(other: Names, model: Model) -> Names:
    """The names of `model`, taken from `other` where both objects share one symbol table."""
    return replace(other, model=model) if other.model.symbols is model.symbols else names(model)


@lru_cache(maxsize=1 << 14)
def stem(name: str) -> str:
    """A symbol's name without the numbers that noise rules know."""
    if not _DIGIT.search(name):
        return name
    for rule in noise.NAME_RULES:
        match = rule.pattern.fullmatch(name)
        if match:
            return match.group(1)
    return name


def target_name(names: Names, reloc: Target, bias: int | None = None) -> str:
    """A relocation's target as a person would name it: symbol and offset, a string, or section and offset.

    `bias` is what to add to the addend where that is known; otherwise the machine's row says what it mostly is.
    """
    model = names.model
    addend = reloc.addend + (model.machine.pc_bias.get(reloc.type, 0) if bias is None else bias)
    key = reloc.key
    if key[0] == "@":
        return printable(str(key[1])) + _plus(addend)
    text = text_of(key)
    if text is not None:
        # only one that was written against a label has an addend of its own; its key has a sixth part
        return quoted(text) + _plus(addend if len(key) > 5 else 0)
    section = model.sections.get(str(key[0]))
    if section is None:
        return " ".join(printable(str(part)) for part in key) + _plus(addend)
    value = addend + (int(key[1]) if len(key) > 1 else 0)
    if section.flags & SHF_MERGE and section.flags & SHF_STRINGS:
        return _string(model.elf.data, section, value)
    return place_name(names, section, value)


def place_name(names: Names, section: Section, value: int) -> str:
    """A place in a section as a person would name it: symbol and offset, or section and offset."""
    index = bisect_right(names.starts.get(section.number, ()), value) - 1
    if index >= 0:
        unit = names.units[section.number][index]
        if value < max(unit.end, unit.start + 1):
            # functions of one stem (.part.0, .part.1) are different functions; only data is renumbered at will
            name = unit.name if section.flags & SHF_EXECINSTR else stem(unit.name)
            # a star for the number that rules know, so that it is seen that one was there
            return printable(name if name == unit.name else f"{name}*") + _plus(value - unit.start)
    return printable(names.model.keys[section.number]) + _plus(value)


def _string(data: bytes, section: Section, value: int) -> str:
    """The string at `value` of a string section, so that a string that moved is not taken for another."""
    start = section.offset + value
    last = min(section.offset + section.size, start + MAX_NAME + 1)
    end = data.find(b"\0", start, last) if 0 <= value < section.size else -1
    if end < 0:
        return f"string+{value:#x}"
    return quoted(data[start:end].decode("latin-1"))


def quoted(text: str) -> str:
    """A string as messages show it."""
    if len(text) <= _SHOWN_TEXT:
        return f'"{printable(text)}"'
    # the checksum keeps two long strings apart that begin alike
    return f'"{printable(text[:_SHOWN_TEXT])}..." (crc {crc32(text.encode()):08x})'


def _plus(offset: int) -> str:
    return f"{offset:+#x}" if offset else ""
