# SPDX-License-Identifier: GPL-2.0-only
"""Sizes against binutils' `size` and `nm`, and between two builds."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from compare_kit import Compile, compile_into

from harness.cli.main import cli
from harness.compare import elf, size_text
from harness.compare.size import compare_sizes, sizes
from harness.compare.symsize import folded, symbol_sizes
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


def test_what_no_kernel_has_is_measured_apart(cc: Compile) -> None:
    said = 'const char a[8] __attribute__((section(".modinfo"))) = "a=b"; '
    mark = 'void *p __attribute__((section(".discard.addressable"))) = (void *)1;'
    assert sizes(cc(SOURCE)).dropped == (0, 0, 0, 0, 0)
    assert sizes(cc(SOURCE + said + mark)).dropped == (8, 8, 8, 0, 16)


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


SYMBOLS = """
static int counter(void) { static int calls; return ++calls; }
int used(void) { static int calls = 7; return counter() + ++calls; }
__attribute__((weak)) int hook(void) { return 1; }
int initialised = 3, zero; const int fixed[4] = {1, 2, 3, 4};
__attribute__((alias("used"))) int also(void);
"""


def nm_sizes(path: Path) -> dict[str, int]:
    """nm's letters to the sum of what they stand for, as `scripts/bloat-o-meter` groups them."""
    found: dict[str, int] = {}
    for line in run(["nm", "--size-sort", str(path)], deadline=Deadline.after(60)).stdout.splitlines():
        size, letter, _name = line.split()
        kind = {"t": "functions", "d": "data", "b": "data", "r": "rodata"}.get(letter.lower(), "other")
        found[kind] = found.get(kind, 0) + int(size, 16)
    return found


@pytest.mark.parametrize("flags", [(), ("-m32", "-fno-pie"), ("-fcommon",), ("-ffunction-sections", "-fdata-sections")])
def test_symbols_are_those_of_nm(cc: Compile, flags: tuple[str, ...]) -> None:
    found = symbol_sizes(elf.read(path := cc(SYMBOLS, *flags)))
    assert {kind: sum(size for (own, _), size in found.items() if own == kind)
            for kind in dict.fromkeys(kind for kind, _ in found)} == nm_sizes(path)
    assert found["data", "calls"] == 8, "static locals of one name are summed up"
    assert found["functions", "also"] == found["functions", "used"] > 0, "an alias counts, too"
    assert found["other", "hook"] > 0, "a weak function is not lost"


@pytest.mark.parametrize(("name", "folded_name"), [
    ("calls.12", "calls"), ("f.constprop.0", "f.constprop"), ("f.isra.0.cold", "f.isra.cold"), ("f2", "f2"),
    ("__UNIQUE_ID___addressable_napi_get_frags667", "__UNIQUE_ID___addressable_napi_get_frags"),
    ("__initcall__kmod_dummy__304_211_dummy_init_module6", "__initcall__kmod_dummy___dummy_init_module6"),
])
def test_numbers_in_names(name: str, folded_name: str) -> None:
    assert folded(name) == folded_name


def test_symbols_that_came_went_grew_and_shrank(cc: Compile) -> None:
    base = "int a[2], b[2], gone[3]; int f(int x) { return x; } const int k = 1; int same;"
    patched = "int a[4], b[1], fresh[5]; int f(int x) { return x; } int k = 1; int same;"
    report = compare_sizes(cc(base, "-fno-common"), cc(patched, "-fno-common"))
    (delta,) = report.objects
    assert delta.symbols is not None
    assert [(row.name, row.kind, row.change, row.delta) for row in delta.symbols.symbols] == [
        ("fresh", "data", "new", 20), ("gone", "data", "gone", -12), ("a", "data", "grown", 8),
        ("b", "data", "shrunk", -4), ("k", "data", "new", 4), ("k", "rodata", "gone", -4)]
    data = delta.symbols.totals[1]
    assert (data.new, data.gone, data.grown, data.shrunk, data.up, data.down) == (2, 1, 1, 1, 32, 16)
    assert data.patched - data.base == data.up - data.down


def test_equal_sizes_of_the_file_do_not_hide_a_symbol(tmp_path: Path) -> None:
    for side, text in (("base", "char a[2], b[4];"), ("patched", "char a[4], b[2];")):
        compile_into(tmp_path / side, text)
    (delta,) = compare_sizes(tmp_path / "base", tmp_path / "patched").objects
    assert (delta.text, delta.total) == (0, 0)
    assert delta.symbols is not None
    assert len(delta.symbols.symbols) == 2


def test_words_fit_and_json_says_the_same(tmp_path: Path) -> None:
    many = "".join(f"int symbol_with_a_name_that_is_much_too_long_for_a_terminal_{i}[{i + 1}];" for i in range(30))
    for side, text in (("base", SOURCE), ("patched", SOURCE + many)):
        compile_into(tmp_path / side, text, name="vmlinux")
        compile_into(tmp_path / side / "net/a_folder_with_a_long_name/and_another_one", text, name="x")
    report = compare_sizes(tmp_path / "base", tmp_path / "patched")
    short, whole = size_text.lines(report), size_text.lines(report, limit=None)
    assert max(map(len, short)) <= 80
    assert "... and 10 more (--all shows them)" in short
    assert sum("much_too_long" in line for line in short) == 20
    assert sum("much_too_long" in line for line in whole) == 60, "and those of the object, too"
    value = json.loads(json.dumps(size_text.to_json(report)))
    assert value["schema"] == "harness.size/1"
    assert value["vmlinux.o"]["delta"]["bss"] >= sum(4 * (i + 1) for i in range(30))
    assert len(value["vmlinux.o"]["symbols"]) == len(value["objects"][0]["symbols"]) == 30
    assert [row["name"] for row in value["objects"][0]["sections"]] == [".bss"]


def test_hostile_names_are_escaped(cc: Compile) -> None:
    base, patched = (cc(f'.globl "\x1b[31mx"\n.data\n"\x1b[31mx": .zero {n}\n.size "\x1b[31mx", {n}\n'
                        f'.type "\x1b[31mx", @object', asm=True) for n in (1, 2))
    report = compare_sizes(base, patched)
    for text in ("\n".join(size_text.lines(report)), json.dumps(size_text.to_json(report))):
        assert "\\x1b[31mx" in text.replace("\\\\", "\\")
        assert "\x1b" not in text


def test_the_command(tmp_path: Path) -> None:
    for side in ("base", "patched"):
        compile_into(tmp_path / side, SOURCE)
    done = CliRunner().invoke(cli, ["size", str(tmp_path / "base"), str(tmp_path / "patched")])
    assert done.exit_code == 0, done.output
    assert "no vmlinux.o on either side" in done.output
    assert "0 of 1 objects of another size" in done.output
    done = CliRunner().invoke(cli, ["size", str(tmp_path / "base/x.o"), str(tmp_path / "patched/x.o")])
    assert "no symbol has another size" in done.output
    with pytest.raises(UsageError):
        compare_sizes(tmp_path / "base", tmp_path / "patched/x.o")
    with pytest.raises(UsageError):
        compare_sizes(tmp_path / "none", tmp_path / "patched")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError):
        compare_sizes(tmp_path / "fifo", tmp_path / "fifo")
