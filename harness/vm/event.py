# SPDX-License-Identifier: GPL-2.0-only
"""Pure: a report of the kernel's as a value, made of its lines once they are all there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.vm import frames, titles
from harness.vm.context import Context, context
from harness.vm.frames import Frame
from harness.vm.reports import STACKLESS, Kind

_TRACE = re.compile(r"^\s*(?:Call [Tt]race|Backtrace|backtrace|stack backtrace):")
_STAMP = re.compile(r"\[\s*\d+\.\d{6}\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelEvent:
    """A report of the kernel's, or of the harness about it (silence, an end without a word).

    Attributes:
        kind: what it is about.
        title: what went wrong and in which function, without what varies (`harness.vm.titles`).
        headline: the line that says it, without timestamp.
        line: that line's number in the console log, counted from 1; 0 for what is not in it.
        lines: the report, as it stood in the log.
        context: the CPU, task and command that it speaks of.
        stack: its frames, in their order.
        corrupted: why its text is not whole; empty where nothing seems amiss.
        note: what a reader must know besides, as that an entry of the allow-list has expired.
        fatal: whether a test may not go on after it.
    """

    kind: Kind
    title: str
    headline: str
    line: int = 0
    lines: tuple[str, ...] = ()
    context: Context = field(default_factory=Context)
    stack: tuple[Frame, ...] = ()
    corrupted: str = ""
    note: str = ""
    fatal: bool = True


def made(kind: Kind, headline: str, line: int, lines: Sequence[str], texts: Sequence[str], *, fatal: bool = True,
         cut: str = "", note: str = "") -> KernelEvent:
    """The event of a report.

    Args:
        lines: as they stand in the log, colours aside.
        texts: the same without timestamps.
        cut: why it ended before its time, if it did.
    """
    stack = frames.stack(texts)
    return KernelEvent(kind=kind, title=titles.title(kind, headline, texts, stack), headline=headline, line=line,
                       lines=tuple(lines), context=context(texts), stack=stack, fatal=fatal, note=note,
                       corrupted=_corrupted(kind, lines, texts, stack, cut))


def _corrupted(kind: Kind, lines: Sequence[str], texts: Sequence[str], stack: Sequence[Frame], cut: str) -> str:
    """Why a report is not whole; empty where nothing seems amiss."""
    if cut:
        return cut
    if any("printk messages dropped" in line for line in lines):
        return "messages were dropped"
    if any(_STAMP.search(text) for text in texts):
        return "lines run into each other"
    if any("�" in text for text in texts):
        return "bytes that are no text"
    marks = [number for number, text in enumerate(texts) if _TRACE.match(text)]
    if marks and not any(frame.line > marks[-1] for frame in stack):
        return "a call trace without frames"
    if not stack and kind not in STACKLESS:
        return "no stack"
    return ""


def to_json(event: KernelEvent) -> dict[str, object]:
    """`event` for JSON: the fields by their names."""
    return {
        "kind": str(event.kind), "title": event.title, "headline": event.headline, "line": event.line,
        "fatal": event.fatal, "corrupted": event.corrupted, "note": event.note,
        "context": {name: getattr(event.context, name) for name in ("cpu", "pid", "command", "workqueue", "kernel",
                                                                    "taint")},
        "stack": [{"function": frame.function, "offset": frame.offset, "size": frame.size, "module": frame.module,
                   "reliable": frame.reliable, "address": frame.address, "source": frame.source,
                   "pointer": frame.pointer} for frame in event.stack],
        "lines": list(event.lines),
    }
