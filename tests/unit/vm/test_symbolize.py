# SPDX-License-Identifier: GPL-2.0-only
"""Names and source lines from an ELF file with symbols, made here with the host's compiler."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.vm import klog, symbolize
from harness.vm.symbolize import Place, Symbols

SOURCE = """\
__attribute__((noinline)) int inner(int a)
{
	volatile int b = a * 3;
	return b;
}

__attribute__((noinline)) int outer(int a)
{
	int b = inner(a);
	return b + 1;
}

int main(void) { return outer(3); }
"""


@pytest.fixture(scope="module", params=["-gdwarf-4", "-gdwarf-5", "-g0"])
def vmlinux(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elf")
    (folder / "two.c").write_text(SOURCE)
    subprocess.run(["gcc", "-O0", request.param, "-no-pie", "-o", "vmlinux", "two.c"], cwd=folder,
                   check=True)
    return folder / "vmlinux"


def has_lines(vmlinux: Path) -> bool:
    return b".debug_line" in vmlinux.read_bytes()


def test_an_address_has_a_place_and_a_place_an_address(vmlinux: Path) -> None:
    symbols = Symbols(vmlinux)
    start = symbols.address("outer", 0, None)
    assert start is not None
    place = symbols.at(start + 3)
    assert place is not None
    assert place == Place(function="outer", offset=3, size=place.size)
    assert symbols.address("outer", 3, place.size) == start + 3
    assert symbols.address("outer", 3, place.size + 15) == start + 3  # as kallsyms prints it, with the padding
    assert symbols.address("outer", 3, place.size - 1) is None
    assert symbols.address("nowhere", 3, None) is None
    assert symbols.at(1) is None
    assert symbols.source(start) == ("two.c:8" if has_lines(vmlinux) else "")
    assert symbols.source(1) == ""


def test_an_event_is_resolved_and_named(vmlinux: Path) -> None:
    symbols = Symbols(vmlinux)
    outer, inner = symbols.address("outer", 0, None), symbols.address("inner", 0, None)
    assert outer is not None
    assert inner is not None
    (event,) = klog.scan(["kernel BUG at two.c:1!", "Call Trace:", f" [<{inner + 4:016x}>]", f" [<{outer + 9:016x}>]",
                          " ours+0x1/0x2 [veth]", "Kernel Offset: 0x0 from 0xffffffff81000000"])
    assert event.title == "kernel BUG in ours"
    found = symbolize.resolved(event, symbols)
    assert found.title == "kernel BUG in inner"
    assert [frame.function for frame in found.stack] == ["inner", "outer", "ours"]
    # Nine bytes in are still the first line's: what follows is the call.
    assert found.stack[1].source == ("two.c:8" if has_lines(vmlinux) else "")
    assert found.stack[2] == event.stack[2]
    moved = klog.scan([f" [<{inner + 4 + 0x1000:016x}>]" if "<" in line else line for line in event.lines[:3]]
                      + ["Kernel Offset: 0x1000 from 0xffffffff81000000"])[0]
    assert symbolize.resolved(moved, symbols).stack[0].function == "inner"


def test_what_has_no_symbols(vmlinux: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("text")
    for name in (plain, tmp_path / "none"):
        with pytest.raises(UsageError, match="no ELF file"):
            Symbols(name).at(1)
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, vmlinux], check=True)
    with pytest.raises(UsageError, match="no symbols"):
        Symbols(stripped).at(1)


def test_the_vmlinux_of_an_image(tmp_path: Path) -> None:
    image = tmp_path / "out" / "arch" / "x86" / "boot" / "bzImage"
    image.parent.mkdir(parents=True)
    image.touch()
    assert symbolize.beside(image) is None
    (tmp_path / "out" / "vmlinux").touch()
    assert symbolize.beside(image) == tmp_path / "out" / "vmlinux"


def test_frames_as_lines() -> None:
    (event,) = klog.scan(["kernel BUG at a.c:1!", " f+0x1/0x20 net/a.c:12", " ? g+0x1/0x2 [veth]",
                          " [<ffffffff81000010>]"])
    assert [*symbolize.shown(event.stack)] == ["f+0x1/0x20 net/a.c:12", "? g+0x1/0x2 [veth]", "0xffffffff81000010"]
