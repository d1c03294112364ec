# SPDX-License-Identifier: GPL-2.0-only
"""Two functions (or data) beside each other, row by row. Pure."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING, NamedTuple

from harness.compare import disasm
from harness.compare.content import within
from harness.compare.disasm import Insn
from harness.compare.elf import SHF_EXECINSTR, byte_order
from harness.compare.naming import target_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.compare.content import Content
    from harness.compare.naming import Unit

_CAREFUL, _QUICK = 250_000, 10_000_000
"""Products of two lengths (without their equal ends) up to which the best alignment is looked for, and up to which one
is looked for in which nothing frequent is an anchor. Beyond it, rows stand as they come: a hostile function must not
cost minutes, and the longest of a kernel stay below."""


class Row(NamedTuple):
    """One row: ` ` equal, `|` different, `<` on the base side only, `>` on the patched side only."""

    mark: str
    base: Insn | None
    patched: Insn | None


def insns(side: Content, unit: Unit) -> tuple[Insn, ...]:
    """The instructions of a function; words for data; bytes where instructions cannot be told."""
    decoded = disasm.decode(side, unit)
    if decoded is not None:
        return decoded
    data = side.data[unit.start:unit.end]
    named = {r.offset - unit.start: target_name(side.names, r, 0) for r in within(side, unit)}
    width = 8
    if side.section.flags & SHF_EXECINSTR:
        return tuple(Insn(at, width, "bytes", data[at:at + width].hex(" ") + "".join(
            f" <{name}>" for place, name in named.items() if at <= place < at + width))
            for at in range(0, len(data), width))
    width = 8 if side.names.model.elf.layout.wide and len(data) % 8 == 0 else 4 if len(data) % 4 == 0 else 1
    order = byte_order(side.names.model.elf)
    return tuple(Insn(at, width, "", named.get(at) or f"{int.from_bytes(data[at:at + width], order):#x}" + "".join(
        f" <{name}>" for place, name in named.items() if at < place < at + width))
        for at in range(0, len(data), width))


def rows(base: Sequence[Insn], patched: Sequence[Insn]) -> list[Row]:
    """The rows of both, aligned where they do the same; a branch within the function that goes to another row is
    different though its text may be equal, and equal though the offsets have changed."""
    words = [insn.word for insn in base], [insn.word for insn in patched]
    shorter = min(map(len, words))
    head = next((i for i in range(shorter) if words[0][i] != words[1][i]), shorter)
    tail = next((i for i in range(shorter - head) if words[0][-1 - i] != words[1][-1 - i]), shorter - head)
    ends = len(base) - tail, len(patched) - tail
    found = [Row(" ", x, y) for x, y in zip(base[:head], patched[:head], strict=True)]
    for i, i_end, j, j_end, same in _blocks(words[0][head:ends[0]], words[1][head:ends[1]]):
        left, right = base[head + i:head + i_end], patched[head + j:head + j_end]
        common = min(len(left), len(right))
        found += [Row(" " if same else "|", x, y) for x, y in zip(left[:common], right[:common], strict=True)]
        found += [Row("<", x, None) for x in left[common:]]
        found += [Row(">", None, y) for y in right[common:]]
    found += [Row(" ", x, y) for x, y in zip(base[ends[0]:], patched[ends[1]:], strict=True)]
    places = _places(found)
    return [row._replace(mark="|") if row.mark == " " and _diverges(row, *places) else row for row in found]


def _blocks(left: Sequence[object], right: Sequence[object]) -> Iterator[tuple[int, int, int, int, bool]]:
    """Stretches of both sides that stand beside each other, and whether they are equal."""
    work = len(left) * len(right)
    if work > _QUICK:
        yield 0, len(left), 0, len(right), False
        return
    for tag, i, i_end, j, j_end in SequenceMatcher(None, left, right, autojunk=work > _CAREFUL).get_opcodes():
        yield i, i_end, j, j_end, tag == "equal"


def _places(found: Sequence[Row]) -> tuple[Mapping[int, int], Mapping[int, int]]:
    """Offset to row number, for each side."""
    return ({row.base.offset: number for number, row in enumerate(found) if row.base},
            {row.patched.offset: number for number, row in enumerate(found) if row.patched})


def _diverges(row: Row, base: Mapping[int, int], patched: Mapping[int, int]) -> bool:
    """Whether a branch leads to different rows; those next to each other in a changed stretch count as one."""
    a, b = row.base, row.patched
    if a is None or b is None or a.inner is None or b.inner is None:
        return False
    return base.get(a.inner) != patched.get(b.inner)


def hunks(found: Sequence[Row], context: int = 4) -> list[list[Row]]:
    """The differing rows with `context` equal ones around them."""
    keep: list[bool] = [False] * len(found)
    for number, row in enumerate(found):
        if row.mark != " ":
            for near in range(max(0, number - context), min(len(found), number + context + 1)):
                keep[near] = True
    result: list[list[Row]] = []
    for number, row in enumerate(found):
        if keep[number]:
            if not number or not keep[number - 1]:
                result.append([])
            result[-1].append(row)
    return result
