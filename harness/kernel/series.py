# SPDX-License-Identifier: GPL-2.0-only
"""What a patch is: a well-formed mail with a diff that stays in the tree. `harness.kernel.collect` finds them."""

from __future__ import annotations

import email
import email.errors
import email.header
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError

LARGEST_PATCH = 16 << 20
"""Bytes; a larger file is not a patch that anybody reviews."""

CRLF = "every line ended in CR LF; the CRs were taken off"
"""The note on what `unix` did."""

_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", re.MULTILINE)
_SIDE = re.compile(rb'^(?:---|\+\+\+) (?:[^/\t"]+/)?([^\t]+?)(?:\t.*)?$')
_MOVED = re.compile(rb"^(?:rename|copy) (?:from|to) (.+)$")
_BOTH = re.compile(rb'^diff --git [^/"]+/(.+) [^/"]+/\1$')
_SPECIAL = re.compile(rb"^(?:new file mode|new mode|index \S+) (?:120000|160000)$")
_OPENS = re.compile(rb"^(?:diff --git |--- .+\n\+\+\+ .+\n@@ -)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One patch of a series.

    Attributes:
        path: the file it was read from, or the name `git format-patch` would give it.
        subject: its subject, without `[PATCH n/m]`.
        text: the whole mail, decoded.
        touches: paths in the tree that its diff names, old and new ones.
        origin: where it comes from if that is not all of a file: the mail of an mbox, the commit of a repository.
    """

    path: Path
    subject: str
    text: bytes
    touches: tuple[str, ...]
    origin: str = ""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text).hexdigest()

    @property
    def where(self) -> str:
        """What a message calls it."""
        return self.origin or str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """A series' cover letter: what its author says of the whole. It is kept and never applied.

    Attributes:
        subject: without `[PATCH 0/m]`.
        text: its body.
        where: the file or mail it was read from.
    """

    subject: str
    text: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Patches in the order in which they are applied.

    Attributes:
        patches: never empty where a plan asks for some.
        covers: the cover letters that came with them.
        notes: what was left out, put in order or repaired on the way, a sentence each, for the report.
    """

    patches: tuple[Patch, ...] = ()
    covers: tuple[Cover, ...] = ()
    notes: tuple[str, ...] = ()


def read_patch(path: Path) -> Patch:
    """One patch from a file as `git format-patch` writes it.

    Raises:
        UsageError: it cannot be read, is no mail, has no diff, or the diff is cut short or reaches out of the tree.
    """
    return make_patch(unix(read_limited(path, LARGEST_PATCH))[0], path)


def read_limited(path: Path, largest: int) -> bytes:
    """The content of a file that holds at most `largest` bytes.

    Raises:
        UsageError: it cannot be read, or is larger.
    """
    try:
        if path.stat().st_size > largest:
            raise UsageError(f"too big to be a patch: more than {largest >> 20} MiB", where=str(path))
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the patch cannot be read: {error.strerror}", where=str(path)) from error


def make_patch(text: bytes, path: Path, *, origin: str = "") -> Patch:
    """The patch that a decoded mail is.

    Raises:
        UsageError: it is no mail, has no diff, or the diff is cut short or reaches out of the tree.
    """
    where = origin or str(path)
    if len(text) > LARGEST_PATCH:
        raise UsageError(f"too big to be a patch: more than {LARGEST_PATCH >> 20} MiB", where=where)
    subject = header(text, "Subject")
    if not subject:
        raise UsageError("not a patch in mail form: no Subject line", where=f"{where}:1",
                         hint="write it with `git format-patch`")
    if b"\nGIT binary patch" in text:
        raise UsageError("binary patches are not taken", where=where)
    return Patch(path=path, subject=title(subject), text=text, touches=_check_diff(where, text), origin=origin)


def header(mail: bytes, name: str) -> str:
    """A header of a mail, with encoded words (RFC 2047) decoded and folding undone; "" where there is none."""
    head = email.message_from_string(mail.split(b"\n\n", 1)[0].decode(errors="replace"))
    raw = str(head.get(name, ""))
    try:
        text = str(email.header.make_header(email.header.decode_header(raw)))
    except (ValueError, LookupError, email.errors.HeaderParseError):  # damaged, or in an unknown character set
        text = raw
    return re.sub(r"\s+", " ", text).strip()


def title(subject: str) -> str:
    """A subject without what stands in brackets before it."""
    return re.sub(r"^\s*(\[[^\]]*\]\s*)*", "", subject)


def unix(text: bytes) -> tuple[bytes, bool]:
    """A text without the carriage returns that its transport put at the end of *every* line, and whether it had them.

    Where only some lines end so, they are the patch's own: it changes a file with such lines.
    """
    lines = [line for line in text.split(b"\n") if line]
    if lines and all(line.endswith(b"\r") for line in lines):
        return text.replace(b"\r\n", b"\n"), True
    return text, False


def has_diff(text: bytes) -> bool:
    """Whether a text holds a diff of its own; a quoted one is none."""
    return _OPENS.search(text) is not None


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


def _check_diff(where: str, text: bytes) -> tuple[str, ...]:
    """Walk the diff hunk by hunk, counting lines as the headers promise them; the paths it touches."""
    first = _OPENS.search(text)
    if first is None:
        raise UsageError("malformed patch: no `diff --git` line in it", where=where,
                         hint="an empty commit, or a mail that is no patch? take it out of the series")
    touches: dict[str, None] = {}
    lines = text.removesuffix(b"\n").split(b"\n")
    at, hunks = text.count(b"\n", 0, first.start()), 0
    while at < len(lines):
        row = lines[at]
        hunk = _HUNK.match(row)
        if hunk:
            hunks += 1
            at = _skip_hunk(where, lines, at, hunk)
            continue
        if row == b"-- ":  # a mail ends here; git reads on, and so it may be where two were put into one file
            rest = b"\n".join(lines[at:])
            again = _OPENS.search(rest)
            if again is None:
                break
            at += rest.count(b"\n", 0, again.start())
            continue
        name = _SIDE.match(row) or _MOVED.match(row) or _BOTH.match(row)
        if name and row.endswith(b"\r"):
            raise UsageError("malformed patch: some of its lines end in CR LF, this one among them, and others do not",
                             where=f"{where}:{at + 1}", hint="the mail was damaged on its way; get it anew")
        if name and not row.endswith(b" /dev/null"):
            touches[_tree_path(where, at, name[1])] = None
        elif row.startswith(b"Binary files "):
            raise UsageError("binary patches are not taken", where=f"{where}:{at + 1}")
        elif _SPECIAL.match(row):
            raise UsageError("the patch makes a symbolic link or a submodule, which is not taken",
                             where=f"{where}:{at + 1}")
        at += 1
    if not hunks and not touches:
        raise UsageError("malformed patch: its diff changes nothing", where=where)
    return tuple(touches)


def _skip_hunk(where: str, lines: list[bytes], at: int, header: re.Match[bytes]) -> int:
    """The line after a hunk; raise where it has not the lines its header promises."""
    old, new = int(header[2] or 1), int(header[4] or 1)
    start = at
    at += 1
    while old > 0 or new > 0:
        kind = lines[at][:1] if at < len(lines) else b"end"
        if kind not in (b" ", b"-", b"+", b"\\", b""):
            raise UsageError("malformed patch: the hunk that starts here is cut short or damaged",
                             where=f"{where}:{start + 1}",
                             detail=(lines[start].decode(errors="replace"),),
                             hint="the mail was damaged on its way; get it anew")
        old -= kind in (b" ", b"-", b"")
        new -= kind in (b" ", b"+", b"")
        at += 1
    return at


def _tree_path(where: str, at: int, raw: bytes) -> str:
    name = raw.decode(errors="surrogateescape")
    parts = name.split("/")
    if name.startswith(("/", '"')) or ".." in parts or ".git" in parts or "" in parts:
        raise UsageError(f"the patch reaches out of the tree: {name!r}", where=f"{where}:{at + 1}")
    return name
