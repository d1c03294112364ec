# SPDX-License-Identifier: GPL-2.0-only
"""Bridge data and a secpath on one packet: ESP through a bridge, and ESP that ends at the bridge itself.

client - [port0 dut port1] - server. What comes in at port0 for br0 has bridge data when it is decrypted, and both
extensions until it is delivered: the case the two users of `struct skb_ext` share memory in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.lab import counters, filters, ipsec, slabs, traffic
from harness.lab.bench import Host, Lab
from harness.lab.capture import capturing
from harness.lab.payload import MARKER
from harness.lab.pcap import ESP

pytestmark = [pytest.mark.topology("bridge"),
              pytest.mark.needs("BRIDGE_NETFILTER", "NETFILTER_XT_MATCH_PHYSDEV", "XFRM", "XFRM_USER", "INET_ESP",
                                "INET6_ESP", "XFRM_STATISTICS", "NETFILTER_XT_MATCH_POLICY")]

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
GRO = pytest.mark.parametrize("gro", [True, False], ids=["gro", "no-gro"])
MODES = pytest.mark.parametrize("mode", ["transport", "tunnel"])
SIZE = 40_000
CLONES = """table netdev kph {
    chain clones {
        type filter hook ingress device mirror1 priority 0; policy drop;
        meta protocol ip ip protocol esp counter comment "esp"
        meta secpath exists counter comment "secpath"
    }
}"""
REQUEST = {4: "-p icmp --icmp-type echo-request", 6: "-p icmpv6 --icmpv6-type echo-request"}
BOTH = {"both": "INPUT -m physdev --physdev-in port0 -m policy --dir in --pol ipsec --proto esp"}
"""What has bridge data and a secpath."""


@contextmanager
def gro_on_bridge(dut: Host, on: bool) -> Iterator[None]:
    """GRO of the bridge and its ports, on or off for the block; it is on otherwise."""
    def turn(word: str) -> None:
        dut.shell(f"for port in port0 port1 br0; do ethtool -K $port gro {word}; done")

    turn("on" if on else "off")
    try:
        yield
    finally:
        turn("on")


@MODES
@FAMILIES
def test_esp_passes_the_bridge_and_physdev_counts_it(lab: Lab, family: int, mode: str) -> None:
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    one, other = client.address(family), server.address(family)
    rules = {"there": f"FORWARD -m physdev --physdev-in port0 --physdev-out port1 -p esp -s {one} -d {other}",
             "back": f"FORWARD -m physdev --physdev-in port1 --physdev-out port0 -p esp -s {other} -d {one}",
             "clear": f"FORWARD -m physdev --physdev-is-bridged -p tcp -s {one} -d {other}"}
    with (ipsec.protected(client, server, ipsec.AES_GCM, mode, family) as esp,
          filters.iptables(dut, family, rules) as counts):
        with capturing(dut, "port1", "esp or ip6 proto 50") as capture:
            transfer = traffic.tcp(client, server, esp.other.inner, size=SIZE)
        saw = counts.packets()
    assert transfer.whole, str(transfer)
    wire = [str(packet.source) for packet in capture.packets if packet.protocol == ESP]
    assert wire.count(one) > SIZE / 1500, f"expected at least {SIZE // 1500} ESP packets, the capture shows {len(wire)}"
    assert not any(MARKER in packet.frame for packet in capture.packets), "clear text on the wire"
    expected = {"there": wire.count(one), "back": wire.count(other), "clear": 0}
    assert saw == expected, f"the capture at port1 shows {expected}, physdev rules counted {saw}"


@GRO
@MODES
@FAMILIES
def test_one_packet_has_its_port_and_its_policy(lab: Lab, family: int, mode: str, gro: bool) -> None:
    """Both extensions at once: a rule that asks for port and policy in one match line.

    With GRO the secpath is there first (ESP is decrypted on the way to the bridge, net/ipv4/esp4_offload.c),
    without it the bridge data.
    """
    client, dut = lab["client"], lab["dut"]
    both = f"-m policy --dir in --pol ipsec --proto esp --mode {mode} {REQUEST[family]}"
    rules = {"both": f"INPUT -m physdev --physdev-in port0 {both}",
             "wrong-port": f"INPUT -m physdev --physdev-in port1 {both}",
             "no-policy": f"INPUT -m physdev --physdev-in port0 -m policy --dir in --pol none {REQUEST[family]}"}
    before = counters.xfrm(dut)
    with gro_on_bridge(dut, gro), ipsec.protected(client, dut, ipsec.AES_GCM, mode, family) as esp:
        with filters.iptables(dut, family, rules) as counts:
            pings = traffic.ping(client, esp.other.inner, count=20)
            saw = counts.packets()
        transfer = traffic.tcp(client, dut, esp.other.inner, size=SIZE)
    assert pings.whole, f"expected 20 answers, saw {pings}"
    assert saw == {"both": 20, "wrong-port": 0, "no-policy": 0}, f"sent 20 in ESP through port0, saw {saw}"
    assert transfer.whole, str(transfer)
    errors = counters.xfrm(dut).since(before).nonzero
    assert not errors, f"IPsec errors: {errors}"


def test_a_clone_that_waits_does_not_get_what_decryption_adds(lab: Lab) -> None:
    """C6 and C7: clones of the encrypted packet, which has bridge data, wait in a queue while the packet is decrypted.

    They come out as they were: of ESP, without a secpath, and their payload still encrypted.
    """
    client, dut = lab["client"], lab["dut"]
    # br0 ingress -> clone to late0, which delays it -> egress of mirror0 -> ingress of mirror1, where it is counted.
    dut.shell("""ip link add mirror0 type dummy; ip link add mirror1 type dummy
        ip link add link mirror0 name late0 type vlan id 9
        ip link set mirror0 up; ip link set mirror1 up; ip link set late0 up
        tc qdisc add dev late0 root netem delay 300ms limit 1000
        tc qdisc add dev mirror0 clsact
        tc filter add dev mirror0 egress matchall action mirred ingress mirror dev mirror1
        tc qdisc add dev br0 clsact
        tc filter add dev br0 ingress matchall action mirred egress mirror dev late0""")
    try:
        with (gro_on_bridge(dut, False), filters.nftables(dut, CLONES) as nft,
              ipsec.protected(client, dut, ipsec.AES_GCM, "transport", 4), filters.iptables(dut, 4, BOTH) as counts):
            pings = traffic.ping(client, dut.ipv4, count=30)
            saw = nft.reach({"esp": 30}) | counts.packets()
    finally:
        dut.shell("tc qdisc del dev br0 clsact; for link in late0 mirror0 mirror1; do ip link del $link; done",
                  check=False)
    assert pings.whole, f"expected 30 answers, saw {pings}"
    expected = {"esp": 30, "secpath": 0, "both": 30}
    assert saw == expected, f"30 packets in ESP, expected 30 clones without secpath and 30 originals with, saw {saw}"


@FAMILIES
def test_no_leak_after_thousands_of_bridged_and_protected_packets(lab: Lab, family: int) -> None:
    """C5 with both extensions on each packet."""
    client, dut = lab["client"], lab["dut"]
    count = 2000
    before = slabs.count(dut)
    with (ipsec.protected(client, dut, ipsec.AES_GCM, "transport", family),
          filters.iptables(dut, family, BOTH) as counts):
        pings = traffic.flood(client, dut.address(family), count=count)
        fragmented = traffic.flood(client, dut.address(family), count=count // 4, size=3000)
        saw = counts.packets()["both"]
    assert pings.received >= count * 0.9, f"{count} echo requests, saw {pings}"
    assert fragmented.received >= count // 4 * 0.9, f"{count // 4} echo requests in fragments, saw {fragmented}"
    arrived = pings.received + fragmented.received
    assert saw >= arrived, f"{arrived} requests arrived, {saw} of them with both extensions"
    grown = slabs.left_behind(dut, before, packets=count)
    assert not grown, f"{count} packets left objects behind: {', '.join(map(str, grown))}"
    held = slabs.left_behind(dut, {}, packets=0, caches=re.compile("^xfrm_state$"))
    assert not held, f"no state is configured, yet some are held: {', '.join(map(str, held))}"
