# SPDX-License-Identifier: GPL-2.0-only
"""Bridge netfilter where a packet leaves its way: to a program and back, to a log, as ARP or PPPoE, off the bridge.

client - [port0 dut port1] - server. A packet that waits for a verdict keeps its bridge data, and with it both ports
(nf_queue_entry_get_refs() in net/netfilter/nf_queue.c); what is taken from the bridge must not have any.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address

import pytest

from harness.lab import filters, nfnetlink, traffic
from harness.lab.bench import Host, Lab
from harness.lab.capture import capturing
from tests.guest.switches import switched

pytestmark = [pytest.mark.topology("bridge"), pytest.mark.needs("BRIDGE_NETFILTER", "NETFILTER_XT_MATCH_PHYSDEV")]

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
REQUEST = {4: "-p icmp --icmp-type echo-request", 6: "-p icmpv6 --icmpv6-type echo-request"}
ECHO = {4: (20, b"\x08"), 6: (40, b"\x80")}
"""Where the ICMP header begins in a packet without options, and the first byte of an echo request."""
SIZE, BIG = 40_000, 4000
QUEUE, GROUP, PORT, COUNT = 5, 7, 5003, 20
PPPOE = 0x8864
ASKED = 3
"""Questions that arping asks, one each second."""


def number(dut: Host, device: str) -> int:
    """The number of an interface."""
    return int(dut.read(f"/sys/class/net/{device}/ifindex"))


@FAMILIES
@pytest.mark.needs("NETFILTER_XT_TARGET_NFQUEUE")
def test_a_packet_comes_back_from_a_queue_with_its_ports(lab: Lab, family: int) -> None:
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    through = "-m physdev --physdev-is-bridged --physdev-in port0 --physdev-out port1"
    queued = {"request": f"FORWARD {through} {REQUEST[family]} -j NFQUEUE --queue-num {QUEUE}",
              "datagram": f"FORWARD {through} -p udp -j NFQUEUE --queue-num {QUEUE}"}
    later = {"request": f"POSTROUTING {through} {REQUEST[family]}"}
    with (nfnetlink.queue(dut, QUEUE) as queue, filters.iptables(dut, family, queued) as before,
          filters.iptables(dut, family, later, "mangle") as after):
        pings = traffic.ping(client, server.address(family), count=COUNT)
        saw = before.packets()["request"], after.packets()["request"], queue.state.total
        transfer = traffic.udp(client, server, server.address(family), size=SIZE, datagram=BIG)
        state = queue.state
    assert pings.whole, f"expected {COUNT} answers, saw {pings}"
    assert saw == (COUNT, COUNT, COUNT), f"{COUNT} requests: handed over, seen with both ports later, in queue: {saw}"
    assert transfer.whole, f"datagrams of three fragments through a queue: {transfer}"
    assert state.total >= COUNT + SIZE // BIG, state
    assert (state.waiting, state.dropped) == (0, 0), state


@pytest.mark.parametrize(("family", "port"), [(4, "port0"), (6, "port1")], ids=["ipv4-port0", "ipv6-port1"])
@pytest.mark.needs("NETFILTER_XT_TARGET_NFQUEUE")
def test_what_waits_goes_with_either_port(lab: Lab, family: int, port: str) -> None:
    """The hook has the bridge for both interfaces: only bridge data tells of the ports (dev_cmp(), nfnetlink_queue)."""
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    rules = {"request": f"FORWARD -m physdev --physdev-is-bridged {REQUEST[family]} -j NFQUEUE --queue-num {QUEUE}"}
    with nfnetlink.queue(dut, QUEUE) as queue, filters.iptables(dut, family, rules):
        assert traffic.ping(client, server.address(family), count=3).whole
        with queue.held():
            pings = traffic.ping(client, server.address(family), count=COUNT, wait=0.5)
            waiting = queue.state.waiting
            try:
                dut.run("ip", "link", "set", port, "down")
                gone = queue.waits(0, 5)
                left = queue.state
            finally:
                dut.run("ip", "link", "set", port, "up")
                assert dut.until(f"bridge link show dev {port} | grep -q forwarding", 20)
        assert client.until(f"ping -c 1 -W 1 {server.address(family)}", 20)
        again = traffic.ping(client, server.address(family), count=COUNT)
    assert pings.received == 0, pings
    assert waiting == COUNT, f"{COUNT} requests wait for a verdict, the kernel says {waiting}"
    assert gone, f"{port} is down and its packets still wait: {left}"
    assert again.whole, f"after {port} is up again: {again}"


@FAMILIES
@pytest.mark.needs("NETFILTER_XT_TARGET_NFLOG")
def test_a_log_names_both_ports(lab: Lab, family: int) -> None:
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    # Without the threshold the kernel keeps what it has logged for up to a second.
    target = f"{REQUEST[family]} -j NFLOG --nflog-group {GROUP} --nflog-threshold 1 --nflog-prefix"
    rules = {"bridged": f"FORWARD {target} bridged", "local": f"INPUT {target} local"}
    with filters.iptables(dut, family, rules), nfnetlink.logging(dut, GROUP) as log:
        assert traffic.ping(client, server.address(family), count=COUNT).whole
        assert traffic.ping(client, dut.address(family), count=COUNT).whole
    port0, port1, bridge = (number(dut, device) for device in ("port0", "port1", "br0"))
    at, first = ECHO[family]
    saw = {(packet.prefix, packet.indev, packet.physindev, packet.outdev, packet.physoutdev,
            packet.payload[at:at + 1]) for packet in log.packets}
    assert saw == {("bridged", bridge, port0, bridge, port1, first), ("local", bridge, port0, 0, 0, first)}
    assert len(log.packets) == 2 * COUNT, f"expected {COUNT} of each, saw {len(log.packets)}"


@FAMILIES
@pytest.mark.needs("NETFILTER_XT_TARGET_NFLOG", "NFT_LOG", "NETFILTER_EGRESS")
def test_what_has_left_the_bridge_knows_of_no_ports(lab: Lab, family: int) -> None:
    """Bridge data ends where the bridge hands the packet to its port's queue (br_nf_dev_queue_xmit())."""
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    rules = {"bridged": f"FORWARD {REQUEST[family]} -j NFLOG --nflog-group {GROUP} --nflog-threshold 1 "
                        "--nflog-prefix bridged"}
    asked = {4: "icmp", 6: "icmpv6"}[family]
    behind = f"""
        table netdev behind {{
            chain egress {{
                type filter hook egress device port1 priority 0
                {asked} type echo-request counter log group {GROUP} queue-threshold 1 prefix "behind" comment "behind"
            }}
        }}"""
    with (filters.iptables(dut, family, rules), filters.nftables(dut, behind) as counts,
          nfnetlink.logging(dut, GROUP) as log):
        assert traffic.ping(client, server.address(family), count=COUNT).whole
        counted = counts.packets()["behind"]
    port0, port1, bridge = (number(dut, device) for device in ("port0", "port1", "br0"))
    saw = {(packet.prefix, packet.indev, packet.physindev, packet.outdev, packet.physoutdev) for packet in log.packets}
    wanted = {("bridged", bridge, port0, bridge, port1), ("behind", 0, 0, port1, 0)}
    assert saw == wanted, f"in, by port, out, by port: expected {sorted(wanted)}, saw {sorted(saw)}"
    assert counted == COUNT, f"{COUNT} requests left by port1, the rule counted {counted}"


