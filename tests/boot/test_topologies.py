# SPDX-License-Identifier: GPL-2.0-only
"""The ready-made topologies and the properties of links on real kernels: traffic goes where it should, nowhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import InfraError, KernelError
from harness.kernel.kbuild import Build
from harness.lab import bench, card, counters, filters, ipsec, slabs, traffic
from harness.lab.bench import Host, Lab, up
from harness.lab.capture import capturing
from harness.lab.payload import MARKER
from harness.lab.pcap import ESP, ICMP, UDP
from harness.lab.shapes import IPSEC_GATEWAYS, MIXED, MULTIPATH, PAIR, SEGMENT
from harness.lab.topology import Network, Station, Topology
from harness.vm.nic import Link, Nic
from harness.vm.qemu import MachineSpec
from tests.boot.conftest import BOOT

SIZE = 100_000
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
Up = Callable[..., AbstractContextManager[Lab]]


@pytest.fixture(scope="module")
def start(base_both: Build, patched_both: Build, rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Up:
    """Boots a topology on NICs that take little of the host, with the patched kernel where it names none."""
    def with_(topology: Topology, model: str = "virtio-net-pci") -> AbstractContextManager[Lab]:
        template = MachineSpec(name="template", kernel=patched_both.image, initrd=(rootfs,), memory_mib=256)
        return up(topology, template, tmp_path_factory.mktemp(topology.name), model=model,
                  deadline=Deadline.after(BOOT), kernels={"base": base_both.image, "patched": patched_both.image})

    return with_


@pytest.fixture(scope="module")
def mixed(start: Up) -> Iterator[Lab]:
    with start(MIXED) as lab:
        yield lab


@pytest.fixture(scope="module")
def gateways(start: Up) -> Iterator[Lab]:
    with start(IPSEC_GATEWAYS) as lab:
        yield lab


@pytest.fixture(scope="module")
def multipath(start: Up) -> Iterator[Lab]:
    with start(MULTIPATH) as lab:
        yield lab


@pytest.fixture(scope="module")
def segment(start: Up) -> Iterator[Lab]:
    with start(SEGMENT) as lab:
        yield lab


def test_one_machine_runs_base_and_the_other_patched(mixed: Lab) -> None:
    """The series' own cache is what tells the two kernels apart: their release is the same."""
    assert {host.name: slabs.EXTENSIONS in slabs.count(host) for host in mixed.hosts.values()} == {
        "a": False, "b": True}
    assert {host.name: host.kernel for host in mixed.hosts.values()} == {"a": "base", "b": "patched"}


@FAMILIES
def test_traffic_passes_whole_between_base_and_patched(mixed: Lab, family: int) -> None:
    for sender, receiver in (("a", "b"), ("b", "a")):
        one, other = mixed[sender], mixed[receiver]
        for transfer in (traffic.tcp(one, other, other.address(family), size=SIZE),
                         traffic.udp(one, other, other.address(family), size=SIZE, datagram=8000)):
            assert transfer.whole, f"{one.kernel} to {other.kernel}: {transfer}"
    mixed.check("mixed")


@pytest.mark.parametrize("mode", ["transport", "tunnel"])
@FAMILIES
def test_base_and_patched_understand_each_others_esp(mixed: Lab, family: int, mode: str) -> None:
    a, b = mixed["a"], mixed["b"]
    with ipsec.protected(a, b, ipsec.AES_GCM, mode, family) as esp:
        for sender, receiver, end in ((a, b, esp.other), (b, a, esp.one)):
            transfer = traffic.tcp(sender, receiver, end.inner, size=SIZE)
            assert transfer.whole, f"{sender.kernel} to {receiver.kernel}: {transfer}"
        errors = {host.name: counters.xfrm(host).nonzero for host in (a, b)}
    assert errors == {"a": {}, "b": {}}


def behind(gateways: Lab) -> tuple[Network, Network]:
    """The networks behind the two gateways."""
    near, _, far = gateways.topology.networks
    return near, far


@FAMILIES
def test_client_and_server_reach_each_other_through_both_gateways(gateways: Lab, family: int) -> None:
    client, server = gateways["client"], gateways["server"]
    assert traffic.ping(client, server.address(family), count=10).whole
    transfer = traffic.tcp(server, client, client.address(family), size=SIZE)
    assert transfer.whole, str(transfer)


