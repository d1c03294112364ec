# SPDX-License-Identifier: GPL-2.0-only
"""Labs that outlive the command that booted them: where they are found, whether they live, how they are ended.

Each has a folder in the user's runtime folder, and a process that holds its machines (`harness.lab.holder`). That
process has the folder's lock for as long as it lives: who gets the lock knows that it is dead.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import InfraError, UsageError
from harness.lab.folders import exclusive, held, locked, root
from harness.lab.process import Process

__all__ = ["Guest", "Kept", "Process", "State", "claim", "end", "find", "labs", "root", "scratch", "why_ended", "write"]

_STATE = "lab.json"
_SCRATCH = ".scratch-"
_ORDERLY = 45.0
"""Seconds that the machines of a lab have to power off, and their holder to end."""
_FIRM = 10.0
_LOOK = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A machine of a kept lab.

    Attributes:
        name: its name in the lab.
        host: where its SSH server is reached.
        port: and on which port.
        qemu: its QEMU.
        folder: where its console log and its keys are.
        gdb: the unix socket of its debugger's stub; empty where it has none.
    """

    name: str
    host: str
    port: int
    qemu: Process
    folder: str
    gdb: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a lab's holder writes about it.

    Attributes:
        plan: the plan it is of.
        kernel: which of its kernels, as in `patched/both`.
        arch: its architecture.
        vmlinux: its symbols.
        holder: the process that holds the machines.
        dut: the machine that is meant where none is named.
        guests: its machines, once they are up.
        error: why it ended, where it ended of itself.
    """

    plan: str
    kernel: str
    arch: str
    vmlinux: str
    holder: Process
    dut: str
    guests: tuple[Guest, ...] = ()
    error: str = ""

    @classmethod
    def read(cls, path: Path) -> State:
        """Raises OSError or ValueError where it is none."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        guests = tuple(Guest(**{**row, "qemu": Process(**row["qemu"])}) for row in fields.pop("guests"))
        return cls(**{**fields, "holder": Process(**fields["holder"]), "guests": guests})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A lab that was kept.

    Attributes:
        name: what commands call it.
        folder: where everything of it is.
        state: what its holder wrote last.
        held: whether its holder lives.
    """

    name: str
    folder: Path
    state: State
    held: bool

    @property
    def condition(self) -> str:
        """`booting`, `up` or `dead`."""
        return "dead" if not self.held else "up" if self.state.guests else "booting"

    def guest(self, name: str | None) -> Guest:
        """One of its machines; the one under test where none is named.

        Raises:
            UsageError: it has none of that name, or is not up.
        """
        if self.condition != "up":
            why = f": {self.state.error.splitlines()[0]}" if self.state.error else ""
            raise UsageError(f"lab {self.name} is {self.condition}{why}", where=str(self.folder))
        wanted = name or self.state.dut
        found = next((guest for guest in self.state.guests if guest.name == wanted), None)
        if found is None:
            raise UsageError(f"lab {self.name} has no machine {wanted!r}",
                             hint=f"it has: {', '.join(guest.name for guest in self.state.guests)}")
        return found


@contextmanager
def claim(name: str) -> Iterator[tuple[Path, int]]:
    """A new folder for a lab, and its lock, held until every copy of the descriptor is closed (flock(2)).

    A dead lab of that name is gone then.

    Raises:
        UsageError: the name is taken, or is none.
    """
    if not name.replace("-", "").replace("_", "").isalnum() or name.startswith("-"):
        raise UsageError(f"not a name for a lab: {name!r}", hint="letters, digits, '-' and '_'")
    folder = root() / name
    with exclusive():
        _sweep()
        if folder.is_dir() and not held(folder):
            shutil.rmtree(folder)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            raise UsageError(f"there is a lab called {name!r} already", where=str(folder),
                             hint=f"`harness down {name}` ends it; --name gives another") from None
        lock = locked(folder)
    try:
        yield folder, lock
    finally:
        os.close(lock)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for the block. One that a killed harness left is removed by the next."""
    with exclusive():
        _sweep()
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=root()))
        lock = locked(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def write(folder: Path, state: State) -> None:
    """Write a lab's state, for its holder."""
    part = folder / f"{_STATE}.part"
    part.write_text(json.dumps(dataclasses.asdict(state), indent=1), encoding="utf-8")
    part.replace(folder / _STATE)


def labs() -> tuple[Kept, ...]:
    """All kept labs, dead ones too, by name."""
    found = []
    with exclusive():
        _sweep()
        for folder in sorted(root().iterdir()):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                found.append(Kept(name=folder.name, folder=folder, state=State.read(folder / _STATE),
                                  held=held(folder)))
    return tuple(found)


def find(name: str | None) -> Kept:
    """The lab of that name, or the only one.

    Raises:
        UsageError: there is none, or several.
    """
    there = labs()
    if name is None and len(there) == 1:
        return there[0]
    names = ", ".join(lab.name for lab in there) or "none"
    if name is None:
        raise UsageError("which lab? " + ("several are kept" if there else "none is kept"),
                         hint=f"--lab NAME: {names}" if there else "`harness boot PLAN -v VARIANT --keep` keeps one")
    found = next((lab for lab in there if lab.name == name), None)
    if found is None:
        raise UsageError(f"there is no lab called {name!r}", hint=f"kept: {names}")
    return found


def why_ended(lab: Kept, deadline: Deadline) -> tuple[str, ...]:
    """What the holder of a lab wrote about its end, line by line; waits for that end. Nothing where it goes on."""
    if not _until(lambda: not held(lab.folder), deadline):
        return ()
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return tuple(State.read(lab.folder / _STATE).error.splitlines())
    return ()


def end(lab: Kept) -> str:
    """End a lab: its machines power off, or are killed when they do not in time. Nothing of it is left.

    Returns:
        what there is to say about it: nothing, where all went in order.

    Raises:
        InfraError: a process of it cannot be killed.
    """
    said = lab.state.error
    if lab.held:
        lab.state.holder.signal(signal.SIGTERM)
        if not _until(lambda: not held(lab.folder), Deadline.after(_ORDERLY)):
            said = f"it did not end within {_ORDERLY:g} s and was killed"
            lab.state.holder.signal(signal.SIGKILL)
        else:
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                said = State.read(lab.folder / _STATE).error
    processes = (lab.state.holder, *(guest.qemu for guest in lab.state.guests))
    if not _until(lambda: not any(process.alive for process in processes), Deadline.after(_FIRM)):
        raise InfraError(f"lab {lab.name} goes on running", where=str(lab.folder), detail=tuple(map(str, processes)))
    shutil.rmtree(lab.folder)
    return said


def _until(condition: Callable[[], bool], deadline: Deadline) -> bool:
    while not condition():
        if deadline.expired:
            return False
        select.select([], [], [], _LOOK)
    return True


def _sweep() -> None:
    """Remove what was left by processes that were killed, but for labs: their consoles may be all that tells why."""
    for folder in root().iterdir():
        if folder.is_dir() and not held(folder) and not (folder / _STATE).exists():
            shutil.rmtree(folder, ignore_errors=True)
