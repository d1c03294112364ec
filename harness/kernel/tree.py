# SPDX-License-Identifier: GPL-2.0-only
"""Source + patches to trees: base, patched, and each step between.

A tree is known by its content: a patch whose message alone changed leaves it, and all that was built of it, as it was.

A patch touches a few dozen of 80,000 files. So `git am` runs, in the sandbox, in a small repository that holds only
those files, and the result is laid over a tree of hard links to the clean source: seconds become a fraction of one,
and git itself still judges whether a patch applies. Files in a tree are shared with the source; nobody writes there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness import proc
from harness.deadline import Deadline
from harness.errors import KernelError
from harness.kernel import am
from harness.kernel.series import Patch
from harness.kernel.source import Progress, Source, fetch
from harness.store.store import Store, digest, file_digest

_WRITTEN = 946684800
"""The time of every file a patch wrote (2000-01-01): no build may take such a file for new, since what has to be
built again is decided by content (`harness.kernel.kbuild`)."""
_RULES = 2
"""Part of the key of what was applied: a change of how patches are applied makes all of it new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A source with patches applied in order.

    Attributes:
        name: what reports call it: `base`, `patched`.
        source: what it starts from.
        patches: applied with `git am`, one after the other.
        fuzz: whether a patch may be applied where lines around its change differ.
    """

    name: str
    source: Source
    patches: tuple[Patch, ...] = field(default=())
    fuzz: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a tree holds: its source, and what its patches made of that.

    Attributes:
        source: the digest of the source.
        files: of every file that git wrote, at its path: the bits that let it be executed, and its SHA-256.
        removed: paths of the source that are gone.
    """

    source: str
    files: Mapping[str, tuple[int, str]]
    removed: tuple[str, ...]

    @property
    def key(self) -> str:
        """The digest of all of it."""
        return digest("tree", self.source, dict(self.files), self.removed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What applying a tree's patches came to.

    Attributes:
        files: a folder with every file that git wrote, at its path.
        content: what the tree holds.
        fuzz: where lines around a change differed and that was allowed, in git's words.
    """

    files: Path
    content: Content
    fuzz: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The digest of the tree's content."""
        return self.content.key


def apply(tree: Tree, store: Store, *, deadline: Deadline, progress: Progress = lambda _: None) -> Applied:
    """Apply a tree's patches, once for their text.

    Raises:
        KernelError: a patch does not apply; says which, at which file and hunk, in git's words.
    """
    def make(stage: Path) -> None:
        clean = fetch(tree.source, store, deadline=deadline, progress=progress)
        progress(f"applying {len(tree.patches)} patches: {tree.name}")
        (stage / "files").mkdir()
        with store.staging() as work:
            written, removed, fuzz = _git_am(tree, clean, work / "repo", deadline)
            for name in written:
                (stage / "files" / name).parent.mkdir(parents=True, exist_ok=True)
                (work / "repo" / name).rename(stage / "files" / name)
        (stage / "applied.json").write_text(json.dumps({"written": written, "removed": removed, "fuzz": fuzz}),
                                            encoding="utf-8")

    text = digest("applied", _RULES, tree.source.sha256, [patch.sha256 for patch in tree.patches],
                  *(["fuzz"] if tree.fuzz else []))
    entry = store.get("applied", text, make, deadline=deadline, waiting=progress, what=tree.name)
    facts = json.loads((entry / "applied.json").read_text(encoding="utf-8"))
    files = {name: (_mode(entry / "files" / name), file_digest(entry / "files" / name)) for name in facts["written"]}
    return Applied(files=entry / "files", fuzz=tuple(facts.get("fuzz", ())),
                   content=Content(source=tree.source.sha256, files=files, removed=tuple(facts["removed"])))


def prepare(tree: Tree, store: Store, *, deadline: Deadline, progress: Progress = lambda _: None) -> Path:
    """The folder with the tree, made where the cache lacks it; never to be written to.

    Raises:
        KernelError: a patch does not apply; says which, at which file and hunk, in git's words.
    """
    clean = fetch(tree.source, store, deadline=deadline, progress=progress)
    applied = apply(tree, store, deadline=deadline, progress=progress)
    content = applied.content
    if not (content.files or content.removed):
        return clean

    def make(stage: Path) -> None:
        proc.run(["cp", "-al", f"{clean}/.", str(stage)], deadline=deadline)
        for name in content.removed:
            (stage / name).unlink()
            _remove_empty(stage, name)
        for name in content.files:
            target = stage / name
            target.unlink(missing_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(applied.files / name, target)
            os.utime(target, (_WRITTEN, _WRITTEN))

    key = digest("tree", content.key, _WRITTEN)
    return store.get("tree", key, make, deadline=deadline, waiting=progress, what=tree.name,
                     links=f"source/{tree.source.key}")


def difference(old: Tree, new: Tree, store: Store, deadline: Deadline) -> frozenset[str]:
    """Paths whose content differs between two trees of one source."""
    first, second = (apply(tree, store, deadline=deadline).content for tree in (old, new))
    return differing(first, second, fetch(old.source, store, deadline=deadline))


def differing(old: Content, new: Content, clean: Path) -> frozenset[str]:
    """Paths whose content differs between two trees of the source `clean`: only what a patch touched can."""
    touched = {*old.files, *old.removed, *new.files, *new.removed}
    return frozenset(name for name in touched if _held(old, name, clean) != _held(new, name, clean))


def holds(content: Content, name: str, clean: Path) -> bool:
    """Whether a tree of the source `clean` has a file."""
    return _held(content, name, clean) is not None


def _held(content: Content, name: str, clean: Path) -> tuple[int, str] | None:
    if name in content.removed:
        return None
    try:
        return content.files.get(name) or (_mode(clean / name), file_digest(clean / name))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o111


def _git_am(tree: Tree, clean: Path, repo: Path, deadline: Deadline) -> tuple[list[str], list[str], list[str]]:
    """`git am` the patches on the files they touch; which files there are afterwards, which are gone, and the fuzz."""
    touched = sorted({name for patch in tree.patches for name in patch.touches})
    repo.mkdir()
    before = [name for name in touched if _copy_in(clean, repo, name)]
    am.begin(repo, deadline)
    fuzz = [row for number, patch in enumerate(tree.patches, 1)
            for row in am.apply(repo, patch, number, len(tree.patches), deadline, fuzz=tree.fuzz)]
    after = am.files(repo, deadline)
    for name in after:
        if not stat.S_ISREG((repo / name).lstat().st_mode):
            raise KernelError("a patch made something else than a file", where=name)
    removed = [name for name in before if name not in after]
    _check_room(clean, after, frozenset(removed))
    return sorted(after), removed, fuzz


def _check_room(clean: Path, written: Iterable[str], removed: frozenset[str]) -> None:
    """What git would see in the whole tree and cannot see in the small one: a folder where a file is to be, or a file
    where a folder is.

    Raises:
        KernelError: one is in the way and the series does not remove it.
    """
    for name in written:
        above = [str(path) for path in Path(name).parents if (clean / path).is_file()]
        below = [str(path.relative_to(clean)) for path in (clean / name).rglob("*") if not path.is_dir()]
        for other in (*above, *below):
            if other not in removed:
                raise KernelError(f"a patch makes {name}, and {other} is in the way", where=name,
                                  hint="rebase the series onto the source and patches before it")


def _remove_empty(root: Path, name: str) -> None:
    """The folders that held a removed file and are empty now, as git does."""
    with contextlib.suppress(OSError):  # not empty
        for parent in (root / name).parents:
            if parent == root:
                break
            parent.rmdir()


def _copy_in(clean: Path, repo: Path, name: str) -> bool:
    """Copy a touched file into the small repository; False where the source does not have it.

    Raises:
        KernelError: the path goes through a symbolic link of the tree.
    """
    path = clean
    for part in Path(name).parts:
        path = path / part
        if path.is_symlink():
            raise KernelError("the series changes a file through a symbolic link, which is refused", where=name)
    if not path.is_file():
        return False
    target = repo / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(path.read_bytes())
    target.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
    return True
