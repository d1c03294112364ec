# SPDX-License-Identifier: GPL-2.0-only
"""What the commands share: arguments, the store, progress, the folder of a run."""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness import arch as arches
from harness.errors import InfraError, UsageError

if TYPE_CHECKING:
    from harness.report.progress import Progress
    from harness.store.store import Store

PLAN = click.argument("plan", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
QUIET = click.option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
CACHE = click.option("--cache", type=click.Path(path_type=Path, file_okay=False), envvar="HARNESS_CACHE",
                     help="The cache of sources, builds and userlands.  [default: in the user's cache folder]")
ACCEL = click.option("--accel", type=click.Choice(["kvm", "tcg"]), default=None,
                     help="The accelerator.  [default: KVM where a real Linux boots under it, else TCG]")
SIDE = click.option("--side", type=click.Choice(["base", "patched"]), default="patched", show_default=True,
                    help="The tree: before the series, or after it.")
ARCH = click.option("--arch", type=click.Choice(arches.names()), default=None,
                    help="The kernels' architecture.  [default: the plan's]")
VARIANT = click.option("--variant", "-v", "variants", multiple=True, metavar="NAME",
                       callback=lambda _context, _option, names: tuple(dict.fromkeys(names)),
                       help="Only this variant of the plan; may be given several times.")


def open_store(cache: Path | None) -> Store:
    """The store that a command works on, kept to its limit; what it has to say goes to standard error.

    Raises:
        UsageError: `HARNESS_CACHE_LIMIT` is no size.
    """
    from harness.report.model import clean
    from harness.store.cache import limit
    from harness.store.store import Store, default_root

    root = (cache or default_root()).resolve()
    return Store(root=root, limit=limit(root), tell=lambda text: click.echo(f"harness: {clean(text)}", err=True))


def progress(quiet: bool = False) -> Progress:
    """Progress on standard error."""
    from harness.report.progress import Progress

    return Progress(quiet=quiet)


def run_folder(name: str) -> Path:
    """Where a run of that name writes, if nobody says otherwise."""
    return Path("runs") / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def new_folder(folder: Path) -> None:
    """Make the folder of a run, which is this process's alone until it ends.

    Raises:
        UsageError: something is in it, or another process has it.
        InfraError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _claimed(folder) or any(folder.iterdir()):
            raise UsageError("the run folder is already in use", where=str(folder), hint="name another one with --out")
    except OSError as error:
        raise InfraError(f"the run folder cannot be made: {error.strerror}", where=str(folder)) from error


def _claimed(folder: Path) -> bool:
    """Claim a folder until this process ends, as a run is long without a file in it; False where another has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True
