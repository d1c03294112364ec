# SPDX-License-Identifier: GPL-2.0-only
"""Where kept labs are found, whose name is free, and what is removed of the dead: without any machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import InfraError, UsageError
from harness.lab import kept
from harness.lab.kept import Guest, State
from harness.lab.process import Process

STATE = State(plan="p", kernel="patched/both", arch="x86_64", vmlinux="/v", dut="dut", holder=Process(pid=1, started=0))
GUEST = Guest(name="dut", host="127.0.0.1", port=1, qemu=Process(pid=1, started=0), folder="/f")


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return kept.root()


@contextmanager
def held(name: str, state: State | None = STATE) -> Iterator[Path]:
    """A lab whose holder lives in the block."""
    with kept.claim(name) as (folder, _):
        if state is not None:
            kept.write(folder, state)
        yield folder


def test_the_state_comes_back_as_it_was(runtime: Path) -> None:
    state = State(plan="p", kernel="k", arch="a", vmlinux="v", dut="dut", holder=Process(pid=7, started=9),
                  guests=(GUEST,), error="why")
    with held("one", state):
        (lab,) = kept.labs()
    assert (lab.name, lab.state, lab.held) == ("one", state, True)


def test_a_lab_is_alive_for_as_long_as_its_lock_is_held() -> None:
    with held("one"):
        assert [lab.condition for lab in kept.labs()] == ["booting"]
    assert [lab.condition for lab in kept.labs()] == ["dead"]


def test_the_lock_is_held_by_whoever_inherited_it(runtime: Path) -> None:
    with kept.claim("one") as (folder, lock):
        kept.write(folder, STATE)
        child = subprocess.Popen(["sleep", "1000"], pass_fds=[lock])
    assert kept.find("one").held
    child.kill()
    child.wait()
    assert not kept.find("one").held


@pytest.mark.parametrize("name", ["", "-x", "a/b", "..", ".hidden", "two words"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="not a name"), kept.claim(name):
        pass


def test_a_name_is_taken_while_its_lab_lives_and_free_when_it_is_dead() -> None:
    with held("one") as folder:
        (folder / "console.log").touch()
        with pytest.raises(UsageError, match="already"), kept.claim("one"):
            pass
    with held("one") as folder:
        assert not (folder / "console.log").exists()


def test_which_lab_is_meant() -> None:
    with pytest.raises(UsageError, match="none is kept"):
        kept.find(None)
    with held("one"):
        assert kept.find(None).name == "one"
        with held("two"):
            with pytest.raises(UsageError, match="several are kept"):
                kept.find(None)
            with pytest.raises(UsageError, match="kept: one, two"):
                kept.find("three")
            assert kept.find("two").name == "two"


def test_which_machine_is_meant() -> None:
    with held("one", State(**{**{name: getattr(STATE, name) for name in STATE.__slots__}, "guests": (GUEST,)})):
        lab = kept.find("one")
        assert lab.guest(None) is lab.guest("dut")
        with pytest.raises(UsageError, match="it has: dut"):
            lab.guest("a")
    with pytest.raises(UsageError, match="is dead"):
        kept.find("one").guest(None)


def test_scratch_folders_of_the_dead_are_swept_and_no_others(runtime: Path) -> None:
    script = "from harness.lab import kept; import os\nwith kept.scratch(): os._exit(1)"
    subprocess.run([sys.executable, "-c", script], check=False)
    assert len(left(runtime)) == 1
    with kept.scratch() as folder:
        assert left(runtime) == [folder.name]
        with kept.scratch() as other:
            assert left(runtime) == sorted([folder.name, other.name])
    assert left(runtime) == []
    with held("one"):
        pass
    assert kept.labs()
    assert left(runtime) == ["one"]


def left(runtime: Path) -> list[str]:
    return sorted(path.name for path in runtime.iterdir() if path.name != ".lock")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"guests": [{}]}', "\0"])
def test_a_damaged_state_is_no_lab_and_harms_nobody(text: str) -> None:
    with held("one") as folder, held("two"):
        (folder / "lab.json").write_text(text)
        assert [lab.name for lab in kept.labs()] == ["two"]


def test_ending_a_dead_lab_removes_it_and_says_why_it_died(runtime: Path) -> None:
    with held("one", State(**{**{name: getattr(STATE, name) for name in STATE.__slots__}, "error": "a panic"})):
        pass
    assert kept.end(kept.find("one")) == "a panic"
    assert left(runtime) == []


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_folder_that_others_can_look_into_is_refused(runtime: Path, mode: int) -> None:
    runtime.chmod(mode)
    with pytest.raises(InfraError, match="not a folder of ours alone"):
        kept.labs()


def test_a_link_in_place_of_the_folder_is_refused(runtime: Path, tmp_path: Path) -> None:
    runtime.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    runtime.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InfraError, match="not a folder of ours alone"):
        kept.root()


def test_a_process_of_the_past_is_not_alive() -> None:
    me = Process.of(os.getpid())
    assert me.alive
    assert not Process(pid=me.pid, started=me.started + 1).alive
    assert not Process.of(2 ** 22 + 1).alive


def test_a_process_is_alive_until_its_last_thread_ends() -> None:
    """The first thread may be a zombie before the others have let go of the process's locks."""
    exit_ = {"x86_64": 60, "aarch64": 93}[platform.machine()]
    code = ("import ctypes, sys, threading\n"
            "threading.Thread(target=sys.stdin.read).start()\n"
            f"ctypes.CDLL(None).syscall({exit_}, 0)\n")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        stat = Path(f"/proc/{child.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            os.sched_yield()
        started = Process(pid=child.pid, started=int(stat.read_text().rpartition(")")[2].split()[19]))
        assert started.alive
        child.kill()
    assert not started.alive
