# SPDX-License-Identifier: GPL-2.0-only
"""The content-addressed cache: what was made once from the same inputs is never made again.

An entry is a folder `<root>/<kind>/<key>/` with its content in `data/` and a `manifest.json` that lists every file.
It is made in a staging folder, synced, and renamed into place, so that it is there whole or not at all; a lock per
key keeps two processes from making it twice. On load the manifest is held against the files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from harness.deadline import Deadline
from harness.errors import DeadlineExpired, InfraError
from harness.foreign import remove

FORMAT = 1
"""Part of every key: a change of layout in the store makes all entries new."""


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
    """The cache below `root`; an entry is verified once in the life of a `Store`."""

    root: Path
    _verified: set[Path] = field(default_factory=set)

    def has(self, kind: str, key: str) -> bool:
        """Whether the entry is there (it was published whole; `load` also verifies it)."""
        return (self._entry(kind, key) / "manifest.json").is_file()

    def load(self, kind: str, key: str, *, content: bool = True) -> Path | None:
        """The `data` folder of an entry, or None where it is not there or no longer what was published.

        Args:
            content: hold every file's content against the manifest, not only its size and time. Turned off for
                source trees, whose 80,000 files take seconds to read.
        """
        entry = self._entry(kind, key)
        if entry in self._verified:
            return entry / "data"
        try:
            manifest = json.loads((entry / "manifest.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        data = entry / "data"
        if manifest.get("files") != _manifest(data, content=content and manifest.get("content", False)):
            return None
        os.utime(entry / "manifest.json")
        self._verified.add(entry)
        return data

    def get(self, kind: str, key: str, make: Callable[[Path], None], *, deadline: Deadline, content: bool = True,
            waiting: Callable[[str], None] = lambda _: None) -> Path:
        """The entry's `data` folder, made by `make(stage)` where it is not there yet.

        Raises:
            DeadlineExpired: another process makes the same entry and did not finish.
            InfraError: the disk is full or the store cannot be written.
        """
        with self._locked(kind, key, deadline, waiting):
            data = self.load(kind, key, content=content)
            if data is not None:
                return data
            with self.staging() as stage:
                (stage / "data").mkdir()
                make(stage / "data")
                self._publish(stage, self._entry(kind, key), content=content)
            self._verified.add(self._entry(kind, key))
            return self._entry(kind, key) / "data"

    @contextmanager
    def changing(self, kind: str, key: str, *, deadline: Deadline,
                 waiting: Callable[[str], None] = lambda _: None) -> Iterator[Path]:
        """A folder that is no entry: it has no manifest and changes in place, by one process at a time.

        Raises:
            DeadlineExpired: another process works in it and did not finish.
            InfraError: the disk is full or the store cannot be written.
        """
        with self._locked(kind, key, deadline, waiting), _write_errors(self.root):
            self._entry(kind, key).mkdir(parents=True, exist_ok=True)
            yield self._entry(kind, key)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder on the store's file system that is gone when the block ends, unless it was renamed away.

        What a killed harness left here is removed by the next one: each folder is locked while it is in use.
        """
        with _write_errors(self.root):
            parent = self.root / "staging"
            parent.mkdir(parents=True, exist_ok=True)
            self._sweep(parent)
            stage = parent / uuid.uuid4().hex
            lock = FileLock(f"{stage}.lock")
            lock.acquire()
            stage.mkdir()
        try:
            with _write_errors(self.root):
                yield stage
        finally:
            remove(stage)
            lock.release()
            Path(f"{stage}.lock").unlink(missing_ok=True)

    def _sweep(self, parent: Path) -> None:
        for left in parent.iterdir():
            if left.suffix == ".lock":
                continue
            lock = FileLock(f"{left}.lock")
            with contextlib.suppress(Timeout), lock.acquire(timeout=0):
                remove(left)
                Path(lock.lock_file).unlink(missing_ok=True)

    def _entry(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    @contextmanager
    def _locked(self, kind: str, key: str, deadline: Deadline, waiting: Callable[[str], None]) -> Iterator[None]:
        with _write_errors(self.root):
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / "locks" / f"{kind}-{key}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting(f"waiting for another process that makes {kind} {key}")
            try:
                lock.acquire(timeout=deadline.remaining)
            except Timeout:
                raise DeadlineExpired(f"another process still makes {kind} {key} after {deadline.budget:g} s",
                                      where=lock.lock_file) from None
        try:
            yield
        finally:
            lock.release()

    def _publish(self, stage: Path, entry: Path, *, content: bool) -> None:
        manifest = {"content": content, "files": _manifest(stage / "data", content=content)}
        (stage / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        _sync(stage)
        remove(entry)
        entry.parent.mkdir(parents=True, exist_ok=True)
        stage.rename(entry)
        _sync(entry.parent)


def _manifest(data: Path, *, content: bool) -> dict[str, Sequence[object]]:
    """Files and links below `data`: [size, mtime in ns] and, with `content`, the SHA-256; links give their target."""
    found: dict[str, Sequence[object]] = {}
    for where, _, names in os.walk(data):
        for name in names:
            path = os.path.join(where, name)  # noqa: PTH118 - 80,000 Path objects cost a second
            info = os.lstat(path)
            relative = path[len(str(data)) + 1:]
            if stat.S_ISLNK(info.st_mode):
                found[relative] = ["link", str(Path(path).readlink())]
            elif not stat.S_ISREG(info.st_mode):  # nothing of ours; to open it may wait for ever
                found[relative] = ["other", stat.S_IFMT(info.st_mode)]
            else:
                found[relative] = [info.st_size, info.st_mtime_ns, *([file_digest(Path(path))] if content else [])]
    return dict(sorted(found.items()))


def _sync(path: Path) -> None:
    """Have the kernel write the file system that holds `path` (one syncfs in place of 10,000 fsyncs)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.sync()


@contextmanager
def _write_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        raise InfraError(f"the cache cannot be written: {error.strerror}", where=str(error.filename or root),
                         hint="free some space, or point HARNESS_CACHE at another file system") from error
