# SPDX-License-Identifier: GPL-2.0-only
"""String pools: their order does not matter, and every text that somebody points at does."""

from __future__ import annotations

import pytest
from compare_kit import Differ

from harness.errors import InfraError

USES = """
    .text
    .globl f
    .type f,@function
f:  lea .LC0(%rip), %rdi
    call puts
    lea .LC1(%rip), %rdi
    jmp puts
    .size f, . - f
    .data
    .type names,@object
names: .quad .LC0, .LC1
    .size names, 16
"""
POOL = '    .section .rodata.str1.{align},"aMS",@progbits,1\n'
ONE, TWO = '.LC0: .asciz "one"\n', '.LC1: .asciz "two"\n'


def pool(*strings: str, align: int = 1, uses: str = USES) -> str:
    return uses + POOL.format(align=align) + f".balign {align}\n" + "".join(strings)


@pytest.mark.parametrize("patched", [
    pool(TWO, ONE),
    pool(TWO, '.asciz "one"\n', ONE),
    pool('.byte 0, 0\n', ONE, TWO),
    pool(ONE, TWO, '.asciz "one"\n'),
], ids=["reordered", "repeated and reordered", "padded", "repeated"])
def test_order_and_repetition_are_explained(differ: Differ, patched: str) -> None:
    delta = differ(pool(ONE, TWO), patched, asm=True)
    assert (delta.status, delta.rules) == ("explained", ("string-pool-order",))
    assert differ(pool(ONE, TWO), patched, asm=True, strict=True).status == "changed"


def test_a_changed_string_is_named_where_it_is_used(differ: Differ) -> None:
    delta = differ(pool(ONE, TWO), pool(ONE, TWO.replace("two", "owt")), asm=True)
    assert [(change.symbol, change.offset, change.base, change.patched) for change in delta.changes] == [
        ("f", 0xf, '"two"', '"owt"'), ("names", 8, '"two"', '"owt"')]


def test_two_users_that_swap_their_strings_are_a_change(differ: Differ) -> None:
    swapped = USES.replace(".quad .LC0, .LC1", ".quad .LC1, .LC0")
    for patched in (pool(ONE, TWO, uses=swapped), pool(TWO, ONE, uses=swapped)):
        delta = differ(pool(ONE, TWO), patched, asm=True)
        assert delta.status == "changed"
        assert [change.symbol for change in delta.changes] == ["names"]


@pytest.mark.parametrize("patched", [
    pool(ONE, TWO, '.asciz "three"\n'),
    pool(TWO, ONE, 'said: .asciz "one"\n'),
    pool(TWO, '.globl .Lglobal\n.Lglobal:\n', ONE),
    pool(TWO, ONE.replace("asciz", "ascii")),
    pool(TWO, ONE).replace('"aMS",@progbits,1', '"aM",@progbits,1'),
    pool(TWO, ONE).replace(".quad .LC0, ", ".quad .LC0 + 1, "),
    pool(TWO, ONE).replace(".quad .LC0, ", ".quad .rodata.str1.1, "),
], ids=["a string nobody uses", "a name in the pool", "a global label", "no end", "no strings", "inside a string",
        "by section, another string"])
def test_what_the_pool_does_not_prove_is_a_change(differ: Differ, patched: str) -> None:
    assert differ(pool(ONE, TWO), patched, asm=True).status == "changed"


def test_a_table_of_strings_that_is_gone_through_keeps_its_order(differ: Differ) -> None:
    """With a name of its own, between `__start_names` and `__stop_names`."""
    table = '.section names,"aMS",@progbits,1\n'
    assert differ(table + ONE + TWO, table + TWO + ONE, asm=True).status == "changed"


def test_the_place_within_the_alignment_counts(differ: Differ) -> None:
    base = pool(ONE, ".balign 8\n", TWO, align=8)
    assert differ(base, pool(TWO, ".balign 8\n", ONE, align=8), asm=True).status == "explained"
    assert differ(base, pool(TWO, ONE, align=8), asm=True).status == "changed"


def test_references_by_section_are_read_as_the_linker_does(differ: Differ) -> None:
    by_section = USES.replace(".quad .LC0, .LC1", ".quad .rodata.str1.1 + {}, .LC1")
    base = pool(ONE, TWO, uses=by_section.format(0))
    assert differ(base, pool(TWO, ONE, uses=by_section.format(4)), asm=True).status == "explained"
    assert differ(base, pool(TWO, ONE, uses=by_section.format(5)), asm=True).status == "changed"
    assert differ(base, pool(TWO, ONE, uses=by_section.format(64)), asm=True).status == "changed"


