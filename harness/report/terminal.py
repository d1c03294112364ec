# SPDX-License-Identifier: GPL-2.0-only
"""The result model as a table for people: a row per claim and variant, boot and suite; then what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.claims import Row, Verdict
from harness.report.model import RunReport, clean

_STYLE = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "yellow", Verdict.ERROR: "magenta",
          Verdict.SKIP: "cyan"}
_DETAIL_LINES = 12


def show(report: RunReport, console: Console) -> None:
    """Print the table, the sentences of the claims in it, and the detail of every row that did not pass."""
    show_rows(report.plan, report.rows, console)
    judged = {row.id for row in report.rows if row.kind == "claim"}
    for claim in (claim for claim in report.claims if claim.id in judged):
        console.print(f"{escape(claim.id)}: {escape(clean(claim.says))}", style="dim")
    console.print(f"sandbox: {escape(clean(report.sandbox))}", style="dim")
    show_detail(report.rows, console)


def show_rows(title: str, rows: Sequence[Row], console: Console) -> None:
    """Print rows as a table."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False,
                  padding=(0, 1, 0, 0))
    for heading in ("what", "variant", "verdict"):
        table.add_column(heading, no_wrap=heading != "what", overflow="fold")
    table.add_column("evidence", overflow="fold")
    short = _short_names(row.id for row in rows if row.kind == "suite")
    for row in rows:
        what = short.get(row.id, row.id) if row.kind in ("suite", "claim") else f"{row.kind} {row.id}"
        evidence = f"{row.nic}: {row.evidence}" if row.nic else row.evidence
        table.add_row(escape(what), escape(row.variant), f"[{_STYLE[row.verdict]}]{row.verdict}[/]",
                      escape(clean(evidence)))
    console.print(table)


def show_detail(rows: Sequence[Row], console: Console) -> None:
    """Print the detail of every row that failed, or of which nothing can be said."""
    for row in rows:
        if row.verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE) and row.detail:
            console.print(f"\n[{_STYLE[row.verdict]}]{row.verdict}[/] {escape(_label(row))} {escape(row.variant)}")
            for line in row.detail[:_DETAIL_LINES]:
                console.print(f"  {escape(clean(line))}", highlight=False)
            if len(row.detail) > _DETAIL_LINES:
                console.print(f"  ... {len(row.detail) - _DETAIL_LINES} more lines in results.json")


def summary(report: RunReport) -> str:
    """`23 PASS, 1 FAIL in 212 s`."""
    counts = {verdict: sum(row.verdict is verdict for row in report.rows) for verdict in Verdict}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "no results"
    return f"{said} in {report.seconds:.0f} s"


def _short_names(suites: Iterable[str]) -> dict[str, str]:
    """What the table calls suites: by the file's name, without its folder, where no other has that name."""
    names = {suite: PurePath(suite).name for suite in suites}
    count = Counter(names.values())
    return {suite: name for suite, name in names.items() if count[name] == 1}


def _label(row: Row) -> str:
    on = f" on {row.nic}" if row.nic else ""
    return row.id if row.kind == "claim" else f"{row.kind} {row.id}{on}"
