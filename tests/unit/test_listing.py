# SPDX-License-Identifier: GPL-2.0-only
"""What `harness list nics` and `list topologies` say, with a plan and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import listing
from harness.jobs import boots
from harness.store.store import Store
from harness.vm import nic

ROOT = Path(__file__).parents[2]
PLAN = """\
source: {debian: linux-source-6.1, version: 6.1-1, sha256: abc}
series: series/*.patch
variants:
  small: [qemu, net]
  large: [qemu, net, nics]
topologies:
  triangle:
    machines: {a: {kernel: base, nics: {x: ab}}, b: {nics: {x: ab}}}
    networks: {100: [a.x, b.x]}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "plan.yaml").write_text(PLAN)
    return tmp_path


def nics(plan: Path | None, tmp_path: Path) -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in listing.rows("nics", plan, Store(root=tmp_path / "cache"))}


def test_nics_say_what_this_qemu_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boots, "emulated", lambda _: frozenset({"e1000"}))
    rows = nics(None, tmp_path)
    assert rows["e1000"]["offered"] == "yes"
    assert rows["igb"]["offered"] == "this QEMU has no igb"
    assert "plan" not in rows["e1000"]


def test_nics_say_which_variants_of_a_plan_have_their_driver(plan: Path, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boots, "emulated", lambda _: frozenset({"e1000"}))
    rows = nics(plan, tmp_path)
    assert rows["e1000"]["plan"] == "small: no NET_VENDOR_INTEL E1000"
    assert rows["rocker"]["plan"] == "every variant: no NET_SWITCHDEV NET_VENDOR_ROCKER ROCKER"
    assert rows["virtio-net-pci"]["plan"] == "small: no VIRTIO_NET"


def test_every_model_has_its_driver_in_a_fragment(tmp_path: Path) -> None:
    rows = nics(ROOT / "tests" / "boot" / "nics.yaml", tmp_path)
    lacking = {name: row["plan"] for name, row in rows.items() if row["plan"] != "yes"}
    assert {words.partition(":")[0] for words in lacking.values()} == {"both"}, "all-nics has every driver"


def test_the_documentation_has_every_model() -> None:
    text = (ROOT / "docs" / "lab.md").read_text(encoding="utf-8")
    for row in nic.models():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{row.name}` | {row.driver} |")]
        assert line.split("|")[4].strip() == ("yes" if row.tells_carrier else "no")


def test_topologies_of_a_plan_stand_beside_the_ready_made(plan: Path, tmp_path: Path) -> None:
    store = Store(root=tmp_path / "cache")
    assert [row["name"] for row in listing.rows("topologies", None, store)] == [
        "solo", "smp", "pair", "bridge", "ipsec-gateways", "multipath", "mixed", "segment"]
    assert listing.rows("topologies", plan, store)[-1] == {
        "name": "triangle", "machines": "a b", "kernels": "base patched", "networks": "10.77.100.0/24"}
