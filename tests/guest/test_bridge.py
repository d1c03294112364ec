# SPDX-License-Identifier: GPL-2.0-only
"""A bridge that shows its packets to iptables: what physdev rules count, drop, track and rewrite, and no leaks.

client - [port0 dut port1] - server. Bridge data is attached to a packet when it enters a port and is gone when it
leaves one (net/bridge/br_netfilter_hooks.c).
"""

from __future__ import annotations

import pytest

from harness.lab import filters, slabs, traffic
from harness.lab.bench import Lab
from harness.lab.capture import capturing
from harness.lab.counters import Count
from harness.lab.pcap import UDP

pytestmark = [pytest.mark.topology("bridge"), pytest.mark.needs("BRIDGE_NETFILTER", "NETFILTER_XT_MATCH_PHYSDEV")]

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
SIZE = 60_000
BIG = 4000
"""A datagram of three fragments."""
REQUEST = {4: "-p icmp --icmp-type echo-request", 6: "-p icmpv6 --icmpv6-type echo-request"}
REPLY = {4: "-p icmp --icmp-type echo-reply", 6: "-p icmpv6 --icmpv6-type echo-reply"}
NOBODY = "10.77.2.77"
"""An address that no machine has."""
BROADCAST, BROADCASTS = "10.77.2.255", 50


@FAMILIES
def test_tcp_passes_the_bridge_whole_both_ways(lab: Lab, family: int) -> None:
    client, server = lab["client"], lab["server"]
    for sender, receiver in ((client, server), (server, client)):
        transfer = traffic.tcp(sender, receiver, receiver.address(family), size=SIZE)
        assert transfer.whole, f"{sender.name} to {receiver.name}: {transfer}"


@FAMILIES
def test_physdev_rules_count_exactly_what_was_sent(lab: Lab, family: int) -> None:
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    rules = {
        "in": f"FORWARD -m physdev --physdev-in port0 {REQUEST[family]}",
        "out": f"FORWARD -m physdev --physdev-out port1 {REQUEST[family]}",
        "in-out": f"FORWARD -m physdev --physdev-in port0 --physdev-out port1 {REQUEST[family]}",
        "bridged": f"FORWARD -m physdev --physdev-is-bridged {REQUEST[family]}",
        "back": f"FORWARD -m physdev --physdev-in port1 --physdev-out port0 {REPLY[family]}",
        "wrong-in": f"FORWARD -m physdev --physdev-in port1 {REQUEST[family]}",
        "wrong-out": f"FORWARD -m physdev --physdev-out port0 {REQUEST[family]}",
        "not-bridged": f"FORWARD -m physdev ! --physdev-is-bridged {REQUEST[family]}",
        "local": f"INPUT {REQUEST[family]}",
    }
    with filters.iptables(dut, family, rules) as counts:
        pings = traffic.ping(client, server.address(family), count=40)
        assert pings.whole, f"expected 40 answers, saw {pings}"
        expected = dict.fromkeys(("in", "out", "in-out", "bridged", "back"), 40) | dict.fromkeys(
            ("wrong-in", "wrong-out", "not-bridged", "local"), 0)
        saw = counts.packets()
    assert saw == expected, f"sent 40, expected {expected}, saw {saw}"


@FAMILIES
def test_physdev_in_counts_what_is_for_the_bridge_itself(lab: Lab, family: int) -> None:
    client, dut = lab["client"], lab["dut"]
    rules = {"in": f"INPUT -m physdev --physdev-in port0 {REQUEST[family]}",
             "wrong-in": f"INPUT -m physdev --physdev-in port1 {REQUEST[family]}"}
    with filters.iptables(dut, family, rules) as counts:
        pings = traffic.ping(client, dut.address(family), count=20)
        saw = counts.packets()
    assert pings.whole, f"expected 20 answers, saw {pings}"
    assert saw == {"in": 20, "wrong-in": 0}, f"sent 20, saw {saw}"


@FAMILIES
def test_physdev_drop_rule_stops_what_it_names_and_no_more(lab: Lab, family: int) -> None:
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    rules = {"drop": "FORWARD -m physdev --physdev-out port1 -p udp --dport 5002 -j DROP"}
    with filters.iptables(dut, family, rules) as counts:
        stopped = traffic.udp(client, server, server.address(family), size=SIZE, datagram=1000, expect=False,
                              stopped=lambda: counts.packets()["drop"])
        dropped = counts.packets()["drop"]
        back = traffic.udp(server, client, client.address(family), size=SIZE, datagram=1000)
    passed = traffic.udp(client, server, server.address(family), size=SIZE, datagram=1000)
    assert stopped.received == 0, f"expected nothing to pass the rule, saw {stopped}"
    assert dropped == SIZE // 1000, f"sent {SIZE // 1000} datagrams, the rule counted {dropped}"
    assert back.whole, f"the other way, which the rule does not name: {back}"
    assert passed.whole, f"without the rule: {passed}"


