# SPDX-License-Identifier: GPL-2.0-only
"""A machine that is well: commands in it, files, links, and what is left when it is gone."""

from __future__ import annotations

import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from harness import proc
from harness.deadline import Deadline
from harness.errors import DeadlineExpired, InfraError, KernelError, UsageError
from harness.vm import keys, ssh, tsc
from harness.vm.machine import Machine, boot, boot_all
from harness.vm.nic import Nic
from harness.vm.qemu import MachineSpec
from harness.vm.ssh import GuestCommandFailed
from harness.vm.words import command
from tests.boot.conftest import BOOT

TORTURE = [
    "plain", "", " ", "two words", "tab\there", "a\nnew\nline", "'", "''", "it's", '"double"', "$HOME", "$(reboot)",
    "`id`", ";", "a;b", "&& false", "| cat", "> /x", "*", "?", "[a-z]*", "~", "#", "!", "\\", "\\n", "-n", "--",
    "{a,b}", "%s", "\x01\x7f", "ünïcödé ☃", "\\'", "\r", "end\n",
]
RAW = [b"\xff", b"a\x80\xfe'b", bytes(range(1, 256))]


def test_its_clock_runs_as_the_hosts(machine: Machine) -> None:
    """Measured on a busy host, the rate was a hundredth of what it is, and the guest's time flew."""
    khz = tsc.khz()
    assert khz, "the tests run on x86"
    said = machine.run("dmesg").stdout
    found = re.findall(r"tsc: Detected ([0-9.]+) MHz (?:TSC|processor)", said)
    assert float(found[-1]) * 1000 == pytest.approx(khz, rel=0.1), found
    assert f"tsc_early_khz={khz}" in machine.get("/proc/cmdline").decode()


def test_a_program_runs_and_its_output_comes_back(machine: Machine) -> None:
    done = machine.run("sh", "-c", "echo out; echo err >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")
    assert done.argv[0] == "sh"


@pytest.mark.parametrize("word", TORTURE)
def test_arguments_arrive_as_they_were_given(machine: Machine, word: str) -> None:
    assert machine.run("printf", "[%s]", word).stdout == f"[{word}]"


@pytest.mark.parametrize("word", RAW)
def test_arguments_that_are_not_utf8_arrive(machine: Machine, word: bytes) -> None:
    assert machine.run("printf", "%s", word).stdout.encode(errors="surrogateescape") == word


def test_many_arguments_keep_their_order_and_number(machine: Machine) -> None:
    words = [*TORTURE, "last"]
    done = machine.run("sh", "-c", 'for a; do printf "%s\\0" "$a"; done', "sh", *words)
    assert done.stdout.split("\0")[:-1] == words


def test_an_argument_with_a_nul_byte_is_refused(machine: Machine) -> None:
    with pytest.raises(UsageError, match="NUL"):
        machine.run("echo", "a\0b")


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
def test_stdin_reaches_the_program_whole(machine: Machine, size: int) -> None:
    data = os.urandom(size)
    done = machine.run("cat", stdin=data)
    assert done.stdout.encode(errors="surrogateescape") == data


def test_no_stdin_is_an_empty_one(machine: Machine) -> None:
    assert machine.run("wc", "-c").stdout.strip() == "0"


def test_a_program_that_does_not_read_its_stdin_is_no_trouble(machine: Machine) -> None:
    assert machine.run("true", stdin=bytes(4_000_000)).returncode == 0


def test_both_streams_can_be_large(machine: Machine) -> None:
    done = machine.shell("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2")
    assert (len(done.stdout), len(done.stderr)) == (3_000_000, 3_000_000)


