# SPDX-License-Identifier: GPL-2.0-only
"""ESP on the less travelled paths: nested, across families, in UDP, by interface, replayed, rekeyed, to hardware.

Each is a way by which a secpath comes to a packet, is copied or must go (net/xfrm, net/ipv4/esp4.c).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from harness.deadline import Deadline
from harness.lab import counters, filters, ipsec, traffic
from harness.lab.bench import Host, Lab
from harness.lab.capture import capturing
from harness.lab.namespaces import namespaces, veth
from harness.lab.payload import MARKER
from harness.lab.pcap import ESP, UDP

pytestmark = [pytest.mark.topology("pair"),
              pytest.mark.needs("XFRM", "XFRM_USER", "XFRM_STATISTICS", "INET_ESP", "INET6_ESP",
                                "NETFILTER_XT_MATCH_POLICY")]

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
SIZE = 40_000
FIFO = "/tmp/kph-keys"
INNER = {4: ("10.78.1.1", "10.78.1.2"), 6: ("fd78:1::1", "fd78:1::2")}
REQUEST = "-p icmp --icmp-type echo-request"


@contextmanager
def prepared(hosts: tuple[Host, ...], setup: tuple[list[str], ...]) -> Iterator[None]:
    """Run `ip` commands on the hosts; states and policies go when the block ends."""
    try:
        for host, lines in zip(hosts, setup, strict=True):
            ipsec.batch(host, *lines)
        yield
    finally:
        for host in hosts:
            ipsec.clear(host)


def sa(source: str, sink: str, spi: int, more: str, cipher: ipsec.Cipher = ipsec.AES_GCM) -> str:
    """A state, with `more` words: mode, reqid, window and the like."""
    return f"xfrm state add src {source} dst {sink} proto esp spi {spi:#x} {more} {ipsec.key(cipher, spi)}"


def policy(way: str, source: str, sink: str, outer: tuple[str, str] | None = None, mode: str = "transport",
           more: str = "") -> str:
    """A policy for what goes from `source` to `sink`, protected between the addresses `outer`, or between the same."""
    start, end = outer or (source, sink)
    return (f"xfrm policy add src {source} dst {sink} dir {way} {more} "
            f"tmpl src {start} dst {end} proto esp reqid 1 mode {mode}")


@pytest.mark.parametrize(("inner", "outer"), [(4, 6), (6, 4)], ids=["4-in-6", "6-in-4"])
def test_a_tunnel_of_one_family_carries_the_other(lab: Lab, inner: int, outer: int) -> None:
    a, b = lab["a"], lab["b"]
    near, far = INNER[inner]
    one, other = a.address(outer), b.address(outer)
    word, length = ("", 32) if inner == 4 else (" nodad", 128)

    def side(mine: str, theirs: str, own: Host) -> list[str]:
        local, remote = (one, other) if own is a else (other, one)
        return [sa(one, other, 0x7801, "reqid 1 mode tunnel flag af-unspec"),
                sa(other, one, 0x7802, "reqid 1 mode tunnel flag af-unspec"),
                f"addr add {mine}/{length} dev lo{word}", f"route add {theirs}/{length} dev {own.dev} src {mine}",
                policy("out", mine, theirs, (local, remote), "tunnel"),
                policy("in", theirs, mine, (remote, local), "tunnel")]

    try:
        with (prepared((a, b), (side(near, far, a), side(far, near, b))),
              capturing(a, a.dev, sent=True) as capture):
            transfer = traffic.tcp(a, b, far, size=SIZE)
            pings = traffic.ping(a, far, count=10)
    finally:
        for host, mine, theirs in ((a, near, far), (b, far, near)):
            host.shell(f"ip addr del {mine}/{length} dev lo; ip -{inner} route del {theirs}/{length} dev {host.dev}",
                       check=False)
    assert transfer.whole, str(transfer)
    assert pings.whole, f"expected 10 answers, saw {pings}"
    esp = [packet for packet in capture.packets if packet.protocol == ESP]
    assert {str(packet.source) for packet in esp} == {one}, f"expected ESP from {one} only, saw {len(esp)} packets"
    assert sum(len(packet.payload) for packet in esp) >= SIZE
    assert not any(MARKER in packet.frame for packet in capture.packets), "clear text on the wire"


@pytest.mark.parametrize("depth", [2, 4, 5])
def test_esp_in_esp_has_a_secpath_of_that_length(lab: Lab, depth: int) -> None:
    """Up to the five transforms that xfrm_tmpl_resolve() allows for one packet: the match sees each of them, in order.

    Without GRO: with it Linux 6.1 refuses ESP in ESP (XfrmInError), before the series as well. The match knows no more
    than four elements (XT_POLICY_MAX_ELEM in include/uapi/linux/netfilter/xt_policy.h); policies know all.
    """
    a, b = lab["a"], lab["b"]
    one, other, matched = a.ipv4, b.ipv4, min(depth, 4)

    def chain(way: str, source: str, sink: str, last: int = depth) -> str:
        elements = (f"tmpl src {source} dst {sink} proto esp reqid {number} mode transport"
                    for number in (*range(1, depth), last))
        return f"xfrm policy add src {source} dst {sink} dir {way} {' '.join(elements)}"

    states = [sa(source, sink, first + number, f"reqid {number} mode transport")
              for source, sink, first in ((one, other, 0x7910), (other, one, 0x7920)) for number in range(1, depth + 1)]
    setup = ([*states, chain("out", one, other), chain("in", other, one)],
             [*states, chain("out", other, one), chain("in", one, other)])
    strict = [" --next ".join(f"--reqid {number} --proto esp" for number in range(1, length + 1))
              for length in (matched, matched - 1)]
    rules = {"all": f"INPUT -m policy --dir in --pol ipsec --strict {strict[0]} {REQUEST}",
             "one-less": f"INPUT -m policy --dir in --pol ipsec --strict {strict[1]} {REQUEST}",
             "any": f"INPUT -m policy --dir in --pol ipsec {REQUEST}"}
    before = counters.xfrm(b)
    for host in (a, b):
        host.shell(f"ethtool -K {host.dev} gro off")
    try:
        with prepared((a, b), setup), filters.iptables(b, 4, rules) as counts:
            pings = traffic.ping(a, other, count=20)
            transfer = traffic.tcp(a, b, other, size=SIZE)
            saw = counts.packets()
            b.run("ip", "xfrm", "policy", "delete", "src", one, "dst", other, "dir", "in")
            ipsec.batch(b, chain("in", one, other, 99))
            wrong = traffic.ping(a, other, count=5, wait=1)
            refused = counters.xfrm(b).since(before).nonzero
    finally:
        for host in (a, b):
            host.shell(f"ethtool -K {host.dev} gro on")
    assert pings.whole, f"expected 20 answers, saw {pings}"
    assert transfer.whole, str(transfer)
    expected = {"all": 20 if matched == depth else 0, "one-less": 0, "any": 20}
    assert saw == expected, f"20 packets through {depth} transforms: expected {expected}, the policy match saw {saw}"
    assert (wrong.sent, wrong.received) == (5, 0), f"another last transform is asked for, saw {wrong}"
    assert refused == {"XfrmInTmplMismatch": 5}, f"expected 5 packets refused by policy, saw {refused}"


@pytest.mark.parametrize("window", [0, 32])
def test_what_is_sent_twice_is_taken_once(lab: Lab, window: int) -> None:
    """netem sends every frame twice: with a replay window the second is refused, and without one it is answered."""
    a, b = lab["a"], lab["b"]
    one, other, count = a.ipv4, b.ipv4, 20
    mode = "reqid 1 mode transport"
    states = [sa(one, other, 0x7a01, f"{mode} replay-window {window}"), sa(other, one, 0x7a02, mode)]
    setup = ([*states, policy("out", one, other)], [*states, policy("out", other, one)])
    before = counters.xfrm(b)
    with prepared((a, b), setup):
        a.run("tc", "qdisc", "add", "dev", a.dev, "root", "netem", "duplicate", "100%")
        try:
            pings = traffic.ping(a, other, count=count)
            refused = counters.xfrm(b).since(before)["XfrmInStateSeqError"]
            taken = counters.carried(b, 0x7a01).packets
        finally:
            a.run("tc", "qdisc", "del", "dev", a.dev, "root")
    assert pings.received == count, f"expected {count} answers, saw {pings}"
    expected = count if window else 0
    assert refused == expected, f"{count} packets sent twice: expected {expected} refused, saw {refused}"
    assert taken == 2 * count - expected, f"{count} packets sent twice in ESP, {refused} refused: saw {taken} taken"
    assert bool(pings.duplicates) is not bool(window), f"window {window}: saw {pings}"


def test_rekeying_under_load_loses_nothing(lab: Lab) -> None:
    """States come and go while a transfer uses them; packets on their way hold references to the old ones."""
    a, b = lab["a"], lab["b"]
    one, other, rounds, part = a.ipv4, b.ipv4, 8, 400_000

    def states(number: int) -> list[str]:
        return [sa(one, other, 0x7b00 + number, "reqid 1 mode transport"),
                sa(other, one, 0x7b80 + number, "reqid 1 mode transport")]

    def gone(number: int) -> list[str]:
        return [f"xfrm state delete src {one} dst {other} proto esp spi {0x7b00 + number:#x}",
                f"xfrm state delete src {other} dst {one} proto esp spi {0x7b80 + number:#x}"]

    setup = ([*states(0), policy("out", one, other)], [*states(0), policy("out", other, one)])
    with prepared((a, b), setup), capturing(a, a.dev, "esp", sent=True) as capture:
        to = f"TCP4:{other}:5005,retry=20,interval=0.1,sndbuf=65536"
        sending = a.start("sh", "-c", f"rm -f {FIFO}; mkfifo {FIFO}; exec 3<>{FIFO}\n"
                                      f"head -c {rounds * part} <&3 | socat -u -b 16384 STDIN {to}")
        server = b.start("sh", "-c", "socat -u TCP4-LISTEN:5005,reuseaddr STDOUT | wc -c")
        assert a.until(f"[ -p {FIFO} ]", 10)
        # what goes into the pipe is on its way when the next keys come
        a.shell(f"head -c {part} /dev/zero > {FIFO}")
        for number in range(1, rounds):
            ipsec.batch(b, *states(number))
            ipsec.batch(a, *states(number))
            ipsec.batch(a, *gone(number - 1))
            ipsec.batch(b, *gone(number - 1))
            a.shell(f"head -c {part} /dev/zero > {FIFO}")
        sending.wait(Deadline.after(60))
        arrived = int(server.wait(Deadline.after(30)).stdout.split()[-1])
    used = {packet.spi for packet in capture.packets if packet.protocol == ESP and str(packet.source) == one}
    assert arrived == rounds * part, f"{rounds * part} bytes were sent, {arrived} arrived"
    assert len(used) >= rounds - 1, f"the keys were changed {rounds - 1} times, the wire shows {len(used)} of them"
    assert used <= {0x7b00 + number for number in range(rounds)}, f"unknown SPIs on the wire: {used}"


def test_esp_in_udp(lab: Lab) -> None:
    a, b = lab["a"], lab["b"]
    one, other = a.ipv4, b.ipv4
    mode = "reqid 1 mode transport encap espinudp 4500 4500 0.0.0.0"
    states = [sa(one, other, 0x7c01, mode), sa(other, one, 0x7c02, mode)]
    # no policy for what comes in: it would ask for ESP of the UDP packets that carry it (udp_queue_rcv_one_skb())
    setup = ([*states, policy("out", one, other)], [*states, policy("out", other, one)])
    # a socket that is told of ESP: UDP_ENCAP_ESPINUDP (include/uapi/linux/udp.h)
    listen = "UDP4-LISTEN:4500,setsockopt-listen=17:100:x02000000"
    with prepared((a, b), setup):
        ears = [host.start("socat", "-u", listen, "OPEN:/dev/null") for host in (a, b)]
        try:
            for host in (a, b):
                assert host.until("grep -q ':1194 ' /proc/net/udp", 10), f"{host.name} does not listen on port 4500"
            with capturing(a, a.dev, sent=True) as capture:
                pings = traffic.ping(a, other, count=10)
                transfer = traffic.tcp(a, b, other, size=SIZE)
        finally:
            for ear in ears:
                ear.stop(Deadline.after(10))
    assert pings.whole, f"expected 10 answers, saw {pings}"
    assert transfer.whole, str(transfer)
    wire = [packet for packet in capture.packets if packet.protocol in (UDP, ESP)]
    assert {packet.protocol for packet in wire} == {UDP}, "expected ESP in UDP only"
    assert sum(len(packet.payload) for packet in wire) >= SIZE
    assert not any(MARKER in packet.frame for packet in capture.packets), "clear text on the wire"


@pytest.mark.needs("XFRM_INTERFACE")
@FAMILIES
def test_an_xfrm_interface_carries_its_packets_and_no_others(lab: Lab, family: int) -> None:
    a, b = lab["a"], lab["b"]
    one, other = a.address(family), b.address(family)
    length, every = (30, "0.0.0.0/0") if family == 4 else (126, "::/0")
    near, far = INNER[family]
    mode, tmpl = "reqid 1 mode tunnel if_id 42", "proto esp reqid 1 mode tunnel"
    states = [sa(one, other, 0x7d01, mode), sa(other, one, 0x7d02, mode)]

    def side(own: Host, mine: str) -> list[str]:
        local, remote = (one, other) if own is a else (other, one)
        return [f"link add xfrm0 type xfrm dev {own.dev} if_id 42", "link set xfrm0 up",
                f"addr add {mine}/{length} dev xfrm0{' nodad' if family == 6 else ''}", *states,
                f"xfrm policy add src {every} dst {every} dir out if_id 42 tmpl src {local} dst {remote} {tmpl}",
                f"xfrm policy add src {every} dst {every} dir in if_id 42 tmpl src {remote} dst {local} {tmpl}"]

    try:
        with prepared((a, b), (side(a, near), side(b, far))):
            before = counters.interface(b, "xfrm0")
            pings = traffic.ping(a, far, count=20)
            through = counters.interface(b, "xfrm0").since(before)["rx.packets"]
            plain = traffic.ping(a, other, count=20)
            after = counters.interface(b, "xfrm0").since(before)["rx.packets"]
            transfer = traffic.tcp(a, b, far, size=SIZE)
    finally:
        for host in (a, b):
            host.run("ip", "link", "del", "xfrm0", check=False)
    assert pings.whole, f"expected 20 answers, saw {pings}"
    assert plain.whole, f"beside the interface: expected 20 answers, saw {plain}"
    assert through >= 20, f"sent 20, the interface counted {through}"
    assert after - through < 20, f"what does not belong to it went through the interface: {after - through} packets"
    assert transfer.whole, str(transfer)


def test_a_policy_that_blocks_lets_nothing_through(lab: Lab) -> None:
    a, b = lab["a"], lab["b"]
    before = counters.xfrm(b)
    with prepared((a, b), ([], [f"xfrm policy add src {a.ipv4} dst {b.ipv4} proto icmp dir in action block"])):
        pings = traffic.ping(a, b.ipv4, count=10, wait=1)
        blocked = counters.xfrm(b).since(before)["XfrmInPolBlock"]
    assert (pings.sent, pings.received) == (10, 0), f"expected no answer, saw {pings}"
    assert blocked == 10, f"sent 10, the policy blocked {blocked}"


def offloading(host: Host, on: bool) -> AbstractContextManager[None]:
    """GRO, and GSO where the card has what that needs (netdev_fix_features())."""
    card = host.card(host.dev)
    return card.offloads(gro=on, gso=on) if card.features()["scatter-gather"].on else card.offloads(gro=on)


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
@FAMILIES
def test_with_and_without_segmentation_offload(lab: Lab, family: int, on: bool) -> None:
    a, b = lab["a"], lab["b"]
    with (ipsec.protected(a, b, ipsec.AES_GCM, "transport", family) as esp, offloading(a, on), offloading(b, on)):
        there = traffic.tcp(a, b, esp.other.inner, size=4 * SIZE)
        back = traffic.tcp(b, a, esp.one.inner, size=4 * SIZE)
        carried = [counters.carried(b, esp.one.spi).bytes, counters.carried(a, esp.other.spi).bytes]
    assert there.whole, f"a to b: {there}"
    assert back.whole, f"b to a: {back}"
    assert min(carried) >= 4 * SIZE, f"{4 * SIZE} bytes each way, ESP carried {carried}"


@pytest.mark.parametrize("cipher", [
    pytest.param(cipher, id=cipher.name, marks=pytest.mark.needs(*cipher.options))
    for cipher in (ipsec.AES_GCM, ipsec.NULL)])
@pytest.mark.parametrize("mode", ["transport", "tunnel"])
def test_between_namespaces(lab: Lab, mode: str, cipher: ipsec.Cipher) -> None:
    with namespaces(lab["a"], "left", "right", faces=veth(40, "left", "right")) as (left, right):
        with ipsec.protected(left, right, cipher, mode, 4) as esp, capturing(left, "to-right", sent=True) as capture:
            pings = traffic.ping(left, esp.other.inner, count=10)
            transfer = traffic.tcp(left, right, esp.other.inner, size=SIZE)
        errors = counters.xfrm(right).nonzero
    assert pings.whole, f"expected 10 answers, saw {pings}"
    assert transfer.whole, str(transfer)
    assert not errors, f"IPsec errors: {errors}"
    esp_bytes = sum(len(packet.payload) for packet in capture.packets if packet.protocol == ESP)
    assert esp_bytes >= SIZE, f"{SIZE} bytes were sent, ESP carried {esp_bytes}"


CROSSING = """table netdev kph {
    chain crossing {
        type filter hook ingress device %s priority 0; policy accept;
        ip daddr 10.77.41.2 icmp type echo-request counter comment "all"
        ip daddr 10.77.41.2 icmp type echo-request meta secpath exists counter comment "secpath"
    }
}"""


def test_a_secpath_does_not_follow_into_another_namespace(lab: Lab) -> None:
    """b decrypts and forwards into a namespace: what it knows of the packet stays with b."""
    a, b = lab["a"], lab["b"]
    one, other = a.ipv4, b.ipv4
    mine, theirs = ipsec.ends(a, b, "transport", 4)
    tunnel = f"tmpl src {one} dst {other} proto esp reqid {ipsec.REQID} mode tunnel"
    count, route = 20, "10.77.41.0/24"
    # the control: here b does know of the transform, and forwards the packet all the same
    rules = {"protected": f"FORWARD -m policy --dir in --pol ipsec --proto esp --mode tunnel {REQUEST}"}
    with namespaces(b, "inside") as (inside,):
        b.shell("""ip link add to-inside type veth peer name to-b netns inside
            ip addr add 10.77.41.1/24 dev to-inside; ip link set to-inside up
            echo 1 > /proc/sys/net/ipv4/ip_forward""")
        inside.shell("ip addr add 10.77.41.2/24 dev to-b; ip link set to-b up; ip route add default via 10.77.41.1")
        try:
            states = ipsec.states(ipsec.AES_GCM, "tunnel", mine, theirs)
            ipsec.batch(a, *states, f"route add {route} via {other}",
                        f"xfrm policy add src {one} dst {route} dir out {tunnel}")
            ipsec.batch(b, *states, f"xfrm policy add src {one} dst {route} dir fwd {tunnel}")
            with filters.nftables(inside, CROSSING % "to-b") as nft, filters.iptables(b, 4, rules) as counts:
                pings = traffic.ping(a, "10.77.41.2", count=count)
                saw = counts.packets() | nft.packets()
        finally:
            for host in (a, b):
                ipsec.clear(host)
            a.run("ip", "route", "del", route, check=False)
            b.shell("echo 0 > /proc/sys/net/ipv4/ip_forward; ip link del to-inside", check=False)
    assert pings.whole, f"expected {count} answers, saw {pings}"
    assert saw == {"protected": count, "all": count, "secpath": 0}, (
        f"sent {count} in ESP, none may have a secpath on the other side, saw {saw}")


DEBUGFS = "/sys/kernel/debug"


@contextmanager
def simulated(host: Host) -> Iterator[str]:
    """A card of netdevsim, which takes ESP states and throws all frames away; its interface (drivers/net/netdevsim)."""
    host.shell(f"[ -d {DEBUGFS}/netdevsim ] || mount -t debugfs none {DEBUGFS}\n"
               "echo '7 1' > /sys/bus/netdevsim/new_device")
    try:
        assert host.until("ls /sys/bus/netdevsim/devices/netdevsim7/net/ | grep -q .", 10)
        yield host.run("ls", "/sys/bus/netdevsim/devices/netdevsim7/net/").stdout.strip()
    finally:
        host.shell("echo 7 > /sys/bus/netdevsim/del_device")


@pytest.mark.needs("NETDEVSIM", "INET_ESP_OFFLOAD")
@pytest.mark.parametrize("cloned", [False, True], ids=["alone", "beside-a-capture"])
def test_a_card_that_encrypts_is_told_the_state_by_the_secpath(lab: Lab, cloned: bool) -> None:
    """What is left to the card is not encrypted by the stack: a secpath of one state goes with it (nsim_ipsec_tx())."""
    a = lab["a"]
    near, far, count = "10.78.9.1", "10.78.9.2", 20
    before = counters.xfrm(a)
    with simulated(a) as device, ExitStack() as stack:
        a.shell(f"ip addr add {near}/24 dev {device}; ip link set {device} up\n"
                f"ip neigh add {far} lladdr 02:00:00:00:09:02 dev {device}")
        setup = [f"{sa(near, far, 0x7c01, 'reqid 1 mode transport')} offload dev {device} dir out",
                 policy("out", near, far)]
        stack.enter_context(prepared((a,), (setup,)))
        capture = stack.enter_context(capturing(a, device, "esp")) if cloned else None
        pings = traffic.ping(a, far, count=count, wait=0.1)
        told = a.read(f"{DEBUGFS}/netdevsim/netdevsim7/ports/0/ipsec")
        sent = counters.interface(a, device)["tx.packets"]
        stack.close()
        errors = counters.xfrm(a).since(before).nonzero
    assert (pings.sent, pings.received) == (count, 0), pings
    assert f"SA count=1 tx={count}\n" in told, told
    assert sent >= count, f"{count} packets for the card, it was given {sent}"
    assert "crypt=1" in told, told
    if capture is not None:
        assert len(capture.packets) == count, f"{count} ESP packets to the card, the capture saw {len(capture.packets)}"
    assert errors == {}, f"expected no error of IPsec, saw {errors}"
