# SPDX-License-Identifier: GPL-2.0-only
"""The one line a reader gets for each kind of change, from real objects."""

from __future__ import annotations

import pytest
from compare_kit import Compile

from harness.compare.explain import Line
from harness.compare.objdiff import compare
from harness.compare.opened import Opened, to_json
from harness.compare.values import SCHEMA
from harness.report.objdiff_text import summary

Lines = tuple[Line, ...]

CALL = "int g(int), h(int); int f(int x) { return %s(x) + 1; }"
TABLE = "int a(int); int b(int); int (*const ops[])(int) = { a, %s, a };"
TEXT = "void say(const char *, int); void f(void) { say(\"%s\", 1); }"
EXPORT = """
.text
.globl foo
.type foo,@function
foo: ret
.size foo,.-foo
.section "___ksymtab%s+foo","a"
.globl __ksymtab_foo
__ksymtab_foo: .long foo-., 0, 0
.section "__ksymtab_strings","aMS",@progbits,1
__kstrtab_foo: .asciz "foo"
__kstrtabns_foo: .asciz "%s"
"""
EXPORT_6_4 = """
.section .export_symbol,"a"
__export_symbol_foo: .asciz "%s"
.asciz "%s"
.balign 8
.quad foo
"""
INITCALL = """
.text
foo: ret
.section .initcall%s.init,"a"
__initcall__kmod_x__12_34_foo%s: .long foo-.
"""
PARAMETER = """
.data
v: .long 1
.section .rodata
__param_str_speed: .asciz "speed"
.balign 8
.section __param,"aw"
.type __param_speed,@object
__param_speed: .quad __param_str_speed, 0, param_ops_int
.short %s
.byte -1, 0
.balign 8
.quad v
.size __param_speed,.-__param_speed
"""
EXTABLE = """
.text
.type f,@function
f: mov (%rdi),%rax
1: mov (%rsi),%rbx
2: ret
.size f,.-f
.type g,@function
g: nop
3: nop
.size g,.-g
.section __ex_table,"a"
.long 1b-., 2b-., {}
"""
ALTERNATIVE = """
.text
.type f,@function
f: nop
nop
nop
.size f,.-f
.section .altinstructions,"a"
.long f-., r-.
.short {}
.byte 3, 3
.section .altinstr_replacement,"ax"
r: .byte 0x0f, 0x01, 0xca
"""
BUG = """
.text
.type f,@function
f: ud2
ud2
.size f,.-f
.section .rodata.str1.1,"aMS",@progbits,1
.Lfile: .asciz "a.c"
.section __bug_table,"aw"
.long f-., .Lfile-.
.short 10, {}
"""
ORC = """
.text
.type f,@function
f: nop
.size f,.-f
.type g,@function
g: nop
.size g,.-g
.section .orc_unwind_ip,"a"
.long f-., g-.
.section .orc_unwind,"a"
.short %s, 0, 0
.short %s, 0, 0
"""
MODINFO = '.section .modinfo,"a"\n.asciz "license=%s"\n.asciz "author=A"'
VERSIONS = '.section __versions,"a"\n.quad %s\n.asciz "skb_clone"\n.balign 64'

