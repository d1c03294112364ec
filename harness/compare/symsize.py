# SPDX-License-Identifier: GPL-2.0-only
"""Sizes of functions and data by name, and which of them grew, shrank, came or went between two files.

Counted as the kernel's `scripts/bloat-o-meter -c` counts them: the `.N` that compilers add to names is cut out and
symbols of one name are summed up, so two static functions of one name are one line; aliases count each time; names
that stand for generated or version symbols are left out. In two things it differs: weak symbols and the like, which
that script passes over, are counted as `other`; and the counters and line numbers in names of `__UNIQUE_ID_*` and
initcalls, which any new line above them changes, are cut out as `noise` cuts them, where the script lists each as
one that is new and one that is gone.

Source of the classes: the letters that `nm(1)` prints, of which the script takes tT, dDbB and rR.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.compare.elf import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHN_COMMON,
    SHT_NOBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FILE,
    STT_GNU_IFUNC,
    STT_SECTION,
    Elf,
)
from harness.compare.noise import NAME_RULES
from harness.compare.symtab import Symbol, symbols
from harness.compare.values import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["functions", "data", "rodata", "other"]
"""`data` includes bss; `other` is what is weak, common, unique or an indirect function."""

KINDS: tuple[Kind, ...] = ("functions", "data", "rodata", "other")

_NUMBER = re.compile(r"\.[0-9]+")
_GENERATED = ("__mod_", "__se_sys", "__se_compat_sys", "__addressable_")
_COUNTED = ("__UNIQUE_ID_", "__initcall__kmod_")
_VERSIONS = ("linux_banner", "vermagic")

Sizes = Counter[tuple[Kind, str]]
"""Bytes by class and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolDelta:
    """A name whose size differs. `base` or `patched` (bytes) is None where that side has no such name.

    The name is printable ASCII: it comes from an object file and is escaped when this value is made.
    """

    name: str
    kind: Kind
    base: int | None
    patched: int | None

    @property
    def delta(self) -> int:
        """Growth in bytes, negative when it shrank."""
        return (self.patched or 0) - (self.base or 0)

    @property
    def change(self) -> Literal["new", "gone", "grown", "shrunk"]:
        """What became of it."""
        if self.base is None:
            return "new"
        if self.patched is None:
            return "gone"
        return "grown" if self.delta > 0 else "shrunk"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindTotals:
    """All symbols of one class, whether their sizes differ or not.

    Attributes:
        base, patched: the sum of their sizes in bytes.
        new, gone, grown, shrunk: how many names.
        up, down: bytes won by what is new or grown, bytes lost by what is gone or shrunk (not negative).
    """

    kind: Kind
    base: int
    patched: int
    new: int
    gone: int
    grown: int
    shrunk: int
    up: int
    down: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolReport:
    """How the symbols of two files differ in size.

    Attributes:
        totals: a row for each of `KINDS`, in that order.
        symbols: the names whose size differs, largest absolute difference first, then by name.
    """

    totals: tuple[KindTotals, ...]
    symbols: tuple[SymbolDelta, ...]


def symbol_sizes(elf: Elf | None) -> Sizes:
    """Bytes of each name in a parsed file, in each class; empty where there is no file. Raises `InfraError`."""
    found: Sizes = Counter()
    if elf is None:
        return found
    by_section: list[Kind | None] = [_section_kind(section.flags, section.type) for section in elf.sections]
    for symbol in symbols(elf)[1:]:
        kind = _kind(symbol, by_section)
        if kind and symbol.size and not symbol.name.startswith(_GENERATED) and symbol.name not in _VERSIONS:
            found[kind, folded(symbol.name)] += symbol.size
    return found


def folded(name: str) -> str:
    """The name a symbol is counted under, without the numbers that a compiler or the preprocessor added."""
    if name.startswith(_COUNTED):
        match = next(filter(None, (rule.pattern.fullmatch(name) for rule in NAME_RULES)), None)
        name = "".join(group or "" for group in match.groups()) if match else name
    return _NUMBER.sub("", name)


def _section_kind(flags: int, kind: int) -> Kind | None:
    if flags & SHF_EXECINSTR:
        return "functions"
    if not flags & SHF_ALLOC:
        return None
    return "data" if flags & SHF_WRITE or kind == SHT_NOBITS else "rodata"


def _kind(symbol: Symbol, by_section: list[Kind | None]) -> Kind | None:
    """The class of a symbol; None for one that takes no room here (undefined, absolute, in a debug section)."""
    if symbol.special == SHN_COMMON:
        return "other"
    kind = by_section[symbol.section]
    if kind is None or symbol.type in (STT_SECTION, STT_FILE):
        return None
    return kind if symbol.bind in (STB_LOCAL, STB_GLOBAL) and symbol.type != STT_GNU_IFUNC else "other"


def compare_symbols(base: Sizes, patched: Sizes) -> SymbolReport:
    """Compare the symbols of two files. Pure."""
    differing = [SymbolDelta(name=printable(key[1]), kind=key[0], base=base.get(key), patched=patched.get(key))
                 for key in base.keys() | patched.keys() if base.get(key) != patched.get(key)]
    differing.sort(key=lambda row: (-abs(row.delta), row.name, row.kind))
    return SymbolReport(symbols=tuple(differing),
                        totals=tuple(_totals(kind, differing, base, patched) for kind in KINDS))


def _totals(kind: Kind, differing: list[SymbolDelta], base: Sizes, patched: Sizes) -> KindTotals:
    own = [row for row in differing if row.kind == kind]
    counts = Counter(row.change for row in own)
    return KindTotals(kind=kind, base=_sum(kind, base), patched=_sum(kind, patched), new=counts["new"],
                      gone=counts["gone"], grown=counts["grown"], shrunk=counts["shrunk"],
                      up=sum(row.delta for row in own if row.delta > 0),
                      down=sum(-row.delta for row in own if row.delta < 0))


def _sum(kind: Kind, sizes: Mapping[tuple[Kind, str], int]) -> int:
    return sum(size for key, size in sizes.items() if key[0] == kind)
