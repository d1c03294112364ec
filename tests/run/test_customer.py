# SPDX-License-Identifier: GPL-2.0-only
"""The first customer: the skb extension series, from its source to its verdict."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from junitparser import JUnitXml

from tests.conftest import PLAN, ROOT
from tests.run.conftest import Ran, harness

VARIANTS = ("none", "xfrm", "br_netfilter", "both")
KERNELS = (*((side, variant) for variant in VARIANTS for side in ("base", "patched")), ("patched", "mptcp"))
"""Base cannot have MPTCP, which needs the extensions."""


def test_everything_passed(customer: Ran) -> None:
    bad = [row for row in customer.results["rows"] if row["verdict"] != "PASS"]
    assert not bad, json.dumps(bad, indent=1)
    assert customer.code == 0, customer


def test_c1_is_judged_on_none_by_objects_that_were_compared(customer: Ran) -> None:
    (row,) = customer.rows("claim", id="C1")
    assert (row["variant"], row["verdict"]) == ("none", "PASS")
    comparison = json.loads((customer.folder / "objdiff" / "none.json").read_text())
    assert comparison["objects"] > 1000
    assert comparison["identical_code"] is True


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_the_comparison_finds_the_series_where_it_is(customer: Ran, variant: str) -> None:
    comparison = json.loads((customer.folder / "objdiff" / f"{variant}.json").read_text())
    assert comparison["identical_code"] is False
    changed = {delta["path"] for delta in comparison["deltas"] if delta["status"] == "changed"}
    assert "net/core/skbuff.o" in changed
    assert customer.rows("claim", id="C1-control", variant=variant)[0]["verdict"] == "PASS"
    assert customer.rows("claim", id="C2", variant=variant)


@pytest.mark.parametrize(("claim", "variant", "evidence"), [
    ("C3", "both", "sk_buff 232 -> 224 (-8)"),
    ("C3-hole", "xfrm", "sk_buff 224 -> 224; active_extensions fills a hole at 127 (135 in base)"),
    ("C3-hole", "br_netfilter", "sk_buff 224 -> 224; active_extensions fills a hole at 127 (135 in base)"),
    ("C3-hole", "both", "sk_buff 232 -> 224 (-8); active_extensions fills a hole at 127 (143 in base)"),
    ("C3-one", "xfrm", "sk_buff 224 -> 224; extensions is there"),
    ("C3-one", "br_netfilter", "sk_buff 224 -> 224; extensions is there"),
    ("C3-none", "none", "sk_buff 216 -> 216; no member differs"),
])
def test_c3_is_judged_by_the_layout_of_sk_buff(customer: Ran, claim: str, variant: str, evidence: str) -> None:
    (row,) = customer.rows("claim", id=claim, variant=variant)
    assert (row["verdict"], row["evidence"]) == ("PASS", evidence)
    left = json.loads((customer.folder / "layout" / f"{claim}-{variant}.json").read_text())
    assert (left["schema"], left["struct"]) == ("harness.layout/1", "sk_buff")
    assert left["patched"]["size"] - left["base"]["size"] == left["size_delta"]
    table = (customer.folder / "layout" / f"{claim}-{variant}.txt").read_text()
    assert ("+             127      1  __u8 active_extensions" in table) is (variant != "none")


def test_the_negative_control_ran(customer: Ran) -> None:
    (row,) = customer.rows("control")
    assert row["verdict"] == "PASS"
    comparison = json.loads((customer.folder / "objdiff" / "control-none.json").read_text())
    assert comparison["identical"] == comparison["objects"] > 1000


def test_all_kernels_booted_and_left_their_logs(customer: Ran) -> None:
    assert {row["id"] for row in customer.rows("boot")} == {f"{side}/{variant}" for side, variant in KERNELS}
    for side, variant in KERNELS:
        (row,) = customer.rows("boot", id=f"{side}/{variant}")
        assert row["verdict"] == "PASS"
        console = (customer.folder / "boots" / f"{side}-{variant}" / "dut" / "console.log").read_text()
        assert "Linux version 6.1.192" in console
        assert (customer.folder / "builds" / f"{side}-{variant}.log").stat().st_size > 0


def test_every_suite_ran_where_it_applies(customer: Ran) -> None:
    ran = {(row["id"].rpartition("/")[2], row["variant"]) for row in customer.rows("suite") if row["tests"]}
    where = {"test_link.py": VARIANTS, "test_semantics.py": (*VARIANTS[1:], "mptcp"),
             "test_bridged_ipsec.py": ("both",),
             "test_bridge.py": ("br_netfilter", "both"), "test_bridge_paths.py": ("br_netfilter", "both"),
             "test_bridge_hooks.py": ("br_netfilter", "both"),
             "test_ipsec.py": ("xfrm", "both"), "test_ipsec_paths.py": ("xfrm", "both"), "test_mptcp.py": ("mptcp",)}
    wanted = {(name, variant) for name, variants in where.items() for variant in variants}
    assert ran == wanted


def test_the_suite_of_links_ran_on_every_common_nic_model(customer: Ran) -> None:
    ran = {row["nic"]: row["verdict"] for row in customer.rows("suite", variant="both")
           if row["id"].endswith("test_link.py")}
    assert ran == dict.fromkeys(("e1000", "virtio-net-pci", "e1000e", "rtl8139", "vmxnet3"), "PASS")
    assert {row["nic"] for row in customer.rows("suite") if row["variant"] != "both"} <= {"", "e1000"}


def test_junit_says_the_same(customer: Ran) -> None:
    junit = JUnitXml.fromfile(str(customer.folder / "junit.xml"))
    tests = sum(max(len(row["tests"]), 1) for row in customer.results["rows"])
    assert (junit.tests, junit.failures, junit.errors) == (tests, 0, 0)


def test_results_name_what_they_are_about(customer: Ran) -> None:
    results = customer.results
    assert results["schema"] == "harness.results/1"
    assert len(results["builds"]) == len(KERNELS)
    for build in results["builds"]:
        assert len(build["vmlinux_sha256"]) == 64
    assert results["inputs"]["source_sha256"] in (PLAN / "plan.yaml").read_text()


def test_the_command_that_repeats_the_run(customer: Ran, tmp_path: Path) -> None:
    text = (customer.folder / "repeat.sh").read_text()
    assert results_command(customer) in text
    short = text.replace("harness run", "harness list plan")
    done = subprocess.run(["sh", "-c", short], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "br_netfilter" in done.stdout) == (0, True), done


def results_command(ran: Ran) -> str:
    command = ran.results["command"]
    assert isinstance(command, str)
    return command


def test_the_table_is_readable_without_a_terminal(customer: Ran) -> None:
    assert "\x1b" not in customer.out + customer.err
    for word in ("C1", "C2", "PASS", "patched/both", "test_link.py"):
        assert word in customer.out


def test_what_was_built_is_reused(customer: Ran) -> None:
    before = {build["name"]: build for build in customer.results["builds"]}
    done = harness("build", str(PLAN), "--json", cwd=ROOT)
    again = json.loads(done.stdout)
    assert {row["name"] for row in again} == set(before)
    for row in again:
        assert row["reused"] is True
        vmlinux = Path(row["out"]) / "vmlinux"
        assert hashlib.sha256(vmlinux.read_bytes()).hexdigest() == before[row["name"]]["vmlinux_sha256"]
