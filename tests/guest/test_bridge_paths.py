# SPDX-License-Identifier: GPL-2.0-only
"""Bridge netfilter on the less travelled paths: switches, VLANs, ports, hairpins, refusals, local delivery.

client - [port0 dut port1] - server. Each is a way by which bridge data comes to a packet, is cloned with it or must not
be seen (net/bridge/br_netfilter_hooks.c, net/bridge/netfilter).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.lab import counters, filters, traffic
from harness.lab.bench import Host, Lab
from harness.lab.capture import capturing
from harness.lab.namespaces import Namespace, namespaces
from harness.lab.pcap import UDP
from tests.guest.switches import switched

pytestmark = [pytest.mark.topology("bridge"), pytest.mark.needs("BRIDGE_NETFILTER", "NETFILTER_XT_MATCH_PHYSDEV")]

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
REQUEST = {4: "-p icmp --icmp-type echo-request", 6: "-p icmpv6 --icmpv6-type echo-request"}
SIZE = 60_000
BIG = 4000
"""A datagram of three fragments."""
BROADCAST, PORT, COUNT = "10.77.2.255", 5003, 50


def broadcast(client: Host) -> None:
    """Send `COUNT` datagrams to everybody."""
    client.run("socat", "-u", "-b", 16, "STDIN", f"UDP4-DATAGRAM:{BROADCAST}:{PORT},broadcast",
               stdin=b"sixteen bytes..." * COUNT)


@FAMILIES
def test_the_switch_hides_packets_from_iptables(lab: Lab, family: int) -> None:
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    rules = {"seen": f"FORWARD -m physdev --physdev-is-bridged {REQUEST[family]}"}
    saw = []
    for value in (1, 0, 1):
        switch = {"call_iptables" if family == 4 else "call_ip6tables": value}
        with switched(dut, **switch), filters.iptables(dut, family, rules) as counts:
            pings = traffic.ping(client, server.address(family), count=20)
            saw.append(counts.packets()["seen"])
        assert pings.whole, f"switch {value}: expected 20 answers, saw {pings}"
    assert saw == [20, 0, 20], f"20 requests each with the switch on, off and on again: {saw}"


@contextmanager
def vlan(hosts: tuple[Host, Host], tag: int) -> Iterator[tuple[str, str]]:
    """A VLAN between two hosts; their addresses in it."""
    addresses = ("10.77.50.1", "10.77.50.2")
    try:
        for host, address in zip(hosts, addresses, strict=True):
            host.shell(f"ip link add vlan0 link {host.dev} type vlan id {tag}; ip addr add {address}/24 dev vlan0\n"
                       "ip link set vlan0 up")
        yield addresses
    finally:
        for host in hosts:
            host.run("ip", "link", "del", "vlan0", check=False)


@pytest.mark.needs("VLAN_8021Q")
@pytest.mark.parametrize("shown", [1, 0], ids=["shown", "hidden"])
def test_packets_in_a_vlan_are_filtered_where_the_switch_says_so(lab: Lab, shown: int) -> None:
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    with vlan((client, server), 7) as (_, far), switched(dut, filter_vlan_tagged=shown):
        rules = {"tagged": f"FORWARD -m physdev --physdev-in port0 --physdev-out port1 -d {far} {REQUEST[4]}"}
        with filters.iptables(dut, 4, rules) as counts:
            pings = traffic.ping(client, far, count=20)
            saw = counts.packets()["tagged"]
        transfer = traffic.udp(client, server, far, size=SIZE, datagram=BIG)
    assert pings.whole, f"expected 20 answers, saw {pings}"
    assert saw == 20 * shown, f"20 requests in a VLAN, switch {shown}: the rule counted {saw}"
    assert transfer.whole, f"datagrams of three fragments in a VLAN: {transfer}"


def test_each_of_many_ports_sees_its_own_name(lab: Lab) -> None:
    """C7: a flooded frame is cloned for every port, and each clone notes another output port."""
    client, dut = lab["client"], lab["dut"]
    more = [f"more{number}" for number in range(4)]
    ports = ["port1", *more]
    rules = {f"out-{port}": f"FORWARD -m physdev --physdev-in port0 --physdev-out {port} -p udp --dport {PORT}"
             for port in ports}
    rules["up"] = f"INPUT -m physdev --physdev-in port0 -p udp --dport {PORT}"
    rules["up-with-port"] = f"INPUT -m physdev --physdev-is-bridged -p udp --dport {PORT}"
    try:
        for port in more:
            dut.shell(f"ip link add {port} type veth peer name {port}-end\n"
                      f"ip link set {port} master br0 up; ip link set {port}-end up")
        assert dut.until(" && ".join(f"bridge link show dev {port} | grep -q forwarding" for port in more), 10)
        with filters.iptables(dut, 4, rules) as counts:
            broadcast(client)
            saw = counts.reach({"up": COUNT})
    finally:
        for port in more:
            dut.run("ip", "link", "del", port, check=False)
    expected = {**{f"out-{port}": COUNT for port in ports}, "up": COUNT, "up-with-port": 0}
    assert saw == expected, f"{COUNT} broadcasts: expected {expected}, saw {saw}"


@pytest.mark.parametrize("hairpin", ["on", "off"])
def test_a_hairpin_port_is_input_and_output(lab: Lab, hairpin: str) -> None:
    client, dut = lab["client"], lab["dut"]
    rules = {"back": f"FORWARD -m physdev --physdev-in port0 --physdev-out port0 -p udp --dport {PORT}",
             "on": f"FORWARD -m physdev --physdev-in port0 --physdev-out port1 -p udp --dport {PORT}"}
    dut.run("bridge", "link", "set", "dev", "port0", "hairpin", hairpin)
    try:
        with filters.iptables(dut, 4, rules) as counts:
            broadcast(client)
            saw = counts.reach({"on": COUNT})
    finally:
        dut.run("bridge", "link", "set", "dev", "port0", "hairpin", "off")
    expected = {"back": COUNT if hairpin == "on" else 0, "on": COUNT}
    assert saw == expected, f"{COUNT} broadcasts, hairpin {hairpin}: expected {expected}, saw {saw}"


def test_a_refusal_goes_back_over_the_bridge(lab: Lab) -> None:
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    rules = {"refused": "FORWARD -m physdev --physdev-in port0 --physdev-out port1 -p tcp --dport 5011 "
                        "-j REJECT --reject-with tcp-reset"}
    with filters.iptables(dut, 4, rules) as counts:
        tries = [client.run("socat", "-u", "STDIN", f"TCP4:{server.ipv4}:5011,connect-timeout=5", check=False)
                 for _ in range(5)]
        saw = counts.packets()["refused"]
    said = {done.stderr.strip().rpartition(": ")[2] for done in tries}
    assert said == {"Connection refused"}, f"expected each of 5 connections to be refused at once, saw {said}"
    assert saw == 5, f"5 connections, the rule counted {saw}"


def test_what_is_rewritten_to_the_bridge_is_delivered_there(lab: Lab) -> None:
    """DNAT to the bridge's own address: a bridged packet becomes a local one."""
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    nat = {"here": f"PREROUTING -m physdev --physdev-in port0 -d {server.ipv4} -p tcp --dport 5001 "
                   f"-j DNAT --to-destination {dut.ipv4}"}
    rules = {"local": "INPUT -m physdev --physdev-in port0 -p tcp --dport 5001 -m conntrack --ctstate DNAT"}
    with filters.iptables(dut, 4, nat, table="nat") as rewritten, filters.iptables(dut, 4, rules) as counts:
        transfer = traffic.tcp(client, dut, server.ipv4, size=SIZE)
        saw, once = counts.read()["local"].bytes, rewritten.packets()["here"]
    assert transfer.whole, str(transfer)
    assert once == 1, f"one connection was rewritten, the rule counted {once}"
    assert saw > SIZE, f"{SIZE} bytes and their headers went to the bridge, the rule counted {saw}"


