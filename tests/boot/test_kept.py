# SPDX-License-Identifier: GPL-2.0-only
"""`harness boot`, `exec`, `console` and `down`, as a person and as a script use them; what is left of them: nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pexpect
import pytest

from harness.kernel.kbuild import Build
from harness.lab import kept
from harness.lab.process import Process
from tests.boot.conftest import BOOT
from tests.boot.test_failures import eventually
from tests.conftest import PLAN, ROOT

HARNESS = (sys.executable, "-m", "harness")
BOOT_BOTH = ("boot", str(PLAN), "-v", "both", "-q")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patched_both: Build) -> Iterator[Path]:
    """A user's runtime folder; whatever lab is left in it at the end is ended."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield tmp_path / "kernel-patch-harness"
    for lab in kept.labs():
        kept.end(lab)
    assert left(tmp_path / "kernel-patch-harness") == []


def left(runtime: Path) -> list[str]:
    return sorted(path.name for path in runtime.iterdir() if path.name != ".lock")


@pytest.fixture
def harness(runtime: Path) -> Run:
    def run(*argv: str, stdin: str | IO[str] = "", code: int = 0) -> subprocess.CompletedProcess[str]:
        given = {"input": stdin} if isinstance(stdin, str) else {"stdin": stdin}
        done = subprocess.run([*HARNESS, *argv], capture_output=True, text=True, check=False, timeout=BOOT,  # type: ignore[call-overload]
                              **given)
        assert done.returncode == code, done.stderr + done.stdout
        return done  # type: ignore[no-any-return]

    return run


def on_a_terminal(*argv: str) -> pexpect.spawn[str]:
    """The command on a terminal of 80 columns and 24 lines."""
    return pexpect.spawn(HARNESS[0], [*HARNESS[1:], *argv], dimensions=(24, 80), encoding="utf-8", timeout=BOOT)


def test_a_script_through_a_pipe_runs_in_the_guest_and_gives_its_exit_code(harness: Run, runtime: Path) -> None:
    done = harness(*BOOT_BOTH, stdin="uname -n\ntty\necho oops >&2\nexit 3\n", code=3)
    assert done.stdout == "dut\nnot a tty\n"
    assert done.stderr == "oops\n"
    assert left(runtime) == []


def test_a_command_with_its_signal(harness: Run) -> None:
    assert harness(*BOOT_BOTH, "-c", "echo out; kill -TERM $$", code=128 + 15).stdout == "out\n"


def test_a_shell_on_a_terminal_follows_its_size_and_takes_ctrl_c(runtime: Path) -> None:
    child = on_a_terminal(*BOOT_BOTH)
    child.expect(r"\r\n~ # ")
    assert "go" not in child.before.split()
    child.sendline("stty size")
    child.expect("24 80\r\n")
    child.setwinsize(31, 99)
    child.sendline("stty size")
    child.expect("31 99\r\n")
    child.sendline("sh -c 'echo run\"\"ning; exec sleep 1000'")
    child.expect("running\r\n")
    child.sendintr()
    child.sendline("echo still here")
    child.expect("still here\r\n")
    child.sendline("exit 7")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 7
    assert left(runtime) == []


def test_a_panic_ends_the_shell_with_the_kernels_words(runtime: Path) -> None:
    child = on_a_terminal(*BOOT_BOTH)
    child.expect("~ # ")
    child.sendline("echo c > /proc/sysrq-trigger")
    child.expect(r"\r\nharness: the console of dut is in (\S+)\r\n")
    saved = Path(child.match[1])
    child.expect(r"harness: .*: dut: panic: .*sysrq triggered crash")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
    assert "sysrq triggered crash" in saved.read_text()
    saved.unlink()
    assert left(runtime) == []


def test_a_kept_lab_from_its_boot_to_its_end(harness: Run, runtime: Path) -> None:
    said = harness(*BOOT_BOTH, "--keep", "--topology", "pair", "--name", "two").stdout
    assert all(len(line) <= 80 for line in said.splitlines())
    assert "harness down two" in said
    (row,) = json.loads(harness("list", "labs", "--json").stdout)
    assert (row["name"], row["state"], row["machines"]) == ("two", "up", "a b")
    assert harness("exec", "uname", "-n").stdout == "a\n"
    assert harness("exec", "-l", "two", "-m", "b", "printf", "%s|", "two words", "$HOME", "-l").stdout == \
        "two words|$HOME|-l|"
    assert harness("exec", "sh", "-c", "exit 5", code=5).stdout == ""
    assert harness("exec", "cat", stdin="through a pipe").stdout == "through a pipe"
    assert harness("exec", "-m", "b", "ping", "-c", "1", "-w", "20", "10.77.1.1").stdout
    assert "it has: a, b" in harness("exec", "-m", "c", "true", code=2).stderr
    assert "already" in harness(*BOOT_BOTH, "--keep", "--name", "two", code=2).stderr
    assert harness("down", "two").stdout == "two: ended\n"
    assert left(runtime) == []
    assert "none is kept" in harness("exec", "true", code=2).stderr


