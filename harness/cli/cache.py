# SPDX-License-Identifier: GPL-2.0-only
"""The commands `harness cache list`, `verify` and `prune`: as thin as `cli`."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import click

from harness.cli.common import CACHE, JSON, open_store
from harness.errors import ExitCode, UsageError


@click.group()
def cache() -> None:
    """See what is in the cache, have it read, make room.

    The cache holds sources, trees, builds and userlands by the content of all that went into them; whatever is not
    there is made again. It keeps itself to HARNESS_CACHE_LIMIT (as 20G; by default 40 GiB, or half of a smaller file
    system): what was not used for longest goes first, and nothing that a running harness uses.
    """


@cache.command(name="list")
@CACHE
@JSON
def list_(cache: Path | None, as_json: bool) -> None:
    """List the entries: kind, key, what it is, size, last use (UTC), and totals.

    Sizes are what an entry takes on disk; a file with several names counts once, for the entry that had it first.
    """
    from harness.store import cache as caches
    from harness.store import entries
    from harness.store.uses import used

    store = open_store(cache)
    limit = store.limit or 0
    found = entries.entries(store.root, store.tell)
    with used(store.root) as users:
        pass
    if as_json:
        click.echo(json.dumps({"root": str(store.root), "limit": limit, "bytes": entries.total(found), "entries": [
            caches.as_json(entry, users.get(entry.name, ())) for entry in found]}, indent=1))
    else:
        click.echo("\n".join(caches.lines(found, users, limit)))


@cache.command()
@CACHE
@JSON
def verify(cache: Path | None, as_json: bool) -> None:
    """Read everything in the cache and hold it against its checksums.

    What is damaged is moved to the folder `damaged` of the cache, and made again when it is needed. Exit code 1 when
    something was.
    """
    from harness.report.progress import Progress
    from harness.store import cache as caches

    store = open_store(cache)
    with Progress(quiet=as_json).counting("verifying", unit="entries") as counted:
        number, bad = caches.verify(store, counted=counted)
    if as_json:
        click.echo(json.dumps({"entries": number, "damaged": [
            {**caches.as_json(one.entry), "why": list(one.why), "kept": one.kept} for one in bad]}, indent=1))
    else:
        for one in bad:
            click.echo(f"{one.entry.name} {one.entry.about.what}".rstrip() + f": {one.why[0]}"
                       + (f" (not moved: {one.kept})" if one.kept else ""))
        click.echo(f"{number} entries, {len(bad)} damaged")
    sys.exit(ExitCode.FAILED if bad else ExitCode.PASSED)


@cache.command()
@click.option("--keep", metavar="SIZE", help="Remove what was not used for longest until SIZE (as 20G) is left.")
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS",
              help="Remove what was not used in the last DAYS days.")
@click.option("--all", "everything", is_flag=True, help="Remove everything.")
@CACHE
@JSON
def prune(keep: str | None, older_than: float | None, everything: bool, cache: Path | None, as_json: bool) -> None:
    """Remove entries, and say which; without an option, what is over the limit.

    Nothing that a running harness uses is removed; it is listed. Damaged entries that were set aside go first.
    """
    from harness.store import cache as caches

    if older_than is not None and math.isnan(older_than):
        raise UsageError("nan is no number of days", where="--older-than")
    if everything and (keep is not None or older_than is not None):
        raise UsageError("--all excludes --keep and --older-than")
    store = open_store(cache)
    size = caches.parse_size(keep, "--keep") if keep is not None else None
    if size is None and older_than is None:
        size = 0 if everything else store.limit
    done = caches.prune(store, keep=size, older_than=older_than)
    if as_json:
        click.echo(json.dumps({"removed": [caches.as_json(entry) for entry in done.removed], "bytes_left": done.left,
                               "in_use": [caches.as_json(entry, pids) for entry, pids in done.in_use]}, indent=1))
        return
    for entry in done.removed:
        click.echo(f"removed {entry.name} {entry.about.what}".rstrip() + f": {caches.size_words(entry.about.own)}")
    for entry, pids in done.in_use:
        by = f"process {pids[0]}" if pids else "a tree that links to it"
        click.echo(f"kept {entry.name} {entry.about.what}".rstrip() + f": in use by {by}")
    click.echo(f"{len(done.removed)} entries removed, {caches.size_words(done.left)} left")
