# SPDX-License-Identifier: GPL-2.0-only
"""Fragments to a `.config` in which every symbol came out as it was asked for.

A configuration is `allnoconfig` with the fragments laid over it (KCONFIG_ALLCONFIG, Documentation/kbuild/kconfig.rst
in the kernel), so that what no fragment asks for is off. Kconfig drops what it cannot satisfy without a word; here
each line that was asked for, `=n` included, is checked afterwards, and `kernel/kconfig_why` says what overrode it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import proc
from harness.arch import Arch
from harness.deadline import Deadline
from harness.errors import KernelError, UsageError
from harness.kernel import kbuild_box, kconfig_why
from harness.kernel.source import Progress, fetch
from harness.kernel.toolchain import Toolchain
from harness.kernel.tree import Tree, apply, prepare
from harness.sandbox import bwrap, foreign
from harness.sandbox.limits import Limits
from harness.store.store import Store, digest

_LINE = re.compile(r"^CONFIG_(\w+)=(.+)$")
_NOT_SET = re.compile(r"^# CONFIG_(\w+) is not set$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One line of a fragment: a symbol, the value asked for (`n` for off), and where it stands."""

    symbol: str
    value: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A checked configuration of one tree.

    Attributes:
        variant: the plan's name for it.
        text: the whole `.config`.
        asked: what the fragments asked for, all of it honoured.
    """

    variant: str
    text: str
    asked: tuple[Asked, ...]

    def value(self, symbol: str) -> str:
        """A symbol's value without quotes; `n` where it is off or does not exist."""
        return values(self.text).get(symbol, "n").strip('"')


def values(text: str) -> dict[str, str]:
    """Symbols that are set in a `.config`, with their values as they stand there."""
    return {match[1]: match[2] for match in map(_LINE.match, text.splitlines()) if match}


def read_fragments(paths: Sequence[Path]) -> tuple[Asked, ...]:
    """What a variant's fragments ask for, in order; a later fragment may repeat a line but not contradict it.

    Raises:
        UsageError: a fragment is missing, has a line that is no setting, or contradicts an earlier one.
    """
    found: dict[str, Asked] = {}
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UsageError(f"the fragment cannot be read: {error.strerror}", where=str(path)) from error
        except UnicodeDecodeError as error:
            raise UsageError("the fragment is not UTF-8 text", where=str(path)) from error
        for number, line in enumerate(lines, 1):
            asked = _parse(line, f"{path}:{number}")
            if asked is None:
                continue
            earlier = found.setdefault(asked.symbol, asked)
            if earlier.value != asked.value:
                raise UsageError(f"CONFIG_{asked.symbol}={asked.value} contradicts ={earlier.value} of {earlier.where}",
                                 where=asked.where, hint="a variant is composed of fragments that agree")
    return tuple(found.values())


def configure(tree: Tree, variant: str, asked: Sequence[Asked], *, arch: Arch, toolchain: Toolchain, store: Store,
              deadline: Deadline, progress: Progress = lambda _: None, limits: Limits | None = None) -> Config:
    """The configuration of `tree` for what is asked.

    Args:
        limits: what make may take.

    Raises:
        KernelError: Kconfig fails on this tree, or a symbol did not come out as asked; each such symbol is listed
            with what was asked, what came out, and what selects it or what it depends on. Or it took more than its
            limits, or left something that no configuration leaves.
    """
    key = _key(tree, asked, arch, toolchain, store, deadline)

    def make(stage: Path) -> None:
        progress(f"configuring {tree.name}/{variant}")
        source = prepare(tree, store, deadline=deadline, progress=progress)
        tools = _tools(tree, source, arch, toolchain, store, deadline, limits)
        with store.staging() as folder:
            work = folder / "out"
            work.mkdir()
            proc.run(["cp", "-a", f"{tools}/.", str(work)], deadline=deadline)
            lines = "".join(f"CONFIG_{row.symbol}={row.value}\n" for row in asked)
            (work / "asked").write_text(lines, encoding="utf-8")
            argv = kbuild_box.make(["KCONFIG_ALLCONFIG=/build/out/asked", "allnoconfig"], source=source, out=work,
                                   arch=arch, toolchain=toolchain)
            try:
                bwrap.run(argv, deadline=deadline, limits=limits, where=f"{tree.name}/{variant}", log=folder / "log")
            except proc.CommandFailed as failed:
                raise KernelError("Kconfig fails on this tree", where=f"{tree.name}/{variant}",
                                  detail=failed.completed.tail) from failed
            text = foreign.read(work / ".config")
            if text is None:
                raise KernelError("Kconfig ended well but left no .config", where=f"{tree.name}/{variant}")
        _check(asked, text, source, arch, f"{tree.name}/{variant}")
        (stage / "config").write_text(text, encoding="utf-8")

    entry = store.get("config", key, make, deadline=deadline, waiting=progress, what=f"{tree.name}/{variant}")
    return Config(variant=variant, text=(entry / "config").read_text(encoding="utf-8"), asked=tuple(asked))


