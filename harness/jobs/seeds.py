# SPDX-License-Identifier: GPL-2.0-only
"""Which finished build a new one starts from: the nearest of those that may be trusted with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.jobs.inputs import BUILD_SECONDS, Inputs
from harness.kernel import cmdfiles, kbuild, kconfig, source
from harness.kernel.kbuild import Build, Earlier
from harness.kernel.kconfig import Config
from harness.kernel.tree import Content, apply, differing
from harness.plan.plan import SIDES
from harness.store.store import Store


def nearest(inputs: Inputs, side: str, config: Config, store: Store) -> Build | None:
    """The finished build to start from, of those that it may start from (`may_serve`).

    For the patched tree the one whose tree differs least, of those with the same configuration. Else, in this order:
    the series without its last patch or two, base of the same variant, another variant of the same tree, any; then
    what other plans left of the same tree.
    """
    found = _least_different(inputs, config, store) if side == "patched" else None
    return found or _of_this_plan(inputs, side, config, store) or _same_tree(inputs, side, config, store)


def may_serve(inputs: Inputs, side: str, seed: Build, store: Store) -> bool:
    """Whether a tree's build may start from another: from base, or from one that differs in nothing that a build runs.

    What a series' Makefile left must not get into what another series, or this one without it, is built to: finished
    builds are known by their content, so that whoever has the same content gets them.
    """
    content, clean = _content(inputs, side, store)
    if seed.content.key == _content(inputs, "base", store)[0].key:
        return True
    changed = differing(seed.content, content, clean)
    return not cmdfiles.reaches_all(changed) and not cmdfiles.run_by_make(seed.out, changed)


def _of_this_plan(inputs: Inputs, side: str, config: Config, store: Store) -> Build | None:
    """What this plan's other kernels left."""
    tree, variant = inputs.trees[side], config.variant
    least = len(inputs.trees["base"].patches)
    shorter = [replace(tree, name=f"{side}~{back}", patches=tree.patches[:-back]) for back in (1, 2)
               if side == "patched" and len(tree.patches) - back > least]
    # base is what a series is held against: nothing that the series' own build left may get into it
    others = [(where, row.name) for row in inputs.plan.variants for where in SIDES
              if (where, row.name) != (side, variant) and (where == "base" or side != "base")]
    others.sort(key=lambda key: (key != ("base", variant), key[0] != side, key[1] != variant))
    candidates = [*((other, variant) for other in shorter), *((inputs.trees[where], name) for where, name in others)]
    for other, name in candidates:
        asked = kconfig.read_fragments(inputs.plan.variant(name).fragments)
        known = kconfig.cached(other, name, asked, arch=inputs.arch, toolchain=inputs.toolchain, store=store,
                               deadline=Deadline.after(BUILD_SECONDS))
        finished = known and kbuild.cached(other, known, arch=inputs.arch, toolchain=inputs.compiling, store=store)
        if finished and may_serve(inputs, side, finished, store):
            return finished
    return None


def _same_tree(inputs: Inputs, side: str, config: Config, store: Store) -> Build | None:
    """The build of the very same tree whose configuration differs in the fewest lines."""
    content, _ = _content(inputs, side, store)
    wanted = {*config.text.splitlines()}
    found = [each for each in _earlier(inputs, content, store) if each.content.key == content.key]
    found.sort(key=lambda each: (len(wanted ^ {*each.config.text.splitlines()}), each.key))
    return next(filter(None, (_loaded(each, store) for each in found)), None)


def _least_different(inputs: Inputs, config: Config, store: Store) -> Build | None:
    """The build to start the patched tree's from: the fewest headers that differ, then the fewest files."""
    content, clean = _content(inputs, "patched", store)
    rows = [(differing(each.content, content, clean), each) for each in _earlier(inputs, content, store)
            if each.config.text == config.text]
    rows.sort(key=lambda row: (sum(name.endswith(".h") for name in row[0]), len(row[0]), row[1].key))
    for changed, each in rows:
        if not cmdfiles.reaches_all(changed):  # said by the names alone, before all of it is verified
            build = _loaded(each, store)
            if build and may_serve(inputs, "patched", build, store):
                return build
    return None


def _loaded(each: Earlier, store: Store) -> Build | None:
    """A build to start from; None where it cannot be had, also as it is damaged and in another process's use."""
    try:
        return each.load(store)
    except InfraError:
        return None


def _earlier(inputs: Inputs, content: Content, store: Store) -> Iterator[Earlier]:
    return kbuild.earlier(content.source, arch=inputs.arch, toolchain=inputs.compiling, store=store)


def _content(inputs: Inputs, side: str, store: Store) -> tuple[Content, Path]:
    """What a tree holds, and the folder of its source."""
    tree, deadline = inputs.trees[side], Deadline.after(BUILD_SECONDS)
    return apply(tree, store, deadline=deadline).content, source.fetch(tree.source, store, deadline=deadline)
