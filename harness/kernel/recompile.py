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
_SOURCE = re.compile(r"^source_\S+ := (\S+)$", re.MULTILINE)
_NOTHING: Mapping[str, Path] = MappingProxyType({})
_JOB, _OBJECT = "/build/job", "/build/job/object.o"


@dataclass(frozen=True, slots=True, kw_only=True)
class RanAt:
    """Where a build ran: the absolute paths that its commands mean. They are the same inside the sandbox.

    Attributes:
        tree: of the source tree.
        out: of the output folder, in which all commands ran; that of the tree where there was no `O=`.
        env: variables that they ran with.
    """

    tree: str = "/build/src"
    out: str = "/build/out"
    env: tuple[tuple[str, str], ...] = tuple(kbuild_box.FIXED.items())

    def below_tree(self, name: str) -> str | None:
        """A file that a command or `.cmd` file names, as a path below the tree; None for others and generated ones."""
        path = os.path.normpath(os.path.join(self.out, name))  # noqa: PTH118 - thousands, and no file is touched
        if self.out != self.tree and path.startswith(f"{self.out}/"):
            return None
        return path[len(self.tree) + 1:] if path.startswith(f"{self.tree}/") else None


HARNESS = RanAt()
"""Where this project builds (`kbuild_box`)."""


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
              overrides: Mapping[str, Path] = _NOTHING, generated: Mapping[str, Path] = _NOTHING,
              at: RanAt = HARNESS) -> tuple[bytes | KernelError, ...]:
    """Make objects of a finished build again, as many at once as there are cores.

    Args:
        out: the build's output folder (`Build.out`); not written to.
        tree: the tree it was built from; not written to.
        overrides: files to show in the tree in place of its own, by path below the tree.
        generated: the same for the output folder.
        at: where the build ran.

    Returns:
        For each job, in order, the object's bytes, or why it does not compile.

    Raises:
        UsageError: the build has no such object, or it was not compiled from one source file.
        DeadlineExpired: not in time.
    """
    commands = [_compiles(out, job) for job in jobs]
    shown = {f"{at.tree}/{path}": replacement for path, replacement in overrides.items()}
    shown.update({f"{at.out}/{path}": replacement for path, replacement in generated.items()})

    def run(index: int) -> bytes | KernelError:
        job = jobs[index]
        suffix = Path(source_of(out, job.object, at) or "x.c").suffix
        text = {} if job.text is None else {f"source{suffix}": job.text}
        return _run(out, tree, job.object, commands[index], shown, deadline, at, text)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return tuple(pool.map(run, range(len(jobs))))


def relink(out: Path, tree: Path, name: str, parts: Mapping[str, Path], *, deadline: Deadline,
           at: RanAt = HARNESS) -> bytes | KernelError:
    """An object that `ld -r` made of others, made again of other parts; as `recompile`.

    Args:
        parts: objects to show in the output folder in place of its own, by path below it.
    """
    found = linked_of(out, name)
    if found is None:
        raise UsageError("this object was not linked of others", where=f"{out}: {name}")
    command = re.sub(rf"(?<!\S){re.escape(name)}(?!\S)", _OBJECT, found[0])
    shown = {f"{at.out}/{path}": part for path, part in parts.items()}
    return _run(out, tree, name, f"set -e; {command}", shown, deadline, at)


def source_of(out: Path, name: str, at: RanAt = HARNESS) -> str | None:
    """The source file of an object, as a path below the tree; None where it was not compiled from one of the tree's."""
    found = _SOURCE.search(_notes(out, name))
    return at.below_tree(found[1]) if found else None


def source_as_written(out: Path, name: str) -> str | None:
    """The source file of an object, as its command named it."""
    found = _SOURCE.search(_notes(out, name))
    return found[1] if found else None


