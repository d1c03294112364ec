# SPDX-License-Identifier: GPL-2.0-only
"""Compares the object code of two kernel builds.

    comparison = compare(Path("base-build"), Path("patched-build"))
    comparison.identical_code          # nothing changed, or named rules explain all of it

Bytes first; only what differs is parsed and compared by section, relocation and symbol (`pair`), and only what then
differs is attributed to symbols (`attribute`). A difference is never called noise unless a named rule explains it
(`noise`). Which files count as objects is decided in `walk`.
"""

from __future__ import annotations

import hashlib
import posixpath
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from harness import forks
from harness.compare import boot_header, elf, inputs, noise, pair, walk
from harness.compare.archive import entries, members
from harness.compare.compressed import expand
from harness.compare.values import Change, Comparison, ObjectDelta, Proof, RuleUse, Status, printable
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set
    from pathlib import Path

    from harness.compare.inputs import Input

Sites = dict[str, int]


def compare(base: Path, patched: Path, *, strict: bool = False, copies: int = 1) -> Comparison:
    """Compare two kernel build folders (O= outputs), two archives, or two object files, modules or kernel images.

    Args:
        base, patched: both folders, both archives or both objects.
        strict: allow no rule: whatever differs in a byte is a change.
        copies: processes that work on it, as `forks.shared` has them.

    Raises:
        UsageError: a path does not exist, a folder beside a file, or a folder that holds no object at all.
        InfraError: a file that cannot be read, or is no ELF object though its bytes differ.
    """
    start = time.perf_counter()
    sides = inputs.open_input(base), inputs.open_input(patched)
    if sides[0].kind != sides[1].kind:
        raise UsageError(f"cannot compare {_A[sides[0].kind]} with {_A[sides[1].kind]}", where=f"{base}, {patched}",
                         hint="name two build folders, two archives or two object files")
    forms = {"folder": _folders, "archive": _archives, "object": _files}
    found = forms[sides[0].kind](*sides, strict=strict, copies=copies)
    return _comparison(base, patched, strict, found, time.perf_counter() - start)


_A: Mapping[str, str] = {"folder": "a folder", "archive": "an archive", "object": "a file"}

