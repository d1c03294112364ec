# SPDX-License-Identifier: GPL-2.0-only
"""The named rules that may call a difference noise, each with the narrowest condition that is right.

Pure. `RULES` is the register: what a report counts is the name of one of these, and docs/objdiff.md documents the
same list (a test holds the two together). A rule explains single symbols, records or sections; an object is explained
only if nothing is left. There is no rule for `__LINE__` immediates in code: from the bytes alone they cannot be told
from any other constant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.compare.elf import SHF_ALLOC, SHT_NOTE, STB_LOCAL, STT_NOTYPE, STT_OBJECT, byte_order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.compare.elf import Section
    from harness.compare.model import Model, SymbolFact, Target
    from harness.compare.symtab import Symbol


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a reader is told about a rule: its name, when it applies, and why what it explains cannot matter."""

    name: str
    condition: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRule:
    """A local symbol whose name carries a number that says nothing.

    Two symbols match under the rule when their names with the numbers cut out are equal and everything else about
    them is equal as it stands: binding, type, visibility, section, value, size.

    Attributes:
        rule: name in `RULES`.
        pattern: the names it is for; its groups are what stays.
        types: symbol types (STT_) it is for.
        sections: section keys it is for, None for any.
    """

    rule: str
    pattern: re.Pattern[str]
    types: frozenset[int]
    sections: re.Pattern[str] | None = None


_DATUM = frozenset({STT_OBJECT, STT_NOTYPE})

NAME_RULES: tuple[NameRule, ...] = (
    NameRule(rule="addressable-line", pattern=re.compile(r"(__addressable_.+?)\d+"), types=_DATUM,
             sections=re.compile(r"\.discard\.addressable(\0#\d+)?")),
    NameRule(rule="unique-id-number", pattern=re.compile(r"(__UNIQUE_ID_.*?)\d+(?:(\.)\d+)?"), types=_DATUM),
    NameRule(rule="initcall-number", pattern=re.compile(r"(__initcall__kmod_.+?__)\d+_\d+(_.+)"), types=_DATUM,
             sections=re.compile(r"\.(con_)?initcall\w*\.init(\0#\d+)?")),
    NameRule(rule="static-local-number", pattern=re.compile(r"(.+\.)\d+"), types=frozenset({STT_OBJECT})),
    NameRule(rule="local-label-number", pattern=re.compile(r"(\.L[A-Z]+)\d+"), types=frozenset({STT_NOTYPE})),
)


def normalise(fact: SymbolFact) -> tuple[str, str] | None:
    """(rule, name without its numbers) of the first rule a symbol falls under, or None."""
    if fact.bind != STB_LOCAL:
        return None
    for rule in NAME_RULES:
        if fact.type in rule.types and (rule.sections is None or rule.sections.fullmatch(fact.where)):
            match = rule.pattern.fullmatch(fact.name)
            if match:
                return rule.rule, "#".join(group or "" for group in match.groups())
    return None


_DEBUG = re.compile(r"\.debug_\w+")


