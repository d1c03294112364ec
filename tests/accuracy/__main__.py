# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tests.accuracy`: make the table of docs/accuracy.md anew. Exit 1 where a verdict is not the one wanted."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from harness.deadline import Deadline
from harness.jobs.inputs import resolve
from harness.plan.plan import read_plan
from harness.store.store import Store, default_root
from tests.accuracy import lab, table
from tests.accuracy.seed import CONFIGS, wrong
from tests.accuracy.seeds import SEEDS
from tests.conftest import PLAN


def main() -> int:
    argparse.ArgumentParser(prog="python -m tests.accuracy", description=__doc__).parse_args()
    inputs = resolve(read_plan(PLAN), Deadline.after(60))
    with tempfile.TemporaryDirectory() as name:
        measured = table.measure(SEEDS, inputs, Store(root=default_root()), Path(name))
        failed = [f"{seed.name}, {config}, {column}: {why}" for seed in SEEDS for config in CONFIGS
                  for column, ask in lab.COLUMNS.items()
                  if (why := wrong(seed.expected[config].of(column), ask(measured[config].pairs[seed.key])))]
        table.write([table.totals(SEEDS, measured), table.rows(SEEDS, measured)],
                    f"{inputs.toolchain.cc_version}, {inputs.toolchain.ld_version}")
    sys.stderr.writelines(f"{line}\n" for line in failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
