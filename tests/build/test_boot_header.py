# SPDX-License-Identifier: GPL-2.0-only
"""The boot header of a real kernel holds what rule boot-header computes from the compressed kernel beside it."""

from __future__ import annotations

from harness.compare import elf
from harness.compare.build_facts import BOOT_HEADER
from harness.compare.objdiff import boot_fields_of
from harness.kernel.kbuild import Build

_SECTION_STARTS = 0x1EF
"""Where `.header` lies in the boot sector: two bytes before `hdr` (arch/x86/boot/header.S)."""


def test_every_field_is_as_computed(base_both: Build, patched_both: Build) -> None:
    seen = []
    for build in (base_both, patched_both):
        path = build.out / BOOT_HEADER
        header, = (each for each in elf.read(path).sections if each.name == ".header")
        data = elf.read(path).data[header.offset:header.offset + header.size]
        wanted = boot_fields_of(path)
        seen.append(wanted)
        assert wanted == {field: int.from_bytes(data[field - _SECTION_STARTS:][:4], "little") for field in wanted}
    assert len(seen[0]) == 5
    assert seen[0] != seen[1], "they do not show that anything is computed"
