# SPDX-License-Identifier: GPL-2.0-only
"""Pure: lines of a kernel's console to events: what went wrong, what it is called, and the lines that tell of it.

`harness.vm.reports` says which lines open a report. It is then read to its end: its own end marker, another
report, or the caller's word (`Scanner.finish`, on silence or the end of the console).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.vm.reports import HINTS, IGNORES, RULES, Ignore, Kind, Rule

__all__ = ["MAX_LINES", "Ignore", "KernelEvent", "Kind", "Rule", "Scanner", "clean", "message", "opens", "scan",
           "suspicious", "title"]

MAX_LINES = 400
"""Lines of one report that are kept; a report that goes on is cut there."""
_MAX_LINE = 4096
_CUT = "[ cut here ]"
"""Opens a report that says further down what it is about; it is retitled by that line."""
_PREFIX = re.compile(r"^(?:<\d+>)?(?:\[\s*\d+\.\d+\](?:\s?\[\s*[TC]\d+\])?\s?)+")
_STAMPED = re.compile(r"^.*\[\s*\d+\.\d+\](?:\s?\[\s*[TC]\d+\])?\s*")
_COLOUR = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[=>c7-8]|\][^\x07]*\x07)")
_ENDS = re.compile(r"---\[ end (?:trace|Kernel panic)")
_BOOT = re.compile(r"^Linux version \d")
_FIRMWARE = re.compile(r"^SeaBIOS \(version ")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelEvent:
    """A report of the kernel's.

    Attributes:
        kind: what it is about.
        title: the line that says it, without timestamp.
        line: that line's number in the console log, counted from 1.
        lines: the report, as it stood in the log.
        fatal: whether a test may not go on after it.
    """

    kind: Kind
    title: str
    line: int
    lines: tuple[str, ...]
    fatal: bool = True


def suspicious(block: bytes) -> bool:
    """Whether any line of `block` could open a report. False is certain."""
    return any(hint in block for hint in HINTS)


def clean(line: str) -> str:
    """`line` as text: colour codes and control characters out; of what `\\r` overwrote, the last version."""
    line = _COLOUR.sub("", line[:_MAX_LINE]).rstrip("\r\n")
    line = line.rsplit("\r", 1)[-1]
    return "".join(char for char in line if char >= " " or char == "\t")


def message(line: str) -> str:
    """`line` without what printk put in front of it: level, timestamp, caller."""
    return _PREFIX.sub("", clean(line))


def title(text: str) -> str:
    """A title from `text`, a line without timestamp; what an interleaved console left in front of it is cut off."""
    return _STAMPED.sub("", text).strip()


def opens(text: str, ignores: Iterable[Ignore] = ()) -> Rule | None:
    """The rule by which `text` (a line without timestamp) opens a report, or None.

    `ignores` are rules besides those that always hold.
    """
    rule = next((rule for rule in RULES if rule.pattern.search(text)), None)
    if rule is None or any(ignore.pattern.search(text) for ignore in (*IGNORES, *ignores)):
        return None
    return rule


class Scanner:
    """Finds events in a stream of lines. Holds at most one open report."""

    def __init__(self, ignores: Iterable[Ignore] = ()) -> None:
        self._ignores = tuple(ignores)
        self._number = 0
        self._boots = 0
        self._wanted = 1
        self._spoken = False
        self._rule: Rule | None = None
        self._title = ""
        self._start = 0
        self._lines: list[str] = []

    @property
    def number(self) -> int:
        """The lines seen until now."""
        return self._number

    @property
    def reading(self) -> bool:
        """Whether a report is open."""
        return self._rule is not None

    def expect_boot(self) -> None:
        """One more boot will come that was asked for."""
        self._wanted += 1

    def skip(self, block: bytes) -> None:
        """Take lines that are not `suspicious`, while no report is open."""
        self._number += block.count(b"\n")
        self._spoken = self._spoken or not block.isspace()

    def feed(self, line: str) -> Iterator[KernelEvent]:
        """Take one line; yields the reports that it completes."""
        self._number += 1
        if self._rule is None and not suspicious(line.encode()):
            self._spoken = self._spoken or not line.isspace()
            return
        text = message(line)
        rule = self._opener(text)
        if rule is not None and self._replaces(rule):
            yield from self.finish()
            self._rule, self._title, self._start = rule, title(text), self._number
        if self._rule is None:
            return
        self._lines.append(clean(line))
        if rule is not None and _CUT in self._title and _CUT not in text:
            self._rule, self._title = rule, title(text)
        if len(self._lines) >= MAX_LINES or _ENDS.search(text):
            yield from self.finish()

    def finish(self) -> Iterator[KernelEvent]:
        """The open report, if there is one, as it is: nothing more will come of it."""
        if self._rule is not None:
            yield KernelEvent(kind=self._rule.kind, title=self._title, line=self._start, lines=tuple(self._lines),
                              fatal=self._rule.fatal)
        self._rule, self._lines = None, []

    def _opener(self, text: str) -> Rule | None:
        if _BOOT.search(text):
            self._boots += 1
            if self._boots > self._wanted:
                return _REBOOT
        if _FIRMWARE.search(text) and self._spoken and self._boots >= self._wanted:
            return _REBOOT
        return opens(text, self._ignores)

    def _replaces(self, rule: Rule) -> bool:
        """Whether a line of `rule` opens a report of its own rather than being part of the open one."""
        return (self._rule is None or rule.kind in (Kind.PANIC, Kind.REBOOT)
                or (rule.fatal and not self._rule.fatal))


_REBOOT = Rule(kind=Kind.REBOOT, pattern=_BOOT)


def scan(lines: Iterable[str], ignores: Iterable[Ignore] = ()) -> tuple[KernelEvent, ...]:
    """Every event in `lines`, a whole console log."""
    scanner = Scanner(ignores)
    events = [event for line in lines for event in scanner.feed(line)]
    return (*events, *scanner.finish())
