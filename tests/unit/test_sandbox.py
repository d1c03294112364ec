# SPDX-License-Identifier: GPL-2.0-only
"""sandbox: real bubblewrap; what runs inside sees and reaches nothing it was not given."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from harness import proc, sandbox
from harness.deadline import Deadline


def inside(script: str, tmp_path: Path) -> proc.Completed:
    (tmp_path / "read").mkdir(exist_ok=True)
    (tmp_path / "write").mkdir(exist_ok=True)
    argv = sandbox.boxed(["sh", "-c", script], read={"/box/read": tmp_path / "read"},
                         write={"/box/write": tmp_path / "write"}, cwd="/box/write", env={"GIVEN": "1"})
    try:
        return sandbox.run(argv, deadline=Deadline.after(30))
    except proc.CommandFailed as failed:
        return failed.completed


def test_only_what_was_given_is_writable(tmp_path: Path) -> None:
    done = inside("echo x > mine; echo x > /box/read/no; echo x > /usr/no; echo x > /etc/no", tmp_path)
    assert (tmp_path / "write" / "mine").read_text() == "x\n"
    assert not (tmp_path / "read" / "no").exists()
    assert not Path("/usr/no").exists()
    assert not Path("/etc/no").exists()
    assert "Read-only file system" in done.stderr


@pytest.mark.parametrize("path", ["/root", "/home", "/var", "/proc/1/root/root", "/srv", "/etc/passwd"])
def test_the_hosts_files_are_not_there(tmp_path: Path, path: str) -> None:
    assert inside(f"ls -d {path}", tmp_path).returncode != 0


def test_there_is_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = inside(f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'", tmp_path)
        assert done.returncode != 0
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_the_environment_and_the_processes_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    done = inside("env; ls /proc | grep -c '^[0-9]'", tmp_path)
    assert "SECRET" not in done.stdout
    assert "GIVEN=1" in done.stdout
    assert int(done.stdout.split()[-1]) < 10


def test_a_daemon_left_behind_ends_with_the_box(tmp_path: Path) -> None:
    done = inside("setsid sh -c 'sleep 987 & echo started > /box/write/started' ; cat started", tmp_path)
    assert done.stdout == "started\n"
    assert b"sleep\x00987\x00" not in {_command(path) for path in Path("/proc").glob("[0-9]*/cmdline")}


def _command(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended since it was listed
        return b""
