# SPDX-License-Identifier: GPL-2.0-only
"""A topology that is up: machines booted, wired, addressed, and seen to reach each other."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.deadline import Deadline
from harness.errors import DeadlineExpired, KernelError
from harness.lab import topology as topologies
from harness.lab.card import Card
from harness.lab.topology import Face, Network, Topology
from harness.proc import Completed
from harness.vm import nic as nics
from harness.vm.handle import Machine, parse_addresses
from harness.vm.klog import Ignore
from harness.vm.machine import boot_all
from harness.vm.nic import DEFAULT_MODEL
from harness.vm.qemu import MachineSpec
from harness.vm.ssh import Running, Word

_LINK = 20.0
"""Seconds that a link may take from `ip link set up` until packets pass; e1000 under TCG takes one to three."""
_BARRIER = 10.0
_LABEL = 200
"""Characters of a test's name in a kernel's log, which takes no line of more than about 1000."""
_REBOOT = 180.0

# Nothing of IPv6's own accord: duplicate detection would hold addresses back, solicitations be counted as traffic.
_QUIET = """
for conf in /proc/sys/net/ipv6/conf/*; do
    echo 0 > $conf/accept_dad
    echo 0 > $conf/accept_ra
    echo 0 > $conf/router_solicitations
done
echo 8388608 > /proc/sys/net/core/rmem_max
"""
# With a deadline, -c counts replies: ping sends until it has one. But it ends for an error of the network as well, and
# three lost requests of ARP are one (ping(8), -w).
_ANSWER = """
end=$(($(date +%s) + $1))
until ping -n -q -c 1 -i 0.2 -w 1 "$0"; do
    [ $(date +%s) -lt $end ] || exit 1
    usleep 20000
done
"""
_FORWARD = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine of a lab: its shell, and where it is found on the wire.

    Attributes:
        machine: the machine itself (console, monitor, files).
        faces: its interfaces with addresses.
        kernel: `base` or `patched` where the topology asks for one; the run's otherwise.
    """

    machine: Machine
    faces: tuple[Face, ...]
    kernel: str = ""

    @property
    def name(self) -> str:
        return self.machine.name

    @property
    def dev(self) -> str:
        """Its first interface with an address."""
        return self.faces[0].interface

    @property
    def ipv4(self) -> str:
        return str(self.faces[0].ipv4.ip)

    @property
    def ipv6(self) -> str:
        return str(self.faces[0].ipv6.ip)

    def address(self, family: int) -> str:
        """Its first address of family 4 or 6."""
        return self.ipv4 if family == 4 else self.ipv6

    def face(self, interface: str) -> Face:
        """The addresses of one of its interfaces."""
        return next(face for face in self.faces if face.interface == interface)

    def card(self, name: str) -> Card:
        """One of its network cards: carrier, slot, offloads, MTU, queues.

        Raises:
            UsageError: it has none of that name.
        """
        card = Card(machine=self.machine, name=name)
        assert card.nic
        return card

    def run(self, *args: Word, deadline: Deadline | None = None, stdin: bytes | None = None,
            check: bool = True) -> Completed:
        """See `Machine.run`."""
        return self.machine.run(*args, deadline=deadline, stdin=stdin, check=check)

    def shell(self, script: str, *, deadline: Deadline | None = None, stdin: bytes | None = None,
              check: bool = True) -> Completed:
        """See `Machine.shell`."""
        return self.machine.shell(script, deadline=deadline, stdin=stdin, check=check)

    def start(self, *args: Word, deadline: Deadline | None = None) -> Running:
        """See `Machine.start`."""
        return self.machine.start(*args, deadline=deadline)

    def read(self, path: str | PurePosixPath) -> str:
        """A text file of the guest, /proc included."""
        return self.run("cat", path).stdout

    def until(self, condition: str, seconds: float) -> bool:
        """Wait in the guest until the shell command `condition` succeeds; whether it did within `seconds`.

        The question is repeated, never the traffic.
        """
        loop = f"until {condition}; do usleep 20000; done"
        done = self.run("timeout", f"{seconds:g}", "sh", "-c", loop, check=False, deadline=Deadline.after(seconds + 10))
        return done.returncode == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A topology that is up.

    Attributes:
        topology: what it was made of.
        hosts: its machines by name.
        workdir: where consoles are and captures go.
    """

    topology: Topology
    hosts: Mapping[str, Host]
    workdir: Path

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def reboot(self, name: str, *, deadline: Deadline | None = None) -> None:
        """Boot a machine anew, and give it its place on the wire again; three minutes where there is no `deadline`.

        What tests set up in it beyond the topology is gone.

        Raises:
            KernelError: it does not come up again, or does not reach its neighbours.
        """
        deadline, host = deadline or Deadline.after(_REBOOT), self.hosts[name]
        host.machine.reboot(deadline=deadline)
        _configure(self.topology, host, deadline)
        _await_carrier(self.topology, host, deadline)
        for network in self.topology.networks:
            if any(face.machine == name for face in network.faces):
                await_neighbours(self, network, deadline)

    def check(self, label: str) -> None:
        """Raise what any of the kernels reported until now.

        `label` is written to every kernel's log and waited for on its console: all that was reported before it has
        been read by then, to its end, and a reader of the log sees which test a line belongs to.

        Raises:
            KernelError: the first kernel that is not well, with its report.
        """
        label = " ".join(label.split())[:_LABEL].rstrip()
        for host in self.hosts.values():
            host.machine.check()
            with host.machine.console.watch(re.escape(f"harness: after {label}")) as marker:
                host.machine.log(f"after {label}")
                try:
                    marker.wait(Deadline.after(_BARRIER))
                except DeadlineExpired as error:
                    raise KernelError(f"{host.name}: the console does not show what was asked for in the kernel's log",
                                      where=error.where, detail=error.detail) from error
            host.machine.console.settle()
            host.machine.check()


@contextmanager
def up(topology: Topology, template: MachineSpec, workdir: Path, *, deadline: Deadline,
       model: str = DEFAULT_MODEL, kernels: Mapping[str, Path] | None = None, ignores: Iterable[Ignore] = (),
       progress: Callable[[str], None] = lambda _: None) -> Iterator[Lab]:
    """Boot the machines of `topology` at the same time, link and address them, and hold them for the block.

    Args:
        template: kernel, initramfs, memory and the like of every machine that does not say otherwise.
        workdir: gets a folder for each.
        deadline: when all of them must reach each other.
        model: of the NICs that do not name one.
        kernels: by side (`base`, `patched`), the images for machines that ask for a side.

    Raises:
        UsageError: the topology cannot be, or asks for a kernel that is not in `kernels`.
        KernelError: a kernel did not boot, or its network did not come up.
        InfraError: QEMU did not start.
    """
    specs = topologies.specs(topology, template, model, kernels)
    workdir.mkdir(parents=True, exist_ok=True)
    with boot_all(specs, workdir, deadline=deadline, ignores=ignores, links=topology.links,
                  progress=progress) as machines:
        lab = Lab(topology=topology, workdir=workdir, hosts={
            name: Host(machine=machine, faces=topology.faces(name), kernel=topology[name].kernel)
            for name, machine in machines.items()})
        for host in lab.hosts.values():
            _configure(topology, host, deadline)
        for host in lab.hosts.values():
            _await_carrier(topology, host, deadline)
        for network in topology.networks:
            await_neighbours(lab, network, deadline)
        yield lab


def _configure(topology: Topology, host: Host, deadline: Deadline) -> None:
    """Names, bridges, addresses, routes, in one command, once the drivers have found their cards.

    A card that has another name is renamed: its driver was not ready when the guest's init gave names (USB), or the
    init is another's.
    """
    station = topology[host.name]
    wanted = nics.addresses(host.name, host.machine.spec.nics)
    found = _found(host, tuple(wanted.values()), deadline)
    names = {name: found.get(address) or host.machine.nic(name) for name, address in wanted.items()}
    renames = [f"link set {now} name {name}" for name, now in names.items() if now != name]
    batch = "".join(f"{line}\n" for line in (*renames, *topologies.commands(topology, host.name)))
    turned = "".join(f"ethtool -K {name} {' '.join(f'{offload} off' for offload in wrong)}\n"
                     for name, wrong in topologies.wrong_offloads(host.machine.spec))
    host.machine.shell(f"{_QUIET}{_FORWARD if station.forward else ''}\nip -batch -\n{turned}", stdin=batch.encode(),
                       deadline=deadline)


def _found(host: Host, addresses: tuple[str, ...], deadline: Deadline) -> dict[str, str]:
    """Interfaces by address, once all of `addresses` are among them or time is up."""
    wait = "for address; do until grep -qx $address /sys/class/net/*/address; do usleep 20000; done; done"
    listed = 'timeout "$0" sh -c "$1" sh $2; exec ip -details -json link'
    limit = max(1, int(min(_LINK, deadline.remaining)))
    return parse_addresses(host.machine.run("sh", "-c", listed, limit, wait, " ".join(addresses),
                                            deadline=deadline).stdout)


