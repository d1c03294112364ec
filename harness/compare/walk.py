# SPDX-License-Identifier: GPL-2.0-only
"""Finds the objects of a kernel build folder, and says of each file it passes over why.

Reads folders, not files. No symbolic link is followed: a patch can put one into a tree that points anywhere.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.compare.compressed import SUFFIXES
from harness.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a build folder holds; all paths are relative to it, with `/`.

    Attributes:
        objects: path of each kernel object.
        archives: path of each `.a` file.
        link_scripts: path of each linker script that kbuild made (`vmlinux.lds`, `scripts/module.lds`).
        excluded: path to the reason, a name of `EXCLUSIONS`.
        kernels: path of each kernel, and part of its image, that was linked of the objects (`KERNEL`).
    """

    objects: frozenset[str]
    archives: frozenset[str]
    link_scripts: frozenset[str]
    excluded: Mapping[str, str]
    kernels: frozenset[str]


EXCLUSIONS: tuple[tuple[str, re.Pattern[str]], ...] = (
    # programs that run while the kernel is built; `arch/*/tools` holds x86's relocs and instruction decoder tests
    ("host program", re.compile(r"(scripts|tools|arch/[^/]+/tools)/.*")),
    # .vmlinux.export.o, .tmp_vmlinux.kallsyms1.o, .tmp_*.o: made by the link from objects that are compared
    ("link temporary", re.compile(r"(.*/)?\.[^/]*")),
    # modpost's summary of a module: version magic, symbol versions, dependencies
    ("modpost output", re.compile(r".*\.mod\.o")),
    # all objects once more, linked; vmlinux.a only lists them, in the order that scripts/head-object-list.txt makes
    ("linked kernel", re.compile(r"(vmlinux|vmlinux\.unstripped)(\.o)?")),
    # the compressed kernel as one blob
    ("linked kernel", re.compile(r"arch/[^/]+/boot/compressed/piggy\.o")),
)
"""(reason, pattern of the whole relative path) of files that are no kernel objects, or hold only what others hold."""

KERNEL = re.compile(r"vmlinux|arch/[^/]+/boot/(setup\.elf|compressed/vmlinux)")
"""What was linked of objects, and not by linker scripts that kbuild made alone: also by `LDFLAGS_vmlinux`, scripts of
the tree (arch/x86/boot/setup.ld), scripts/link-vmlinux.sh, objtool, and tables that programs of the tree make."""

SYMLINK = "symbolic link"

MODULE = "linked module"
"""A `foo.ko` beside the `foo.o` it was linked from. Where there is none, as in /lib/modules, the `.ko` is compared."""


_MODULE = re.compile(rf"(.*)(?:\.ko|{'|'.join(map(re.escape, SUFFIXES))})", re.DOTALL)


def find(root: Path) -> Found:
    """All `*.o`, `*.ko` (compressed ones, too), `*.a` and `*.lds` files below `root`.

    Raises `InfraError` for a folder or file that cannot be read.
    """
    objects: set[str] = set()
    archives: set[str] = set()
    scripts: set[str] = set()
    excluded: dict[str, str] = {}
    kernels: set[str] = set()
    pending = [(os.fspath(root), "")]
    while pending:
        folder, prefix = pending.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name != ".git":
                            pending.append((entry.path, f"{prefix}{entry.name}/"))
                    elif entry.name.endswith((".o", ".a", ".ko", *SUFFIXES)):
                        _sort_in(entry, prefix + entry.name, objects, archives, excluded)
                    elif entry.name.endswith(".lds") and entry.is_file(follow_symlinks=False):
                        scripts.add(prefix + entry.name)
                    elif KERNEL.fullmatch(prefix + entry.name) and entry.is_file(follow_symlinks=False):
                        kernels.add(prefix + entry.name)
        except OSError as error:
            raise InfraError(f"cannot read this folder: {error.strerror}", where=error.filename or folder) from error
    for path in [path for path in objects if (found := _MODULE.fullmatch(path)) and f"{found[1]}.o" in objects]:
        objects.remove(path)
        excluded[path] = MODULE
    return Found(objects=frozenset(objects), archives=frozenset(archives), link_scripts=frozenset(scripts),
                 excluded=excluded, kernels=frozenset(kernels))


def _sort_in(entry: os.DirEntry[str], path: str, objects: set[str], archives: set[str],
             excluded: dict[str, str]) -> None:
    reason = next((why for why, pattern in EXCLUSIONS if pattern.fullmatch(path)), None)
    if entry.is_symlink():
        excluded[path] = SYMLINK
    elif reason:
        excluded[path] = reason
    elif not entry.is_file(follow_symlinks=False):
        raise InfraError("not a regular file", where=entry.path, hint="remove it from the build folder")
    else:
        (archives if path.endswith(".a") else objects).add(path)
