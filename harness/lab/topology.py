# SPDX-License-Identifier: GPL-2.0-only
"""Pure: which machines a test needs, how they are linked, which addresses and routes they have.

Everything is fixed by names and order, so that a packet in a capture means the same in every run. Addresses of
network N are 10.77.N.0/24 and fd77:N::/64, its hosts count from 1. Ready-made ones: `harness.lab.shapes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.vm import nic as nics
from harness.vm.nic import DEFAULT_MODEL, Link, Nic, check_name
from harness.vm.qemu import MachineSpec

RUNS_MODEL = ""
"""The model of a NIC that takes whichever the run is on."""
_IPV6_MTU = 1280
"""The least that IPv6 takes (RFC 8200, 5)."""
NETWORKS = range(1, 255)
"""What a network's number may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A Linux bridge in a machine, with these of its NICs as ports."""

    name: str
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A machine of a topology.

    Attributes:
        name: its name; its host name, too.
        nics: its cards; those whose model is `RUNS_MODEL` are of the model that the run is on.
        kernel: `base` or `patched`; the run's where empty.
        memory: MiB; the plan's where 0.
        cpus: the plan's where 0.
        bridges: what it bridges.
        forward: whether it forwards IP packets; routes lead through such machines.
    """

    name: str
    nics: tuple[Nic, ...]
    kernel: str = ""
    memory: int = 0
    cpus: int = 0
    bridges: tuple[Bridge, ...] = ()
    forward: bool = False

    @property
    def interfaces(self) -> tuple[str, ...]:
        """Its cards and bridges."""
        return (*(nic.name for nic in self.nics), *(bridge.name for bridge in self.bridges))


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Interfaces that reach each other directly: (machine, interface) pairs, which have the host numbers 1, 2, ..."""

    number: int
    members: tuple[tuple[str, str], ...]

    @property
    def ipv4(self) -> str:
        return f"10.77.{self.number}.0/24"

    @property
    def ipv6(self) -> str:
        return f"fd77:{self.number}::/64"

    @property
    def faces(self) -> tuple[Face, ...]:
        """Its members with their addresses."""
        return tuple(Face(machine=machine, interface=interface, ipv4=IPv4Interface(f"10.77.{self.number}.{host}/24"),
                          ipv6=IPv6Interface(f"fd77:{self.number}::{host:x}/64"))
                     for host, (machine, interface) in enumerate(self.members, 1))

    def face(self, machine: str) -> Face | None:
        """Where a machine is on it."""
        return next((face for face in self.faces if face.machine == machine), None)


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
        machines: in the order they are booted.
        links: those that have conditions or an MTU; what else NICs name is a plain one.
        networks: IP networks, in the order that a machine's first address is chosen by.
    """

    name: str
    machines: tuple[Station, ...]
    links: tuple[Link, ...] = ()
    networks: tuple[Network, ...] = ()

    def __getitem__(self, machine: str) -> Station:
        return next(station for station in self.machines if station.name == machine)

    def faces(self, machine: str) -> tuple[Face, ...]:
        """Where a machine has addresses."""
        return tuple(face for network in self.networks if (face := network.face(machine)) is not None)

    @property
    def kernels(self) -> tuple[str, ...]:
        """The sides whose kernels it asks for by name."""
        return tuple(dict.fromkeys(station.kernel for station in self.machines if station.kernel))


def check(topology: Topology) -> None:
    """Refuse a topology that contradicts itself.

    Raises:
        UsageError: a link has one end, a bridge or network names an interface that is not there, a machine is named
            twice or in one network twice.
    """
    where = f"topology {topology.name}"
    names = [station.name for station in topology.machines]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two machines are called {name!r}", where=where)
    ends = [nic.link for station in topology.machines for nic in station.nics if nic.link]
    for link in (*ends, *(link.name for link in topology.links)):
        if ends.count(link) < 2:
            raise UsageError(f"link {link!r} has {ends.count(link)} end{'s' * (ends.count(link) != 1)}, "
                             "it needs two or more", where=where)
    for station in topology.machines:
        for name in station.interfaces:
            check_name(name)
        _check_bridges(station, where)
    for network in topology.networks:
        if network.number not in NETWORKS:
            raise UsageError(f"{network.number} is no number for a network", where=where,
                             hint=f"{NETWORKS[0]} to {NETWORKS[-1]}")
        _check_interfaces(topology, network.members)
        members = [machine for machine, _ in network.members]
        if len(set(members)) < len(members):
            raise UsageError(f"a machine is in network {network.number} twice", where=where)
        _check_reach(topology, network)
    numbers = [network.number for network in topology.networks]
    if len(set(numbers)) < len(numbers):
        raise UsageError("two networks have one number", where=where)


def _check_bridges(station: Station, where: str) -> None:
    """Refuse bridges that Linux would make in another way than they are described, or not at all."""
    ports = [port for bridge in station.bridges for port in bridge.ports]
    cards = [nic.name for nic in station.nics]
    for name in station.interfaces:
        if station.interfaces.count(name) > 1:
            raise UsageError(f"machine {station.name} has two interfaces {name!r}", where=where)
    for port in ports:
        if port not in cards:
            raise UsageError(f"machine {station.name} has no interface {port!r} for a bridge", where=where,
                             hint=f"it has {', '.join(cards)}")
        if ports.count(port) > 1:
            raise UsageError(f"interface {port} of machine {station.name} is the port of a bridge twice", where=where)


def _check_reach(topology: Topology, network: Network) -> None:
    """Refuse a network whose members frames do not get to from each other, by links and bridges."""
    where = f"topology {topology.name}"
    if not network.members:
        raise UsageError(f"network {network.number} has no members", where=where)
    wires = {(station.name, nic.name): nic.link for station in topology.machines for nic in station.nics}
    small = {link.name for link in topology.links if 0 < link.mtu < _IPV6_MTU}
    for machine, interface in network.members:
        if any(interface in bridge.ports for bridge in topology[machine].bridges):
            raise UsageError(f"{machine}.{interface} is a bridge's port: network {network.number} cannot have it",
                             where=where, hint="the bridge has the address")
        if wires.get((machine, interface)) in small:
            raise UsageError(f"{machine}.{interface} of network {network.number} is on a link with an MTU below "
                             f"{_IPV6_MTU}, and IPv6 needs that", where=where)
    reached = _segment(topology, network.members[0])
    for machine, interface in network.members[1:]:
        if (machine, interface) not in reached:
            raise UsageError(f"no link leads from {'.'.join(network.members[0])} to {machine}.{interface}, "
                             f"which network {network.number} has both", where=where)


def _segment(topology: Topology, start: tuple[str, str]) -> set[tuple[str, str]]:
    """The interfaces that a frame from one gets to."""
    groups = [{(station.name, name) for name in (bridge.name, *bridge.ports)}
              for station in topology.machines for bridge in station.bridges]
    links = {nic.link for station in topology.machines for nic in station.nics if nic.link}
    groups += [{(station.name, nic.name) for station in topology.machines for nic in station.nics if nic.link == link}
               for link in sorted(links)]
    reached = {start}
    while more := [group for group in groups if group & reached and not group <= reached]:
        reached = reached.union(*more)
    return reached


def _check_interfaces(topology: Topology, asked: Sequence[tuple[str, str]]) -> None:
    where = f"topology {topology.name}"
    for machine, interface in asked:
        station = next((row for row in topology.machines if row.name == machine), None)
        if station is None:
            raise UsageError(f"there is no machine {machine!r}", where=where,
                             hint=f"it has {', '.join(row.name for row in topology.machines)}")
        if interface not in station.interfaces:
            raise UsageError(f"machine {machine} has no interface {interface!r}", where=where,
                             hint=f"it has {', '.join(station.interfaces)}")


def specs(topology: Topology, template: MachineSpec, model: str = DEFAULT_MODEL,
          kernels: Mapping[str, Path] | None = None) -> tuple[MachineSpec, ...]:
    """The machines of a topology, each like `template` where it does not say something else itself.

    SLUB must not merge caches of like size: the slab counts are read by name (Documentation/mm/slub.rst).

    Args:
        model: of the NICs that do not name one.
        kernels: by side, the images for machines that ask for a side.

    Raises:
        UsageError: the topology contradicts itself, or asks for a kernel that is not in `kernels`.
    """
    check(topology)
    known = kernels or {}
    for side in topology.kernels:
        if side not in known:
            raise UsageError(f"topology {topology.name} boots the {side} kernel, and this run has none")
    return tuple(
        replace(template, name=station.name, append=(*template.append, "slab_nomerge"),
                kernel=known[station.kernel] if station.kernel else template.kernel,
                memory_mib=station.memory or template.memory_mib, cpus=station.cpus or template.cpus,
                nics=tuple(replace(nic, model=nic.model or model) for nic in station.nics))
        for station in topology.machines)


def commands(topology: Topology, machine: str) -> tuple[str, ...]:
    """What `ip -batch` has to do on a machine. Addresses skip duplicate detection: nobody else is on these links."""
    return tuple(_commands(topology, topology[machine]))


def _commands(topology: Topology, station: Station) -> Iterator[str]:
    mtu = {link.name: link.mtu for link in topology.links if link.mtu}
    for nic in station.nics:
        if nic.link in mtu:
            yield f"link set {nic.name} mtu {mtu[nic.link]}"
    for bridge in station.bridges:
        yield f"link add {bridge.name} type bridge forward_delay 0 stp_state 0"
        for port in bridge.ports:
            yield f"link set {port} master {bridge.name}"
    for face in topology.faces(station.name):
        yield f"addr add {face.ipv4} dev {face.interface}"
        yield f"addr add {face.ipv6} dev {face.interface} nodad"
    for interface in station.interfaces:
        yield f"link set {interface} up"
    for network, gateway in routes(topology, station.name):
        yield f"route add {network.ipv4} via {gateway.ipv4.ip}"
        yield f"route add {network.ipv6} via {gateway.ipv6.ip}"


def wrong_offloads(spec: MachineSpec) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The cards of a machine that have offloads to be turned off, and which (`Model.wrong_offloads`)."""
    return tuple((nic.name, wrong) for nic in spec.nics if (wrong := nics.model(nic.model).wrong_offloads))


