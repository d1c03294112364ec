# SPDX-License-Identifier: GPL-2.0-only
"""What kbuild's `.cmd` files tell: of which files an output was made, and how (scripts/Kbuild.include, fixdep)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from harness.sandbox import foreign

_TOOLS = re.compile(r"(?:scripts|tools|certs|arch/[^/]+/tools)/|Makefile")


def dependents(out: Path, changed: frozenset[str]) -> frozenset[str]:
    """Outputs whose `.cmd` files name one of the changed source files, as paths below `out`.

    fixdep writes `deps_<target> := <files>` and `source_<target> := <file>` (scripts/basic/fixdep.c).
    """
    return frozenset(name for name, _ in _made_from(out, changed))


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


def _made_from(out: Path, changed: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Outputs made of one of these source files, and the content of their `.cmd` files."""
    for where, _, names in os.walk(out):
        for name in names:
            if name.startswith(".") and name.endswith(".cmd"):
                text = foreign.read(Path(where, name)) or ""
                words = {word.removeprefix("/build/src/") for word in text.split()}
                if not words.isdisjoint(changed):
                    yield str(Path(where, name[1:].removesuffix(".cmd")).relative_to(out)), text
