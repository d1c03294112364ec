# SPDX-License-Identifier: GPL-2.0-only
"""Traffic as measurements: a verb sends something and returns what arrived; judging that is the test's.

Every payload is written by us, summed by us, and summed again in the receiving guest. A server is ready when the
guest's socket table shows it; a transfer has ended when the receiver has all bytes, or its time is up.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.lab import counters
from harness.lab.bench import Host
from harness.lab.payload import checksum, payload
from harness.proc import Completed
from harness.vm import nic as nics

_LISTEN = 10.0
_TRANSFER = 30.0
"""Seconds a transfer may take; each is a fraction of a second unless packets are lost."""
_SENT = "/tmp/kph-sent"  # noqa: S108 - in the guest
_RECEIVED = "/tmp/kph-received"  # noqa: S108 - in the guest
_SERVER = "/tmp/kph-server"  # noqa: S108 - in the guest
_SUM = f"touch {_RECEIVED}; stat -c %s {_RECEIVED}; sha256sum {_RECEIVED}; rm {_RECEIVED}"
_RCVBUF = 4 << 20
_ABSENT = 99
_OUTSTANDING = 32
"""Echo requests a flood has on the way at a time: what a round trip takes on a busy host must not be its pace."""
_UDP_HEADER, _FRAGMENT = 8, 1400
"""Bytes that a fragment carries of a datagram, with room for tunnels in 1500."""
_ROOM = 2
"""A part is so many times smaller than the ring that takes it: other frames come, too."""
_OUTSTANDING_BYTES = 32_768
"""And so many bytes of them: the kernel answers from one socket with a send buffer (icmp_init() in net/ipv4/icmp.c),
and drops what goes beyond it while a card, as vmxnet3, is slow to say what it has sent."""
_MULTIPATH = "mptcpize run "
_SUMMARY = re.compile(r"^(\d+) packets transmitted, (\d+) received(?:, \+(\d+) duplicates)?(?:, \+(\d+) errors)?", re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pings:
    """What ping(8) counted."""

    sent: int
    received: int
    duplicates: int = 0
    errors: int = 0

    @property
    def whole(self) -> bool:
        """Whether something was sent and each was answered exactly once."""
        return self.sent > 0 and self.received == self.sent and not self.duplicates and not self.errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A payload that was sent and what arrived of it.

    Attributes:
        sent: bytes.
        received: bytes, as the receiving guest has them.
        sent_sum: SHA-256 of the payload.
        received_sum: SHA-256, computed in the receiving guest.
        seconds: how long it took.
        trouble: what the sender or receiver complained of.
    """

    sent: int
    received: int
    sent_sum: str
    received_sum: str
    seconds: float
    trouble: str = ""

    @property
    def whole(self) -> bool:
        return self.sent > 0 and self.received == self.sent and self.received_sum == self.sent_sum

    def __str__(self) -> str:
        sums = "equal" if self.received_sum == self.sent_sum else "different"
        trouble = f" ({self.trouble})" if self.trouble else ""
        return f"{self.received} of {self.sent} bytes arrived, sums {sums}{trouble}"


def parse_ping(output: str) -> Pings:
    """The summary that ping of iputils ends with.

    Raises:
        InfraError: there is none.
    """
    match = _SUMMARY.search(output)
    if match is None:
        raise InfraError("ping printed no summary", detail=tuple(output.splitlines()[-10:]))
    sent, received, duplicates, errors = (int(group or 0) for group in match.groups())
    return Pings(sent=sent, received=received, duplicates=duplicates, errors=errors)


