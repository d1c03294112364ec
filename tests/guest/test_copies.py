# SPDX-License-Identifier: GPL-2.0-only
"""Copies of bridged packets: taps, mirrors, groups of taps, macvlans, and what netem loses, doubles and reorders.

client - [port0 dut port1] - server. Each is a way to have several buffers of one packet, which share what is known of
it (`skb_clone()`); none may change what passes, or stay behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

import pytest

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.lab import filters, slabs, traffic
from harness.lab.bench import Host, Lab
from harness.lab.capture import capturing
from harness.lab.namespaces import namespaces
from harness.lab.payload import payload

pytestmark = [pytest.mark.topology("bridge"), pytest.mark.needs("BRIDGE_NETFILTER", "NETFILTER_XT_MATCH_PHYSDEV")]

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
SIZE = 60_000
BIG = 3000
"""A datagram of three fragments."""
ECHO = "-p icmp --icmp-type echo-request"
BROADCAST, PORT, COUNT = "10.77.2.255", 5003, 50
_SOL_PACKET, _PACKET_FANOUT = 263, 18
_BY_TURNS_AND_WHOLE = 0x8001
"""PACKET_FANOUT_LB, and PACKET_FANOUT_FLAG_DEFRAG: include/uapi/linux/if_packet.h, packet(7)."""


def test_copies_everywhere_change_nothing(lab: Lab) -> None:
    """C6: taps on every interface and a mirror clone each packet; payload, rules and slabs are as without them."""
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    match = "-p udp --dport 5002"
    rules = {"there": f"FORWARD -m physdev --physdev-in port0 --physdev-out port1 {match}"}
    length = 200
    datagrams = SIZE // length
    before = slabs.count(dut)
    dut.shell("""ip link add copy0 type dummy; ip link set copy0 up
        tc qdisc add dev port0 clsact
        tc filter add dev port0 ingress matchall action mirred egress mirror dev copy0""")
    try:
        with ExitStack() as stack:
            taps = {name: stack.enter_context(capturing(dut, name, "udp port 5002"))
                    for name in ("port0", "port1", "br0", "copy0")}
            counts = stack.enter_context(filters.iptables(dut, 4, rules))
            transfer = traffic.udp(client, server, server.ipv4, size=SIZE, datagram=length)
            saw = counts.packets()["there"]
    finally:
        dut.shell("tc qdisc del dev port0 clsact; ip link del copy0")
    copies = {name: len(tap.packets) for name, tap in taps.items()}
    assert transfer.whole, str(transfer)
    assert saw == datagrams, f"{datagrams} datagrams, the rule counted {saw}"
    assert copies == {"port0": datagrams, "port1": datagrams, "br0": 0, "copy0": datagrams}, (
        f"{datagrams} datagrams passed, the taps saw {copies}")
    grown = slabs.left_behind(dut, before, packets=2 * datagrams)
    assert not grown, f"copies left objects behind: {', '.join(map(str, grown))}"


@pytest.mark.needs("NET_SCH_NETEM")
def test_what_netem_doubles_and_reorders_leaves_nothing(lab: Lab) -> None:
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    count = 500
    rules = {"there": f"FORWARD -m physdev --physdev-in port0 --physdev-out port1 {ECHO}"}
    before = slabs.count(dut)
    dut.shell("tc qdisc add dev port1 root netem delay 2ms reorder 50% duplicate 100%")
    try:
        with filters.iptables(dut, 4, rules) as counts:
            pings = traffic.flood(client, server.ipv4, count=count)
            saw = counts.packets()["there"]
    finally:
        dut.run("tc", "qdisc", "del", "dev", "port1", "root", deadline=Deadline.after(30))
    assert pings.received == count, f"expected {count} answers, saw {pings}"
    assert pings.duplicates > count / 2, f"each request is doubled, yet {pings}"
    assert saw == count, f"{count} requests, the rule in front of netem counted {saw}"
    grown = slabs.left_behind(dut, before, packets=2 * count)
    assert not grown, f"{count} doubled packets left objects behind: {', '.join(map(str, grown))}"


@contextmanager
def group(host: Host, device: str) -> Iterator[tuple[str, ...]]:
    """Two taps on a device that take its packets by turns, fragments put together for them (packet_rcv_fanout()).

    Only one at a time: what waits for the rest of its packet does so in one place for all groups.

    Returns:
        the files in the guest that the frames of each are written to, one after the other.
    """
    option = int.from_bytes((_BY_TURNS_AND_WHOLE << 16).to_bytes(4, "little"), "little", signed=True)
    files = tuple(f"/tmp/kph-tap-{member}" for member in range(2))
    with ExitStack() as stack:
        stack.callback(host.run, "rm", "-f", *files)
        for file in files:
            tap = host.start("socat", "-u", "-b", 65536,
                             f"INTERFACE:{device},setsockopt-int={_SOL_PACKET}:{_PACKET_FANOUT}:{option}",
                             f"CREATE:{file}")
            stack.callback(tap.stop, Deadline.after(60))
            if not host.until(f"[ -e {file} ]", 10):  # it is opened when the tap has joined
                raise InfraError(f"no tap on {device} that belongs to a group", where=f"machine {host.name}")
        yield files


def datagrams(frames: bytes, length: int) -> list[bytes]:
    """What UDP datagrams of `length` bytes carry, whole, in Ethernet frames that stand one after the other."""
    head = b"\x08\x00\x45\x00" + (20 + 8 + length).to_bytes(2, "big")
    return re.findall(re.escape(head) + rb".{24}(.{%d})" % length, frames, re.DOTALL)


@pytest.mark.parametrize("port", ["port0", "port1"])
def test_a_group_of_taps_has_each_packet_once_and_whole(lab: Lab, port: str) -> None:
    """Copies wait as fragments for the rest of their packet; those that leave the bridge have their ports."""
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    data = payload(SIZE)
    sent = sorted(data[at:at + BIG] for at in range(0, SIZE, BIG))
    rules = {"ports": "FORWARD -m physdev --physdev-in port0 --physdev-out port1 -p udp"}
    with filters.iptables(dut, 4, rules) as counts, group(dut, port) as files:
        transfer = traffic.udp(client, server, server.ipv4, size=SIZE, datagram=BIG)
        late, taps = Deadline.after(10), list[list[bytes]]()
        while sum(map(len, taps)) < len(sent) and not late.expired:
            taps = [datagrams(dut.machine.get(file), BIG) for file in files]
        saw = counts.packets()["ports"]
    shares = [len(tap) for tap in taps]
    assert transfer.whole, str(transfer)
    assert sorted(chain.from_iterable(taps)) == sent, f"{len(sent)} datagrams, the two taps have {shares} of them whole"
    assert min(shares) > len(sent) // 4, f"by turns, yet the two taps have {shares}"
    assert saw == 3 * len(sent), f"{len(sent)} datagrams of three fragments, {saw} had their ports"


@pytest.mark.needs("MACVLAN")
def test_every_macvlan_on_the_bridge_has_a_copy_that_knows_its_port(lab: Lab) -> None:
    """macvlan_broadcast() clones for each; all share the bridge data of the packet that went up.

    In the bridge's own namespace: elsewhere the port's number names nothing, and `physdev` takes that for any port.
    """
    client, dut = lab["client"], lab["dut"]
    data, copies = payload(64 * COUNT), ("copy0", "copy1")
    rules = {f"{copy}-{port}": f"PREROUTING -i {copy} -m physdev --physdev-in {port} -p udp --dport {PORT}"
             for copy in copies for port in ("port0", "port1")}
    expected = {rule: COUNT if rule.endswith("port0") else 0 for rule in rules}
    try:
        for copy in copies:
            dut.shell(f"ip link add {copy} link br0 type macvlan mode bridge; ip link set {copy} up")
        with filters.iptables(dut, 4, rules, table="mangle") as counts, ExitStack() as stack:
            taps = [stack.enter_context(capturing(dut, copy, f"udp port {PORT}")) for copy in copies]
            client.run("socat", "-u", "-b", 64, "STDIN", f"UDP4-DATAGRAM:{BROADCAST}:{PORT},broadcast", stdin=data)
            saw = counts.reach(expected)
    finally:
        for copy in copies:
            dut.run("ip", "link", "del", copy, check=False)
    had = [b"".join(packet.payload[8:] for packet in tap.packets) for tap in taps]
    assert saw == expected, f"{COUNT} broadcasts from port0: expected {expected}, saw {saw}"
    assert had == [data] * 2, f"the taps of the macvlans have {[len(copy) for copy in had]} of {len(data)} bytes"


@pytest.mark.needs("MACVLAN")
def test_a_stream_reaches_a_macvlan_in_another_namespace_whole(lab: Lab) -> None:
    client, dut = lab["client"], lab["dut"]
    with namespaces(dut, "inside") as (inside,):
        dut.shell(f"ip link add copy link br0 netns {inside.space} type macvlan mode bridge")
        inside.shell("ip addr add 10.77.2.101/24 dev copy; ip link set copy up")
        transfer = traffic.tcp(client, inside, "10.77.2.101", size=SIZE)
    assert transfer.whole, str(transfer)


@pytest.mark.needs("NET_SCH_NETEM")
@FAMILIES
def test_what_netem_loses_leaves_nothing_and_a_stream_is_whole(lab: Lab, family: int) -> None:
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    count = 1000
    before = slabs.count(dut)
    with dut.card("port1").netem(loss="30%", duplicate="10%"):
        pings = traffic.flood(client, server.address(family), count=count)
    with dut.card("port1").netem(delay="2ms", loss="5%", duplicate="10%", reorder="25%"):
        transfer = traffic.tcp(client, server, server.address(family), size=SIZE, seconds=60)
    assert pings.received < count * 4 / 5, f"nearly a third is lost, yet {pings}"
    assert pings.received > count / 2, f"no more than a third is lost, yet {pings}"
    assert pings.duplicates, f"a tenth is doubled, yet {pings}"
    assert transfer.whole, str(transfer)
    grown = slabs.left_behind(dut, before, packets=count)
    assert not grown, f"{count - pings.received} lost packets left objects behind: {', '.join(map(str, grown))}"
