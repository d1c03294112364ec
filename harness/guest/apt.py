# SPDX-License-Identifier: GPL-2.0-only
"""Debian packages for the guest: which versions apt would install on an empty system, and their .deb files.

apt works on a state of its own (an empty dpkg status), so what the host has installed does not matter and no root
is needed; it verifies each download against package lists (apt-get(8), apt.conf(5)). For guests of the host's own
architecture those are the host's; for others, lists of our own from the host's Debian mirrors (`fetch_lists`), so that
nothing of the host is reconfigured.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import proc
from harness.arch import Arch
from harness.deadline import Deadline
from harness.errors import InfraError

_INST = re.compile(r"^Inst (?P<name>\S+) \((?P<version>\S+) ", re.MULTILINE)
_HOST_LISTS = Path("/var/lib/apt/lists")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SOURCE = re.compile(r"^(?P<uri>\S+) (?P<release>\S+) (?P<component>\S+)$", re.MULTILINE)
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


def host_stamp() -> str:
    """A digest that changes when the host's package lists do."""
    lists = [(entry.name, entry.stat().st_size, entry.stat().st_mtime_ns)
             for entry in sorted(_HOST_LISTS.glob("*_Packages*"))]
    return hashlib.sha256(json.dumps(lists).encode()).hexdigest()


def parse_sources(targets: str, arch: Arch, keyring: Path | None) -> str:
    """A sources.list(5) for `arch` with the places that `apt-get indextargets` gave.

    Each was given as a line of `URI RELEASE COMPONENT`.

    Args:
        keyring: what the Release files are signed by; apt's trusted keys where None.
    """
    options = f"arch={arch.debian}" + (f" signed-by={keyring}" if keyring else "")
    rows = dict.fromkeys((m["uri"], m["release"], m["component"]) for m in _SOURCE.finditer(targets))
    return "".join(f"deb [{options}] {uri} {release} {component}\n" for uri, release, component in rows)


def fetch_lists(arch: Arch, lists: Path, state: Path, *, deadline: Deadline, progress: Callable[[str], None]) -> None:
    """Fetch the package lists of `arch` into the empty folder `lists`, from the Debian mirrors that the host uses.

    Where one of several lists cannot be had, the packages are those of the others; `progress` is told.

    Raises:
        InfraError: the host has no lists of Debian to tell its mirrors by, or no list could be fetched.
    """
    done = proc.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
                     "Created-By: Packages", "Origin: Debian"], deadline=deadline)
    sources = parse_sources(done.stdout, arch, _KEYRING if _KEYRING.exists() else None)
    if not sources:
        raise InfraError("this host has no package lists of Debian, so where its packages come from is not known",
                         hint=_HINT)
    (lists / "lists" / "partial").mkdir(parents=True)
    (lists / "sources.list").write_text(sources, encoding="utf-8")
    try:
        _apt(["-oAPT::Update::Error-Mode=any", "update"], arch, state, lists, deadline=deadline)
    except InfraError as error:
        if not any(lists.glob("lists/*_Packages*")):
            raise
        for line in error.detail:
            progress(f"apt-get update for {arch.debian}: {line}")


def resolve(names: Sequence[str], arch: Arch, state: Path, *, lists: Path | None = None,
            deadline: Deadline) -> tuple[Resolved, ...]:
    """The packages `names` and all they depend on, as package lists offer them. No network.

    Args:
        state: a folder for apt's own state; made where it is missing.
        lists: what `fetch_lists` filled; the host's where None.

    Raises:
        InfraError: a package or a dependency is not to be had.
    """
    completed = _apt(["-s", "install", *names], arch, state, lists, deadline=deadline)
    found = parse_simulation(completed.stdout)
    missing = set(names) - {package.name for package in found}
    if missing:
        raise InfraError(f"apt offers no package {', '.join(sorted(missing))}", hint=_HINT)
    return found


def download(packages: Sequence[Resolved], arch: Arch, state: Path, *, lists: Path | None = None, deadline: Deadline,
             progress: Callable[[str], None]) -> tuple[Path, ...]:
    """Fetch exactly `packages`; the .deb files, verified by apt, lie below `state`.

    Raises:
        InfraError: one of them could not be fetched.
    """
    progress(f"fetching {len(packages)} Debian packages for the guest")
    _apt(["-y", "--download-only", "install", *map(str, packages)], arch, state, lists, deadline=deadline)
    stems = (f"{package.name}_{package.version.replace(':', '%3a')}_" for package in packages)
    return tuple(next((state / "archives").glob(f"{stem}*.deb")) for stem in stems)


def options(arch: Arch, state: Path, lists: Path | None = None) -> tuple[str, ...]:
    """The options that confine apt to `state`, and to package lists of our own where there are any."""
    own = {} if lists is None else {
        "Dir::State::lists": str(lists / "lists"),
        "Dir::Etc::sourcelist": str(lists / "sources.list"),
        "Dir::Etc::sourceparts": "/dev/null",
    }
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
        **own,
    }
    return tuple(f"-o{name}={value}" for name, value in settings.items())


def _apt(arguments: Sequence[str], arch: Arch, state: Path, lists: Path | None, *,
         deadline: Deadline) -> proc.Completed:
    (state / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    try:
        return proc.run(["apt-get", "-q", *options(arch, state, lists), *arguments], deadline=deadline)
    except proc.CommandFailed as error:
        errors = tuple(line for line in error.completed.stderr.splitlines() if line.startswith("E:"))
        raise InfraError("apt could not provide the guest's packages", detail=errors or error.detail,
                         hint=_HINT) from error
