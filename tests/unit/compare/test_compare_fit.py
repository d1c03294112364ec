# SPDX-License-Identifier: GPL-2.0-only
"""Whether a new member fills a hole: by hand, and against what gcc makes of the structure without it."""

from __future__ import annotations

import random

import pytest
from compare_kit import Compile

from harness.compare.dwarf_types import read_layout, read_layouts
from harness.compare.fit import Answer, fills_hole
from harness.compare.layout import Layout

YES, NO, UNKNOWN = Answer.YES, Answer.NO, Answer.UNKNOWN

CASES = (
    ("a hole", "char p; long n;", "char p; char m; long n;", YES, "fills a hole at 1"),
    ("all of a hole", "char p; int n;", "char p; char m[3]; int n;", YES, "fills a hole at 1"),
    ("behind something that went", "void *sp; char p; long n;", "char p; char m; long n;", YES, "at 1 (9 in base)"),
    ("padding at the end", "long a; char p;", "long a; char p; int m;", YES, "fills a hole at 12"),
    ("bits in a hole", "char p:3; char q; int n;", "char p:3; char m:2; char q; int n;", YES, "fills a hole at 0:3"),
    ("two in one hole", "short p; long n;", "short p; char o; char m; long n;", YES, "fills a hole at 3"),
    ("in an anonymous structure", "union { struct { char p; int n; }; long w; };",
     "union { struct { char p; char m; int n; }; long w; };", YES, "fills a hole at 1"),
    ("moved into a hole", "char p; long n; int m; int z;", "char p; int m; long n; int z;", YES, "fills a hole at 4"),
    ("before an anonymous union", "char p; union { long a; long b; };", "char p; char m; union { long a; long b; };",
     YES, "fills a hole at 1"),
    ("no hole there", "long p; long n;", "long p; long m; long n;", NO, "base has none between `p` and `n`"),
    ("at the end without padding", "long p;", "long p; char m;", NO, "none between `p` and the end"),
    ("the aligned part of a hole", "int a; char p; int n;", "int a; char p; short m; int n; ", YES, "at 6"),
    ("too large", "char p; int n;", "char p; int m; int n;", NO, "3 bytes free between `p` and `n`, too few"),
    ("the last byte of a hole", "char p; char h[2]; int n;", "char p; char h[2]; char m; int n;", YES, "at 3"),
    ("the last bits of a unit", "int p:30; int :0; short n;", "int p:30; int m:2; int :0; short n;", YES, "at 3:6"),
    ("a bit-field that raises the alignment", "char p; short n[2];", "char p; int m:5; short n[2];", UNKNOWN,
     "may be what gives the structure its alignment"),
    ("where base has it", "char p; char m; long n;", "char p; char m; long n;", NO, "base has `m` there"),
    ("in place of another", "char p; char gone; long n;", "char p; char m; long n;", NO, "base has `gone` there"),
    ("not there", "char p; long n;", "char p; long n;", NO, "is not in the patched structure"),
    ("beside something that goes", "char p; int gone; long n;", "char p; char m; long n;", UNKNOWN,
     "also removes or moves `gone`"),
    ("beside something that pushes", "char p; int n;", "char p; char m; int o; int n;", UNKNOWN, "also adds `o`"),
    ("in a union", "union { char p; long n; };", "union { char p; int m; long n; };", UNKNOWN, "lies in a union"),
    ("of no size", "char p; long n;", "char p; char m[0]; long n;", UNKNOWN, "takes no room"),
    ("in a new anonymous structure", "char p; long n;", "char p; struct { char m; char x; }; long n;", UNKNOWN,
     "base does not have"),
    ("among others in another order", "int a; char p; long n;", "long n; char m; int a; char p;", UNKNOWN,
     "another order"),
    ("before a neighbour that changes", "char p; long n;", "char p; char m[7]; char n[8];", UNKNOWN, "changes `n`"),
    ("at the end of one that loses its alignment", "long gone; char p;", "char p; char m[7];", UNKNOWN,
     "changes `gone`"),
    ("where only alignment makes room", "int x; char p; long n;", "char p; char m; long n;", UNKNOWN,
     "alignment may be the cause"),
)


def pair(cc: Compile, old: str, new: str) -> tuple[Layout, Layout]:
    found = [read_layout(cc(f"struct s {{ {body} }}; struct s *probe;", "-g").read_bytes(), "s", where="x.o")
             for body in (old, new)]
    assert isinstance(found[0], Layout)
    assert isinstance(found[1], Layout)
    return found[0], found[1]


@pytest.mark.parametrize(("old", "new", "answer", "why"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_by_hand(cc: Compile, old: str, new: str, answer: Answer, why: str) -> None:
    fit = fills_hole(*pair(cc, old, new), "m")
    assert (fit.answer, why in fit.why) == (answer, True), fit


TYPES = ("char", "short", "int", "long", "char:3", "int:5", "int:17", "long:33", "char[3]", "short[2]", "void *",
         "_Bool")
TRIALS = 1500


def declared(name: str, kind: str) -> str:
    base, colon, width = kind.partition(":")
    if colon:
        return f"{base} {name}:{width};"
    base, bracket, rest = kind.partition("[")
    return f"{base} {name}{bracket}{rest};"


def body(members: list[tuple[str, str]]) -> str:
    return " ".join(declared(*member) for member in members)


def trial(seed: int) -> tuple[str, str, str]:
    """Base, patched with a member `m` and some other changes, and patched without `m`."""
    chance = random.Random(seed)
    base = [(f"a{index}", chance.choice(TYPES)) for index in range(chance.randint(1, 6))]
    rest = list(base)
    for _ in range(chance.choice((0, 0, 1, 2))):
        where = chance.randrange(len(rest) + 1)
        if chance.random() < 0.5 and len(rest) > 1:
            rest.pop(where % len(rest))
        elif chance.random() < 0.6:
            rest.insert(where, (f"b{where}{len(rest)}", chance.choice(TYPES)))
        else:
            rest[where % len(rest)] = (rest[where % len(rest)][0], chance.choice(TYPES))
    where = chance.randrange(len(rest) + 1)
    return body(base), body([*rest[:where], ("m", chance.choice(TYPES)), *rest[where:]]), body(rest)


def test_against_what_gcc_makes_of_it_without_the_member(cc: Compile) -> None:
    """Yes means that without it the size, and all members that base has, too, would be as they are."""
    bodies = {f"{kind}{seed}": text for seed in range(TRIALS)
              for kind, text in zip(("base", "with", "without"), trial(seed), strict=True)}
    text = "".join(f"struct {name} {{ {members} }} *p{name};\n" for name, members in bodies.items())
    data = cc(text, "-g").read_bytes()
    found = dict(zip(bodies, read_layouts(data, tuple(bodies), where="x.o"), strict=True))
    counts = dict.fromkeys(Answer, 0)
    for seed in range(TRIALS):
        base, now, without = (found[f"{kind}{seed}"] for kind in ("base", "with", "without"))
        assert isinstance(base, Layout)
        assert isinstance(now, Layout)
        assert isinstance(without, Layout)
        fit = fills_hole(base, now, "m")
        counts[fit.answer] += 1
        old = {member.name for member in base.members}
        free = without.size == now.size and {member for member in without.members if member.name in old} == {
            member for member in now.members if member.name in old}
        assert fit.answer is not YES or free, (trial(seed), fit)
    assert all(count >= TRIALS // 20 for count in counts.values()), counts