CASES = {
    # name: (base, patched, lines, whether it is assembler)
    "call": (CALL % "g", CALL % "h", ["f+0x4: call g -> h"], False),
    "comparison": ("int g(void); int f(int x) { if (x > 5) return g(); return 0; }",
                   "int g(void); int f(int x) { if (x >= 5) return g(); return 0; }",
                   ["f: cmpl $5 -> $4"], False),
    "jump": (".type f,@function\nf: cmp %eax,%ebx\njg 1f\nnop\n1: ret\n.size f,.-f",
             ".type f,@function\nf: cmp %eax,%ebx\njge 1f\nnop\n1: ret\n.size f,.-f", ["f+0x2: jg -> jge"], True),
    "member": ("struct s { char a[128]; int b; int c; }; int f(struct s *s) { return s->b; }",
               "struct s { char a[128]; int b; int c; }; int f(struct s *s) { return s->c; }",
               ["f: movl offset 0x80 -> 0x84 (%rdi)"], False),
    "string argument": (TEXT % "one", TEXT % "two", ['f+0x5: movl $"one" -> $"two"'], False),
    "another string": (
        "void say(const char *); void f(void) { say(\"one\"); } void g(void) { say(\"two\"); say(\"one\"); }",
        "void say(const char *); void f(void) { say(\"two\"); } void g(void) { say(\"one\"); say(\"two\"); }",
        ['f: movl $"one" -> $"two"', 'g+0x4: movl $"two" -> $"one"'], False),
    "size": ("int g(int); int f(int x) { return x; }", "int g(int); int f(int x) { g(x); g(x); return x; }",
             ["f: movl %edi, %eax -> pushq %rbx; size 3 -> 19, +6 instructions; now calls g",
              "g: newly referred to"], False),
    "pointer": (TABLE % "b", TABLE % "a", ["ops+0x8: pointer b -> a"], False),
    "word": ("const int t[] = {1, 2, 3};", "const int t[] = {1, 2, 4};", ["t+0x8: 0x3 -> 0x4"], False),
    "scalar": ("short t = 258;", "short t = 259;", ["t: 0x102 -> 0x103"], False),
    "text": ("const char t[] = \"one\";", "const char t[] = \"six\";", ['t: "one" -> "six"'], False),
    "static": ("int v = 1;", "static int v __attribute__((used)) = 1;", ["v: global -> static"], False),
    "weak": ("__attribute__((weak)) int f(void) { return 1; }", "int f(void) { return 1; }",
             ["f: weak -> strong"], False),
    "visibility": ("int v = 1;", "__attribute__((visibility(\"hidden\"))) int v = 1;",
                   ["v: visibility default -> hidden"], False),
    "new": ("int v = 1;", "int v = 1; int w = 2;", ["w: new global datum, 4 bytes", ".data: size 4 bytes -> 8 bytes"],
            False),
    "gone": ("int f(void) { return 1; } int g(void) { return 2; }", "int f(void) { return 1; }",
             ["g: gone global function, 6 bytes", ".text: size 22 bytes -> 6 bytes"], False),
    "alignment": ("int v = 1;", "int v __attribute__((aligned(64))) = 1;", [".data: alignment 0x4 -> 0x40"], False),
    "export": (EXPORT % ("", ""), EXPORT % ("_gpl", ""), ["foo: EXPORT_SYMBOL -> EXPORT_SYMBOL_GPL"], True),
    "namespace": (EXPORT % ("", ""), EXPORT % ("", "NET"),
                  ["__ksymtab_strings: foo EXPORT_SYMBOL -> EXPORT_SYMBOL in NET"], True),
    "export since 6.4": (EXPORT_6_4 % ("", ""), EXPORT_6_4 % ("GPL", "NET"),
                         [".export_symbol: foo EXPORT_SYMBOL -> EXPORT_SYMBOL_GPL in NET"], True),
    "initcall": (INITCALL % ("6", "6"), INITCALL % ("7s", "7s"),
                 ["foo: initcall level 6 (device) -> 7s (late_sync)"], True),
    "parameter": (PARAMETER % "0644", PARAMETER % "0444",
                  ["speed: module parameter permissions 0644, param_ops_int -> permissions 0444, param_ops_int"], True),
    "exception table": (EXTABLE.format(1), EXTABLE.format(3), ["f: exception table (1 entry differs)"], True),
    "alternatives": (ALTERNATIVE.format(20), ALTERNATIVE.format(21), ["f: alternatives (1 entry differs)"], True),
    "alternative code": (ALTERNATIVE.format(20), ALTERNATIVE.format(20).replace("0xca", "0xcb"),
                         ["f: alternatives (1 entry differs)"], True),
    "unwind": (ORC % (5, 6), ORC % (5, 7), ["g: unwind table (1 entry differs)"], True),
    "bug flags": (BUG.format(1), BUG.format(3), ["f: bug table (1 entry differs)"], True),
    "bug line": (BUG.format(1), ".text\nnop\n" + BUG.format(1).replace("10,", "12,"),
                 ["f: bug table (1 entry with other line numbers)"], True),
    "modinfo": (MODINFO % "GPL", MODINFO % "MIT", ['.modinfo: strings "license=GPL" -> "license=MIT"'], True),
    "versions": (VERSIONS % "0x12345678", VERSIONS % "0x12345679",
                 ["__versions: skb_clone crc 0x12345678 -> crc 0x12345679"], True),
}


