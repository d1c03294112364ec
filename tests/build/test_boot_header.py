# SPDX-License-Identifier: GPL-2.0-only
"""The boot header of real kernels: what is computed of it, and the proof that it only follows the compressed kernel."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.compare import boot_header, elf
from harness.compare.objdiff import compare
from harness.compare.values import ObjectDelta
from harness.deadline import Deadline
from harness.jobs import proof
from harness.jobs.again import Side
from harness.jobs.inputs import Inputs
from harness.kernel.kbuild import Build
from harness.kernel.recompile import Job
from harness.kernel.tree import prepare
from harness.store.store import Store

SOURCE = "arch/x86/boot/header.S"
FLAG = "boot_flag:\t.word 0xAA55"
_SECTION_STARTS = 0x1EF
"""Where `.header` lies in the boot sector: two bytes before `hdr` (arch/x86/boot/header.S)."""


def test_every_field_is_as_computed(base_both: Build, patched_both: Build) -> None:
    seen = []
    for build in (base_both, patched_both):
        path = build.out / boot_header.PATH
        header, = (each for each in elf.read(path).sections if each.name == ".header")
        data = elf.read(path).data[header.offset:header.offset + header.size]
        wanted = boot_header.fields_of(build.out)
        seen.append(wanted)
        assert wanted == {field: int.from_bytes(data[field - _SECTION_STARTS:][:4], "little") for field in wanted}
        assert boot_header.offsets_hold(build.out)
    assert len(seen[0]) == 5
    assert seen[0] != seen[1], "they do not show that anything is computed"


@pytest.fixture
def sides(base_both: Build, patched_both: Build, inputs: Inputs, store: Store, tmp_path: Path) -> tuple[Side, Side]:
    """Both kernels, of which only the boot header is compared, without what the rule needs."""
    found = []
    for build in (base_both, patched_both):
        objects = tmp_path / build.tree
        (objects / boot_header.PATH).parent.mkdir(parents=True)
        shutil.copy(build.out / boot_header.PATH, objects / boot_header.PATH)
        tree = prepare(inputs.trees[build.tree], store, deadline=Deadline.after(300))
        found.append(Side(out=build.out, tree=tree, objects=objects))
    return found[0], found[1]


def proved(base: Side, patched: Side) -> ObjectDelta:
    assert base.objects
    assert patched.objects
    plain = compare(base.objects, patched.objects)
    assert [delta.status for delta in plain.deltas] == ["changed"]
    return proof.prove(plain, base, patched, [], deadline=Deadline.after(300)).deltas[0]


def test_it_is_proved_to_follow_the_compressed_kernel(sides: tuple[Side, Side]) -> None:
    delta = proved(*sides)
    assert (delta.status, delta.proof, delta.changes) == ("explained", "offsets", ()), delta.proof_note


@pytest.mark.parametrize(("made_of", "note"), [
    (f"{FLAG} + 1", f"{SOURCE} differs"),
    # for these offsets it is base's object, and for its own another one
    (f"#if ZO_z_input_len == {{size}}\n{FLAG} + 1\n#else\n{FLAG}\n#endif", f"{SOURCE} differs"),
])
def test_another_header_is_a_change(sides: tuple[Side, Side], tmp_path: Path, made_of: str, note: str) -> None:
    base, patched = sides
    text = (patched.tree / SOURCE).read_text(encoding="utf-8")
    assert text.count(FLAG) == 1
    size = (patched.out / "arch/x86/boot/compressed/vmlinux.bin.gz").stat().st_size
    (tmp_path / "header.S").write_text(text.replace(FLAG, made_of.format(size=size)), encoding="utf-8")
    patched = replace(patched, shown={SOURCE: tmp_path / "header.S"})
    made, = patched.again([Job(object=boot_header.PATH)], Deadline.after(300), {})
    assert isinstance(made, bytes)
    assert patched.objects
    (patched.objects / boot_header.PATH).write_bytes(made)
    delta = proved(base, patched)
    assert (delta.status, delta.proof, delta.proof_note) == ("changed", "", note)


@pytest.mark.parametrize(("which", "note"), [
    (0, "with the offsets of base's compressed kernel it is still another object"),
    (1, f"void: compiled again unchanged, {boot_header.PATH} is not the object in"),
])
def test_both_must_come_out(sides: tuple[Side, Side], which: int, note: str) -> None:
    """Base's from base's offsets, and the patched one from its own: else it could be anything that was put there."""
    objects = sides[which].objects
    assert objects
    data = (objects / boot_header.PATH).read_bytes()
    assert data.count(b"HdrS") == 1
    (objects / boot_header.PATH).write_bytes(data.replace(b"HdrS", b"HdrT"))
    delta = proved(*sides)
    assert (delta.status, delta.proof) == ("changed", "")
    assert delta.proof_note.startswith(note)


def test_another_command_proves_nothing(sides: tuple[Side, Side], tmp_path: Path) -> None:
    base, patched = sides
    boot = (tmp_path / "out" / boot_header.PATH).parent
    shutil.copytree((base.out / boot_header.PATH).parent, boot)
    command = boot / ".header.o.cmd"
    text = command.read_text(encoding="utf-8")
    assert text.count(" -c -o ") == 1
    command.write_text(text.replace(" -c -o ", " -DMORE -c -o "), encoding="utf-8")
    delta = proved(replace(base, out=tmp_path / "out"), patched)
    assert (delta.status, delta.proof, delta.proof_note) == ("changed", "", "the command that makes it differs")


def test_offsets_that_the_unpacker_does_not_have_prove_nothing(sides: tuple[Side, Side], tmp_path: Path) -> None:
    base, patched = sides
    boot = (tmp_path / "out" / boot_header.PATH).parent
    shutil.copytree((base.out / boot_header.PATH).parent, boot)
    offsets = tmp_path / "out" / boot_header.OFFSETS
    text = offsets.read_text(encoding="utf-8")
    for wrong in (text.replace("ZO_kernel_info 0x0", "ZO_kernel_info 0x1"), text + "#define MORE 1\n", ""):
        offsets.write_text(wrong, encoding="utf-8")
        delta = proved(replace(base, out=tmp_path / "out"), patched)
        assert (delta.status, delta.proof) == ("changed", "")
        assert delta.proof_note == f"{boot_header.OFFSETS} is not what the unpacker has in {tmp_path}/out"
