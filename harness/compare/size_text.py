# SPDX-License-Identifier: GPL-2.0-only
"""A size comparison in words for a terminal 80 columns wide, and as JSON (docs/objdiff.md). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.compare.size import FIGURES
from harness.compare.values import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.compare.size import SectionSizes, SizeDelta, SizeReport
    from harness.compare.symsize import KindTotals, SymbolDelta, SymbolReport

SCHEMA = "harness.size/1"
"""Version of the JSON form; the number grows when a reader of the old form would misread the new one."""

_NAME = 41
_PATH = 36


def lines(report: SizeReport, limit: int | None = 20) -> list[str]:
    """The result in lines: the kernel's sizes, its symbols by class, the symbols that differ, the objects that do.

    Args:
        limit: most symbols and most objects shown; a line says how many more there are. All of them where None,
            and then each object's symbols, too.
    """
    main = report.vmlinux_o or (report.objects[0] if report.compared == 1 and report.objects else None)
    found: list[str] = []
    if main is None:
        found.append("no vmlinux.o on either side")
    else:
        found += _figures(main)
        if report.vmlinux is not None:
            found += ["", *_figures(report.vmlinux)]
        if main.symbols is not None:
            found += ["", *_kinds(main.symbols), *_symbols(main.symbols.symbols, limit)]
    if report.vmlinux_o is not None or main is None:
        found += ["", *_objects(report, limit)]
    return found


def _row(label: str, base: str, patched: str, delta: str) -> str:
    return f"{label:{_NAME}} {base:>12} {patched:>12} {delta:>11}".rstrip()


def _figures(delta: SizeDelta) -> list[str]:
    """The sizes of one file, a row each, rodata as the part of text that it is."""
    found = [_row(_shortened(printable(delta.path), _NAME), "base", "patched", "delta")]
    sides = [None if side is None else side.figures for side in (delta.base, delta.patched)]
    for at, figure in enumerate(FIGURES):
        base, patched = (_number(None if side is None else side[at]) for side in sides)
        label = "  of it rodata" if figure == "rodata" else figure
        found.append(_row(label, base, patched, _signed(delta.growth(figure))))
    return found


def _kinds(report: SymbolReport) -> list[str]:
    table = [("symbols", "new", "gone", "grown", "shrunk", "up", "down", "delta", "of")]
    table += [(row.kind, f"{row.new:,}", f"{row.gone:,}", f"{row.grown:,}", f"{row.shrunk:,}", f"{row.up:,}",
               _signed(-row.down), _signed(row.up - row.down), f"{row.base:,}") for row in report.totals]
    return [f"{kind:9} {new:>6} {gone:>6} {grown:>6} {shrunk:>6} {up:>9} {down:>10} {delta:>9} {of:>10}"
            for kind, new, gone, grown, shrunk, up, down, delta, of in table]


def _symbols(found: Sequence[SymbolDelta], limit: int | None) -> list[str]:
    if not found:
        return ["", "no symbol has another size"]
    shown = found[:limit]
    rows = ["", _row(f"{len(found):,} symbols of another size", "base", "patched", "delta")]
    rows += [_row(_shortened(row.name, _NAME), _number(row.base), _number(row.patched), _signed(row.delta))
             for row in shown]
    return rows + _more(len(found) - len(shown))


def _objects(report: SizeReport, limit: int | None) -> list[str]:
    head = f"{len(report.objects):,} of {report.compared:,} objects of another size"
    if not report.objects:
        return [head]
    found = [f"{head:{_PATH}} {'text':>8} {'rodata':>8} {'data':>8} {'bss':>8} {'total':>7}"]
    shown = report.objects[:limit]
    for row in shown:
        figures = " ".join(f"{_signed(row.growth(figure)):>{width}}"
                           for figure, width in zip(FIGURES, (8, 8, 8, 8, 7), strict=True))
        note = "" if row.base and row.patched else "  (only in base)" if row.base else "  (only in patched)"
        found.append(f"{_shortened(printable(row.path), _PATH) if limit else printable(row.path):{_PATH}} "
                     f"{figures}{note}".rstrip())
        if limit is None and row.symbols is not None:
            found += [f"  {one.name}: {_number(one.base)} -> {_number(one.patched)} ({_signed(one.delta)})"
                      for one in row.symbols.symbols]
    return found + _more(len(report.objects) - len(shown))


def _more(count: int) -> list[str]:
    return [f"... and {count:,} more (--all shows them)"] if count else []


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _signed(value: int) -> str:
    return f"{value:+,}" if value else "0"


def _shortened(text: str, width: int) -> str:
    """`text` in at most `width` characters; of what is too long the end, which tells names apart, is kept."""
    return text if len(text) <= width else f"...{text[3 - width:]}"


def to_json(report: SizeReport) -> dict[str, object]:
    """The whole result as JSON values."""
    return {
        "schema": SCHEMA,
        "vmlinux.o": None if report.vmlinux_o is None else _delta(report.vmlinux_o),
        "vmlinux": None if report.vmlinux is None else _delta(report.vmlinux),
        "compared": report.compared,
        "objects": [_delta(row) for row in report.objects],
    }


def _delta(row: SizeDelta) -> dict[str, object]:
    return {
        "path": printable(row.path), "base": _sizes(row.base), "patched": _sizes(row.patched),
        "delta": {figure: row.growth(figure) for figure in FIGURES},
        "sections": _sections(row.base, row.patched),
        "classes": [] if row.symbols is None else [_totals(one) for one in row.symbols.totals],
        "symbols": [] if row.symbols is None else _named(row.symbols.symbols),
    }


def _sizes(side: SectionSizes | None) -> dict[str, int] | None:
    return None if side is None else dict(zip(FIGURES, side.figures, strict=True))


def _sections(*sides: SectionSizes | None) -> list[dict[str, object]]:
    """Sections whose size differs; those of one name are summed up."""
    base, patched = ({} if side is None else _summed(side.sections) for side in sides)
    return [{"name": printable(name), "base": base.get(name), "patched": patched.get(name)}
            for name in sorted(base.keys() | patched.keys()) if base.get(name) != patched.get(name)]


def _summed(sections: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, size in sections:
        found[name] = found.get(name, 0) + size
    return found


def _totals(row: KindTotals) -> dict[str, object]:
    names = ("base", "patched", "new", "gone", "grown", "shrunk", "up", "down")
    return {"class": row.kind, **{name: getattr(row, name) for name in names}}


def _named(found: Iterable[SymbolDelta]) -> list[dict[str, object]]:
    return [{"name": row.name, "class": row.kind, "change": row.change, "base": row.base, "patched": row.patched,
             "delta": row.delta} for row in found]
