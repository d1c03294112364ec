# SPDX-License-Identifier: GPL-2.0-only
"""SIGKILL of the harness at any moment: within five seconds no QEMU, no helper, no socket, and the next boot works."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.kernel.kbuild import Build
from harness.vm.qemu import MachineSpec
from tests import processes
from tests.boot.conftest import BOOT
from tests.boot.test_failures import eventually
from tests.conftest import ROOT

GONE = 5.0
SCRIPT = """
import sys
from pathlib import Path
from harness.deadline import Deadline
from harness.vm.machine import boot_all
from harness.vm.nic import Nic
from harness.vm.qemu import MachineSpec
image, rootfs, folder = map(Path, sys.argv[1:4])
specs = [MachineSpec(name=name, kernel=image, initrd=(rootfs,), memory_mib=256, nics=(Nic(name="lan0", link="wire"),))
         for name in ("a", "b")]
with boot_all(specs, folder, deadline=Deadline.after(180)) as machines:
    for machine in machines.values():
        print(machine.run("uname", "-n").stdout, end="", flush=True)
        machine.put("/tmp/data", bytes(1_000_000))
print("done", flush=True)
"""


class Victim:
    """A harness that boots two machines, uses them and powers them off, and everything it starts."""

    def __init__(self, spec: MachineSpec, folder: Path) -> None:
        runtime = folder / "runtime"
        runtime.mkdir()
        self.folder = folder
        self.mark = f"XDG_RUNTIME_DIR={runtime}"
        self.started = time.monotonic()
        self.child = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(spec.kernel), str(spec.initrd[0]), str(folder / "boots")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "XDG_RUNTIME_DIR": str(runtime), "PYTHONPATH": str(ROOT)})

    def finish(self) -> float:
        """Seconds of the whole life of it."""
        said, _ = self.child.communicate(timeout=BOOT)
        assert said == "a\nb\ndone\n"
        return time.monotonic() - self.started

    def kill_after(self, seconds: float, *, look: bool) -> None:
        """Kill it at a moment of its life, and see that all goes with it.

        Args:
            look: stop it first and note which sockets it has. What it has just started then gets further than it would.
        """
        sockets: set[str] = set()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(max(0.0, self.started + seconds - time.monotonic()))
        if look and self.child.poll() is None:
            os.kill(self.child.pid, signal.SIGSTOP)
            sockets = processes.sockets_of({self.child.pid} | processes.with_variable(self.mark))
        self.child.kill()
        self.child.communicate()
        assert eventually(lambda: not processes.with_variable(self.mark), GONE), processes.with_variable(self.mark)
        assert eventually(lambda: not sockets & processes.listening(), GONE)
        left = {path.name for path in self.folder.rglob("*") if not path.is_dir()}
        assert left <= {"console.log", "console.log.times", "qemu.log", "resets.log"}


@pytest.fixture(scope="module")
def life(kernel_image: Path, rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds that a victim lives when nobody kills it."""
    spec = MachineSpec(name="victim", kernel=kernel_image, initrd=(rootfs,))
    return Victim(spec, tmp_path_factory.mktemp("whole")).finish()


def moments(count: int, seed: int) -> Iterator[float]:
    """Shares of a life, at random, and everywhere in it."""
    generator = random.Random(seed)
    return ((number + generator.random()) / count for number in range(count))


def kill_at(shares: Iterator[float], life: float, spec: MachineSpec, tmp_path: Path) -> None:
    for number, share in enumerate(shares):
        folder = tmp_path / str(number)
        folder.mkdir()
        Victim(spec, folder).kill_after(share * life, look=number % 2 == 0)
    (tmp_path / "next").mkdir()
    Victim(spec, tmp_path / "next").finish()


def test_killed_at_six_moments(spec: MachineSpec, life: float, tmp_path: Path) -> None:
    kill_at(moments(6, seed=1), life, spec, tmp_path)


@pytest.mark.slow
def test_killed_at_fifty_moments(spec: MachineSpec, life: float, tmp_path: Path) -> None:
    kill_at(moments(50, seed=2), life, spec, tmp_path)


def test_what_is_looked_for_is_found(spec: MachineSpec, tmp_path: Path, patched_both: Build) -> None:
    """The looks themselves: while a victim lives they see its processes, QEMUs among them, and their sockets."""
    victim = Victim(spec, tmp_path)
    assert victim.child.stdout is not None
    assert victim.child.stdout.readline() == "a\n"
    found = processes.with_variable(victim.mark)
    assert found >= {victim.child.pid} | processes.descendants(victim.child.pid)
    programs = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] for pid in found]
    assert sum(b"qemu" in program for program in programs) == 2
    assert processes.sockets_of(found) & processes.listening()
    victim.kill_after(0, look=True)
