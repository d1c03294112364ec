# SPDX-License-Identifier: GPL-2.0-only
"""Files that no assembler writes so, but other tools do: sections and symbols are equal, and what they do is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from compare_kit import Compile

from harness.compare import elf
from harness.compare.elf import SHF_ALLOC, SHT_REL, Section
from harness.compare.objdiff import compare
from harness.deadline import Deadline
from harness.proc import run

SHF_RELA_LIVEPATCH = 0x00100000


def edited(path: Path, name: str, edit: Callable[[Section], Section]) -> bytearray:
    """A file with another header for one of its sections."""
    file = elf.read(path)
    section = next(section for section in file.sections if section.name == name)
    data = bytearray(file.data)
    at = file.tables[1][0] + section.number * file.layout.shdr.size
    file.layout.shdr.pack_into(data, at, int.from_bytes(data[at:at + 4], "little"), *edit(section)[2:])
    return data


def differ(folder: Path, base: bytes, patched: bytes) -> bool:
    for name, data in (("base.o", base), ("patched.o", patched)):
        (folder / name).write_bytes(data)
    found = [compare(folder / one, folder / other) for one, other in (
        ("base.o", "patched.o"), ("patched.o", "base.o"))]
    assert found[0].identical_code == found[1].identical_code
    return not found[0].identical_code


def test_relocations_for_livepatching_name_symbols_by_number(cc: Compile, tmp_path: Path) -> None:
    path = cc(".globl a\n.globl b\ncall a\ncall b\n", asm=True)
    base = edited(path, ".rela.text", lambda s: s._replace(flags=s.flags | SHF_ALLOC | SHF_RELA_LIVEPATCH))
    table = next(s for s in elf.read(path).sections if s.name == ".symtab")
    end = table.offset + table.size
    swapped = base[:end - 48] + base[end - 24:end] + base[end - 48:end - 24] + base[end:]
    assert differ(tmp_path, base, swapped)


def test_addends_in_the_data_are_not_those_in_relocations(cc: Compile, tmp_path: Path) -> None:
    path = cc(".quad a\n", asm=True)
    text = next(s for s in elf.read(path).sections if s.name == ".text")
    base = edited(path, ".rela.text", lambda s: s)
    patched = edited(path, ".rela.text", lambda s: s._replace(type=SHT_REL, size=16, entsize=16))
    base[text.offset] = patched[text.offset] = 8
    assert differ(tmp_path, base, patched)


@pytest.mark.parametrize("kind", [41, 43, 46, 49])
def test_an_addend_to_an_entry_of_the_got_is_no_offset(cc: Compile, tmp_path: Path, kind: int) -> None:
    """The binutils that know the types of APX are too new for this test to have."""
    sides = []
    for target in ("a - 4", "b - 8"):
        path = cc(f".data\na: .long 1\nb: .long 2\n.text\n.reloc ., R_X86_64_GOTPCRELX, {target}\n.long 0\n", asm=True)
        table = next(s for s in elf.read(path).sections if s.name == ".rela.text")
        sides.append(bytearray(path.read_bytes()))
        sides[-1][table.offset + 8] = kind
    assert differ(tmp_path, *sides)


def test_what_program_headers_load_is_compared(cc: Compile, tmp_path: Path) -> None:
    path = cc(".globl _start\n_start: ret\n", asm=True)
    run(["ld", "-o", "image", path.name], cwd=path.parent, deadline=Deadline.after(60))
    image = path.with_name("image")
    text = next(s for s in elf.read(image).sections if s.name == ".text")
    base = image.read_bytes()
    patched = edited(image, ".text", lambda s: s._replace(offset=len(base)))
    patched[text.offset:text.offset + text.size] = bytes(text.size)
    assert differ(tmp_path, base, bytes(patched) + base[text.offset:text.offset + text.size])
