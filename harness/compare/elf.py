# SPDX-License-Identifier: GPL-2.0-only
"""Reads ELF files: headers and sections; 32 and 64 bit, little and big endian. `symtab` reads the rest.

Written with `struct`, because pyelftools needs 10 s for the objects of one kernel where this needs 0.2 s. It is fed
files that nobody vouches for. Whatever they hold, the answer is a value or an `InfraError` that names the file and
what is wrong: every offset is checked before it is used, and the work is bounded by the file's size (sections may not
overlap, names have a longest length).

Source of the layouts: System V gABI, chapters 4 and 5 (`elf(5)`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

from harness.compare import inputs
from harness.compare.compressed import expand
from harness.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SHT_NULL, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOTE, SHT_NOBITS, SHT_REL = 0, 2, 3, 4, 7, 8, 9
SHT_GROUP, SHT_SYMTAB_SHNDX = 17, 18
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_MERGE, SHF_STRINGS = 0x1, 0x2, 0x4, 0x10, 0x20
SHF_INFO_LINK, SHF_LINK_ORDER = 0x40, 0x80
SHN_UNDEF, SHN_LORESERVE, SHN_ABS, SHN_COMMON, SHN_XINDEX = 0, 0xFF00, 0xFFF1, 0xFFF2, 0xFFFF
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION, STT_FILE, STT_TLS, STT_GNU_IFUNC = 0, 1, 2, 3, 4, 6, 10
ET_REL = 1
EM_386, EM_S390, EM_ARM, EM_X86_64, EM_AARCH64 = 3, 22, 40, 62, 183

_new = tuple.__new__
"""Makes named tuples without the call through their own constructor: hundred thousands are made for one kernel."""

MAX_NAME = 4096
"""Longest section or symbol name in bytes. The kernel's own limit is 512 (KSYM_NAME_LEN)."""


class Section(NamedTuple):
    """One section header. A tuple, because an allyesconfig tree holds millions.

    `offset`, `size`, `addr`, `align` and `entsize` are bytes; `flags` is the SHF_ mask.
    """

    number: int
    name: str
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int


class Layout(NamedTuple):
    """How one ELF class in one byte order is laid out (`struct` formats, with the order's prefix)."""

    ehdr: struct.Struct
    shdr: struct.Struct
    sym: struct.Struct
    rel: struct.Struct
    rela: struct.Struct
    sym_shift: int
    type_mask: int
    wide: bool


def _layout(order: str, wide: bool) -> Layout:
    word = "Q" if wide else "I"
    return Layout(
        ehdr=struct.Struct(f"{order}HHI{word}{word}{word}IHHHHHH"),
        shdr=struct.Struct(f"{order}II{word}{word}{word}{word}II{word}{word}"),
        sym=struct.Struct(f"{order}IBBHQQ" if wide else f"{order}IIIBBH"),
        rel=struct.Struct(f"{order}{word}{word}"),
        rela=struct.Struct(f"{order}{word}{word}{word.lower()}"),
        sym_shift=32 if wide else 8,
        type_mask=0xFFFFFFFF if wide else 0xFF,
        wide=wide,
    )


LAYOUTS: Mapping[tuple[int, int], Layout] = {
    (klass, data): _layout(order, wide) for klass, wide in ((1, False), (2, True))
    for data, order in ((1, "<"), (2, ">"))
}
"""(EI_CLASS, EI_DATA) to layout. MIPS64 packs r_info in its own way and is no row of any machine table of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """A parsed file: header and sections. Symbols and relocations are read on request, by `symtab`.

    Attributes:
        path: where it was read from, for messages.
        data: the file's bytes.
        layout: the row of `LAYOUTS` it is written in.
        header: (EI_CLASS, EI_DATA, EI_OSABI, EI_ABIVERSION, e_type, e_machine, e_flags, e_entry).
        phdrs: the raw program headers; empty for a relocatable object.
        sections: all of them, the null section first.
        tables: (offset, size) of the ELF header and the section and program header tables.
        shstrndx: index of the section that holds the section names.
    """

    path: str
    data: bytes
    layout: Layout
    header: tuple[int, ...]
    phdrs: bytes
    sections: tuple[Section, ...]
    tables: tuple[tuple[int, int], ...]
    shstrndx: int

    @property
    def type(self) -> int:
        """e_type, `ET_REL` for an object."""
        return self.header[4]

    @property
    def machine(self) -> int:
        """e_machine."""
        return self.header[5]


def bad(path: str, what: str) -> NoReturn:
    """Raise the one error this module knows: `path` is not an ELF file we can read, because of `what`."""
    raise InfraError(f"cannot read this ELF file: {what}", where=path,
                     hint="the file is damaged or not an object file; build it again")


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file, those of a compressed module expanded; never waits. Raises `InfraError`."""
    return expand(path.name, inputs.read_regular(path), str(path))


def read(path: Path) -> Elf:
    """Read and parse one file. Raises `InfraError`."""
    return parse(read_bytes(path), str(path))


