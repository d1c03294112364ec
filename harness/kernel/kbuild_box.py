# SPDX-License-Identifier: GPL-2.0-only
"""How `make` runs on a kernel tree: in the sandbox, at fixed paths, with nothing in it that changes by itself.

Every tree stands at `/build/src` and every output at `/build/out`, and time, user, host and version are fixed
(Documentation/kbuild/reproducible-builds.rst), so two builds differ only by what was built.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.arch import Arch
from harness.kernel.toolchain import Toolchain
from harness.sandbox import bwrap
from harness.sandbox.bwrap import Boxed

FIXED = {
    "KBUILD_BUILD_TIMESTAMP": "2020-01-01 00:00:00 UTC",
    "KBUILD_BUILD_USER": "harness",
    "KBUILD_BUILD_HOST": "harness",
    "KBUILD_BUILD_VERSION": "1",
}
"""The environment of every build."""


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
        ["make", "-C", "/build/src", "O=/build/out", f"ARCH={arch.make_arch}", "LOCALVERSION=",
         *(f"{name}={value}" for name, value in toolchain.variables), *(["-Otarget"] if grouped else []),
         *([] if module is None else ["M=/build/module"]), f"-j{jobs or len(os.sched_getaffinity(0))}", *targets],
        read=read, write=write, cwd=next(iter(write)), env=FIXED)
