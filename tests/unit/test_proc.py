# SPDX-License-Identifier: GPL-2.0-only
"""proc: children end when they must, and a failure says what failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import proc
from harness.deadline import Deadline
from harness.errors import DeadlineExpired, InfraError

SOON = 20.0


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that nobody reaped yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def until_gone(pid: int) -> None:
    deadline = Deadline.after(SOON)
    while not gone(pid):
        deadline.check(f"end of process {pid}")
        os.sched_yield()


def test_output_exit_code_and_time_come_back() -> None:
    done = proc.run(["sh", "-c", "echo out; echo err >&2; exit 3"], deadline=Deadline.after(SOON), check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)
    assert 0 < done.seconds < SOON


def test_a_failure_carries_command_code_and_the_end_of_output() -> None:
    with pytest.raises(proc.CommandFailed) as caught:
        proc.run(["sh", "-c", "seq 100; echo broken >&2; exit 7"], deadline=Deadline.after(SOON))
    assert "exit code 7" in str(caught.value)
    assert "broken" in str(caught.value)
    assert "seq 100" in str(caught.value)


def test_a_signal_is_named() -> None:
    done = proc.run(["sh", "-c", "kill -9 $$"], deadline=Deadline.after(SOON), check=False)
    assert done.ending == "signal SIGKILL"


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("harness.host.search_path", lambda: str(tmp_path))
    with pytest.raises(InfraError, match=r"bwrap is not installed[\s\S]*apt-get install bubblewrap"):
        proc.run(["bwrap"], deadline=Deadline.after(SOON))


def test_the_deadline_kills_the_child_and_what_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(DeadlineExpired, match="still running"):
        proc.run(["sh", "-c", f"sleep 1000 & echo $! > {pids}; echo $$ >> {pids}; wait"], deadline=Deadline.after(1))
    for pid in pids.read_text().split():
        until_gone(int(pid))


def test_an_endless_line_without_newline_does_not_outlive_the_deadline() -> None:
    with pytest.raises(DeadlineExpired):
        proc.run(["sleep", "1000"], deadline=Deadline.after(0.5), on_line=lambda _: None)


def test_a_log_takes_everything_and_lines_come_whole(tmp_path: Path) -> None:
    lines: list[str] = []
    proc.run(["sh", "-c", "printf a; printf 'b\\nc' >&2; printf '\\nlast'"], deadline=Deadline.after(SOON),
             log=tmp_path / "log", on_line=lines.append)
    assert lines == ["ab", "c", "last"]
    assert (tmp_path / "log").read_text() == "ab\nc\nlast"


def test_stdin_is_what_was_given_or_nothing() -> None:
    assert proc.run(["cat"], deadline=Deadline.after(SOON), stdin=b"x y\n").stdout == "x y\n"
    assert proc.run(["cat"], deadline=Deadline.after(SOON)).stdout == ""


def test_an_interrupt_kills_the_child_and_goes_on(tmp_path: Path) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    pid = tmp_path / "pid"
    with pytest.raises(KeyboardInterrupt):
        proc.run(["sh", "-c", f"echo $$ > {pid}; echo line; exec sleep 1000"], deadline=Deadline.after(SOON),
                 on_line=interrupt)
    until_gone(int(pid.read_text()))


def test_a_killed_parent_takes_its_children_along(tmp_path: Path) -> None:
    script = ("from harness import proc; from harness.deadline import Deadline\n"
              f"proc.run(['sh', '-c', 'echo $$ > {tmp_path}/pid; mv {tmp_path}/pid {tmp_path}/ready; exec sleep 1000'],"
              " deadline=Deadline.after(1000))")
    parent = subprocess.Popen([sys.executable, "-c", script])
    deadline = Deadline.after(SOON)
    while not (tmp_path / "ready").exists():
        deadline.check("start of the child")
        time.sleep(0.01)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until_gone(int((tmp_path / "ready").read_text()))


def test_spawned_processes_end_with_their_block(tmp_path: Path) -> None:
    with proc.spawn(["sleep", "1000"], log=tmp_path / "log") as process:
        assert process.returncode is None
        pid = process.pid
    assert gone(pid)


def test_the_environment_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    out = proc.run(["env"], deadline=Deadline.after(SOON), env={"GIVEN": "2"}).stdout
    assert "SECRET" not in out
    assert "GIVEN=2" in out
    assert "LC_ALL=C.UTF-8" in out


@pytest.mark.parametrize("alive", [True, False])
def test_a_child_whose_parent_was_dead_before_it_asked_for_its_death_runs_nothing(tmp_path: Path, alive: bool) -> None:
    parent = os.getpid() if alive else os.getppid()
    subprocess.run(proc.if_alive(parent, ["touch", str(tmp_path / "ran")]), check=False)
    assert (tmp_path / "ran").exists() == alive


def test_a_spawned_child_has_the_signals_of_any_other(tmp_path: Path) -> None:
    with proc.spawn(["grep", "SigIgn", "/proc/self/status"], log=tmp_path / "log") as child:
        assert child.wait(Deadline.after(SOON)) == 0
    ours = int(next(line for line in Path("/proc/self/status").read_text().splitlines()
                    if line.startswith("SigIgn")).split()[1], 16)
    # Python itself ignores these two, and subprocess gives them back; whatever else is ignored here came from outside
    given_back = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert int((tmp_path / "log").read_text().split()[1], 16) == ours & ~given_back


def test_a_parent_that_dies_before_its_child_can_ask_for_that_leaves_no_child(tmp_path: Path) -> None:
    """`setpriv` is what asks; here it begins only when its parent is dead, as it can on a busy host."""
    late = tmp_path / "setpriv"
    late.write_text(f"""#!/bin/sh
        parent=$PPID; echo $$ > {tmp_path}/started.part; mv {tmp_path}/started.part {tmp_path}/started
        while kill -0 $parent 2>/dev/null; do sleep 0.01; done
        exec {proc.find("setpriv")} "$@"
        """)
    late.chmod(0o755)
    script = ("from harness import proc; from harness.deadline import Deadline\n"
              f"proc.run(['touch', '{tmp_path}/ran'], deadline=Deadline.after(1000))")
    parent = subprocess.Popen([sys.executable, "-c", script],
                              env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    deadline = Deadline.after(SOON)
    while not (tmp_path / "started").exists():
        deadline.check("start of the child")
        time.sleep(0.01)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until_gone(int((tmp_path / "started").read_text()))
    assert not (tmp_path / "ran").exists()


def test_no_variable_is_added_to_the_environment() -> None:
    out = proc.run(["env"], deadline=Deadline.after(SOON)).stdout
    assert {line.split("=")[0] for line in out.splitlines()} <= {*proc.environment()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a child as somebody else")
def test_a_child_of_another_user_has_no_rights_and_still_dies_with_its_parent(tmp_path: Path) -> None:
    with proc.spawn(["cat", "/proc/self/status"], log=tmp_path / "log",
                    user=proc.User(uid=61234, groups=(61235,))) as child:
        assert child.wait(Deadline.after(SOON)) == 0
    said = dict(line.split(":\t", 1) for line in (tmp_path / "log").read_text().splitlines() if ":\t" in line)
    assert said["Uid"].split() == said["Gid"].split() == ["61234"] * 4
    assert said["Groups"].split() == ["61235"]
    assert {said[f"Cap{which}"] for which in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert said["NoNewPrivs"] == "1"
    script = ("import time; from pathlib import Path; from harness import proc\n"
              f"with proc.spawn(['sleep', '1000'], log=Path('{tmp_path}/log'), user=proc.User(uid=61234)) as child:\n"
              "    print(child.pid, flush=True); time.sleep(1000)")
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        deadline = Deadline.after(SOON)
        while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":
            deadline.check("start of the child")
            time.sleep(0.01)
        parent.send_signal(signal.SIGKILL)
    until_gone(pid)


def test_a_detached_command_outlives_its_parent(tmp_path: Path) -> None:
    script = ("from pathlib import Path; from harness import proc\n"
              f"print(proc.detach(['sleep', '1000'], log=Path('{tmp_path}/log')), flush=True)")
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    pid = int(done.stdout)
    try:
        assert not gone(pid)
        assert done.stderr == ""
    finally:
        os.kill(pid, signal.SIGKILL)
    until_gone(pid)