def _await_carrier(topology: Topology, host: Host, deadline: Deadline) -> None:
    # Documentation/networking/operstates.rst: `unknown` for good where a driver reports no carrier (pcnet32), `down`
    # until there is one where it does.
    names = topologies.interfaces(topology, host.name)
    if not names:
        return
    up = " && ".join(f'grep -qxE "up|unknown" /sys/class/net/{shlex.quote(name)}/operstate' for name in names)
    if not host.until(f"{{ {up}; }}", min(_LINK, deadline.remaining)):
        states = host.run("ip", "-brief", "link").stdout
        raise KernelError(f"no carrier within {_LINK:g} s on all of {', '.join(names)}", where=f"machine {host.name}",
                          detail=tuple(states.splitlines()))


def await_neighbours(lab: Lab, network: Network, deadline: Deadline) -> None:
    """Wait until the first face of a network reaches the others, by both families."""
    first = lab[network.faces[0].machine]
    for other in network.faces[1:]:
        for address in (other.ipv4.ip, other.ipv6.ip):
            limit = max(1, int(min(_LINK, deadline.remaining)))
            done = first.run("sh", "-c", _ANSWER, str(address), limit, check=False)
            if done.returncode != 0:
                raise KernelError(f"{address} ({other.machine}) does not answer within {limit} s",
                                  where=f"machine {first.name}", detail=done.tail)