def test_the_tail_of_another_string_is_no_string_of_its_own(differ: Differ) -> None:
    by_section = USES.replace(".quad .LC0, .LC1", ".quad .LC0, .rodata.str1.1 + {}").replace("lea .LC1", "lea .LC0")
    base = pool(ONE, TWO, '.asciz "wo"\n', uses=by_section.format(4) + ".quad .rodata.str1.1 + 8\n")
    delta = differ(base, pool(ONE, TWO, uses=by_section.format(4) + ".quad .rodata.str1.1 + 5\n"), asm=True)
    assert [(change.section, change.base, change.patched) for change in delta.changes] == [
        (".rodata.str1.1", 'string "wo"', None)]


def test_many_references_into_one_long_string_do_not_eat_the_memory(differ: Differ) -> None:
    """Each to another place of it: their texts together are a hundred times the file."""
    many = "".join(f".quad .rodata.str1.1 + {at % 4000}\n" for at in range(4000))
    long = [f'.data\n{many}{POOL.format(align=1)}.rept 4000\n.byte {byte}\n.endr\n.byte 0\n' for byte in (65, 66)]
    with pytest.raises(InfraError, match="memory"):
        differ(*long, asm=True)
    longer = [text.replace(".rept 4000", ".rept 9000") for text in long]
    assert differ(*longer, asm=True).status == "changed"


SWAP = 'const char *a = "one"; const char *b __attribute__((section(".data.b"))) = "two"; {}'


@pytest.mark.parametrize("flags", [(), ("-m32", "-fno-pie"), ("-g",)])
def test_a_compilers_pool_in_another_order(differ: Differ, flags: tuple[str, ...]) -> None:
    one, two = SWAP.split("; ")[:2]
    delta = differ(f"{one}; {two};", f"{two}; {one};", *flags)
    assert (delta.status, set(delta.rules) - {"debug-sections"}) == ("explained", {"string-pool-order"})
    delta = differ(f"{one}; {two};", f"{two}; {one};".replace("two", "owt"), *flags)
    assert {change.symbol for change in delta.changes} == {"b"}


def test_hostile_names_of_sections_are_not_taken_for_keys(differ: Differ) -> None:
    for name in ("@", "abs", "special", '\\"'):
        source = f'.section "{name}","aMS",@progbits,1\n{{}}.data\n.quad g, 7\n.globl g\n'
        strings = '.asciz "one"\n', '.asciz "two"\n'
        swapped = differ(source.format("".join(strings)), source.format("".join(reversed(strings))), asm=True)
        assert (swapped.status, swapped.rules) == ("changed", ())  # no pool of a compiler's is called so
        other = source.replace(".quad g", ".quad h").replace(".globl g", ".globl h").format("".join(reversed(strings)))
        assert differ(source.format("".join(strings)), other, asm=True).status == "changed"


UNCLEAR = """
    .text
    .globl f
    .type f,@function
f:  .reloc . + 3, R_X86_64_PC32, .rodata.str1.1 + {at}
    lea 0(%rip), %rdi
    jmp puts
    .size f, . - f
    .data
    .quad .LC0
"""


def test_a_reference_that_does_not_say_what_it_is_to_is_never_explained(differ: Differ) -> None:
    """Code that counts from the instruction's end, by section and offset: the text at that offset is another one."""
    head, one, two = '.asciz "xxxx"\n', '.LC0: .asciz "AAAA"\n', '.LC1: .asciz "BBBB"\n'
    base = pool(head, one, two, uses=UNCLEAR.format(at=5 - 4))
    for at in (5, 10):
        delta = differ(base, pool(head, two, one, uses=UNCLEAR.format(at=at - 4)), asm=True)
        assert delta.status == "changed"
    assert differ(base, pool(head, one, two, uses=UNCLEAR.format(at=10 - 4)), asm=True).status == "changed"
    # longer than what is read of a string
    long = tuple(f'.LC{number}: .fill 5000, 1, {65 + number}\n.byte 0\n' for number in (0, 1))
    uses = ".text\n.globl f\nf: mov ${}, %rdi\n.data\n.quad .LC0\n"
    for used in (".LC0", ".rodata.str1.1"):
        assert differ(pool(*long, uses=uses.format(used)), pool(*reversed(long), uses=uses.format(used)),
                      asm=True).status == "changed"
