# SPDX-License-Identifier: GPL-2.0-only
"""A git repository of somebody's, read through a bare repository of our own in the cache.

A repository on this host is never copied nor written to: ours borrows its objects (`objects/info/alternates`) and
notes where its refs stand. From a URL, objects are fetched. Either way everything after that reads ours alone, with a
configuration that is known, in the sandbox: no hooks, no user's git configuration, no attributes that alter content.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from harness import proc
from harness.deadline import Deadline
from harness.errors import InfraError, UsageError
from harness.kernel import gitplace
from harness.kernel.gitplace import Place
from harness.sandbox import bwrap
from harness.store.store import Store, digest

Progress = Callable[[str], None]

ENV: Mapping[str, str] = {
    "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "file:https:ssh:git",
}
"""What every git of ours runs with."""

ATTRIBUTES = "* !text !eol !crlf !ident !filter !working-tree-encoding !diff !export-ignore !export-subst\n"
"""Files come out as they were committed, whatever a tree's `.gitattributes` says."""

_INDEX = "/tmp/index"  # noqa: S108 - in the box
_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

_WRITTEN = 946684800
"""The time of every file that is checked out (2000-01-01): the same commit makes the same tree, times included."""

_LAB = re.compile(r"Could not resolve|Connection (?:refused|timed out|reset)|unable to connect|Network is unreachable"
                  r"|timed out|early EOF|No space left", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit that a ref was resolved to.

    Attributes:
        place: the repository.
        ref: as the plan has it.
        id: the commit's.
        tree: the id of its content.
    """

    place: Place
    ref: str
    id: str
    tree: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Our repository, open under its lock.

    Attributes:
        place: whose it mirrors.
        folder: where it is.
        reads: folders of the host that hold objects it borrows; shown in the sandbox at the same paths.
    """

    place: Place
    folder: Path
    reads: tuple[Path, ...] = field(default=())

    @property
    def shallow(self) -> bool:
        """Whether history is cut off somewhere."""
        return (self.folder / "shallow").exists()

    def git(self, arguments: Sequence[str], deadline: Deadline, *, stdin: bytes | None = None, change: bool = False,
            write: Mapping[str, Path] | None = None, cwd: str = "/", env: Mapping[str, str] | None = None,
            check: bool = True) -> proc.Completed:
        """Run git on it in the sandbox; only with `change` may it write to the repository, which is /mirror there."""
        shown = {str(path): path for path in self.reads}
        own = {"/mirror": self.folder}
        argv = bwrap.boxed(["git", *arguments], read=shown if change else {**shown, **own},
                             write={**(write or {}), **(own if change else {})}, cwd=cwd,
                             env={**ENV, "GIT_DIR": "/mirror", **(env or {})})
        return bwrap.run(argv, deadline=deadline, stdin=stdin, where=str(self.place), check=check,
                           inspected=False)

    def resolve(self, ref: str, deadline: Deadline) -> Commit:
        """The commit that a ref, an id or an expression like `v6.1~2` names.

        Raises:
            UsageError: there is none; says what is near, and what to do.
        """
        said = self.git(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"], deadline,
                        check=False)
        if said.returncode != 0:
            raise self.absent(ref, deadline)
        commit = said.stdout.strip()
        tree = self.git(["rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}"], deadline, check=False)
        if tree.returncode != 0:
            raise self.absent(ref, deadline)
        return Commit(place=self.place, ref=ref, id=commit, tree=tree.stdout.strip())

    def absent(self, ref: str, deadline: Deadline) -> UsageError:
        """The error for a ref that names nothing here."""
        if self.shallow:
            return UsageError(f"no commit {ref!r} in this repository, which is a shallow clone: its history is cut off",
                              where=str(self.place), hint=self.place.deepen)
        names = self.git(["for-each-ref", "--format=%(refname:lstrip=2)"], deadline).stdout.split()
        near = get_close_matches(re.split(r"[\^~@:]", ref)[0], names, n=1)
        return UsageError(f"no commit {ref!r} in this repository", where=str(self.place),
                          hint=f"did you mean {near[0]!r}?" if near else self.place.refresh)


@contextmanager
def mirror(place: Place, refs: Sequence[str], store: Store, *, deadline: Deadline, history: bool = False,
           progress: Progress = lambda _: None) -> Iterator[Mirror]:
    """Our repository, with what is needed to resolve `refs` in it, for the length of the block.

    Args:
        place: whose it mirrors.
        refs: what will be asked for.
        history: commits before them are needed, too.

    Raises:
        UsageError: there is no such repository.
        InfraError: it cannot be reached now.
    """
    with store.changing("git", digest("git", str(place)), what=str(place), deadline=deadline,
                        waiting=progress) as folder:
        opened = Mirror(place=place, folder=folder, reads=place.objects)
        if not (folder / "HEAD").exists():
            opened.git(["init", "-q", "--bare", "--template=", "-b", "main"], deadline, change=True)
        for left in (*folder.glob("*.lock"), *folder.glob("refs/**/*.lock")):  # of a git that was killed
            left.unlink()
        (folder / "info").mkdir(exist_ok=True)
        (folder / "info" / "attributes").write_text(ATTRIBUTES, encoding="ascii")
        if place.folder is not None:
            _borrow(opened, deadline)
        else:
            _download(opened, refs, history, deadline, progress)
        yield opened


def checkout(commit: Commit, stage: Path, store: Store, *, deadline: Deadline,
             progress: Progress = lambda _: None) -> None:
    """Write a commit's files into the empty folder `stage`, all with one time; submodules stay empty folders.

    Raises:
        UsageError: its objects are not there (any more).
    """
    with mirror(commit.place, [commit.id], store, deadline=deadline, progress=progress) as opened:
        progress(f"checking out {commit.ref} ({commit.id[:12]}) of {commit.place}")
        try:
            opened.git(["-c", "checkout.workers=0", "read-tree", "--reset", "-u", commit.id], deadline, cwd="/tree",
                       write={"/tree": stage}, env={"GIT_WORK_TREE": "/tree", "GIT_INDEX_FILE": _INDEX})
        except proc.CommandFailed as failed:
            raise _failed(f"{commit.ref} ({commit.id[:12]}) cannot be checked out", commit.place, failed) from failed
    for where, _, names in os.walk(stage):
        for name in names:
            os.utime(os.path.join(where, name), (_WRITTEN, _WRITTEN), follow_symlinks=False)  # noqa: PTH118 - 80,000


def _borrow(opened: Mirror, deadline: Deadline) -> None:
    """Have it read the objects of a repository on this host, and its refs stand where that one's do."""
    theirs, folder = opened.place, opened.folder
    listing = _listing(opened, deadline)
    state = digest(listing, theirs.shallow, [str(path) for path in theirs.objects])
    if (folder / "borrowed").exists() and (folder / "borrowed").read_text(encoding="ascii") == state:
        return
    (folder / "borrowed").unlink(missing_ok=True)
    (folder / "objects" / "info").mkdir(exist_ok=True)
    (folder / "objects" / "info" / "alternates").write_text(f"{theirs.objects[0]}\n", encoding="utf-8")
    (folder / "shallow").unlink(missing_ok=True)
    if theirs.shallow:
        (folder / "shallow").write_text(theirs.shallow, encoding="ascii")
    old = opened.git(["for-each-ref", "--format=%(refname)"], deadline).stdout.split()
    asked = "\n".join(dict.fromkeys([*listing.values(), ""]))
    said = opened.git(["cat-file", "--batch-check"], deadline, stdin=asked.encode()).stdout.splitlines()
    broken = {row.split()[0] for row in said if row.endswith(" missing")}
    new = {name: commit for name, commit in listing.items() if commit not in broken}
    gone = [f"delete {name}" for name in old if name not in new]
    there = [f"update {name} {commit}" for name, commit in new.items() if name.startswith("refs/")]
    try:
        for orders in (gone, there):  # one after the other: refs/heads/a may make room for refs/heads/a/b
            opened.git(["update-ref", "--no-deref", "--stdin"], deadline, stdin="\n".join([*orders, ""]).encode(),
                       change=True)
        _set_head(opened, new, deadline)
    except proc.CommandFailed as failed:
        raise _failed("its refs cannot be followed", theirs, failed) from failed
    (folder / "borrowed").write_text(state, encoding="ascii")


def _set_head(opened: Mirror, listing: Mapping[str, str], deadline: Deadline) -> None:
    """HEAD means theirs, and nothing where they have none."""
    order = ["update-ref", "--no-deref", "HEAD", listing["HEAD"]] if "HEAD" in listing else \
        ["symbolic-ref", "HEAD", "refs/harness/none"]
    opened.git(order, deadline, change=True)


def _listing(opened: Mirror, deadline: Deadline) -> dict[str, str]:
    """Every ref of the repository that is mirrored, and the id it stands at."""
    place = opened.place
    try:
        if place.folder is None:
            said = proc.run(["git", "ls-remote", "--end-of-options", place.url], deadline=deadline, env=_online())
        else:
            (opened.folder / "owner.gitconfig").write_text("[safe]\n\tdirectory = *\n", encoding="ascii")
            shown = {str(path): path for path in (*place.folders, *place.objects)}
            argv = bwrap.boxed(["git", "ls-remote", "--end-of-options", str(place.folder)], cwd="/", write={},
                                 read={**shown, "/config": opened.folder / "owner.gitconfig"},
                                 env={**ENV, "GIT_CONFIG_GLOBAL": "/config"})
            said = bwrap.run(argv, deadline=deadline, where=str(place))
    except proc.CommandFailed as failed:
        raise _failed("the repository cannot be read", place, failed) from failed
    rows = (line.split("\t", 1) for line in said.stdout.splitlines() if "\t" in line)
    return {name: commit for commit, name in rows if not name.endswith("^{}")}


def _download(opened: Mirror, refs: Sequence[str], history: bool, deadline: Deadline, progress: Progress) -> None:
    """Fetch what `refs` need and is not there: one commit where that is enough, else every branch and tag."""
    whole = (opened.folder / "whole").exists()
    if all(map(_ID.fullmatch, refs)) and (whole or not history) and all(
            _stands(opened, f"{ref}^{{tree}}", deadline) for ref in refs):
        return
    listing = _listing(opened, deadline)
    names = [gitplace.full_name(ref, listing) or (ref if _ID.fullmatch(ref) else None) for ref in refs]
    known = [name for name in names if name]
    if whole or history or len(known) < len(names):
        _download_whole(opened, [name for name in known if name in listing], listing, deadline, progress)
        return
    lacking = [name for name in known if listing.get(name, name) != _stands(opened, _own(name), deadline)]
    if not lacking:
        return
    progress(f"fetching {', '.join(refs)} of {opened.place}, without history")
    try:
        _fetch(opened, ["--depth=1"], [f"+{name}:{_own(name)}" for name in lacking], deadline)
    except UsageError:
        if all(name in listing for name in lacking):
            raise
        _download_whole(opened, [], listing, deadline, progress)  # a server need not give out a commit by its id
    if "HEAD" in lacking:
        _set_head(opened, listing, deadline)


def _own(name: str) -> str:
    """What a ref of theirs, or an id, is called here."""
    return name if name.startswith("refs/") else f"refs/harness/{name}"


def _download_whole(opened: Mirror, names: Sequence[str], listing: Mapping[str, str], deadline: Deadline,
                    progress: Progress) -> None:
    """Fetch every branch and tag, with history, and `names` beside them; nothing where all stand where they did."""
    mark, state = opened.folder / "whole", digest(listing, sorted(names))
    if mark.exists() and mark.read_text(encoding="ascii") == state:
        return
    progress(f"fetching {opened.place}")
    more = dict.fromkeys(name for name in (*names, "HEAD") if name in listing)
    _fetch(opened, [*(["--unshallow"] if opened.shallow else []), "--prune", "--update-shallow"],
           ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*",
            *(f"+{name}:{_own(name)}" for name in more
              if not name.startswith(("refs/heads/", "refs/tags/")))], deadline)
    _set_head(opened, listing, deadline)
    mark.write_text(state, encoding="ascii")


