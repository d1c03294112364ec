# SPDX-License-Identifier: GPL-2.0-only
"""`harness boot`, `exec`, `console` and `down`: a shell in a guest, and labs that are kept for later commands."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import common
from harness.cli.common import ACCEL, ARCH, CACHE, PLAN, QUIET, SIDE
from harness.cli.prepare import Prepared, prepare
from harness.errors import InfraError, KernelError, UsageError

if TYPE_CHECKING:
    from harness.lab.holder import Wanted
    from harness.lab.kept import Kept

_LAB = click.option("--lab", "-l", "lab", metavar="NAME", help="The kept lab.  [default: the only one]")
_MACHINE = click.option("--machine", "-m", "machine", metavar="NAME",
                        help="A machine of the lab.  [default: the one under test]")
_IN_ORDER = {"allow_interspersed_args": False}
"""What follows the first word of a command is its own."""
_SOCKET_PATH = 107
_GRACE = 5.0
"""Seconds that a lab has to say why a connection to it was lost."""


@click.command()
@PLAN
@click.option("--variant", "-v", "variant", required=True, metavar="NAME", help="The variant to boot.")
@ARCH
@SIDE
@click.option("--topology", metavar="NAME", default="solo", show_default=True,
              help="Boot all machines of this topology, linked and addressed.")
@click.option("--command", "-c", "command", metavar="COMMAND",
              help="Run this in the guest's shell and end with its exit code, in place of an interactive shell.")
@click.option("--append", multiple=True, metavar="WORD", help="A word for the kernel's command line; again for more.")
@click.option("--gdb", is_flag=True, help="Let a debugger attach, and print the command that does.")
@click.option("--keep", is_flag=True, help="Leave the machines up, and say how to use and to end them.")
@click.option("--name", metavar="NAME", help="What to call a kept lab.  [default: the variant's name]")
@ACCEL
@CACHE
@QUIET
def boot(plan: Path, variant: str, arch: str | None, side: str, topology: str, command: str | None,
         append: tuple[str, ...], gdb: bool, keep: bool, name: str | None, accel: str | None, cache: Path | None,
         quiet: bool) -> None:
    """Boot a kernel of PLAN and open a shell in it; the machine ends with the shell.

    On a terminal the shell has one as well; through a pipe it reads its commands from there.
    """
    if keep and command is not None:
        raise UsageError("--keep and --command exclude each other", hint="`harness exec` runs commands in a kept lab")
    if name is not None and not keep:
        raise UsageError("--name is for labs that are kept: --keep")
    ready = prepare(plan, variant, arch, side, Path(), accel, cache, quiet, topology)
    wanted = _wanted(ready, append, gdb)
    if keep:
        _keep(wanted, name or variant, quiet)
        return
    from harness.lab import holder, kept

    with (kept.scratch() as folder, _consoles_saved(folder),
          holder.machines_of(wanted, folder, common.progress(quiet).step, ready.lab.plan.benign) as machines):
        machine = machines[wanted.dut]
        if gdb:
            for each in machines.values():
                click.echo(f"debugger for {each.name}: {_gdb(wanted.arch, wanted.vmlinux, each.files.gdb)}", err=True)
        if not quiet:
            click.echo(f"{wanted.kernel} is up; its console: {machine.files.console}", err=True)
            if command is None and sys.stdin.isatty():
                click.echo("exit ends the shell and the machine", err=True)
        words = () if command is None else ("sh", "-ec", command)
        sys.exit(machine.interact(*words, terminal=command is None))


@click.command(name="exec", context_settings=_IN_ORDER)
@_LAB
@_MACHINE
@click.option("--tty", "-t", is_flag=True, help="Give COMMAND a terminal; a shell has one where we have.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def exec_(lab: str | None, machine: str | None, tty: bool, command: tuple[str, ...]) -> None:
    """Run COMMAND in a machine of a kept lab, or a shell; ends with its exit code, 128 + N after signal N.

    The words arrive in the guest as they are here: no shell there takes them apart.
    """
    from harness.deadline import Deadline
    from harness.lab import holder, kept
    from harness.vm import keys, ssh, terminal
    from harness.vm.handle import Files
    from harness.vm.login import Target
    from harness.vm.vitals import Vitals

    found = kept.find(lab)
    guest = found.guest(machine)
    folder = Path(guest.folder)
    files = Files.below(folder)
    target = Target(name=guest.name, host=guest.host, port=guest.port,
                    host_key=keys.load((folder / holder.HOST_KEY).read_bytes()),
                    client_key=keys.load(files.client_key.read_bytes()))
    try:
        with ssh.connect(target, Vitals(guest.name, files.console), deadline=Deadline.after(30)) as shell:
            sys.exit(terminal.interact(shell, *command, terminal=tty or not command))
    except InfraError as lost:
        why = kept.why_ended(found, Deadline.after(_GRACE))
        if not why:
            raise
        raise KernelError(why[0], where=str(files.console), detail=why[1:]) from lost


@click.command()
@_LAB
@_MACHINE
def console(lab: str | None, machine: str | None) -> None:
    """Attach to the serial console of a machine in a kept lab: its last lines, what it prints, and a shell on it.

    On a terminal, Ctrl-] leaves it. Through a pipe, what comes is typed, and the console is shown until Ctrl-C or the
    end of the machine.
    """
    from harness.lab import holder, kept
    from harness.vm import terminal

    found = kept.find(lab)
    guest = found.guest(machine)
    with holder.attach(found, guest.name) as sock:
        if sys.stdin.isatty():
            click.echo(f"console of {guest.name}; Ctrl-] leaves it", err=True)
        left = terminal.relay(sock)
    if not left:
        click.echo(f"harness: the console of {guest.name} has ended", err=True)


@click.command()
@click.argument("labs", nargs=-1, metavar="[LAB]...")
@click.option("--all", "everything", is_flag=True, help="All kept labs.")
def down(labs: tuple[str, ...], everything: bool) -> None:
    """End kept labs: their machines power off, and nothing of them is left. Without LAB, the only one."""
    from harness.lab import kept

    chosen = kept.labs() if everything else [kept.find(name) for name in labs] if labs else [kept.find(None)]
    for lab in chosen:
        said = (kept.end(lab).splitlines() or [""])[0]
        click.echo(f"{lab.name}: ended" + (f"; {said}" if said else ""))


def rows() -> list[dict[str, str]]:
    """What `harness list labs` shows."""
    from harness.lab import kept

    return [{"name": lab.name, "state": lab.condition, "kernel": lab.state.kernel, "plan": lab.state.plan,
             "machines": " ".join(guest.name for guest in lab.state.guests), "folder": str(lab.folder)}
            for lab in kept.labs()]


def _wanted(ready: Prepared, append: tuple[str, ...], gdb: bool) -> Wanted:
    from harness.lab.holder import Wanted
    from harness.lab.topology import to_json

    lab, built, limits = ready.lab, ready.built, ready.lab.plan.lab
    return Wanted(plan=lab.plan.name, kernel=built.name, vmlinux=str(built.out / "vmlinux"), image=str(built.image),
                  initrd=(str(lab.rootfs),), arch=lab.arch.name, accel=lab.accel.name, memory=limits.memory,
                  cpus=limits.cpus, boot_timeout=limits.boot_timeout, topology=to_json(ready.topology),
                  images={side: str(of_side.image) for side, of_side in ready.sides.items()}, append=append, gdb=gdb)


@contextmanager
def _consoles_saved(folder: Path) -> Iterator[None]:
    """Where a kernel fails in the block, copy the consoles below `folder` to where they stay, and say where."""
    try:
        yield
    except KernelError:
        for console in sorted(folder.glob("*/console.log")):
            with tempfile.NamedTemporaryFile(prefix=f"harness-console-{console.parent.name}-", suffix=".log",
                                             delete=False) as copy:
                copy.write(console.read_bytes())
            click.echo(f"harness: the console of {console.parent.name} is in {copy.name}", err=True)
        raise


def _keep(wanted: Wanted, name: str, quiet: bool) -> None:
    from harness.lab import holder, kept

    progress = common.progress(quiet)
    with ExitStack() as stack:
        folder, lock = stack.enter_context(kept.claim(name))
        for line in holder.start(wanted, folder, lock):
            progress.step(line)
    lab = kept.find(name)
    for line in _how_to(lab):
        click.echo(line)


def _how_to(lab: Kept) -> Sequence[str]:
    """What a person needs to know of a lab that was kept; at most 80 columns but for paths."""
    others = [guest.name for guest in lab.state.guests if guest.name != lab.state.dut]
    lines = [f"lab {lab.name} is up: {lab.state.kernel} of {lab.state.plan}",
             f"  harness exec -l {lab.name}               a shell in {lab.state.dut}",
             f"  harness exec -l {lab.name} COMMAND...    a command in it",
             f"  harness console -l {lab.name}            its serial console",
             f"  harness down {lab.name}                  end it"]
    if others:
        lines.append(f"  -m NAME for another machine: {', '.join(others)}")
    return [*lines, *(f"  debugger for {guest.name}: {_gdb(lab.state.arch, lab.state.vmlinux, Path(guest.gdb))}"
                      for guest in lab.state.guests if guest.gdb)]


def _gdb(arch: str, vmlinux: str, socket: Path) -> str:
    """The command that attaches a debugger."""
    from harness.arch import native

    program = "gdb" if arch == native().name else "gdb-multiarch"
    path, before = str(socket), ""
    if len(path.encode()) > _SOCKET_PATH:
        path, before = socket.name, f"cd {shlex.quote(str(socket.parent))} && "
    return before + shlex.join([program, vmlinux, "-ex", f"target remote {path}"])
