# SPDX-License-Identifier: GPL-2.0-only
"""Real sources, real builds: everything here shares the user's cache, so that a kernel is built once for all tests."""

from __future__ import annotations

import email.utils
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PLAN


@pytest.fixture(scope="session")
def source_yaml() -> str:
    """The `source:` block of the customer's plan, for plans made in tests."""
    text = (PLAN / "plan.yaml").read_text(encoding="utf-8")
    return text[text.index("source:"):text.index("base:")]


Edit = Callable[[str, str, str], Path]


@pytest.fixture
def patch_of(clean_tree: Path, tmp_path: Path) -> Edit:
    """Makes a patch file that replaces a text, found once, in a file of the clean tree."""
    def make(name: str, old: str, new: str) -> Path:
        before = (clean_tree / name).read_text(encoding="utf-8")
        assert before.count(old) == 1, f"{old!r} is not in {name} exactly once"
        return write_patch(tmp_path / "series", name, before, before.replace(old, new))

    return make


def write_patch(folder: Path, name: str, before: str, after: str) -> Path:
    """A patch in mail form that turns a file from `before` to `after`."""
    work = folder.parent / "patch-work"
    for side, text in (("a", before), ("b", after)):
        (work / side / name).parent.mkdir(parents=True, exist_ok=True)
        (work / side / name).write_text(text, encoding="utf-8")
    diff = subprocess.run(["git", "diff", "--no-index", "--no-prefix", f"a/{name}", f"b/{name}"], cwd=work,
                          capture_output=True, text=True, check=False).stdout
    folder.mkdir(exist_ok=True)
    path = folder / f"{len(list(folder.iterdir())) + 1:04}-test.patch"
    path.write_text("From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n"
                    f"From: harness test <test@localhost>\nDate: {email.utils.formatdate(0)}\n"
                    f"Subject: [PATCH] change {name}\n\nFor a test.\n---\n{diff}", encoding="utf-8")
    return path


PlanMaker = Callable[..., Path]


@pytest.fixture
def make_plan(tmp_path: Path, source_yaml: str) -> PlanMaker:
    """Writes a plan on the real source, with the patches in `tmp_path/series`; more YAML may be given."""
    def make(variant: str = "[qemu-x86_64, net, nics, no-xfrm, no-br_netfilter]", *, more: str = "") -> Path:
        (tmp_path / "plan.yaml").write_text(
            f"{source_yaml}series: series/*.patch\nvariants:\n  none: {variant}\n{more}", encoding="utf-8")
        return tmp_path

    return make
