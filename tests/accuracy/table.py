# SPDX-License-Identifier: GPL-2.0-only
"""Measures all rows and writes them as the table of docs/accuracy.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline
from harness.engine import Inputs
from harness.store import Store
from tests.accuracy import lab
from tests.accuracy.lab import Pair, Tools
from tests.accuracy.seed import CONFIGS, Expected, Seed
from tests.conftest import ROOT

DOCUMENT = ROOT / "docs" / "accuracy.md"
SECONDS = 1200


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All rows of one configuration, by the row's key."""

    pairs: Mapping[str, Pair]
    tools: Mapping[str, Tools]


def measure(seeds: Sequence[Seed], inputs: Inputs, store: Store, folder: Path) -> dict[str, Measured]:
    """Make every pair and ask the kernel's own tools about it, by configuration."""
    deadline = Deadline.after(SECONDS)
    found = {}
    for config in CONFIGS:
        pairs = lab.make(seeds, config, inputs, store, folder / config, deadline)
        found[config] = Measured(pairs={pair.seed.key: pair for pair in pairs},
                                 tools=lab.kernels_own(pairs, folder / config, deadline))
    return found


def rows(seeds: Sequence[Seed], measured: Mapping[str, Measured]) -> list[str]:
    """The lines of the table, its head included."""
    lines = ["| change | object | verdict, lean | verdict, debug | scripts/objdiff | bloat-o-meter |",
             "|---|---|---|---|---|---|"]
    for seed in seeds:
        lean, debug = (_cell(seed.expected[config]) for config in CONFIGS)
        tools = [measured[config].tools[seed.key] for config in CONFIGS]
        cells = (seed.name, f"`{seed.object}`", lean, "the same" if debug == lean else debug,
                 _once(*(tool.objdiff for tool in tools)), _once(*(tool.bloat for tool in tools)))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(expected: Expected) -> str:
    by_bytes, proved = str(expected.by_bytes), str(expected.proved)
    return by_bytes if by_bytes == proved else f"{by_bytes}; *proved:* {proved}"


def _once(lean: str, debug: str) -> str:
    return lean if lean == debug else f"{lean}; debug: {debug}"


_TABLE = re.compile(r"^\| change .*?(?=\n\n|\n\Z)", re.M | re.S)


def documented() -> list[str]:
    """The table as it stands in the document."""
    found = _TABLE.search(DOCUMENT.read_text(encoding="utf-8"))
    return found[0].splitlines() if found else []


def write(lines: Sequence[str], toolchain: str) -> None:
    """Put a table into the document, and what it was made with."""
    text = DOCUMENT.read_text(encoding="utf-8")
    text = _TABLE.sub(lambda _: "\n".join(lines), text)
    DOCUMENT.write_text(re.sub(r"^Made with .*$", f"Made with {toolchain}.", text, flags=re.M), encoding="utf-8")
