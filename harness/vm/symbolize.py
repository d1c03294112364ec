# SPDX-License-Identifier: GPL-2.0-only
"""Names and source lines for the addresses of a kernel report, from the vmlinux of the build that was booted.

The symbol table is read with `struct`: a vmlinux has tens of thousands of symbols, and a report should not wait for
them. Source lines come from DWARF through pyelftools, where there is any. Format: the ELF specification, elf(5).
"""

from __future__ import annotations

import io
import mmap
import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile

from harness.errors import UsageError
from harness.vm import titles
from harness.vm.event import KernelEvent
from harness.vm.frames import Frame
from harness.vm.klog import message

_FUNC, _NOTYPE = 2, 0
_SHT_SYMTAB = 2
_OFFSET = re.compile(r"Kernel Offset: (?P<offset>0x[0-9a-f]+) from ")
_SECTION = {1: struct.Struct("<IIIIIIIIII"), 2: struct.Struct("<IIQQQQIIQQ")}
_SYMBOL = {1: struct.Struct("<IIIBBH"), 2: struct.Struct("<IBBHQQ")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an address is: so many bytes into a function of a size."""

    function: str
    offset: int
    size: int


def beside(image: Path) -> Path | None:
    """The vmlinux of the build folder that a kernel image is in, if there is one."""
    return next((folder / "vmlinux" for folder in image.resolve().parents[:5] if (folder / "vmlinux").is_file()), None)


class Symbols:
    """The symbols of a vmlinux. Nothing is read before it is asked for.

    Args:
        path: the vmlinux.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def at(self, address: int) -> Place | None:
        """The function at `address`; None where there is none."""
        starts, rows = self._table
        index = bisect_right(starts, address) - 1
        if index < 0:
            return None
        start, size, name = rows[index]
        end = start + size if size else (starts[index + 1] if index + 1 < len(starts) else start)
        return Place(function=name, offset=address - start, size=end - start) if address < end else None

    def address(self, function: str, offset: int, size: int | None) -> int | None:
        """The address of a place in a function; None where several static ones of that name have that size."""
        _, rows = self._table
        found = {start for start, length, name in rows if name == function and (not size or not length or
                                                                                size_fits(size, length))}
        return found.pop() + offset if len(found) == 1 else None

    def source(self, address: int) -> str:
        """`file:line` of `address`; empty where the build has no debug information."""
        try:
            return self._source(address)
        except (DWARFError, ELFError, KeyError, IndexError, struct.error):
            return ""

    @cached_property
    def _table(self) -> tuple[list[int], list[tuple[int, int, str]]]:
        try:
            with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                rows = sorted(_functions(data))
        except (OSError, ValueError, struct.error) as error:
            raise UsageError(f"no ELF file with symbols: {error}", where=str(self.path),
                             hint="name the vmlinux of the build that printed the log") from error
        if not rows:
            raise UsageError("it has no symbols", where=str(self.path), hint="name a vmlinux that is not stripped")
        return [row[0] for row in rows], rows

    @cached_property
    def _dwarf(self) -> Any:
        elf = ELFFile(io.BytesIO(self.path.read_bytes()))
        return elf.get_dwarf_info() if elf.get_section_by_name(".debug_line") is not None else None

    @cached_property
    def _units(self) -> Any:
        return self._dwarf.get_aranges() if self._dwarf is not None else None

    def _source(self, address: int) -> str:
        if self._units is None:
            return ""
        offset = self._units.cu_offset_at_addr(address)
        if offset is None:
            return ""
        unit = self._dwarf.get_CU_at(offset)
        program = self._dwarf.line_program_for_CU(unit)
        before = None
        for entry in program.get_entries() if program is not None else ():
            state = entry.state
            if state is None:
                continue
            if before is not None and before.address <= address < state.address and not before.end_sequence:
                return f"{_file(program, before.file)}:{before.line}"
            before = state
        return ""


def size_fits(printed: int, real: int) -> bool:
    """Whether a function's size as kallsyms prints it (up to the next symbol) can be that of its ELF symbol."""
    return real <= printed < real + 64


def _file(program: Any, index: int) -> str:
    """A file of a line program, as a path from the folder that was compiled in, where it is below that."""
    header = program.header
    own = 1 if header.version < 5 else 0  # the number of the first entry
    entry = header.file_entry[index - own]
    name = str(entry.name.decode())
    # Number 0 is the folder that was compiled in (DWARF 5, 6.2.4), which older versions do not list.
    if name.startswith("/") or entry.dir_index == 0:
        return name
    return f"{header.include_directory[entry.dir_index - own].decode()}/{name}"


def _functions(data: mmap.mmap) -> Iterator[tuple[int, int, str]]:
    """Address, size and name of the functions of an ELF file, little-endian as all our architectures are."""
    if data[:4] != b"\x7fELF" or data[5] != 1:
        raise ValueError("not a little-endian ELF file")
    kind = data[4]
    shoff, = struct.unpack_from("<Q" if kind == 2 else "<I", data, 40 if kind == 2 else 32)
    entry, count = struct.unpack_from("<HH", data, 58 if kind == 2 else 46)
    sections = [_SECTION[kind].unpack_from(data, shoff + number * entry) for number in range(count)]
    code = {number for number, section in enumerate(sections) if section[2] & 4}  # SHF_EXECINSTR
    for section in sections:
        if section[1] != _SHT_SYMTAB:
            continue
        strings = sections[section[6]]
        names = data[strings[4]:strings[4] + strings[5]]
        raw = data[section[4]:section[4] + section[5]]
        for fields in _SYMBOL[kind].iter_unpack(raw):
            name, info, index, value, size = ((fields[0], fields[1], fields[3], fields[4], fields[5]) if kind == 2
                                              else (fields[0], fields[3], fields[5], fields[1], fields[2]))
            if index in code and info & 15 in (_FUNC, _NOTYPE) and value:
                text = names[name:names.index(b"\0", name)].decode(errors="replace")
                if text and not text.startswith((".L", "__pfx_", "$")):
                    yield value, size, text


def resolved(event: KernelEvent, symbols: Symbols) -> KernelEvent:
    """`event` with a name for each bare address, and a source line for each frame that has one; its title follows.

    Raises:
        UsageError: `symbols` are of no ELF file.
    """
    base = next((int(found["offset"], 16) for line in event.lines if (found := _OFFSET.search(line))), 0)
    stack = tuple(resolved_frame(frame, symbols, base) for frame in event.stack)
    if stack == event.stack:
        return event
    named = any(not old.function and new.function for old, new in zip(event.stack, stack, strict=True))
    texts = [message(line) for line in event.lines]
    return replace(event, stack=stack,
                   title=titles.title(event.kind, event.headline, texts, stack) if named else event.title)


def resolved_frame(frame: Frame, symbols: Symbols, base: int = 0) -> Frame:
    """`frame` with a name where it has an address only, and a source line where there is one.

    Args:
        base: by how much the kernel was moved from where it was linked (KASLR).
    """
    if frame.module:
        return frame
    address = frame.address - base if frame.address is not None else None
    if not frame.function and address is not None:
        place = symbols.at(address)
        if place is None:
            return frame
        frame = replace(frame, function=place.function, offset=place.offset, size=place.size)
    elif frame.function and frame.offset is not None:
        address = symbols.address(frame.function, frame.offset, frame.size)
    if frame.source or address is None:
        return frame
    # A caller's address is that of the instruction after the call.
    return replace(frame, source=symbols.source(address if frame.pointer else address - 1))


def shown(frames: Iterable[Frame]) -> Iterator[str]:
    """Frames as lines: what was sure, where each is."""
    for frame in frames:
        name = frame.function or (f"{frame.address:#x}" if frame.address is not None else "?")
        at = f"+{frame.offset:#x}/{frame.size:#x}" if frame.offset is not None and frame.size is not None else ""
        module = f" [{frame.module}]" if frame.module else ""
        yield f"{'' if frame.reliable else '? '}{name}{at}{module}{' ' + frame.source if frame.source else ''}"
