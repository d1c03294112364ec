# SPDX-License-Identifier: GPL-2.0-only
"""Layouts of real kernels, and of hard cases, against pahole(1)."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.arch import native
from harness.compare.dwarf_types import read_layout
from harness.compare.fit import Answer, fills_hole
from harness.compare.layout import Layout, Member, Unmeasured, compare_layouts, find, holes
from harness.deadline import Deadline
from harness.errors import InfraError, KernelError
from harness.guest import apt
from harness.jobs import builds, layouts
from harness.jobs.inputs import Inputs
from harness.kernel.kbuild import Build
from harness.kernel.recompile import Job, recompile
from harness.kernel.tree import prepare
from harness.report.progress import Progress
from harness.store.store import Store, digest

SOURCE = Path(__file__).parents[1] / "unit" / "compare" / "layouts.c"
HARD = ("holes", "bits", "cross", "packed", "outer", "grouped", "arrays", "flexible", "aligned", "wide", "pointers",
        "holds_empty")
REAL = (("sk_buff", "linux/skbuff.h"), ("net_device", "linux/netdevice.h"), ("task_struct", "linux/sched.h"),
        ("sock", "net/sock.h"), ("page", "linux/mm_types.h"), ("xfrm_state", "net/xfrm.h"), ("tcphdr", "linux/tcp.h"),
        ("inode", "linux/fs.h"), ("flowi", "net/flow.h"))


@pytest.fixture(scope="session")
def base_both(inputs: Inputs, store: Store, progress: Progress) -> Build:
    config = builds.configure(inputs, "base", "both", store=store, progress=progress)
    return builds.build(inputs, "base", config, store=store, progress=progress)


Measure = Callable[..., Layout | Unmeasured]


@pytest.fixture
def measure(inputs: Inputs, store: Store) -> Measure:
    def of(build: Build, struct: str, *headers: str) -> Layout | Unmeasured:
        return builds.measure(inputs, build, struct, headers, store=store)

    return of


def test_sk_buff_with_both_options(base_both: Build, patched_both: Build, measure: Measure) -> None:
    base, patched = (measure(build, "sk_buff", "linux/skbuff.h") for build in (base_both, patched_both))
    assert isinstance(base, Layout)
    assert isinstance(patched, Layout)
    assert compare_layouts(base, patched).size_delta == -8
    assert find(base, "sp")
    assert find(base, "active_extensions") is None
    new = find(patched, "active_extensions")
    assert new is not None
    assert (new.declaration, new.bits) == ("__u8 active_extensions", 8)
    assert fills_hole(base, patched, "active_extensions").answer is Answer.YES
    assert fills_hole(base, patched, "extensions").answer is Answer.NO
    assert find(patched, "headers.protocol") is not None


def test_what_the_compiler_says_of_its_size_is_the_same(patched_both: Build, inputs: Inputs, store: Store,
                                                        measure: Measure) -> None:
    """A compiler that is told the figures refuses wrong ones."""
    found = measure(patched_both, "sk_buff", "linux/skbuff.h")
    assert isinstance(found, Layout)
    lines = ["#include <linux/skbuff.h>", f"_Static_assert(sizeof(struct sk_buff) == {found.size}, \"size\");"]
    lines += [f"_Static_assert(__builtin_offsetof(struct sk_buff, {name}) == {member.start // 8}, \"{name}\");"
              for name in ("len", "headers", "protocol", "active_extensions", "tail", "extensions")
              if (member := find(found, name))]
    assert len(lines) == 8
    tree = prepare(inputs.trees["patched"], store, deadline=Deadline.after(300))
    right, wrong = recompile(patched_both.out, tree, [
        Job(object="init/main.o", text="\n".join([*lines, ""])),
        Job(object="init/main.o", text="\n".join([*lines, "_Static_assert(sizeof(struct sk_buff) == 1, \"\");", ""])),
    ], deadline=Deadline.after(300))
    assert isinstance(right, bytes)
    assert isinstance(wrong, KernelError)


OURS = "#ifdef CONFIG_SKB_EXTENSIONS\n\t__u8\t\t\tactive_extensions;\n#endif\n"


@pytest.mark.parametrize(("edits", "size", "answer", "why"), [
    ([], 224, Answer.YES, "fills a hole at 127 (143 in base)"),
    ([(OURS, ""), ("\tunsigned int\t\tlen,\n", f"{OURS}\tunsigned int\t\tlen,\n")], 232, Answer.NO,
     "fills no hole: base has `nf_bridge` there, at 120"),
    ([(OURS, ""), ("\tsk_buff_data_t\t\ttail;\n", f"{OURS}\tsk_buff_data_t\t\ttail;\n")], 232, Answer.NO,
     "fills no hole: base has none between"),
    ([(OURS, OURS.replace("__u8\t", "__u16\t"))], 232, Answer.NO, "1 byte free between `pp_recycle` and the union of"),
    ([(OURS, OURS.replace(";", ", another;"))], 232, Answer.UNKNOWN, "the series also adds `another`"),
    ([(OURS, OURS.replace(";", " __aligned(128);"))], 256, Answer.NO, "too few for it where it lies"),
], ids=["as it is", "before len", "before tail", "of two bytes", "with another", "aligned"])
def test_a_series_that_does_it_wrong(base_both: Build, patched_both: Build, inputs: Inputs, store: Store,
                                     tmp_path: Path, measure: Measure, edits: Sequence[tuple[str, str]], size: int,
                                     answer: Answer, why: str) -> None:
    """The real header with the member elsewhere, or another one."""
    tree = prepare(inputs.trees["patched"], store, deadline=Deadline.after(300))
    text = (tree / "include/linux/skbuff.h").read_text(encoding="utf-8")
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (tmp_path / "skbuff.h").write_text(text, encoding="utf-8")
    (made,) = recompile(patched_both.out, tree, [Job(
        object="init/main.o", text="#include <linux/skbuff.h>\nstruct sk_buff *p;\n", flags=("-g",))],
        deadline=Deadline.after(300), overrides={"include/linux/skbuff.h": tmp_path / "skbuff.h"})
    base = measure(base_both, "sk_buff", "linux/skbuff.h")
    assert isinstance(base, Layout)
    assert isinstance(made, bytes)
    patched = read_layout(made, "sk_buff", where="probe")
    assert isinstance(patched, Layout)
    fit = fills_hole(base, patched, "active_extensions")
    assert (patched.size, fit.answer) == (size, answer), fit
    assert why in fit.why


@pytest.mark.parametrize(("struct", "header", "why"), [
    ("sk_bufff", "linux/skbuff.h", "there is no struct sk_bufff in linux/skbuff.h"),
    ("bpf_prog", "linux/skbuff.h", "struct bpf_prog is only declared in linux/skbuff.h, not defined"),
    ("sk_buff", "linux/skbufff.h", "linux/skbufff.h does not compile: linux/skbufff.h: No such file or directory"),
    ("sk_buff", "linux/compiler-clang.h", "linux/compiler-clang.h does not compile: missing binary operator"),
    ("bpf_attr", "linux/bpf.h", "struct bpf_attr of linux/bpf.h does not compile: 'bpf_attr' defined as wrong kind"),
])
def test_a_structure_that_cannot_be_measured(patched_both: Build, measure: Measure, struct: str, header: str,
                                             why: str) -> None:
    found = measure(patched_both, struct, header)
    assert isinstance(found, Unmeasured)
    assert found.why.startswith(why)


def test_a_compiler_that_was_killed_is_the_labs_fault(patched_both: Build, measure: Measure,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    killed = KernelError("it does not compile", detail=("gcc: fatal error: Killed signal terminated program cc1",))
    monkeypatch.setattr(layouts, "recompile", lambda *_, **__: (killed,))
    with pytest.raises(InfraError, match="does not say why"):
        measure(patched_both, "sk_buff", "linux/skbuff.h")


Pahole = Callable[[Path, str], str]


@pytest.fixture(scope="session")
def pahole(store: Store) -> Pahole:
    """Debian's pahole, unpacked and not installed: Kconfig would find it and make other configurations."""
    deadline = Deadline.after(600)
    with store.staging() as state:
        packages = apt.resolve(["pahole"], native(), state, deadline=deadline)
        wanted = [package for package in packages if not package.name.startswith(("libc6", "libgcc", "gcc-"))]

        def make(stage: Path) -> None:
            for file in apt.download(packages, native(), state, deadline=deadline, progress=lambda _: None):
                if file.name.startswith(tuple(f"{package.name}_" for package in wanted)):
                    subprocess.run(["dpkg-deb", "-x", file, stage], check=True)

        root = store.get("pahole", digest("pahole", [str(package) for package in wanted]), make, deadline=deadline)
    libraries = sorted({str(path.parent) for path in root.rglob("*.so*")})

    def run(file: Path, struct: str) -> str:
        return subprocess.run([root / "usr/bin/pahole", "-C", struct, file], capture_output=True, text=True, check=True,
                              env={**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}).stdout

    return run


