# SPDX-License-Identifier: GPL-2.0-only
"""`harness test`: guest tests on one kernel, with pytest."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from harness.claims import Verdict, exit_code
from harness.cli import common
from harness.cli.common import ACCEL, ARCH, CACHE, PLAN, QUIET, SIDE
from harness.cli.prepare import prepare
from harness.errors import ExitCode

if TYPE_CHECKING:
    import pytest

_CODES = {2: ExitCode.USAGE, 4: ExitCode.USAGE, 5: ExitCode.USAGE}
"""Ours for pytest's (pytest.ExitCode) where no test was judged: a file that is no Python, and that holds no test."""


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

    from harness.jobs.suites import STRICT
    from harness.vm.nic import DEFAULT_MODEL

    folder = (out or common.run_folder(f"{plan.resolve().name}-tests")).resolve()
    common.new_folder(folder)
    ready = prepare(plan, variant, arch, side, folder, accel, cache, quiet)
    session = ready.lab.session(ready.built, folder, nic or DEFAULT_MODEL, ready.sides)
    session.write(folder / "session.json")
    Path(session.results).touch()
    interrupts = _Interrupts()
    with _no_way_out():
        code = pytest.main(["-p", "harness.pytest_plugin", f"--harness-session={folder}/session.json",
                            "-p", "no:cacheprovider", "--override-ini=addopts=", *STRICT, *words], plugins=[interrupts])
    if not quiet:
        click.echo(f"consoles and results: {folder}", err=True)
    if interrupts.seen:
        sys.exit(ExitCode.INTERRUPTED)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        sys.exit(_CODES.get(code, ExitCode.LAB))
    rows = [json.loads(line) for line in Path(session.results).read_text(encoding="utf-8").splitlines()]
    ended = [row for row in rows if row["event"] == "finished"]
    if code == pytest.ExitCode.OK:
        _say_what_pytest_does_not(ended)
        if left := _never_ended(rows):
            click.echo(f"harness: {len(left)} of {len(left) + len(ended)} tests have no result, the first: {left[0]}",
                       err=True)
            sys.exit(ExitCode.LAB)
    judged = exit_code(Verdict(row["verdict"]) for row in ended)
    sys.exit(ExitCode.LAB if judged is ExitCode.PASSED and code != pytest.ExitCode.OK else judged)


@contextmanager
def _no_way_out() -> Iterator[None]:
    """For the block `os._exit` ends this process as a crash, whatever a test asks for; a copy of it (fork) may go."""
    ours, leave, terminal = os.getpid(), os._exit, os.dup(2)

    def end(status: int) -> NoReturn:
        if os.getpid() == ours:
            os.write(terminal, b"harness: a test has ended pytest by os._exit; no result is whole\n")
            status = ExitCode.LAB
        leave(status)

    os._exit = end
    try:
        yield
    finally:
        os._exit = leave
        os.close(terminal)


def _never_ended(rows: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """The tests that were to run and have no result, as where one calls `pytest.exit(returncode=0)`."""
    planned, ended = (Counter(row["id"] for row in rows if row["event"] == event) for event in ("planned", "finished"))
    return tuple(name.partition("::")[2] for name in (planned - ended).elements())


class _Interrupts:
    """Knows whether pytest was interrupted; where a file cannot be read it is, too, by itself (Session.Interrupted)."""

    seen = False

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.seen = excinfo.type is KeyboardInterrupt


def _say_what_pytest_does_not(ended: Sequence[Mapping[str, str]]) -> None:
    """Name the tests that passed for it and have earned no pass, and say where there is none that passed."""
    for row in ended:
        if row["verdict"] not in (Verdict.PASS, Verdict.SKIP):
            click.echo(f"harness: {row['id'].partition('::')[2]}: {row['reason']}", err=True)
    if all(row["verdict"] == Verdict.SKIP for row in ended):
        click.echo(f"harness: no test passed: {'each was skipped' if ended else 'none was run'}", err=True)
