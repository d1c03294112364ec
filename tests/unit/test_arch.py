# SPDX-License-Identifier: GPL-2.0-only
"""The table of architectures: each row is whole, and what it says fits what else the repository has for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import arch, host
from harness.errors import UsageError
from harness.vm import qemu
from harness.vm.qemu import MachineSpec, Wiring
from tests.conftest import ROOT

HOSTS = ("x86_64", "i686", "aarch64")


def test_the_names_and_an_unknown_one() -> None:
    assert arch.names() == ("x86_64", "i386", "arm64")
    row = arch.get("x86_64")
    assert (row.make_arch, str(row.image), row.cpu("kvm")) == ("x86_64", "arch/x86/boot/bzImage", "host")
    with pytest.raises(UsageError, match="known: x86_64, i386, arm64"):
        arch.get("pdp11")


@pytest.mark.parametrize(("machine", "name"), [("x86_64", "x86_64"), ("i686", "i386"), ("aarch64", "arm64")])
def test_the_row_of_a_host(monkeypatch: pytest.MonkeyPatch, machine: str, name: str) -> None:
    monkeypatch.setattr(arch.platform, "machine", lambda: machine)
    assert arch.native() == arch.get(name)


def test_a_host_without_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arch.platform, "machine", lambda: "vax")
    with pytest.raises(UsageError, match="vax"):
        arch.native()


@pytest.mark.parametrize(("name", "machine", "prefix"), [
    ("x86_64", "x86_64", ""), ("i386", "x86_64", ""), ("arm64", "aarch64", ""),
    ("arm64", "x86_64", "aarch64-linux-gnu-"), ("i386", "aarch64", "i686-linux-gnu-"),
    ("x86_64", "aarch64", "x86_64-linux-gnu-"),
])
def test_a_cross_compiler_is_asked_for_where_the_hosts_own_will_not_do(name: str, machine: str, prefix: str) -> None:
    row = arch.get(name)
    assert row.cross(machine) == prefix
    compiler = row.compiler(machine)
    assert (compiler.probes if compiler else ()) == ((f"{prefix}gcc", f"{prefix}ld") if prefix else ())


def test_packages_have_the_names_that_debian_gives_them() -> None:
    found = {package.name for machine in HOSTS for package in arch.packages(machine)}
    assert found == {"qemu-system-x86", "qemu-system-arm", "gcc-aarch64-linux-gnu", "gcc-i686-linux-gnu",
                     "gcc-x86-64-linux-gnu"}
    assert [package.name for package in arch.packages("x86_64")] == [
        "qemu-system-x86", "qemu-system-arm", "gcc-aarch64-linux-gnu"]


@pytest.mark.parametrize("name", arch.names())
def test_each_row_makes_a_machine_that_speaks_on_its_console(name: str) -> None:
    row = arch.get(name)
    assert (ROOT / "kernel-configs" / f"qemu-{name}.config").is_file()
    assert any(word.startswith(f"console={row.console}") for word in row.console_args)
    assert not row.loader.is_absolute()
    spec = MachineSpec(name="dut", kernel=Path("/k/image"), initrd=(Path("/k/rootfs"),), arch=row, accel="tcg")
    argv = qemu.argv(spec, Wiring(qmp=10, console=11, control=12, links={}), None)
    assert argv[0] == row.qemu
    assert argv[argv.index("-machine") + 1] == row.machine
    assert argv[argv.index("-cpu") + 1] == dict(row.cpus)["tcg"]
    assert re.match(r"console=tty", argv[argv.index("-append") + 1])


def test_what_a_host_must_have_for_a_row_is_named_with_its_package() -> None:
    lacking = host.Package(name="gcc-vax-linux-gnu", probes=("vax-linux-gnu-gcc",), why="kernels for vax")
    with pytest.raises(host.InfraError, match="vax-linux-gnu-gcc") as caught:
        host.require((lacking,))
    assert "apt-get install gcc-vax-linux-gnu" in (caught.value.hint or "")
