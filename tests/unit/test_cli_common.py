# SPDX-License-Identifier: GPL-2.0-only
"""cli.common: the folder of a run is one run's."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.common import new_folder
from harness.errors import InfraError, UsageError


def test_a_run_folder_is_made_or_taken_where_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "new" / "run"):
        new_folder(folder)
        assert list(folder.iterdir()) == []


def test_a_run_folder_is_taken_once_also_while_nothing_is_in_it(tmp_path: Path) -> None:
    new_folder(tmp_path / "run")
    with pytest.raises(UsageError, match="already in use"):
        new_folder(tmp_path / "run")


def test_a_run_folder_that_holds_something_or_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(UsageError, match="already in use"):
        new_folder(tmp_path)
    with pytest.raises(InfraError, match="cannot be made"):
        new_folder(tmp_path / "mine" / "run")
