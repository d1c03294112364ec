# SPDX-License-Identifier: GPL-2.0-only
"""Pure work on many items, shared out to copies of this process (fork(2)): Python computes on one core at a time.

Nothing is executed, so this is not for `proc`. A copy only computes, sends what came out through a pipe, and ends; what
it did not come to is done here, so an error is met, and raised, where it would be without copies. There are none where
this process has other threads: a copy would have their locks without them.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
_MOST = 8


def cores() -> int:
    """How many cores this process may use, up to what is of use here."""
    return min(len(os.sched_getaffinity(0)), _MOST)


def shared(work: Callable[[T], Any], items: Sequence[T], copies: int) -> list[Any]:
    """`[work(item) for item in items]`, on that many cores.

    Args:
        work: depends on nothing but its argument; what it returns is made of plain values only, as marshal writes them.
        copies: how many processes there are to be, this one included.
    """
    count = max(min(copies, len(items)), 1) if threading.active_count() == 1 else 1
    if count == 1:
        return [work(item) for item in items]
    helpers: list[_Helper] = []
    try:
        with contextlib.suppress(OSError):  # where no more processes are to be had, their work is done here
            for number in range(1, count):
                helpers.append(_Helper(work, items[number::count]))  # noqa: PERF401 - what there is has to be ended
        done = [_until_error(work, items[::count]), *(helper.result() for helper in helpers)]
    finally:
        for helper in helpers:
            helper.end()
    done += [[] for _ in range(count - len(done))]
    return [done[at % count][at // count] if at // count < len(done[at % count]) else work(items[at])
            for at in range(len(items))]


def _until_error(work: Callable[[T], Any], items: Sequence[T]) -> list[Any]:
    """What comes out of the items before the first that fails; that one is met again in its turn among all."""
    found = []
    with contextlib.suppress(Exception):
        for item in items:
            found.append(work(item))  # noqa: PERF401 - what there is before an error is kept
    return found


class _Helper:
    """A copy of this process at work."""

    def __init__(self, work: Callable[[T], Any], items: Sequence[T]) -> None:
        self._read, write = os.pipe()
        try:
            self._process = os.fork()
        except OSError:
            os.close(self._read)
            os.close(write)
            raise
        if self._process == 0:
            _compute(work, items, write)
        os.close(write)

    def result(self) -> list[Any]:
        """What it has computed, from its first item on."""
        parts = []
        while part := os.read(self._read, 1 << 20):
            parts.append(part)
        try:
            return list(marshal.loads(b"".join(parts)))  # noqa: S302 - written by a copy of ourselves
        except (EOFError, ValueError, TypeError):  # it was killed
            return []

    def end(self) -> None:
        """It is gone when this returns."""
        os.close(self._read)
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)


def _compute(work: Callable[[T], Any], items: Sequence[T], write: int) -> None:
    """The life of a copy; never returns."""
    try:
        found = _until_error(work, items)
        with os.fdopen(write, "wb") as pipe:
            pipe.write(marshal.dumps(found))
    finally:
        os._exit(0)
