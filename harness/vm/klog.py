# SPDX-License-Identifier: GPL-2.0-only
"""Pure: lines of a kernel's console to events: what went wrong, what it is called, and the lines that tell of it.

`harness.vm.reports` says which lines open a report. It is then read to its end: its own end marker, another
report, or the caller's word (`Scanner.finish`, on silence or the end of the console). Reports of several CPUs that
write at the same time are told apart where the kernel says who writes (CONFIG_PRINTK_CALLER).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

from harness.vm.event import KernelEvent, made
from harness.vm.reports import HINTS, IGNORES, RULES, Ignore, Kind, Rule

__all__ = ["MAX_LINES", "Ignore", "KernelEvent", "Kind", "Rule", "Scanner", "clean", "message", "opens", "scan",
           "suspicious"]

MAX_LINES = 600
"""Lines of one report that are kept; a report that goes on is cut there."""
_MAX_LINE = 4096
"""Characters of a line that are looked at: its two ends, as a report may follow what a program left unfinished."""
_MAX_OPEN = 4
"""Reports that may be read at the same time."""
_NEAR = 20
"""Lines after its first within which a report may say further things that would open one by themselves."""
_CUT = "[ cut here ]"
"""Opens a report that says further down what it is about; it is retitled by that line."""
_STAMP = r"\[\s*\d+\.\d+\](?:\s?\[\s*(?P<caller>[TC]\d+)\])?\s?"
_PREFIX = re.compile(r"^(?:<\d+>)?(?:\[\s*\d+\.\d+\](?:\s?\[\s*[TC]\d+\])?\s?)+")
_CALLER = re.compile(_STAMP)
_STAMPS = re.compile(r"\[\s*\d+\.\d+\](?:\s?\[\s*[TC]\d+\])?")
_COLOUR = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[=>c7-8]|\][^\x07]*\x07)")
_ENDS = re.compile(r"---\[ end (?:trace|Kernel panic)|ut of memory.*: Kill(?:ed)? process")
_RULER = re.compile(r"^={20,}$")
_BOOT = re.compile(r"^Linux version \d")
_FIRMWARE = re.compile(r"^SeaBIOS \(version ")
_FRAME = re.compile(r"\s+\S.*\+0x[0-9a-f]+")
"""A caller in a stack; where a CPU was stands at the start of its line."""
_DROPPED = re.compile(r"^\s*\*\* (?P<count>\d+) printk messages dropped \*\*\s*")
_REBOOT = Rule(kind=Kind.REBOOT, pattern=_BOOT)

_PARTS: Mapping[Kind, frozenset[Kind]] = {
    Kind.OOPS: frozenset((Kind.OOPS, Kind.EXCEPTION)),
    Kind.GPF: frozenset((Kind.OOPS,)),
    Kind.WARNING: frozenset((Kind.WARNING, Kind.REFCOUNT, Kind.LIST, Kind.LOCKDEP)),
    Kind.REFCOUNT: frozenset((Kind.WARNING, Kind.REFCOUNT)),
    Kind.BUG: frozenset((Kind.EXCEPTION, Kind.OOPS, Kind.WARNING)),
    Kind.SLAB: frozenset((Kind.WARNING, Kind.BUG, Kind.EXCEPTION, Kind.OOPS)),
    Kind.LIST: frozenset((Kind.WARNING, Kind.BUG, Kind.EXCEPTION, Kind.OOPS)),
    Kind.LOCKDEP: frozenset((Kind.WARNING,)),
    Kind.EXCEPTION: frozenset((Kind.EXCEPTION, Kind.OOPS)),
    Kind.LEAK: frozenset((Kind.LEAK,)),
    Kind.RCU_STALL: frozenset((Kind.RCU_STALL,)),
    Kind.OOM: frozenset((Kind.OOM,)),
}
"""By the kind of an open report, the kinds of lines near its first that are part of it, not reports of their own."""
_LONG = frozenset((Kind.RCU_STALL, Kind.OOM))
"""Reports whose parts may come anywhere in them; of others, what comes after their stack is another report."""
_TELLING = frozenset((Kind.REFCOUNT, Kind.LIST))
"""Parts that say better what the report is about than its first line does."""
_CROSS = frozenset((Kind.RCU_STALL, Kind.SOFT_LOCKUP, Kind.HARD_LOCKUP, Kind.HUNG_TASK, Kind.OOM))
"""Reports to which several CPUs contribute: who writes a line does not matter."""
_RULED = frozenset((Kind.KASAN, Kind.KMSAN, Kind.KCSAN, Kind.KFENCE, Kind.UBSAN))
"""Reports that end with a ruler."""


def suspicious(block: bytes) -> bool:
    """Whether any line of `block` could open a report. False is certain."""
    return any(hint in block for hint in HINTS)


def clean(line: str) -> str:
    """`line` as text: colour codes and control characters out; of what `\\r` overwrote, the last version."""
    if len(line) > _MAX_LINE:
        line = f"{line[:_MAX_LINE // 2]} … {line[-_MAX_LINE // 2:]}"
    line = line.rstrip("\r\n")
    if line.isprintable():
        return line
    line = _COLOUR.sub("", line).rstrip("\r\n").rsplit("\r", 1)[-1]
    return line if line.isprintable() else "".join(char for char in line if char >= " " or char == "\t")


def message(line: str) -> str:
    """`line` without what printk put in front of it: level, timestamp, caller, and how much it dropped."""
    return _message(clean(line))


def _message(whole: str) -> str:
    text = _PREFIX.sub("", whole, count=1)
    return _PREFIX.sub("", _DROPPED.sub("", text)) if text.startswith("**") else text


def headline(text: str, rule: Rule) -> str:
    """What opens a report in `text`, a line without timestamp; what interleaved writers left around it is cut."""
    parts = [part.strip() for part in _STAMPS.split(text)]
    return next((part for part in reversed(parts) if rule.pattern.search(part)), text.strip())


def opens(text: str, ignores: Iterable[Ignore] = ()) -> Rule | None:
    """The rule by which `text` (a line without timestamp) opens a report, or None.

    `ignores` are rules besides those that always hold.
    """
    rule = next((rule for rule in RULES if any(map(text.__contains__, rule.needs)) and rule.pattern.search(text)), None)
    if rule is None:
        return None
    said = headline(text, rule)  # not what an interleaved console left around it
    return None if any(ignore.pattern.search(said) for ignore in (*IGNORES, *ignores)) else rule


@dataclass(slots=True, kw_only=True)
class _Report:
    """A report that is being read."""

    rule: Rule
    headline: str
    line: int
    caller: str
    heads: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    framed: bool = False
    cut: str = ""

    def takes(self, caller: str) -> bool:
        """Whether a line of `caller` belongs to it."""
        return not caller or not self.caller or caller == self.caller or self.rule.kind in _CROSS

    def goes_on_with(self, rule: Rule, text: str) -> bool:
        """Whether `text`, which could open a report by `rule`, is part of this one."""
        kind = self.rule.kind
        if len(self.lines) > _NEAR and kind not in _LONG:
            return False
        if _CUT in self.headline:
            return rule.kind is not Kind.PANIC and _CUT not in text
        if kind is Kind.LEAK:
            return not self.headline.startswith("unreferenced")
        return rule.kind in _PARTS.get(kind, ()) and (kind in _LONG or not self.framed)

    def add(self, line: str, text: str) -> None:
        self.lines.append(line)
        self.texts.append(text)
        self.framed = self.framed or _FRAME.match(text) is not None


class Scanner:
    """Finds events in a stream of lines. Holds a few open reports at most.

    Args:
        ignores: reports that are known and harmless; entries past their day hide nothing.
        today: the day that counts for them; the day it is, where none is given.
        most: reports that are made events, of those after which a test may go on and of the others; further ones are
            only counted. All, where none is given.
    """

    def __init__(self, ignores: Iterable[Ignore] = (), today: date | None = None, most: int | None = None) -> None:
        day = today or datetime.now(UTC).date()
        entries = tuple(ignores)
        self._ignores = tuple(entry for entry in entries if not entry.expired(day))
        self._expired = tuple(entry for entry in entries if entry.expired(day))
        self._number = 0
        self._boots = 0
        self._wanted = 1
        self._spoken = False
        self._reports: list[_Report] = []
        self._lost = 0
        self._most = most
        self._made: Counter[bool] = Counter()
        """The events made, by whether a test may go on after them: a flood of those must not hide one of the others."""
        self.uncounted = 0
        """Reports beyond the `most`."""
        self.hidden: Counter[str] = Counter()
        """By reason, the reports that the allow-list hid."""

    @property
    def number(self) -> int:
        """The lines seen until now."""
        return self._number

    @property
    def dropped(self) -> int:
        """The messages that the kernel said it had dropped."""
        return self._lost

    @property
    def reading(self) -> bool:
        """Whether a report is open."""
        return bool(self._reports)

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
        if not self._reports and not suspicious(line.encode(errors="replace")):
            self._spoken = self._spoken or not line.isspace()
            return
        whole = clean(line)
        found = _CALLER.search(whole)
        caller = (found["caller"] or "") if found else ""
        yield from self._count_dropped(whole)
        text = _message(whole)
        rule = self._opener(text)
        if rule is not None and rule.alone:
            yield from self._alone(rule, text, whole)
        elif rule is not None:
            yield from self._open(rule, text, caller)
        for report in self._reports:
            if report.takes(caller) and not (rule is not None and rule.alone):
                report.add(whole, text)
        self._spoken = self._spoken or not line.isspace()
        yield from self._close(lambda report: report.takes(caller) and self._complete(report, text))

    def finish(self) -> Iterator[KernelEvent]:
        """The open reports, if there are any, as they are: nothing more will come of them."""
        yield from self._close(lambda _: True)

    def _complete(self, report: _Report, text: str) -> bool:
        if _RULER.match(text) and report.rule.kind in _RULED:
            return len(report.lines) > 1
        return len(report.lines) >= MAX_LINES or _ENDS.search(text) is not None

    def _close(self, which: Callable[[_Report], bool]) -> Iterator[KernelEvent]:
        closing = [report for report in self._reports if which(report)]
        for report in closing:
            event = self._event(report)
            if event is not None:
                yield event
        # Not before: who waits until no report is being read (`Console.settle`) is to find its event.
        self._reports = [report for report in self._reports if report not in closing]

    def _event(self, report: _Report) -> KernelEvent | None:
        """The event of a report; None where the allow-list has it, or there were too many."""
        fatal = report.rule.fatal
        if self._most is not None and self._made[fatal] >= self._most:
            self.uncounted += 1
            return None
        event = made(report.rule.kind, report.headline, report.line, report.lines, report.texts,
                     fatal=fatal, cut=report.cut)
        for entry in self._ignores:
            if any(entry.pattern.search(text) for text in (event.title, *report.heads)):
                self.hidden[entry.reason] += 1
                return None
        self._made[fatal] += 1
        note = self._note((event.title, *report.heads))
        return replace(event, note=note) if note else event

    def _note(self, texts: Sequence[str]) -> str:
        for entry in self._expired:
            if any(entry.pattern.search(text) for text in texts):
                return f"known as benign ({entry.reason}) until {entry.expires}, which has passed" + (
                    f": {entry.where}" if entry.where else "")
        return ""

    def _open(self, rule: Rule, text: str, caller: str) -> Iterator[KernelEvent]:
        """Open a report, or let it be part of one that is open."""
        mine = [report for report in self._reports if report.takes(caller)]
        for report in mine:
            if report.goes_on_with(rule, text):
                if _CUT in report.headline or (rule.kind in _TELLING and rule.kind is not report.rule.kind):
                    report.rule, report.headline = rule, headline(text, rule)
                report.heads.append(text)
                return
        for report in mine:
            # A panic for the sake of a report prints the stack that the report itself did not come to print.
            if rule.kind is not Kind.PANIC or report.framed:
                report.cut = "" if report.framed else "another report cuts in"
        ended = [report for report in mine if rule.kind is not Kind.PANIC or report.framed]
        yield from self._close(lambda report: report in ended)
        if len(self._reports) >= _MAX_OPEN:
            oldest = self._reports[0]
            yield from self._close(lambda report: report is oldest)
        self._reports.append(_Report(rule=rule, headline=headline(text, rule), line=self._number, caller=caller,
                                     heads=[text]))

    def _alone(self, rule: Rule, text: str, whole: str) -> Iterator[KernelEvent]:
        """A report of one line; whatever else is being read goes on around it."""
        event = self._event(_Report(rule=rule, headline=headline(text, rule), line=self._number, caller="",
                                    heads=[text], lines=[whole], texts=[text]))
        if event is not None:
            yield event

    def _opener(self, text: str) -> Rule | None:
        if text.startswith("Linux version") and _BOOT.search(text):
            self._boots += 1
            if self._boots > self._wanted:
                return _REBOOT
        if text.startswith("SeaBIOS") and _FIRMWARE.search(text) and self._spoken and self._boots >= self._wanted:
            return _REBOOT
        return opens(text)

    def _count_dropped(self, whole: str) -> Iterator[KernelEvent]:
        """Count what the kernel says it dropped; it is reported once, and marks every report that is open."""
        if "messages dropped" not in whole:
            return
        found = _DROPPED.search(_PREFIX.sub("", whole))
        if found is None:
            return
        first = self._lost == 0
        self._lost += int(found["count"])
        if first:
            text = found.group().strip()
            yield KernelEvent(kind=Kind.DROPPED, title="printk messages dropped", headline=text, line=self._number,
                              lines=(whole,), fatal=False)


def scan(lines: Iterable[str], ignores: Iterable[Ignore] = (), today: date | None = None) -> tuple[KernelEvent, ...]:
    """Every event in `lines`, a whole console log, in the order of their first lines."""
    scanner = Scanner(ignores, today)
    events = [event for line in lines for event in scanner.feed(line)]
    return tuple(sorted((*events, *scanner.finish()), key=lambda event: event.line))
