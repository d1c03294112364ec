# SPDX-License-Identifier: GPL-2.0-only
"""What there is to choose from, as rows for `harness list`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness import arch, host
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.jobs import boots
from harness.kernel.collect import read_series
from harness.kernel.gitplace import is_url
from harness.kernel.gitrange import GitRange
from harness.lab import shapes
from harness.lab.kernel import Kernel, parse_config
from harness.plan import plan
from harness.plan.topologies import NicUse
from harness.store.store import Store
from harness.vm import nic

Rows = list[dict[str, str]]

_READ_SECONDS = 300


def rows(what: str, plan_path: Path | None, store: Store) -> Rows:
    """The rows of one listing.

    Args:
        plan_path: what `plan` is about; `nics` and `topologies` say what it has, too.

    Raises:
        UsageError: `plan` was asked for and none was named, or it or a patch of it is no good.
    """
    if what == "plan":
        if plan_path is None:
            raise UsageError("which plan?", hint="harness list plan PLAN")
        return _plan(plan.read_plan(plan_path), store)
    if what in _OF_A_PLAN:
        return _OF_A_PLAN[what](plan.read_plan(plan_path) if plan_path is not None else None)
    return _LISTINGS[what]()


def _plan(read: plan.Plan, store: Store) -> Rows:
    found = [*_patches("base", read.base, read.path.parent, store),
             *_patches("patch", read.series, read.path.parent, store)]
    found += [{"kind": "variant", "name": row.name, "what": " ".join(path.stem for path in row.fragments)
               + ("" if row.sides == plan.SIDES else f" ({' and '.join(row.sides)} only)")}
             for row in read.variants]
    found += [{"kind": "claim", "name": row.id, "what": f"{row.says} [{row.check}: {row.expect}]"}
              for row in read.claims]
    found += [{"kind": "suite", "name": row.name, "what": f"on {', '.join(row.variants)}" if row.variants else ""}
              for row in read.suites]
    return found + [{"kind": "nic", "name": row.model, "what": _words(row)} for row in read.nics]


def _words(use: NicUse) -> str:
    return f"{', '.join(use.suites) or 'all suites'} on {', '.join(use.variants) or 'all variants'}"


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


def _nics(read: plan.Plan | None) -> Rows:
    """Every model with what it needs, whether this QEMU has it, and which variants of a plan do not ask for its driver.

    What fragments ask for is checked after each configuration, so that they say what a kernel will have.
    """
    devices = boots.emulated(arch.get(read.arch) if read else arch.native())
    listed = []
    for row in nic.models():
        found = {"name": row.name, "device": row.device, "driver": row.driver, "queues": str(row.queues),
                 "options": " ".join(row.options), "offered": nic.why_not(row, devices, ()) or "yes"}
        if read is not None:
            found["plan"] = _in_variants(row, read.variants) or "yes"
        listed.append(found)
    return listed


def _in_variants(row: nic.Model, variants: Sequence[plan.Variant]) -> str:
    """Which variants lack which options of a model; those that lack the same, together. Empty where none does."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for variant in variants:
        lacking.setdefault(_lacking(row, variant), []).append(variant.name)
    return "; ".join(f"{'every variant' if len(names) == len(variants) else ', '.join(names)}: no {' '.join(options)}"
                     for options, names in lacking.items() if options)


def _lacking(row: nic.Model, variant: plan.Variant) -> tuple[str, ...]:
    """The options of a model that no fragment of a variant asks for."""
    text = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in variant.fragments)
    asked = Kernel(tree="patched", variant=variant.name, config=parse_config(text))
    return asked.lacks(row.options)


def _topologies(read: plan.Plan | None) -> Rows:
    return [{"name": row.name, "machines": " ".join(station.name for station in row.machines),
             "kernels": " ".join(station.kernel or "patched" for station in row.machines),
             "networks": " ".join(network.ipv4 for network in row.networks)}
            for row in (*shapes.READY_MADE, *(read.topologies if read else ()))]


def _packages() -> Rows:
    return [{"name": row.name, "state": "missing" if row.missing else "ok", "what": row.why} for row in host.packages()]


_LISTINGS: Mapping[str, Callable[[], Rows]] = {"fragments": _fragments, "packages": _packages}
_OF_A_PLAN: Mapping[str, Callable[[plan.Plan | None], Rows]] = {"nics": _nics, "topologies": _topologies}
"""Listings that say more where a plan is named."""
