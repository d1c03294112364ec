# SPDX-License-Identifier: GPL-2.0-only
"""frozen: what comes back is equal to what went in, and nothing else comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import frozen
from harness.compare.size import SectionSizes, SizeDelta, SizeReport
from harness.compare.symsize import SymbolReport
from harness.compare.values import Change, Comparison, ObjectDelta

NUMBERS = st.integers(-(2 ** 63), 2 ** 63)
PATHS = st.text(st.characters(codec=None))
CHANGES = st.builds(Change, kind=st.sampled_from(["bytes", "script"]), section=PATHS, symbol=st.none() | PATHS,
                    offset=st.none() | NUMBERS)
DELTAS = st.builds(ObjectDelta, path=PATHS, status=st.sampled_from(["identical", "changed"]),
                   rules=st.lists(st.text(), max_size=2).map(tuple), changes=st.lists(CHANGES, max_size=3).map(tuple))
SIZES = st.builds(SectionSizes, sections=st.lists(st.tuples(PATHS, NUMBERS), max_size=3).map(tuple))


@given(st.builds(Comparison, deltas=st.lists(DELTAS, max_size=3).map(tuple),
                 excluded=st.lists(st.tuples(st.text(), NUMBERS), max_size=2).map(tuple), rules=st.just(())))
def test_a_comparison_comes_back(value: Comparison) -> None:
    again = frozen.load(Comparison, frozen.dump(value))
    assert again == value
    assert hash(again) == hash(value)


@given(st.builds(SizeReport, vmlinux=st.none(), objects=st.just(()), vmlinux_o=st.none() | st.builds(
    SizeDelta, base=st.none() | SIZES, patched=SIZES,
    symbols=st.none() | st.builds(SymbolReport, totals=st.just(()), symbols=st.just(())))))
def test_sizes_come_back(value: SizeReport) -> None:
    assert frozen.load(SizeReport, frozen.dump(value)) == value


OTHER = '{"kind": "other", "section": "", "symbol": null, "offset": null, "base": null, "patched": null}'


@pytest.mark.parametrize("text", ["{}", "[]", "3", "", '{"kind": "bytes"}', OTHER])
def test_nothing_else_comes_back(text: str) -> None:
    with pytest.raises(ValueError):
        frozen.load(Change, text)
