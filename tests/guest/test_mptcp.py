# SPDX-License-Identifier: GPL-2.0-only
"""MPTCP, the third user of extensions: its options travel with each buffer as one (struct mptcp_ext).

Two links that share nothing. The client opens a connection over the upper one, is told of the server's address on the
lower one, and adds a subflow there. Each link is slowed down, so that the transfer has not ended before that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import NamedTuple

import pytest

from harness.lab import counters, ipsec, slabs, traffic
from harness.lab.bench import Host, Lab
from harness.lab.capture import capturing
from harness.lab.pcap import ESP, Packet

pytestmark = [pytest.mark.topology("multipath"), pytest.mark.needs("MPTCP", "MPTCP_IPV6")]

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
UPPER, LOWER = "lan0", "lan1"
SIZE = 1_000_000
PART = SIZE // 10
CRAWL, RUN = "2mbit", "1gbit"
PORTS = count(6001)
"""Each with its own: a connection that has ended keeps the server's port for a minute (TIME_WAIT)."""
BOTH = (True, True)
TIMESTAMPS = "/proc/sys/net/ipv4/tcp_timestamps"
OPTION, DSS = 30, 2
"""The kind of TCP option that is MPTCP's, and the subtype that maps data (RFC 8684, 3.3)."""


@contextmanager
def paths(lab: Lab, family: int) -> Iterator[tuple[Host, Host, str]]:
    """The client, the server, and the server's address to connect to; both know of the lower path, too."""
    client, server = lab["client"], lab["server"]
    with ExitStack() as stack:
        for host in (client, server):
            stack.callback(host.shell, "ip mptcp endpoint flush; ip mptcp limits set subflow 2 add_addr_accepted 0")
            host.run("ip", "mptcp", "limits", "set", "subflow", 2, "add_addr_accepted", 2)
            # An IPv6 address and a port with their HMAC fill a header: 32 bytes of 40. Timestamps need 12.
            stack.callback(host.shell, f"echo 1 > {TIMESTAMPS}")
            host.shell(f"echo {int(family == 4)} > {TIMESTAMPS}")
        # With a port the kernel listens itself: socat stops to listen with its first connection.
        server.run("ip", "mptcp", "endpoint", "add", address(server, LOWER, family), "dev", LOWER, "signal",
                   "port", next(PORTS))
        yield client, server, address(server, UPPER, family)


class Running(NamedTuple):
    """A transfer under way, and what gives each link other conditions."""

    transfer: Future[traffic.Transfer]
    links: Mapping[str, Callable[..., None]]

    def finish(self, *names: str) -> traffic.Transfer:
        """Let these links run, and wait for the end."""
        for name in names:
            self.links[name](rate=RUN)
        return self.transfer.result()


@contextmanager
def carried_by_both(client: Host, server: Host, there: str, size: int) -> Iterator[Running]:
    """A transfer, from when each link has carried a part of it to its end: the links crawl until then."""
    with ExitStack() as stack:
        links = {name: stack.enter_context(client.card(name).netem(rate=CRAWL)) for name in (UPPER, LOWER)}
        before, counted = received(server), counters.netstat(server)
        pool = stack.enter_context(ThreadPoolExecutor(1))
        transfer = pool.submit(traffic.tcp, client, server, there, size=size, multipath=BOTH, seconds=90)
        reached = " && ".join(f"[ $(cat /sys/class/net/{name}/statistics/rx_bytes) -gt {had + PART} ]"
                              for name, had in before.items())
        if not server.until(reached, 60):
            got = {name: after - before[name] for name, after in received(server).items()}
            pytest.fail(f"expected {PART} bytes on each link, saw {got} at the server; {transfer.result()}; "
                        f"counted {counters.netstat(server).since(counted).nonzero}")
        yield Running(transfer, links)


def received(server: Host) -> dict[str, int]:
    """Bytes that came in by each link."""
    return {name: counters.interface(server, name)["rx.bytes"] for name in (UPPER, LOWER)}


def address(host: Host, name: str, family: int) -> str:
    face = host.face(name)
    return str((face.ipv4 if family == 4 else face.ipv6).ip)


def mapped(packets: tuple[Packet, ...], source: str) -> int:
    """How many packets from an address map data or acknowledge it: have a DSS option."""
    return sum(any(kind == OPTION and rest and rest[0] >> 4 == DSS for kind, rest in packet.tcp_options)
               for packet in packets if str(packet.source) == source)


