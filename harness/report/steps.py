# SPDX-License-Identifier: GPL-2.0-only
"""A series built patch by patch, in words for a terminal and as JSON (docs/results.md). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from harness.claims import stepped_lines
from harness.jobs.steps import Stepped
from harness.report.model import clean


def lines(variant: str, patches: Sequence[Stepped]) -> list[str]:
    """A line for each patch, and below it why it does not build or what is warned of since."""
    found = [variant]
    for row in patches:
        if row.after is None:
            state = "does not build"
        else:
            count = len(row.new_warnings)
            built = "from the cache" if row.after.build.reused else f"{row.after.build.seconds:.0f} s"
            state = f"builds ({built})" + (f", {count} new warning{'s' * (count != 1)}" if count else "")
        found.append(f"{row.number:4} {state:32} {clean(row.subject)}")
        found += [f"       {line.partition(': ')[2]}" for line in stepped_lines(row, len(patches))]
    return found


def to_json(variant: str, patches: Sequence[Stepped]) -> dict[str, object]:
    """`variant`, and for each of `patches` whether it builds, what that took, and its `new_warnings`."""
    return {"variant": variant, "patches": [{
        "number": row.number, "subject": clean(row.subject), "builds": row.after is not None,
        "seconds": None if row.after is None else round(row.after.build.seconds, 1),
        "reused": None if row.after is None else row.after.build.reused,
        "rebuilt": None if row.after is None else row.after.build.rebuilt,
        "error": None if row.error is None else [clean(text) for text in (row.error.what, *row.error.detail)],
        "new_warnings": [{"file": clean(one.file), "text": clean(one.text)} for one in row.new_warnings],
    } for row in patches]}
