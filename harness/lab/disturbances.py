# SPDX-License-Identifier: GPL-2.0-only
"""What stress does to a bridge that IPsec ends at and passes through: client - [port0 dut port1] - server.

Each is for a block: what it does is undone when the block ends, and all is as it was before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from harness.deadline import Deadline
from harness.lab import filters, ipsec
from harness.lab.bench import Host, Lab
from harness.lab.ipsec import Cipher, End
from harness.lab.kernel import Kernel
from harness.lab.stress import Disturbance, Step

_LONG = 60.0
"""Seconds that a command in a disturbed guest may take."""
_BALLAST = "/tmp/kph-ballast"  # noqa: S108 - in the guest
_MODULES = "/root"
_GUEST = 200
"""The host number of what comes to the bridge's network for a while."""
_FAILSLAB = "/sys/kernel/debug/failslab"
NEEDS = ("HOTPLUG_PCI_ACPI", "NETFILTER_XT_MATCH_PHYSDEV", "FAILSLAB", "NET_SCH_NETEM", "XFRM_USER")
"""Kernel options that the disturbances need."""


class Keys:
    """The protected traffic between two hosts, whose states and policies are replaced while it goes on."""

    def __init__(self, one: Host, other: Host, cipher: Cipher, family: int) -> None:
        self.hosts = (one, other)
        self._cipher = cipher
        self._ends = ipsec.ends(one, other, "transport", family)
        self._spi = self._ends[0].spi

    def up(self) -> None:
        """Protect the traffic."""
        for host, mine, peer in self._sides():
            ipsec.batch(host, *ipsec.states(self._cipher, "transport", mine, peer),
                        *ipsec.policies("transport", mine, peer))

    def rekey(self) -> None:
        """New states beside the old ones at both ends, then the old ones go (RFC 7296, 2.8)."""
        old = self._ends
        self._spi += 2
        self._ends = (replace(old[0], spi=self._spi), replace(old[1], spi=self._spi + 1))
        for host, mine, peer in self._sides():
            ipsec.batch(host, *ipsec.states(self._cipher, "transport", mine, peer))
        for host in self.hosts:
            ipsec.batch(host, *(f"xfrm state delete src {source.outer} dst {sink.outer} proto esp spi {source.spi:#x}"
                                for source, sink in (old, old[::-1])))

    def reload(self) -> None:
        """Take all policies away and give them back; what comes in between is not protected, and dropped."""
        for host, mine, peer in self._sides():
            ipsec.batch(host, "xfrm policy flush", *ipsec.policies("transport", mine, peer))

    def down(self) -> None:
        """Protect nothing any more."""
        for host in self.hosts:
            ipsec.clear(host)

    def _sides(self) -> tuple[tuple[Host, End, End], ...]:
        (one, other), (mine, theirs) = self.hosts, self._ends
        return (one, mine, theirs), (other, theirs, mine)


class Modules:
    """Bridge netfilter as modules of the kernel under test, which come and go; nothing where it is built in.

    Args:
        kernel: the kernel.
        out: its build folder. It may hold modules of another configuration: only what the kernel's own says counts.
    """

    _NAMES = ("net/bridge/br_netfilter.ko", "net/netfilter/xt_physdev.ko")
    """In the order in which they need each other."""

    def __init__(self, dut: Host, kernel: Kernel, out: Path) -> None:
        self._dut = dut
        self.files = tuple(out / name for name in self._NAMES) if ("BRIDGE_NETFILTER", "m") in kernel.config else ()

    def load(self) -> None:
        """Bring them into the machine and load them."""
        for path in self.files:
            self._dut.machine.put(f"{_MODULES}/{path.name}", path)
        self._insert()

    @contextmanager
    def taken_out(self, _lab: Lab, _step: Step) -> Iterator[None]:
        """Unload them with packets under way that have their data, and load them again."""
        self._dut.run("rmmod", *(path.stem for path in reversed(self.files)), deadline=Deadline.after(_LONG))
        yield
        self._insert()

    def _insert(self) -> None:
        for path in self.files:
            self._dut.run("insmod", f"{_MODULES}/{path.name}", deadline=Deadline.after(_LONG))


def actions(keys: Keys, modules: Modules) -> dict[str, Disturbance]:
    """All disturbances by name."""
    @contextmanager
    def rekey(_lab: Lab, _step: Step) -> Iterator[None]:
        keys.rekey()
        yield

    @contextmanager
    def policies(_lab: Lab, _step: Step) -> Iterator[None]:
        keys.reload()
        yield

    return {"flap": flap, "unplug": unplug, "rules": rules, "namespaces": namespaces, "capture": capture,
            "offloads": offloads, "netem": netem, "memory": memory, "failures": failures, "rekey": rekey,
            "policies": policies, **({"modules": modules.taken_out} if modules.files else {})}


def _port(step: Step) -> str:
    return f"port{step.pick % 2}"


