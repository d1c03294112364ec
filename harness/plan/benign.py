# SPDX-License-Identifier: GPL-2.0-only
"""The allow-list of kernel reports: `benign` in a plan, or a YAML file of its own, to values.

An entry says which reports it hides, why that is right, and until when somebody believes it. There is none without.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

from harness.errors import UsageError
from harness.plan.node import Node, read_node
from harness.vm.reports import Ignore

KEY = "benign"
_KEYS = ("pattern", "reason", "expires")


def read_benign(file: Path) -> tuple[Ignore, ...]:
    """The entries of a file that is such a list, or has it as `benign`.

    Raises:
        UsageError: it cannot be read, or an entry is wrong; file and line are named.
    """
    node = read_node(file, KEY)
    if node.is_list:
        return benign(node)
    entries = node.mapping()
    if KEY not in entries:
        raise UsageError(f"it is no list and has no `{KEY}`", where=str(file),
                         hint="- {pattern: ..., reason: ..., expires: 2030-01-31}")
    return benign(entries[KEY])


def benign(node: Node) -> tuple[Ignore, ...]:
    """The entries of a list.

    Raises:
        UsageError: an entry lacks a key, its pattern is no regular expression or its day is none.
    """
    return tuple(_entry(item) for item in node.items())


def _entry(node: Node) -> Ignore:
    entries = node.mapping(_KEYS, required=_KEYS)
    try:
        pattern = re.compile(entries["pattern"].text())
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"`pattern` is no regular expression: {error}", where=entries["pattern"].where) from error
    if pattern.search("") is not None:
        raise UsageError("`pattern` would hide every report", where=entries["pattern"].where,
                         hint="write a part of the title or of the line that opens the report")
    reason = entries["reason"].text().strip()
    if not reason:
        raise UsageError("`reason` is empty", where=entries["reason"].where)
    try:
        expires = date.fromisoformat(entries["expires"].text())
    except ValueError:
        raise entries["expires"].wrong("a day, as 2030-01-31") from None
    return Ignore(pattern=pattern, reason=reason, expires=expires, where=node.where)
