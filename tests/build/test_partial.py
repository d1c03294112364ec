# SPDX-License-Identifier: GPL-2.0-only
"""Single objects without a kernel: the same as the kernel's, and right for the configuration."""

from __future__ import annotations

import pytest

from harness.deadline import Deadline
from harness.errors import KernelError
from harness.jobs.inputs import Inputs
from harness.kernel import kconfig, partial
from harness.kernel.kbuild import Build
from harness.store.store import Store
from tests.conftest import ROOT

OBJECTS = ("lib/percpu-refcount.o", "net/core/fib_notifier.o", "arch/x86/lib/getuser.o")


def test_an_object_is_that_of_a_whole_build(patched_both: Build, inputs: Inputs, store: Store) -> None:
    out = partial.objects(inputs.trees["patched"], patched_both.config, OBJECTS, arch=inputs.arch,
                          toolchain=inputs.toolchain, store=store, deadline=Deadline.after(600))
    assert [(out / name).read_bytes() == (patched_both.out / name).read_bytes() for name in OBJECTS] == [True] * 3


def test_the_debug_fragment_comes_out_as_asked(inputs: Inputs, store: Store) -> None:
    fragments = [*inputs.plan.variant("both").fragments, ROOT / "kernel-configs" / "debug.config"]
    config = kconfig.configure(inputs.trees["patched"], "debug", kconfig.read_fragments(fragments), arch=inputs.arch,
                               toolchain=inputs.toolchain, store=store, deadline=Deadline.after(600))
    wanted = ("BUG", "DEBUG_BUGVERBOSE", "DYNAMIC_DEBUG", "DEBUG_ATOMIC_SLEEP", "PROVE_LOCKING", "FUNCTION_TRACER",
              "UNWINDER_ORC")
    assert {symbol: config.value(symbol) for symbol in wanted} == dict.fromkeys(wanted, "y")


def test_what_is_no_object_is_an_error(patched_both: Build, inputs: Inputs, store: Store) -> None:
    with pytest.raises(KernelError, match=r"make fails on lib/no-such\.o"):
        partial.objects(inputs.trees["patched"], patched_both.config, ["lib/no-such.o"], arch=inputs.arch,
                        toolchain=inputs.toolchain, store=store, deadline=Deadline.after(600))
