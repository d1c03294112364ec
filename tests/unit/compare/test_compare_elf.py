# SPDX-License-Identifier: GPL-2.0-only
"""The ELF reader against pyelftools, and against files nobody should have made."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import pytest
from compare_kit import Compile, compile_into
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.compare import elf, symtab
from harness.compare.model import model
from harness.compare.objdiff import compare
from harness.compare.pair import diff
from harness.errors import InfraError

SOURCE = """
int g(int); extern int w[]; static int s; char buffer[64]; const char *const names[] = { "one", "two" };
__attribute__((section(".init.text"), weak)) int f(int x) { return x > 5 ? g(x) + w[3] : s++; }
static void *__attribute__((used, section(".discard.addressable"))) __UNIQUE_ID___addressable_f12 = (void *)&f;
asm(".pushsection __bug_table,\\"aw\\"\\n.long f - .\\n.long 9f - .\\n.word 7, 1\\n.popsection\\n"
    ".pushsection .rodata.str1.1,\\"aMS\\",@progbits,1\\n9: .asciz \\"net/core/skbuff.c\\"\\n.popsection\\n");
"""


class Victims(tuple[bytes, ...]):
    """Real objects; hypothesis prints arguments, and these would be too long."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{len(self)} objects"


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Victims:
    folder = tmp_path_factory.mktemp("victims")
    flags = ((), ("-m32", "-fno-pie"), ("-g",))
    return Victims(compile_into(folder / str(i), SOURCE, *f).read_bytes() for i, f in enumerate(flags))


@pytest.mark.parametrize("flags", [(), ("-m32", "-fno-pie"), ("-g3",), ("-ffunction-sections", "-fdata-sections")])
def test_the_reader_agrees_with_pyelftools(cc: Compile, flags: tuple[str, ...]) -> None:
    elffile = pytest.importorskip("elftools.elf.elffile")
    path = cc(SOURCE, *flags)
    ours, oracle = elf.read(path), elffile.ELFFile(io.BytesIO(path.read_bytes()))
    assert [(s.name, s.size, s.offset) for s in ours.sections] == [
        (s.name, s["sh_size"], s["sh_offset"]) for s in oracle.iter_sections()]
    symbols = symtab.symbols(ours)
    assert [(s.name, s.value, s.size) for s in symbols] == [
        (s.name, s["st_value"], s["st_size"]) for s in oracle.get_section_by_name(".symtab").iter_symbols()]
    tables = [s for s in ours.sections if symtab.is_reloc_table(ours, s)]
    assert tables
    for table in tables:
        assert [(r.offset, r.type, r.symbol) for r in symtab.relocations(ours, table, len(symbols))] == [
            (r["r_offset"], r["r_info_type"], r["r_info_sym"])
            for r in oracle.get_section(table.number).iter_relocations()]


@pytest.mark.parametrize(("klass", "data"), list(elf.LAYOUTS))
def test_every_class_and_byte_order_is_read(klass: int, data: int) -> None:
    layout = elf.LAYOUTS[klass, data]
    word = 8 if klass == 2 else 4
    names = b"\0.text\0.names\0"
    start = 16 + layout.ehdr.size
    table = start + len(names)
    ident = b"\x7fELF" + bytes((klass, data, 1)) + bytes(9)
    ehdr = layout.ehdr.pack(1, 40, 1, 0, 0, table, 0, start, 0, 0, layout.shdr.size, 3, 2)
    null, text = layout.shdr.pack(*[0] * 10), layout.shdr.pack(1, 1, 6, 0, 0, 4, 0, 0, word, 0)
    shdrs = null + text + layout.shdr.pack(7, 3, 0, 0, start, len(names), 0, 0, 1, 0)
    parsed = elf.parse(ident + ehdr + names + shdrs, "x")
    assert [s.name for s in parsed.sections] == ["", ".text", ".names"]
    assert (parsed.machine, parsed.sections[1].align) == (40, word)


def test_more_sections_than_16_bits_hold_are_read(cc: Compile) -> None:
    source = "".join(f'.section .s{i},"a"\nf{i}: .byte 1\n' for i in range(66000))
    parsed = elf.read(cc(source, asm=True))
    assert len(parsed.sections) > 66000
    symbols = {s.name: s for s in symtab.symbols(parsed)}
    assert parsed.sections[symbols["f65999"].section].name == ".s65999"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.integers(0, 2), st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=8))
@example(0, [(0x28 + 5, 255)])
@example(1, [(0x20 + 3, 255)])
def test_a_damaged_object_gives_a_result_or_an_error(
        victims: Victims, which: int, edits: list[tuple[int, int]]) -> None:
    base = victims[which]
    damaged = bytearray(base)
    for at, value in edits:
        damaged[at % len(base)] = value
    _either(base, bytes(damaged))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2), st.integers(0, 1 << 16))
def test_a_truncated_object_gives_an_error(victims: Victims, which: int, length: int) -> None:
    base = victims[which]
    cut = base[:length % len(base)]
    with pytest.raises(InfraError, match="the-file"):
        elf.parse(cut, "the-file")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2), st.integers(0, 1 << 16),
       st.sampled_from([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0xFF00, 0xFFFF, 1 << 63]))
