# SPDX-License-Identifier: GPL-2.0-only
"""What an entry of the store has to hold, and what is wrong with one that does not.

The manifest lists every file (mode, size, time, SHA-256), link (its target) and folder (its mode) below `data/`. A file
that a tree hard-links from its source has no checksum here: the source's entry has it.
Manifests of the first version know neither modes, folders nor links to folders; they are read, and no longer written.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

FILE = "manifest.json"
_VERSION = 2
_SHOWN = 5
_BLOCK = 1 << 20
_FEW = 64
"""Files that are not worth threads."""

Row = list[object]
"""A file is [mode, size, mtime in ns, checksum or null]; a link ["link", target]; a folder ["folder", mode].
In the first version a file is [size, mtime in ns] or, with a checksum, three of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Bytes on disk: of folders and files that have no other name, and of files that have one elsewhere."""

    own: int
    shared: int


def write(entry: Path, *, links: bool) -> Usage:
    """Write the manifest of what lies in `entry/data` now, and say what that takes on disk.

    Args:
        links: files that have other names are another entry's, which has their checksums.

    Raises:
        OSError: the disk is full, or cannot be read.
    """
    data = entry / "data"
    found = scan(data)
    hashed = [name for name, info in found.items() if stat.S_ISREG(info.st_mode)
              and not (links and info.st_nlink > 1)]
    sums = dict(zip(hashed, digests([f"{data}/{name}" for name in hashed]), strict=True))
    files = {name: [*row, sums.get(name)] if _is_file(row) else row for name, row in _rows(data, found).items()}
    (entry / FILE).write_text(json.dumps({"version": _VERSION, "files": files}), encoding="utf-8")
    return usage(found)


def damage(entry: Path, *, content: bool) -> tuple[str, ...]:
    """The first differences between an entry and its manifest, in words; none where it is what was published.

    Args:
        content: read every file that has a checksum, beside the size, time and mode of each.

    Raises:
        FileNotFoundError: there is no such entry.
    """
    entry.lstat()
    try:
        first, files = _parse((entry / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return (f"{FILE} is missing",)
    except (OSError, ValueError) as error:
        return (f"{FILE} cannot be read: {error}",)
    data = entry / "data"
    if data.is_symlink() or not data.is_dir():
        return ("data is no folder",)
    try:
        found = _rows(data, scan(data))
    except OSError as error:
        return (f"{error.filename}: {error.strerror}",)
    if first:
        found = {name: row[1:] if _is_file(row) else row for name, row in found.items()
                 if row[0] != "folder" and not (row[0] == "link" and (data / name).is_dir())}
    seen = 2 if first else 3
    expected = {name: row[:seen] for name, row in files.items()}
    if found != expected:
        return tuple(_differences(expected, found))[:_SHOWN]
    sums = {name: str(row[seen]) for name, row in files.items() if len(row) > seen and row[seen] is not None}
    return tuple(_other_content(data, sums))[:_SHOWN] if content else ()


def checksums(entry: Path) -> dict[str, str]:
    """The checksums of an entry that was found sound, by path."""
    first, files = _parse((entry / FILE).read_text(encoding="utf-8"))
    return {name: str(row[-1]) for name, row in files.items() if _is_file(row) and len(row) == (3 if first else 4)}


def scan(data: Path) -> dict[str, os.stat_result]:
    """Everything below a folder by its relative path; links are not followed."""
    found: dict[str, os.stat_result] = {}
    pending = [""]
    while pending:
        below = pending.pop()
        with os.scandir(f"{data}/{below}") as listed:
            for item in listed:
                found[below + item.name] = item.stat(follow_symlinks=False)
                if item.is_dir(follow_symlinks=False):
                    pending.append(f"{below}{item.name}/")
    return found


def usage(found: dict[str, os.stat_result]) -> Usage:
    """What a `scan` takes on disk. A file with several names inside of it is counted once."""
    shared = {info.st_ino: info.st_blocks for info in found.values() if _has_other_names(info)}
    own = sum(info.st_blocks for info in found.values() if not _has_other_names(info))
    return Usage(own=own * 512, shared=sum(shared.values()) * 512)


def digests(paths: Sequence[str]) -> list[str]:
    """SHA-256 of each file, in hex, on every core: the interpreter's lock is free while a block is hashed.

    Raises:
        OSError: a file cannot be read.
    """
    shares = 4 * len(os.sched_getaffinity(0))
    if len(paths) < _FEW or shares == 4:
        return [_digest(path) for path in paths]
    found = [""] * len(paths)
    with ThreadPoolExecutor(shares // 4) as pool:
        done = pool.map(lambda first: [_digest(path) for path in paths[first::shares]], range(shares))
        for first, share in enumerate(done):
            found[first::shares] = share
    return found


def _digest(path: str) -> str:
    """By hand, since `hashlib.file_digest` clears a buffer of 256 KiB for each of thousands of small files."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        total = hashlib.sha256()
        while block := os.read(descriptor, _BLOCK):
            total.update(block)
        return total.hexdigest()
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(descriptor)


def _rows(data: Path, found: dict[str, os.stat_result]) -> dict[str, Row]:
    """What a manifest says of each path, but for the checksum; what is neither file, link nor folder is named, too."""
    rows: dict[str, Row] = {}
    for name, info in found.items():
        mode = info.st_mode
        if stat.S_ISREG(mode):
            rows[name] = [mode & 0o7777, info.st_size, info.st_mtime_ns]
        elif stat.S_ISLNK(mode):
            rows[name] = ["link", str(Path(data, name).readlink())]
        else:
            rows[name] = ["folder", mode & 0o7777] if stat.S_ISDIR(mode) else ["special", mode]
    return rows


def _is_file(row: Row) -> bool:
    return not isinstance(row[0], str)


def _has_other_names(info: os.stat_result) -> bool:
    return info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode)


def _parse(text: str) -> tuple[bool, dict[str, Row]]:
    """Whether it is of the first version, and its rows.

    Raises:
        ValueError: it is no manifest.
    """
    read = json.loads(text)
    if not isinstance(read, dict) or not isinstance(read.get("files"), dict):
        raise ValueError("it lists no files")
    first = "version" not in read
    if not (isinstance(read.get("content"), bool) if first else read["version"] == _VERSION):
        raise ValueError("it is of no version that is known")
    files: dict[str, Row] = read["files"]
    for name, row in files.items():
        if not isinstance(row, list) or not row or len(row) not in (
                (2,) if isinstance(row[0], str) else (2, 3) if first else (4,)):
            raise ValueError(f"it says nothing of {name}")
    return first, files


def _differences(expected: dict[str, Row], found: dict[str, Row]) -> Iterator[str]:
    for name in sorted({*expected, *found}):
        was, now = expected.get(name), found.get(name)
        if was is None:
            yield f"{name} does not belong there"
        elif now is None:
            yield f"{name} is missing"
        elif was != now:
            yield f"{name} is {_words(now)}, not {_words(was)}"


def _words(row: Row) -> str:
    if not _is_file(row):
        return f"a {row[0]} ({row[1]:o})" if isinstance(row[1], int) else f"a {row[0]} to {row[1]}"
    *mode, size, when = row
    return f"a file of {size} bytes{f' with mode {mode[0]:o}' if mode else ''}, written at {when}"


def _other_content(data: Path, sums: dict[str, str]) -> Iterator[str]:
    try:
        found = digests([f"{data}/{name}" for name in sums])
    except OSError as error:
        yield f"{error.filename}: {error.strerror}"
        return
    yield from (f"{name} has other content" for (name, wanted), is_ in zip(sums.items(), found, strict=True)
                if wanted != is_)
