# SPDX-License-Identifier: GPL-2.0-only
"""`git am` in a small repository, in the sandbox; and where a patch does not apply, why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import proc
from harness.deadline import Deadline
from harness.errors import KernelError
from harness.kernel.gitrepo import ATTRIBUTES
from harness.kernel.series import Patch, hunk_at
from harness.sandbox import bwrap

_ENV: Mapping[str, str] = {
    "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "harness", "GIT_AUTHOR_EMAIL": "harness@localhost",
    "GIT_COMMITTER_NAME": "harness", "GIT_COMMITTER_EMAIL": "harness@localhost",
}

_AM = ("am", "-q", "--keep-non-patch", "--keep-cr", "--no-gpg-sign")
_LEAST_CONTEXT = "-C1"
"""One line of context must still be as it was on each side; patch(1) asks for no more with its default fuzz."""


def begin(repo: Path, deadline: Deadline) -> None:
    """Make a repository of the files in a folder."""
    _git(repo, ["init", "-q", "--template=", "-b", "main"], deadline)
    (repo / ".git" / "info").mkdir()
    (repo / ".git" / "info" / "attributes").write_text(ATTRIBUTES, encoding="ascii")
    _git(repo, ["add", "-A", "-f", "."], deadline)
    _git(repo, ["commit", "-q", "--allow-empty", "-m", "source"], deadline)


def files(repo: Path, deadline: Deadline) -> set[str]:
    """The paths of all files that are tracked."""
    return set(_git(repo, ["ls-files", "-z"], deadline).stdout.split("\0")) - {""}


def apply(repo: Path, patch: Patch, number: int, total: int, deadline: Deadline, *, fuzz: bool) -> tuple[str, ...]:
    """Apply one patch and commit it; what git says of context that it had to leave out, where `fuzz` allows that.

    Raises:
        KernelError: it does not apply; says at which file and hunk, in git's words, and why, where that can be told.
    """
    try:
        _git(repo, _AM, deadline, mail=patch.text)
    except proc.CommandFailed as failed:
        _git(repo, ["am", "--abort"], deadline, check=False)
        reduced = _git(repo, ["apply", "--check", "-v", _LEAST_CONTEXT], deadline, mail=patch.text, check=False)
        if reduced.returncode != 0 or not fuzz:
            raise _refused(repo, patch, number, total, failed, reduced, deadline) from failed
        _git(repo, [*_AM, _LEAST_CONTEXT], deadline, mail=patch.text)
        return tuple(f"patch {number} of {total} ({patch.subject}) applied with fuzz: {row}" for row in _said(reduced))
    return ()


def _said(reduced: proc.Completed) -> list[str]:
    """What `git apply -v` says of hunks that it could not place as they are."""
    rows = f"{reduced.stdout}\n{reduced.stderr}".splitlines()
    return [row for row in rows if row.startswith("Context reduced")] or ["with less context"]


def _refused(repo: Path, patch: Patch, number: int, total: int, failed: proc.CommandFailed, reduced: proc.Completed,
             deadline: Deadline) -> KernelError:
    said = [line for line in f"{failed.completed.stdout}\n{failed.completed.stderr}".splitlines()
            if line.startswith(("error:", "fatal:"))]
    match = next(filter(None, (re.match(r"error: patch failed: (.+):(\d+)$", line) for line in said)), None)
    where = patch.where
    if match:
        hunk = hunk_at(patch, match[1], int(match[2]))
        where += f": {match[1]}, hunk {hunk}" if hunk else f": {match[1]}:{match[2]}"
    why, hint = _why(repo, patch, reduced, deadline)
    return KernelError(f"patch {number} of {total} does not apply{why}: {patch.subject}", where=where,
                       detail=tuple(said), hint=hint)


def _why(repo: Path, patch: Patch, reduced: proc.Completed, deadline: Deadline) -> tuple[str, str]:
    """What is wrong with it, and what to do: found by asking git whether it would apply otherwise."""
    def would(*options: str) -> bool:
        done = _git(repo, ["apply", "--check", *options], deadline, mail=patch.text, check=False)
        return done.returncode == 0

    if would("--reverse"):
        return ", because it is already in the tree", "take it out of the series, or start from an older source"
    if reduced.returncode == 0:
        return (", except with fuzz, as lines around its change differ",
                "rebase it, or say `fuzz: true` in the plan to have it applied nevertheless")
    if would("--ignore-whitespace"):
        return (", because of its white space (tabs, or CR at the end of lines)",
                "it was damaged on its way, or the file in the tree has other line ends; get it anew")
    return "", "rebase it onto the source and patches before it"


def _git(repo: Path, arguments: Sequence[str], deadline: Deadline, *, mail: bytes | None = None,
         check: bool = True) -> proc.Completed:
    argv = bwrap.boxed(["git", *arguments], read={}, write={"/repo": repo}, cwd="/repo", env=_ENV)
    return bwrap.run(argv, deadline=deadline, stdin=mail, where="git am", check=check)
