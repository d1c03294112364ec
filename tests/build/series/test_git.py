# SPDX-License-Identifier: GPL-2.0-only
"""Sources and series from git repositories: only read, pinned to a commit, and what is not there is named."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import InfraError, UsageError
from harness.jobs import builds
from harness.jobs.inputs import applied, resolve
from harness.kernel import gitplace, source
from harness.kernel.gitrange import GitRange, read_range
from harness.kernel.series import Series
from harness.kernel.tree import prepare
from harness.plan.plan import read_plan
from harness.report.progress import Progress
from harness.store.store import Store
from tests.build.series.tinykernel import TITLES, commit, edited, git
from tests.conftest import PLAN


@pytest.fixture
def server(repo: Path) -> Iterator[str]:
    """The URL at which git's own server gives out the repository."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with subprocess.Popen(["git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={port}", "--reuseaddr",
                           f"--base-path={repo.parent}"], stderr=subprocess.DEVNULL, start_new_session=True) as daemon:
        url = f"git://127.0.0.1:{port}/repo"
        until = time.monotonic() + 20
        while subprocess.run(["git", "ls-remote", url], capture_output=True, check=False).returncode != 0:
            assert time.monotonic() < until
            time.sleep(0.1)
        try:
            yield url
        finally:
            os.killpg(daemon.pid, 15)


def fetched(url: str | Path, ref: str, store: Store) -> Path:
    pinned = source.git(str(url), ref, store, deadline=Deadline.after(120))
    return source.fetch(pinned, store, deadline=Deadline.after(120))


def ranged(url: str | Path, base: str, tip: str, store: Store) -> Series:
    return read_range(GitRange(git=str(url), base=base, tip=tip), store, deadline=Deadline.after(120))