@contextmanager
def arptables(dut: Host, *rules: str) -> Iterator[None]:
    """Rules of the table `filter` of arptables for a block."""
    try:
        for rule in rules:
            dut.run("arptables", *rule.split())
        yield
    finally:
        dut.run("arptables", "-F")


def arping(client: Host, address: str) -> int:
    """Ask `ASKED` times who has an address; how many answers came."""
    done = client.run("arping", "-c", ASKED, "-w", 10 * ASKED, "-I", client.dev, address, check=False)
    found = re.search(r"Received (\d+) respon", done.stdout)
    assert found, done.stdout + done.stderr
    return int(found[1])


@pytest.mark.needs("IP_NF_ARPFILTER")
@pytest.mark.parametrize("shown", [1, 0], ids=["shown", "hidden"])
def test_forwarded_arp_is_filtered_by_port_where_the_switch_says_so(lab: Lab, shown: int) -> None:
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    through = "-A FORWARD --opcode 1 -i port0 -o"
    with switched(dut, call_arptables=shown):
        with arptables(dut, f"{through} port1 -j ACCEPT", f"{through} port0 -j ACCEPT"):
            answers = arping(client, server.ipv4)
            listed = dut.run("arptables", "-L", "FORWARD", "-n", "-v").stdout
        with arptables(dut, f"{through} port1 -j DROP"):
            refused = arping(client, server.ipv4)
    saw = [int(count) for count in re.findall(r"pcnt=(\d+)", listed)]
    assert answers == ASKED, f"expected {ASKED} answers, saw {answers}"
    assert saw == [ASKED * shown, 0], f"{ASKED} requests from port0 to port1, switch {shown}: rules counted {saw}"
    assert refused == ASKED * (not shown), f"dropped by rule, switch {shown}: {refused} of {ASKED} were answered"


