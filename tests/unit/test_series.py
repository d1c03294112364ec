# SPDX-License-Identifier: GPL-2.0-only
"""series: what is not a well-formed patch is refused with file and line, before anything is unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.kernel.series import hunk_at, read_patch, read_series

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
])
def test_malformed_patches(tmp_path: Path, old: str, new: str, line: int | None, message: str) -> None:
    assert old in GOOD
    path = patch(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(UsageError, match=message) as caught:
        read_patch(path)
    assert caught.value.where == (f"{path}:{line}" if line else str(path))


def test_a_series_is_in_the_order_of_names_and_must_not_be_empty(tmp_path: Path) -> None:
    for name in ("0002-b.patch", "0001-a.patch"):
        (tmp_path / name).write_text(GOOD)
    assert [row.path.name for row in read_series(["*.patch"], tmp_path)] == ["0001-a.patch", "0002-b.patch"]
    with pytest.raises(UsageError, match=r"no patch matches 'x/\*\.patch'"):
        read_series(["x/*.patch"], tmp_path)


@given(st.integers(0, len(GOOD) - 1), st.sampled_from(["", "\n", "@@ -1 +1 @@", "-", "\x00", "diff --git a/x b/x\n"]))
def test_damage_anywhere_is_refused_or_read_but_never_crashes(
        tmp_path_factory: pytest.TempPathFactory, at: int, insert: str) -> None:
    path = patch(tmp_path_factory.mktemp("series"), GOOD[:at] + insert + GOOD[at + 1:])
    try:
        assert read_patch(path).touches
    except UsageError as error:
        assert error.where  # noqa: PT017 - refusing and reading are both right
