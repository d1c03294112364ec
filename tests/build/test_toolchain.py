# SPDX-License-Identifier: GPL-2.0-only
"""The toolchain as the sandbox has it: exact versions, and a key that changes with the programs, whatever they say."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.arch import get, native
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.jobs.inputs import Inputs
from harness.kernel import kbuild, toolchain
from harness.kernel.kbuild import Build
from harness.kernel.toolchain import Toolchain
from harness.store.store import Store

WRAPPED = "c99-gcc"
"""A program of Debian's gcc package that is a file of its own: the sandbox is shown another one in its place."""


def wrapped(folder: Path, text: str) -> Toolchain:
    """The toolchain whose compiler is the script `text`."""
    script = folder / "cc"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    found = shutil.which(WRAPPED)
    assert found
    return toolchain.toolchain(Deadline.after(60), WRAPPED, shown={found: script})


def test_versions_are_those_of_the_programs() -> None:
    found = toolchain.toolchain(Deadline.after(60))
    assert found.cc_version.startswith("gcc (Debian ")
    assert found.ld_version.startswith("GNU ld ")
    assert found.variables == (("CC", "gcc"),)
    assert toolchain.toolchain(Deadline.after(60)) == found


def test_make_variables_and_their_values_are_part_of_the_key() -> None:
    plain = toolchain.toolchain(Deadline.after(60))
    more = plain.with_var("HOSTCFLAGS", "-fcommon")
    assert more.variables == (("CC", "gcc"), ("HOSTCFLAGS", "-fcommon"))
    assert len({plain.key, more.key, more.with_var("HOSTCFLAGS", "-O1").key}) == 3


def test_a_compiler_that_says_the_same_of_itself_and_is_another_has_another_key(tmp_path: Path) -> None:
    one, other = wrapped(tmp_path, 'exec gcc "$@"'), wrapped(tmp_path, 'exec gcc -fno-inline "$@"')
    assert one.cc_version == other.cc_version != ""
    assert one.key != other.key
    assert wrapped(tmp_path, 'exec gcc "$@"') == one


def test_a_changed_compiler_never_takes_a_finished_build(inputs: Inputs, patched_both: Build, store: Store,
                                                         tmp_path: Path) -> None:
    def cached(compiler: Toolchain) -> Build | None:
        return kbuild.cached(inputs.trees["patched"], patched_both.config, arch=inputs.arch, toolchain=compiler,
                             store=store)

    assert cached(inputs.toolchain) is not None
    changed = [replace(row, content="another") if row.variable == "CC" else row for row in inputs.toolchain.programs]
    assert cached(replace(inputs.toolchain, programs=tuple(changed))) is None
    assert cached(wrapped(tmp_path, 'exec gcc "$@"')) is None


@pytest.mark.parametrize(("cc", "name", "missing", "package"), [
    ("gcc-99", "x86_64", "gcc-99", "gcc-99"),
    ("clang-99", "x86_64", "clang-99, ld.lld-99", "clang-99 lld-99 llvm-99"),
    ("gcc-99", "arm64", "aarch64-linux-gnu-gcc-99", "gcc-99-aarch64-linux-gnu"),
])
def test_a_compiler_that_is_not_there_is_named_with_its_package(cc: str, name: str, missing: str, package: str) -> None:
    with pytest.raises(InfraError) as caught:
        toolchain.toolchain(Deadline.after(60), cc, arch=get(name))
    assert caught.value.what.startswith(f"not installed on this host: {missing}")
    assert package in (caught.value.hint or "")


def test_kernels_for_the_hosts_own_architecture_need_no_prefix() -> None:
    assert toolchain.toolchain(Deadline.after(60), arch=native()).cross == ""
