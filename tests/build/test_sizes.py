# SPDX-License-Identifier: GPL-2.0-only
"""Sizes of real kernels, against binutils' `size` and the kernel's own `scripts/bloat-o-meter`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import proc
from harness.compare import walk
from harness.compare.size import SizeReport, compare_sizes, sizes
from harness.compare.symsize import SymbolReport, folded
from harness.deadline import Deadline
from harness.jobs import builds
from harness.jobs.inputs import Inputs
from harness.report.progress import Progress
from harness.sandbox import bwrap
from harness.store.store import Store

COUNTED = ("__UNIQUE_ID_", "__initcall__kmod_")
"""Names with a counter or a line in them, which bloat-o-meter takes for other symbols and we do not."""
KINDS = {"Function": "functions", "Data": "data", "RO Data": "rodata"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The builds of one variant, and how their sizes compare."""

    base: Path
    patched: Path
    report: SizeReport


@pytest.fixture(scope="module", params=["xfrm", "both"])
def pair(request: pytest.FixtureRequest, inputs: Inputs, store: Store, progress: Progress) -> Pair:
    outs = []
    for side in builds.SIDES:
        config = builds.configure(inputs, side, request.param, store=store, progress=progress)
        outs.append(builds.build(inputs, side, config, store=store, progress=progress).out)
    return Pair(base=outs[0], patched=outs[1], report=compare_sizes(*outs))


def test_every_file_has_the_sizes_that_size_gives(pair: Pair) -> None:
    for root in (pair.base, pair.patched):
        paths = [*sorted(walk.find(root).objects), "vmlinux.o", "vmlinux"]
        said = proc.run(["size", *paths], cwd=root, deadline=Deadline.after(300)).stdout.splitlines()[1:]
        assert len(said) == len(paths) > 1000
        for path, line in zip(paths, said, strict=True):
            ours = sizes(root / path)
            assert [ours.text, ours.data, ours.bss, ours.total] == [int(word) for word in line.split()[:4]], path


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What `bloat-o-meter -c` says: by class, (before, after, up, down), and each name with (old, new)."""

    sums: dict[str, tuple[int, int, int, int]]
    names: dict[tuple[str, str], tuple[int, int]]


def bloat_o_meter(clean_tree: Path, base: Path, patched: Path) -> Said:
    argv = bwrap.boxed(["python3", "/bloat-o-meter", "-c", "/base.o", "/patched.o"], write={}, cwd="/",
                         read={"/bloat-o-meter": clean_tree / "scripts/bloat-o-meter", "/base.o": base,
                               "/patched.o": patched})
    sums: dict[str, tuple[int, int, int, int]] = {}
    names: dict[tuple[str, str], tuple[int, int]] = {}
    kind, moved = "", (0, 0)
    for line in bwrap.run(argv, deadline=Deadline.after(60)).stdout.splitlines():
        if line.startswith("add/remove:"):
            up, down = line.split("up/down: ")[1].split(" ")[0].split("/")
            moved = int(up), -int(down)
        elif line.startswith("Total:"):
            before, after = (int(word.split("=")[1]) for word in line.replace(",", "").split()[1:3])
            sums[kind] = (before, after, *moved)
        elif line.endswith("delta"):
            kind = KINDS[line.split("  ")[0].strip()]
        else:
            name, old, new, _delta = line.split()
            names[kind, name] = (0 if old == "-" else int(old), 0 if new == "-" else int(new))
    return Said(sums=sums, names=names)


def compare_with(said: Said, ours: SymbolReport, path: str) -> None:
    """Sums and single symbols agree; what does not is a name with a counter in it, and its bytes cancel out."""
    theirs: dict[tuple[str, str], tuple[int, int]] = {}
    for (kind, name), (old, new) in said.names.items():
        before = theirs.get((kind, folded(name)), (0, 0))
        theirs[kind, folded(name)] = before[0] + old, before[1] + new
    own = {(str(row.kind), row.name): (row.base or 0, row.patched or 0) for row in ours.symbols if row.kind != "other"}
    for key in theirs.keys() | own.keys():
        one, other = theirs.get(key, (0, 0)), own.get(key, (0, 0))
        if key[1].startswith(COUNTED):
            assert one[1] - one[0] == other[1] - other[0], (path, key)
        else:
            assert one == other, (path, key)
    for row in ours.totals[:3]:
        before, after, up, down = said.sums[row.kind]
        counted = sum(new for (kind, name), (old, new) in said.names.items() if kind == row.kind and not old
                      and name.startswith(COUNTED) and (kind, folded(name)) not in own)
        assert (row.base, row.patched) == (before, after), (path, row.kind)
        assert (row.up + counted, row.down + counted) == (up, down), (path, row.kind)


def test_the_kernel_has_the_symbols_that_bloat_o_meter_counts(pair: Pair, clean_tree: Path) -> None:
    assert pair.report.vmlinux_o is not None
    assert pair.report.vmlinux_o.symbols is not None
    said = bloat_o_meter(clean_tree, pair.base / "vmlinux.o", pair.patched / "vmlinux.o")
    compare_with(said, pair.report.vmlinux_o.symbols, "vmlinux.o")
    assert said.names["functions", "skb_ext_add"][0] == 0 < said.names["functions", "skb_ext_add"][1]
    assert sum(said.sums["functions"][:2]) > 8_000_000
    assert {name for _, name in said.names if name.startswith(COUNTED)}, "the one known disagreement is there"


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)], ids=["fifth", "every"])
def test_objects_have_them_too(pair: Pair, clean_tree: Path, step: int) -> None:
    checked = 0
    for row in pair.report.objects[::step]:
        if row.base and row.patched:
            assert row.symbols is not None
            compare_with(bloat_o_meter(clean_tree, pair.base / row.path, pair.patched / row.path), row.symbols,
                         row.path)
            checked += 1
    assert checked > 50 / step


def test_objects_that_are_not_listed_have_no_symbol_of_another_size(pair: Pair, clean_tree: Path) -> None:
    listed = {row.path for row in pair.report.objects}
    differing = [path for path in sorted(walk.find(pair.base).objects - listed) if (pair.patched / path).is_file()
                 and (pair.base / path).read_bytes() != (pair.patched / path).read_bytes()]
    assert differing
    for path in differing[:20]:
        said = bloat_o_meter(clean_tree, pair.base / path, pair.patched / path)
        for kind, name in said.names:
            assert name.startswith(COUNTED), (path, kind, name)
