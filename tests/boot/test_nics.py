# SPDX-License-Identifier: GPL-2.0-only
"""Every NIC model that QEMU has, on a kernel with all drivers: traffic, carrier, offloads, MTU, queues, slots."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.arch import native
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.jobs import boots, builds
from harness.jobs.inputs import resolve
from harness.kernel.kbuild import Build
from harness.lab import counters, traffic
from harness.lab.bench import Host, Lab, up
from harness.lab.shapes import BRIDGE, PAIR
from harness.lab.topology import Network, Station, Topology
from harness.plan.plan import read_plan
from harness.report.progress import Progress
from harness.store.store import Store
from harness.vm import nic as nics
from harness.vm.nic import Model, Nic
from harness.vm.qemu import MachineSpec
from harness.vm.ssh import GuestCommandFailed
from tests.boot.conftest import BOOT

SIZE = 60_000
CARDS = tuple(row for row in nics.models() if row.bus != nics.SWITCH)
"""Models that are cards of their own; a switch's ports have a test of their own."""
NUMBER = {row.name: number for number, row in enumerate(CARDS)}
EACH = pytest.mark.parametrize("row", CARDS, ids=list(NUMBER), indirect=True)
COMMON = ("virtio-net-pci", "e1000", "e1000e", "rtl8139", "vmxnet3")
"""Models that the customer's plan runs on."""
MAIN = pytest.mark.parametrize("row", [row if row.name in COMMON else pytest.param(row, marks=pytest.mark.slow)
                                       for row in CARDS], ids=list(NUMBER), indirect=True)
"""All models, the rare ones in `make test-slow` only."""
LARGE = ("virtio-net-pci", "e1000", "e1000e", "vmxnet3")
"""Models whose drivers take an MTU of 9000."""
Up = Callable[..., AbstractContextManager[Lab]]


@pytest.fixture(scope="module")
def every_driver(store: Store, progress: Progress, patched_both: Build) -> Build:
    """The customer's patched kernel with the drivers and slots of tests/boot/nics.yaml, built on top of it."""
    inputs = resolve(read_plan(Path(__file__).with_name("nics.yaml")), Deadline.after(60))
    config = builds.configure(inputs, "patched", "all-nics", store=store, progress=progress)
    return builds.build(inputs, "patched", config, store=store, progress=progress)


