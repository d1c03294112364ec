# SPDX-License-Identifier: GPL-2.0-only
"""How `make` runs on a kernel tree: in the sandbox, at fixed paths, with nothing in it that changes by itself.

Every tree stands at `/build/src` and every output at `/build/out`, and time, user, host and version are fixed
(Documentation/kbuild/reproducible-builds.rst), so two builds differ only by what was built.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from harness import proc
from harness.arch import Arch
from harness.deadline import Deadline
from harness.sandbox import bwrap
from harness.sandbox.bwrap import Boxed
from harness.store.store import digest

FIXED = {
    "KBUILD_BUILD_TIMESTAMP": "2020-01-01 00:00:00 UTC",
    "KBUILD_BUILD_USER": "harness",
    "KBUILD_BUILD_HOST": "harness",
    "KBUILD_BUILD_VERSION": "1",
}
"""The environment of every build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """The compiler and linker, with the versions they gave; part of what every build is cached under.

    Attributes:
        make_vars: variables for make, by name, as a user would give them (`W=1`, `HOSTCFLAGS=-fcommon`).
    """

    cc: str
    cc_version: str
    ld_version: str
    make_vars: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        return digest("toolchain", self.cc, self.cc_version, self.ld_version, *map(list, self.make_vars))

    def with_var(self, name: str, value: str) -> Toolchain:
        """This toolchain with one more variable for make, or another value of it."""
        return replace(self, make_vars=tuple(sorted({**dict(self.make_vars), name: value}.items())))


def toolchain(deadline: Deadline, cc: str = "gcc", make_vars: Mapping[str, str] = MappingProxyType({})) -> Toolchain:
    """The host's toolchain.

    Raises:
        InfraError: the compiler or linker is not installed.
    """
    first = [proc.run([program, "--version"], deadline=deadline).stdout.splitlines()[0] for program in (cc, "ld")]
    return Toolchain(cc=cc, cc_version=first[0], ld_version=first[1], make_vars=tuple(sorted(make_vars.items())))


def make(targets: Sequence[str], *, source: Path, out: Path, arch: Arch, toolchain: Toolchain,
         jobs: int | None = None, grouped: bool = False, module: Path | None = None) -> Boxed:
    """A sandboxed `make` of `targets` (or variables) in `source` with its output in `out`.

    Args:
        jobs: how many commands at once; one a core where None.
        grouped: what is printed of one target is together, so that a warning stands below the object it is about
            (`-O`, make(1)). make keeps it in /tmp until then, and says nothing at all where that is full.
        module: the folder of an external module (`M=`): it alone is written to, the kernel's output is read.
    """
    read, write = {"/build/src": source}, {"/build/out": out}
    if module is not None:
        read, write = {**read, **write}, {"/build/module": module}
    return bwrap.boxed(
        ["make", "-C", "/build/src", "O=/build/out", f"ARCH={arch.make_arch}", f"CC={toolchain.cc}", "LOCALVERSION=",
         *(f"{name}={value}" for name, value in toolchain.make_vars), *(["-Otarget"] if grouped else []),
         *([] if module is None else ["M=/build/module"]), f"-j{jobs or len(os.sched_getaffinity(0))}", *targets],
        read=read, write=write, cwd=next(iter(write)), env=FIXED)
