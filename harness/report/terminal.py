# SPDX-License-Identifier: GPL-2.0-only
"""The result model as a table for people: a row per claim and variant, boot and suite; then what went wrong."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.claims import Row, Verdict
from harness.report.model import RunReport, clean

_STYLE = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "yellow", Verdict.ERROR: "magenta",
          Verdict.SKIP: "cyan"}
_DETAIL_LINES = 12


def show(report: RunReport, console: Console) -> None:
    """Print the table, the claims' sentences, and the detail of every row that did not pass."""
    show_rows(report.plan, report.rows, console)
    for claim in report.claims:
        console.print(f"{escape(claim.id)}: {escape(clean(claim.says))}", style="dim")
    console.print(f"sandbox: {escape(clean(report.sandbox))}", style="dim")
    show_detail(report.rows, console)


def show_rows(title: str, rows: Sequence[Row], console: Console) -> None:
    """Print rows as a table."""
    table = Table(title=title, title_justify="left", expand=False, pad_edge=False)
    for heading in ("what", "variant", "verdict"):
        table.add_column(heading, no_wrap=heading != "what", overflow="fold")
    table.add_column("evidence", overflow="fold")
    for row in rows:
        table.add_row(escape(_label(row)), escape(row.variant), f"[{_STYLE[row.verdict]}]{row.verdict}[/]",
                      escape(clean(row.evidence)))
    console.print(table)


def show_detail(rows: Sequence[Row], console: Console) -> None:
    """Print the detail of every row that failed."""
    for row in rows:
        if row.verdict in (Verdict.FAIL, Verdict.ERROR) and row.detail:
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


def _label(row: Row) -> str:
    on = f" on {row.nic}" if row.nic else ""
    return row.id if row.kind == "claim" else f"{row.kind} {row.id}{on}"