def ping(host: Host, address: str, *, count: int = 3, size: int = 56, fragment: bool = True,
         wait: float = 5.0) -> Pings:
    """Send `count` echo requests of `size` bytes of payload, one each 10 ms, and count the answers.

    Once ping has an answer, it stays only two round trips (at least an interval) after its last request, whatever its
    `-W` says (schedule_exit() in iputils' ping/ping_common.c), and on a busy host an answer may take longer than that.
    The kernel counts those that come later, whoever waits for them; where some came twice, its count says nothing.

    Args:
        fragment: whether a request bigger than the MTU may be fragmented.
        wait: seconds to wait for the last answer.
    """
    before = _echo_replies(host, address)
    done = host.run("ping", "-n", "-q", "-c", count, "-i", "0.01", "-s", size, "-W", wait,
                    "-M", "dont" if fragment else "do", address, check=False,
                    deadline=Deadline.after(wait + count * 0.2 + 20))
    pings, late = parse_ping(done.stdout + done.stderr), Deadline.after(wait)
    while 0 < pings.received < pings.sent and not pings.duplicates and not late.expired:
        answered = min(_echo_replies(host, address) - before, pings.sent)
        pings = replace(pings, received=max(pings.received, answered))
    return pings


def _echo_replies(host: Host, address: str) -> int:
    """How many echo replies the host has had by the address's protocol."""
    if _version(address) == 6:
        return counters.parse_pairs(host.read("/proc/net/snmp6"))["Icmp6InEchoReplies"]
    return counters.parse_snmp(host.read("/proc/net/snmp"))["Icmp.InEchoReps"]


