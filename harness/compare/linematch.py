# SPDX-License-Identifier: GPL-2.0-only
"""Pairs the lines of a changed text with those of the old one, moved blocks included.

Pure. Common head and tail first, then lines that both texts have once (patience), then what is left between them;
at last, lines that one side lost and the other gained: a block that moved. Whether lines are paired well decides how
much can be proved, never whether a proof is right.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

_SMALL = 2_000_000
"""Products of lengths up to which difflib is quick."""


def match(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """Index in `new` to index in `old`, of equal lines; each line of `old` at most once."""
    found: dict[int, int] = {}
    pending = [(0, len(old), 0, len(new))]
    while pending:
        a, a_end, b, b_end = pending.pop()
        while a < a_end and b < b_end and old[a] == new[b]:
            found[b] = a
            a, b = a + 1, b + 1
        while a < a_end and b < b_end and old[a_end - 1] == new[b_end - 1]:
            a_end, b_end = a_end - 1, b_end - 1
            found[b_end] = a_end
        if a == a_end or b == b_end:
            continue
        anchors = _anchors(old, new, range(a, a_end), range(b, b_end))
        for x, y in anchors:
            pending.append((a, x, b, y))
            a, b = x, y
        if anchors:
            pending.append((a, a_end, b, b_end))
        elif (a_end - a) * (b_end - b) <= _SMALL:
            blocks = SequenceMatcher(None, old[a:a_end], new[b:b_end], autojunk=False).get_matching_blocks()
            found.update((b + block.b + i, a + block.a + i) for block in blocks for i in range(block.size))
    _moved(old, new, found)
    return found


def _anchors(old: Sequence[str], new: Sequence[str], a: range, b: range) -> list[tuple[int, int]]:
    """Lines that stand exactly once in both ranges and in the same order: the longest such chain."""
    once_old, once_new = _once(old, a), _once(new, b)
    pairs = [(index, once_new[line]) for line, index in once_old.items() if line in once_new]
    tops: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for at, (_, y) in enumerate(pairs):
        place = bisect_left(tops, y)
        before.append(ends[place - 1] if place else -1)
        tops[place:place + 1] = [y]
        ends[place:place + 1] = [at]
    chain: list[tuple[int, int]] = []
    at = ends[-1] if ends else -1
    while at >= 0:
        chain.append(pairs[at])
        at = before[at]
    return chain[::-1]


def _once(lines: Sequence[str], where: Iterable[int]) -> dict[str, int]:
    """Lines that stand once among those at the given indices, in order, with their index."""
    indices = list(where)
    count = Counter(lines[index] for index in indices)
    return {lines[index]: index for index in indices if count[lines[index]] == 1}


def _moved(old: Sequence[str], new: Sequence[str], found: dict[int, int]) -> None:
    """Pair what is left where a line is unique on both sides, and its neighbours with it."""
    used = set(found.values())
    gained = _once(new, (index for index in range(len(new)) if index not in found))
    lost = _once(old, (index for index in range(len(old)) if index not in used))
    for line, b in gained.items():
        if line not in lost or not line.strip():
            continue
        for step in (1, -1):
            x, y = (lost[line], b) if step > 0 else (lost[line] - 1, b - 1)
            while 0 <= x < len(old) and 0 <= y < len(new) and old[x] == new[y] and x not in used and y not in found:
                found[y] = x
                used.add(x)
                x, y = x + step, y + step
