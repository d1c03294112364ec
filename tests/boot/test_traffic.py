# SPDX-License-Identifier: GPL-2.0-only
"""Traffic verbs against a real network stack, where a guest suite could not see that they are wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.deadline import Deadline
from harness.lab import counters, traffic
from harness.lab.bench import Host
from harness.vm.machine import Machine

NEAR = """
ip netns add far; ip link add near type veth peer name far netns far
ip addr add 10.9.9.1/24 dev near; ip addr add fd09::1/64 dev near nodad; ip link set near up
ip -n far addr add 10.9.9.2/24 dev far; ip -n far addr add fd09::2/64 dev far nodad; ip -n far link set far up
until [ "$(cat /sys/class/net/near/operstate)" = up ]; do usleep 20000; done
"""
DELAY = "ip netns exec far tc qdisc replace dev far root netem delay 1s reorder 100% gap 3"
DOUBLE = "ip netns exec far tc qdisc replace dev far root netem loss 30% duplicate 50%"
LOSE = "ip netns exec far tc qdisc replace dev far root netem loss 100%"


@pytest.fixture(scope="module")
def near(machine: Machine) -> Iterator[Host]:
    """A machine with a network namespace at the other end of a veth pair, which answers at once."""
    machine.shell(NEAR)
    host = Host(machine=machine, faces=())
    for address in ("10.9.9.2", "fd09::2"):
        assert traffic.ping(host, address, count=3).whole
    yield host
    machine.shell("ip netns del far")


@pytest.mark.parametrize("address", ["10.9.9.2", "fd09::2"])
def test_answers_that_come_when_ping_has_ended_are_counted(near: Host, address: str) -> None:
    near.shell(DELAY)  # each third answer comes at once, the others after a second
    before = counters.snmp(near)
    argv = ("ping", "-n", "-q", "-c", 10, "-i", "0.01", "-W", 5, address)
    alone = traffic.parse_ping(near.run(*argv, check=False).stdout)
    assert 0 < alone.received < 10, f"this test needs a ping that ends too early, saw {alone}"
    deadline = Deadline.after(10)
    while sum(counters.snmp(near).since(before)[name] for name in ("Icmp.InEchoReps", "Icmp6InEchoReplies")) < 10:
        deadline.check("the answers that ping did not wait for")
    assert traffic.ping(near, address, count=10).whole


@pytest.mark.parametrize("address", ["10.9.9.2", "fd09::2"])
def test_answers_that_never_come_are_not(near: Host, address: str) -> None:
    near.shell(LOSE)
    pings = traffic.ping(near, address, count=5, wait=1)
    assert (pings.sent, pings.received) == (5, 0)


@pytest.mark.parametrize("address", ["10.9.9.2", "fd09::2"])
def test_an_answer_that_came_twice_is_not_taken_for_one_that_is_lost(near: Host, address: str) -> None:
    near.shell(DOUBLE)
    pings = traffic.ping(near, address, count=100, wait=1)
    assert pings.duplicates > 10
    assert pings.received < pings.sent