def flood(host: Host, address: str, *, count: int, size: int = 56, seconds: float = 60.0) -> Pings:
    """Send `count` echo requests as fast as answers come, for at most `seconds`; a lost answer costs 10 ms."""
    outstanding = min(_OUTSTANDING, _at_once((host,), size) // size or _OUTSTANDING, max(1, _OUTSTANDING_BYTES // size))
    done = host.run("timeout", "-s", "INT", f"{seconds:g}", "ping", "-n", "-q", "-f", "-l", outstanding, "-c", count,
                    "-s", size, "-W", 5, "-M", "dont", address, check=False, deadline=Deadline.after(seconds + 20))
    return parse_ping(done.stdout + done.stderr)


def tcp(sender: Host, receiver: Host, address: str, *, size: int, port: int = 5001, seconds: float = _TRANSFER,
        multipath: tuple[bool, bool] = (False, False)) -> Transfer:
    """Send `size` bytes over one TCP connection to `address`, which the receiver has.

    Args:
        multipath: whether the sender and the receiver ask the kernel for MPTCP in place of TCP, by mptcpize(8).
    """
    kind = f"TCP{_version(address)}"
    sending, receiving = (_MULTIPATH if asked else "" for asked in multipath)
    server = receiver.start("sh", "-c", f"timeout {seconds + _LISTEN:g} {receiving}socat -u "
                                        f"{kind}-LISTEN:{port},reuseaddr CREATE:{_RECEIVED} & echo $! > {_SERVER}\n"
                                        f"wait; {_SUM}")
    _await_socket(receiver, "TCP", port)
    sent = _send(sender, size, seconds, f"{kind}:{_host(address)}:{port}", through=sending)
    if sent.returncode != 0:
        receiver.shell(f"kill $(cat {_SERVER}) 2>/dev/null", check=False)  # timeout(1) hands it on to what it runs
    return _arrived(size, sent, server.wait(Deadline.after(seconds + _LISTEN + 10), check=False))


def udp(sender: Host, receiver: Host, address: str, *, size: int, datagram: int, port: int = 5002,
        seconds: float = _TRANSFER, expect: bool = True, stopped: Callable[[], int] | None = None) -> Transfer:
    """Send `size` bytes in datagrams of `datagram` bytes to `address`.

    Where a card of the two drops what it has no room for, a part is sent when the part before it has arrived.

    Args:
        expect: whether they are expected to arrive; where not, the wait for them is cut to a second.
        stopped: where they are not, how many have got to where they are stopped until now; without it they are sent
            at once.
    """
    kind = f"UDP{_version(address)}"
    server = receiver.start("socat", "-u", "-b", 65536, f"{kind}-RECV:{port},rcvbuf={_RCVBUF}", f"CREATE:{_RECEIVED}")
    _await_socket(receiver, "UDP", port)
    to = f"{kind}-SENDTO:{_host(address)}:{port}"
    part = (_at_once((sender, receiver), datagram) if expect or stopped else 0) or size
    sent = _send(sender, size, seconds, to, "-b", str(datagram), part=(0, part))
    late = Deadline.after(seconds)
    for start in range(part, size, part):
        if stopped is not None:
            there = _reaches(stopped, start // datagram, late)
        else:
            there = receiver.until(f"[ $(stat -c %s {_RECEIVED}) -ge {start} ]", max(1.0, late.remaining))
        if not there:
            break
        sent = _send(sender, size, seconds, to, "-b", str(datagram), part=(start, part))
    # The file's size says when all is there; the sum, whether anything came twice or in another order.
    all_there = f"until [ $(stat -c %s {_RECEIVED}) -ge {size} ]; do usleep 20000; done"
    limit = seconds if expect else 1
    done = receiver.run("sh", "-c", f"timeout {limit:g} sh -c '{all_there}'; kill {server.pid}; "
                                    f"while kill -0 {server.pid} 2>/dev/null; do usleep 5000; done; {_SUM}",
                        check=False, deadline=Deadline.after(limit + 20))
    server.wait(Deadline.after(10), check=False)
    return _arrived(size, sent, done)


def _at_once(hosts: tuple[Host, ...], datagram: int) -> int:
    """Bytes that may be on the way at a time, in whole datagrams, so that no card drops a frame; 0: any number."""
    bursts = [burst for host in hosts for card in host.machine.spec.nics if (burst := nics.model(card.model).burst)]
    if not bursts:
        return 0
    frames = -(-(datagram + _UDP_HEADER) // _FRAGMENT)
    return datagram * max(1, min(bursts) // (_ROOM * frames))


def _reaches(count: Callable[[], int], wanted: int, deadline: Deadline) -> bool:
    """Ask until `count` says at least `wanted`; whether it did in time."""
    while count() < wanted:
        if deadline.expired:
            return False
    return True


def _send(sender: Host, size: int, seconds: float, to: str, *options: str,
          part: tuple[int, int] | None = None, through: str = "") -> Completed:
    """Send the payload of `size` bytes, or the part of it at an offset, with socat; it is put into the guest once."""
    data = payload(size)
    file = f"{_SENT}-{checksum(data)[:16]}"
    script = (f'[ -e "$1" ] || exit {_ABSENT}; from=$2 to=$3; shift 3; '
              f'exec timeout {seconds:g} {through}socat -u "$@" "$from" "$to"')
    source = f"FILE:{file}" if part is None or part == (0, size) else f"FILE:{file},seek={part[0]},readbytes={part[1]}"
    words = ("sh", "-c", script, "sh", file, source, to, *options)
    done = sender.run(*words, check=False, deadline=Deadline.after(seconds + 10))
    if done.returncode == _ABSENT:
        sender.machine.put(file, data)
        done = sender.run(*words, check=False, deadline=Deadline.after(seconds + 10))
    return done


def _await_socket(receiver: Host, kind: str, port: int) -> None:
    """Wait until the kernel lists a socket on `port`: a TCP socket that listens (state 0A), a UDP socket (07)."""
    protocol, state = ("tcp", "0A") if kind == "TCP" else ("udp", "07")
    bound = f"grep -qE ' [0-9A-F]+:{port:04X} [0-9A-F]+:[0-9A-F]+ {state} ' /proc/net/{protocol} /proc/net/{protocol}6"
    if not receiver.until(bound, _LISTEN):
        raise InfraError(f"the receiver has no socket on port {port} after {_LISTEN:g} s",
                         where=f"machine {receiver.name}")


def _arrived(size: int, sent: Completed, summed: Completed) -> Transfer:
    """What `_SUM` printed, beside what was sent."""
    words = summed.stdout.split()
    if len(words) < 2:
        raise InfraError("the receiver did not sum what it has", detail=summed.tail)
    return Transfer(sent=size, received=int(words[0]), sent_sum=checksum(payload(size)), received_sum=words[1],
                    seconds=sent.seconds, trouble=" ".join(f"{sent.stderr} {summed.stderr}".split())[-200:])


def _version(address: str) -> int:
    return ip_address(address).version


def _host(address: str) -> str:
    return f"[{address}]" if _version(address) == 6 else address
