# SPDX-License-Identifier: GPL-2.0-only
"""The shell in a guest: output as it comes, signals, files whole and checked, one identity through everything."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import DeadlineExpired, InfraError, KernelError, UsageError
from harness.vm import files, keys, session
from harness.vm.machine import Machine, boot
from harness.vm.qemu import MachineSpec
from tests.boot.conftest import BOOT

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def test_lines_come_while_the_program_runs(machine: Machine) -> None:
    """The program waits for a file that is made only once its first line has been seen."""
    seen: list[str] = []

    def take(line: str) -> None:
        seen.append(line)
        if line == "first":
            machine.run("touch", "/tmp/go")

    machine.run("rm", "-f", "/tmp/go")
    done = machine.shell("echo first; until [ -e /tmp/go ]; do usleep 10000; done; echo oops >&2; printf last",
                         on_line=take, deadline=Deadline.after(20))
    assert sorted(seen) == ["first", "last", "oops"]
    assert (done.stdout, done.stderr) == ("first\nlast", "oops")


def test_what_a_callback_raises_ends_the_program(machine: Machine) -> None:
    class EnoughError(Exception):
        pass

    def refuse(line: str) -> None:
        raise EnoughError(line)

    with pytest.raises(EnoughError, match="first"):
        machine.shell("echo first; exec sleep 1234", on_line=refuse)
    assert machine.run("pidof", "sleep", check=False).stdout == ""


def test_output_goes_to_a_file(machine: Machine) -> None:
    sink = io.BytesIO()
    done = machine.run("head", "-c", 3_000_000, "/dev/zero", stdout=sink)
    assert sink.getvalue() == bytes(3_000_000)
    assert done.stdout == ""


def test_input_comes_from_a_file(machine: Machine, tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    (tmp_path / "data").write_bytes(data)
    with (tmp_path / "data").open("rb") as source:
        assert machine.run("sha256sum", stdin=source).stdout.split()[0] == hashlib.sha256(data).hexdigest()


def test_more_output_than_is_kept_is_refused_and_the_program_ended(machine: Machine,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MOST", 100_000)
    with pytest.raises(UsageError, match="let it go to a file"):
        machine.run("yes", deadline=Deadline.after(30))
    assert machine.run("pidof", "yes", check=False).stdout == ""


def test_a_program_that_never_stops_talking_meets_its_deadline(machine: Machine) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExpired, match="still running after 2 s"):
        machine.run("yes", stdout=io.BytesIO(), deadline=Deadline.after(2))
    assert time.monotonic() - started < 20
    assert machine.run("pidof", "yes", check=False).stdout == ""


def test_a_running_program_is_read_line_by_line_and_takes_signals(machine: Machine) -> None:
    script = 'trap "echo usr1" USR1; trap "echo bye; exit 5" TERM; echo ready; while :; do usleep 10000; done'
    running = machine.start("sh", "-c", script)
    lines = running.lines(Deadline.after(20))
    assert next(lines) == "ready"
    running.signal("USR1", Deadline.after(10))
    assert next(lines) == "usr1"
    running.signal("TERM", Deadline.after(10))
    assert list(lines) == ["bye"]
    done = running.wait(Deadline.after(10), check=False)
    assert (done.returncode, done.stdout) == (5, "ready\nusr1\nbye\n")


def test_a_running_program_that_a_signal_ends(machine: Machine) -> None:
    running = machine.start("sleep", 1000)
    running.signal("INT", Deadline.after(10))
    assert running.wait(Deadline.after(10), check=False).ending == "signal SIGINT"


def test_twenty_commands_at_once(machine: Machine) -> None:
    """Each waits for all the others: they do run at the same time; and again, over the connections there are then."""
    count, logins = 20, machine._shell.logins
    script = f'touch "/tmp/all/$1"; until [ "$(ls /tmp/all | wc -l)" = {count} ]; do usleep 50000; done'
    machine.shell("rm -rf /tmp/all; mkdir /tmp/all")
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda n: machine.run("sh", "-c", script, "sh", n, deadline=Deadline.after(60)), range(count)))
    assert machine._shell.logins <= logins + count
    logins = machine._shell.logins
    for _ in range(5):
        with ThreadPoolExecutor(count) as pool:
            assert [done.returncode for done in pool.map(lambda _: machine.run("true"), range(count))] == [0] * count
    assert machine._shell.logins == logins


def test_files_of_the_host_go_in_and_out_whole(machine: Machine, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(os.urandom(5_000_000))
    machine.put("/tmp/one", one)
    machine.fetch("/tmp/one", other)
    assert other.read_bytes() == one.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


def test_a_file_that_is_not_there(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="/tmp/nothing"):
        machine.fetch("/tmp/nothing", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InfraError, match="cannot be read"):
        machine.put("/tmp/nothing", tmp_path / "out")


def test_a_file_that_arrives_changed_is_refused(machine: Machine, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kernel would do it: another byte than what was written, in, then out."""
    with monkeypatch.context() as patch:
        patch.setattr(files, "IN", files.IN.replace('cat > "$1.part"', 'sed s/a/b/ > "$1.part"'))
        with pytest.raises(KernelError, match="does not give back what was written"):
            machine.put("/tmp/changed", b"a line\n")
    assert machine.run("ls", "/tmp/changed", "/tmp/changed.part", check=False).stdout == ""
    machine.put("/tmp/changed", b"a line\n")
    monkeypatch.setattr(files, "OUT", files.OUT.replace('exec 3>&1', 'exec 4>&1; exec 3> /tmp/copy')
                        + "; sed s/a/b/ /tmp/copy >&4")
    with pytest.raises(KernelError, match="does not give back what was written"):
        machine.fetch("/tmp/changed", tmp_path / "changed")
    assert list(tmp_path.iterdir()) == []


