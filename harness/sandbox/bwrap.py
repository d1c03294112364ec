# SPDX-License-Identifier: GPL-2.0-only
"""The box that foreign code runs in (bubblewrap, bwrap(1)), and running a step in it to its end.

Inside there are the host's programs (read-only), the folders it was given, an empty /tmp, and nothing else: no
network, no home, no other processes, no capabilities, a clean environment. It has limits (`sandbox.limits`), and all
that runs in it has ended when `run` returns. What it left in its folders has been looked over (`sandbox.foreign`).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import proc
from harness.deadline import Deadline
from harness.errors import DISK_HINT, DeadlineExpired, HarnessError, InfraError
from harness.proc import Completed
from harness.sandbox import foreign, orphans
from harness.sandbox.limits import MIB, Limits, prlimit
from harness.sandbox.watchdog import Watchdog

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/alternatives", "/etc/ld.so.cache")
_SCRATCH = "/tmp"  # noqa: S108 - a tmpfs inside the box, not the host's

_FAILURES = tuple((limit, re.compile(rf"(?:^|[:\]] )(?:{said})$", re.MULTILINE)) for limit, said in (
    ("file", "File size limit exceeded|File too large"),
    ("processes", "Resource temporarily unavailable|[Cc]annot fork"),
    ("memory", r"Cannot allocate memory|memory exhausted|[Oo]ut of memory!|out of memory allocating \d+ bytes.*"),
    ("scratch", "No space left on device"),
))
"""What programs say when a resource limit stops them (strerror(3), gcc, ld), by the limit that it is. Who says it
without reason is at fault as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxed:
    """A command line that runs in the box.

    Attributes:
        box: argv of bubblewrap that makes the box.
        argv: what runs inside.
        write: folders of the host that it may write in.
    """

    box: tuple[str, ...]
    argv: tuple[str, ...]
    write: tuple[Path, ...]

    def command(self, limits: Limits, info_fd: int | None = None) -> tuple[str, ...]:
        """The whole argv. `info_fd`: where bwrap writes which process is the first inside."""
        told = () if info_fd is None else ("--info-fd", str(info_fd))
        sized = tuple(str(limits.scratch * MIB) if word == _SIZE else word for word in self.box)
        rights = ("--", "sh", "-c", _AS_ROOT, "box") if os.geteuid() == 0 else ("--cap-drop", "ALL", "--")
        return (*sized, *told, *rights, *prlimit(limits), *self.argv)


_SIZE = "<size>"

_AS_ROOT = ("for node in null zero full random urandom tty; do mount -o remount,bind,ro /dev/$node || exit; done; "
            'exec setpriv --bounding-set -all --inh-caps -all -- "$@"')
"""What is different inside for the host's root. It owns the host's device nodes, which bwrap shows as they are, and
could change their modes; and it keeps all capabilities in the box's namespaces, with which it could mount writable what
is not. So the nodes are made read-only, which keeps nobody from writing to the device, and the capabilities dropped."""


