# SPDX-License-Identifier: GPL-2.0-only
"""Sizes of sections and files in the sense of `size` (Berkeley format), and how two builds differ in them.

`size vmlinux` cannot judge a patch on x86_64: `.text` is padded to 2 MiB around the entry text. The figure to judge is
that of `vmlinux.o`, which has not been laid out yet; vmlinux is shown along with it. `symsize` has the symbols of
each file, `size_text` the words.

Source of the classes: `berkeley_sum` in binutils/size.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.compare import elf, symsize, walk
from harness.compare.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS
from harness.compare.symsize import SymbolReport
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Figure = Literal["text", "rodata", "data", "bss", "total"]

FIGURES: tuple[Figure, ...] = ("text", "rodata", "data", "bss", "total")
"""The sizes of a file, by the names of the attributes of `SectionSizes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionSizes:
    """Sizes of one ELF file in bytes.

    Attributes:
        text: allocated sections that are code or cannot be written, read-only data among them, as `size` has it.
        rodata: the part of `text` that is not code.
        data: allocated, writable, with contents.
        bss: allocated, writable, without contents.
        total: text + data + bss (`dec` of `size`).
        sections: (name, bytes) of each allocated section, in file order.
        dropped: what of each of `FIGURES` lies in sections that the kernel's linker script leaves out (`_DROPPED`).
    """

    text: int
    rodata: int
    data: int
    bss: int
    total: int
    sections: tuple[tuple[str, int], ...]
    dropped: tuple[int, ...] = (0, 0, 0, 0, 0)

    @property
    def figures(self) -> tuple[int, ...]:
        """The sizes in the order of `FIGURES`."""
        return self.text, self.rodata, self.data, self.bss, self.total


_DROPPED = re.compile(r"\.modinfo|\.exitcall\.exit|\.discard\..*")
"""Allocated sections of vmlinux.o that are in no kernel (DISCARDS of include/asm-generic/vmlinux.lds.h)."""

NOTHING = SectionSizes(text=0, rodata=0, data=0, bss=0, total=0, sections=())
"""The sizes of a file that one side does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeDelta:
    """One file of both builds.

    Attributes:
        path: relative to both build folders; the file's name where two files were compared. As the file system has it.
        base, patched: None where that side has no such file.
        symbols: its functions and data; None for `vmlinux`, where they would only repeat those of vmlinux.o.
    """

    path: str
    base: SectionSizes | None
    patched: SectionSizes | None
    symbols: SymbolReport | None = None

    @property
    def differs(self) -> bool:
        """Whether a size of the file, or of a symbol in it, is another one."""
        return (self.base is None or self.patched is None or self.base.figures != self.patched.figures
                or (self.symbols is not None and bool(self.symbols.symbols)))

    def growth(self, figure: Figure) -> int:
        """Growth of one of `FIGURES` in bytes, negative when it shrank; a missing side counts as nothing."""
        at = FIGURES.index(figure)
        return (self.patched or NOTHING).figures[at] - (self.base or NOTHING).figures[at]

    def kept(self, figure: Figure) -> int:
        """The same of what the linked kernel has of the file."""
        at = FIGURES.index(figure)
        return self.growth(figure) - (self.patched or NOTHING).dropped[at] + (self.base or NOTHING).dropped[at]

    @property
    def text(self) -> int:
        """Growth of text in bytes."""
        return self.growth("text")

    @property
    def total(self) -> int:
        """Growth of text + data + bss in bytes."""
        return self.growth("total")


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeReport:
    """How two builds, or two files, differ in size.

    Attributes:
        vmlinux_o: the relocatable kernel, the figure to judge; None when neither build has one. No figure is no pass.
        vmlinux: the linked kernel, for orientation; None when neither build has one.
        objects: the objects in which text, rodata, data, bss or a symbol has another size, largest absolute growth of
            the total first. Where two files were compared, the one pair, whether it differs or not.
        compared: how many objects there are on either side.
    """

    vmlinux_o: SizeDelta | None
    vmlinux: SizeDelta | None
    objects: tuple[SizeDelta, ...]
    compared: int


def sizes(path: Path) -> SectionSizes:
    """Sizes of one ELF file (object, vmlinux.o, vmlinux). Raises `InfraError` when it cannot be read."""
    return measure(elf.read(path))


def measure(file: elf.Elf) -> SectionSizes:
    """Sizes of a parsed ELF file."""
    loaded = [section for section in file.sections if section.flags & SHF_ALLOC]
    text, rodata, data, bss, total = _figures(loaded)
    return SectionSizes(text=text, rodata=rodata, data=data, bss=bss, total=total,
                        sections=tuple((section.name, section.size) for section in loaded),
                        dropped=_figures([section for section in loaded if _DROPPED.fullmatch(section.name)]))


def _figures(sections: Sequence[elf.Section]) -> tuple[int, int, int, int, int]:
    """The sizes of allocated sections, in the order of `FIGURES`."""
    text = rodata = data = bss = 0
    for section in sections:
        if section.flags & SHF_EXECINSTR or not section.flags & SHF_WRITE:
            text += section.size
            rodata += 0 if section.flags & SHF_EXECINSTR else section.size
        elif section.type == SHT_NOBITS:
            bss += section.size
        else:
            data += section.size
    return text, rodata, data, bss, text + data + bss


def compare_sizes(base: Path, patched: Path) -> SizeReport:
    """Compare the sizes of two build folders file by file, or of two ELF files.

    Raises `UsageError` for a path that does not exist, a folder beside a file or a folder without any object,
    `InfraError` for a file that cannot be read.
    """
    for path in (base, patched):
        if not (path.is_dir() or path.is_file()):
            raise UsageError("no such file or folder", where=str(path),
                             hint="name two kernel build folders or two object files")
    if base.is_dir() != patched.is_dir():
        raise UsageError("cannot compare a folder with a file", where=f"{base}, {patched}",
                         hint="name two build folders or two object files")
    return _folders(base, patched) if base.is_dir() else _files(base, patched)


def kernel_sizes(base: Path, patched: Path) -> SizeDelta | None:
    """`vmlinux.o` of two build folders; None when neither has one. Raises `InfraError`."""
    return _delta(base, patched, "vmlinux.o", always=True)


def _files(base: Path, patched: Path) -> SizeReport:
    pair = _parsed(base.name, (elf.read(base), elf.read(patched)), symbols=True)
    return SizeReport(vmlinux_o=None, vmlinux=None, objects=(pair,), compared=1)


def _folders(base: Path, patched: Path) -> SizeReport:
    sides = walk.find(base), walk.find(patched)
    for side, root in zip(sides, (base, patched), strict=True):
        if not side.objects:
            raise UsageError("no kernel object in this folder", where=str(root),
                             hint="name the O= folder of a finished build")
    paths = sorted(sides[0].objects | sides[1].objects)
    deltas = [_delta(base, patched, path) for path in paths]
    differing = [d for d in deltas if d is not None and d.differs]
    return SizeReport(
        vmlinux_o=kernel_sizes(base, patched),
        vmlinux=_delta(base, patched, "vmlinux", always=True, symbols=False),
        objects=tuple(sorted(differing, key=lambda d: (-abs(d.total), -abs(d.text), d.path))),
        compared=len(paths),
    )


def _delta(base: Path, patched: Path, path: str, *, always: bool = False, symbols: bool = True) -> SizeDelta | None:
    """Both sides of one file; None when neither has it, or (unless `always`) when their bytes are equal."""
    a, b = (elf.read_bytes(root / path) if _is_file(root / path) else None for root in (base, patched))
    if (a is None and b is None) or (a == b and not always):
        return None
    files = (None if a is None else elf.parse(a, str(base / path)),
             None if b is None else elf.parse(b, str(patched / path)))
    return _parsed(path, files, symbols=symbols)


def _parsed(path: str, files: tuple[elf.Elf | None, elf.Elf | None], *, symbols: bool) -> SizeDelta:
    base, patched = (None if file is None else measure(file) for file in files)
    named = symsize.compare_symbols(*(symsize.symbol_sizes(file) for file in files)) if symbols else None
    return SizeDelta(path=path, base=base, patched=patched, symbols=named)


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