PLACED = re.compile(r"^(?P<text>.*?)/\* +(?P<offset>\d+)(?:: *(?P<bit>\d+))? +(?P<size>\d+) \*/$")
WIDTH = re.compile(r":(\d+);")


def theirs(text: str) -> list[tuple[int, int]]:
    """Start and size in bits of every member that pahole shows."""
    found = []
    for line in filter(None, (PLACED.match(line) for line in text.splitlines())):
        width = WIDTH.search(line["text"])
        bits = int(width[1]) if width else 8 * int(line["size"])
        found.append((8 * int(line["offset"]) + int(line["bit"] or 0), bits))
    return sorted(found)


def shown(members: Sequence[Member]) -> Iterator[Member]:
    """The members that pahole shows: those in structures without a tag, too."""
    for member in members:
        yield member
        if member.nameless:
            yield from shown(member.members)


def every_hole(layout: Layout) -> int:
    """Bits in holes, as pahole counts them: not the padding."""
    bodies = [(layout.members, 0, 8 * layout.size)]
    bodies += [(member.members, member.start, member.end if member.kind == "struct" else member.members[-1].end)
               for member in shown(layout.members) if member.nameless and member.kind != "union"]
    return sum(hole.bits for body in bodies for hole in holes(*body) if not hole.padding)


