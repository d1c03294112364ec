# SPDX-License-Identifier: GPL-2.0-only
"""Sizes against binutils' `size`, and between two builds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from compare_kit import Compile, compile_into

from harness.compare.size import compare_sizes, sizes
from harness.deadline import Deadline
from harness.errors import InfraError, UsageError
from harness.proc import run

SOURCE = "int f(int x) { return x * 3; } int d[5] = {1}; char b[100]; const char r[] = \"some text\";"


def berkeley(path: Path) -> tuple[int, ...]:
    figures = run(["size", str(path)], deadline=Deadline.after(60)).stdout.splitlines()[1].split()
    return tuple(int(figure) for figure in figures[:4])


@pytest.mark.parametrize("flags", [(), ("-m32", "-fno-pie"), ("-g",), ("-ffunction-sections", "-fdata-sections"),
                                   ("-fasynchronous-unwind-tables",)])
def test_sizes_are_those_of_binutils(cc: Compile, flags: tuple[str, ...]) -> None:
    path = cc(SOURCE, *flags)
    ours = sizes(path)
    assert (ours.text, ours.data, ours.bss, ours.total) == berkeley(path)
    assert 10 <= ours.rodata < ours.text
    assert sum(size for _name, size in ours.sections) == ours.total


def test_a_program_is_measured_like_an_object(cc: Compile) -> None:
    path = cc(SOURCE)
    program = path.with_name("program")
    run(["ld", "-e", "f", "-o", str(program), str(path)], deadline=Deadline.after(60))
    ours = sizes(program)
    assert (ours.text, ours.data, ours.bss, ours.total) == berkeley(program)


def test_two_builds_are_compared_file_by_file(tmp_path: Path) -> None:
    base, patched = tmp_path / "base", tmp_path / "patched"
    compile_into(base, SOURCE, name="vmlinux")
    compile_into(base / "net", SOURCE, name="same")
    compile_into(base / "net", SOURCE, name="grown")
    compile_into(base / "net", SOURCE, name="shrunk")
    compile_into(base / "net", SOURCE, name="gone")
    shutil.copytree(base, patched)
    compile_into(patched, SOURCE + "int g(int x) { return x / 7; }", name="vmlinux")
    compile_into(patched / "net", SOURCE + "int g(void) { return 1; }", name="grown")
    compile_into(patched / "net", SOURCE.replace("100", "40"), name="shrunk")
    (patched / "net/gone.o").unlink()
    report = compare_sizes(base, patched)
    assert report.vmlinux_o is not None
    assert report.vmlinux_o.text > 0
    assert report.vmlinux is None
    assert [d.path for d in report.objects] == ["net/gone.o", "net/shrunk.o", "net/grown.o"]
    assert (report.objects[1].text, report.objects[1].total) == (0, -60)
    assert report.objects[0].patched is None


def test_wrong_folders_and_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        compare_sizes(tmp_path, tmp_path)
    (tmp_path / "x.o").write_text("no object")
    with pytest.raises(InfraError, match=r"x\.o"):
        sizes(tmp_path / "x.o")
