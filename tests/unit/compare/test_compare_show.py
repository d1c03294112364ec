# SPDX-License-Identifier: GPL-2.0-only
"""Functions side by side: `--show`, in every object that has it, with source lines where there is debug info."""

from __future__ import annotations

from pathlib import Path

import pytest
from compare_kit import Compile, compile_into

from harness.compare.disasm import Insn
from harness.compare.objdiff import compare
from harness.compare.opened import Opened
from harness.compare.sidebyside import Row, hunks, rows
from harness.compare.srclines import NO_DEBUG_INFO, UNREADABLE
from harness.errors import UsageError
from harness.report.objdiff_text import show

SOURCE = """
int g(int), h(int);
int other(int x) {{ return x; }}
int f(int x)
{{
    if (x > 5)
        return {}(x) + 1;
    return {};
}}
"""
COLD = """__attribute__((section(".text.unlikely"))) int f(int x) {{ return x * 3 + {}; }}
int e(int x) {{ return x * 9; }}
"""


@pytest.fixture
def opened(cc: Compile) -> Opened:
    return Opened(compare(cc(SOURCE.format("g", 2)), cc(SOURCE.format("h", 3))))


def test_both_sides_stand_beside_each_other(opened: Opened) -> None:
    lines = show(opened, "f", 80)
    assert lines[0].startswith("x.o: f (.text), ")
    assert lines[1] == NO_DEBUG_INFO
    (call,) = [line for line in lines if "call g" in line]
    left, right = call[:38], call[38:]
    assert left.endswith("call g" + " " * (38 - len(left.rstrip())))
    assert right.startswith(" |")
    assert right.endswith("call h")
    assert all(len(line) <= 80 for line in lines)
    assert len([line for line in lines if line[39:40] == "|"]) == 2


def test_a_wider_terminal_is_used(opened: Opened) -> None:
    (call,) = [line for line in show(opened, "f", 140) if "call g" in line]
    assert call[69] == "|"


@pytest.mark.parametrize("flags", [("-g",), ("-gdwarf-4",), ("-m32", "-g"), ("-g", "-ffunction-sections")])
def test_source_lines_stand_in_between(cc: Compile, flags: tuple[str, ...]) -> None:
    found = show(Opened(compare(cc(SOURCE.format("g", 2), *flags), cc("\n" + SOURCE.format("h", 3), *flags))), "f", 140)
    heads = [line for line in found if line.startswith("; ")]
    assert any("x.c:7" in line[:68] and "x.c:8" in line[68:] for line in heads)
    # `other` stands on line 3 and is another function
    assert not any("x.c:3" in line for line in found)


def test_source_lines_of_two_sections_do_not_mix(cc: Compile) -> None:
    found = show(Opened(compare(cc(COLD.format(1), "-g"), cc(COLD.format(2), "-g"))), "f", 100)
    assert any("x.c:1" in line for line in found)
    assert not any("x.c:2" in line for line in found)


def test_damaged_debug_info_is_said(cc: Compile) -> None:
    objects = []
    for value in (2, 3):
        path = cc(SOURCE.format("g", value), "-g")
        data = path.read_bytes()
        at = data.index(b"\x05\x00\x08\x00")
        path.write_bytes(data[:at] + b"\xff\xff" + data[at + 2:])
        objects.append(path)
    lines = show(Opened(compare(*objects)), "f", 80)
    assert UNREADABLE in lines or any("x.c" in line for line in lines)
    assert any("ret" in line for line in lines)


def test_one_object_can_be_asked_for(tmp_path: Path) -> None:
    for side, value in (("base", 1), ("patched", 2)):
        for folder in ("net/core", "net/ipv4"):
            compile_into(tmp_path / side / folder, f"int f(int x) {{ return x * 3 + {value}; }}", name="same")
    opened = Opened(compare(tmp_path / "base", tmp_path / "patched"))

    def heads(query: str) -> list[str]:
        return [line.partition(":")[0] for line in show(opened, query, 80) if "(.text)" in line]

    assert heads("f") == ["net/core/same.o", "net/ipv4/same.o"]
    assert heads("net/ipv4/same.o:f") == heads("ipv4/same.o:f") == ["net/ipv4/same.o"]
    with pytest.raises(UsageError):
        heads("v4/same.o:f")