def compared(text: str, layout: Layout) -> None:
    size = re.search(r"/\* size: (\d+), cachelines: (\d+), members: (\d+)", text)
    assert size
    assert (int(size[1]), int(size[2]), int(size[3])) == (layout.size, layout.lines, len(layout.members))
    assert theirs(text) == sorted((member.start, member.bits) for member in shown(layout.members))
    assert sum(int(count) * (8 if unit == "byte" else 1) for count, unit in
               re.findall(r"XXX (\d+) (byte|bit)s? hole", text)) == every_hole(layout)


@pytest.mark.parametrize(("struct", "header"), REAL)
def test_real_structures_against_pahole(struct: str, header: str, patched_both: Build, inputs: Inputs, store: Store,
                                        tmp_path: Path, pahole: Pahole, measure: Measure) -> None:
    tree = prepare(inputs.trees["patched"], store, deadline=Deadline.after(300))
    (made,) = recompile(patched_both.out, tree, [Job(
        object="init/main.o", text=f"#include <{header}>\nstruct {struct} *p;\n", flags=("-g",))],
        deadline=Deadline.after(300))
    assert isinstance(made, bytes)
    (tmp_path / "probe.o").write_bytes(made)
    found = measure(patched_both, struct, header)
    assert isinstance(found, Layout)
    compared(pahole(tmp_path / "probe.o", struct), found)


@pytest.mark.parametrize("version", ["-gdwarf-3", "-gdwarf-4", "-gdwarf-5"])
@pytest.mark.parametrize("struct", HARD)
def test_hard_cases_against_pahole(struct: str, version: str, tmp_path: Path, pahole: Pahole) -> None:
    subprocess.run(["gcc", "-g", version, "-c", SOURCE, "-o", tmp_path / "x.o"], check=True)
    found = read_layout((tmp_path / "x.o").read_bytes(), struct, where="x.o")
    assert isinstance(found, Layout)
    compared(pahole(tmp_path / "x.o", struct), found)
