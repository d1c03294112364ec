# SPDX-License-Identifier: GPL-2.0-only
"""An object comparison as one page for a reviewer: self-contained, without scripts, whole or not written at all.

Everything that comes from an object is printable ASCII when it gets here (`values.printable`), and escaped for HTML by
the template's engine. The page is bounded: so many functions beside each other, so many rows of each; what is left out
is said.
"""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.compare import explain, noise
from harness.compare.explain import Line
from harness.compare.opened import Opened
from harness.compare.sidebyside import hunks, insns, rows
from harness.compare.values import Comparison, ObjectDelta, printable
from harness.errors import InfraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.compare.disasm import Insn
    from harness.compare.sidebyside import Row

MAX_FUNCTIONS = 200
MAX_ROWS = 300
"""Functions that are shown side by side in one page, and rows of each."""
_CONTEXT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One line of the page, with the rows to unfold; `cut` rows are left out."""

    line: Line
    hunks: Sequence[Sequence[tuple[str, str, str]]] = ()
    cut: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One object of the page."""

    path: str
    status: str
    changed: Sequence[Shown]
    moved: Sequence[Line]


def render(opened: Opened, *, functions: int = MAX_FUNCTIONS) -> str:
    """The page. Raises `InfraError` for an object that cannot be read any more."""
    import jinja2

    comparison = opened.comparison
    lines = [(delta, opened.lines(delta)) for delta in comparison.differing]
    chosen = _chosen(lines, functions)
    parts = [_part(opened, delta, found, chosen) for delta, found in lines]
    shown = sum(bool(entry.hunks) for part in parts for entry in part.changed)
    whys = {rule.name: rule for rule in noise.RULES}
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True, loader=jinja2.FileSystemLoader(Path(__file__).parent))
    return environment.get_template("objdiff.html").render(
        c=comparison, base=printable(comparison.base), patched=printable(comparison.patched), parts=parts,
        verdict=_verdict(comparison), rules=[(use, whys[use.rule]) for use in comparison.rules if use.rule in whys],
        explained=[(printable(d.path), ", ".join(d.rules), printable(d.proof_note) if d.proof != "rule" else "by rule")
                   for d in comparison.deltas if d.status == "explained"],
        changed_count=sum(len(part.changed) for part in parts), moved_count=sum(len(part.moved) for part in parts),
        omitted=sum(line.code and not line.moved for _delta, found in lines for line in found) - sum(
            entry.line.code for part in parts for entry in part.changed if entry.hunks), shown=shown)


Key = tuple[str, str, str]


def _key(delta: ObjectDelta, line: Line) -> Key:
    return delta.path, line.section, line.name


def _chosen(lines: Sequence[tuple[ObjectDelta, Sequence[Line]]], limit: int) -> frozenset[Key]:
    """What is shown side by side: what says most first. A function of another length has another logic, one of the
    same length mostly other offsets; in a series that moves a member, those are thousands."""
    found = [(delta, line) for delta, own in lines for line in own if not line.moved and line.name != line.section]
    found.sort(key=lambda item: (not item[1].resized, not item[1].code))
    return frozenset(_key(*item) for item in found[:limit])


def _verdict(c: Comparison) -> str:
    if not c.identical_code:
        return "changed"
    return "identical" if c.identical == c.objects else "explained"


def _part(opened: Opened, delta: ObjectDelta, lines: Sequence[Line], chosen: frozenset[Key]) -> Part:
    shown = []
    for line in lines:
        if not line.moved:
            found = _rows(opened, delta, line) if _key(delta, line) in chosen else None
            shown.append(_bounded(line, hunks(found, _CONTEXT)) if found else Shown(line=line))
    return Part(path=printable(delta.path), status=delta.status, changed=shown,
                moved=[line for line in lines if line.moved])


def _rows(opened: Opened, delta: ObjectDelta, line: Line) -> list[Row] | None:
    """Both sides of what a line is about; None where there is nothing to put side by side."""
    views = opened.views(delta)
    found = explain.stretch(line.section, line.name, *views) if views else None
    if found is None:
        return None
    (left, a), (right, b) = found
    result = rows(insns(left, a), insns(right, b))
    return result if any(row.mark != " " for row in result) else None


def _bounded(line: Line, kept: list[list[Row]]) -> Shown:
    result, room = [], MAX_ROWS
    for hunk in kept:
        if room > 0:
            result.append([(row.mark, _text(row.base), _text(row.patched)) for row in hunk[:room]])
        room -= len(hunk)
    return Shown(line=line, hunks=result, cut=max(0, -room))


def _text(insn: Insn | None) -> str:
    return f"{insn.offset:5x}  {insn.text}" if insn else ""


def write(opened: Opened, path: Path) -> None:
    """Write the page to a file: whole, or not at all.

    Raises:
        UsageError: the path is a symbolic link or no regular file, or its folder does not exist.
        InfraError: it cannot be written.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:
        raise UsageError(f"cannot write there: {error.strerror}", where=str(path)) from error
    if not stat.S_ISREG(mode):
        raise UsageError("not a regular file", where=str(path), hint="symbolic links are not followed; name a new file")
    if not path.parent.is_dir():
        raise UsageError("no such folder", where=str(path.parent), hint="make it first")
    text = render(opened)
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".objdiff-", suffix=".html", delete=False,
                                         encoding="ascii") as file:
            temporary = file.name
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        Path(temporary).replace(path)
    except BaseException as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InfraError(f"cannot write: {error.strerror}", where=str(path)) from error
        raise
