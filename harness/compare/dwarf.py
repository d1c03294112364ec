# SPDX-License-Identifier: GPL-2.0-only
"""The debug information of an object as a tree of entries: DWARF 2 to 5.

pyelftools decodes sections, forms and relocations. The entries are walked here, one after the other in the order of the
file, and no link in it is followed (`DW_AT_sibling`), so that a damaged file can make no loop.

Source: the DWARF standards, chapter 2 (the tree) and 7 (encoding), http://dwarfstd.org.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from harness.compare import debugdata
from harness.compare.elf import parse
from harness.compare.values import printable
from harness.errors import InfraError

_MOST_BYTES = 64 << 20


@dataclass(slots=True, kw_only=True)
class Entry:
    """A debugging information entry: tag, attributes by name, the entries below it. References are absolute."""

    tag: str
    values: dict[str, Any]
    children: list[Entry] = field(default_factory=list)


def bad(where: str, what: str) -> InfraError:
    """The error of a file that cannot be read."""
    return InfraError(f"cannot read the debug information: {what}", where=where,
                      hint="the file is damaged, or written by a compiler that this reader does not know")


def read_entries(data: bytes, where: str) -> tuple[dict[int, Entry], list[Entry]]:
    """All entries of an object by their offset in `.debug_info`, and the units at the top.

    Args:
        where: what messages call the object.

    Raises:
        InfraError: it is no ELF file, has no debug information, or that is damaged.
    """
    from elftools.common.exceptions import DWARFError, ELFError
    from elftools.construct import ConstructError

    if len(data) > _MOST_BYTES:
        raise bad(where, f"the object has more than {_MOST_BYTES >> 20} MiB")
    try:
        return _decoded(data)
    except InfraError as error:
        raise bad(where, error.what) from error
    except (ELFError, DWARFError, ConstructError, struct.error, zlib.error, ArithmeticError, AssertionError,
            AttributeError, LookupError, MemoryError, NotImplementedError, OSError, RecursionError, TypeError,
            ValueError) as error:
        # pyelftools trusts a file to be whole; what a damaged one raises is not part of its interface
        raise bad(where, f"{type(error).__name__}: {printable(str(error))[:120]}") from error


def _decoded(data: bytes) -> tuple[dict[int, Entry], list[Entry]]:
    from elftools.dwarf.die import DIE
    from elftools.elf.elffile import ELFFile

    # what is compressed is expanded here, and within bounds
    elf = ELFFile(BytesIO(debugdata.uncompressed(parse(data, "it")).data))
    if not elf.has_dwarf_info(strict=True):
        raise InfraError("there is none")
    by_offset: dict[int, Entry] = {}
    units: list[Entry] = []
    for unit in elf.get_dwarf_info().iter_CUs():
        unit.get_top_DIE()  # decodes the bases that indirect forms of DWARF 5 count from
        section = unit.dwarfinfo.debug_info_sec
        assert section is not None
        at, end = unit.cu_die_offset, unit.cu_offset + unit["unit_length"] + unit.structs.initial_length_field_size()
        above: list[Entry] = []
        while at < end:
            die = DIE(unit, section.stream, at)
            if die.is_null():
                if above:
                    above.pop()
            else:
                entry = Entry(tag=str(die.tag), values=_values(die.attributes, unit.cu_offset))
                by_offset[at] = entry
                (above[-1].children if above else units).append(entry)
                if die.has_children:
                    above.append(entry)
            at += die.size
        if above or at != end:
            raise InfraError("its entries do not end where they should")
    return by_offset, units


def _values(attributes: Mapping[str, Any], unit: int) -> dict[str, Any]:
    """Attributes by name; a reference within its unit becomes an offset in the section."""
    local = ("DW_FORM_ref1", "DW_FORM_ref2", "DW_FORM_ref4", "DW_FORM_ref8", "DW_FORM_ref_udata")
    return {str(name): value.raw_value + unit if value.form in local else value.value
            for name, value in attributes.items()}


def text(entry: Entry) -> str:
    """Its name, printable ASCII; empty where it has none."""
    value = entry.values.get("DW_AT_name", b"")
    return printable(value.decode("latin-1") if isinstance(value, bytes) else str(value))
