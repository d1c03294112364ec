# SPDX-License-Identifier: GPL-2.0-only
"""Whole runs of the `harness` command, as a user starts them; builds come from the user's cache where it has them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from harness.plan.plan import read_plan
from harness.store.store import default_root
from tests.build.conftest import write_patch
from tests.conftest import PLAN, ROOT

HARNESS = (sys.executable, "-m", "harness")
ALL = tuple(row.name for row in read_plan(PLAN).variants)
MAIN = ("none", "both", "mptcp")
"""Variants of the customer's plan in which every suite and claim has its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A finished `harness` command and its run folder."""

    code: int
    out: str
    err: str
    folder: Path
    variants: tuple[str, ...] = ()

    @property
    def results(self) -> dict[str, Any]:
        value = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
        assert isinstance(value, dict)
        return value

    def rows(self, kind: str, **wanted: str) -> list[dict[str, Any]]:
        return [row for row in self.results["rows"]
                if row["kind"] == kind and all(row[key] == value for key, value in wanted.items())]

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err[-4000:]}"


def half_written() -> list[Path]:
    """Staging folders in the cache that no living process holds: what a run left behind."""
    found = []
    for path in (default_root() / "staging").glob("*"):  # a new cache has no such folder
        lock = FileLock(f"{path}.lock")
        if path.is_dir():
            with contextlib.suppress(Timeout), lock.acquire(timeout=0):
                # whoever held it may have removed the folder since
                if path.is_dir():
                    found.append(path)
    return found


Runner = Callable[..., Ran]


def harness(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, with no terminal."""
    return subprocess.run([*HARNESS, *arguments], cwd=cwd, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """`harness run PLAN ...`, with its run folder in `tmp_path`."""
    def start(plan: Path, *arguments: str) -> Ran:
        folder = tmp_path / "run"
        done = harness("run", str(plan), "--out", str(folder), *arguments, cwd=tmp_path)
        return Ran(code=done.returncode, out=done.stdout, err=done.stderr, folder=folder)

    return start


@pytest.fixture(scope="session", params=[MAIN, pytest.param(ALL, marks=pytest.mark.slow)], ids=["main", "all"])
def customer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The README's first command, in a copy of what git has or would add: with what `make run` installs, no more.

    In `make test` it is kept to `MAIN`.
    """
    variants: tuple[str, ...] = request.param
    copy = tmp_path_factory.mktemp("customer")
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    only = [] if variants == ALL else [f"ARGS={' '.join(f'-v {name}' for name in variants)}"]
    done = subprocess.run(["make", "run", *only], cwd=copy, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)
    folders = sorted((copy / "runs").glob("*")) or [copy]
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr, folder=folders[-1], variants=variants)


PlanMaker = Callable[..., Path]


@pytest.fixture
def derived_plan(tmp_path: Path) -> PlanMaker:
    """Writes a plan like the customer's, on the same base, with patches added to the series or put in its place."""
    def make(*, extra: Sequence[Path] = (), series: bool = True, variants: Sequence[str] = ("both",),
             suites: Sequence[str] = (), more: str = "") -> Path:
        text = (PLAN / "plan.yaml").read_text(encoding="utf-8")
        source = text[text.index("source:"):text.index("base:")]
        rows = [line for line in text.splitlines() if line.strip().startswith(tuple(f"{name}:" for name in variants))
                and "[" in line]
        patches = [f"{PLAN}/series/*.patch"] * series + [str(path) for path in extra]
        (tmp_path / "plan.yaml").write_text("\n".join([
            source, f"base: {PLAN}/base/*.patch", f"series: {json.dumps(patches)}", "variants:", *rows,
            *([f"suites: {json.dumps(list(suites))}"] if suites else []), more, ""]), encoding="utf-8")
        return tmp_path

    return make


DummyPatch = Callable[[str, str], Path]


@pytest.fixture
def dummy_patch(clean_tree: Path, tmp_path: Path) -> DummyPatch:
    """Makes a patch that replaces a text in the dummy driver, which the customer's series does not touch."""
    def make(old: str, new: str) -> Path:
        before = (clean_tree / "drivers/net/dummy.c").read_text(encoding="utf-8")
        assert before.count(old) == 1
        return write_patch(tmp_path / "extra", "drivers/net/dummy.c", before, before.replace(old, new))

    return make
