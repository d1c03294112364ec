# SPDX-License-Identifier: GPL-2.0-only
"""Rules for what says only when and as what a kernel was built: version strings, the size of what is compressed. Pure.

Each is for a certain object, and proves from content that the bytes are what it takes them for.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from harness.compare.elf import STT_OBJECT, byte_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.compare.model import Model
    from harness.compare.side import Ranges, Side
    from harness.compare.symtab import Symbol

_UTS_FIELD = 65
_UTS_RELEASE, _UTS_VERSION = 2 * _UTS_FIELD, 3 * _UTS_FIELD
_VERSION_OBJECTS = frozenset({"init/version.o", "init/version-timestamp.o"})


def version_strings(base: Side, patched: Side) -> Ranges:
    """Rule version-string: release and version in `init_uts_ns` and `linux_banner` of init/version*.o.

    Proved by content: `init_uts_ns` must begin with a `struct new_utsname` whose sysname is "Linux", its fields
    zero-padded printable text; `linux_banner` must be built from just these two strings, with all between them
    (user, host, compiler) equal on both sides.
    """
    if base.path not in _VERSION_OBJECTS or base.relocs != patched.relocs:
        return []
    uts = [_uts_strings(side.model) for side in (base, patched)]
    if uts[0] is None or uts[1] is None:
        return []
    found: Ranges = []
    for name, ranges in (("init_uts_ns", _uts_ranges), ("linux_banner", _banner_ranges)):
        spans = [_span(side, name) for side in (base, patched)]
        if spans[0] is None or spans[0] != spans[1]:
            continue
        start, end = spans[0]
        found += [(start + a, start + b) for a, b in
                  ranges((base.data[start:end], patched.data[start:end]), (uts[0], uts[1]))]
    return found


BOOT_HEADER = "arch/x86/boot/header.o"
COMPRESSED = "compressed/vmlinux"
"""What unpacks the kernel, and in it the compressed kernel; beside the boot header."""
_HDR = 0x1F1
_SYSSIZE, _PAYLOAD_OFFSET, _PAYLOAD_LENGTH, _INIT_SIZE, _KERNEL_INFO_OFFSET = 0x1F4, 0x248, 0x24C, 0x260, 0x268
"""Offsets in the boot sector of `hdr` and of the fields (Documentation/x86/boot.rst)."""
_FIELD = 4


def boot_fields(symbols: Mapping[str, int], payload: int) -> dict[int, int]:
    """What fields of the boot header hold, by their offset in the boot sector, as arch/x86/boot/header.S computes them.

    Args:
        symbols: of `COMPRESSED`, its values; a field whose symbols are not all there is left out.
        payload: bytes of the compressed kernel.
    """
    found = {_PAYLOAD_LENGTH: payload}
    with contextlib.suppress(KeyError):
        found[_PAYLOAD_OFFSET] = symbols["input_data"]
    with contextlib.suppress(KeyError):
        found[_KERNEL_INFO_OFFSET] = symbols["kernel_info"]
    with contextlib.suppress(KeyError):
        found[_SYSSIZE] = symbols["_edata"] // 16
    with contextlib.suppress(KeyError):
        found[_INIT_SIZE] = _init_size(symbols)
    return found


def _init_size(symbols: Mapping[str, int]) -> int:
    """ZO_INIT_SIZE: memory for unpacking in place, in which the output must not overtake the input."""
    start, unpacked, packed = symbols["startup_32"], symbols["z_output_len"], symbols["z_input_len"]
    ahead = (unpacked >> 8) + 131072 + max(unpacked - packed, 0)
    return symbols["_end"] - start + (max(ahead, symbols["_ehead"] - start) + 4095 & ~4095)


def boot_header(base: Side, patched: Side) -> Ranges:
    """Rule boot-header: how large the compressed kernel is, and what lies where behind it, in the boot header.

    Proved by content: on each side the field must hold the very value that the compressed kernel beside it gives
    (`boot_fields`). That kernel is made of objects that are compared themselves, so what made its size differ is judged
    there.
    """
    if base.path != BOOT_HEADER or base.section.name != ".header" or base.relocs != patched.relocs:
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
            if int.from_bytes(side.data[start:start + _FIELD], byte_order(side.model.elf)) == value}


def _span(side: Side, name: str) -> tuple[int, int] | None:
    """[start, end) of the datum `name` in this side's section, or None when it is not there."""
    for symbol in side.model.symbols:
        if symbol.name == name and symbol.type == STT_OBJECT and symbol.section == side.section.number:
            return symbol.value, symbol.value + symbol.size
    return None


def _uts_strings(model: Model) -> tuple[bytes, bytes] | None:
    """(release, version) of the `init_uts_ns` an object holds; None when its bytes are not a `struct new_utsname`."""
    for symbol in model.symbols:
        if symbol.name == "init_uts_ns" and symbol.type == STT_OBJECT and symbol.section:
            return _parse_uts(model, symbol)
    return None


def _parse_uts(model: Model, symbol: Symbol) -> tuple[bytes, bytes] | None:
    section = model.elf.sections[symbol.section]
    start = section.offset + symbol.value
    fields = [model.elf.data[start + i * _UTS_FIELD:start + (i + 1) * _UTS_FIELD] for i in range(6)]
    texts = [field.rstrip(b"\0") for field in fields]
    inside = symbol.value + 6 * _UTS_FIELD <= min(section.size, symbol.value + symbol.size)
    if not inside or texts[0] != b"Linux" or not all(re.fullmatch(rb"[ -~]{0,64}", text) for text in texts):
        return None
    return texts[2], texts[3]


def _uts_ranges(_data: tuple[bytes, bytes], _uts: tuple[tuple[bytes, bytes], ...]) -> Ranges:
    return [(_UTS_RELEASE, _UTS_RELEASE + _UTS_FIELD), (_UTS_VERSION, _UTS_VERSION + _UTS_FIELD)]


def _banner_ranges(data: tuple[bytes, bytes], uts: tuple[tuple[bytes, bytes], ...]) -> Ranges:
    heads = [b"Linux version " + release + b" (" for release, _version in uts]
    tails = [b") " + version + b"\n\0" for _release, version in uts]
    if any(not d.startswith(h) or not d.endswith(t) for d, h, t in zip(data, heads, tails, strict=True)):
        return []
    middles = [d[len(h):-len(t)] for d, h, t in zip(data, heads, tails, strict=True)]
    if middles[0] != middles[1] or len(heads[0]) != len(heads[1]):
        return []
    return [(0, len(heads[0])), (len(data[0]) - len(tails[0]), len(data[0]))]
