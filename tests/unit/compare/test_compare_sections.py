# SPDX-License-Identifier: GPL-2.0-only
"""Objects compared by symbol: what only moved is equal, and everything else is not."""

from __future__ import annotations

import pytest
from compare_kit import Compile

from harness.compare import elf, sections

APART = ("-ffunction-sections", "-fdata-sections", "-std=gnu11")

HEAD = """
#define SECTION(x) __attribute__((section(x)))
extern void take(const void *), other(const void *);
"""
ONE = 'void one(void) { take("first string"); take("second string"); }\n'
TWO = 'void two(void) { other("second string"); other("third string"); }\n'
LOCAL = "__attribute__((noinline)) static int local(int x) { take(&x); return x * 3; }\n"
CALLS = "int calls(int x) { return local(x) + 1; }\nint again(int x) { return local(x) + 2; }\n"
KEYS = """
void first(void) { static int key = 1; take(&key); }
void second(void) { static int key = 1; take(&key); take(&key); }
"""
SWAPPED = """
void second(void) { static int key = 1; take(&key); take(&key); }
void first(void) { static int key = 1; take(&key); }
"""
TABLE = """#define NOTE(n) asm volatile("9: .pushsection __ex_table,\\"a\\"\\n" \\
".long 9b - .\\n.long 9b - .\\n.long " #n "\\n.popsection")
"""
NOTED = [f"void note{n}(void) {{ NOTE({n}); NOTE({n}0); take(0); }}\n" for n in (1, 2)]
CALLED = """
static int a(void) { take("a"); return 1; }
static int b(void) { take("b"); return 2; }
"""
INIT = [f'SECTION(".initcall6.init") __attribute__((used)) static int (*call_{n})(void) = {n};\n' for n in "ab"]


def difference(cc: Compile, base: str, patched: str, moves: frozenset[tuple[int, int]] = frozenset()) -> str:
    made = [elf.parse(cc(HEAD + text, *APART).read_bytes(), "x.o") for text in (base, patched)]
    found = [sections.difference(made[0], made[1], moves),
             sections.difference(made[1], made[0], frozenset((b, a) for a, b in moves))]
    assert bool(found[0]) == bool(found[1]), "the comparison must be symmetric"
    return found[0]


@pytest.mark.parametrize(("base", "patched"), [
    (ONE + TWO, TWO + ONE),  # functions, and the pool of their strings
    (LOCAL + CALLS, "static int local(int);\n" + CALLS + LOCAL.replace("static int local", "static int local")),
    (KEYS, SWAPPED),  # numbers of static locals
    (TABLE + "".join(NOTED), TABLE + "".join(reversed(NOTED))),  # tables about places in the code
    (ONE, ONE),
])
def test_what_only_moved_is_equal(cc: Compile, base: str, patched: str) -> None:
    assert difference(cc, base, patched) == ""


@pytest.mark.parametrize(("base", "patched", "says"), [
    (ONE + TWO, TWO + ONE.replace("first", "fist "), "strings"),
    (ONE + TWO, TWO.replace("third", "second") + ONE, "strings"),
    ('void one(void) { take("a"); take("b"); }', 'void one(void) { take("b"); take("a"); }', "reference"),
    (ONE + TWO, ONE + TWO.replace("other", "take"), "reference"),
    (LOCAL + CALLS, LOCAL + CALLS.replace("+ 2", "+ 3"), "contents of .text.again"),
    (LOCAL + CALLS, LOCAL.replace("static ", "") + CALLS, "reference in .text.again"),
    (LOCAL + CALLS, LOCAL + CALLS + "static int unused SECTION(\".data.x\") __attribute__((used));", "section"),
    (ONE, ONE.replace("void one", 'SECTION(".init.text") void one'), "section"),
    (ONE, ONE.replace("void one", "__attribute__((aligned(64))) void one"), "attributes"),
    ("int x = 1;", "int x __attribute__((aligned(64))) = 1;", "attributes"),
    ("int x = 1;", "const int x = 1;", "section"),
    ("int x;", "int x SECTION(\".data..percpu\");", "section"),
    ("int x[2];", "int x[3];", "contents"),
    (KEYS, SWAPPED.replace("take(&key); take(&key);", "take(&key);"), "contents"),
    (KEYS, KEYS.replace("key = 1", "key = 2", 1), "contents of .data.key"),
    # what refers to two equal things may not swap them half: here the second function takes the key of the first
    ("static int k1[1], k2[1]; int *get(int x) { return x ? k1 : k2; } int *too(int x) { return x ? k1 : k2; }",
     "static int k1[1], k2[1]; int *get(int x) { return x ? k1 : k2; } int *too(int x) { return x ? k2 : k1; }", ""),
    (TABLE + "".join(NOTED), TABLE + NOTED[0] + NOTED[1].replace("NOTE(20)", "NOTE(21)"), "record"),
    (TABLE + NOTED[0], TABLE + NOTED[0].replace("NOTE(1); NOTE(10)", "NOTE(10); NOTE(1)"), "record"),
    (CALLED + "".join(INIT), CALLED + "".join(reversed(INIT)), "initcall6.init"),
    (CALLED + INIT[0], CALLED + INIT[0].replace("initcall6", "initcall5"), "section"),
    ("asm(\".section __ex_table,\\\"a\\\"\\n.globl t\\nt: .long 1\\n.previous\");",
     "asm(\".section __ex_table,\\\"a\\\"\\n.globl t\\nt: .long 2\\n.previous\");", "contents of __ex_table"),
])
def test_everything_else_is_not(cc: Compile, base: str, patched: str, says: str) -> None:
    found = difference(cc, base, patched)
    assert found
    assert says in found


POOL = 'asm(".section {},\\"aM{}\\",@progbits,{}\\n" "{}" "{}" ".previous");'


@pytest.mark.parametrize(("name", "kind", "size", "entries"), [
    ("names", "S", 1, ('.asciz \\"a\\"\\n', '.asciz \\"b\\"\\n')),  # between __start_names and __stop_names
    ("table", "", 8, (".quad 1\\n", ".quad 2\\n")),
])
def test_a_mergeable_table_with_a_name_of_its_own_keeps_its_order(
        cc: Compile, name: str, kind: str, size: int, entries: tuple[str, str]) -> None:
    assert difference(cc, POOL.format(name, kind, size, *entries), POOL.format(name, kind, size, *entries[::-1]))
    name = f".rodata.{'str' if kind else 'cst'}{size}"
    assert not difference(cc, POOL.format(name, kind, size, *entries), POOL.format(name, kind, size, *entries[::-1]))


def test_a_global_name_of_a_string_goes_where_it_did(cc: Compile) -> None:
    text = POOL.format(".rodata.str1", "S", 1, '.globl a\\na: .asciz \\"{}\\"\\n', '.globl b\\nb: .asciz \\"{}\\"\\n')
    assert "symbol" in difference(cc, text.format("one", "two"), text.format("two", "one"))


def test_moved_lines_are_allowed_only_where_that_is_asked(cc: Compile) -> None:
    one, two = (f"int line(void) {{ return {n}; }}\n" for n in (300, 305))
    assert difference(cc, ONE + one, one + ONE) == ""
    assert difference(cc, ONE + one, two + ONE)
    assert difference(cc, ONE + one, two + ONE, frozenset({(300, 305)})) == ""
    assert difference(cc, ONE + one, two + ONE, frozenset({(305, 300)}))
