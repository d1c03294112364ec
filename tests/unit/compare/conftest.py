# SPDX-License-Identifier: GPL-2.0-only
"""A compiler and a comparison for the tests of the object comparison."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from compare_kit import Compile, Differ, compile_into

from harness.compare.objdiff import compare
from harness.compare.values import ObjectDelta


@pytest.fixture
def cc(tmp_path: Path) -> Compile:
    count = itertools.count()

    def compile_(source: str, *flags: str, name: str = "x", asm: bool = False) -> Path:
        return compile_into(tmp_path / f"obj{next(count)}", source, *flags, name=name, asm=asm)

    return compile_


@pytest.fixture
def differ(cc: Compile) -> Differ:
    def diff(base: str, patched: str, *flags: str, asm: bool = False, strict: bool = False) -> ObjectDelta:
        a, b = cc(base, *flags, asm=asm), cc(patched, *flags, asm=asm)
        (delta,) = compare(a, b, strict=strict).deltas
        (other,) = compare(b, a, strict=strict).deltas
        assert (other.status, other.rules) == (delta.status, delta.rules), "the comparison must be symmetric"
        return delta

    return diff
