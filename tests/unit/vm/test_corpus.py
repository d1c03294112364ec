# SPDX-License-Identifier: GPL-2.0-only
"""Real crash logs: how many are recognised, how many false alarms there are, how many titles are right."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.vm import klog
from harness.vm.feed import Feed
from harness.vm.klog import KernelEvent

FOLDER = Path(os.environ.get("HARNESS_CRASH_LOGS", Path(__file__).parents[4] / "shared" / "crash-logs"))
RECOGNISED = 0.98
FALSE_ALARMS = 1
TITLED = 0.80


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A saved log: its name, what its header says it shows (empty: no crash), and the console's text."""

    name: str
    title: str
    text: str


def read(file: Path) -> Log:
    head, _, body = file.read_text(encoding="utf-8", errors="replace").partition("\n\n")
    found = re.search(r"^TITLE: (.*)", head, re.MULTILINE)
    return Log(name=file.name, title=found[1] if found else "", text=body.split("\nREPORT:")[0])


def gist(title: str) -> tuple[str, str]:
    """What a title says: what went wrong, and where; the latter empty where the title says that it is not known.

    Of KASAN reports of old kernels some titles keep that the line went on with an address; that is left out.
    """
    bare = title.removesuffix(" at addr ADDR")
    what, _, where = bare.rpartition(" in ")
    return (what, "" if where == "corrupted" else where) if what else (bare, "")


def says(event: KernelEvent, title: str) -> bool:
    """Whether an event's title has the gist of `title`: all of it, or what is not said to be unknown."""
    what, where = gist(title)
    mine = gist(event.title)
    unknown = title.endswith(" in corrupted")
    return (mine[0] == what and (unknown or mine[1] == where)) or (unknown and event.title == what)


@pytest.fixture(scope="module")
def logs() -> list[Log]:
    files = sorted(FOLDER.glob("*.txt"))
    if not files:
        pytest.skip(f"no crash logs at {FOLDER} (HARNESS_CRASH_LOGS names another folder)")
    return [read(file) for file in files]


def first(log: Log) -> KernelEvent | None:
    """The first event that a test may not go on after, else the first."""
    events = klog.scan(log.text.split("\n"))
    return next((event for event in events if event.fatal), next(iter(events), None))


def test_crashes_are_recognised_and_named(logs: list[Log]) -> None:
    crashes = [(log, first(log)) for log in logs if log.title]
    missed = [log.name for log, event in crashes if event is None]
    wrong = [(log.name, log.title, event.title) for log, event in crashes
             if event is not None and not says(event, log.title)]
    assert 1 - len(missed) / len(crashes) >= RECOGNISED, missed
    assert 1 - (len(missed) + len(wrong)) / len(crashes) >= TITLED, wrong


def test_logs_without_a_crash_are_left_alone(logs: list[Log]) -> None:
    false = [(log.name, event.headline) for log in logs if not log.title and (event := first(log)) is not None]
    assert len(false) <= FALSE_ALARMS, false


def test_pieces_do_not_matter(logs: list[Log]) -> None:
    for log in logs[::8]:
        data = log.text.encode()
        results = []
        for size in (len(data) or 1, 1000, 61):
            events: list[KernelEvent] = []
            feed = Feed(events.append)
            for start in range(0, len(data), size):
                feed.take(data[start:start + size])
            feed.finish()
            results.append(events)
        assert results[0] == results[1] == results[2], log.name


def test_the_gist_of_titles() -> None:
    assert gist("KASAN: use-after-free Read in f") == ("KASAN: use-after-free Read", "f")
    assert gist("KASAN: slab-out-of-bounds in f at addr ADDR") == ("KASAN: slab-out-of-bounds", "f")
    assert gist("WARNING in corrupted") == ("WARNING", "")
    assert gist("BUG: Bad page map") == ("BUG: Bad page map", "")
    (event,) = klog.scan(["kernel BUG at a.c:1!", "RIP: 0010:f+0x1/0x2"])
    assert says(event, "kernel BUG in f")
    assert says(event, "kernel BUG in corrupted")
    assert not says(event, "kernel BUG in g")
    assert not says(event, "WARNING in f")
    assert not says(event, "WARNING in corrupted")
