# SPDX-License-Identifier: GPL-2.0-only
"""Network namespaces within a machine: hosts of their own for commands, traffic and rules, with veth pairs between.

What crosses from one to the other leaves its state behind (`skb_scrub_packet()` in net/core/skbuff.c), which is what
they are good for in a test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from harness.deadline import Deadline
from harness.lab.bench import Host
from harness.lab.topology import Face, Network
from harness.proc import Completed
from harness.vm.ssh import Running, Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace(Host):
    """A network namespace of a machine; everything runs in it, and files are the machine's.

    Attributes:
        space: its name, as `ip netns` has it.
    """

    space: str

    @property
    def name(self) -> str:
        return f"{self.machine.name}/{self.space}"

    def run(self, *args: Word, deadline: Deadline | None = None, stdin: bytes | None = None,
            check: bool = True) -> Completed:
        """See `Machine.run`."""
        return self.machine.run("ip", "netns", "exec", self.space, *args, deadline=deadline, stdin=stdin, check=check)

    def shell(self, script: str, *, deadline: Deadline | None = None, stdin: bytes | None = None,
              check: bool = True) -> Completed:
        """See `Machine.shell`."""
        return self.run("sh", "-ec", script, deadline=deadline, stdin=stdin, check=check)

    def start(self, *args: Word, deadline: Deadline | None = None) -> Running:
        """See `Machine.start`."""
        return self.machine.start("ip", "netns", "exec", self.space, *args, deadline=deadline)


def veth(number: int, one: str, other: str) -> tuple[Face, Face]:
    """The faces of both ends of a veth pair on IP network `number`; `one` and `other` are the namespaces' names.

    Their interfaces are called `to-<the other>`.
    """
    first, second = Network(number=number, members=((one, f"to-{other}"), (other, f"to-{one}"))).faces
    return first, second


@contextmanager
def namespaces(host: Host, *names: str, faces: Sequence[Face] = ()) -> Iterator[tuple[Namespace, ...]]:
    """Make namespaces for a block, their loopback up and their `faces` addressed.

    Args:
        faces: as `veth` gives them, both ends of each pair after each other; a face's machine is its namespace.
    """
    with ExitStack() as stack:
        for name in names:
            host.run("ip", "netns", "add", name)
            stack.callback(host.run, "ip", "netns", "del", name, check=False)
        for one, other in zip(faces[::2], faces[1::2], strict=True):
            host.run("ip", "link", "add", one.interface, "netns", one.machine, "type", "veth", "peer", "name",
                     other.interface, "netns", other.machine)
        made = tuple(Namespace(machine=host.machine, space=name,
                               faces=tuple(face for face in faces if face.machine == name)) for name in names)
        for space in made:
            lines = ["link set lo up"]
            for face in space.faces:
                dev = face.interface
                lines += [f"addr add {face.ipv4} dev {dev}", f"addr add {face.ipv6} dev {dev} nodad",
                          f"link set {dev} up"]
            space.run("ip", "-batch", "-", stdin="".join(f"{line}\n" for line in lines).encode())
        yield made
