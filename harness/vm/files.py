# SPDX-License-Identifier: GPL-2.0-only
"""Files into a guest and out of it, whole or not at all: in pieces, so that memory does not grow, and checked.

The checksum is SHA-256 of what was read on one side against what stands (in) or arrived (out) on the other. It is not
against the wire, which SSH guards, but against the pipes and file systems of the kernel under test.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Protocol

from harness.errors import InfraError, KernelError

__all__ = ["IN", "OUT", "WRONG", "Hashing", "digest", "digest_of", "verify"]

IN = """cat > "$1.part" && sum=$(sha256sum "$1.part") || exit
if [ "${sum%% *}" != "$3" ]; then rm -f "$1.part"; echo "${sum%% *}"; exit 9; fi
chmod "$2" "$1.part" && mv "$1.part" "$1"
"""
"""Standard input to file $1 with mode $2, if it has the checksum $3; else exit code 9 and what it has."""
WRONG = 9

OUT = """set -o pipefail
exec 3>&1
cat "$1" | tee /proc/self/fd/3 | sha256sum >&2"""
"""File $1 to standard output, and its checksum to standard error: of what was read, as /proc differs each time."""


class Sink(Protocol):
    """Takes bytes, as a file does."""

    def write(self, data: bytes, /) -> object:
        """Take `data`."""


class Hashing:
    """A sink that passes on what it takes and knows its checksum."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()

    def write(self, data: bytes, /) -> None:
        """Take `data`."""
        self._hash.update(data)
        self._sink.write(data)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def digest(path: Path) -> str:
    """SHA-256 of a file of the host.

    Raises:
        InfraError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InfraError(f"cannot be read: {error.strerror}", where=str(path)) from error


def digest_of(data: bytes) -> str:
    """SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def verify(path: str | PurePosixPath, machine: str, ours: str, theirs: str) -> None:
    """Compare two checksums of the guest's file `path`.

    Raises:
        KernelError: they differ.
    """
    if ours != theirs:
        raise KernelError(f"{path}: the guest's kernel does not give back what was written",
                          where=f"machine {machine}", detail=(f"here  {ours}", f"there {theirs or 'nothing'}"))
