# SPDX-License-Identifier: GPL-2.0-only
"""A plan (YAML) to values. Unknown keys and wrong types are refused with file and line.

docs/plan.md describes every key for those who write plans.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path

from harness import arch as arches
from harness.claims import Claim
from harness.errors import UsageError
from harness.kernel import selftests
from harness.kernel.gitplace import is_url
from harness.kernel.gitrange import GitRange
from harness.lab.topology import Topology
from harness.plan.benign import benign
from harness.plan.claims import read_claims
from harness.plan.node import Node, read_node
from harness.plan.topologies import NicUse, read_nics, read_topologies
from harness.sandbox.limits import Limits
from harness.vm.nic import DEFAULT_MODEL
from harness.vm.reports import Ignore

PLAN_FILE = "plan.yaml"
SIDES = ("base", "patched")
"""The two trees of a plan: before the series and after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """What a plan says of its source; `harness.kernel.source` makes a pinned source of it."""

    kind: str
    name: str
    version: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A configuration: its name, the fragments it is composed of, as files, and the trees that it is one of.

    Base has no part in a configuration that only the series makes possible.
    """

    name: str
    fragments: tuple[Path, ...]
    sides: tuple[str, ...] = SIDES


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A file of guest tests: its name as the plan has it, where it is, and the variants it is kept to, if it is."""

    name: str
    path: Path
    variants: tuple[str, ...] = ()

    def runs_on(self, variant: str) -> bool:
        """Whether the plan has it run on a variant, if that has what its tests need."""
        return not self.variants or variant in self.variants


