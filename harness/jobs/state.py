# SPDX-License-Identifier: GPL-2.0-only
"""A run under way: what it works with, and what is known so far. `harness.engine` makes one and its steps fill it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.claims import Row, TestResult, Verdict
from harness.compare.layout import Layout, Unmeasured
from harness.compare.size import SizeReport
from harness.compare.values import Comparison
from harness.errors import ExitCode, HarnessError
from harness.jobs.inputs import Inputs
from harness.kernel.kbuild import Build
from harness.report.progress import Progress
from harness.store.store import Store


@dataclass(slots=True, kw_only=True)
class Run:
    """A run under way: its inputs, where things go, and what is known so far.

    Attributes:
        unfit: by suite and variant, why no test of it could run there (`harness.jobs.suites.never_ran`).
    """

    inputs: Inputs
    store: Store
    out: Path
    progress: Progress
    rows: list[Row] = field(default_factory=list)
    builds: dict[tuple[str, str], Build] = field(default_factory=dict)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    sizes: dict[str, SizeReport] = field(default_factory=dict)
    tests: dict[str, tuple[TestResult, ...]] = field(default_factory=dict)
    unfit: dict[tuple[str, str], Row] = field(default_factory=dict)
    layouts: dict[tuple[str, str, tuple[str, ...]], Layout | Unmeasured] = field(default_factory=dict)

    @contextmanager
    def row(self, kind: str, id_: str, variant: str) -> Iterator[None]:
        """A step that ends in a row of its own when it fails, whoever's fault that is."""
        try:
            yield
        except HarnessError as error:
            verdict = Verdict.FAIL if error.exit_code is ExitCode.FAILED else Verdict.ERROR
            what = f"{error.what} ({error.where})" if error.where else error.what
            self.rows.append(Row(kind=kind, id=id_, variant=variant, verdict=verdict, evidence=what,
                                 detail=(*error.detail, *([f"hint: {error.hint}"] if error.hint else []))))
