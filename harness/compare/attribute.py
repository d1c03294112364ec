# SPDX-License-Identifier: GPL-2.0-only
"""Finds the words for a difference: which function or datum holds it, where, and what stands on each side.

Pure. Called only for what is known to be a change. Each function returns at least one `Change` when it is given a
difference, so nothing found here can turn a change into noise.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING

from harness.compare import branches, noise, owners, tables
from harness.compare.content import Content as Content
from harness.compare.content import bias, paired, units, within
from harness.compare.elf import SHF_EXECINSTR, SHF_MERGE, SHF_STRINGS
from harness.compare.naming import Unit, target_name
from harness.compare.pools import text_of
from harness.compare.values import Change, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.compare.model import SymbolFact, Target

_SHOWN_BYTES = 8


def section_changes(key: str, base: Content, patched: Content,
                    contents: tuple[Mapping[str, Content], Mapping[str, Content]] = ({}, {})) -> list[Change]:
    """What differs in one section, one change for each symbol that holds a difference; at least one.

    Symbols are paired by name (numbers of static locals cut out) and compared relative to their start, so that a
    function is not reported for having moved. A difference outside of all symbols is reported for the section.

    Args:
        contents: other sections of both objects that are at hand, by key.
    """
    section = printable(key)
    special = _table(section, base, patched, contents) or _strings(section, base, patched)
    if special:
        return special
    pairs = paired(units(base), units(patched))
    found = [change for a, b in pairs for change in _unit_change(section, base, a, patched, b)]
    in_place = all(a[:2] == b[:2] for a, b in pairs)
    if len(base.data) == len(patched.data) and (in_place or not found):
        found += _uncovered(section, base, patched, covered=[a for a, _ in pairs] if found else [])
    return found or [_whole(section, base, patched)]


def _table(section: str, base: Content, patched: Content,
           contents: tuple[Mapping[str, Content], Mapping[str, Content]]) -> list[Change]:
    """Records of the kernel's tables, by the function they belong to; none where it is no table."""
    row = tables.owned(base.section.name)
    if row is None:
        return []
    sides = [owners.by_owner(side, known.get(row.index)) for side, known in zip((base, patched), contents, strict=True)]
    if sides[0] is None or sides[1] is None:
        return []
    model = base.names.model
    known = base.section.name == "__bug_table" and noise.lines(model, "__bug_table", len(base.data), base.relocs)
    lined = model.machine if known else None
    changes = [
        Change(kind="moved" if what == owners.PLACES else "bytes" if a == b else "size", section=section, symbol=who,
               base=_entries(a), patched=f"{_entries(b)} {what}".rstrip())
        for who, a, b, what in owners.differing(sides[0], sides[1], lined)]
    return changes or [Change(kind="moved", section=section, base="the functions it is about",
                              patched="at other offsets")]


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


_TEXTS = frozenset({".modinfo", "__ksymtab_strings"})
"""Sections of strings that are not marked as such."""
_SHOWN_TEXTS = 3


def _strings(section: str, base: Content, patched: Content) -> list[Change]:
    """Which strings came and went; that they are the same in another order. None where it holds no strings."""
    flags = base.section.flags & patched.section.flags
    marked = flags & SHF_MERGE and flags & SHF_STRINGS and base.section.entsize == 1
    if not marked and base.section.name not in _TEXTS:
        return []
    texts = [Counter(text for text in side.data.split(b"\0") if text) for side in (base, patched)]
    if base.relocs or patched.relocs or (base.data[-1:] + patched.data[-1:]).strip(b"\0"):
        return []
    gone, new = texts[0] - texts[1], texts[1] - texts[0]
    if not gone and not new:
        return [Change(kind="moved", section=section, base="the same strings", patched="at other offsets")]
    return [Change(kind="bytes", section=section, base=_quoted(gone), patched=_quoted(new))]


def _quoted(texts: Counter[bytes]) -> str | None:
    shown = sorted(texts.elements())
    words = [f'"{printable(text[:60].decode("latin-1"))}"{"..." * (len(text) > 60)}' for text in shown[:_SHOWN_TEXTS]]
    more = [f"{len(shown) - _SHOWN_TEXTS} more"] if len(shown) > _SHOWN_TEXTS else []
    return ", ".join(words + more) or None


