# SPDX-License-Identifier: GPL-2.0-only
"""What a series leaves stays with it: nothing of it gets into what others are built with, or out of its folder.

On a tree of a few lines, whose Makefile does what these tests need of the kernel's.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.jobs import builds
from harness.jobs.inputs import Inputs, resolve
from harness.kernel import kbuild
from harness.kernel.kbuild import Build
from harness.plan.plan import read_plan
from harness.report.progress import Progress
from harness.store.store import Store
from tests.build.conftest import write_patch

MAKEFILE = """\
include /build/src/more.mk
allnoconfig:
\t@mkdir -p $(O)/scripts/kconfig
\t@[ -e $(O)/scripts/kconfig/conf ] || echo clean > $(O)/scripts/kconfig/conf
\t@cat $(KCONFIG_ALLCONFIG) < /dev/null > $(O)/.config
bzImage:
\t@$(or $(HOOK),true)
\t@mkdir -p $(O)/arch/x86/boot
\t@touch $(O)/arch/x86/boot/bzImage $(O)/vmlinux $(O)/vmlinux.o
\t@cp /build/src/.gen.cmd /build/src/.c.o.cmd $(O)/
\t@cp /build/src/names $(O)/modules.order
\t@if grep -q CONFIG_TWO=y $(O)/.config; then : > $(O)/modules.order; fi
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A plan on the small tree, with two variants; its series is what lies in `series/`."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, text in (("Makefile", MAKEFILE), ("more.mk", "HOOK :=\n"), ("Kconfig", ""),
                       ("names", "net/a.ko\n"), ("file", "old\n"), ("c.c", "old\n"), ("gen.c", "old\n"),
                       (".gen.cmd", "cmd_gen := gcc -o gen /build/src/gen.c\n"),
                       (".c.o.cmd", "cmd_c.o := gcc -D__KERNEL__ -c -o c.o /build/src/c.c\n")):
        (tree / name).write_text(text)
    for name in ("ONE", "TWO"):
        (tmp_path / name).write_text(f"CONFIG_{name}=y\n")
    (tmp_path / "plan.yaml").write_text(
        "source: {dir: tree}\nseries: series/*.patch\nvariants:\n  one: [ONE]\n  two: [TWO]\n")
    return tmp_path


def made(small: Path, side: str, variant: str, store: Store) -> tuple[Inputs, Build]:
    inputs = resolve(read_plan(small), Deadline.after(60))
    config = builds.configure(inputs, side, variant, store=store, progress=Progress(quiet=True))
    return inputs, builds.build(inputs, side, config, store=store, progress=Progress(quiet=True))


def test_what_kconfig_runs_is_built_from_the_source_alone(small: Path, tmp_path: Path) -> None:
    write_patch(small / "series", "Makefile", MAKEFILE, MAKEFILE.replace("echo clean", "echo hostile"))
    store = Store(root=tmp_path / "cache")
    made(small, "patched", "one", store)
    assert [path.read_text() for path in store.root.glob("kconfig/*/data/scripts/kconfig/conf")] == ["clean\n"]


def test_base_never_starts_from_a_build_of_the_series(small: Path, tmp_path: Path) -> None:
    write_patch(small / "series", "file", "old\n", "new\n")
    store = Store(root=tmp_path / "cache")
    assert made(small, "patched", "one", store)[1].seed == ""
    assert made(small, "base", "one", store)[1].seed == ""
    assert made(small, "base", "two", store)[1].seed == "base/one"
    assert made(small, "patched", "two", store)[1].seed == "base/two"


def test_another_plan_on_the_same_tree_starts_from_what_this_one_left(small: Path, tmp_path: Path) -> None:
    write_patch(small / "series", "file", "old\n", "new\n")
    store = Store(root=tmp_path / "cache")
    made(small, "patched", "one", store)
    made(small, "base", "one", store)
    plan = small / "plan.yaml"
    plan.write_text(plan.read_text().replace("  one: [ONE]\n", ""))
    assert made(small, "base", "two", store)[1].seed == "base/one"
    assert made(small, "patched", "two", store)[1].seed == "base/two"


