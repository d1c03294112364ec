# SPDX-License-Identifier: GPL-2.0-only
"""Objects of a real build, made again one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import KernelError, UsageError
from harness.jobs.inputs import Inputs
from harness.kernel import recompile
from harness.kernel.kbuild import Build
from harness.kernel.recompile import Job
from harness.kernel.tree import prepare
from harness.store.store import Store

OBJECTS = ("net/core/skbuff.o", "arch/x86/entry/entry_64.o", "net/ipv4/ip_output.o", "lib/crc32.o",
           "arch/x86/entry/vdso/vclock_gettime.o", "arch/x86/boot/string.o")


@pytest.fixture
def tree(inputs: Inputs, store: Store) -> Path:
    return prepare(inputs.trees["patched"], store, deadline=Deadline.after(300))


def again(build: Build, tree: Path, *jobs: Job, **overrides: Path) -> tuple[bytes | KernelError, ...]:
    named = {name.replace("__", "/").replace("_dot_", "."): path for name, path in overrides.items()}
    return recompile.recompile(build.out, tree, jobs, deadline=Deadline.after(300), overrides=named)


def test_with_nothing_changed_it_is_the_same_object(patched_both: Build, tree: Path) -> None:
    made = again(patched_both, tree, *(Job(object=name) for name in OBJECTS))
    assert [data == (patched_both.out / name).read_bytes() for name, data in zip(OBJECTS, made, strict=True)] == \
        [True] * len(OBJECTS)


def test_another_file_of_the_tree_and_more_options(patched_both: Build, tree: Path, tmp_path: Path) -> None:
    header = tmp_path / "skbuff.h"
    header.write_text((tree / "include/linux/skbuff.h").read_text().replace("#define MAX_SKB_FRAGS", "#define X_X"))
    broken, = again(patched_both, tree, Job(object=OBJECTS[0]), include__linux__skbuff_dot_h=header)
    assert isinstance(broken, KernelError)
    assert any("MAX_SKB_FRAGS" in line for line in broken.detail)
    sections, = again(patched_both, tree, Job(object=OBJECTS[0], flags=("-ffunction-sections",)))
    assert isinstance(sections, bytes)
    assert b".text.skb_clone\0" in sections


def test_other_text_with_the_options_of_an_object(patched_both: Build, tree: Path) -> None:
    text = "#include <linux/skbuff.h>\nint size_is = sizeof(struct sk_buff);\n"
    made, nothing = again(patched_both, tree, Job(object=OBJECTS[0], text=text), Job(object=OBJECTS[0], text="!"))
    assert isinstance(made, bytes)
    assert b"size_is" in made
    assert isinstance(nothing, KernelError)


def test_an_object_that_is_not_there_or_not_compiled(patched_both: Build, tree: Path) -> None:
    with pytest.raises(UsageError, match="no command"):
        again(patched_both, tree, Job(object="net/core/none.o"))
    with pytest.raises(UsageError, match="one source file"):
        again(patched_both, tree, Job(object="net/core/../../vmlinux.o"))


def test_its_source(patched_both: Build) -> None:
    assert recompile.source_of(patched_both.out, "net/core/skbuff.o") == "net/core/skbuff.c"
    assert recompile.source_of(patched_both.out, "vmlinux.o") is None
    assert recompile.source_of(patched_both.out, "none.o") is None
