# SPDX-License-Identifier: GPL-2.0-only
"""Folders of the store that are being made or removed, and how what is in them gets onto the disk.

Nothing appears in the store, and nothing leaves it, but by the rename of a whole folder from or to `staging/`. Each
folder there is locked (flock(2), which ends with its owner, however that dies) while it is in use; what a dead process
left is removed by the next one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import DISK_HINT, DeadlineExpired, HarnessError, InfraError
from harness.sandbox.foreign import remove

_MOMENT = 120.0
"""Seconds to wait for a lock that is held for the length of a few renames and, at worst, for removing a dead build."""
_LEAST = 1 << 20
_LEAST_FILES = 64
"""Bytes and files free below which a disk counts as full: a program that failed has removed some of its own by now."""
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """A folder on the store's file system that is gone when the block ends, unless it was renamed away.

    Raises:
        InfraError: the store cannot be written.
    """
    with disk_errors(root), ExitStack() as stack:
        with brief_lock(root, "staging"):
            parent = root / "staging"
            parent.mkdir(parents=True, exist_ok=True)
            sweep(parent)
            stage = parent / uuid.uuid4().hex
            lock = FileLock(f"{stage}.lock")
            lock.acquire(timeout=_MOMENT)
            stack.callback(lock.release)
            stack.callback(Path(lock.lock_file).unlink, missing_ok=True)
            stack.callback(remove, stage)
            stage.mkdir()
        with _full_disk_errors(root):
            yield stage


@contextmanager
def brief_lock(root: Path, name: str) -> Iterator[None]:
    """A lock of the store that nobody holds for long.

    Raises:
        InfraError: somebody does.
    """
    (root / "locks").mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / "locks" / f"{name}.brief")
    try:
        lock.acquire(timeout=_MOMENT)
    except Timeout:
        raise InfraError(f"another process has held this lock of the cache for {_MOMENT:g} s",
                         where=lock.lock_file) from None
    try:
        yield
    finally:
        lock.release()


def sweep(parent: Path) -> None:
    """Remove what dead processes left in a folder whose entries are locked by `<name>.lock` beside them.

    Whoever makes or sweeps such entries holds a `brief_lock`, so that no lock is removed while it is being taken.
    """
    for name in {path.name.removesuffix(".lock") for path in parent.iterdir()}:
        lock = FileLock(f"{parent / name}.lock")
        with contextlib.suppress(Timeout), lock.acquire(timeout=0):
            remove(parent / name)
            Path(lock.lock_file).unlink(missing_ok=True)


def sync_all(path: Path) -> None:
    """Have everything that was written to the file system of `path` on the disk.

    One syncfs(2) takes an eighth of the time that 5,000 fsyncs take, and unlike sync(2) it waits for no other file
    system and tells of errors.

    Raises:
        OSError: the disk is full or fails.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Have a full or failing disk, and a store that may not be written, blamed on the lab."""
    try:
        yield
    except OSError as error:
        where = str(error.filename or root)
        if error.errno not in _DISK and not (error.errno in _DENIED and where.startswith(str(root))):
            raise
        raise InfraError(f"the cache cannot be written: {error.strerror}", where=where, hint=DISK_HINT) from error


@contextmanager
def _full_disk_errors(root: Path) -> Iterator[None]:
    """The same for what other programs make of a full disk, where git says that a patch does not apply.

    That it says so is not enough: a series could.
    """
    try:
        yield
    except (InfraError, DeadlineExpired):
        raise
    except HarnessError as error:
        if not _full(root):
            raise
        raise InfraError("the disk is full", where=str(root), hint=DISK_HINT,
                         detail=(error.what, *error.detail)) from error


def _full(root: Path) -> bool:
    info = os.statvfs(root)
    return info.f_bavail * info.f_frsize < _LEAST or (info.f_files > 0 and info.f_favail < _LEAST_FILES)
