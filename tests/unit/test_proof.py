# SPDX-License-Identifier: GPL-2.0-only
"""What of a proof needs no kernel: moved lines in bytes, linked objects, counts. Kernels: tests/build/test_proof.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness import claims
from harness.compare import elf, pair
from harness.compare.objdiff import compare
from harness.compare.values import Comparison
from harness.deadline import Deadline
from harness.jobs import proof
from harness.jobs.again import Side
from harness.kernel.recompile import RanAt
from harness.proc import run
from harness.report import objdiff_text
from tests.unit import tiny_kernel

CODE = ".text\n.globl f\nf: mov ${}, %esi\npush ${}\nret\n.data\n.long {}\n"


def assembled(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".s").write_text(text)
    run(["as", str(path.with_suffix(".s")), "-o", str(path)], deadline=Deadline.after(60))
    path.with_suffix(".s").unlink()
    return path


@pytest.mark.parametrize(("base", "patched", "fits"), [
    ((300, 20, 9), (305, 25, 9), True),
    ((250, 20, 9), (260, 20, 9), True),  # both bytes of the number change
    ((256, 20, 9), (512, 20, 9), True),  # only the upper one does
    ((300, 20, 9), (306, 25, 9), False),  # not where that line went
    ((305, 20, 9), (300, 20, 9), False),  # the other way round
    ((300, 20, 9), (305 + 65536, 20, 9), False),
    ((300, 20, 9), (305, 25, 10), False),
    ((300, 121, 9), (300, 129, 9), False),  # a longer instruction
])
def test_only_numbers_of_moved_lines(tmp_path: Path, base: tuple[int, ...], patched: tuple[int, ...],
                                     fits: bool) -> None:
    moves = frozenset({(300, 305), (20, 25), (250, 260), (256, 512), (121, 129)})
    made = [elf.parse(assembled(tmp_path / f"{i}.o", CODE.format(*numbers)).read_bytes(), "x.o")
            for i, numbers in enumerate((base, patched))]
    assert (not pair.diff("x.o", made[0], made[1], strict=False, moves=moves).changes) == fits
    assert pair.diff("x.o", made[0], made[1], strict=False).changes


@pytest.fixture
def linked(tmp_path: Path) -> tuple[Side, Side]:
    """Two builds with an object that was linked of two; in one of these only lines moved."""
    sides = []
    for name, more in (("base", ""), ("patched", "\n\n\n")):
        tree = tiny_kernel.tree(tmp_path / f"{name}-tree", a=("int f", f"{more}int f"))
        out = tiny_kernel.build(tree, tmp_path / name)
        sides.append(Side(out=out, tree=tree, at=RanAt(tree=str(tree), out=str(out), env=())))
    return sides[0], sides[1]


def proved(sides: tuple[Side, Side]) -> Comparison:
    return proof.prove(compare(sides[0].out, sides[1].out), *sides, ("net/a.c",), deadline=Deadline.after(60))


def test_a_linked_object_of_equal_parts_is_proved(linked: tuple[Side, Side]) -> None:
    found = proved(linked)
    assert (found.explained, found.proved, found.changed, found.identical_code) == (2, 2, 0, True)
    assert [(delta.path, delta.proof) for delta in found.deltas] == [
        ("net/a.o", "lines"), ("net/b.o", ""), ("net/m.o", "parts")]
    assert claims.objdiff_evidence(found) == "3 objects: 1 identical, 2 explained (2 proved), 0 changed"
    assert "1 identical, 2 explained (2 proved, 0 by rule), 0 changed" in objdiff_text.counts(found)[0]
    assert found.to_json()["proved"] == 2


def test_what_was_proved_is_known_the_next_time(linked: tuple[Side, Side]) -> None:
    found = proved(linked)
    text = proof.saved(found)
    assert text is not None
    assert proof.restored(compare(linked[0].out, linked[1].out), text).deltas == found.deltas


@pytest.mark.parametrize("note", ["no proof in time: compiling", "void: compiled again unchanged, it is another"])
def test_what_another_try_could_prove_is_not_kept(linked: tuple[Side, Side], note: str) -> None:
    found = proved(linked)
    late = found.replaced({delta.path: replace(delta, proof_note=note) for delta in found.deltas})
    assert proof.saved(late) is None


def test_a_linked_object_does_not_end_the_proofs_of_others(linked: tuple[Side, Side], tmp_path: Path) -> None:
    for i in range(9):
        assembled(tmp_path / f"patched/net/z{i}.o", CODE.format(1, 1, 1))
        assembled(tmp_path / f"base/net/z{i}.o", CODE.format(2, 1, 1))
    found = {delta.path: delta for delta in proved(linked).deltas}
    notes = [delta.proof_note for delta in found.values() if delta.status == "changed"]
    assert len(notes) == 9
    assert notes[0] == "it was not compiled from a source file of the tree"
    assert notes[-1] == "no proof was tried: net/z0.o did change"
    assert found["net/m.o"].proof == "parts"


@pytest.mark.parametrize("broken", ["command", "list", "part", "whole", "link", "outside"])
def test_a_linked_object_of_others_is_not(linked: tuple[Side, Side], tmp_path: Path, broken: str) -> None:
    there = tmp_path / "patched/net"
    if broken == "command":
        tiny_kernel.link(tmp_path / "patched", " -z separate-code --defsym=more=1")
    elif broken == "list":
        (there / "m.mod").write_text("net/b.o\nnet/a.o\n")
        tiny_kernel.link(tmp_path / "patched")
    elif broken == "part":
        assembled(there / "b.o", CODE.format(3, 1, 1))
    elif broken == "whole":
        assembled(tmp_path / "base/net/m.o", CODE.format(3, 1, 1))
    elif broken == "link":
        (there / "m.mod").rename(there / "real.mod")
        (there / "m.mod").symlink_to("real.mod")
    else:
        for side in ("base", "patched"):
            path = tmp_path / side / "net/.m.o.cmd"
            path.write_text(path.read_text().replace("@net/m.mod", "@net/../net/m.mod"))
    found = proved(linked)
    assert not found.identical_code
    assert next(delta for delta in found.deltas if delta.path == "net/m.o").status == "changed"


