# SPDX-License-Identifier: GPL-2.0-only
"""Machines: boot them, hold them for a `with` block, take them down again and leave nothing behind.

The guest announces how far it is over its control port (`harness/guest/init`): nothing is polled by connecting.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from harness import proc
from harness.deadline import Deadline
from harness.errors import DeadlineExpired, HarnessError, InfraError, KernelError, UsageError
from harness.guest import cpio
from harness.proc import Process
from harness.vm import console, hang, keys, qemu, qmp, registers, ssh, user
from harness.vm.console import Console
from harness.vm.control import Control
from harness.vm.handle import Files, Machine
from harness.vm.hang import Scene
from harness.vm.keys import KeyPair
from harness.vm.klog import Ignore
from harness.vm.links import close_all, plugged
from harness.vm.login import Target
from harness.vm.nic import Link
from harness.vm.qemu import MachineSpec, Wiring
from harness.vm.user import short

__all__ = ["Files", "Machine", "boot", "boot_all"]

_SSH_PORT = 22
_SHUTDOWN = 30.0
"""Seconds a guest has to power off before QEMU is killed."""
_EXAMINE = 5.0
"""Seconds QEMU has to let us look at a guest that hangs."""
_REAP = 10.0
"""Seconds between the end of QEMU's console and the end of QEMU."""


@contextmanager
def boot(spec: MachineSpec, workdir: Path, *, deadline: Deadline, ignores: Iterable[Ignore] = ()) -> Iterator[Machine]:
    """Boot one machine, see `boot_all`."""
    with boot_all((spec,), workdir, deadline=deadline, ignores=ignores) as machines:
        yield machines[spec.name]


@contextmanager
def boot_all(specs: Sequence[MachineSpec], workdir: Path, *, deadline: Deadline, ignores: Iterable[Ignore] = (),
             links: Sequence[Link] = (),
             progress: Callable[[str], None] = lambda _: None) -> Iterator[dict[str, Machine]]:
    """Boot machines at the same time, plug them together, and hold them for the block; by name, in `specs`' order.

    Must be called from the thread that will live as long as they do: they die with it (PR_SET_PDEATHSIG).

    Args:
        workdir: a folder for them; each has one of its own in it.
        deadline: when all of them must be ready.
        ignores: reports that are expected.
        links: those that have conditions, see `links.plugged`.

    Raises:
        UsageError: a spec or a link that cannot be.
        InfraError: QEMU did not start.
        KernelError: a kernel did not boot, or, at the end of the block, reported something.
    """
    ignores = tuple(ignores)
    _check_all(specs)
    with ExitStack() as stack:
        sockets = stack.enter_context(plugged(specs, links))
        started = [stack.enter_context(_started(spec, workdir / spec.name, sockets[spec.name], ignores))
                   for spec in specs]
        close_all(sockets)
        machines = {}
        for start in started:
            machines[start.spec.name] = stack.enter_context(_ready(start, deadline))
            progress(f"{start.spec.name} is up")
        try:
            yield machines
        except Exception as error:
            _blame_kernel(started, error)
            raise
        _shut_down(started, machines)


def _check_all(specs: Sequence[MachineSpec]) -> None:
    for spec in specs:
        qemu.check(spec)
    if len({spec.name for spec in specs}) < len(specs):
        raise UsageError("two machines share a name", hint=", ".join(spec.name for spec in specs))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Started:
    """A QEMU that runs, whatever its guest does."""

    spec: MachineSpec
    files: Files
    process: Process
    console: Console
    control: Control
    qmp: socket.socket
    host_key: KeyPair
    client_key: KeyPair


