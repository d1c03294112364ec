# SPDX-License-Identifier: GPL-2.0-only
"""Makes real objects from a few lines of C or assembler, and the shapes of the fixtures in conftest.py."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from harness.compare.values import ObjectDelta
from harness.deadline import Deadline
from harness.proc import run

FLAGS = ("-O2", "-ffreestanding", "-fno-pic", "-fno-asynchronous-unwind-tables", "-mno-sse")


def compile_into(folder: Path, source: str, *flags: str, name: str = "x", asm: bool = False) -> Path:
    """Compile `source` to `folder/name.o`; the folder is made. Equal names make equal objects."""
    file = f"{name}{'.s' if asm else '.c'}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(source)
    run(["gcc", *(() if asm else FLAGS), *flags, "-c", file, "-o", f"{name}.o"], cwd=folder,
        deadline=Deadline.after(60))
    return folder / f"{name}.o"


class Compile(Protocol):
    """Compiles `source` and returns the object's path."""

    def __call__(self, source: str, *flags: str, name: str = "x", asm: bool = False) -> Path: ...


class Differ(Protocol):
    """Compiles both sources with the same flags and compares the objects."""

    def __call__(
        self, base: str, patched: str, *flags: str, asm: bool = False, strict: bool = False) -> ObjectDelta: ...
