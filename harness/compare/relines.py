# SPDX-License-Identifier: GPL-2.0-only
"""Gives the lines of a changed source file their old numbers back, with `#line` directives (C11 6.10.4).

Pure: text in, text out. The result means what the new text means in everything but line numbers: it is the new text
with whole lines of the form `#line N` put between its own, only where the preprocessor takes such a line for a
directive and for nothing else. Those places, and what must be avoided, follow from C11 5.1.1.2 and gcc's libcpp:

* not in a comment, nor after a line that a backslash continues (gcc allows blanks after it), also in a directive
  that a comment carries on to the next line;
* not within parentheses: inside the arguments of a macro a directive is undefined (C11 6.10.3 p11), and what is
  a macro cannot be known here;
* not before a line that starts with `(`: between a macro's name and its arguments gcc takes a directive for the
  end of the search for them, and the macro would not be expanded;
* a directive in a branch that is not compiled is ignored, so after each `#if`, `#else`, `#elif` and `#endif` the
  numbering counts as unknown and is said again before the next line of code.

Where a line cannot be given its number at once, it follows at the next place that allows it. Without a file name,
`#line` leaves `__FILE__` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.compare import linematch

_CONTINUED = re.compile(r"\\[ \t\f\v]*\Z")
_TOKEN = re.compile(r"""
    (?P<block>/\*) | (?P<rest>//) | (?P<quote>["']) | (?P<open>\() | (?P<close>\)) | (?P<raw>\b(?:u8|[uUL])?R") |
    (?P<blank>[ \t\f\v]+) | (?P<other>[A-Za-z0-9_]+|%:|.)
""", re.VERBOSE)
_STRING = {'"': re.compile(r'(?:[^"\\]|\\.)*"?'), "'": re.compile(r"(?:[^'\\]|\\.)*'?")}
_CONDITIONAL = re.compile(r"(if|ifdef|ifndef|elif|elifdef|elifndef|else|endif)\b")
_BEFORE_NAME = re.compile(r"(?:[ \t\f\v]|/\*.*?\*/)*")
_OWN_NUMBERS = re.compile(r"line\b|\d|/\*")
"""Directives that make a text be given up: its own line numbers, or a name that a comment puts on a later line."""
_UNREADABLE = re.compile(r"\r|\0|\?\?/")
"""Texts with these are given up: other line ends, or trigraphs that could continue a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relined:
    """A new text with its old line numbers.

    Attributes:
        text: the text with directives.
        numbers: for each line of the new text, the number it is compiled under.
    """

    text: str
    numbers: tuple[int, ...]

    @property
    def moves(self) -> frozenset[tuple[int, int]]:
        """(number under the directives, own number) of each line for which they differ."""
        return frozenset((old, new) for new, old in enumerate(self.numbers, 1) if old != new)


class _Logical(NamedTuple):
    """What the preprocessor sees as one line: lines [start, end) of the file, without their line ends.

    `inside`: it starts within a comment, or carries on a directive; no directive can stand before it.
    `directive`: the name of a directive and what follows; None where it is none. `code`: it has tokens of the program.
    `opening`: its first token is a parenthesis. `depth`: parentheses open before it.
    """

    start: int
    end: int
    inside: bool
    directive: str | None
    code: bool
    opening: bool
    depth: int


def reline(old: str, new: str) -> Relined | None:
    """The new text with directives, so that lines it shares with the old one have their old numbers.

    A line of the new text that the old one does not have is numbered on from the line before it, so that a line that
    was only rewritten keeps its number, too.

    Returns:
        None where the text cannot be read safely (raw strings, foreign line ends, a comment without an end), or has
        line numbers of its own making.
    """
    lines = new.split("\n")
    logical = _read(lines)
    if logical is None or _UNREADABLE.search(new):
        return None
    wanted = _wanted(old.split("\n"), lines)
    made: list[str] = []
    numbers: list[int] = []
    presumed: int | None = 1
    for line in logical:
        safe = not line.inside and line.depth == 0 and not line.opening
        if line.code and safe and presumed != wanted[line.start]:
            presumed = wanted[line.start]
            made.append(f"#line {presumed}")
        made += lines[line.start:line.end]
        count = line.end - line.start
        first = wanted[line.start] if presumed is None else presumed
        numbers += range(first, first + count)
        presumed = None if presumed is None or _ends_knowledge(line) else presumed + count
    return Relined(text="\n".join(made), numbers=tuple(numbers))


def _ends_knowledge(line: _Logical) -> bool:
    return line.directive is not None and _CONDITIONAL.match(line.directive) is not None


def _wanted(old: Sequence[str], new: Sequence[str]) -> list[int]:
    """The number each line of `new` should have, counted from 1."""
    partner = linematch.match(old, new)
    wanted: list[int] = []
    number = 0
    for index in range(len(new)):
        number = partner[index] + 1 if index in partner else number + 1
        wanted.append(number)
    return wanted


def _read(lines: Sequence[str]) -> list[_Logical] | None:
    """The file as the preprocessor's lines; None where it cannot be told what they are."""
    found: list[_Logical] = []
    depth = 0
    branches: list[tuple[int, int]] = []  # depth before each open #if, and the deepest end of its branches
    comment, carried = False, False
    for start, end, text in _joined(lines):
        scanned = _scan(text, comment=comment)
        if scanned is None or _OWN_NUMBERS.match(scanned.directive or ""):
            return None
        directive = scanned.directive if not (comment and carried) else None
        hidden = directive is not None or (comment and carried)
        found.append(_Logical(start=start, end=end, inside=comment, directive=directive,
                              code=scanned.code and not hidden, opening=scanned.opening, depth=depth))
        if directive is not None:
            depth = _branch(directive, depth, branches)
        elif not hidden:
            depth = max(0, depth + scanned.lowest) + scanned.rise
        comment, carried = scanned.comment, hidden
    return None if comment else found


def _joined(lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """(first line, line after the last, text) of lines as backslashes join them."""
    start, parts = 0, []
    for index, line in enumerate(lines):
        continued = _CONTINUED.search(line)
        parts.append(line[:continued.start()] if continued else line)
        if not continued or index == len(lines) - 1:
            yield start, index + 1, "".join(parts)
            start, parts = index + 1, []


class _Scan(NamedTuple):
    """One line's tokens: see `_Logical`; `lowest` is how far its parentheses fall below its start (0 or less), `rise`
    how far they end above that; `comment`: it ends within a comment."""

    directive: str | None
    code: bool
    opening: bool
    lowest: int
    rise: int
    comment: bool


def _scan(text: str, *, comment: bool) -> _Scan | None:
    at, level, lowest = 0, 0, 0
    first: str | None = None
    directive: str | None = None
    while at < len(text):
        if comment:
            end = text.find("*/", at)
            if end < 0:
                break
            at, comment = end + 2, False
            continue
        token = _TOKEN.match(text, at)
        if token is None or token.lastgroup == "raw":
            return None
        at = token.end()
        kind, value = token.lastgroup, token[0]
        if kind == "rest":
            break
        if kind == "block":
            comment = True
        elif kind != "blank":
            if first is None and value in ("#", "%:"):
                directive = _BEFORE_NAME.sub("", text[at:], count=1)
            first = value if first is None else first
            level += {"open": 1, "close": -1}.get(kind or "", 0)
            lowest = min(lowest, level)
            quoted = _STRING[value].match(text, at) if kind == "quote" else None
            at = quoted.end() if quoted else at
    return _Scan(directive=directive, code=first is not None, opening=first == "(", lowest=lowest,
                 rise=level - lowest, comment=comment)


def _branch(directive: str, depth: int, branches: list[tuple[int, int]]) -> int:
    """The depth after a directive: each branch starts where the first did; after the last the deepest end counts."""
    match = _CONDITIONAL.match(directive)
    word = match[1] if match else ""
    if word.startswith("if"):
        branches.append((depth, 0))
    elif word and branches:
        before, deepest = branches.pop()
        deepest = max(deepest, depth)
        if word == "endif":
            return deepest
        branches.append((before, deepest))
        return before
    return depth