def _stands(opened: Mirror, ref: str, deadline: Deadline) -> str:
    """The id that a ref of ours stands at; "" where it is not there."""
    return opened.git(["rev-parse", "--verify", "--quiet", ref], deadline, check=False).stdout.strip()


def _fetch(opened: Mirror, options: Sequence[str], refspecs: Sequence[str], deadline: Deadline) -> None:
    try:
        proc.run(["git", f"--git-dir={opened.folder}", "-c", "gc.auto=0", "fetch", "-q", "--no-recurse-submodules",
                  "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", *options, "--end-of-options",
                  opened.place.url, *refspecs], deadline=deadline, env=_online())
    except proc.CommandFailed as failed:
        raise _failed("it cannot be fetched", opened.place, failed) from failed


def _online() -> dict[str, str]:
    """The environment of a git that goes to the network: ours, the user's way there, and nobody to ask."""
    return {**ENV, **gitplace.network_environment(), "GIT_ASKPASS": "/bin/false", "SSH_ASKPASS": "/bin/false",
            "GIT_SSH_COMMAND": "ssh -oBatchMode=yes"}


def _failed(what: str, place: Place, failed: proc.CommandFailed) -> InfraError | UsageError:
    lab = any(_LAB.search(line) for line in failed.completed.tail)
    hint = "is the network there? say the same again when it is" if lab else place.refresh
    return (InfraError if lab else UsageError)(what, where=str(place), detail=failed.completed.tail, hint=hint)
