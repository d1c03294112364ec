# SPDX-License-Identifier: GPL-2.0-only
"""An mbox, or a mail in a transfer encoding, to decoded mails: by git's own mailsplit and mailinfo, in the sandbox."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import proc
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernel.mails import Arranged, Mail, arrange
from harness.kernel.series import CRLF, Cover, Series, has_diff, header, make_patch, read_limited, title, unix
from harness.sandbox import bwrap

LARGEST_MBOX = 64 << 20
"""Bytes; Linux's longest threads have a few."""

_FROM_LINE = re.compile(rb"^From .*\d.\d\d:\d\d\s+\d\d", re.MULTILINE)
_ENCODED = re.compile(rb"^(?:content-transfer-encoding:\s*(?:quoted-printable|base64)|"
                      rb"content-type:(?:[^\n]|\n[ \t])*(?:multipart/|format=\"?flowed))", re.MULTILINE | re.IGNORECASE)
_SPLIT = """\
set -eu
git mailsplit -b --mboxrd --keep-cr -o/out /mbox >/dev/null
for mail in /out/[0-9]*; do
    git mailinfo -k --no-scissors --quoted-cr=nowarn --encoding=UTF-8 "$mail.msg" "$mail.patch" <"$mail" >"$mail.info"
done
"""


def is_plain(text: bytes) -> bool:
    """Whether a file holds one mail that needs no decoding, as `git format-patch` writes it."""
    head = text.split(b"\n\n", 1)[0]
    return len(_FROM_LINE.findall(text)) <= 1 and _ENCODED.search(head) is None


def read_mailbox(path: Path, deadline: Deadline) -> Series:
    """The series in an mbox, or in a file with one mail.

    Raises:
        UsageError: it cannot be read, is damaged, or it is not certain what series it holds.
    """
    text, repaired = unix(read_limited(path, LARGEST_MBOX))
    arranged = arrange(_decode(text, path, deadline), str(path))
    return Series(
        patches=tuple(make_patch(mail.text, path, origin=f"{path}, mail {mail.at}") for mail in arranged.patches),
        covers=tuple(_cover(mail, path) for mail in arranged.covers),
        notes=_notes(arranged, path, repaired))


def _notes(arranged: Arranged, path: Path, repaired: bool) -> tuple[str, ...]:
    return (*([f"{path}: {CRLF}"] if repaired else []), *arranged.notes)


def _cover(mail: Mail, path: Path) -> Cover:
    return Cover(subject=mail.title, text=mail.body.decode(errors="replace").strip(), where=f"{path}, mail {mail.at}")


def _decode(text: bytes, path: Path, deadline: Deadline) -> list[Mail]:
    with TemporaryDirectory(prefix="harness-") as folder:
        work = Path(folder)
        (work / "mbox").write_bytes(text)
        out = work / "out"
        out.mkdir()
        argv = bwrap.boxed(["sh", "-c", _SPLIT], read={"/mbox": work / "mbox"}, write={"/out": out}, cwd="/out")
        try:
            bwrap.run(argv, deadline=deadline, where=str(path))
        except proc.CommandFailed as failed:
            raise UsageError("git cannot read its mails", where=str(path), detail=failed.completed.tail,
                             hint="is it an mbox? `git mailsplit` and `git mailinfo` are what reads it") from failed
        names = sorted(entry.name for entry in out.iterdir() if not entry.suffix)
        return [_mail(out / name, number, path) for number, name in enumerate(names, 1)]


def _mail(raw: Path, number: int, path: Path) -> Mail:
    """The mail that git left in four files: the mail, what its header says, its message, its diff."""
    text = raw.read_bytes()
    said = dict(line.split(": ", 1) for line in raw.with_suffix(".info").read_text(
        encoding="utf-8", errors="replace").splitlines() if ": " in line)
    message, diff = (raw.with_suffix(suffix).read_bytes() for suffix in (".msg", ".patch"))
    whole, repaired = unix(message + b"\n" + diff)
    if repaired:
        message, diff = (part.replace(b"\r\n", b"\n") for part in (message, diff))
    if diff.endswith(b"\n\n"):  # the empty line between two mails of an mbox
        diff = diff[:-1]
    subject = header(text, "Subject")
    if not has_diff(diff):
        message, diff = whole, b""
    name = title(said.get("Subject", subject))
    return Mail(at=number, subject=subject, title=name, body=message, diff=diff,
                answers=any(header(text, key) for key in ("In-Reply-To", "References")),
                text=_text(said, subject, name, message, diff),
                notes=(f"{path}, mail {number}: {CRLF}",) if repaired else ())


def _text(said: dict[str, str], subject: str, name: str, message: bytes, diff: bytes) -> bytes:
    """The decoded mail as `git am` takes it."""
    brackets = subject[:len(subject) - len(title(subject))].strip() or "[PATCH]"
    rows = [f"From: {said.get('Author', 'unknown')} <{said.get('Email', 'unknown@localhost')}>",
            *([f"Date: {said['Date']}"] if said.get("Date") else []), f"Subject: {brackets} {name}",
            "MIME-Version: 1.0", "Content-Type: text/plain; charset=UTF-8", "Content-Transfer-Encoding: 8bit"]
    apart = b"" if diff.startswith(b"---\n") else b"---\n"
    return "\n".join(rows).encode() + b"\n\n" + message + apart + diff
