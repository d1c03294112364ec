# SPDX-License-Identifier: GPL-2.0-only
"""The content-addressed cache: what was made once from the same inputs is never made again.

An entry is a folder `<root>/<kind>/<key>/` with its content in `data/`, a `manifest.json` that lists all of it, and an
`about.json`. It is made in a staging folder, put onto the disk, and renamed into place, so that it is there whole or
not at all; a lock per key keeps two processes from making it twice. On load the manifest is held against the files,
and a damaged entry is set aside. What is loaded is used until the `Store` ends, and nobody removes it until then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from harness.deadline import Deadline
from harness.errors import DeadlineExpired, InfraError
from harness.store import entries, manifest
from harness.store.entries import About
from harness.store.staging import disk_errors, staging, sync_all, sync_folder
from harness.store.uses import Uses

FORMAT = 1
"""Part of every key: a change of what is in entries makes all entries new."""


def default_root() -> Path:
    """`$HARNESS_CACHE`, else `kernel-patch-harness` in the user's cache folder (XDG base directories)."""
    given = os.environ.get("HARNESS_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("kernel-patch-harness"))


def digest(*parts: object) -> str:
    """A key from its inputs: SHA-256 over their JSON, so that ("ab", "c") and ("a", "bc") differ. 32 hex digits."""
    return hashlib.sha256(json.dumps([FORMAT, *parts], sort_keys=True).encode()).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The cache below `root`; an entry is verified once in the life of a `Store`.

    Attributes:
        limit: bytes on disk above which entries that were not used for longest are removed; None for no limit.
        tell: told what a user must hear whatever else is shown: that an entry was damaged, or that nothing could go.
    """

    root: Path
    limit: int | None = None
    tell: Callable[[str], None] = lambda _: None
    _verified: set[Path] = field(default_factory=set)
    _uses: Uses = field(default_factory=Uses)
    _told: set[str] = field(default_factory=set)

    def has(self, kind: str, key: str) -> bool:
        """Whether the entry is there (it was published whole; `load` also verifies it)."""
        return (self._entry(kind, key) / manifest.FILE).is_file()

    def told(self, kind: str, name: str) -> Iterator[tuple[str, Path, dict[str, Any]]]:
        """All entries of a kind: key, folder, and the object in the JSON file `name` of it.

        Nothing is verified: one whose file cannot be read is left out, and `load` says whether another is sound.
        """
        for path in sorted((self.root / kind).glob(f"*/data/{name}")):
            with contextlib.suppress(OSError, ValueError):  # another process removes it; or it is damaged
                yield path.parent.parent.name, path.parent, json.loads(path.read_text(encoding="utf-8"))

    def load(self, kind: str, key: str, *, content: bool = True) -> Path | None:
        """The `data` folder of an entry, or None where it is not there or was damaged and is now set aside.

        Args:
            content: hold every file's content against the manifest, not only its size, time and mode. Turned off for
                sources, whose 80,000 files take a minute to read from a disk.

        Raises:
            InfraError: it is damaged, and another process uses it; or the store cannot be written.
        """
        entry = self._entry(kind, key)
        if entry in self._verified:
            return entry / "data"
        with disk_errors(self.root):
            if not self._is_damaged(entry, content=content):
                return entry / "data" if entry in self._verified else None
            lock = self._lock(kind, key)
            with contextlib.suppress(Timeout), lock.acquire(timeout=0):
                self._set_aside_damaged(entry, content=content)
        return None

    def get(self, kind: str, key: str, make: Callable[[Path], None], *, deadline: Deadline, content: bool = True,
            waiting: Callable[[str], None] = lambda _: None, what: str = "", links: str = "") -> Path:
        """The entry's `data` folder, made by `make(stage)` where it is not there yet.

        Args:
            waiting: told when another process is making it.
            what: what it is, in words: `base/both`.
            links: the entry that it hard-links files of, as `source/<key>`.

        Raises:
            DeadlineExpired: another process makes the same entry and did not finish.
            InfraError: the disk is full or the store cannot be written.
        """
        data = self.load(kind, key, content=content)
        if data is not None:
            return data
        entry = self._entry(kind, key)
        with self._locked(kind, key, deadline, waiting, what):
            with disk_errors(self.root):
                self._set_aside_damaged(entry, content=content)
            if entry not in self._verified:
                with self.staging() as stage:
                    (stage / "data").mkdir()
                    make(stage / "data")
                    self._publish(stage, entry, what=what, links=links)
        self._keep_to_limit()
        return entry / "data"

    def content(self, kind: str, key: str, below: str = "") -> str:
        """The digest of what is in an entry that was loaded, as far as its path begins with `below`.

        An entry that was made again has the same key, but need not have the same content.

        Raises:
            InfraError: no file there has a checksum, so that any two such entries would be taken for one.
        """
        entry = self._entry(kind, key)
        sums = {name: each for name, each in manifest.checksums(entry).items() if name.startswith(below)}
        if not sums:
            raise InfraError(f"{kind} {key} in the cache has no checksums{f' below {below}' if below else ''}",
                             where=str(entry), hint="`harness cache verify`, or remove it")
        return digest("content", sums)

    @contextmanager
    def changing(self, kind: str, key: str, *, deadline: Deadline, what: str = "",
                 waiting: Callable[[str], None] = lambda _: None) -> Iterator[Path]:
        """A folder of a kind in `entries.CHANGING`: it has no manifest, and one process at a time works in it.

        Raises:
            DeadlineExpired: another process works in it and did not finish.
            InfraError: the disk is full or the store cannot be written.
        """
        entry = self._entry(kind, key)
        with self._locked(kind, key, deadline, waiting, what), disk_errors(self.root):
            self._uses.add(self.root, f"{kind}/{key}")
            entry.mkdir(parents=True, exist_ok=True)
            os.utime(entry)
            yield entry

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder on the store's file system that is gone when the block ends, unless it was renamed away."""
        with staging(self.root) as stage:
            yield stage

    def verify(self, kind: str, key: str, *, known: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Read an entry wholly; what is wrong with it, in words. It is then set aside.

        Args:
            known: what is wrong with it, where that was seen elsewhere.

        Raises:
            InfraError: it is damaged, and another process uses it; or the store cannot be written.
        """
        entry = self._entry(kind, key)
        with disk_errors(self.root), contextlib.suppress(FileNotFoundError, Timeout):
            if known or manifest.damage(entry, content=True):
                with self._lock(kind, key).acquire(timeout=0):
                    return self._set_aside_damaged(entry, content=True, known=known)
        return ()

    def _entry(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    def _is_damaged(self, entry: Path, *, content: bool) -> tuple[str, ...]:
        """What is wrong with an entry; nothing where it is not there. It is used from now on where it is sound."""
        if not os.path.lexists(entry):
            return ()
        self._uses.add(self.root, f"{entry.parent.name}/{entry.name}")
        try:
            why = manifest.damage(entry, content=content)
            if not why:
                os.utime(entry / manifest.FILE)
                self._verified.add(entry)
        except FileNotFoundError:  # it was removed before this process used it
            return ()
        return why

    def _set_aside_damaged(self, entry: Path, *, content: bool, known: tuple[str, ...] = ()) -> tuple[str, ...]:
        """To be called with the entry's lock: it may have been made anew since it was found damaged."""
        why = self._is_damaged(entry, content=content) or known
        if why and os.path.lexists(entry):
            target = entries.set_aside(self.root, entry, why, self._uses)
            self._tell(f"{entry.parent.name} {entry.name} in the cache was damaged: {why[0]}; moved to {target}")
            self._verified.discard(entry)
        return why

    def _lock(self, kind: str, key: str) -> FileLock:
        with disk_errors(self.root):
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / "locks" / f"{kind}-{key}")

    @contextmanager
    def _locked(self, kind: str, key: str, deadline: Deadline, waiting: Callable[[str], None],
                what: str) -> Iterator[None]:
        lock = self._lock(kind, key)
        try:
            with disk_errors(self.root):
                lock.acquire(timeout=0)
        except Timeout:
            waiting(f"waiting for another process that makes {what or f'{kind} {key}'}")
            try:
                lock.acquire(timeout=deadline.remaining)
            except Timeout:
                raise DeadlineExpired(f"another process still makes {kind} {key} after {deadline.budget:g} s",
                                      where=lock.lock_file) from None
        try:
            yield
        finally:
            lock.release()

    def _publish(self, stage: Path, entry: Path, *, what: str, links: str) -> None:
        """Files and manifest go onto the disk before the rename gives them their name, and the name before we go on."""
        usage = manifest.write(stage, links=bool(links))
        own = usage.own if links else usage.own + usage.shared
        entries.write_about(stage, About(what=what, own=own + (stage / manifest.FILE).stat().st_blocks * 512,
                                         shared=usage.shared if links else 0, links=links))
        self._uses.add(self.root, f"{entry.parent.name}/{entry.name}")
        sync_all(stage)
        entry.parent.mkdir(parents=True, exist_ok=True)
        stage.rename(entry)
        sync_folder(entry.parent)
        sync_folder(self.root)
        self._verified.add(entry)

    def _keep_to_limit(self) -> None:
        if self.limit is None:
            return
        done = entries.evict(self.root, keep=self.limit, tell=self._tell)
        if done.removed:
            self._tell(f"removed {len(done.removed)} entries of the cache, unused since "
                       f"{datetime.fromtimestamp(done.removed[-1].last_use, UTC):%F %H:%M} UTC or before, "
                       f"to keep to its limit of {self.limit >> 20} MiB")
        if done.left > self.limit:
            self._tell(f"the cache takes {done.left >> 20} MiB, more than its limit of {self.limit >> 20} MiB: "
                       "all that is left is in use")

    def _tell(self, text: str) -> None:
        """Say something once."""
        if text not in self._told:
            self._told.add(text)
            self.tell(text)
