# SPDX-License-Identifier: GPL-2.0-only
"""Captures: headers found, padding left out, fragments told, cut or foreign files refused."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InfraError
from harness.lab import pcap
from harness.lab.capture import parse_counts

MACS = bytes(12)


def capture(*frames: bytes, order: str = "<", link: int = 1, magic: int = 0xA1B2C3D4) -> bytes:
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link)
    return head + b"".join(struct.pack(order + "IIII", 1, 2, len(frame), len(frame)) + frame for frame in frames)


def ipv4(protocol: int, payload: bytes, *, flags: int = 0, padding: int = 0, options: bytes = b"") -> bytes:
    length = 20 + len(options)
    header = struct.pack(">BBHHHBBH4s4s", 0x40 | length // 4, 0, length + len(payload), 7, flags, 64, protocol, 0,
                         IPv4Address("10.77.1.1").packed, IPv4Address("10.77.1.2").packed)
    return MACS + b"\x08\x00" + header + options + payload + bytes(padding)


def ipv6(next_header: int, payload: bytes) -> bytes:
    header = struct.pack(">IHBB16s16s", 6 << 28, len(payload), next_header, 64, IPv6Address("fd77:1::1").packed,
                         IPv6Address("fd77:1::2").packed)
    return MACS + b"\x86\xdd" + header + payload


@pytest.mark.parametrize(("order", "magic"), [("<", 0xA1B2C3D4), (">", 0xA1B2C3D4), ("<", 0xA1B23C4D)])
def test_packets_of_both_byte_orders_and_time_resolutions(order: str, magic: int) -> None:
    packets = pcap.parse(capture(ipv4(17, b"x" * 9), MACS + b"\x08\x06" + bytes(28), order=order, magic=magic))
    assert [(packet.ethertype, packet.protocol) for packet in packets] == [(pcap.IPV4, 17), (pcap.ARP, None)]


def test_padding_of_short_frames_is_no_payload() -> None:
    (packet,) = pcap.parse(capture(ipv4(1, b"12345678", padding=18)))
    assert packet.payload == b"12345678"
    assert str(packet.source) == "10.77.1.1"
    assert str(packet.destination) == "10.77.1.2"


def test_spi_of_esp_in_both_families() -> None:
    esp = bytes.fromhex("00007701 00000001") + bytes(32)
    packets = pcap.parse(capture(ipv4(50, esp, options=bytes(4)), ipv6(50, esp), ipv4(17, esp), ipv4(50, esp[:4])))
    assert [packet.spi for packet in packets] == [0x7701, 0x7701, None, None]


def test_of_fragmented_esp_the_first_fragment_has_the_spi() -> None:
    esp = bytes.fromhex("00007701 00000001") + bytes(8)
    frames = [ipv4(50, esp, flags=0x2000), ipv4(50, b"encrypted bytes.", flags=2)]
    assert [packet.spi for packet in pcap.parse(capture(*frames))] == [0x7701, None]


def test_fragments_first_middle_and_last() -> None:
    frames = [ipv4(17, bytes(16), flags=0x2000), ipv4(17, bytes(16), flags=0x2002), ipv4(17, bytes(8), flags=4),
              ipv4(17, bytes(8), flags=0x4000)]
    told = [(packet.fragment, packet.more) for packet in pcap.parse(capture(*frames))]
    assert told == [(0, True), (16, True), (32, False), (None, False)]


def test_ipv6_extension_headers_are_skipped_and_fragments_told() -> None:
    hop = bytes([44, 0]) + bytes(6)
    first = bytes([50, 0]) + struct.pack(">HI", 0 | 1, 9) + b"esp....."
    later = bytes([50, 0]) + struct.pack(">HI", 1448, 9) + b"rest...."
    one, other = pcap.parse(capture(ipv6(0, hop + first), ipv6(44, later)))
    assert (one.protocol, one.fragment, one.more, one.payload) == (50, 0, True, b"esp.....")
    assert (other.protocol, other.fragment, other.more, other.payload) == (50, 1448, False, b"rest....")


def test_vlan_tags_are_skipped() -> None:
    frame = ipv4(17, b"x")
    tagged = frame[:12] + b"\x81\x00\x00\x09" + frame[12:]
    (packet,) = pcap.parse(capture(tagged))
    assert (packet.ethertype, packet.protocol, packet.payload) == (pcap.IPV4, 17, b"x")


@pytest.mark.parametrize(("data", "words"), [
    (b"", "not a capture file"),
    (b"#!/bin/sh\n" + bytes(30), "not a capture file"),
    (capture(link=113), "link type 113"),
    (capture(ipv4(17, b"x"))[:-1], "packet 1 of the capture is cut"),
    (capture(ipv4(17, b"x")) + b"\0" * 5, "within a packet's header"),
    (capture() + struct.pack("<IIII", 1, 2, 4, 99) + bytes(4), "4 of 99 bytes"),
])
def test_what_cannot_be_trusted_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(InfraError, match=words):
        pcap.parse(data)


@given(st.binary(max_size=120))
def test_no_frame_breaks_the_parser(frame: bytes) -> None:
    assert pcap.dissect(frame).frame == frame


@given(st.binary(max_size=80), st.sampled_from([b"\x08\x00\x45", b"\x86\xdd\x60", b"\x81\x00\x00\x01\x08\x00\x4f"]))
def test_no_ip_header_breaks_the_parser(rest: bytes, head: bytes) -> None:
    assert len(pcap.dissect(MACS + head + rest).payload) <= len(rest)


def tcp(options: bytes) -> bytes:
    return ipv4(pcap.TCP, struct.pack(">HHIIBBHHH", 1, 2, 3, 4, (20 + len(options)) // 4 << 4, 16, 5, 6, 7)
                + options + b"data")


def test_options_of_tcp() -> None:
    packet = pcap.dissect(tcp(b"\x01\x01\x08\x0a" + bytes(8) + b"\x1e\x04\x20\x01" + b"\x00\x01\x01\x01"))
    assert packet.tcp_options == ((8, bytes(8)), (30, b"\x20\x01"))


@pytest.mark.parametrize("frame", [
    ipv4(pcap.UDP, b"\x01" * 40), ipv4(pcap.TCP, b"\x01" * 19), ipv4(pcap.TCP, b"\xff" * 40, flags=1), tcp(b"")])
def test_what_has_no_options_of_tcp(frame: bytes) -> None:
    assert pcap.dissect(frame).tcp_options == ()


@given(st.binary(max_size=40).map(lambda options: options + bytes(-len(options) % 4)))
def test_no_options_of_tcp_break_the_parser(options: bytes) -> None:
    found = pcap.dissect(tcp(options)).tcp_options
    assert sum(len(rest) + 2 for _, rest in found) <= len(options)


def test_what_tcpdump_counted_is_taken_from_its_end() -> None:
    said = ("tcpdump: listening on lan0\ntcpdump: 4 packets captured, 7 packets received by filter, 0 packets dropped "
            "by kernel\n1 packet captured\n8 packets received by filter\n0 packets dropped by kernel\n")
    assert parse_counts(said) == (1, 8, 0)
    assert parse_counts("tcpdump: lan7: No such device exists\n") is None
