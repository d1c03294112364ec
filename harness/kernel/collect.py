# SPDX-License-Identifier: GPL-2.0-only
"""What a plan calls a series, in any of its forms, to a `Series`.

A pattern of files, a folder, an mbox, a quilt `series` file, or a range of commits; docs/plan.md describes them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernel.gitrange import GitRange, read_range
from harness.kernel.gitrepo import Progress
from harness.kernel.mailbox import LARGEST_MBOX, is_plain, read_mailbox
from harness.kernel.mails import remarks, tag
from harness.kernel.series import (
    CRLF,
    LARGEST_PATCH,
    Cover,
    Series,
    has_diff,
    header,
    make_patch,
    read_limited,
    title,
    unix,
)
from harness.store.store import Store

QUILT = "series"
"""The name of the file in which quilt keeps the order of its patches."""


def read_series(asked: Sequence[str | GitRange], root: Path, store: Store, *, deadline: Deadline,
                progress: Progress = lambda _: None) -> Series:
    """The patches that a plan names, in its order.

    Args:
        asked: patterns, folders and files relative to `root`, and ranges of commits.
        root: the plan's folder.
        store: where repositories are mirrored.

    Raises:
        UsageError: something named is not there, or is no patch, no mbox, no repository.
        InfraError: a repository cannot be reached now.
    """
    found = [read_range(item, store, deadline=deadline, progress=progress) if isinstance(item, GitRange)
             else _named(item, root, deadline) for item in asked]
    return _joined(found)


def _joined(parts: Sequence[Series]) -> Series:
    return Series(patches=tuple(patch for part in parts for patch in part.patches),
                  covers=tuple(cover for part in parts for cover in part.covers),
                  notes=tuple(note for part in parts for note in part.notes))


def _named(pattern: str, root: Path, deadline: Deadline) -> Series:
    """The patches of one pattern, in the order of the files' names."""
    where = str(Path(pattern).expanduser()) if pattern.startswith("~") else pattern
    anchor = Path(where).anchor
    literal = root / where
    try:
        paths = [literal] if literal.exists() else sorted(Path(anchor or root).glob(where.removeprefix(anchor)))
    except ValueError as error:
        raise UsageError(f"{pattern!r} is no pattern: {error}", where=str(root)) from error
    if not paths:
        raise UsageError(f"no patch matches {pattern!r}", where=str(root),
                         hint="patterns are relative to the plan's folder")
    return _remarked(pattern, [_folder(path, deadline) if path.is_dir() else _file(path, deadline) for path in paths])


def _remarked(where: str, parts: Sequence[Series]) -> Series:
    """The series of several files, with a note where it looks as if one was lacking."""
    found = _joined(parts)
    tags = [tag(header(patch.text, "Subject")) for part in parts if len(part.patches) == 1 for patch in part.patches]
    return replace(found, notes=(*found.notes, *remarks(tags, where))) if len(tags) == len(found.patches) else found


def _folder(path: Path, deadline: Deadline) -> Series:
    """A folder's patches: as its `series` file has them, else all *.patch by name."""
    if (path / QUILT).is_file():
        return _quilt(path / QUILT, deadline)
    paths = sorted(path.glob("*.patch"))
    if not paths:
        raise UsageError("no *.patch and no quilt `series` file in this folder", where=str(path),
                         hint="name the files, as in `some/folder/*.diff`")
    return _remarked(str(path), [_file(one, deadline) for one in paths])


def _file(path: Path, deadline: Deadline) -> Series:
    if path.name == QUILT or path.suffix == f".{QUILT}":
        return _quilt(path, deadline)
    text = unix(read_limited(path, LARGEST_MBOX))[0]
    return _plain(path) if is_plain(text) else read_mailbox(path, deadline)


def _plain(path: Path, *, quilt: bool = False) -> Series:
    """One file with one mail: a patch or a cover letter."""
    text, repaired = unix(read_limited(path, LARGEST_PATCH))
    subject = header(text, "Subject")
    if subject and tag(subject).number == 0 and not has_diff(text):
        body = text.partition(b"\n\n")[2].decode(errors="replace").strip()
        return Series(covers=(Cover(subject=title(subject), text=body, where=str(path)),))
    if quilt and not subject and has_diff(text):
        text = f"From: quilt <quilt@localhost>\nSubject: [PATCH] {path.stem}\n\n".encode() + text
    notes = (f"{path}: {CRLF}",) if repaired else ()
    return Series(patches=(make_patch(text, path),), notes=notes)


def _quilt(path: Path, deadline: Deadline) -> Series:
    """The patches that quilt's `series` file names, which lie beside it."""
    try:
        names = quilt_names(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the series file cannot be read: {error}", where=str(path)) from error
    if not names:
        raise UsageError("no patch in this series file", where=str(path))
    parts: list[Series] = []
    for line, name in names:
        file = path.parent / name
        if not file.is_file():
            raise UsageError(f"there is no patch {name!r}", where=f"{path}:{line}",
                             hint="patches are named relative to the series file")
        plain = is_plain(unix(read_limited(file, LARGEST_MBOX))[0])
        parts.append(_plain(file, quilt=True) if plain else read_mailbox(file, deadline))
    return _joined(parts)


def quilt_names(text: str, where: str) -> tuple[tuple[int, str], ...]:
    """Line number and name of every patch in a quilt `series` file (quilt(1)); comments and empty lines are none.

    Raises:
        UsageError: a patch is to be applied otherwise than with -p1, or lies outside the folder.
    """
    found: list[tuple[int, str]] = []
    for number, row in enumerate(text.splitlines(), 1):
        words = re.sub(r"(^|\s)#.*", "", row).split()
        if not words:
            continue
        name, *options = words
        if options not in ([], ["-p1"], ["-p", "1"]):
            raise UsageError(f"{' '.join(options)!r} is not taken: patches are applied with -p1",
                             where=f"{where}:{number}", hint="`quilt refresh -p1` writes them so")
        if name.startswith("/") or ".." in name.split("/"):
            raise UsageError(f"the patch is outside the folder: {name!r}", where=f"{where}:{number}")
        found.append((number, name))
    return tuple(found)
