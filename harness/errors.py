# SPDX-License-Identifier: GPL-2.0-only
"""The one error tree, split by whose fault it is, and the exit codes that follow from it.

`UsageError` is the caller's, `KernelError` the fault of the kernel or series under test, `InfraError` the lab's.
A message says what happened, where, and what to do about it. Libraries raise; only `cli` prints and exits.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of the `harness` command."""

    PASSED = 0
    FAILED = 1
    USAGE = 2
    LAB = 3
    INCONCLUSIVE = 4
    INTERRUPTED = 130


class HarnessError(Exception):
    """What every error of ours is.

    Args:
        what: what happened, one sentence without a full stop.
        where: the file and line, the patch, the machine or the option it happened at.
        hint: what the reader can do about it.
        detail: lines of evidence (the end of a command's output, a compiler's first errors), shown indented.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.LAB

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None,
                 detail: tuple[str, ...] = ()) -> None:
        super().__init__(what, where, hint, detail)
        self.what = what
        self.where = where
        self.hint = hint
        self.detail = detail

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        lines += [f"    {line}" for line in self.detail]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class UsageError(HarnessError):
    """The caller asked for something that cannot be: a bad plan, a missing file, an unknown name."""

    exit_code = ExitCode.USAGE


class KernelError(HarnessError):
    """The tree, series or kernel under test is at fault: it does not apply, configure, compile or boot."""

    exit_code = ExitCode.FAILED


class InfraError(HarnessError):
    """The lab is at fault: a tool is missing, the disk is full, QEMU will not start."""

    exit_code = ExitCode.LAB


class DeadlineExpired(HarnessError):  # noqa: N818 - it says what happened
    """A wait ran out of its time budget. Whoever knows whose fault that is raises one of the others from it."""


DISK_HINT = "free some space (`harness cache prune`), or point HARNESS_CACHE at another file system"
"""What to do about a disk that is full or fails."""
