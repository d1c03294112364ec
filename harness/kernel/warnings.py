# SPDX-License-Identifier: GPL-2.0-only
"""What a compiler warned of, object by object, and what a change brought in. Pure.

A build that starts from another one compiles a part of the objects, and its log is silent about the rest. So warnings
are kept by object: those of an object that was made again replace its old ones, the others stay. What is new is a
difference of two whole sets, line numbers aside: a warning that a patch moves is not the patch's.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_MADE = re.compile(r"^  [A-Z][A-Z0-9_]*(?: \[M\])?\s+(\S+)$")
"""kbuild's short line for a target (`cmd` in scripts/Kbuild.include): `  CC [M]  net/core/skbuff.o`."""
_COMPILER = re.compile(r"^(?P<file>[^\s:]+):\d+(?::\d+)?: warning: (?P<text>.+)$")
_OBJTOOL = re.compile(r"^(?P<file>\S+\.k?o): warning: (?P<text>objtool: .+)$")
_MODPOST = re.compile(r"^WARNING: (?P<text>modpost: .+)$")
_OFFSET = re.compile(r"\+0x[0-9a-f]+")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Warned:
    """A warning without its line: the file it is in, as a path below the tree, and its text."""

    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}: warning: {self.text}"


ByObject = Mapping[str, tuple[Warned, ...]]
"""By target (`net/core/skbuff.o`; empty for what stands below none), its warnings in order."""


def by_object(log: str) -> dict[str, tuple[Warned, ...]]:
    """A build log, made with `make -Otarget`, to every target that it made and what was warned of it."""
    found: dict[str, list[Warned]] = {}
    target = ""
    for line in log.splitlines():
        if made := _MADE.match(line):
            target = made[1]
            found.setdefault(target, [])
        elif warned := _warned(line):
            found.setdefault(target, []).append(warned)
    return {name: tuple(rows) for name, rows in found.items()}


def carried(before: ByObject, now: ByObject, there: Iterable[str]) -> dict[str, tuple[Warned, ...]]:
    """The warnings of a whole build that started from another one; only of targets that are `there`, and not silent.

    Args:
        before: of the build it started from.
        now: of what it made itself.
    """
    whole = {**{name: rows for name, rows in before.items() if name in set(there)}, **now}
    return {name: rows for name, rows in whole.items() if rows}


def new(before: ByObject, after: ByObject) -> tuple[Warned, ...]:
    """Warnings that `after` has and `before` has not, or has fewer times, in order.

    A header's warning is one, however many objects include it.
    """
    first, second = _counted(before), _counted(after)
    return tuple(sorted((second - first).elements()))


def _counted(warnings: ByObject) -> Counter[Warned]:
    """How often each occurs in the object that has it most often."""
    found: Counter[Warned] = Counter()
    for rows in warnings.values():
        found |= Counter(rows)
    return found


def _warned(line: str) -> Warned | None:
    for pattern in (_COMPILER, _OBJTOOL, _MODPOST):
        if match := pattern.match(line):
            file = match.groupdict().get("file") or "modpost"
            return Warned(file=os.path.normpath(file.removeprefix("/build/src/")),
                          text=_OFFSET.sub("", match["text"]))
    return None
