# SPDX-License-Identifier: GPL-2.0-only
"""The pure parts of making the guest's userland, and its list of packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import arch, proc
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.guest import apt, rootfs

SIMULATION = """Reading package lists...
Inst libc6 (2.36-9+deb12u14 Debian:12.15/oldstable [amd64])
Inst busybox (1:1.35.0-4+deb12u1+b1 Debian:12.15/oldstable, Debian-Security:12 [amd64]) []
Conf libc6 (2.36-9+deb12u14 Debian:12.15/oldstable [amd64])
"""
READELF = """
 0x0000000000000001 (NEEDED)             Shared library: [libmnl.so.0]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
 0x000000000000000e (SONAME)             Library soname: [libx.so.1]
"""


def test_what_apt_would_install() -> None:
    assert list(map(str, apt.parse_simulation(SIMULATION))) == [
        "busybox=1:1.35.0-4+deb12u1+b1", "libc6=2.36-9+deb12u14"]
    assert apt.parse_simulation("") == ()


def test_apt_is_confined_to_its_own_state(tmp_path: Path) -> None:
    options = apt.options(arch.get("x86_64"), tmp_path)
    assert f"-oDir::State::status={tmp_path / 'status'}" in options
    assert "-oAPT::Architecture=amd64" in options


def test_apt_takes_package_lists_of_our_own_for_another_architecture(tmp_path: Path) -> None:
    options = apt.options(arch.get("arm64"), tmp_path, tmp_path / "made")
    assert "-oAPT::Architectures=arm64" in options
    assert f"-oDir::State::lists={tmp_path / 'made' / 'lists'}" in options
    assert f"-oDir::Etc::sourcelist={tmp_path / 'made' / 'sources.list'}" in options
    assert not [word for word in apt.options(arch.get("x86_64"), tmp_path) if "Dir::Etc" in word or "lists=" in word]


def test_sources_of_another_architecture_are_the_hosts_places() -> None:
    targets = ("http://mirror/debian/ bookworm main\nhttp://mirror/debian/ bookworm main\n"
               "http://mirror/security/ bookworm-security main\n\nno place at all, this\n")
    assert apt.parse_sources(targets, arch.get("i386"), Path("/k.gpg")) == (
        "deb [arch=i386 signed-by=/k.gpg] http://mirror/debian/ bookworm main\n"
        "deb [arch=i386 signed-by=/k.gpg] http://mirror/security/ bookworm-security main\n")
    assert apt.parse_sources("a b c\n", arch.get("arm64"), None) == "deb [arch=arm64] a b c\n"
    assert apt.parse_sources("", arch.get("arm64"), None) == ""


@pytest.mark.parametrize("fetched", [True, False])
def test_one_list_that_cannot_be_had_is_said_and_none_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                                  fetched: bool) -> None:
    def fails(*arguments: object, **_: object) -> proc.Completed:
        if fetched:
            (tmp_path / "made/lists/mirror_main_binary-arm64_Packages.lz4").write_bytes(b"x")
        raise InfraError("apt could not provide the guest's packages", detail=("E: Failed to fetch security",))

    targets = proc.Completed(argv=("apt-get",), returncode=0, stdout="http://mirror/ stable main\n", stderr="",
                             seconds=0)
    monkeypatch.setattr(apt, "_apt", fails)
    monkeypatch.setattr(apt.proc, "run", lambda *_, **__: targets)
    (tmp_path / "made").mkdir()
    told: list[str] = []

    def fetch() -> None:
        apt.fetch_lists(arch.get("arm64"), tmp_path / "made", tmp_path, deadline=Deadline.after(9),
                         progress=told.append)

    if fetched:
        fetch()
        assert told == ["apt-get update for arm64: E: Failed to fetch security"]
    else:
        with pytest.raises(InfraError, match="Failed to fetch security"):
            fetch()
        assert told == []
    assert "deb [arch=arm64" in (tmp_path / "made/sources.list").read_text()


def test_a_host_without_lists_of_debian_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nothing = proc.Completed(argv=("apt-get",), returncode=0, stdout="", stderr="", seconds=0)
    monkeypatch.setattr(apt.proc, "run", lambda *_, **__: nothing)
    with pytest.raises(InfraError, match="no package lists of Debian"):
        apt.fetch_lists(arch.get("arm64"), tmp_path, tmp_path, deadline=Deadline.after(9), progress=lambda _: None)


def test_applets_are_read_from_the_program() -> None:
    table = b"\0[\0[[\0acpid\0ar\0yes\0zcat\0"
    assert rootfs.parse_applets(b"\x7fELF\0 usage" + table + b"\0/var/log/wtmp\0") == (
        "[", "[[", "acpid", "ar", "yes", "zcat")
    assert rootfs.parse_applets(table + b"Usage\0")[-1] == "zcat"


@pytest.mark.parametrize("program", [b"\x7fELF nothing", b"\0[\0[[\0a\0\0\0[\0[[\0a\0"])
def test_a_program_without_one_table_of_applets_is_refused(program: bytes) -> None:
    with pytest.raises(InfraError, match="no table of applets"):
        rootfs.parse_applets(program)


def test_an_unknown_package_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="no-such-package-at-all") as caught:
        apt.resolve(["no-such-package-at-all"], arch.native(), tmp_path, deadline=Deadline.after(60))
    assert "apt-get update" in (caught.value.hint or "")


def test_needed_libraries() -> None:
    assert rootfs.parse_needed(READELF) == {"libmnl.so.0", "libc.so.6"}


@pytest.mark.parametrize(("before", "after"), [
    ("bin/ip", "usr/bin/ip"), ("sbin/tc", "usr/sbin/tc"), ("lib/x/y.so", "usr/lib/x/y.so"),
    ("lib64/ld.so", "usr/lib64/ld.so"), ("usr/bin/x", "usr/bin/x"), ("etc/x", "etc/x"), ("binary", "binary"),
])
def test_merged_folders(before: str, after: str) -> None:
    assert rootfs.merged(before) == after


def test_the_list_of_packages() -> None:
    rows = rootfs.wanted()
    assert len({row.package for row in rows}) == len(rows)
    assert {"busybox", "dropbear-bin", "iproute2", "iptables", "nftables"} <= {row.package for row in rows}
    assert "busybox-static" not in {row.package for row in rows}


@pytest.mark.parametrize("script", ["init", "bare-init"])
def test_our_scripts_are_scripts(script: str) -> None:
    path = Path(rootfs.__file__).parent / script
    assert path.read_text().startswith("#!/bin/sh\n# SPDX-License-Identifier: GPL-2.0-only\n")
    proc.run(["sh", "-n", str(path)], deadline=Deadline.after(10))
