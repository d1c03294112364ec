# SPDX-License-Identifier: GPL-2.0-only
"""A pinned source (a Debian source package, a tarball, a folder, a commit) to a clean tree in the cache."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from harness import proc
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernel import gitplace, gitrepo
from harness.kernel.gitrepo import Commit
from harness.sandbox import bwrap, foreign
from harness.store.store import Store, digest, file_digest

Progress = Callable[[str], None]


class SourceKind(StrEnum):
    """Where a source comes from, as a plan names it."""

    DEBIAN = "debian"
    TARBALL = "tarball"
    DIR = "dir"
    GIT = "git"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A kernel source, pinned.

    Attributes:
        kind: where it comes from.
        name: the Debian package's name, the path of the tarball or folder, or the repository's path or URL.
        version: the Debian package's version, or the ref in the repository; empty for the others.
        sha256: of the tarball (for Debian the one inside the package), in hex; for a folder, of its content; for a
            commit the id of its tree, which is git's own digest of the content.
        commit: what the ref was resolved to.
    """

    kind: SourceKind
    name: str
    version: str = ""
    sha256: str
    commit: Commit | None = None

    @property
    def key(self) -> str:
        """What its tree is cached under: its content alone."""
        return digest("source", self.sha256)

    def __str__(self) -> str:
        pinned = f" ({self.commit.id[:12]})" if self.commit else ""
        return f"{self.kind}: {self.name}{' ' + self.version if self.version else ''}{pinned}"


def debian(name: str, *, version: str, sha256: str) -> Source:
    """The tarball in Debian's package `name` of exactly this version."""
    return Source(kind=SourceKind.DEBIAN, name=name, version=version, sha256=sha256)


def tarball(path: Path, *, sha256: str | None) -> Source:
    """A tarball; without a checksum it is pinned to what it holds now.

    Raises:
        UsageError: it is not there, or has another checksum.
    """
    with _readable("tarball", path):
        if not path.is_file():
            raise UsageError("there is no such tarball", where=str(path))
        found = file_digest(path)
    if sha256 not in (None, found):
        raise UsageError(f"the tarball has checksum {found}, the plan says {sha256}", where=str(path),
                         hint="get the right file, or correct `sha256`")
    return Source(kind=SourceKind.TARBALL, name=str(path), sha256=found)


def folder(path: Path) -> Source:
    """A folder with a kernel tree, pinned to its content now (`.git` left out).

    Raises:
        UsageError: it is not there, cannot be read, is no kernel tree, or was built in.
    """
    with _readable("folder", path):
        if not (path / "Kconfig").is_file() or not (path / "Makefile").is_file():
            raise UsageError("not a kernel tree: no Kconfig and Makefile in it", where=str(path))
        if (path / ".config").exists() or (path / "include" / "config").exists():
            raise UsageError("the tree was built in, and kbuild refuses separate outputs for such a tree",
                             where=str(path), hint=f"make -C {path} mrproper")
        return Source(kind=SourceKind.DIR, name=str(path), sha256=_folder_digest(path))


