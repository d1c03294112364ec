# SPDX-License-Identifier: GPL-2.0-only
"""Stress: flows that go on while one disturbance follows another, drawn from a seed, and what was seen over time.

The sequence of disturbances is the seed's and nothing else's: the same seed gives the same sequence, however far a run
of it gets in its time. What each does is `harness.lab.disturbances`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from harness.deadline import Deadline
from harness.lab.bench import Lab
from harness.lab.flows import Flows, Tally

_EVERY = 1.0
"""Seconds between samples."""
_PAUSES, _HOLDS = (0.0, 1.5), (0.1, 2.0)
"""Seconds before a disturbance, and that it stays, from and to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One disturbance of a sequence.

    Attributes:
        action: its name.
        pick: a number from which it chooses its details.
        pause: seconds before it.
        hold: seconds that it stays.
    """

    action: str
    pick: int
    pause: float
    hold: float


Disturbance = Callable[[Lab, Step], AbstractContextManager[None]]
"""Does something to a lab for a block; the end of the block undoes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A disturbance that was done: when it began and ended, in seconds from the start."""

    step: Step
    began: float
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The flows' tallies at a moment, in seconds from the start."""

    at: float
    tallies: Mapping[str, Tally]


@dataclass(slots=True, kw_only=True)
class Record:
    """What was done and seen, filled while it happens.

    Attributes:
        seed: of the sequence.
        seconds: how long it is to last.
        started: when it began, by time.monotonic(); `disturb` sets it.
    """

    seed: int
    seconds: float
    started: float = 0.0
    done: list[Done] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """For `stress.json`: schema `harness.stress/1`."""
        return {
            "schema": "harness.stress/1", "seed": self.seed, "seconds": self.seconds,
            "disturbances": [{"action": row.step.action, "pick": row.step.pick, "hold": row.step.hold,
                              "began": round(row.began, 3), "ended": round(row.ended, 3)} for row in self.done],
            "samples": [{"at": round(row.at, 3), "flows": {
                name: {"whole": tally.whole, "wrong": tally.wrong, "lost": tally.lost, "size": tally.size}
                for name, tally in row.tallies.items()}} for row in self.samples]}


def steps(seed: int, actions: Sequence[str]) -> Iterator[Step]:
    """The sequence of a seed, without end. Every action comes once before any comes again."""
    generator = random.Random(seed)
    while True:
        order = list(actions)
        generator.shuffle(order)
        for action in order:
            yield Step(action=action, pick=generator.randrange(1 << 16),
                       pause=round(generator.uniform(*_PAUSES), 3), hold=round(generator.uniform(*_HOLDS), 3))


def disturb(lab: Lab, flows: Flows, actions: Mapping[str, Disturbance], record: Record) -> None:
    """Disturb the lab for `record.seconds`, one thing after the other, and note what becomes of the flows meanwhile.

    Raises:
        KernelError: a kernel reported something, or does not do what a disturbance asks of it.
    """
    record.started, limit = time.monotonic(), Deadline.after(record.seconds)

    def wait(seconds: float) -> None:
        until = limit.within(seconds)
        while not until.expired:
            watch(lab, flows, record)
            time.sleep(min(_EVERY, until.remaining))

    for step in steps(record.seed, list(actions)):
        wait(step.pause)
        if limit.expired:
            break
        began = time.monotonic() - record.started
        with actions[step.action](lab, step):
            wait(step.hold)
        record.done.append(Done(step=step, began=began, ended=time.monotonic() - record.started))
    watch(lab, flows, record, force=True)


def watch(lab: Lab, flows: Flows, record: Record, *, force: bool = False) -> None:
    """Take a sample, once a second, and raise what a kernel has reported."""
    for host in lab.hosts.values():
        host.machine.check()
    now = time.monotonic() - record.started
    if force or not record.samples or now - record.samples[-1].at >= _EVERY:
        record.samples.append(Sample(at=now, tallies=flows.tallies()))


def not_recovered(lab: Lab, flows: Flows, record: Record, seconds: float) -> tuple[str, ...]:
    """The flows of which no transfer arrives whole within `seconds`, though nothing disturbs them any more."""
    before, limit = flows.tallies(), Deadline.after(seconds)
    while True:
        watch(lab, flows, record)
        dead = tuple(name for name, tally in flows.tallies().items() if tally.whole <= before[name].whole)
        if not dead or limit.expired:
            return dead
        time.sleep(min(_EVERY, limit.remaining))