def cached(tree: Tree, variant: str, asked: Sequence[Asked], *, arch: Arch, toolchain: Toolchain, store: Store,
           deadline: Deadline) -> Config | None:
    """The configuration, if the cache has it."""
    entry = store.load("config", _key(tree, asked, arch, toolchain, store, deadline))
    if entry is None:
        return None
    return Config(variant=variant, text=(entry / "config").read_text(encoding="utf-8"), asked=tuple(asked))


def _key(tree: Tree, asked: Sequence[Asked], arch: Arch, toolchain: Toolchain, store: Store, deadline: Deadline) -> str:
    content = apply(tree, store, deadline=deadline).key
    return digest("config", content, arch.name, [(row.symbol, row.value) for row in asked], toolchain.key)


def _tools(tree: Tree, source: Path, arch: Arch, toolchain: Toolchain, store: Store, deadline: Deadline,
           limits: Limits | None) -> Path:
    """An output folder with Kconfig's own programs built, shared by all trees whose `scripts/` are the source's.

    Those are built from the source alone: whatever a series does with a Makefile must not get into what others run.
    """
    own = any(name.startswith("scripts/") for patch in tree.patches for name in patch.touches)
    content = [apply(tree, store, deadline=deadline).key] if own else []

    def make(stage: Path) -> None:
        clean = source if own else fetch(tree.source, store, deadline=deadline)
        argv = kbuild_box.make(["allnoconfig"], source=clean, out=stage, arch=arch, toolchain=toolchain)
        try:
            bwrap.run(argv, deadline=deadline, limits=limits, where=tree.name)
        except proc.CommandFailed as failed:
            raise KernelError("Kconfig fails on this tree", where=tree.name, detail=failed.completed.tail) from failed

    return store.get("kconfig", digest("kconfig", tree.source.sha256, content, arch.name, toolchain.key), make,
                     deadline=deadline)


def _parse(line: str, where: str) -> Asked | None:
    match, unset = _LINE.match(line.strip()), _NOT_SET.match(line.strip())
    if match:
        return Asked(symbol=match[1], value=match[2], where=where)
    if unset:
        return Asked(symbol=unset[1], value="n", where=where)
    if line.strip() and not line.startswith("#"):
        raise UsageError(f"not a Kconfig setting: {line.strip()!r}", where=where,
                         hint="write CONFIG_NAME=y, =n or =value")
    return None


def _check(asked: Sequence[Asked], text: str, source: Path, arch: Arch, where: str) -> None:
    """Hold the `.config` against every line that was asked for."""
    got = values(text)
    wrong = [row for row in asked if got.get(row.symbol, "n") != row.value]
    if not wrong:
        return
    kconfigs = kconfig_why.read_tree(source, arch.srcarch)
    detail: list[str] = []
    for row in wrong:
        detail.append(f"CONFIG_{row.symbol}: asked {row.value} ({row.where}), came out {got.get(row.symbol, 'n')}")
        detail += [f"  {reason}" for reason in kconfig_why.reasons(row.symbol, row.value, got, kconfigs)]
    raise KernelError(f"{len(wrong)} option{'s' if len(wrong) > 1 else ''} did not come out as asked", where=where,
                      detail=tuple(detail), hint="ask for what it needs as well, or turn off what selects it")