@pytest.mark.parametrize("code", [1, 2, 127, 255])
def test_exit_codes(machine: Machine, code: int) -> None:
    assert machine.run("sh", "-c", f"exit {code}", check=False).returncode == code


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV", "PIPE", "ABRT"])
def test_death_by_a_signal_is_told_from_every_exit_code(machine: Machine, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    with pytest.raises(GuestCommandFailed, match=f"failed with signal SIG{name}: "):
        machine.run("sh", "-c", f"kill -{name} $$")
    assert machine.run("sh", "-c", f"kill -{name} $$", check=False).returncode == -number
    assert machine.run("sh", "-c", f"exit {128 + number}", check=False).returncode == 128 + number


def test_death_by_a_signal_that_the_server_cannot_name_is_no_lost_connection(machine: Machine) -> None:
    with pytest.raises(KernelError, match="ended by a signal that the guest's SSH server has no name for"):
        machine.run("sh", "-c", "kill -BUS $$", check=False)


def test_a_failure_is_raised_with_command_code_and_output(machine: Machine) -> None:
    with pytest.raises(GuestCommandFailed) as caught:
        machine.run("ls", "/nowhere land")
    text = str(caught.value)
    assert "exit code 1" in text
    assert "'/nowhere land'" in text
    assert "No such file" in text
    assert "machine shared" in text


def test_an_unknown_program_is_127(machine: Machine) -> None:
    assert machine.run("no-such-program", check=False).returncode == 127


def test_a_script_stops_at_the_first_failure(machine: Machine) -> None:
    assert machine.shell("echo one; false; echo two", check=False).stdout == "one\n"


def test_a_command_that_takes_too_long_ends_at_its_deadline(machine: Machine) -> None:
    deadline = Deadline.after(1)
    with pytest.raises(DeadlineExpired, match="sleep 100: still running after 1 s"):
        machine.run("sleep", "100", deadline=deadline)
    assert Deadline.after(0).at - deadline.at < 5
    assert machine.run("pidof", "sleep", check=False).stdout == ""


def test_many_commands_over_one_connection(machine: Machine) -> None:
    assert [machine.run("echo", n).stdout for n in range(60)] == [f"{n}\n" for n in range(60)]


def test_commands_at_the_same_time(machine: Machine) -> None:
    answers: dict[int, str] = {}

    def ask(n: int) -> None:
        answers[n] = machine.run("sh", "-c", f"head -c 100000 /dev/zero | wc -c; echo {n}").stdout

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: f"100000\n{n}\n" for n in range(6)}


