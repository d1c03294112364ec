# SPDX-License-Identifier: GPL-2.0-only
"""The process that holds the machines of a kept lab: `python -m harness.lab.holder FOLDER LOCK WORDS`.

It boots them, writes what it has (`harness.lab.kept`), passes their consoles on to whoever attaches over the folder's
socket, and ends when it is told to (SIGTERM) or when a machine does. LOCK is the folder's lock, WORDS a pipe on which
it says how far it is, a line each; the end of the pipe without `up` is its failure, and the state says why. Where
nobody reads the pipe any more before it said `up`, nobody knows of the lab, and it ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from harness import arch, proc
from harness.deadline import Deadline
from harness.errors import HarnessError, InfraError
from harness.lab import bench, kept
from harness.lab import topology as topologies
from harness.lab.kept import Guest, State
from harness.lab.process import Process
from harness.vm import keys
from harness.vm.handle import Machine
from harness.vm.klog import Ignore
from harness.vm.qemu import MachineSpec
from harness.vm.user import short

__all__ = ["HOST_KEY", "UP", "Wanted", "attach", "machines_of", "start"]

UP = "up"
HOST_KEY = "host-key"
_WANTED = "wanted.json"
_SOCKET = "console.sock"
_CHUNK = 1 << 15
_BACKLOG = 1 << 20
"""Bytes of console that wait for one who is attached; one who falls behind further is cut off, never the console."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a lab is to be, as JSON.

    Attributes:
        topology: what `topology.to_json` makes of it.
        images: by side, the kernels for machines that ask for one.
        gdb: whether QEMU listens for debuggers.
        others: as in `MachineSpec` and `State`.
    """

    plan: str
    kernel: str
    vmlinux: str
    image: str
    initrd: tuple[str, ...]
    arch: str
    accel: str
    memory: int
    cpus: int
    boot_timeout: float
    topology: dict[str, Any]
    images: dict[str, str]
    append: tuple[str, ...] = ()
    gdb: bool = False

    @property
    def dut(self) -> str:
        """The machine that is meant where none is named: `dut` where there is one, else the first."""
        names = [station.name for station in topologies.from_json(self.topology).machines]
        return "dut" if "dut" in names else names[0]


def start(wanted: Wanted, folder: Path, lock: int) -> Iterator[str]:
    """Have the lab held by a process of its own; yields what it says until the machines are up.

    Raises:
        InfraError: they did not come up; the folder is removed. Any other exception ends the lab as well.
    """
    (folder / _WANTED).write_text(json.dumps(dataclasses.asdict(wanted)), encoding="utf-8")
    reading, writing = os.pipe()
    log = folder / "holder.log"
    argv = (sys.executable, "-m", "harness.lab.holder", str(folder), str(lock), str(writing))
    try:
        holder = Process.of(proc.detach(argv, log=log, pass_fds=(lock, writing)))
    finally:
        os.close(writing)
    up = False
    try:
        with os.fdopen(reading, encoding="utf-8") as words:
            for line in map(str.strip, words):
                if line == UP:
                    up = True
                    break
                yield line
        if not up:
            raise _failure(folder, log)
    except BaseException:
        holder.signal(signal.SIGTERM)
        raise


def _failure(folder: Path, log: Path) -> HarnessError:
    try:
        error = State.read(folder / "lab.json").error
    except (OSError, ValueError):
        error = ""
    said = (error or log.read_text(errors="replace").strip() or "no word").splitlines()
    return InfraError(f"the lab did not come up: {said[0]}", where=str(folder),
                      detail=tuple(said[1:][-proc.TAIL_LINES:]))


@contextmanager
def attach(lab: kept.Kept, machine: str) -> Iterator[socket.socket]:
    """The console of a machine: its last lines, then what it prints; what is sent is typed.

    Raises:
        InfraError: nobody answers.
    """
    with socket.socket(socket.AF_UNIX) as sock, short(lab.folder) as near:
        try:
            sock.connect(f"{near}/{_SOCKET}")
            sock.sendall(f"{machine}\n".encode())
        except OSError as error:
            raise InfraError(f"the lab's holder does not answer: {error.strerror}", where=str(lab.folder)) from error
        yield sock


def main(folder: Path, words: int) -> int:
    """Hold the lab of `folder`; the exit code."""
    wanted = _read(folder)
    state = State(plan=wanted.plan, kernel=wanted.kernel, arch=wanted.arch, vmlinux=wanted.vmlinux, dut=wanted.dut,
                  holder=Process.of(os.getpid()))
    kept.write(folder, state)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    told, attached = threading.Event(), threading.Event()
    threading.Thread(target=_follow_reader, args=(words, told), daemon=True).start()

    def tell(line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(words, f"{line}\n".encode())

    over = False
    try:
        with machines_of(wanted, folder, tell) as machines:
            guests = tuple(_guest(machine) for machine in machines.values())
            state = dataclasses.replace(state, guests=guests)
            with _consoles(folder, machines, attached):
                kept.write(folder, state)
                told.set()
                tell(UP)
                _wait(machines)
                over = True
    except KeyboardInterrupt:
        return 0
    except HarnessError as error:
        if over and attached.is_set():
            return 0  # what a person did at a console (dmesg!) reads like reports of the kernel's
        kept.write(folder, dataclasses.replace(state, error=str(error)))
        return 1
    return 0


def _follow_reader(words: int, told: threading.Event) -> None:
    """End this process where the one that reads our words ends before they were said."""
    poll = select.poll()
    poll.register(words, 0)
    poll.poll()
    if not told.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def _read(folder: Path) -> Wanted:
    fields = json.loads((folder / _WANTED).read_text(encoding="utf-8"))
    return Wanted(**{**fields, "initrd": tuple(fields["initrd"]), "append": tuple(fields["append"])})


@contextmanager
def machines_of(wanted: Wanted, folder: Path, tell: Callable[[str], None], ignores: Iterable[Ignore] = ()
                ) -> Iterator[Mapping[str, Machine]]:
    """The machines that are wanted, up for the block; see `bench.up`."""
    template = MachineSpec(
        name="dut", kernel=Path(wanted.image), initrd=tuple(map(Path, wanted.initrd)), arch=arch.get(wanted.arch),
        accel=wanted.accel, memory_mib=wanted.memory, cpus=wanted.cpus, append=wanted.append,
        gdb=wanted.gdb)
    deadline = Deadline.after(wanted.boot_timeout)
    images = {side: Path(image) for side, image in wanted.images.items()}
    with bench.up(topologies.from_json(wanted.topology), template, folder, deadline=deadline, kernels=images,
                  ignores=ignores, progress=tell) as lab:
        yield {name: host.machine for name, host in lab.hosts.items()}


def _guest(machine: Machine) -> Guest:
    """What others need to know of a machine; writes the keys they log in with."""
    machine.ssh_argv()
    folder = machine.files.console.parent
    keys.write_private(folder / HOST_KEY, machine.target.host_key.private)
    return Guest(name=machine.name, host=machine.target.host, port=machine.target.port, folder=str(folder),
                 qemu=Process.of(machine.pid), gdb=str(machine.files.gdb) if machine.spec.gdb else "")


def _wait(machines: Mapping[str, Machine]) -> None:
    """Until we are told to end, or a machine has ended, which is raised.

    What a kernel reports is no end: somebody wants to look at it.
    """
    over = threading.Event()
    with ExitStack() as stack:
        for machine in machines.values():
            vitals = machine.console.vitals
            stack.enter_context(vitals.listening(lambda vitals=vitals: over.set() if vitals.ended else None))  # type: ignore[misc]
        with contextlib.suppress(KeyboardInterrupt):
            over.wait()
    for machine in machines.values():
        if machine.console.vitals.ended:
            machine.check()


@contextmanager
def _consoles(folder: Path, machines: Mapping[str, Machine], attached: threading.Event) -> Iterator[None]:
    """Answer whoever wants to see a console, for the block, and note that there was one."""
    with socket.socket(socket.AF_UNIX) as listener, short(folder) as near:
        listener.bind(f"{near}/{_SOCKET}")
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                attached.set()
                threading.Thread(target=_console, args=(peer, machines), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            (folder / _SOCKET).unlink(missing_ok=True)


def _console(peer: socket.socket, machines: Mapping[str, Machine]) -> None:
    """Serve one who attached."""
    with peer, contextlib.suppress(OSError):
        with peer.makefile("rb", buffering=0) as lines:
            name = lines.readline().decode(errors="replace").strip()
        machine = machines.get(name)
        if machine is None:
            return
        machine.console_shell()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BACKLOG)

        def show(data: bytes) -> None:
            # The console's own thread: it waits for nobody.
            with contextlib.suppress(OSError):
                if peer.send(data, socket.MSG_DONTWAIT) == len(data):
                    return
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

        with machine.console.tapped(show):
            while data := peer.recv(_CHUNK):
                machine.console.send(data.decode(errors="replace"))


def _interrupt(number: int, _: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


if __name__ == "__main__":
    os.set_inheritable(int(sys.argv[2]), False)
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[3])))
