# SPDX-License-Identifier: GPL-2.0-only
"""An object comparison for a terminal: the summary, and functions side by side."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from harness.compare import elf, noise
from harness.compare.content import paired, units
from harness.compare.elf import STT_FUNC, STT_OBJECT
from harness.compare.facts import ObjectView
from harness.compare.naming import stem
from harness.compare.opened import Opened, ordered
from harness.compare.sidebyside import insns, rows
from harness.compare.srclines import source_lines
from harness.compare.values import printable
from harness.errors import InfraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.compare.content import Content
    from harness.compare.disasm import Insn
    from harness.compare.naming import Unit
    from harness.compare.opened import Views
    from harness.compare.values import Comparison, ObjectDelta

LIMIT = 30
"""Lines of changes in a summary unless all are asked for."""


def counts(comparison: Comparison) -> list[str]:
    """Objects, archives and rules in lines, then how much of it changed and how much only moved."""
    c = comparison
    kinds = (c.identical, "identical"), (c.explained, f"explained{how(c)}"), (c.changed, "changed"), \
            (c.only_base, "only in base"), (c.only_patched, "only in patched")
    lines = [f"{c.objects} objects: " + ", ".join(f"{count} {what}" for count, what in kinds)]
    if c.archives_changed:
        lines.append(f"{c.archives_changed} of {c.archives} archives list other members")
    if c.link_scripts_changed:
        lines.append(f"{c.link_scripts_changed} of {c.link_scripts} linker scripts differ")
    lines += [f"  explained by {use.rule}: {use.sites} in {use.objects} objects" for use in c.rules]
    seen = [f"{use.rule} in {noise.SEEN[use.rule]}" for use in c.rules if use.rule in noise.SEEN]
    if seen:
        lines.append(f"  a running kernel shows it all the same: {'; '.join(seen)}")
    if c.excluded:
        lines.append("  not compared: " + ", ".join(f"{count} {reason}" for reason, count in c.excluded))
    return lines


def how(comparison: Comparison) -> str:
    """` (45 proved, 1 by rule)`, where something was proved."""
    proved = comparison.proved
    return f" ({proved} proved, {comparison.explained - proved} by rule)" if proved else ""


def summary(opened: Opened, limit: int | None = LIMIT) -> list[str]:
    """The result in lines: counts, then one for each changed function, datum or section.

    Args:
        limit: most lines of changes; a last line says how many more there are. None for all.
    """
    found = list(ordered(opened.comparison.differing))
    moved = sum(item[3] for item in found)
    lines = counts(opened.comparison)
    if found:
        lines.append(f"changed functions, data and sections: {len(found) - moved}; only moved: {moved}")
    lines += [f"{printable(delta.path)}: {opened.line(delta, key, changes).text}"
              for delta, key, changes, _moved in found[:limit]]
    if limit is not None and len(found) > limit:
        lines.append(f"... and {len(found) - limit} more (--all)")
    return lines + proofs(opened.comparison, limit)


_PROOFS = {"lines": "proved", "sections": "proved", "parts": "proved", "offsets": "proved", "rule": "by rule",
           "": "not proved"}


def proofs(comparison: Comparison, limit: int | None = LIMIT) -> list[str]:
    """Of each object that a proof was tried for, what came of it; nothing where none was tried."""
    if not any(delta.proof_note for delta in comparison.deltas):
        return []
    tried = [delta for delta in comparison.deltas if delta.proof or delta.proof_note]
    tried.sort(key=lambda delta: list(_PROOFS).index(delta.proof), reverse=True)
    lines = ["proofs:"]
    for delta in tried[:limit]:
        rules = f" ({', '.join(delta.rules)})" if delta.proof == "rule" else ""
        note = f": {delta.proof_note}" if delta.proof_note else ""
        lines.append(f"  {printable(delta.path)}: {_PROOFS[delta.proof]}{rules}{printable(note)}")
    if limit is not None and len(tried) > limit:
        lines.append(f"  ... and {len(tried) - limit} more (--all)")
    return lines


def show(opened: Opened, query: str, width: int) -> list[str]:
    """Both sides of a function (or datum), in every object that has it.

    Args:
        query: `FUNCTION` or `OBJECT:FUNCTION`; gcc's suffixes (`.constprop.0`) may be left out.
        width: columns.

    Raises:
        UsageError: no object has it; close matches are named.
    """
    where, _colon, name = query.rpartition(":")
    lines: list[str] = []
    for delta in opened.comparison.deltas:
        if where and delta.path != where and not delta.path.endswith(f"/{where}"):
            continue
        if not delta.on_both_sides:
            continue
        views = _views(opened, delta, name)
        for found in _stretches(views, name) if views else ():
            lines += ["", *_side_by_side(delta.path, views, *found, width)] if views else []
    if not lines:
        close = _close(opened, name, where)
        raise UsageError("no object that both sides have holds this function or datum", where=printable(query),
                         hint=f"did you mean {', '.join(close)}?" if close else
                         "name it as nm does: FUNCTION, or OBJECT:FUNCTION")
    return lines[1:]


def _views(opened: Opened, delta: ObjectDelta, name: str) -> Views | None:
    """Both sides of an object, unless the name does not occur in its bytes."""
    data = opened.data(delta.path)
    text = name.encode("latin-1", "replace")
    return opened.views(delta) if text in data[0] or text in data[1] else None


Half = tuple["Content", "Unit"]


def _stretches(views: Views, name: str) -> Iterator[tuple[Half | None, Half | None]]:
    """Every stretch of this name, with its partner on the other side if it has one in the same section."""
    for key in dict.fromkeys(key for view in views for key in view.model.sections):
        left, right = (_named(view, key, name) for view in views)
        pairs = paired([unit for _side, unit in left], [unit for _side, unit in right])
        for a, b in pairs:
            yield (left[0][0], a), (right[0][0], b)
        taken = [{unit for pair in pairs for unit in pair[n:n + 1]} for n in (0, 1)]
        for half in left:
            if half[1] not in taken[0]:
                yield half, None
        for half in right:
            if half[1] not in taken[1]:
                yield None, half


def _named(view: ObjectView, key: str, name: str) -> list[Half]:
    """The stretches of a section that have this name, with or without gcc's suffixes."""
    section = view.model.sections.get(key)
    if section is None or not view.names.units.get(section.number):
        return []
    side = view.content(printable(key))
    return [(side, unit) for unit in units(side) if name in (
        said := printable(unit.name), stem(said), said.partition(".")[0])] if side else []