@FAMILIES
def test_both_subflows_carry_data_and_say_so_both_ways(lab: Lab, family: int) -> None:
    with paths(lab, family) as (client, server, there):
        before = {name: counters.interface(client, name) for name in (UPPER, LOWER)}
        joined = counters.netstat(server)
        with (capturing(client, UPPER, "tcp") as upper, capturing(client, LOWER, "tcp") as lower,
              carried_by_both(client, server, there, SIZE) as running):
            transfer = running.finish(UPPER, LOWER)
        sent = {name: counters.interface(client, name).since(before[name])["tx.bytes"] for name in before}
        seen = counters.netstat(server).since(joined)
    assert transfer.whole, str(transfer)
    assert min(sent.values()) > PART, f"expected at least a tenth of {SIZE} bytes on each link, saw {sent}"
    assert seen["MPTcpExt.MPCapableSYNRX"] == seen["MPTcpExt.MPJoinAckRx"] == 1, seen.nonzero
    for capture, name in ((upper, UPPER), (lower, LOWER)):
        for host in (client, server):
            seen_there = mapped(capture.packets, address(host, name, family))
            assert seen_there, f"no DSS option in {len(capture.packets)} packets on {name} comes from {host.name}"


@pytest.mark.parametrize("cut", [UPPER, LOWER], ids=["first-path", "second-path"])
@FAMILIES
def test_a_transfer_outlives_either_link(lab: Lab, family: int, cut: str) -> None:
    size, other = 4 * SIZE, LOWER if cut == UPPER else UPPER
    with paths(lab, family) as (client, server, there), carried_by_both(client, server, there, size) as running:
        card = client.card(cut)
        card.carrier(False)
        try:
            card.await_carrier(False)
            ended = running.transfer.done()
            transfer = running.finish(other)
        finally:
            card.carrier(True)
            card.await_carrier(True)
    assert not ended, f"the transfer of {size} bytes had ended when {cut} lost its carrier"
    assert transfer.whole, str(transfer)


@FAMILIES
def test_subflows_may_be_protected(lab: Lab, family: int) -> None:
    """What comes in by the upper path has a secpath and MPTCP's data at once."""
    with (paths(lab, family) as (client, server, there),
          ipsec.protected(client, server, ipsec.AES_GCM, "transport", family),
          capturing(client, UPPER, sent=True) as upper, capturing(client, LOWER, "tcp", sent=True) as lower):
        joined = counters.netstat(server)
        with carried_by_both(client, server, there, SIZE) as running:
            transfer = running.finish(UPPER, LOWER)
        seen = counters.netstat(server).since(joined)
    assert transfer.whole, str(transfer)
    assert seen["MPTcpExt.MPJoinAckRx"] == 1, seen.nonzero
    hidden = sum(len(packet.payload) for packet in upper.packets if packet.protocol == ESP)
    assert hidden > PART, f"expected at least a tenth of {SIZE} bytes in ESP, saw {hidden}"
    assert mapped(lower.packets, address(client, LOWER, family))


@pytest.mark.parametrize("multipath", [(True, False), (False, True)], ids=["server-by-tcp", "client-by-tcp"])
def test_where_one_side_knows_tcp_only_it_is_tcp(lab: Lab, multipath: tuple[bool, bool]) -> None:
    with paths(lab, 4) as (client, server, there), capturing(client, UPPER, "tcp") as upper:
        before = counters.netstat(client)
        transfer = traffic.tcp(client, server, there, size=SIZE // 10, multipath=multipath)
        seen = counters.netstat(client).since(before)
    assert transfer.whole, str(transfer)
    asked, refused = seen["MPTcpExt.MPCapableSYNTX"], seen["MPTcpExt.MPCapableFallbackSYNACK"]
    expected = int(multipath[0])
    assert (asked, refused) == (expected, expected), f"asked for MPTCP {asked} times, fell back {refused} times"
    assert len(upper.packets) > 10
    assert not sum(mapped(upper.packets, address(host, UPPER, 4)) for host in (client, server))


def test_nothing_is_left_of_many_connections(lab: Lab) -> None:
    with paths(lab, 4) as (client, server, there):
        traffic.tcp(client, server, there, size=SIZE, multipath=BOTH)  # what is made once is there
        before = {host.name: (slabs.count(host), counters.interface(host, UPPER)) for host in (client, server)}
        for _ in range(5):
            assert traffic.tcp(client, server, there, size=SIZE, multipath=BOTH).whole
        for host in (client, server):
            held, interface = before[host.name]
            packets = counters.interface(host, UPPER).since(interface)["tx.packets"]
            grown = slabs.left_behind(host, held, packets=packets)
            assert not grown, f"{host.name}, after {packets} packets: {', '.join(map(str, grown))}"
