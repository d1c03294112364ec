# SPDX-License-Identifier: GPL-2.0-only
"""The folder of all kept labs of a user, and the locks that say which folders in it belong to a living process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import DeadlineExpired, InfraError

_LOCK = "lock"
_PATIENCE = 45.0
_LOOK = 0.02


def root() -> Path:
    """The folder of all kept labs of this user, which nobody else can look into.

    Raises:
        InfraError: somebody else made it.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = (Path(runtime) / "kernel-patch-harness" if runtime and Path(runtime).is_dir()
              else Path(tempfile.gettempdir()) / f"kernel-patch-harness-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise InfraError("the folder for labs is not a folder of ours alone", where=str(folder),
                         hint="remove it, or set XDG_RUNTIME_DIR")
    return folder


def locked(folder: Path) -> int:
    """Take the lock of a new folder; it is held until every copy of the descriptor is closed (flock(2))."""
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def held(folder: Path) -> bool:
    """Whether somebody has the folder's lock."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


@contextmanager
def exclusive() -> Iterator[None]:
    """Nobody else makes a lab, or looks for dead ones, in the block."""
    with (root() / ".lock").open("w") as lock:
        deadline = Deadline.after(_PATIENCE)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if deadline.expired:
                    raise DeadlineExpired("another harness has the folder of labs and does not let go of it",
                                          where=str(root())) from None
                time.sleep(_LOOK)
        yield