def parse(data: bytes, path: str) -> Elf:
    """Parse the bytes of an ELF file; `path` is only for messages. Raises `InfraError`."""
    if data[:4] != b"\x7fELF":
        bad(path, "it does not start with the ELF magic" if data else "it is empty")
    layout = LAYOUTS.get((data[4], data[5])) if len(data) >= 16 else None
    if layout is None:
        bad(path, "its class or byte order is unknown")
    if len(data) < 16 + layout.ehdr.size:
        bad(path, "its header is cut off")
    (e_type, machine, _version, entry, phoff, shoff, flags, ehsize, phentsize, phnum,
     shentsize, shnum, shstrndx) = layout.ehdr.unpack_from(data, 16)
    if shoff == 0:
        bad(path, "it has no section headers")
    if shentsize != layout.shdr.size:
        bad(path, f"its section headers are {shentsize} bytes long, not {layout.shdr.size}")
    if shoff + layout.shdr.size > len(data):
        bad(path, "its section header table lies outside the file")
    first = layout.shdr.unpack_from(data, shoff)
    # gABI: counts that do not fit in 16 bits stand in section header 0
    shnum = shnum or first[5]
    shstrndx = first[6] if shstrndx == SHN_XINDEX else shstrndx
    phnum = first[7] if phnum == 0xFFFF else phnum
    if shoff + shnum * layout.shdr.size > len(data):
        bad(path, "its section header table lies outside the file")
    if phnum and phoff + phnum * phentsize > len(data):
        bad(path, "its program header table lies outside the file")
    headers = list(layout.shdr.iter_unpack(memoryview(data)[shoff:shoff + shnum * layout.shdr.size]))
    return Elf(
        path=path, data=data, layout=layout,
        header=(data[4], data[5], data[7], data[8], e_type, machine, flags, entry),
        phdrs=data[phoff:phoff + phnum * phentsize] if phnum else b"",
        sections=_sections(headers, data, shstrndx, path),
        tables=((0, ehsize), (shoff, shnum * layout.shdr.size), (phoff, phnum * phentsize)),
        shstrndx=shstrndx,
    )


def _sections(headers: list[tuple[int, ...]], data: bytes, shstrndx: int, path: str) -> tuple[Section, ...]:
    """Section headers with names, all of them checked against the file's length and against overlap."""
    if not 0 < shstrndx < len(headers):
        bad(path, f"its section names are said to be in section {shstrndx} of {len(headers)}")
    total = 0
    for index, (_name, kind, _flags, _addr, offset, size, *_rest) in enumerate(headers):
        if kind in (SHT_NULL, SHT_NOBITS):
            continue
        if offset + size > len(data):
            bad(path, f"section {index} lies outside the file")
        total += size
    if total > len(data):
        bad(path, "its sections overlap")
    if headers[shstrndx][1] == SHT_NOBITS:
        bad(path, "its section names have no contents")
    names = Names(data, headers[shstrndx][4], headers[shstrndx][5], path)
    found = names.all([header[0] for header in headers])
    return tuple([_new(Section, (index, found[index], *h[1:])) for index, h in enumerate(headers)])


class Names:
    """A string table. Names are latin-1, one character for each byte, and untrusted: escape them before showing.

    The total handed out is bounded, so that many long overlapping names cannot eat the memory.
    """

    __slots__ = ("_budget", "_path", "_text")

    def __init__(self, data: bytes, offset: int, size: int, path: str) -> None:
        """A table of `size` bytes at `offset` of a file's `data`."""
        self._text, self._path = data[offset:offset + size].decode("latin-1"), path
        self._budget = 8 * len(data) + (1 << 20)

    def at(self, offset: int) -> str:
        """The name at `offset` of the table. Raises `InfraError` when there is none."""
        end = self._text.find("\0", offset, offset + MAX_NAME + 1)
        if end < 0:
            bad(self._path, f"a name at offset {offset} of a string table has no end")
        self._budget -= end - offset
        if self._budget < 0:
            bad(self._path, "its names overlap so much that they would not fit into memory")
        return self._text[offset:end]

    def all(self, offsets: Sequence[int]) -> list[str]:
        """The names at these offsets, as `at` has them; quicker than one by one."""
        text, find = self._text, self._text.find
        found = []
        spent = 0
        for offset in offsets:
            end = find("\0", offset, offset + MAX_NAME + 1)
            if end < 0 or spent > self._budget:
                self.at(offset)
                break
            spent += end - offset
            found.append(text[offset:end])
        self._budget -= spent
        if len(found) < len(offsets) or self._budget < 0:
            bad(self._path, "its names overlap so much that they would not fit into memory")
        return found


def byte_order(elf: Elf) -> Literal["little", "big"]:
    """The byte order of a file, as `int.from_bytes` wants it."""
    return "little" if elf.header[1] == 1 else "big"


def content(elf: Elf, section: Section) -> bytes:
    """The bytes of a section; empty for one without contents (`.bss`)."""
    if section.type in (SHT_NOBITS, SHT_NULL):
        return b""
    return elf.data[section.offset:section.offset + section.size]
