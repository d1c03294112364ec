# SPDX-License-Identifier: GPL-2.0-only
"""What netfilter hands to programs: packets that it logs (NFLOG) and packets that wait for a verdict (NFQUEUE).

tcpdump is the program for both: libpcap reads a log group as the device `nflog:N`, and a queue as `nfqueue:N`, whose
packets it lets go on (its pcap-netfilter-linux.c).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.lab import pcap
from harness.lab.bench import Host
from harness.lab.capture import recording
from harness.vm.running import Running

_QUEUES = "/proc/net/netfilter/nfnetlink_queue"
_INDEV, _OUTDEV, _PHYSINDEV, _PHYSOUTDEV, _PAYLOAD, _PREFIX = 4, 5, 6, 7, 9, 10
_NATIVE = "<" if sys.byteorder == "little" else ">"


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A packet that was logged, with the numbers of its interfaces; 0 where it had none.

    Attributes:
        indev: it came in by, as the hook has it.
        outdev: it leaves by.
        physindev: the port of the bridge that it came in by.
        physoutdev: the port that it leaves by.
        prefix: of the rule.
        payload: the packet from its IP header on.
    """

    indev: int = 0
    outdev: int = 0
    physindev: int = 0
    physoutdev: int = 0
    prefix: str = ""
    payload: bytes = b""


class Log:
    """What a group logged for a block; to be asked after it. Made by `logging`."""

    def __init__(self) -> None:
        self.packets: tuple[Logged, ...] = ()

    def take(self, data: bytes) -> None:
        """The capture file of the group."""
        self.packets = tuple(parse(record) for record in pcap.records(data, pcap.NFLOG))


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A queue's state: packets that wait, those that the kernel dropped for want of room, and all there ever were."""

    waiting: int
    dropped: int
    total: int


class Queue:
    """A queue whose packets a program in the guest lets go on. Made by `queue`."""

    def __init__(self, host: Host, number: int, running: Running) -> None:
        self._host = host
        self._number = number
        self._running = running

    @property
    def state(self) -> Queued:
        """What the kernel says of it.

        Raises:
            InfraError: nobody listens to it.
        """
        found = parse_queues(self._host.read(_QUEUES)).get(self._number)
        if found is None:
            raise InfraError(f"no program listens to queue {self._number}", where=f"machine {self._host.name}")
        return found

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let packets wait for the block."""
        self._running.signal("STOP", Deadline.after(10))
        try:
            yield
        finally:
            self._running.signal("CONT", Deadline.after(10))

    def waits(self, count: int, seconds: float) -> bool:
        """Whether so many packets wait before `seconds` are over."""
        return self._host.until(f"awk '$1 == {self._number} {{ exit $3 != {count} }}' {_QUEUES}", seconds)


def parse(record: bytes) -> Logged:
    """A record of link type NFLOG: a header of 4 bytes, then attributes as netlink has them, padded to 4 bytes.

    Raises:
        InfraError: it ends within an attribute.
    """
    values: dict[int, bytes] = {}
    at = 4
    while at < len(record):
        if at + 4 > len(record):
            raise InfraError("a logged packet ends within an attribute's header")
        length, kind = struct.unpack_from(_NATIVE + "HH", record, at)
        if length < 4 or at + length > len(record):
            raise InfraError(f"a logged packet ends within attribute {kind}")
        values[kind] = record[at + 4:at + length]
        at += (length + 3) & ~3
    number = {kind: int.from_bytes(values.get(kind, b""), "big") for kind in (_INDEV, _OUTDEV, _PHYSINDEV, _PHYSOUTDEV)}
    return Logged(indev=number[_INDEV], outdev=number[_OUTDEV], physindev=number[_PHYSINDEV],
                  physoutdev=number[_PHYSOUTDEV], payload=values.get(_PAYLOAD, b""),
                  prefix=values.get(_PREFIX, b"").rstrip(b"\0").decode("ascii", "replace"))


def parse_queues(text: str) -> dict[int, Queued]:
    """/proc/net/netfilter/nfnetlink_queue, by number (`seq_show()` in net/netfilter/nfnetlink_queue.c)."""
    rows = [[int(word) for word in line.split()] for line in text.splitlines() if line.strip()]
    return {row[0]: Queued(waiting=row[2], dropped=row[5] + row[6], total=row[7]) for row in rows}


@contextmanager
def logging(host: Host, group: int) -> Iterator[Log]:
    """Take down what is logged to a group for the block.

    Raises:
        InfraError: tcpdump did not start, or missed packets.
    """
    log = Log()
    with recording(host, f"nflog:{group}", "", log.take):
        yield log


@contextmanager
def queue(host: Host, number: int) -> Iterator[Queue]:
    """Have a program in the guest let the packets of a queue go on, for the block.

    Raises:
        InfraError: it does not listen.
    """
    running = host.start("tcpdump", "-n", "-i", f"nfqueue:{number}", "-w", "/dev/null")
    try:
        if not host.until(f"awk '$1 == {number} {{ found = 1 }} END {{ exit !found }}' {_QUEUES}", 20):
            raise InfraError(f"tcpdump does not listen to queue {number}", where=f"machine {host.name}")
        yield Queue(host, number, running)
    finally:
        running.stop(Deadline.after(10))
