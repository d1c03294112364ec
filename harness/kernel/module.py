# SPDX-License-Identifier: GPL-2.0-only
"""A module of a test's own, built against a finished kernel (Documentation/kbuild/modules.rst).

The kernel's folders are only read: the module's sources are copied to a folder of their own, and kbuild is told of it
with `M=`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from harness import proc
from harness.arch import Arch
from harness.deadline import Deadline
from harness.errors import KernelError, UsageError
from harness.kernel import kbuild_box
from harness.kernel.source import Progress
from harness.kernel.toolchain import Toolchain
from harness.sandbox import bwrap
from harness.store.store import Store, digest, file_digest

_KBUILD = ("Kbuild", "Makefile")
"""Where kbuild looks for what a folder holds, in its order (scripts/Makefile.build)."""


def sources(folder: Path) -> tuple[Path, ...]:
    """The files that a module is made of, below `folder`.

    Raises:
        UsageError: it is no folder, or has no Kbuild file.
    """
    if not any((folder / name).is_file() for name in _KBUILD):
        raise UsageError("no module: there is no Kbuild file", where=str(folder),
                         hint="a file `Kbuild` with a line `obj-m := NAME.o`")
    return tuple(sorted(path for path in folder.iterdir() if path.suffix in (".c", ".h", ".S") or path.name in _KBUILD))


def build(folder: Path, *, kernel: str, tree: Path, out: Path, arch: Arch, toolchain: Toolchain, store: Store,
          deadline: Deadline, progress: Progress = lambda _: None) -> Path:
    """Build the module in `folder`, or take it from the cache.

    Args:
        kernel: the key of the kernel's build.
        tree: the source that it was built from.
        out: its output; both are read, never written to.

    Returns:
        The `.ko` file; its name without suffix is the module's.

    Raises:
        UsageError: `folder` holds no module, or more than one.
        KernelError: it does not compile against this kernel, or needs what the kernel does not export.
    """
    files = sources(folder)

    def make(stage: Path) -> None:
        progress(f"building module {folder.name}")
        work = stage / "module"
        work.mkdir()
        for path in files:
            shutil.copyfile(path, work / path.name)
        step = kbuild_box.make(["modules"], source=tree, out=out, arch=arch, toolchain=toolchain, module=work)
        try:
            bwrap.run(step, deadline=deadline, where=str(folder), log=stage / "build.log")
        except proc.CommandFailed as failed:
            raise KernelError("the module does not build against this kernel", where=str(folder),
                              detail=failed.completed.tail) from failed
        made = sorted(work.glob("*.ko"))
        if len(made) != 1:
            raise UsageError(f"{len(made)} modules where one is wanted", where=str(folder))
        shutil.copyfile(made[0], stage / made[0].name)
        shutil.rmtree(work)

    key = digest("module", kernel, arch.name, toolchain.key, [[path.name, file_digest(path)] for path in files])
    (found,) = store.get("module", key, make, deadline=deadline, waiting=progress, what=folder.name).glob("*.ko")
    return found
