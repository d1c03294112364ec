# SPDX-License-Identifier: GPL-2.0-only
"""Captures in a guest: tcpdump started, known to listen, known to have seen everything, stopped and read back."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.lab import pcap
from harness.lab.bench import Host
from harness.lab.pcap import Packet
from harness.vm.ssh import Running

_READY = 20.0
_SETTLE = 20
_BORDER = "-- kph: what tcpdump said ends here --\n"

# A ring of 249 frames: the kernel may hand over netdev_budget (300) packets, merged by GRO or not, before anything else
# runs. libpcap takes a slot of the snapshot length for each (pcap-linux.c, prepare_tpacket_socket), in blocks of a
# power of two; 65600 is a little more than the longest frame. On a busy host 22 of 25 transfers of 2 MB of TCP were
# captured with losses by 32 frames and the priority of everything else, and none of 25 so.
_START = ('exec chrt -f 1 tcpdump -n -p --immediate-mode -s 65600 -B 16384 -i "$1" -w "$3.pcap" "$2" '
          '2>"$3.err"')

# On SIGUSR1 tcpdump says what it has written, what the kernel handed to its socket and what of it was lost.
_COUNT = """
counts() {  # packets that were handed over and are neither written nor lost; packets lost
    lines=$(grep -c 'dropped by kernel' "$file.err") || true
    kill -USR1 "$pid"
    until [ "$(grep -c 'dropped by kernel' "$file.err")" -gt "$lines" ]; do
        [ -d "/proc/$pid" ] || return 1
        usleep 5000
    done
    set -- $(tail -n 1 "$file.err")  # tcpdump: N packets captured, M packets received by filter, K packets dropped ...
    echo $(($5 - $2 - ${10})) "${10}"
}
settled() {  # the same, twice in a row: what is still on its way has been written by then
    before='' now=$(counts)
    until [ "$now" = "$before" ]; do
        usleep 20000
        before=$now now=$(counts)
    done
    echo "$now"
}
pid=$1 file=$2
"""

# libpcap binds its socket first and filters it then. What comes between is counted by the kernel and thrown away by
# libpcap if the filter does not want it (pcap-linux.c, blocks_to_filter_in_userland): tcpdump stays that much behind.
_BEGIN = f"""{_COUNT}
until grep -qs 'listening on' "$file.err"; do
    [ -d "/proc/$pid" ] || exit 1
    usleep 5000
done
settled
"""

_STOP = f"""{_COUNT}
until=$(($(cut -d. -f1 /proc/uptime) + {_SETTLE // 2})) start=$3
until set -- $(settled); [ "$1" -le "$start" ] || [ "$(cut -d. -f1 /proc/uptime)" -ge "$until" ]; do
    usleep 20000
done
kill -INT "$pid"
while kill -0 "$pid" 2>/dev/null; do usleep 5000; done
cat "$file.err"
echo '{_BORDER.strip()}'
cat "$file.pcap"
rm "$file.err" "$file.pcap"
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
    capture, files = Capture(), list[bytes]()
    with recording(host, device, expression, files.append):
        yield capture
    packets = pcap.parse(files[0])
    if sent:
        own = bytes.fromhex(host.read(f"/sys/class/net/{device}/address").strip().replace(":", ""))
        packets = tuple(packet for packet in packets if packet.frame[6:12] == own)
    capture.take(packets)


@contextmanager
def recording(host: Host, device: str, expression: str, take: Callable[[bytes], None]) -> Iterator[None]:
    """Run tcpdump on what it takes for a device for the block, and hand over the file that it wrote.

    Raises:
        InfraError: it did not start, or missed packets.
    """
    file = f"/tmp/kph-capture-{uuid.uuid4().hex}"  # noqa: S108 - in the guest
    running = host.start("sh", "-c", _START, "sh", device, expression, file)
    try:
        start = _begin(host, device, running, file)
        yield
    except BaseException:
        running.stop(Deadline.after(10))
        raise
    take(_finish(host, device, running, file, *start))


def _begin(host: Host, device: str, running: Running, file: str) -> tuple[int, int]:
    """Wait until tcpdump listens with its filter; the packets by which it will stay behind, and those lost before."""
    done = host.run("timeout", f"{_READY:g}", "sh", "-ec", _BEGIN, "sh", running.pid, file, check=False,
                    deadline=Deadline.after(_READY + 10))
    if done.returncode != 0:
        raise InfraError(f"tcpdump does not listen on {device} after {done.seconds:.0f} s",
                         where=f"machine {host.name}", detail=tuple(host.read(f"{file}.err").splitlines()))
    behind, lost = done.stdout.split()
    return int(behind), int(lost)


def _finish(host: Host, device: str, running: Running, file: str, behind: int, lost: int) -> bytes:
    """Let tcpdump catch up, stop it, and read what it said and wrote."""
    done = host.run("sh", "-ec", _STOP, "sh", running.pid, file, behind, deadline=Deadline.after(_SETTLE))
    running.wait(Deadline.after(5), check=False)
    said, _, data = done.stdout.partition(_BORDER)
    counts = parse_counts(said)
    if counts is None or counts[1] - counts[0] - counts[2] > behind or counts[2] > lost:
        raise InfraError(f"tcpdump missed packets on {device}", where=f"machine {host.name}",
                         detail=tuple(said.splitlines()[-20:]))
    return data.encode(errors="surrogateescape")


def parse_counts(said: str) -> tuple[int, int, int] | None:
    """What tcpdump said at its end: packets captured, received by its filter, dropped by the kernel."""
    found = [re.findall(rf"^(\d+) packets? {words}", said, re.M)
             for words in ("captured", "received by filter", "dropped by kernel")]
    if not all(found):
        return None
    captured, received, dropped = (int(numbers[-1]) for numbers in found)
    return captured, received, dropped
