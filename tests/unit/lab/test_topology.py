# SPDX-License-Identifier: GPL-2.0-only
"""Topologies: addresses that never change, machines, routes and commands that follow, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.lab import shapes, topology
from harness.lab.shapes import BRIDGE, IPSEC_GATEWAYS, MIXED, MULTIPATH, PAIR, READY_MADE, SEGMENT, station
from harness.lab.topology import Bridge, Network, Topology
from harness.vm.nic import Link, Nic
from harness.vm.qemu import MachineSpec

TEMPLATE = MachineSpec(name="template", kernel=Path("bzImage"), initrd=(Path("rootfs"),), memory_mib=64)
READY = pytest.mark.parametrize("found", READY_MADE, ids=[row.name for row in READY_MADE])


def bridging(*bridges: Bridge) -> Topology:
    """The topology `bridge` with other bridges in its middle."""
    return replace(BRIDGE, machines=(BRIDGE.machines[0], replace(BRIDGE.machines[1], bridges=bridges),
                                     BRIDGE.machines[2]))


@READY
def test_ready_made_topologies_are_consistent(found: Topology) -> None:
    topology.check(found)
    assert shapes.get(found.name) == found
    addresses = [face.ipv4 for network in found.networks for face in network.faces]
    assert len(set(addresses)) == len(addresses)
    assert len(addresses) >= 2 or len(found.machines) == 1


def test_no_two_ready_made_topologies_share_a_network() -> None:
    numbers = [network.number for row in READY_MADE for network in row.networks]
    assert len(set(numbers)) == len(numbers)


@READY
def test_every_machine_reaches_every_network(found: Topology) -> None:
    for machine in found.machines:
        reached = {network.number for network, _ in topology.routes(found, machine.name)}
        own = {network.number for network in found.networks if network.face(machine.name)}
        assert reached | own == {network.number for network in found.networks}


@READY
def test_a_topology_survives_json(found: Topology) -> None:
    assert topology.from_json(json.loads(json.dumps(topology.to_json(found)))) == found


def test_an_unknown_topology_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="unknown topology 'ring'") as caught:
        shapes.get("ring", more=(replace(PAIR, name="star"),))
    assert "pair" in str(caught.value.hint)
    assert "star" in str(caught.value.hint)


def test_pair_has_the_addresses_that_captures_show() -> None:
    one, other = PAIR.networks[0].faces
    assert (str(one.ipv4), str(one.ipv6)) == ("10.77.1.1/24", "fd77:1::1/64")
    assert (str(other.ipv4), str(other.ipv6)) == ("10.77.1.2/24", "fd77:1::2/64")


def test_the_tenth_host_of_a_network_has_an_ipv6_address_of_its_own() -> None:
    members = tuple((f"m{number}", "lan0") for number in range(1, 12))
    addresses = [str(face.ipv6.ip) for face in Network(number=1, members=members).faces]
    assert addresses[8:] == ["fd77:1::9", "fd77:1::a", "fd77:1::b"]


def test_specs_are_like_the_template_but_for_name_and_nics() -> None:
    specs = topology.specs(BRIDGE, TEMPLATE, model="rtl8139")
    assert [spec.name for spec in specs] == ["client", "dut", "server"]
    assert [[(nic.name, nic.link, nic.model) for nic in spec.nics] for spec in specs] == [
        [("lan0", "near", "rtl8139")], [("port0", "near", "rtl8139"), ("port1", "far", "rtl8139")],
        [("lan0", "far", "rtl8139")]]
    assert all(spec.memory_mib == 64 and "slab_nomerge" in spec.append for spec in specs)


def test_a_machine_says_itself_what_is_different_about_it() -> None:
    own = replace(PAIR.machines[0], memory=512, cpus=2, nics=(Nic(name="lan0", link="wire", model="vmxnet3"),))
    specs = topology.specs(replace(PAIR, machines=(own, PAIR.machines[1])), TEMPLATE, model="rtl8139")
    assert [(spec.memory_mib, spec.cpus, spec.nics[0].model) for spec in specs] == [
        (512, 2, "vmxnet3"), (64, 1, "rtl8139")]


def test_machines_of_one_lab_run_different_kernels() -> None:
    kernels = {"base": Path("base/bzImage"), "patched": Path("patched/bzImage")}
    assert [spec.kernel for spec in topology.specs(MIXED, TEMPLATE, kernels=kernels)] == list(kernels.values())
    with pytest.raises(UsageError, match="boots the base kernel, and this run has none"):
        topology.specs(MIXED, TEMPLATE)


def test_commands_make_the_bridge_before_they_give_it_addresses() -> None:
    assert topology.commands(BRIDGE, "dut") == (
        "link add br0 type bridge forward_delay 0 stp_state 0",
        "link set port0 master br0",
        "link set port1 master br0",
        "addr add 10.77.2.3/24 dev br0",
        "addr add fd77:2::3/64 dev br0 nodad",
        "link set port0 up",
        "link set port1 up",
        "link set br0 up",
    )


def test_routes_lead_through_the_gateways_on_the_shortest_way() -> None:
    assert topology.commands(IPSEC_GATEWAYS, "client")[-4:] == (
        "route add 10.77.4.0/24 via 10.77.3.2", "route add fd77:4::/64 via fd77:3::2",
        "route add 10.77.5.0/24 via 10.77.3.2", "route add fd77:5::/64 via fd77:3::2")
    found = [(network.number, str(face.ipv4.ip)) for network, face in topology.routes(IPSEC_GATEWAYS, "right")]
    assert found == [(3, "10.77.4.1")]
    assert topology.routes(PAIR, "a") == ()


def test_nothing_is_routed_through_a_machine_that_does_not_forward() -> None:
    stubborn = tuple(replace(row, forward=False) for row in IPSEC_GATEWAYS.machines)
    assert topology.routes(replace(IPSEC_GATEWAYS, machines=stubborn), "client") == ()


def test_the_links_of_multipath_share_nothing() -> None:
    links = {network.number: {station.nics[index].link for station in MULTIPATH.machines}
             for index, network in enumerate(MULTIPATH.networks)}
    assert links == {6: {"upper"}, 7: {"lower"}}


def test_what_qemu_gets_wrong_is_turned_off() -> None:
    for model, wrong in (("e1000", ()), ("vmxnet3", (("port0", ("tso",)), ("port1", ("tso",))))):
        assert topology.wrong_offloads(topology.specs(BRIDGE, TEMPLATE, model=model)[1]) == wrong


def test_a_links_mtu_is_that_of_the_cards_on_it() -> None:
    jumbo = replace(SEGMENT, links=(Link(name="segment", mtu=9000),))
    assert topology.commands(jumbo, "c")[0] == "link set lan0 mtu 9000"


@pytest.mark.parametrize(("broken", "words"), [
    (replace(PAIR, machines=PAIR.machines[:1]), "link 'wire' has 1 end, it needs two or more"),
    (replace(PAIR, links=(Link(name="wier"),)), "link 'wier' has 0 ends"),
    (replace(PAIR, machines=(*PAIR.machines, PAIR.machines[0])), "two machines are called 'a'"),
    (replace(PAIR, networks=(Network(number=1, members=(("c", "lan0"),)),)), "no machine 'c'"),
    (replace(PAIR, networks=(Network(number=1, members=(("a", "lan7"),)),)), "no interface 'lan7'"),
    (replace(PAIR, networks=(Network(number=255, members=()),)), "255 is no number"),
    (replace(PAIR, networks=(*PAIR.networks, *PAIR.networks)), "two networks have one number"),
    (replace(MULTIPATH, networks=(Network(number=6, members=(("client", "lan0"), ("client", "lan1"))),)), "twice"),
    (replace(BRIDGE, machines=(BRIDGE.machines[0], replace(BRIDGE.machines[1], bridges=(
        Bridge(name="br0", ports=("port0", "port9")),)), BRIDGE.machines[2])), "no interface 'port9'"),
    (replace(PAIR, machines=(station("a", {"eth0": "wire"}), station("b", {"lan0": "wire"}))), "'eth0' is taken"),
    (bridging(Bridge(name="br0", ports=("port0", "port1")), Bridge(name="br1", ports=("port1",))), "port1 .* twice"),
    (bridging(Bridge(name="br0", ports=("port0",)), Bridge(name="br0", ports=("port1",))), "two interfaces 'br0'"),
    (bridging(Bridge(name="br0", ports=("br0", "port1"))), "no interface 'br0' for a bridge"),
    (bridging(Bridge(name="br0", ports=("port0",))), r"no link leads from client\.lan0 to server\.lan0"),
    (replace(BRIDGE, networks=(Network(number=2, members=(("client", "lan0"), ("dut", "port0"))),)), "a bridge's port"),
    (replace(MULTIPATH, networks=(Network(number=6, members=(("client", "lan0"), ("server", "lan1"))),)),
     r"no link leads from client\.lan0 to server\.lan1"),
    (replace(PAIR, networks=(Network(number=1, members=()),)), "network 1 has no members"),
    (replace(PAIR, links=(Link(name="wire", mtu=1279),)), "MTU below 1280"),
], ids=["one-end", "unknown-link", "twin", "machine", "interface", "number", "numbers", "twice", "port", "name",
        "port-of-two", "bridges-of-one-name", "own-port", "port-left-out", "address-on-port", "unlinked", "empty",
        "small-mtu"])
def test_what_contradicts_itself_is_refused(broken: Topology, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        topology.check(broken)
