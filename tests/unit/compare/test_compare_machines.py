# SPDX-License-Identifier: GPL-2.0-only
"""Objects of 32-bit arm (addends in the data, both byte orders, Thumb) and s390 (big endian), made by their assemblers.

arm64 has a file of its own, x86 the others.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.compare import elf
from harness.compare.elf import EM_ARM, EM_S390
from harness.compare.groups import plain
from harness.compare.machine import MACHINES
from harness.compare.objdiff import compare
from harness.compare.values import ObjectDelta
from harness.deadline import Deadline
from harness.proc import run


class Row(NamedTuple):
    """An assembler, what it makes, and how its instructions are called."""

    program: str
    flags: tuple[str, ...]
    machine: int
    wide: bool
    order: int
    code: str
    string: str
    table: str
    pointer: str


ARM = """
    .arch armv7-a
    .syntax unified
    {mode}
    .globl f
    .type f,%function
f:  movw r0, #:lower16:{{data}}
    movt r0, #:upper16:{{data}}
    bl {{call}}
    cmp r0, #5
    b{{condition}} 1f
    bx lr
1:  nop
    .size f, . - f
"""
ARM_TABLE = ".word 1b, .Lfile\n.hword {line}, {flags}"
ARM_STRING = "movw r0, #:lower16:{0}\nmovt r0, #:upper16:{0}\n"
S390 = """
    .globl f
    .type f,@function
f:  larl %r1,{data}
    brasl %r14,{call}
    chi %r2,5
    j{condition} 1f
    br %r14
1:  mc 0,0
    .size f, . - f
"""
S390_TABLE = "2: .long 1b - .\n.long .Lfile - .\n.short {line}, {flags}\n.org 2b + 12"
ROWS = {
    **{f"arm{end}{mode[1:]}": Row("arm-linux-gnueabi-as", (end,), EM_ARM, False, 2 if end == "-EB" else 1,
                                  ARM.format(mode=mode), ARM_STRING, ARM_TABLE, ".word")
       for end in ("-EL", "-EB") for mode in (".arm", ".thumb")},
    "s390x": Row("s390x-linux-gnu-as", ("-m64",), EM_S390, True, 2, S390, "larl %r2,{0}\n", S390_TABLE, ".quad"),
}
REST = """
    .section __bug_table,"aw"
    .balign 4
    {table}
    .section __dyndbg,"aw"
    .balign 8
    .type d.1,%object
d.1: {pointer} .Lfile, .Lfile, .Lfile, .Lfile
    .long {word}
    .balign 8
    .size d.1, . - d.1
    .data
    .balign 8
    .type v,%object
v:  {pointer} w
    .size v, . - v
    .type w,%object
w:  {pointer} {pointed}
    .size w, . - w
    .section .rodata.str1.1,"aMS",%progbits,1
