# SPDX-License-Identifier: GPL-2.0-only
"""The payload: of the right size, every line its own, found in every packet-sized piece."""

from __future__ import annotations

import pytest

from harness.lab.payload import MARKER, checksum, payload


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 4000, 100_000])
def test_size_is_exact(size: int) -> None:
    assert len(payload(size)) == size


def test_lines_differ_and_have_64_bytes() -> None:
    lines = payload(64 * 500).splitlines(keepends=True)
    assert len(set(lines)) == 500
    assert {len(line) for line in lines} == {64}


def test_a_longer_payload_begins_like_a_shorter_one_and_sums_differ() -> None:
    assert payload(1000) == payload(2000)[:1000]
    assert checksum(payload(1000)) != checksum(payload(1001))


def test_every_piece_of_two_lines_shows_the_marker() -> None:
    data = payload(10_000)
    assert all(MARKER in data[at:at + 128] for at in range(len(data) - 128))
