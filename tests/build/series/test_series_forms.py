# SPDX-License-Identifier: GPL-2.0-only
"""A series in every form a plan may name it in: git itself splits and decodes the mails, in the sandbox."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernel import source
from harness.kernel.collect import quilt_names, read_series
from harness.kernel.gitrange import GitRange
from harness.kernel.series import Series
from harness.kernel.tree import Tree, prepare
from harness.store.store import Store
from tests.build.series import tinykernel
from tests.build.series.tinykernel import TITLES, edited

WHOLE = edited((5, "first"), (15, "second"), (25, "third"))


def read(asked: str | GitRange, tmp_path: Path, store: Store) -> Series:
    return read_series([asked], tmp_path, store, deadline=Deadline.after(120))


def mbox(path: Path, mails: Sequence[str | bytes]) -> str:
    """Write an mbox of mails; its name."""
    raw = [mail.encode() if isinstance(mail, str) else mail for mail in mails]
    path.write_bytes(b"\n".join(mail if mail.startswith(b"From ") else
                                b"From test@localhost Thu Jan  1 00:00:00 1970\n" + mail for mail in raw))
    return path.name


def applied(series: Series, repo: Path, store: Store) -> str:
    """What net/a.c says when the series is applied to v1."""
    start = source.git(str(repo), "v1", store, deadline=Deadline.after(60))
    tree = prepare(Tree(name="patched", source=start, patches=series.patches), store, deadline=Deadline.after(60))
    return (tree / "net" / "a.c").read_text()


def titles(series: Series) -> list[str]:
    return [patch.subject for patch in series.patches]


def encoded(mail: str, how: str) -> bytes:
    """A mail in a transfer encoding."""
    head, _, body = mail.partition("\n\n")
    coded = {"base64": base64.encodebytes, "quoted-printable": quopri.encodestring}[how](body.encode())
    return (f"{head}\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: {how}\n\n"
            ).encode() + coded


def test_an_mbox_with_cover_letter_replies_and_another_order(repo: Path, store: Store, tmp_path: Path) -> None:
    cover, one, two, three = tinykernel.mails(repo, "--cover-letter")
    quoted = "".join(f"> {line}\n" for line in one.splitlines())
    reply = ("From: harness test <test@localhost>\nSubject: Re: [PATCH 1/3] net: one\nIn-Reply-To: <x@localhost>\n\n"
             f"Looks good.\n{quoted}\n")
    cover = cover.replace("*** SUBJECT HERE ***", "net: all of it").replace("*** BLURB HERE ***", "Three lines change.")
    series = read(mbox(tmp_path / "thread.mbox", [three, cover, one, reply, two]), tmp_path, store)
    assert titles(series) == TITLES
    assert [patch.where for patch in series.patches] == [f"{tmp_path}/thread.mbox, mail {at}" for at in (3, 5, 1)]
    assert [(one.subject, one.text.splitlines()[0]) for one in series.covers] == [
        ("net: all of it", "Three lines change.")]
    assert "a reply without a patch" in series.notes[0]
    assert "out of order (3, 1, 2)" in series.notes[1]
    assert applied(series, repo, store) == WHOLE


@pytest.mark.parametrize("how", ["base64", "quoted-printable"])
def test_transfer_encodings(repo: Path, store: Store, tmp_path: Path, how: str) -> None:
    tinykernel.git(repo, "checkout", "-q", "topic")
    tinykernel.commit(repo, "net: grüße", net__a_c=edited((5, "größer = 1;"), (15, "second"), (25, "third")))
    mails = [encoded(mail.replace("MIME-Version: 1.0\n", "").replace(
        "Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n", ""), how)
        for mail in tinykernel.mails(repo)]
    series = read(mbox(tmp_path / "x.mbox", mails), tmp_path, store)
    assert titles(series) == [*TITLES, "net: grüße"]
    assert "größer = 1;" in applied(series, repo, store)
    (tmp_path / "alone.patch").write_bytes(mails[0])
    assert titles(read("alone.patch", tmp_path, store)) == ["net: one"]


def test_a_patch_in_an_attachment(repo: Path, store: Store, tmp_path: Path) -> None:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "harness test <test@localhost>", "[PATCH] net: one"
    mail.set_content("Because of a test.\n")
    diff = tinykernel.git(repo, "diff", "v1", "topic~2") + "\n"
    mail.add_attachment(diff.encode(), maintype="text", subtype="x-patch", filename="one.patch")
    (tmp_path / "attached.patch").write_bytes(mail.as_bytes())
    series = read("attached.patch", tmp_path, store)
    assert titles(series) == ["net: one"]
    assert applied(series, repo, store) == edited((5, "first"))


def test_flowed_text(repo: Path, store: Store, tmp_path: Path) -> None:
    """RFC 3676: a leading space is doubled, and a line that ends in one goes on in the next."""
    head, _, body = tinykernel.mails(repo, revisions="v1..topic~2")[0].partition("\n\n")
    stuffed = "\n".join(f" {line}" if line.startswith((" ", "From", ">")) else line for line in body.splitlines())
    mail = f"{head}\nMIME-Version: 1.0\nContent-Type: text/plain; format=flowed\n\n{stuffed}\n"
    (tmp_path / "flowed.patch").write_text(mail)
    assert applied(read("flowed.patch", tmp_path, store), repo, store) == edited((5, "first"))


def test_crlf_of_the_transport_is_taken_off_and_said(repo: Path, store: Store, tmp_path: Path) -> None:
    mails = tinykernel.mails(repo)
    crlf = mbox(tmp_path / "crlf.mbox", [mail.replace("\n", "\r\n") for mail in mails])
    text = (tmp_path / crlf).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    (tmp_path / crlf).write_bytes(text)
    series = read(crlf, tmp_path, store)
    assert series.notes == (f"{tmp_path}/crlf.mbox: every line ended in CR LF; the CRs were taken off",)
    assert applied(series, repo, store) == WHOLE
    coded = mbox(tmp_path / "b64.mbox", [encoded(mails[0].partition("\n\n")[0] + "\n\n" + mails[0].partition(
        "\n\n")[2].replace("\n", "\r\n"), "base64"), *mails[1:]])
    series = read(coded, tmp_path, store)
    assert series.notes == (f"{tmp_path}/b64.mbox, mail 1: every line ended in CR LF; the CRs were taken off",)
    assert applied(series, repo, store) == WHOLE
    (tmp_path / "0001.patch").write_bytes(mails[0].replace("\n", "\r\n").encode())
    alone = read("0001.patch", tmp_path, store)
    assert len(alone.notes) == 1
    assert applied(alone, repo, store) == edited((5, "first"))


def test_a_file_with_carriage_returns_of_its_own(store: Store, tmp_path: Path) -> None:
    repo = tinykernel.make(tmp_path / "repo")
    (repo / "net" / "a.c").write_bytes(edited().replace("\n", "\r\n").encode())
    tinykernel.git(repo, "commit", "-q", "-a", "-m", "CRLF")
    tinykernel.git(repo, "tag", "-f", "v1")
    (repo / "net" / "a.c").write_bytes(edited((5, "first")).replace("\n", "\r\n").encode())
    tinykernel.git(repo, "commit", "-q", "-a", "-m", "change")
    tinykernel.git(repo, "format-patch", "-q", "-1", "-o", str(tmp_path / "p"))
    start = source.git(str(repo), "v1", store, deadline=Deadline.after(60))
    series = read("p", tmp_path, store)
    tree = prepare(Tree(name="patched", source=start, patches=series.patches), store, deadline=Deadline.after(60))
    assert (tree / "net" / "a.c").read_bytes() == edited((5, "first")).replace("\n", "\r\n").encode()
    assert series.notes == ()


@pytest.mark.parametrize(("drop", "said"), [(1, "the series is not whole: 2/3 is missing"), (None, "no diff")])
def test_an_mbox_that_is_not_whole(repo: Path, store: Store, tmp_path: Path, drop: int | None, said: str) -> None:
    mails = tinykernel.mails(repo)
    if drop is None:
        mails[1] = mails[1][:mails[1].index("diff --git")]
    else:
        del mails[drop]
    with pytest.raises(UsageError, match=said) as caught:
        read(mbox(tmp_path / "x.mbox", mails), tmp_path, store)
    assert caught.value.where == f"{tmp_path}/x.mbox"


def test_a_damaged_mail_of_an_mbox_is_named(repo: Path, store: Store, tmp_path: Path) -> None:
    mails = tinykernel.mails(repo)
    mails[1] = mails[1].replace(" line 14\n", "", 1)
    with pytest.raises(UsageError, match=r"cut short or damaged") as caught:
        read(mbox(tmp_path / "x.mbox", mails), tmp_path, store)
    assert str(caught.value.where).startswith(f"{tmp_path}/x.mbox, mail 2:")


def test_a_charset_that_nobody_knows_harms_nothing(repo: Path, store: Store, tmp_path: Path) -> None:
    mail = encoded(tinykernel.mails(repo)[0], "base64").replace(b"charset=UTF-8", b"charset=no-such")
    assert titles(read(mbox(tmp_path / "x.mbox", [mail]), tmp_path, store)) == ["net: one"]


def test_a_folder_its_cover_letter_and_a_pattern(repo: Path, store: Store, tmp_path: Path) -> None:
    tinykernel.git(repo, "format-patch", "-q", "--cover-letter", "-o", str(tmp_path / "mine"), "v1..topic")
    for asked in ("mine", "mine/*.patch", str(tmp_path / "mine")):
        series = read(asked, tmp_path, store)
        assert titles(series) == TITLES
        assert [cover.subject for cover in series.covers] == ["*** SUBJECT HERE ***"]
        assert series.notes == ()
    next((tmp_path / "mine").glob("0002-*")).unlink()
    for asked in ("mine", "mine/*.patch"):
        assert [note.partition(": ")[2] for note in read(asked, tmp_path, store).notes] == [
            "the series is not whole: 2/3 is missing"]
    with pytest.raises(UsageError, match=r"no patch matches 'x/\*\.patch'"):
        read("x/*.patch", tmp_path, store)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no \*\.patch and no quilt `series` file"):
        read("empty", tmp_path, store)


def test_several_forms_in_one_list(repo: Path, store: Store, tmp_path: Path) -> None:
    one, two, _ = tinykernel.mails(repo)
    (tmp_path / "one.patch").write_text(one)
    (tmp_path / "two.eml").write_text(two)
    asked = ["one.patch", "*.eml", GitRange(git=str(repo), base="topic~1", tip="topic")]
    series = read_series(asked, tmp_path, store, deadline=Deadline.after(60))
    assert titles(series) == TITLES
    assert applied(series, repo, store) == WHOLE


def test_a_quilt_series(repo: Path, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "quilt"
    (folder / "net").mkdir(parents=True)
    (folder / "net" / "one.patch").write_text(tinykernel.git(repo, "diff", "v1", "topic~2") + "\n")
    two = tinykernel.git(repo, "diff", "topic~2", "topic~1") + "\n"
    (folder / "two.patch").write_text("From: harness test <test@localhost>\nSubject: net: two\n\n" + "".join(
        f"{line}\n" for line in two.splitlines() if not line.startswith(("diff", "index"))))
    (folder / "three.patch").write_text(tinykernel.mails(repo)[2])
    (folder / "not-named.patch").write_text("no patch")
    (folder / "series").write_text("# the order\nnet/one.patch -p1 # first\n\ntwo.patch\n#three.patch\nthree.patch\n")
    for asked in ("quilt", "quilt/series"):
        series = read(asked, tmp_path, store)
        assert titles(series) == ["one", "net: two", "net: three"]
        assert applied(series, repo, store) == WHOLE


@pytest.mark.parametrize(("text", "line", "said"), [
    ("a.patch -p0\n", 1, "'-p0' is not taken"), ("#x\na.patch -R\n", 2, "'-R' is not taken"),
    ("../a.patch\n", 1, "outside the folder"), ("/a.patch\n", 1, "outside the folder"),
])
def test_a_quilt_series_that_is_not_taken(text: str, line: int, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        quilt_names(text, "series")
    assert caught.value.where == f"series:{line}"


def test_a_pattern_that_is_none(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'\*\*\.patch' is no pattern"):
        read("**.patch", tmp_path, store)


def test_a_quilt_series_that_names_nothing_or_what_is_not_there(store: Store, tmp_path: Path) -> None:
    (tmp_path / "series").write_text("# nothing\n")
    with pytest.raises(UsageError, match="no patch in this series file"):
        read("series", tmp_path, store)
    (tmp_path / "series").write_text("# one\na.patch\n")
    with pytest.raises(UsageError, match=r"there is no patch 'a\.patch'") as caught:
        read("series", tmp_path, store)
    assert caught.value.where == f"{tmp_path}/series:2"