def boxed(argv: Sequence[str], *, read: Mapping[str, Path], write: Mapping[str, Path], cwd: str,
          env: Mapping[str, str] | None = None) -> Boxed:
    """`argv` for the box.

    Args:
        argv: what runs inside.
        read: folders or files of the host shown read-only, by the path they have inside.
        write: the same, writable.
        cwd: the working folder, a path inside.
        env: variables on top of PATH, HOME and the locale.
    """
    variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": _SCRATCH, "LC_ALL": "C.UTF-8", **(env or {})}
    box: list[str] = ["bwrap", *orphans.BEGINS]
    for name, value in variables.items():
        box += ["--setenv", name, value]
    for path in map(Path, _PROGRAMS):
        if path.is_symlink():
            box += ["--symlink", str(path.readlink()), str(path)]
        elif path.exists():
            box += ["--ro-bind", str(path), str(path)]
    # root needs no capability to write its own files, and /proc/sys/kernel/core_pattern is one: proc_sys(5)
    box += ["--proc", "/proc", "--remount-ro", "/proc"]
    box += ["--dev", "/dev", "--size", _SIZE, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108
    box += ["--size", _SIZE, "--tmpfs", _SCRATCH]
    for inside, outside in read.items():
        box += ["--ro-bind", str(outside), inside]
    for inside, outside in write.items():
        box += ["--bind", str(outside), inside]
    # what is not a mount of its own lies in memory that has no limit
    box += ["--remount-ro", "/", "--chdir", cwd]
    return Boxed(box=tuple(box), argv=tuple(argv), write=tuple(write.values()))


def run(step: Boxed, *, deadline: Deadline, limits: Limits | None = None, where: str | None = None,
        stdin: bytes | None = None, log: Path | None = None, on_line: Callable[[str], None] | None = None,
        check: bool = True, inspected: bool = True) -> Completed:
    """Run a step on foreign code in the box, to its end and that of all it started.

    Args:
        deadline: when it must have ended.
        limits: what it may take.
        where: what it is called in messages: `patched/both`.
        stdin, log, on_line, check: as `proc.run` has them.
        inspected: whether what it left is looked over here; where not, the caller does.

    Raises:
        CommandFailed: it ended with another code than 0.
        LimitExceeded: it took more than its limits, time included.
        DeadlineExpired: the deadline came before its own limit of time.
        KernelError: it left something that is not to be read (`foreign.inspect`).
        InfraError: bubblewrap is not installed or does not work, the disk is full.
    """
    limits = limits or Limits()
    watchdog = Watchdog(limits, step.write, where)
    share = deadline.within(limits.seconds)
    try:
        try:
            done = proc.run(step.command(limits, watchdog.info_fd), deadline=share, stdin=stdin, log=log,
                            on_line=on_line, guard=watchdog)
        except proc.CommandFailed:
            raise
        except BaseException:  # bwrap was killed, at any moment
            orphans.sweep()
            raise
        finally:
            watchdog.close()
    except DeadlineExpired as expired:
        if share is deadline:
            raise
        raise limits.over("seconds", f"it was still running after {share.budget:g} s", where,
                          detail=(shlex.join(step.argv),)) from expired
    except proc.CommandFailed as failed:
        better = _explained(failed.completed.tail, step, limits, where)
        if better is not None:
            raise better from failed
        if check:
            raise
        done = failed.completed
    for folder in step.write if inspected else ():
        watchdog.hold(foreign.inspect(folder, where))
    return done


def _explained(said: tuple[str, ...], step: Boxed, limits: Limits, where: str | None) -> HarnessError | None:
    """The error of a step that failed by a limit, the disk or bubblewrap, where its last words say so."""
    if said and said[-1].startswith("bwrap: "):
        return _unusable(said)
    text = "\n".join(said)
    limit = next((name for name, pattern in _FAILURES if pattern.search(text)), None)
    if limit is None:
        return None
    if limit == "scratch" and any(_full(folder) for folder in step.write):
        return InfraError("the disk is full", where=where, detail=said[-3:],
                          hint=DISK_HINT)
    return limits.over(limit, "it failed as one does that reaches a limit", where, detail=said[-3:])


def _full(folder: Path) -> bool:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize < MIB or (room.f_files > 0 and room.f_favail == 0)


def describe(deadline: Deadline) -> str:
    """What the box is on this host: `bubblewrap 0.8.0`. It has been seen to work, and what others of it left is gone.

    Raises:
        InfraError: bubblewrap is not installed, or this host does not let it make namespaces.
    """
    orphans.sweep()
    version = proc.run(["bwrap", "--version"], deadline=deadline).stdout.strip()
    done = run(boxed(["true"], read={}, write={}, cwd="/"), deadline=deadline, check=False)
    if done.returncode != 0:
        raise _unusable(done.tail)
    return version


def _unusable(said: tuple[str, ...]) -> InfraError:
    return InfraError("the sandbox does not work on this host, and nothing of the series runs without it",
                      detail=said[-3:],
                      hint="bubblewrap needs user namespaces (sysctl user.max_user_namespaces, "
                           "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns); in a "
                           "container, the right to make them")
