# SPDX-License-Identifier: GPL-2.0-only
"""Modules of a test's own, built against a real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.arch import native
from harness.deadline import Deadline
from harness.errors import KernelError, UsageError
from harness.jobs.builds import source_of
from harness.jobs.inputs import Inputs
from harness.kernel import module
from harness.kernel.kbuild import Build
from harness.store.store import Store

SOURCE = """\
// SPDX-License-Identifier: GPL-2.0-only
#include <linux/module.h>
static int __init probe_init(void) { return %s; }
module_init(probe_init);
MODULE_DESCRIPTION("probe");
MODULE_LICENSE("GPL");
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe/Kbuild").write_text("obj-m := probe.o\n")
    (tmp_path / "probe/probe.c").write_text(SOURCE % "0")
    return tmp_path / "probe"


def build(folder: Path, kernel: Build, inputs: Inputs, store: Store) -> Path:
    return module.build(folder, kernel=kernel.key, tree=source_of(inputs, "patched", store), out=kernel.out,
                        arch=native(), toolchain=inputs.toolchain, store=store, deadline=Deadline.after(300))


def times(folder: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in folder.iterdir()}


def test_a_module_is_built_once_and_nothing_else_changes(
        folder: Path, patched_both: Build, inputs: Inputs, store: Store) -> None:
    before = times(patched_both.out)
    made = build(folder, patched_both, inputs, store)
    assert made.name == "probe.ko"
    assert made.read_bytes()[:4] == b"\x7fELF"
    assert b"vermagic=6.1.192" in made.read_bytes()
    assert build(folder, patched_both, inputs, store) == made
    (folder / "probe.c").write_text(SOURCE % "-1")
    assert build(folder, patched_both, inputs, store) != made
    assert times(patched_both.out) == before
    assert sorted(path.name for path in folder.iterdir()) == ["Kbuild", "probe.c"]


@pytest.mark.parametrize(("value", "words"), [
    ("not_there", "not_there"),
    ("({ extern int no_such_symbol(void); no_such_symbol(); })", "no_such_symbol"),
])
def test_one_that_does_not_fit_the_kernel_is_refused_with_the_tools_words(
        folder: Path, patched_both: Build, inputs: Inputs, store: Store, value: str, words: str) -> None:
    (folder / "probe.c").write_text(SOURCE % value)
    with pytest.raises(KernelError, match="does not build against this kernel") as caught:
        build(folder, patched_both, inputs, store)
    assert any(words in line for line in caught.value.detail)


def test_a_build_cannot_write_into_the_kernel(folder: Path, patched_both: Build, inputs: Inputs, store: Store) -> None:
    (folder / "Kbuild").write_text("obj-m := probe.o\n$(shell touch /build/out/left-behind /build/src/left-behind)\n")
    build(folder, patched_both, inputs, store)
    assert not (patched_both.out / "left-behind").exists()
    assert not (source_of(inputs, "patched", store) / "left-behind").exists()


def test_a_folder_without_a_module_is_refused(
        tmp_path: Path, patched_both: Build, inputs: Inputs, store: Store) -> None:
    with pytest.raises(UsageError, match="there is no Kbuild file"):
        build(tmp_path, patched_both, inputs, store)
