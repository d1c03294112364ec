# SPDX-License-Identifier: GPL-2.0-only
"""Debian packages for the guest: which versions apt would install on an empty system, and their .deb files.

apt works on a state of its own (an empty dpkg status), so what the host has installed does not matter and no root
is needed; it reads the host's package lists and verifies each download against them (apt-get(8), apt.conf(5)).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import proc
from harness.arch import Arch
from harness.deadline import Deadline
from harness.errors import InfraError

_INST = re.compile(r"^Inst (?P<name>\S+) \((?P<version>\S+) ", re.MULTILINE)
_HINT = "run `apt-get update` (package lists missing or old?) and see that the Debian mirror can be reached"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Resolved:
    """A package as apt would install it now."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}={self.version}"


def parse_simulation(text: str) -> tuple[Resolved, ...]:
    """The packages that the output of `apt-get -s install` says it would install, sorted by name."""
    return tuple(sorted(Resolved(name=m["name"], version=m["version"]) for m in _INST.finditer(text)))


def resolve(names: Sequence[str], arch: Arch, state: Path, *, deadline: Deadline) -> tuple[Resolved, ...]:
    """The packages `names` and all they depend on, as the host's package lists offer them. No network.

    Args:
        state: a folder for apt's own state; made where it is missing.

    Raises:
        InfraError: a package or a dependency is not to be had.
    """
    completed = _apt(["-s", "install", *names], arch, state, deadline=deadline)
    found = parse_simulation(completed.stdout)
    missing = set(names) - {package.name for package in found}
    if missing:
        raise InfraError(f"apt offers no package {', '.join(sorted(missing))}", hint=_HINT)
    return found


def download(packages: Sequence[Resolved], arch: Arch, state: Path, *, deadline: Deadline,
             progress: Callable[[str], None]) -> tuple[Path, ...]:
    """Fetch exactly `packages`; the .deb files, verified by apt, lie below `state`.

    Raises:
        InfraError: one of them could not be fetched.
    """
    progress(f"fetching {len(packages)} Debian packages for the guest")
    _apt(["-y", "--download-only", "install", *map(str, packages)], arch, state, deadline=deadline)
    stems = (f"{package.name}_{package.version.replace(':', '%3a')}_" for package in packages)
    return tuple(next((state / "archives").glob(f"{stem}*.deb")) for stem in stems)


def options(arch: Arch, state: Path) -> tuple[str, ...]:
    """The options that confine apt to `state`."""
    settings = {
        "APT::Architecture": arch.debian,
        "APT::Architectures": arch.debian,
        "APT::Install-Recommends": "0",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "1",
        "Dir::Cache": str(state),
        "Dir::Cache::archives": str(state / "archives"),
        "Dir::Log": str(state),
        "Dir::State::status": str(state / "status"),
    }
    return tuple(f"-o{name}={value}" for name, value in settings.items())


def _apt(arguments: Sequence[str], arch: Arch, state: Path, *, deadline: Deadline) -> proc.Completed:
    (state / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    try:
        return proc.run(["apt-get", "-q", *options(arch, state), *arguments], deadline=deadline)
    except proc.CommandFailed as error:
        errors = tuple(line for line in error.completed.stderr.splitlines() if line.startswith("E:"))
        raise InfraError("apt could not provide the guest's packages", detail=errors or error.detail,
                         hint=_HINT) from error
