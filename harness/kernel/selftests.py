# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tests (tools/testing/selftests): finding them in a tree, building their programs, packing them.

Programs are linked statically, so that a guest needs none of the host's libraries. A program that needs what the host
does not have (libmnl, libnuma, clang for BPF) cannot be made; `missing` names those that a test asks for.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from harness import proc
from harness.arch import Arch
from harness.deadline import Deadline
from harness.errors import KernelError, UsageError
from harness.kernel import kbuild_box
from harness.kernel.source import Progress
from harness.kernel.toolchain import Toolchain
from harness.sandbox import bwrap, foreign
from harness.store.store import Store, digest

ROOT = Path("tools/testing/selftests")
_SHARED = ("kselftest",)
"""Folders beside the collections whose files scripts source."""
_SOURCES = (".c", ".h", ".S", ".bpf", ".o")
NAME = r"(?P<collection>[\w./-]+):(?P<test>[\w.-]+|\*)"
"""What a test is called, all scripts of a collection included: `net:xfrm_policy.sh`, `net:*`."""
_TIMEOUT = re.compile(r"^timeout=(\d+)$", re.MULTILINE)
_DEFAULT_TIMEOUT = 45
"""Seconds a test has where its collection's `settings` say nothing (kselftest/runner.sh)."""
_BUILD = """
make -s -C /build/src O=/build/tests/obj ARCH=$1 headers >&2 || exit
mkdir -p "/build/tests/$2"
make -s -k -C "/build/src/tools/testing/selftests/$2" OUTPUT="/build/tests/$2" ARCH=$1 \\
    KHDR_INCLUDES="-isystem /build/tests/obj/usr/include" LDFLAGS="-static -s" CC="$3" all >&2
rm -rf /build/tests/obj
exit 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selftest:
    """A test of the kernel's own.

    Attributes:
        collection: its folder below tools/testing/selftests: `net`, `net/mptcp`.
        name: the file that runs: `xfrm_policy.sh`.
        seconds: what it may take, by its collection's `settings`; 0 is no limit there.
    """

    collection: str
    name: str
    seconds: int

    @property
    def id(self) -> str:
        """As a user names it: `net:xfrm_policy.sh`."""
        return f"{self.collection}:{self.name}"


def find(tree: Path, names: Sequence[str]) -> tuple[Selftest, ...]:
    """The tests that a user names, in a tree; `net:*` are all scripts of a collection.

    Raises:
        UsageError: a name that is none, or a test that the tree does not have.
    """
    found: dict[str, Selftest] = {}
    for name in names:
        asked = re.fullmatch(NAME, name)
        if asked is None:
            raise UsageError(f"{name!r} is no selftest", hint="COLLECTION:TEST, as net:xfrm_policy.sh")
        collection, wanted = asked["collection"], asked["test"]
        folder = tree / ROOT / collection
        if foreign.inside(collection) is None or not (folder / "Makefile").is_file():
            known = sorted(path.parent.name for path in (tree / ROOT).glob("*/Makefile"))
            raise UsageError(f"the tree has no selftests {collection!r}", where=str(ROOT),
                             hint=_near(collection, known))
        runs = programs(folder)
        chosen = [run for run in runs if run.endswith(".sh")] if wanted == "*" else [wanted]
        for test in chosen:
            if test not in runs:
                raise UsageError(f"{ROOT / collection} has no test {test!r}", hint=_near(test, runs))
            found[f"{collection}:{test}"] = Selftest(collection=collection, name=test, seconds=_seconds(folder))
    return tuple(found.values())


def programs(folder: Path) -> list[str]:
    """What a collection's Makefile says it runs: TEST_PROGS, and TEST_GEN_PROGS, which are built."""
    return _listed(folder, "TEST_PROGS", "TEST_GEN_PROGS")


