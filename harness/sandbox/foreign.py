# SPDX-License-Identifier: GPL-2.0-only
"""What foreign code left in a folder: looked over once when the code has ended, and read without following it anywhere.

A build may leave a symbolic link to a file of ours where an object should be, a FIFO that blocks whoever opens it, a
program with the setuid bit, or folders nested deeper than a path can name. `inspect` refuses a folder with any of
these, so that what comes after may read what lies there; `read` never waits and never follows the last part of a path;
`inside` is for names of files that foreign text gives us.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import proc
from harness.deadline import Deadline
from harness.errors import KernelError

MOST = 64 << 20
"""Bytes of the largest text that is read whole, a `.config` or `.cmd` file; real ones have a few hundred KiB."""

_REMOVE_SECONDS = 600

_OWN_LINKS = {"source": "/build/src"}
"""Links that kbuild makes to where the tree stands in the sandbox (`outputmakefile` in the kernel's Makefile)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a folder holds: bytes on the disk, and entries."""

    bytes: int = 0
    entries: int = 0


def measure(folder: Path) -> Size:
    """What a folder holds now, while it may change.

    Raises:
        OSError: a folder in it cannot be read: its path is too long, or it was locked.
    """
    taken = count = 0
    for _, info in _entries(folder):
        taken, count = taken + info.st_blocks * 512, count + 1
    return Size(bytes=taken, entries=count)


def inspect(folder: Path, where: str | None = None) -> Size:
    """Look over a folder that foreign code wrote in and that it can no longer reach.

    Args:
        where: what wrote there, for the message.

    Returns:
        What it holds.

    Raises:
        KernelError: there is something else than files, folders and links that stay inside; or a file with the setuid
            or setgid bit; or a folder that cannot be read.
    """
    try:
        wrong, size = survey(folder)
    except OSError as error:
        raise unreadable(error, where) from error
    if wrong:
        raise KernelError(f"it left {wrong}", where=where,
                          hint="a kernel build makes no such thing; what it made was not kept")
    return size


def survey(folder: Path) -> tuple[str, Size]:
    """What is wrong with the first entry that is not to be kept, in words (empty where none is), and the size so far.

    Raises:
        OSError: a folder cannot be read.
    """
    taken = count = 0
    root = os.path.realpath(folder)
    for path, info in _entries(folder):
        taken, count = taken + info.st_blocks * 512, count + 1
        wrong = _wrong(root, os.path.relpath(path, folder), path, info)
        if wrong:
            return wrong, Size(bytes=taken, entries=count)
    return "", Size(bytes=taken, entries=count)


def unreadable(error: OSError, where: str | None) -> KernelError:
    """The error of a folder that was locked, or nested deeper than a path can name."""
    return KernelError(f"it left a folder that cannot be read: {error.strerror}", where=where,
                       detail=(f"... {str(error.filename)[-100:]}",))


def _wrong(root: str, name: str, path: str, info: os.stat_result) -> str | None:
    """What is wrong with an entry, in words; None where nothing is."""
    if stat.S_ISLNK(info.st_mode):
        target = str(Path(path).readlink())
        inside = not target.startswith("/") and os.path.commonpath([root, os.path.realpath(path)]) == root
        return None if inside or _OWN_LINKS.get(name) == target else f"a link that leads out: {name} -> {target}"
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
        return f"something else than a file: {name}"
    if stat.S_ISREG(info.st_mode) and info.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return f"a program that would run with our rights: {name}"
    return None


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below a folder, links not followed, but for what goes away meanwhile."""
    pending = [os.fspath(folder)]
    while pending:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    info = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(info.st_mode):
                        pending.append(entry.path)
                    yield entry.path, info


def read(path: Path, most: int = MOST) -> str | None:
    """The text of a file that foreign code wrote; None where there is no regular file. Never waits.

    Raises:
        KernelError: it is larger than `most` bytes.
    """
    data = read_bytes(path, most)
    return None if data is None else data.decode(errors="replace")


def read_bytes(path: Path, most: int) -> bytes | None:
    """The bytes of such a file; as `read`."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        return None
    with open(number, "rb") as stream:  # noqa: PTH123 - it is open already
        data = stream.read(most + 1)
    if len(data) > most:
        raise KernelError(f"it left a file of more than {most >> 20} MiB where a small one belongs", where=str(path))
    return data


def inside(name: str) -> str | None:
    """A path that foreign text gives, below the folder it is relative to; None where it leads out of it."""
    normal = os.path.normpath(name)
    return None if normal.startswith(("/", "../")) or normal in ("..", ".") or "\0" in name else normal


def remove(folder: Path) -> None:
    """Remove a folder and all below it, read-only folders included, or a file; nothing there is fine.

    Links are not followed.
    """
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    try:
        for where, folders, _ in os.walk(folder):
            for name in folders:
                path = Path(where, name)
                if not path.is_symlink() and not os.access(path, os.W_OK | os.X_OK):
                    path.chmod(0o700)
        shutil.rmtree(folder)
    except (OSError, RecursionError):  # nested deeper than paths and Python's stack go, which rm(1) can do
        proc.run(["rm", "-rf", "--", str(folder)], deadline=Deadline.after(_REMOVE_SECONDS))


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A temporary folder that foreign code may write in, gone when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        remove(folder)
