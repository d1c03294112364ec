# SPDX-License-Identifier: GPL-2.0-only
"""Pools of string literals, compared by what is referenced in them instead of by where it stands.

Pure. A section of mergeable strings is no sequence of bytes for the linker but a set of strings, which it merges with
those of all other objects (SHF_MERGE and SHF_STRINGS, gABI chapter 4). So where two pools differ, each reference into
them is resolved to the text it points at: a string that changed is then found where it is used, and one that only
stands elsewhere is no difference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.compare.elf import (
    MAX_NAME,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_MERGE,
    SHF_STRINGS,
    SHT_NOBITS,
    STB_LOCAL,
    STT_NOTYPE,
    STT_SECTION,
    bad,
    content,
)
from harness.compare.model import has_rel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.compare.elf import Section
    from harness.compare.model import Key, Model, Target

_MARK = '"'
_TEXT = 3
"""A resolved reference has the key (_MARK, section key, number of the text, text, offset from the alignment, ...). The
number stands before the text so that two keys are told apart without reading it."""

Texts = dict[str, tuple[int, str]]
"""Every text that was met on either side, with a number."""


def text_of(key: Key) -> str | None:
    """The text that a relocation goes to; None where its key was not made here (those have three parts at most)."""
    return str(key[_TEXT]) if len(key) > _TEXT and key[0] == _MARK else None


def literal(model: Model, reloc: Target) -> str | None:
    """The text that a reference from data goes to; None where it is not certain which one in this object that is."""
    text = text_of(reloc.key)
    if text is not None:
        return None if reloc.addend else text
    section = model.sections.get(str(reloc.key[0])) if reloc.key[0] not in ("@", "abs", "special") else None
    at = reloc.addend + (int(reloc.key[1]) if len(reloc.key) > 1 else 0)
    if section is None or at < 0:
        return None
    data = content(model.elf, section)
    end = data.find(b"\0", at, at + MAX_NAME + 1)
    return data[at:end].decode("latin-1") if end >= 0 else None


def differing(base: Model, patched: Model) -> frozenset[str]:
    """Keys of the pools that both objects have and that are not equal to the byte."""
    if not (base.machine.folds and patched.machine.folds):
        return frozenset()
    shared = ((key, a, patched.sections[key]) for key, a in base.sections.items() if key in patched.sections)
    return frozenset(
        key for key, a, b in shared
        if _may_be(base, a) and _may_be(patched, b) and content(base.elf, a) != content(patched.elf, b)
        and _only_strings(base, a) and _only_strings(patched, b))


_UNORDERED = re.compile(r"\.rodata(\..*)?|__ksymtab_strings|\.comment")


def unordered(section: Section) -> bool:
    """Whether nobody goes through a mergeable section from its start to its end: it is a compiler's, by its name, or
    known. Of others the linker may well keep the order (`__start_*`, `__stop_*`)."""
    return _UNORDERED.fullmatch(section.name) is not None


def _may_be(model: Model, section: Section) -> bool:
    wanted = SHF_ALLOC | SHF_MERGE | SHF_STRINGS
    return (unordered(section) and section.flags & wanted == wanted and section.entsize == 1
            and section.type != SHT_NOBITS and section.number not in model.relocs)


def _only_strings(model: Model, section: Section) -> bool:
    """No symbol but the assembler's labels stands in it, and its last string has an end."""
    return content(model.elf, section).endswith(b"\0") and all(
        symbol.bind == STB_LOCAL and not symbol.size and (
            symbol.type == STT_SECTION or (symbol.type == STT_NOTYPE and symbol.name.startswith(".L")))
        for symbol in model.symbols if symbol.section == section.number)


@dataclass(slots=True, kw_only=True)
class Pools:
    """The differing pools of one side, and what was found to be referenced in them so far.

    Attributes:
        side: `base` or `patched`.
        model: the object.
        keys: the pools' section keys.
        texts: shared by both sides.
        used: (section key, text) of every reference that was resolved.
        found: by section key and offset, what stands there.
        spent: bytes of text in `found`; bounded, so that overlapping references cannot eat the memory.
    """

    side: str
    model: Model
    keys: frozenset[str]
    texts: Texts
    used: set[tuple[str, str]] = field(default_factory=set)
    found: dict[tuple[str, int], tuple[int, str] | None] = field(default_factory=dict)
    spent: int = 0

    def resolve(self, section: Section, relocs: list[Target]) -> list[Target]:
        """The relocations of a section, those into a pool by text; what points at no certain one is equal to nothing.

        Raises `InfraError` where they would not fit into memory.
        """
        if not self.keys:
            return relocs
        rel = has_rel(self.model, section)
        code = bool(section.flags & SHF_EXECINSTR)
        return [self._by_text(reloc, rel=rel, code=code) if self._is_in(reloc.key) else reloc for reloc in relocs]

    def _is_in(self, key: Key) -> bool:
        """Whether a key is a pool's own or a label's in it; names of symbols may look like those of sections."""
        return key[0] in self.keys and (len(key) == 1 or (len(key) == 3 and isinstance(key[2], int)))

    def _by_text(self, reloc: Target, *, rel: bool, code: bool) -> Target:
        name = str(reloc.key[0])
        pool = self.model.sections[name]
        row = self.model.machine
        # a label is looked up before the addend is added, a section symbol afterwards (ld's _bfd_merged_section_offset)
        labelled = len(reloc.key) == 3
        at, addend, clear = (int(reloc.key[1]), reloc.addend, True) if labelled else (
            reloc.addend, 0, not rel or reloc.type in row.rel_widths)
        if code and not labelled and reloc.type in row.pc_bias:
            at, clear = at + row.pc_bias[reloc.type], clear and row.pc_exact
        text = self._at(name, pool, at) if clear and 0 <= at < pool.size else None
        if text is None:
            # by its offset it would be equal to what stands there on the other side, whatever that is
            return reloc._replace(key=("an unclear place in", name, "of", self.side))
        return reloc._replace(key=(_MARK, name, *text, at % max(pool.align, 1), *reloc.key[2:]), addend=addend)

    def _at(self, name: str, pool: Section, at: int) -> tuple[int, str] | None:
        """The text at an offset of a pool, with its number; None where it is longer than names may be."""
        if (name, at) not in self.found:
            data, start = self.model.elf.data, pool.offset + at
            end = data.find(b"\0", start, start + MAX_NAME + 1)
            text = data[start:end].decode("latin-1") if end >= 0 else None
            self.found[name, at] = None if text is None else self.texts.setdefault(text, (len(self.texts), text))
            if text is not None:
                self.used.add((name, text))
                self.spent += len(text)
            if self.spent > 8 * len(data) + (1 << 20):
                bad(self.model.elf.path, "its strings overlap so much that they would not fit into memory")
        return self.found[name, at]

    def strings(self, key: str) -> set[str]:
        """The strings of a pool; empty ones, which also pad it, do not count."""
        return set(content(self.model.elf, self.model.sections[key]).decode("latin-1").split("\0")) - {""}


def unexplained(base: Pools, patched: Pools, key: str) -> Sequence[str]:
    """Strings that one side alone has and that no resolved reference names, sorted: nothing else would tell of them.

    Call it when all references have been resolved. One that is referenced differs there: where one side has the
    text, the other has not.
    """
    sides = base.strings(key), patched.strings(key)
    return sorted(text for own, other, pools in ((sides[0], sides[1], base), (sides[1], sides[0], patched))
                  for text in own - other if (key, text) not in pools.used)
