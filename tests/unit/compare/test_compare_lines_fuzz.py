# SPDX-License-Identifier: GPL-2.0-only
"""Whatever an object holds, explaining it ends: with lines of printable text, or with the one error that names it."""

from __future__ import annotations

from pathlib import Path

import pytest
from compare_kit import compile_into
from hypothesis import given, settings
from hypothesis import strategies as st
from test_compare_lines import BUG, EXPORT, EXTABLE, INITCALL, MODINFO, PARAMETER, VERSIONS

from harness.compare.objdiff import compare
from harness.compare.opened import Opened, to_json
from harness.errors import InfraError, UsageError
from harness.report import objdiff_page
from harness.report.objdiff_text import show, summary

C = """
struct s { char a[128]; int b; }; int g(int), h(int); int v = 1; const char t[] = "text";
int (*const ops[])(int) = { g, h }; void say(const char *);
__attribute__((noinline)) static int one(int x) { say("one"); return x * x + 7; }
int f(struct s *s, int x) { switch (x) { case 1: return g(1); case 2: return h(2); case 3: return one(x);
  case 4: return s->b; case 5: return v; } say("two"); return one(x) + 1; }
"""


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    folder = tmp_path_factory.mktemp("fuzz")
    asm = [EXPORT % ("", "NET"), INITCALL % ("6", "6"), PARAMETER % "0644", EXTABLE.format(1), BUG.format(1),
           MODINFO % "GPL", VERSIONS % "1"]
    made = [compile_into(folder, text + "\n", name=f"a{number}", asm=True) for number, text in enumerate(asm)]
    made += [compile_into(folder, C, "-g", *flags, name=f"c{number}") for number, flags in enumerate(((), ("-m32",)))]
    return tuple(path.read_bytes() for path in made)


Edits = list[tuple[float, int]]


@settings(max_examples=250, deadline=None)
@given(which=st.integers(0, 8), edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)),
                                               min_size=1, max_size=6))
def test_explaining_ends(objects: tuple[bytes, ...], tmp_path_factory: pytest.TempPathFactory, which: int,
                         edits: Edits) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    folder.mkdir(exist_ok=True)
    data = bytearray(objects[which])
    for place, value in edits:
        data[int(place * len(data))] = value
    base, patched = Path(folder / "base.o"), Path(folder / "patched.o")
    base.write_bytes(objects[which])
    patched.write_bytes(data)
    for pair in ((base, patched), (patched, base)):
        try:
            opened = Opened(compare(*pair))
            lines = summary(opened, None)
            to_json(opened)
            assert objdiff_page.render(opened).isascii()
            lines += show(opened, "f", 100)
        except (InfraError, UsageError):
            continue
        assert all(line.isascii() and line.isprintable() for line in lines)
