# SPDX-License-Identifier: GPL-2.0-only
"""The mails of one mbox to the series in it: which are patches, in which order, and what is left out. Does no I/O.

An mbox as `b4 am`, patchwork or a mail reader give it holds patches, a cover letter, replies and perhaps an older
version. What is certain is decided and said in a note; what could be meant in two ways is refused.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

from harness.errors import UsageError

_REPLY = re.compile(r"^\s*(?:re|aw|sv|antw|fwd?)(?:\[\d+\])?\s*:\s*", re.IGNORECASE)
_BRACKETS = re.compile(r"^\s*((?:\[[^\]]*\]\s*)+)")
_NUMBER = re.compile(r"\b(\d+)/(\d+)\b")
_VERSION = re.compile(r"(?:\b|PATCH)v(\d+)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """What the brackets before a subject say.

    Attributes:
        version: of the series, 1 where none is given.
        number: n of n/m, None where there is none.
        total: m of n/m.
    """

    version: int = 1
    number: int | None = None
    total: int | None = None

    def __str__(self) -> str:
        version = f"v{self.version} " if self.version != 1 else ""
        return f"{version}{self.number}/{self.total}" if self.number is not None else f"{version}not numbered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail, decoded.

    Attributes:
        at: its place in the mbox, from 1.
        subject: as it stands in the mail's header.
        title: the subject of the change: an in-body one where there is one, without brackets.
        answers: whether it says that it is an answer (In-Reply-To, References).
        body: what stands before the diff.
        diff: the diff, with what stands around it; empty where there is none.
        text: the whole as `git am` takes it.
        notes: what was done to it on the way.
    """

    at: int
    subject: str
    title: str
    answers: bool
    body: bytes
    diff: bytes
    text: bytes
    notes: tuple[str, ...] = ()

    @property
    def tag(self) -> Tag:
        return tag(self.subject)

    def __str__(self) -> str:
        return f"mail {self.at}, {self.subject!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arranged:
    """What an mbox comes down to: patches in order, cover letters, and what a report has to say of the rest."""

    patches: tuple[Mail, ...]
    covers: tuple[Mail, ...]
    notes: tuple[str, ...]


def tag(subject: str) -> Tag:
    """Read `[PATCH net-next v2 3/7]` and its like."""
    brackets = _BRACKETS.match(_REPLY.sub("", subject))
    if brackets is None:
        return Tag()
    number, version = _NUMBER.search(brackets[1]), _VERSION.search(brackets[1])
    return Tag(version=int(version[1]) if version else 1, number=int(number[1]) if number else None,
               total=int(number[2]) if number else None)


def remarks(tags: Sequence[Tag], where: str) -> tuple[str, ...]:
    """What is odd about the numbers of several patches that come as files and are applied in the order of their names.

    Args:
        tags: in that order.
        where: what names the files, for messages.
    """
    numbers, totals = [tag.number for tag in tags if tag.number is not None], {tag.total or 0 for tag in tags}
    if len(tags) < 2 or len(numbers) < len(tags) or len(totals) != 1:
        return ()
    absent = _absent(numbers, totals.pop())
    found = [f"the series is not whole: {absent}"] if absent else []
    if numbers != sorted(numbers):
        found.append(f"applied in the order of their names, not of their numbers: {', '.join(map(str, numbers))}")
    return tuple(f"{where}: {what}" for what in found)


def arrange(mails: Sequence[Mail], where: str) -> Arranged:
    """The series in an mbox; a single mail is taken whatever its number says, as one of a folder's would be.

    Args:
        mails: in the order of the file.
        where: the file, for messages.

    Raises:
        UsageError: patches are missing, two have the same number, or it is not certain what a mail is.
    """
    patches: list[Mail] = []
    covers: list[Mail] = []
    notes: list[str] = []
    for mail in mails:
        kind = _kind(mail, where)
        if kind == "reply":
            notes.append(f"{where}: left out {mail}: a reply without a patch")
        else:
            (patches if kind == "patch" else covers).append(mail)
    if not patches:
        raise UsageError("no patch in it", where=where)
    if len(mails) == 1 or all(mail.tag.number is None for mail in patches):
        chosen = _unnumbered(patches, where, notes)
    else:
        chosen = _numbered(patches, where, notes)
    newest = max((mail.tag.version for mail in covers), default=0)
    notes += [f"{where}: left out {mail}: a newer version of the cover letter is there"
              for mail in covers if mail.tag.version < newest]
    return Arranged(patches=tuple(chosen), covers=tuple(mail for mail in covers if mail.tag.version == newest),
                    notes=(*notes, *(note for mail in chosen for note in mail.notes)))