def test_a_session_that_the_server_closes_before_its_command_began_is_replaced(
        machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """dropbear closes a session without a process when another session's process ends: here always, by design."""
    begin, closed = paramiko.Channel.exec_command, []

    def late(channel: paramiko.Channel, line: bytes) -> None:
        if not closed:
            closed.append(channel)
            other = channel.get_transport().open_session(timeout=10)
            begin(other, b"true")
            assert other.recv_exit_status() == 0
            assert channel.status_event.wait(10), "dropbear did not close it: is Shell._open's loop still needed?"
            assert channel.eof_received
        begin(channel, line)

    monkeypatch.setattr(paramiko.Channel, "exec_command", late)
    machine.run("rm", "-f", "/tmp/ran")
    closed.clear()
    machine.shell("echo once >> /tmp/ran")
    assert closed
    assert machine.get("/tmp/ran") == b"once\n"


def test_a_command_whose_session_breaks_before_it_may_go_does_nothing(machine: Machine) -> None:
    channel = machine._shell._lines[0].open_session(timeout=10)
    channel.exec_command(command(("sh", "-c", "echo > /tmp/must-not-be")))
    channel.shutdown_write()
    assert channel.recv_exit_status() == 1
    assert machine.run("ls", "/tmp/must-not-be", check=False).returncode == 1


def test_commands_that_end_while_others_begin_run_exactly_once(machine: Machine) -> None:
    def ask(n: int) -> None:
        for turn in range(25):
            machine.run("sh", "-c", f"echo {n}.{turn} >> /tmp/turns")

    machine.run("rm", "-f", "/tmp/turns")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    turns = machine.get("/tmp/turns").decode().split()
    assert sorted(turns) == sorted(f"{n}.{turn}" for n in range(4) for turn in range(25))


def test_a_command_that_is_too_long_for_the_server_is_refused(machine: Machine) -> None:
    assert machine.run("printf", "%s", "x" * 8000).stdout == "x" * 8000
    with pytest.raises(UsageError, match="takes 9000"):
        machine.run("printf", "%s", "x" * 9000)


def test_a_program_in_the_background_is_stopped_with_its_children(machine: Machine) -> None:
    running = machine.start("sh", "-c", "echo started; sleep 1000; echo never")
    assert machine.run("pidof", "sleep").stdout
    done = running.stop(Deadline.after(10))
    assert done.stdout == "started\n"
    assert machine.run("pidof", "sleep", check=False).stdout == ""


def test_a_program_in_the_background_can_be_waited_for(machine: Machine) -> None:
    running = machine.start("sh", "-c", "cat /proc/uptime > /dev/null; echo done; exit 3")
    assert running.wait(Deadline.after(10), check=False).returncode == 3


def test_a_program_in_the_background_that_goes_on_meets_its_deadline(machine: Machine) -> None:
    running = machine.start("sleep", "1000")
    with pytest.raises(DeadlineExpired):
        running.wait(Deadline.after(0.3))
    assert running.stop(Deadline.after(10)).ending == "signal SIGTERM"


def test_files_go_in_and_out(machine: Machine) -> None:
    data = os.urandom(300_000)
    machine.put("/tmp/a file's name", data, mode=0o600)
    assert machine.get("/tmp/a file's name") == data
    assert machine.run("stat", "-c", "%a", "/tmp/a file's name").stdout == "600\n"


def test_a_nic_is_found_by_its_address_and_has_its_name(machine: Machine) -> None:
    assert machine.nic("lan0") == "lan0"
    machine.run("ip", "link", "set", "lan0", "name", "other")
    assert machine.nic("lan0") == "other"
    machine.run("ip", "link", "set", "other", "name", "lan0")
    with pytest.raises(UsageError, match="it has: lan0"):
        machine.nic("wan0")


def test_a_healthy_machine_has_no_events(machine: Machine) -> None:
    machine.check()
    assert machine.events == ()
    assert b"Run /init as init process" in machine.files.console.read_bytes()


def test_ssh_from_a_terminal(machine: Machine) -> None:
    done = proc.run([*machine.ssh_argv(), "uname", "-n"], deadline=Deadline.after(20))
    assert done.stdout == "shared\n"


def test_another_host_key_than_the_pinned_one_is_refused(machine: Machine) -> None:
    impostor = replace(machine.target, host_key=keys.generate())
    with (pytest.raises(InfraError, match="not this guest"),
          ssh.connect(impostor, machine.console.vitals, deadline=Deadline.after(20))):
        pass


def test_another_client_key_is_not_let_in(machine: Machine) -> None:
    stranger = replace(machine.target, client_key=keys.generate())
    with (pytest.raises(InfraError, match="Authentication"),
          ssh.connect(stranger, machine.console.vitals, deadline=Deadline.after(20))):
        pass


def test_two_machines_talk_over_their_links(kernel_image: Path, rootfs: Path, tmp_path: Path) -> None:
    models = ("e1000", "virtio-net-pci")
    nics = tuple(Nic(name=f"lan{n}", link=f"wire{n}", model=model) for n, model in enumerate(models))
    specs = [MachineSpec(name=name, kernel=kernel_image, initrd=(rootfs,), nics=nics) for name in ("a", "b")]
    with boot_all(specs, tmp_path, deadline=Deadline.after(BOOT)) as machines:
        for host, machine in enumerate(machines.values(), start=1):
            for n in range(len(models)):
                card = machine.nic(f"lan{n}")
                machine.run("ip", "addr", "add", f"10.0.{n}.{host}/24", "dev", card)
                machine.run("ip", "link", "set", card, "up", "mtu", "9000" if n == 1 else "1500")
        for n in range(len(models)):
            machines["a"].run("ping", "-c", 2, "-i", "0.2", "-w", 20, f"10.0.{n}.2")
            machines["a"].run("ping", "-c", 2, "-i", "0.2", "-w", 20, "-s", 20000, f"10.0.{n}.2")
        assert len({machine.target.port for machine in machines.values()}) == 2
        assert machines["b"].run("hostname").stdout == "b\n"


def leavings() -> set[str]:
    """What a machine could have left in the folder for temporary files."""
    return {path.name for path in Path("/tmp").iterdir() if "guest" in path.name or "qemu" in path.name}


def test_nothing_is_left_behind(spec: MachineSpec, tmp_path: Path) -> None:
    before = leavings()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with boot(spec, tmp_path, deadline=Deadline.after(BOOT)) as machine:
        key = machine.files.client_key
        assert not key.exists()
        machine.ssh_argv()
        assert key.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in (tmp_path / "guest").iterdir()) == [
        "console.log", "console.log.times", "qemu.log"]
    assert leavings() <= before
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors
    assert not [thread.name for thread in threading.enumerate() if "guest" in thread.name]
    assert machine.events == ()
