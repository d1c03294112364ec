# SPDX-License-Identifier: GPL-2.0-only
"""Series and sources in all their forms, on a small repository and with a store that is empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.store.store import Store
from tests.build.series import tinykernel


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return tinykernel.make(tmp_path / "repo")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(root=tmp_path / "store")
