# SPDX-License-Identifier: GPL-2.0-only
"""store: a disk that fills up at any moment is the lab's fault, leaves nothing behind, and can be gone on with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def tiny_disks(what: str) -> list[dict[str, Any]]:
    """What `tests.unit.tiny_disk` says of each disk."""
    may = subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True,
                         check=False)
    if may.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {may.stderr.strip()}")
    done = subprocess.run(["unshare", "-Urm", sys.executable, "-m", "tests.unit.tiny_disk", what], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("what", "least"), [("entry", 30), ("tree", 100)])
def test_every_size_of_a_disk_that_is_too_small(what: str, least: int) -> None:
    """Sizes differ by one page or one inode, so that each step of the work meets the end of the disk once."""
    rows = tiny_disks(what)
    assert len(rows) > least
    assert sum(row["came"] == "right" for row in rows) == 2
    for row in rows:
        assert row["came"] in ("right", "InfraError"), row
        assert row.get("code") in (None, 3), row
        assert row["came"] == "right" or "cache cannot be written" in row["said"] or "disk is full" in row["said"], row
        assert row["came"] == "right" or "harness cache prune" in row["said"], row
        assert (row["left"], row["then"], row["damaged"]) == ([], "right", False), row