def _side_by_side(path: str, views: Views, left: Half | None, right: Half | None, width: int) -> list[str]:
    some = left or right
    assert some is not None
    found = rows(*(insns(*half) if half else () for half in (left, right)))
    differing = sum(row.mark != " " for row in found)
    state = f"{differing} rows differ" if differing else "equal"
    lengths = " -> ".join(str(half[1].end - half[1].start) if half else "none" for half in (left, right))
    what = f"{printable(some[1].name)} ({printable(some[0].section.name)})"
    lines = [f"{printable(path)}: {what}, {lengths} bytes, {state}"]
    sources, why = zip(*(source_lines(view.model, half[0].section) if half else ({}, "")
                         for view, half in zip(views, (left, right), strict=True)), strict=True)
    lines += dict.fromkeys(reason for reason in why if reason)
    column = max((width - 3) // 2, 20)
    lines.append(f"{'base':{column}}   patched")
    last = ["", ""]
    for row in found:
        heads = [_source(sources[n], half[1], insn, last, n) if half else ""
                 for n, (half, insn) in enumerate(((left, row.base), (right, row.patched)))]
        if any(heads):
            lines.append(_row(" ", heads[0], heads[1], column))
        lines.append(_row(row.mark, _insn(row.base), _insn(row.patched), column))
    return lines


def _source(sources: Mapping[int, str], unit: Unit, insn: Insn | None, last: list[str], side: int) -> str:
    """The source line an instruction begins, empty where it is still the one of before."""
    said = sources.get(unit.start + insn.offset, "") if insn else ""
    if not said or said == last[side]:
        return ""
    last[side] = said
    return f"; {said}"


def _insn(insn: Insn | None) -> str:
    return f"{insn.offset:5x}  {insn.text}" if insn else ""


def _row(mark: str, left: str, right: str, column: int) -> str:
    return f"{_cut(left, column):{column}} {mark} {_cut(right, column)}".rstrip()


def _cut(text: str, column: int) -> str:
    # of a source line the end says more than the beginning
    if len(text) <= column:
        return text
    return f"; ..{text[-(column - 4):]}" if text.startswith("; ") else f"{text[:column - 2]}.."


def _close(opened: Opened, name: str, where: str) -> list[str]:
    """Names of functions and data that are much like `name`; of all objects, so this is slow."""
    names: set[str] = set()
    for delta in opened.comparison.deltas:
        if where and delta.path != where and not delta.path.endswith(f"/{where}"):
            continue
        try:
            view = ObjectView(elf.parse(opened.data(delta.path)[0], delta.path))
        except InfraError:
            continue
        names |= {printable(s.name) for s in view.model.symbols if s.type in (STT_FUNC, STT_OBJECT) and s.section}
    return get_close_matches(name, names, n=3, cutoff=0.7)
