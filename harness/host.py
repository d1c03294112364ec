# SPDX-License-Identifier: GPL-2.0-only
"""What the host must have: programs, and the Debian packages that bring them.

The table is `host_packages.txt` beside this file, one row a package (`package program[,program] why`), read by
`ci/setup` as well, so that there is one list to keep.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from harness.errors import InfraError


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A Debian package the harness uses.

    Attributes:
        name: its name in the archive.
        probes: programs, or absolute paths of files, that it brings and by which its presence is seen.
        why: what it is for, in a few words.
    """

    name: str
    probes: tuple[str, ...]
    why: str

    @property
    def missing(self) -> tuple[str, ...]:
        """Those of `probes` that this host lacks."""
        return tuple(probe for probe in self.probes if not _present(probe))


def search_path() -> str:
    """PATH with the folders of system programs, which an ordinary user's often lacks."""
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(dict.fromkeys([*parts, "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"]))


def packages() -> tuple[Package, ...]:
    """Every package of the table, in its order."""
    text = resources.files("harness").joinpath("host_packages.txt").read_text(encoding="utf-8")
    rows = (line.split(None, 2) for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return tuple(Package(name=name, probes=tuple(probes.split(",")), why=why) for name, probes, why in rows)


def require(more: Sequence[Package] = ()) -> None:
    """Raise where this host lacks a package, before any long work.

    Args:
        more: what is needed besides the table's, as for another architecture.

    Raises:
        InfraError: names what is missing, and the command that installs it.
    """
    lacking = [package for package in (*packages(), *more) if package.missing]
    if lacking:
        missing = ", ".join(probe for package in lacking for probe in package.missing)
        raise InfraError(f"not installed on this host: {missing}",
                         hint=f"apt-get install {' '.join(package.name for package in lacking)}, or `make setup`")


def package_of(program: str) -> str | None:
    """The package that brings `program`, or None where the table does not know it."""
    return next((package.name for package in packages() if program in package.probes), None)


def _present(probe: str) -> bool:
    return Path(probe).exists() if probe.startswith("/") else shutil.which(probe, path=search_path()) is not None
