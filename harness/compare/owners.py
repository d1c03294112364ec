# SPDX-License-Identifier: GPL-2.0-only
"""Whose the records of a kernel table are, for words: a reader is told of the function and not of bytes in a section.

Pure. A record belongs to the function its first pointer points into.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.compare import tables
from harness.compare.content import bias, within
from harness.compare.model import resolve
from harness.compare.naming import Unit, quoted, target_name
from harness.compare.pools import text_of
from harness.compare.values import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.compare.content import Content
    from harness.compare.machine import Machine
    from harness.compare.model import Key, Target
    from harness.compare.naming import Names
    from harness.compare.tables import Table

PLACES, LINES = "at other places", "with other line numbers"
"""What `differing` can know to be all that differs."""


@dataclass(slots=True, kw_only=True)
class Own:
    """The records of one owner, in order.

    Attributes:
        size: bytes of a record; 0 where they are not equally long.
        places: the offset in the owner that each is about.
        others: what else there is of each: the types of its relocations, what its other pointers name.
        data: the bytes of all of them.
    """

    size: int
    places: list[int] = field(default_factory=list)
    others: list[object] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)


def by_owner(side: Content, index: Content | None = None) -> Mapping[str, Own] | None:
    """The records of a table by owner; None where the section is no table or its records cannot be told apart.

    `index`: the section that says whose they are, if it is at hand.
    """
    row = tables.owned(side.section.name)
    if row is None:
        return None
    if row.index:
        return _indexed(side, row, index)
    if not side.data and not side.relocs:
        return {}
    found = tables.layout(row, len(side.data), side.relocs)
    if found is None:
        return None
    size, step = found.size, len(found.pointers)
    names, data, relocs = side.names, side.data, side.relocs
    heads = relocs[::step]
    mine: dict[str, Own] = {}
    for who, start, first, last in Owners(names).runs(heads):
        own = mine.get(who) or mine.setdefault(who, Own(size=size))
        own.places += [head[3] - start for head in heads[first:last]]
        own.data += data[first * size:last * size]
        if step == 1:
            own.others += [head[1] for head in heads[first:last]]
        else:
            own.others += [(heads[at][1], *((r.type, target_name(names, r, bias=0))
                                            for r in relocs[at * step + 1:(at + 1) * step]))
                           for at in range(first, last)]
    return mine


def _indexed(side: Content, row: Table, index: Content | None) -> Mapping[str, Own] | None:
    """The parts of a section that another one points into."""
    model = side.names.model
    section = model.sections.get(row.index)
    other = tables.owned(row.index)
    if section is None or other is None:
        return None
    relocs = index.relocs if index else resolve(model, section)[1]
    found = tables.layout(other, section.size, relocs)
    if found is None:
        return None
    step = len(found.pointers)
    heads = relocs[::step]
    runs = Owners(side.names).runs(heads)
    mine: dict[str, Own] = {}
    if step == 1:
        if len(side.data) % len(heads) or side.relocs:
            return None
        size = len(side.data) // len(heads)
        for who, start, first, last in runs:
            own = mine.get(who) or mine.setdefault(who, Own(size=size))
            own.places += [head[3] - start for head in heads[first:last]]
            own.data += side.data[first * size:last * size]
        return mine
    targets = relocs[1::step]
    if any(r.key != (side.section.name,) or not 0 <= r.addend <= len(side.data) for r in targets):
        return None
    ends = dict(pairwise(sorted({*(r.addend for r in targets), len(side.data)})))
    for who, start, first, last in runs:
        own = mine.get(who) or mine.setdefault(who, Own(size=0))
        for at in range(first, last):
            begin = targets[at].addend
            end = ends.get(begin, begin)
            own.places.append(heads[at].addend - start)
            own.others.append((side.data[begin:end], *((r.offset - begin, r.type, target_name(
                side.names, r, bias(side))) for r in within(side, Unit(begin, end, "")))))
    return mine


def differing(base: Mapping[str, Own], patched: Mapping[str, Own],
              lined: Machine | None) -> Iterator[tuple[str, int, int, str]]:
    """(owner, number of records on each side, what is all that differs if that is known) where records differ.

    `lined`: the machine whose records have line numbers, for a bug table.
    """
    none = Own(size=0)
    for who in sorted(base.keys() | patched.keys()):
        a, b = base.get(who, none), patched.get(who, none)
        if a != b:
            what = ""
            if len(a.places) == len(b.places) and (a.size, a.others) == (b.size, b.others):
                if a.data == b.data:
                    what = PLACES
                elif lined and _without_lines(a, lined) == _without_lines(b, lined) is not None:
                    what = LINES
            yield who, len(a.places), len(b.places), what


def _without_lines(own: Own, machine: Machine) -> list[bytes] | None:
    """The records of a bug table with their line numbers cut out; None where that is not known."""
    row = next((row for row in machine.lines if row.section == "__bug_table" and row.layout.size == own.size), None)
    if row is None or any(not isinstance(other, tuple) or len(other) != len(row.layout.pointers)
                          or other[0] != row.reloc_type for other in own.others):
        return None
    return [bytes(own.data[at:at + row.line] + own.data[at + row.line + row.width:at + own.size])
            for at in range(0, len(own.data), own.size)]


class Owners:
    """Whose a place is: for tables with a record for every third instruction."""

    __slots__ = ("_end", "_key", "_names", "_start", "_starts", "_units")

    def __init__(self, names: Names) -> None:
        self._names = names
        self._key: Key | None = None
        self._starts: Sequence[int] = ()
        self._units: Sequence[Unit] = ()
        self._start, self._end = 0, -1

    def runs(self, relocs: Sequence[Target]) -> Iterator[tuple[str, int, int, int]]:
        """(owner, what to take from an addend for the offset in it, first, last + 1) of neighbours of one owner."""
        at, count = 0, len(relocs)
        while at < count:
            key, value = relocs[at][2:]
            name, start = self._of(key, value)
            stop = at + 1
            # neighbours mostly belong to the same function
            if key is self._key and self._start <= value < self._end:
                while stop < count and relocs[stop][2] is key and self._start <= relocs[stop][3] < self._end:
                    stop += 1
            yield name, start, at, stop
            at = stop

    def _of(self, key: Key, value: int) -> tuple[str, int]:
        """(symbol that covers a relocation's target, or the section; where it starts). Not PC-biased."""
        if key[0] == "@":
            return printable(str(key[1])), 0
        text = text_of(key)
        if text is not None:
            return quoted(text), 0
        more = int(key[1]) if len(key) > 1 else 0
        section = self._names.model.sections.get(str(key[0]))
        number = section.number if section else -1
        self._key, self._start, self._end = key, 0, -1
        starts, units = self._names.starts.get(number, ()), self._names.units.get(number, ())
        index = bisect_right(starts, value + more) - 1
        # a place right behind a function is its end: where a call does not return, or the next one is unwound
        if index < 0 or value + more > units[index].end:
            return printable(str(key[0])), -more
        if not more:
            self._start, self._end = units[index].start, units[index].end
        return printable(units[index].name), units[index].start - more
