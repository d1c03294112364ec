# SPDX-License-Identifier: GPL-2.0-only
"""foreign: what a build left is looked over, read without being followed, and removed whatever it is."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import KernelError
from harness.sandbox import foreign
from harness.store.store import Store


def deep(folder: Path, depth: int = 1500) -> None:
    """Folders in folders, deeper than PATH_MAX (path_resolution(7)) and than Python's stack."""
    number = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("deep", dir_fd=number)
        inner = os.open("deep", os.O_RDONLY, dir_fd=number)
        os.close(number)
        number = inner
    os.close(number)


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(("make", "said"), [
    (lambda at: (at / "vmlinux").symlink_to("/etc/passwd"), "a link that leads out: vmlinux -> /etc/passwd"),
    (lambda at: (at / "up").symlink_to(".."), "a link that leads out: up -> .."),
    (lambda at: (at / "none").symlink_to("/not/there"), "a link that leads out: none -> /not/there"),
    (lambda at: (at / "source").symlink_to("/build"), "a link that leads out: source -> /build"),
    (lambda at: os.mkfifo(at / "vmlinux.o"), "something else than a file: vmlinux.o"),
    (lambda at: bound(at / "s"), "something else than a file: s"),
    (lambda at: ((at / "sh").touch(), (at / "sh").chmod(0o4755)), "a program that would run with our rights: sh"),
    (lambda at: ((at / "sh").touch(), (at / "sh").chmod(0o2755)), "a program that would run with our rights: sh"),
    (deep, "a folder that cannot be read: File name too long"),
])
def test_what_no_build_leaves_is_refused(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    make(out)
    with pytest.raises(KernelError) as caught:
        foreign.inspect(out, "patched/both")
    assert f"patched/both: it left {said}" in str(caught.value)
    foreign.remove(out)
    assert not list(tmp_path.iterdir())


def test_what_a_build_does_leave_is_not(tmp_path: Path) -> None:
    (tmp_path / "arch/x86/boot").mkdir(parents=True)
    (tmp_path / "arch/x86_64/boot").mkdir(parents=True)
    (tmp_path / "arch/x86/boot/bzImage").write_bytes(b"x" * 8192)
    (tmp_path / "arch/x86_64/boot/bzImage").symlink_to("../../x86/boot/bzImage")
    (tmp_path / "source").symlink_to("/build/src")
    size = foreign.inspect(tmp_path)
    assert size == foreign.measure(tmp_path)
    assert size.entries == 8
    assert size.bytes >= 8192


@pytest.mark.parametrize("make", [
    lambda at: at.symlink_to("/etc/passwd"), os.mkfifo, Path.mkdir, bound, lambda at: at.symlink_to("/dev/zero"),
    lambda at: None,
])
def test_only_files_are_read_and_nothing_is_waited_for(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "file")
    assert foreign.read(tmp_path / "file") is None


def test_a_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a\xffb")
    assert foreign.read(tmp_path / "file", 3) == "a\ufffdb"
    with pytest.raises(KernelError, match="a file of more than"):
        foreign.read(tmp_path / "file", 2)


@pytest.mark.parametrize(("name", "kept"), [
    ("net/core/skbuff.o", "net/core/skbuff.o"), ("net/../lib/x.o", "lib/x.o"), ("/etc/passwd", None), ("../x", None),
    ("net/../../x", None), ("..", None), (".", None), ("", None), ("//etc", None), ("a\0b", None),
])
def test_names_in_foreign_text_stay_inside(name: str, kept: str | None) -> None:
    assert foreign.inside(name) == kept


def test_a_scratch_folder_is_gone_whatever_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with foreign.scratch("x-") as folder:
        deep(folder)
        (folder / "link").symlink_to("/etc")
    assert not list(tmp_path.iterdir())
    assert Path("/etc").is_dir()


def test_the_store_waits_for_nothing_either(tmp_path: Path) -> None:
    """A folder of a user's may hold a FIFO; an entry with one is verified without opening it."""
    Store(root=tmp_path).get("kind", "key", lambda stage: os.mkfifo(stage / "fifo"), deadline=Deadline.after(20))
    assert Store(root=tmp_path).load("kind", "key") is not None
