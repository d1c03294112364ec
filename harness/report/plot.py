# SPDX-License-Identifier: GPL-2.0-only
"""Pure: a stress run as a picture: throughput over time, transfers that were lost, and what was done meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from harness.lab.stress import Record, Sample

_COLOURS = ("#1b6ca8", "#c0392b", "#27856a", "#8e5ea2", "#d08700", "#5d6d7e", "#16a085", "#a04000", "#2e4053",
            "#7d3c98", "#b9770e")


def rates(samples: Sequence[Sample]) -> list[tuple[float, float, int]]:
    """Between one sample and the next: its time, megabits a second that arrived whole, and transfers lost."""
    found = []
    for before, after in itertools.pairwise(samples):
        whole = sum((tally.whole - before.tallies[name].whole) * tally.size for name, tally in after.tallies.items())
        lost = sum(tally.lost - before.tallies[name].lost for name, tally in after.tallies.items())
        found.append((after.at, whole * 8 / 1e6 / (after.at - before.at), lost))
    return found


def render(record: Record, title: str) -> str:
    """The picture, as SVG."""
    import jinja2

    rows = rates(record.samples)
    names = sorted({done.step.action for done in record.done})
    template = jinja2.Template(Path(__file__).with_name("stress.svg").read_text(encoding="utf-8"), autoescape=True,
                               undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return str(template.render(
        title=title, rows=rows, done=record.done, end=max([record.seconds, *(row[0] for row in rows)]),
        most=max((row[1] for row in rows), default=0) or 1, most_lost=max((row[2] for row in rows), default=0) or 1,
        colours={name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}))
