# SPDX-License-Identifier: GPL-2.0-only
"""Whole build folders: which files count, what is missing, what the result says."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from compare_kit import Compile, compile_into

from harness.compare.archive import members
from harness.compare.objdiff import compare
from harness.compare.opened import Opened
from harness.compare.values import Comparison
from harness.deadline import Deadline
from harness.errors import InfraError, UsageError
from harness.proc import run
from harness.report.objdiff_text import summary

SKBUFF = "int skb_clone(int x) {{ return x + {}; }}"


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A small build folder: two kernel objects, a thin archive that lists them, and files that do not count."""
    root = tmp_path / "base"
    compile_into(root / "net/core", SKBUFF.format(1), name="skbuff")
    compile_into(root / "net/core", "int dev_open(void) { return 1; }", name="dev")
    run(["ar", "cDPrST", "net/core/built-in.a", "net/core/dev.o", "net/core/skbuff.o"], cwd=root,
        deadline=Deadline.after(60))
    host = ("scripts/mod/modpost.o", "tools/objtool/check.o", "arch/x86/tools/relocs.o", "vmlinux.o", "net/m.mod.o",
            ".tmp_vmlinux.kallsyms1.o", "arch/x86/boot/compressed/piggy.o")
    for path in host:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("this is no object, and must not be read")
    return root


@pytest.fixture
def patched(build: Path) -> Path:
    return Path(shutil.copytree(build, build.parent / "patched"))


def test_a_build_is_identical_to_itself(build: Path, patched: Path) -> None:
    for other in (build, patched):
        result = compare(build, other)
        assert (result.objects, result.identical, result.archives, result.identical_code) == (2, 2, 1, True)
        assert result.rules == ()
        assert dict(result.excluded) == {"host program": 3, "link temporary": 1, "linked kernel": 2,
                                         "modpost output": 1}