def is_debug(section: Section) -> bool:
    """Rule debug-sections: named `.debug_*` and not loaded."""
    return not section.flags & SHF_ALLOC and _DEBUG.fullmatch(section.name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a pair of sections whose headers are equal, as a rule about bytes sees it.

    Attributes:
        path: the object's path relative to its build folder.
        model: the object.
        section: the section.
        data, relocs: its contents, as `model.resolve` gives them.
        payload: bytes of the compressed kernel in its build folder; None where that is not known.
    """

    path: str
    model: Model
    section: Section
    data: bytes
    relocs: list[Target]
    payload: int | None = None


Ranges = list[tuple[int, int]]
"""[start, end) offsets in a section."""


def bug_table_lines(base: Side, patched: Side) -> Ranges:
    """Rule bug-table-line: the line fields of the records that differ in nothing else.

    The record layout is proved by the relocations: they must be exactly the pointers of every record of one layout
    of the machine, and equal on both sides, so that address, file name and number of records are equal.
    """
    if base.section.name != "__bug_table" or base.relocs != patched.relocs:
        return []
    for layout in base.model.machine.bug_tables:
        size = layout.size
        starts = range(0, len(base.data), size)
        pointers = [(start + p, layout.reloc_type) for start in starts for p in layout.pointers]
        if len(base.data) % size or [(r.offset, r.type) for r in base.relocs] != pointers:
            continue
        at, width = layout.line
        end = at + width
        lines = [(s + at, s + end) for s in starts if base.data[s + at:s + end] != patched.data[s + at:s + end]]
        return [
            (a, b) for a, b in lines
            if base.data[a - at:a] == patched.data[a - at:a]
            and base.data[b:a - at + size] == patched.data[b:a - at + size]
        ]
    return []


def build_id(base: Side, patched: Side) -> Ranges:
    """Rule build-id-note: the descriptor of the one note in `.note.gnu.build-id` (NT_GNU_BUILD_ID, owner GNU)."""
    start = 16
    head = base.data[:start]
    if base.section.name != ".note.gnu.build-id" or base.section.type != SHT_NOTE or head != patched.data[:start]:
        return []
    order = byte_order(base.model.elf)
    words = [int.from_bytes(head[i:i + 4], order) for i in (0, 4, 8)]
    well_formed = words == [4, len(base.data) - start, 3] and head[12:] == b"GNU\0" and not base.relocs
    return [(start, len(base.data))] if well_formed and not patched.relocs else []


_UTS_FIELD = 65
_UTS_RELEASE, _UTS_VERSION = 2 * _UTS_FIELD, 3 * _UTS_FIELD
_VERSION_OBJECTS = frozenset({"init/version.o", "init/version-timestamp.o"})


def version_strings(base: Side, patched: Side) -> Ranges:
    """Rule version-string: release and version in `init_uts_ns` and `linux_banner` of init/version*.o.

    Proved by content: `init_uts_ns` must begin with a `struct new_utsname` whose sysname is "Linux", its fields
    zero-padded printable text; `linux_banner` must be built from just these two strings, with all between them
    (user, host, compiler) equal on both sides.
    """
    if base.path not in _VERSION_OBJECTS or base.relocs != patched.relocs:
        return []
    uts = [_uts_strings(side.model) for side in (base, patched)]
    if uts[0] is None or uts[1] is None:
        return []
    found: Ranges = []
    for name, ranges in (("init_uts_ns", _uts_ranges), ("linux_banner", _banner_ranges)):
        spans = [_span(side, name) for side in (base, patched)]
        if spans[0] is None or spans[0] != spans[1]:
            continue
        start, end = spans[0]
        found += [(start + a, start + b) for a, b in
                  ranges((base.data[start:end], patched.data[start:end]), (uts[0], uts[1]))]
    return found


PAYLOAD_OBJECT = "arch/x86/boot/header.o"
_PAYLOAD_LENGTH, _HEADER_START = 0x24C, 0x1F1
"""Offsets in the boot sector of the field and of `hdr` (Documentation/x86/boot.rst)."""


def payload_length(base: Side, patched: Side) -> Ranges:
    """Rule payload-length: the size of the compressed kernel in the boot header of arch/x86/boot/header.o.

    Proved by content: on each side the field must hold the very size of the compressed kernel beside it. That kernel
    is made of objects that are compared themselves, so what made its size differ is judged there.
    """
    if base.path != PAYLOAD_OBJECT or base.section.name != ".header" or base.relocs != patched.relocs:
        return []
    found: set[tuple[int, int]] = set()
    for side in (base, patched):
        at = [symbol.value for symbol in side.model.symbols
              if symbol.name == "hdr" and symbol.section == side.section.number]
        if len(at) != 1 or side.payload is None:
            return []
        start = at[0] + _PAYLOAD_LENGTH - _HEADER_START
        if int.from_bytes(side.data[start:start + 4], byte_order(side.model.elf)) != side.payload:
            return []
        found.add((start, start + 4))
    return list(found) if len(found) == 1 else []


def _span(side: Side, name: str) -> tuple[int, int] | None:
    """[start, end) of the datum `name` in this side's section, or None when it is not there."""
    for symbol in side.model.symbols:
        if symbol.name == name and symbol.type == STT_OBJECT and symbol.section == side.section.number:
            return symbol.value, symbol.value + symbol.size
    return None


def _uts_strings(model: Model) -> tuple[bytes, bytes] | None:
    """(release, version) of the `init_uts_ns` an object holds; None when its bytes are not a `struct new_utsname`."""
    for symbol in model.symbols:
        if symbol.name == "init_uts_ns" and symbol.type == STT_OBJECT and symbol.section:
            return _parse_uts(model, symbol)
    return None


def _parse_uts(model: Model, symbol: Symbol) -> tuple[bytes, bytes] | None:
    section = model.elf.sections[symbol.section]
    start = section.offset + symbol.value
    fields = [model.elf.data[start + i * _UTS_FIELD:start + (i + 1) * _UTS_FIELD] for i in range(6)]
    texts = [field.rstrip(b"\0") for field in fields]
    inside = symbol.value + 6 * _UTS_FIELD <= min(section.size, symbol.value + symbol.size)
    if not inside or texts[0] != b"Linux" or not all(re.fullmatch(rb"[ -~]{0,64}", text) for text in texts):
        return None
    return texts[2], texts[3]


def _uts_ranges(_data: tuple[bytes, bytes], _uts: tuple[tuple[bytes, bytes], ...]) -> Ranges:
    return [(_UTS_RELEASE, _UTS_RELEASE + _UTS_FIELD), (_UTS_VERSION, _UTS_VERSION + _UTS_FIELD)]


def _banner_ranges(data: tuple[bytes, bytes], uts: tuple[tuple[bytes, bytes], ...]) -> Ranges:
    heads = [b"Linux version " + release + b" (" for release, _version in uts]
    tails = [b") " + version + b"\n\0" for _release, version in uts]
    if any(not d.startswith(h) or not d.endswith(t) for d, h, t in zip(data, heads, tails, strict=True)):
        return []
    middles = [d[len(h):-len(t)] for d, h, t in zip(data, heads, tails, strict=True)]
    if middles[0] != middles[1] or len(heads[0]) != len(heads[1]):
        return []
    return [(0, len(heads[0])), (len(data[0]) - len(tails[0]), len(data[0]))]


BYTE_RULES: Mapping[str, Callable[[Side, Side], Ranges]] = {
    "bug-table-line": bug_table_lines,
    "build-id-note": build_id,
    "version-string": version_strings,
    "payload-length": payload_length,
}
"""Rule name to what it explains of two sections with equal headers. All of them are symmetric."""

Moves = frozenset[tuple[int, int]]
"""(line in base, line in patched) of lines that moved."""


def moved_lines(base: Side, patched: Side, moves: Moves) -> Ranges:
    """Fields of 16 bits, or of 8 for small numbers, that hold the number of one moved line on each side.

    No rule: any constant could have these values by chance. It is half of the proof by line numbers
    (`harness.proof`): what differs is nothing else than numbers of lines, whatever they are used for.
    """
    order = byte_order(base.model.elf)
    a, b = base.data, patched.data
    found: Ranges = []
    at = 0
    while len(a) == len(b) and a[at:] != b[at:]:
        at = next(i for i in range(at, len(a)) if a[i] != b[i])
        fields = [(at, at + 2), (max(0, at - 1), at + 1)]
        wide = [(x, y) for x, y in fields if (int.from_bytes(a[x:y], order), int.from_bytes(b[x:y], order)) in moves]
        if not wide and ((a[at], b[at]) not in moves or max(a[at], b[at]) > _SMALL):
            return []
        found += wide[:1] or [(at, at + 1)]
        at = found[-1][1]
    return found


_SMALL = 127
"""The largest immediate of 8 bits that is not negative (`push`)."""

_LOCAL_NAME = ("The name of a local symbol reaches no code and no data: references to it are relocations, and those "
               "are compared by section and offset.")

RULES: tuple[Rule, ...] = (
    Rule(name="addressable-line",
         condition="A local datum in .discard.addressable is called __addressable_<symbol><number>; both sides are "
                   "equal but for the trailing number: binding, type, visibility, section, value, size.",
         why=f"The number is __LINE__ or __COUNTER__ (___ADDRESSABLE, include/linux/compiler.h). {_LOCAL_NAME} "
             "The linker script discards the section."),
    Rule(name="unique-id-number",
         condition="A local datum is called __UNIQUE_ID_<prefix><number>, with or without gcc's .<number> for static "
                   "locals; both sides are equal but for the numbers.",
         why=f"The number is __COUNTER__ (__UNIQUE_ID, include/linux/compiler-gcc.h). {_LOCAL_NAME}"),
    Rule(name="initcall-number",
         condition="A local symbol in an initcall section is called "
                   "__initcall__kmod_<module>__<counter>_<line>_<function><level>; both sides are equal but for "
                   "counter and line.",
         why=f"Format in include/linux/init.h. {_LOCAL_NAME} Module, function and level stay in the compared "
             "name, the level also in the section's name, the function in the relocation."),
    Rule(name="static-local-number",
         condition="A local datum (STT_OBJECT) is called <name>.<number>; both sides are equal but for the number.",
         why=f"gcc numbers the static variables of functions. {_LOCAL_NAME} Functions (.part.N, .constprop.N, "
             ".isra.N) are not covered: ftrace and kprobes find those by name."),
    Rule(name="local-label-number",
         condition="A local symbol without a type is called .L<LETTERS><number>; both sides are equal but for the "
                   "number.",
         why=f"gcc numbers its labels; gas keeps those that point into string sections. {_LOCAL_NAME}"),
    Rule(name="bug-table-line",
         condition="In __bug_table, the relocations of both sides are equal and are exactly the pointers of records of"
                   " one layout of the machine; of a record only the u16 line differs, its flags and all else are "
                   "equal.",
         why="lib/bug.c only prints the line. The record's address, file and flags are compared."),
    Rule(name="debug-sections",
         condition="A section is called .debug_* and is not allocated: it, its relocations, groups that hold nothing "
                   "else and local symbols in it may differ or be missing on one side.",
         why="Neither the kernel image nor a loaded module contains it."),
    Rule(name="build-id-note",
         condition="In .note.gnu.build-id (SHT_NOTE), holding one GNU note of type 3 and no relocation, only the "
                   "descriptor's bytes differ.",
         why="It is a hash over the file; nothing in the kernel decides by it."),
    Rule(name="version-string",
         condition="In init/version.o or init/version-timestamp.o, differing bytes lie in release or version of an "
                   "init_uts_ns that proves to be a struct new_utsname of Linux, or in the same two strings within "
                   "linux_banner, all else in it equal.",
         why="They name the build: version, build number and time."),
    Rule(name="payload-length",
         condition="In .header of arch/x86/boot/header.o only the 4 bytes of payload_length differ, and on each side "
                   "they are the size of the compressed kernel in the same build folder.",
         why="A boot loader needs the size; what made it differ is in objects that are compared themselves."),
    Rule(name="relocation-form",
         condition="A relocation names a local symbol on one side and its section's symbol on the other; section, "
                   "offset, type and place are equal. Not for mergeable sections, TLS and IFUNC symbols.",
         why="Both forms give the linker and the module loader the same address."),
    Rule(name="elf-encoding",
         condition="Sections, symbols and relocations are all equal and no other rule was needed, yet the files "
                   "differ: order of symbols, relocations or string table entries, file offsets, unused section "
                   "symbols. Bytes outside of sections and headers must be equal or zero.",
         why="The linker reads the same code, data and names from both."),
)
"""Every rule there is, in the order a report lists them."""
