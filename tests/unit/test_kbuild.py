# SPDX-License-Identifier: GPL-2.0-only
"""kbuild: what depends on a changed file is found in `.cmd` files, and what the compiler said in the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.kernel import cmdfiles, kbuild


def object_(out: Path, name: str, *deps: str, flags: str = "-D__KERNEL__") -> Path:
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    path.with_name(f".{path.name}.cmd").write_text(
        f"savedcmd_{name} := gcc {flags} -c -o {name} /build/src/{deps[0]}\nsource_{name} := /build/src/{deps[0]}\n"
        f"deps_{name} := \\\n" + "".join(f"  /build/src/{dep} \\\n" for dep in deps[1:]))
    return path


def test_dependents_are_those_whose_files_changed(tmp_path: Path) -> None:
    object_(tmp_path, "net/core/skbuff.o", "net/core/skbuff.c", "include/linux/skbuff.h")
    object_(tmp_path, "net/core/dev.o", "net/core/dev.c", "include/linux/skbuff.h")
    object_(tmp_path, "mm/slab.o", "mm/slab.c", "include/linux/slab.h", "include/linux/skbuff.h.not")
    found = cmdfiles.dependents(tmp_path, frozenset({"include/linux/skbuff.h"}))
    assert found == {"net/core/skbuff.o", "net/core/dev.o"}
    assert cmdfiles.dependents(tmp_path, frozenset({"mm/slab.c"})) == {"mm/slab.o"}
    assert cmdfiles.dependents(tmp_path, frozenset({"net/core"})) == frozenset()


@pytest.mark.parametrize("noted", ["net/ipv4/../core/priv.h", "net//core/priv.h", "net/./core/priv.h"])
def test_a_changed_header_is_known_however_it_was_included(tmp_path: Path, noted: str) -> None:
    object_(tmp_path, "net/ipv4/b.o", "net/ipv4/b.c", noted)
    object_(tmp_path, "lib/gen_table", "lib/gen_table.c", noted, flags="-O2")
    assert cmdfiles.dependents(tmp_path, frozenset({"net/core/priv.h"})) == {"net/ipv4/b.o", "lib/gen_table"}
    assert cmdfiles.run_by_make(tmp_path, frozenset({"net/core/priv.h"}))


def test_an_added_header_may_be_found_where_another_of_its_name_was(tmp_path: Path) -> None:
    object_(tmp_path, "net/core/a.o", "net/core/a.c", "include/uapi/linux/a.h")
    object_(tmp_path, "net/core/b.o", "net/core/b.c", "include/uapi/linux/b.h")
    new = frozenset({"include/linux/a.h", "net/core/c.c"})
    assert cmdfiles.dependents(tmp_path, new, new) == {"net/core/a.o"}
    assert cmdfiles.dependents(tmp_path, new) == frozenset()


def test_what_was_made_by_a_rule_without_a_cmd_file_is_made_again(tmp_path: Path) -> None:
    object_(tmp_path, "net/core/a.o", "net/core/a.c", "include/linux/a.h")
    made = object_(tmp_path, "net/snmp.asn1.o", "net/x.c")
    for name in ("snmp.asn1.c", "m.mod.c", ".tmp.c"):
        (tmp_path / "net" / name).write_text("")
    (tmp_path / "include/generated").mkdir(parents=True)
    (tmp_path / "include/generated/autoconf.h").write_text("")
    command = made.with_name(f".{made.name}.cmd")
    command.write_text("source_net/snmp.asn1.o := net/snmp.asn1.c\ndeps_net/snmp.asn1.o := \\\n  net/snmp.asn1.h \\\n")
    assert cmdfiles.dependents(tmp_path, frozenset({"net/snmp.asn1"})) == {"net/snmp.asn1.c", "net/snmp.asn1.o"}
    assert cmdfiles.dependents(tmp_path, frozenset()) == frozenset()


@pytest.mark.parametrize(("changed", "run"), [
    ("net/core/skbuff.c", False),
    ("include/linux/skbuff.h", False),
    ("net/core/never-compiled.c", False),
    ("lib/gen_table.c", True),  # compiled for the host, and run to make a table
    ("include/uapi/linux/types.h", True),  # is read by that and by objects of the kernel
    ("net/core/Makefile", True),
    ("net/Kconfig", True),
    ("lib/table.lex", True),
])
def test_what_a_build_runs_is_told_from_what_it_compiles(tmp_path: Path, changed: str, run: bool) -> None:
    object_(tmp_path, "net/core/skbuff.o", "net/core/skbuff.c", "include/linux/skbuff.h", "include/uapi/linux/types.h")
    object_(tmp_path, "lib/gen_table", "lib/gen_table.c", "include/uapi/linux/types.h", flags="-O2")
    assert cmdfiles.run_by_make(tmp_path, frozenset({changed})) is run
    assert cmdfiles.run_by_make(tmp_path, frozenset({changed, "net/core/skbuff.c"})) is run


def test_a_stale_object_that_was_not_made_again_is_refused(tmp_path: Path) -> None:
    path = object_(tmp_path, "a.o", "a.c")
    kbuild._prove(tmp_path, frozenset({"a.o", "gone.o"}), path.stat().st_mtime_ns, "base/x")
    with pytest.raises(InfraError, match=r"did not make a\.o again"):
        kbuild._prove(tmp_path, frozenset({"a.o"}), path.stat().st_mtime_ns + 1, "base/x")


def test_what_the_seed_was_linked_from_and_the_result_is_not_goes(tmp_path: Path) -> None:
    kept, left = object_(tmp_path, "net/a.o", "net/a.c"), object_(tmp_path, "net/xfrm/b.o", "net/xfrm/b.c")
    for folder in (kept.parent, left.parent):
        (folder / "built-in.a").write_text("")
    kbuild._prune(tmp_path, frozenset({"net/xfrm/b.o"}))
    assert kept.exists()
    assert (kept.parent / "built-in.a").exists()
    assert list(left.parent.iterdir()) == []


def test_diagnostics_are_read_once_each_with_paths_of_the_tree() -> None:
    log = ("  CC      net/a.o\n/build/src/net/a.c:12:3: error: 'x' undeclared\n"
           "/build/src/net/a.c:12:3: error: 'x' undeclared\n/build/src/net/b.c:4: warning: unused 'y'\n"
           "net/c.c:9:1: fatal error: no.h: No such file or directory\nmake: *** [Makefile:1: all] Error 2\n")
    assert [(row.where, row.kind, row.text) for row in kbuild.diagnostics(log)] == [
        ("net/a.c:12", "error", "'x' undeclared"), ("net/b.c:4", "warning", "unused 'y'"),
        ("net/c.c:9", "error", "no.h: No such file or directory")]
