# SPDX-License-Identifier: GPL-2.0-only
"""Whether a machine is alive: what its kernel reported, whether QEMU has ended, and every wait that hangs on that.

The console's thread writes it; any thread may wait on it. What is known to be wrong always outranks how a wait
noticed ("connection lost", "no answer").
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from harness.deadline import Deadline
from harness.errors import DeadlineExpired, HarnessError, KernelError
from harness.vm.klog import KernelEvent, Kind

_T = TypeVar("_T")
DETAIL_LINES = 60
"""Lines of a report that an error carries; the console log has all."""
_CAUSES = frozenset((Kind.PANIC, Kind.REBOOT))
_GRACE = 5.0
"""Seconds that a broken connection waits for its cause to come over the console."""


class Vitals:
    """The state of one machine's kernel and QEMU.

    Args:
        name: the machine's name, for messages.
        log: its console log, for messages.
    """

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.changed = threading.Condition()
        self._events: list[KernelEvent] = []
        self._ended = False
        self._expected = False
        self._listeners: list[Callable[[], None]] = []
        self.tail: Callable[[], tuple[str, ...]] = tuple
        self._autopsy: Callable[[], HarnessError | None] = lambda: None

    @property
    def events(self) -> tuple[KernelEvent, ...]:
        """What the kernel reported until now, in its order."""
        with self.changed:
            return tuple(self._events)

    @property
    def ended(self) -> bool:
        """Whether the console has come to its end, which is when QEMU has ended."""
        with self.changed:
            return self._ended

    def tail_from(self, tail: Callable[[], tuple[str, ...]]) -> None:
        """Say where the console's last lines come from."""
        self.tail = tail

    def explain_end_with(self, autopsy: Callable[[], HarnessError | None]) -> None:
        """Say who knows why QEMU ended."""
        self._autopsy = autopsy

    def expect_end(self) -> None:
        """From now on the end of QEMU is no failure."""
        with self.changed:
            self._expected = True

    def report(self, event: KernelEvent) -> None:
        """Add what the kernel reported."""
        with self.changed:
            self._events.append(event)
        self._wake(shout=event.fatal)

    def end(self) -> None:
        """The console has ended."""
        with self.changed:
            self._ended = True
        self._wake(shout=True)

    @contextmanager
    def listening(self, callback: Callable[[], None]) -> Iterator[None]:
        """Have `callback` called (from the console's thread) as soon as the machine is not well."""
        with self.changed:
            self._listeners.append(callback)
            late = self._failure() is not None
        if late:
            callback()
        try:
            yield
        finally:
            with self.changed:
                self._listeners.remove(callback)

    def check(self) -> None:
        """Raise what is known to be wrong with the machine.

        Raises:
            KernelError: its kernel reported something that no test goes on after, or it ended.
        """
        with self.changed:
            failure = self._failure()
        if failure is not None:
            raise failure

    def wait_for(self, condition: Callable[[], _T | None], deadline: Deadline, doing: str) -> _T:
        """Wait until `condition` returns something that is not None; it is asked whenever anything changed.

        Raises:
            KernelError: the machine is not well any more.
            DeadlineExpired: not in time; the console's last lines are its detail.
        """
        with self.changed:
            while True:
                found = condition()
                if found is not None:
                    return found
                failure = self._failure()
                if failure is not None:
                    raise failure
                if deadline.expired:
                    raise DeadlineExpired(f"{doing}: not within {deadline.budget:g} s", where=str(self.log),
                                          detail=self.tail())
                self.changed.wait(deadline.remaining)

    def wait_end(self, deadline: Deadline) -> None:
        """Wait until QEMU has ended, as it was asked to.

        Raises:
            KernelError: the machine is not well.
            DeadlineExpired: it still runs.
        """
        self.wait_for(lambda: self._ended or None, deadline, "powering off")

    def explain(self, symptom: HarnessError, deadline: Deadline) -> HarnessError:
        """The best account of why a connection to the guest broke: what the console says if it does, else `symptom`."""
        patience = deadline.within(_GRACE)
        with self.changed:
            while (failure := self._failure()) is None and not patience.expired:
                self.changed.wait(patience.remaining)
        return failure or symptom

    def _failure(self) -> HarnessError | None:
        fatal = [event for event in self._events if event.fatal]
        if fatal:
            return self._error(fatal)
        if self._ended and not self._expected:
            return self._autopsy() or KernelError(
                f"{self.name}: the machine has ended without a word: reset or powered off", where=str(self.log),
                detail=self.tail())
        return None

    def _error(self, fatal: list[KernelEvent]) -> KernelError:
        """The error for `fatal`: the first report is the cause; a panic or reboot that followed is its consequence."""
        first = fatal[0]
        then = [f"then, line {event.line}: {event.title}" for event in fatal[1:]]
        lines = first.lines[:DETAIL_LINES]
        cut = [f"({len(first.lines) - DETAIL_LINES} more lines in the log)"] if len(first.lines) > DETAIL_LINES else []
        return KernelError(f"{self.name}: {first.kind}: {first.title}", where=f"{self.log}:{first.line}",
                           detail=(*lines, *cut, *then))

    def _wake(self, *, shout: bool) -> None:
        with self.changed:
            self.changed.notify_all()
            listeners = tuple(self._listeners) if shout else ()
        for callback in listeners:
            callback()
