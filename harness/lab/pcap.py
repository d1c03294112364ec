# SPDX-License-Identifier: GPL-2.0-only
"""Pure: captures as tcpdump(8) writes them, down to the headers that the suites ask about.

Ethernet (with VLAN tags), IPv4 and IPv6 with the extension headers that IPsec and fragmentation use. Formats:
pcap-savefile(5), RFC 791, RFC 8200, RFC 4303. A packet that is cut short is an error: a capture that lost bytes
cannot show the absence of anything.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from harness.errors import InfraError

ETHERNET, NFLOG = 1, 239
_LINKS = {ETHERNET: "Ethernet", NFLOG: "netfilter's log"}
IPV4, ARP, IPV6, VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
ICMP, TCP, UDP, ESP, AH, ICMPV6 = 1, 6, 17, 50, 51, 58
_END, _NOTHING = 0, 1
_HOP, _ROUTING, _FRAGMENT, _OPTIONS = 0, 43, 44, 60
_MAGICS = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\x3c\x4d": ">"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A frame of a capture.

    Attributes:
        frame: all its bytes.
        ethertype: of what the frame carries, VLAN tags skipped.
        source: address of the IP header, or None.
        destination: address of the IP header, or None.
        protocol: what the IP packet carries, or None where the frame is no IP.
        fragment: offset in bytes where it is a fragment, else None.
        more: whether more fragments follow.
        payload: what follows the IP headers, padding of the frame left out.
    """

    frame: bytes
    ethertype: int
    source: IPv4Address | IPv6Address | None = None
    destination: IPv4Address | IPv6Address | None = None
    protocol: int | None = None
    fragment: int | None = None
    more: bool = False
    payload: bytes = b""

    @property
    def spi(self) -> int | None:
        """The security parameters index of an ESP packet; its first fragment has it, the others have none."""
        if self.protocol != ESP or self.fragment or len(self.payload) < 8:
            return None
        return int.from_bytes(self.payload[:4], "big")

    @property
    def tcp_options(self) -> tuple[tuple[int, bytes], ...]:
        """The options of a TCP header: their kinds and what follows their lengths (RFC 9293, 3.1); none elsewhere."""
        if self.protocol != TCP or self.fragment or len(self.payload) < 20:
            return ()
        found, rest = [], self.payload[20:(self.payload[12] >> 4) * 4]
        while rest and rest[0] != _END:
            if rest[0] == _NOTHING:
                rest = rest[1:]
                continue
            if len(rest) < 2 or not 2 <= rest[1] <= len(rest):
                break
            found.append((rest[0], rest[2:rest[1]]))
            rest = rest[rest[1]:]
        return tuple(found)


def parse(data: bytes) -> tuple[Packet, ...]:
    """The packets of a capture file of Ethernet frames; otherwise like `records`."""
    return tuple(dissect(frame) for frame in records(data, ETHERNET))


def records(data: bytes, link: int) -> Iterator[bytes]:
    """What a capture file holds of each packet, of a link type of https://www.tcpdump.org/linktypes.html.

    Raises:
        InfraError: it is no such file, or ends within a packet, or has packets that were captured in part.
    """
    order = _MAGICS.get(data[:4])
    if order is None or len(data) < 24:
        raise InfraError("not a capture file", detail=(f"{len(data)} bytes, beginning {data[:8]!r}",))
    found = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF
    if found != link:
        raise InfraError(f"a capture of link type {found}, not of {_LINKS[link]}")
    at, count = 24, 0
    while at < len(data):
        count += 1
        if at + 16 > len(data):
            raise InfraError("the capture ends within a packet's header")
        _, _, kept, length = struct.unpack_from(order + "4I", data, at)
        at += 16
        if at + kept > len(data) or kept < length:
            raise InfraError(f"packet {count} of the capture is cut: {min(kept, len(data) - at)} of {length} bytes")
        yield data[at:at + kept]
        at += kept


def dissect(frame: bytes) -> Packet:
    """One Ethernet frame; what is malformed counts as no IP."""
    at, ethertype = 14, int.from_bytes(frame[12:14], "big")
    while ethertype == VLAN:
        at, ethertype = at + 4, int.from_bytes(frame[at + 2:at + 4], "big")
    header = frame[at:]
    if ethertype == IPV4 and len(header) >= 20 and header[0] >> 4 == 4:
        return _ipv4(frame, header)
    if ethertype == IPV6 and len(header) >= 40 and header[0] >> 4 == 6:
        return _ipv6(frame, header)
    return Packet(frame=frame, ethertype=ethertype)


def _ipv4(frame: bytes, header: bytes) -> Packet:
    length, flags = (int.from_bytes(header[at:at + 2], "big") for at in (2, 6))
    offset, more = (flags & 0x1FFF) * 8, bool(flags & 0x2000)
    return Packet(frame=frame, ethertype=IPV4, source=IPv4Address(header[12:16]),
                  destination=IPv4Address(header[16:20]), protocol=header[9],
                  fragment=offset if offset or more else None, more=more, payload=header[(header[0] & 15) * 4:length])


def _ipv6(frame: bytes, header: bytes) -> Packet:
    length = int.from_bytes(header[4:6], "big")
    protocol, rest, fragment, more = header[6], header[40:40 + length], None, False
    while protocol in (_HOP, _ROUTING, _OPTIONS, _FRAGMENT) and len(rest) >= 8 and not fragment:
        if protocol == _FRAGMENT:
            flags = int.from_bytes(rest[2:4], "big")
            fragment, more = flags & 0xFFF8, bool(flags & 1)
            protocol, rest = rest[0], rest[8:]
        else:
            protocol, rest = rest[0], rest[(rest[1] + 1) * 8:]
    return Packet(frame=frame, ethertype=IPV6, source=IPv6Address(header[8:24]),
                  destination=IPv6Address(header[24:40]), protocol=protocol, fragment=fragment, more=more, payload=rest)
