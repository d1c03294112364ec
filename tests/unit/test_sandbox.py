# SPDX-License-Identifier: GPL-2.0-only
"""sandbox: real bubblewrap; what runs inside sees and reaches nothing it was not given."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness import host, proc
from harness.deadline import Deadline
from harness.errors import DeadlineExpired, InfraError, KernelError
from harness.sandbox import bwrap, orphans
from harness.sandbox.limits import LimitExceeded, Limits


def inside(script: str, tmp_path: Path) -> proc.Completed:
    (tmp_path / "read").mkdir(exist_ok=True)
    (tmp_path / "write").mkdir(exist_ok=True)
    argv = bwrap.boxed(["sh", "-c", script], read={"/box/read": tmp_path / "read"},
                         write={"/box/write": tmp_path / "write"}, cwd="/box/write", env={"GIVEN": "1"})
    try:
        return bwrap.run(argv, deadline=Deadline.after(30))
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


def step(script: str, tmp_path: Path) -> bwrap.Boxed:
    (tmp_path / "write").mkdir(exist_ok=True)
    return bwrap.boxed(["sh", "-c", script], read={}, write={"/box/write": tmp_path / "write"}, cwd="/box/write")


@pytest.mark.parametrize("script", [
    "echo x > /foo", "echo x > /dev/foo", "echo x > /proc/sys/kernel/hostname",
    "cat /proc/sys/vm/swappiness > /proc/sys/vm/swappiness", "chmod 666 /dev/null", "touch /dev/zero",
    "mkdir /box/other", "mount -o remount,rw,bind /box/read && echo x > /box/read/foo", "umount /box/read",
    "mknod x c 1 3",
    "unshare -Urm sh -c 'mount -o remount,rw,bind /box/read'", "unshare -Urm umount /box/read", "hostname foo",
])
def test_it_has_no_rights_that_undo_the_box(tmp_path: Path, script: str) -> None:
    """Whoever starts it: root keeps its capabilities unless they are dropped."""
    assert inside(script, tmp_path).returncode != 0
    assert not list((tmp_path / "read").iterdir())


def test_it_has_no_capabilities(tmp_path: Path) -> None:
    rows = dict(line.split(":\t") for line in inside("grep -E '^(Cap|NoNew)' /proc/self/status", tmp_path).stdout.split(
        "\n") if line)
    assert rows == {"CapInh": "0" * 16, "CapPrm": "0" * 16, "CapEff": "0" * 16, "CapBnd": "0" * 16, "CapAmb": "0" * 16,
                    "NoNewPrivs": "1"}


def test_what_it_was_given_is_limited(tmp_path: Path) -> None:
    limits = Limits(processes=100, memory=1000, file=10, scratch=5)
    said = bwrap.run(step("ulimit -a; df -k /tmp /dev/shm | tail -2", tmp_path), limits=limits,
                       deadline=Deadline.after(20)).stdout
    assert re.search(r"(?m)^process\s+164$", said), said
    assert re.search(r"(?m)^data\(kbytes\)\s+1286144$", said), said
    assert re.search(r"(?m)^file\(blocks\)\s+20480$", said), said
    assert len(re.findall(r"(?m)^tmpfs\s+5120\s", said)) == 2, said


def test_a_user_that_is_not_root_has_a_number_of_processes_of_its_own(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel counts them in each user namespace, what else the user runs does not matter."""
    if os.getuid() != 0:
        pytest.skip("takes another user's rights, which root can")
    (tmp_path / "write").mkdir()
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 1:
            folder.chmod(folder.stat().st_mode | 0o001)
    (tmp_path / "write").chmod(0o777)
    script = "for i in $(seq 300); do sleep 9 & done"
    with monkeypatch.context() as patch:
        patch.setattr("os.geteuid", lambda: 65534)
        argv = step(script, tmp_path).command(Limits(processes=50))
    done = proc.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", *argv],
                    deadline=Deadline.after(30), check=False)
    assert done.returncode != 0, done
    assert "annot fork" in done.stderr


def test_a_limit_that_was_hit_is_an_error_of_the_series(tmp_path: Path) -> None:
    """Here one that the watchdog sees; tests/run/test_hostile.py has all."""
    with pytest.raises(LimitExceeded) as caught:
        bwrap.run(step("for i in $(seq 60); do sleep 30 & done; wait", tmp_path), limits=Limits(processes=40),
                    deadline=Deadline.after(20), where="patched/both")
    assert isinstance(caught.value, KernelError)
    assert re.search(r"patched/both: it started \d+ processes: the limit is 40 \(processes and threads at once\)\n"
                     "  hint: if this kernel needs more, raise `processes` of `limits:` in the plan", str(caught.value))


def test_words_that_are_no_failure_are_not_taken_for_one(tmp_path: Path) -> None:
    with pytest.raises(proc.CommandFailed):
        bwrap.run(step("echo 'x.c:1: error: no Cannot allocate memory in this scope' >&2; exit 1", tmp_path),
                    deadline=Deadline.after(20))


