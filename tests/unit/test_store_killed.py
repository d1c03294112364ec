# SPDX-License-Identifier: GPL-2.0-only
"""store: SIGKILL at every step of publishing, setting aside and removing; processes that meet at one key.

A child is killed before the n-th line of the store's code that it runs, for each n until it gets through: between
every two system calls that the store makes itself.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.store import cache, entries, manifest, staging, store, uses
from harness.store.store import Store, digest

STEPS = {module.__file__ for module in (store, manifest, staging, uses, entries)}
KEY = digest("killed")
FILES = {"folder/one": "1" * 5000, "folder/two": "2", "three": ""}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a file system: hundreds of stores are made and removed."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as name:
        yield Path(name)


def write(stage: Path) -> None:
    for name, text in FILES.items():
        (stage / name).parent.mkdir(exist_ok=True)
        (stage / name).write_text(text)


def get(root: Path) -> Path:
    return Store(root=root).get("kind", KEY, write, deadline=Deadline.after(20.0))


def is_whole(data: Path) -> bool:
    return {str(path.relative_to(data)): path.read_text() for path in data.rglob("*") if path.is_file()} == FILES


def die_at(step: int, work: Callable[[], object]) -> bool:
    """Run `work` in a child that is killed before its `step`-th line of the store's code; whether it came that far."""
    child = os.fork()
    if child == 0:
        count = 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal count
            if frame.f_code.co_filename not in STEPS:
                return None
            count += event == "line"
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        code = 1
        try:
            sys.settrace(trace)
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), "the child failed"
    return status != 0


def each_step(folder: Path, prepare: Callable[[Path], object], work: Callable[[Path], object]) -> Iterator[Path]:
    """A store after its user was killed at each step of `work`, one after the other."""
    step = 0
    killed = True
    while killed:
        step += 1
        root = folder / str(step)
        prepare(root)
        killed = die_at(step, lambda root=root: work(root))  # type: ignore[misc]
        yield root
        shutil.rmtree(root)
    assert step > 50, "the store's lines were not counted"


def nothing_wrong(root: Path) -> None:
    """What is there is whole; the entry can be had; nothing is left of the dead process."""
    data = Store(root=root).load("kind", KEY)
    assert data is None or is_whole(data)
    assert is_whole(get(root))
    with staging.staging(root):
        left = list((root / "staging").iterdir())
    assert len([path for path in left if path.suffix != ".lock"]) == 1
    assert len(left) == 2
    assert cache.verify(Store(root=root))[1] == ()
    with uses.used(root) as users:
        assert users == {}


def test_killed_while_publishing(folder: Path) -> None:
    for root in each_step(folder, lambda root: None, get):
        nothing_wrong(root)
        assert not (root / "damaged").exists(), "a death is no damage"


def test_killed_while_a_damaged_entry_is_replaced(folder: Path) -> None:
    def damaged(root: Path) -> None:
        (get(root) / "three").write_text("x")

    for root in each_step(folder, damaged, get):
        nothing_wrong(root)
        assert len(list((root / "damaged").iterdir())) == 1


def test_killed_while_entries_are_removed(folder: Path) -> None:
    for root in each_step(folder, get, lambda root: entries.evict(root, keep=0)):
        nothing_wrong(root)
        assert not (root / "damaged").exists()
        assert len(entries.evict(root, keep=0).removed) == 1


def _build(root: Path, pipe: Connection) -> None:
    """Make the entry, slowly: tell when it began, wait for a word, tell how it ended."""
    said: list[str] = []

    def make(stage: Path) -> None:
        (stage / "half").write_text("")
        pipe.send("making")
        pipe.recv()
        (stage / "half").unlink()
        write(stage)

    def waiting(text: str) -> None:
        said.append(text)
        pipe.send(text)

    data = Store(root=root).get("kind", KEY, make, deadline=Deadline.after(60.0), waiting=waiting, what="base/both")
    pipe.send(is_whole(data))


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Callable[[], tuple[multiprocessing.process.BaseProcess, Connection]]]:
    """Starts processes that make one entry."""
    started: list[multiprocessing.process.BaseProcess] = []

    def start() -> tuple[multiprocessing.process.BaseProcess, Connection]:
        here, there = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=_build, args=(tmp_path, there))
        child.start()
        there.close()
        started.append(child)
        return child, here

    yield start
    for child in started:
        child.kill()
        child.join()


Builder = Callable[[], tuple[multiprocessing.process.BaseProcess, Connection]]


def heard(pipe: Connection) -> object:
    assert pipe.poll(30), "not a word in 30 s"
    return pipe.recv()


def test_one_makes_and_the_other_waits_and_says_so(builder: Builder) -> None:
    _, first = builder()
    assert heard(first) == "making"
    _, second = builder()
    assert heard(second) == "waiting for another process that makes base/both"
    first.send("go on")
    assert heard(first) is True
    assert heard(second) is True


def test_a_killed_maker_is_followed_by_the_one_that_waits(builder: Builder) -> None:
    child, first = builder()
    assert heard(first) == "making"
    _, second = builder()
    assert heard(second) == "waiting for another process that makes base/both"
    child.kill()
    assert heard(second) == "making"
    second.send("go on")
    assert heard(second) is True


def test_many_at_once_all_get_the_same(tmp_path: Path) -> None:
    """Threads with a store each: locks are flock(2) on descriptors, so that they exclude each other like processes."""
    made: list[int] = []

    def work(number: int) -> None:
        def make(stage: Path) -> None:
            made.append(number)
            write(stage)

        assert is_whole(Store(root=tmp_path, limit=1).get("kind", KEY, make, deadline=Deadline.after(60.0)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made
    assert not (tmp_path / "damaged").exists()