@pytest.mark.parametrize(("name", "old", "starts"), [
    ("c.c", "old\n", True),
    ("gen.c", "old\n", False),  # a program of the build itself: what it made of something else is not ours
    ("file", "old\n", False),  # nobody knows what it is for
    ("Makefile", MAKEFILE, False),
])
def test_an_edited_series_starts_from_its_build_before_the_edit_and_from_no_strangers(
        small: Path, tmp_path: Path, name: str, old: str, starts: bool) -> None:
    """Whose it is, is told by what it is made of: nothing that the build runs may differ."""
    store = Store(root=tmp_path / "cache")
    write_patch(small / "series", "names", "net/a.ko\n", "net/b.ko\n")
    last = write_patch(small / "series", name, old, f"{old}# one\n")
    assert made(small, "patched", "one", store)[1].seed == ""
    last.unlink()
    write_patch(small / "series", name, old, f"{old}# other\n")
    assert made(small, "patched", "one", store)[1].seed == ("patched/one" if starts else "")


def test_nothing_starts_from_what_was_built_by_other_rules(small: Path, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(root=tmp_path / "cache")
    write_patch(small / "series", "c.c", "old\n", "new\n")
    with monkeypatch.context() as before:
        before.setattr(kbuild, "_RULES", 1)
        old = made(small, "base", "one", store)[1]
    assert made(small, "base", "two", store)[1].seed == ""
    new = made(small, "base", "one", store)[1]
    assert (new.reused, new.key == old.key) == (False, False)
    assert made(small, "patched", "one", store)[1].seed == "base/one"


def test_what_a_makefile_left_that_is_taken_back_is_not_in_the_last_kernel(small: Path, tmp_path: Path) -> None:
    """Whoever has the same content gets that build: it must be what a build from nothing would be."""
    clean, hostile = "HOOK :=\n", "HOOK := echo hostile > $(O)/left\n"
    write_patch(small / "series", "more.mk", clean, hostile)
    write_patch(small / "series", "c.c", "old\n", "new\n")
    write_patch(small / "series", "more.mk", hostile, clean)
    write_patch(small / "series", "c.c", "new\n", "newer\n")
    store, inputs = Store(root=tmp_path / "cache"), resolve(read_plan(small), Deadline.after(60))
    walked = builds.each_patch(inputs, "one", store=store, progress=Progress(quiet=True))
    left = [step.after is not None and (step.after.build.out / "left").exists() for step in walked]
    assert left == [True, True, False, False]
    assert made(small, "patched", "one", store)[1].reused


@pytest.mark.parametrize("damage", ["{", "[]", '{"content": {}}', '{"content": {"source": "", "files": [1]}}'])
def test_a_damaged_build_of_somebody_else_hinders_nobody(small: Path, tmp_path: Path, damage: str) -> None:
    store = Store(root=tmp_path / "cache")
    last = write_patch(small / "series", "c.c", "old\n", "one\n")
    (made(small, "patched", "one", store)[1].out.parent / "build.json").write_text(damage)
    last.unlink()
    write_patch(small / "series", "c.c", "old\n", "other\n")
    assert made(small, "patched", "one", store)[1].seed == ""


def test_a_damaged_build_in_use_elsewhere_hinders_nobody(small: Path, tmp_path: Path) -> None:
    user, store = (Store(root=tmp_path / "cache") for _ in range(2))
    write_patch(small / "series", "names", "net/a.ko\n", "net/b.ko\n")
    last = write_patch(small / "series", "c.c", "old\n", "one\n")
    theirs = made(small, "patched", "one", user)[1]
    (theirs.out / "vmlinux").write_text("damaged")
    last.unlink()
    write_patch(small / "series", "c.c", "old\n", "other\n")
    with pytest.raises(InfraError, match=r"is damaged, and process \d+ uses it"):
        store.load("build", theirs.key)
    assert made(small, "patched", "one", store)[1].seed == ""


@pytest.mark.parametrize("how", ["{victim}.ko", "../../../../../../../../../../../../../../../..{victim}.ko"])
def test_a_name_that_a_build_left_removes_nothing_of_ours(small: Path, tmp_path: Path, how: str) -> None:
    """What the seed was linked from, and the new kernel is not, is removed from the output; and nothing else."""
    victim = tmp_path / "victim"
    victim.with_suffix(".o").write_text("ours")
    write_patch(small / "series", "names", "net/a.ko\n", how.format(victim=victim) + "\n")
    store = Store(root=tmp_path / "cache")
    made(small, "patched", "one", store)
    assert made(small, "patched", "two", store)[1].seed == "patched/one"
    assert victim.with_suffix(".o").read_text() == "ours"
