# SPDX-License-Identifier: GPL-2.0-only
"""The size limit of the store, what is in use, and `harness cache`."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.main import cli
from harness.deadline import Deadline
from harness.errors import InfraError, UsageError
from harness.store import cache
from harness.store.entries import DAMAGED, About, Entry, choose, entries, evict, total
from harness.store.store import Store, digest

MIB = 1 << 20


def key(name: str) -> str:
    return digest("cache", name)


def put(store: Store, name: str, *, kind: str = "kind", links: str = "",
        make: Callable[[Path], object] = lambda stage: (stage / "file").write_bytes(bytes(MIB))) -> Path:
    """An entry of 1 MiB."""
    return store.get(kind, key(name), lambda stage: (make(stage), None)[1], deadline=Deadline.after(20.0), what=name,
                     links=links)


def used_at(root: Path, name: str, when: int, *, kind: str = "kind") -> None:
    os.utime(root / kind / key(name) / "manifest.json", (when, when))


def names(root: Path) -> list[str]:
    return sorted(entry.about.what for entry in entries(root))


def filled(root: Path, *more: str) -> None:
    """Entries last used in the order of their names, by a process that has ended."""
    for when, name in enumerate(more):
        put(Store(root=root), name)
        used_at(root, name, 1000 + when)


def test_beyond_the_limit_what_was_unused_for_longest_goes(tmp_path: Path) -> None:
    filled(tmp_path, "a", "b", "c")
    said: list[str] = []
    put(Store(root=tmp_path, limit=3 * MIB + MIB // 2, tell=said.append), "d")
    assert names(tmp_path) == ["b", "c", "d"]
    (line,) = said
    assert line == ("removed 1 entries of the cache, unused since 1970-01-01 00:16 UTC or before, "
                    "to keep to its limit of 3 MiB")


def test_a_load_is_a_use(tmp_path: Path) -> None:
    filled(tmp_path, "a", "b", "c")
    assert Store(root=tmp_path).load("kind", key("a"))
    put(Store(root=tmp_path, limit=3 * MIB + MIB // 2), "d")
    assert names(tmp_path) == ["a", "c", "d"]


def test_what_this_process_uses_is_never_removed(tmp_path: Path) -> None:
    said: list[str] = []
    store = Store(root=tmp_path, limit=MIB, tell=said.append)
    paths = [put(store, name) for name in "abc"]
    assert all((path / "file").exists() for path in paths)
    assert said[-1].endswith("more than its limit of 1 MiB: all that is left is in use")


def _use(root: Path, name: str, pipe: Connection) -> None:
    store = Store(root=root)
    assert store.load("kind", key(name))
    pipe.send("loaded")
    pipe.recv()
    assert (root / "kind" / key(name) / "data" / "file").exists()


@pytest.mark.parametrize("killed", [False, True])
def test_what_a_living_process_uses_stays_until_it_ends(tmp_path: Path, killed: bool) -> None:
    filled(tmp_path, "a", "b")
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_use, args=(tmp_path, "a", there))
    child.start()
    assert here.recv() == "loaded"
    done = evict(tmp_path, keep=0)
    assert [entry.about.what for entry in done.removed] == ["b"]
    assert [(entry.about.what, pids) for entry, pids in done.in_use] == [("a", (child.pid,))]
    if killed:
        child.kill()
    else:
        here.send("end")
    child.join()
    assert child.exitcode == (-9 if killed else 0)
    assert [entry.about.what for entry in evict(tmp_path, keep=0).removed] == ["a"]
    assert not names(tmp_path)


def _tree(root: Path, name: str, source: str) -> None:
    """Hard links to a source of 1 MiB, and 256 KiB of its own."""
    held = put(Store(root=root), source, kind="source")

    def make(stage: Path) -> None:
        os.link(held / "file", stage / "file")
        (stage / "own").write_bytes(bytes(MIB // 4))

    put(Store(root=root), name, kind="tree", links=f"source/{key(source)}", make=make)


def on_disk(root: Path) -> int:
    """What du(1) counts of entries, without the two folders that hold each."""
    inodes = {info.st_ino: info.st_blocks * 512 for entry in entries(root) for path in entry.path.rglob("*")
              if path.name not in ("data", "about.json") for info in [path.lstat()]}
    return sum(inodes.values())


def test_a_file_with_many_names_counts_once(tmp_path: Path) -> None:
    for name in "abc":
        _tree(tmp_path, name, "source")
    assert total(entries(tmp_path)) == on_disk(tmp_path)
    assert on_disk(tmp_path) < 2 * MIB
    for entry in entries(tmp_path):  # entries of earlier versions
        (entry.path / "about.json").unlink()
    assert abs(total(entries(tmp_path)) - on_disk(tmp_path)) <= 4 * 2 * 4096


def test_a_source_goes_after_its_trees_and_is_used_when_they_are(tmp_path: Path) -> None:
    for name in "ab":
        _tree(tmp_path, name, "source")
    filled(tmp_path, "other")
    for kind, name, when in (("source", "source", 1), ("tree", "a", 2), ("tree", "b", 3000)):
        used_at(tmp_path, name, when, kind=kind)
    evict(tmp_path, keep=2 * MIB + MIB // 2)
    assert names(tmp_path) == ["b", "other", "source"]
    evict(tmp_path, keep=MIB + MIB // 2)
    assert names(tmp_path) == ["b", "source"]
    evict(tmp_path, keep=MIB + MIB // 8)
    assert names(tmp_path) == ["source"]


def test_a_source_stays_while_a_tree_of_it_is_in_use(tmp_path: Path) -> None:
    _tree(tmp_path, "a", "source")
    user = Store(root=tmp_path)
    assert user.load("tree", key("a"))
    assert not evict(tmp_path, keep=0).removed
    del user
    assert len(evict(tmp_path, keep=0).removed) == 2


def entry(number: int, own: int, used: int, kind: str = "kind") -> Entry:
    return Entry(kind=kind, key=str(number), path=Path("/"), about=About(own=own), last_use=used)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 9), st.booleans()), max_size=12), st.integers(0, 400))
def test_the_choice(rows: list[tuple[int, int, bool]], keep: int) -> None:
    found = [entry(number, own, used) for number, (own, used, _) in enumerate(rows)]
    users = {found[number].name: (1,) for number, row in enumerate(rows) if row[2]}
    gone, spared = choose(found, users, keep=keep)
    left = [each for each in found if each not in gone]
    assert not any(each.name in users for each in gone)
    assert total(left) <= keep or all(each.name in users for each in left)
    assert all(each.name in users for each in spared)
    idle = [each for each in left if each.name not in users]
    assert all(each.last_use <= other.last_use for each in gone for other in idle)
    if gone:
        assert total([*left, gone[-1]]) > keep


def test_damaged_entries_go_first() -> None:
    found = [entry(1, 10, 0), entry(2, 10, 9, DAMAGED)]
    assert choose(found, {}, keep=10) == ((found[1],), ())


def harness(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["cache", *arguments, "--cache", str(root)], standalone_mode=True)


def test_list(tmp_path: Path) -> None:
    filled(tmp_path, "a", "b")
    said = harness(tmp_path, "list").stdout.splitlines()
    assert said[0].split() == ["kind", key("b"), "b", "1.0", "MiB", "1970-01-01", "00:16"]
    limit = cache.size_words(cache.limit(tmp_path))
    assert said[-2:] == ["kind: 2 entries, 2.0 MiB", f"in all: 2 entries, 2.0 MiB of at most {limit}"]
    user = Store(root=tmp_path)
    assert user.load("kind", key("a"))
    read = json.loads(harness(tmp_path, "list", "--json").stdout)
    assert [(row["what"], row["used_by"]) for row in read["entries"]] in (
        [("a", [os.getpid()]), ("b", [])], [("b", []), ("a", [os.getpid()])])
    assert read["bytes"] == total(entries(tmp_path))


def test_list_of_a_cache_that_is_not_there_makes_none(tmp_path: Path) -> None:
    assert harness(tmp_path / "none", "list").stdout.startswith("in all: 0 entries")
    assert not (tmp_path / "none").exists()


def test_verify(tmp_path: Path) -> None:
    filled(tmp_path, "a", "b")
    assert (harness(tmp_path, "verify").exit_code, harness(tmp_path, "verify").stdout) == (0, "2 entries, 0 damaged\n")
    (tmp_path / "kind" / key("a") / "data" / "file").write_bytes(b"x")
    done = harness(tmp_path, "verify")
    assert done.exit_code == 1
    assert done.stdout.startswith(f"kind/{key('a')} a: file is a file of 1 bytes")
    assert f"moved to {tmp_path}/damaged/kind-{key('a')}-" in done.stderr
    read = json.loads(harness(tmp_path, "verify", "--json").stdout)
    assert read == {"entries": 1, "damaged": []}


def test_verify_leaves_what_is_in_use_and_says_so(tmp_path: Path) -> None:
    user = Store(root=tmp_path)
    (put(user, "a") / "file").write_bytes(b"x")
    done = harness(tmp_path, "verify")
    assert done.exit_code == 1
    assert f"process {os.getpid()} uses it" in done.stdout
    assert names(tmp_path) == ["a"]


def test_prune(tmp_path: Path) -> None:
    filled(tmp_path, "a", "b", "c")
    Store(root=tmp_path).load("kind", key("b"))
    done = harness(tmp_path, "prune", "--keep", "2.5M")
    assert done.stdout.splitlines() == [f"removed kind/{key('a')} a: 1.0 MiB", "1 entries removed, 2.0 MiB left"]
    assert "0 entries removed" in harness(tmp_path, "prune").stdout
    assert f"removed kind/{key('c')} c" in harness(tmp_path, "prune", "--older-than", "1").stdout
    user = Store(root=tmp_path)
    assert user.load("kind", key("b"))
    assert f"kept kind/{key('b')} b: in use by process {os.getpid()}" in harness(tmp_path, "prune", "--all").stdout
    del user
    assert json.loads(harness(tmp_path, "prune", "--all", "--json").stdout)["bytes_left"] == 0
    assert not entries(tmp_path)


def test_nothing_but_entries_is_touched(tmp_path: Path) -> None:
    """`$HARNESS_CACHE` may be a folder of the user's."""
    for name in ("project/source/data/file", "project/source/manifest.json", "kind/mirror/HEAD", "notes"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    filled(tmp_path, "a")
    harness(tmp_path, "verify")
    harness(tmp_path, "prune", "--all")
    assert not entries(tmp_path)
    assert len([path for path in tmp_path.rglob("*") if path.is_file() and path.read_text() == "mine"]) == 4


def test_what_is_being_made_is_no_entry(tmp_path: Path) -> None:
    def make(stage: Path) -> None:
        (stage / "file").write_text("half")
        assert names(tmp_path) == ["a"]
        assert "1 entries removed, 0 KiB left" in harness(tmp_path, "prune", "--all").stdout
        assert (stage / "file").read_text() == "half"

    filled(tmp_path, "a")
    put(Store(root=tmp_path), "b", make=make)
    assert names(tmp_path) == ["b"]


@pytest.mark.parametrize(("text", "size"), [("20G", 20 << 30), ("1.5 MiB", 3 << 19), ("500", 500), ("2kB", 2048)])
def test_sizes(text: str, size: int) -> None:
    assert cache.parse_size(text, "here") == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "1X", "1e9", "nan", "9" * 400, "16777216T"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(UsageError):
        cache.parse_size(text, "here")


def test_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE_LIMIT", "3G")
    assert cache.limit(tmp_path / "not" / "there") == 3 << 30
    monkeypatch.delenv("HARNESS_CACHE_LIMIT")
    assert 0 < cache.limit(tmp_path / "not" / "there") <= 40 << 30
    with pytest.raises(InfraError, match="cannot be written"):
        cache.limit(tmp_path / ("a" * 256))
