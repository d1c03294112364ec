# SPDX-License-Identifier: GPL-2.0-only
"""Whether a member that a series adds (or moves) fills a hole that base had, so that it costs no room. Pure.

Two layouts tell where things lie, not why. So the answer has three values, and yes and no are given only where they
follow:

Let P and N be the nearest members before and after the new one, M, that base has too, in the same structure; where
there is none, its start or end. M fills a hole when (1) the bits that it has, counted from the end of P, belonged to no
member in base, and (2) N starts at the same distance from the end of P as in base. It does not where (1) is not so.

Why that suffices: layout goes forward only, so without M, N would start no later than it does now; and since its
distance is less than its alignment, as base shows, it would start no earlier. Whatever could make that differ makes the
answer unknown: a series that removes or moves something between P and N, or changes what gives the alignment.
docs/layout.md says it for users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from harness.compare.layout import Kind, Layout, Member, amount, entries, place


class Answer(Enum):
    """Yes and no are proved; unknown is what these two layouts do not tell."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The answer and its reason in a few words, after the member's name: `fills a hole at 127`."""

    answer: Answer
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Body:
    """What a structure or union consists of, and how many such lie around it."""

    kind: Kind
    start: int
    end: int
    members: tuple[Member, ...]
    depth: int


def fills_hole(base: Layout, patched: Layout, name: str) -> Fit:
    """Whether member `name` of the patched structure lies where base had a hole or padding.

    Args:
        name: as C reaches it from the structure: `active_extensions`.
    """
    found = next((body for body in _bodies(patched) if any(member.name == name for member in body.members)), None)
    if found is None:
        return Fit(answer=Answer.NO, why="is not in the patched structure")
    new = next(member for member in found.members if member.name == name)
    if found.kind != "struct":
        return _unknown("lies in a union, which has no holes")
    if not new.bits:
        return _unknown("takes no room by itself")
    old = _counterpart(base, found, new)
    if old is None:
        return _unknown("lies in an anonymous structure that base does not have")
    return _judge(old, found, new)


def _unknown(why: str) -> Fit:
    return Fit(answer=Answer.UNKNOWN, why=why)


def _no(why: str) -> Fit:
    return Fit(answer=Answer.NO, why=why)


def _bodies(layout: Layout) -> Iterator[_Body]:
    """The structure itself and the anonymous ones in it, whose members C reaches by their plain names."""
    def below(body: _Body) -> Iterator[_Body]:
        yield body
        for member in body.members:
            if member.anonymous:
                yield from below(_Body(kind=member.kind, start=member.start, end=member.end, members=member.members,
                                       depth=body.depth + 1))

    return below(_Body(kind="struct", start=0, end=8 * layout.size, members=layout.members, depth=0))


def _counterpart(base: Layout, body: _Body, new: Member) -> _Body | None:
    """The same structure in base: the outermost one, or one of its kind and depth with a member of the same name."""
    names = {member.name for member in body.members if member.name} - {new.name}
    for other in _bodies(base):
        if (other.kind, other.depth) == (body.kind, body.depth) and (
                not body.depth or any(member.name in names for member in other.members)):
            return other
    return None


def _key(member: Member) -> str:
    """What makes a member the same on both sides: its name, or that of the first one in an anonymous one."""
    if not member.anonymous:
        return member.name
    first = next((entry.path for entry in entries(member.members) if entry.member.name), "")
    return f"{member.kind} {first}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gap:
    """What lies between the new member's neighbours.

    Attributes:
        left, right: P and N in the patched structure; None for its start or end.
        old_right: N in base.
        start, end: bits from the end of P to N in the patched structure.
        old_start, old_end: the same in base.
        others: further members that the patched structure has there.
        gone: members that base has there.
        words: between what and what.
    """

    left: Member | None
    right: Member | None
    old_right: Member | None
    start: int
    end: int
    old_start: int
    old_end: int
    others: tuple[Member, ...]
    gone: tuple[Member, ...]

    @property
    def words(self) -> str:
        return f"between {_said(self.left, 'the start')} and {_said(self.right, 'the end')}"

    @property
    def longer(self) -> int:
        """Bits that N is further from P than in base."""
        return (self.end - self.start) - (self.old_end - self.old_start)


