# SPDX-License-Identifier: GPL-2.0-only
"""Whom QEMU runs as, and how it reads files that this user could not: where we are root it is a user of its own.

A guest that breaks out of its QEMU then has no file of ours, no capability, and no process but QEMU to talk to.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.proc import User

_FIRST, _USERS = 61184, 4096
"""Of the users that systemd keeps free for services that get one as they start (its UIDS-GIDS.md: 61184 to 65519)."""
_NEEDED = {"CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SETPCAP": 8}
_KVM = Path("/dev/kvm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the choice depends on.

    Attributes:
        euid: our effective user.
        capabilities: our effective capabilities, as in `CapEff` of proc(5).
        uid_map: /proc/self/uid_map, user_namespaces(7).
        pid: ours.
        taken: users that have a name.
        kvm: mode and group of /dev/kvm where QEMU has to open it.
    """

    euid: int
    capabilities: int
    uid_map: str
    pid: int
    taken: frozenset[int] = frozenset()
    kvm: tuple[int, int] | None = None


def choose(facts: Facts) -> User | None:
    """The user for QEMU; None where it can only be ours.

    Each harness takes another, so that one's machines cannot touch another's.
    """
    if facts.euid != 0 or any(not facts.capabilities >> bit & 1 for bit in _NEEDED.values()):
        return None
    ring = (_FIRST + (facts.pid + step) % _USERS for step in range(_USERS))
    uid = next((uid for uid in ring if uid not in facts.taken and _mapped(uid, facts.uid_map)), None)
    if uid is None:
        return None
    if facts.kvm is None or facts.kvm[0] & 0o006 == 0o006:
        return User(uid=uid)
    mode, group = facts.kvm
    return User(uid=uid, groups=(group,)) if mode & 0o060 == 0o060 and group != 0 else None


def here(accel: str) -> User | None:
    """The user for a QEMU of this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    capabilities = next((line.split()[1] for line in status if line.startswith("CapEff:")), "0")
    kvm = None
    if accel == "kvm" and _KVM.exists():
        node = _KVM.stat()
        kvm = stat.S_IMODE(node.st_mode), node.st_gid
    return choose(Facts(euid=os.geteuid(), capabilities=int(capabilities, 16), pid=os.getpid(), kvm=kvm,
                        uid_map=Path("/proc/self/uid_map").read_text(encoding="ascii"),
                        taken=frozenset(row.pw_uid for row in pwd.getpwall())))


def anonymous(stack: ExitStack, name: str) -> BinaryIO:
    """A file without a path, in memory: nothing is left of it, however we end (memfd_create(2))."""
    return stack.enter_context(os.fdopen(os.memfd_create(name), "w+b"))


def inherited(stack: ExitStack, path: Path) -> BinaryIO:
    """`path` opened for a QEMU that runs as somebody else; what only we may read is copied."""
    file = stack.enter_context(path.open("rb"))
    if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
        return file
    copy = anonymous(stack, path.name)
    shutil.copyfileobj(file, copy)
    copy.flush()
    return copy


def writable(stack: ExitStack, path: Path, owner: User | None) -> BinaryIO:
    """A new file at `path` that a QEMU which runs as `owner` can write, by `path_of`."""
    file = stack.enter_context(path.open("w+b"))
    if owner is not None:
        os.fchown(file.fileno(), owner.uid, -1)
    return file


def path_of(file: BinaryIO) -> Path:
    """How a process that inherits `file` opens it: by no folder, so that none has to let it through (proc(5))."""
    return Path(f"/proc/self/fd/{file.fileno()}")


@contextmanager
def short(folder: Path) -> Iterator[str]:
    """A path to `folder`, for the block, that leaves room for a socket's name: unix(7) takes 107 bytes."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _mapped(uid: int, uid_map: str) -> bool:
    rows = (tuple(map(int, line.split())) for line in uid_map.splitlines())
    return any(first <= uid < first + count for first, _, count in rows)
