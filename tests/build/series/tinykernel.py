# SPDX-License-Identifier: GPL-2.0-only
"""A git repository that is small and looks like a kernel's, with a topic branch of three patches."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

TITLES = ["net: one", "net: two", "net: three"]
LINES = [f"line {number}\n" for number in range(1, 31)]
WHO = {"GIT_AUTHOR_NAME": "harness test", "GIT_AUTHOR_EMAIL": "test@localhost",
       "GIT_COMMITTER_NAME": "harness test", "GIT_COMMITTER_EMAIL": "test@localhost",
       "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z",
       "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def git(repo: Path, *arguments: str, stdin: str | None = None) -> str:
    """Run git in a repository; what it printed."""
    return subprocess.run(["git", "-C", str(repo), *arguments], check=True, capture_output=True, text=True,
                          input=stdin, env={**os.environ, **WHO}).stdout.strip()


def write(repo: Path, name: str, text: str) -> None:
    (repo / name).parent.mkdir(parents=True, exist_ok=True)
    (repo / name).write_text(text)


def commit(repo: Path, subject: str, **files: str) -> str:
    """Commit files (`net__a_c` is net/a.c); the commit's id."""
    for name, text in files.items():
        write(repo, name.replace("__", "/").replace("_c", ".c"), text)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", f"{subject}\n\nBecause of a test.")
    return git(repo, "rev-parse", "HEAD")


def edited(*changes: tuple[int, str]) -> str:
    """The text of net/a.c with some lines (counted from 1) replaced."""
    lines = list(LINES)
    for number, text in changes:
        lines[number - 1] = f"{text}\n"
    return "".join(lines)


def make(path: Path) -> Path:
    """The repository: v1 on main; on the branch topic, net: one, two and three on top of it."""
    path.mkdir(parents=True)
    git(path, "init", "-q", "-b", "main")
    write(path, "Kconfig", "config X\n")
    write(path, "Makefile", "all:\n")
    commit(path, "Linux 1", net__a_c=edited())
    git(path, "tag", "v1")
    git(path, "checkout", "-q", "-b", "topic")
    commit(path, "net: one", net__a_c=edited((5, "first")))
    commit(path, "net: two", net__a_c=edited((5, "first"), (15, "second")))
    commit(path, "net: three", net__a_c=edited((5, "first"), (15, "second"), (25, "third")))
    git(path, "checkout", "-q", "main")
    return path


def mails(repo: Path, *options: str, revisions: str = "v1..topic") -> list[str]:
    """The topic branch as mails; with --cover-letter, that first."""
    out = repo.parent / f"mails-{len(list(repo.parent.iterdir()))}"
    git(repo, "format-patch", "-q", "--no-signature", "-o", str(out), *options, revisions)
    return [path.read_text() for path in sorted(out.iterdir())]
