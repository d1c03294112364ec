# SPDX-License-Identifier: GPL-2.0-only
"""Two objects to what differs between them: the sites that rules explain, and the changes that are left.

Pure. The verdict is reached section by section and symbol by symbol on exact values; `attribute` then only finds the
words for it, and cannot take a change away.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.compare import attribute, noise, pools
from harness.compare.content import Content
from harness.compare.elf import SHF_ALLOC, SHT_GROUP, SHT_NOBITS, SHT_REL, STB_LOCAL, Section, byte_order, content
from harness.compare.model import (
    Model,
    SymbolFact,
    Target,
    attributes,
    by_number,
    group,
    has_rel,
    model,
    reloc_bytes,
    resolve,
    sibling,
    symbol_facts,
)
from harness.compare.naming import names, sibling_names
from harness.compare.pools import Pools
from harness.compare.side import Side
from harness.compare.values import Change, printable

if TYPE_CHECKING:
    from harness.compare.elf import Elf
    from harness.compare.side import BootFields


@dataclass(frozen=True, slots=True, kw_only=True)
class PairResult:
    """What differs between two objects: sites by rule name, and the changes, in file order."""

    sites: dict[str, int]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """The two models and what has been found so far; lives for one call of `diff`.

    `same_targets`: symbol numbers mean the same on both sides, so that equal relocation bytes are equal relocations.
    """

    path: str
    strict: bool
    base: Model
    patched: Model
    same_targets: bool
    sites: Counter[str]
    changes: list[Change]
    contents: list[tuple[str, Section, Section, _Resolved, _Resolved]]
    pools: tuple[Pools, Pools]
    boots: tuple[BootFields, BootFields]
    moves: noise.Moves


_Resolved = tuple[bytes, list[Target]]
"""Data with explained bytes blanked, and relocations."""


def diff(path: str, base: Elf, patched: Elf, *, strict: bool,
         boots: tuple[BootFields, BootFields] = ({}, {}), moves: noise.Moves = frozenset()) -> PairResult:
    """Compare two objects whose bytes differ.

    Args:
        path: the object's path relative to its build folder; some rules are for certain objects only.
        base, patched: the parsed files.
        strict: allow no rule.
        boots: what fields of the boot header must hold on each side (`side.Side.boot`), for rule boot-header.
        moves: lines whose numbers may differ wherever they stand, as site `moved-line`; for `harness.jobs.proof` only.

    Raises `InfraError` for a malformed file.
    """
    a = model(base)
    b = sibling(a, patched)
    same = a.targets == b.targets and a.bases == b.bases and a.forms == b.forms
    keys = frozenset() if strict else pools.differing(a, b)
    texts: pools.Texts = {}
    pair = _Pair(path=path, strict=strict, base=a, patched=b, same_targets=same, sites=Counter(), changes=[],
                 contents=[], pools=(Pools(side="base", model=a, keys=keys, texts=texts),
                                Pools(side="patched", model=b, keys=keys, texts=texts)),
                 boots=boots, moves=moves)
    _headers(pair)
    _sections(pair)
    _attribute(pair)
    _symbols(pair)
    if not pair.changes:
        _outside(pair)
    if not pair.changes and not pair.sites:
        if strict:
            pair.changes.append(Change(kind="file", section="", base="ELF encoding", patched="differs"))
        else:
            pair.sites["elf-encoding"] += 1
    return PairResult(sites=dict(pair.sites), changes=tuple(pair.changes))


_HEADER = ("class", "byte order", "OS ABI", "ABI version", "type", "machine", "flags", "entry")


def _headers(pair: _Pair) -> None:
    for what, a, b in zip(_HEADER, pair.base.elf.header, pair.patched.elf.header, strict=True):
        if a != b:
            pair.changes.append(Change(kind="header", section="", base=f"{what} {a:#x}", patched=f"{what} {b:#x}"))
    if pair.base.elf.phdrs != pair.patched.elf.phdrs:
        pair.changes.append(Change(kind="header", section="", base="program headers", patched="differ"))


def _ignored(pair: _Pair, m: Model) -> set[str]:
    """Keys of the sections that a rule takes out as a whole, with the groups that hold nothing else."""
    if pair.strict:
        return set()
    debug = {key for key, section in m.sections.items() if noise.ignored(section)}
    if debug:
        inside = debug | {m.keys[t.number] for i, tables in m.relocs.items() if m.keys[i] in debug for t in tables}
        for key, section in m.sections.items():
            if section.type == SHT_GROUP and inside.issuperset(group(m, section).members):
                debug.add(key)
    return debug


def _sections(pair: _Pair) -> None:
    """Every section of either side: present on both, headers, contents; and their order."""
    ignored = _ignored(pair, pair.base), _ignored(pair, pair.patched)
    a = {key: s for key, s in pair.base.sections.items() if key not in ignored[0]}
    b = {key: s for key, s in pair.patched.sections.items() if key not in ignored[1]}
    for key in (*a, *(key for key in b if key not in a)):
        if key in a and key in b:
            _section(pair, key, a[key], b[key])
        else:
            section = a.get(key) or b[key]
            said = f"section of {section.size} bytes"
            pair.changes.append(Change(kind="section", section=printable(key),
                                       base=said if key in a else None, patched=said if key in b else None))
    if a.keys() == b.keys() and list(a) != list(b):
        pair.changes.append(Change(kind="section", section="", base="order of sections", patched="differs"))
    for key in sorted(pair.pools[0].keys):
        _pool(pair, key)
    for key in ignored[0] | ignored[1]:
        if not _same_debug(pair, key):
            section = pair.base.sections.get(key) or pair.patched.sections[key]
            # a group that is taken out holds debug sections only
            pair.sites[noise.ignored(section) or "debug-sections"] += 1


def _same_debug(pair: _Pair, key: str) -> bool:
    """Whether a section that may be ignored is equal to the byte, so that the rule is not counted for it."""
    a, b = pair.base.sections.get(key), pair.patched.sections.get(key)
    if a is None or b is None or a.flags != b.flags:
        return False
    return (content(pair.base.elf, a) == content(pair.patched.elf, b)
            and reloc_bytes(pair.base, a) == reloc_bytes(pair.patched, b))


def _section(pair: _Pair, key: str, a: Section, b: Section) -> None:
    """One section that both sides have."""
    # a group's members stand in its contents, so a shared section table does not make two groups equal
    shared = pair.base.sections is pair.patched.sections and a.type != SHT_GROUP
    same_headers = shared or _section_headers(pair, key, a, b)
    if SHT_GROUP in (a.type, b.type) or key in pair.pools[0].keys:
        return
    if not pair.same_targets and by_number(pair.base.elf, a):
        pair.changes.append(Change(kind="section", section=printable(key), base="symbols by number",
                                   patched="the numbers are those of others"))
    kinds = [{table.type for table in m.relocs.get(s.number, ())} for m, s in ((pair.base, a), (pair.patched, b))]
    if all(kinds) and kinds[0] != kinds[1]:
        pair.changes.append(Change(kind="section", section=printable(key), base=_addends(kinds[0]),
                                   patched=_addends(kinds[1])))
    same_bytes = content(pair.base.elf, a) == content(pair.patched.elf, b)
    if same_bytes and reloc_bytes(pair.base, a) == reloc_bytes(pair.patched, b) and (
            (pair.same_targets and not pair.pools[0].keys) or not pair.base.relocs.get(a.number)):
        return
    _contents(pair, key, a, b, same_headers=same_headers)


def _addends(kinds: set[int]) -> str:
    return " and ".join(f"addends in the {'data' if kind == SHT_REL else 'relocations'}" for kind in sorted(kinds))


def _section_headers(pair: _Pair, key: str, a: Section, b: Section) -> bool:
    """Record what differs in the headers of a section; whether they are equal, sizes included."""
    base, patched = attributes(pair.base, a), attributes(pair.patched, b)
    if base == patched:
        return True
    for (what, x), (_what, y) in zip(base, patched, strict=False):
        # a size that differs shows in the contents, where it can be attributed to symbols
        if x != y and (what != "size" or a.type in (SHT_NOBITS, SHT_GROUP)):
            pair.changes.append(Change(kind="group" if what == "group" else "section", section=printable(key),
                                       base=f"{what} {_shown(x)}", patched=f"{what} {_shown(y)}"))
    return False


def _shown(value: object) -> str:
    return f"{value:#x}" if isinstance(value, int) else printable(str(value))


def _contents(pair: _Pair, key: str, a: Section, b: Section, *, same_headers: bool) -> None:
    """Contents that differ in the file: equal once resolved, explained by rules about bytes, or a change."""
    data_a, relocs_a, forms_a = resolve(pair.base, a)
    tables = reloc_bytes(pair.base, a), reloc_bytes(pair.patched, b)
    if pair.same_targets and a.size == b.size and not has_rel(pair.base, a) and tables[0] == tables[1]:
        data_b, relocs_b, forms_b = content(pair.patched.elf, b), relocs_a, forms_a
    else:
        data_b, relocs_b, forms_b = resolve(pair.patched, b)
    placed = relocs_a, relocs_b
    relocs_a, relocs_b = pair.pools[0].resolve(a, relocs_a), pair.pools[1].resolve(b, relocs_b)
    rewritten = 0
    if relocs_a == relocs_b:
        rewritten = sum(x != y for x, y in zip(forms_a, forms_b, strict=False))
        elsewhere = sum(x != y for x, y in zip(*placed, strict=False))
        pair.sites.update({"string-pool-order": elsewhere} if elsewhere else {})
    explained: list[tuple[int, int]] = []
    if same_headers and not pair.strict:
        base = Side(path=pair.path, model=pair.base, section=a, data=data_a, relocs=relocs_a,
                    boot=pair.boots[0])
        patched = Side(path=pair.path, model=pair.patched, section=b, data=data_b, relocs=relocs_b,
                       boot=pair.boots[1])
        for name, rule in noise.BYTE_RULES.items() if data_a != data_b else ():
            ranges = [(x, y) for x, y in rule(base, patched) if data_a[x:y] != data_b[x:y]]
            pair.sites.update({name: len(ranges)} if ranges else {})
            explained += ranges
        if pair.moves:
            lines = noise.moved_lines(_blank(data_a, explained), _blank(data_b, explained),
                                      byte_order(pair.base.elf), pair.moves)
            pair.sites.update({"moved-line": len(lines)} if lines else {})
            explained += lines
    if rewritten and not pair.strict:
        pair.sites["relocation-form"] += rewritten
    elif rewritten:
        pair.changes.append(Change(kind="relocation", section=printable(key), base="symbol or section form",
                                   patched="differs"))
    left = _blank(data_a, explained), _blank(data_b, explained)
    if left[0] != left[1] or relocs_a != relocs_b:
        pair.contents.append((key, a, b, (left[0], relocs_a), (left[1], relocs_b)))


def _pool(pair: _Pair, key: str) -> None:
    """A pool of strings that differs: what is referenced in it was compared where the references stand."""
    left = pools.unexplained(*pair.pools, key)
    own, other = (side.strings(key) for side in pair.pools)
    if own == other:
        pair.sites["string-pool-order"] += 1
    elif left or not (pair.contents or pair.changes):
        text = (left or sorted(own ^ other))[0]
        said = f'string "{printable(text)}"'
        pair.changes.append(Change(kind="section", section=printable(key), base=said if text in own else None,
                                   patched=None if text in own else said))


def _attribute(pair: _Pair) -> None:
    """Put words to the contents that differ: at least one change for each section of them."""
    if not pair.contents:
        return
    base = names(pair.base)
    patched = sibling_names(base, pair.patched)
    sides: tuple[dict[str, Content], dict[str, Content]] = {}, {}
    for key, a, b, (data_a, relocs_a), (data_b, relocs_b) in pair.contents:
        sides[0][key] = Content(names=base, section=a, data=data_a, relocs=relocs_a)
        sides[1][key] = Content(names=patched, section=b, data=data_b, relocs=relocs_b)
    for key, *_rest in pair.contents:
        pair.changes.extend(attribute.section_changes(key, sides[0][key], sides[1][key], sides))


def _blank(data: bytes, ranges: list[tuple[int, int]]) -> bytes:
    if not ranges:
        return data
    copy = bytearray(data)
    for start, end in ranges:
        copy[start:end] = bytes(end - start)
    return bytes(copy)


def _symbols(pair: _Pair) -> None:
    """The symbols of both sides as multisets; what is left over is matched by the rules for names."""
    if pair.base.symbols is pair.patched.symbols:
        return
    labels = pair.pools[0].keys
    ignored = _ignored(pair, pair.base) | labels, _ignored(pair, pair.patched) | labels
    a = Counter(f for f in symbol_facts(pair.base) if f.bind != STB_LOCAL or f.where not in ignored[0])
    b = Counter(f for f in symbol_facts(pair.patched) if f.bind != STB_LOCAL or f.where not in ignored[1])
    if a == b:
        return
    left_a, left_b = a - b, b - a
    if not pair.strict:
        left_a, left_b = _match_names(pair, left_a, left_b)
    pair.changes.extend(attribute.symbol_changes(sorted(left_a.elements()), sorted(left_b.elements())))


def _match_names(pair: _Pair, a: Counter[SymbolFact],
                 b: Counter[SymbolFact]) -> tuple[Counter[SymbolFact], Counter[SymbolFact]]:
    """Take out pairs that are equal once a rule has cut the numbers from their names; return what is left."""
    pool: dict[tuple[str, SymbolFact], list[SymbolFact]] = {}
    for fact in sorted(b.elements()):
        normal = noise.normalise(fact)
        if normal:
            pool.setdefault((normal[0], fact._replace(name=normal[1])), []).append(fact)
    left_a, left_b = a.copy(), b.copy()
    for fact in sorted(a.elements()):
        normal = noise.normalise(fact)
        partners = pool.get((normal[0], fact._replace(name=normal[1]))) if normal else None
        if normal and partners:
            left_a[fact] -= 1
            left_b[partners.pop()] -= 1
            pair.sites[normal[0]] += 1
    return +left_a, +left_b


def _outside(pair: _Pair) -> None:
    """Bytes that belong to no section, header or table, such as a signature after the end, must be equal."""
    base, patched = _stray(pair.base.elf), _stray(pair.patched.elf)
    if base != patched:
        pair.changes.append(Change(kind="file", section="", base=f"{len(base)} bytes outside of all sections",
                                   patched=f"{len(patched)} bytes, or others"))
    if _loaded(pair.base.elf) != _loaded(pair.patched.elf):
        pair.changes.append(Change(kind="file", section="", base="what its program headers load", patched="differs"))


def _loaded(elf: Elf) -> list[tuple[int, bytes]]:
    """Where in a file with program headers, which load by that, its sections and what lies between them are."""
    if not elf.phdrs:
        return []
    return [*((s.offset, b"") for s in elf.sections if s.flags & SHF_ALLOC and s.type != SHT_NOBITS), *_gaps(elf)]


def _stray(elf: Elf) -> bytes:
    return b"".join(data for _at, data in _gaps(elf))


def _gaps(elf: Elf) -> list[tuple[int, bytes]]:
    spans = sorted([*elf.tables, *((s.offset, s.size) for s in elf.sections[1:] if s.type != SHT_NOBITS)])
    at, found = 0, list[tuple[int, bytes]]()
    for offset, size in spans:
        if offset > at and elf.data[at:offset].strip(b"\0"):
            found.append((at, elf.data[at:offset]))
        at = max(at, offset + size)
    # a signature counts from the end, so there also zeros do
    return [*found, (at, elf.data[at:].lstrip(b"\0"))]


