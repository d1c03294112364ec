# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tests.bench [PART...]`: measure on this host and write the parts' sections of docs/benchmarks.md.

Whatever is compared runs side by side within its part, in turns where it is short, and the median of each is taken.
A part that is not asked for keeps its section. Kernels come from the cache; those that are missing are made.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from datetime import UTC, datetime

from harness.jobs.boots import host_facts
from tests.bench import boot, boots, builds, console, machines, objdiff, rebuilds, run, sandbox, ssh
from tests.bench.lab import Lab, Part
from tests.conftest import ROOT

PARTS = {part.name: part for part in (run.PART, builds.PART, rebuilds.PART, boot.PART, machines.PART, ssh.PART,
                                      boots.PART, console.PART, objdiff.PART, sandbox.PART)}
TABLE = ROOT / "docs" / "benchmarks.md"
_HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-only -->
# Benchmarks

`make bench` measures what is not marked long, `python -m tests.bench PART...` the parts it is given. Times are of one
machine on one day: compare the rows of one section with each other, not with another section.
"""


def section(part: Part, lab: Lab, made_by: str) -> str:
    """What a part found, as its section of the page."""
    rows = part.measure(lab)
    cpu = json.dumps(host_facts()["cpu"])
    table = "\n".join(f"| {what} | {figure} | {note} |" for what, figure, note in rows)
    return (f"## {part.name}\n\n{part.what}\n\nMade by `{made_by}` on {datetime.now(UTC):%Y-%m-%d}; "
            f"{len(os.sched_getaffinity(0))} cores, {cpu}, Python {platform.python_version()}.\n\n"
            f"| what | figure | |\n|---|---|---|\n{table}\n")


def written() -> dict[str, str]:
    """The sections that the page has, by name."""
    if not TABLE.exists():
        return {}
    found = re.split(r"^(?=## )", TABLE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {text.splitlines()[0].removeprefix("## "): text.rstrip() + "\n" for text in found}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART",
                        help="; ".join(f"{part.name}: {part.takes}" for part in PARTS.values()))
    parser.add_argument("--runs", type=int, default=5, help="of each figure that is a median")
    options = parser.parse_args()
    unknown = sorted({*options.parts} - {*PARTS})
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; known: {', '.join(PARTS)}")
    chosen = options.parts or [part.name for part in PARTS.values() if not part.long]
    lab = Lab(runs=options.runs)
    for name in chosen:
        print(f"bench: {name}", file=sys.stderr, flush=True)  # noqa: T201
        made_by = " ".join(["python -m tests.bench", name, *([f"--runs {options.runs}"] if options.runs != 5 else [])])
        sections = {**written(), name: section(PARTS[name], lab, made_by)}
        TABLE.write_text("\n".join([_HEAD, *(sections[part] for part in PARTS if part in sections)]), encoding="utf-8")


if __name__ == "__main__":
    main()
