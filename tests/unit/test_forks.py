# SPDX-License-Identifier: GPL-2.0-only
"""Work shared out to copies of a process: the same answers and the same errors as without."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from harness import forks


def children() -> set[int]:
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest's plugins may have threads; they hold no lock that this work needs."""
    monkeypatch.setattr(threading, "active_count", lambda: 1)


@pytest.mark.parametrize("copies", [1, 2, 3, 50])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_the_answers_come_in_order(copies: int, count: int) -> None:
    before = children()
    assert forks.shared(lambda n: (n * n, str(n)), range(count), copies) == [(n * n, str(n)) for n in range(count)]
    assert children() == before


def test_others_do_compute() -> None:
    assert len(set(forks.shared(lambda _: os.getpid(), range(9), 3))) == 3


def test_with_threads_there_are_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert set(forks.shared(lambda _: os.getpid(), range(9), 3)) == {os.getpid()}


@pytest.mark.parametrize("bad", range(6))
def test_an_error_is_the_one_there_would_be_without(bad: int) -> None:
    before = children()
    with pytest.raises(ZeroDivisionError):
        forks.shared(lambda n: 1 // (n - bad), range(6), 3)
    assert children() == before


@pytest.mark.parametrize("bad", [(0, 1), (1, 2), (2, 3), (4, 5), (1, 3), (5, 3)])
def test_of_several_errors_it_is_the_first(bad: tuple[int, ...]) -> None:
    def work(number: int) -> int:
        if number in bad:
            raise ValueError(number)
        return number

    with pytest.raises(ValueError, match=f"^{min(bad)}$"):
        forks.shared(work, range(6), 2)


def test_what_a_killed_copy_did_not_send_is_done_here() -> None:
    own = os.getpid()

    def work(number: int) -> int:
        if number == 3 and os.getpid() != own:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    assert forks.shared(work, range(8), 2) == list(range(8))


def test_without_more_processes_it_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", none)
    assert forks.shared(lambda number: number, range(9), 3) == list(range(9))


def test_an_interrupt_ends_the_copies() -> None:
    own, before = os.getpid(), children()

    def work(_number: int) -> None:
        if os.getpid() == own:
            raise KeyboardInterrupt
        signal.pause()

    with pytest.raises(KeyboardInterrupt):
        forks.shared(work, range(4), 2)
    assert children() == before
