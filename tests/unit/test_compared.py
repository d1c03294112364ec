# SPDX-License-Identifier: GPL-2.0-only
"""compared: two builds are compared once for what is in them, and again when one of them is another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.compare.values import Comparison, ObjectDelta
from harness.deadline import Deadline
from harness.jobs import compared as module
from harness.jobs.compared import compared
from harness.kernel.kbuild import Build
from harness.kernel.kconfig import Config
from harness.kernel.tree import Content
from harness.store.store import Store


def made(store: Store, tree: str, text: str) -> Build:
    def make(stage: Path) -> None:
        (stage / "out").mkdir()
        (stage / "out" / "a.o").write_text(text)
        (stage / "build.log").write_text("took a while")

    entry = store.get("build", tree, make, deadline=Deadline.after(20.0))
    return Build(tree=tree, variant="v", key=tree, out=entry / "out", image=entry, vmlinux=entry, log=entry,
                 config=Config(variant="v", text="", asked=()), seconds=0.0, seed="", rebuilt=0, warnings={},
                 reused=True, content=Content(source="", files={}, removed=()))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was compared, in the words of the patched side."""
    seen: list[str] = []

    def compare(base: Path, patched: Path) -> Comparison:
        seen.append((patched / "a.o").read_text())
        return Comparison(base=str(base), patched=str(patched), strict=False, objects=1, identical=0, explained=0,
                          changed=1, only_base=0, only_patched=0, archives=0, archives_changed=0, rules=(),
                          excluded=(), seconds=1.0, deltas=(ObjectDelta(path="a.o", status="changed"),))

    monkeypatch.setattr(module, "compare", compare)
    return seen


def test_once(tmp_path: Path, calls: list[str]) -> None:
    found = []
    for _ in range(2):
        store = Store(root=tmp_path)
        found.append(compared(made(store, "base", "one"), made(store, "patched", "two"), store=store))
    assert calls == ["two"]
    assert found[0] == found[1]


def test_a_build_that_was_made_again_and_is_another_is_compared_anew(tmp_path: Path, calls: list[str]) -> None:
    for text in ("two", "three"):
        store = Store(root=tmp_path)
        compared(made(store, "base", "one"), made(store, "patched", text), store=store)
        shutil.rmtree(tmp_path / "build" / "patched")
    assert calls == ["two", "three"]


def test_paths_are_those_of_the_builds_now(tmp_path: Path, calls: list[str]) -> None:
    store = Store(root=tmp_path / "first")
    compared(made(store, "base", "one"), made(store, "patched", "two"), store=store)
    del store
    shutil.move(tmp_path / "first", tmp_path / "second")
    store = Store(root=tmp_path / "second")
    found = compared(made(store, "base", "one"), made(store, "patched", "two"), store=store)
    assert calls == ["two"]
    assert found.base == str(tmp_path / "second" / "build" / "base" / "data" / "out")
