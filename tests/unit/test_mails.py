# SPDX-License-Identifier: GPL-2.0-only
"""mails: what is certain about an mbox is decided and said, what could be meant in two ways is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.kernel.mails import Arranged, Mail, Tag, arrange, remarks, tag
from harness.kernel.series import title


def mail(at: int, subject: str, diff: str = "", *, answers: bool = False) -> Mail:
    return Mail(at=at, subject=subject, title=title(subject), answers=answers, body=b"", diff=diff.encode(), text=b"")


def of(*rows: tuple[str, str]) -> Arranged:
    return arrange([mail(at, *row) for at, row in enumerate(rows, 1)], "x.mbox")


def order(found: Arranged) -> list[int]:
    return [one.at for one in found.patches]


@pytest.mark.parametrize(("subject", "expected"), [
    ("[PATCH 3/7] net: x", Tag(number=3, total=7)),
    ("[PATCH net-next v2 03/10] net: x", Tag(version=2, number=3, total=10)),
    ("[PATCHv4 0/2] net: x", Tag(version=4, number=0, total=2)),
    ("[net-next,v3,1/2] net: x", Tag(version=3, number=1, total=2)),
    ("[RFC] [PATCH 5.10 001/123] net: x", Tag(number=1, total=123)),
    ("Re: [PATCH v2 1/2] net: x", Tag(version=2, number=1, total=2)),
    ("[PATCH] net: 1/2 of v2", Tag()),
    ("net: x", Tag()),
])
def test_what_stands_in_brackets(subject: str, expected: Tag) -> None:
    assert tag(subject) == expected


def test_a_whole_series_with_its_cover_letter() -> None:
    found = of(("[PATCH 0/2] all", ""), ("[PATCH 1/2] a", "A"), ("[PATCH 2/2] b", "B"))
    assert (order(found), [one.at for one in found.covers], found.notes) == ([2, 3], [1], ())


def test_out_of_order_is_sorted_and_said() -> None:
    found = of(("[PATCH 2/3] b", "B"), ("[PATCH 3/3] c", "C"), ("[PATCH 1/3] a", "A"))
    assert order(found) == [3, 1, 2]
    assert found.notes == ("x.mbox: its patches were out of order (2, 3, 1) and were sorted by their numbers",)


@pytest.mark.parametrize(("numbers", "said"), [
    ([1, 2, 4, 5, 6, 7], "3/7 is missing"), ([1, 7], "2/7, 3/7, 4/7, 5/7, 6/7 are missing"), ([6, 7], "1/7, 2/7"),
])
def test_missing_patches(numbers: list[int], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        of(*((f"[PATCH {number}/7] x", str(number)) for number in numbers))
    assert caught.value.where == "x.mbox"
    assert caught.value.hint == "get the whole thread, as `b4 am MESSAGE-ID` does"


@pytest.mark.parametrize(("numbers", "said"), [
    ([1, 2, 3], ""), ([2], ""), ([], ""),
    ([1, 3], "here: the series is not whole: 2/3 is missing"),
    ([1, 3, 2], "here: applied in the order of their names, not of their numbers: 1, 3, 2"),
])
def test_numbers_of_files_are_remarked_on(numbers: list[int], said: str) -> None:
    tags = [Tag(number=number, total=3) for number in numbers]
    assert "; ".join(remarks(tags, "here")) == said
    assert remarks([*tags, Tag()], "here") == remarks([*tags, Tag(number=1, total=1)], "here") == ()


def test_a_single_mail_may_be_any_of_its_series() -> None:
    assert order(of(("[PATCH 3/7] a", "A"))) == [1]


def test_replies_are_left_out_and_said() -> None:
    found = of(("[PATCH 1/1] a", "A"), ("Re: [PATCH 1/1] a", ""), ("AW: Re: [PATCH 1/1] a", ""))
    assert order(found) == [1]
    assert found.notes[0] == "x.mbox: left out mail 2, 'Re: [PATCH 1/1] a': a reply without a patch"
    assert len(found.notes) == 2
    answer = arrange([mail(1, "[PATCH] a", "A"), mail(2, "a few words", answers=True)], "x.mbox")
    assert order(answer) == [1]


@pytest.mark.parametrize(("rows", "said"), [
    ([("[PATCH 1/1] a", "A"), ("Re: [PATCH 1/1] a", "B")], "mail 2, .* is a reply with a patch of its own"),
    ([("[PATCH 0/1] a", "A")], "has the number of a cover letter and holds a patch"),
    ([("[PATCH 1/2] a", "A"), ("[PATCH 2/2] b", "")], "malformed patch: mail 2, .* has no diff"),
    ([("[PATCH] a", "A"), ("lunch", "")], "mail 2, 'lunch' is neither a patch, nor a cover letter, nor a reply"),
    ([("[PATCH 1/2] a", "A"), ("[PATCH 1/2] b", "B")], "two different patches are numbered 1/2"),
    ([("[PATCH 1/1] a", "A"), ("[PATCH] b", "B")], "mail 2, .* has no number, and the others have"),
    ([("[PATCH 1/1] a", "A"), ("[PATCH 1/2] b", "B")], "patches of several series are in it: n/1 and n/2"),
    ([("[PATCH 3/2] a", "A"), ("[PATCH 1/2] b", "B")], "has a number that cannot be"),
    ([("[PATCH 0/1] a", ""), ("Re: [PATCH 0/1] a", "")], "no patch in it"),
    ([], "no patch in it"),
])
def test_what_is_not_certain_is_refused(rows: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        of(*rows)


def test_the_newest_version_counts() -> None:
    rerolled = of(("[PATCH 1/2] a", "A"), ("[PATCH 2/2] b", "B"), ("[PATCH v2 1/2] a", "A2"))
    assert order(rerolled) == [3, 2]
    assert rerolled.notes[0] == "x.mbox: left out mail 1, '[PATCH 1/2] a': mail 3, '[PATCH v2 1/2] a' is newer"
    longer = of(("[PATCH 0/1] s", ""), ("[PATCH v2 0/2] s", ""), ("[PATCH 1/1] a", "A"), ("[PATCH v2 1/2] a", "A"),
                ("[PATCH v2 2/2] b", "B"))
    assert order(longer) == [4, 5]
    assert [one.at for one in longer.covers] == [2]
    assert len(longer.notes) == 2
    alone = of(("[PATCH] a", "A"), ("[PATCH v2] a", "A2"))
    assert order(alone) == [2]


def test_a_mail_that_came_twice_counts_once() -> None:
    found = of(("[PATCH 1/1] a", "A"), ("[PATCH 1/1] a", "A"))
    assert order(found) == [1]
    assert found.notes == ("x.mbox: left out mail 2, '[PATCH 1/1] a': the same as mail 1",)


def test_patches_without_numbers_keep_the_order_of_the_file() -> None:
    found = of(("[PATCH] b", "B"), ("[PATCH] a", "A"))
    assert order(found) == [1, 2]
    assert "taken in the order of the file" in found.notes[0]


@given(st.lists(st.tuples(st.sampled_from(["[PATCH 1/2] a", "[PATCH 2/2] b", "[PATCH v2 2/2] b", "Re: [PATCH 1/2] a",
                                           "[PATCH 0/2] c", "[PATCH] d", "e", "[PATCH v2 1/3] a"]),
                          st.sampled_from(["", "A", "B"])), max_size=6))
def test_any_mbox_is_arranged_or_refused(rows: list[tuple[str, str]]) -> None:
    try:
        found = of(*rows)
    except UsageError:
        return
    assert found.patches
    if len(rows) == 1:
        return
    numbers = [one.tag.number for one in found.patches]
    assert numbers == list(range(1, len(numbers) + 1)) or set(numbers) == {None}
    assert all(one.diff for one in found.patches)
    assert not any(one.diff for one in found.covers)
