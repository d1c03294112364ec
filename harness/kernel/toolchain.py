# SPDX-License-Identifier: GPL-2.0-only
"""The compiler of a build and the programs that go with it: which they are, by name and by content.

They are asked inside the sandbox, where builds run, so that what is recorded is what compiles. A version's first line
is for people; the key also has checksums of the files that do the work (gcc's cc1 and assembler, LLVM's libraries),
for two compilers may say the same of themselves. Which programs make up a toolchain: Documentation/kbuild/llvm.rst and
the kernel's top Makefile (CROSS_COMPILE, CC, LD, HOSTCC).
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from harness.arch import Arch, native
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.sandbox import bwrap
from harness.store.store import digest

_NOTHING: Mapping[str, Path] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program of a toolchain.

    Attributes:
        variable: what make calls it, as `CC`.
        name: what it is called on this host.
        version: the first line of its `--version`.
        content: a digest of its file and of those that do its work.
    """

    variable: str
    name: str
    version: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """The programs that make a kernel; part of what every build is cached under.

    Attributes:
        cc: the compiler as plans name it: `gcc-11`.
        programs: each with its version; CC and LD are among them.
        cross: make's CROSS_COMPILE; empty where the host's own programs do.
        passed: the variables of make that name programs on its command line; the others are make's defaults.
        make_vars: more variables for make, by name, as a user would give them (`W=1`, `HOSTCFLAGS=-fcommon`).
    """

    cc: str
    programs: tuple[Program, ...]
    cross: str = ""
    passed: tuple[str, ...] = ("CC",)
    make_vars: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        return digest("toolchain", [[row.variable, row.name, row.version, row.content] for row in self.programs],
                      self.cross, self.passed, *map(list, self.make_vars))

    @property
    def cc_version(self) -> str:
        return self._version("CC")

    @property
    def ld_version(self) -> str:
        return self._version("LD")

    @property
    def variables(self) -> tuple[tuple[str, str], ...]:
        """What goes on make's command line."""
        cross = (("CROSS_COMPILE", self.cross),) if self.cross else ()
        return (*cross, *((row.variable, row.name) for row in self.programs if row.variable in self.passed),
                *self.make_vars)

    def with_var(self, name: str, value: str) -> Toolchain:
        """This toolchain with one more variable for make, or another value of it."""
        return replace(self, make_vars=tuple(sorted({**dict(self.make_vars), name: value}.items())))

    def _version(self, variable: str) -> str:
        return next((row.version for row in self.programs if row.variable == variable), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """Compilers that come with the same programs: names of programs and Debian's packages as templates.

    Attributes:
        cross: whether make is told CROSS_COMPILE.
        programs: variable of make, program, package.
        passed: the variables that make is told.
    """

    cc: re.Pattern[str]
    cross: bool
    programs: tuple[tuple[str, str, str], ...]
    passed: tuple[str, ...]


_LLVM = ("AR", "NM", "OBJCOPY", "OBJDUMP", "READELF", "STRIP")
_HOSTCC = ("HOSTCC", "gcc", "gcc")
_FAMILIES = (
    # LLVM=1 in all but name: that word took a version's suffix only in Linux 5.18, and then means HOSTCC as well
    _Family(cc=re.compile(r"clang(?P<suffix>-\d+)?"), cross=False,
            programs=(("CC", "clang{suffix}", "clang{suffix}"), ("LD", "ld.lld{suffix}", "lld{suffix}"),
                      *((name, f"llvm-{name.lower()}{{suffix}}", "llvm{suffix}") for name in _LLVM), _HOSTCC),
            passed=("CC", "LD", *_LLVM)),
    _Family(cc=re.compile(r".*(?P<suffix>)"), cross=True,
            programs=(("CC", "{cross}{cc}", "{cc}{for_gnu}"), ("LD", "{cross}ld", "binutils{for_gnu}"), _HOSTCC),
            passed=("CC",)),
)

# For each program its name, the first line of its version and its files, then the checksum of every file, each once.
_ASK = r"""
for name; do
    path=$(command -v "$name") || continue
    echo "program $name"
    echo "version $("$name" --version | head -n 1)"
    {
        readlink -f "$path"
        case $name in *gcc* | *clang*)
            for part in cc1 as; do command -v "$("$name" -print-prog-name=$part)"; done | xargs -r readlink -f ;;
        esac
        ldd "$(readlink -f "$path")" 2>/dev/null | grep -oE '/[^ ]*/lib(LLVM|clang-cpp|bfd|opcodes)[^ /]*'
    } | sed 's/^/file /'
done > /tmp/programs
cat /tmp/programs
sed -n 's/^file //p' /tmp/programs | sort -u | xargs -r sha256sum | sed 's/^/sum /'
"""


def toolchain(deadline: Deadline, cc: str = "gcc", make_vars: Mapping[str, str] = MappingProxyType({}), *,
              arch: Arch | None = None, shown: Mapping[str, Path] = _NOTHING) -> Toolchain:
    """The toolchain of this host for kernels of `arch` (the host's own where None).

    Args:
        cc: a compiler as Debian names it without an architecture: `gcc`, `gcc-11`, `clang-14`. clang comes with LLVM's
            linker and binutils; gcc with binutils, both those for `arch`.
        shown: files to show in the sandbox in place of its own, by path.

    Raises:
        InfraError: a program is not installed; names the Debian package.
    """
    row = arch or native()
    family = next(each for each in _FAMILIES if each.cc.fullmatch(cc))
    match = family.cc.fullmatch(cc)
    cross = row.cross(platform.machine()) if family.cross else ""
    words = {"cc": cc, "cross": cross, "suffix": (match["suffix"] or "") if match else "",
             "for_gnu": f"-{row.gnu.replace('_', '-')}" if cross else ""}
    wanted = [(variable, name.format(**words), package.format(**words)) for variable, name, package in family.programs]
    names = tuple(dict.fromkeys(name for _, name, _ in wanted))
    asked = bwrap.boxed(["sh", "-c", _ASK, "ask", *names], read=shown, write={}, cwd="/")
    found = parse(bwrap.run(asked, deadline=deadline).stdout)
    missing = [(name, package) for _, name, package in wanted if name not in found]
    if missing:
        raise InfraError(f"not installed on this host: {', '.join(dict.fromkeys(name for name, _ in missing))}",
                         hint=f"apt-get install {' '.join(dict.fromkeys(package for _, package in missing))}")
    programs = tuple(Program(variable=variable, name=name, version=found[name][0], content=found[name][1])
                     for variable, name, _ in wanted)
    return Toolchain(cc=cc, programs=programs, cross=cross, passed=family.passed,
                     make_vars=tuple(sorted(make_vars.items())))


def parse(said: str) -> dict[str, tuple[str, str]]:
    """What the sandbox said of programs: by name, the version's first line and a digest of their files' checksums."""
    rows = [line.partition(" ")[::2] for line in said.splitlines()]
    sums = {path: checksum for checksum, _, path in (text.partition("  ") for word, text in rows if word == "sum")}
    versions: dict[str, str] = {}
    files: dict[str, list[str]] = {}
    name = ""
    for word, text in rows:
        if word == "program":
            name = text
        elif word == "version":
            versions[name] = text
        elif word == "file":
            files.setdefault(name, []).append(sums[text])
    return {name: (version, digest("program", files[name])) for name, version in versions.items()}