@pytest.fixture
def lines(cc: Compile):
    def explained(base: str, patched: str, *flags: str, asm: bool = False) -> Lines:
        a, b = cc(base + "\n", *flags, asm=asm), cc(patched + "\n", *flags, asm=asm)
        opened = Opened(compare(a, b))
        (delta,) = opened.comparison.deltas
        assert delta.status == "changed"
        return opened.lines(delta)

    return explained


@pytest.mark.parametrize("name", CASES)
def test_one_line_for_each_kind(lines, name: str) -> None:
    base, patched, wanted, asm = CASES[name]
    found = [line.text for line in lines(base, patched, asm=asm)]
    assert found[:len(wanted)] == wanted, found
    assert all(line.isprintable() and line.isascii() for line in found)


MOVED = """
__attribute__((noinline)) static int callee(int x) { return x * x + 7; }
int f(int x) { return x * 3; }
int caller(int x) { return callee(x) + callee(x + 1) + 20; }
"""
"""The callee stands before f, so that the distance to it changes with f."""
TWO = """
__attribute__((noinline)) static int one(int x) { return x * x + 7; }
__attribute__((noinline)) static int two(int x) { return x * x + 9; }
int f(int x) { return one(x) + two(x) * 2; }
"""


def test_what_only_moved_is_said_last(lines) -> None:
    found = lines(MOVED, MOVED.replace("x * 3", "x * 3 + (x >> 7) * 1234567"), "-fno-toplevel-reorder")
    real = [line for line in found if not line.moved]
    assert [line.name for line in real] == ["f"]
    moved = [line.text for line in found if line.moved]
    assert "caller: only moved, or what it branches to (branches to callee)" in moved
    assert [line.moved for line in found] == sorted(line.moved for line in found)


def test_a_moved_callee_does_not_hide_a_change(lines) -> None:
    patched = MOVED.replace("x * 3", "x * 3 + (x >> 7) * 1234567").replace("+ 20", "+ 21")
    found = {line.name: line for line in lines(MOVED, patched, "-fno-toplevel-reorder")}
    assert not found["caller"].moved
    assert "0x14" in found["caller"].says
    assert "0x15" in found["caller"].says


def test_another_callee_is_no_moved_one(lines) -> None:
    found = lines(TWO, TWO.replace("one(x) + two(x) * 2", "two(x) + one(x) * 2"), "-fno-toplevel-reorder")
    assert [line.text for line in found] == ["f+0x2: call one -> two"]


def test_a_constant_that_looks_like_a_moved_call_is_a_change(lines) -> None:
    # movabs with the bytes of a call to callee in its constant: only a decoder can tell
    source = """
.type callee,@function
callee: ret
.size callee,.-callee
.skip {},0x90
.type f,@function
f: .byte 0x48,0xb8,0xe8
.long callee-.-4
.byte 0,0,0
ret
.size f,.-f
"""
    found = {line.name: line for line in lines(source.format(8), source.format(300), asm=True)}
    assert not found["f"].moved
    assert found["f"].says.startswith("movabsq $")


def test_another_encoding_of_one_text_is_a_change(lines) -> None:
    # mov %rax,%rbx in both of its encodings, and a jump that got longer
    source = ".type f,@function\nf: .byte {}\njmp g\n.size f,.-f\n.skip {},0x90\n.type g,@function\ng: ret\n.size g,.-g"
    found = {line.name: line for line in lines(source.format("0x48,0x89,0xc3", 8), source.format("0x48,0x8b,0xd8", 300),
                                               asm=True)}
    assert not found["f"].moved


