# SPDX-License-Identifier: GPL-2.0-only
"""Seeded changes to real objects: each must be seen, and named by symbol and section."""

from __future__ import annotations

import pytest
from compare_kit import Compile, Differ

from harness.compare.groups import plain
from harness.compare.objdiff import compare

TABLE = """
int a(int); int b(int);
int (*const ops[])(int) = { a, %s, a };
"""

CASES = {
    # name: (base, patched, kind, section, symbol)
    "immediate": ("int f(int x) { return x * 3 + 41; }", "int f(int x) { return x * 3 + 42; }",
                  "bytes", ".text", "f"),
    "comparison": ("int g(void); int f(int x) { if (x > 5) return g(); return 0; }",
                   "int g(void); int f(int x) { if (x >= 5) return g(); return 0; }", "bytes", ".text", "f"),
    "pointer swapped": (TABLE % "b", TABLE % "a", "relocation", ".rodata", "ops"),
    "call target": ("int g(void), h(void); int f(void) { return g() + 1; }",
                    "int g(void), h(void); int f(void) { return h() + 1; }", "relocation", ".text", "f"),
    "jump target": ("int g(void), h(void); int f(void) { return g(); }",
                    "int g(void), h(void); int f(void) { return h(); }", "relocation", ".text", "f"),
    "rodata": ("const int t[] = {1, 2, 3};", "const int t[] = {1, 2, 4};", "bytes", ".rodata", "t"),
    "data": ("int t[] = {1, 2, 3};", "int t[] = {1, 2, 4};", "bytes", ".data", "t"),
    "static renamed": ("static int v; int *f(void) { return &v; }", "static int w; int *f(void) { return &w; }",
                       "symbol", ".bss", "v"),
    "static function renamed": (
        "__attribute__((noinline)) static int one(int x) { return x * x; } int f(int x) { return one(x) + 1; }",
        "__attribute__((noinline)) static int two(int x) { return x * x; } int f(int x) { return two(x) + 1; }",
        "symbol", ".text", "one"),
    "binding": ("int v = 1;", "static int v __attribute__((used)) = 1;", "symbol", ".data", "v"),
    "weak": ("int f(void) { return 1; }", "__attribute__((weak)) int f(void) { return 1; }", "symbol", ".text", "f"),
    "visibility": ("int v = 1;", "__attribute__((visibility(\"hidden\"))) int v = 1;", "symbol", ".data", "v"),
    "alignment": ("int v = 1;", "int v __attribute__((aligned(64))) = 1;", "section", ".data", None),
    "bss size": ("char v[64];", "char v[128];", "section", ".bss", None),
    "section": ("int f(void) { return 1; }", "__attribute__((section(\".init.text\"))) int f(void) { return 1; }",
                "section", ".init.text", None),
    "string": ("const char *f(void) { return \"one\"; }", "const char *f(void) { return \"two\"; }",
               "relocation", ".text", "f"),
    "new global": ("int v = 1;", "int v = 1; int w = 2;", "symbol", ".data", "w"),
    "volatile dropped": ("volatile int v; int f(void) { return v - v; }", "int v; int f(void) { return v - v; }",
                         "size", ".text", "f"),
    "addend": ("extern char t[]; char *f(void) { return t + 8; }", "extern char t[]; char *f(void) { return t + 9; }",
               "relocation", ".text", "f"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_seeded_change_is_seen_and_named(differ: Differ, name: str) -> None:
    base, patched, kind, section, symbol = CASES[name]
    delta = differ(base, patched)
    assert delta.status == "changed"
    assert (kind, section, symbol) in [(c.kind, c.section, c.symbol) for c in delta.changes]
    assert all(plain(change).isprintable() for change in delta.changes)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("flags", [("-m32", "-fno-pie"), ("-g",), ("-ffunction-sections", "-fdata-sections")])
def test_a_seeded_change_is_seen_in_other_kinds_of_objects(differ: Differ, name: str, flags: tuple[str, ...]) -> None:
    assert differ(CASES[name][0], CASES[name][1], *flags).status == "changed"


def test_the_pointer_that_was_swapped_is_said(differ: Differ) -> None:
    delta = differ(TABLE % "b", TABLE % "a")
    assert plain(delta.changes[0]) == "reference b -> a"


def test_a_swapped_static_target_is_seen_through_section_symbols(differ: Differ) -> None:
    source = """
    __attribute__((noinline, section(".a"))) static int one(int x) {{ return x + 1; }}
    __attribute__((noinline, section(".a"))) static int two(int x) {{ return x + 2; }}
    int (*const keep[])(int) = {{ one, two }};
    int (*const ops[])(int) = {{ {} }};
    """
    delta = differ(source.format("one, two"), source.format("two, one"))
    assert ("relocation", "ops") in [(c.kind, c.symbol) for c in delta.changes]
    assert "one -> two" in plain(delta.changes[0])


def test_a_function_that_only_moved_is_not_blamed(differ: Differ) -> None:
    first = "int f(int x) { return x * 3; }"
    longer = "int f(int x) { return x * 3 + (x >> 7) * 1234567; }"
    rest = "int g(void); int h(int x) { return g() + x; }"
    delta = differ(first + rest, longer + rest)
    assert {c.symbol for c in delta.changes if c.kind in ("size", "bytes", "relocation")} == {"f"}


@pytest.mark.parametrize(("base", "patched"), [
    ('.section foo,"a"\n.long 1', '.section foo,"aw"\n.long 1'),
    ('.section foo,"a",@progbits\n.long 0', '.section foo,"a",@nobits\n.skip 4'),
    ('.section .discard.x,""\n.long 1', '.section .discard.x,""\n.long 2'),
    (".section .modinfo,\"a\"\n.asciz \"a=1\"", ".section .modinfo,\"a\"\n.asciz \"a=2\""),
    (".globl f\n.type f,@function\nf: nop", ".globl f\nf: nop"),
    (".globl f\nf: nop\n.size f,1", ".globl f\nf: nop\n.size f,0"),
    ('.section foo,"aM",@progbits,4\n.long 1', '.section foo,"aM",@progbits,2\n.long 1'),
    ('.section a,"a"\n.long 1\n.section b,"a"\n.long 1', '.section b,"a"\n.long 1\n.section a,"a"\n.long 1'),
    (".long foo", ".reloc ., R_X86_64_PC32, foo\n.long 0"),
    (".comm v,4,4", ".comm v,8,4"),
    (".set v,1\n.globl v", ".set v,2\n.globl v"),
    ('.ident "gcc 1"', '.ident "gcc 2"'),
    ('.section t,"awT"\nv: .long 0\nw: .long 0\n.text\n.long v@tpoff',
     '.section t,"awT"\nv: .long 0\nw: .long 0\n.text\n.long w@tpoff'),
    ('.section g,"aG",@progbits,sig,comdat\n.long 1', '.section g,"aG",@progbits,other,comdat\n.long 1'),
    ('.section t,"a"\n.long 1\n.section l,"ao",@progbits,t\n.long 1',
     '.section t,"a"\n.long 1\n.section l,"ao",@progbits,.text\n.long 1'),
    ('.file "a.c"\nnop', '.file "b.c"\nnop'),
    ('.section ABS,"aw"\n.globl f\nf: .long 1', '.section ABS,"aw"\n.long 1\n.globl f\nf = 0'),
    ('.section UND,"aw"\n.globl f\nf: .long 1\n.text\ncall f', '.section UND,"aw"\n.long 1\n.text\ncall f'),
    ('.section x,"a",@18\n.long 1', '.section x,"a",@18\n.long 2'),
])
def test_what_only_the_linker_sees_is_compared(differ: Differ, base: str, patched: str) -> None:
    assert differ(base + "\n", patched + "\n", asm=True).status == "changed"


def test_two_classes_differ(cc: Compile) -> None:
    source = "int v = 1;"
    (delta,) = compare(cc(source), cc(source, "-m32")).deltas
    assert "header" in {c.kind for c in delta.changes}


@pytest.mark.parametrize("flags", [(), ("-m32", "-fno-pie")])
def test_a_comment_changes_nothing(differ: Differ, flags: tuple[str, ...]) -> None:
    delta = differ("int f(int x) { return x; }", "/* said */\n\nint f(int x) { return x; }", *flags)
    assert (delta.status, delta.changes) == ("identical", ())


def test_names_cannot_reach_a_terminal(differ: Differ) -> None:
    base = '.globl "f\033[2J\\\\"\n"f\033[2J\\\\": .long 1\n.size "f\033[2J\\\\", 4\n'
    delta = differ(base, base.replace(".long 1", ".long 2"), asm=True)
    assert delta.changes[0].symbol is not None
    assert delta.changes[0].symbol.startswith("f\\x1b[2J")
    assert plain(delta.changes[0]).isprintable()
