# SPDX-License-Identifier: GPL-2.0-only
"""Applying a series: the tree has exactly what git made, and what does not apply is named to the hunk."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import KernelError
from harness.jobs.inputs import Inputs
from harness.kernel.series import read_patch
from harness.kernel.tree import Tree, difference, prepare
from harness.store.store import Store
from tests.build.conftest import Edit, write_patch

DUMMY = "drivers/net/dummy.c"
LINE = "static int numdummies = 1;\n"


def of(inputs: Inputs, *paths: Path) -> Tree:
    return Tree(name="patched", source=inputs.trees["base"].source, patches=tuple(map(read_patch, paths)))


def ready(tree: Tree, store: Store) -> Path:
    return prepare(tree, store, deadline=Deadline.after(300))


def test_only_what_the_patch_touches_differs(inputs: Inputs, store: Store, clean_tree: Path, patch_of: Edit) -> None:
    tree = of(inputs, patch_of(DUMMY, LINE, "static int numdummies = 2;\n"))
    path = ready(tree, store)
    assert (path / DUMMY).read_text() == (clean_tree / DUMMY).read_text().replace(LINE, "static int numdummies = 2;\n")
    assert (path / "Makefile").samefile(clean_tree / "Makefile")
    clean = Tree(name="base", source=tree.source)
    assert difference(clean, tree, store, Deadline.after(60)) == {DUMMY}


def test_new_and_removed_files(inputs: Inputs, store: Store, clean_tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "series"
    gone = (clean_tree / DUMMY).read_text()
    new = write_patch(folder, "drivers/net/brand_new.c", "", "int x;\n")
    new.write_text(new.read_text().replace("a/drivers/net/brand_new.c\n+++", "/dev/null\n+++").replace(
        "index", "new file mode 100644\nindex", 1))
    removed = write_patch(folder, DUMMY, gone, "")
    removed.write_text(removed.read_text().replace(f"+++ b/{DUMMY}", "+++ /dev/null").replace(
        "index", "deleted file mode 100644\nindex", 1))
    path = ready(of(inputs, new, removed), store)
    assert (path / "drivers/net/brand_new.c").read_text() == "int x;\n"
    assert not (path / DUMMY).exists()
    assert (clean_tree / DUMMY).exists()


def test_a_patch_that_does_not_apply_is_named_with_file_hunk_and_gits_words(
        inputs: Inputs, store: Store, patch_of: Edit) -> None:
    first = patch_of(DUMMY, LINE, "static int numdummies = 2;\n")
    second = patch_of(DUMMY, LINE, "static int numdummies = 3;\n")
    with pytest.raises(KernelError) as caught:
        ready(of(inputs, first, second), store)
    said = str(caught.value)
    assert "patch 2 of 2 does not apply: change drivers/net/dummy.c" in said
    assert f"{second}: {DUMMY}, hunk 1" in said
    assert "error: patch failed: drivers/net/dummy.c:" in said
    assert "error: drivers/net/dummy.c: patch does not apply" in said


def test_a_file_behind_a_symbolic_link_is_refused(inputs: Inputs, store: Store, clean_tree: Path,
                                                  tmp_path: Path) -> None:
    link = "scripts/dtc/include-prefixes/dt-bindings"
    assert (clean_tree / link).is_symlink()
    patch = write_patch(tmp_path / "series", f"{link}/evil.h", "a\n", "b\n")
    with pytest.raises(KernelError, match="through a symbolic link"):
        ready(of(inputs, patch), store)
