# SPDX-License-Identifier: GPL-2.0-only
"""The archives we write are read by cpio(1) as they were meant, and are the same every time."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.guest import cpio


def unpack(archive: bytes, where: Path) -> None:
    subprocess.run(["cpio", "-idm", "--quiet", "--no-absolute-filenames"], input=archive, cwd=where, check=True)


def test_what_was_packed_is_unpacked(tmp_path: Path) -> None:
    files = {
        "a/b/data": cpio.file("a/b/data", bytes(range(256)) * 3),
        "a/run": cpio.file("a/run", b"#!/bin/sh\n", 0o755),
        "a/link": cpio.symlink("a/link", "b/data"),
        "secret": cpio.directory("secret", 0o700),
    }
    unpack(cpio.archive(cpio.with_parents(files)), tmp_path)
    assert (tmp_path / "a/b/data").read_bytes() == bytes(range(256)) * 3
    assert (tmp_path / "a/run").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a/link").readlink() == Path("b/data")
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a/run").stat().st_mtime == 0


def test_order_does_not_matter_and_the_size_is_whole_blocks() -> None:
    entries = [cpio.file(name, name.encode()) for name in ("b", "a", "c/d", "c-e")] + [cpio.directory("c")]
    first = cpio.archive(entries)
    assert first == cpio.archive(reversed(entries))
    assert len(first) % cpio.BLOCK == 0
    assert first.index(b"c\0") < first.index(b"c/d\0")


def test_archives_follow_one_another(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    overlay = cpio.overlay({"etc/key": b"k"})
    joined = cpio.archive([cpio.file("x", b"y")]) + overlay
    unpack(joined, first)
    unpack(overlay, second)
    assert (first / "x").read_bytes() == b"y"
    assert (second / "etc/key").stat().st_mode & 0o777 == 0o600


def test_a_device_node_has_its_numbers() -> None:
    header = cpio.archive([cpio.char_device("console", 5, 1)])[:110]
    assert header[14:22] == b"%08X" % (0o020000 | 0o600)
    assert (header[78:86], header[86:94]) == (b"00000005", b"00000001")


@pytest.mark.parametrize("path", ["", "/etc", "../x", "a/../b", "a//b", "./a", "a/"])
def test_odd_paths_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        cpio.archive([cpio.file(path, b"")])


def test_a_path_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        cpio.archive([cpio.file("a", b""), cpio.file("a", b"")])
