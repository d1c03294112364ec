# SPDX-License-Identifier: GPL-2.0-only
"""A range of commits in a git repository to a series, as `git format-patch` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import proc
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernel import gitplace
from harness.kernel.gitrepo import Commit, Mirror, Progress, mirror
from harness.kernel.series import Patch, Series, make_patch
from harness.store.store import Store

LONGEST = 1000
"""Commits; a longer range is not a series but a wrong base."""

_FORMAT = ("-c", "core.quotePath=false", "format-patch", "-q", "-o", "/out", "--no-signature", "--no-cover-letter",
           "--no-thread", "--no-attach", "--no-ext-diff", "--no-textconv", "--full-index", "--src-prefix=a/",
           "--dst-prefix=b/")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitRange:
    """Commits that are in `tip` and not in `base`.

    Attributes:
        git: the repository, a URL or an absolute path.
        base: a ref, an id or what else git takes for a commit.
        tip: the same.
    """

    git: str
    base: str
    tip: str

    def __str__(self) -> str:
        return f"{self.base}..{self.tip} of {self.git}"


def read_range(asked: GitRange, store: Store, *, deadline: Deadline, progress: Progress = lambda _: None) -> Series:
    """The series that a range is.

    A range from a merge's first parent to the merge is what it merged; the merge itself is no patch.

    Raises:
        UsageError: there is no such repository or commit, the range is empty or cut off, or has merges.
        InfraError: the repository cannot be reached now.
    """
    place = gitplace.find(asked.git)
    with mirror(place, [asked.base, asked.tip], store, deadline=deadline, history=True, progress=progress) as opened:
        base, tip = (opened.resolve(ref, deadline) for ref in (asked.base, asked.tip))
        commits, notes = _commits(opened, asked, base, tip, deadline)
        with store.staging() as out:
            try:
                opened.git([*_FORMAT, f"{base.id}..{commits[-1]}"], deadline, write={"/out": out})
            except proc.CommandFailed as failed:
                raise UsageError("git cannot make patches of the range", where=str(asked),
                                 detail=failed.completed.tail, hint=place.refresh) from failed
            mails = [path for path in sorted(out.iterdir()) if path.stat().st_size]
            if len(mails) != len(commits):
                raise UsageError(f"{len(commits) - len(mails)} of the {len(commits)} commits change nothing",
                                 where=str(asked), hint="take them out of the branch")
            patches = tuple(_patch(path, asked) for path in mails)
    return Series(patches=patches, notes=(f"{asked}: {len(patches)} commits, {base.id[:12]}..{tip.id[:12]}", *notes))


def _patch(path: Path, asked: GitRange) -> Patch:
    text = path.read_bytes()
    commit = text[:len("From ") + 12].decode(errors="replace").removeprefix("From ")
    return make_patch(text, Path(path.name), origin=f"{asked.git}, commit {commit}")


def _commits(opened: Mirror, asked: GitRange, base: Commit, tip: Commit,
             deadline: Deadline) -> tuple[list[str], tuple[str, ...]]:
    """The commits of the range that are patches, oldest first, and what there is to say of the rest."""
    said = opened.git(["rev-list", "--parents", "--topo-order", "--reverse", f"--max-count={LONGEST + 2}",
                       f"{base.id}..{tip.id}"], deadline, check=False)
    rows = [line.split() for line in said.stdout.splitlines()]
    cut = set((opened.folder / "shallow").read_text(encoding="ascii").split()) if opened.shallow else set()
    if said.returncode != 0 or any(row[0] in cut for row in rows):
        raise UsageError("this repository is a shallow clone and does not have the whole range"
                         if opened.shallow else "the range cannot be read", where=str(asked),
                         detail=said.tail if said.returncode else (), hint=opened.place.deepen)
    if not rows:
        back = opened.git(["merge-base", "--is-ancestor", tip.id, base.id], deadline, check=False).returncode == 0
        raise UsageError("no commit in the range", where=str(asked),
                         hint=f"{asked.tip} is older: write {asked.tip}..{asked.base}" if back and base.id != tip.id
                         else "both name the same commit")
    if len(rows) > LONGEST:
        raise UsageError(f"more than {LONGEST} commits in the range", where=str(asked),
                         hint=f"is {asked.base} really where the series begins?")
    merges = [row for row in rows if len(row) > 2]
    if not merges:
        return [row[0] for row in rows], ()
    if [row[0] for row in merges] == [tip.id] and merges[0][1] == base.id and len(merges[0]) == 3:
        return _merged(opened, asked, rows, deadline)
    raise UsageError("the range has merges, and patches cannot say what those did", where=str(asked),
                     detail=tuple(_shown(opened, [row[0] for row in merges[:5]], deadline)),
                     hint="name a range without merges; MERGE^1..MERGE is what one merge brought in")


def _merged(opened: Mirror, asked: GitRange, rows: Sequence[Sequence[str]],
            deadline: Deadline) -> tuple[list[str], tuple[str, ...]]:
    """What the merge at the range's end brought in, where it changed nothing on its own."""
    merge = rows[-1][0]
    own = opened.git(["diff-tree", "--cc", "--no-commit-id", "--name-only", merge], deadline).stdout.split()
    if own:
        raise UsageError("the merge at the end of the range changes files on its own", where=str(asked),
                         detail=tuple(own[:5]), hint=f"{merge[:12]}^2 is the series without that")
    commits = [row[0] for row in rows[:-1]]
    if not commits:
        raise UsageError("the merge brings in no commit", where=str(asked))
    return commits, (f"{asked}: {merge[:12]} is the merge of the series and no patch",)


def _shown(opened: Mirror, commits: Sequence[str], deadline: Deadline) -> list[str]:
    return opened.git(["log", "--no-walk", "--format=%h %s", *commits], deadline).stdout.splitlines()
