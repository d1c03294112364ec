# SPDX-License-Identifier: GPL-2.0-only
"""`harness objdiff --prove` on two folders that make built, as anybody's; a driver of several files is among them."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import cli
from tests.unit.tiny_kernel import everything

ADDR = "net/core/dev_addr_lists"
E1000 = "drivers/net/ethernet/intel/e1000/e1000"
PARTS = tuple(f"{E1000}_{part}.o" for part in ("main", "hw", "ethtool", "param"))
OBJECTS = (f"{ADDR}.o", f"{E1000}.o")
CONFIG = ("64BIT", "BUG", "DEBUG_BUGVERBOSE", "PRINTK", "PCI", "NET", "INET", "NETDEVICES", "ETHERNET",
          "NET_VENDOR_INTEL", "MODULES", "UNWINDER_ORC")
TOP = "/*\n * more\n */\n\n"


def made(tree: Path, out: Path) -> None:
    """Build the objects. The times of the files count: make is not told what changed."""
    for targets in (["prepare"], OBJECTS):
        done = subprocess.run(["make", "-C", str(tree), f"O={out}", "ARCH=x86_64", "LOCALVERSION=", "-j2", *targets],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]


def edited(tree: Path, name: str, old: str, new: str) -> None:
    """Edit a file of a tree whose files are links to another's."""
    text = (tree / name).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (tree / name).unlink()
    (tree / name).write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def folders(clean_tree: Path) -> Iterator[dict[str, Path]]:
    """Two trees, the second with more lines, and a build folder of each: one beside its tree, one in it."""
    # on the file system of the clean tree, whose files they share
    with tempfile.TemporaryDirectory(dir=clean_tree.parents[2], prefix="others-") as name:
        yield build_both(clean_tree, Path(name))


def build_both(clean_tree: Path, root: Path) -> dict[str, Path]:
    found = {"base": root / "linux", "patched": root / "theirs", "base out": root / "out",
             "patched out": root / "theirs/out"}
    for side in ("base", "patched"):
        subprocess.run(["cp", "-al", str(clean_tree), str(found[side])], check=True)
    edited(found["patched"], f"{ADDR}.c", "/*\n * General list", f"{TOP}/*\n * General list")
    first = (found["patched"] / f"{E1000}_main.c").read_text(encoding="utf-8").split("\n", 1)[0]
    edited(found["patched"], f"{E1000}_main.c", f"{first}\n", f"{first}\n{TOP}")
    for side in ("base", "patched"):
        out = found[f"{side} out"]
        out.mkdir()
        (out / "wanted").write_text("".join(f"CONFIG_{name}=y\n" for name in CONFIG) + "CONFIG_E1000=m\n")
        subprocess.run(["make", "-C", str(found[side]), f"O={out}", "ARCH=x86_64", f"KCONFIG_ALLCONFIG={out}/wanted",
                        "allnoconfig"], check=True, capture_output=True)
        made(found[side], out)
    return found


def prove(folders: dict[str, Path], *options: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and what is said of each object that differs."""
    outs = [str(folders["base out"]), str(folders["patched out"])]
    done = CliRunner().invoke(cli, ["objdiff", "--prove", "-q", "--json", *options, *outs])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, {delta["path"]: delta for delta in json.loads(done.output)["deltas"]}


def test_a_driver_of_several_files_is_proved(folders: dict[str, Path]) -> None:
    sides = [folders[f"{side} out"] for side in ("base", "patched")]
    assert (sides[0] / f"{E1000}.mod").read_text().split() == list(PARTS)
    before = everything(*sides, *(folders[side] / Path(E1000).parent for side in ("base", "patched")))
    code, found = prove(folders)
    assert {path: delta["proof"] for path, delta in found.items()} == {
        f"{ADDR}.o": "lines", f"{E1000}_main.o": "lines", f"{E1000}.o": "parts"}, found
    assert code == 0
    assert everything(*sides, *(folders[side] / Path(E1000).parent for side in ("base", "patched"))) == before
    plain = CliRunner().invoke(cli, ["objdiff", *map(str, sides)])
    assert plain.exit_code == 1  # without a proof, line numbers in code are a change


def test_a_change_in_one_file_of_a_driver_stays_one(folders: dict[str, Path]) -> None:
    file = f"{E1000}_main.c"
    text = (folders["patched"] / file).read_text(encoding="utf-8")
    time = (folders["patched"] / file).stat().st_mtime_ns
    edited(folders["patched"], file, "hw_csum_good++;", "hw_csum_good--;")
    try:
        with pytest.raises(Exception, match="was not built from this source tree"):
            prove(folders)
        made(folders["patched"], folders["patched out"])
        code, found = prove(folders)
        assert code == 1
        assert {path: delta["proof"] for path, delta in found.items()} == {
            f"{ADDR}.o": "lines", f"{E1000}_main.o": "", f"{E1000}.o": ""}
        assert found[f"{E1000}.o"]["proof_note"] == "not all objects it is linked of are proved"
    finally:
        (folders["patched"] / file).write_text(text, encoding="utf-8")
        os.utime(folders["patched"] / file, ns=(time, time + 10**9))
        made(folders["patched"], folders["patched out"])
