# SPDX-License-Identifier: GPL-2.0-only
"""Installed modules that are compressed (`CONFIG_MODULE_COMPRESS_*`), to the modules they hold.

Foreign input: it is expanded a piece at a time, and no further than a kernel module may go.
"""

from __future__ import annotations

import lzma
import zlib

from harness.errors import InfraError

SUFFIXES = (".ko.gz", ".ko.xz", ".ko.zst")
LARGEST = 512 << 20
"""Bytes of the largest module that is expanded; amdgpu with debug information has 400 MB."""

_PIECE = 1 << 20


def expand(name: str, data: bytes, where: str) -> bytes:
    """The bytes of a module, by the ending of its file's name; those of any other file as they are.

    Raises:
        InfraError: it is damaged, larger than `LARGEST`, or compressed in a way that cannot be read here.
    """
    if not name.endswith(SUFFIXES):
        return data
    if name.endswith(".zst"):
        raise InfraError("a module compressed by zstd cannot be read", where=where,
                         hint="expand it on both sides first: zstd -d --rm FILE")
    try:
        found = _gzip(data) if name.endswith(".gz") else _xz(data)
    except (lzma.LZMAError, zlib.error, EOFError) as error:
        raise InfraError(f"a damaged compressed module: {error}", where=where, hint="install it again") from error
    if found is None:
        raise InfraError(f"larger than {LARGEST >> 20} MiB when expanded, which no module is", where=where)
    return found


def _xz(data: bytes) -> bytes | None:
    """Stream by stream, as xz(1) reads them; None where it is too large."""
    found = bytearray()
    while data:
        engine = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
        piece = data
        while not engine.eof:
            if engine.needs_input and not piece:
                raise EOFError("it ends too early")
            found += engine.decompress(piece, max_length=_PIECE)
            piece = b""
            if len(found) > LARGEST:
                return None
        data = engine.unused_data.lstrip(b"\0")
    return bytes(found)


def _gzip(data: bytes) -> bytes | None:
    found = bytearray()
    while data:
        engine = zlib.decompressobj(wbits=31)
        piece = data
        while not engine.eof:
            if not piece:
                raise EOFError("it ends too early")
            found += engine.decompress(piece, _PIECE)
            piece = engine.unconsumed_tail
            if len(found) > LARGEST:
                return None
        data = engine.unused_data.lstrip(b"\0")
    return bytes(found)