def _unit_change(section: str, base: Content, a: Unit, patched: Content, b: Unit) -> Iterator[Change]:
    """The first difference within one symbol's bytes and relocations, if there is one."""
    name = printable(a.name)
    data_a, data_b = base.data[a.start:a.end], patched.data[b.start:b.end]
    slices = within(base, a), within(patched, b)
    if len(data_a) != len(data_b):
        moved = (len(slices[0]) == len(slices[1]) and branches.may_be_recoded(base, a, patched, b)
                 and all(_same(base, x, patched, y) for x, y in zip(*slices, strict=True))
                 and _only_moved(base, a, patched, b))
        yield Change(kind="moved" if moved else "size", section=section, symbol=name, offset=0,
                     base=f"{len(data_a)} bytes", patched=f"{len(data_b)} bytes")
        return
    skipped = branches.moved_branches(base, a, patched, b) if data_a != data_b else None
    if skipped is None or skipped.every:
        same_references = len(slices[0]) == len(slices[1]) and all(
            x[0] - a.start == y[0] - b.start and _same(base, x, patched, y) for x, y in zip(*slices, strict=True))
        if skipped is None and same_references:
            return
        if skipped is not None and same_references and _ends_of_branches(base, a, skipped.fields):
            yield Change(kind="moved", section=section, symbol=name, offset=skipped.fields[0][0],
                         base=printable(skipped.target[0]) if skipped.target else None, patched="at another distance")
            return
    applied = data_b if skipped is None or skipped.every else skipped.applied
    named = tuple({r.offset - unit.start: r for r in own} for own, unit in zip(slices, (a, b), strict=True))
    yield _first(section, name, (base, patched), (data_a, applied), (named[0], named[1]))


def _ends_of_branches(side: Content, unit: Unit, fields: Sequence[tuple[int, int]]) -> bool:
    from harness.compare import disasm

    return disasm.ends_of_branches(side, unit, fields)


def _only_moved(base: Content, a: Unit, patched: Content, b: Unit) -> bool:
    """Whether two functions differ only in how far the places are that they branch to."""
    if not base.section.flags & patched.section.flags & SHF_EXECINSTR:
        return False
    from harness.compare import disasm

    if not disasm.same_mnemonics(base, a, patched, b):
        return False
    left, right = disasm.decode(base, a), disasm.decode(patched, b)
    if left is None or right is None or not disasm.same_but_for_places(left, right):
        return False
    # one text can have several encodings: only a branch may be encoded in another way
    return all(x.is_branch or base.data[a.start + x.offset:a.start + x.offset + x.size]
               == patched.data[b.start + y.offset:b.start + y.offset + y.size]
               for x, y in zip(left, right, strict=True))


def _same(base: Content, x: Target, patched: Content, y: Target) -> bool:
    """Whether a person would call the targets of two relocations the same."""
    # a symbol of other objects, or a text, is what its key says
    if x[2] == y[2] and (x[2][0] == "@" or text_of(x[2]) is not None):
        return x[1] == y[1] and x[3] == y[3]
    return _identity(base, x) == _identity(patched, y)


def _identity(side: Content, reloc: Target | None) -> tuple[object, ...] | None:
    """Equal for two relocations when a person would call their targets the same."""
    if reloc is None:
        return None
    if reloc.key[0] == "@" or text_of(reloc.key) is not None:
        return reloc[1:]
    return reloc.type, target_name(side.names, reloc, bias(side))


_Named = dict[int, "Target"]
"""Relocations by their offset in a stretch."""


def _first(section: str, symbol: str | None, sides: tuple[Content, Content], data: tuple[bytes, bytes],
           relocs: tuple[_Named, _Named]) -> Change:
    """The first differing byte or relocation of two stretches of equal length, whichever comes first."""
    at_byte = _first_difference(*data)
    at_reloc = _first_reference(sides, relocs, at_byte)
    if at_reloc is not None and (at_byte is None or at_reloc <= at_byte):
        found = [named.get(at_reloc) for named in relocs]
        said = [None if r is None else target_name(side.names, r, bias(side))
                for r, side in zip(found, sides, strict=True)]
        if said[0] == said[1]:
            said = [f"{text} ({_form(r)})" if r else None for text, r in zip(said, found, strict=True)]
        return Change(kind="relocation", section=section, symbol=symbol, offset=at_reloc,
                      base=said[0], patched=said[1])
    at = at_byte or 0
    return Change(kind="bytes", section=section, symbol=symbol, offset=at,
                  base=data[0][at:at + _SHOWN_BYTES].hex(" "), patched=data[1][at:at + _SHOWN_BYTES].hex(" "))


def _form(reloc: Target) -> str:
    """What else than the name of its target tells two relocations apart."""
    return f"{'a symbol of other objects, too' if reloc.key[0] == '@' else 'local'}, type {reloc.type}"


def _first_reference(sides: tuple[Content, Content], relocs: tuple[_Named, _Named],
                     until: int | None = None) -> int | None:
    """Offset of the first relocation that differs or stands on one side only; none behind `until` is looked at."""
    return next((o for o in sorted(relocs[0].keys() | relocs[1].keys()) if (until is None or o <= until) and
                 _identity(sides[0], relocs[0].get(o)) != _identity(sides[1], relocs[1].get(o))), None)


