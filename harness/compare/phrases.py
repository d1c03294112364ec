# SPDX-License-Identifier: GPL-2.0-only
"""Two instructions, or two stretches of data, to the few words that say how they differ. Pure.

A phrase says what is known from the bytes: `offset 0x80 -> 0x78 (%rdi)` and not which member that is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.compare.disasm import Insn

_MEMORY = re.compile(r"(%[fg]s:)?(-?(?:0x)?[0-9a-f]*)(\(.*\))")
SAME_NUMBER = "same number of instructions"
_LONGEST = 100
_CALLS = 3


def instruction(base: Insn, patched: Insn) -> str:
    """`call f -> g`, `jg -> jge`, `cmpl $1 -> $2`, `mov offset 0x80 -> 0x78 (%rdi)`; both in full where they differ
    in more than one thing."""
    if base.mnemonic != patched.mnemonic:
        same = base.operands == patched.operands or (base.inner is not None and patched.inner is not None)
        return f"{base.mnemonic} -> {patched.mnemonic}" if same else _cut(f"{base.text} -> {patched.text}")
    sides = _operands(base.operands), _operands(patched.operands)
    different = [(x, y) for x, y in zip(*sides, strict=False) if x != y]
    if len(sides[0]) != len(sides[1]) or len(different) != 1:
        return _cut(f"{base.text} -> {patched.text}")
    (x, y), = different
    memory = _MEMORY.fullmatch(x), _MEMORY.fullmatch(y)
    if memory[0] and memory[1] and memory[0].group(1, 3) == memory[1].group(1, 3):
        segment, place = memory[0].group(1) or "", memory[0].group(3)
        return f"{base.mnemonic} offset {memory[0][2] or '0'} -> {memory[1][2] or '0'} {segment}{place}"
    if x.startswith("%") or y.startswith("%"):
        # which register holds a value says little without the other operand
        return _cut(f"{base.text} -> {patched.operands}")
    return _cut(f"{base.mnemonic} {x} -> {y}")


def _operands(text: str) -> list[str]:
    """The operands of an instruction: split at commas outside of parentheses and strings."""
    found, depth, quoted, start = [], 0, False, 0
    for at, character in enumerate(text):
        if character == '"' and text[at - 1:at] != "\\":
            quoted = not quoted
        elif not quoted:
            depth += (character == "(") - (character == ")")
            if character == "," and depth == 0:
                found.append(text[start:at].strip())
                start = at + 1
    return [*found, text[start:].strip()] if text else []


def first_difference(base: Sequence[Insn], patched: Sequence[Insn]) -> tuple[int | None, int | None, str] | None:
    """(offset on each side, words) of the first place where two functions do something else; None where there is none.

    Where a branch within the function goes is looked at only when there is nothing else.
    """
    words = [insn.word for insn in base], [insn.word for insn in patched]
    head = next((i for i, (x, y) in enumerate(zip(*words, strict=False)) if x != y), min(map(len, words)))
    if head == len(base) == len(patched):
        pair = next(((x, y) for x, y in zip(base, patched, strict=True) if x.inner != y.inner), None)
        return (pair[0].offset, pair[1].offset, instruction(*pair)) if pair else None
    tail = 0
    while tail < min(map(len, words)) - head and words[0][-1 - tail] == words[1][-1 - tail]:
        tail += 1
    left, right = base[head:len(base) - tail], patched[head:len(patched) - tail]
    if not left:
        return None, right[0].offset, _cut(f"new: {_some(right)}")
    if not right:
        return left[0].offset, None, _cut(f"gone: {_some(left)}")
    return left[0].offset, right[0].offset, instruction(left[0], right[0])


def _some(insns: Sequence[Insn]) -> str:
    """What was put in or taken out: the first call if there is one, since that says most; else the first two."""
    call = next((insn for insn in insns if insn.mnemonic == "call"), None)
    shown = [call] if call else insns[:2]
    return "; ".join(insn.text for insn in shown)


def calls(base: Sequence[Insn], patched: Sequence[Insn]) -> list[str]:
    """What only one side calls by name: `no longer calls h`, `now calls g`. How often does not matter here."""
    sides = [{insn.operands for insn in side if insn.mnemonic == "call" and not insn.operands.startswith("*")}
             for side in (base, patched)]
    said = []
    for what, names in (("no longer calls", sides[0] - sides[1]), ("now calls", sides[1] - sides[0])):
        more = [f"{len(names) - _CALLS} more"] if len(names) > _CALLS else []
        said += [f"{what} {', '.join([*sorted(names)[:_CALLS], *more])}"] if names else []
    return said


def instructions(difference: int) -> str:
    """`+12 instructions`."""
    if not difference:
        return SAME_NUMBER
    return f"{difference:+d} instruction{'' if abs(difference) == 1 else 's'}"


def text_of(data: bytes) -> str | None:
    """`"text"` where the bytes are one printable string with its end (and padding); None otherwise."""
    text = data.rstrip(b"\0")
    if len(text) < 2 or len(text) == len(data) or not re.fullmatch(rb"[\t\n\x20-\x7e]+", text):
        return None
    shown = text.decode("ascii").replace("\n", "\\n").replace("\t", "\\t")
    return f'"{shown[:60]}"' + ("..." if len(shown) > 60 else "")


def words(base: bytes, patched: bytes, at: int, order: str) -> tuple[int, str]:
    """(offset, `0x3 -> 0x4`) of the word around the first differing byte: of 8, 4, 2 bytes, or one.

    The width is that of the datum where it is a word itself, otherwise 4 where that divides its size.
    """
    size = len(base)
    width = size if size in (1, 2, 4, 8) else next(w for w in (4, 2, 1) if size % w == 0)
    start = at - at % width
    little = order == "little"
    values = [int.from_bytes(side[start:start + width], "little" if little else "big") for side in (base, patched)]
    return start, f"{values[0]:#x} -> {values[1]:#x}"


def raw(base: bytes, patched: bytes, at: int) -> str:
    """`bytes 01 c3 -> 02 c3`: for what cannot be told any better."""
    return f"bytes {base[at:at + 8].hex(' ') or 'none'} -> {patched[at:at + 8].hex(' ') or 'none'}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST - 3]}..."


def sides(base: str | None, patched: str | None) -> str:
    """`a -> b`, `new: b`, `gone: a`."""
    if base is None:
        return f"new: {patched}"
    return f"gone: {base}" if patched is None else f"{base} -> {patched}"