def _gap(old: _Body, now: _Body, new: Member) -> _Gap:
    there = {_key(member): member for member in old.members if member.bits}
    at = now.members.index(new)
    common = [member.bits > 0 and member is not new and _key(member) in there for member in now.members]
    left = next((now.members[index] for index in reversed(range(at)) if common[index]), None)
    right = next((now.members[index] for index in range(at + 1, len(common)) if common[index]), None)
    old_left, old_right = (there[_key(member)] if member else None for member in (left, right))
    start, old_start = (member.end if member else body.start for member, body in ((left, now), (old_left, old)))
    end, old_end = (member.start if member else body.end for member, body in ((right, now), (old_right, old)))
    others = [each for each in now.members if each is not new and each.bits and start <= each.start < end]
    gone = [each for each in old.members if each.bits and old_start <= each.start < old_end]
    return _Gap(left=left, right=right, old_right=old_right, start=start, end=end, old_start=old_start,
                old_end=old_end, others=tuple(others), gone=tuple(gone))


def _judge(old: _Body, now: _Body, new: Member) -> Fit:
    """The rule of the module's head."""
    gap = _gap(old, now, new)
    then = new.start - gap.start + gap.old_start
    if gap.old_end < gap.old_start:
        return _unknown(f"lies {gap.words}, which the series puts in another order")
    taken = [member for member in gap.gone if member.start < then + new.bits and then < member.end]
    if taken:
        return _no(f"fills no hole: base has {_said(taken[0], '')} there, at {place(then)}")
    if gap.gone:
        return _unknown(f"lies {gap.words}, where the series also removes or moves {_said(gap.gone[0], '')}")
    if then + new.bits > gap.old_end:
        free = gap.old_end - gap.old_start
        had = f"{amount(free)} free {gap.words}, too few for it where it lies" if free else f"none {gap.words}"
        return _no(f"fills no hole: base has {had}")
    doubt = _doubt(gap, old, now, new)
    if gap.longer and not doubt:
        also = f"the series also adds {_said(gap.others[0], '')}" if gap.others else "alignment may be the cause"
        doubt = f"the room there is not that of base, and {also}"
    if doubt:
        return _unknown(f"lies {gap.words}; {doubt}")
    moved = f" ({place(then)} in base)" if then != new.start else ""
    return Fit(answer=Answer.YES, why=f"fills a hole at {place(new.start)}{moved}")


def _doubt(gap: _Gap, old: _Body, now: _Body, new: Member) -> str:
    """Why base does not tell what patched would be without the new member; empty where it does."""
    wants = max(new.unit // 8, new.align)
    if wants and not any(_gives(entry.member, wants) for entry in entries(now.members) if entry.member is not new):
        return "it may be what gives the structure its alignment"
    right, old_right = gap.right, gap.old_right
    if right is None or old_right is None:
        keep = {_key(member): _shape(member) for member in now.members}
        lost = [member for member in old.members if keep.get(_key(member)) != _shape(member)]
        if lost:
            return f"the series changes {_said(lost[0], '')}, which may be what gave the structure its alignment"
        names = {_key(member) for member in old.members}
        added = [member for member in now.members if _key(member) not in names and member is not new]
        if added and gap.longer:
            return f"the series also adds {_said(added[0], '')}"
        if now.depth and gap.longer:
            return "what lies around this anonymous structure may have room for it"
        return ""
    if _shape(old_right) != _shape(right):
        return f"the series changes {_said(right, '')}, and maybe its alignment"
    if right.unit and (right.start - old_right.start) % right.unit:
        return f"bit-field {_said(right, '')} lies in another part of its unit than in base"
    return ""


def _gives(member: Member, wants: int) -> bool:
    """Whether a member surely gives the structure that it lies in an alignment of so many bytes.

    A scalar is aligned to its size, in every ABI at least as strictly as a smaller one and as a bit-field of its type.
    """
    scalar = not member.kind and "[" not in member.declaration and not member.unit
    return max(member.unit // 8, member.align, member.bits // 8 if scalar else 0) >= wants


def _shape(member: Member) -> Member:
    """The member as if it stood at the start: what it is, without where."""
    return _shifted(member, -member.start)


def _shifted(member: Member, by: int) -> Member:
    return replace(member, start=member.start + by, members=tuple(_shifted(each, by) for each in member.members))


def _said(member: Member | None, otherwise: str) -> str:
    if member is None:
        return f"{otherwise} of the structure"
    return f"`{member.name}`" if member.name else f"the {_key(member).replace(' ', ' of `', 1)}`"
