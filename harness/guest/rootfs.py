# SPDX-License-Identifier: GPL-2.0-only
"""The guest's userland as an initramfs, made of files of Debian packages.

`packages.txt` says which files of which packages; the shared libraries they need follow from their ELF
headers. The archive is uncompressed (unpacking costs more under TCG than reading does), holds no keys and nothing
that changes from run to run: what differs per machine is an overlay, see `harness.guest.cpio.overlay`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath

from harness import arch as arches
from harness import proc
from harness.arch import Arch
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.guest import apt, cpio
from harness.guest.cpio import Entry

BARE_MARKER = "harness-bare: userspace is up"
_MERGED = ("bin", "lib", "lib64", "sbin")
_FOLDERS = ("dev", "etc", "proc", "run", "sys", "var")
_DEFAULT_BACKEND = "xtables-legacy-multi"
_XTABLES = re.compile(r"^(?P<family>ip6?tables)-legacy(?P<verb>-save|-restore|)$")
_ETC = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
                  # The user that Debian's tcpdump changes to: root again, so that it may write where it is told.
                  "tcpdump:x:0:0:tcpdump:/:/bin/false\n",
    "etc/fstab": "proc /proc proc\nsysfs /sys sysfs\ndev /dev devtmpfs\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/shells": "/bin/sh\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/nsswitch.conf": "".join(f"{name}: files\n" for name in ("passwd", "group", "hosts", "protocols",
                                                                 "services", "ethers")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A row of `packages.txt`: a package and the globs of its files that the guest gets."""

    package: str
    globs: tuple[str, ...]


def wanted() -> tuple[Wanted, ...]:
    """The rows of `packages.txt`."""
    rows = (line.split(None, 2) for line in _own("packages.txt").decode().splitlines()
            if line.strip() and not line.startswith("#"))
    return tuple(Wanted(package=name, globs=tuple(globs.split(","))) for name, globs, _why in rows)


def rootfs_key(*, arch: Arch | None = None, lists: Path | None = None, memo: Path | None = None,
               deadline: Deadline) -> tuple[str, ...]:
    """What decides what `build_rootfs` makes: resolved package versions, hashes of our own files. No network.

    Args:
        arch: the guest's architecture; the host's otherwise.
        lists: its package lists, where they are not the host's (`apt.fetch_lists`).
        memo: a file that remembers what apt resolved for as long as its package lists do not change.

    Raises:
        InfraError: apt does not offer a package.
    """
    arch = arch or arches.native()
    own = [f"{name}:{hashlib.sha256(_own(name)).hexdigest()}"
           for name in ("apt.py", "bare-init", "cpio.py", "init", "packages.txt", "rootfs.py")]
    return (arch.name, *own, *map(str, _resolved(arch, lists, memo, deadline)))


def build_rootfs(out: Path, *, arch: Arch | None = None, lists: Path | None = None, deadline: Deadline,
                 progress: Callable[[str], None] = lambda _: None) -> None:
    """Write the guest's initramfs to `out`: busybox, SSH server and network tools around our `init`.

    Raises:
        InfraError: a package is not to be had, or lacks a file that `packages.txt` names.
    """
    arch = arch or arches.native()
    with tempfile.TemporaryDirectory(prefix="harness-rootfs-") as name:
        stage = _stage(wanted(), arch, lists, Path(name), deadline=deadline, progress=progress)
        progress("packing the guest's initramfs")
        files = _collect(stage, wanted(), arch, deadline=deadline)
        files |= _applets((stage / "bin/busybox").read_bytes(), files)
        files |= {path: cpio.file(path, text.encode()) for path, text in _ETC.items()}
        _write(out, files, _own("init"))


def build_bare_rootfs(out: Path, *, arch: Arch | None = None, lists: Path | None = None, deadline: Deadline,
                      progress: Callable[[str], None] = lambda _: None) -> None:
    """Write an initramfs of busybox alone, whose init says `BARE_MARKER` on the console and then waits.

    Raises:
        InfraError: busybox is not to be had.
    """
    arch = arch or arches.native()
    rows = tuple(row for row in wanted() if row.package == "busybox")
    with tempfile.TemporaryDirectory(prefix="harness-rootfs-") as name:
        stage = _stage(rows, arch, lists, Path(name), deadline=deadline, progress=progress)
        files = _collect(stage, rows, arch, deadline=deadline)
        _write(out, {**files, "usr/bin/sh": cpio.symlink("usr/bin/sh", "busybox")}, _own("bare-init"))


def parse_needed(readelf: str) -> frozenset[str]:
    """The names of shared libraries that the output of `readelf -d` (binutils) lists as NEEDED."""
    return frozenset(re.findall(r"\(NEEDED\)\s+Shared library: \[([^\]]+)\]", readelf))


def merged(path: str) -> str:
    """`path` on a system where `/bin`, `/sbin` and `/lib*` are links into `/usr`."""
    return f"usr/{path}" if PurePosixPath(path).parts[0] in _MERGED else path


def _own(name: str) -> bytes:
    return resources.files("harness.guest").joinpath(name).read_bytes()


def _resolved(arch: Arch, lists: Path | None, memo: Path | None, deadline: Deadline) -> tuple[apt.Resolved, ...]:
    names = [row.package for row in wanted()]
    stamp = hashlib.sha256(json.dumps([arch.debian, names, str(lists), apt.host_stamp()]).encode()).hexdigest()
    if memo is not None and memo.exists():
        saved = json.loads(memo.read_text())
        if saved["stamp"] == stamp:
            return tuple(apt.Resolved(name=name, version=version) for name, version in saved["packages"])
    with tempfile.TemporaryDirectory(prefix="harness-apt-") as state:
        found = apt.resolve(names, arch, Path(state), lists=lists, deadline=deadline)
    if memo is not None:
        fresh = memo.with_name(f"{memo.name}.{os.getpid()}")
        fresh.write_text(json.dumps({"stamp": stamp, "packages": [(p.name, p.version) for p in found]}))
        fresh.replace(memo)
    return found


