# SPDX-License-Identifier: GPL-2.0-only
"""How much a step on foreign code may take of the machine, and the error of one that took more.

The defaults are the size of a large kernel build; a plan may set others (`limits:`, docs/plan.md).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from harness.errors import KernelError

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one step in the sandbox may take, by the names that plans use.

    Attributes:
        seconds: wall-clock time.
        processes: processes and threads at once.
        memory: MiB of memory of all its processes together, and of data of each; 0: three quarters of the machine's.
        file: MiB of one file.
        folder: MiB of its output folder.
        files: files, folders and links in its output folder.
        printed: MiB of what it prints.
        scratch: MiB of /tmp in the sandbox, and of /dev/shm.
    """

    seconds: int = 3600
    processes: int = 4096
    memory: int = 0
    file: int = 4096
    folder: int = 32768
    files: int = 1_000_000
    printed: int = 256
    scratch: int = 1024

    @property
    def memory_mib(self) -> int:
        """`memory`, with the machine's own put in for 0."""
        return self.memory or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4 // MIB

    def over(self, limit: str, what: str, where: str | None = None, *, detail: tuple[str, ...] = ()) -> LimitExceeded:
        """The error of a step that went over the limit called `limit`; `what` says how it ended."""
        value = self.memory_mib if limit == "memory" else getattr(self, limit)
        unit = {"seconds": " s", "processes": "", "files": ""}.get(limit, " MiB")
        return LimitExceeded(f"{what}: the limit is {value}{unit} ({_SAID[limit]})", where=where, detail=detail,
                             hint=f"if this kernel needs more, raise `{limit}` of `limits:` in the plan")


_SAID = {
    "seconds": "time of one step", "processes": "processes and threads at once", "memory": "memory of a step",
    "file": "size of one file", "folder": "size of the output folder", "files": "entries of the output folder",
    "printed": "output printed", "scratch": "scratch space in the sandbox",
}


class LimitExceeded(KernelError):  # noqa: N818 - it says what happened
    """A step on foreign code took more than its limits; it was ended, and what it made was not kept."""


def prlimit(limits: Limits) -> tuple[str, ...]:
    """The front of a command line that runs the rest under resource limits (prlimit(1), setrlimit(2)).

    It must stand inside of the sandbox: RLIMIT_NPROC counts a user's processes, and since Linux 5.14 (21d1c5e386bc)
    those in the caller's user namespace on their own. It never binds the host's root (`copy_process` in kernel/fork.c
    spares INIT_USER), which is what `harness.sandbox.watchdog` is for. RLIMIT_DATA counts private writable memory
    (84638335900f), stacks of threads that are only reserved included. Both are a little above what the plan says, so
    that the watchdog sees it and says so.
    """
    return ("prlimit", f"--nproc={limits.processes + 64}", f"--data={(limits.memory_mib + 256) * MIB}",
            f"--fsize={limits.file * MIB}", "--core=0", "--")
