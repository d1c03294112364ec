# SPDX-License-Identifier: GPL-2.0-only
"""Source lines of a function, where the object has debug info. For `--show` only.

pyelftools reads the line program; it is slow, so it is loaded and used for the one object that is shown. It would put
all sections of an object at address 0, where their lines overlap; so the relocations of the debug sections are applied
here, with every section but the wanted one moved far away.

Source: DWARF 5, section 6.2.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from harness.compare import debugdata, disasm
from harness.compare.model import model as model_of
from harness.compare.model import resolve
from harness.compare.values import printable
from harness.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from elftools.dwarf.lineprogram import LineProgram

    from harness.compare.disasm import Decoder
    from harness.compare.elf import Section
    from harness.compare.model import Model

_FAR = 1 << 30

NO_DEBUG_INFO = "no source lines: built without debug info"
UNREADABLE = "no source lines: the debug info cannot be read"


def source_lines(model: Model, section: Section) -> tuple[Mapping[int, str], str]:
    """(offset in the section to `file:line`, why there are none). Never fails: lines are only an aid."""
    debug = model.sections.get(".debug_line") or model.sections.get(".zdebug_line")
    row = disasm.decoder(model)
    if debug is None or not debug.size or row is None:
        return {}, NO_DEBUG_INFO
    from elftools.common.exceptions import DWARFError, ELFError

    try:
        why = debugdata.reason(model.elf)
        if why:
            return {}, f"no source lines: the debug info cannot be read, {why}"
        plain = debugdata.uncompressed(model.elf)
        found = _read(_applied(model if plain is model.elf else model_of(plain), section, row))
    except InfraError:
        return {}, UNREADABLE
    # what a damaged line program makes of a reader that trusts it
    except (DWARFError, ELFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError,
            RecursionError):
        return {}, UNREADABLE
    return found, "" if found else UNREADABLE


def _applied(model: Model, wanted: Section, row: Decoder) -> bytes:
    """The object's bytes with the relocations of its debug sections applied."""
    data = bytearray(model.elf.data)
    symbols = {symbol.name: symbol for symbol in model.symbols if symbol.section}
    for section in model.sections.values():
        if not section.name.startswith(".debug_") or not model.relocs.get(section.number):
            continue
        for reloc in resolve(model, section)[1]:
            width = row.widths.get(reloc.type, 0)
            symbol = symbols.get(str(reloc.key[1])) if reloc.key[0] == "@" else None
            where = model.keys[symbol.section] if symbol else str(reloc.key[0])
            value = reloc.addend + (symbol.value if symbol else 0)
            other = model.sections.get(where)
            if other is not None and other.number != wanted.number and not other.name.startswith(".debug_"):
                value += _FAR
            if width and reloc.offset + width <= section.size:
                at = section.offset + reloc.offset
                data[at:at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(data)


def _read(data: bytes) -> dict[int, str]:
    from elftools.elf.elffile import ELFFile

    dwarf = ELFFile(io.BytesIO(data)).get_dwarf_info(relocate_dwarf_sections=False)
    found: dict[int, str] = {}
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is None:
            continue
        for entry in program.get_entries():
            state = entry.state
            if state is not None and not state.end_sequence and state.address < _FAR:
                found[state.address] = f"{_file(program, state.file)}:{state.line}"
    return found


def _file(program: LineProgram, number: int) -> str:
    """A file of the line program: numbered from 0 since DWARF 5, before that from 1."""
    files = program["file_entry"]
    index = number if program["version"] >= 5 else number - 1
    name = files[index].name if 0 <= index < len(files) else b"?"
    folders = program["include_directory"]
    folder = files[index].dir_index if 0 <= index < len(files) else 0
    folder -= 0 if program["version"] >= 5 else 1
    path = folders[folder] + b"/" + name if 0 <= folder < len(folders) else name
    return printable(path.decode("latin-1"))

