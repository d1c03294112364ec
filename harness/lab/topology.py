# SPDX-License-Identifier: GPL-2.0-only
"""Pure: which machines a test needs, how they are wired, which addresses they have; and the ready-made ones.

Everything is fixed by names and order, so that a packet in a capture means the same in every run. Addresses of
network N are 10.77.N.0/24 and fd77:N::/64, its hosts count from 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface

from harness.errors import UsageError
from harness.vm.nic import DEFAULT_MODEL, Nic
from harness.vm.qemu import MachineSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Plug:
    """One end of a wire: a NIC of a machine."""

    machine: str
    nic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A cable between two NICs."""

    name: str
    ends: tuple[Plug, Plug]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A Linux bridge in a machine, with these of its NICs as ports."""

    machine: str
    name: str
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """An interface of a machine that has addresses."""

    machine: str
    interface: str
    ipv4: IPv4Interface
    ipv6: IPv6Interface


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Machines and what is between them.

    Attributes:
        name: what the `topology` mark of a test calls it.
        machines: their names, in the order they are booted.
        wires: all cables.
        bridges: all bridges.
        networks: groups of faces that reach each other directly.
    """

    name: str
    machines: tuple[str, ...]
    wires: tuple[Wire, ...]
    bridges: tuple[Bridge, ...] = ()
    networks: tuple[tuple[Face, ...], ...] = ()

    def nics(self, machine: str) -> tuple[str, ...]:
        """The names of a machine's NICs, in the order of the wires."""
        return tuple(end.nic for wire in self.wires for end in wire.ends if end.machine == machine)

    def faces(self, machine: str) -> tuple[Face, ...]:
        """Where a machine has addresses."""
        return tuple(face for network in self.networks for face in network if face.machine == machine)


def network(number: int, *members: tuple[str, str]) -> tuple[Face, ...]:
    """The faces of IP network `number` (1 to 254): (machine, interface) pairs, which get the host numbers 1, 2, ..."""
    return tuple(Face(machine=machine, interface=interface, ipv4=IPv4Interface(f"10.77.{number}.{host}/24"),
                      ipv6=IPv6Interface(f"fd77:{number}::{host}/64"))
                 for host, (machine, interface) in enumerate(members, 1))


def wire(name: str, one: tuple[str, str], other: tuple[str, str]) -> Wire:
    """A cable between two (machine, NIC) pairs."""
    return Wire(name=name, ends=(Plug(machine=one[0], nic=one[1]), Plug(machine=other[0], nic=other[1])))


SOLO = Topology(name="solo", machines=("dut",), wires=())
"""One machine, with nothing but its shell."""

PAIR = Topology(
    name="pair",
    machines=("a", "b"),
    wires=(wire("wire", ("a", "lan0"), ("b", "lan0")),),
    networks=(network(1, ("a", "lan0"), ("b", "lan0")),),
)
"""Two machines with a cable between them."""

BRIDGE = Topology(
    name="bridge",
    machines=("client", "dut", "server"),
    wires=(wire("near", ("client", "lan0"), ("dut", "port0")), wire("far", ("dut", "port1"), ("server", "lan0"))),
    bridges=(Bridge(machine="dut", name="br0", ports=("port0", "port1")),),
    networks=(network(2, ("client", "lan0"), ("server", "lan0"), ("dut", "br0")),),
)
"""A client and a server, and between them a machine that bridges its two NICs and has an address on the bridge."""


def names() -> tuple[str, ...]:
    """What a `topology` mark may ask for."""
    return tuple(row.name for row in (SOLO, PAIR, BRIDGE))


def get(name: str) -> Topology:
    """The topology called `name`.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    for row in (SOLO, PAIR, BRIDGE):
        if row.name == name:
            return row
    raise UsageError(f"unknown topology {name!r}", hint=f"known: {', '.join(names())}")


def check(topology: Topology) -> None:
    """Refuse a topology that contradicts itself.

    Raises:
        UsageError: a wire, bridge or face names a machine or NIC that is not there, or a NIC has two wires.
    """
    where = f"topology {topology.name}"
    plugs = [(end.machine, end.nic) for row in topology.wires for end in row.ends]
    doubled = sorted({plug for plug in plugs if plugs.count(plug) > 1})
    if doubled:
        raise UsageError(f"NIC {doubled[0][1]} of {doubled[0][0]} has two wires", where=where)
    interfaces = {*plugs, *((row.machine, row.name) for row in topology.bridges)}
    asked = [*((row.machine, port) for row in topology.bridges for port in row.ports),
             *((face.machine, face.interface) for group in topology.networks for face in group)]
    for machine, interface in (*plugs, *asked):
        if machine not in topology.machines:
            raise UsageError(f"there is no machine {machine!r}", where=where)
        if (machine, interface) not in interfaces:
            raise UsageError(f"machine {machine} has no interface {interface!r}", where=where)


def specs(topology: Topology, template: MachineSpec, model: str = DEFAULT_MODEL) -> tuple[MachineSpec, ...]:
    """The machines of a topology, each like `template` but for its name and its NICs.

    SLUB must not merge caches of like size: the slab counts are read by name (Documentation/mm/slub.rst).
    """
    check(topology)
    return tuple(
        replace(template, name=machine, append=(*template.append, "slab_nomerge"),
                nics=tuple(Nic(name=end.nic, link=row.name, model=model)
                           for row in topology.wires for end in row.ends if end.machine == machine))
        for machine in topology.machines)


def commands(topology: Topology, machine: str) -> tuple[str, ...]:
    """What `ip -batch` has to do on a machine. Addresses skip duplicate detection: nobody else is on these wires."""
    return tuple(_commands(topology, machine))


def _commands(topology: Topology, machine: str) -> Iterator[str]:
    for bridge in topology.bridges:
        if bridge.machine == machine:
            yield f"link add {bridge.name} type bridge forward_delay 0 stp_state 0"
            for port in bridge.ports:
                yield f"link set {port} master {bridge.name}"
    for face in topology.faces(machine):
        yield f"addr add {face.ipv4} dev {face.interface}"
        yield f"addr add {face.ipv6} dev {face.interface} nodad"
    for interface in (*topology.nics(machine), *_bridges(topology, machine)):
        yield f"link set {interface} up"


def interfaces(topology: Topology, machine: str) -> Sequence[str]:
    """Every interface that must have a carrier before a machine is ready."""
    return (*topology.nics(machine), *_bridges(topology, machine))


def _bridges(topology: Topology, machine: str) -> tuple[str, ...]:
    return tuple(bridge.name for bridge in topology.bridges if bridge.machine == machine)