BRIDGE_FAMILY = """table bridge kph {
    chain forward {
        type filter hook forward priority 10; policy accept;
        iifname "port0" oifname "port1" ip protocol icmp icmp type echo-request counter comment "there"
        iifname "port1" oifname "port0" ip protocol icmp icmp type echo-reply counter comment "back"
        iifname "port1" oifname "port1" counter comment "nowhere"
        ct state new,established ip protocol udp counter comment "tracked"
    }
}"""


@pytest.mark.needs("NF_TABLES_BRIDGE")
def test_the_bridge_family_of_nftables_counts_beside_iptables(lab: Lab) -> None:
    """Behind bridge netfilter, whose hook has priority 0 and goes on with those that come after it."""
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    rules = {"there": f"FORWARD -m physdev --physdev-in port0 --physdev-out port1 {REQUEST[4]}"}
    with filters.nftables(dut, BRIDGE_FAMILY) as nft, filters.iptables(dut, 4, rules) as counts:
        pings = traffic.ping(client, server.ipv4, count=40)
        saw, physdev = nft.packets(), counts.packets()["there"]
    assert pings.whole, f"expected 40 answers, saw {pings}"
    assert (saw["there"], saw["back"], saw["nowhere"]) == (40, 40, 0), f"40 requests and answers, nftables saw {saw}"
    assert physdev == 40, f"40 requests, iptables saw {physdev}"