@pytest.fixture(scope="module")
def start(every_driver: Build, rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Up:
    def with_(topology: Topology, model: str = "virtio-net-pci") -> AbstractContextManager[Lab]:
        template = MachineSpec(name="template", kernel=every_driver.image, initrd=(rootfs,), memory_mib=384)
        return up(topology, template, tmp_path_factory.mktemp(topology.name), model=model,
                  deadline=Deadline.after(BOOT))

    return with_


def name_of(row: Model) -> str:
    return f"card{NUMBER[row.name]}"


def parallel(name: str, rows: tuple[Model, ...], **more: bool) -> Topology:
    """Two machines with a cable, and an IP network, for each of these models."""
    cards = tuple(Nic(name=name_of(row), link=f"link-{row.name}", model=row.name, **more) for row in rows)
    return Topology(name=name, machines=(Station(name="a", nics=cards), Station(name="b", nics=cards)),
                    networks=tuple(Network(number=20 + NUMBER[row.name],
                                           members=(("a", name_of(row)), ("b", name_of(row)))) for row in rows))


@pytest.fixture(scope="module")
def emulated() -> frozenset[str]:
    return boots.emulated(native())


@pytest.fixture
def row(request: pytest.FixtureRequest, emulated: frozenset[str]) -> Model:
    """A model; its tests are skipped where this QEMU does not have it."""
    found: Model = request.param
    missing = nics.why_not(found, emulated, ())
    if missing:
        pytest.skip(missing)
    return found


@pytest.fixture(scope="module")
def cards(start: Up, emulated: frozenset[str]) -> Iterator[Lab]:
    """Two machines with a card of every model, each with a cable to its like."""
    with start(parallel("cards", tuple(row for row in CARDS if row.device in emulated))) as lab:
        yield lab


@pytest.fixture(scope="module")
def slots(start: Up, emulated: frozenset[str]) -> Iterator[Lab]:
    """The same with every card in a slot."""
    with start(parallel("slots", tuple(row for row in CARDS if row.device in emulated), hotplug=True)) as lab:
        yield lab


def there(lab: Lab, row: Model, family: int = 4) -> str:
    """The address of the other machine's card of a model."""
    face = lab["b"].face(name_of(row))
    return str((face.ipv4 if family == 4 else face.ipv6).ip)


@EACH
def test_the_table_names_the_driver_that_takes_the_card(cards: Lab, row: Model) -> None:
    assert cards["a"].card(name_of(row)).driver == row.driver


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
@EACH
def test_traffic_is_whole(cards: Lab, row: Model, family: int) -> None:
    a, b = cards["a"], cards["b"]
    sent = counters.interface(a, name_of(row))
    for transfer in (traffic.tcp(a, b, there(cards, row, family), size=SIZE),
                     traffic.udp(a, b, there(cards, row, family), size=SIZE, datagram=4000)):
        assert transfer.whole, str(transfer)
    assert counters.interface(a, name_of(row)).since(sent)["tx.bytes"] > 2 * SIZE
    cards.check(row.name)


@MAIN
def test_a_pulled_cable_stops_traffic_and_the_guest_is_told_where_the_table_says_so(cards: Lab, row: Model) -> None:
    a, card = cards["a"], cards["a"].card(name_of(row))
    try:
        card.carrier(False)
        assert traffic.ping(a, there(cards, row), count=3, wait=0.5).received == 0
        assert carrier(a, name_of(row)) == (not row.tells_carrier)
    finally:
        card.carrier(True)
    assert carrier(a, name_of(row))
    assert a.until(f"ping -c 1 -W 1 {there(cards, row)}", 10)
    assert traffic.ping(a, there(cards, row), count=5).whole


@MAIN
def test_traffic_is_whole_with_every_offload_that_can_be_changed_turned_over(cards: Lab, row: Model) -> None:
    a, b, card = cards["a"], cards["b"], cards["a"].card(name_of(row))
    before = card.features()
    names = {"rx": "rx-checksumming", "tx": "tx-checksumming", "sg": "scatter-gather",
             "tso": "tcp-segmentation-offload", "gso": "generic-segmentation-offload",
             "gro": "generic-receive-offload"}
    wanted = {short: not before[name].on for short, name in names.items() if not before[name].fixed}
    assert "gro" in wanted
    with card.offloads(**wanted):
        turned = card.features()
        assert turned["generic-receive-offload"].on != before["generic-receive-offload"].on
        for sender, receiver, address in ((a, b, there(cards, row)), (b, a, str(a.face(name_of(row)).ipv4.ip))):
            transfer = traffic.tcp(sender, receiver, address, size=SIZE)
            assert transfer.whole, str(transfer)
    assert card.features() == before


@pytest.mark.slow
@EACH
def test_hundreds_of_full_frames_arrive(cards: Lab, row: Model) -> None:
    """So that each of e100's 128 control blocks has its turn, and each slot of most rings."""
    transfer = traffic.udp(cards["a"], cards["b"], there(cards, row), size=300 * 1472, datagram=1472, seconds=60)
    assert transfer.whole, str(transfer)


@MAIN
def test_an_mtu_below_the_usual_is_kept_to(cards: Lab, row: Model) -> None:
    a, b, name = cards["a"], cards["b"], name_of(row)
    with a.card(name).mtu(1280):
        assert traffic.ping(a, there(cards, row), count=3, size=1252, fragment=False).whole
        assert traffic.ping(a, there(cards, row), count=1, size=1253, fragment=False, wait=0.5).received == 0
        transfer = traffic.udp(a, b, there(cards, row), size=SIZE, datagram=4000)
        assert transfer.whole, str(transfer)
    assert traffic.ping(a, there(cards, row), count=3, size=1472, fragment=False).whole


@pytest.mark.parametrize("model", LARGE)
def test_large_frames(cards: Lab, model: str) -> None:
    a, b, row = cards["a"], cards["b"], nics.model(model)
    with a.card(name_of(row)).mtu(9000), b.card(name_of(row)).mtu(9000):
        assert traffic.ping(a, there(cards, row), count=5, size=8972, fragment=False).whole


def test_a_driver_without_large_frames_refuses_the_mtu(cards: Lab) -> None:
    card = cards["a"].card(name_of(nics.model("rtl8139")))
    with pytest.raises(GuestCommandFailed, match="mtu"), card.mtu(9000):
        pass


def test_netem_in_the_guest_treats_its_traffic_badly_for_the_block(cards: Lab) -> None:
    a, row = cards["a"], nics.model("virtio-net-pci")
    with a.card(name_of(row)).netem(loss="100%"):
        assert traffic.ping(a, there(cards, row), count=3, wait=0.5).received == 0
    assert traffic.ping(a, there(cards, row), count=3).whole


def test_vmxnet3_has_a_queue_for_each_processor_and_uses_them(start: Up) -> None:
    busy = replace(PAIR, name="queues", machines=tuple(replace(station, cpus=2) for station in PAIR.machines))
    with start(busy, model="vmxnet3") as lab:
        a, b = lab["a"], lab["b"]
        assert a.card("lan0").queues() == (2, 2)
        # A flow's hash chooses its queue (skb_tx_hash()): of 32 flows some go through each.
        a.shell(f"for port in $(seq 6001 6032); do echo | socat -u - UDP4-SENDTO:{b.ipv4}:$port; done")
        sent = [int(line.split()[-1]) for line in a.run("ethtool", "-S", "lan0").stdout.splitlines()
                if "ucast pkts tx" in line]
        assert len(sent) == 2
        assert all(sent), f"packets by queue: {sent}"
        assert traffic.tcp(a, b, b.ipv4, size=SIZE).whole


@MAIN
def test_a_card_can_be_unplugged_and_plugged_in_again(slots: Lab, row: Model) -> None:
    a, name = slots["a"], name_of(row)
    card, face = a.card(name), a.face(name_of(row))
    card.unplug()
    assert f" {name}:" not in a.read("/proc/net/dev")
    assert not a.until(f"ping -c 1 -W 1 {there(slots, row)}", 1)
    card.plug()
    assert card.interface == name
    a.shell(f"ip addr add {face.ipv4} dev {name}; ip link set {name} up")
    assert a.until(f"ping -c 1 -W 1 {there(slots, row)}", 20)
    transfer = traffic.tcp(a, slots["b"], there(slots, row), size=SIZE)
    assert transfer.whole, str(transfer)
    slots.check(row.name)


def test_a_card_without_a_slot_cannot_be_unplugged(cards: Lab) -> None:
    with pytest.raises(UsageError, match="no slot"):
        cards["a"].card(name_of(nics.model("e1000"))).unplug()


def test_a_bridge_leaves_forwarding_to_the_switch(start: Up) -> None:
    """With rocker the frames between two ports of a bridge are the switch's: the machine's processor sees none."""
    client, dut, server = BRIDGE.machines
    ports = tuple(replace(nic, model="rocker") for nic in dut.nics)
    # Without networks: QEMU's switch floods broadcasts but no multicasts, so that IPv6 finds no neighbours.
    offload = replace(BRIDGE, name="offload", machines=(client, replace(dut, nics=ports), server), networks=())
    with start(offload) as lab:
        one, switch, other = lab["client"], lab["dut"], lab["server"]
        one.run("ip", "addr", "add", "10.77.2.1/24", "dev", "lan0")
        other.run("ip", "addr", "add", "10.77.2.2/24", "dev", "lan0")
        assert one.until("ping -c 1 -W 1 10.77.2.2", 20)
        assert switch.card("port0").driver == "rocker"
        assert "offload" in switch.run("bridge", "fdb", "show", "br", "br0").stdout
        before = counters.interface(switch, "port0")
        pings = traffic.ping(one, "10.77.2.2", count=100)
        seen = counters.interface(switch, "port0").since(before)["rx.packets"]
        assert pings.whole, str(pings)
        assert seen < 20, f"the processor saw {seen} of 100 frames that the switch was to forward"


def carrier(host: Host, name: str) -> bool:
    return host.read(f"/sys/class/net/{name}/carrier").strip() == "1"
