# SPDX-License-Identifier: GPL-2.0-only
"""The allow-list of kernel reports: what an entry must say; what is wrong is refused with file and line."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.plan.benign import read_benign
from harness.plan.plan import read_plan

ENTRY = "{pattern: 'WARNING in skb_\\w+', reason: known since 6.1, expires: 2030-01-31}"
PLAN = """\
source: {{dir: /nonexistent}}
series: s/*.patch
variants:
  one: [{fragment}]
benign:
  - {entry}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "known.yaml"
    path.write_text(text)
    return path


def test_an_entry(tmp_path: Path) -> None:
    path = write(tmp_path, f"# known\n- {ENTRY}\n")
    (entry,) = read_benign(path)
    assert entry.pattern.search("WARNING in skb_clone")
    assert (entry.reason, entry.expires, entry.where) == ("known since 6.1", date(2030, 1, 31), f"{path}:2")
    assert not entry.expired(date(2030, 1, 31))
    assert entry.expired(date(2030, 2, 1))


@pytest.mark.parametrize(("text", "why"), [
    ("- {pattern: x, reason: y}", "known.yaml:1: `benign` lacks `expires`"),
    ("- {pattern: x, expires: 2030-01-31}", "lacks `reason`"),
    ("- {reason: y, expires: 2030-01-31}", "lacks `pattern`"),
    ("\n- {pattern: '(', reason: y, expires: 2030-01-31}", "known.yaml:2: `pattern` is no regular expression"),
    ("\n- {pattern: 'a{99999999999}', reason: y, expires: 2030-01-31}", "known.yaml:2: `pattern` is no regular expr"),
    ("- {pattern: '.*', reason: y, expires: 2030-01-31}", "would hide every report"),
    ("- {pattern: x, reason: ' ', expires: 2030-01-31}", "`reason` is empty"),
    ("- {pattern: x, reason: y, expires: never}", "must be a day, as 2030-01-31"),
    ("- {pattern: x, reason: y, expires: 2030-01-31, untill: 2}", "unknown key `untill`"),
    ("- text", "must be a mapping"),
    ("other: 1", "no list and has no `benign`"),
])
def test_a_wrong_entry_is_refused_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_benign(write(tmp_path, text))
    assert why in str(caught.value)
    assert "known.yaml:" in str(caught.value) or "no `benign`" in why


def test_a_plan_has_them(tmp_path: Path) -> None:
    (tmp_path / "own.config").write_text("CONFIG_NET=y\n")
    path = write(tmp_path, PLAN.format(fragment="own.config", entry=ENTRY))
    (entry,) = read_plan(path).benign
    assert entry.where == f"{path}:6"
    assert read_benign(path)[0].where == entry.where
    path = write(tmp_path, PLAN.format(fragment="own.config", entry="{pattern: x, reason: y}"))
    with pytest.raises(UsageError, match="lacks `expires`"):
        read_plan(path)