def _first_difference(a: bytes, b: bytes) -> int | None:
    """Offset of the first byte that differs; the shorter length when one is a prefix of the other."""
    if a == b:
        return None
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle)
    return low


def _uncovered(section: str, base: Content, patched: Content, *, covered: list[Unit]) -> list[Change]:
    """The first difference of two equally long sections outside of the symbols in `covered`."""
    data = bytearray(base.data), bytearray(patched.data)
    for unit in covered:
        for copy in data:
            copy[unit.start:unit.end] = bytes(unit.end - unit.start)
    relocs = _outside(base, covered), _outside(patched, covered)
    if data[0] == data[1] and _first_reference((base, patched), relocs) is None:
        return []
    return [_first(section, None, (base, patched), (bytes(data[0]), bytes(data[1])), relocs)]


def _outside(side: Content, covered: list[Unit]) -> _Named:
    """The relocations outside of the units in `covered`, which are sorted."""
    ends = [unit.end for unit in covered]
    found: dict[int, Target] = {}
    for r in side.relocs:
        index = bisect_right(ends, r.offset)
        if index == len(covered) or r.offset < covered[index].start:
            found[r.offset] = r
    return found


def _whole(section: str, base: Content, patched: Content) -> Change:
    """The change for a section of which nothing more precise could be said."""
    if len(base.data) != len(patched.data):
        return Change(kind="size", section=section,
                      base=f"{len(base.data)} bytes", patched=f"{len(patched.data)} bytes")
    first = next((i for i, (x, y) in enumerate(zip(base.relocs, patched.relocs, strict=False)) if x != y),
                 min(len(base.relocs), len(patched.relocs)))
    sides = [side.relocs[first] if first < len(side.relocs) else None for side in (base, patched)]
    said = [None if r is None else f"{printable(text_of(r.key) or str(r.key[-1]))}{r.addend:+#x}" for r in sides]
    offset = next((r.offset for r in sides if r is not None), None)
    return Change(kind="moved", section=section, offset=offset, base=said[0], patched=said[1])


BIND: Mapping[int, str] = {0: "local", 1: "global", 2: "weak", 10: "unique"}
TYPE: Mapping[int, str] = {0: "notype", 1: "object", 2: "func", 3: "section", 4: "file", 5: "common", 6: "tls",
                            10: "ifunc"}
VISIBILITY: Mapping[int, str] = {0: "default", 1: "internal", 2: "hidden", 3: "protected"}


def symbol_changes(base: Sequence[SymbolFact], patched: Sequence[SymbolFact]) -> list[Change]:
    """Symbols that have no equal on the other side, one change a name.

    Symbols that only moved within their section (because something before them changed its size) become one change
    a section.
    """
    pool: dict[str, list[SymbolFact]] = {}
    for fact in patched:
        pool.setdefault(fact.name, []).append(fact)
    moved: dict[str, list[str]] = {}
    changes = []
    for fact in base:
        partners = pool.get(fact.name)
        other = partners.pop(0) if partners else None
        if other and other == fact._replace(value=other.value):
            moved.setdefault(fact.where, []).append(fact.name)
        else:
            changes.append(_symbol_change(fact, other))
    changes += [_symbol_change(None, fact) for facts in pool.values() for fact in facts]
    for where, names in moved.items():
        changes.append(Change(kind="moved", section=printable(where),
                              symbol=printable(names[0]) if len(names) == 1 else None,
                              base=f"{len(names)} symbol{'s' * (len(names) > 1)}", patched="at another offset"))
    return changes


def _symbol_change(base: SymbolFact | None, patched: SymbolFact | None) -> Change:
    fact = base or patched
    assert fact is not None
    return Change(kind="symbol", section=printable(fact.where), symbol=printable(fact.name),
                  base=_fact(base, patched), patched=_fact(patched, base))


def _fact(fact: SymbolFact | None, other: SymbolFact | None) -> str | None:
    """A symbol's properties in words: all of them if it stands alone, those that differ if there is another."""
    if fact is None:
        return None
    words = {
        "bind": BIND.get(fact.bind, f"binding {fact.bind}"), "type": TYPE.get(fact.type, f"type {fact.type}"),
        "other": VISIBILITY.get(fact.other, f"st_other {fact.other:#x}"),
        "where": f"in {printable(fact.where)}", "value": f"at {fact.value:#x}", "size": f"{fact.size} bytes",
    }
    return " ".join(text for name, text in words.items()
                    if other is None or getattr(fact, name) != getattr(other, name))
