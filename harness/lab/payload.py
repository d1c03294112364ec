# SPDX-License-Identifier: GPL-2.0-only
"""Pure: what the traffic carries. The same bytes in every run, every line of them different, each easy to find.

A line says where it belongs, so that a fragment put in the wrong place changes the sum as much as a lost one does;
and it begins with `MARKER`, so that a capture either shows clear text or does not.
"""

from __future__ import annotations

import hashlib

MARKER = b"kph-clear-text"
_LINE = 64


def payload(size: int) -> bytes:
    """`size` bytes of numbered lines of 64 bytes; the last may be cut."""
    return b"".join(_line(number) for number in range(-(-size // _LINE)))[:size]


def checksum(data: bytes) -> str:
    """SHA-256 of `data`, as sha256sum(1) prints it."""
    return hashlib.sha256(data).hexdigest()


def _line(number: int) -> bytes:
    head = b"%s %08d " % (MARKER, number)
    return head + hashlib.sha256(head).hexdigest().encode()[:_LINE - len(head) - 1] + b"\n"
