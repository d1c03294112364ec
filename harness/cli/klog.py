# SPDX-License-Identifier: GPL-2.0-only
"""`harness klog`: what kernels reported, in console logs that are saved somewhere; thin like `cli`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import JSON
from harness.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from harness.vm.klog import KernelEvent
    from harness.vm.reports import Ignore
    from harness.vm.symbolize import Symbols

_FRAMES = 12
"""Frames of a stack that are shown."""


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--vmlinux", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="The kernel with symbols that printed the logs: names addresses, and with debug information adds "
                   "source lines.")
@click.option("--benign", type=click.Path(path_type=Path), metavar="FILE",
              help="Known benign reports: a YAML list of {pattern, reason, expires}, or a plan with `benign`.")
@click.option("--all", "whole", is_flag=True, help="Show every report's lines as they stand in the log.")
@JSON
def klog(files: tuple[Path, ...], vmlinux: Path | None, benign: Path | None, whole: bool, as_json: bool) -> None:
    """Say what the kernel reported in each console log FILE: panics, oopses, KASAN, lockdep, stalls, leaks and so on.

    FILE may be - for standard input. Levels, timestamps, callers, colours and what a console logger put in front
    of the lines do not matter.

    Exit code 0 when nothing was reported that a test must not go on after, 1 when something was.
    """
    from harness.plan.benign import read_benign
    from harness.report.model import clean
    from harness.vm.event import to_json
    from harness.vm.symbolize import Symbols

    known = read_benign(benign) if benign is not None else ()
    symbols = Symbols(vmlinux) if vmlinux is not None else None
    records, bad = [], False
    for file in files:
        events, hidden = _events(file, known, symbols)
        bad = bad or any(event.fatal for event in events)
        if as_json:
            records.append({"file": str(file), "events": [to_json(event) for event in events], "hidden": hidden})
            continue
        for line in _shown(file, events, hidden, whole):
            click.echo(clean(line))
    if as_json:
        click.echo(json.dumps(records, indent=1))
    sys.exit(ExitCode.FAILED if bad else ExitCode.PASSED)


def _events(file: Path, known: tuple[Ignore, ...], symbols: Symbols | None
            ) -> tuple[tuple[KernelEvent, ...], dict[str, int]]:
    """The events of a log, and how many the allow-list hid, by its reasons."""
    from harness.vm.klog import Scanner
    from harness.vm.symbolize import resolved

    scanner = Scanner(known, _today())
    found = [event for line in _lines(file) for event in scanner.feed(line)]
    found += scanner.finish()
    events = sorted(found, key=lambda event: event.line)
    return tuple(resolved(event, symbols) if symbols else event for event in events), dict(scanner.hidden)


def _today() -> date:
    from datetime import UTC, datetime

    return datetime.now(UTC).date()


def _lines(file: Path) -> Iterator[str]:
    """The lines of a log, one at a time, however large it is."""
    if str(file) == "-":
        for line in sys.stdin.buffer:
            yield line.decode(errors="replace")
        return
    try:
        with file.open("rb") as source:
            for line in source:
                yield line.decode(errors="replace")
    except OSError as error:
        raise UsageError(f"the log cannot be read: {error.strerror}", where=str(file)) from error


def _shown(file: Path, events: tuple[KernelEvent, ...], hidden: dict[str, int], whole: bool) -> Iterator[str]:
    from harness.vm import symbolize, timeline
    from harness.vm.frames import machinery
    from harness.vm.machinery import Group

    unshown = (Group.REPORT, Group.SANITIZER)
    name = "standard input" if str(file) == "-" else str(file)
    times = timeline.beside(file)
    clock = timeline.parse(times.read_text(encoding="ascii")) if times.is_file() else None
    if not events:
        yield f"{name}: nothing reported"
    for event in events:
        mild = "" if event.fatal else " (a test may go on)"
        kind = "" if str(event.kind) in event.title else f" [{event.kind}]"
        yield f"{name}:{event.line}: {event.title}{kind}{mild}"
        if event.headline not in event.title:
            yield f"    {event.headline}"
        if str(event.context):
            yield f"    on {event.context}"
        if clock is not None:
            yield f"    at {clock.at(event.line).isoformat(timespec='milliseconds')}"
        if event.corrupted:
            yield f"    the report is not whole: {event.corrupted}"
        if event.note:
            yield f"    {event.note}"
        if whole:
            yield from (f"    | {line}" for line in event.lines)
            continue
        frames = [frame for frame in event.stack if frame.reliable and not machinery(frame.function, unshown)]
        yield from (f"      {line}" for line in symbolize.shown(frames[:_FRAMES]))
        if len(frames) > _FRAMES:
            yield f"      ({len(frames) - _FRAMES} more frames)"
    for reason, count in hidden.items():
        yield f"{name}: {count} known as benign: {reason}"
