# SPDX-License-Identifier: GPL-2.0-only
"""Pure: words to a command line for the guest's shell, and what it printed to text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from harness.errors import UsageError

Word = str | bytes | PurePosixPath | int | float
TAG = "HARNESS_COMMAND"
"""The variable by which a command and all that it started can be found in the guest."""
GO = b"go\n"
"""What a command reads from its standard input before it begins; see `command`."""
LONGEST = 9000
"""Bytes of a command line that dropbear takes (MAX_CMD_LEN in its sysoptions.h)."""


def quote(word: Word) -> bytes:
    """`word` for a POSIX shell, whatever bytes it has; surrogate escapes in a str stand for the bytes they escape.

    Raises:
        UsageError: it has a NUL byte, which no argument of a program can have.
    """
    raw = word if isinstance(word, bytes) else str(word).encode(errors="surrogateescape")
    if b"\0" in raw:
        raise UsageError(f"an argument cannot hold a NUL byte: {raw!r}")
    return b"'" + raw.replace(b"'", b"'\\''") + b"'"


def command(words: Sequence[Word], tag: int | None = None) -> bytes:
    """A shell command that waits for `GO` on its standard input and then becomes `words`, with what follows as theirs.

    A command whose session breaks before that sees the end of its input and has done nothing. The shell does not stay:
    the server then sees how the program itself ended, by a signal or with a code. `tag` goes into the environment of
    the program and all it starts, by which they can be found again.

    Raises:
        UsageError: there is nothing to run, a word cannot be an argument, or they are too long.
    """
    if not words:
        raise UsageError("no command")
    mark = f"export {TAG}={tag}; ".encode() if tag is not None else b""
    line = b"read -r _ || exit; " + mark + b"exec " + b" ".join(map(quote, words))
    if len(line) > LONGEST:
        raise UsageError(f"a command of {len(line)} bytes, and the guest's SSH server takes {LONGEST}",
                         hint="write it to a file in the guest, or pass it as standard input")
    return line


def decode(raw: bytes | bytearray) -> str:
    """What a guest printed; bytes that are not UTF-8 survive as surrogate escapes."""
    return raw.decode(errors="surrogateescape")


def texts(words: Sequence[Word]) -> tuple[str, ...]:
    """`words` as text, for records and messages."""
    return tuple(word if isinstance(word, str) else decode(word) if isinstance(word, bytes) else str(word)
                 for word in words)