@contextmanager
def flap(lab: Lab, step: Step) -> Iterator[None]:
    """Pull a cable of the bridge."""
    card = lab["dut"].card(_port(step))
    card.carrier(False)
    yield
    card.carrier(True)


@contextmanager
def unplug(lab: Lab, step: Step) -> Iterator[None]:
    """Take a port of the bridge out of its slot, with packets under way."""
    dut, name = lab["dut"], _port(step)
    dut.card(name).unplug()
    yield
    dut.card(name).plug()
    dut.run("ip", "link", "set", name, "master", "br0", "up")
    dut.card(name).await_carrier(True)


@contextmanager
def rules(lab: Lab, step: Step) -> Iterator[None]:
    """Rules that ask for bridge data, replaced again and again, and left for the block."""
    family = (4, 6)[step.pick % 2]
    for number in range(4):
        with filters.iptables(lab["dut"], family, {"in": f"FORWARD -m physdev --physdev-in port{number % 2}"}):
            pass
    with filters.iptables(lab["dut"], family, {"out": "FORWARD -m physdev --physdev-is-bridged --physdev-out port1"}):
        yield


@contextmanager
def namespaces(lab: Lab, step: Step) -> Iterator[None]:
    """A namespace with a port of the bridge comes and is flooded; it goes with what is under way to it."""
    dut = lab["dut"]
    network = dut.face("br0").ipv4.network
    dut.shell(f"""ip netns add kph-ns
        ip link add kph-v0 type veth peer name kph-v1 netns kph-ns
        ip link set kph-v0 master br0 up
        ip -n kph-ns link set kph-v1 up
        ip -n kph-ns addr add {network[_GUEST]}/{network.prefixlen} dev kph-v1""", deadline=Deadline.after(_LONG))
    flood = dut.start("ping", "-n", "-q", "-f", "-s", step.pick % 3000, str(network[_GUEST]))
    yield
    dut.run("ip", "netns", "del", "kph-ns", deadline=Deadline.after(_LONG))
    flood.stop(Deadline.after(_LONG))
    dut.until("! [ -e /sys/class/net/kph-v0 ]", _LONG)


@contextmanager
def capture(lab: Lab, step: Step) -> Iterator[None]:
    """Clones of all packets of a port go to a packet socket."""
    running = lab["dut"].start("tcpdump", "-n", "-i", _port(step), "-w", "/dev/null")
    yield
    running.stop(Deadline.after(_LONG))


@contextmanager
def offloads(lab: Lab, step: Step) -> Iterator[None]:
    """Turn over what a port of the bridge has its card do; e1000 resets itself for it."""
    card = lab["dut"].card(_port(step))
    names = {"tx": "tx-checksumming", "gso": "generic-segmentation-offload", "gro": "generic-receive-offload"}
    short = list(names)[step.pick // 2 % len(names)]
    now = card.features()[names[short]]
    with nullcontext() if now.fixed else card.offloads(**{short: not now.on}):
        yield


@contextmanager
def netem(lab: Lab, step: Step) -> Iterator[None]:
    """Lose, double, delay and reorder what the client sends."""
    bad = ({"loss": "10%"}, {"duplicate": "20%"}, {"delay": "20ms 10ms", "reorder": "25%"},
           {"loss": "3%", "duplicate": "5%"})[step.pick % 4]
    with lab["client"].card("lan0").netem(**bad):
        yield


@contextmanager
def memory(lab: Lab, step: Step) -> Iterator[None]:
    """Take four to seven tenths of the memory that is left in the machine under test."""
    lab["dut"].shell(f"""free=$(sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)
        dd if=/dev/zero of={_BALLAST} bs=1024 count=$((free * {4 + step.pick % 4} / 10)) 2>/dev/null ||
            true  # as much as the file system takes""",
                     deadline=Deadline.after(_LONG))
    yield
    lab["dut"].run("rm", "-f", _BALLAST, deadline=Deadline.after(_LONG))


@contextmanager
def failures(lab: Lab, step: Step) -> Iterator[None]:
    """Let some of the allocations fail that cannot wait: those of the network, where packets come in and are copied.

    Documentation/fault-injection/fault-injection.rst. By cache it would be finer, but until Linux 6.2 a cache's
    `failslab` file can only be read.
    """
    lab["dut"].shell(f"""[ -d {_FAILSLAB} ] || mount -t debugfs none /sys/kernel/debug
        echo Y > {_FAILSLAB}/ignore-gfp-wait
        echo 0 > {_FAILSLAB}/verbose
        echo {1 + step.pick % 10} > {_FAILSLAB}/probability
        echo -1 > {_FAILSLAB}/times""", deadline=Deadline.after(_LONG))
    yield
    lab["dut"].shell(f"echo 0 > {_FAILSLAB}/probability", deadline=Deadline.after(_LONG))
