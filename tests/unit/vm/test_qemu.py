# SPDX-License-Identifier: GPL-2.0-only
"""Machines to QEMU's argv and the kernel command line; NICs and their table."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness import arch
from harness.errors import UsageError
from harness.vm import nic as nics
from harness.vm import qemu, tsc
from harness.vm.nic import Nic
from harness.vm.qemu import MachineSpec, Wiring

SPEC = MachineSpec(name="dut", kernel=Path("/k/bzImage"), initrd=(Path("/k/rootfs"),), arch=arch.get("x86_64"),
                   nics=(Nic(name="lan0", link="wire"), Nic(name="spare", model="virtio-net-pci")))
WIRING = Wiring(qmp=10, console=11, control=12, links={"lan0": 13})


def pairs(argv: tuple[str, ...]) -> list[tuple[str, str]]:
    return list(itertools.pairwise(argv))


def test_every_machine_is_confined_and_has_its_devices() -> None:
    argv = qemu.argv(SPEC, WIRING, Path("/run/initrd"))
    assert argv[0] == "qemu-system-x86_64"
    for word in ("-nodefaults", "-no-user-config", "-no-reboot"):
        assert word in argv
    options = pairs(argv)
    assert ("-display", "none") in options
    assert any(name == "-sandbox" and value.startswith("on,") and "spawn=deny" in value for name, value in options)
    assert ("-kernel", "/k/bzImage") in options
    assert ("-initrd", "/run/initrd") in options
    assert ("-accel", "tcg") in options
    assert ("-device", "virtio-rng-pci,rng=rng") in options
    assert ("-serial", "chardev:console") in options


def test_the_management_network_leads_nowhere_and_takes_a_free_port_of_the_loopback() -> None:
    (value,) = [value for name, value in pairs(qemu.argv(SPEC, WIRING, None)) if value.startswith("user,")]
    assert "restrict=on" in value
    assert "hostfwd=tcp:127.0.0.1:0-" in value


def test_sockets_are_inherited_and_have_no_paths() -> None:
    argv = " ".join(qemu.argv(SPEC, WIRING, None))
    assert "path=" not in argv
    for name, fd in (("qmp", 10), ("console", 11), ("control", 12)):
        assert f"socket,id={name},fd={fd}" in argv
    assert "dgram,id=nic0,local.type=fd,local.str=13" in argv
    assert WIRING.fds == (10, 11, 12, 13)


def test_a_nic_without_a_link_is_unplugged_and_every_nic_has_its_address() -> None:
    argv = qemu.argv(SPEC, WIRING, None)
    assert "hubport,id=nic1,hubid=1" in argv
    assert f"e1000,id=lan0,netdev=nic0,mac={nics.mac_of('dut', 'lan0')},romfile=" in argv
    assert f"virtio-net-pci,id=spare,netdev=nic1,mac={nics.mac_of('dut', 'spare')},romfile=" in argv
    assert not [word for word in argv if "root-port" in word or "xhci" in word or "rocker" in word]


def test_a_nic_that_can_be_unplugged_has_a_slot_of_its_own() -> None:
    spec = replace(SPEC, nics=(Nic(name="lan0"), Nic(name="lan1", hotplug=True)))
    argv = qemu.argv(spec, replace(WIRING, links={}), None)
    assert "pcie-root-port,id=slot-lan1,chassis=2,slot=2" in argv
    (device,) = [word for word in argv if word.startswith("e1000,id=lan1")]
    assert "bus=slot-lan1" in device.split(",")
    assert qemu.device(spec, spec.nics[1]) == {
        "driver": "e1000", "id": "lan1", "netdev": "nic1", "mac": nics.mac_of("dut", "lan1"), "bus": "slot-lan1",
        "romfile": ""}


def test_usb_nics_share_one_controller() -> None:
    spec = replace(SPEC, nics=(Nic(name="lan0", model="usb-net"), Nic(name="lan1", model="usb-net")))
    argv = qemu.argv(spec, replace(WIRING, links={}), None)
    assert argv.count("qemu-xhci,id=usb") == 1
    assert f"usb-net,id=lan0,netdev=nic0,mac={nics.mac_of('dut', 'lan0')},bus=usb.0" in argv


def test_the_ports_of_a_switch_are_one_device_and_count_on_from_its_address() -> None:
    spec = replace(SPEC, nics=(Nic(name="lan0"), *(Nic(name=name, model="rocker") for name in ("p0", "p1"))))
    argv = qemu.argv(spec, replace(WIRING, links={}), None)
    first = nics.switch_mac("dut")
    assert f"rocker,name=sw1,fp_start_macaddr={first},ports[0]=nic1,ports[1]=nic2" in argv
    assert ("-global", "rocker.len-ports=2") in pairs(argv)
    assert [value for name, value in nics.addresses("dut", spec.nics).items() if name != "lan0"] == [
        first, f"{first[:-2]}01"]
    with pytest.raises(UsageError, match="port of a switch"):
        nics.check_cards("dut", [Nic(name="p0", model="rocker", hotplug=True)])


def test_two_nics_of_one_name_or_address_are_refused() -> None:
    for twin in (Nic(name="lan0"), Nic(name="lan1", mac=nics.mac_of("dut", "lan0").upper())):
        with pytest.raises(UsageError, match="share a name or an address"):
            nics.check_cards("dut", [Nic(name="lan0"), twin])


def test_the_command_line_of_the_kernel() -> None:
    words = qemu.cmdline(replace(SPEC, append=("quiet", "x=1"))).split()
    assert words[0] == "console=ttyS0,115200"
    assert "panic=-1" in words
    assert f"harness.nic={nics.mac_of('dut', 'lan0')},lan0" in words
    assert words[-2:] == ["quiet", "x=1"]


def test_programs_stay_where_they_are_only_where_each_move_has_to_be_translated() -> None:
    assert "norandmaps" in qemu.cmdline(replace(SPEC, accel="tcg")).split()
    assert "norandmaps" not in qemu.cmdline(replace(SPEC, accel="kvm")).split()


def test_a_kernel_under_tcg_on_x86_is_told_the_rate_of_the_hosts_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu.tsc, "khz", lambda: 2596140)
    assert "tsc_early_khz=2596140" in qemu.cmdline(replace(SPEC, accel="tcg")).split()
    for other in (replace(SPEC, accel="kvm"), replace(SPEC, accel="tcg", arch=arch.get("arm64"))):
        assert "tsc_early_khz" not in qemu.cmdline(other)
    monkeypatch.setattr(qemu.tsc, "khz", lambda: None)
    assert "tsc_early_khz" not in qemu.cmdline(replace(SPEC, accel="tcg"))


@pytest.mark.parametrize(("cpuinfo", "khz"), [
    ("flags\t\t: fpu tsc constant_tsc nopl\ncpu MHz\t\t: 1200.000\nbogomips\t: 5192.28\n", 2596140),
    ("flags\t\t: fpu tsc nopl\nbogomips\t: 5192.28\n", None),
    ("Features\t: fp asimd\nBogoMIPS\t: 50.00\n", None),
    ("", None),
], ids=["x86", "the rate changes", "arm64", "nothing"])
def test_the_rate_is_read_where_it_is_one(cpuinfo: str, khz: int | None) -> None:
    assert tsc.parse(cpuinfo) == khz


def test_no_initrd_is_no_option() -> None:
    assert "-initrd" not in qemu.argv(SPEC, WIRING, None)


def test_macs_are_the_same_every_time_unicast_local_and_different() -> None:
    macs = {nics.mac_of(machine, card) for machine in "abcdef" for card in ("lan0", "lan1", "mgmt")}
    assert len(macs) == 18
    assert nics.mac_of("a", "lan0") == nics.mac_of("a", "lan0")
    for mac in macs:
        assert re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", mac)
        assert int(mac[:2], 16) & 3 == 2


def test_a_given_mac_is_used_in_lower_case() -> None:
    assert nics.addresses("a", [Nic(name="x", mac="52:54:00:AB:CD:EF")]) == {"x": "52:54:00:ab:cd:ef"}


@pytest.mark.parametrize("name", ["", "lo", "mgmt0", "eth0", "usb1", "sw1p1", "a b", "a,b", "a/b", "sixteen-letters-",
                                  "é;"])
def test_odd_names_of_nics_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        nics.check_name(name)


def test_the_table_of_models() -> None:
    names = [model.name for model in nics.models()]
    assert len(set(names)) == len(names)
    assert nics.DEFAULT_MODEL in names
    assert nics.model("i82557b").driver == "e100"
    with pytest.raises(UsageError, match="known: virtio-net-pci, e1000"):
        nics.model("ne3000")


HELP = '''Network devices:
name "e1000", bus PCI, alias "e1000-82540em", desc "Intel Gigabit Ethernet"
name "usb-net", bus usb-bus
name "virtio-net-pci", bus PCI, alias "virtio-net"
'''


def test_why_a_model_cannot_be_had() -> None:
    devices = nics.parse_devices(HELP)
    assert devices == {"e1000", "e1000-82540em", "usb-net", "virtio-net-pci", "virtio-net"}
    assert nics.why_not(nics.model("e1000"), devices, ()) == ""
    assert nics.why_not(nics.model("igb"), devices, ()) == "this QEMU has no igb"
    assert nics.why_not(nics.model("e1000"), devices, ("E1000", "X")) == "the kernel lacks CONFIG_E1000, CONFIG_X"
