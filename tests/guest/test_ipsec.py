# SPDX-License-Identifier: GPL-2.0-only
"""ESP between two machines: whole payload, nothing readable on the wire, policies that hold, and no leaks.

A decrypted packet carries its secpath, which policies and filters read (net/xfrm/xfrm_input.c).
"""

from __future__ import annotations

import re

import pytest

from harness.lab import counters, filters, ipsec, slabs, traffic
from harness.lab.bench import Lab
from harness.lab.capture import capturing
from harness.lab.ipsec import Cipher
from harness.lab.kernel import Kernel
from harness.lab.payload import MARKER
from harness.lab.pcap import ARP, ESP, ICMPV6

pytestmark = [pytest.mark.topology("pair"),
              pytest.mark.needs("XFRM", "XFRM_USER", "XFRM_STATISTICS", "INET_ESP", "INET6_ESP",
                                "NETFILTER_XT_MATCH_POLICY")]

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
MODES = pytest.mark.parametrize("mode", ["transport", "tunnel"])
CIPHERS = pytest.mark.parametrize("cipher", [
    pytest.param(cipher, id=cipher.name, marks=pytest.mark.needs(*cipher.options)) for cipher in ipsec.CIPHERS])
SIZE = 40_000
REQUEST = {4: "-p icmp --icmp-type echo-request", 6: "-p icmpv6 --icmpv6-type echo-request"}
SECPATH = """table inet kph {
    chain input {
        type filter hook input priority 10; policy accept;
        meta l4proto { icmp, ipv6-icmp } meta secpath exists counter comment "protected"
        icmp type echo-request meta secpath missing counter comment "clear-ipv4"
        icmpv6 type echo-request meta secpath missing counter comment "clear-ipv6"
    }
}"""
FRAGMENTS = """table netdev kph {
    chain fragments {
        type filter hook ingress device mirror0 priority 0; policy drop;
        meta protocol ip counter comment "all"
        meta protocol ip meta secpath exists counter comment "secpath"
    }
}"""
BEHIND, ROUTE = "10.79.9.9", "10.79.9.0/24"
"""An address behind machine b, and the way there."""


@CIPHERS
@MODES
@FAMILIES
def test_esp_carries_the_payload_whole_and_hides_it(lab: Lab, family: int, mode: str, cipher: Cipher) -> None:
    # One way by IPv4, the other by IPv6; what was on the wire is what its sender sent.
    sender, receiver = (lab[name] for name in ("ab" if family == 4 else "ba"))
    before = {host.name: counters.xfrm(host) for host in (sender, receiver)}
    with (ipsec.protected(sender, receiver, cipher, mode, family) as esp,
          capturing(sender, sender.dev, sent=True) as capture):
        transfer = traffic.tcp(sender, receiver, esp.other.inner, size=SIZE)
    assert transfer.whole, str(transfer)
    wire = capture.packets
    seen = {packet.spi for packet in wire if packet.protocol == ESP}
    assert seen == {esp.one.spi}, f"expected ESP with SPI {esp.one.spi:#x} on the wire, saw {seen}"
    carried = sum(len(packet.payload) for packet in wire if packet.protocol == ESP)
    assert carried >= SIZE, f"{SIZE} bytes were sent, ESP carried {carried}"
    clear = [packet for packet in wire if packet.protocol not in (ESP, ICMPV6) and packet.ethertype != ARP]
    assert not clear, f"expected only ESP on the wire, saw protocols {sorted({str(p.protocol) for p in clear})}"
    readable = sum(MARKER in packet.frame for packet in wire)
    if cipher.secret:
        assert readable == 0, f"{readable} of {len(wire)} packets on the wire show clear text"
    else:
        # The control of this check: what is not encrypted is found.
        assert readable >= SIZE / 1500, f"the null cipher hides nothing, yet only {readable} packets show their payload"
    for host in (sender, receiver):
        errors = counters.xfrm(host).since(before[host.name]).nonzero
        assert not errors, f"{host.name} counted IPsec errors: {errors}"


