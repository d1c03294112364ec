# SPDX-License-Identifier: GPL-2.0-only
"""Pure: the ready-made topologies. Every plan has them; docs/lab.md shows them."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import UsageError
from harness.lab.topology import RUNS_MODEL, Bridge, Network, Station, Topology
from harness.vm.nic import Nic


def station(name: str, nics: dict[str, str], *, kernel: str = "", bridges: tuple[Bridge, ...] = (),
            forward: bool = False) -> Station:
    """A machine whose NICs, by name with their link, are of the model that the run is on."""
    return Station(name=name, kernel=kernel, bridges=bridges, forward=forward,
                   nics=tuple(Nic(name=nic, link=link, model=RUNS_MODEL) for nic, link in nics.items()))


SOLO = Topology(name="solo", machines=(Station(name="dut", nics=()),))
"""One machine, with nothing but its shell."""

SMP = Topology(name="smp", machines=(Station(name="dut", nics=(), cpus=2),))
"""One machine with two processors."""

PAIR = Topology(
    name="pair",
    machines=(station("a", {"lan0": "wire"}), station("b", {"lan0": "wire"})),
    networks=(Network(number=1, members=(("a", "lan0"), ("b", "lan0"))),),
)
"""Two machines with a cable between them."""

BRIDGE = Topology(
    name="bridge",
    machines=(station("client", {"lan0": "near"}),
              station("dut", {"port0": "near", "port1": "far"},
                      bridges=(Bridge(name="br0", ports=("port0", "port1")),)),
              station("server", {"lan0": "far"})),
    networks=(Network(number=2, members=(("client", "lan0"), ("server", "lan0"), ("dut", "br0"))),),
)
"""A client and a server, and between them a machine that bridges its two NICs and has an address on the bridge."""

IPSEC_GATEWAYS = Topology(
    name="ipsec-gateways",
    machines=(station("client", {"lan0": "near"}),
              station("left", {"lan0": "near", "wan0": "wan"}, forward=True),
              station("right", {"wan0": "wan", "lan0": "far"}, forward=True),
              station("server", {"lan0": "far"})),
    networks=(Network(number=3, members=(("client", "lan0"), ("left", "lan0"))),
              Network(number=4, members=(("left", "wan0"), ("right", "wan0"))),
              Network(number=5, members=(("server", "lan0"), ("right", "lan0")))),
)
"""A client and a server behind a gateway each, and the network between the gateways that ESP is seen on."""

MULTIPATH = Topology(
    name="multipath",
    machines=(station("client", {"lan0": "upper", "lan1": "lower"}),
              station("server", {"lan0": "upper", "lan1": "lower"})),
    networks=(Network(number=6, members=(("client", "lan0"), ("server", "lan0"))),
              Network(number=7, members=(("client", "lan1"), ("server", "lan1")))),
)
"""Two machines with two cables and networks between them that share nothing."""

MIXED = Topology(
    name="mixed",
    machines=(station("a", {"lan0": "wire"}, kernel="base"), station("b", {"lan0": "wire"}, kernel="patched")),
    networks=(Network(number=8, members=(("a", "lan0"), ("b", "lan0"))),),
)
"""Two machines with a cable between them, one with the kernel before the series and one with the kernel after it."""

SEGMENT = Topology(
    name="segment",
    machines=tuple(station(name, {"lan0": "segment"}) for name in ("a", "b", "c")),
    networks=(Network(number=9, members=(("a", "lan0"), ("b", "lan0"), ("c", "lan0"))),),
)
"""Three machines on one shared segment, where each sees all frames."""

READY_MADE = (SOLO, SMP, PAIR, BRIDGE, IPSEC_GATEWAYS, MULTIPATH, MIXED, SEGMENT)


def get(name: str, more: Sequence[Topology] = ()) -> Topology:
    """The topology called `name`, a ready-made one or one of `more`.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    known = (*READY_MADE, *more)
    for row in known:
        if row.name == name:
            return row
    raise UsageError(f"unknown topology {name!r}", hint=f"known: {', '.join(row.name for row in known)}")