def _kind(mail: Mail, where: str) -> str:
    """`patch`, `cover` or `reply`."""
    number = mail.tag.number
    if _REPLY.match(mail.subject):
        if mail.diff:
            raise UsageError(f"{mail} is a reply with a patch of its own, and it is not certain whether it belongs to "
                             "the series", where=where, hint="take it out, or make a mail [PATCH n/m] of it")
        return "reply"
    if mail.diff and number == 0:
        raise UsageError(f"{mail} has the number of a cover letter and holds a patch", where=where,
                         hint="give it its number in the series, or take the diff out")
    if mail.diff:
        return "patch"
    if number == 0:
        return "cover"
    if number is not None:
        raise UsageError(f"malformed patch: {mail} has no diff", where=where,
                         hint="the mail was damaged on its way, or its patch is an attachment; get it anew")
    if mail.answers:
        return "reply"
    raise UsageError(f"{mail} is neither a patch, nor a cover letter, nor a reply", where=where,
                     hint="take it out of the mbox")


def _unnumbered(patches: Sequence[Mail], where: str, notes: list[str]) -> list[Mail]:
    """Patches without n/m: those of the newest version, in the order of the file."""
    newest = max(mail.tag.version for mail in patches)
    notes += [f"{where}: left out {mail}: v{newest} is there" for mail in patches if mail.tag.version < newest]
    chosen = [mail for mail in patches if mail.tag.version == newest]
    if len(chosen) > 1:
        notes.append(f"{where}: its {len(chosen)} patches have no numbers; they are taken in the order of the file")
    return chosen


def _numbered(patches: Sequence[Mail], where: str, notes: list[str]) -> list[Mail]:
    """Patches 1 to m, of each the newest version."""
    newest = max(mail.tag.version for mail in patches)
    for mail in patches:
        if mail.tag.number is None:
            raise UsageError(f"{mail} has no number, and the others have", where=where,
                             hint="take it out of the mbox, or make a mail [PATCH n/m] of it")
    totals = {mail.tag.total or 0 for mail in patches if mail.tag.version == newest}
    if len(totals) > 1:
        raise UsageError(f"patches of several series are in it: n/{' and n/'.join(map(str, sorted(totals)))}",
                         where=where, hint="one mbox a series; a plan may name several")
    total = totals.pop()
    found: dict[int, Mail] = {}
    for mail in patches:
        number = mail.tag.number or 0
        if mail.tag.total != total:
            notes.append(f"{where}: left out {mail}: v{newest} is there, with {total} patches")
        elif not 1 <= number <= total:
            raise UsageError(f"{mail} has a number that cannot be", where=where)
        elif number in found:
            found[number] = _newer(found[number], mail, where, notes)
        else:
            found[number] = mail
    _complete(found, total, where)
    chosen = [found[number] for number in range(1, total + 1)]
    if [mail.at for mail in chosen] != sorted(mail.at for mail in chosen):
        order = ", ".join(str(mail.tag.number) for mail in sorted(chosen, key=lambda mail: mail.at))
        notes.append(f"{where}: its patches were out of order ({order}) and were sorted by their numbers")
    return chosen


def _newer(one: Mail, other: Mail, where: str, notes: list[str]) -> Mail:
    """Which of two mails with the same number counts."""
    old, new = sorted((one, other), key=lambda mail: mail.tag.version)
    if old.tag.version != new.tag.version:
        notes.append(f"{where}: left out {old}: {new} is newer")
        return new
    if (one.title, one.diff) != (other.title, other.diff):
        raise UsageError(f"two different patches are numbered {one.tag}", where=where, detail=(str(one), str(other)),
                         hint="take out the one that is not meant")
    notes.append(f"{where}: left out {other}: the same as mail {one.at}")
    return one


def _complete(found: dict[int, Mail], total: int, where: str) -> None:
    absent = _absent(found, total)
    if absent:
        raise UsageError(f"the series is not whole: {absent}", where=where,
                         hint="get the whole thread, as `b4 am MESSAGE-ID` does")


def _absent(numbers: Container[int], total: int) -> str:
    """Which of the patches 1 to `total` are not there, in words; empty where all are."""
    absent = [number for number in range(1, total + 1) if number not in numbers]
    shown = ", ".join(f"{number}/{total}" for number in absent[:10]) + (", ..." if len(absent) > 10 else "")
    return f"{shown} {'is' if len(absent) == 1 else 'are'} missing" if absent else ""