@FAMILIES
def test_esp_between_the_gateways_hides_what_client_and_server_say(gateways: Lab, family: int) -> None:
    client, server, left = gateways["client"], gateways["server"], gateways["left"]
    with ipsec.gateways(left, gateways["right"], "wan0", behind(gateways), ipsec.AES_CBC, family):
        before = {name: counters.xfrm(gateways[name]) for name in ("left", "right")}
        with capturing(left, "wan0", sent=True) as outside, capturing(client, "lan0", "tcp", sent=True) as inside:
            transfer = traffic.tcp(client, server, server.address(family), size=SIZE)
        pings = traffic.ping(client, server.address(family), count=10)
        errors = {name: counters.xfrm(gateways[name]).since(before[name]).nonzero for name in before}
    # A segment that is too big for the tunnel is refused, and the client told so: xfrm6_tunnel_check_size().
    errors = {name: {key: seen for key, seen in row.items() if key != "XfrmOutStateModeError"}
              for name, row in errors.items()}
    assert transfer.whole, str(transfer)
    assert pings.whole, str(pings)
    assert errors == {"left": {}, "right": {}}
    assert any(MARKER in packet.frame for packet in inside.packets)
    assert not any(MARKER in packet.frame for packet in outside.packets), "clear text between the gateways"
    assert sum(packet.protocol == ESP for packet in outside.packets) > SIZE / 1500


@FAMILIES
def test_the_gateways_refuse_what_comes_unprotected(gateways: Lab, family: int) -> None:
    """The test above would pass a lab whose gateways protect nothing, if captures were wrong: this one would not."""
    client, server, left = gateways["client"], gateways["server"], gateways["left"]
    right = gateways["right"]
    with ipsec.gateways(left, right, "wan0", behind(gateways), ipsec.AES_CBC, family):
        before = counters.xfrm(right)
        ipsec.clear(left)
        pings = traffic.ping(client, server.address(family), count=5, wait=1)
        refused = counters.xfrm(right).since(before).nonzero
    assert pings.received == 0
    assert sum(refused.values()) >= 5, refused


def test_each_path_of_multipath_carries_its_own_and_lives_without_the_other(multipath: Lab) -> None:
    client, server = multipath["client"], multipath["server"]
    for used, idle in (("lan0", "lan1"), ("lan1", "lan0")):
        address = str(server.face(used).ipv4.ip)
        with capturing(server, used, "udp") as there, capturing(server, idle, "udp") as elsewhere:
            transfer = traffic.udp(client, server, address, size=SIZE, datagram=1000)
        assert transfer.whole, str(transfer)
        assert sum(packet.protocol == UDP for packet in there.packets) == SIZE // 1000
        assert elsewhere.packets == ()
        client.card(idle).carrier(False)
        try:
            assert traffic.ping(client, address, count=10).whole
        finally:
            client.card(idle).carrier(True)


def test_a_connection_that_is_refused_is_not_waited_for(multipath: Lab) -> None:
    client, server = multipath["client"], multipath["server"]
    with filters.iptables(server, 4, {"refused": "INPUT -p tcp --dport 5001 -j REJECT --reject-with tcp-reset"}):
        begun = time.monotonic()
        transfer = traffic.tcp(client, server, server.ipv4, size=SIZE)
        taken = time.monotonic() - begun
    assert (transfer.received, transfer.whole) == (0, False)
    assert "refused" in transfer.trouble
    assert taken < 20, f"the server was waited for: {taken:.0f} s"
    assert "socat\n" not in server.shell("cat /proc/[0-9]*/comm", check=False).stdout


def test_a_capture_is_whole_beside_what_its_filter_leaves_out(multipath: Lab) -> None:
    """What comes between tcpdump's socket and its filter was once taken for packets that it missed."""
    client, server = multipath["client"], multipath["server"]
    address = str(server.face("lan0").ipv4.ip)
    flood = client.start("ping", "-q", "-f", address)
    try:
        for _ in range(5):
            with capturing(server, "lan0", "udp") as seen:
                transfer = traffic.udp(client, server, address, size=20_000, datagram=1000)
            assert transfer.whole, str(transfer)
            assert len(seen.packets) == 20
    finally:
        flood.stop(Deadline.after(10))


def test_a_capture_that_lost_packets_is_an_error_that_says_so(multipath: Lab) -> None:
    client, server = multipath["client"], multipath["server"]

    def lose() -> None:
        with capturing(server, "lan0", "udp"):
            server.run("killall", "-STOP", "tcpdump")
            traffic.udp(client, server, str(server.face("lan0").ipv4.ip), size=600_000, datagram=1000)
            server.run("killall", "-CONT", "tcpdump")

    with pytest.raises(InfraError, match="tcpdump missed packets on lan0") as error:
        lose()
    assert "packets dropped by kernel" in error.value.detail[-1]


def test_every_machine_of_a_segment_reaches_the_others_and_sees_all_frames(segment: Lab) -> None:
    a, b, c = (segment[name] for name in ("a", "b", "c"))
    c.run("ip", "link", "set", "lan0", "promisc", "on")
    try:
        with capturing(c, "lan0", "icmp[icmptype] = icmp-echo") as seen:
            pings = traffic.ping(a, b.ipv4, count=20)
    finally:
        c.run("ip", "link", "set", "lan0", "promisc", "off")
    assert pings.whole, str(pings)
    assert len([packet for packet in seen.packets if packet.protocol == ICMP]) == 20
    for sender, receiver in ((b, c), (c, a)):
        transfer = traffic.tcp(sender, receiver, receiver.ipv4, size=SIZE)
        assert transfer.whole, f"{sender.name} to {receiver.name}: {transfer}"