def command(out: Path, name: str) -> str | None:
    """The shell command that made an object, with its own escapes of make resolved; None where there is none."""
    found = _COMMAND.search(_notes(out, name))
    # `make-cmd` in scripts/Kbuild.include
    return found[1].replace("$(pound)", "#").replace("$$", "$") if found else None


def compiled(out: Path, name: str, at: RanAt = HARNESS) -> bool:
    """Whether an object was compiled from one source file of the tree, so that it can be made again."""
    return source_of(out, name, at) is not None and f" -c -o {name} " in (command(out, name) or "")


def files_of(out: Path, name: str, at: RanAt = HARNESS) -> frozenset[str]:
    """The files of the tree that an object is made from, as paths below it: its source and all it includes."""
    _command, _, notes = _notes(out, name).partition("\nsource_")
    return frozenset(path for path in map(at.below_tree, notes.split()) if path is not None)


def linked_of(out: Path, name: str) -> tuple[str, tuple[str, ...]] | None:
    """(command, parts) of an object that was linked of a list of others (`cmd_ld_multi_m`, scripts/Makefile.build);
    None for other objects."""
    text = command(out, name) or ""
    words = text.split()
    at = words.index("-o") if "-o" in words else len(words)
    made, listed = [*words[at + 1:at + 3], "", ""][:2]
    listed = listed.rstrip(";").removeprefix("@")
    if made != name or "-r" not in words[1:at] or not listed.endswith(".mod") or foreign.inside(listed) != listed:
        return None
    parts = (foreign.read(out / listed) or "").split()
    return (text, tuple(parts)) if parts and all(foreign.inside(part) == part for part in parts) else None


def _notes(out: Path, name: str) -> str:
    """What kbuild wrote down about an object: its command, its source, what it depends on."""
    path = out / Path(name).parent / f".{Path(name).name}.cmd"
    return foreign.read(path) or ""


def _compiles(out: Path, job: Job) -> str:
    """The shell command that makes the object as `_OBJECT`."""
    text = command(out, job.object)
    if text is None:
        raise UsageError("the build has no command for this object", where=f"{out}: {job.object}")
    compiled = re.search(rf" -c -o {re.escape(job.object)} (\S+)", text)
    if compiled is None:
        raise UsageError("this object was not compiled from one source file", where=f"{out}: {job.object}")
    source = f"{_JOB}/source{Path(compiled[1]).suffix}" if job.text is not None else compiled[1]
    flags = "".join(f" {shlex.quote(flag)}" for flag in job.flags)
    head, tail = text[:compiled.start()], text[compiled.end():]
    head = re.sub(r"-Wp,-MM?D,\S+", f"-Wp,-MMD,{_JOB}/object.d", head)
    tail = re.sub(rf"(?<!\S){re.escape(job.object)}(?!\S)", _OBJECT, tail)
    return f"set -e; {head}{flags} -c -o {_OBJECT} {source}{tail}"


def _run(out: Path, tree: Path, name: str, command: str, shown: Mapping[str, Path], deadline: Deadline, at: RanAt,
         text: Mapping[str, str] = MappingProxyType({})) -> bytes | KernelError:
    """What a command leaves as `_OBJECT`. `text`: files to put beside it."""
    with foreign.scratch("harness-object-") as work:
        for file, content in text.items():
            (work / file).write_text(content, encoding="utf-8")
        # the outer one first: an output folder may lie in the tree, and the other way round
        folders = dict(sorted({at.tree: tree, at.out: out}.items()))
        argv = bwrap.boxed(["sh", "-c", command], read={**folders, **shown}, write={_JOB: work}, cwd=at.out,
                           env=dict(at.env))
        try:
            bwrap.run(argv, deadline=deadline, where=name)
        except proc.CommandFailed as failed:
            return KernelError("it does not compile", where=name, detail=failed.completed.tail)
        except KernelError as error:
            return error
        made = foreign.read_bytes(work / "object.o", Limits().file * MIB)
        return made if made is not None else KernelError("its command left no object", where=name)