@dataclass(frozen=True, slots=True, kw_only=True)
class LabSpec:
    """Limits of the machines.

    Attributes:
        memory: MiB for each machine.
        cpus: of each machine.
        boot_timeout: seconds from QEMU's start to the first SSH answer.
        test_timeout: seconds for a suite on one variant.
        silence: seconds without progress after which a machine is examined and given up.
    """

    memory: int = 256
    cpus: int = 1
    boot_timeout: int = 90
    test_timeout: int = 900
    silence: int = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a user asks for.

    Attributes:
        path: the file it was read from; patterns and paths are relative to its folder.
        name: the folder's name, with the file's where that is not plan.yaml.
        source: the kernel to start from.
        base: patches that make the base tree: patterns, folders, files, ranges of commits; may be empty.
        series: the patches under test, likewise.
        fuzz: whether patches may be applied where lines around their changes differ.
        arch: of the kernels.
        cc: the compiler.
        make_vars: more variables for make, by name.
        variants: in the order of the file.
        claims: in the order of the file.
        suites: files of guest tests.
        control: the variant whose base is built twice.
        lab: limits of the machines.
        nics: the NIC models that suites run on.
        topologies: besides the ready-made ones.
        limits: what a step in the sandbox may take.
        benign: kernel reports that are known and harmless until a day.
        selftests: the kernel's own tests by variant.
    """

    path: Path
    name: str
    source: SourceSpec
    base: tuple[str | GitRange, ...]
    series: tuple[str | GitRange, ...]
    arch: str
    cc: str
    make_vars: tuple[tuple[str, str], ...]
    variants: tuple[Variant, ...]
    claims: tuple[Claim, ...]
    suites: tuple[Suite, ...]
    control: str
    lab: LabSpec = field(default_factory=LabSpec)
    nics: tuple[NicUse, ...] = (NicUse(model=DEFAULT_MODEL),)
    topologies: tuple[Topology, ...] = ()
    fuzz: bool = False
    limits: Limits = field(default_factory=Limits)
    benign: tuple[Ignore, ...] = ()
    selftests: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def variant(self, name: str) -> Variant:
        """The variant of that name.

        Raises:
            UsageError: the plan has none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise UsageError(f"the plan has no variant {name!r}", where=str(self.path),
                         hint=f"it has {', '.join(variant.name for variant in self.variants)}")

    def compared(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those of the named variants, or of all where none is named, whose base is compared with patched.

        Raises:
            UsageError: the plan has no such variant; a named one, or every one, has no base.
        """
        alone = [name for name in names if self.variant(name).sides != SIDES]
        if alone:
            raise UsageError(f"variant {alone[0]} has no base to compare with", where=str(self.path),
                             hint="it says `only: patched`")
        found = tuple(names) or tuple(row.name for row in self.variants if row.sides == SIDES)
        if not found:
            raise UsageError("no variant of this plan has a base to compare with", where=str(self.path),
                             hint="each says `only: patched`")
        return found


def read_plan(path: Path, arch: str = "") -> Plan:
    """Read a plan from its file, or from `plan.yaml` in a folder.

    Args:
        arch: the architecture, where it is to be another than the plan says.

    Raises:
        UsageError: it is not there, is no YAML, has an unknown key or a value of a wrong type; file and line are named.
    """
    return _plan(read_node(path / PLAN_FILE if path.is_dir() else path, "plan"), arch)


_KEYS = ("source", "base", "series", "fuzz", "arch", "cc", "make_vars", "variants", "claims", "suites", "control",
         "lab", "nics", "topologies", "limits", "benign", "selftests")


def _plan(root: Node, arch: str) -> Plan:
    entries = root.mapping(_KEYS, required=("source", "series", "variants"))
    if "arch" in entries:
        said = entries["arch"].choice(arches.names())
        arch = arch or said
    arch = arches.get(arch or "x86_64").name
    variants = _variants(entries["variants"], arch)
    names = tuple(variant.name for variant in variants)
    compared = tuple(variant.name for variant in variants if variant.sides == SIDES)
    control = _with_base(entries["control"], names, compared) if "control" in entries else ""
    suites = _suites(entries["suites"], names) if "suites" in entries else ()
    run_on = {suite.name: tuple(filter(suite.runs_on, names)) for suite in suites}
    return Plan(
        path=root.file.resolve(), name=_name(root.file.resolve()), source=_source(entries["source"]),
        base=_series(entries["base"]) if "base" in entries else (), series=_series(entries["series"]),
        fuzz="fuzz" in entries and entries["fuzz"].flag(),
        arch=arch,
        cc=entries["cc"].matching(r"[\w.+-]+", "a compiler, as `gcc-12` or `clang`") if "cc" in entries else "gcc",
        make_vars=_make_vars(entries["make_vars"]) if "make_vars" in entries else (),
        variants=variants, suites=suites, control=control,
        claims=read_claims(entries["claims"], names, compared, arch, run_on) if "claims" in entries else (),
        lab=_lab(entries["lab"]) if "lab" in entries else LabSpec(),
        nics=read_nics(entries["nics"], tuple(suite.name for suite in suites), names) if "nics" in entries
        else (NicUse(model=DEFAULT_MODEL),),
        topologies=read_topologies(entries["topologies"]) if "topologies" in entries else (),
        limits=_limits(entries["limits"]) if "limits" in entries else Limits(),
        benign=benign(entries["benign"]) if "benign" in entries else (),
        selftests=_selftests(entries["selftests"], names) if "selftests" in entries else ())


def _name(file: Path) -> str:
    """What a plan is called: its folder, and its file where that is not `plan.yaml`."""
    return file.parent.name if file.name == PLAN_FILE else f"{file.parent.name}-{file.stem}"


_SOURCES: Mapping[str, tuple[str, ...]] = {
    "debian": ("debian", "version", "sha256"),
    "tarball": ("tarball", "sha256"),
    "dir": ("dir",),
    "git": ("git", "ref"),
}
_ALL_NEEDED = ("debian", "git")


def _source(node: Node) -> SourceSpec:
    entries = node.mapping(tuple(dict.fromkeys(key for keys in _SOURCES.values() for key in keys)))
    kinds = [kind for kind in _SOURCES if kind in entries]
    if len(kinds) != 1:
        raise UsageError(f"`source` must have exactly one of {', '.join(_SOURCES)}", where=node.where)
    kind = kinds[0]
    node.mapping(_SOURCES[kind], required=_SOURCES[kind] if kind in _ALL_NEEDED else ())
    value = {key: entry.text() for key, entry in entries.items()}
    name = value[kind] if kind == "debian" else _git_or_path(entries[kind], git=kind == "git")
    return SourceSpec(kind=kind, name=name, version=value.get("version", value.get("ref", "")),
                      sha256=value.get("sha256", ""))


def _git_or_path(node: Node, *, git: bool = True) -> str:
    """A path from the plan's folder, made absolute; or with `git` a URL, as it is."""
    value = node.text()
    return value if git and is_url(value) else str((node.file.parent / node.path()).resolve())


def _series(node: Node) -> tuple[str | GitRange, ...]:
    """Patterns, folders and files as text, and ranges of commits; one of them, or a list."""
    items = node.items() if node.is_list else (node,)
    return tuple(_range(item) if item.is_mapping else _pattern(item) for item in items)


def _pattern(node: Node) -> str:
    """A pattern, as it stands there."""
    node.path()
    return node.text()


def _range(node: Node) -> GitRange:
    """`{git: REPOSITORY, range: A..B}`, or `{git: REPOSITORY, base: A, tip: B}`."""
    entries = node.mapping(("git", "range", "base", "tip"), required=("git",))
    if "range" in entries:
        for key in ("base", "tip"):
            if key in entries:
                raise UsageError(f"`{key}` means nothing beside `range`", where=entries[key].where)
        base, dots, tip = entries["range"].text().partition("..")
        if not (base and dots and tip) or tip.startswith(".") or ".." in tip:
            raise entries["range"].wrong("a range of commits, as `v6.1..topic`")
    else:
        node.mapping(("git", "base", "tip"), required=("git", "base", "tip"))
        base, tip = entries["base"].text(), entries["tip"].text()
    return GitRange(git=_git_or_path(entries["git"]), base=base, tip=tip)


_OUR_VARS = ("O", "M", "W", "V", "ARCH", "CC", "CROSS_COMPILE", "LD", "LLVM", "HOSTCC", "LOCALVERSION")
"""Variables of make that are ours to set, as what they name is recorded with its version; so are KBUILD_..."""


def _make_vars(node: Node) -> tuple[tuple[str, str], ...]:
    found = []
    for name, entry in node.mapping().items():
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name, re.ASCII):
            raise UsageError(f"{name!r} is no variable of make", where=entry.where, hint="as HOSTCFLAGS: -fcommon")
        if name in _OUR_VARS or name.startswith("KBUILD_"):
            raise UsageError(f"`{name}` cannot be set here: builds depend on what the harness sets it to",
                             where=entry.where, hint="`arch`, `cc` and the claim's `w` say the same")
        found.append((name, entry.text()))
    return tuple(sorted(found))