def test_a_broadcast_reaches_all_others_of_a_segment(segment: Lab) -> None:
    a, others = segment["a"], [segment["b"], segment["c"]]
    before = [counters.interface(host, "lan0")["rx.packets"] for host in others]
    for _ in range(3):
        a.run("sh", "-c", "echo hello | socat -u - UDP4-DATAGRAM:10.77.9.255:5005,broadcast")
    grown = [counters.interface(host, "lan0")["rx.packets"] - seen for host, seen in zip(others, before, strict=True)]
    assert all(count >= 3 for count in grown), grown


def test_a_link_delays_both_ways_and_loses_its_share(start: Up) -> None:
    bad = replace(PAIR, name="bad-link", links=(Link(name="wire", loss=0.2, delay=0.03),))
    with start(bad) as lab:
        a, b = lab["a"], lab["b"]
        pings = traffic.ping(a, b.ipv4, count=200, wait=2)
        # 128 of 200 are expected to come back with two chances to be lost; the bounds are six deviations away.
        assert 87 <= pings.received <= 169, str(pings)
        assert least_round_trip(a, b.ipv4) >= 60


def test_a_neighbour_that_is_late_is_waited_for(start: Up) -> None:
    """Longer than three requests of ARP take, after which ping has an error of the network."""
    with start(replace(PAIR, name="late")) as lab:
        b = lab["b"]
        b.shell(f"ip addr del {b.faces[0].ipv4} dev lan0; (usleep 5000000; ip addr add {b.faces[0].ipv4} dev lan0) &")
        bench.await_neighbours(lab, lab.topology.networks[0], Deadline.after(60))
        assert traffic.ping(lab["a"], b.ipv4).whole


def test_a_link_has_a_large_mtu_and_carries_such_frames(start: Up) -> None:
    jumbo = replace(PAIR, name="jumbo", links=(Link(name="wire", mtu=9000),))
    with start(jumbo) as lab:
        a, b = lab["a"], lab["b"]
        assert a.read("/sys/class/net/lan0/mtu").strip() == "9000"
        assert traffic.ping(a, b.ipv4, count=5, size=8972, fragment=False).whole


MODELS = ("virtio-net-pci", "e1000", "rtl8139", "vmxnet3")
CARDS = tuple(f"card{number}" for number in range(len(MODELS)))


def test_a_card_is_what_its_name_says_whatever_the_order_of_probes(start: Up) -> None:
    """The other machine has the same cards in the opposite order: who took them by order would be wrong about half."""
    def station(name: str, order: range) -> Station:
        return Station(name=name, nics=tuple(Nic(name=CARDS[number], link=f"link{number}", model=MODELS[number])
                                             for number in order))

    count = len(MODELS)
    topology = Topology(name="orders", machines=(station("a", range(count)), station("b", range(count)[::-1])),
                        networks=tuple(Network(number=60 + number, members=(("a", name), ("b", name)))
                                       for number, name in enumerate(CARDS)))
    drivers = {"card0": "virtio_net", "card1": "e1000", "card2": "8139cp", "card3": "vmxnet3"}
    with start(topology) as lab:
        for host in lab.hosts.values():
            assert {name: host.card(name).driver for name in CARDS} == drivers
            assert {name: host.card(name).interface for name in CARDS} == {name: name for name in CARDS}


def test_a_lab_whose_machines_do_not_reach_each_other_says_which(start: Up) -> None:
    deaf = replace(PAIR, name="deaf", links=(Link(name="wire", loss=1.0),))
    with pytest.raises(KernelError, match=r"10\.77\.1\.2 \(b\) does not answer"), start(deaf):
        pass


def test_a_kernel_that_cannot_let_go_of_a_card_says_what_it_lacks(start: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan's kernels have no driver of slots; tests/boot/test_nics.py has one that does."""
    monkeypatch.setattr(card, "_PATIENCE", 3.0)
    slots = replace(PAIR, name="slots", machines=tuple(
        replace(station, nics=(replace(station.nics[0], hotplug=True),)) for station in PAIR.machines))
    with start(slots) as lab:
        with pytest.raises(KernelError, match="does not let go of lan0") as caught:
            lab["a"].card("lan0").unplug()
        assert traffic.ping(lab["a"], lab["b"].ipv4, count=3).whole
    assert "fragment hotplug" in str(caught.value.hint)


def least_round_trip(host: Host, address: str) -> float:
    """Milliseconds, from ping(8)'s summary."""
    said = host.run("ping", "-n", "-q", "-c", 10, "-i", "0.1", "-W", 2, address, check=False).stdout
    return float(said.rpartition("= ")[2].split("/")[0])