def test_the_console_of_a_kept_machine_shows_and_takes(harness: Run, runtime: Path) -> None:
    harness(*BOOT_BOTH, "--keep")
    child = on_a_terminal("console")
    child.expect("/ # ")
    child.sendline("echo 1''2; tty")
    child.expect("12\r\n")
    child.expect("/dev/ttyS0\r\n")
    child.sendcontrol("]")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    again = on_a_terminal("console")
    again.sendline("echo 3''4")
    again.expect("34\r\n")
    harness("down")
    again.expect("the console of dut has ended")
    again.expect(pexpect.EOF)


def test_the_console_through_pipes(harness: Run, runtime: Path) -> None:
    harness(*BOOT_BOTH, "--keep")
    with subprocess.Popen([*HARNESS, "console"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("echo 5''6\n")
        child.stdin.close()
        for line in child.stdout:
            if line.rstrip() == "56":
                break
        child.send_signal(signal.SIGINT)
    assert child.returncode == 130


def test_a_machine_that_dies_leaves_its_console_and_says_why(harness: Run, runtime: Path) -> None:
    harness(*BOOT_BOTH, "--keep")
    done = harness("exec", "sh", "-c", "echo c > /proc/sysrq-trigger; sleep 100", code=1)
    assert "sysrq triggered crash" in done.stderr
    (lab,) = kept.labs()
    assert lab.condition == "dead"
    assert "sysrq triggered crash" in (lab.folder / "dut/console.log").read_text()
    assert "lab both is dead: " in harness("exec", "true", code=2).stderr
    assert "sysrq triggered crash" in harness("down").stdout


def test_a_debugger_attaches_with_the_command_that_is_printed(harness: Run) -> None:
    said = harness(*BOOT_BOTH, "--keep", "--gdb").stdout
    found = re.search(r"debugger for dut: (.*)", said)
    assert found is not None
    for command, answer in ((f"{found[1]} -batch -ex 'info symbol $pc' -ex detach", "in section .text"),
                            (f"{found[1]} -batch -ex 'x/s &linux_banner' -ex detach", '"Linux version ')):
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, timeout=BOOT)
        assert answer in done.stdout, done.stdout + done.stderr
    assert harness("exec", "uname", "-n").stdout == "dut\n"


def test_a_boot_that_fails_says_why_and_the_name_is_free_again(harness: Run, runtime: Path) -> None:
    done = harness(*BOOT_BOTH, "--keep", "--append", "rdinit=/nothing", "--append", "root=/dev/none", code=3)
    assert re.search(r"the lab did not come up: .*dut: panic: kernel panic: VFS", done.stderr)
    assert [lab.condition for lab in kept.labs()] == ["dead"]
    harness(*BOOT_BOTH, "--keep")
    assert [lab.condition for lab in kept.labs()] == ["up"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_holder_that_is_killed_takes_its_machines_along(harness: Run, runtime: Path, number: signal.Signals) -> None:
    harness(*BOOT_BOTH, "--keep")
    (lab,) = kept.labs()
    lab.state.holder.signal(number)
    assert eventually(lambda: not lab.state.holder.alive, 40)
    assert eventually(lambda: not lab.state.guests[0].qemu.alive, 5)
    assert [lab.condition for lab in kept.labs()] == ["dead"]
    harness("down")
    assert left(runtime) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_boot_that_is_ended_before_anybody_knew_of_the_lab_leaves_none(runtime: Path, number: signal.Signals) -> None:
    with subprocess.Popen([*HARNESS, *BOOT_BOTH, "--keep"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        assert eventually(lambda: runtime.exists() and any(lab.held for lab in kept.labs()), BOOT)
        holder = kept.labs()[0].state.holder
        child.send_signal(number)
        child.communicate()
    assert child.returncode == (130 if number == signal.SIGTERM else -number)
    assert eventually(lambda: not holder.alive, 10)
    assert [lab.condition for lab in kept.labs()] == ["dead"]


def test_a_killed_boot_leaves_nothing_that_the_next_does_not_remove(harness: Run, runtime: Path) -> None:
    with subprocess.Popen([*HARNESS, *BOOT_BOTH], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"echo up\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"up\n"
        assert len(left(runtime)) == 1
        child.kill()
    assert kept.labs() == ()
    assert left(runtime) == []


def test_who_has_a_holders_number_now_is_not_signalled(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        mine = Process.of(bystander.pid)
        assert mine.alive
        before = Process(pid=mine.pid, started=mine.started - 1)
        assert not before.alive
        before.signal(signal.SIGKILL)
        assert bystander.poll() is None
        mine.signal(signal.SIGKILL)
        assert bystander.wait() == -signal.SIGKILL
        mine.signal(signal.SIGKILL)


def test_a_folder_that_others_can_write_is_refused(runtime: Path) -> None:
    runtime.mkdir(mode=0o777)
    runtime.chmod(0o777)
    done = subprocess.run([*HARNESS, "list", "labs"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "not a folder of ours alone" in done.stderr
    runtime.chmod(0o700)
    assert os.listdir(runtime) == []  # noqa: PTH208
