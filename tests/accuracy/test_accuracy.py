# SPDX-License-Identifier: GPL-2.0-only
"""The accuracy table, row by row, in both configurations; and that the table can tell a wrong verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.compare.objdiff import compare
from harness.deadline import Deadline
from harness.errors import KernelError
from harness.jobs.inputs import Inputs
from harness.store.store import Store
from tests.accuracy import lab, table
from tests.accuracy.seed import CONFIGS, IDENTICAL, PROVED, Seed, Verdict, changed, explained, wrong
from tests.accuracy.seeds import SEEDS
from tests.accuracy.table import Measured

each_row = pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
each_config = pytest.mark.parametrize("config", CONFIGS)


@pytest.fixture(scope="session")
def measured(inputs: Inputs, store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measured]:
    return table.measure(SEEDS, inputs, store, tmp_path_factory.mktemp("accuracy"))


@each_row
@each_config
@pytest.mark.parametrize("column", lab.COLUMNS)
def test_the_verdict_is_the_true_one(measured: dict[str, Measured], config: str, seed: Seed, column: str) -> None:
    pair = measured[config].pairs[seed.key]
    assert wrong(seed.expected[config].of(column), lab.COLUMNS[column](pair)) == ""


@each_config
def test_the_comparison_is_symmetric_and_strict_allows_no_rule(measured: dict[str, Measured], config: str) -> None:
    for pair in measured[config].pairs.values():
        there, back, strict = (compare(*sides, strict=strict).deltas[0] for *sides, strict in (
            (pair.base, pair.patched, False), (pair.patched, pair.base, False), (pair.base, pair.patched, True)))
        assert (there.status, there.rules) == (back.status, back.rules), pair.seed.name
        assert (strict.status == "identical") == (there.status == "identical"), pair.seed.name
        assert strict.status in ("identical", "changed")


@each_config
def test_an_edit_reaches_the_compiler(measured: dict[str, Measured], config: str, tmp_path: Path) -> None:
    """No row is identical because its edited file was not what was compiled."""
    first = {(pair.seed.object, *sorted(pair.overrides[1])): pair for pair in measured[config].pairs.values()}
    for pair in first.values():
        for path, edited in pair.overrides[1].items():
            broken = tmp_path / path
            broken.parent.mkdir(parents=True, exist_ok=True)
            broken.write_text(f"#error from here\n{edited.read_text(encoding='utf-8')}", encoding="utf-8")
            with pytest.raises(KernelError, match="does not compile") as caught:
                lab.compiled(pair, {**pair.overrides[1], path: broken}, Deadline.after(60))
            assert any("from here" in line for line in caught.value.detail)


def test_the_document_has_these_rows(measured: dict[str, Measured]) -> None:
    assert table.documented() == [table.totals(SEEDS, measured), table.rows(SEEDS, measured)], \
        "make it anew: python -m tests.accuracy"


def test_the_rows_are_what_was_asked_for() -> None:
    assert len(SEEDS) >= 30
    assert len({seed.key for seed in SEEDS}) == len(SEEDS)
    for seed in SEEDS:
        assert set(seed.expected) == set(CONFIGS)
        for expected in seed.expected.values():
            order = [verdict.status for verdict in (expected.proved, expected.by_bytes)]
            assert order in (["identical"] * 2, ["explained"] * 2, ["changed"] * 2, ["explained", "changed"]), seed.name


@pytest.mark.parametrize(("expected", "got", "why"), [
    (changed("f"), IDENTICAL, 'false "no change"'),
    (changed("f"), explained("bug-table-line"), 'false "no change"'),
    (IDENTICAL, changed("f"), 'false "changed"'),
    (PROVED, changed("f"), 'false "changed"'),
    (changed("f"), changed("g"), "not changed: `f`"),
    (changed("f"), changed("f", "g"), "not changed: `f`"),
    (changed("f", more=True), changed("g"), "not changed: `f`"),
    (explained("a"), explained("a", "b"), "not explained: `a`"),
    (explained("a"), explained("b"), "not explained: `a`"),
    (explained("a"), IDENTICAL, "not explained: `a`"),
    (IDENTICAL, explained("a"), "not identical"),
    (PROVED, IDENTICAL, "not explained"),
])
def test_a_wrong_verdict_is_told(expected: Verdict, got: Verdict, why: str) -> None:
    assert why in wrong(expected, got)


@pytest.mark.parametrize(("expected", "got"), [
    (IDENTICAL, IDENTICAL), (changed("f"), changed("f")), (changed("f", more=True), changed("e", "f", "g")),
    (explained("a", "b"), explained("b", "a")), (PROVED, explained("any-rule")),
])
def test_a_right_verdict_is_none_to_tell(expected: Verdict, got: Verdict) -> None:
    assert wrong(expected, got) == ""
