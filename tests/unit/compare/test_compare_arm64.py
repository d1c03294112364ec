# SPDX-License-Identifier: GPL-2.0-only
"""Objects of another machine, in both byte orders: real ones, made by its assembler."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.compare import elf, symtab
from harness.compare.elf import EM_AARCH64
from harness.compare.groups import plain
from harness.compare.objdiff import compare
from harness.compare.values import Change, ObjectDelta
from harness.deadline import Deadline
from harness.proc import run

Arm = Callable[..., ObjectDelta]


def assembled(folder: Path, source: str, *flags: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "x.s").write_text(source)
    run(["aarch64-linux-gnu-as", *flags, "x.s", "-o", "x.o"], cwd=folder, deadline=Deadline.after(60))
    return folder / "x.o"


@pytest.fixture(params=["-EL", "-EB"])
def arm(request: pytest.FixtureRequest, tmp_path: Path) -> Arm:
    count = itertools.count()

    def differ(base: str, patched: str) -> ObjectDelta:
        sides = [assembled(tmp_path / str(next(count)), text, request.param) for text in (base, patched)]
        (delta,), (back,) = compare(*sides).deltas, compare(*reversed(sides)).deltas
        assert (delta.status, delta.rules) == (back.status, back.rules)
        return delta

    return differ


CODE = """
    .text
    .globl f
    .type f,%function
f:  adrp x0, {data}
    add x0, x0, :lo12:{data}
    bl {call}
    cmp w0, #5
    b.{condition} 1f
    ret
1:  brk #0x800
    ret
    .size f, . - f
    .pushsection __bug_table,"aw"
2:  .long 1b - .
    .long .Lfile - .
    .hword {line}
    .hword {flags}
    .popsection
    .pushsection __dyndbg,"aw"
    .balign 8
    .type d.1,%object
d.1: .quad .Lfile, .Lfile, .Lfile, .Lfile
    .word {word}
    .balign 8
    .size d.1, . - d.1
    .popsection
    .data
    .balign 8
    .type v,%object
v:  .quad 1
    .size v, 8
    .type w,%object
w:  .quad 2
    .size w, 8
    .section .rodata.str1.8,"aMS",%progbits,1
    .balign 8
.Lfile: .asciz "net/core/skbuff.c"
"""
PLAIN = {"data": "v", "call": "g", "condition": "gt", "line": 10, "flags": 1, "word": 0}


def code(**changed: object) -> str:
    return CODE.format(**{**PLAIN, **changed})


@pytest.mark.parametrize(("change", "said"), [
    ({"data": "w"}, "f (.text): reference v -> w"),
    ({"call": "h"}, "f (.text): reference g -> h"),
    ({"flags": 3}, "f (__bug_table): bytes 1 entry -> 1 entry"),
    ({"condition": "ge"}, "f (.text): bytes 4c 00 00 54"),
    ({"line": 11, "flags": 3}, "f (__bug_table): bytes 1 entry -> 1 entry"),
])
def test_a_change_is_seen_and_named(arm: Arm, change: dict[str, object], said: str) -> None:
    delta = arm(code(), code(**change))
    assert delta.status == "changed"
    assert any(line.startswith(said) for line in map(words, delta.changes)), list(map(words, delta.changes))


def words(change: Change) -> str:
    place = f"{change.symbol} ({change.section})" if change.symbol else change.section
    return f"{place}: {plain(change)}"


def test_lines_of_both_tables_are_explained(arm: Arm) -> None:
    assert arm(code(), code(line=300)).rules == ("bug-table-line",)
    # of 18 bits, the lowest ones of the word in one byte order and the highest ones in the other
    low, high = arm(code(word=7), code(word=8)), arm(code(word=1 << 20), code(word=1 << 21))
    assert sorted((low.status, high.status)) == ["changed", "explained"]
    assert {*low.rules, *high.rules} == {"dyndbg-line"}
    assert arm(code(word=1 << 18), code(word=(1 << 18) + (1 << 31) + 1)).status == "changed"


def test_the_section_and_an_offset_are_a_symbol_but_not_through_the_got(arm: Arm) -> None:
    source = ".data\n.quad 0\nv: .quad 1\n.text\n.reloc ., {}, {}\nnop\n"
    for kind, status in (("R_AARCH64_ADR_PREL_PG_HI21", "explained"), ("R_AARCH64_ADR_GOT_PAGE", "changed")):
        assert arm(source.format(kind, "v"), source.format(kind, ".data+8")).status == status


@pytest.mark.parametrize(("flags", "klass", "order"), [
    (("-EL",), 2, 1), (("-EB",), 2, 2), (("-EL", "-mabi=ilp32"), 1, 1), (("-EB", "-mabi=ilp32"), 1, 2)])
def test_every_class_and_byte_order_of_a_real_assembler_is_read(
        tmp_path: Path, flags: tuple[str, ...], klass: int, order: int) -> None:
    source = ".data\n.globl v\n.type v,%object\nv: .word 1\n.size v,4\n.word g\n"
    parsed = elf.read(assembled(tmp_path / "a", source, *flags))
    assert (parsed.header[0], parsed.header[1], parsed.machine) == (klass, order, EM_AARCH64)
    symbols = symtab.symbols(parsed)
    assert [(s.value, s.size) for s in symbols if s.name == "v"] == [(0, 4)]
    table, = (s for s in parsed.sections if symtab.is_reloc_table(parsed, s))
    assert [(r.offset, symbols[r.symbol].name) for r in symtab.relocations(parsed, table, len(symbols))] == [(4, "g")]
