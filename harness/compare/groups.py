# SPDX-License-Identifier: GPL-2.0-only
"""The changes of an object by what they are about, and the words that need nothing but a change.

Pure and cheap: for counting what is not shown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.compare import owners, phrases
from harness.compare.facts import EXPORT_SECTION, EXPORT_SYMBOL, INITCALL, PARAMETER
from harness.compare.naming import stem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.compare.values import Change

_PLACE = re.compile(r"(?:at 0x[0-9a-f]+)? ?(?:\d+ bytes)?")
"""What a symbol's change says when only its place or size differs; see `attribute.symbol_changes`."""

Group = tuple[str, str]
"""What a change is about: ("symbol", name), ("export", name), ("initcall", function), ("section", key) ..."""


def group(change: Change) -> Group:
    """The thing a change belongs to. Cheap: for counting without words."""
    name = change.symbol or ""
    where = change.section
    if found := EXPORT_SECTION.fullmatch(where) or EXPORT_SYMBOL.fullmatch(name):
        return "export", found[1]
    if found := INITCALL.fullmatch(name):
        return "initcall", found[1]
    if where == "__param" and (found := PARAMETER.fullmatch(name)):
        return "parameter", found[1]
    if where in ("__versions", ".modinfo", ".discard.addressable"):
        return "section", where
    return ("symbol", stem(name)) if name else ("section", where)


def grouped(changes: Sequence[Change]) -> list[tuple[Group, list[Change]]]:
    """Changes by what they are about: real ones first, functions and data before sections, then what only moved."""
    found: dict[Group, list[Change]] = {}
    for change in changes:
        found.setdefault(group(change), []).append(change)
    return sorted(found.items(), key=lambda item: (only_moved(item[1]), item[0][0] == "section"))


def only_moved(changes: Sequence[Change]) -> bool:
    """Whether nothing in a group says that its contents differ. A longer jump makes a longer symbol."""
    left = [change for change in changes if change.kind != "moved"]
    return not left or (len(left) < len(changes) and all(
        change.kind == "symbol" and _PLACE.fullmatch(change.base or "") and _PLACE.fullmatch(change.patched or "")
        for change in left))


def plain(change: Change) -> str:
    """One change in words that need nothing but the change."""
    a, b = change.base, change.patched
    if change.kind == "archive":
        return f"link order, member {change.offset}: {a or 'none'} -> {b or 'none'}"
    if change.kind == "script":
        return f"linker script, line {change.offset}: {a or 'none'} -> {b or 'none'}"
    if change.kind == "file" and "present" in (a, b):
        side, other = ("base", b) if a == "present" else ("patched", a)
        return f"only in {side}{f' ({other})' if other else ''}"
    if change.kind == "bytes" and change.symbol is None and '"' in f"{a}{b}":
        return f"strings {phrases.sides(a, b)}"
    if change.kind in ("bytes", "relocation", "size"):
        word = {"bytes": "bytes", "relocation": "reference", "size": "size"}[change.kind]
        return f"{word} {a or 'none'} -> {b or 'none'}"
    words = (a or "").split(" "), (b or "").split(" ")
    if len(words[0]) == len(words[1]) > 1 and words[0][:-1] == words[1][:-1]:
        return f"{' '.join(words[0])} -> {words[1][-1]}"
    return phrases.sides(a, b)


def plain_entries(change: Change) -> str:
    """`2 -> 3 entries`, `2 entries differ`, `2 entries with other line numbers`."""
    if str(change.patched).endswith(owners.LINES):
        return str(change.patched)
    counts = [(side or "0").split(" ")[0] for side in (change.base, change.patched)]
    if counts[0] == counts[1]:
        return f"{change.base} differ{'s' * (counts[0] == '1')}"
    return f"{counts[0]} -> {change.patched}"