.Lfile: .asciz "net/core/skbuff.c"
"""
PLAIN = {"data": "v", "call": "g", "condition": {EM_ARM: "gt", EM_S390: "h"}, "line": 10, "flags": 1, "word": 0,
         "pointed": "v"}

Differ = Callable[[str, str], ObjectDelta]


@pytest.fixture(params=ROWS)
def row(request: pytest.FixtureRequest) -> Row:
    return ROWS[request.param]


def assembled(folder: Path, source: str, row: Row) -> Path:
    folder.mkdir(parents=True)
    # an @ begins a comment for arm, and a % a register for s390
    types = r"%(progbits|object|function)"
    (folder / "x.s").write_text(source if row.machine == EM_ARM else re.sub(types, r"@\1", source))
    run([row.program, *row.flags, "x.s", "-o", "x.o"], cwd=folder, deadline=Deadline.after(60))
    return folder / "x.o"


@pytest.fixture
def differ(row: Row, tmp_path: Path) -> Differ:
    count = itertools.count()

    def diff(base: str, patched: str) -> ObjectDelta:
        sides = [assembled(tmp_path / str(next(count)), text, row) for text in (base, patched)]
        (delta,), (back,) = compare(*sides).deltas, compare(*reversed(sides)).deltas
        assert (delta.status, delta.rules) == (back.status, back.rules)
        return delta

    return diff


def source(row: Row, **changed: object) -> str:
    values = {**PLAIN, "condition": PLAIN["condition"][row.machine], **changed}  # type: ignore[index]
    table = row.table.format(**values)
    return ".text\n" + row.code.format(**values) + REST.format(table=table, pointer=row.pointer, **values)


def test_it_is_what_the_row_is_for(row: Row, tmp_path: Path) -> None:
    parsed = elf.read(assembled(tmp_path / "a", source(row), row))
    assert (parsed.machine, parsed.layout.wide, parsed.header[1]) == (row.machine, row.wide, row.order)
    assert MACHINES[row.machine].folds


@pytest.mark.parametrize(("change", "where"), [
    ({"data": "w"}, "f (.text)"),
    ({"call": "h"}, "f (.text): reference g -> h"),
    ({"call": "f"}, "f (.text)"),
    ({"condition": {EM_ARM: "ge", EM_S390: "he"}}, "f (.text): bytes"),
    ({"flags": 3}, "f (__bug_table): bytes 1 entry -> 1 entry"),
    ({"line": 11, "flags": 3}, "f (__bug_table): bytes 1 entry -> 1 entry"),
    ({"pointed": "w"}, "w (.data): reference v -> w"),
    ({"pointed": "v + 1"}, "w (.data): reference v -> v+0x1"),
    ({"pointed": "g"}, "w (.data): reference v -> g"),
], ids=["datum", "call", "own call", "condition", "flags", "line and flags", "pointer", "offset", "global"])
def test_a_change_is_seen_and_named(differ: Differ, row: Row, change: dict[str, object], where: str) -> None:
    change = {name: value[row.machine] if isinstance(value, dict) else value for name, value in change.items()}
    delta = differ(source(row), source(row, **change))
    assert delta.status == "changed"
    said = [f"{found.symbol} ({found.section}): {plain(found)}" for found in delta.changes]
    assert any(line.startswith(where) for line in said), said


def test_lines_of_both_tables_are_explained(differ: Differ, row: Row) -> None:
    assert differ(source(row), source(row, line=300)).rules == ("bug-table-line",)
    # of 18 bits, the lowest ones of the word in one byte order and the highest ones in the other
    low, high = differ(source(row, word=7), source(row, word=8)), differ(source(row, word=1 << 20),
                                                                         source(row, word=1 << 21))
    assert [low.status, high.status] == (["explained", "changed"] if row.order == 1 else ["changed", "explained"])
    assert {*low.rules, *high.rules} == {"dyndbg-line"}


TWO = '.LC0: .asciz "AAAA"\n', '.LC1: .asciz "BBBB"\n'


def pool(row: Row, *strings: str, first: str = ".LC0", second: str = ".LC1") -> str:
    """A function that names a string, a datum that names another, and their pool."""
    mode = "\n".join(row.code.splitlines()[1:4]) if row.machine == EM_ARM else ""
    return (f".text\n{mode}\n.globl f\n.type f,%function\nf:\n{row.string.format(first)}.size f, . - f\n"
            f".data\n.type p,%object\np: {row.pointer} {second}\n.size p, . - p\n"
            '.section .rodata.str1.1,"aMS",%progbits,1\n.asciz "xxxx"\n' + "".join(strings))


def test_the_order_of_strings_is_explained_and_no_other_string_is(differ: Differ, row: Row) -> None:
    base = pool(row, *TWO)
    assert differ(base, pool(row, *reversed(TWO))).rules == ("string-pool-order",)
    # the code names what stands at the same place, and it is another string: the set of strings is the same
    assert differ(base, pool(row, *reversed(TWO), first=".LC1")).status == "changed"
    assert differ(base, pool(row, *reversed(TWO), second=".LC0")).status == "changed"
    assert differ(base, pool(row, *reversed(TWO), first=".LC1", second=".LC0")).status == "changed"
    assert differ(base, pool(row, TWO[0], TWO[1].replace("B", "C"))).status == "changed"
    # two strings that end alike
    ends = tuple(text.replace("AAAA", "A-xx").replace("BBBB", "B-xx") for text in TWO)
    assert differ(pool(row, *ends), pool(row, *reversed(ends), first=".LC1", second=".LC0")).status == "changed"
