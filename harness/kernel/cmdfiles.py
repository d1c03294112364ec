# SPDX-License-Identifier: GPL-2.0-only
"""What kbuild's `.cmd` files tell: of which files an output was made, and how (scripts/Kbuild.include, fixdep)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from harness.sandbox import foreign

_TOOLS = re.compile(r"(?:scripts|tools|certs|arch/[^/]+/tools)/|Makefile")
_CHECKED = re.compile(r"(?:scripts|tools|source|(?:arch/[^/]+/)?include)/")
_SOURCES = (".c", ".h", ".S")
_MODPOST = re.compile(r"^\.|\.mod\.c$")
"""What is made of objects and not of sources, when the kernel is linked."""


def dependents(out: Path, changed: frozenset[str], added: frozenset[str] = frozenset()) -> frozenset[str]:
    """Outputs that one of the changed source files may have gone into, as paths below `out`.

    fixdep writes `deps_<target> := <files>` and `source_<target> := <file>` (scripts/basic/fixdep.c). What is made by a
    rule without a `.cmd` file (`$(call cmd,...)`, as of `%.asn1` and `oid_registry.h`) may be made of any of them.

    Args:
        added: those of them that the finished build had not. A header among them may be found where another one of its
            name was: `include/linux/a.h` in place of `include/uapi/linux/a.h`.
    """
    if not changed:
        return frozenset()
    unknown = frozenset(_without_command(out))
    shadows = frozenset(Path(name).name for name in added if not name.endswith((".c", ".S")))
    return unknown | {name for name, _ in _made_from(out, changed | unknown, shadows)}


def run_by_make(out: Path, changed: frozenset[str]) -> bool:
    """Whether a build runs something that is made of one of these source files, or may do so.

    C and assembler sources are compiled and not run, but for those of programs of the build itself, which are compiled
    without `-D__KERNEL__` (KBUILD_CPPFLAGS in the kernel's Makefile). Anything else may be run.
    """
    return (not all(name.endswith((".c", ".h", ".S")) for name in changed)
            or any("-D__KERNEL__" not in command for _, command in _made_from(out, changed)))


def reaches_all(changed: frozenset[str]) -> bool:
    """Whether one of these files reaches objects in ways that `.cmd` files do not tell."""
    return any(_TOOLS.match(name) for name in changed)


def _made_from(out: Path, changed: frozenset[str], shadows: frozenset[str] = frozenset()) -> Iterator[tuple[str, str]]:
    """Outputs made of one of these files, or of one that is called so, and the content of their `.cmd` files."""
    for where, _, names in os.walk(out):
        for name in names:
            if name.startswith(".") and name.endswith(".cmd"):
                text = foreign.read(Path(where, name)) or ""
                words = {_plain(word).removeprefix("/build/src/") for word in text.split()}
                if not words.isdisjoint(changed) or (shadows and not shadows.isdisjoint(map(os.path.basename, words))):
                    yield str(Path(where, name[1:].removesuffix(".cmd")).relative_to(out)), text


def _plain(word: str) -> str:
    """A path as it is named elsewhere: `#include "../core/a.h"` is noted as `/build/src/net/ipv4/../core/a.h`."""
    return os.path.normpath(word) if "/." in word or "//" in word else word


def _without_command(out: Path) -> Iterator[str]:
    """Sources that a build made and that have no `.cmd` file.

    Those below `include/` are looked at by every build, whatever their times (`filechk` in scripts/Kbuild.include).
    """
    for where, _, names in os.walk(out):
        below = os.path.relpath(where, out)
        if not _CHECKED.match(f"{below}/"):
            yield from (os.path.normpath(f"{below}/{name}") for name in names
                        if name.endswith(_SOURCES) and not _MODPOST.search(name) and f".{name}.cmd" not in names)
