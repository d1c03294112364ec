# SPDX-License-Identifier: GPL-2.0-only
"""Compressed debug sections, as `CONFIG_DEBUG_INFO_COMPRESSED*` makes them: how long they are, and an object without.

Pure. Nobody compares debug information (rule debug-sections), so this is only for those who read it: source lines and
layouts. Foreign input: a section is expanded no further than it says itself, all together no further than `LARGEST`.

Sources: gABI, "Section Compression"; for `.zdebug_*`, the GNU as manual (`--compress-debug-sections=zlib-gnu`).
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.compare.elf import SHT_NOBITS, bad, byte_order, content, parse

if TYPE_CHECKING:
    from harness.compare.elf import Elf, Section

SHF_COMPRESSED = 0x800
LARGEST = 256 << 20
"""Bytes of all expanded sections of one object; those of the largest file of a kernel have some 20 MiB."""

_ZLIB, _ZSTD = 1, 2
_OLD = ".zdebug_"
_OLD_HEAD = 12


def is_compressed(section: Section) -> bool:
    """Whether a section's header, or its name, says that its contents are compressed."""
    return section.type != SHT_NOBITS and bool(section.flags & SHF_COMPRESSED or section.name.startswith(_OLD))


def _head(elf: Elf, section: Section) -> tuple[int, int, int, int]:
    """(bytes of its head, kind, bytes when expanded, alignment) of a compressed section. Raises `InfraError`."""
    data, order = content(elf, section), byte_order(elf)
    if section.name.startswith(_OLD):
        if data[:4] != b"ZLIB" or len(data) < _OLD_HEAD:
            bad(elf.path, f"section {section.number} is compressed in no known way")
        return _OLD_HEAD, _ZLIB, int.from_bytes(data[4:_OLD_HEAD], "big"), section.align
    wide = elf.layout.wide
    fields = ((0, 4), (8, 16), (16, 24)) if wide else ((0, 4), (4, 8), (8, 12))
    if len(data) < fields[-1][1]:
        bad(elf.path, f"section {section.number} is compressed and has no room to say how")
    kind, size, align = (int.from_bytes(data[start:end], order) for start, end in fields)
    return fields[-1][1], kind, size, align


def full_size(elf: Elf, section: Section) -> int:
    """Bytes of a section's contents, expanded: what relocations of a compressed section count in."""
    return _head(elf, section)[2] if is_compressed(section) else section.size


def reason(elf: Elf) -> str:
    """Why the debug information cannot be read here, in words; empty where it can."""
    kinds = {_head(elf, section)[1] for section in elf.sections if is_compressed(section)} - {_ZLIB}
    if _ZSTD in kinds:
        return "it is compressed by zstd"
    return f"it is compressed in a way that is not known ({min(kinds)})" if kinds else ""


def uncompressed(elf: Elf) -> Elf:
    """The object with its compressed sections expanded and under the names they have uncompressed.

    The object itself where none is compressed. Raises `InfraError` for what is damaged, too large, or not of zlib.
    """
    packed = [section for section in elf.sections if is_compressed(section)]
    if not packed:
        return elf
    why = reason(elf)
    if why:
        bad(elf.path, f"the debug information cannot be read: {why}")
    data = bytearray(elf.data)
    names = elf.sections[elf.shstrndx]
    table, entry = elf.tables[1][0], elf.layout.shdr
    room = LARGEST
    for section in packed:
        head, _kind, size, align = _head(elf, section)
        room -= size
        if room < 0:
            bad(elf.path, f"its debug information has more than {LARGEST >> 20} MiB")
        found = _expanded(content(elf, section)[head:], size)
        if found is None:
            bad(elf.path, f"section {section.number} is not what it says it is when it is expanded")
        at = table + section.number * entry.size
        values = list(entry.unpack_from(data, at))
        if section.name.startswith(_OLD):
            # ".rela.zdebug_x" ends in this name and becomes ".rela.debug_x" with it
            start = names.offset + values[0]
            data[start:start + len(section.name)] = f".{section.name[2:]}\0".encode("latin-1")
        values[2], values[4], values[5], values[8] = values[2] & ~SHF_COMPRESSED, len(data), size, align
        entry.pack_into(data, at, *values)
        data += found
    return replace(parse(bytes(data), elf.path), path=elf.path)


def _expanded(data: bytes, size: int) -> bytes | None:
    """The bytes of a zlib stream; None where it is damaged or does not have just this many."""
    engine = zlib.decompressobj()
    try:
        found = engine.decompress(data, size + 1) if size else b""
        found += engine.flush() if engine.eof else b""
    except (zlib.error, OverflowError, MemoryError):
        return None
    return found if len(found) == size and (engine.eof or not size) else None
