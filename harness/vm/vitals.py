# SPDX-License-Identifier: GPL-2.0-only
"""Whether a machine is alive: what its kernel reported, whether QEMU has ended, and every wait that hangs on that.

The console's thread writes it; any thread may wait on it. What is known to be wrong always outranks how a wait
noticed ("connection lost", "no answer").
"""

from __future__ import annotations

import sys
import threading
import time
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
_GRACE = 5.0
"""Seconds that a broken connection waits for its cause to come over the console."""


def _place(event: KernelEvent) -> int:
    """Where an event stands among others; what is not in the log comes last."""
    return event.line or sys.maxsize


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
        self._more: Callable[[], int] = int
        self._held = False
        self._works = 0
        self._mark = (time.monotonic(), "nothing yet")
        self._ended = False
        self._expected = False
        self._listeners: list[Callable[[], None]] = []
        self.tail: Callable[[], tuple[str, ...]] = tuple
        self._autopsy: Callable[[], HarnessError | None] = lambda: None
        self._witness: Callable[[], tuple[str, ...]] = tuple

    @property
    def events(self) -> tuple[KernelEvent, ...]:
        """What the kernel reported until now, in the order of the log; an end without a word is a report, too."""
        with self.changed:
            self._failure()
            return tuple(sorted(self._events, key=_place))

    @property
    def ended(self) -> bool:
        """Whether the console has come to its end, which is when QEMU has ended."""
        with self.changed:
            return self._ended

    @property
    def failed(self) -> bool:
        """Whether something is known to be wrong with the machine."""
        with self.changed:
            return self._failure() is not None

    def progress(self, what: str) -> None:
        """Something of what the test does has gone on."""
        self._mark = (time.monotonic(), what)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """The test waits for the machine to do `what` while the block lasts: then, and only then, silence counts."""
        self.progress(what)
        with self.changed:
            self._works += 1
        try:
            yield
        finally:
            with self.changed:
                self._works -= 1

    def quiet(self) -> tuple[float, str] | None:
        """For how many seconds there has been no progress, and the last of it; None where nobody waits for any."""
        with self.changed:
            if not self._works:
                return None
        at, what = self._mark
        return time.monotonic() - at, what

    def tail_from(self, tail: Callable[[], tuple[str, ...]]) -> None:
        """Say where the console's last lines come from."""
        self.tail = tail

    def count_more_with(self, more: Callable[[], int]) -> None:
        """Say who knows how many reports there were beyond those that are events."""
        self._more = more

    def explain_end_with(self, autopsy: Callable[[], HarnessError | None]) -> None:
        """Say who knows why QEMU ended."""
        self._autopsy = autopsy

    def witness_end_with(self, witness: Callable[[], tuple[str, ...]]) -> None:
        """Say who knows what the CPUs did last, for an end without a word."""
        self._witness = witness

    @contextmanager
    def held(self) -> Iterator[list[KernelEvent]]:
        """Nothing fails while the block lasts, in which evidence is collected from a machine that hangs.

        What the block puts into the list goes before whatever the kernel says meanwhile, made to by the collecting.
        """
        first: list[KernelEvent] = []
        with self.changed:
            self._held = True
            known = len(self._events)
        try:
            yield first
        finally:
            with self.changed:
                self._held = False
                self._events[known:known] = first
            self._wake(shout=True)

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
                if deadline.expired and not self._held:
                    raise DeadlineExpired(f"{doing}: not within {deadline.budget:g} s", where=str(self.log),
                                          detail=self.tail())
                self.changed.wait(deadline.remaining or _GRACE)

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
            while (failure := self._failure()) is None and (self._held or not patience.expired):
                self.changed.wait(patience.remaining or _GRACE)
        return failure or symptom

    def _failure(self) -> HarnessError | None:
        if self._held:
            return None
        fatal = sorted((event for event in self._events if event.fatal), key=_place)
        if fatal:
            return self._error(fatal)
        if self._ended and not self._expected:
            failure = self._autopsy()
            if failure is not None:
                return failure
            self._events.append(self._without_a_word())
            return self._error(self._events[-1:])
        return None

    def _without_a_word(self) -> KernelEvent:
        """The event for a machine that has ended though nobody asked it to and nothing was reported."""
        seen = self._witness()
        how = "by a triple fault" if any("Triple fault" in line for line in seen) else "reset or powered off"
        return KernelEvent(kind=Kind.REBOOT, title="unexpected kernel reboot", lines=(*seen, *self.tail()),
                           headline=f"the machine has ended without a word: {how}")

    def _error(self, fatal: list[KernelEvent]) -> KernelError:
        """The error for `fatal`: the first report is the cause; a panic or reboot that followed is its consequence."""
        first = fatal[0]
        then = [f"then, line {event.line}: {event.title}" for event in fatal[1:]]
        if self._more():
            then.append(f"and {self._more()} more reports")
        lines = first.lines[:DETAIL_LINES]
        cut = [f"({len(first.lines) - DETAIL_LINES} more lines in the log)"] if len(first.lines) > DETAIL_LINES else []
        said = "" if any(first.headline in line for line in lines) else f": {first.headline}"
        where = f"{self.log}:{first.line}" if first.line else str(self.log)
        return KernelError(f"{self.name}: {first.kind}: {first.title}{said}", where=where,
                           detail=(*lines, *cut, *then), hint=first.note or None)

    def _wake(self, *, shout: bool) -> None:
        with self.changed:
            self.changed.notify_all()
            listeners = tuple(self._listeners) if shout else ()
        for callback in listeners:
            callback()
