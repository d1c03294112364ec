# SPDX-License-Identifier: GPL-2.0-only
"""Objects whose debug information is compressed, in each way that the binutils know."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from compare_kit import Compile

from harness.compare import debugdata, elf
from harness.compare.dwarf_types import read_layout
from harness.compare.facts import ObjectView
from harness.compare.layout import Layout
from harness.compare.objdiff import compare
from harness.compare.srclines import UNREADABLE, source_lines
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.proc import run

SOURCE = "struct s { volatile int a; char b; long c[9]; };\nint f(struct s *x)\n{\n" + "".join(
    f"\tx->a += x->c[{number % 9}] * {number};\n" for number in range(60)) + "\treturn x->a;\n}\n"
WAYS = {"zlib": ("-g", "-gz=zlib"), "zlib-gnu": ("-g", "-Wa,--compress-debug-sections=zlib-gnu"),
        "zstd": ("-g", "-Wa,--compress-debug-sections=zstd")}
READABLE = ("zlib", "zlib-gnu")


def flagged(path: Path) -> set[str]:
    return {section.name for section in elf.read(path).sections if debugdata.is_compressed(section)}


@pytest.mark.parametrize("bits", [(), ("-m32", "-fno-pie")])
@pytest.mark.parametrize("way", WAYS)
def test_however_it_is_compressed_it_says_nothing_of_the_code(cc: Compile, way: str, bits: tuple[str, ...]) -> None:
    packed, moved = cc(SOURCE, *WAYS[way], *bits), cc(f"\n\n{SOURCE}", *WAYS[way], *bits)
    plain, none = cc(SOURCE, "-g", *bits), cc(SOURCE, *bits)
    assert {name.replace("zdebug", "debug") for name in flagged(packed)} >= {".debug_info"}
    assert not flagged(plain)
    for other in (moved, plain, none):
        for sides in ((packed, other), (other, packed)):
            assert [(delta.status, delta.rules) for delta in compare(*sides).deltas] == [
                ("explained", ("debug-sections",))]
            (strict,) = compare(*sides, strict=True).deltas
            assert strict.status == "changed"
    real = cc(SOURCE.replace("* 7;", "* 8;"), *WAYS[way], *bits)
    (delta,) = compare(packed, real).deltas
    assert {change.symbol for change in delta.changes} == {"f"}


def lines(path: Path) -> tuple[dict[int, str], str]:
    view = ObjectView(elf.read(path))
    found, why = source_lines(view.model, view.model.sections[".text"])
    return {place: Path(line).name for place, line in found.items()}, why


@pytest.mark.parametrize("way", READABLE)
def test_source_lines_and_layouts_are_those_of_the_expanded_one(cc: Compile, way: str) -> None:
    packed, plain = cc(SOURCE, *WAYS[way]), cc(SOURCE, "-g")
    assert flagged(packed)
    found, why = lines(packed)
    assert why == ""
    assert len(set(found.values())) > 50
    assert (found, why) == lines(plain)
    layout = read_layout(packed.read_bytes(), "s", where="x")
    assert isinstance(layout, Layout)
    assert layout == read_layout(plain.read_bytes(), "s", where="x")
    grown = debugdata.uncompressed(elf.read(packed))
    assert not any(debugdata.is_compressed(section) for section in grown.sections)
    assert {section.name for section in grown.sections} == {section.name for section in elf.read(plain).sections}


def test_what_cannot_be_expanded_is_said(cc: Compile) -> None:
    packed = cc(SOURCE, *WAYS["zstd"])
    assert lines(packed) == ({}, "no source lines: the debug info cannot be read, it is compressed by zstd")
    with pytest.raises(InfraError, match="compressed by zstd"):
        read_layout(packed.read_bytes(), "s", where="x")


@pytest.mark.parametrize("order", ["-EL", "-EB"])
@pytest.mark.parametrize("abi", [(), ("-mabi=ilp32",)])
def test_every_class_and_byte_order(tmp_path: Path, order: str, abi: tuple[str, ...]) -> None:
    (tmp_path / "x.s").write_text('.section .debug_x,"",%progbits\n.fill 999, 1, 7\n')
    found = []
    for name, flags in (("a.o", ()), ("b.o", ("--compress-debug-sections=zlib",))):
        run(["aarch64-linux-gnu-as", order, *abi, *flags, "x.s", "-o", name], cwd=tmp_path, deadline=Deadline.after(60))
        found.append(elf.read(tmp_path / name))
    assert flagged(tmp_path / "b.o") == {".debug_x"}
    plain, grown = (next(section for section in one.sections if section.name == ".debug_x")
                    for one in (found[0], debugdata.uncompressed(found[1])))
    assert plain.size == grown.size == 999
    assert elf.content(debugdata.uncompressed(found[1]), grown) == b"\7" * 999


def set_size(data: bytearray, at: int, way: str, size: int) -> None:
    data[at:at + 8] = struct.pack(">Q" if way == "zlib-gnu" else "<Q", size)


Damage = Callable[[bytearray, int, int, str], None]
"""Object, offset of a compressed section's data, offset of its declared size, way."""


@pytest.mark.parametrize("way", READABLE)
@pytest.mark.parametrize("damage", [
    lambda data, at, size, way: set_size(data, size, way, 5),
    lambda data, at, size, way: set_size(data, size, way, 1 << 24),
    lambda data, at, size, way: set_size(data, size, way, 1 << 62),
    lambda data, at, size, way: set_size(data, size, way, 0),
    lambda data, at, size, way: data.__setitem__(slice(at + 40, at + 44), b"\0\1\2\3"),
], ids=["short", "long", "huge", "none", "stream"])
def test_damaged_compression_is_an_error_and_eats_nothing(cc: Compile, way: str, damage: Damage) -> None:
    path = cc(SOURCE, *WAYS[way])
    parsed = elf.read(path)
    section = next(one for one in parsed.sections if one.name in (".debug_line", ".zdebug_line"))
    info = next(one for one in parsed.sections if one.name in (".debug_info", ".zdebug_info"))
    data = bytearray(path.read_bytes())
    for one in (section, info):
        damage(data, one.offset, one.offset + (4 if way == "zlib-gnu" else 8), way)
    path.write_bytes(data)
    assert lines(path) == ({}, UNREADABLE)
    with pytest.raises(InfraError):
        read_layout(bytes(data), "s", where="x")
    (delta,) = compare(path, cc(SOURCE)).deltas
    assert delta.status == "explained"
