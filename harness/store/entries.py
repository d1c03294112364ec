# SPDX-License-Identifier: GPL-2.0-only
"""The entries of the store: what there is, what each takes on disk, and which of them go when there is too much.

`about.json` beside an entry's `data/` says what it is in words, how many bytes go with it, and which entry it shares
files with: a patched tree is hard links to its source, whose bytes are the source's alone. Entries that are older than
this file get one when they are first counted.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import InfraError
from harness.store import manifest
from harness.store.staging import disk_errors, staging
from harness.store.uses import Uses, used

DAMAGED = "damaged"
"""Where entries go that are no longer what was published."""
CHANGING = ("git",)
"""Kinds that are no entries in the strict sense: they have no manifest, and are changed in place (`Store.changing`)."""
_OURS = ("locks", "staging")
_KEY = re.compile(r"[0-9a-f]{32}")
_DAMAGED_KEY = re.compile(r".+-[0-9a-f]{32}-[0-9a-f]{8}")
_ABOUT = "about.json"
_KEPT = 3
"""Damaged entries that are kept for the user, the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is known of an entry's content.

    Attributes:
        what: it in words (`base/both`), as far as they are known.
        own: bytes on disk that are this entry's.
        shared: bytes on disk that belong to the entry it links to.
        links: that entry, as `source/<key>`; empty where it stands alone.
    """

    what: str = ""
    own: int
    shared: int = 0
    links: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry that is there; `last_use` is in seconds of Unix time."""

    kind: str
    key: str
    path: Path
    about: About
    last_use: float

    @property
    def name(self) -> str:
        """`build/<key>`."""
        return f"{self.kind}/{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """What was removed, what stayed because living processes (by number) use it, and the bytes that are left."""

    removed: tuple[Entry, ...]
    in_use: tuple[tuple[Entry, tuple[int, ...]], ...]
    left: int


def write_about(entry: Path, about: About) -> None:
    """Write an entry's `about.json`, whole or not at all."""
    temporary = entry / f".{_ABOUT}.{uuid.uuid4().hex[:8]}"
    temporary.write_text(json.dumps(asdict(about)), encoding="utf-8")
    temporary.rename(entry / _ABOUT)


def entries(root: Path, tell: Callable[[str], None] = lambda _: None) -> tuple[Entry, ...]:
    """All entries, damaged ones included, by kind and key; whatever else there is (`$HARNESS_CACHE` may be anything)
    is not the store's."""
    paths = [(kind.name, path) for kind in sorted(_folders(root)) if kind.name not in _OURS
             for path in sorted(_folders(kind))
             if (_DAMAGED_KEY if kind.name == DAMAGED else _KEY).fullmatch(path.name)]
    known: dict[Path, About | None] = {path: _read_about(path) for _, path in paths}
    unknown = [path for path, about in known.items() if about is None]
    if count := sum(path.parent.name not in CHANGING for path in unknown):
        tell(f"measuring {count} entries of the cache, once")
    if unknown:
        known |= _measured(root, unknown)
    found = []
    for kind, path in paths:
        about = known[path]
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            if about is not None:
                found.append(Entry(kind=kind, key=path.name, path=path, about=about, last_use=_last(path)))
    return tuple(found)


def total(found: Sequence[Entry]) -> int:
    """Bytes on disk of entries, each file counted once: what trees share counts once where their source is gone."""
    names = {entry.name for entry in found}
    orphans: dict[str, int] = {}
    for entry in found:
        if entry.about.links and entry.about.links not in names:
            orphans[entry.about.links] = max(orphans.get(entry.about.links, 0), entry.about.shared)
    return sum(entry.about.own for entry in found) + sum(orphans.values())


