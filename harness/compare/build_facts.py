# SPDX-License-Identifier: GPL-2.0-only
"""The rule for what says only when and as what a kernel was built: its version strings. Pure.

It is for certain objects, and proves from content that the bytes are what it takes them for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.compare.elf import STT_OBJECT

if TYPE_CHECKING:
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
