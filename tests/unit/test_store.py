# SPDX-License-Identifier: GPL-2.0-only
"""store: entries are whole or not there, made once, and noticed when they are no longer what was published."""

from __future__ import annotations

import errno
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.sandbox.foreign import remove
from harness.store import store as module
from harness.store.store import Store, digest

SOON = 20.0


def write(text: str = "content") -> object:
    def make(stage: Path) -> None:
        (stage / "folder").mkdir()
        (stage / "folder" / "file").write_text(text)
        (stage / "link").symlink_to("folder/file")

    return make


def get(store: Store, key: str = "k", make: object = None) -> Path:
    return store.get("kind", key, make or write(), deadline=Deadline.after(SOON))  # type: ignore[arg-type]


def never(stage: Path) -> None:
    raise AssertionError("made again")


def test_made_once_and_then_loaded(tmp_path: Path) -> None:
    assert (get(Store(root=tmp_path)) / "folder" / "file").read_text() == "content"
    assert get(Store(root=tmp_path), make=never) == tmp_path / "kind" / "k" / "data"


def test_a_failed_make_leaves_nothing(tmp_path: Path) -> None:
    def half(stage: Path) -> None:
        (stage / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(Store(root=tmp_path), make=half)
    assert not Store(root=tmp_path).has("kind", "k")
    assert list((tmp_path / "staging").iterdir()) == []
    get(Store(root=tmp_path))


def test_what_a_killed_harness_left_is_swept(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=_die_while_making, args=(tmp_path,))
    child.start()
    child.join()
    assert child.exitcode == -9
    assert [path for path in (tmp_path / "staging").iterdir() if path.is_dir()]
    get(Store(root=tmp_path))
    assert not [path for path in (tmp_path / "staging").iterdir() if path.is_dir()]


def _die_while_making(root: Path) -> None:
    def make(stage: Path) -> None:
        (stage / "half").write_text("x")
        os.kill(os.getpid(), 9)

    get(Store(root=root), make=make)


def test_two_processes_make_one_entry_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_make_counted, args=(tmp_path / "store", tmp_path / f"{name}"))
                for name in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len(list(tmp_path.glob("[0-9]"))) == 1


def _make_counted(root: Path, mark: Path) -> None:
    def make(stage: Path) -> None:
        mark.write_text("")
        (stage / "file").write_text("x" * 100000)

    get(Store(root=root), make=make)


def test_names_reach_the_disk_after_what_they_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut at any moment leaves an entry whole or not there."""
    entry = tmp_path / "kind" / "k"
    order: list[str] = []

    def sync_all(path: Path) -> None:
        assert {below.name for below in path.iterdir()} == {"data", "manifest.json", "about.json"}
        assert not entry.exists()
        order.append("content")

    def sync_folder(path: Path) -> None:
        assert entry.exists()
        order.append(path.name)

    monkeypatch.setattr(module, "sync_all", sync_all)
    monkeypatch.setattr(module, "sync_folder", sync_folder)
    get(Store(root=tmp_path))
    assert order == ["content", "kind", tmp_path.name]


def test_a_disk_that_fails_is_the_labs_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sync_all(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(module, "sync_all", sync_all)
    with pytest.raises(InfraError, match="the cache cannot be written: Input/output error"):
        get(Store(root=tmp_path))
    assert not Store(root=tmp_path).has("kind", "k")


def test_remove_does_not_follow_links(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("")
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    (doomed / "link").symlink_to(kept)
    (doomed / "readonly").mkdir(mode=0o500)
    remove(doomed)
    assert not doomed.exists()
    assert (kept / "file").exists()


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_different_inputs_have_different_keys(one: list[str], other: list[str]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


def test_what_is_in_an_entry_is_told_apart_and_never_guessed(tmp_path: Path) -> None:
    store = Store(root=tmp_path)

    def make(text: str) -> Callable[[Path], None]:
        def write_it(stage: Path) -> None:
            (stage / "out").mkdir()
            (stage / "out" / "object").write_text(text)

        return write_it

    for key, text in (("a", "one"), ("b", "two"), ("c", "one")):
        store.get("kind", digest(key), make(text), deadline=Deadline.after(SOON))
    one, two, same = (store.content("kind", digest(key), "out/") for key in "abc")
    assert one == same != two
    with pytest.raises(InfraError, match="no checksums below elsewhere/"):
        store.content("kind", digest("a"), "elsewhere/")
