# SPDX-License-Identifier: GPL-2.0-only
"""A series of patches as files, to ordered `Patch` values that are known to be well-formed mails with a diff."""

from __future__ import annotations

import email
import email.policy
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError

LARGEST_PATCH = 16 << 20
"""Bytes; a larger file is not a patch that anybody reviews."""

_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", re.MULTILINE)
_FILE = re.compile(rb"^(?:---|\+\+\+|rename from|rename to|copy from|copy to) (?:[ab]/)?(.+?)\t?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One patch of a series.

    Attributes:
        path: the file it was read from.
        subject: its subject, without `[PATCH n/m]`.
        text: the whole mail.
        touches: paths in the tree that its diff names, old and new ones.
    """

    path: Path
    subject: str
    text: bytes
    touches: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text).hexdigest()


def read_series(patterns: Sequence[str], root: Path) -> tuple[Patch, ...]:
    """The patches that glob patterns (relative to `root`) name, each pattern's in the order of their file names.

    Raises:
        UsageError: a pattern matches nothing, or a file is not a patch in mail form.
    """
    found: list[Patch] = []
    for pattern in patterns:
        anchor = Path(pattern).anchor
        paths = sorted(Path(anchor or root).glob(pattern.removeprefix(anchor)))
        if not paths:
            raise UsageError(f"no patch matches {pattern!r}", where=str(root),
                             hint="patterns are relative to the plan's folder")
        found += [read_patch(path) for path in paths]
    return tuple(found)


def read_patch(path: Path) -> Patch:
    """One patch from a file as `git format-patch` writes it.

    Raises:
        UsageError: it cannot be read, is no mail, has no diff, or the diff is cut short or reaches out of the tree.
    """
    try:
        if path.stat().st_size > LARGEST_PATCH:
            raise UsageError(f"too big to be a patch: more than {LARGEST_PATCH >> 20} MiB", where=str(path))
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the patch cannot be read: {error.strerror}", where=str(path)) from error
    subject = str(email.message_from_bytes(text, policy=email.policy.compat32).get("Subject", ""))
    if not subject:
        raise UsageError("not a patch in mail form: no Subject line", where=f"{path}:1",
                         hint="write it with `git format-patch`")
    if b"\nGIT binary patch" in text:
        raise UsageError("binary patches are not taken", where=str(path))
    touches = _check_diff(path, text)
    clean = re.sub(r"^\s*(\[[^\]]*\]\s*)*", "", re.sub(r"\s+", " ", subject))
    return Patch(path=path, subject=clean, text=text, touches=touches)


def hunk_at(patch: Patch, file: str, line: int) -> int | None:
    """Which hunk of `file` in the patch (from 1) starts at old line `line`, as `git apply` names it; None if none."""
    number, inside = 0, False
    for row in patch.text.split(b"\n"):
        if row.startswith(b"diff --git "):
            inside, number = row.endswith(b" b/" + file.encode()), 0
        match = _HUNK.match(row)
        if match and inside:
            number += 1
            if int(match[1]) == line:
                return number
    return None


def _check_diff(path: Path, text: bytes) -> tuple[str, ...]:
    """Walk the diff hunk by hunk, counting lines as the headers promise them; the paths it touches."""
    touches: dict[str, None] = {}
    lines = text.splitlines()
    at, hunks = 0, 0
    while at < len(lines) and not lines[at].startswith(b"diff --git "):
        at += 1
    if at == len(lines):
        raise UsageError("malformed patch: no `diff --git` line in it", where=str(path),
                         hint="a cover letter is not a patch; leave it out of the pattern")
    while at < len(lines):
        row = lines[at]
        name = _FILE.match(row)
        hunk = _HUNK.match(row)
        if hunk:
            hunks += 1
            at = _skip_hunk(path, lines, at, hunk)
            continue
        if row == b"-- ":
            break
        if name and name[1] != b"/dev/null":
            touches[_tree_path(path, at, name[1])] = None
        elif row.startswith((b"new file mode 160000", b"new file mode 120000", b"index 0000000..0000000 160000")):
            raise UsageError("the patch makes a symbolic link or a submodule, which is not taken",
                             where=f"{path}:{at + 1}")
        at += 1
    if not hunks and not touches:
        raise UsageError("malformed patch: its diff changes nothing", where=str(path))
    return tuple(touches)


def _skip_hunk(path: Path, lines: list[bytes], at: int, header: re.Match[bytes]) -> int:
    """The line after a hunk; raise where it has not the lines its header promises."""
    old, new = int(header[2] or 1), int(header[4] or 1)
    start = at
    at += 1
    while old > 0 or new > 0:
        kind = lines[at][:1] if at < len(lines) else b"end"
        if kind not in (b" ", b"-", b"+", b"\\", b""):
            raise UsageError("malformed patch: the hunk that starts here is cut short or damaged",
                             where=f"{path}:{start + 1}",
                             detail=(lines[start].decode(errors="replace"),),
                             hint="the mail was damaged on its way; get it anew")
        old -= kind in (b" ", b"-", b"")
        new -= kind in (b" ", b"+", b"")
        at += 1
    return at


def _tree_path(path: Path, at: int, raw: bytes) -> str:
    name = raw.decode(errors="surrogateescape")
    parts = name.split("/")
    if name.startswith(("/", '"')) or ".." in parts or ".git" in parts or "" in parts:
        raise UsageError(f"the patch reaches out of the tree: {name!r}", where=f"{path}:{at + 1}")
    return name
