# SPDX-License-Identifier: GPL-2.0-only
"""Two machines and a cable: plain traffic, whole, and nothing left behind. Every variant runs it."""

from __future__ import annotations

import pytest

from harness.lab import counters, slabs, traffic
from harness.lab.bench import Lab
from harness.lab.capture import capturing
from harness.lab.kernel import Kernel
from harness.lab.pcap import TCP

pytestmark = [pytest.mark.topology("pair")]

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
WAYS = pytest.mark.parametrize("way", ["ab", "ba"], ids=["a-to-b", "b-to-a"])
SIZE = 200_000
BIG = 8000
"""A datagram of six fragments at an MTU of 1500."""


@FAMILIES
def test_ping(lab: Lab, family: int) -> None:
    a, b = lab["a"], lab["b"]
    pings = traffic.ping(a, b.address(family), count=10)
    assert pings.whole, f"10 echo requests, expected 10 answers, saw {pings}"


@WAYS
@FAMILIES
def test_tcp_payload_is_whole(lab: Lab, family: int, way: str) -> None:
    sender, receiver = (lab[name] for name in way)
    transfer = traffic.tcp(sender, receiver, receiver.address(family), size=SIZE)
    assert transfer.whole, str(transfer)


@WAYS
@FAMILIES
def test_udp_payload_is_whole(lab: Lab, family: int, way: str) -> None:
    sender, receiver = (lab[name] for name in way)
    transfer = traffic.udp(sender, receiver, receiver.address(family), size=SIZE, datagram=1000)
    assert transfer.whole, str(transfer)


@WAYS
@FAMILIES
def test_fragmented_udp_payload_is_whole(lab: Lab, family: int, way: str) -> None:
    sender, receiver = (lab[name] for name in way)
    sent, got = counters.snmp(sender), counters.snmp(receiver)
    transfer = traffic.udp(sender, receiver, receiver.address(family), size=SIZE, datagram=BIG)
    assert transfer.whole, str(transfer)
    made, joined = ("Ip.FragCreates", "Ip.ReasmOKs") if family == 4 else ("Ip6FragCreates", "Ip6ReasmOKs")
    datagrams = SIZE // BIG
    fragments, expected = counters.snmp(sender).since(sent)[made], datagrams * 6
    assert fragments == expected, f"{datagrams} datagrams of {BIG}: expected {expected} fragments, saw {fragments}"
    whole = counters.snmp(receiver).since(got)[joined]
    assert whole == datagrams, f"expected {datagrams} datagrams put together, saw {whole}"


@FAMILIES
def test_payload_is_whole_while_a_capture_holds_clones(lab: Lab, family: int) -> None:
    a, b = lab["a"], lab["b"]
    with capturing(a, a.dev, "tcp port 5001") as sending, capturing(b, b.dev, "tcp port 5001") as receiving:
        transfer = traffic.tcp(a, b, b.address(family), size=SIZE)
    assert transfer.whole, str(transfer)
    for capture in (sending, receiving):
        carried = sum(len(packet.payload) for packet in capture.packets
                      if packet.protocol == TCP and str(packet.destination) == b.address(family))
        assert carried >= SIZE, f"the capture shows {carried} bytes of TCP, expected at least {SIZE}"


def test_extensions_have_a_cache_of_their_own_where_something_uses_them(lab: Lab, kernel: Kernel) -> None:
    """C10; and on base there must be none, or the comparison of base and patched means nothing."""
    used = kernel.patched and (kernel.has("XFRM") or kernel.has("BRIDGE_NETFILTER"))
    present = slabs.EXTENSIONS in slabs.count(lab["a"])
    assert present == used, (f"{kernel.tree} with {kernel.variant}: expected {slabs.EXTENSIONS} to be "
                             f"{'there' if used else 'absent'}, it is {'there' if present else 'absent'}")


@FAMILIES
def test_no_leak_after_thousands_of_packets(lab: Lab, family: int) -> None:
    a, b = lab["a"], lab["b"]
    count = 2000
    before = {host.name: slabs.count(host) for host in (a, b)}
    pings = traffic.flood(a, b.address(family), count=count)
    # Three fragments each, so that split and joined packets are among them.
    fragmented = traffic.flood(a, b.address(family), count=count // 4, size=3000)
    assert pings.received >= count * 0.9, f"{count} echo requests, saw {pings}"
    assert fragmented.received >= count // 4 * 0.9, f"{count // 4} echo requests in fragments, saw {fragmented}"
    for host in (a, b):
        grown = slabs.left_behind(host, before[host.name], packets=count)
        assert not grown, f"{host.name}: {count} packets left objects behind: {', '.join(map(str, grown))}"
