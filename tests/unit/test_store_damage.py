# SPDX-License-Identifier: GPL-2.0-only
"""store: what is no longer as it was published is seen, never served, kept for the user, and made again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.store import cache
from harness.store.entries import entries
from harness.store.store import Store, digest, file_digest

KEY = digest("a key")


def write(stage: Path) -> None:
    (stage / "folder").mkdir()
    (stage / "folder" / "file").write_text("content")
    (stage / "link").symlink_to("folder/file")
    (stage / "to-folder").symlink_to("folder")
    (stage / "empty").mkdir()


def get(store: Store, kind: str = "kind", make: Callable[[Path], None] = write, **more: object) -> Path:
    return store.get(kind, KEY, make, deadline=Deadline.after(20.0), **more)  # type: ignore[arg-type]


def flip(path: Path, at: int = 0) -> None:
    """Another byte, with the size and time that the file had."""
    info, raw = path.stat(), bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def linked(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def elsewhere(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped byte": lambda entry: flip(entry / "data/folder/file"),
    "another content": lambda entry: (entry / "data/folder/file").write_text("Content"),
    "truncated": lambda entry: os.truncate(entry / "data/folder/file", 3),
    "a missing file": lambda entry: (entry / "data/folder/file").unlink(),
    "a missing folder": lambda entry: (entry / "data/empty").rmdir(),
    "one file more": lambda entry: (entry / "data/more").write_text(""),
    "one folder more": lambda entry: (entry / "data/more").mkdir(),
    "another target": lambda entry: linked(entry / "data/link", "/etc/passwd"),
    "another target of a link to a folder": lambda entry: linked(entry / "data/to-folder", "/etc"),
    "a link in place of a file": lambda entry: linked(entry / "data/folder/file", "/etc/passwd"),
    "a fifo in place of a file": lambda entry: ((entry / "data/folder/file").unlink(),
                                                os.mkfifo(entry / "data/folder/file")),
    "a link in place of a folder": lambda entry: elsewhere(entry / "data/folder"),
    "another mode": lambda entry: (entry / "data/folder/file").chmod(0o755),
    "another mode of a folder": lambda entry: (entry / "data/folder").chmod(0o500),
    "no manifest": lambda entry: (entry / "manifest.json").unlink(),
    "an empty manifest": lambda entry: os.truncate(entry / "manifest.json", 0),
    "a truncated manifest": lambda entry: os.truncate(entry / "manifest.json", 50),
    "a manifest of another kind": lambda entry: (entry / "manifest.json").write_text("[1]"),
    "a manifest of nothing": lambda entry: (entry / "manifest.json").write_text("{}"),
    "a manifest with other rows": lambda entry: (entry / "manifest.json").write_text(
        '{"version": 2, "files": {"folder": 3}}'),
    "a manifest that is no text": lambda entry: (entry / "manifest.json").write_bytes(b"\xff\xfe\x00"),
    "no data": lambda entry: (entry / "data").rename(entry / "gone"),
    "data elsewhere": lambda entry: elsewhere(entry / "data"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_entry_is_set_aside_and_made_again(tmp_path: Path, how: str) -> None:
    DAMAGE[how](get(Store(root=tmp_path)).parent)
    said: list[str] = []
    assert Store(root=tmp_path, tell=said.append).load("kind", KEY) is None
    (kept,) = (tmp_path / "damaged").iterdir()
    assert len(said) == 1
    assert f"kind {KEY} in the cache was damaged: " in said[0]
    assert str(kept) in said[0]
    assert (kept / "why.txt").read_text().splitlines()[0] in said[0]
    again = get(Store(root=tmp_path))
    assert (again / "folder" / "file").read_text() == "content"
    assert Store(root=tmp_path).load("kind", KEY) == again


@pytest.mark.parametrize("how", DAMAGE)
def test_get_sets_aside_and_makes_in_one_go(tmp_path: Path, how: str) -> None:
    DAMAGE[how](get(Store(root=tmp_path)).parent)
    store = Store(root=tmp_path)
    assert (get(store) / "folder" / "file").read_text() == "content"
    assert len(list((tmp_path / "damaged").iterdir())) == 1


def test_damage_of_what_another_uses_is_an_error_of_the_lab(tmp_path: Path) -> None:
    """Moved away under a process, its files would be missing there, and the kernel would get the blame."""
    user = Store(root=tmp_path)
    flip(get(user) / "folder/file")
    with pytest.raises(InfraError, match=f"damaged, and process {os.getpid()} uses it"):
        Store(root=tmp_path).load("kind", KEY)
    del user
    assert Store(root=tmp_path).load("kind", KEY) is None


def test_only_the_newest_damaged_entries_are_kept(tmp_path: Path) -> None:
    for _ in range(5):
        flip(get(Store(root=tmp_path)) / "folder/file")
    get(Store(root=tmp_path))
    assert len(list((tmp_path / "damaged").iterdir())) == 3


def test_without_content_only_a_whole_reading_sees_a_flipped_byte(tmp_path: Path) -> None:
    """Sources are served without being read (a minute from a cold disk); `harness cache verify` reads them."""
    flip(get(Store(root=tmp_path), "source") / "folder/file")
    assert Store(root=tmp_path).load("source", KEY, content=False) is not None
    number, bad = cache.verify(Store(root=tmp_path))
    assert (number, [one.entry.kind for one in bad], bad[0].why) == (1, ["source"], ("folder/file has other content",))
    assert Store(root=tmp_path).load("source", KEY, content=False) is None


def _tree(store: Store) -> Path:
    """A source, and a tree that hard-links its files but for one of its own."""
    source = get(store, "source")

    def make(stage: Path) -> None:
        (stage / "folder").mkdir()
        os.link(source / "folder/file", stage / "folder/file")
        (stage / "patched").write_text("patched")

    return get(store, "tree", make, links=f"source/{KEY}")


def test_a_tree_of_a_damaged_source_is_damaged(tmp_path: Path) -> None:
    flip(_tree(Store(root=tmp_path)) / "folder/file")
    _, bad = cache.verify(Store(root=tmp_path))
    assert [one.entry.kind for one in bad] == ["source", "tree"]
    assert not [entry for entry in entries(tmp_path) if entry.kind != "damaged"]


def test_what_a_patch_wrote_is_read_when_a_tree_is_served(tmp_path: Path) -> None:
    flip(_tree(Store(root=tmp_path)) / "patched")
    assert Store(root=tmp_path).load("tree", KEY) is None
    assert Store(root=tmp_path).load("source", KEY) is not None


def _first_version(entry: Path, *, content: bool) -> None:
    """The manifest that earlier versions wrote."""
    files: dict[str, list[object]] = {"link": ["link", "folder/file"]}
    file = entry / "data/folder/file"
    files["folder/file"] = [file.stat().st_size, file.stat().st_mtime_ns, *([file_digest(file)] if content else [])]
    (entry / "manifest.json").write_text(json.dumps({"content": content, "files": files}))
    (entry / "about.json").unlink()


@pytest.mark.parametrize("content", [True, False])
def test_entries_of_earlier_versions_are_served_and_checked(tmp_path: Path, content: bool) -> None:
    data = get(Store(root=tmp_path))
    _first_version(data.parent, content=content)
    assert Store(root=tmp_path).load("kind", KEY) == data
    (entry,) = entries(tmp_path)
    assert entry.about.own > 0
    flip(data / "folder/file")
    assert (Store(root=tmp_path).load("kind", KEY) is None) == content
    if not content:
        (data / "folder/file").write_text("longer than it was")
        assert Store(root=tmp_path).load("kind", KEY) is None


@settings(max_examples=60)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), both=st.booleans())
def test_no_flipped_bit_of_a_manifest_serves_damaged_data(tmp_path_factory: pytest.TempPathFactory, where: float,
                                                          bit: int, both: bool) -> None:
    root = tmp_path_factory.mktemp("store")
    entry = get(Store(root=root)).parent
    raw = bytearray((entry / "manifest.json").read_bytes())
    raw[int(where * len(raw))] ^= 1 << bit
    (entry / "manifest.json").write_bytes(raw)
    if both:
        (entry / "data/folder/file").write_text("Content")
    served = Store(root=root).load("kind", KEY)
    assert served is None or (served / "folder/file").read_text() == "content"