def test_a_flapping_link_breaks_nothing(machine: Machine) -> None:
    def link(up: bool) -> None:
        machine.qmp.execute("set_link", {"name": "mgmt", "up": up}, deadline=Deadline.after(10))

    running = machine.start("sh", "-c", "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo $i; usleep 100000; done")
    lines = running.lines(Deadline.after(60))
    next(lines)
    for _ in range(3):
        link(False)
        threading.Event().wait(0.3)  # the time that the link is down, not a wait for anything
        link(True)
        assert machine.run("echo", "here", deadline=Deadline.after(30)).stdout == "here\n"
    assert list(lines)[-1] == "30"
    assert running.wait(Deadline.after(10)).returncode == 0


def test_a_link_that_is_down_meets_the_deadline(machine: Machine) -> None:
    machine.qmp.execute("set_link", {"name": "mgmt", "up": False}, deadline=Deadline.after(10))
    with pytest.raises(InfraError):
        machine.run("true", deadline=Deadline.after(1))
    machine.qmp.execute("set_link", {"name": "mgmt", "up": True}, deadline=Deadline.after(10))
    assert machine.run("echo", "back", deadline=Deadline.after(60)).stdout == "back\n"


def test_a_connection_that_the_guest_drops_is_made_again_to_the_same_key(machine: Machine) -> None:
    """The command that was running is lost, and says so; it is not run again."""
    machine.run("rm", "-f", "/tmp/times")
    script = "echo x >> /tmp/times; kill $(pidof dropbear | tr ' ' '\\n' | sort -n | tail -n +2); exec sleep 100"
    logins = machine._shell.logins
    with pytest.raises(InfraError, match="the connection was lost during: sh -c"):
        machine.run("sh", "-c", script, deadline=Deadline.after(30))
    assert machine.get("/tmp/times") == b"x\n"
    assert machine._shell.logins == logins + 1


def test_another_guest_in_its_place_is_refused_when_the_connection_is_made_again(
        spec: MachineSpec, tmp_path: Path) -> None:
    with boot(replace(spec, name="switched"), tmp_path, deadline=Deadline.after(BOOT)) as machine:
        machine.put("/etc/dropbear/host_key", keys.generate().dropbear, mode=0o600)
        machine.shell("""
            address=$(ip -4 -o addr show dev mgmt0 | tr -s ' ' | cut -d' ' -f4)
            kill $(pidof dropbear | tr ' ' '\\n' | sort -n | head -n 1)
            until dropbear -E -s -j -k -r /etc/dropbear/host_key -p "${address%/*}:22"; do usleep 10000; done""")
        with pytest.raises(InfraError, match="not this guest"):
            machine.reconnect()


def test_a_reboot_is_no_event_and_the_machine_stays_the_same(spec: MachineSpec, tmp_path: Path) -> None:
    with boot(replace(spec, name="again"), tmp_path, deadline=Deadline.after(BOOT)) as machine:
        for _ in range(2):
            before = machine.get(BOOT_ID)
            machine.run("touch", "/tmp/before")
            machine.reboot(deadline=Deadline.after(BOOT))
            assert machine.get(BOOT_ID) != before
            assert machine.run("ls", "/tmp/before", check=False).returncode != 0
            assert machine.run("hostname").stdout == "again\n"
        assert machine._shell.logins == 3
        machine.shell("echo 'harness: the end' > /dev/kmsg")
    assert machine.events == ()
    assert machine.files.console.read_text(errors="replace").count("Linux version") == 3


def test_a_reset_after_an_asked_for_reboot_is_one_that_nobody_asked_for(spec: MachineSpec, tmp_path: Path) -> None:
    with (pytest.raises(KernelError, match="ended without a word"),  # noqa: PT012 - it is the end that raises
          boot(replace(spec, name="twice"), tmp_path, deadline=Deadline.after(BOOT)) as machine):
        machine.reboot(deadline=Deadline.after(BOOT))
        machine.run("reboot", "-f", deadline=Deadline.after(30))