def test_a_hostile_header_field_gives_a_result_or_an_error(
        victims: Victims, which: int, at: int, value: int) -> None:
    base = victims[which]
    (shoff,) = struct.unpack_from("<I" if base[4] == 1 else "<Q", base, 0x20 if base[4] == 1 else 0x28)
    width = 4 if base[4] == 1 else 8
    field = shoff + at % ((len(base) - shoff) // 4) * 4
    damaged = bytearray(base)
    damaged[field:field + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    _either(base, bytes(damaged[:len(base)]))


def _either(base: bytes, damaged: bytes) -> None:
    """What holds for any two files: a symmetric result with a reason, or `InfraError`."""
    try:
        a, b = elf.parse(base, "base"), elf.parse(damaged, "damaged")
        results = [diff("x.o", *pair, strict=False) for pair in ((a, b), (b, a))]
        strict = diff("x.o", a, b, strict=True)
    except InfraError as refused:
        error: InfraError | None = refused
    else:
        error = None
    if error:
        assert error.where in ("base", "damaged")
        return
    assert results[0].sites == results[1].sites
    assert bool(results[0].changes) == bool(results[1].changes)
    if base != damaged:
        assert results[0].changes or results[0].sites
        assert strict.changes


def test_code_and_data_bytes_are_never_explained(victims: Victims) -> None:
    """Every single byte of every allocated section is held: only the line of the bug table may be explained."""
    for base in victims:
        parsed = elf.parse(base, "x")
        for section in parsed.sections:
            if not section.flags & elf.SHF_ALLOC or section.type == elf.SHT_NOBITS:
                continue
            for at in range(section.size):
                damaged = bytearray(base)
                damaged[section.offset + at] ^= 0x11
                result = diff("x.o", parsed, elf.parse(bytes(damaged), "y"), strict=False)
                # i386 has absolute pointers in its records; these relative ones are no layout of it
                line = section.name == "__bug_table" and at in (8, 9) and parsed.machine == elf.EM_X86_64
                assert bool(result.changes) != line, (section.name, at)


def test_the_bytes_of_groups_and_link_time_sections_are_held(cc: Compile) -> None:
    source = """
    .section .discard.x,""\n.long f\n.section .text.f,"axG",@progbits,f,comdat\n.globl f\nf: nop
    .section .data.f,"awG",@progbits,f,comdat\n.quad f, g\n.ident "gcc"
    """
    base = cc(source, asm=True).read_bytes()
    parsed = elf.parse(base, "x")
    encoding = {symtab.symtab(parsed), parsed.sections[parsed.shstrndx]}
    for section in parsed.sections:
        if section in encoding or section.name == ".strtab" or section.type == elf.SHT_NOBITS:
            continue
        for at in range(section.size):
            damaged = bytearray(base)
            damaged[section.offset + at] ^= 0x01
            try:
                result = diff("x.o", parsed, elf.parse(bytes(damaged), "y"), strict=False)
            except InfraError:
                continue
            assert result.changes, (section.name, at)


def test_a_group_against_a_plain_section_is_a_change(cc: Compile) -> None:
    base = cc('.section .text.f,"axG",@progbits,f,comdat\n.globl f\nf: nop\n', asm=True).read_bytes()
    parsed = elf.parse(base, "x")
    group = next(s for s in parsed.sections if s.type == elf.SHT_GROUP)
    (shoff,) = struct.unpack_from("<Q", base, 0x28)
    damaged = bytearray(base)
    struct.pack_into("<I", damaged, shoff + 64 * group.number + 4, 1)
    assert diff("x.o", parsed, elf.parse(bytes(damaged), "y"), strict=False).changes


def test_many_long_names_do_not_eat_the_memory() -> None:
    layout = elf.LAYOUTS[2, 1]
    count, start = 20000, 16 + layout.ehdr.size
    strings = b"\0" + b"a" * 4000 + b"\0" + b"b" * 16000
    symbols = b"".join(layout.sym.pack(1 + i % 3990, 0, 0, 0, 0, 0) for i in range(count))
    table = start + len(strings) + len(symbols)
    shdrs = [layout.shdr.pack(*[0] * 10),
             layout.shdr.pack(0, elf.SHT_STRTAB, 0, 0, start, len(strings), 0, 0, 1, 0),
             layout.shdr.pack(0, elf.SHT_SYMTAB, 0, 0, start + len(strings), len(symbols), 1, 0, 8, 24)]
    ehdr = layout.ehdr.pack(1, 62, 1, 0, 0, table, 0, start, 0, 0, layout.shdr.size, len(shdrs), 1)
    data = b"\x7fELF\x02\x01\x01" + bytes(9) + ehdr + strings + symbols + b"".join(shdrs)
    with pytest.raises(InfraError, match="memory"):
        model(elf.parse(data, "x"))


def test_overlapping_sections_are_refused(victims: Victims) -> None:
    base = victims[0]
    parsed = elf.parse(base, "x")
    damaged = bytearray(base)
    (shoff,) = struct.unpack_from("<Q", base, 0x28)
    for number in range(1, 4):
        struct.pack_into("<QQ", damaged, shoff + 64 * number + 24, 0, len(base))
    assert len(parsed.sections) > 4
    with pytest.raises(InfraError, match="overlap"):
        elf.parse(bytes(damaged), "x")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="no such file"):
        elf.read(tmp_path / "no.o")


def test_a_fifo_is_an_error_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InfraError, match="not a regular file"):
        elf.read(tmp_path / "fifo")


def test_comparing_an_object_with_itself_is_identical(cc: Compile) -> None:
    path = cc(SOURCE)
    assert compare(path, path).identical_code
