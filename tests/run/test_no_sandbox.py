# SPDX-License-Identifier: GPL-2.0-only
"""Without the sandbox nothing of a series runs: the run stops at once, says what is missing, and the report says so."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.conftest import PLAN, ROOT
from tests.run.conftest import Ran

BROKEN = "#!/bin/sh\n[ $1 = --version ] && exit\necho 'bwrap: Creating new namespace failed' >&2\nexit 1\n"


@pytest.mark.parametrize("option", [(), ("--require-sandbox",)])
@pytest.mark.parametrize(("mode", "said"), [
    (0o644, "not installed on this host: bwrap"),
    (0o755, "the sandbox does not work on this host, and nothing of the series runs without it"),
])
def test_a_run_without_bubblewrap_stops(tmp_path: Path, mode: int, said: str, option: tuple[str, ...]) -> None:
    """bwrap is masked by a mount of the test's own: by nothing, or by one that may not make namespaces."""
    mask = tmp_path / "mask"
    mask.write_text(BROKEN)
    mask.chmod(mode)
    done = subprocess.run(
        ["bwrap", "--dev-bind", "/", "/", "--ro-bind", str(mask), "/usr/bin/bwrap", sys.executable, "-m", "harness",
         "run", str(PLAN), "--out", str(tmp_path / "run"), *option], capture_output=True, text=True, check=False,
        cwd=ROOT)
    ran = Ran(code=done.returncode, out=done.stdout, err=done.stderr, folder=tmp_path / "run")
    assert ran.code == 3, ran
    assert said in ran.err, ran
    assert "hint: " in ran.err, ran
    assert (ran.results["sandbox"], ran.results["exit_code"], ran.results["rows"]) == ("", 3, [])
    (found,) = ET.parse(ran.folder / "junit.xml").iterfind(".//property[@name='sandbox']")
    assert found.get("value") == "none: nothing ran"
