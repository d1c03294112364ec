# SPDX-License-Identifier: GPL-2.0-only
"""Watches the processes of one sandbox and the folders they write in, and ends it when a limit is passed.

What setrlimit(2) cannot bound is looked at a few times a second: how many processes there are (RLIMIT_NPROC never binds
root), their memory together, and the size of a folder. A step can pass a limit for a moment, never for long. A cgroup
would bound exactly; but it takes rights or a service manager that neither containers nor cron jobs have.

The processes are read through the sandbox's own /proc, as its first process sees it (proc_pid_root(5)), so a look
costs what that sandbox has, however many other processes the host has. Memory means anonymous and shared pages
(proc_pid_status(5)); a memfd that nobody has mapped is not among them.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from harness.errors import InfraError
from harness.sandbox import foreign
from harness.sandbox.foreign import Size
from harness.sandbox.limits import MIB, Limits

EVERY = 0.25
"""Seconds between two looks."""

_WALK_EVERY = 30.0
"""Seconds after which a folder is measured anew although its file system did not fill up."""

_END_SECONDS = 30.0


class Watchdog:
    """One sandbox under watch; a `harness.proc.Guard`. Ends with `close`.

    Args:
        folders: what the sandbox writes in.
        where: what the step is called in messages.
    """

    def __init__(self, limits: Limits, folders: Sequence[Path], where: str | None) -> None:
        self._limits, self._folders, self._where = limits, tuple(folders), where
        self._due = time.monotonic() + EVERY
        self._walked: dict[Path, tuple[float, int, int]] = {}
        self._told = b""
        self._init: int | None = None
        self._handle: int | None = None
        self._info, self.info_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def pass_fds(self) -> tuple[int, ...]:
        """The descriptor that bwrap writes to which process is the first in the sandbox (`--info-fd`)."""
        return (self.info_fd,)

    @property
    def most_output(self) -> int:
        """Bytes that the step may print."""
        return self._limits.printed * MIB

    def overflow(self) -> NoReturn:
        """Raises the error of a step that printed too much."""
        raise self._limits.over("printed", "it printed too much", self._where)

    def look(self, pid: int) -> float:
        """Look at everything if it is time; says when it is time again, in seconds.

        Raises:
            LimitExceeded: it has taken too much.
            InfraError: it cannot be watched here.
        """
        del pid
        self._find()
        now = time.monotonic()
        if now < self._due:
            return self._due - now
        if self._init is not None:
            self._processes()
        for folder in self._folders:
            self._folder(folder, now)
        self._due = time.monotonic() + EVERY
        return EVERY

    def close(self) -> None:
        """Wait until every process of the sandbox has ended, which has to be seen to before what it left is read.

        The first process of a PID namespace has ended only when all others in it have (`zap_pid_ns_processes` in
        kernel/pid_namespace.c).

        Raises:
            InfraError: they do not end.
        """
        try:
            self._find()
            if self._handle is not None:
                poll = select.poll()
                poll.register(self._handle, select.POLLIN)
                if not poll.poll(_END_SECONDS * 1000):
                    raise InfraError("a sandbox does not end although it was killed", where=f"process {self._init}")
        finally:
            for number in (self._info, self.info_fd, self._handle):
                if number is not None:
                    os.close(number)

    def _find(self) -> None:
        """Take the first process from what bwrap wrote, once it has."""
        if self._init is not None:
            return
        with contextlib.suppress(BlockingIOError):
            self._told += os.read(self._info, 4096)
            found = re.search(rb'"child-pid": (\d+)\b', self._told)
            if found is None:
                return
            self._init = int(found[1])
            with contextlib.suppress(OSError):  # it has ended already
                own = Path("/proc/self/ns/pid").readlink()
                self._handle = os.pidfd_open(self._init)
                if Path(f"/proc/{self._init}/ns/pid").readlink() == own:  # its number was given to another
                    os.close(self._handle)
                    self._handle = None

    def _processes(self) -> None:
        root = f"/proc/{self._init}/root/proc"
        try:
            numbers = [name for name in os.listdir(root) if name.isdigit()]  # noqa: PTH208 - thousands of names
        except PermissionError as error:
            raise InfraError("the processes of the sandbox cannot be watched", where=root,
                             hint="is bwrap setuid here? allow user namespaces instead") from error
        except OSError:
            return  # it has ended
        if len(numbers) > self._limits.processes:
            raise self._limits.over("processes", f"it started {len(numbers)} processes", self._where)
        tasks = memory = 0
        for number in numbers:
            with contextlib.suppress(OSError), open(f"{root}/{number}/status", "rb") as stream:  # noqa: PTH123
                text = stream.read()
                tasks += _field(text, b"Threads:")
                memory += _field(text, b"RssAnon:") + _field(text, b"RssShmem:")
        if tasks > self._limits.processes:
            raise self._limits.over("processes", f"it started {tasks} processes and threads", self._where)
        if memory > self._limits.memory_mib * 1024:
            raise self._limits.over("memory", f"its processes took {memory // 1024} MiB", self._where)

    def _folder(self, folder: Path, now: float) -> None:
        """Measure a folder where its file system has lost much room since it was last measured, or it is long ago."""
        room = os.statvfs(folder)
        free, names = room.f_bavail * room.f_frsize, room.f_ffree
        at, before, names_before = self._walked.get(folder, (float("-inf"), 0, 0))
        most = self._limits.folder * MIB
        if before - free < most // 16 and names_before - names < self._limits.files // 16 and now - at < _WALK_EVERY:
            return
        self._walked[folder] = (now, free, names)
        try:
            self.hold(foreign.measure(folder))
        except OSError as error:
            raise foreign.unreadable(error, self._where) from error

    def hold(self, size: Size) -> None:
        """Hold a folder's size against the limits.

        Raises:
            LimitExceeded: it is too large.
        """
        if size.bytes > self._limits.folder * MIB:
            raise self._limits.over("folder", f"it wrote {size.bytes // MIB} MiB", self._where)
        if size.entries > self._limits.files:
            raise self._limits.over("files", f"it made {size.entries} files", self._where)


def _field(status: bytes, name: bytes) -> int:
    """A number of /proc/PID/status; 0 where it is not there, as memory of a process that has ended."""
    at = status.find(name)
    return int(status[at + len(name):status.index(b"\n", at)].split()[0]) if at >= 0 else 0