def test_an_equal_function_can_be_shown(opened: Opened) -> None:
    assert show(opened, "other", 80)[0].endswith("equal")


def test_a_function_of_one_side_is_shown_alone(cc: Compile) -> None:
    source = "int e(int x) { return x * 9; }\n"
    opened = Opened(compare(cc(source), cc(source + "int f(int x) { return x * 5; }")))
    lines = show(opened, "f", 80)
    assert lines[0].startswith("x.o: f (.text), none -> ")
    assert all(line[39:40] == ">" and not line[:39].strip() for line in lines[3:])
    assert len(lines) > 4


def test_a_function_in_another_section_is_shown_twice(cc: Compile) -> None:
    source = "int e(int x) { return x * 9; } int f(int x) { return x * 5; }"
    moved = source.replace("int f", '__attribute__((section(".init.text"))) int f')
    heads = [line for line in show(Opened(compare(cc(source), cc(moved))), "f", 80) if line.startswith("x.o")]
    assert [head.split(",")[0] for head in heads] == ["x.o: f (.text)", "x.o: f (.init.text)"]


def test_suffixes_of_gcc_may_be_left_out(cc: Compile) -> None:
    source = ".type f.constprop.0,@function\nf.constprop.0: mov ${},%eax\nret\n.size f.constprop.0,.-f.constprop.0\n"
    opened = Opened(compare(cc(source.format(1), asm=True), cc(source.format(2), asm=True)))
    assert show(opened, "f", 80) == show(opened, "f.constprop.0", 80)


def test_data_can_be_shown(cc: Compile) -> None:
    source = "int a(int), b(int); int (*ops[])(int) = {{ a, {}, 0 }};"
    lines = show(Opened(compare(cc(source.format("a")), cc(source.format("b")))), "ops", 80)
    assert [line.split() for line in lines[3:]] == [["0", "a", "0", "a"], ["8", "a", "|", "8", "b"],
                                                    ["10", "0x0", "10", "0x0"]]


def test_an_unknown_function_names_close_ones(cc: Compile) -> None:
    source = "int skb_clone_sk(int x) {{ return x + {}; }}"
    opened = Opened(compare(cc(source.format(1)), cc(source.format(2))))
    with pytest.raises(UsageError) as error:
        show(opened, "skb_clone_ks", 80)
    assert "did you mean skb_clone_sk?" in str(error.value)
    with pytest.raises(UsageError, match="no object") as error:
        show(opened, "zzz\033[2J", 80)
    assert "\033" not in str(error.value)


def test_branches_are_equal_by_where_they_go() -> None:
    base = [Insn(0, 2, "je", "+0x3", inner=3), Insn(2, 1, "nop", ""), Insn(3, 1, "ret", "")]
    longer = [Insn(0, 2, "je", "+0x4", inner=4), Insn(2, 2, "nop", ""), Insn(4, 1, "ret", "")]
    assert [row.mark for row in rows(base, longer)] == [" ", " ", " "]
    elsewhere = [Insn(0, 2, "je", "+0x2", inner=2), *longer[1:]]
    assert [row.mark for row in rows(base, elsewhere)] == ["|", " ", " "]


def test_a_row_that_was_put_in_shifts_the_rest() -> None:
    base = [Insn(0, 1, "push", "a"), Insn(1, 1, "ret", "")]
    more = [Insn(0, 1, "push", "a"), Insn(1, 1, "nop", ""), Insn(2, 1, "ret", "")]
    assert [row.mark for row in rows(base, more)] == [" ", ">", " "]
    assert [row.mark for row in rows(more, base)] == [" ", "<", " "]


def test_hunks_keep_some_rows_around() -> None:
    found = [Row("|" if at in (10, 30) else " ", None, None) for at in range(40)]
    assert [len(part) for part in hunks(found, 3)] == [7, 7]
    assert hunks([Row(" ", None, None)]) == []


def test_a_hostile_function_does_not_cost_minutes() -> None:
    left = [Insn(at, 1, "nop", str(at * 7 % 2)) for at in range(20_000)]
    right = [Insn(at, 1, "nop", str(at * 5 % 3)) for at in range(20_000)]
    assert len(rows(left, right)) == 20_000
