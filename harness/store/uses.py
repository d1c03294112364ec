# SPDX-License-Identifier: GPL-2.0-only
"""Which entries of the store living processes use, so that none is removed under them.

A process has one file below `locks/uses/` that names what it has loaded, and a lock (flock(2)) on another beside it
for as long as it lives: a process that was killed uses nothing any more. An entry is named there before it is looked
at, and one is removed only under the same lock, so that no entry can go between the two.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from harness.store.staging import brief_lock, disk_errors, sweep


@dataclass(slots=True, kw_only=True)
class Uses:
    """What this process uses of a store; ends with this object."""

    _held: list[FileLock] = field(default_factory=list)
    _named: set[str] = field(default_factory=set)

    def add(self, root: Path, name: str) -> None:
        """Use an entry (`build/<key>`) from now on, whether it is there yet or not."""
        if name in self._named:
            return
        with brief_lock(root, "uses"):
            if not self._held:
                self._held.append(_begin(root / "locks" / "uses"))
            with self._list.open("a", encoding="utf-8") as names:
                names.write(f"{name}\n")
        self._named.add(name)

    @property
    def _list(self) -> Path:
        return Path(self._held[0].lock_file.removesuffix(".lock"))

    def is_mine(self, path: Path) -> bool:
        """Whether a file below `locks/uses/` is this one's."""
        return bool(self._held) and path == self._list


@contextmanager
def used(root: Path, mine: Uses | None = None) -> Iterator[dict[str, tuple[int, ...]]]:
    """The entries in use, each with its users' process numbers; none is added while the block lasts.

    Args:
        mine: what this process uses, to be left out.
    """
    if not root.is_dir():
        yield {}
        return
    with disk_errors(root), brief_lock(root, "uses"):
        folder = root / "locks" / "uses"
        found: dict[str, tuple[int, ...]] = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix == ".lock" or (mine and mine.is_mine(path)) or not _is_held(path):
                continue
            for name in path.read_text(encoding="utf-8").split():
                found[name] = (*found.get(name, ()), int(path.name.partition("-")[0]))
        yield found


def _begin(folder: Path) -> FileLock:
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    lock = FileLock(f"{path}.lock")
    lock.acquire(timeout=0)
    path.touch()
    return lock


def _is_held(path: Path) -> bool:
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
