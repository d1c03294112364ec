# SPDX-License-Identifier: GPL-2.0-only
"""Machines that are not well: each way to fail has its own clear error, in time, and leaves nothing behind."""
# ruff: noqa: PT012 - it is the end of the block, after its body, that raises

from __future__ import annotations

import os
import re
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from harness import proc
from harness.deadline import Deadline
from harness.errors import InfraError, KernelError, UsageError
from harness.vm.klog import Ignore, Kind
from harness.vm.machine import boot, boot_all
from harness.vm.nic import Nic
from harness.vm.qemu import MachineSpec
from tests.boot.conftest import BOOT

Overlay = Callable[[dict[str, str]], Path]


def qemus(name: str) -> list[int]:
    """Ids of the QEMU processes (zombies are gone) of machines called `name`."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"harness-{name}".encode() in words and b"qemu" in words[0]:
            found.append(int(entry.name))
    return found


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = Deadline.after(seconds)
    while not condition():
        if deadline.expired:
            return False
        time.sleep(0.05)
    return True


def boots(spec: MachineSpec, tmp_path: Path, seconds: float = BOOT) -> None:
    with boot(spec, tmp_path, deadline=Deadline.after(seconds)):
        pass


def test_a_kernel_without_init_panics_and_the_error_says_so(spec: MachineSpec, tmp_path: Path) -> None:
    broken = replace(spec, name="noinit", initrd=(), append=("root=/dev/none",))
    with pytest.raises(KernelError, match="noinit: panic: kernel panic: VFS") as caught:
        boots(broken, tmp_path)
    log, line = re.fullmatch(r"(.*console\.log):(\d+)", caught.value.where or "").groups()  # type: ignore[union-attr]
    assert "Kernel panic" in Path(log).read_text().splitlines()[int(line) - 1]
    assert any("Call Trace" in text or "panic" in text for text in caught.value.detail)
    assert not qemus("noinit")


def test_a_silent_hang_is_told_from_a_loud_one(spec: MachineSpec, tmp_path: Path, overlay: Overlay) -> None:
    extra = overlay({"hang": "#!/bin/sh\nexec sleep 100000\n"})
    hung = replace(spec, name="hung", initrd=(*spec.initrd, extra), append=("rdinit=/hang",))
    with pytest.raises(KernelError, match="hangs before it reaches userspace within 12 s") as caught:
        boots(hung, tmp_path, 12)
    assert caught.value.detail
    # -S: the CPUs wait for a word that nobody says.
    silent = replace(spec, name="silent", qemu_args=("-S",))
    with pytest.raises(KernelError, match="hangs without having printed anything"):
        boots(silent, tmp_path, 3)
    assert not qemus("hung")
    assert not qemus("silent")


def test_an_ssh_server_that_fails(spec: MachineSpec, tmp_path: Path, overlay: Overlay) -> None:
    extra = overlay({"usr/sbin/dropbear": "#!/bin/sh\necho out of luck >&2\nexit 1\n"})
    with pytest.raises(KernelError, match="failed: dropbear: out of luck"):
        boots(replace(spec, initrd=(*spec.initrd, extra)), tmp_path)


def test_an_ssh_server_that_never_listens(spec: MachineSpec, tmp_path: Path, overlay: Overlay) -> None:
    extra = overlay({"usr/sbin/dropbear": "#!/bin/sh\nexec sleep 100000\n"})
    with pytest.raises(KernelError, match="userspace came up, but its SSH server did not within 15 s"):
        boots(replace(spec, initrd=(*spec.initrd, extra)), tmp_path, 15)
    liar = overlay({"usr/sbin/dropbear": "#!/bin/sh\nexit 0\n"})
    with pytest.raises(KernelError, match="does not listen"):
        boots(replace(spec, initrd=(*spec.initrd, liar)), tmp_path)


def test_a_panic_ends_a_running_command_within_seconds(spec: MachineSpec, tmp_path: Path) -> None:
    with (pytest.raises(KernelError, match="sysrq triggered crash") as caught,
          boot(replace(spec, name="crash"), tmp_path, deadline=Deadline.after(BOOT)) as machine):
        started = time.monotonic()
        machine.shell("echo c > /proc/sysrq-trigger; sleep 1000", deadline=Deadline.after(60))
    assert time.monotonic() - started < 10
    assert any(event.kind is Kind.PANIC for event in machine.events)
    assert "crash" in caught.value.what
    assert any("sysrq_handle_crash" in line for line in caught.value.detail)
    assert not qemus("crash")


def test_a_panic_ends_a_wait_for_the_console_and_for_a_background_program(spec: MachineSpec, tmp_path: Path) -> None:
    with (pytest.raises(KernelError, match="sysrq triggered crash"),
          boot(spec, tmp_path, deadline=Deadline.after(BOOT)) as machine):
        running = machine.start("sleep", "1000")
        machine.start("sh", "-c", "usleep 300000; echo c > /proc/sysrq-trigger")
        running.wait(Deadline.after(60))
    with (pytest.raises(KernelError, match="sysrq triggered crash"),
          boot(spec, tmp_path, deadline=Deadline.after(BOOT)) as machine):
        machine.start("sh", "-c", "usleep 300000; echo c > /proc/sysrq-trigger")
        machine.console.wait_for("never printed", Deadline.after(60))


def test_a_report_that_kills_nothing_still_fails_the_block(spec: MachineSpec, tmp_path: Path) -> None:
    fake = "------------[ cut here ]------------\nWARNING: CPU: 0 PID: 1 at net/core/fake.c:1 fake+0x1/0x2\n"
    end = "---[ end trace 0000000000000000 ]---\n"
    with (pytest.raises(KernelError, match=r"WARNING in fake"),
          boot(spec, tmp_path, deadline=Deadline.after(BOOT)) as machine):
        machine.run("sh", "-c", "cat > /dev/kmsg", stdin=(fake).encode(), check=False)
        machine.run("sh", "-c", "cat > /dev/kmsg", stdin=(end).encode(), check=False)
    allowed = Ignore(pattern=re.compile("fake.c:1|cut here"), reason="this test prints it")
    with boot(spec, tmp_path, deadline=Deadline.after(BOOT), ignores=(allowed,)) as machine:
        machine.run("sh", "-c", "cat > /dev/kmsg", stdin=fake.encode(), check=False)
    assert machine.events == ()


def test_the_kernel_outranks_the_error_it_caused(spec: MachineSpec, tmp_path: Path) -> None:
    with (pytest.raises(KernelError, match="sysrq triggered crash"),
          boot(spec, tmp_path, deadline=Deadline.after(BOOT)) as machine):
        machine.start("sh", "-c", "echo c > /proc/sysrq-trigger")
        assert eventually(lambda: machine.console.vitals.ended, 10)
        raise AssertionError("the peer does not answer")


def test_a_guest_that_cannot_start_a_process_any_more(spec: MachineSpec, tmp_path: Path) -> None:
    with boot(spec, tmp_path, deadline=Deadline.after(BOOT)) as machine:
        machine.shell("echo 20 > /proc/sys/kernel/threads-max")
        with pytest.raises(InfraError, match="could not start a process"):
            machine.run("true")


def test_a_reset_without_a_word(spec: MachineSpec, tmp_path: Path) -> None:
    with (pytest.raises(KernelError, match="ended without a word"),
          boot(spec, tmp_path, deadline=Deadline.after(BOOT)) as machine):
        machine.run("reboot", "-f", deadline=Deadline.after(30))


def test_a_guest_that_does_not_power_off_in_time_is_killed(spec: MachineSpec, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.vm.machine._SHUTDOWN", 2.0)
    with (pytest.raises(KernelError, match="did not power off within 2 s") as caught,
          boot(replace(spec, name="stays"), tmp_path, deadline=Deadline.after(BOOT)) as machine):
        machine.shell("""
            for process in /proc/[0-9]*; do
                read -r _ _ _ parent _ < $process/stat
                if [ "$parent" = 1 ] && grep -q /init $process/cmdline; then kill -STOP ${process#/proc/}; fi
            done""")
    assert not qemus("stays")
    assert "the guest's init does not answer" in caught.value.detail
    assert any("CPU 0" in line or "cpu 0" in line for line in caught.value.detail), caught.value.detail


def test_a_killed_qemu_is_the_labs_fault(spec: MachineSpec, tmp_path: Path) -> None:
    with (pytest.raises(InfraError, match="QEMU ended with signal 9"),
          boot(replace(spec, name="victim"), tmp_path, deadline=Deadline.after(BOOT)) as machine):
        for pid in qemus("victim"):
            os.kill(pid, signal.SIGKILL)
        machine.run("sleep", "1000", deadline=Deadline.after(30))


def test_a_qemu_that_does_not_start_speaks_for_itself(spec: MachineSpec, tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="QEMU ended with exit code 1") as caught:
        boots(replace(spec, qemu_args=("-device", "no-such-device")), tmp_path)
    assert any("no-such-device" in line for line in caught.value.detail)


def test_a_nic_without_a_driver_in_the_kernel(spec: MachineSpec, tmp_path: Path) -> None:
    odd = replace(spec, nics=(Nic(name="odd"),))
    with boot(odd, tmp_path, deadline=Deadline.after(BOOT)) as machine:
        device = PurePosixPath(machine.run("readlink", "-f", "/sys/class/net/odd/device").stdout.strip()).name
        machine.shell(f"echo {device} > /sys/bus/pci/drivers/e1000/unbind")
        with pytest.raises(KernelError, match="CONFIG_E1000"):
            machine.nic("odd")


@pytest.mark.parametrize("broken", [
    {"name": "two words"}, {"nics": (Nic(name="a"), Nic(name="a"))}, {"nics": (Nic(name="lo"),)},
    {"nics": (Nic(name="a", link="nowhere"),)}, {"kernel": Path("/nonexistent")},
    {"nics": (Nic(name="a", model="ne3000"),)},
])
def test_a_spec_that_cannot_be(spec: MachineSpec, tmp_path: Path, broken: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        boots(replace(spec, **broken), tmp_path)  # type: ignore[arg-type]


def test_machines_of_one_name(spec: MachineSpec, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="share a name"), boot_all((spec, spec), tmp_path, deadline=Deadline.after(5)):
        pass


def test_an_interrupt_leaves_no_qemu(spec: MachineSpec, tmp_path: Path) -> None:
    with (pytest.raises(KeyboardInterrupt),
          boot(replace(spec, name="ctrlc"), tmp_path, deadline=Deadline.after(BOOT))):
        assert qemus("ctrlc")
        raise KeyboardInterrupt
    assert not qemus("ctrlc")
    assert sorted(path.name for path in (tmp_path / "ctrlc").iterdir()) == [
        "console.log", "console.log.times", "qemu.log"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_harness_leaves_no_qemu(spec: MachineSpec, tmp_path: Path, how: signal.Signals) -> None:
    name = f"orphan{how.value}"
    script = textwrap.dedent(f"""
        from pathlib import Path, PurePosixPath
        from harness.deadline import Deadline
        from harness.vm.machine import boot
        from harness.vm.qemu import MachineSpec
        spec = MachineSpec(name={name!r}, kernel=Path({str(spec.kernel)!r}), initrd=(Path({str(spec.initrd[0])!r}),))
        with boot(spec, Path({str(tmp_path)!r}), deadline=Deadline.after({BOOT})) as machine:
            print("up", flush=True)
            machine.run("sleep", "1000", deadline=Deadline.after(1000))
        """)
    with proc.spawn([sys.executable, "-c", script], log=tmp_path / "log") as child:
        assert eventually(lambda: bool(qemus(name)), BOOT)
        assert eventually(lambda: "up" in (tmp_path / "log").read_text(), BOOT), (tmp_path / "log").read_text()
        os.kill(child.pid, how)
        assert eventually(lambda: not qemus(name), 10)
        assert eventually(lambda: child.returncode is not None, 10)
    left = {path.name for path in (tmp_path / name).iterdir()}
    assert left <= {"console.log", "console.log.times", "qemu.log", "resets.log"}
