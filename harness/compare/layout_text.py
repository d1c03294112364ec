# SPDX-License-Identifier: GPL-2.0-only
"""Layouts as text for people, in the spirit of pahole(1), and as JSON. Pure.

One table shows a structure on both sides, a line a member, with holes and the starts of cache lines between them. As in
the declaration, what lies in members with a type of their own is not shown; nor is the second copy in a struct_group().
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from harness.compare.layout import (
    CACHE_LINE,
    Entry,
    Hole,
    Layout,
    LayoutDelta,
    Member,
    Pair,
    amount,
    entries,
    holes,
    place,
)

SCHEMA = "harness.layout/1"
WIDTH = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line of one side: what it is known by on both, where it is, its size, the text."""

    key: str
    at: str
    size: str
    text: str


def table(delta: LayoutDelta, width: int = WIDTH) -> tuple[str, ...]:
    """Base and patched side by side: `-` is gone, `+` is new, `~` has another size or declaration."""
    old, new = tuple(_lines(delta.base)), tuple(_lines(delta.patched))
    head = f"struct {delta.patched.name}: {size_words(delta)}"
    body = [head, "", f"  {'base':>7} {'patched':>7} {'size':>6}  member"]
    matcher = SequenceMatcher(None, [line.key for line in old], [line.key for line in new], autojunk=False)
    for tag, low, high, first, last in matcher.get_opcodes():
        if tag == "equal":
            body += [_both(one, other) for one, other in zip(old[low:high], new[first:last], strict=True)]
        else:
            body += [_row("-" if line.size else " ", line.at, "", line) for line in old[low:high]]
            body += [_row("+" if line.size else " ", "", line.at, line) for line in new[first:last]]
    body += ["", *(f"{name:7}  {summary(side)}" for name, side in (("base", delta.base), ("patched", delta.patched)))]
    return tuple(line if len(line) <= width else f"{line[:width - 3]}..." for line in body)


def size_words(delta: LayoutDelta) -> str:
    """`232 -> 224 (-8)`."""
    return f"{delta.base.size} -> {delta.patched.size} ({delta.size_delta:+d})" if delta.size_delta else \
        f"{delta.base.size} -> {delta.patched.size}"


def summary(layout: Layout) -> str:
    """`224 bytes, 4 cache lines, 2 holes, padding 0 bytes`."""
    found = [hole for _, hole in every_hole(layout)]
    inner = [hole for hole in found if not (hole.padding and hole.start + hole.bits == 8 * layout.size)]
    padding = sum(hole.bits for hole in found if hole not in inner)
    return (f"{layout.size} bytes, {layout.lines} cache line{'s' * (layout.lines != 1)}, "
            f"{len(inner)} hole{'s' * (len(inner) != 1)}, padding {amount(padding)}"
            + (f", aligned to {layout.align}" if layout.align else ""))


def every_hole(layout: Layout) -> tuple[tuple[int, Hole], ...]:
    """The holes of a structure and of those that its declaration holds, with the depth each lies at."""
    found = [(0, hole) for hole in holes(layout.members, 0, 8 * layout.size)]
    for entry, shown in _shown(layout.members):
        member = entry.member
        if shown and member.kind != "union":  # of an array's first element the end is not known, so neither its padding
            end = member.end if member.kind == "struct" else max(each.end for each in member.members)
            found += [(entry.depth + 1, hole) for hole in holes(member.members, member.start, end)]
    return tuple(sorted(found, key=lambda item: item[1].start))


def to_json(layout: Layout) -> dict[str, object]:
    """A layout as JSON, schema `harness.layout/1`, docs/layout.md. All text is printable ASCII."""
    return {"struct": layout.name, "size": layout.size, "aligned": layout.align, "cache_lines": layout.lines,
            "members": [_member_json(member) for member in layout.members],
            "holes": [{"offset": hole.start // 8, "bit": hole.start % 8, "bits": hole.bits, "padding": hole.padding}
                      for _, hole in every_hole(layout)]}


def delta_json(delta: LayoutDelta) -> dict[str, object]:
    """Both layouts and the members that differ."""
    return {"schema": SCHEMA, "struct": delta.patched.name, "size_delta": delta.size_delta,
            "identical": delta.identical, "base": to_json(delta.base), "patched": to_json(delta.patched),
            "differing": [_pair_json(pair) for pair in delta.differing]}


def _member_json(member: Member) -> dict[str, object]:
    value: dict[str, object] = {"name": member.name, "declaration": member.declaration, "offset": member.start // 8,
                                "bit": member.start % 8, "bits": member.bits}
    if member.members:
        value |= {"kind": member.kind, "members": [_member_json(each) for each in member.members]}
    return value


def _pair_json(pair: Pair) -> dict[str, object]:
    def side(entry: Entry | None) -> dict[str, object] | None:
        return None if entry is None else {
            "offset": entry.member.start // 8, "bit": entry.member.start % 8, "bits": entry.member.bits,
            "declaration": entry.member.declaration}

    return {"path": pair.path, "base": side(pair.base), "patched": side(pair.patched)}


def _both(old: _Line, new: _Line) -> str:
    same = (old.size, old.text) == (new.size, new.text)
    if same or not new.size:
        return _row(" ", old.at, new.at, new)
    was = f"  (was {old.text.strip()}, {old.size})"
    return _row("~", old.at, new.at, new) + was


def _row(mark: str, old: str, new: str, line: _Line) -> str:
    return f"{mark} {old:>7} {new:>7} {line.size:>6}  {line.text}".rstrip()


def _shown(members: Sequence[Member]) -> Iterator[tuple[Entry, bool]]:
    """The members that the table has, and whether those in them are shown, too."""
    hidden = -1
    group: dict[int, Member] = {}
    for entry in entries(members):
        if 0 <= hidden < entry.depth:
            continue
        twin = group.get(entry.depth)
        shown = entry.member.nameless and bool(entry.member.members) and not (
            twin is not None and entry.member.name and twin.anonymous and twin.start == entry.member.start
            and twin.members == entry.member.members)
        hidden = -1 if shown else entry.depth
        group[entry.depth] = entry.member
        yield entry, shown


def _lines(layout: Layout) -> Iterator[_Line]:
    """Members in order, each hole before the member that ends it, each start of a cache line before what lies in it."""
    left = list(every_hole(layout))
    line = 1
    for entry, _ in _shown(layout.members):
        member = entry.member
        while left and left[0][1].start < member.start:
            yield _hole_line(*left.pop(0))
        while member.start >= 8 * CACHE_LINE * line:
            yield _boundary(line)
            line += 1
        size = f"{member.bits} bit" if member.unit else str(member.bits // 8)
        yield _Line(key=f"{entry.depth} {entry.path}", at=place(member.start), size=size,
                    text="  " * entry.depth + member.declaration)
    for depth, hole in left:
        yield _hole_line(depth, hole)


def _hole_line(depth: int, hole: Hole) -> _Line:
    size = f"{hole.bits} bit" if hole.bits % 8 else str(hole.bits // 8)
    after = hole.after.name or hole.after.declaration if hole.after else ""
    return _Line(key=f"hole {depth} {after}", at=place(hole.start), size=size,
                 text=f"{'  ' * depth}/* {'padding' if hole.padding else 'hole'} */")


def _boundary(line: int) -> _Line:
    return _Line(key=f"line {line}", at=str(line * CACHE_LINE), size="", text=f"-- cache line {line} --")
