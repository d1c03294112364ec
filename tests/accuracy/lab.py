# SPDX-License-Identifier: GPL-2.0-only
"""Makes the objects of the accuracy table in both configurations, and asks the comparison and the kernel's own tools.

The base of a row is the object as the variant builds it (`harness.kernel.partial`); the other side is that object
compiled again with the same command and the edited files shown in the tree (`harness.kernel.recompile`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.compare.objdiff import compare
from harness.compare.values import ObjectDelta
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.jobs import proof
from harness.jobs.again import Side
from harness.jobs.inputs import Inputs
from harness.kernel import kconfig, partial, recompile, tree
from harness.sandbox import bwrap
from harness.store.store import Store
from tests.accuracy.seed import Change, Seed, Verdict
from tests.conftest import ROOT

VARIANT = "both"
FRAGMENTS: Mapping[str, tuple[str, ...]] = {"lean": (), "debug": ("debug",)}
"""What is added to the customer's variant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The two objects of a row in one configuration.

    Attributes:
        base, patched: a folder for each side, which holds nothing but the object, at its path.
        out, source: the folder the base was built in, and the tree.
        overrides: files of the tree that differ, by path: of the base, of the patched side.
    """

    seed: Seed
    config: str
    base: Path
    patched: Path
    out: Path
    source: Path
    overrides: tuple[Mapping[str, Path], Mapping[str, Path]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the kernel's own tools say about a pair.

    Attributes:
        objdiff: of `scripts/objdiff`: lines of disassembly that differ, or that only its stripped copies do.
        bloat: of `scripts/bloat-o-meter`: its counts, or nothing.
    """

    objdiff: str
    bloat: str


def make(seeds: Sequence[Seed], config: str, inputs: Inputs, store: Store, folder: Path,
         deadline: Deadline) -> tuple[Pair, ...]:
    """Compile every row's two objects below `folder`; for other tools also as `base/<key>.o` and `patched/<key>.o`."""
    changed = inputs.trees["patched"]
    fragments = [*inputs.plan.variant(VARIANT).fragments,
                 *(ROOT / "kernel-configs" / f"{name}.config" for name in FRAGMENTS[config])]
    configured = kconfig.configure(changed, VARIANT, kconfig.read_fragments(fragments), arch=inputs.arch,
                                   toolchain=inputs.toolchain, store=store, deadline=deadline)
    out = partial.objects(changed, configured, [seed.object for seed in seeds], arch=inputs.arch,
                          toolchain=inputs.toolchain, store=store, deadline=deadline)
    source = tree.prepare(changed, store, deadline=deadline)
    def one(seed: Seed) -> Pair:
        before = _edited(seed, seed.before, out, source, folder / "edits" / seed.key / "base")
        after = _edited(seed, (*seed.before, *seed.after), out, source, folder / "edits" / seed.key / "patched")
        root = folder / "pairs" / seed.key
        pair = Pair(seed=seed, config=config, base=root / "base", patched=root / "patched", out=out, source=source,
                    overrides=(before, after))
        for side, overrides in ((pair.base, before), (pair.patched, after)):
            data = compiled(pair, overrides, deadline) if overrides else (out / seed.object).read_bytes()
            for path in (side / seed.object, folder / side.name / f"{seed.key}.o"):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        return pair

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return tuple(pool.map(one, seeds))


def compiled(pair: Pair, overrides: Mapping[str, Path], deadline: Deadline, flags: tuple[str, ...] = ()) -> bytes:
    """A row's object with some files of the tree edited, and maybe more options."""
    made, = recompile.recompile(pair.out, pair.source, [recompile.Job(object=pair.seed.object, flags=flags)],
                                deadline=deadline, overrides=overrides)
    if isinstance(made, HarnessError):
        raise made
    return made


def _edited(seed: Seed, changes: Sequence[Change], out: Path, source: Path, folder: Path) -> dict[str, Path]:
    """The edited files of one side by path in the tree, written below `folder`."""
    own = recompile.source_of(out, seed.object)
    assert own is not None, f"{seed.object} was not compiled from one file"
    texts: dict[str, str] = {}
    for change in changes:
        path = change.path or own
        texts[path] = change.apply(texts.get(path) or (source / path).read_text(encoding="utf-8"), path)
    found = {path: folder / path for path in texts}
    for path, text in texts.items():
        found[path].parent.mkdir(parents=True, exist_ok=True)
        found[path].write_text(text, encoding="utf-8")
    return found


