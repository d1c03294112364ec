# SPDX-License-Identifier: GPL-2.0-only
"""Run in namespaces of its own (`unshare -Urm python -m tests.unit.tiny_disk WHAT`): a store on disks that fill up.

For each size of a tmpfs, in bytes and then in inodes, from nothing up: what the store does there, and what it does
when there is room again. Each is printed as a line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.kernel import source
from harness.kernel.series import read_patch
from harness.kernel.tree import Tree, prepare
from harness.store.store import Store, digest

KEY = digest("tiny")
FILES = {f"file{number}": str(number) * 6000 for number in range(6)}
ROOM = "size=64m,nr_inodes=10000"


def entry(store: Store, _: Path) -> str:
    """A small entry; what it holds."""
    def make(stage: Path) -> None:
        for name, text in FILES.items():
            (stage / name).write_text(text)

    data = store.get("kind", KEY, make, deadline=Deadline.after(60))
    return "right" if {path.name: path.read_text() for path in data.iterdir()} == FILES else "wrong"


def tree(store: Store, work: Path) -> str:
    """A source with a patch applied, which other programs (cp, git) do."""
    folder = work / "linux"
    if not folder.exists():
        folder.mkdir()
        for name in ("Kconfig", "Makefile", "big.c"):
            (folder / name).write_text("".join(f"line {number}\n" for number in range(2000)))
        (work / "0001.patch").write_text(
            "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\nFrom: a <a@localhost>\n"
            "Date: Thu, 01 Jan 1970 00:00:00 +0000\nSubject: [PATCH] change a line\n\nFor a test.\n---\n"
            "diff --git a/big.c b/big.c\n--- a/big.c\n+++ b/big.c\n"
            "@@ -1,3 +1,3 @@\n line 0\n-line 1\n+line one\n line 2\n")
    patched = Tree(name="patched", source=source.folder(folder), patches=(read_patch(work / "0001.patch"),))
    path = prepare(patched, store, deadline=Deadline.after(60))
    return "right" if (path / "big.c").read_text().startswith("line 0\nline one\n") else "wrong"


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def tried(options: str, disk: Path, work: Path, what: Callable[[Store, Path], str]) -> dict[str, object]:
    """One disk: what came of it, and what once it has room."""
    mount("-t", "tmpfs", "-o", options, "tmpfs", str(disk))
    row: dict[str, object] = {"disk": options}
    try:
        row["came"] = what(Store(root=disk / "store"), work)
    except HarnessError as error:
        row |= {"came": type(error).__name__, "said": str(error), "code": int(error.exit_code)}
    staging = disk / "store" / "staging"
    row["left"] = [path.name for path in staging.iterdir()] if staging.exists() else []
    mount("-o", f"remount,{ROOM}", str(disk))
    row["then"] = what(Store(root=disk / "store"), work)
    row["damaged"] = (disk / "store" / "damaged").exists()
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
    return row


def main() -> None:
    what = {"entry": entry, "tree": tree}[sys.argv[1]]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        disk = Path(name) / "disk"
        disk.mkdir()
        for form in ("size={}k,nr_inodes=10000", "size=64m,nr_inodes={}"):
            number = 0
            came: object = None
            while came != "right":
                number += 4 if "k" in form else 1
                row = tried(form.format(number), disk, Path(name), what)
                came = row["came"]
                sys.stdout.write(f"{json.dumps(row)}\n")


if __name__ == "__main__":
    main()
