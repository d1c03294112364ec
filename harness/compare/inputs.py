# SPDX-License-Identifier: GPL-2.0-only
"""What `harness objdiff` can be given: a build folder, an archive, or one object, module or kernel image.

Reads files. Nothing but regular files is opened, without waiting for anything: a FIFO or a device is an error. Within a
folder or beside an archive no symbolic link is followed; the path that was given may be one.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from harness.compare.archive import MAGICS, entries
from harness.compare.compressed import expand
from harness.errors import InfraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Kind = Literal["folder", "archive", "object"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One side.

    Attributes:
        path: as it was given.
        kind: what it is.
        members: of an archive: member to its bytes, None for those of a thin archive, which are files beside it. The
            second member of a name is called `name#2`, or by the next number that is no member's name.
        files: of an archive: member to the name that the archive has for it.
        order: of an archive: its members as they are linked.
    """

    path: Path
    kind: Kind
    members: Mapping[str, bytes | None] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    order: tuple[str, ...] = ()

    def where(self, name: str) -> str:
        """How messages call an object of this side."""
        if self.kind == "object":
            return str(self.path)
        return f"{self.path}({name})" if self.kind == "archive" else str(self.path / name)

    def read(self, name: str) -> bytes:
        """The bytes of an object. Raises `InfraError` when it is no regular file or cannot be read."""
        if self.kind == "object":
            return expand(self.path.name, read_regular(self.path), str(self.path))
        if self.kind == "folder":
            return expand(name, _beside(self.path, name, self.where(name)), self.where(name))
        data = self.members[name]
        return _beside(self.path.parent, self.files[name], self.where(name)) if data is None else data


def open_input(path: Path) -> Input:
    """Look at a path.

    Raises:
        UsageError: it does not exist, or is neither a folder nor a regular file.
        InfraError: it cannot be read, or is a malformed archive.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"cannot compare: {error.strerror}", where=str(path),
                         hint="name a kernel build folder, an object file, an archive or a module") from error
    if stat.S_ISDIR(mode):
        return Input(path=path, kind="folder")
    if not stat.S_ISREG(mode):
        raise UsageError("neither a folder nor a regular file", where=str(path))
    data = read_regular(path, 8)
    if data not in MAGICS:
        return Input(path=path, kind="object")
    members: dict[str, bytes | None] = {}
    files: dict[str, str] = {}
    found = entries(read_regular(path), str(path))
    order = tuple(name for name, _content in found)
    taken, count = set(order), dict.fromkeys(order, 1)
    for name, content in found:
        called = name
        while called in members or (called != name and called in taken):
            count[name] += 1
            called = f"{name}#{count[name]}"
        members[called], files[called] = content, name
    return Input(path=path, kind="archive", members=members, files=files, order=order)


def _beside(root: Path, name: str, where: str) -> bytes:
    """A file below a folder, reached through no symbolic link. Raises `InfraError`."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts:
        raise InfraError("this archive names a file outside of its folder", where=where,
                         hint="nothing outside is read; build it again")
    step = root
    for part in parts:
        step = step / part
        if step.is_symlink():
            raise InfraError("a symbolic link is not followed", where=where, hint="put the file itself there")
    return read_regular(step)


def read_regular(path: Path | str, size: int = -1, *, follow: bool = True) -> bytes:
    """The first `size` bytes of a regular file, all with -1. Raises `InfraError` for anything else; never waits.

    `follow`: whether the last part of the path may be a symbolic link.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
        try:
            found = os.fstat(number)
            if not stat.S_ISREG(found.st_mode):
                raise InfraError("not a regular file", where=str(path))
            wanted = found.st_size if size < 0 else size
            data = os.read(number, wanted)
            while len(data) < wanted and (more := os.read(number, wanted - len(data))):
                data += more
            return data
        finally:
            os.close(number)
    except OSError as error:
        what = {errno.ENOENT: "no such file", errno.ELOOP: "a symbolic link is not followed"}.get(error.errno or 0)
        raise InfraError(f"cannot read: {what or error.strerror}", where=str(path)) from error
