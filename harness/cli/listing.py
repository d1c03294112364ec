# SPDX-License-Identifier: GPL-2.0-only
"""What there is to choose from, as rows for `harness list`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness import host
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernel.collect import read_series
from harness.kernel.gitplace import is_url
from harness.kernel.gitrange import GitRange
from harness.plan import plan
from harness.store.store import Store
from harness.vm import nic

Rows = list[dict[str, str]]

_READ_SECONDS = 300


def rows(what: str, plan_path: Path | None, store: Store) -> Rows:
    """The rows of one listing.

    Raises:
        UsageError: `plan` was asked for and none was named, or it or a patch of it is no good.
    """
    if what == "plan":
        if plan_path is None:
            raise UsageError("which plan?", hint="harness list plan PLAN")
        return _plan(plan.read_plan(plan_path), store)
    return _LISTINGS[what]()


def _plan(read: plan.Plan, store: Store) -> Rows:
    found = [*_patches("base", read.base, read.path.parent, store),
             *_patches("patch", read.series, read.path.parent, store)]
    found += [{"kind": "variant", "name": row.name, "what": " ".join(path.stem for path in row.fragments)}
             for row in read.variants]
    found += [{"kind": "claim", "name": row.id, "what": f"{row.says} [{row.check}: {row.expect}]"}
              for row in read.claims]
    return found + [{"kind": "suite", "name": row.name, "what": ""} for row in read.suites]


def _patches(kind: str, asked: Sequence[str | GitRange], root: Path, store: Store) -> Rows:
    """Cover letters and patches; of a repository in the network what is asked of it, as nothing is fetched here."""
    far = [item for item in asked if isinstance(item, GitRange) and is_url(item.git)]
    series = read_series([item for item in asked if item not in far], root, store,
                         deadline=Deadline.after(_READ_SECONDS))
    return [*({"kind": "cover", "name": "", "what": cover.subject} for cover in series.covers),
            *({"kind": kind, "name": str(number), "what": patch.subject}
              for number, patch in enumerate(series.patches, 1)),
            *({"kind": kind, "name": "range", "what": str(item)} for item in far)]


def _fragments() -> Rows:
    return [{"name": path.stem, "what": _first_comment(path)} for path in plan.fragment_files()]


def _first_comment(path: Path) -> str:
    comments = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return next((line for line in comments if not line.startswith("SPDX")), "")


def _nics() -> Rows:
    return [{"name": row.name, "device": row.device, "driver": row.driver, "options": " ".join(row.options)}
            for row in nic.models()]


def _packages() -> Rows:
    return [{"name": row.name, "state": "missing" if row.missing else "ok", "what": row.why} for row in host.packages()]


_LISTINGS: Mapping[str, Callable[[], Rows]] = {"fragments": _fragments, "nics": _nics, "packages": _packages}