@MODES
@FAMILIES
def test_datagrams_pass_whole_also_bigger_than_the_link(lab: Lab, family: int, mode: str) -> None:
    a, b = lab["a"], lab["b"]
    with ipsec.protected(a, b, ipsec.AES_GCM, mode, family) as esp:
        big = traffic.udp(a, b, esp.other.inner, size=SIZE, datagram=4000)
        small = traffic.udp(b, a, esp.one.inner, size=SIZE, datagram=1000)
        there, back = counters.carried(b, esp.one.spi), counters.carried(a, esp.other.spi)
    assert big.whole, f"datagrams of three fragments, a to b: {big}"
    assert small.whole, f"datagrams of 1000 bytes, b to a: {small}"
    assert min(there.bytes, back.bytes) >= SIZE, f"{SIZE} bytes each way, ESP carried {there} to b and {back} to a"


@MODES
@FAMILIES
def test_rules_that_ask_for_the_secpath_count_right(lab: Lab, family: int, mode: str) -> None:
    a, b = lab["a"], lab["b"]
    one = ipsec.ends(a, b, mode, family)[0]
    asked = f"{REQUEST[family]} -s {one.inner}"
    rules = {"policy": f"INPUT -m policy --dir in --pol ipsec --proto esp --mode {mode} {asked}",
             "reqid": f"INPUT -m policy --dir in --pol ipsec --strict --reqid {ipsec.REQID} {asked}",
             "other-reqid": f"INPUT -m policy --dir in --pol ipsec --strict --reqid {ipsec.REQID + 1} {asked}",
             "none": f"INPUT -m policy --dir in --pol none {asked}"}
    with (ipsec.protected(a, b, ipsec.AES_GCM, mode, family) as esp, filters.nftables(b, SECPATH) as nft,
          filters.iptables(b, family, rules) as counts):
        pings = traffic.ping(a, esp.other.inner, count=20)
        saw, secpath = counts.packets(), nft.packets()
    assert pings.whole, f"expected 20 answers, saw {pings}"
    assert secpath["protected"] >= 20, f"nftables: sent 20 in ESP, saw {secpath}"
    assert secpath["clear-ipv4"] == secpath["clear-ipv6"] == 0, f"nftables: sent none in clear text, saw {secpath}"
    expected = {"policy": 20, "reqid": 20, "other-reqid": 0, "none": 0}
    assert saw == expected, f"iptables: sent 20 in ESP, expected {expected}, saw {saw}"


@FAMILIES
def test_clear_text_that_should_be_protected_is_dropped(lab: Lab, family: int) -> None:
    a, b = lab["a"], lab["b"]
    with ipsec.protected(a, b, ipsec.AES_GCM, "transport", family):
        protected = traffic.ping(a, b.address(family), count=10)
        before = counters.xfrm(b)
        a.run("ip", "neigh", "replace", b.address(family), "lladdr",
              b.read(f"/sys/class/net/{b.dev}/address").strip(), "dev", a.dev)
        ipsec.clear(a)
        clear = traffic.ping(a, b.address(family), count=10, wait=1)
        errors = counters.xfrm(b).since(before).nonzero
        a.run("ip", "neigh", "del", b.address(family), "dev", a.dev)
    assert protected.whole, f"with ESP: expected 10 answers, saw {protected}"
    assert (clear.sent, clear.received) == (10, 0), f"without ESP: expected no answer to 10 requests, saw {clear}"
    assert errors.get("XfrmInTmplMismatch", 0) >= 10, f"expected 10 packets refused by policy, saw {errors}"


