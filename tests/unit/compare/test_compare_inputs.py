# SPDX-License-Identifier: GPL-2.0-only
"""What can be compared: objects, archives, modules, kernel images, folders of modules; and what is refused, quickly."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest
from compare_kit import Compile, compile_into

from harness.cli.main import main
from harness.compare import compressed
from harness.compare.objdiff import compare
from harness.compare.opened import Opened
from harness.deadline import Deadline
from harness.errors import ExitCode, InfraError, UsageError
from harness.proc import run
from harness.report.objdiff_text import summary

F, G = "int f(int x) { return x * 3 + %d; }", "int g(int x) { return x * 5; }"
SIGNATURE = b"\x30\x82 signed \x00\x00\x00\x2a~Module signature appended~\n"


def ar(folder: Path, flags: str, *members: str, name: str = "lib.a") -> Path:
    run(["ar", flags, name, *members], cwd=folder, deadline=Deadline.after(60))
    return folder / name


def said(base: Path, patched: Path) -> list[str]:
    return summary(Opened(compare(base, patched)))


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    for side, value in (("base", 1), ("patched", 2)):
        compile_into(tmp_path / side, F % value, name="f")
        compile_into(tmp_path / side, G, name="g")
    return tmp_path / "base", tmp_path / "patched"


@pytest.mark.parametrize("flags", ["rcD", "rcDT"])
def test_members_of_archives_are_compared_as_objects(sides: tuple[Path, Path], flags: str) -> None:
    archives = [ar(side, flags, "f.o", "g.o") for side in sides]
    lines = said(*archives)
    assert lines[0] == "2 objects: 1 identical, 0 explained, 1 changed, 0 only in base, 0 only in patched"
    assert lines[-1] == "f.o: f: leal offset 1 -> 2 (%rdi, %rdi, 2)"
    assert compare(archives[0], archives[0]).identical_code


def test_the_order_of_members_is_compared(sides: tuple[Path, Path]) -> None:
    shutil.copy(sides[0] / "f.o", sides[1] / "f.o")
    result = compare(ar(sides[0], "rcD", "f.o", "g.o"), ar(sides[1], "rcD", "g.o", "f.o"))
    assert (result.identical, result.archives_changed, result.identical_code) == (2, 1, False)
    assert "lib.a: link order, member 0: f.o -> g.o" in summary(Opened(result))


def test_members_of_one_name_and_members_on_one_side(sides: tuple[Path, Path]) -> None:
    (sides[0] / "sub").mkdir()
    shutil.copy(sides[0] / "g.o", sides[0] / "sub/f.o")
    base = ar(sides[0], "qcD", "f.o", "sub/f.o")
    result = compare(base, ar(sides[1], "qcD", "f.o"))
    assert [(d.path, d.status) for d in result.differing] == [
        ("f.o", "changed"), ("f.o#2", "only-base"), ("lib.a", "changed")]


@pytest.mark.parametrize("flags", ["qcD", "qcTD"])
def test_a_member_whose_name_has_a_number_hides_no_other(tmp_path: Path, flags: str) -> None:
    sides = []
    for side, value in (("base", 1), ("patched", 2)):
        folder = tmp_path / side
        compile_into(folder, "int f(void) { return 0; }", name="f")
        compile_into(folder, "int f(void) { return 0; }", name="g")
        (folder / "g.o").rename(folder / "f.o#2")
        sides.append(ar(folder, flags, "f.o"))
        if "T" in flags:
            compile_into(folder, f"int f(void) {{ return {value}; }}", name="g")
            (folder / "g.o").rename(folder / "f.o#2")
        else:
            compile_into(folder, f"int f(void) {{ return {value}; }}", name="f")
            ar(folder, flags, "f.o")
            compile_into(folder, "int f(void) { return 0; }", name="f")
        ar(folder, flags, "f.o#2")
    assert [delta.path for delta in compare(*sides).differing] == ["f.o#2" if "T" in flags else "f.o#3"]


def test_a_thin_archive_reads_nothing_outside_of_its_folder(sides: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copy(sides[0] / "f.o", tmp_path / "outside.o")
    with pytest.raises(InfraError, match="outside of its folder"):
        compare(*(ar(side, "rcDT", "../outside.o") for side in sides))
    archives = [ar(side, "rcDT", "f.o", name="b.a") for side in sides]
    (sides[1] / "f.o").unlink()
    (sides[1] / "f.o").symlink_to(tmp_path / "outside.o")
    with pytest.raises(InfraError, match="symbolic link"):
        compare(*archives)
    (sides[1] / "f.o").unlink()
    with pytest.raises(InfraError, match="no such file"):
        compare(*archives)


def module(folder: Path, *, crc: int = 1, licence: str = "GPL", signature: bytes = b"", value: int = 1) -> Path:
    """What modpost and ld make of a small module, as far as a comparison sees it."""
    folder.mkdir(parents=True, exist_ok=True)
    compile_into(folder, F % value, name="m")
    compile_into(folder, "\n".join((
        '.section .modinfo,"a"', f'.asciz "license={licence}"', '.asciz "vermagic=6.1 SMP"',
        '.section __versions,"a"', f".quad {crc}", '.asciz "skb_clone"', ".balign 64",
        '.section .gnu.linkonce.this_module,"aw"', ".globl __this_module", ".type __this_module,@object",
        "__this_module: .quad 0, f", ".size __this_module,16", "")), name="m.mod", asm=True)
    run(["ld", "-r", "-o", "m.ko", "m.o", "m.mod.o"], cwd=folder, deadline=Deadline.after(60))
    with (folder / "m.ko").open("ab") as file:
        file.write(signature)
    return folder / "m.ko"


def test_modules(tmp_path: Path) -> None:
    base = module(tmp_path / "a")
    assert compare(base, module(tmp_path / "b")).identical_code
    lines = said(base, module(tmp_path / "c", crc=2, licence="MIT", value=2))
    assert "m.ko: .modinfo: strings \"license=GPL\" -> \"license=MIT\"" in lines
    assert "m.ko: __versions: skb_clone crc 0x00000001 -> crc 0x00000002" in lines
    assert "m.ko: f: leal offset 1 -> 2 (%rdi, %rdi, 2)" in lines


def test_a_signature_is_said(tmp_path: Path) -> None:
    plain, signed, other = (module(tmp_path / name, signature=data) for name, data in (
        ("a", b""), ("b", SIGNATURE), ("c", SIGNATURE.replace(b"*", b"+"))))
    assert said(plain, signed)[-1] == "m.ko: module signature: new"
    assert said(signed, plain)[-1] == "m.ko: module signature: gone"
    assert said(signed, other)[-1] == "m.ko: module signature: differs"
    assert not compare(signed, other).identical_code
    # the kernel looks for it at the very end
    longer = tmp_path / "longer.ko"
    longer.write_bytes(signed.read_bytes() + bytes(1))
    assert not compare(signed, longer).identical_code
    assert not compare(longer, signed).identical_code


def test_a_folder_of_installed_modules(tmp_path: Path) -> None:
    for side, value in (("base", 1), ("patched", 2)):
        shutil.move(module(tmp_path / f"made-{side}", value=value), (tmp_path / side).with_suffix(".tmp"))
        (tmp_path / side / "net").mkdir(parents=True)
        (tmp_path / side).with_suffix(".tmp").rename(tmp_path / side / "net/m.ko")
    result = compare(tmp_path / "base", tmp_path / "patched")
    assert [(d.path, d.status) for d in result.deltas] == [("net/m.ko", "changed")]


def test_a_module_beside_its_object_is_counted_once(tmp_path: Path) -> None:
    base, patched = module(tmp_path / "a").parent, module(tmp_path / "b", value=2).parent
    result = compare(base, patched)
    assert [d.path for d in result.deltas] == ["m.o"]
    assert dict(result.excluded) == {"linked module": 1, "modpost output": 1}


def test_composite_objects_count(tmp_path: Path, sides: tuple[Path, Path]) -> None:
    for side in sides:
        run(["ld", "-r", "-o", "both.o", "f.o", "g.o"], cwd=side, deadline=Deadline.after(60))
    assert [d.path for d in compare(*sides).differing] == ["both.o", "f.o"]


def test_renamed_objects_are_said_to_be(sides: tuple[Path, Path]) -> None:
    (sides[1] / "net").mkdir()
    (sides[1] / "g.o").rename(sides[1] / "net/g.o")
    lines = said(*sides)
    assert lines[0].endswith("1 changed, 1 only in base, 1 only in patched")
    assert "g.o: only in base (same content at net/g.o)" in lines
    assert "net/g.o: only in patched (same content at g.o)" in lines


def test_kernel_images(tmp_path: Path) -> None:
    for side, value in (("base", 1), ("patched", 2)):
        compile_into(tmp_path / side, f"int f(int x) {{ return x * 3 + {value}; }} void _start(void) {{ f(1); }}")
        run(["ld", "-o", "vmlinux", "x.o"], cwd=tmp_path / side, deadline=Deadline.after(60))
    lines = said(tmp_path / "base/vmlinux", tmp_path / "patched/vmlinux")
    assert lines[-1] == "vmlinux: f: leal offset 1 -> 2 (%rdi, %rdi, 2)"


class Command(Protocol):
    """Runs the command; its exit code, and what it printed."""

    def __call__(self, *argv: str | Path) -> tuple[int, str]: ...


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*argv: str | Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main([str(part) for part in argv])
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out + captured.err

    return call


def test_exit_codes(command: Command, sides: tuple[Path, Path]) -> None:
    assert command("objdiff", sides[0], sides[0])[0] == ExitCode.PASSED
    assert command("objdiff", *sides)[0] == ExitCode.FAILED
    assert command("objdiff", sides[0], sides[0] / "f.o")[0] == ExitCode.USAGE
    assert command("objdiff", sides[0], sides[0] / "none")[0] == ExitCode.USAGE


@pytest.mark.parametrize("how", ["truncated", "no ELF", "empty", "header only"])
@pytest.mark.parametrize("whole", [False, True])
def test_damaged_objects_are_one_clear_error(command: Command, sides: tuple[Path, Path], how: str,
                                             whole: bool) -> None:
    broken = sides[1] / "f.o"
    data = broken.read_bytes()
    broken.write_bytes({"truncated": data[:-100], "no ELF": b"hello" * 99, "empty": b"", "header only": data[:64]}[how])
    pair = sides if whole else [side / "f.o" for side in sides]
    code, text = command("objdiff", *pair)
    assert code == ExitCode.LAB
    assert str(broken) in text
    assert "cannot read this ELF file" in text
    assert len(text.splitlines()) <= 2


def test_another_machine_is_a_change_that_says_so(command: Command, cc: Compile) -> None:
    a, b = cc(F % 1), cc(F % 1, "-m32")
    code, text = command("objdiff", a, b)
    assert code == ExitCode.FAILED
    assert "machine 0x3e -> 0x3" in text


@pytest.mark.parametrize("place", ["alone", "in a folder"])
def test_a_fifo_never_hangs(command: Command, sides: tuple[Path, Path], place: str) -> None:
    os.mkfifo(sides[1] / "pipe.o")
    pair = (sides[0] / "f.o", sides[1] / "pipe.o") if place == "alone" else sides
    code, text = command("objdiff", *pair)
    assert code == (ExitCode.USAGE if place == "alone" else ExitCode.LAB)
    assert "pipe.o" in text
    assert "regular file" in text


def test_a_fifo_that_takes_an_objects_place_is_refused(sides: tuple[Path, Path]) -> None:
    opened = Opened(compare(*sides))
    (sides[1] / "f.o").unlink()
    os.mkfifo(sides[1] / "f.o")
    with pytest.raises(InfraError, match="not a regular file"):
        opened.lines(opened.comparison.differing[0])


def test_a_broken_archive_alone(command: Command, sides: tuple[Path, Path]) -> None:
    archive = ar(sides[0], "rcD", "f.o")
    (sides[1] / "lib.a").write_bytes(archive.read_bytes()[:-50])
    code, text = command("objdiff", archive, sides[1] / "lib.a")
    assert (code, "cut off" in text) == (ExitCode.LAB, True)
    (sides[1] / "lib.a").write_bytes(b"!<arch>\n")
    with pytest.raises(UsageError, match="without members"):
        compare(archive, sides[1] / "lib.a")


def test_a_member_that_is_no_object_is_named(sides: tuple[Path, Path]) -> None:
    for number, side in enumerate(sides):
        (side / "text").write_text(f"hello {number}")
    with pytest.raises(InfraError, match=r"lib\.a\(text\)"):
        compare(*(ar(side, "rcD", "text") for side in sides))


PACK = {".ko.xz": lzma.compress, ".ko.gz": partial(gzip.compress, mtime=0)}


@pytest.mark.parametrize("suffix", PACK)
def test_compressed_modules_are_compared_as_what_they_hold(tmp_path: Path, suffix: str) -> None:
    for side, value in (("base", 1), ("same", 1), ("patched", 2)):
        (tmp_path / side / "net").mkdir(parents=True)
        data = module(tmp_path / f"made-{side}", value=value).read_bytes()
        packed = PACK[suffix](data) if side != "same" else PACK[suffix](data[:100]) + PACK[suffix](data[100:])
        (tmp_path / side / f"net/m{suffix}").write_bytes(packed)
    assert compare(tmp_path / "base", tmp_path / "same").identical_code
    result = compare(tmp_path / "base", tmp_path / "patched")
    assert [(delta.path, delta.status) for delta in result.deltas] == [(f"net/m{suffix}", "changed")]
    lines = said(*(tmp_path / side / f"net/m{suffix}" for side in ("base", "patched")))
    assert f"m{suffix}: f: leal offset 1 -> 2 (%rdi, %rdi, 2)" in lines
    with pytest.raises(SystemExit) as ended:
        main(["size", *(str(tmp_path / side) for side in ("base", "patched"))])
    assert ended.value.code == 0


@pytest.mark.parametrize(("name", "data", "said_of_it"), [
    ("m.ko.xz", lzma.compress(b"x" * 99)[:-20], "a damaged compressed module"),
    ("m.ko.xz", b"", "it is empty"),
    ("m.ko.xz", b"\xfd7zXZ\0 no", "a damaged compressed module"),
    ("m.ko.gz", PACK[".ko.gz"](b"x" * 9999)[:-9], "a damaged compressed module"),
    ("m.ko.gz", PACK[".ko.gz"](b"no ELF"), "ELF magic"),
    ("m.ko.zst", b"\x28\xb5\x2f\xfd", "compressed by zstd"),
], ids=["xz-cut", "empty", "xz-damaged", "gz-cut", "gz-no-elf", "zst"])
def test_compressed_modules_that_are_damaged(tmp_path: Path, name: str, data: bytes, said_of_it: str) -> None:
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        (tmp_path / side / name).write_bytes(data)
    (tmp_path / "b" / name).write_bytes(PACK.get(f".{name.partition('.')[2]}", bytes)(b"something else"))
    with pytest.raises(InfraError, match=said_of_it):
        compare(tmp_path / "a", tmp_path / "b")


def test_a_module_that_expands_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "LARGEST", 10 << 20)
    for suffix, pack in PACK.items():
        with pytest.raises(InfraError, match="larger than 10 MiB"):
            compressed.expand(f"m{suffix}", pack(b"\0" * (64 << 20)), "m")
