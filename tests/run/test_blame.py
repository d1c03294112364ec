# SPDX-License-Identifier: GPL-2.0-only
"""A series walked patch by patch on the real kernel source: which patch broke the claim."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.build.conftest import write_patch
from tests.conftest import ROOT
from tests.run.conftest import PlanMaker, Ran, Runner, harness

NAME = "drivers/net/dummy.c"
COMMENT = "/* fake multicast ability */", "/* no multicast ability */"
CARRIER = "\tif (new_carrier)\n", "\tif (!new_carrier)\n"
XMIT = "dev_lstats_add(dev, skb->len);", "dev_lstats_add(dev, skb->len * 7); dev_lstats_add(dev, skb->len + 1);"
"""More code than the padding behind a function or an object can take."""
BROKEN = "skb->len + 1", "skb->length_of_it"
CLAIMS = """claims:
  same: {says: "nothing changes", check: objdiff, variants: [none]}
  smaller: {says: "it gets smaller", check: size, variants: [none]}
"""

Edit = tuple[str, str]
SeriesMaker = Callable[..., list[Path]]


@pytest.fixture
def series(clean_tree: Path, tmp_path: Path) -> SeriesMaker:
    """Patches to the dummy driver, each on top of the one before; each makes one or more replacements."""
    def make(*patches: tuple[Edit, ...]) -> list[Path]:
        text = (clean_tree / NAME).read_text(encoding="utf-8")
        made = []
        for edits in patches:
            before = text
            for old, new in edits:
                assert text.count(old) == 1, old
                text = text.replace(old, new)
            made.append(write_patch(tmp_path / "extra", NAME, before, text))
        return made

    return make


def back(edit: Edit) -> Edit:
    return edit[1], edit[0]


def test_a_failed_claim_names_the_patch_and_the_function(run: Runner, derived_plan: PlanMaker, series: SeriesMaker
                                                         ) -> None:
    patches = series((COMMENT,), (CARRIER, XMIT), (back(XMIT),))
    ran = run(derived_plan(series=False, extra=patches, variants=["none"], more=CLAIMS))
    assert ran.code == 1, ran
    (claim,) = ran.rows("claim", id="same")
    assert claim["verdict"] == "FAIL"
    assert claim["detail"][0] == f"{NAME[:-1]}o: dummy_change_carrier first changed by patch 2 of 3: change {NAME}"
    (changed_back,) = [line for line in claim["detail"] if "changed and changed back" in line]
    assert f"{NAME[:-1]}o: dummy_xmit first changed by patch 2 of 3: change {NAME}" in changed_back
    assert changed_back.endswith(f"; changed back by patch 3 of 3: change {NAME}")
    assert "drivers/net/dummy.o" in claim["detail"]
    assert claim["detail"][0] in " ".join(ran.out.split())
    value = json.loads((ran.folder / "blame" / "none.json").read_text())
    assert [row["functions_changed"] for row in value["patches"]] == [0, 2, 1]
    assert all(row["seed"] and row["compiled"] < 20 for row in value["patches"]), "only what depends on it is built"
    assert [(row["name"], row["net"], row["changed_back"]) for row in value["functions"]] == [
        ("dummy_change_carrier", True, False), ("dummy_xmit", False, True)]
    assert claim["detail"][0] in (ran.folder / "blame" / "none.txt").read_text()
    (size,) = ran.rows("claim", id="smaller")
    assert size["verdict"] == "FAIL"
    assert re.match(rf"text \+\d+ with patch 2 of 3: change {NAME} \(dummy_", size["detail"][0])
    assert re.match(rf"text -\d+ with patch 3 of 3: change {NAME} \(dummy_xmit -", size["detail"][1])
    assert size["detail"][2] == claim["detail"][0]
    not_walked = run_again(ran, derived_plan(series=False, extra=patches, variants=["none"], more=CLAIMS))
    assert not [line for line in not_walked.rows("claim", id="same")[0]["detail"] if "patch" in line]
    assert not (not_walked.folder / "blame").exists()


def run_again(ran: Ran, plan: Path) -> Ran:
    folder = ran.folder.with_name("again")
    done = harness("run", str(plan), "--no-walk", "--out", str(folder), cwd=plan)
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr, folder=folder)


def test_a_patch_in_the_middle_that_does_not_build(derived_plan: PlanMaker, series: SeriesMaker) -> None:
    patches = series((COMMENT,), (CARRIER, XMIT, BROKEN), (back(BROKEN),))
    plan = derived_plan(series=False, extra=patches, variants=["none"])
    done = harness("blame", str(plan), "-v", "none", cwd=ROOT)
    assert done.returncode == 1, done
    assert f"   2                  does not build  change {NAME}" in done.stdout
    assert "drivers/net/dummy.c:61: error: " in done.stdout
    assert "length_of_it" in done.stdout
    for name in ("dummy_change_carrier", "dummy_xmit"):
        assert f"{NAME[:-1]}o: {name} first changed by patches 2-3 of 3: change {NAME}; change {NAME}" in done.stdout
    again = harness("blame", str(plan), "-v", "none", "--json", cwd=ROOT)
    (value,) = json.loads(again.stdout)
    assert [row["built"] for row in value["patches"]] == [True, False, True]
    assert value["patches"][2]["since"] == 2
    assert value["patches"][0]["reused"] is value["patches"][2]["reused"] is True, "a walk goes on where it was"
    assert value["net"]["functions_changed"] == 2
