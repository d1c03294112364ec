# SPDX-License-Identifier: GPL-2.0-only
"""`harness test`: guest tests on one kernel, with pytest."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from harness.cli import common
from harness.cli.common import ACCEL, ARCH, CACHE, PLAN, QUIET, SIDE
from harness.cli.prepare import prepare
from harness.errors import ExitCode

_CODES = {0: ExitCode.PASSED, 1: ExitCode.FAILED, 2: ExitCode.INTERRUPTED, 4: ExitCode.USAGE, 5: ExitCode.USAGE}
"""Ours for pytest's (pytest.ExitCode); no test collected is wrong usage."""


@click.command(context_settings={"ignore_unknown_options": True})
@PLAN
@click.option("--variant", "-v", "variant", required=True, metavar="NAME", help="The variant to test.")
@ARCH
@SIDE
@click.option("--out", type=click.Path(path_type=Path, file_okay=False),
              help="The folder for consoles and results.  [default: runs/PLAN-tests-TIME]")
@ACCEL
@CACHE
@QUIET
@click.option("--nic", metavar="MODEL", help="The model of the NICs.  [default: e1000]")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="FILE... [PYTEST OPTION]...")
def test(plan: Path, variant: str, arch: str | None, side: str, out: Path | None, accel: str | None,
         cache: Path | None, quiet: bool, nic: str | None, words: tuple[str, ...]) -> None:
    """Run guest tests on one kernel of PLAN with pytest, whose options may follow: -k, -x, --pdb, ...

    See docs/guest-tests.md. `harness run` runs those that PLAN names, on all its variants.
    """
    import pytest

    from harness.vm.nic import DEFAULT_MODEL

    folder = (out or common.run_folder(f"{plan.resolve().name}-tests")).resolve()
    common.new_folder(folder)
    ready = prepare(plan, variant, arch, side, folder, accel, cache, quiet)
    session = ready.lab.session(ready.built, folder, nic or DEFAULT_MODEL, ready.sides)
    session.write(folder / "session.json")
    Path(session.results).touch()
    code = pytest.main(["-p", "harness.pytest_plugin", f"--harness-session={folder}/session.json",
                        "-p", "no:cacheprovider", "--override-ini=addopts=", *words])
    if not quiet:
        click.echo(f"consoles and results: {folder}", err=True)
    for line in _unearned(Path(session.results)) if code == 0 else ():
        click.echo(f"harness: {line}", err=True)
        code = pytest.ExitCode.TESTS_FAILED
    sys.exit(_CODES.get(code, ExitCode.LAB))


def _unearned(results: Path) -> list[str]:
    """Tests that passed for pytest and have earned no pass: those that assert nothing."""
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return [f"{row['id'].partition('::')[2]}: {row['reason']}" for row in rows
            if row["event"] == "finished" and row["verdict"] not in ("PASS", "SKIP")]