def titles(series: Series) -> list[str]:
    return [patch.subject for patch in series.patches]


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder: size and time."""
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_local_repository_is_read_and_never_touched(repo: Path, store: Store) -> None:
    (repo / "net" / "a.c").write_text("not committed\n")
    before = state(repo)
    pinned = source.git(str(repo), "topic", store, deadline=Deadline.after(60))
    assert pinned.commit is not None
    assert pinned.commit.id == git(repo, "rev-parse", "topic")
    assert pinned.sha256 == git(repo, "rev-parse", "topic^{tree}")
    assert str(pinned) == f"git: {repo} topic ({pinned.commit.id[:12]})"
    tree = source.fetch(pinned, store, deadline=Deadline.after(60))
    assert (tree / "net" / "a.c").read_text() == edited((5, "first"), (15, "second"), (25, "third"))
    assert sorted(path.name for path in tree.iterdir()) == ["Kconfig", "Makefile", "net"]
    assert titles(ranged(repo, "v1", "topic", store)) == TITLES
    assert state(repo) == before


@pytest.mark.parametrize("ref", ["topic", "HEAD", "v1", "refs/heads/topic", "topic~1", "main", "origin/far"])
def test_anything_that_git_takes_for_a_commit(repo: Path, store: Store, ref: str) -> None:
    git(repo, "update-ref", "refs/remotes/origin/far", "topic~2")
    pinned = source.git(str(repo), ref, store, deadline=Deadline.after(60))
    assert pinned.commit is not None
    assert pinned.commit.id == git(repo, "rev-parse", f"{ref}^{{commit}}")
    short = source.git(str(repo), pinned.commit.id[:12], store, deadline=Deadline.after(60))
    assert short.key == pinned.key


def test_same_content_is_the_same_source_and_a_moved_branch_another(repo: Path, store: Store) -> None:
    first = source.git(str(repo), "topic", store, deadline=Deadline.after(60))
    git(repo, "checkout", "-q", "topic")
    git(repo, "commit", "-q", "--amend", "-m", "other words")
    assert source.git(str(repo), "topic", store, deadline=Deadline.after(60)).key == first.key
    commit(repo, "net: four", net__a_c=edited((1, "fourth")))
    moved = source.git(str(repo), "topic", store, deadline=Deadline.after(60))
    assert moved.key != first.key
    git(repo, "checkout", "-q", "main")
    git(repo, "branch", "-q", "-D", "topic")
    with pytest.raises(UsageError, match="no commit 'topic'"):
        source.git(str(repo), "topic", store, deadline=Deadline.after(60))


def test_worktrees_bare_repositories_and_borrowed_objects(repo: Path, store: Store, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", str(tmp_path / "tree"), "topic")
    git(tmp_path, "clone", "-q", "--bare", str(repo), "bare.git")
    git(tmp_path, "clone", "-q", "--shared", str(repo), "shared")
    for place in (tmp_path / "tree", tmp_path / "bare.git", tmp_path / "shared"):
        refs = ("v1", "origin/topic") if place.name == "shared" else ("v1", "topic")
        assert titles(ranged(place, *refs, store)) == TITLES
    at_head = source.git(str(tmp_path / "tree"), "HEAD", store, deadline=Deadline.after(60))
    assert at_head.commit is not None
    assert at_head.commit.id == git(repo, "rev-parse", "topic")


def test_no_hook_no_configuration_and_no_attribute_has_a_say(repo: Path, store: Store, tmp_path: Path) -> None:
    git(repo, "checkout", "-q", "topic")
    attributes = "*.c ident eol=crlf filter=evil\nMakefile export-ignore\n"
    commit(repo, "attributes", x_c="$Id$\n", **{".gitattributes": attributes})
    marker = tmp_path / "marker"
    for hook in ("post-checkout", "post-index-change", "reference-transaction", "pre-auto-gc"):
        path = repo / ".git" / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {marker}\n")
        path.chmod(0o755)
    for key, value in (("core.fsmonitor", f"touch {marker}"), ("filter.evil.smudge", f"touch {marker}; cat"),
                       ("diff.noprefix", "true"), ("format.attach", "true"), ("diff.external", f"touch {marker}"),
                       ("uploadpack.packObjectsHook", f"touch {marker}")):
        git(repo, "config", key, value)
    tree = fetched(repo, "topic", store)
    assert (tree / "x.c").read_bytes() == b"$Id$\n"
    assert (tree / "Makefile").exists()
    assert titles(ranged(repo, "v1", "topic~1", store)) == TITLES
    assert not marker.exists()


def test_a_repository_that_another_user_owns(repo: Path, store: Store) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    for path in (repo, *repo.rglob("*")):
        os.chown(path, 1, 1)
    assert titles(ranged(repo, "v1", "topic", store)) == TITLES


def test_submodules_stay_empty_and_links_that_leave_are_refused(repo: Path, store: Store) -> None:
    git(repo, "update-index", "--add", "--cacheinfo", f"160000,{git(repo, 'rev-parse', 'v1')},sub")
    git(repo, "commit", "-q", "-m", "submodule")
    (repo / "inside").symlink_to("net/a.c")
    git(repo, "add", "inside")
    git(repo, "commit", "-q", "-m", "a link")
    tree = fetched(repo, "main", store)
    assert list((tree / "sub").iterdir()) == []
    assert (tree / "inside").read_text() == edited()
    for target in ("../../outside", "/etc/passwd"):
        (repo / "inside").unlink()
        (repo / "inside").symlink_to(target)
        git(repo, "commit", "-q", "-a", "-m", "leaves")
        with pytest.raises(UsageError, match=f"the source has a link that leads out: inside -> {target}"):
            fetched(repo, "main", store)


def test_a_ref_that_is_not_there(repo: Path, store: Store) -> None:
    with pytest.raises(UsageError, match=r"no commit 'topik' in this repository[\s\S]*did you mean 'topic'") as caught:
        source.git(str(repo), "topik", store, deadline=Deadline.after(60))
    assert caught.value.where == str(repo)
    with pytest.raises(UsageError, match=f"no commit '{'0' * 40}'[\\s\\S]*git -C {repo} fetch"):
        ranged(repo, "v1", "0" * 40, store)
    for strange in ("-v1", "--all", "", "a b", "v1:net/a.c", "x\ny"):
        with pytest.raises(UsageError, match="no commit"):
            source.git(str(repo), strange, store, deadline=Deadline.after(60))


def test_what_is_no_repository(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no git repository"):
        source.git(str(tmp_path), "v1", store, deadline=Deadline.after(60))
    for strange in ("ext::sh -c touch% x", "http://example.org/x.git", "-u@x:y", "fd::7", "https://a b/"):
        with pytest.raises(UsageError, match="no address that repositories are fetched from"):
            gitplace.find(strange)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_shallow_clone_without_the_range(repo: Path, store: Store, tmp_path: Path, depth: int) -> None:
    git(tmp_path, "clone", "-q", f"--depth={depth}", "--no-single-branch", f"file://{repo}", "shallow")
    with pytest.raises(UsageError, match="shallow clone") as caught:
        ranged(tmp_path / "shallow", "v1", "origin/topic", store)
    assert caught.value.hint == f"git -C {tmp_path}/shallow fetch --unshallow"
    with pytest.raises(UsageError, match=r"no commit 'origin/topic~2'[\s\S]*shallow clone"):
        source.git(str(tmp_path / "shallow"), "origin/topic~2", store, deadline=Deadline.after(60))
    assert (fetched(tmp_path / "shallow", "v1", store) / "Kconfig").exists()
    git(tmp_path / "shallow", "fetch", "-q", "--unshallow")
    assert titles(ranged(tmp_path / "shallow", "v1", "origin/topic", store)) == TITLES


def test_a_shallow_clone_with_the_range(repo: Path, store: Store, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth=3", "--branch=topic", f"file://{repo}", "shallow")
    assert titles(ranged(tmp_path / "shallow", "topic~2", "topic", store)) == TITLES[1:]


def test_the_merge_of_a_series_stands_for_the_series(repo: Path, store: Store) -> None:
    commit(repo, "elsewhere", b_c="b\n")
    git(repo, "merge", "-q", "--no-ff", "-m", "Merge branch 'topic'", "topic")
    merge = git(repo, "rev-parse", "HEAD")
    series = ranged(repo, f"{merge[:12]}^1", merge[:12], store)
    assert titles(series) == TITLES
    assert series.notes[1].endswith(f"{merge[:12]} of {repo}: {merge[:12]} is the merge of the series and no patch")
    assert all(f"{repo}, commit " in patch.where for patch in series.patches)
    with pytest.raises(UsageError, match=r"the range has merges[\s\S]*Merge branch 'topic'"):
        ranged(repo, "v1", "main", store)


def test_the_plan_with_the_original_commits_on_a_small_repository(repo: Path, store: Store, tmp_path: Path) -> None:
    """All that `patches/skb-extensions/upstream.yaml` does before it configures a kernel, with another merge in it."""
    commit(repo, "elsewhere", b_c="b\n")
    git(repo, "merge", "-q", "--no-ff", "-m", "Merge branch 'topic'", "topic")
    shutil.copytree(PLAN / "upstream", tmp_path / "upstream")
    text = (PLAN / "upstream.yaml").read_text().replace("../../../linux", "repo")
    (tmp_path / "upstream.yaml").write_text(text.replace("4a54877ee767", git(repo, "rev-parse", "--short=12", "HEAD")))
    plan = read_plan(tmp_path / "upstream.yaml")
    progress = Progress(quiet=True)
    inputs = applied(resolve(plan, Deadline.after(60), store=store), store=store, progress=progress)
    facts = builds.input_facts(inputs)
    assert facts["series"] == TITLES
    assert facts["source_commit"] == git(repo, "rev-parse", "HEAD^1")
    assert facts["source_ref"] == f"{git(repo, 'rev-parse', '--short=12', 'HEAD')}^1"
    patched = prepare(inputs.trees["patched"], store, deadline=Deadline.after(60))
    merged = fetched(repo, "HEAD", store)
    assert subprocess.run(["diff", "-r", str(patched), str(merged)], check=False).returncode == 0


def test_a_merge_with_changes_of_its_own_is_refused(repo: Path, store: Store) -> None:
    git(repo, "merge", "-q", "--no-ff", "--no-commit", "topic")
    commit(repo, "Merge with more", net__a_c=edited((5, "neither")))
    with pytest.raises(UsageError, match=r"the merge at the end of the range changes files on its own[\s\S]*net/a.c"):
        ranged(repo, "main^1", "main", store)


def test_ranges_with_nothing_in_them(repo: Path, store: Store) -> None:
    with pytest.raises(UsageError, match=r"no commit in the range[\s\S]*write v1..topic"):
        ranged(repo, "topic", "v1", store)
    with pytest.raises(UsageError, match=r"no commit in the range[\s\S]*both name the same commit"):
        ranged(repo, "v1", "main", store)
    git(repo, "commit", "-q", "--allow-empty", "-m", "empty")
    with pytest.raises(UsageError, match="1 of the 1 commits change nothing"):
        ranged(repo, "v1", "main", store)


def test_a_branch_that_makes_room_for_one_below_it(repo: Path, store: Store) -> None:
    assert titles(ranged(repo, "v1", "topic", store)) == TITLES
    git(repo, "branch", "-q", "-m", "topic", "rest")
    git(repo, "branch", "-q", "-m", "rest", "topic/v2")
    assert titles(ranged(repo, "v1", "topic/v2", store)) == TITLES


def test_a_ref_to_what_is_not_there(repo: Path, store: Store) -> None:
    (repo / ".git" / "refs" / "heads" / "broken").write_text(f"{'1' * 40}\n")
    assert titles(ranged(repo, "v1", "topic", store)) == TITLES
    with pytest.raises(UsageError, match="no commit 'broken'"):
        ranged(repo, "v1", "broken", store)
    (repo / ".git" / "refs" / "heads" / "topic").write_text(f"{'1' * 40}\n")
    with pytest.raises(UsageError, match="no commit 'topic'"):
        ranged(repo, "v1", "topic", store)


def test_objects_that_are_gone(repo: Path, store: Store) -> None:
    pinned = source.git(str(repo), "topic", store, deadline=Deadline.after(60))
    blob = git(repo, "rev-parse", "topic:net/a.c")
    (repo / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(UsageError, match="cannot be checked out") as caught:
        source.fetch(pinned, store, deadline=Deadline.after(60))
    assert any(blob in line for line in caught.value.detail)


def test_a_source_from_a_url_takes_one_commit_and_a_range_all_history(repo: Path, server: str, store: Store) -> None:
    assert (fetched(server, "topic", store) / "net" / "a.c").exists()
    (folder,) = (store.root / "git").iterdir()
    assert (folder / "shallow").exists()
    assert titles(ranged(server, "v1", "topic", store)) == TITLES
    assert not (folder / "shallow").exists()
    git(repo, "checkout", "-q", "topic")
    commit(repo, "net: four", net__a_c=edited((1, "fourth")))
    assert titles(ranged(server, "v1", "topic", store)) == [*TITLES, "net: four"]
    assert (fetched(server, "topic", store) / "net" / "a.c").read_text() == edited((1, "fourth"))
    assert titles(ranged(server, "topic~1", "HEAD", store)) == ["net: four"]
    with pytest.raises(UsageError, match=r"no commit 'nowhere'[\s\S]*git ls-remote"):
        fetched(server, "nowhere", store)


def test_one_commit_of_a_url_by_its_full_id(repo: Path, server: str, store: Store) -> None:
    assert (fetched(server, git(repo, "rev-parse", "topic~1"), store) / "net" / "a.c").read_text() == edited(
        (5, "first"), (15, "second"))
    (folder,) = (store.root / "git").iterdir()
    assert not (folder / "whole").exists()
    with pytest.raises(UsageError, match=f"no commit '{'2' * 40}'"):
        fetched(server, "2" * 40, store)


def test_a_repository_without_a_head(repo: Path, store: Store) -> None:
    assert titles(ranged(repo, "v1", "topic", store)) == TITLES
    git(repo, "symbolic-ref", "HEAD", "refs/heads/unborn")
    assert titles(ranged(repo, "v1", "topic", store)) == TITLES
    with pytest.raises(UsageError, match="no commit 'HEAD'"):
        ranged(repo, "v1", "HEAD", store)


def test_a_url_whose_commit_is_known_is_not_asked_again(repo: Path, server: str, store: Store) -> None:
    known = git(repo, "rev-parse", "topic")
    ranged(server, "v1", "topic", store)
    shutil.move(repo, repo.parent / "gone")
    assert titles(ranged(server, git(repo.parent / "gone", "rev-parse", "v1"), known, store)) == TITLES
    with pytest.raises(UsageError, match="the repository cannot be read"):
        ranged(server, "v1", "topic", store)


def test_a_server_that_does_not_answer_is_the_labs_fault(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(InfraError, match="the repository cannot be read"):
        fetched(f"git://127.0.0.1:{port}/x", "v1", store)


def test_what_a_killed_git_left_behind_is_cleared(repo: Path, store: Store) -> None:
    ranged(repo, "v1", "topic", store)
    (folder,) = (store.root / "git").iterdir()
    (folder / "HEAD.lock").touch()
    (folder / "refs" / "heads" / "topic.lock").touch()
    git(repo, "commit", "-q", "--allow-empty", "-m", "moves main")
    git(repo, "branch", "-f", "topic", "topic~1")
    assert titles(ranged(repo, "v1", "topic", store)) == TITLES[:2]