def in_pppoe(client: Host, server: Host, payload: bytes) -> bytes:
    """A frame with a datagram in a PPPoE session (RFC 2516), as a client of an access concentrator sends it."""
    def mac(host: Host) -> bytes:
        return bytes.fromhex(host.read(f"/sys/class/net/{host.dev}/address").strip().replace(":", ""))

    udp = struct.pack("!HHHH", PORT, PORT, 8 + len(payload), 0) + payload
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, socket.IPPROTO_UDP, 0,
                         IPv4Address(client.ipv4).packed, IPv4Address(server.ipv4).packed)
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    packet = header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:] + udp
    session = struct.pack("!BBHHH", 0x11, 0, 1, 2 + len(packet), 0x0021)
    return mac(server) + mac(client) + struct.pack("!H", PPPOE) + session + packet


@pytest.mark.parametrize("shown", [1, 0], ids=["shown", "hidden"])
def test_what_is_in_pppoe_is_filtered_where_the_switch_says_so(lab: Lab, shown: int) -> None:
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    frame = in_pppoe(client, server, b"in a session " * 20)
    client.machine.put("/tmp/frame", frame)
    rules = {"inside": f"FORWARD -m physdev --physdev-in port0 --physdev-out port1 -p udp --dport {PORT}"}
    send = f"for i in $(seq {COUNT}); do socat -u -b 2000 FILE:/tmp/frame INTERFACE:{client.dev}; done"
    with switched(dut, filter_pppoe_tagged=shown):
        with filters.iptables(dut, 4, rules) as counts, capturing(server, server.dev, "pppoes") as capture:
            client.shell(send)
            assert traffic.ping(client, server.ipv4, count=3).whole
            saw = counts.packets()["inside"]
        with (filters.iptables(dut, 4, {name: f"{rule} -j DROP" for name, rule in rules.items()}) as dropped,
              capturing(server, server.dev, "pppoes") as stopped):
            client.shell(send)
            assert traffic.ping(client, server.ipv4, count=3).whole
            refused = dropped.packets()["inside"]
    assert saw == COUNT * shown, f"{COUNT} datagrams in PPPoE, switch {shown}: the rule counted {saw}"
    assert [packet.frame for packet in capture.packets] == [frame] * COUNT, "other frames arrived than were sent"
    assert (refused, len(stopped.packets)) == (COUNT * shown, COUNT * (not shown))


@contextmanager
def ebtables(dut: Host, table: str, rule: str) -> Iterator[None]:
    """A rule of the bridge's own tables for a block."""
    dut.run("ebtables", "-t", table, "-A", *rule.split())
    try:
        yield
    finally:
        dut.run("ebtables", "-t", table, "-F")


@pytest.mark.needs("BRIDGE_EBT_BROUTE", "BRIDGE_EBT_IP", "BRIDGE_EBT_REDIRECT")
def test_a_frame_that_is_taken_from_the_bridge_has_no_port(lab: Lab) -> None:
    client, dut = lab["client"], lab["dut"]
    rules = {"port": f"INPUT -i port0 {REQUEST[4]}", "bridge": f"INPUT -i br0 {REQUEST[4]}",
             "bridged": f"INPUT -m physdev --physdev-in port0 {REQUEST[4]}"}
    saw = {}
    brouting = "BROUTING -i port0 -p ipv4 --ip-protocol icmp -j redirect --redirect-target DROP"
    for taken in (True, False):
        with ExitStack() as stack:
            if taken:
                stack.enter_context(ebtables(dut, "broute", brouting))
            counts = stack.enter_context(filters.iptables(dut, 4, rules))
            pings = traffic.ping(client, dut.ipv4, count=COUNT)
            saw[taken] = counts.packets()
        assert pings.whole, f"taken from the bridge {taken}: {pings}"
    assert saw == {True: {"port": COUNT, "bridge": 0, "bridged": 0},
                   False: {"port": 0, "bridge": COUNT, "bridged": COUNT}}


@pytest.mark.needs("BRIDGE_EBT_T_FILTER", "BRIDGE_EBT_IP")
def test_what_the_bridge_drops_iptables_does_not_see(lab: Lab) -> None:
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    with filters.iptables(dut, 4, {"seen": f"FORWARD {REQUEST[4]}"}) as counts:
        with ebtables(dut, "filter", "FORWARD -i port0 -o port1 -p ipv4 --ip-protocol icmp -j DROP"):
            stopped = traffic.ping(client, server.ipv4, count=COUNT, wait=0.5)
            saw = counts.packets()["seen"]
            listed = dut.run("ebtables", "-t", "filter", "-L", "FORWARD", "--Lc").stdout
        pings = traffic.ping(client, server.ipv4, count=COUNT)
        later = counts.packets()["seen"]
    counted = re.search(rf"pcnt = {COUNT}\b", listed)
    assert counted, f"expected {COUNT} packets dropped: {listed}"
    assert (stopped.received, saw) == (0, 0), f"{stopped}, iptables saw {saw}"
    assert pings.whole, str(pings)
    assert later == COUNT, f"without the rule: iptables saw {later} of {COUNT}"