def _listed(folder: Path, *variables: str) -> list[str]:
    """The plain words that a collection's Makefile puts into any of these variables."""
    text = re.sub(r"\\\n", " ", (folder / "Makefile").read_text(encoding="utf-8", errors="replace"))
    rows = re.findall(rf"^\s*(?:{'|'.join(variables)})\s*[:+]?=(.*)$", text, re.MULTILINE)
    return sorted({word for row in rows for word in row.split() if re.fullmatch(r"[\w.-]+", word)})


def _seconds(folder: Path) -> int:
    settings = folder / "settings"
    said = _TIMEOUT.search(settings.read_text(encoding="utf-8")) if settings.is_file() else None
    return int(said[1]) if said else _DEFAULT_TIMEOUT


def _near(name: str, known: Sequence[str]) -> str | None:
    near = get_close_matches(name, known, n=3)
    return f"did you mean {', '.join(near)}?" if near else None


def build(collection: str, *, tree: Path, content: str, arch: Arch, toolchain: Toolchain, store: Store,
          deadline: Deadline, progress: Progress = lambda _: None) -> Path:
    """The folder with a collection's programs, built once for a tree: they include headers from all over it.

    Args:
        content: the key of what is in the tree.

    Raises:
        KernelError: the tree's headers cannot be installed.
    """
    def make(stage: Path) -> None:
        progress(f"building selftests {collection}")
        (stage / "tests").mkdir()
        (compiler,) = (row.name for row in toolchain.programs if row.variable == "CC")
        words = ("sh", "-c", _BUILD, "build", arch.make_arch, collection, compiler)
        step = bwrap.boxed(words, read={"/build/src": tree}, write={"/build/tests": stage / "tests"},
                           cwd="/build/tests", env=kbuild_box.FIXED)
        try:
            bwrap.run(step, deadline=deadline, where=f"selftests {collection}", log=stage / "build.log")
        except proc.CommandFailed as failed:
            raise KernelError(f"the programs of selftests {collection} cannot be built", where=str(ROOT / collection),
                              detail=failed.completed.tail) from failed

    key = digest("selftests", content, collection, arch.name, toolchain.key)
    made = store.get("selftests", key, make, deadline=deadline, waiting=progress, what=collection)
    return made / "tests" / collection


def missing(test: Selftest, tree: Path, built: Path) -> tuple[str, ...]:
    """The programs that a test names, that its collection should build, and that could not be built here."""
    folder = tree / ROOT / test.collection
    asked = _words(test, folder) & {*_listed(folder, "TEST_GEN_PROGS", "TEST_GEN_FILES", "TEST_GEN_PROGS_EXTENDED")}
    return tuple(sorted(name for name in asked if not (built / name).is_file()))


def _words(test: Selftest, folder: Path) -> set[str]:
    """What the test's own file, and those of its collection that it may source, speak of; its own name as well."""
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in _files(folder)
             if path.name == test.name or "lib" in path.name)
    return {test.name, *re.findall(r"[\w.-]+", " ".join(texts))}


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir())
            if path.is_file() and not path.is_symlink() and path.suffix not in _SOURCES]


def pack(test: Selftest, tree: Path, built: Path) -> bytes:
    """A tar archive with what a test needs, below `selftests/`: its collection's scripts, and programs it names."""
    folder = tree / ROOT / test.collection
    scripts, words = _files(folder), _words(test, folder)
    made = [path for path in sorted(built.iterdir()) if path.is_file() and not path.is_symlink()
            and path.name in words] if built.is_dir() else []
    shared = [path for name in _SHARED for path in sorted((tree / ROOT / name).rglob("*"))
              if path.is_file() and not path.is_symlink()]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in (*scripts, *shared):
            _add(archive, f"selftests/{path.relative_to(tree / ROOT)}", path.read_bytes())
        for path in made:
            _add(archive, f"selftests/{test.collection}/{path.name}", path.read_bytes())
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o755
    archive.addfile(entry, io.BytesIO(data))