def test_several_processes_find_what_one_finds(build: Path, patched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    for number in range(5):
        for side in (build, patched):
            compile_into(side / "fs", f"int f(int x) {{ return x * {number} * {len(side.name)}; }}", name=f"f{number}")
    (patched / "fs/f2.o").unlink()
    found = compare(build, patched)
    assert (found.changed, found.only_base) == (3, 1)
    assert compare(build, patched, copies=3) == found
    (patched / "fs/f3.o").write_bytes(b"\x7fELF")
    said = []
    for copies in (1, 2, 3):
        with pytest.raises(InfraError) as error:
            compare(build, patched, copies=copies)
        said.append(str(error.value))
    assert len(set(said)) == 1
    assert "fs/f3.o" in said[0]


def test_files_that_do_not_count_may_differ(build: Path, patched: Path) -> None:
    (patched / "scripts/mod/modpost.o").write_text("another")
    (patched / "vmlinux.o").unlink()
    assert compare(build, patched).identical_code


def test_a_linker_script_that_differs_is_a_change_though_every_object_is_equal(build: Path, patched: Path) -> None:
    script = "arch/x86/kernel/vmlinux.lds"
    for side, align in ((build, 4096), (patched, 8192)):
        for name in (script, "scripts/module.lds"):
            (side / name).parent.mkdir(parents=True, exist_ok=True)
            (side / name).write_text(f"SECTIONS\n{{\n  . = ALIGN({4096 if 'module' in name else align});\n}}\n")
    result = compare(build, patched)
    assert (result.changed, result.link_scripts, result.link_scripts_changed) == (0, 2, 1)
    assert not result.identical_code
    assert summary(Opened(result))[-1] == f"{script}: linker script, line 3: . = ALIGN(4096); -> . = ALIGN(8192);"
    (patched / script).write_text((build / script).read_text())
    assert compare(build, patched).identical_code
    (patched / "scripts/module.lds").unlink()
    assert [delta.status for delta in compare(build, patched).differing] == ["only-base"]


def test_a_changed_function_is_one_line(build: Path, patched: Path) -> None:
    compile_into(patched / "net/core", SKBUFF.format(2), name="skbuff")
    result = compare(build, patched)
    assert (result.changed, result.identical, result.identical_code) == (1, 1, False)
    assert summary(Opened(result)) == [
        "2 objects: 1 identical, 0 explained, 1 changed, 0 only in base, 0 only in patched",
        "  not compared: 3 host program, 1 link temporary, 2 linked kernel, 1 modpost output",
        "changed functions, data and sections: 1; only moved: 0",
        "net/core/skbuff.o: skb_clone: leal offset 1 -> 2 (%rdi)",
    ]


def test_objects_on_one_side_are_changes(build: Path, patched: Path) -> None:
    (patched / "net/core/dev.o").rename(patched / "net/core/new.o")
    result = compare(build, patched)
    assert [(d.path, d.status) for d in result.differing] == [
        ("net/core/dev.o", "only-base"), ("net/core/new.o", "only-patched")]
    assert (result.objects, result.only_base, result.only_patched, result.identical_code) == (3, 1, 1, False)
    reverse = compare(patched, build)
    assert (reverse.only_base, reverse.only_patched, reverse.identical_code) == (1, 1, False)


def test_the_link_order_is_compared(build: Path, patched: Path) -> None:
    (patched / "net/core/built-in.a").unlink()
    run(["ar", "cDPrST", "net/core/built-in.a", "net/core/skbuff.o", "net/core/dev.o"], cwd=patched,
        deadline=Deadline.after(60))
    result = compare(build, patched)
    assert (result.changed, result.archives_changed, result.identical_code) == (0, 1, False)
    assert not result.identical_bytes
    assert compare(build, build).identical_bytes
    assert "link order, member 0: dev.o -> skbuff.o" in summary(Opened(result))[-1]


def test_the_order_that_the_head_objects_get_is_compared(build: Path, patched: Path) -> None:
    """vmlinux.a: scripts/head-object-list.txt moves objects to its front."""
    names = ["net/core/dev.o", "net/core/skbuff.o"]
    for side, order in ((build, names), (patched, names[::-1])):
        run(["ar", "cDPrST", "vmlinux.a", *order], cwd=side, deadline=Deadline.after(60))
    assert [delta.path for delta in compare(build, patched).differing] == ["vmlinux.a"]


def test_what_only_an_archive_holds_is_compared(build: Path, patched: Path) -> None:
    for side in (build, patched):
        compile_into(side / "lib", f"int f(int x) {{ return x + {len(side.name)}; }}", name="f")
        run(["ar", "cDrS", "lib.a", "f.o"], cwd=side / "lib", deadline=Deadline.after(60))
    assert [delta.path for delta in compare(build, patched).differing] == ["lib/f.o"]
    for side in (build, patched):
        (side / "lib/f.o").unlink()
    result = compare(build, patched)
    assert (result.archives_changed, result.identical_code) == (1, False)
    assert summary(Opened(result))[-1] == "lib/lib.a: link order, member 0: f.o -> f.o with other content"


@pytest.mark.parametrize("name", [".hidden", "x.mod"])
def test_what_an_archive_lists_is_compared_whatever_its_name(build: Path, patched: Path, name: str) -> None:
    for side in (build, patched):
        compile_into(side / "net/core", f"int f(int x) {{ return x + {len(side.name)}; }}", name=name)
        run(["ar", "cDPrST", "net/core/built-in.a", f"net/core/{name}.o"], cwd=side, deadline=Deadline.after(60))
    result = compare(build, patched)
    assert [delta.path for delta in result.differing] == [f"net/core/{name}.o"]
    assert dict(result.excluded)["modpost output"] == 1
    for side in (build, patched):
        (side / f"net/core/{name}.o").unlink()
        (side / f"net/core/{name}.o").symlink_to("dev.o")
    with pytest.raises(InfraError, match="symbolic link"):
        compare(build, patched)


@pytest.mark.parametrize("name", ["vmlinux", "arch/x86/boot/setup.elf"])
def test_a_kernel_that_was_linked_in_another_way_is_a_change(build: Path, patched: Path, name: str) -> None:
    for side, start in ((build, "0x1000"), (patched, "0x2000")):
        (side / name).parent.mkdir(parents=True, exist_ok=True)
        run(["ld", "-e", "0", "-Ttext", start, "-o", name, "net/core/skbuff.o"], cwd=side, deadline=Deadline.after(60))
    result = compare(build, patched)
    assert (result.identical, result.changed, result.identical_code) == (2, 1, False)
    assert summary(Opened(result))[-1] == f"{name}: all objects are equal -> linked in another way"
    for side in (build, patched):
        (side / "btf").write_text(side.name)
        run(["objcopy", "--add-section", ".BTF=btf", name], cwd=side, deadline=Deadline.after(60))
    assert compare(build, patched).identical_code
    shutil.copyfile(build / name, patched / name)
    assert compare(build, patched).identical_code


def test_no_object_is_wrong_usage_and_never_identical(build: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    (empty / "scripts").mkdir(parents=True)
    shutil.copy(build / "net/core/dev.o", empty / "scripts/only_host.o")
    for pair in ((empty, empty), (build, empty), (empty, build)):
        with pytest.raises(UsageError, match="no kernel object"):
            compare(*pair)


def test_wrong_paths_are_wrong_usage(build: Path, tmp_path: Path) -> None:
    for pair in ((build, tmp_path / "no"), (tmp_path / "no", build), (build, build / "net/core/dev.o"),
                 (Path(os.devnull), Path(os.devnull))):
        with pytest.raises(UsageError):
            compare(*pair)


def test_a_symbolic_link_is_not_followed(build: Path, patched: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (patched / "net/core/dev.o").rename(outside / "dev.o")
    (patched / "net/core/dev.o").symlink_to(outside / "dev.o")
    (patched / "source").symlink_to(outside)
    (patched / "loop").symlink_to(patched)
    result = compare(build, patched)
    assert [(d.path, d.status) for d in result.differing] == [("net/core/dev.o", "only-base")]
    assert dict(result.excluded)["symbolic link"] == 1


@pytest.mark.parametrize("name", ["dev.korea", "dev.kox/y"])
def test_a_name_with_ko_in_it_makes_no_module(build: Path, patched: Path, name: str) -> None:
    for side in (build, patched):
        path = side / "net/core" / name
        compile_into(path.parent, f"int f(int x) {{ return x + {len(side.name)}; }}", name=path.name)
    assert [delta.path for delta in compare(build, patched).differing] == [f"net/core/{name}.o"]


def test_what_is_no_file_is_an_error(build: Path, patched: Path) -> None:
    os.mkfifo(patched / "net/core/pipe.o")
    with pytest.raises(InfraError, match=r"pipe\.o"):
        compare(build, patched)


def test_what_cannot_be_read_is_an_error(build: Path, patched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # root may read every file, so the refusal is played
    def refuse(path: str, _flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InfraError, match=r"built-in\.a: cannot read: Permission denied"):
        compare(build, patched)


@pytest.mark.parametrize("content", [b"", b"BC\xc0\xde bitcode", b"\x7fELF\x02\x01\x01"])
def test_a_broken_object_is_an_error_that_names_it(build: Path, patched: Path, content: bytes) -> None:
    (patched / "net/core/dev.o").write_bytes(content)
    with pytest.raises(InfraError, match=r"patched/net/core/dev\.o"):
        compare(build, patched)


@pytest.mark.parametrize("content", [b"", b"!<thin>\nhello", b"!<thin>\n" + b"/5".ljust(48) + b"0".ljust(10) + b"`\n"])
def test_a_broken_archive_is_an_error_that_names_it(build: Path, patched: Path, content: bytes) -> None:
    (patched / "net/core/built-in.a").write_bytes(content)
    with pytest.raises(InfraError, match=r"built-in\.a"):
        compare(build, patched)


def test_full_archives_and_long_names_are_read(build: Path, patched: Path) -> None:
    for root, order in ((build, ("a" * 40, "b")), (patched, ("b", "a" * 40))):
        for name in order:
            shutil.copy(build / "net/core/dev.o", root / f"{name}.o")
        run(["ar", "rcs", "lib.a", *(f"{name}.o" for name in order)], cwd=root, deadline=Deadline.after(60))
    (delta,) = compare(build, patched).differing
    assert (delta.path, delta.changes[0].base, delta.changes[0].patched) == ("lib.a", "a" * 40 + ".o", "b.o")


def test_the_slash_binutils_adds_to_a_reference_is_read() -> None:
    long = b"a.o/\nb.o/\n"
    data = b"!<thin>\n" + b"//".ljust(48) + str(len(long)).encode().ljust(10) + b"`\n" + long
    data += b"".join(name.ljust(48) + b"9".ljust(10) + b"`\n" for name in (b"/0             /", b"/5:77"))
    assert members(data, "x.a") == ("a.o", "b.o")


def test_the_result_is_stable_and_goes_into_json(build: Path, patched: Path) -> None:
    compile_into(patched / "net/core", SKBUFF.format(2), name="skbuff")
    (patched / "net/core/extra\033[1m.o").write_bytes((build / "net/core/dev.o").read_bytes())
    first, second = compare(build, patched), compare(build, patched)
    assert first == second
    text = json.dumps(first.to_json())
    value = json.loads(text)
    assert (value["schema"], value["objects"], value["identical_code"]) == ("harness.objdiff/2", 3, False)
    assert [d["path"] for d in value["deltas"]] == ["net/core/extra\\x1b[1m.o", "net/core/skbuff.o"]
    assert value["identical_objects"] == ["net/core/dev.o"]
    assert value["deltas"][1]["changes"][0]["symbol"] == "skb_clone"
    assert all(line.isprintable() for line in summary(Opened(first)))


def test_a_long_summary_is_cut_and_says_so(cc: Compile) -> None:
    source = "".join(f"int f{i}(int x) {{{{ return x * 3 + {{}} + {i}; }}}}\n" for i in range(30))
    result = compare(cc(source.replace("{}", "1").replace("{{", "{").replace("}}", "}")),
                     cc(source.replace("{}", "9").replace("{{", "{").replace("}}", "}")))
    lines = summary(Opened(result), limit=5)
    assert len(lines) == 8
    assert lines[-1] == "... and 25 more (--all)"


def test_counts_add_up(build: Path, patched: Path) -> None:
    def total(c: Comparison) -> int:
        return c.identical + c.explained + c.changed + c.only_base + c.only_patched

    compile_into(patched / "net/core", SKBUFF.format(1), "-g", name="skbuff")
    (patched / "net/core/dev.o").rename(patched / "net/core/new.o")
    result = compare(build, patched)
    assert (total(result), result.explained) == (result.objects, 1)
    assert [(use.rule, use.objects) for use in result.rules] == [("debug-sections", 1)]
    assert "explained by debug-sections" in summary(Opened(result))[1]
    strict = compare(build, patched, strict=True)
    assert (strict.explained, strict.changed, strict.rules) == (0, 1, ())
