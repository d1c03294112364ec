# SPDX-License-Identifier: GPL-2.0-only
"""Claims on layouts in a whole run, true and broken on purpose, and the command that shows a layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import PLAN
from tests.run.conftest import PlanMaker, Runner, harness

CLAIMS = """\
claims:
  right: {says: r, check: layout, variants: [both], struct: sk_buff, header: linux/skbuff.h, size_delta: -8,
          member: active_extensions, fills_hole: true}
  size: {says: w, check: layout, variants: [both], struct: sk_buff, header: linux/skbuff.h, size_delta: -16}
  hole: {says: h, check: layout, variants: [both], struct: sk_buff, header: linux/skbuff.h, member: extensions,
         fills_hole: true}
  gone: {says: g, check: layout, variants: [both], struct: sk_buff, header: linux/skbuff.h, member: sp}
  same: {says: s, check: layout, variants: [both], struct: sk_buff, header: linux/skbuff.h, expect: identical}
  new: {says: n, check: layout, variants: [both], struct: skb_ext, header: linux/skbuff.h, size_delta: 0}
  ../unknown: {says: u, check: layout, variants: [both], struct: sk_bufff, header: linux/skbuff.h, size_delta: 0}
  declared: {says: d, check: layout, variants: [both], struct: bpf_prog, header: linux/skbuff.h, size_delta: 0}
  header: {says: x, check: layout, variants: [both], struct: sk_buff, header: linux/skbufff.h, size_delta: 0}
"""

SIZES = "sk_buff 232 -> 224 (-8)"
ABSENT = "linux/skbufff.h"
WANTED = {
    "right": ("PASS", f"{SIZES}; active_extensions fills a hole at 127 (143 in base)"),
    "size": ("FAIL", f"{SIZES}; not -16"),
    "hole": ("FAIL", f"{SIZES}; extensions fills no hole: base has none between `users` and the end of the structure"),
    "gone": ("FAIL", f"{SIZES}; patched has no member sp"),
    "same": ("FAIL", f"{SIZES}; 147 members differ, first sp"),
    "new": ("FAIL", "base: there is no struct skb_ext in linux/skbuff.h"),
    "../unknown": ("ERROR", "base and patched: there is no struct sk_bufff in linux/skbuff.h"),
    "declared": ("ERROR", "base and patched: struct bpf_prog is only declared in linux/skbuff.h, not defined"),
    "header": ("ERROR", f"base and patched: {ABSENT} does not compile: {ABSENT}: No such file or directory"),
}


def test_each_claim_gets_its_verdict_and_leaves_its_evidence(derived_plan: PlanMaker, run: Runner) -> None:
    ran = run(derived_plan(more=CLAIMS), "--no-walk")
    assert {row["id"]: (row["verdict"], row["evidence"]) for row in ran.rows("claim")} == WANTED, ran
    assert ran.code == 1
    names = sorted(path.name for path in (ran.folder / "layout").iterdir())
    assert names == sorted(f"{name.replace('/', '%2F')}-both.{kind}" for name in WANTED for kind in ("json", "txt"))
    left = json.loads((ran.folder / "layout" / "new-both.json").read_text())
    assert left["base"] == {"missing": "there is no struct skb_ext in linux/skbuff.h"}
    assert left["patched"]["size"] == 8


def test_the_command(tmp_path: Path) -> None:
    shown = harness("layout", str(PLAN), "--struct", "sk_buff", "--header", "linux/skbuff.h", "-v", "both", "-q",
                    cwd=tmp_path)
    assert shown.returncode == 0, shown
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert "-     143              1  /* hole */\n+             127      1  __u8 active_extensions\n" in shown.stdout
    value = harness("layout", str(PLAN), "--struct", "skb_ext", "--header", "linux/skbuff.h", "-v", "both", "-q",
                    "--json", cwd=tmp_path)
    assert value.returncode == 1
    assert json.loads(value.stdout)["both"]["patched"]["struct"] == "skb_ext"


@pytest.mark.parametrize("struct", ["struct sk_buff", "a;b", ""])
def test_the_command_refuses_what_is_no_tag(tmp_path: Path, struct: str) -> None:
    shown = harness("layout", str(PLAN), "--struct", struct, "--header", "linux/skbuff.h", "-q", cwd=tmp_path)
    assert shown.returncode == 2
    assert "no structure of a header" in shown.stderr
