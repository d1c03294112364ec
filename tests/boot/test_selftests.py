# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tests in a real guest: what they find there, and what their ends come to."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.claims import Verdict
from harness.deadline import Deadline
from harness.jobs.selftests import on_kernel
from harness.kernel.kbuild import Build
from harness.kernel.selftests import Selftest
from harness.vm.machine import Machine, boot
from harness.vm.qemu import MachineSpec
from tests.boot.conftest import BOOT

SCRIPTS = {
    "what is built in": ("modprobe -q nf_defrag_ipv6 && modprobe br_netfilter", Verdict.PASS),
    "what there is not": ("modprobe -q nf_defrag_ipv7", Verdict.FAIL),
    "a skip": ("echo SKIP: no such thing; exit 4", Verdict.SKIP),
}


@pytest.mark.parametrize("what", SCRIPTS)
def test_a_test_in_a_guest(patched_both: Build, spec: MachineSpec, tmp_path: Path, what: str) -> None:
    script, expected = SCRIPTS[what]

    @contextmanager
    def booted(build: Build) -> Iterator[Machine]:
        with boot(spec, tmp_path / "guest", deadline=Deadline.after(BOOT)) as machine:
            yield machine

    packed, body = io.BytesIO(), f"#!/bin/bash\n{script}\n".encode()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("selftests/net/own.sh")
        entry.size, entry.mode = len(body), 0o755
        archive.addfile(entry, io.BytesIO(body))
    test = Selftest(collection="net", name="own.sh", seconds=10)
    found = on_kernel(patched_both, [test], {test.id: packed.getvalue()}, booted, lambda _: None)[test.id]
    assert found.verdict is expected, found
    assert not found.kernel, found
