# SPDX-License-Identifier: GPL-2.0-only
"""The boot header of x86, which says how large the compressed kernel is and what lies where behind it.

Its object differs wherever the compressed kernel's size does, so wherever a line number does. All of that follows from
the compressed kernel beside it, whose objects are compared themselves: what made its size differ is judged there.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from harness.compare import elf, inputs, symtab
from harness.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from harness.compare.side import Ranges, Side

PATH = "arch/x86/boot/header.o"
OFFSETS = "arch/x86/boot/zoffset.h"
"""Generated: where symbols of the unpacker lie (`cmd_zoffset` in arch/x86/boot/Makefile). header.S includes it."""
_UNPACKER = "arch/x86/boot/compressed/vmlinux"
_OFFSET = re.compile(r"#define ZO_(\w+) 0x([0-9a-f]+)")
_HDR, _PAYLOAD_LENGTH, _FIELD = 0x1F1, 0x24C, 4
"""Offsets in the boot sector of `hdr` and payload_length, and the bytes of each field."""


def _init_size(symbols: Mapping[str, int]) -> int:
    """ZO_INIT_SIZE: memory for unpacking in place, in which the output must not overtake the input."""
    start, unpacked, packed = symbols["startup_32"], symbols["z_output_len"], symbols["z_input_len"]
    ahead = (unpacked >> 8) + 131072 + max(unpacked - packed, 0)
    return symbols["_end"] - start + ((max(ahead, symbols["_ehead"] - start) + 4095) & ~4095)


_COMPUTED: Mapping[int, Callable[[Mapping[str, int]], int]] = {
    0x1F4: lambda symbols: symbols["_edata"] // 16,
    0x248: lambda symbols: symbols["input_data"],
    0x260: _init_size,
    0x268: lambda symbols: symbols["kernel_info"],
}
"""syssize, payload_offset, init_size and kernel_info_offset, by their offset in the boot sector
(Documentation/x86/boot.rst)."""


def fields(symbols: Mapping[str, int], payload: int) -> dict[int, int]:
    """What fields of the boot header hold, by their offset in the boot sector, as arch/x86/boot/header.S computes them.

    Args:
        symbols: values of the unpacker's; a field whose symbols are not all there is left out.
        payload: bytes of the compressed kernel.
    """
    found = {_PAYLOAD_LENGTH: payload}
    for field, compute in _COMPUTED.items():
        with contextlib.suppress(KeyError):
            found[field] = compute(symbols)
    return found


def fields_of(folder: Path) -> dict[int, int]:
    """What the boot header of a build folder must hold for the one compressed kernel there, as far as that is known."""
    found = [path for path in (folder / _UNPACKER).parent.glob("vmlinux.bin.*")
             if path.suffix != ".all" and path.is_file() and not path.is_symlink()]
    return fields(_symbols(folder), found[0].stat().st_size) if len(found) == 1 else {}


def offsets_hold(folder: Path) -> bool:
    """Whether the file `OFFSETS` of a build folder says what the unpacker there has."""
    symbols = _symbols(folder)
    try:
        lines = inputs.read_regular(folder / OFFSETS, follow=False).decode("ascii").splitlines()
    except (InfraError, UnicodeDecodeError):
        return False
    found = [_OFFSET.fullmatch(line) for line in lines]
    return bool(found) and all(match and symbols.get(match[1]) == int(match[2], 16) for match in found)


def _symbols(folder: Path) -> dict[str, int]:
    """Symbols of the unpacker with their values; none that has several, and none at all where it cannot be read."""
    values: dict[str, set[int]] = {}
    with contextlib.suppress(InfraError):
        data = inputs.read_regular(folder / _UNPACKER, follow=False)
        for symbol in symtab.symbols(elf.parse(data, str(folder / _UNPACKER))):
            if symbol.section or symbol.special == elf.SHN_ABS:
                values.setdefault(symbol.name, set()).add(symbol.value)
    return {name: value for name, (value, *others) in values.items() if not others}


def rule(base: Side, patched: Side) -> Ranges:
    """Rule boot-header: how large the compressed kernel is, and what lies where behind it, in the boot header.

    Proved by content: on each side the field must hold the very value that the compressed kernel beside it gives
    (`fields`). That kernel is made of objects that are compared themselves, so what made its size differ is judged
    there.
    """
    if base.path != PATH or base.section.name != ".header" or base.relocs != patched.relocs:
        return []
    right = [_right_fields(side) for side in (base, patched)]
    return [(start, start + _FIELD) for start in sorted(right[0] & right[1])]


def _right_fields(side: Side) -> set[int]:
    """Where in the section fields are that hold what they must."""
    at = [symbol.value for symbol in side.model.symbols
          if symbol.name == "hdr" and symbol.section == side.section.number]
    if len(at) != 1:
        return set()
    starts = {at[0] + field - _HDR: value for field, value in side.boot.items()}
    return {start for start, value in starts.items()
            if int.from_bytes(side.data[start:start + _FIELD], elf.byte_order(side.model.elf)) == value}
