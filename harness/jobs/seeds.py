# SPDX-License-Identifier: GPL-2.0-only
"""Which finished build a new one starts from: the nearest of those that may be trusted with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.deadline import Deadline
from harness.jobs.inputs import BUILD_SECONDS, Inputs
from harness.kernel import cmdfiles, kbuild, kconfig, source
from harness.kernel.kbuild import Build
from harness.kernel.kconfig import Config
from harness.kernel.tree import Tree, apply, differing
from harness.plan.plan import SIDES
from harness.store.store import Store


def nearest(inputs: Inputs, side: str, config: Config, store: Store) -> Build | None:
    """The finished build to start from.

    For the patched tree the one whose tree differs least, of those with the same configuration that it may start from
    (`_least_different`). Else, in this order: the series without its last patch or two, base of the same variant,
    another variant of the same tree, any; then what other plans left of the same tree.
    """
    tree, variant = inputs.trees[side], config.variant
    least = len(inputs.trees["base"].patches)
    shorter = [replace(tree, name=f"{side}~{back}", patches=tree.patches[:-back]) for back in (1, 2)
               if side == "patched" and len(tree.patches) - back > least]
    if side == "patched":
        closest = _least_different(inputs, (inputs.trees["base"], *shorter), config, store)
        if closest:
            return closest
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
        if finished:
            return finished
    return _same_tree(inputs, side, config, store)


def _same_tree(inputs: Inputs, side: str, config: Config, store: Store) -> Build | None:
    """The build of the very same tree whose configuration differs in the fewest lines."""
    content = apply(inputs.trees[side], store, deadline=Deadline.after(BUILD_SECONDS)).content
    wanted = {*config.text.splitlines()}
    found = [each for each in kbuild.earlier(content.source, arch=inputs.arch, toolchain=inputs.compiling, store=store)
             if each.content.key == content.key]
    found.sort(key=lambda each: (len(wanted ^ {*each.config.text.splitlines()}), each.key))
    return next(filter(None, (each.load(store) for each in found)), None)


def _least_different(inputs: Inputs, own: Sequence[Tree], config: Config, store: Store) -> Build | None:
    """The build to start the patched tree's from: the fewest headers that differ, then the fewest files.

    It must be of one of the trees `own`, or differ in nothing that a build runs (`cmdfiles.run_by_make`): a build of
    another series may have left what that series' Makefile made, but this one's would have made the same.
    """
    deadline = Deadline.after(BUILD_SECONDS)
    clean = source.fetch(inputs.trees["patched"].source, store, deadline=deadline)
    content = apply(inputs.trees["patched"], store, deadline=deadline).content
    trusted = {apply(tree, store, deadline=deadline).key for tree in own}
    rows = [(differing(each.content, content, clean), each) for each in kbuild.earlier(
        content.source, arch=inputs.arch, toolchain=inputs.compiling, store=store) if each.config.text == config.text]
    rows.sort(key=lambda row: (sum(name.endswith(".h") for name in row[0]), len(row[0]), row[1].key))
    for changed, each in rows:
        if not cmdfiles.reaches_all(changed):
            build = each.load(store)
            if build and (each.content.key in trusted or not cmdfiles.run_by_make(build.out, changed)):
                return build
    return None
