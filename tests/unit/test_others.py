# SPDX-License-Identifier: GPL-2.0-only
"""`harness objdiff --prove` on folders that no plan made. On a real kernel: tests/build/test_others.py."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli.main import cli
from harness.errors import UsageError
from harness.jobs import others
from tests.unit import tiny_kernel

LINES = ("int f", "\n\n\nint f")
"""Only lines move."""
ORDER = ("int f", "int z(int x)\n{\n\treturn x - 1;\n}\n\nint f")
CHANGE = ("return x * CONF", "return x * CONF + 1")


def prove(base: Path, patched: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["objdiff", "--prove", "-q", *options, str(base), str(patched)])


def sides(tmp_path: Path, edit: tuple[str, str], *flags: str) -> tuple[Path, Path]:
    return (tiny_kernel.build(tiny_kernel.tree(tmp_path / "linux"), tmp_path / "base", *flags),
            tiny_kernel.build(tiny_kernel.tree(tmp_path / "theirs", a=edit), tmp_path / "patched", *flags))


def test_what_moved_only_is_proved_and_nothing_is_written(tmp_path: Path) -> None:
    base, patched = sides(tmp_path, LINES)
    before = tiny_kernel.everything(tmp_path)
    done = prove(base, patched)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "3 objects: 1 identical, 2 explained (2 proved, 0 by rule), 0 changed, 0 only in base, 0 only in patched",
        "proofs:",
        "  net/m.o: proved: linked of base's parts it is base's object; all 2 are identical or proved",
        "  net/a.o: proved: byte for byte base's object with base's line numbers",
    ]
    found = json.loads(prove(base, patched, "--json").output)
    assert [(delta["path"], delta["status"], delta["proof"]) for delta in found["deltas"]] == [
        ("net/a.o", "explained", "lines"), ("net/m.o", "explained", "parts")]
    assert (found["proved"], found["identical_code"]) == (2, True)
    assert tiny_kernel.everything(tmp_path) == before
    assert CliRunner().invoke(cli, ["objdiff", str(base), str(patched)]).exit_code == 1


@pytest.mark.parametrize("edit", [ORDER, CHANGE, (LINES[0], "\n\n\nlong f")])
def test_a_change_stays_one(tmp_path: Path, edit: tuple[str, str]) -> None:
    done = prove(*sides(tmp_path, edit))
    assert done.exit_code == 1
    assert "net/a.o: not proved: " in done.output
    assert "net/m.o: not proved: not all objects it is linked of are proved" in done.output


@pytest.mark.parametrize("place", ["inside", "beside", "in the tree", "relative"])
def test_wherever_it_was_built(tmp_path: Path, place: str) -> None:
    outs = []
    for name, edit in (("linux", ("int f", "int f")), ("theirs", LINES)):
        tree = tiny_kernel.tree(tmp_path / name, a=edit)
        out, named = {"inside": (tree / "o", "../"), "beside": (tmp_path / f"o-{name}", f"../{name}/"),
                      "in the tree": (tree, ""), "relative": (tree / "o/o", f"{tree}/o/../")}[place]
        outs.append(tiny_kernel.build(tree, out, named=named))
    before = tiny_kernel.everything(tmp_path)
    done = prove(*outs)
    assert done.exit_code == 0, done.output
    assert tiny_kernel.everything(tmp_path) == before


def test_debug_information_names_folders_and_lines_and_proves_nothing(tmp_path: Path) -> None:
    base, patched = sides(tmp_path, LINES, "-g")
    done = prove(base, patched)
    assert done.exit_code == 0, done.output
    assert "net/a.o: proved: base's object with base's line numbers, but for debug information" in done.output
    assert "net/b.o: by rule (debug-sections): no line moved in the files it is made from" in done.output


def test_a_tree_that_is_not_there_is_named(tmp_path: Path) -> None:
    base, patched = sides(tmp_path, LINES)
    (tmp_path / "theirs").rename(tmp_path / "moved")
    done = prove(base, patched)
    assert done.exit_code == 2 or isinstance(done.exception, UsageError)
    with pytest.raises(UsageError) as error:
        others.find("patched", patched, ["net/a.o"])
    assert str(error.value).splitlines() == [
        f"{tmp_path}/theirs (patched): the source tree is not there",
        f"    {patched} was built from {tmp_path}/theirs",
        "  hint: put it back, or say where it is: --patched-source DIR"]
    assert prove(base, patched, "--patched-source", str(tmp_path / "moved")).exit_code == 0


@pytest.mark.parametrize(("side", "newer"), [("base", True), ("base", False), ("patched", True)])
def test_a_tree_that_changed_since_is_refused(tmp_path: Path, side: str, newer: bool) -> None:
    base, patched = sides(tmp_path, LINES)
    file = tmp_path / ("linux" if side == "base" else "theirs") / "net/a.c"
    made = (tmp_path / side / "net/a.o").stat().st_mtime_ns
    file.write_text(file.read_text().replace("x * CONF", "x / CONF"))
    os.utime(file, ns=(made + (1 if newer else -1), made + (1 if newer else -1)))
    result = prove(base, patched)
    assert isinstance(result.exception, UsageError)
    said = str(result.exception)
    assert said.startswith(f"{file.parents[1]} ({side}): the folder was not built from this source tree, or with other")
    assert f"compiled again unchanged, net/a.o is not the object in {tmp_path / side}" in said
    assert ("written after it was built: net/a.c" in said) == newer


def test_a_tree_that_was_only_touched_is_taken(tmp_path: Path) -> None:
    base, patched = sides(tmp_path, LINES)
    for name in ("linux", "theirs"):
        os.utime(tmp_path / name / "net/a.c")
    assert prove(base, patched).exit_code == 0


def test_a_compiler_that_is_not_here_is_said(tmp_path: Path) -> None:
    base, patched = sides(tmp_path, LINES)
    path = base / "net/.a.o.cmd"
    path.write_text(path.read_text().replace(":= gcc", ":= no-such-gcc"))
    said = str(prove(base, patched).exception)
    assert "net/a.o: it does not compile" in said
    assert "no-such-gcc" in said


@pytest.mark.parametrize("what", ["commands", "no tree", "tree for one built in it", "files"])
def test_what_cannot_be_proved_is_wrong_usage(tmp_path: Path, what: str) -> None:
    base, patched = sides(tmp_path, LINES)
    options: tuple[str, ...] = ()
    if what == "commands":
        for path in patched.rglob(".*.cmd"):
            path.unlink()
    elif what == "no tree":
        (tmp_path / "linux/Kconfig").unlink()
    elif what == "files":
        base, patched = base / "net/a.o", patched / "net/a.o"
    else:
        base = tiny_kernel.build(tmp_path / "linux", tmp_path / "linux")
        options = ("--base-source", str(tmp_path / "theirs"))
    said = str(prove(base, patched, *options).exception)
    assert {"commands": "it is not known how these objects were made", "no tree": "this is no kernel source tree",
            "files": "--prove is for two build folders",
            "tree for one built in it": "built in its source tree"}[what] in said


def test_nothing_of_the_tree_reaches_out_of_the_sandbox(tmp_path: Path) -> None:
    """A command of somebody else's folder is foreign code."""
    base, patched = sides(tmp_path, LINES)
    for out in (base, patched):
        path = out / "net/.a.o.cmd"
        evil = f"touch {tmp_path}/escaped {out}/net/b.o; rm -f {out}/net/b.o"
        path.write_text(path.read_text().replace(":= gcc", f":= {evil}; gcc"))
    before = tiny_kernel.everything(tmp_path)
    assert prove(base, patched).exception is not None
    assert tiny_kernel.everything(tmp_path) == before
