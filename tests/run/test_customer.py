# SPDX-License-Identifier: GPL-2.0-only
"""The first customer: the skb extension series, from its source to its verdict."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import yaml
from junitparser import JUnitXml

from tests.conftest import PLAN, ROOT
from tests.run.conftest import Ran, Runner, harness

PATCHED_ONLY = "mptcp"
"""Base cannot have MPTCP, which needs the extensions."""


def compared(customer: Ran) -> tuple[str, ...]:
    """The variants that ran and have a base."""
    return tuple(variant for variant in customer.variants if variant != PATCHED_ONLY)


def kernels(customer: Ran) -> tuple[tuple[str, str], ...]:
    """All kernels that ran, by side and variant."""
    return (*((side, variant) for variant in compared(customer) for side in ("base", "patched")),
            ("patched", PATCHED_ONLY))


def test_everything_passed(customer: Ran) -> None:
    bad = [row for row in customer.results["rows"] if row["verdict"] != "PASS"]
    assert not bad, json.dumps(bad, indent=1)
    assert customer.code == 0, customer


def test_claims_hold_with_one_option_as_well(run: Runner, tmp_path: Path) -> None:
    """Without the suites, which the variant with both options has all of: what is claimed of the kernels themselves."""
    plan = yaml.safe_load((PLAN / "plan.yaml").read_text(encoding="utf-8"))
    for key in ("suites", "nics", "control"):
        del plan[key]
    plan |= {key: f"{PLAN}/{plan[key]}" for key in ("base", "series")}
    plan["claims"] = {name: claim for name, claim in plan["claims"].items() if claim["check"] != "tests"}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    ran = run(tmp_path, "--variant", "xfrm", "--variant", "br_netfilter", "--no-walk")
    assert ran.code == 0, ran
    judged = {(row["id"], row["variant"]): row["verdict"] for row in ran.rows("claim")}
    claims = ("C1-control", "C2", "C3-hole", "C3-one")
    assert judged == {(claim, variant): "PASS" for claim in claims for variant in ("xfrm", "br_netfilter")}


def test_c1_is_judged_on_none_by_objects_that_were_compared(customer: Ran) -> None:
    (row,) = customer.rows("claim", id="C1")
    assert (row["variant"], row["verdict"]) == ("none", "PASS")
    comparison = json.loads((customer.folder / "objdiff" / "none.json").read_text())
    assert comparison["objects"] > 1000
    assert comparison["identical_code"] is True


def test_the_comparison_finds_the_series_where_it_is(customer: Ran) -> None:
    for variant in compared(customer)[1:]:
        comparison = json.loads((customer.folder / "objdiff" / f"{variant}.json").read_text())
        assert comparison["identical_code"] is False
        changed = {delta["path"] for delta in comparison["deltas"] if delta["status"] == "changed"}
        assert "net/core/skbuff.o" in changed
        assert customer.rows("claim", id="C1-control", variant=variant)[0]["verdict"] == "PASS"
        assert customer.rows("claim", id="C2", variant=variant)


C3 = {
    ("C3", "both"): "sk_buff 232 -> 224 (-8)",
    ("C3-hole", "xfrm"): "sk_buff 224 -> 224; active_extensions fills a hole at 127 (135 in base)",
    ("C3-hole", "br_netfilter"): "sk_buff 224 -> 224; active_extensions fills a hole at 127 (135 in base)",
    ("C3-hole", "both"): "sk_buff 232 -> 224 (-8); active_extensions fills a hole at 127 (143 in base)",
    ("C3-one", "xfrm"): "sk_buff 224 -> 224; extensions is there",
    ("C3-one", "br_netfilter"): "sk_buff 224 -> 224; extensions is there",
    ("C3-none", "none"): "sk_buff 216 -> 216; no member differs",
}


def test_c3_is_judged_by_the_layout_of_sk_buff(customer: Ran) -> None:
    wanted = {key: ("PASS", evidence) for key, evidence in C3.items() if key[1] in customer.variants}
    saw = {(row["id"], row["variant"]): (row["verdict"], row["evidence"]) for row in customer.rows("claim")
           if row["id"] == "C3" or row["id"].startswith("C3-")}
    assert {key: row for key, row in saw.items() if row[0] != "SKIP"} == wanted
    for claim, variant in wanted:
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
    assert {row["id"] for row in customer.rows("boot")} == {f"{side}/{variant}" for side, variant in kernels(customer)}
    for side, variant in kernels(customer):
        (row,) = customer.rows("boot", id=f"{side}/{variant}")
        assert row["verdict"] == "PASS"
        console = (customer.folder / "boots" / f"{side}-{variant}" / "dut" / "console.log").read_text()
        assert "Linux version 6.1.192" in console
        assert (customer.folder / "builds" / f"{side}-{variant}.log").stat().st_size > 0


def test_every_suite_ran_where_it_applies(customer: Ran) -> None:
    ran = {(row["id"].rpartition("/")[2], row["variant"]) for row in customer.rows("suite") if row["tests"]}
    xfrm, bridge = ("xfrm", "both"), ("br_netfilter", "both")
    where = {"test_link.py": ("none", "xfrm", "br_netfilter", "both"),
             "test_semantics.py": ("xfrm", "br_netfilter", "both", "mptcp"),
             "test_bridge.py": bridge, "test_bridge_paths.py": bridge, "test_bridge_hooks.py": bridge,
             "test_copies.py": bridge,
             "test_ipsec.py": xfrm, "test_ipsec_paths.py": xfrm, "test_bridged_ipsec.py": ("both",),
             "test_mptcp.py": ("mptcp",)}
    wanted = {(name, variant) for name, variants in where.items() for variant in variants
              if variant in customer.variants}
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
    assert len(results["builds"]) == len(kernels(customer))
    for build in results["builds"]:
        assert len(build["vmlinux_sha256"]) == 64
    assert results["inputs"]["source_sha256"] in (PLAN / "plan.yaml").read_text()


def test_the_command_that_repeats_the_run(customer: Ran, tmp_path: Path) -> None:
    text = (customer.folder / "repeat.sh").read_text()
    assert results_command(customer) in text
    short = re.sub(r" --variant \w+", "", text).replace("harness run", "harness list plan")
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
    only = [word for variant in customer.variants for word in ("-v", variant)]
    done = harness("build", str(PLAN), *only, "--json", cwd=ROOT)
    again = json.loads(done.stdout)
    assert {row["name"] for row in again} == set(before)
    for row in again:
        assert row["reused"] is True
        vmlinux = Path(row["out"]) / "vmlinux"
        assert hashlib.sha256(vmlinux.read_bytes()).hexdigest() == before[row["name"]]["vmlinux_sha256"]