def _stage(rows: Sequence[Wanted], arch: Arch, lists: Path | None, work: Path, *, deadline: Deadline,
           progress: Callable[[str], None]) -> Path:
    """Unpack the packages of `rows` and all they depend on; the folder that holds them."""
    found = apt.resolve([row.package for row in rows], arch, work, lists=lists, deadline=deadline)
    debs = apt.download(found, arch, work, lists=lists, deadline=deadline, progress=progress)
    stage = work / "stage"
    for deb in debs:
        proc.run(["dpkg-deb", "-x", str(deb), str(stage)], deadline=deadline)
    return stage


def _collect(stage: Path, rows: Sequence[Wanted], arch: Arch, *, deadline: Deadline) -> dict[str, Entry]:
    """The files that `rows` name and the libraries these need, by their path in the guest."""
    picked: list[Path] = []
    for row in rows:
        for glob in row.globs:
            matches = [path for path in sorted(stage.glob(glob)) if path.is_symlink() or path.is_file()]
            if not matches:
                raise InfraError(f"package {row.package} has no file {glob}",
                                 where="harness/guest/packages.txt")
            picked += matches
    picked += _libraries(stage, picked, arch, deadline=deadline)
    return {entry.path: entry for entry in (_entry(stage, path) for path in picked)}


def _libraries(stage: Path, programs: Iterable[Path], arch: Arch, *, deadline: Deadline) -> list[Path]:
    """The shared libraries (and the dynamic loader) that `programs` need, and those need in turn.

    A program's own libraries (`DT_RUNPATH`) are among `programs`.
    """
    programs = tuple(programs)
    own = {path.name for path in programs}
    folders = [stage / "lib" / arch.multiarch, stage / "usr/lib" / arch.multiarch]
    found: dict[str, Path] = {}
    queue = deque(path for path in programs if not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF")
    while queue:
        batch = [str(path) for path in queue]
        queue.clear()
        needed = parse_needed(proc.run(["readelf", "-d", *batch], deadline=deadline).stdout)
        for name in sorted(needed - found.keys() - own):
            library = next((folder / name for folder in folders if (folder / name).exists()), None)
            if library is None:
                raise InfraError(f"no package of the guest has the library {name}")
            found[name] = library
            queue.append(library)
    return [*_with_targets(found.values()), stage / arch.loader, *_with_targets(folders[0].glob("ld-*.so*"))]


def _with_targets(paths: Iterable[Path]) -> Iterator[Path]:
    """`paths`, and after each symlink the file beside it that it names."""
    for path in paths:
        yield path
        if path.is_symlink():
            yield path.parent / path.readlink()


def parse_applets(busybox: bytes) -> tuple[str, ...]:
    """The names of a busybox's applets, read from the program, which may be of any architecture.

    They stand one after the other, each with a NUL, sorted by byte value, and begin with `[` and `[[`
    (`applet_names` in busybox's `applets/applet_tables.c`).

    Raises:
        InfraError: there is no such table.
    """
    first = b"\0[\0[[\0"
    if busybox.count(first) != 1:
        raise InfraError("the guest's busybox has no table of applets, or more than one",
                         hint="its format is that of another busybox: see parse_applets in harness/guest/rootfs.py")
    names: list[bytes] = []
    for name in busybox[busybox.index(first) + 1:].split(b"\0"):
        if names and name <= names[-1]:
            break
        names.append(name)
    return tuple(name.decode("ascii") for name in names)


def _applets(busybox: bytes, files: Mapping[str, Entry]) -> dict[str, Entry]:
    """Links to busybox for every applet that no real program of the guest has the name of."""
    taken = {PurePosixPath(path).name for path in files}
    paths = [f"usr/bin/{name}" for name in parse_applets(busybox) if name not in taken]
    links = {path: cpio.symlink(path, "busybox") for path in paths}
    for path in files:
        if match := _XTABLES.match(PurePosixPath(path).name):
            plain = f"usr/sbin/{match['family']}{match['verb']}"
            links[plain] = cpio.symlink(plain, _DEFAULT_BACKEND)
    for family in ("arptables", "ebtables"):
        links[f"usr/sbin/{family}"] = cpio.symlink(f"usr/sbin/{family}", f"{family}-legacy")
    return links


def _entry(stage: Path, path: Path) -> Entry:
    inside = merged(str(path.relative_to(stage)))
    if path.is_symlink():
        return cpio.symlink(inside, str(path.readlink()))
    return cpio.file(inside, path.read_bytes(), stat.S_IMODE(path.stat().st_mode) & 0o755)


def _write(out: Path, files: Mapping[str, Entry], init: bytes) -> None:
    """Write the archive of `files` with `init`, standard folders, links and the console's node to `out`."""
    fixed = {
        "init": cpio.file("init", init, 0o755),
        "root": cpio.directory("root", 0o700),
        "tmp": cpio.directory("tmp", 0o1777),
        "dev/console": cpio.char_device("dev/console", 5, 1),
        "dev/null": cpio.char_device("dev/null", 1, 3, 0o666),
        **{name: cpio.directory(name) for name in _FOLDERS},
        **{name: cpio.symlink(name, f"usr/{name}") for name in _MERGED},
    }
    out.write_bytes(cpio.archive(cpio.with_parents({**files, **fixed})))