def test_the_callers_own_deadline_is_nobodys_fault(tmp_path: Path) -> None:
    with pytest.raises(DeadlineExpired):
        bwrap.run(step("sleep 100", tmp_path), deadline=Deadline.after(0.5))


def test_it_is_over_only_when_all_of_it_is(tmp_path: Path) -> None:
    """What writes on and on in the background cannot change what is there when the step has ended."""
    for _ in range(10):
        bwrap.run(step("(setsid sh -c 'i=0; while :; do echo $i > n; i=$((i+1)); done' >/dev/null 2>&1 &); "
                         "while [ ! -s n ]; do :; done", tmp_path), deadline=Deadline.after(20))
        first = (tmp_path / "write/n").stat()
        assert (tmp_path / "write/n").stat() == first
        assert not [path for path in Path("/proc").glob("[0-9]*/cwd") if _link(path) == str(tmp_path / "write")]


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def test_a_broken_bubblewrap_is_the_labs_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\n[ $1 = --version ] && exit\n"
                                    "echo 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    path = host.search_path()
    monkeypatch.setattr("harness.host.search_path", lambda: f"{tmp_path}:{path}")
    for call in (lambda: bwrap.describe(Deadline.after(20)),
                 lambda: bwrap.run(step("true", tmp_path), deadline=Deadline.after(20))):
        with pytest.raises(InfraError, match=r"does not work on this host[\s\S]*No permissions[\s\S]*user namespaces"):
            call()


def test_a_full_disk_is_the_labs_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = step("echo 'gcc: error writing out.o: No space left on device' >&2; exit 1", tmp_path)
    with pytest.raises(LimitExceeded, match="scratch space in the sandbox"):
        bwrap.run(said, deadline=Deadline.after(20))
    monkeypatch.setattr("harness.sandbox.bwrap._full", lambda _: True)
    with pytest.raises(InfraError, match="the disk is full"):
        bwrap.run(said, deadline=Deadline.after(20))


DIES = """
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* bwrap's word to its child is a number of 8 bytes for an eventfd: it ends before it says it. */
ssize_t write(int fd, const void *data, size_t size)
{
	if (size == 8)
		kill(getpid(), SIGKILL);
	return syscall(SYS_write, fd, data, size);
}
"""


@pytest.fixture
def dies(tmp_path: Path) -> Path:
    """A library that has bubblewrap killed between its clone and its word to the child."""
    (tmp_path / "dies.c").write_text(DIES)
    proc.run(["gcc", "-shared", "-fPIC", "-o", "dies.so", "dies.c"], cwd=tmp_path, deadline=Deadline.after(60))
    return tmp_path / "dies.so"


def marked(mark: Path) -> set[int]:
    """Processes with a path in their command."""
    return {int(path.name) for path in Path("/proc").glob("[0-9]*") if str(mark).encode() in _command(path / "cmdline")}


def all_end(mark: Path) -> bool:
    limit = Deadline.after(10)
    while marked(mark) and not limit.expired:
        pass
    return not marked(mark)


def test_what_a_harness_that_was_killed_left_of_a_box_is_ended(tmp_path: Path, dies: Path) -> None:
    """Killed between its clone and its word to the child, bubblewrap leaves a child that waits for ever."""
    # In another order than usual: tests that run beside this one sweep as well.
    begins = orphans.BEGINS[::-1]
    box = bwrap.boxed(["sleep", "1000"], read={}, write={}, cwd="/", env={"KPH_ORPHAN": str(tmp_path)})
    program, *words = box.command(Limits())
    argv = [program, *begins, *words[len(begins):]]
    killed = subprocess.run(argv, env={**os.environ, "LD_PRELOAD": str(dies)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = marked(tmp_path)
    assert len(left) == 1, "bubblewrap no longer leaves one: what sweeps them can go"
    assert left == set(orphans.sweep(begins))
    assert all_end(tmp_path)


def test_a_step_that_is_interrupted_leaves_none_either(tmp_path: Path, dies: Path, monkeypatch: pytest.MonkeyPatch
                                                       ) -> None:
    def interrupted(argv: Sequence[str], *, guard: proc.Guard, **_: object) -> None:
        killed = subprocess.run(argv, env={**os.environ, "LD_PRELOAD": str(dies)}, check=False,
                                pass_fds=guard.pass_fds)
        assert killed.returncode == -signal.SIGKILL
        raise KeyboardInterrupt

    box = bwrap.boxed(["sleep", "1000"], read={}, write={}, cwd="/", env={"KPH_ORPHAN": str(tmp_path)})
    monkeypatch.setattr(proc, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bwrap.run(box, deadline=Deadline.after(60))
    assert all_end(tmp_path)


def test_a_box_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    argv = bwrap.boxed(["sh", "-c", "echo here; exec sleep 1000"], read={}, write={}, cwd="/").command(Limits())
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as box:
        assert box.stdout is not None
        assert box.stdout.readline() == "here\n"
        orphans.sweep()
        assert box.poll() is None
        box.kill()