def _variants(node: Node, arch: str) -> tuple[Variant, ...]:
    found = tuple(_variant(name, entry, arch) for name, entry in node.mapping().items())
    if not found:
        raise UsageError("the plan has no variant", where=node.where)
    for variant in found:
        if not variant.name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"{variant.name!r} is no name for a variant", where=node.where,
                             hint="use letters, digits, - and _")
    return found


def _variant(name: str, node: Node, arch: str) -> Variant:
    """A list of fragments, or `{fragments: LIST, only: patched}`."""
    entries = node.mapping(("fragments", "only"), required=("fragments",)) if node.is_mapping else {"fragments": node}
    return Variant(name=name, fragments=tuple(_fragment(item, arch) for item in entries["fragments"].items()),
                   sides=(entries["only"].choice(("patched",)),) if "only" in entries else SIDES)


def _with_base(node: Node, names: tuple[str, ...], compared: tuple[str, ...]) -> str:
    """A variant whose base is built, too."""
    name = node.choice(names)
    if name not in compared:
        raise UsageError(f"`{node.key}` needs a base, which variant {name} has not", where=node.where,
                         hint="it says `only: patched`")
    return name


def fragment_files() -> tuple[Path, ...]:
    """The repository's own fragments."""
    return tuple(sorted((Path(__file__).resolve().parents[2] / "kernel-configs").glob("*.config")))


def _fragment(node: Node, arch: str) -> Path:
    """A fragment by its name in the nearest `kernel-configs/` at or above the plan, or by a path from the plan.

    `NAME` is `NAME-ARCH.config` where there is no `NAME.config`: what differs by architecture has a file for each.
    """
    name = node.text()
    own = node.file.parent / node.path()
    if own.is_file():
        return own.resolve()
    found = (_upward(node.file, f"kernel-configs/{name}.config")
             or _upward(node.file, f"kernel-configs/{name}-{arch}.config"))
    if found is None:
        shelf = _upward(node.file, "kernel-configs")
        known = sorted(path.stem for path in shelf.glob("*.config")) if shelf else []
        near = get_close_matches(name, known, n=1)
        raise UsageError(f"there is no fragment {name!r}", where=node.where,
                         hint=f"did you mean {near[0]}?" if near else f"fragments: {', '.join(known) or 'none'}")
    return found


def _upward(start: Path, name: str) -> Path | None:
    """The first `name` in the folder of `start` or one above it; the repository's own where none is there."""
    places = [*start.resolve().parents, Path(__file__).resolve().parents[2]]
    return next((folder / name for folder in places if (folder / name).exists()), None)


def _suites(node: Node, variants: tuple[str, ...]) -> tuple[Suite, ...]:
    """A list of files, each as its path or as `{file: PATH, variants: LIST}`."""
    found: list[Suite] = []
    for entry in node.items():
        parts = entry.mapping(("file", "variants"), required=("file",)) if entry.is_mapping else {"file": entry}
        item = parts["file"]
        path = _upward(item.file, str(item.path()))
        if path is None or not path.is_file():
            raise UsageError(f"there is no suite {item.text()!r}", where=item.where)
        twin = next((other for other in found if other.path.stem == path.stem), None)
        if twin is not None:
            raise UsageError(f"two suites are called {path.stem}: {twin.name} and {item.text()}", where=item.where,
                             hint="their results go into folders of that name: rename one")
        found.append(Suite(name=item.text(), path=path.resolve(), variants=tuple(
            name.choice(variants) for name in parts["variants"].items()) if "variants" in parts else ()))
    return tuple(found)


def _selftests(node: Node, variants: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """By variant, names of tests as `harness kselftest` takes them; the tree says later whether it has them."""
    return tuple((variant, tuple(item.matching(selftests.NAME, "a selftest, as net:xfrm_policy.sh")
                                 for item in entry.items())) for variant, entry in node.mapping(variants).items())


_MOST = 1 << 24
"""Half a year in seconds, 16 TiB in MiB: more is a slip, and what is more by far no program of the host can count."""


def _lab(node: Node) -> LabSpec:
    least = {"memory": 64, "cpus": 1, "boot_timeout": 1, "test_timeout": 1, "silence": 1}
    return LabSpec(**{key: entry.integer(least[key], _MOST) for key, entry in node.mapping(tuple(least)).items()})


def _limits(node: Node) -> Limits:
    known = tuple(row.name for row in fields(Limits))
    return Limits(**{key: entry.integer(1, _MOST) for key, entry in node.mapping(known).items()})
