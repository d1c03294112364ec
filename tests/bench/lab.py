# SPDX-License-Identifier: GPL-2.0-only
"""What the parts of the bench share: the customer's plan, its kernels, commands that are timed as whole processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.deadline import Deadline
from harness.jobs import boots, builds
from harness.jobs.inputs import Inputs, resolve
from harness.kernel.kbuild import Build
from harness.kernel.tree import prepare
from harness.plan.plan import read_plan
from harness.report.progress import Progress
from harness.store.store import Store, default_root
from tests.conftest import PLAN, ROOT

HARNESS = (sys.executable, "-m", "harness")
Rows = list[tuple[str, str, str]]
"""What was measured, the figure, what it is to be compared with."""


class Lab:
    """The plan and its kernels, from the user's cache, each when it is first asked for.

    Args:
        runs: of each figure that is a median.
    """

    def __init__(self, runs: int) -> None:
        self.runs = runs
        self.store = Store(root=default_root())

    @cached_property
    def inputs(self) -> Inputs:
        return resolve(read_plan(PLAN), Deadline.after(60))

    @cached_property
    def userland(self) -> Path:
        return boots.userland(self.store, self.inputs.arch, progress=Progress().step)

    @cached_property
    def tree(self) -> Path:
        """The base tree."""
        return prepare(self.inputs.trees["base"], self.store, deadline=Deadline.after(900))

    def kernel(self, side: str, variant: str, again: str = "") -> Build:
        progress = Progress()
        config = builds.configure(self.inputs, side, variant, store=self.store, progress=progress)
        return builds.build(self.inputs, side, config, store=self.store, progress=progress, again=again)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the bench: one section of the page.

    Attributes:
        takes: how long, for the help text.
        long: whether it runs only when it is named.
    """

    name: str
    what: str
    takes: str
    measure: Callable[[Lab], Rows]
    long: bool = False


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.monotonic()
    call()
    return time.monotonic() - started


def command(*argv: str, cwd: Path = ROOT, env: dict[str, str] | None = None, codes: tuple[int, ...] = (0,)) -> str:
    """Run a command to its end; what it printed."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})})
    if done.returncode not in codes:
        raise SystemExit(f"{argv}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout
