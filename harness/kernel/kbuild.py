# SPDX-License-Identifier: GPL-2.0-only
"""Tree + configuration to a finished, reproducible build in the cache.

A build may start from a finished one (its seed) of the same source: the seed's output is copied, every object that
depends on a file that differs between the two trees is deleted, and make does the rest. Nothing is left to
timestamps of edited files, which once made a wrong "identical" (objects newer than the header they depend on), and
afterwards it is proved that each of those objects was made again. `harness.engine` also builds one seeded build from
nothing and compares (its control).
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import proc
from harness.arch import Arch
from harness.deadline import Deadline
from harness.errors import InfraError, KernelError
from harness.kernel import cmdfiles, kbuild_box, warnings
from harness.kernel.kconfig import Config
from harness.kernel.source import Progress, fetch
from harness.kernel.toolchain import Toolchain
from harness.kernel.tree import Content, Tree, apply, differing, holds, prepare
from harness.kernel.warnings import ByObject, Warned
from harness.sandbox import bwrap, foreign
from harness.sandbox.limits import Limits
from harness.store.store import Store, digest

_DIAGNOSTIC = re.compile(r"^(?P<where>[^\s:]+:\d+)(?::\d+)?: (?:fatal )?(?P<kind>error|warning): (?P<text>.+)$")
_FAILED = re.compile(r"^(?:make\[\d+\]: \*\*\* \[|\S+: undefined reference|ld: |ERROR: modpost|\S*ld\S*: )")
_APPLY_SECONDS = 300
_RULES = 2
"""Part of a build's key: by the first rules a seed's objects were kept that should not have been, and neither such a
build nor what started from one may be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A finished build.

    Attributes:
        tree: `base` or `patched`, as reports call the tree.
        variant: the plan's name of the configuration.
        key: what it is cached under.
        out: kbuild's output folder, as make left it; never to be written to.
        image: the bootable kernel.
        vmlinux: the ELF with symbols.
        log: everything make said.
        config: the configuration.
        seconds: what making it took, once.
        seed: the build it started from, or empty.
        rebuilt: objects compiled; all of them where there was no seed.
        reused: it came from the cache.
        warnings: what was warned of the objects of this kernel, also where they are its seed's.
        content: what its tree held.
    """

    tree: str
    variant: str
    key: str
    out: Path
    image: Path
    vmlinux: Path
    log: Path
    config: Config
    seconds: float
    seed: str
    rebuilt: int
    reused: bool
    warnings: ByObject
    content: Content

    @property
    def name(self) -> str:
        """`base/both`."""
        return f"{self.tree}/{self.variant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What is known of a finished build before it is loaded, which verifies all of it; see `Build`."""

    key: str
    tree: str
    config: Config
    arch: Arch
    content: Content

    def load(self, store: Store) -> Build | None:
        """The build; None where it is gone, or was damaged."""
        entry = store.load("build", self.key)
        return None if entry is None else _load(entry, self.tree, self.content, self.config, self.arch, self.key,
                                                reused=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """A compiler's message: `net/core/skbuff.c:12`, `error` or `warning`, its text."""

    where: str
    kind: str
    text: str


def build(tree: Tree, config: Config, *, arch: Arch, toolchain: Toolchain, store: Store, deadline: Deadline,
          seed: Build | None = None, again: str = "", progress: Progress = lambda _: None,
          counted: Callable[[int], None] = lambda _: None, limits: Limits | None = None) -> Build:
    """Build a kernel, or take it from the cache.

    Args:
        seed: a finished build of a tree of the same source to start from.
        again: a label that makes this a build of its own beside the cached one (a control).
        progress: told each step in words.
        counted: told the number of files compiled so far, as they come.
        limits: what make may take.

    Raises:
        KernelError: it does not compile (the first errors are in the detail), took more than its limits, or left
            something that no kernel build leaves.
    """
    content = apply(tree, store, deadline=Deadline.after(_APPLY_SECONDS)).content
    key = _key(content, config, arch, toolchain, again)
    name = f"{tree.name}/{config.variant}"
    reused = True

    def make(stage: Path) -> None:
        nonlocal reused
        reused = False
        started = time.monotonic()
        source = prepare(tree, store, deadline=deadline, progress=progress)
        out = stage / "out"
        out.mkdir()
        stale: frozenset[str] = frozenset()
        grown = _seeded(content, seed, out, fetch(tree.source, store, deadline=deadline), deadline) if seed else None
        if seed and grown is not None:
            stale = grown
            progress(f"building {name}, starting from {seed.name} ({len(stale)} objects stale)")
        else:
            progress(f"building {name}")
        _write_config(out, config.text)
        began = time.time_ns()
        linked = _linked(seed.out, deadline) if seed and grown is not None else frozenset()
        compiled = _make(out, source, name, arch, toolchain, stage / "build.log", deadline, counted,
                         limits)
        if linked:
            _prune(out, linked - _linked(out, deadline))
        _prove(out, stale, began, name)
        said = warnings.by_object((stage / "build.log").read_text(encoding="utf-8", errors="replace"))
        kept = seed.warnings if seed and grown is not None else {}
        facts = {"rules": _RULES, "arch": arch.name, "toolchain": toolchain.key, "variant": config.variant,
                 "tree": tree.name, "content": asdict(content), "seconds": time.monotonic() - started,
                 "rebuilt": compiled, "seed": seed.name if seed and grown is not None else "",
                 "warnings": {target: [[row.file, row.text] for row in rows] for target, rows in warnings.carried(
                     kept, said, (name for name in kept if (out / name).exists())).items()}}
        (stage / "build.json").write_text(json.dumps(facts), encoding="utf-8")

    entry = store.get("build", key, make, deadline=deadline, waiting=progress,
                      what=f"{name} {again}".rstrip())
    return _load(entry, tree.name, content, config, arch, key, reused=reused)


def cached(tree: Tree, config: Config, *, arch: Arch, toolchain: Toolchain, store: Store) -> Build | None:
    """The finished build of a tree and configuration, if the cache has it."""
    content = apply(tree, store, deadline=Deadline.after(_APPLY_SECONDS)).content
    key = _key(content, config, arch, toolchain, "")
    entry = store.load("build", key)
    return None if entry is None else _load(entry, tree.name, content, config, arch, key, reused=True)


def earlier(source: str, *, arch: Arch, toolchain: Toolchain, store: Store) -> Iterator[Earlier]:
    """The finished builds of a source (its digest) with this toolchain, whatever was patched and configured.

    Who may start from which of them is for the caller to say.
    """
    for key, data, facts in store.told("build", "build.json"):
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):  # an older build, or a damaged one
            content = Content(source=facts["content"]["source"], removed=tuple(facts["content"]["removed"]),
                              files={name: (mode, sha) for name, (mode, sha) in facts["content"]["files"].items()})
            text = foreign.read(data / "out" / ".config") or ""
            if (content.source, facts["arch"], facts["toolchain"], facts["rules"]) == (source, arch.name, toolchain.key,
                                                                                       _RULES):
                yield Earlier(key=key, tree=facts["tree"], content=content, arch=arch,
                              config=Config(variant=facts.get("variant", ""), text=text, asked=()))


def arch_of(entry: Path) -> str:
    """The name of the architecture that a build in the cache is for; before that was kept, there was x86_64 only."""
    return str(json.loads((entry / "build.json").read_text(encoding="utf-8")).get("arch", "x86_64"))


def _key(content: Content, config: Config, arch: Arch, toolchain: Toolchain, again: str) -> str:
    return digest("build", _RULES, content.key, digest(config.text), arch.name, toolchain.key, again)


def _load(entry: Path, tree: str, content: Content, config: Config, arch: Arch, key: str, *, reused: bool) -> Build:
    facts = json.loads((entry / "build.json").read_text(encoding="utf-8"))
    out, log = entry / "out", entry / "build.log"
    said = ({target: tuple(Warned(file=file, text=text) for file, text in rows)
             for target, rows in facts["warnings"].items()} if "warnings" in facts  # not in older builds
            else warnings.by_object(log.read_text(encoding="utf-8", errors="replace")))
    return Build(tree=tree, content=content, variant=config.variant, key=key, out=out, image=out / arch.image,
                 vmlinux=out / "vmlinux", log=log, config=config, seconds=facts["seconds"],
                 seed=facts["seed"], rebuilt=facts["rebuilt"], reused=reused, warnings=said)


def diagnostics(log: str) -> tuple[Diagnostic, ...]:
    """The compiler's errors and warnings in a build log, in order, each once."""
    found: dict[Diagnostic, None] = {}
    for line in log.splitlines():
        match = _DIAGNOSTIC.match(line)
        if match:
            where = match["where"].removeprefix("/build/src/")
            found[Diagnostic(where=where, kind=match["kind"], text=match["text"])] = None
    return tuple(found)