@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The pairs of a comparison: objects with the sites that rules explain, archives, linker scripts; what was left."""

    objects: list[tuple[ObjectDelta, Sites]]
    archives: list[ObjectDelta] = field(default_factory=list)
    scripts: list[ObjectDelta] = field(default_factory=list)
    excluded: tuple[tuple[str, int], ...] = ()


def _files(base: Input, patched: Input, *, strict: bool, copies: int) -> Found:  # noqa: ARG001 - there is one pair
    return Found(objects=[_object(base.path.name, base, patched, strict=strict)])


def _folders(base: Input, patched: Input, *, strict: bool, copies: int) -> Found:
    a, b = walk.find(base.path), walk.find(patched.path)
    for side, root in ((a, base.path), (b, patched.path)):
        if not side.objects:
            raise UsageError("no kernel object in this folder", where=str(root),
                             hint="name the O= folder of a finished build; an empty comparison proves nothing")
    linked = _linked(base.path, a), _linked(patched.path, b)
    # a link on one side stands for no object, one on both for something that cannot be compared, which is an error
    sets = [side.objects | {path for path in own if side.excluded[path] != walk.SYMLINK or path in other}
            for side, own, other in ((a, *linked), (b, *linked[::-1]))]
    objects = _all(base, sets[0], patched, sets[1], strict=strict, copies=copies)
    archives = [
        _archive(path, base.path / path, patched.path / path) if path in a.archives and path in b.archives
        else _one_sided(path, in_base=path in a.archives)
        for path in sorted(a.archives | b.archives)
    ]
    scripts = [
        _script(path, base.path / path, patched.path / path) if path in a.link_scripts and path in b.link_scripts
        else _one_sided(path, in_base=path in a.link_scripts)
        for path in sorted(a.link_scripts | b.link_scripts)
    ]
    if all(delta.status == "identical" for delta in (*(delta for delta, _sites in objects), *archives, *scripts)):
        objects += [(delta, {}) for delta in _kernels(a.kernels & b.kernels, base, patched)]
    passed_over = {**a.excluded, **b.excluded}
    taken_in = (sets[0] - a.objects) | (sets[1] - b.objects)
    excluded = Counter(passed_over[path] for path in passed_over.keys() - taken_in)
    return Found(objects=objects, archives=archives, scripts=scripts, excluded=tuple(sorted(excluded.items())))


def _kernels(names: frozenset[str], base: Input, patched: Input) -> list[ObjectDelta]:
    """Kernels that differ though all that they are linked of is equal: they were linked in another way.

    BTF aside, which several threads of pahole may write in any order.
    """
    found = []
    for name in sorted(names, reverse=True):  # vmlinux, and then what was made of it
        data = [_read(side, name) for side in (base, patched)]
        if data[0] != data[1]:
            types = [[elf.content(file, section) for section in file.sections if section.name == ".BTF"]
                     for file in (elf.parse(each, side.where(name)) for each, side in zip(
                         data, (base, patched), strict=True))]
            if types[0] != types[1]:
                break
            change = Change(kind="file", section="", base="all objects are equal", patched="linked in another way")
            found.append(ObjectDelta(path=name, status="changed", changes=(change,)))
    return found


def _linked(root: Path, found: walk.Found) -> set[str]:
    """Files whose names say that they are no objects of the kernel, and that its archives list all the same."""
    if not found.excluded:
        return set()
    return {path for archive in found.archives for name in members(elf.read_bytes(root / archive), str(root / archive))
            if (path := posixpath.normpath(posixpath.join(posixpath.dirname(archive), name))) in found.excluded}


def _archives(base: Input, patched: Input, *, strict: bool, copies: int) -> Found:
    if not base.members or not patched.members:
        raise UsageError("an archive without members", where=str((patched if base.members else base).path),
                         hint="an empty comparison proves nothing")
    objects = _all(base, base.members.keys(), patched, patched.members.keys(), strict=strict,
                   copies=copies)
    name = base.path.name
    return Found(objects=objects, archives=[_order(name, base.order, patched.order)])


def _all(base: Input, a: Set[str], patched: Input, b: Set[str], *, strict: bool,
         copies: int) -> list[tuple[ObjectDelta, Sites]]:
    """Every object of either side; those that were moved or renamed are said to be."""
    places = _renamed(base, a - b, patched, b - a)

    def plain(name: str) -> _Plain | None:
        delta, sites = _object(name, base, patched, strict=strict)
        return None if delta.status == "identical" else (
            delta.status, delta.rules, [[getattr(change, name) for name in _CHANGE] for change in delta.changes],
            delta.proof, sites)

    names = sorted(a & b)
    if copies <= 1:
        both = {name: _object(name, base, patched, strict=strict) for name in names}
    else:
        both = dict(zip(names, map(_restored, names, forks.shared(plain, names, copies)), strict=True))
    return [both[name] if name in both else (_one_sided(name, in_base=name in a, other=places.get(name)), {})
            for name in sorted(a | b)]


_CHANGE = tuple(field.name for field in fields(Change))
_Plain = tuple[Status, tuple[str, ...], list[list[Any]], Proof, Sites]


def _restored(path: str, found: _Plain | None) -> tuple[ObjectDelta, Sites]:
    """What a process found out about an object: None where both sides are equal to the byte."""
    if found is None:
        return ObjectDelta(path=path, status="identical"), {}
    status, rules, changes, proof, sites = found
    return ObjectDelta(path=path, status=status, rules=tuple(rules), proof=proof, changes=tuple(
        Change(**dict(zip(_CHANGE, values, strict=True))) for values in changes)), sites


def _renamed(base: Input, a: Set[str], patched: Input, b: Set[str]) -> dict[str, str]:
    """Objects of one side only to where the other side has the same content."""
    if not a or not b:
        return {}
    found: dict[str, str] = {}
    content = {hashlib.sha256(patched.read(name)).digest(): name for name in sorted(b, reverse=True)}
    for name in sorted(a):
        other = content.pop(hashlib.sha256(base.read(name)).digest(), None)
        if other is not None:
            found |= {name: other, other: name}
    return found


def _one_sided(path: str, *, in_base: bool, other: str | None = None) -> ObjectDelta:
    same = f"same content at {printable(other)}" if other else None
    change = Change(kind="file", section="", base="present" if in_base else same,
                    patched=same if in_base else "present")
    return ObjectDelta(path=path, status="only-base" if in_base else "only-patched", changes=(change,))


def _object(path: str, base: Input, patched: Input, *, strict: bool) -> tuple[ObjectDelta, Sites]:
    """One object that both sides have."""
    a, b = _read(base, path), _read(patched, path)
    if a == b:
        return ObjectDelta(path=path, status="identical"), {}
    boots = (boot_header.fields_of(base.path), boot_header.fields_of(patched.path)) \
        if path == boot_header.PATH else ({}, {})
    result = pair.diff(path, elf.parse(a, base.where(path)), elf.parse(b, patched.where(path)), strict=strict,
                       boots=boots)
    return ObjectDelta(path=path, status="changed" if result.changes else "explained",
                       rules=tuple(sorted(result.sites)), changes=result.changes,
                       proof="" if result.changes else "rule"), result.sites


def _read(side: Input, path: str) -> bytes:
    if side.kind != "folder":
        return side.read(path)
    # a walk has seen that it is a regular file below the folder
    return expand(path, inputs.read_regular(f"{side.path}/{path}", follow=False), f"{side.path}/{path}")


def _archive(path: str, base: Path, patched: Path) -> ObjectDelta:
    """An archive: its list of members. What they hold is compared as the objects they are.

    A member that stands in the archive only is compared here, and without rules.
    """
    a, b = elf.read_bytes(base), elf.read_bytes(patched)
    if a == b:
        return ObjectDelta(path=path, status="identical")
    held = entries(a, str(base)), entries(b, str(patched))
    names = [tuple(name for name, _data in side) for side in held]
    if names[0] != names[1]:
        return _order(path, *names)
    for at, ((name, x), (_name, y)) in enumerate(zip(*held, strict=True)):
        if x != y and not (_beside(base, name, x) and _beside(patched, name, y)):
            change = Change(kind="archive", section="", offset=at, base=printable(name),
                            patched=f"{printable(name)} with other content")
            return ObjectDelta(path=path, status="changed", changes=(change,))
    return ObjectDelta(path=path, status="identical")


def _beside(archive: Path, name: str, data: bytes | None) -> bool:
    """Whether a member also stands beside its archive (or, of a thin one, there alone), where it is compared."""
    file = archive.parent / name
    return data is None or (file.is_file() and not file.is_symlink() and elf.read_bytes(file) == data)


def _order(path: str, *names: tuple[str, ...]) -> ObjectDelta:
    if names[0] == names[1]:
        return ObjectDelta(path=path, status="identical")
    at = next((i for i, (x, y) in enumerate(zip(*names, strict=False)) if x != y), min(map(len, names)))
    said = [printable(side[at]) if at < len(side) else None for side in names]
    change = Change(kind="archive", section="", offset=at, base=said[0], patched=said[1])
    return ObjectDelta(path=path, status="changed", changes=(change,))


def _script(path: str, base: Path, patched: Path) -> ObjectDelta:
    """A linker script: it places the objects, so a kernel can change by it though every object is equal."""
    texts = [elf.read_bytes(side).decode("latin-1").splitlines() for side in (base, patched)]
    if texts[0] == texts[1]:
        return ObjectDelta(path=path, status="identical")
    at = next((i for i, (x, y) in enumerate(zip(*texts, strict=False)) if x != y), min(map(len, texts)))
    said = [printable(" ".join(text[at].split())) if at < len(text) else None for text in texts]
    change = Change(kind="script", section="", offset=at + 1, base=said[0], patched=said[1])
    return ObjectDelta(path=path, status="changed", changes=(change,))


def _comparison(base: Path, patched: Path, strict: bool, found: Found, seconds: float) -> Comparison:
    objects, archives = found.objects, found.archives
    count = Counter(delta.status for delta, _sites in objects)
    changed_archives = [delta for delta in archives if delta.status != "identical"]
    changed_scripts = [delta for delta in found.scripts if delta.status != "identical"]
    deltas = sorted([*(delta for delta, _sites in objects), *changed_archives, *changed_scripts],
                    key=lambda delta: delta.path)
    return Comparison(
        base=str(base), patched=str(patched), strict=strict, objects=len(objects), identical=count["identical"],
        explained=count["explained"], changed=count["changed"], only_base=count["only-base"],
        only_patched=count["only-patched"], archives=len(archives), archives_changed=len(changed_archives),
        deltas=tuple(deltas), rules=_uses(sites for _delta, sites in objects), excluded=found.excluded, seconds=seconds,
        link_scripts=len(found.scripts), link_scripts_changed=len(changed_scripts))


def _uses(found: Iterable[Mapping[str, int]]) -> tuple[RuleUse, ...]:
    objects: Counter[str] = Counter()
    sites: Counter[str] = Counter()
    for one in found:
        objects.update(one.keys())
        sites.update(one)
    return tuple(RuleUse(rule=rule.name, objects=objects[rule.name], sites=sites[rule.name])
                 for rule in noise.RULES if objects[rule.name])
