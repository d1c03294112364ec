# SPDX-License-Identifier: GPL-2.0-only
"""Bridged traffic and IPsec, disturbed in every way that there is: what must hold, and what is left of it.

client - [port0 dut port1] - server: TCP and fragmented echo requests in both families pass the bridge, where packet
filters ask for bridge data; the client speaks to the bridge itself in ESP, whose packets have both extensions.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.jobs.suites import Session
from harness.lab import disturbances, flows, ipsec, slabs, stress
from harness.lab.bench import Host, Lab
from harness.lab.disturbances import Keys, Modules
from harness.lab.flows import Flow
from harness.lab.kernel import Kernel
from harness.report import plot

NEEDS = ("BRIDGE_NETFILTER", "XFRM", "INET_ESP", *disturbances.NEEDS)
SIZE = 200_000
RECOVERY = 60.0
"""Seconds that each flow has to get something through, once nothing disturbs it any more."""
LEFT = 500
"""Objects that may be left in a cache, of the hundreds of thousands that a run takes."""


def traffic_of(lab: Lab) -> tuple[Flow, ...]:
    client, dut, server = lab["client"], lab["dut"], lab["server"]
    return (
        Flow(name="tcp4", sender=client, receiver=server, address=server.ipv4, size=SIZE, port=5101),
        Flow(name="tcp6", sender=server, receiver=client, address=client.ipv6, size=SIZE, port=5102),
        Flow(name="fragments4", sender=client, receiver=server, address=server.ipv4, size=3000),
        Flow(name="fragments6", sender=server, receiver=client, address=client.ipv6, size=3000),
        Flow(name="esp-tcp", sender=client, receiver=dut, address=dut.ipv4, size=SIZE, port=5103),
        Flow(name="esp-fragments", sender=client, receiver=dut, address=dut.ipv4, size=3000))


def leaks(dut: Host) -> str:
    """What kmemleak has found, scanning twice."""
    return dut.shell("""[ -e /sys/kernel/debug/kmemleak ] || mount -t debugfs none /sys/kernel/debug
        echo scan > /sys/kernel/debug/kmemleak; echo scan > /sys/kernel/debug/kmemleak
        cat /sys/kernel/debug/kmemleak""").stdout.strip()


def what_broke(lab: Lab, kernel: Kernel, session: Session, config: pytest.Config) -> tuple[str, ...]:
    """Disturb the lab, and say what did not hold.

    Raises:
        KernelError: a kernel reported something.
    """
    client, dut = lab["client"], lab["dut"]
    keys, modules = Keys(client, dut, ipsec.AES_GCM, 4), Modules(dut, kernel, Path(session.out))
    modules.load()
    before, taint = slabs.count(dut), dut.read("/proc/sys/kernel/tainted")
    record = stress.Record(seed=config.getoption("--seed"), seconds=config.getoption("--duration"))
    try:
        keys.up()
        with flows.running(traffic_of(lab)) as running:
            stress.disturb(lab, running, disturbances.actions(keys, modules), record)
            dead = stress.not_recovered(lab, running, record, RECOVERY)
            ended = running.tallies()
        keys.down()
    finally:
        name = f"{kernel.tree}/{kernel.variant} on {lab.topology.name}, seed {record.seed}, {record.seconds:g} s"
        (lab.workdir / f"stress-{lab.topology.name}.json").write_text(json.dumps(record.to_json(), indent=1))
        (lab.workdir / f"stress-{lab.topology.name}.svg").write_text(plot.render(record, name))
    lab.check("stress")
    wrong = {name: tally.wrong for name, tally in ended.items() if tally.wrong}
    grown = slabs.left_behind(dut, before, packets=10 * LEFT)
    found = leaks(dut) if kernel.has("DEBUG_KMEMLEAK") else ""
    return tuple(said for broke, said in (
        (wrong, f"transfers arrived as something else: {wrong}"),
        (dead, f"nothing came through after the last disturbance: {', '.join(dead)}"),
        (len(record.done) <= record.seconds / 60, f"only {len(record.done)} disturbances in {record.seconds:g} s"),
        (grown, f"objects are left behind: {', '.join(map(str, grown))}"),
        (dut.read("/proc/sys/kernel/tainted") != taint, "the kernel is tainted"),
        (found, f"kmemleak found memory that nobody refers to: {found}")) if broke)
