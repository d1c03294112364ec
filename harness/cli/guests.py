# SPDX-License-Identifier: GPL-2.0-only
"""`harness boot`, `exec`, `console` and `down`: a shell in a guest, and labs that are kept for later commands."""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import common
from harness.cli.common import ACCEL, ARCH, CACHE, PLAN, QUIET, SIDE, open_store
from harness.errors import ExitCode, InfraError, KernelError, UsageError

if TYPE_CHECKING:
    from harness.jobs import boots
    from harness.kernel.kbuild import Build
    from harness.lab.holder import Wanted
    from harness.lab.kept import Kept
    from harness.lab.topology import Topology

_LAB = click.option("--lab", "-l", "lab", metavar="NAME", help="The kept lab.  [default: the only one]")
_MACHINE = click.option("--machine", "-m", "machine", metavar="NAME",
                        help="A machine of the lab.  [default: the one under test]")
_IN_ORDER = {"allow_interspersed_args": False}
"""What follows the first word of a command is its own."""
_SOCKET_PATH = 107
_CODES = {0: ExitCode.PASSED, 1: ExitCode.FAILED, 2: ExitCode.INTERRUPTED, 4: ExitCode.USAGE, 5: ExitCode.USAGE}
"""Ours for pytest's (pytest.ExitCode); no test collected is wrong usage."""
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
    wanted = _wanted(_prepare(plan, variant, arch, side, Path(), accel, cache, quiet, topology), append, gdb)
    if keep:
        _keep(wanted, name or variant, quiet)
        return
    from harness.lab import holder, kept

    with (kept.scratch() as folder, _consoles_saved(folder),
          holder.machines_of(wanted, folder, common.progress(quiet).step) as machines):
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


@click.command(context_settings={"ignore_unknown_options": True})
@PLAN
@click.option("--variant", "-v", "variant", required=True, metavar="NAME", help="The variant to test.")
@ARCH
@SIDE
@click.option("--out", type=click.Path(path_type=Path, file_okay=False),
              help="The folder for consoles and results.  [default: runs/PLAN-tests-TIME]")
@ACCEL
@CACHE
@QUIET
@click.option("--nic", metavar="MODEL", help="The model of the NICs.  [default: e1000]")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="FILE... [PYTEST OPTION]...")
def test(plan: Path, variant: str, arch: str | None, side: str, out: Path | None, accel: str | None,
         cache: Path | None, quiet: bool, nic: str | None, words: tuple[str, ...]) -> None:
    """Run guest tests on one kernel of PLAN with pytest, whose options may follow: -k, -x, --pdb, ...

    See docs/guest-tests.md. `harness run` runs those that PLAN names, on all its variants.
    """
    import pytest

    from harness.vm.nic import DEFAULT_MODEL

    folder = (out or common.run_folder(f"{plan.resolve().name}-tests")).resolve()
    common.new_folder(folder)
    ready = _prepare(plan, variant, arch, side, folder, accel, cache, quiet)
    session = ready.lab.session(ready.built, folder, nic or DEFAULT_MODEL, ready.sides)
    session.write(folder / "session.json")
    Path(session.results).touch()
    code = pytest.main(["-p", "harness.pytest_plugin", f"--harness-session={folder}/session.json",
                        "-p", "no:cacheprovider", "--override-ini=addopts=", *words])
    if not quiet:
        click.echo(f"consoles and results: {folder}", err=True)
    for line in _unearned(Path(session.results)) if code == 0 else ():
        click.echo(f"harness: {line}", err=True)
        code = pytest.ExitCode.TESTS_FAILED
    sys.exit(_CODES.get(code, ExitCode.LAB))


def rows() -> list[dict[str, str]]:
    """What `harness list labs` shows."""
    from harness.lab import kept

    return [{"name": lab.name, "state": lab.condition, "kernel": lab.state.kernel, "plan": lab.state.plan,
             "machines": " ".join(guest.name for guest in lab.state.guests), "folder": str(lab.folder)}
            for lab in kept.labs()]


def _unearned(results: Path) -> list[str]:
    """Tests that passed for pytest and have earned no pass: those that assert nothing."""
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return [f"{row['id'].partition('::')[2]}: {row['reason']}" for row in rows
            if row["event"] == "finished" and row["verdict"] not in ("PASS", "SKIP")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """What has to be there before anything is booted.

    Attributes:
        lab: everything but the kernels.
        built: the kernel that was asked for.
        sides: by side, that kernel and those that machines of the topology ask for.
        topology: the machines.
    """

    lab: boots.Lab
    built: Build
    sides: Mapping[str, Build]
    topology: Topology


def _prepare(plan: Path, variant: str, arch: str | None, side: str, out: Path, accel: str | None, cache: Path | None,
             quiet: bool, topology: str = "solo") -> _Prepared:
    """Build the kernels of a plan that are needed, and all that is needed to boot them."""
    from harness.deadline import Deadline
    from harness.jobs import boots, builds
    from harness.lab import shapes
    from harness.plan.plan import read_plan

    read, store, progress = read_plan(plan, arch or ""), open_store(cache), common.progress(quiet)
    read.variant(variant)
    shape = shapes.get(topology, read.topologies)
    inputs = builds.resolve(read, Deadline.after(60), store=store, progress=progress.step)
    sides = {}
    for name in sorted({side, *(station.kernel for station in shape.machines if station.kernel)}):
        config = builds.configure(inputs, name, variant, store=store, progress=progress)
        sides[name] = builds.build(inputs, name, config, store=store, progress=progress)
    userland = boots.userland(store, inputs.arch, progress=progress.step)
    chosen = boots.accelerator(store, inputs.arch, sides[side].image, override=accel or "", progress=progress.step)
    lab = builds.lab(inputs, userland, chosen, out, store=store, progress=progress)
    return _Prepared(lab=lab, built=sides[side], sides=sides, topology=shape)


def _wanted(ready: _Prepared, append: tuple[str, ...], gdb: bool) -> Wanted:
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