@pytest.mark.parametrize("sections", [False, True])
def test_functions_of_one_stem_are_different_ones(lines, sections: bool) -> None:
    other = '.section .text.other,"ax"' if sections else ""
    source = f"""
.type g.part.0,@function
g.part.0: ret
.size g.part.0,.-g.part.0
.type g.part.1,@function
g.part.1: nop
ret
.size g.part.1,.-g.part.1
{other}
.type f,@function
f: call {{}}
ret
.size f,.-f
"""
    found = lines(source.format("g.part.0"), source.format("g.part.1"), asm=True)
    assert [line.text for line in found] == ["f: call g.part.0 -> g.part.1"]


def test_a_jump_that_got_longer_is_no_change_of_its_function(lines) -> None:
    source = ".type f,@function\nf: jmp g\n.size f,.-f\n.skip {},0x90\n.type g,@function\ng: ret\n.size g,.-g"
    found = {line.name: line for line in lines(source.format(8), source.format(300), asm=True)}
    assert found["f"].moved
    assert "2 bytes -> 5 bytes" in found["f"].says


def test_sixteen_bit_code_is_not_read_as_32_bit(cc: Compile, tmp_path) -> None:
    for side, value in (("base", 5), ("patched", 6)):
        folder = tmp_path / side / "arch/x86/boot"
        folder.mkdir(parents=True)
        cc(f".code16\n.type f,@function\nf: mov ${value},%ax\nmov (%bx,%si),%dx\nret\n.size f,.-f\n", "-m32",
           asm=True).rename(folder / "string.o")
    opened = Opened(compare(tmp_path / "base", tmp_path / "patched"))
    assert [line.text for line in opened.lines(opened.comparison.deltas[0])] == ["f: movw $5 -> $6"]


def test_what_cannot_be_decoded_falls_back_to_bytes(lines) -> None:
    source = ".type f,@function\nf: ret\n.byte {},0xff,0xff,0xff\n.size f,.-f"
    found = lines(source.format("0x06"), source.format("0x07"), asm=True)
    assert [line.text for line in found] == ["f+0x1: bytes 06 ff ff ff -> 07 ff ff ff"]


def test_an_unknown_machine_gets_bytes(cc: Compile) -> None:
    objects = []
    for value in (1, 2):
        path = cc(f"int f(void) {{ return {value}; }}")
        data = bytearray(path.read_bytes())
        data[18:20] = (0xFEED).to_bytes(2, "little")
        path.write_bytes(data)
        objects.append(path)
    opened = Opened(compare(*objects))
    assert [line.text for line in opened.lines(opened.comparison.deltas[0])] == \
        ["f+0x1: bytes 01 00 00 00 c3 -> 02 00 00 00 c3"]


def test_32_bit_calls_are_named(lines) -> None:
    found = lines(CALL % "g", CALL % "h", "-m32", "-fno-pie")
    assert next(line.says for line in found) == "call g -> h"


def test_section_attribute(lines) -> None:
    base = "int keep(void) { return 2; } int f(void) { return 1; }"
    found = [line.text for line in lines(base, base.replace("int f", '__attribute__((section(".init.text"))) int f'))]
    assert "f: section .text -> .init.text" in found


def test_the_json_form_has_the_lines(cc: Compile) -> None:
    opened = Opened(compare(cc(CALL % "g"), cc(CALL % "h")))
    value = to_json(opened)
    assert value["schema"] == SCHEMA
    (delta,) = value["deltas"]
    assert delta["lines"] == [{"name": "f", "section": ".text", "offset": 4, "says": "call g -> h",
                               "only_moved": False}, *delta["lines"][1:]]
    assert summary(opened)[-3:][0].endswith("x.o: f+0x4: call g -> h")
