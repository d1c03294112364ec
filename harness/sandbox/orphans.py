# SPDX-License-Identifier: GPL-2.0-only
"""What may be left of a sandbox that was killed: a bubblewrap that waits for ever for its own parent.

bwrap clones, sets the child's user namespace up, and then writes to an eventfd on which the child waits. Killed between
the two, by us or with us, it leaves a child that has not yet asked to die with its parent (main() of bubblewrap.c,
0.8). Whoever kills one looks for that, and so does the next harness. Nothing but that can be the first process of a
sandbox of ours and have another parent than a bwrap.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

BEGINS = ("--unshare-all", "--die-with-parent", "--new-session", "--clearenv")
"""How the arguments of every sandbox of ours begin."""


def sweep(begins: tuple[str, ...] = BEGINS) -> tuple[int, ...]:
    """End those whose arguments begin so; their numbers."""
    return tuple(pid for path in Path("/proc").glob("[0-9]*") if _ended(pid := int(path.name), begins))


def _ended(pid: int, begins: tuple[str, ...]) -> bool:
    """Whether a process was one of these, and was ended."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)  # whatever has the number later is not meant
        try:
            if _is_orphan(Path("/proc", str(pid)), begins):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                return True
        finally:
            os.close(descriptor)
    return False


def _is_orphan(path: Path, begins: tuple[str, ...]) -> bool:
    program, *arguments = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
    if Path(program).name != "bwrap" or tuple(arguments[:len(begins)]) != begins:
        return False
    status = dict(line.split(":", 1) for line in (path / "status").read_text().splitlines() if ":" in line)
    parent = Path("/proc", status["PPid"].strip(), "comm")
    first = status.get("NSpid", "").split()[1:] == ["1"]
    return first and (not parent.exists() or parent.read_text().strip() != "bwrap")
