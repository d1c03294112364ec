# SPDX-License-Identifier: GPL-2.0-only
"""What all tests share: the user's cache, and the customer's plan with its kernels, built once for all of them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.jobs import builds
from harness.jobs.inputs import Inputs, resolve
from harness.kernel.kbuild import Build
from harness.kernel.source import fetch
from harness.plan.plan import read_plan
from harness.report.progress import Progress
from harness.store.store import Store, default_root

ROOT = Path(__file__).parents[1]
PLAN = ROOT / "patches" / "skb-extensions"


def pytest_configure() -> None:
    """A job that a shell puts in the background ignores SIGINT, and so would all that tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def store() -> Store:
    return Store(root=default_root())


@pytest.fixture(scope="session")
def progress() -> Progress:
    return Progress(quiet=True)


@pytest.fixture(scope="session")
def inputs() -> Inputs:
    return resolve(read_plan(PLAN), Deadline.after(60))


@pytest.fixture(scope="session")
def clean_tree(inputs: Inputs, store: Store) -> Path:
    """Debian's kernel source as the customer's plan pins it."""
    return fetch(inputs.trees["base"].source, store, deadline=Deadline.after(900))


@pytest.fixture(scope="session")
def base_both(inputs: Inputs, store: Store, progress: Progress) -> Build:
    """The kernel before the series with both options, as `harness run` builds it."""
    config = builds.configure(inputs, "base", "both", store=store, progress=progress)
    return builds.build(inputs, "base", config, store=store, progress=progress)


@pytest.fixture(scope="session")
def patched_both(inputs: Inputs, store: Store, progress: Progress, base_both: Build) -> Build:
    """The patched kernel with both options, as `harness run` builds it: from base."""
    config = builds.configure(inputs, "patched", "both", store=store, progress=progress)
    return builds.build(inputs, "patched", config, store=store, progress=progress)
