# SPDX-License-Identifier: GPL-2.0-only
"""Sources: a Debian package, a tarball and a folder become the same clean tree; what is not as pinned is refused."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernel import source
from harness.store.store import Store

FILES = {"Kconfig": "config X\n", "Makefile": "all:\n", "net/a.c": "int a;\n"}


def tree(path: Path) -> Path:
    for name, text in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def archive(path: Path, members: dict[str, str], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:xz") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return path


def fetch(pinned: source.Source, tmp_path: Path) -> Path:
    return source.fetch(pinned, Store(root=tmp_path / "store"), deadline=Deadline.after(120))


def content(path: Path) -> dict[str, str]:
    return {str(file.relative_to(path)): file.read_text() for file in path.rglob("*") if file.is_file()}


def test_debians_source_is_the_pinned_kernel(clean_tree: Path) -> None:
    head = (clean_tree / "Makefile").read_text().splitlines()[1:4]
    assert head == ["VERSION = 6", "PATCHLEVEL = 1", "SUBLEVEL = 192"]


def test_a_version_that_debian_does_not_have(tmp_path: Path) -> None:
    pinned = source.debian("linux-source-6.1", version="6.1.0-0", sha256="0" * 64)
    with pytest.raises(UsageError, match=r"does not give linux-source-6.1 6.1.0-0[\s\S]*apt-cache policy"):
        fetch(pinned, tmp_path)


def test_a_tarball(tmp_path: Path) -> None:
    path = archive(tmp_path / "linux.tar.xz", {f"linux-1/{name}": text for name, text in FILES.items()})
    assert content(fetch(source.tarball(path, sha256=None), tmp_path)) == FILES


def test_a_tarball_with_another_checksum(tmp_path: Path) -> None:
    path = archive(tmp_path / "linux.tar.xz", {"linux-1/Kconfig": ""})
    with pytest.raises(UsageError, match="the plan says 00"):
        source.tarball(path, sha256="00")
    with pytest.raises(UsageError, match="no such tarball"):
        source.tarball(tmp_path / "none", sha256=None)


def test_a_tarball_that_reaches_out_harms_nobody(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    members = {f"linux-1/{name}": text for name, text in FILES.items()}
    members["linux-1/out/victim"] = "broken"
    path = archive(tmp_path / "evil.tar.xz", members)
    with tarfile.open(tmp_path / "evil2.tar.xz", "w:xz") as tar:
        info = tarfile.TarInfo("linux-1/out")
        info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(info)
        with tarfile.open(path) as good:
            for member in good.getmembers():
                tar.addfile(member, good.extractfile(member))
    try:
        fetch(source.tarball(tmp_path / "evil2.tar.xz", sha256=None), tmp_path)
    except UsageError as error:
        assert "cannot be unpacked" in error.what  # noqa: PT017 - either way is right; the victim is what counts
    assert victim.read_text() == "whole"


def test_links_that_leave_the_tree_are_refused_in_every_source(tmp_path: Path) -> None:
    members = {f"linux-1/{name}": text for name, text in FILES.items()}
    path = archive(tmp_path / "linux.tar.xz", members, {"linux-1/net/out": "../../outside"})
    with pytest.raises(UsageError, match=r"the source has a link that leads out: net/out -> \.\./\.\./outside"):
        fetch(source.tarball(path, sha256=None), tmp_path)
    mine = tree(tmp_path / "mine")
    (mine / "inside").symlink_to("net")
    (mine / "round").symlink_to("inside/../Kconfig")
    assert (fetch(source.folder(mine), tmp_path) / "round").read_text() == FILES["Kconfig"]
    (mine / "out").symlink_to("/etc")
    with pytest.raises(UsageError, match="the source has a link that leads out: out -> /etc"):
        fetch(source.folder(mine), tmp_path)


def test_a_program_with_the_setuid_bit_and_a_fifo_are_refused_in_a_source(tmp_path: Path) -> None:
    mine = tree(tmp_path / "mine")
    (mine / "Makefile").chmod(0o4755)
    with pytest.raises(UsageError, match="the source has a program that would run with our rights: Makefile"):
        fetch(source.folder(mine), tmp_path)
    (mine / "Makefile").chmod(0o644)
    os.mkfifo(mine / "pipe")
    with pytest.raises(UsageError, match="the source has something else than a file: pipe"):
        fetch(source.folder(mine), tmp_path)


def test_a_tarball_that_is_no_kernel_and_one_that_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kernel tree"):
        fetch(source.tarball(archive(tmp_path / "a.tar.xz", {"x/readme": ""}), sha256=None), tmp_path)
    (tmp_path / "b.tar.xz").write_text("no archive")
    with pytest.raises(UsageError, match="cannot be unpacked"):
        fetch(source.tarball(tmp_path / "b.tar.xz", sha256=None), tmp_path)


def test_a_folder_is_copied_and_never_touched(tmp_path: Path) -> None:
    mine = tree(tmp_path / "mine")
    (mine / ".git").mkdir()
    (mine / ".git" / "config").write_text("")
    copy = fetch(source.folder(mine), tmp_path)
    assert content(copy) == FILES
    assert not copy.is_relative_to(mine)


def test_the_git_file_of_a_worktree_is_left_out_and_what_is_called_so_below_is_not(tmp_path: Path) -> None:
    mine = tree(tmp_path / "mine")
    plain = source.folder(mine)
    (mine / ".git").write_text("gitdir: /somewhere\n")
    assert source.folder(mine).key == plain.key
    assert content(fetch(source.folder(mine), tmp_path)) == FILES
    (mine / "net" / ".git").mkdir()
    (mine / "net" / ".git" / "a.c").write_text("int b;\n")
    assert source.folder(mine).key != plain.key


def test_a_folder_that_cannot_be_read_is_not_taken_for_one_without_it(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tree(tmp_path / "mine")
    fetch(source.folder(mine), tmp_path)
    (mine / "locked").mkdir()
    (mine / "locked" / "b.c").write_text("int b;\n")
    scan = os.scandir

    def denied(path: str) -> object:
        if path.endswith("/locked"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)  # root may read whatever its mode
    with pytest.raises(UsageError, match=r"mine/locked: the folder cannot be read: Permission denied"):
        source.folder(mine)


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(source, "file_digest", denied)
    with pytest.raises(UsageError, match=r"mine/\S+: the folder cannot be read"):
        source.folder(tree(tmp_path / "mine"))
    with pytest.raises(UsageError, match=r"linux\.tar\.xz: the tarball cannot be read"):
        source.tarball(archive(tmp_path / "linux.tar.xz", FILES), sha256=None)


def test_a_changed_folder_is_another_source(tmp_path: Path) -> None:
    mine = tree(tmp_path / "mine")
    before = source.folder(mine)
    (mine / "net" / "a.c").write_text("int b;\n")
    assert source.folder(mine).key != before.key
    with pytest.raises(UsageError, match="changed while"):
        fetch(before, tmp_path)


def test_folders_that_are_no_clean_kernel_tree(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a kernel tree"):
        source.folder(tmp_path)
    mine = tree(tmp_path / "mine")
    (mine / ".config").write_text("")
    with pytest.raises(UsageError, match="mrproper"):
        source.folder(mine)
