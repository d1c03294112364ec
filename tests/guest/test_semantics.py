# SPDX-License-Identifier: GPL-2.0-only
"""What skb extensions promise, checked in the kernel by a module of ours (C5 to C12; `modules/skb_ext/`).

What is true of secpaths is true before the series, too, where a buffer has a pointer to one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import ktap
from harness.deadline import Deadline
from harness.errors import KernelError
from harness.lab import slabs
from harness.lab.bench import Host, Lab
from harness.lab.kernel import Kernel
from harness.lab.slabs import Growth

pytestmark = [pytest.mark.topology("smp"), pytest.mark.needs("SKB_EXTENSIONS|XFRM", "MODULE_UNLOAD")]

FOLDER = "modules/skb_ext"


def cases(name: str) -> list[str]:
    """The cases in a file of the module."""
    text = (Path(__file__).parent / FOLDER / name).read_text(encoding="utf-8")
    return re.findall(r"^CASE\((\w+)\)", text, re.MULTILINE)


EXTENSIONS, SECPATHS = cases("extensions.c"), cases("secpaths.c")
CASES = EXTENSIONS + SECPATHS
FAILSLAB = "/sys/kernel/debug/failslab"
LOADS = 3
"""How often the module runs; the cases that repeat leave thousands of objects where they leave any."""
BUFFERS = re.compile(r"^(skbuff_\w+|xfrm_state)$")
MARGIN = 300
"""A tenth of it may be in use elsewhere: the management NIC and SSH have buffers of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What the module reported when it ran first, and what the slab caches hold after it ran last."""

    report: ktap.Report
    again: tuple[ktap.Report, ...]
    grown: tuple[Growth, ...]


def insert(dut: Host, path: str) -> None:
    """Load the module, which runs all cases; where the kernel breaks, its last words before were the case's name."""
    try:
        dut.run("insmod", path, deadline=Deadline.after(100))
    except KernelError as error:
        said = dut.machine.files.console.read_text(encoding="utf-8", errors="replace").splitlines()
        begun = [case for line in said for case in CASES if line.rstrip().endswith(f"] {case}")]
        raise KernelError(f"{error.what}, in {begun[-1]}" if begun else error.what, where=error.where,
                          detail=error.detail) from error


@pytest.fixture(scope="module")
def ran(lab: Lab, kernel: Kernel, module_file: Callable[[str], Path]) -> Ran:
    dut, module = lab["dut"], module_file(FOLDER)
    path = f"/tmp/{module.name}"
    dut.machine.put(path, module.read_bytes())
    if kernel.has("FAILSLAB"):  # an allocation that fails on demand is no news
        dut.shell(f"mount -t debugfs none /sys/kernel/debug; echo 0 > {FAILSLAB}/verbose")
    reports = []
    before = slabs.count(dut, BUFFERS)
    for _ in range(LOADS):
        insert(dut, path)
        reports.append(ktap.parse(dut.read("/proc/harness_skb_ext").splitlines()))
        dut.run("rmmod", module.stem)
    grown = slabs.left_behind(dut, before, packets=MARGIN, caches=BUFFERS)
    return Ran(report=reports[0], again=tuple(reports[1:]), grown=grown)


@pytest.mark.parametrize("case", [
    *(pytest.param(case, marks=pytest.mark.needs("SKB_EXTENSIONS")) for case in EXTENSIONS),
    *(pytest.param(case, marks=pytest.mark.needs("XFRM")) for case in SECPATHS)])
def test_semantics(ran: Ran, case: str) -> None:
    found = ran.report.case(case)
    assert found is not None, f"the module does not report {case}"
    if found.skipped:
        pytest.skip(found.reason)
    assert found.passed, "; ".join(found.said) or "failed without a word"


def test_the_report_is_whole(ran: Ran, kernel: Kernel) -> None:
    assert not ran.report.problems, ran.report.problems
    of_this_kernel = [*(EXTENSIONS if kernel.has("SKB_EXTENSIONS") else ()), *(SECPATHS if kernel.has("XFRM") else ())]
    assert sorted(case.name for case in ran.report.cases) == sorted(of_this_kernel)


def test_it_says_the_same_again(ran: Ran) -> None:
    first = [(case.name, case.passed) for case in ran.report.cases]
    for report in ran.again:
        assert [(case.name, case.passed) for case in report.cases] == first


def test_nothing_is_left_behind(ran: Ran) -> None:
    """C5: extensions go with their buffer; each of the cases frees all it made."""
    left = ", ".join(map(str, ran.grown))
    assert not ran.grown, f"{LOADS} runs of {len(ran.report.cases)} cases left objects behind: {left}"