@contextmanager
def _readable(kind: str, path: Path) -> Iterator[None]:
    """Have what cannot be read blamed on who named it."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"the {kind} cannot be read: {error.strerror}", where=str(error.filename or path),
                         hint="may the user who runs this read all of it?") from error


def git(url: str, ref: str, store: Store, *, deadline: Deadline, progress: Progress = lambda _: None) -> Source:
    """A commit in a git repository, pinned to what the ref stands at now.

    Args:
        url: a URL, or the absolute path of a repository on this host, which is only read.

    Raises:
        UsageError: there is no such repository, or no such commit in it.
        InfraError: it cannot be reached now.
    """
    place = gitplace.find(url)
    with gitrepo.mirror(place, [ref], store, deadline=deadline, progress=progress) as opened:
        commit = opened.resolve(ref, deadline)
    return Source(kind=SourceKind.GIT, name=url, version=ref, sha256=commit.tree, commit=commit)


def fetch(source: Source, store: Store, *, deadline: Deadline, progress: Progress = lambda _: None) -> Path:
    """The clean tree of a source, unpacked once into the cache; never to be written to.

    Raises:
        UsageError: what the plan pins cannot be had.
        InfraError: the package archive or the disk fails us.
    """
    def make(stage: Path) -> None:
        _UNPACK[source.kind](source, store, stage, deadline, progress)
        if not (stage / "Kconfig").is_file():
            raise UsageError("no kernel tree in it: no Kconfig at its top", where=str(source))
        _check_entries(stage, str(source))

    return store.get("source", source.key, make, deadline=deadline, content=False, waiting=progress, what=str(source))


def _from_debian(source: Source, store: Store, stage: Path, deadline: Deadline, progress: Progress) -> None:
    installed = Path("/usr/src") / f"{source.name}.tar.xz"
    if installed.is_file() and file_digest(installed) == source.sha256:
        _untar(installed, stage, deadline, progress)
        return
    with store.staging() as work:
        progress(f"downloading {source.name} {source.version}")
        try:
            proc.run(["apt-get", "download", "-qq", f"{source.name}={source.version}"], cwd=work, deadline=deadline)
        except proc.CommandFailed as failed:
            raise UsageError(f"Debian's archive does not give {source.name} {source.version}", where=str(source),
                             detail=failed.completed.tail,
                             hint=f"`apt-get update`, then `apt-cache policy {source.name}` lists what there is; "
                                  "pin another version with its sha256 in the plan") from failed
        (package,) = work.glob("*.deb")
        proc.run(["dpkg-deb", "-x", str(package), str(work / "x")], deadline=deadline)
        held = work / "x" / "usr" / "src" / f"{source.name}.tar.xz"
        if not held.is_file() or file_digest(held) != source.sha256:
            found = file_digest(held) if held.is_file() else "no tarball"
            raise UsageError(f"the package holds {found}, the plan says {source.sha256}", where=str(source),
                             hint="correct `sha256` in the plan if the package is the one you mean")
        _untar(held, stage, deadline, progress)


def _from_tarball(source: Source, store: Store, stage: Path, deadline: Deadline, progress: Progress) -> None:
    del store
    if file_digest(Path(source.name)) != source.sha256:
        raise UsageError("the tarball changed while we worked", where=source.name)
    _untar(Path(source.name), stage, deadline, progress)


def _from_dir(source: Source, store: Store, stage: Path, deadline: Deadline, progress: Progress) -> None:
    del store
    progress(f"copying {source.name}")
    proc.run(["cp", "-a", "--reflink=auto", f"{source.name}/.", str(stage)], deadline=deadline)
    foreign.remove(stage / ".git")
    if _folder_digest(stage) != source.sha256:
        raise UsageError("the folder changed while it was copied", where=source.name, hint="run again")


def _from_git(source: Source, store: Store, stage: Path, deadline: Deadline, progress: Progress) -> None:
    assert source.commit is not None
    gitrepo.checkout(source.commit, stage, store, deadline=deadline, progress=progress)


_UNPACK = {SourceKind.DEBIAN: _from_debian, SourceKind.TARBALL: _from_tarball, SourceKind.DIR: _from_dir,
           SourceKind.GIT: _from_git}


def _check_entries(tree: Path, source: str) -> None:
    """Refuse a tree with what a build would not be allowed to leave (`harness.sandbox.foreign`)."""
    try:
        wrong, _ = foreign.survey(tree)
    except OSError as error:
        raise UsageError(f"the source has a folder that cannot be read: {error.strerror}", where=source) from error
    if wrong:
        raise UsageError(f"the source has {wrong}", where=source, hint="take it out of the source")


def _untar(archive: Path, stage: Path, deadline: Deadline, progress: Progress) -> None:
    """Unpack in the sandbox, so that no name or link in a foreign archive reaches out of `stage`."""
    progress(f"unpacking {archive.name}")
    argv = bwrap.boxed(["tar", "-x", "-f", "/archive", "-C", "/tree", "--strip-components=1", "--no-same-owner"],
                         read={"/archive": archive}, write={"/tree": stage}, cwd="/tree",
                         env={"XZ_DEFAULTS": "--threads=0"})
    try:
        bwrap.run(argv, deadline=deadline, where=str(archive), inspected=False)
    except proc.CommandFailed as failed:
        raise UsageError("the archive cannot be unpacked", where=str(archive),
                         detail=failed.completed.tail) from failed


def _folder_digest(path: Path) -> str:
    """SHA-256 over names, modes and contents below a folder, its `.git` left out; links by their target.

    Raises:
        OSError: something in it cannot be read, which must not be taken for a folder without it.
    """
    rows: list[tuple[str, int, str]] = []
    for where, folders, names in os.walk(path, onerror=_raise):
        for entries in (folders, names):
            if where == str(path) and ".git" in entries:  # in a worktree, a file
                entries.remove(".git")
        for name in [*names, *(entry for entry in folders if Path(where, entry).is_symlink())]:
            full = Path(where, name)
            mode = full.lstat().st_mode
            if stat.S_ISLNK(mode):
                rows.append((str(full.relative_to(path)), 0, str(full.readlink())))
            elif stat.S_ISREG(mode):
                rows.append((str(full.relative_to(path)), mode & 0o111, file_digest(full)))
    return digest("folder", sorted(rows))


def _raise(error: OSError) -> NoReturn:
    raise error
