# SPDX-License-Identifier: GPL-2.0-only
"""cli.main: what the host refuses is no bug of the harness."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from harness.cli import main
from harness.errors import ExitCode


def failing(number: int, name: str | None) -> Callable[[], None]:
    def call() -> None:
        raise OSError(number, os.strerror(number), name)

    return call


@pytest.mark.parametrize(("number", "name", "said"), [
    (errno.EACCES, "/srv/x", "harness: /srv/x: Permission denied"),
    (errno.ENAMETOOLONG, "a" * 300, f"harness: {'a' * 300}: File name too long"),
    (errno.ENOSPC, None, "harness: output: No space left on device"),
])
def test_what_the_host_refuses_is_said(number: int, name: str | None, said: str,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    assert main._guarded(failing(number, name)) == ExitCode.LAB
    assert capsys.readouterr().err == f"{said}\n"


def test_anything_else_is_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    assert main._guarded(failing(errno.ENOENT, "x")) == ExitCode.LAB
    assert "a bug in the harness" in capsys.readouterr().err
