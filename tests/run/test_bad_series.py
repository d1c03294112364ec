# SPDX-License-Identifier: GPL-2.0-only
"""Sources and series that are no good, as a user meets them: one clear message, the right exit code, no traceback."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.build.series import tinykernel
from tests.build.series.tinykernel import commit, edited, git
from tests.run.conftest import harness

Build = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return tinykernel.make(tmp_path / "repo")


@pytest.fixture
def build(tmp_path: Path, repo: Path) -> Build:
    """`harness build` (or another command) on a plan that starts from the small repository."""
    def start(series: str, *, ref: str = "v1", more: str = "",
              command: tuple[str, ...] = ("build",)) -> subprocess.CompletedProcess[str]:
        (tmp_path / "plan.yaml").write_text(f"source: {{git: {repo}, ref: '{ref}'}}\nseries: {series}\n"
                                            f"variants:\n  all: [qemu-x86_64]\n{more}")
        return harness(*command, str(tmp_path), cwd=tmp_path, env={"HARNESS_CACHE": str(tmp_path / "cache")})

    return start


def clear(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    assert done.returncode == code, done
    for text in said:
        assert text in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert "a bug in the harness" not in done.stderr


def thread(tmp_path: Path, mails: list[str]) -> str:
    (tmp_path / "thread.mbox").write_text("\n".join(mails))
    return "thread.mbox"


def test_a_ref_that_is_not_there(build: Build, repo: Path) -> None:
    clear(build(f"{{git: {repo}, range: v1..topic}}", ref="topik"), 2, f"{repo}: no commit 'topik' in this repository",
          "did you mean 'topic'?")
    clear(build(f"{{git: {repo}, base: v1, tip: {'a' * 40}}}"), 2, f"no commit '{'a' * 40}'", f"git -C {repo} fetch")


def test_a_shallow_clone_without_the_range(build: Build, repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth=1", "--branch=topic", f"file://{repo}", "shallow")
    clear(build("{git: shallow, range: topic~3..topic}"), 2, "no commit 'topic~3'", "shallow clone",
          f"git -C {tmp_path}/shallow fetch --unshallow")


def test_an_mbox_with_missing_patches(build: Build, repo: Path, tmp_path: Path) -> None:
    one, _, three = tinykernel.mails(repo)
    clear(build(thread(tmp_path, [one, three])), 2, f"{tmp_path}/thread.mbox: the series is not whole: 2/3 is missing",
          "b4 am")


def test_an_mbox_out_of_order_with_a_reply_is_put_in_order(build: Build, repo: Path, tmp_path: Path) -> None:
    cover, one, two, three = tinykernel.mails(repo, "--cover-letter")
    reply = "From x@localhost Thu Jan  1 00:00:00 1970\nFrom: x@localhost\nSubject: Re: [PATCH 1/3] net: one\n\n> a\n"
    asked = thread(tmp_path, [cover, two, reply, one, three])
    done = build(asked, command=("list", "--json", "plan"))
    assert [(row["kind"], row["what"]) for row in json.loads(done.stdout)][:4] == [
        ("cover", "*** SUBJECT HERE ***"), ("patch", "net: one"), ("patch", "net: two"), ("patch", "net: three")]
    clear(build(asked), 1, "a reply without a patch", "out of order (2, 1, 3)")


def test_a_series_of_a_cover_letter_alone_is_none(build: Build, repo: Path, tmp_path: Path) -> None:
    (tmp_path / "0000-cover-letter.patch").write_text(tinykernel.mails(repo, "--cover-letter")[0])
    clear(build("'*.patch'"), 2, f"{tmp_path}/plan.yaml: no patch in `series`, only a cover letter")
    clear(build(f"{{git: {repo}, range: v1..topic}}", more="base: 0000-cover-letter.patch\n"), 2, "no patch in `base`")


def test_a_reply_with_a_patch(build: Build, repo: Path, tmp_path: Path) -> None:
    mails = tinykernel.mails(repo)
    clear(build(thread(tmp_path, [*mails, mails[0].replace("Subject: [PATCH", "Subject: Re: [PATCH")])), 2,
          "is a reply with a patch of its own")


def test_crlf_patches_are_repaired_and_that_is_said(build: Build, repo: Path, tmp_path: Path) -> None:
    (tmp_path / "a.patch").write_bytes(tinykernel.mails(repo)[0].replace("\n", "\r\n").encode())
    clear(build("a.patch"), 1, f"{tmp_path}/a.patch: every line ended in CR LF; the CRs were taken off")


def test_a_patch_already_applied(build: Build, repo: Path) -> None:
    clear(build(f"{{git: {repo}, range: v1..topic}}", ref="topic~2"), 1,
          "patch 1 of 3 does not apply, because it is already in the tree: net: one", "net/a.c, hunk 1")


def test_a_series_that_applies_with_fuzz(build: Build, repo: Path, tmp_path: Path) -> None:
    commit(repo, "meanwhile", net__a_c=edited((2, "another")))
    asked = f"{{git: {repo}, range: v1..topic}}"
    clear(build(asked, ref="main"), 1, "patch 1 of 3 does not apply, except with fuzz", "`fuzz: true`")
    allowed = "fuzz: true\n"
    clear(build(asked, ref="main", more=allowed), 1, "patch 1 of 3 (net: one) applied with fuzz: Context reduced to")
    build(asked, ref="main", more=allowed, command=("run", "--out", str(tmp_path / "run")))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    (row,) = (row for row in results["rows"] if row["kind"] == "series")
    assert (row["id"], row["verdict"], row["detail"]) == ("fuzz", "PASS", results["inputs"]["fuzz"])
    assert "patch 1 of 3 (net: one)" in row["detail"][0]
    assert results["inputs"]["source_commit"] == git(repo, "rev-parse", "main")


def test_a_tree_with_a_link_that_leaves_it(build: Build, repo: Path) -> None:
    (repo / "out").symlink_to("/etc/passwd")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "link")
    clear(build(f"{{git: {repo}, range: v1..topic}}", ref="main"), 2, "the source has a link that leads out: out -> ")


def test_what_is_no_repository(build: Build, tmp_path: Path) -> None:
    clear(build("{git: nowhere, range: a..b}"), 2, f"{tmp_path}/nowhere: no git repository")
    clear(build("{git: 'ext::sh', range: a..b}"), 2, "no address that repositories are fetched from")
    clear(build("{git: 'git://127.0.0.1:1/x', range: a..b}"), 3, "the repository cannot be read", "unable to connect")