def by_bytes(pair: Pair) -> Verdict:
    """What the comparison alone says."""
    delta, = compare(pair.base, pair.patched).deltas
    return verdict(delta)


def proved(pair: Pair) -> Verdict:
    """What it says after the proof by recompilation."""
    base, patched = (Side(out=pair.out, tree=pair.source, shown=shown, objects=objects)
                     for shown, objects in zip(pair.overrides, (pair.base, pair.patched), strict=True))
    differing = [path for path in pair.overrides[1] if base.file(path) != patched.file(path)]
    found = proof.prove(compare(pair.base, pair.patched), base, patched, differing, deadline=Deadline.after(300))
    return verdict(found.deltas[0])


COLUMNS: Mapping[str, Callable[[Pair], Verdict]] = {"by bytes": by_bytes, "proved": proved}
"""Who gives the verdict of a column."""


def verdict(delta: ObjectDelta) -> Verdict:
    """A comparison's result in the table's terms; numbers of static locals are cut off."""
    if delta.status == "changed":
        named = {_name(c.symbol or c.section or c.kind) for c in delta.changes}
        return Verdict("changed", tuple(sorted(named)))
    if delta.status == "explained":
        return Verdict("explained", delta.rules)
    assert delta.status == "identical", delta.status
    return Verdict("identical")


def _name(symbol: str) -> str:
    """A symbol's name without the numbers that a compiler or a counter gave it."""
    symbol = re.sub(r"^(__initcall__kmod_\w+?__)\d+_\d+_", r"\1", symbol)
    return re.sub(r"^(__UNIQUE_ID_\w+?)\d+(\.\d+)?$|\.\d+$", r"\1", symbol)


_TOOLS = r"""
set -e
cd /build/job
git init -q
for side in base patched; do
    rm -rf out
    cp -r $side out
    git -c user.name=x -c user.email=x commit -q --allow-empty -m $side
    sh /kernel/scripts/objdiff record out
done
sh /kernel/scripts/objdiff diff > objdiff.txt || test $? = 1
for name in base/*.o; do
    name=${name#base/}
    python3 /kernel/scripts/bloat-o-meter base/$name patched/$name > ${name%.o}.bloat
done
"""


def kernels_own(pairs: Sequence[Pair], folder: Path, deadline: Deadline) -> dict[str, Tools]:
    """What scripts/objdiff and scripts/bloat-o-meter of the tree say of each pair in `folder`, by the row's key."""
    bwrap.run(bwrap.boxed(["sh", "-c", _TOOLS], read={"/kernel": pairs[0].source}, write={"/build/job": folder},
                              cwd="/build/job"), deadline=deadline)
    said = (folder / "objdiff.txt").read_text(encoding="utf-8", errors="replace")
    return {pair.seed.key: Tools(objdiff=_objdiff(said, pair.seed.key),
                                 bloat=_bloat((folder / f"{pair.seed.key}.bloat").read_text(encoding="utf-8")))
            for pair in pairs}


def _objdiff(text: str, key: str) -> str:
    """What `diff -Nurd` of the recorded folders has on one object: its .dis and its .stripped file."""
    block = re.search(rf"^diff -Nurd \S+/{re.escape(key)}\.dis \S+\n(.*?)(?=^diff |^Binary |\Z)", text, re.M | re.S)
    if block:
        lines = sum(line[:1] in "+-" and line[:3] not in ("+++", "---") for line in block[1].splitlines())
        return f"{lines} lines"
    return "a binary differs" if re.search(rf"^Binary files \S+/{re.escape(key)}\.stripped ", text, re.M) else "nothing"


def _bloat(text: str) -> str:
    counts = re.match(r"add/remove: (\d+)/(\d+) grow/shrink: (\d+)/(\d+) up/down: \S+ \((-?\d+)\)", text)
    assert counts, text
    if not any(int(count) for count in counts.groups()):
        return "nothing"
    words = zip(("new", "gone", "grown", "shrunk"), counts.groups(), strict=False)
    return ", ".join(f"{count} {word}" for word, count in words if int(count)) + f" ({int(counts[5]):+d})"
