# SPDX-License-Identifier: GPL-2.0-only
"""Directives give lines their old numbers and change nothing else: checked with the compiler's own preprocessor."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.compare import linematch
from harness.compare.relines import reline

MACROS = """#define TWO(a, b) a b
#define JOIN(a, b) a##b
#define TEXT(x) #x
#define NONE() none
#define NAME TWO
"""


def preprocessed(text: str, *flags: str) -> str:
    done = subprocess.run(["gcc", "-E", "-P", *flags, "-"], input=text, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr.replace("<stdin>", "")


def tokens(text: str, *flags: str) -> list[str]:
    """What the compiler proper gets, without layout, with every line number the same."""
    done = subprocess.run(["gcc", "-E", "-P", "-std=gnu11", "-w", "-U__LINE__", "-D__LINE__=0", *flags, "-"],
                          input=text, capture_output=True, text=True, check=False)
    return done.stdout.split()


def marks(text: str) -> dict[str, int]:
    """Mark to line of all `mark_N __LINE__` in a text."""
    return {mark: int(line) for mark, line in re.findall(r"\b(mark_\d+)\s+(\d+)", preprocessed(text, "-w"))}


def restored(old: str, new: str) -> None:
    """The new text means the same with directives, and its marks have their old numbers."""
    made = reline(old, new)
    assert made is not None
    assert tokens(made.text) == tokens(new)
    before, after, plain = marks(old), marks(made.text), marks(new)
    assert {mark: after[mark] for mark in before if mark in after} == {m: n for m, n in before.items() if m in after}
    assert {(after[mark], plain[mark]) for mark in after if after[mark] != plain[mark]} <= made.moves


@pytest.mark.parametrize(("old", "new"), [
    ("mark_1 __LINE__;\n", "\n\n/* a\n b */\nmark_1 __LINE__;\n"),
    ("gone;\n\n\nmark_1 __LINE__;\n", "mark_1 __LINE__;\n"),
    ("mark_1 __LINE__;\nmark_2 __LINE__;\n", "mark_2 __LINE__;\nx;\nmark_1 __LINE__;\n"),  # a line that moved
    ("#if 0\nmark_1 __LINE__;\n#else\nmark_2 __LINE__;\n#endif\nmark_3 __LINE__;\n",
     "new;\n#if 0\nmark_1 __LINE__;\n#else\nmark_2 __LINE__;\n#endif\nmark_3 __LINE__;\n"),
    ("#if 1\nmark_1 __LINE__;\n#elif 1\na\n#else\nb\n#endif\nmark_3 __LINE__;\n",
     "#if 1\nnew\nmark_1 __LINE__;\n#elif 1\nnew\na\n#else\nb\n#endif\nmark_3 __LINE__;\n"),
    ("#if 0\n#if 1\n#endif\n#else\nmark_1 __LINE__;\n#endif\n",
     "#if 0\nx\n#if 1\ny\n#endif\n#else\nmark_1 __LINE__;\n#endif\n"),
    ("#define M(x) \\\n  one \\\n  two\nmark_1 __LINE__;\n",
     "#define M(x) \\\n new \\\n  one \\ \n  two\nmark_1 __LINE__;\n"),
    ("#define M 1 /* a\n b\n*/\nmark_1 __LINE__;\n", "#define M 1 /* a\n new\n b\n*/ 2 (\nmark_1 __LINE__;\n"),
    ("/* a\n b */ mark_1 1; mark_2 2;\nmark_3 __LINE__;\n",
     "/* new\n a\n b */ mark_1 1; mark_2 2;\nmark_3 __LINE__;\n"),
    (f"{MACROS}TWO(mark_1\n, 1);\nmark_2 __LINE__;\n", f"{MACROS}TWO(mark_1\n/* new */\n\n, 1);\nmark_2 __LINE__;\n"),
    (f"{MACROS}TWO\n(mark_1, __LINE__);\nmark_2 __LINE__;\n", f"{MACROS}TWO\n\n(mark_1, 7);\nmark_2 __LINE__;\n"),
    ("'(' \"(\" '\"' \"/*\" \"\\\"(\"\nmark_1 __LINE__;\n", "x '(' \"(\" '\"' \"/*\" \"\\\"(\"\n\nmark_1 __LINE__;\n"),
    ("// ( \\\n still a comment\nmark_1 __LINE__;\n", "\n// ( \\\n still a comment\nmark_1 __LINE__;\n"),
    ("#if 1\nf(a,\n#else\nf(\n#endif\nb);\nmark_1 __LINE__;\n",
     "\n#if 1\nf(a,\n#else\nf(\n#endif\nb);\nmark_1 __LINE__;\n"),
    ("#error don't /* \nmark_1 __LINE__;\n", "\n#error don't /* \nmark_1 __LINE__;\n"),
    ("%:if 0\n%:else\nmark_1 __LINE__;\n%:endif\n", "new\n%:if 0\n%:else\nmark_1 __LINE__;\n%:endif\n"),
    (") ) )\nmark_1 __LINE__;\n", "new ) ) )\n\nmark_1 __LINE__;\n"),
])
def test_places_where_a_directive_is_dangerous(old: str, new: str) -> None:
    restored(old, new)


@pytest.mark.parametrize("text", ['R"x(\n)x";\n', 'u8R"(\n)";', "a\r\nb\r\n", "/* no end\n", "??/\nx\n", "a\0b",
                                  "a\n # line 7\n", "#/**/line 7\n", "# 7 \"x.c\"\n"])
def test_what_cannot_be_read_is_given_up(text: str) -> None:
    assert reline("", text) is None


def test_nothing_is_added_where_nothing_moved() -> None:
    text = "a;\n\n/* c */\nb;\n"
    made = reline(text, text)
    assert made is not None
    assert (made.text, made.moves) == (text, frozenset())
    rewritten = reline("a;\nb(x);\nc;\n", "a;\nb(y);\nc;\n")
    assert rewritten is not None
    assert rewritten.text == "a;\nb(y);\nc;\n"


def test_the_file_name_stays() -> None:
    made = reline("a;\nb;\n", "x;\na;\n__FILE__;\n")
    assert made is not None
    assert '"<stdin>"' in preprocessed(made.text)


LINES = st.sampled_from([
    "", "x;", "/* a comment */", "/* opens", "closes */", "// to the end \\", "#if 0", "#ifdef X", "#if 1", "#else",
    "#endif", "#elif 0", "  # elif 1", "#define M(a) \\", "#define N 1 /* opens", "TWO(a,", "b)", "TWO", "NONE", "NAME",
    "(a, b)", "()", "NONE(", ")", '"a string (" x', "'('", "it's (", 'say "', "JOIN(x,", "TEXT(", "y \\", "\\", "{",
    "}", "  (", "#undef M", "%:if 0", "/", "* x */", "do { /* (", "#include", "#pragma x /*", "TWO(/*", "*/ #if 1",
    "#/**/if 0", "/**/ #else"])
EDITS = st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["add", "cut", "move", "change"]), LINES), max_size=6)


def numbered(lines: Sequence[str]) -> list[str]:
    """The lines with a mark at the end of some."""
    return [line + ("" if i % 3 or line.endswith("\\") else f" mark_{i} __LINE__;") for i, line in enumerate(lines)]


def edited(lines: list[str], edits: Sequence[tuple[int, str, str]]) -> list[str]:
    lines = list(lines)
    for where, what, text in edits:
        at = where % (len(lines) + 1)
        if what == "add":
            lines.insert(at, text)
        elif lines[at:at + 1]:
            line = lines.pop(at)
            if what == "change":
                lines.insert(at, text + line)
            elif what == "move":
                lines.insert((at * 7 + 3) % (len(lines) + 1), line)
    return lines


@settings(max_examples=400)
@given(st.lists(LINES, max_size=40), EDITS)
def test_directives_never_change_what_a_text_means(lines: list[str], edits: list[tuple[int, str, str]]) -> None:
    old = numbered(lines)
    new = "\n".join([MACROS, *edited(old, edits), ""])
    made = reline("\n".join([MACROS, *old, ""]), new)
    if made is not None:
        assert [line for line in made.text.split("\n") if not line.startswith("#line ")] == new.split("\n")
        assert tokens(made.text) == tokens(new)


STATEMENTS = st.lists(st.sampled_from([
    "x;", "", "/* a\ncomment */", "TWO(a,\n b);", "#if 0\nno;\n#else\nyes;\n#endif", '"(" x;', "f(a, /* ( */\n  b);",
    "#ifdef X\na;\n#elif 1\nb;\n#endif", "#define M(x) \\\n x", "static int\nname(void)\n{", "}",
    "#if 1\n#if 0\n#endif\n#endif"]), max_size=20)
ADDED = st.sampled_from(["", "new;", "/* new\n\n*/", "#if 0\nn;\n#endif"])


@settings(max_examples=150)
@given(STATEMENTS, st.lists(st.tuples(st.integers(0, 60), ADDED), max_size=5), st.integers(0, 3))
def test_whole_statements_have_their_old_numbers(pieces: list[str], added: list[tuple[int, str]], cut: int) -> None:
    old = [f"{piece}\nmark_{i} __LINE__;" for i, piece in enumerate(pieces)]
    new = old[cut:]
    for where, text in added:
        new.insert(where % (len(new) + 1), text)
    restored("\n".join([MACROS, *old, ""]), "\n".join([MACROS, *new, ""]))


@given(st.lists(st.sampled_from("abcde\n "), max_size=30), st.lists(st.sampled_from("abcde\n "), max_size=30))
def test_lines_are_paired_once_and_with_equals(old: list[str], new: list[str]) -> None:
    found = linematch.match(old, new)
    assert all(old[a] == new[b] for b, a in found.items())
    assert len(set(found.values())) == len(found)
    assert linematch.match(old, old) == {i: i for i in range(len(old))}
