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
from harness.vm import qemu
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


def test_the_command_line_of_the_kernel() -> None:
    words = qemu.cmdline(replace(SPEC, append=("quiet", "x=1"))).split()
    assert words[0] == "console=ttyS0,115200"
    assert "panic=-1" in words
    assert f"harness.nic={nics.mac_of('dut', 'lan0')},lan0" in words
    assert words[-2:] == ["quiet", "x=1"]


def test_programs_stay_where_they_are_only_where_each_move_has_to_be_translated() -> None:
    assert "norandmaps" in qemu.cmdline(replace(SPEC, accel="tcg")).split()
    assert "norandmaps" not in qemu.cmdline(replace(SPEC, accel="kvm")).split()


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
    assert nics.address("a", Nic(name="x", mac="52:54:00:AB:CD:EF")) == "52:54:00:ab:cd:ef"


@pytest.mark.parametrize("name", ["", "lo", "mgmt0", "a b", "a,b", "a/b", "sixteen-letters-", "é;"])
def test_odd_names_of_nics_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        nics.check_name(name)


def test_the_table_of_models() -> None:
    names = [model.name for model in nics.models()]
    assert len(set(names)) == len(names)
    assert nics.DEFAULT_MODEL in names
    assert nics.model("e100").device == "i82559c"
    with pytest.raises(UsageError, match="known: virtio-net-pci, e1000"):
        nics.model("ne3000")
