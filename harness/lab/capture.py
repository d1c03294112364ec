# SPDX-License-Identifier: GPL-2.0-only
"""Captures in a guest: tcpdump started, known to listen, known to have seen everything, stopped and read back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.lab import pcap
from harness.lab.bench import Host
from harness.lab.pcap import Packet

_READY = 15.0
_SETTLE = 10.0
_FILE = "/tmp/kph-capture"  # noqa: S108 - in the guest
_DROPPED = re.compile(r"^(\d+) packets? dropped by kernel", re.M)

# On SIGUSR1 tcpdump says what the kernel handed to its socket and what it has written: all is written when they agree.
_CAUGHT_UP = f"""
: > {_FILE}.err
kill -USR1 $1
until grep -q 'received by filter' {_FILE}.err; do usleep 5000; done
set -- $(grep -o '[0-9]* packets* captured' {_FILE}.err) $(grep -o '[0-9]* packets* received' {_FILE}.err)
[ "$1" = "$4" ]
"""


class Capture:
    """A capture that runs in a guest, or has run. Made by `capturing`."""

    def __init__(self) -> None:
        self._packets: tuple[Packet, ...] | None = None

    @property
    def packets(self) -> tuple[Packet, ...]:
        """Everything it saw; to be asked after the block."""
        if self._packets is None:
            raise InfraError("a capture can be read when its block has ended")
        return self._packets

    def take(self, packets: tuple[Packet, ...]) -> None:
        """What `capturing` read back."""
        self._packets = packets


@contextmanager
def capturing(host: Host, device: str, expression: str = "", *, sent: bool = False) -> Iterator[Capture]:
    """Capture on an interface of a guest what `expression` (pcap-filter(7)) matches, for the block.

    Args:
        sent: only what leaves. What comes in need not be as it was on the wire: ESP is decrypted in GRO before a
            capture sees it (net/ipv4/esp4_offload.c), and what a tunnel carried comes in a second time.

    Raises:
        InfraError: tcpdump did not start, or missed packets.
    """
    capture = Capture()
    script = f'exec tcpdump -n -p -U --immediate-mode -s 0 -B 8192 -i "$1" -w {_FILE}.pcap "$2" 2>>{_FILE}.err'
    host.run("sh", "-c", f"rm -f {_FILE}.pcap; : > {_FILE}.err")
    running = host.start("sh", "-c", script, "sh", device, expression)
    try:
        if not host.until(f"grep -q 'listening on' {_FILE}.err", _READY):
            raise InfraError(f"tcpdump does not listen on {device} after {_READY:g} s", where=f"machine {host.name}",
                             detail=tuple(host.read(f"{_FILE}.err").splitlines()))
        yield capture
        host.machine.put(f"{_FILE}.sh", _CAUGHT_UP.encode())
        caught_up = host.until(f"sh -e {_FILE}.sh {running.pid}", _SETTLE)
    finally:
        running.stop(Deadline.after(10), signal="INT")
    said = host.read(f"{_FILE}.err")
    dropped = _DROPPED.search(said)
    if not caught_up or dropped is None or int(dropped[1]):
        raise InfraError(f"tcpdump missed packets on {device}", where=f"machine {host.name}",
                         detail=tuple(said.splitlines()))
    packets = pcap.parse(host.machine.get(f"{_FILE}.pcap"))
    if sent:
        own = bytes.fromhex(host.read(f"/sys/class/net/{device}/address").strip().replace(":", ""))
        packets = tuple(packet for packet in packets if packet.frame[6:12] == own)
    capture.take(packets)
