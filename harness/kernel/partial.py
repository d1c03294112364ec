# SPDX-License-Identifier: GPL-2.0-only
"""A few objects of a tree and configuration, without the kernel they are for.

`make prepare` and the objects by name (Documentation/kbuild, "single targets") take a minute where a kernel takes
several. The folder has what `harness.kernel.recompile` needs: each object with its `.cmd` file, the generated headers
and objtool.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness import proc
from harness.arch import Arch
from harness.deadline import Deadline
from harness.errors import KernelError
from harness.kernel import kbuild_box
from harness.kernel.kconfig import Config
from harness.kernel.source import Progress
from harness.kernel.toolchain import Toolchain
from harness.kernel.tree import Tree, apply, prepare
from harness.sandbox import bwrap
from harness.store.store import Store, digest


def objects(tree: Tree, config: Config, names: Sequence[str], *, arch: Arch, toolchain: Toolchain, store: Store,
            deadline: Deadline, progress: Progress = lambda _: None) -> Path:
    """Build objects, or take them from the cache.

    Args:
        names: the objects, as paths below the output folder: `net/core/skbuff.o`. Each must be one that the
            configuration builds: make would compile any other, too, with flags no kernel has.

    Returns:
        The output folder; never to be written to.

    Raises:
        KernelError: an object does not compile or cannot be made.
    """
    wanted = sorted(set(names))

    def make(stage: Path) -> None:
        source = prepare(tree, store, deadline=deadline, progress=progress)
        progress(f"building {len(wanted)} objects of {tree.name}/{config.variant}")
        out = stage / "out"
        out.mkdir()
        (out / ".config").write_text(config.text, encoding="utf-8")
        # one job for the objects: make goes down to arch/x86/lib twice at once (libs-y and core-y) and would race
        for targets, jobs in ((["prepare"], None), (wanted, 1)):
            argv = kbuild_box.make(targets, source=source, out=out, arch=arch, toolchain=toolchain, jobs=jobs)
            try:
                bwrap.run(argv, deadline=deadline, where=f"{tree.name}/{config.variant}",
                            log=stage / f"{targets[0].replace('/', '-')}.log")
            except proc.CommandFailed as failed:
                raise KernelError(f"make fails on {targets[0]}", where=f"{tree.name}/{config.variant}",
                                  detail=failed.completed.tail) from failed
        missing = [name for name in wanted if not (out / name).is_file()]
        if missing:
            raise KernelError(f"make ended well but left no {missing[0]}", where=f"{tree.name}/{config.variant}")

    content = apply(tree, store, deadline=deadline).key
    key = digest("objects", content, digest(config.text), arch.name, toolchain.key, wanted)
    return store.get("objects", key, make, deadline=deadline, waiting=progress,
                     what=f"{tree.name}/{config.variant}") / "out"