def interfaces(topology: Topology, machine: str) -> Sequence[str]:
    """Every interface that must have a carrier before a machine is ready."""
    station = topology[machine]
    return (*(nic.name for nic in station.nics if nic.link), *(bridge.name for bridge in station.bridges))


def routes(topology: Topology, machine: str) -> tuple[tuple[Network, Face], ...]:
    """The networks that a machine reaches through others, each with the first gateway on the way.

    The way has the fewest gateways; of several such, the one whose networks and machines come first.
    """
    own = [network for network in topology.networks if network.face(machine)]
    found: dict[int, Face] = {}
    seen = {network.number for network in own}
    queue: list[tuple[Network, Face | None]] = [(network, None) for network in own]
    while queue:
        network, first = queue.pop(0)
        for face in network.faces:
            if face.machine == machine or not topology[face.machine].forward:
                continue
            for other in topology.networks:
                if other.number not in seen and other.face(face.machine):
                    seen.add(other.number)
                    found[other.number] = first or face
                    queue.append((other, first or face))
    return tuple((network, found[network.number]) for network in topology.networks if network.number in found)


def to_json(topology: Topology) -> dict[str, Any]:
    """A topology as JSON, see `from_json`."""
    return asdict(topology)


def from_json(value: Mapping[str, Any]) -> Topology:
    """The topology that `to_json` wrote. Raises KeyError or TypeError where it is none."""
    def nic(row: Mapping[str, Any]) -> Nic:
        return Nic(**{**row, "properties": tuple(row["properties"])})

    def station(row: Mapping[str, Any]) -> Station:
        bridges = tuple(Bridge(name=each["name"], ports=tuple(each["ports"])) for each in row["bridges"])
        return Station(**{**row, "nics": tuple(map(nic, row["nics"])), "bridges": bridges})

    def network(row: Mapping[str, Any]) -> Network:
        return Network(number=row["number"], members=tuple((each[0], each[1]) for each in row["members"]))

    return Topology(name=value["name"], machines=tuple(map(station, value["machines"])),
                    links=tuple(Link(**row) for row in value["links"]),
                    networks=tuple(map(network, value["networks"])))
