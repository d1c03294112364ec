# SPDX-License-Identifier: GPL-2.0-only
"""Pure: what a CPU was on when it reported: which CPU, which task, which command, in which kernel.

Sources: `dump_stack_print_info` (`lib/dump_stack.c`), and the first lines of those reports that say it themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SAYINGS = tuple(re.compile(pattern) for pattern in (
    (r"\bCPU: (?P<cpu>\d+) (?:UID: \d+ )?PID: (?P<pid>\d+) Comm: (?P<command>.+?) "
     r"(?P<taint>Not tainted|Tainted: .*?)\s+(?P<kernel>\d+\.\d+\S*|syzkaller)"),
    r"\bCPU#(?P<cpu>\d+) stuck for \d+s! \[(?P<command>.+):(?P<pid>\d+)\]",
    r"\bCPU#(?P<cpu>\d+): (?P<command>.+)/(?P<pid>\d+)$",
    r"INFO: task (?P<command>.+):(?P<pid>\d+) (?:blocked|can't)",
    r"BUG: \w+ \w+(?: \w+)* on CPU#(?P<cpu>\d+), (?P<command>.+)/(?P<pid>\d+)",
    r"BUG: scheduling while atomic: (?P<command>.+)/(?P<pid>\d+)/0x",
    r"\bby task (?P<command>.+)/(?P<pid>\d+)",
    r"^\s*comm \"(?P<command>.*)\", pid (?P<pid>\d+)",
    r"^(?P<command>.+) invoked oom-killer",
    r"Killed process (?P<pid>\d+) \((?P<command>.+?)\)",
    r"^(?P<command>\S.*)/(?P<pid>\d+) is (?:trying to|leaving|freeing)",
    r"^Workqueue: (?P<workqueue>\S+ \S+)",
    r"(?:detected hard LOCKUP on|NMI backtrace for) cpu (?P<cpu>\d+)",
))
_ENOUGH = 200
"""Lines of a report in which what it was on is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a report says of where it came from; None or empty where it says nothing.

    Attributes:
        cpu: the CPU.
        pid: the task's id.
        command: the task's name.
        workqueue: the queue and the function, where the task is a worker.
        kernel: the kernel's release.
        taint: its taint flags.
    """

    cpu: int | None = None
    pid: int | None = None
    command: str = ""
    workqueue: str = ""
    kernel: str = ""
    taint: str = ""

    def __str__(self) -> str:
        parts = [f"CPU {self.cpu}" if self.cpu is not None else "",
                 f"task {self.command or '?'}/{self.pid}" if self.pid is not None else
                 f"task {self.command}" if self.command else "",
                 f"workqueue {self.workqueue}" if self.workqueue else "", f"Linux {self.kernel}" if self.kernel else ""]
        return ", ".join(part for part in parts if part)


def context(texts: Sequence[str]) -> Context:
    """What the lines of a report (without timestamps) say; the first that says a thing is believed."""
    known: dict[str, str] = {}
    for text in texts[:_ENOUGH]:
        for saying in _SAYINGS:
            found = saying.search(text)
            if found is not None:
                known = {**{key: value for key, value in found.groupdict().items() if value}, **known}
                break
    number = {key: int(known[key]) if key in known else None for key in ("cpu", "pid")}
    taint = known.get("taint", "").removeprefix("Tainted: ").strip()
    return Context(cpu=number["cpu"], pid=number["pid"], command=known.get("command", ""),
                   workqueue=known.get("workqueue", ""), kernel=known.get("kernel", ""),
                   taint="" if taint == "Not tainted" else " ".join(taint.split()))