def _seeded(content: Content, seed: Build, out: Path, clean: Path, deadline: Deadline) -> frozenset[str] | None:
    """Copy the seed's output and delete what depends on changed files; None where this seed cannot be used."""
    if seed.content.source != content.source:
        return None
    changed = differing(seed.content, content, clean)
    if cmdfiles.reaches_all(changed):
        return None
    proc.run(["cp", "-a", "--reflink=auto", f"{seed.out}/.", str(out)], deadline=deadline)
    added = frozenset(name for name in changed if not holds(seed.content, name, clean))
    stale = cmdfiles.dependents(out, changed, added)
    for name in stale:
        (out / name).unlink(missing_ok=True)
    return stale


def _write_config(out: Path, text: str) -> None:
    """Put the configuration in place; an equal one keeps its time, so that nothing is made anew for it."""
    path = out / ".config"
    if foreign.read(path) != text:
        path.write_text(text, encoding="utf-8")


def _make(out: Path, source: Path, name: str, arch: Arch, toolchain: Toolchain, log: Path, deadline: Deadline,
          counted: Callable[[int], None], limits: Limits | None) -> int:
    compiled = 0

    def line(text: str) -> None:
        nonlocal compiled
        if text.startswith(("  CC ", "  AS ", "  CC [M]", "  AS [M]")):
            compiled += 1
            counted(compiled)

    argv = kbuild_box.make([arch.image_target, "modules"] if config_has_modules(out) else [arch.image_target],
                           source=source, out=out, arch=arch, toolchain=toolchain, grouped=True)
    try:
        bwrap.run(argv, deadline=deadline, limits=limits, where=name, log=log, on_line=line)
    except proc.CommandFailed as failed:
        raise _does_not_build(name, log, failed) from failed
    missing = [path for path in (arch.image, "vmlinux", "vmlinux.o") if not (out / path).is_file()]
    if missing:
        raise KernelError(f"make ended well but left no {missing[0]}", where=name)
    return compiled


def config_has_modules(out: Path) -> bool:
    return "\nCONFIG_MODULES=y\n" in (foreign.read(out / ".config") or "")


def _does_not_build(name: str, log: Path, failed: proc.CommandFailed) -> KernelError:
    text = log.read_text(encoding="utf-8", errors="replace")
    errors = [f"{row.where}: error: {row.text}" for row in diagnostics(text) if row.kind == "error"]
    if not errors:
        errors = [line for line in text.splitlines() if _FAILED.match(line)]
    return KernelError("it does not compile", where=name, detail=tuple(errors[:5]) or failed.completed.tail,
                       hint="the first errors are shown")


def _linked(out: Path, deadline: Deadline) -> frozenset[str]:
    """Objects that a finished build's kernel and modules are linked from, as paths below `out`.

    `vmlinux.a` and each `lib.a` are thin archives whose members are those paths (Makefile, scripts/Makefile.build);
    `modules.order` names the modules, and the `.mod` beside each its objects. Who wrote the series wrote these, too, so
    a name that leads out of `out` is none: what is named here is later removed.
    """
    found: set[str] = set()
    for archive in [out / "vmlinux.a", *out.rglob("lib.a")]:
        if archive.is_file():
            argv = bwrap.boxed(["ar", "t", f"/build/out/{archive.relative_to(out)}"], read={"/build/out": out},
                                 write={}, cwd="/build/out")
            listed = bwrap.run(argv, deadline=deadline).stdout.splitlines()
            found |= {name.removeprefix("/build/out/") for name in listed}
    order = out / "modules.order"
    for module in filter(None, map(foreign.inside, (foreign.read(order) or "").split())):
        parts = foreign.read((out / module).with_suffix(".mod")) or ""
        found |= {str(Path(module).with_suffix(".o")), *parts.split()}
    return frozenset(filter(None, map(foreign.inside, found)))


def _prune(out: Path, left: frozenset[str]) -> None:
    """Remove objects of the seed that this kernel is not linked from, which a clean build would not have."""
    folders = set()
    for name in left:
        path = out / name
        if not path.is_file():
            continue
        folders.add(path.parent)
        path.unlink()
        path.with_name(f".{path.name}.cmd").unlink(missing_ok=True)
    for folder in folders:
        if not any(path.suffix == ".o" for path in folder.iterdir()):
            (folder / "built-in.a").unlink(missing_ok=True)


def _prove(out: Path, stale: frozenset[str], began: int, name: str) -> None:
    """Every stale object that is there now was made by this build, or the build is refused."""
    left = [path for path in stale if (out / path).exists() and (out / path).stat().st_mtime_ns < began]
    if left:
        raise InfraError(f"an incremental build did not make {left[0]} again ({len(left)} such objects)", where=name,
                         hint="this is a bug of the harness; the build was not kept")
