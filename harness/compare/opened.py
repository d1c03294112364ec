# SPDX-License-Identifier: GPL-2.0-only
"""The objects behind a finished comparison, opened again for those who explain or show them.

A comparison keeps no objects: a tree holds gigabytes. What is shown is read a second time, and only that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.compare import elf, explain, groups, noise
from harness.compare.facts import ObjectView
from harness.compare.inputs import open_input

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.compare.explain import Line
    from harness.compare.groups import Group
    from harness.compare.values import Change, Comparison, ObjectDelta

Views = tuple[ObjectView, ObjectView]


class Opened:
    """Both sides of a comparison. Reading raises `InfraError` for a file that has gone or changed for the worse."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self._sides = open_input(Path(comparison.base)), open_input(Path(comparison.patched))
        self._last: tuple[str, Views] | None = None

    def data(self, path: str) -> tuple[bytes, bytes]:
        """The bytes of an object that both sides have."""
        # the name of a lone object is the base's; its input does not need it
        return self._sides[0].read(path), self._sides[1].read(path)

    def views(self, delta: ObjectDelta) -> Views | None:
        """Both sides of an object; None for an archive or linker script, and where a side has none."""
        if not delta.on_both_sides:
            return None
        if self._last is None or self._last[0] != delta.path:
            a, b = self.data(delta.path)
            base, patched = (elf.parse(data, side.where(delta.path)) for data, side in zip((a, b), self._sides,
                                                                                          strict=True))
            self._last = delta.path, (ObjectView(base), ObjectView(patched))
        return self._last[1]

    def line(self, delta: ObjectDelta, key: Group, changes: list[Change]) -> Line:
        """The words for one group of an object's changes."""
        return explain.line(key, changes, *(self.views(delta) or (None, None)))

    def lines(self, delta: ObjectDelta) -> tuple[Line, ...]:
        """All lines of one object: what changed first, then what only moved."""
        return tuple(self.line(delta, *entry) for entry in groups.grouped(delta.changes))


def ordered(deltas: Sequence[ObjectDelta]) -> Iterator[tuple[ObjectDelta, Group, list[Change], bool]]:
    """Every group of changes of these objects, and whether it only moved: all that changed first, by path."""
    found = [(delta, key, changes, groups.only_moved(changes))
             for delta in deltas for key, changes in groups.grouped(delta.changes)]
    yield from sorted(found, key=lambda item: item[3])


def to_json(opened: Opened) -> dict[str, object]:
    """The whole result as JSON values, every delta with its `lines`, every rule with `seen` (docs/objdiff.md)."""
    value = opened.comparison.to_json()
    value["rules"] = [{"rule": use.rule, "objects": use.objects, "sites": use.sites,
                       "seen": noise.SEEN.get(use.rule, "")} for use in opened.comparison.rules]
    shown = [delta for delta in opened.comparison.deltas if delta.status != "identical"]
    found = value["deltas"]
    assert isinstance(found, list)
    for delta, entry in zip(shown, found, strict=True):
        entry["lines"] = [{"name": line.name, "section": line.section, "offset": line.offset, "says": line.says,
                           "only_moved": line.moved} for line in opened.lines(delta)]
    return value
