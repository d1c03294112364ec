# SPDX-License-Identifier: GPL-2.0-only
"""Measures all rows and writes them as the table of docs/accuracy.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline
from harness.jobs.inputs import Inputs
from harness.store.store import Store
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


def totals(seeds: Sequence[Seed], measured: Mapping[str, Measured]) -> list[str]:
    """The lines of the summary: how often each tool is silent on a change, or reports what is none."""
    said: list[tuple[bool, tuple[bool, bool, bool]]] = []
    for seed in seeds:
        for config in CONFIGS:
            tools = measured[config].tools[seed.key]
            reported = (lab.by_bytes(measured[config].pairs[seed.key]).status == "changed",
                        tools.objdiff.endswith("lines"), tools.bloat != "nothing")
            said.append((seed.expected[config].proved.status == "changed", reported))
    real = sum(changed for changed, _ in said)
    head = (f"of {real} pairs that did change and {len(said) - real} that did not", "silent on a change",
            "reports what is none")
    lines = [f"| {' | '.join(head)} |", "|---|---|---|"]
    for which, name in enumerate(("`harness objdiff`, by bytes", "`scripts/objdiff`, its disassembly",
                                  "`scripts/bloat-o-meter`")):
        silent = sum(changed and not reported[which] for changed, reported in said)
        false = sum(reported[which] and not changed for changed, reported in said)
        lines.append(f"| {name} | {silent} | {false} |")
    return lines


def _cell(expected: Expected) -> str:
    by_bytes, proved = str(expected.by_bytes), str(expected.proved)
    return by_bytes if by_bytes == proved else f"{by_bytes}; *proved:* {proved}"


def _once(lean: str, debug: str) -> str:
    return lean if lean == debug else f"{lean}; debug: {debug}"


_TABLES = tuple(re.compile(rf"^\| {head} .*?(?=\n\n|\n\Z)", re.M | re.S) for head in ("of", "change"))


def documented() -> list[list[str]]:
    """The summary and the table as they stand in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return [found[0].splitlines() if found else [] for found in (pattern.search(text) for pattern in _TABLES)]


def write(tables: Sequence[Sequence[str]], toolchain: str) -> None:
    """Put the summary and the table into the document, and what they were made with."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for pattern, lines in zip(_TABLES, tables, strict=True):
        new = "\n".join(lines)
        text = pattern.sub(lambda _, new=new: new, text)
    DOCUMENT.write_text(re.sub(r"^Made with .*$", f"Made with {toolchain}.", text, flags=re.M), encoding="utf-8")