@contextmanager
def _started(spec: MachineSpec, folder: Path, links: Mapping[str, socket.socket],
             ignores: tuple[Ignore, ...]) -> Iterator[_Started]:
    """Start QEMU for `spec`, its sockets held and drained; when the block ends, QEMU is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Files.below(folder)
    host_key, client_key = keys.generate(), keys.generate()
    with ExitStack() as stack:
        for leftover in (files.client_key, files.known_hosts, files.gdb):
            stack.callback(leftover.unlink, missing_ok=True)
        initrd, kernel = _initrd(stack, spec, host_key, client_key), user.inherited(stack, spec.kernel)
        stack.callback(_drop_resets, files.resets)
        owner = user.here(spec.accel)
        resets = user.writable(stack, files.resets, owner) if spec.accel == "tcg" else None
        ours, theirs = zip(*(_pair(stack) for _ in range(3)), strict=True)
        debug = stack.enter_context(_listening(files.gdb)) if spec.gdb else None
        wiring = Wiring(qmp=theirs[0].fileno(), console=theirs[1].fileno(), control=theirs[2].fileno(),
                        links={name: end.fileno() for name, end in links.items()},
                        gdb=debug.fileno() if debug else None,
                        resets=user.path_of(resets) if resets else None)
        view = stack.enter_context(console.drained(ours[1], spec.name, files.console, ignores))
        control = stack.enter_context(contextlib.closing(Control(ours[2], view.vitals)))
        argv = qemu.argv(replace(spec, kernel=user.path_of(kernel)), wiring, user.path_of(initrd))
        held = [file for file in (kernel, initrd, resets) if file is not None]
        process = stack.enter_context(proc.spawn(argv, log=files.qemu, user=owner,
                                                 pass_fds=(*wiring.fds, *(file.fileno() for file in held))))
        for end in (*theirs, *held, *((debug,) if debug else ())):
            end.close()
        view.vitals.explain_end_with(lambda: _autopsy(spec, process, files.qemu))
        view.vitals.witness_end_with(lambda: _fault(files.resets))
        view.resolve_with(spec.kernel)
        yield _Started(spec=spec, files=files, process=process, console=view, control=control, qmp=ours[0],
                       host_key=host_key, client_key=client_key)


@contextmanager
def _ready(start: _Started, deadline: Deadline) -> Iterator[Machine]:
    """Wait until the guest says that it is ready, and log in."""
    name, vitals = start.spec.name, start.console.vitals
    with ExitStack() as stack:
        start.control.await_ready(deadline, lambda: _examine(start, "booting", deadline.budget))
        monitor = stack.enter_context(qmp.connect(name, start.qmp, deadline=deadline))
        host, port = monitor.forwarded(_SSH_PORT, deadline=deadline)
        target = Target(name=name, host=host, port=port, host_key=start.host_key, client_key=start.client_key)
        shell = stack.enter_context(ssh.connect(target, vitals, deadline=deadline))
        yield Machine(spec=start.spec, files=start.files, console=start.console, qmp=monitor, target=target,
                      control=start.control, pid=start.process.pid, _shell=shell)


def _examine(start: _Started, doing: str, quiet: float) -> tuple[str, ...]:
    """What can be had from a guest that did not come up."""
    name, vitals = start.spec.name, start.console.vitals
    with (contextlib.suppress(InfraError), qmp.connect(name, start.qmp, deadline=Deadline.after(_EXAMINE)) as monitor,
          vitals.held() as first):
        event = hang.examine(Scene(name=name, qmp=monitor, console=start.console, control=start.control,
                                   folder=start.files.hang, image=start.spec.kernel), quiet, doing)
        first.append(event)
        return event.lines
    return ()


def _shut_down(started: Sequence[_Started], machines: Mapping[str, Machine]) -> None:
    """Power all machines off at the same time and look a last time at what their kernels said.

    Raises:
        KernelError: a kernel reported something, or did not power off.
    """
    for start in started:
        start.console.vitals.check()
        start.console.vitals.expect_end()
        start.control.ask("poweroff")
    deadline = Deadline.after(_SHUTDOWN)
    for start in started:
        vitals = start.console.vitals
        try:
            vitals.wait_end(deadline)
        except DeadlineExpired as error:
            with contextlib.suppress(InfraError), vitals.held() as found:
                found.append(hang.examine(machines[start.spec.name].scene(), _SHUTDOWN, "powering off"))
            raise KernelError(f"{start.spec.name}: did not power off within {_SHUTDOWN:g} s",
                              where=str(start.files.console),
                              detail=(*error.detail, *(line for event in found for line in event.lines))) from error
        vitals.check()


def _blame_kernel(started: Sequence[_Started], error: Exception) -> None:
    """Where a kernel is not well, that is why the block failed: raise it in place of `error`."""
    if isinstance(error, KernelError):
        return
    for start in started:
        try:
            start.console.vitals.check()
        except HarnessError as cause:
            raise cause from error


def _autopsy(spec: MachineSpec, process: Process, log: Path) -> HarnessError | None:
    """What QEMU itself says about its end, where it did not end of the guest's will."""
    try:
        code = process.wait(Deadline.after(_REAP))
    except DeadlineExpired:
        return None
    if code == 0:
        return None
    words = tuple(log.read_text(errors="replace").splitlines()[-proc.TAIL_LINES:])
    ending = f"exit code {code}" if code > 0 else f"signal {-code}"
    return InfraError(f"{spec.name}: QEMU ended with {ending}", where=str(log), detail=words)


def _fault(resets: Path) -> tuple[str, ...]:
    """What QEMU noted of a triple fault, where there was one."""
    with contextlib.suppress(OSError), resets.open(encoding="utf-8", errors="replace") as lines:
        return registers.last_reset(line.rstrip("\n") for line in lines)
    return ()


def _drop_resets(resets: Path) -> None:
    """Resets are only worth keeping where one of them was a fault."""
    if not _fault(resets):
        resets.unlink(missing_ok=True)


def _initrd(stack: ExitStack, spec: MachineSpec, host_key: KeyPair, client_key: KeyPair) -> BinaryIO:
    """The archives of `spec`, and one with this run's keys."""
    sink = user.anonymous(stack, "initrd")
    for path in spec.initrd:
        with path.open("rb") as source:
            shutil.copyfileobj(source, sink)
    sink.write(cpio.overlay({"etc/dropbear/host_key": host_key.dropbear,
                             "root/.ssh/authorized_keys": client_key.public}))
    sink.flush()
    return sink


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """A socket that listens at `path`, for QEMU, which could not make it; whoever connects has to be us."""
    with socket.socket(socket.AF_UNIX) as listener, short(path.parent) as folder:
        path.unlink(missing_ok=True)
        listener.bind(f"{folder}/{path.name}")
        path.chmod(0o600)
        listener.listen(1)
        yield listener


def _pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    return stack.enter_context(ours), stack.enter_context(theirs)
