# SPDX-License-Identifier: GPL-2.0-only
"""Single objects of a finished build, compiled again: from other text, with other files of the tree, or more options.

Kbuild writes the command that made an object, objtool's part included, to `.<object>.cmd` beside it (`if_changed_rule`,
scripts/Kbuild.include). It runs again in the sandbox, at the paths it ran at the first time; the finished build is
shown read-only and only the object's own path in the command is another. With nothing changed the result is the
build's own object, byte for byte.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from harness import proc
from harness.deadline import Deadline
from harness.errors import KernelError, UsageError
from harness.kernel import kbuild_box
from harness.sandbox import bwrap, foreign
from harness.sandbox.limits import MIB, Limits

_COMMAND = re.compile(r"^(?:saved)?cmd_\S+ := (.*)$", re.MULTILINE)
_NOTHING: Mapping[str, Path] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An object to make again.

    Attributes:
        object: its path below the build's output folder, `net/core/skbuff.o`.
        text: C or assembler text to compile in place of its source file; the source file where None.
        flags: options of the compiler that come after its own.
    """

    object: str
    text: str | None = None
    flags: tuple[str, ...] = ()


def recompile(out: Path, tree: Path, jobs: Sequence[Job], *, deadline: Deadline,
              overrides: Mapping[str, Path] = _NOTHING) -> tuple[bytes | KernelError, ...]:
    """Make objects of a finished build again, as many at once as there are cores.

    Args:
        out: the build's output folder (`Build.out`); not written to.
        tree: the tree it was built from; not written to.
        overrides: files to show in the tree in place of its own, by path below the tree.

    Returns:
        For each job, in order, the object's bytes, or why it does not compile.

    Raises:
        UsageError: the build has no such object, or it was not compiled from one source file.
        DeadlineExpired: not in time.
    """
    commands = [_command(out, job) for job in jobs]

    def run(index: int) -> bytes | KernelError:
        return _run(out, tree, jobs[index], commands[index], overrides, deadline)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return tuple(pool.map(run, range(len(jobs))))


def source_of(out: Path, name: str) -> str | None:
    """The source file of an object, as a path below the tree; None where it was not compiled from one of the tree's."""
    found = re.search(r"^source_\S+ := /build/src/(\S+)$", _notes(out, name), re.MULTILINE)
    return os.path.normpath(found[1]) if found else None


def command(out: Path, name: str) -> str | None:
    """The shell command that made an object, with its own escapes of make resolved; None where there is none."""
    found = _COMMAND.search(_notes(out, name))
    # `make-cmd` in scripts/Kbuild.include
    return found[1].replace("$(pound)", "#").replace("$$", "$") if found else None


def compiled(out: Path, name: str) -> bool:
    """Whether an object was compiled from one source file of the tree, so that it can be made again."""
    return source_of(out, name) is not None and f" -c -o {name} " in (command(out, name) or "")


def files_of(out: Path, name: str) -> frozenset[str]:
    """The files of the tree that an object is made from, as paths below it: its source and all it includes."""
    words = (word for word in _notes(out, name).split() if word.startswith("/build/src/"))
    return frozenset(os.path.normpath(word.removeprefix("/build/src/")) for word in words)


def _notes(out: Path, name: str) -> str:
    """What kbuild wrote down about an object: its command, its source, what it depends on."""
    path = out / Path(name).parent / f".{Path(name).name}.cmd"
    return foreign.read(path) or ""


def _command(out: Path, job: Job) -> str:
    """The shell command that makes the object as `/build/job/object.o`."""
    text = command(out, job.object)
    if text is None:
        raise UsageError("the build has no command for this object", where=f"{out}: {job.object}")
    compiled = re.search(rf" -c -o {re.escape(job.object)} (\S+)", text)
    if compiled is None:
        raise UsageError("this object was not compiled from one source file", where=f"{out}: {job.object}")
    source = f"/build/job/source{Path(compiled[1]).suffix}" if job.text is not None else compiled[1]
    flags = "".join(f" {shlex.quote(flag)}" for flag in job.flags)
    head, tail = text[:compiled.start()], text[compiled.end():]
    head = re.sub(r"-Wp,-MM?D,\S+", "-Wp,-MMD,/build/job/object.d", head)
    tail = re.sub(rf"(?<!\S){re.escape(job.object)}(?!\S)", "/build/job/object.o", tail)
    return f"set -e; {head}{flags} -c -o /build/job/object.o {source}{tail}"


def _run(out: Path, tree: Path, job: Job, command: str, overrides: Mapping[str, Path],
         deadline: Deadline) -> bytes | KernelError:
    with foreign.scratch("harness-object-") as work:
        if job.text is not None:
            (work / f"source{Path(source_of(out, job.object) or 'x.c').suffix}").write_text(job.text, encoding="utf-8")
        shown = {f"/build/src/{path}": replacement for path, replacement in overrides.items()}
        argv = bwrap.boxed(["sh", "-c", command], read={"/build/src": tree, "/build/out": out, **shown},
                             write={"/build/job": work}, cwd="/build/out", env=kbuild_box.FIXED)
        try:
            bwrap.run(argv, deadline=deadline, where=job.object)
        except proc.CommandFailed as failed:
            return KernelError("it does not compile", where=job.object, detail=failed.completed.tail)
        except KernelError as error:
            return error
        made = foreign.read_bytes(work / "object.o", Limits().file * MIB)
        return made if made is not None else KernelError("its command left no object", where=job.object)

