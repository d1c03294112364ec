# SPDX-License-Identifier: GPL-2.0-only
"""Pure: files to a "newc" cpio archive, the format of an initramfs; the same files give the same bytes.

Format: `Documentation/driver-api/early-userspace/buffer-format.rst` in the kernel's tree. The kernel unpacks
archives that follow one another: a small one with what differs per run is simply appended to a large cached one.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

_TRAILER = "TRAILER!!!"
_ALIGN = 4
BLOCK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member of an archive; owned by root, its time is 0.

    Attributes:
        path: where it goes, relative, without `.` or `..`.
        mode: type and permission bits as in stat(2).
        data: a file's content or a link's target.
        device: major and minor number of a device node.
    """

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(path: str, mode: int = 0o755) -> Entry:
    return Entry(path=path, mode=stat.S_IFDIR | mode)


def file(path: str, data: bytes, mode: int = 0o644) -> Entry:
    return Entry(path=path, mode=stat.S_IFREG | mode, data=data)


def symlink(path: str, target: str) -> Entry:
    return Entry(path=path, mode=stat.S_IFLNK | 0o777, data=target.encode())


def char_device(path: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    return Entry(path=path, mode=stat.S_IFCHR | mode, device=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive of `entries`: sorted by path (a folder comes before what is in it), padded to whole blocks.

    Raises:
        ValueError: a path is empty, absolute, climbs out with `..`, or is there twice.
    """
    ordered = sorted(entries, key=lambda entry: PurePosixPath(entry.path).parts)
    seen: set[str] = set()
    out = bytearray()
    for inode, entry in enumerate(ordered, start=1):
        _check(entry.path, seen)
        out += _member(entry, inode)
    out += _member(Entry(path=_TRAILER, mode=0), 0)
    return bytes(out + bytes(-len(out) % BLOCK))


def with_parents(files: Mapping[str, Entry]) -> Iterator[Entry]:
    """The entries of `files`, and a folder (0755) for every parent that is not among them."""
    parents = {str(parent) for path in files for parent in PurePosixPath(path).parents if str(parent) != "."}
    yield from (directory(parent) for parent in parents - files.keys())
    yield from files.values()


def overlay(files: Mapping[str, bytes], *, mode: int = 0o600) -> bytes:
    """A small archive of plain files (private to root), to be appended to another one.

    Parents of the files are made, so they must not be symlinks in the archive it is appended to.
    """
    return archive(with_parents({path: file(path, data, mode) for path, data in files.items()}))


def _check(path: str, seen: set[str]) -> None:
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or str(pure) != path:
        raise ValueError(f"not a clean relative path: {path!r}")
    if path in seen:
        raise ValueError(f"twice in the archive: {path!r}")
    seen.add(path)


def _member(entry: Entry, inode: int) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    major, minor = entry.device
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, major, minor, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _padded(header) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGN)
