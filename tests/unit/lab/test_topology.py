# SPDX-License-Identifier: GPL-2.0-only
"""Topologies: addresses that never change, machines and commands that follow from them, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.lab import topology
from harness.lab.topology import BRIDGE, PAIR, Bridge, network, wire
from harness.vm.qemu import MachineSpec

TEMPLATE = MachineSpec(name="template", kernel=Path("bzImage"), initrd=(Path("rootfs"),), memory_mib=64)


@pytest.mark.parametrize("name", topology.names())
def test_ready_made_topologies_are_consistent(name: str) -> None:
    found = topology.get(name)
    topology.check(found)
    assert found.name == name
    addresses = [face.ipv4 for group in found.networks for face in group]
    assert len(set(addresses)) == len(addresses)
    assert len(addresses) >= 2 or len(found.machines) == 1


def test_an_unknown_topology_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="unknown topology 'ring'") as caught:
        topology.get("ring")
    assert "pair" in str(caught.value.hint)


def test_pair_has_the_addresses_that_captures_show() -> None:
    one, other = PAIR.networks[0]
    assert (str(one.ipv4), str(one.ipv6)) == ("10.77.1.1/24", "fd77:1::1/64")
    assert (str(other.ipv4), str(other.ipv6)) == ("10.77.1.2/24", "fd77:1::2/64")


def test_specs_are_like_the_template_but_for_name_and_nics() -> None:
    specs = topology.specs(BRIDGE, TEMPLATE, model="rtl8139")
    assert [spec.name for spec in specs] == ["client", "dut", "server"]
    assert [[(nic.name, nic.link, nic.model) for nic in spec.nics] for spec in specs] == [
        [("lan0", "near", "rtl8139")], [("port0", "near", "rtl8139"), ("port1", "far", "rtl8139")],
        [("lan0", "far", "rtl8139")]]
    assert all(spec.memory_mib == 64 and "slab_nomerge" in spec.append for spec in specs)


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


@pytest.mark.parametrize(("broken", "words"), [
    (replace(PAIR, wires=(*PAIR.wires, wire("second", ("a", "lan0"), ("b", "lan1")))), "has two wires"),
    (replace(PAIR, wires=(wire("wire", ("a", "lan0"), ("c", "lan0")),)), "no machine 'c'"),
    (replace(PAIR, networks=(network(1, ("a", "lan7")),)), "no interface 'lan7'"),
    (replace(BRIDGE, bridges=(Bridge(machine="dut", name="br0", ports=("port0", "port9")),)), "no interface 'port9'"),
])
def test_what_contradicts_itself_is_refused(broken: topology.Topology, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        topology.check(broken)
