# SPDX-License-Identifier: GPL-2.0-only
"""Whole runs on several NIC models and on a topology of the plan's own, with machines of both kernels."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from tests.run.conftest import PlanMaker, Runner

SUITE = '''
import pytest
from harness.lab import slabs, traffic

pytestmark = [pytest.mark.topology("three")]

def test_the_cards_are_of_the_model_that_the_run_is_on(lab, session):
    drivers = {"virtio-net-pci": "virtio_net", "vmxnet3": "vmxnet3", "igb": "igb"}
    assert lab["a"].card("lan0").driver == drivers[session.nic]
    assert lab["r"].card("lan1").driver == "e1000"

def test_base_and_patched_reach_each_other_through_a_third(lab):
    used = {name: slabs.EXTENSIONS in slabs.count(lab[name]) for name in ("a", "r", "b")}
    assert used == {"a": False, "r": True, "b": True}
    assert traffic.ping(lab["a"], lab["b"].ipv4, count=5).whole
'''
MORE = """
topologies:
  three:
    machines:
      a: {kernel: base, nics: {lan0: near}}
      r: {forward: true, nics: {lan0: near, lan1: {link: far, model: e1000}}}
      b: {nics: {lan0: {link: far, model: rtl8139}}}
    networks:
      40: [a.lan0, r.lan0]
      41: [r.lan1, b.lan0]
nics: [e1000e]
"""


def test_suites_run_on_the_models_that_were_asked_for(run: Runner, derived_plan: PlanMaker, tmp_path: Path) -> None:
    (tmp_path / "test_three.py").write_text(SUITE, encoding="utf-8")
    models = ("virtio-net-pci", "igb", "vmxnet3", "rocker")
    ran = run(derived_plan(suites=["test_three.py"], more=MORE), *(word for name in models for word in ("--nic", name)))
    assert ran.code == 0, ran
    assert [(row["nic"], len(row["tests"]), row["verdict"]) for row in ran.rows("suite") if row["nic"] != "igb"] == [
        ("virtio-net-pci", 2, "PASS"), ("vmxnet3", 2, "PASS")]
    skipped = {row["id"]: row for row in ran.rows("nic")}
    assert {row["verdict"] for row in skipped.values()} == {"SKIP"}
    assert skipped["rocker"]["evidence"].endswith("CONFIG_NET_SWITCHDEV, CONFIG_NET_VENDOR_ROCKER, CONFIG_ROCKER")
    assert set(skipped) <= {"igb", "rocker"}  # QEMU has igb from 8.0 on
    cases = {case.get("classname") for case in ET.parse(ran.folder / "junit.xml").iter("testcase")}
    assert {f"test_three.py.both.{name}" for name in ("virtio-net-pci", "vmxnet3")} <= cases
    assert "--nic virtio-net-pci --nic igb --nic vmxnet3 --nic rocker" in (ran.folder / "repeat.sh").read_text()
    for name in ("virtio-net-pci", "vmxnet3"):
        assert (ran.folder / "suites" / "patched-both" / "test_three" / name / "a" / "console.log").exists()


def test_suites_that_can_have_no_nics_are_no_pass(run: Runner, derived_plan: PlanMaker, tmp_path: Path) -> None:
    (tmp_path / "test_three.py").write_text(SUITE, encoding="utf-8")
    ran = run(derived_plan(suites=["test_three.py"], more=MORE), "--nic", "rocker")
    (row,) = ran.rows("suite")
    assert (ran.code, row["verdict"]) == (3, "ERROR"), ran
    assert row["evidence"].startswith("it has no NICs to run on: rocker: the kernel lacks CONFIG_")
