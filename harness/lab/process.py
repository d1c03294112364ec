# SPDX-License-Identifier: GPL-2.0-only
"""A process that is not our child, named so that no other is ever taken for it.

A number alone names whoever has it now; with the time of its start it names one process of this boot, and through a
descriptor (pidfd_open(2)) a signal reaches that one or nobody.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of this boot of the host.

    Attributes:
        pid: its number.
        started: when it was started, in clock ticks since boot (proc(5), `stat`, field 22); with `pid` it is unique.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process with that number now."""
        return cls(pid=pid, started=_started(pid) or 0)

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not, once the last of its threads has ended."""
        return self.started == _started(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; none where it has ended, whoever has its number now."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                if self.alive:
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)


def _started(pid: int) -> int | None:
    """When the process was started; None where there is none, or only a zombie.

    A first thread that is a zombie while others go on (field 20) is a process that still has its files and locks.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" and int(fields[17]) <= 1 else int(fields[19])