def test_fragments_of_a_forwarded_packet_keep_its_secpath(lab: Lab, kernel: Kernel) -> None:
    """C12: `ip_copy_metadata()` gives every fragment the extensions. Before the series a secpath was not copied.

    b decrypts, forwards to an interface of a smaller MTU, and shows each fragment to a filter on ingress of another.
    """
    a, b = lab["a"], lab["b"]
    one, other = a.ipv4, b.ipv4
    mine, theirs = ipsec.ends(a, b, "transport", 4)
    tunnel = f"tmpl src {one} dst {other} proto esp reqid {ipsec.REQID} mode tunnel"
    count, per_packet = 30, 3  # 1308 bytes of ICMP at 576 a fragment
    b.shell(f"""ip link add small0 type dummy; ip link add mirror0 type dummy
        ip link set small0 mtu 600 up; ip link set mirror0 up
        ip addr add 10.79.9.1/24 dev small0; ip neigh add {BEHIND} lladdr 02:00:00:00:00:09 dev small0
        echo 1 > /proc/sys/net/ipv4/ip_forward
        tc qdisc add dev small0 clsact
        tc filter add dev small0 egress matchall action mirred ingress mirror dev mirror0""")
    try:
        for host in (a, b):
            ipsec.batch(host, *ipsec.states(ipsec.AES_GCM, "tunnel", mine, theirs))
        ipsec.batch(a, f"route add {ROUTE} via {other}", f"xfrm policy add src {one} dst {ROUTE} dir out {tunnel}")
        ipsec.batch(b, f"xfrm policy add src {one} dst {ROUTE} dir fwd {tunnel}")
        with filters.nftables(b, FRAGMENTS) as nft:
            before = counters.snmp(b)
            sent = traffic.ping(a, BEHIND, count=count, size=1300, wait=1).sent
            made, saw = counters.snmp(b).since(before)["Ip.FragCreates"], nft.packets()
    finally:
        for host in (a, b):
            ipsec.clear(host)
        b.shell("echo 0 > /proc/sys/net/ipv4/ip_forward; ip link del small0; ip link del mirror0")
        a.run("ip", "route", "del", ROUTE)
    assert sent == count, f"expected {count} packets to be sent, saw {sent}"
    assert made == count * per_packet, f"{sent} packets: expected {count * per_packet} fragments, saw {made}"
    assert saw["all"] == made, f"{made} fragments left, the filter saw {saw['all']}"
    expected = made if kernel.patched else 0
    assert saw["secpath"] == expected, f"{kernel.tree}: expected {expected} of {made} fragments with secpath, saw {saw}"


@FAMILIES
def test_no_leak_after_thousands_of_protected_packets(lab: Lab, family: int) -> None:
    """C5: the secpath goes with its packet, and with the last packet its states can go."""
    a, b = lab["a"], lab["b"]
    count = 2000
    before = {host.name: slabs.count(host) for host in (a, b)}
    with ipsec.protected(a, b, ipsec.AES_GCM, "transport", family) as esp:
        pings = traffic.flood(a, b.address(family), count=count)
        drop = {"drop": f"INPUT -s {a.address(family)} -p udp --dport 5002 -j DROP"}
        with filters.iptables(b, family, drop) as counts:
            traffic.udp(a, b, b.address(family), size=count * 40, datagram=40, expect=False,
                        stopped=lambda: counts.packets()["drop"])
            dropped = counts.packets()["drop"]
        carried = counters.carried(b, esp.one.spi).packets
    assert pings.received >= count * 0.9, f"{count} echo requests, saw {pings}"
    assert dropped >= count * 0.9, f"sent {count} datagrams, the rule dropped {dropped}"
    assert carried >= pings.received + dropped, f"{pings.received + dropped} packets arrived, {carried} of them in ESP"
    for host in (a, b):
        grown = slabs.left_behind(host, before[host.name], packets=count)
        assert not grown, f"{host.name}: {count} packets left objects behind: {', '.join(map(str, grown))}"
        held = slabs.left_behind(host, {}, packets=0, caches=re.compile("^xfrm_state$"))
        assert not held, f"{host.name}: no state is configured, yet some are held: {', '.join(map(str, held))}"
