# SPDX-License-Identifier: GPL-2.0-only
"""The guest's userland: the same bytes each time, small enough, and every tool of it works."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.guest.rootfs import build_rootfs, parse_applets, rootfs_key
from harness.vm.machine import Machine

TOOLS = [
    ("ip", "-V"), ("tc", "-V"), ("bridge", "-V"), ("nstat", "-V"), ("iptables-legacy", "-V"),
    ("iptables-nft", "-V"), ("ip6tables", "-V"), ("ebtables", "-V"), ("nft", "-v"), ("iperf3", "-v"),
    ("tcpdump", "--version"), ("ethtool", "--version"), ("conntrack", "-V"), ("socat", "-V"), ("ping", "-V"),
]


@pytest.mark.parametrize("argv", TOOLS, ids=lambda argv: argv[0])
def test_a_tool_starts(machine: Machine, argv: tuple[str, str]) -> None:
    machine.run(*argv)


@pytest.mark.parametrize("wrapper", [("timeout", "5"), ("env",), ("sh", "-c", 'exec "$@"', "sh"), ("setsid",)])
def test_busybox_does_not_run_its_own_ping_in_place_of_the_real_one(machine: Machine, wrapper: tuple[str, ...]) -> None:
    assert "iputils" in machine.run(*wrapper, "ping", "-V").stdout


@pytest.mark.parametrize("command", ["iptables", "iptables-nft", "ip6tables", "ip6tables-nft"])
def test_packet_filters_work_with_both_backends(machine: Machine, command: str) -> None:
    machine.run(command, "-A", "OUTPUT", "-m", "comment", "--comment", "a rule", "-j", "ACCEPT")
    assert "a rule" in machine.run(command, "-S", "OUTPUT").stdout
    machine.run(command, "-F", "OUTPUT")


def test_nftables_works(machine: Machine) -> None:
    machine.run("nft", "-f", "-", stdin=b"table inet t { chain c { type filter hook input priority 0; }; }")
    assert "table inet t" in machine.run("nft", "list", "ruleset").stdout
    machine.run("nft", "delete", "table", "inet", "t")


def test_namespaces_and_a_capture(machine: Machine) -> None:
    machine.run("ip", "netns", "add", "n")
    machine.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", "n")
    machine.shell("ip addr add 10.9.9.1/24 dev v0; ip link set v0 up")
    machine.shell("ip -n n addr add 10.9.9.2/24 dev v1; ip -n n link set v1 up")
    capture = machine.start("tcpdump", "-i", "v0", "-n", "-U", "-c", 2, "icmp")
    machine.run("ping", "-c", 2, "-i", "0.2", "-w", 10, "10.9.9.2")
    assert "ICMP echo request" in capture.wait(Deadline.after(20)).stdout
    machine.run("ip", "netns", "del", "n")


def test_busybox_names_its_applets_as_they_were_read_from_its_file(machine: Machine) -> None:
    """Read for other architectures' guests as well, whose busybox does not run on the host."""
    program = machine.shell("cat /bin/busybox | base64").stdout
    assert list(parse_applets(base64.b64decode(program))) == machine.run("busybox", "--list").stdout.split()


def test_two_builds_are_the_same_and_small(rootfs: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.cpio"
    build_rootfs(out, deadline=Deadline.after(300))
    assert hashlib.sha256(out.read_bytes()).digest() == hashlib.sha256(rootfs.read_bytes()).digest()
    assert out.stat().st_size < 31_000_000


def test_the_key_is_quick_the_second_time(tmp_path: Path) -> None:
    memo = tmp_path / "memo.json"
    first = rootfs_key(memo=memo, deadline=Deadline.after(300))
    assert any(part.startswith("busybox=") for part in first)
    assert rootfs_key(memo=memo, deadline=Deadline.after(0.5)) == first
