# SPDX-License-Identifier: GPL-2.0-only
"""Where a git repository is: a folder of this host, with all the folders that it reads objects from, or a URL."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError

_SCHEMES = ("https", "ssh", "git")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_SCP = re.compile(r"[^/:]+:(?!:).*", re.DOTALL)
"""`host:path`; `name::address`, which makes git run a program of that name, is not among them."""

_KEPT = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "SSH_AUTH_SOCK",
         "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO")
_NESTED = 5
"""How deep git follows alternates of alternates (object-file.c)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A git repository.

    Attributes:
        url: as it was named; for a folder, its path.
        folder: the git folder of a repository on this host (of a worktree, the worktree's own); None for a URL.
        folders: that and, for a worktree, the one it shares with others.
        objects: its objects' folder, then those it borrows from.
        shallow: the commits its history is cut off at, as its `shallow` file has them.
    """

    url: str
    folder: Path | None = None
    folders: tuple[Path, ...] = ()
    objects: tuple[Path, ...] = ()
    shallow: str = ""

    def __str__(self) -> str:
        return self.url

    @property
    def deepen(self) -> str:
        """What to do where history lacks."""
        return f"git -C {self.url} fetch --unshallow" if self.folder else "name a repository with its whole history"

    @property
    def refresh(self) -> str:
        """What to do where a commit lacks."""
        return f"`git -C {self.url} fetch --tags` gets what is new there" if self.folder else \
            f"`git ls-remote {self.url}` lists what it has"


def is_url(text: str) -> bool:
    """Whether git takes this for an address in the network and not for a path."""
    return bool(_URL.fullmatch(text) or _SCP.fullmatch(text) or "::" in text.split("/")[0])


def find(text: str) -> Place:
    """The repository that a plan names, by URL or by an absolute path.

    Raises:
        UsageError: it is not there, or is reached by what is not allowed.
    """
    url = _URL.fullmatch(text)
    if url and url[1].lower() == "file":
        return _local(Path(url[2]))
    if not is_url(text):
        return _local(Path(text))
    if text.startswith("-") or re.search(r"\s|[\x00-\x1f]", text) or not (
            (url and url[1].lower() in _SCHEMES) or (not url and _SCP.fullmatch(text))):
        raise UsageError("no address that repositories are fetched from", where=text,
                         hint=f"a path, {', '.join(f'{scheme}://...' for scheme in _SCHEMES)}, or host:path")
    return Place(url=text)


def full_name(ref: str, listing: Mapping[str, str]) -> str | None:
    """The full name of a ref that a repository lists, by git's own order (gitrevisions(7)); None for what is no ref."""
    return next((name for name in (ref, f"refs/{ref}", f"refs/tags/{ref}", f"refs/heads/{ref}") if name in listing),
                None)


def network_environment() -> dict[str, str]:
    """Variables of the user's that say how to reach the network."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


def _local(path: Path) -> Place:
    own = _git_folder(path)
    common = own
    if (own / "commondir").is_file():
        common = Path(os.path.normpath(own / _line(own / "commondir")))
    objects = _objects(common / "objects", 0)
    shallow = common / "shallow"
    return Place(url=str(path), folder=own, folders=tuple(dict.fromkeys((own, common))), objects=objects,
                 shallow=shallow.read_text(encoding="ascii", errors="replace") if shallow.is_file() else "")


def _git_folder(path: Path) -> Path:
    """The git folder of a clone, a bare repository or a worktree."""
    entry = path / ".git"
    if entry.is_file():
        entry = Path(os.path.normpath(path / _line(entry).removeprefix("gitdir:").strip()))
    for folder in (entry, path):
        if (folder / "HEAD").is_file() and ((folder / "objects").is_dir() or (folder / "commondir").is_file()):
            return folder.resolve()
    raise UsageError("no git repository", where=str(path),
                     hint="name the top folder of a clone, a bare repository, or a URL")


def _objects(folder: Path, depth: int) -> tuple[Path, ...]:
    """A folder of objects and those it borrows from."""
    found = [folder]
    named = folder / "info" / "alternates"
    if named.is_file() and depth <= _NESTED:
        for row in named.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            if row and not row.startswith("#"):
                other = Path(os.path.normpath(folder / row))
                found += _objects(other, depth + 1) if other.is_dir() else ()
    return tuple(dict.fromkeys(found))


def _line(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape").strip()
