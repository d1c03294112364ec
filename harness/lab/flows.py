# SPDX-License-Identifier: GPL-2.0-only
"""Flows: traffic that goes on by itself in the guests while other things happen, counted there, read here.

A flow repeats one transfer and counts what became of each: whole, wrong (it came, and was not what was sent), or lost
(nothing came in time). What disturbs a link may lose transfers; nothing may make one wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.lab.bench import Host
from harness.lab.payload import checksum, payload
from harness.vm.ssh import Running

_FOLDER = "/tmp/kph-flows"  # noqa: S108 - in the guest
_READY = 20.0
_END = 60.0
"""Seconds that the transfers under way have to end."""

# What is asked of the receiver is the sum of what it got; it can only answer when it has seen the end.
_TCP = """
said=$(timeout 20 socat -t 15 - "$to,connect-timeout=5" < "$file" 2>/dev/null) || said=
case "${said%% *}" in
    "$sum") ok=$((ok + 1)) ;;
    "") lost=$((lost + 1)); usleep 100000 ;;
    *) wrong=$((wrong + 1)) ;;
esac
"""
# An echo is whole or lost: the kernel drops what has a wrong checksum before ping sees it. Without -w, with which ping
# sends until it has `count` answers and leaves some requests unanswered on purpose. What comes later than two round
# trips after a round's last request is lost, too, whatever -W says (schedule_exit() in iputils' ping_common.c).
_ECHO = """
said=$(timeout 20 ping -n -q -f -l 4 -c "$count" -s "$size" -W 2 "$to" 2>&1) || true
set -- $(echo "$said" | sed -n 's/^\\([0-9]*\\) packets transmitted, \\([0-9]*\\) received.*/\\1 \\2/p')
ok=$((ok + ${2:-0})) lost=$((lost + ${1:-$count} - ${2:-0}))
[ "${2:-0}" -gt 0 ] || usleep 100000
"""
_LOOP = f"""
name=$1 to=$2 file=$3 sum=$4 count=$5 size=$6 ok=0 wrong=0 lost=0
while [ -e {_FOLDER}/run ]; do
%s
    echo "$ok $wrong $lost" > {_FOLDER}/$name.part
    mv {_FOLDER}/$name.part {_FOLDER}/$name
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Traffic from one host to another.

    Attributes:
        name: unique among the flows that run together; a file name.
        sender, receiver: hosts.
        address: of the receiver, 4 or 6.
        size: bytes of a transfer, or of an echo request's payload.
        port: of the receiver's TCP server; 0: echo requests.
        count: echo requests in a round.
    """

    name: str
    sender: Host
    receiver: Host
    address: str
    size: int
    port: int = 0
    count: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What became of a flow's transfers until now.

    Attributes:
        whole: they arrived as they were sent.
        wrong: something else arrived; of TCP only, an echo that is wrong is lost.
        lost: nothing arrived in time.
        size: bytes of one.
    """

    whole: int = 0
    wrong: int = 0
    lost: int = 0
    size: int = 0


class Flows:
    """Flows that run. Made by `running`."""

    def __init__(self, flows: Sequence[Flow]) -> None:
        self._flows = tuple(flows)

    def tallies(self) -> dict[str, Tally]:
        """By name, what became of each flow's transfers until now."""
        found: dict[str, Tally] = {}
        for host in {flow.sender.name: flow.sender for flow in self._flows}.values():
            own = [flow for flow in self._flows if flow.sender.name == host.name]
            said = host.shell("".join(f"cat {_FOLDER}/{flow.name} 2>/dev/null || echo 0 0 0\n" for flow in own)).stdout
            for flow, line in zip(own, said.splitlines(), strict=True):
                whole, wrong, lost = map(int, line.split())
                found[flow.name] = Tally(whole=whole, wrong=wrong, lost=lost, size=flow.size)
        return found


@contextmanager
def running(flows: Sequence[Flow]) -> Iterator[Flows]:
    """Have the flows run for the block. They have ended when it has.

    An interrupt does not wait for them.

    Raises:
        InfraError: a server does not start, or a flow does not end.
    """
    hosts = {host.name: host for flow in flows for host in (flow.sender, flow.receiver)}.values()
    with ExitStack() as stack:
        for host in hosts:
            host.shell(f"rm -rf {_FOLDER}; mkdir {_FOLDER}; touch {_FOLDER}/run")
        for receiver, port in sorted({(flow.receiver.name, flow.port) for flow in flows if flow.port}):
            _serve(stack, next(host for host in hosts if host.name == receiver), port)
        loops = [_start(flow) for flow in flows]
        stack.callback(_end, flows, loops)
        try:
            yield Flows(flows)
        except KeyboardInterrupt:
            stack.pop_all()  # nothing is asked of the guests any more: their machines end, and take all of it along
            raise


def _end(flows: Sequence[Flow], loops: Sequence[Running]) -> None:
    """Let the transfers under way end, and no other begin."""
    for host in {flow.sender.name: flow.sender for flow in flows}.values():
        host.shell(f"rm -f {_FOLDER}/run", check=False)
    for flow, loop in zip(flows, loops, strict=True):
        if loop.wait(Deadline.after(_END), check=False).returncode:
            raise InfraError(f"flow {flow.name} ended in disorder", where=f"machine {flow.sender.name}")


def _serve(stack: ExitStack, host: Host, port: int) -> None:
    """A TCP server of both families that answers each connection with the sum of what it was sent."""
    server = host.start("socat", "-T", 30, f"TCP6-LISTEN:{port},ipv6only=0,fork,reuseaddr,max-children=50",
                        "EXEC:sha256sum")
    stack.callback(lambda: server.stop(Deadline.after(_READY)))
    if not host.until(f"grep -q ':{port:04X} [0-9A-F]*:0000 0A ' /proc/net/tcp6", _READY):
        raise InfraError(f"no server listens on port {port}", where=f"machine {host.name}")


def _start(flow: Flow) -> Running:
    data = payload(flow.size) if flow.port else b""
    file = f"{_FOLDER}/{flow.name}.data"
    if flow.port:
        flow.sender.machine.put(file, data)
    where = f"[{flow.address}]" if ":" in flow.address else flow.address
    to = f"TCP{6 if ':' in flow.address else 4}:{where}:{flow.port}" if flow.port else flow.address
    return flow.sender.start("sh", "-c", _LOOP % (_TCP if flow.port else _ECHO), "sh", flow.name, to, file,
                             checksum(data), flow.count, flow.size)