@pytest.mark.needs("NF_CONNTRACK_BRIDGE")
def test_conntrack_of_the_bridge_splits_again_what_it_put_together(lab: Lab) -> None:
    """nf_conntrack_bridge reassembles and refragments by itself, with iptables switched off."""
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    datagrams = SIZE // BIG
    with (switched(dut, call_iptables=0), filters.nftables(dut, BRIDGE_FAMILY) as nft,
          capturing(server, server.dev) as capture):
        transfer = traffic.udp(client, server, server.ipv4, size=SIZE, datagram=BIG)
        tracked = nft.packets()["tracked"]
    fragments = [packet for packet in capture.packets if packet.protocol == UDP and packet.fragment is not None
                 and str(packet.destination) == server.ipv4]
    assert transfer.whole, str(transfer)
    assert tracked == datagrams, f"{datagrams} datagrams of three fragments, conntrack saw {tracked}"
    assert len(fragments) == 3 * datagrams, f"expected {3 * datagrams} fragments to arrive, saw {len(fragments)}"


DROP = """table bridge kph {
    chain forward {
        type filter hook forward priority %d; policy accept;
        iifname "port0" ip protocol udp udp dport 5002 counter drop comment "drop"
    }
}"""


@pytest.mark.needs("NF_TABLES_BRIDGE")
@pytest.mark.parametrize("priority", [-10, 10], ids=["before", "behind"])
def test_a_rule_of_the_bridge_family_drops_what_it_names(lab: Lab, priority: int) -> None:
    """Before bridge netfilter's hook and behind it: a packet that is dropped there has its bridge data."""
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    rules = {"there": "FORWARD -m physdev --physdev-in port0 --physdev-out port1 -p udp --dport 5002"}
    with filters.nftables(dut, DROP % priority) as nft, filters.iptables(dut, 4, rules) as counts:
        stopped = traffic.udp(client, server, server.ipv4, size=SIZE, datagram=1000, expect=False)
        back = traffic.udp(server, client, client.ipv4, size=SIZE, datagram=1000)
        dropped, seen = nft.packets()["drop"], counts.packets()["there"]
    passed = traffic.udp(client, server, server.ipv4, size=SIZE, datagram=1000)
    sent = SIZE // 1000
    assert stopped.received == 0, f"expected nothing to pass the rule, saw {stopped}"
    assert (dropped, seen) == (sent, 0 if priority < 0 else sent), f"{sent} datagrams, dropped {dropped}, seen {seen}"
    assert back.whole, f"the other way, which the rule does not name: {back}"
    assert passed.whole, f"without the rule: {passed}"


def test_a_bridge_in_a_namespace_has_rules_of_its_own(lab: Lab) -> None:
    dut = lab["dut"]
    rules = {"in-out": f"FORWARD -m physdev --physdev-in left0 --physdev-out right0 {REQUEST[4]}"}
    outside = {"any": f"FORWARD -m physdev --physdev-is-bridged {REQUEST[4]}"}
    with namespaces(dut, "left", "mid", "right") as (left, mid, right):
        mid.run("ip", "-batch", "-", stdin=b"""link add br1 type bridge forward_delay 0 stp_state 0
            link set br1 up
            link add left0 type veth peer name end netns left
            link add right0 type veth peer name end netns right
            link set left0 master br1 up
            link set right0 master br1 up
            """)
        for space, address in ((left, "10.77.60.1"), (right, "10.77.60.2")):
            space.shell(f"ip addr add {address}/24 dev end; ip link set end up")
        for port in ("left0", "right0"):
            _await(mid, f"bridge link show dev {port} | grep -q forwarding")
        with filters.iptables(mid, 4, rules) as counts, filters.iptables(dut, 4, outside) as host:
            pings = traffic.ping(left, "10.77.60.2", count=20)
            saw, seen_outside = counts.packets()["in-out"], host.packets()["any"]
    assert pings.whole, f"expected 20 answers, saw {pings}"
    assert saw == 20, f"20 requests through the namespace's bridge, its rule counted {saw}"
    assert seen_outside == 0, f"a rule outside the namespace counted {seen_outside} of its packets"


def _await(space: Namespace, condition: str) -> None:
    assert space.until(condition, 10), f"{space.name}: {condition} does not come true"


@FAMILIES
def test_counters_of_protocols_show_no_error(lab: Lab, family: int) -> None:
    """What a rule sees is what arrives: no checksum error, no discard, on either side of the bridge."""
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    bad = ("Udp.InCsumErrors", "Tcp.InCsumErrors", "Ip.InHdrErrors", "Udp.InErrors") if family == 4 else (
        "Udp6InCsumErrors", "Ip6InHdrErrors", "Udp6InErrors")
    before = {host.name: counters.snmp(host) for host in (client, dut, server)}
    rules = {"tracked": "FORWARD -m conntrack --ctstate NEW,ESTABLISHED"}
    with filters.iptables(dut, family, rules):
        transfer = traffic.udp(client, server, server.address(family), size=SIZE, datagram=BIG)
        back = traffic.tcp(server, client, client.address(family), size=SIZE)
    grown = {f"{host.name} {name}": counters.snmp(host).since(before[host.name])[name]
             for host in (client, dut, server) for name in bad}
    assert transfer.whole, str(transfer)
    assert back.whole, str(back)
    assert not any(grown.values()), f"errors were counted: {grown}"
