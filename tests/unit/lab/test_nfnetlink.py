# SPDX-License-Identifier: GPL-2.0-only
"""What netfilter hands to programs: the records of a log, the table of queues."""

from __future__ import annotations

import struct

import pytest

from harness.errors import InfraError
from harness.lab import nfnetlink
from harness.lab.nfnetlink import Log, Logged, Queued
from tests.unit.lab.test_pcap import capture


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


RECORD = b"\x02\x00\x00\x07" + b"".join((
    attribute(1, struct.pack("!HBB", 0x0800, 2, 0)), attribute(10, b"kph\0"), attribute(4, struct.pack("!I", 9)),
    attribute(6, struct.pack("!I", 3)), attribute(7, struct.pack("!I", 1 << 24)), attribute(9, b"E packet")))


def test_a_logged_packet_names_its_interfaces() -> None:
    assert nfnetlink.parse(RECORD) == Logged(indev=9, physindev=3, physoutdev=1 << 24, prefix="kph",
                                             payload=b"E packet")
    assert nfnetlink.parse(RECORD[:4]) == Logged()


@pytest.mark.parametrize("cut", [1, 5, 9])
def test_a_record_that_is_cut_is_an_error(cut: int) -> None:
    with pytest.raises(InfraError, match="a logged packet ends within"):
        nfnetlink.parse(RECORD[:-cut])


def test_a_log_is_a_capture_of_its_own_link_type() -> None:
    log = Log()
    log.take(capture(RECORD, RECORD, link=239))
    assert [packet.prefix for packet in log.packets] == ["kph", "kph"]
    with pytest.raises(InfraError, match="a capture of link type 1, not of netfilter's log"):
        log.take(capture(RECORD))


def test_queues_are_told_by_number() -> None:
    text = "    5  12345     3 2 65531     1     2       20  1\n    9   1     0 2 65531     0     0        0  1\n"
    assert nfnetlink.parse_queues(text) == {5: Queued(waiting=3, dropped=3, total=20),
                                            9: Queued(waiting=0, dropped=0, total=0)}
    assert nfnetlink.parse_queues("") == {}
