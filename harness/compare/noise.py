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
from functools import partial
from typing import TYPE_CHECKING, Literal

from harness.compare import boot_header, build_facts, pools, tables
from harness.compare.elf import SHF_ALLOC, SHT_NOTE, STB_LOCAL, STT_FUNC, STT_NOTYPE, STT_OBJECT, byte_order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.compare.elf import Section
    from harness.compare.machine import Lines
    from harness.compare.model import Model, SymbolFact, Target
    from harness.compare.side import Ranges, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a reader is told about a rule: its name, when it applies, and why what it explains cannot matter.

    `seen`: where a running kernel shows it nevertheless; empty where it shows it nowhere.
    """

    name: str
    condition: str
    why: str
    seen: str = ""


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
_CLONE = r"\.(?:constprop|isra|part|cold)\."

NAME_RULES: tuple[NameRule, ...] = (
    NameRule(rule="addressable-line", pattern=re.compile(r"(__addressable_.+?)\d+"), types=_DATUM,
             sections=re.compile(r"\.discard\.addressable(\0#\d+)?")),
    NameRule(rule="unique-id-number", pattern=re.compile(r"(__UNIQUE_ID_.*?)\d+(?:(\.)\d+)?"), types=_DATUM),
    NameRule(rule="initcall-number", pattern=re.compile(r"(__initcall__kmod_.+?__)\d+_\d+(_.+)"), types=_DATUM,
             sections=re.compile(r"\.(con_)?initcall\w*\.init(\0#\d+)?")),
    NameRule(rule="static-local-number", pattern=re.compile(r"(.+\.)\d+"), types=frozenset({STT_OBJECT})),
    NameRule(rule="clone-number", types=frozenset({STT_FUNC}),
             pattern=re.compile(rf"(.+?{_CLONE})\d+(?:({_CLONE})\d+)?(?:({_CLONE})\d+)?(\.cold)?")),
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


_IGNORED: Mapping[str, re.Pattern[str]] = {
    "debug-sections": re.compile(r"\.z?debug_\w+"),
    "btf-sections": re.compile(r"\.BTF(\.ext|\.base)?"),
}


def ignored(section: Section) -> str | None:
    """Rule debug-sections or btf-sections, whichever takes a section out: by its name, where it is not loaded."""
    if section.flags & SHF_ALLOC:
        return None
    return next((rule for rule, pattern in _IGNORED.items() if pattern.fullmatch(section.name)), None)


_FILE = re.compile(r"[^\s%]+\.[A-Za-z]{1,3}")
"""What `__FILE__` gives; no format of a message, and not the empty string."""


def lines(model: Model, section: str, size: int, relocs: Sequence[Target]) -> Lines | None:
    """Where the records of a section hold line numbers, each with a file name; None where that is not certain."""
    row = tables.lines(model.machine, section, size, relocs)
    files = relocs[row.file::len(row.layout.pointers)] if row else ()
    return row if all(_FILE.fullmatch(pools.literal(model, reloc) or "") for reloc in files) else None


def record_lines(rule: str, base: Side, patched: Side) -> Ranges:
    """Rules bug-table-line and dyndbg-line: the line fields of the records that differ in nothing else.

    The record layout is proved by the relocations: they must be exactly the pointers of every record of one layout
    of the machine, and equal on both sides, so that what the pointers name and the number of records are equal. One of
    them must name a file, or what looks like a line is something else. Of a line that is a bit-field, the other bits of
    its word must be equal.
    """
    if base.relocs != patched.relocs:
        return []
    row = lines(base.model, base.section.name, len(base.data), base.relocs)
    if row is None or row.rule != rule:
        return []
    found: Ranges = []
    order = byte_order(base.model.elf)
    size = row.layout.size
    for start in range(0, len(base.data), size):
        first, last = start + row.line, start + row.line + row.width
        words = [int.from_bytes(side.data[first:last], order) for side in (base, patched)]
        rest = [side.data[start:first] + side.data[last:start + size] for side in (base, patched)]
        if words[0] != words[1] and not (words[0] ^ words[1]) & ~row.mask(order) and rest[0] == rest[1]:
            found.append((first, last))
    return found


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


BYTE_RULES: Mapping[str, Callable[[Side, Side], Ranges]] = {
    "bug-table-line": partial(record_lines, "bug-table-line"),
    "dyndbg-line": partial(record_lines, "dyndbg-line"),
    "build-id-note": build_id,
    "version-string": build_facts.version_strings,
    "boot-header": boot_header.rule,
}
"""Rule name to what it explains of two sections with equal headers. All of them are symmetric."""

Moves = frozenset[tuple[int, int]]
"""(line in base, line in patched) of lines that moved."""


def moved_lines(a: bytes, b: bytes, order: Literal["little", "big"], moves: Moves) -> Ranges:
    """Fields of 16 bits, or of 8 for small numbers, that hold the number of one moved line on each side.

    No rule: any constant could have these values by chance. It is half of the proof by line numbers
    (`harness.jobs.proof`): what differs is nothing else than numbers of lines, whatever they are used for.

    Args:
        a, b: the bytes of base and patched.

    Returns:
        The fields; none where anything else differs, too.
    """
    if len(a) != len(b):
        return []
    found: Ranges = []
    for at in (i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y):
        if found and at < found[-1][1]:
            continue
        fields = [(at, at + 2), (max(0, at - 1), at + 1)]
        wide = [(x, y) for x, y in fields if (int.from_bytes(a[x:y], order), int.from_bytes(b[x:y], order)) in moves]
        if not wide and ((a[at], b[at]) not in moves or max(a[at], b[at]) > _SMALL):
            return []
        found += wide[:1] or [(at, at + 1)]
    return found


_SMALL = 127
"""The largest immediate of 8 bits that is not negative (`push`)."""

_LOCAL_NAME = ("The name of a local symbol reaches no code and no data: references to it are relocations, and those "
               "are compared by section and offset.")

_ALL_SYMBOLS = "/proc/kallsyms with CONFIG_KALLSYMS_ALL"

RULES: tuple[Rule, ...] = (
    Rule(name="addressable-line",
         condition="A local datum in .discard.addressable is called __addressable_<symbol><number>; both sides are "
                   "equal but for the trailing number: binding, type, visibility, section, value, size.",
         why=f"The number is __LINE__ or __COUNTER__ (___ADDRESSABLE, include/linux/compiler.h). {_LOCAL_NAME} "
             "The linker script discards the section."),
    Rule(name="unique-id-number", seen=_ALL_SYMBOLS,
         condition="A local datum is called __UNIQUE_ID_<prefix><number>, with or without gcc's .<number> for static "
                   "locals; both sides are equal but for the numbers.",
         why=f"The number is __COUNTER__ (__UNIQUE_ID, include/linux/compiler-gcc.h). {_LOCAL_NAME}"),
    Rule(name="initcall-number", seen=_ALL_SYMBOLS,
         condition="A local symbol in an initcall section is called "
                   "__initcall__kmod_<module>__<counter>_<line>_<function><level>; both sides are equal but for "
                   "counter and line.",
         why=f"Format in include/linux/init.h. {_LOCAL_NAME} Module, function and level stay in the compared "
             "name, the level also in the section's name, the function in the relocation."),
    Rule(name="static-local-number", seen=_ALL_SYMBOLS,
         condition="A local datum (STT_OBJECT) is called <name>.<number>; both sides are equal but for the number.",
         why=f"gcc numbers the static variables of functions. {_LOCAL_NAME}"),
    Rule(name="clone-number", seen="/proc/kallsyms, and in traces and stack dumps",
         condition="A local function is called <name> followed by one to three of .constprop.<number>, .isra.<number>, "
                   ".part.<number> and .cold.<number>; both sides are equal but for the numbers.",
         why=f"gcc counts the clones it considered of a function, those it dropped included. {_LOCAL_NAME} Who finds "
             "such a clone by name, as live patching does, has to look it up for every build."),
    Rule(name="local-label-number",
         condition="A local symbol without a type is called .L<LETTERS><number>; both sides are equal but for the "
                   "number.",
         why=f"gcc numbers its labels; gas keeps those that point into string sections. {_LOCAL_NAME}"),
    Rule(name="bug-table-line", seen="the kernel's log, where it warns",
         condition="In __bug_table, the relocations of both sides are equal and are exactly the pointers of records of"
                   " one layout of the machine, the second to the name of a file; of a record only the u16 line "
                   "differs, its flags and all else are equal.",
         why="lib/bug.c only prints the line. The record's address, file and flags are compared."),
    Rule(name="dyndbg-line", seen="/proc/dynamic_debug/control",
         condition="In __dyndbg, the relocations of both sides are equal and are exactly the pointers of records of "
                   "one layout of the machine (struct _ddebug), the third to the name of a file; of a record only the "
                   "18 bits of lineno differ.",
         why="lib/dynamic_debug.c prints the line and matches it against what a user asks for; nothing else reads it. "
             "The record's module, function, file, format, class, flags and key are compared."),
    Rule(name="string-pool-order",
         condition="A loaded section of mergeable strings (SHF_MERGE, SHF_STRINGS, one byte each) is called .rodata* "
                   "and holds nothing but strings and .L labels, on both sides the same set of them; every reference "
                   "goes to equal text, at the same offset from the section's alignment. One that does not say what "
                   "it goes to is a change.",
         why="The linker takes such a section apart, merges equal strings and puts them where it likes, so order and "
             "repetition do not survive the link. References are compared by the text they point at."),
    Rule(name="debug-sections",
         condition="A section is called .debug_* or .zdebug_* and is not allocated: it, its relocations, groups that "
                   "hold nothing else and local symbols in it may differ or be missing on one side; compressed or not.",
         why="Neither the kernel image nor a loaded module contains it."),
    Rule(name="btf-sections", seen="/sys/kernel/btf",
         condition="A section is called .BTF, .BTF.ext or .BTF.base and is not allocated: it and its relocations may "
                   "differ or be missing on one side.",
         why="BTF describes types, for tracers and BPF programs; pahole makes it from the debug information. No code "
             "of the kernel is made from it."),
    Rule(name="build-id-note", seen="/sys/kernel/notes",
         condition="In .note.gnu.build-id (SHT_NOTE), holding one GNU note of type 3 and no relocation, only the "
                   "descriptor's bytes differ.",
         why="It is a hash over the file; nothing in the kernel decides by it."),
    Rule(name="version-string", seen="/proc/version",
         condition="In init/version.o or init/version-timestamp.o, differing bytes lie in release or version of an "
                   "init_uts_ns that proves to be a struct new_utsname of Linux, or in the same two strings within "
                   "linux_banner, all else in it equal.",
         why="They name the build: version, build number and time."),
    Rule(name="boot-header",
         condition="In .header of arch/x86/boot/header.o only syssize, payload_offset, payload_length, init_size or "
                   "kernel_info_offset differ, and on each side such a field holds what the compressed kernel in the "
                   "same build folder gives: its size, and where symbols of arch/x86/boot/compressed/vmlinux lie.",
         why="A boot loader needs the size of the compressed kernel, and where what follows it lies; what made it "
             "differ is in objects that are compared themselves."),
    Rule(name="relocation-form",
         condition="A relocation names a local symbol on one side and its section's symbol on the other; section, "
                   "offset, type and place are equal. Not for mergeable sections, TLS and IFUNC symbols, and "
                   "references through the GOT.",
         why="Both forms give the linker and the module loader the same address."),
    Rule(name="elf-encoding",
         condition="Sections, symbols and relocations are all equal and no other rule was needed, yet the files "
                   "differ: order of symbols, relocations or string table entries, file offsets, unused section "
                   "symbols. Bytes outside of sections and headers must be equal or zero.",
         why="The linker reads the same code, data and names from both."),
)
"""Every rule there is, in the order a report lists them."""

SEEN: Mapping[str, str] = {rule.name: rule.seen for rule in RULES if rule.seen}
"""Rule name to where a running kernel shows what the rule explains."""