@FAMILIES
def test_fragments_are_tracked_whole_and_leave_as_fragments(lab: Lab, family: int) -> None:
    """Conntrack puts datagrams together on the bridge; on the way out they are split again (C12)."""
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    rules = {"whole": "FORWARD -m physdev --physdev-in port0 --physdev-out port1 -p udp --dport 5002 "
                      "-m conntrack --ctstate NEW,ESTABLISHED"}
    datagrams = SIZE // BIG
    with filters.iptables(dut, family, rules) as counts, capturing(server, server.dev) as capture:
        transfer = traffic.udp(client, server, server.address(family), size=SIZE, datagram=BIG)
        tracked = counts.read()["whole"]
    assert transfer.whole, str(transfer)
    whole = Count(packets=datagrams, bytes=SIZE + datagrams * (28 if family == 4 else 48))
    assert tracked == whole, f"the rule behind conntrack: expected whole datagrams, {whole}, saw {tracked}"
    fragments = [packet for packet in capture.packets if packet.protocol == UDP and packet.fragment is not None
                 and str(packet.destination) == server.address(family)]
    expected = 3 * datagrams
    assert len(fragments) == expected, f"expected {expected} fragments behind the bridge, saw {len(fragments)}"


def test_dnat_on_the_bridge_reaches_another_host(lab: Lab) -> None:
    """The rewritten packet takes a detour through the neighbour code; its header is kept in the bridge data."""
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    mac = server.read(f"/sys/class/net/{server.dev}/address").strip()
    client.run("ip", "neigh", "replace", NOBODY, "lladdr", mac, "dev", client.dev)
    dut.shell("echo 1 > /proc/sys/net/ipv4/ip_forward")  # without it the new address has no route
    rules = {"bridged": f"FORWARD -m physdev --physdev-in port0 --physdev-out port1 -d {server.ipv4} {REQUEST[4]}"}
    nat = {"dnat": f"PREROUTING -m physdev --physdev-in port0 -d {NOBODY} -j DNAT --to-destination {server.ipv4}"}
    try:
        with filters.iptables(dut, 4, rules) as counts, filters.iptables(dut, 4, nat, table="nat") as rewritten:
            dut.run("ip", "neigh", "flush", "dev", "br0")
            # Alone: it waits for the neighbour, and conntrack, which confirms it after that, drops what has come of
            # the same connection in the meantime (nf_ct_resolve_clash()).
            first = traffic.ping(client, NOBODY, count=1)
            pings = traffic.ping(client, NOBODY, count=20)
            saw = counts.packets() | rewritten.packets()
    finally:
        dut.shell("echo 0 > /proc/sys/net/ipv4/ip_forward")
        client.run("ip", "neigh", "del", NOBODY, "dev", client.dev)
    assert first.whole, f"expected an answer through DNAT by way of the neighbour's queue, saw {first}"
    assert pings.whole, f"expected 20 answers through DNAT, saw {pings}"
    assert saw == {"bridged": 21, "dnat": 2}, f"requests of two connections, 1 and 20, saw {saw}"


def test_local_copy_of_a_flooded_frame_does_not_see_its_clones_port(lab: Lab) -> None:
    """C7: clones of a broadcast note their output port first; the copy that goes up the stack must not show it."""
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    match = "-p udp --dport 5003"
    rules = {"out": f"FORWARD -m physdev --physdev-is-bridged --physdev-out port1 {match}",
             "up": f"INPUT -m physdev --physdev-in port0 {match}",
             "up-with-port": f"INPUT -m physdev --physdev-is-bridged {match}"}
    with filters.iptables(dut, 4, rules) as counts, capturing(server, server.dev, "udp port 5003") as capture:
        client.run("socat", "-u", "-b", 16, "STDIN", f"UDP4-DATAGRAM:{BROADCAST}:5003,broadcast",
                   stdin=b"sixteen bytes..." * BROADCASTS)
        saw = counts.reach({"up": BROADCASTS})
    expected = {"out": BROADCASTS, "up": BROADCASTS, "up-with-port": 0}
    assert saw == expected, f"{BROADCASTS} broadcasts, expected none to go up with an output port, saw {saw}"
    assert len(capture.packets) == BROADCASTS, f"{BROADCASTS} broadcasts left port1, {len(capture.packets)} arrived"


@FAMILIES
def test_no_leak_after_thousands_of_bridged_packets(lab: Lab, family: int) -> None:
    """C5: bridge data goes with the packet, whether it is forwarded, split or dropped."""
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    count = 2000
    before = slabs.count(dut)
    pings = traffic.flood(client, server.address(family), count=count)
    tracked = {"tracked": "FORWARD -m conntrack --ctstate NEW,ESTABLISHED"}
    with filters.iptables(dut, family, tracked):
        fragmented = traffic.flood(client, server.address(family), count=count // 4, size=3000)
    drop = {"drop": "FORWARD -m physdev --physdev-is-bridged -p udp --dport 5002 -j DROP"}
    with filters.iptables(dut, family, drop) as counts:
        traffic.udp(client, server, server.address(family), size=count * 40, datagram=40, expect=False,
                    stopped=lambda: counts.packets()["drop"])
        dropped = counts.packets()["drop"]
    assert pings.received >= count * 0.9, f"{count} echo requests, saw {pings}"
    assert fragmented.received >= count // 4 * 0.9, f"{count // 4} echo requests in fragments, saw {fragmented}"
    assert dropped == count, f"sent {count} datagrams, the rule dropped {dropped}"
    grown = slabs.left_behind(dut, before, packets=count)
    assert not grown, f"{count} packets of each kind left objects behind: {', '.join(map(str, grown))}"
