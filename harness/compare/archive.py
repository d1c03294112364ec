# SPDX-License-Identifier: GPL-2.0-only
"""Reads the list of members of an `ar` archive, thin or not: the order in which kbuild links objects.

Pure. `built-in.a` and `lib.a` are thin archives, so they hold no code of their own; but initcalls of one level run in
link order, so a changed list changes the kernel though every object is equal.

Source of the format: `ar(5)`, and the GNU binutils manual for thin archives and long names.
"""

from __future__ import annotations

import re
from typing import NoReturn

from harness.errors import InfraError

_MAGIC, _THIN = b"!<arch>\n", b"!<thin>\n"
MAGICS = frozenset({_MAGIC, _THIN})
"""The first 8 bytes of an archive."""
_HEADER = 60
_REFERENCE = re.compile(rb"/(\d+)(:\d+)? *(/)?")
"""A reference into the table of long names; with a colon for nested archives; binutils 2.40 ends some in a slash."""


def _bad(path: str, what: str) -> NoReturn:
    raise InfraError(f"cannot read this archive: {what}", where=path, hint="the file is damaged; build it again")


def members(data: bytes, path: str) -> tuple[str, ...]:
    """Names of the members in order; `path` is for messages. Raises `InfraError` for a malformed archive."""
    return tuple(name for name, _content in entries(data, path))


def entries(data: bytes, path: str) -> tuple[tuple[str, bytes | None], ...]:
    """(name, bytes) of the members in order; None for the bytes in a thin archive: its members are files of their own,
    and their names paths from the archive's folder. Raises `InfraError` for a malformed archive."""
    if data[:8] not in (_MAGIC, _THIN):
        _bad(path, "it does not start with the magic of one")
    thin = data[:8] == _THIN
    found: list[tuple[str, bytes | None]] = []
    long_names = b""
    at = 8
    while at < len(data):
        head = data[at:at + _HEADER]
        if len(head) < _HEADER or head[58:] != b"`\n" or not head[48:58].strip().isdigit():
            _bad(path, f"no member header at offset {at}")
        name, size = head[:16].rstrip(), int(head[48:58])
        at += _HEADER
        table = name in (b"/", b"//", b"/SYM64/")
        if at + size > len(data) and (table or not thin):
            _bad(path, f"the member at offset {at - _HEADER} is cut off")
        if name == b"//":
            long_names = data[at:at + size]
        elif not table:
            found.append((_name(name, long_names, path), None if thin else data[at:at + size]))
        # a thin archive holds only its own tables; members start at even offsets
        at += size + (size & 1) if table or not thin else 0
    return tuple(found)


def _name(name: bytes, long_names: bytes, path: str) -> str:
    if name[:1] == b"/":
        reference = _REFERENCE.fullmatch(name)
        end = long_names.find(b"\n", int(reference[1])) if reference else -1
        start = int(reference[1]) if reference else 0
        if end < 0:
            _bad(path, f"member name {name.decode('latin-1')} is not in its table of long names")
        name = long_names[start:end]
    return name.removesuffix(b"/").decode("utf-8", "surrogateescape")
