# SPDX-License-Identifier: GPL-2.0-only
"""Configuring real trees: what was asked comes out, or the run stops and says why it did not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import KernelError
from harness.jobs import builds
from harness.jobs.inputs import Inputs, resolve
from harness.kernel import kconfig
from harness.kernel.kconfig import Config
from harness.plan.plan import read_plan
from harness.report.progress import Progress
from harness.store.store import Store
from tests.build.conftest import Edit, PlanMaker

DUMMY = ("drivers/net/dummy.c", "static int numdummies = 1;\n", "static int numdummies = 2;\n")


def configure(plan: Path, store: Store, progress: Progress, side: str = "base") -> Config:
    return builds.configure(resolve(read_plan(plan), Deadline.after(60)), side, "none", store=store,
                            progress=progress)


def test_every_variant_of_the_customer_comes_out_as_asked(inputs: Inputs, store: Store, progress: Progress) -> None:
    for variant in inputs.plan.variants:
        for side in variant.sides:
            config = builds.configure(inputs, side, variant.name, store=store, progress=progress)
            assert config.value("XFRM") == ("y" if variant.name in ("xfrm", "both", "mptcp") else "n")
            assert config.value("BRIDGE_NETFILTER") == ("y" if variant.name in ("br_netfilter", "both") else "n")
            assert config.value("MPTCP") == ("y" if variant.name == "mptcp" else "n")
            assert config.value("SKB_EXTENSIONS") == ("n" if side == "base" or variant.name == "none" else "y")


@pytest.mark.parametrize(("line", "said"), [
    ("CONFIG_XFRM=n\nCONFIG_XFRM_USER=y\n",
     [r"CONFIG_XFRM: asked n \(.*mine:1\), came out y", r"selected by XFRM_USER \(=y\) at net/xfrm/Kconfig:\d+"]),
    ("CONFIG_MPTCP=y\n", [r"CONFIG_MPTCP: asked y \(.*mine:1\), came out n", r"depends on .*\(=n\)"]),
    ("CONFIG_NETFILTER_XT_MATCH_PHYSDEV=y\n", [r"asked y", r"depends on .*BRIDGE_NETFILTER \(=n\)"]),
    ("CONFIG_E1000F=y\n", [r"CONFIG_E1000F: asked y", r"no such symbol in this tree; did you mean E1000E?"]),
])
def test_an_option_that_was_not_honoured_stops_the_run_with_its_reason(
        make_plan: PlanMaker, patch_of: Edit, tmp_path: Path, store: Store, progress: Progress, line: str,
        said: list[str]) -> None:
    """On the base of the customer's plan, where MPTCP cannot be."""
    patch_of(*DUMMY)
    (tmp_path / "mine").write_text(line)
    plan = make_plan("[qemu-x86_64, net-without-mptcp, mine]")
    (tmp_path / "net-without-mptcp").write_text("CONFIG_NET=y\nCONFIG_INET=y\nCONFIG_NETFILTER=y\n")
    if "MPTCP" in line:
        (tmp_path / "net-without-mptcp").write_text("CONFIG_NET=y\n")
    with pytest.raises(KernelError) as caught:
        configure(plan, store, progress)
    text = str(caught.value)
    assert "did not come out as asked" in text
    assert caught.value.where == "base/none"
    for pattern in said:
        assert re.search(pattern, text), text


@pytest.mark.parametrize(("arch", "lines", "said"), [
    pytest.param(
        "arm64", "CONFIG_ARM64_PTR_AUHT=y\nCONFIG_ARM64_PTR_AUTH_KERNEL=y\nCONFIG_X86_PAE=y\nCONFIG_OF=n\n",
        [r"no such symbol in this tree; did you mean ARM64_PTR_AUTH\?",
         r"depends on .*ARM64_PTR_AUTH \(=n\)",
         r"this architecture has no such symbol; another has, at arch/x86/Kconfig:\d+",
         r"selected by ARM64 \(=y\) at arch/arm64/Kconfig:\d+"], marks=pytest.mark.slow),
    ("i386", "CONFIG_HIGHMEM_64G=y\nCONFIG_X86_X2APIC=y\nCONFIG_OLD_SIGACTION=n\n",
     [r"no such symbol in this tree; did you mean HIGHMEM64G\?",
      r"depends on .*X86_64 \(=n\)",
      r"selected by X86_32 \(=y\) at arch/x86/Kconfig:\d+"]),
])
def test_the_reasons_are_those_of_the_kernels_architecture(
        make_plan: PlanMaker, patch_of: Edit, tmp_path: Path, store: Store, progress: Progress, arch: str, lines: str,
        said: list[str]) -> None:
    patch_of(*DUMMY)
    (tmp_path / "mine").write_text(lines)
    with pytest.raises(KernelError) as caught:
        configure(make_plan("[qemu, mine]", more=f"arch: {arch}\n"), store, progress)
    assert f"{len(said)} options did not come out as asked" in str(caught.value)
    for pattern in said:
        assert re.search(pattern, str(caught.value)), str(caught.value)


def test_kconfig_that_is_broken_by_the_series(make_plan: PlanMaker, patch_of: Edit, store: Store,
                                              progress: Progress) -> None:
    patch_of("net/xfrm/Kconfig", "config XFRM_USER\n", "config\n")
    with pytest.raises(KernelError, match=r"Kconfig fails on this tree[\s\S]*net/xfrm/Kconfig"):
        configure(make_plan(), store, progress, "patched")


def test_asking_twice_asks_kconfig_once(inputs: Inputs, store: Store, progress: Progress,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    builds.configure(inputs, "base", "none", store=store, progress=progress)
    monkeypatch.setattr(kconfig.proc, "run", None)
    builds.configure(inputs, "base", "none", store=store, progress=progress)
