# SPDX-License-Identifier: GPL-2.0-only
"""Which processes are whose, for tests that look for what a harness leaves behind."""

from __future__ import annotations

from pathlib import Path


def alive() -> dict[int, int]:
    """Every process that runs, and its parent; a zombie does not run."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                found[int(entry.name)] = int(parent)
    return found


def descendants(pid: int) -> set[int]:
    """A process's children and theirs, now."""
    parents = alive()
    found: set[int] = set()
    young = {pid}
    while young:
        young = {child for child, parent in parents.items() if parent in young} - found
        found |= young
    return found


def running(pids: set[int]) -> set[int]:
    """Those that still run."""
    return pids & alive().keys()


def with_variable(setting: str) -> set[int]:
    """Processes that have the environment variable `NAME=value`, which all that a harness starts inherit."""
    found = set()
    for pid in alive():
        try:
            if setting.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(pid)
        except OSError:
            continue
    return found


def sockets_of(pids: set[int]) -> set[str]:
    """The sockets, by inode, that these processes have open."""
    found = set()
    for pid in pids:
        try:
            links = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        found |= {link for link in links if link.startswith("socket:")}
    return found


def listening() -> set[str]:
    """All sockets of the host that exist, by inode, as `sockets_of` names them: TCP and unix."""
    columns = {"tcp": 9, "unix": 6}
    found = set()
    for table, column in columns.items():
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            found.add(f"socket:[{line.split()[column]}]")
    return found
