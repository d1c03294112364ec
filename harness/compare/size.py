# SPDX-License-Identifier: GPL-2.0-only
"""Sizes of sections and files in the sense of `size` (Berkeley format), and how two builds differ in them.

`size vmlinux` cannot judge a patch on x86_64: `.text` is padded to 2 MiB around the entry text. The figure to judge is
the text of `vmlinux.o`, which has not been laid out yet; vmlinux is shown along with it.

Source of the classes: `berkeley_sum` in binutils/size.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.compare import elf, walk
from harness.compare.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS
from harness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


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
    """

    text: int
    rodata: int
    data: int
    bss: int
    total: int
    sections: tuple[tuple[str, int], ...]


NOTHING = SectionSizes(text=0, rodata=0, data=0, bss=0, total=0, sections=())
"""The sizes of a file that one side does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeDelta:
    """One file of both builds. `base` or `patched` is None where that side has no such file; path is relative."""

    path: str
    base: SectionSizes | None
    patched: SectionSizes | None

    @property
    def text(self) -> int:
        """Growth of text in bytes, negative when it shrank; a missing side counts as nothing."""
        return (self.patched or NOTHING).text - (self.base or NOTHING).text

    @property
    def total(self) -> int:
        """Growth of text + data + bss in bytes."""
        return (self.patched or NOTHING).total - (self.base or NOTHING).total


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeReport:
    """How two builds differ in size.

    Attributes:
        vmlinux_o: the relocatable kernel, the figure to judge; None when neither build has one. No figure is no pass.
        vmlinux: the linked kernel, for orientation; None when neither build has one.
        objects: the objects whose text, rodata, data or bss differ, largest absolute growth of the total first.
    """

    vmlinux_o: SizeDelta | None
    vmlinux: SizeDelta | None
    objects: tuple[SizeDelta, ...]


def sizes(path: Path) -> SectionSizes:
    """Sizes of one ELF file (object, vmlinux.o, vmlinux). Raises `InfraError` when it cannot be read."""
    return measure(elf.read(path))


def measure(file: elf.Elf) -> SectionSizes:
    """Sizes of a parsed ELF file."""
    text = rodata = data = bss = 0
    named = []
    for section in file.sections:
        if not section.flags & SHF_ALLOC:
            continue
        named.append((section.name, section.size))
        if section.flags & SHF_EXECINSTR or not section.flags & SHF_WRITE:
            text += section.size
            rodata += 0 if section.flags & SHF_EXECINSTR else section.size
        elif section.type == SHT_NOBITS:
            bss += section.size
        else:
            data += section.size
    return SectionSizes(text=text, rodata=rodata, data=data, bss=bss, total=text + data + bss, sections=tuple(named))


def compare_sizes(base_build: Path, patched_build: Path) -> SizeReport:
    """Compare the sizes of two build folders, file by file.

    Raises `UsageError` for a folder without any object, `InfraError` for a file that cannot be read.
    """
    sides = walk.find(base_build), walk.find(patched_build)
    for side, root in zip(sides, (base_build, patched_build), strict=True):
        if not side.objects:
            raise UsageError("no kernel object in this folder", where=str(root),
                             hint="name the O= folder of a finished build")
    deltas = [_delta(base_build, patched_build, path) for path in sorted(sides[0].objects | sides[1].objects)]
    differing = [d for d in deltas if d is not None and _figures(d.base) != _figures(d.patched)]
    return SizeReport(
        vmlinux_o=_delta(base_build, patched_build, "vmlinux.o", always=True),
        vmlinux=_delta(base_build, patched_build, "vmlinux", always=True),
        objects=tuple(sorted(differing, key=lambda d: (-abs(d.total), -abs(d.text), d.path))),
    )


def _figures(one: SectionSizes | None) -> tuple[int, ...] | None:
    return None if one is None else (one.text, one.rodata, one.data, one.bss)


def _delta(base: Path, patched: Path, path: str, *, always: bool = False) -> SizeDelta | None:
    """Both sides of one file; None when neither has it, or (unless `always`) when their bytes are equal."""
    a, b = (elf.read_bytes(root / path) if _is_file(root / path) else None for root in (base, patched))
    if (a is None and b is None) or (a == b and not always):
        return None
    return SizeDelta(path=path, base=None if a is None else measure(elf.parse(a, str(base / path))),
                     patched=None if b is None else measure(elf.parse(b, str(patched / path))))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
