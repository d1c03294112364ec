# SPDX-License-Identifier: GPL-2.0-only
"""A patch that does not apply is said to be so with the reason; fuzz is taken only where the plan allows it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import KernelError
from harness.kernel import source
from harness.kernel.series import Patch, read_patch
from harness.kernel.tree import Applied, Tree, apply, prepare
from harness.store.store import Store
from tests.build.series import tinykernel
from tests.build.series.tinykernel import commit, edited, git


def patches(repo: Path) -> list[Patch]:
    """The topic branch as files."""
    found = []
    for number, mail in enumerate(tinykernel.mails(repo), 1):
        path = repo.parent / f"{number:04}.patch"
        path.write_text(mail)
        found.append(read_patch(path))
    return found


def applied(repo: Path, store: Store, some: list[Patch], *, fuzz: bool = False, ref: str = "main") -> Applied:
    start = source.git(str(repo), ref, store, deadline=Deadline.after(60))
    return apply(Tree(name="patched", source=start, patches=tuple(some), fuzz=fuzz), store, deadline=Deadline.after(60))


def text(done: Applied) -> str:
    return (done.files / "net" / "a.c").read_text()


def test_a_patch_that_is_already_in_the_tree(repo: Path, store: Store) -> None:
    series = patches(repo)
    with pytest.raises(KernelError) as caught:
        applied(repo, store, series, ref="topic~2")
    assert caught.value.what == "patch 1 of 3 does not apply, because it is already in the tree: net: one"
    assert caught.value.where == f"{repo.parent}/0001.patch: net/a.c, hunk 1"
    assert "error: patch failed: net/a.c:2" in caught.value.detail
    with pytest.raises(KernelError, match="patch 4 of 4 does not apply, because it is already in the tree: net: three"):
        applied(repo, store, [*series, series[2]])


def test_fuzz_is_refused_unless_allowed_and_then_said(repo: Path, store: Store) -> None:
    series = patches(repo)
    commit(repo, "meanwhile", net__a_c=edited((2, "another"), (17, "another")))
    with pytest.raises(KernelError) as caught:
        applied(repo, store, series)
    assert caught.value.what == ("patch 1 of 3 does not apply, except with fuzz, as lines around its change differ: "
                                 "net: one")
    assert "`fuzz: true`" in str(caught.value.hint)
    done = applied(repo, store, series, fuzz=True)
    assert text(done) == edited((2, "another"), (5, "first"), (15, "second"), (17, "another"), (25, "third"))
    assert [row.split(" applied with fuzz: ")[0] for row in done.fuzz] == [
        "patch 1 of 3 (net: one)", "patch 2 of 3 (net: two)"]
    assert all("Context reduced to" in row for row in done.fuzz)
    assert applied(repo, store, series, fuzz=True).fuzz == done.fuzz


def test_fuzz_that_is_allowed_and_not_needed_is_not_said(repo: Path, store: Store) -> None:
    assert applied(repo, store, patches(repo), fuzz=True).fuzz == ()


def test_another_change_of_the_same_line_is_no_fuzz(repo: Path, store: Store) -> None:
    commit(repo, "meanwhile", net__a_c=edited((5, "another")))
    with pytest.raises(KernelError, match="patch 1 of 3 does not apply: net: one"):
        applied(repo, store, patches(repo), fuzz=True)


def test_white_space_alone_is_named(repo: Path, store: Store) -> None:
    series = patches(repo)
    commit(repo, "meanwhile", net__a_c=edited().replace("\n", "\r\n"))
    with pytest.raises(KernelError, match=r"because of its white space \(tabs, or CR at the end of lines\)"):
        applied(repo, store, series)


def test_a_mode_an_empty_file_and_a_rename(repo: Path, store: Store) -> None:
    git(repo, "checkout", "-q", "-b", "odd")
    (repo / "Makefile").chmod(0o755)
    (repo / "net" / "empty.c").touch()
    git(repo, "mv", "net/a.c", "net/b.c")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "odd changes")
    (mail,) = tinykernel.mails(repo, revisions="v1..odd")
    (repo.parent / "odd.patch").write_text(mail)
    done = applied(repo, store, [read_patch(repo.parent / "odd.patch")])
    assert set(done.content.files) == {"Makefile", "net/b.c", "net/empty.c"}
    assert done.content.removed == ("net/a.c",)
    assert (done.files / "Makefile").stat().st_mode & 0o100


def branch(repo: Path, *changes: str) -> list[Patch]:
    """A branch from v1 with a commit for each of these shell commands, as patches."""
    git(repo, "checkout", "-q", "-b", "odd", "v1")
    for change in changes:
        subprocess.run(["sh", "-ec", change], cwd=repo, check=True)
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", change)
    found = []
    for number, mail in enumerate(tinykernel.mails(repo, revisions="v1..odd"), 1):
        path = repo.parent / f"odd-{number}.patch"
        path.write_text(mail)
        found.append(read_patch(path))
    git(repo, "checkout", "-q", "main")
    return found


@pytest.mark.parametrize(("change", "file", "folder"), [
    ("rm -r net; echo > net", "net", "."),
    ("rm Makefile; mkdir Makefile; echo > Makefile/x", "Makefile/x", "Makefile")])
def test_a_folder_where_a_file_was_and_the_other_way_round(repo: Path, store: Store, change: str, file: str,
                                                           folder: str) -> None:
    start = source.git(str(repo), "main", store, deadline=Deadline.after(60))
    tree = Tree(name="patched", source=start, patches=tuple(branch(repo, change)))
    made = prepare(tree, store, deadline=Deadline.after(60))
    assert (made / file).read_text() == "\n"
    assert (made / folder).is_dir()


def test_a_folder_that_holds_more_than_the_series_removes(repo: Path, store: Store) -> None:
    series = branch(repo, "rm -r net; echo > net")
    commit(repo, "meanwhile", net__new_c="another\n")
    with pytest.raises(KernelError, match=r"a patch makes net, and net/new\.c is in the way"):
        applied(repo, store, series)


def test_a_new_file_in_a_folder_that_is_a_file(repo: Path, store: Store) -> None:
    text = tinykernel.mails(repo)[0]
    (repo.parent / "odd.patch").write_text(text[:text.index("diff --git")] + "diff --git a/Makefile/x b/Makefile/x\n"
                                           "new file mode 100644\n--- /dev/null\n+++ b/Makefile/x\n@@ -0,0 +1 @@\n+x\n")
    with pytest.raises(KernelError, match="a patch makes Makefile/x, and Makefile is in the way"):
        applied(repo, store, [read_patch(repo.parent / "odd.patch")])


def test_two_mails_in_one_file_are_one_patch_to_git_and_here(repo: Path, store: Store) -> None:
    series = branch(repo, "sed -i s/1/one/ net/a.c", "echo changed: >> Makefile")
    whole = repo.parent / "both.patch"
    whole.write_bytes(b"-- \n2.39.5\n\n".join(patch.text.partition(b"\n")[2] for patch in series))
    assert set(applied(repo, store, [read_patch(whole)]).content.files) == {"net/a.c", "Makefile"}
    whole.write_text(whole.read_text().replace("--- a/Makefile", "new file mode 100644\n--- /dev/null").replace(
        "@@ -1 +1,2 @@\n all:\n", "@@ -0,0 +1 @@\n"))
    with pytest.raises(KernelError, match="already exists in index"):
        applied(repo, store, [read_patch(whole)])


def test_attributes_of_the_series_do_not_change_what_it_writes(repo: Path, store: Store) -> None:
    series = branch(repo, "echo '*.c ident eol=crlf' > .gitattributes",
                    "echo '$Id$' > net/id.c; sed -i s/1/one/ net/a.c")
    done = applied(repo, store, series)
    assert (done.files / "net/id.c").read_bytes() == b"$Id$\n"
    assert b"\r" not in (done.files / "net/a.c").read_bytes()
