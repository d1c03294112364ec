# SPDX-License-Identifier: GPL-2.0-only
"""What a user does with the store: see what is in it, have all of it read, make room; and how large it may get."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import InfraError, UsageError
from harness.store import entries
from harness.store.entries import CHANGING, DAMAGED, Entry, Evicted
from harness.store.staging import disk_errors
from harness.store.store import Store

_LIMIT = 40 << 30
_MOST = 1 << 63
_SHARE = 2
"""The default limit is 40 GiB, or half of a smaller file system."""
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?) ?(?P<unit>[KMGT]?)(i?B)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """An entry that is not what was published: why, and whether it was set aside (else `kept` says why not)."""

    entry: Entry
    why: tuple[str, ...]
    kept: str = ""


def parse_size(text: str, where: str) -> int:
    """`20G` to bytes; K, M, G and T are powers of 1024.

    Raises:
        UsageError: it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no size", where=where, hint="as 20G or 500M")
    size = float(match["number"]) * (1 << _UNITS[match["unit"].upper()])
    if size >= _MOST:
        raise UsageError(f"{text!r} is more than any file system holds", where=where, hint="as 20G or 500M")
    return int(size)


def size_words(size: int) -> str:
    """Bytes to `1.4 GiB`."""
    for shift, unit in ((30, "GiB"), (20, "MiB")):
        if size >= 1 << shift:
            return f"{size / (1 << shift):.1f} {unit}"
    return f"{size / 1024:.0f} KiB"


def limit(root: Path) -> int:
    """What the store below `root` may take: `$HARNESS_CACHE_LIMIT`, else 40 GiB or half of a smaller file system.

    Raises:
        UsageError: the variable is no size.
    """
    given = os.environ.get("HARNESS_CACHE_LIMIT")
    if given:
        return parse_size(given, "HARNESS_CACHE_LIMIT")
    with disk_errors(root):
        there = next(path for path in (root, *root.absolute().parents) if path.exists())
    return min(_LIMIT, shutil.disk_usage(there).total // _SHARE)


def verify(store: Store, *, counted: Callable[[int], None] = lambda _: None) -> tuple[int, tuple[Verified, ...]]:
    """Read all entries wholly and set damaged ones aside; how many there were, and those.

    A tree has no checksums for files that it shares with its source: where a source is damaged, so are its trees. What
    changes in place has none at all: git checks its own objects.
    """
    found = [entry for entry in entries.entries(store.root, store.tell) if entry.kind not in (DAMAGED, *CHANGING)]
    bad: dict[str, Verified] = {}
    for number, entry in enumerate(sorted(found, key=lambda entry: entry.about.links != ""), 1):
        known = (f"{entry.about.links}, whose files it shares, is damaged",) if entry.about.links in bad else ()
        try:
            why, kept = store.verify(entry.kind, entry.key, known=known), ""
        except InfraError as error:
            why, kept = error.detail or (error.what,), error.what
        if why:
            bad[entry.name] = Verified(entry=entry, why=why, kept=kept)
        counted(number)
    return len(found), tuple(bad.values())


def prune(store: Store, *, keep: int | None, older_than: float | None) -> Evicted:
    """Remove entries until `keep` bytes are left, and all not used in the last `older_than` days.

    Entries that living processes use stay. What killed processes left in the staging folder goes in any case.

    Raises:
        InfraError: the store cannot be written.
    """
    with store.staging():
        pass
    before = None if older_than is None else time.time() - older_than * 86400
    return entries.evict(store.root, keep=keep, before=before, tell=store.tell)


def as_json(entry: Entry, users: Sequence[int] = ()) -> dict[str, object]:
    """An entry for `--json`."""
    return {"kind": entry.kind, "key": entry.key, "what": entry.about.what, "bytes": entry.about.own,
            "shared_bytes": entry.about.shared, "shares_with": entry.about.links, "path": str(entry.path),
            "last_use": datetime.fromtimestamp(entry.last_use, UTC).isoformat(timespec="seconds"),
            "used_by": list(users)}


def lines(found: Sequence[Entry], users: dict[str, tuple[int, ...]], limit_: int) -> Iterator[str]:
    """The table of `harness cache list`: by kind, the last used first, with totals."""
    what = max((len(entry.about.what) for entry in found), default=0)
    for entry in sorted(found, key=lambda entry: (entry.kind, -entry.last_use)):
        when = datetime.fromtimestamp(entry.last_use, UTC).strftime("%Y-%m-%d %H:%M")
        pids = users.get(entry.name, ())
        yield (f"{entry.kind:8} {entry.key:32}  {entry.about.what:{what}}  {size_words(entry.about.own):>10}  {when}"
               f"{f'  in use by {pids[0]}' if pids else ''}")
    for kind in sorted({entry.kind for entry in found}):
        these = [entry for entry in found if entry.kind == kind]
        yield f"{kind}: {len(these)} entries, {size_words(sum(entry.about.own for entry in these))}"
    yield f"in all: {len(found)} entries, {size_words(entries.total(found))} of at most {size_words(limit_)}"
