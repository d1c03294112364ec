# SPDX-License-Identifier: GPL-2.0-only
"""series: what is not a well-formed patch is refused with file and line, before anything is unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.kernel.series import has_diff, hunk_at, read_patch, unix

GOOD = """\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: A Tester <tester@localhost>
Date: Mon, 23 Nov 2026 00:00:00 +0000
Subject: [PATCH 2/3] net: say one thing
 and another

Why it is so.
---
 net/a.c | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/net/a.c b/net/a.c
index 1111111..2222222 100644
--- a/net/a.c
+++ b/net/a.c
@@ -1,3 +1,3 @@ first
 one
-two
+2
 three
@@ -10,2 +10,3 @@ second
 ten
+ten and a half
 eleven
diff --git a/net/new.c b/net/new.c
new file mode 100644
index 0000000..3333333
--- /dev/null
+++ b/net/new.c
@@ -0,0 +1 @@
+new
"""


def patch(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "0001.patch"
    path.write_text(text)
    return path


def test_subject_and_paths(tmp_path: Path) -> None:
    read = read_patch(patch(tmp_path, GOOD))
    assert read.subject == "net: say one thing and another"
    assert read.touches == ("net/a.c", "net/new.c")


def test_hunks_are_found_by_their_old_line(tmp_path: Path) -> None:
    read = read_patch(patch(tmp_path, GOOD))
    assert hunk_at(read, "net/a.c", 10) == 2
    assert hunk_at(read, "net/a.c", 11) is None
    assert hunk_at(read, "net/b.c", 10) is None


@pytest.mark.parametrize(("old", "new", "line", "message"), [
    ("Subject: [PATCH 2/3] net: say one thing\n and another\n", "", 1, "no Subject"),
    (GOOD[GOOD.index("diff --git"):], "", None, "no `diff --git`"),
    (" three\n@@", "@@", 16, "cut short or damaged"),
    (" eleven\n", "", 21, "cut short or damaged"),
    ("+new\n", "", 30, "cut short or damaged"),
    ("b/net/a.c\n@@", "b/../../etc/passwd\n@@", 15, "reaches out of the tree"),
    ("b/net/a.c\n@@", "/etc/passwd\n@@", 15, "reaches out of the tree"),
    ("b/net/a.c\n@@", "b/.git/hooks/post-commit\n@@", 15, "reaches out of the tree"),
    ("new file mode 100644", "new file mode 120000", 26, "symbolic link"),
    ("new file mode 100644", "new file mode 160000", 26, "submodule"),
    ("\n---\n net/a.c", "\nGIT binary patch\n---\n net/a.c", None, "binary"),
    ("new file mode 100644\n", "Binary files /dev/null and b/net/new.c differ\n", 26, "binary"),
    ("index 1111111..2222222 100644", "index 1111111..2222222 120000", 13, "symbolic link"),
    ("index 1111111..2222222 100644", "index 1111111..2222222 160000", 13, "submodule"),
    ("--- a/net/a.c", '--- "a/net/\\303\\244.c"', 14, "reaches out of the tree"),
    ("+++ b/net/a.c\n", "+++ b/net/a.c\r\n", 15, "some of its lines end in CR LF"),
])
def test_malformed_patches(tmp_path: Path, old: str, new: str, line: int | None, message: str) -> None:
    assert old in GOOD
    path = patch(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(UsageError, match=message) as caught:
        read_patch(path)
    assert caught.value.where == (f"{path}:{line}" if line else str(path))


def test_changes_without_lines_are_seen(tmp_path: Path) -> None:
    diff = ("diff --git a/scripts/x b/scripts/x\nold mode 100644\nnew mode 100755\n"
            "diff --git a/net/empty.c b/net/empty.c\nnew file mode 100644\nindex 0000000..e69de29\n"
            "diff --git a/net/old.c b/net/moved.c\nsimilarity index 100%\n"
            "rename from net/old.c\nrename to net/moved.c\n")
    read = read_patch(patch(tmp_path, GOOD[:GOOD.index("diff --git")] + diff))
    assert read.touches == ("scripts/x", "net/empty.c", "net/old.c", "net/moved.c")


def test_a_diff_as_quilt_writes_it(tmp_path: Path) -> None:
    plain = "\n".join(line for line in GOOD.splitlines() if not line.startswith(("diff ", "index ", "new file")))
    read = read_patch(patch(tmp_path, plain.replace("--- a/net/a.c", "--- linux.orig/net/a.c\t2020-01-01 00:00:00")))
    assert read.touches == ("net/a.c", "net/new.c")


def test_carriage_returns_of_the_transport_go_and_those_of_the_file_stay(tmp_path: Path) -> None:
    path = patch(tmp_path, "")
    path.write_bytes(GOOD.replace("\n", "\r\n").encode())
    assert read_patch(path).text == GOOD.encode()
    path.write_bytes(GOOD.replace("-two\n+2\n", "-two\r\n+2\r\n").encode())
    assert b"-two\r\n+2\r\n" in read_patch(path).text
    assert unix(b"") == (b"", False)


def test_encoded_words_in_a_subject(tmp_path: Path) -> None:
    coded = GOOD.replace("net: say one thing\n and another", "=?UTF-8?q?net:_gr=C3=BC=C3=9Fe?=")
    assert read_patch(patch(tmp_path, coded)).subject == "net: grüße"
    raw = patch(tmp_path, "")
    raw.write_bytes(GOOD.replace("net: say one thing\n and another", "net: grüße").encode())
    assert read_patch(raw).subject == "net: grüße"
    unknown = GOOD.replace("net: say one thing\n and another", "=?no-such?q?x?=")
    assert read_patch(patch(tmp_path, unknown)).subject == "=?no-such?q?x?="


def test_a_quoted_diff_is_none_of_its_own() -> None:
    assert has_diff(GOOD.encode())
    assert not has_diff("".join(f"> {line}\n" for line in GOOD.splitlines()).encode())


def test_a_file_too_big_to_be_a_patch(tmp_path: Path) -> None:
    path = patch(tmp_path, GOOD)
    with path.open("ab") as stream:
        stream.truncate((16 << 20) + 1)
    with pytest.raises(UsageError, match="too big to be a patch: more than 16 MiB"):
        read_patch(path)


@given(st.integers(0, len(GOOD) - 1), st.sampled_from(["", "\n", "@@ -1 +1 @@", "-", "\x00", "diff --git a/x b/x\n"]))
def test_damage_anywhere_is_refused_or_read_but_never_crashes(
        tmp_path_factory: pytest.TempPathFactory, at: int, insert: str) -> None:
    path = patch(tmp_path_factory.mktemp("series"), GOOD[:at] + insert + GOOD[at + 1:])
    try:
        assert read_patch(path).touches
    except UsageError as error:
        assert error.where  # noqa: PT017 - refusing and reading are both right
