# SPDX-License-Identifier: GPL-2.0-only
"""What the commands that boot kernels of a plan need first: the kernels, the userland, the accelerator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli import common
from harness.cli.common import open_store

if TYPE_CHECKING:
    from harness.jobs import boots
    from harness.kernel.kbuild import Build
    from harness.lab.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What has to be there before anything is booted.

    Attributes:
        lab: everything but the kernels.
        built: the kernel that was asked for.
        sides: by side, that kernel and those that machines of the topology ask for.
        topology: the machines.
    """

    lab: boots.Lab
    built: Build
    sides: Mapping[str, Build]
    topology: Topology


def prepare(plan: Path, variant: str, arch: str | None, side: str, out: Path, accel: str | None, cache: Path | None,
             quiet: bool, topology: str = "solo") -> Prepared:
    """Build the kernels of a plan that are needed, and all that is needed to boot them."""
    from harness.deadline import Deadline
    from harness.jobs import boots, builds
    from harness.jobs.inputs import resolve
    from harness.lab import shapes
    from harness.plan.plan import read_plan

    read, store, progress = read_plan(plan, arch or ""), open_store(cache), common.progress(quiet)
    read.variant(variant)
    shape = shapes.get(topology, read.topologies)
    inputs = resolve(read, Deadline.after(60), store=store, progress=progress.step)
    sides = {}
    for name in sorted({side, *(station.kernel for station in shape.machines if station.kernel)}):
        config = builds.configure(inputs, name, variant, store=store, progress=progress)
        sides[name] = builds.build(inputs, name, config, store=store, progress=progress)
    userland = boots.userland(store, inputs.arch, progress=progress.step)
    chosen = boots.accelerator(store, inputs.arch, sides[side].image, override=accel or "", progress=progress.step)
    lab = builds.lab(inputs, userland, chosen, out, store=store, progress=progress)
    return Prepared(lab=lab, built=sides[side], sides=sides, topology=shape)
