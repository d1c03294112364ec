# SPDX-License-Identifier: GPL-2.0-only
"""The whole command on a cache that is full: the lab is to blame, and says so."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.build.conftest import write_patch
from tests.conftest import ROOT
from tests.run.conftest import HARNESS

MOUNTED = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'


@pytest.mark.parametrize("size", ["64k", "2m"])
def test_a_full_disk_is_the_labs_fault(tmp_path: Path, size: str) -> None:
    source, cache = tmp_path / "linux", tmp_path / "cache"
    for folder in (source, cache):
        folder.mkdir()
    for name in ("Kconfig", "Makefile", "file.c"):
        (source / name).write_text("text\n" * 300_000)
    write_patch(tmp_path / "series", "new.c", "", "text\n")
    (tmp_path / "plan.yaml").write_text(
        f"source: {{dir: {source}}}\nseries: series/*.patch\nvariants:\n  none: [qemu-x86_64]\n")
    own = ["unshare", "-Urm", "sh", "-c", MOUNTED, "sh", size, str(cache)]
    may = subprocess.run([*own, "true"], capture_output=True, text=True, check=False)
    if may.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {may.stderr.strip()}")
    done = subprocess.run([*own, *HARNESS, "build", str(tmp_path), "--cache", str(cache)], cwd=ROOT,
                          capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "No space left on device" in done.stderr
    assert "hint: free some space (`harness cache prune`)" in done.stderr
    assert "bug in the harness" not in done.stderr
