# SPDX-License-Identifier: GPL-2.0-only
"""How a structure lies in memory, as values: members, holes, cache lines, and how two layouts differ. Pure.

`harness.compare.dwarf` makes a `Layout` of debug information, `harness.compare.fit` judges whether a new member fills a
hole, `harness.compare.layout_text` shows it. Everything is counted in bits from the start of the structure; bytes where
it says so. docs/layout.md has the words for users.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

CACHE_LINE = 64
"""Bytes. A line of the L1 data cache of every x86_64 and nearly every arm64 machine."""

Kind = Literal["", "struct", "union", "array"]
"""What the members of a member are: those of a structure, of a union, or of an array's first element."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of a structure or union, with all that lies in it by value.

    Attributes:
        name: empty for an anonymous structure or union; printable ASCII.
        declaration: C, without the semicolon: `char cb[48]`, `__u8 cloned:1`, `union {...}`; printable ASCII.
        start: bits from the start of the outermost structure.
        bits: its size; of a bit-field, its width; 0 for a flexible array or one of no elements.
        unit: of a bit-field the bits of its type, else 0.
        align: the bytes that an `aligned` attribute asks for, else 0.
        nameless: its structure or union has no tag, so its members stand in the declaration itself.
        kind: what `members` are.
        members: in the order of the declaration.
    """

    name: str
    declaration: str
    start: int
    bits: int
    unit: int = 0
    align: int = 0
    nameless: bool = False
    kind: Kind = ""
    members: tuple[Member, ...] = ()

    @property
    def end(self) -> int:
        """The bit after its last one."""
        return self.start + self.bits

    @property
    def anonymous(self) -> bool:
        """C reaches its members as if they were members of what it lies in (C11 6.7.2.1, paragraph 13)."""
        return not self.name and bool(self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A structure: its tag, its size in bytes, its members in the order of the declaration.

    `align`: the bytes that an `aligned` attribute asks for, else 0.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    align: int = 0

    @property
    def lines(self) -> int:
        """Cache lines that it takes when it starts at the start of one."""
        return -(-self.size // CACHE_LINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmeasured:
    """Why there is no layout of a side: the structure or its header is not there, or does not compile."""

    why: str
    detail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Bits of a structure that no member has. `after` is the member before it, None at the structure's start."""

    start: int
    bits: int
    after: Member | None
    padding: bool
    """It is the end of the structure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A member in the list of all: the path that C reaches it by, and how deep it lies.

    The path of an anonymous structure or union is that of its first named member, in angle brackets with its kind.
    """

    path: str
    depth: int
    member: Member


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A member on both sides, or on one."""

    path: str
    base: Entry | None
    patched: Entry | None

    @property
    def words(self) -> str:
        """`len: unsigned int len at 128 -> unsigned int len at 112`; `-` where a side lacks it."""
        old, new = (f"{side.member.declaration} at {place(side.member.start)}" if side else "-"
                    for side in (self.base, self.patched))
        return f"{self.path}: {old} -> {new}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutDelta:
    """Two layouts of one structure. `pairs` has every member of either side, in the order of the declarations."""

    base: Layout
    patched: Layout
    pairs: tuple[Pair, ...]

    @property
    def size_delta(self) -> int:
        """Bytes that the structure grew by."""
        return self.patched.size - self.base.size

    @property
    def identical(self) -> bool:
        """Size, alignment and every member are equal: name, declaration, place, width, and all that lies in it."""
        return (self.base.size, self.base.align, self.base.members) == (
            self.patched.size, self.patched.align, self.patched.members)

    @property
    def differing(self) -> tuple[Pair, ...]:
        """The pairs that are not equal in place, size and declaration."""
        return tuple(pair for pair in self.pairs if _shallow(pair.base) != _shallow(pair.patched))


def compare_layouts(base: Layout, patched: Layout) -> LayoutDelta:
    """Pair the members of two layouts by path; one that changed its order stands where each side has it."""
    old, new = tuple(entries(base.members)), tuple(entries(patched.members))
    pairs: list[Pair] = []
    matcher = SequenceMatcher(None, [entry.path for entry in old], [entry.path for entry in new], autojunk=False)
    for tag, low, high, first, last in matcher.get_opcodes():
        if tag == "equal":
            pairs += [Pair(path=one.path, base=one, patched=other)
                      for one, other in zip(old[low:high], new[first:last], strict=True)]
        else:
            pairs += [Pair(path=entry.path, base=entry, patched=None) for entry in old[low:high]]
            pairs += [Pair(path=entry.path, base=None, patched=entry) for entry in new[first:last]]
    return LayoutDelta(base=base, patched=patched, pairs=tuple(pairs))


def entries(members: Sequence[Member], prefix: str = "", depth: int = 0) -> Iterator[Entry]:
    """All members, each before those that lie in it."""
    for member in members:
        path = f"{prefix}{member.name}" if not member.anonymous else f"{prefix}<{member.kind} of {_first(member)}>"
        yield Entry(path=path, depth=depth, member=member)
        below = f"{path}[0]" if member.kind == "array" else path
        yield from entries(member.members, prefix if member.anonymous else f"{below}.", depth + 1)


def find(layout: Layout, path: str) -> Member | None:
    """The member that C reaches as `structure.path` (`len`, `headers.len`, `frags[0].offset`), if there is one."""
    for entry in entries(layout.members):
        if entry.path == path:
            return entry.member
    return None


def holes(members: Sequence[Member], start: int, end: int) -> tuple[Hole, ...]:
    """What no member has of a structure (not a union) that lies from bit `start` to bit `end`, in order."""
    found: list[Hole] = []
    at, before = start, None
    for member in members:
        if member.start > at:
            found.append(Hole(start=at, bits=member.start - at, after=before, padding=False))
        at, before = max(at, member.end), member
    if end > at:
        found.append(Hole(start=at, bits=end - at, after=before, padding=True))
    return tuple(found)


def amount(bits: int) -> str:
    """`1 byte`, `3 bits`, `2 bytes and 4 bits`."""
    said = [f"{count} {word}{'s' * (count != 1)}" for count, word in ((bits // 8, "byte"), (bits % 8, "bit")) if count]
    return " and ".join(said) or "0 bytes"


def place(bit: int) -> str:
    """`126`, or `126:3` for a bit that starts no byte."""
    return f"{bit // 8}:{bit % 8}" if bit % 8 else str(bit // 8)


def _first(member: Member) -> str:
    """The first named member in an anonymous one; in one without any, its place among its kind does not matter."""
    return next((entry.path for entry in entries(member.members) if entry.member.name), "nothing")


def _shallow(entry: Entry | None) -> tuple[object, ...] | None:
    if entry is None:
        return None
    member = entry.member
    return (member.declaration, member.start, member.bits, member.unit, member.align, member.kind)