def choose(found: Sequence[Entry], users: Mapping[str, tuple[int, ...]], *, keep: int | None,
           before: float | None = None) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
    """Which entries to remove, and which to spare that would have to go but are in use. Pure.

    Damaged ones go first, then those whose last use is longest ago. A source counts as used when a tree that links to
    it was, and goes after them: removed before, it would free nothing.

    Args:
        users: processes by the name of the entry that they use.
        keep: remove until no more than these bytes are left.
        before: remove all that was last used before this time.
    """
    linking: dict[str, list[Entry]] = {}
    for entry in found:
        linking.setdefault(entry.about.links, []).append(entry)

    def with_links(entry: Entry) -> list[Entry]:
        return [entry, *linking.get(entry.name, [])]

    last = {entry.name: max(each.last_use for each in with_links(entry)) for entry in found}
    queue = sorted(found, key=lambda entry: (entry.kind != DAMAGED, last[entry.name], not entry.about.links))
    left, gone, spared = list(found), [], []
    size = total(left)
    for entry in queue:
        old = before is not None and last[entry.name] < before
        if not old and (keep is None or size <= keep):
            continue
        if any(each.name in users for each in with_links(entry)):
            spared.append(entry)
            continue
        left.remove(entry)
        gone.append(entry)
        size = total(left)
    return tuple(gone), tuple(spared)


def evict(root: Path, *, keep: int | None, before: float | None = None,
          tell: Callable[[str], None] = lambda _: None) -> Evicted:
    """Remove entries as `choose` has it, but none that a living process, this one included, uses.

    Raises:
        InfraError: the store cannot be written.
    """
    found = entries(root, tell)
    if not any(choose(found, {}, keep=keep, before=before)):
        return Evicted(removed=(), in_use=(), left=total(found))
    with staging(root) as doomed:
        with used(root) as users:
            gone, spared = choose(found, users, keep=keep, before=before)
            removed = tuple(entry for entry in gone if _renamed(entry.path, doomed / f"{entry.kind}-{entry.key}"))
        left = total([entry for entry in found if entry not in gone])
    return Evicted(removed=removed, in_use=tuple((entry, users.get(entry.name, ())) for entry in spared), left=left)


def set_aside(root: Path, entry: Path, why: Sequence[str], mine: Uses) -> Path:
    """Move a damaged entry out of the way, for the user to look at; only the newest of such are kept.

    Raises:
        InfraError: another process uses it.
    """
    name = f"{entry.parent.name}/{entry.name}"
    with used(root, mine) as users:
        if name in users:
            raise InfraError(f"{name} is damaged, and process {users[name][0]} uses it", where=str(entry),
                             detail=tuple(why), hint="run again when that process has ended")
        target = root / DAMAGED / f"{entry.parent.name}-{entry.name}-{uuid.uuid4().hex[:8]}"
        target.parent.mkdir(exist_ok=True)
        entry.rename(target)
    (target / "why.txt").write_text("".join(f"{line}\n" for line in why), encoding="utf-8")
    kept = sorted(_folders(root / DAMAGED), key=_last, reverse=True)
    if len(kept) > _KEPT:
        with staging(root) as doomed:
            for path in kept[_KEPT:]:
                _renamed(path, doomed / path.name)
    return target


def _renamed(path: Path, target: Path) -> bool:
    try:
        path.rename(target)
    except FileNotFoundError:  # another process was faster
        return False
    return True


def _folders(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (below for below in path.iterdir() if below.is_dir())


def _last(path: Path) -> float:
    """When an entry was last used: `Store.load` touches its manifest; of a damaged one, when it was set aside."""
    for name in ("why.txt", manifest.FILE):
        with contextlib.suppress(FileNotFoundError):
            return (path / name).stat().st_mtime
    return path.stat().st_mtime


def _read_about(path: Path) -> About | None:
    try:
        about = About(**json.loads((path / _ABOUT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    fits = isinstance(about.own, int) and isinstance(about.shared, int) and isinstance(about.links, str)
    return about if fits and isinstance(about.what, str) else None


def _measured(root: Path, paths: Sequence[Path]) -> dict[Path, About]:
    """Count entries that nobody has counted; a file with several names belongs to the oldest entry that has it."""
    owners: dict[int, str] = {}
    found: dict[Path, About] = {}
    for path in sorted(paths, key=_made):
        name, links = f"{path.parent.name}/{path.name}", ""
        own = shared = 0
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            for info in manifest.scan(path).values():
                size, owner = info.st_blocks * 512, owners.get(info.st_ino)
                if owner is None:
                    owners[info.st_ino] = name
                    own += size
                elif owner != name:
                    shared, links = shared + size, owner
            found[path] = About(own=own, shared=shared, links=links)
            if path.parent.name not in CHANGING:
                with disk_errors(root):
                    write_about(path, found[path])
    return found


def _made(path: Path) -> float:
    with contextlib.suppress(OSError):
        return (path / "data").stat().st_mtime
    return 0.0
