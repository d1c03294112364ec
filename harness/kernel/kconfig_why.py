# SPDX-License-Identifier: GPL-2.0-only
"""Why a symbol did not come out as asked: what a tree's Kconfig files say about it, read as text.

No Kconfig macro is run here (a hostile tree's `$(shell ...)` would run on the host). The grammar is that of
Documentation/kbuild/kconfig-language.rst: `config` entries, their `depends on` and `select`, and the `if`, `menu`
and `choice` blocks around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

_ENTRY = re.compile(r"^\s*(?:menu)?config\s+(\w+)")
_DEPENDS = re.compile(r"^\s*depends\s+on\s+(.+)")
_SELECT = re.compile(r"^\s*select\s+(\w+)(?:\s+if\s+(.+))?")
_PROMPT = re.compile(r"^\s*(?:(?:bool|tristate|string|int|hex)\s+[\"']|prompt\s)")
_OPEN = re.compile(r"^\s*(if\s+(.+)|menu\s.*|choice\b.*)$")
_CLOSE = re.compile(r"^\s*(?:endif|endmenu|endchoice)\b")
_HELP = re.compile(r"^(\s*)(?:help|---help---)\s*$")
_TOKEN = re.compile(r"\"[^\"]*\"|'[^']*'|\$\([^)]*\)?|[A-Za-z0-9_]+|&&|\|\||!=|[()!=<>]")
_OPERATORS = frozenset({"&&", "||", "!", "=", "!=", "(", ")"})
_NAME = re.compile(r"\b[A-Z][A-Z0-9_]{2,}\b|\b[A-Z][A-Z0-9]\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kconfigs:
    """What the Kconfig files of a tree say.

    Attributes:
        where: by symbol, the places it is declared at (`net/xfrm/Kconfig:5`).
        depends: by symbol, the conditions it stands under, one a `depends on` or enclosing block.
        selected: by symbol, who selects it: (selector, condition, place).
        prompts: symbols a user can set.
        elsewhere: by symbol that only other architectures have, a place it is declared at.
    """

    where: Mapping[str, tuple[str, ...]]
    depends: Mapping[str, tuple[str, ...]]
    selected: Mapping[str, tuple[tuple[str, str, str], ...]]
    prompts: frozenset[str]
    elsewhere: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Reader:
    """The tables while the files are read."""

    where: dict[str, list[str]] = field(default_factory=dict)
    depends: dict[str, list[str]] = field(default_factory=dict)
    selected: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    prompts: set[str] = field(default_factory=set)

    def read(self, name: str, text: str) -> None:
        symbol = ""
        blocks: list[list[str]] = []
        for number, line in _statements(text):
            if match := _ENTRY.match(line):
                symbol = match[1]
                self.where.setdefault(symbol, []).append(f"{name}:{number}")
                self.depends.setdefault(symbol, []).extend(condition for block in blocks for condition in block)
            elif match := _OPEN.match(line):
                symbol = ""
                blocks.append([match[2].strip()] if match[2] else [])
            elif _CLOSE.match(line):
                symbol = ""
                if blocks:
                    blocks.pop()
            elif match := _DEPENDS.match(line):
                (self.depends[symbol] if symbol else blocks[-1] if blocks else []).append(match[1].strip())
            elif (match := _SELECT.match(line)) and symbol:
                self.selected.setdefault(match[1], []).append((symbol, (match[2] or "").strip(), f"{name}:{number}"))
            elif _PROMPT.match(line) and symbol:
                self.prompts.add(symbol)


def read_tree(source: Path, srcarch: str) -> Kconfigs:
    """Read every Kconfig file that architecture `arch/<srcarch>` can see; links are not followed."""
    reader, others = _Reader(), _Reader()
    for path in sorted(source.rglob("Kconfig*")):
        name = str(path.relative_to(source))
        if path.is_symlink() or not path.is_file() or name.startswith(("tools/", "scripts/", "Documentation/")):
            continue
        foreign = name.startswith("arch/") and not name.startswith((f"arch/{srcarch}/", "arch/Kconfig"))
        (others if foreign else reader).read(name, path.read_text(encoding="utf-8", errors="replace"))
    return Kconfigs(where={name: tuple(rows) for name, rows in reader.where.items()},
                    depends={name: tuple(rows) for name, rows in reader.depends.items()},
                    selected={name: tuple(rows) for name, rows in reader.selected.items()},
                    prompts=frozenset(reader.prompts),
                    elsewhere={name: rows[0] for name, rows in others.where.items() if name not in reader.where})


def reasons(symbol: str, asked: str, got: Mapping[str, str], kconfigs: Kconfigs) -> list[str]:
    """Lines that say what made `symbol` come out other than `asked`, given the `.config`'s values `got`."""
    if symbol in kconfigs.elsewhere:
        return [f"this architecture has no such symbol; another has, at {kconfigs.elsewhere[symbol]}"]
    if symbol not in kconfigs.where:
        near = get_close_matches(symbol, kconfigs.where, n=1)
        return [f"no such symbol in this tree{f'; did you mean {near[0]}?' if near else ''}"]
    lines = [f"declared at {', '.join(kconfigs.where[symbol])}"]
    if asked == "n":
        lines += _selectors(symbol, got, kconfigs, frozenset({symbol}))
        if len(lines) == 1:
            lines.append("nothing that is on selects it: it has a default")
        return lines
    unmet = [condition for condition in kconfigs.depends.get(symbol, ()) if holds(condition, got) is False]
    lines += [f"depends on {_valued(condition, got)}" for condition in unmet]
    if symbol not in kconfigs.prompts:
        lines.append("it has no prompt: only a select or a default can turn it on")
        lines += [f"{selector} (={got.get(selector, 'n')}) would select it, {place}"
                  for selector, _, place in kconfigs.selected.get(symbol, ())[:5]]
    if len(lines) == 1:
        lines += [f"depends on {_valued(condition, got)}" for condition in kconfigs.depends.get(symbol, ())]
    return lines


def _selectors(symbol: str, got: Mapping[str, str], kconfigs: Kconfigs, seen: frozenset[str]) -> list[str]:
    """Who selects a symbol; a selector that has no prompt is itself followed, down to what a user can turn off."""
    lines: list[str] = []
    for selector, when, place in kconfigs.selected.get(symbol, ()):
        if selector in got and selector not in seen and holds(when or "y", got) is not False:
            lines.append(f"selected by {selector} (={got[selector]}) at {place}"
                         f"{f' if {_valued(when, got)}' if when else ''}")
            if selector not in kconfigs.prompts:
                lines += [f"  {line}" for line in _selectors(selector, got, kconfigs, seen | {selector})]
    return lines


def holds(condition: str, got: Mapping[str, str]) -> bool | None:
    """Whether a Kconfig expression is other than `n`; None where it holds macros we do not run."""
    tokens = _TOKEN.findall(condition.split("#")[0])
    if any("$" in token for token in tokens):
        return None
    position = 0

    def expression() -> bool:
        result = conjunction()
        while accept("||"):
            right = conjunction()
            result = result or right
        return result

    def conjunction() -> bool:
        result = factor()
        while accept("&&"):
            right = factor()
            result = result and right
        return result

    def factor() -> bool:
        if accept("!"):
            return not factor()
        if accept("("):
            result = expression()
            if not accept(")"):
                raise ValueError(condition)
            return result
        left = value()
        for sign, wanted in (("!=", False), ("=", True)):
            if accept(sign):
                return (left == value()) is wanted
        return left not in ("n", "")

    def accept(token: str) -> bool:
        nonlocal position
        if position < len(tokens) and tokens[position] == token:
            position += 1
            return True
        return False

    def value() -> str:
        nonlocal position
        if position >= len(tokens) or tokens[position] in _OPERATORS:
            raise ValueError(condition)
        token = str(tokens[position])
        position += 1
        if token in ("y", "m", "n") or token[0] in "\"'" or token.isdigit():
            return token.strip("\"'")
        return got.get(token, "n").strip('"')

    try:
        result = expression()
    except ValueError:
        return None
    return result if position == len(tokens) else None


def _valued(condition: str, got: Mapping[str, str]) -> str:
    """The condition with each symbol's value beside it: `INET (=y) && XFRM (=n)`."""
    return _NAME.sub(lambda match: f"{match[0]} (={got.get(match[0], 'n')})", condition)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Numbered logical lines: continuations joined, comments and help texts left out."""
    help_indent: int | None = None
    in_help = False
    pending, start = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.expandtabs(8)
        if in_help:
            indent = len(line) - len(line.lstrip())
            if not line.strip():
                continue
            if help_indent is None and indent > 0:
                help_indent = indent
            if help_indent is not None and indent >= help_indent:
                continue
            in_help, help_indent = False, None
        if _HELP.match(line):
            in_help = True
            continue
        start = start or number
        pending += line.rstrip("\\").rstrip() + " " if line.endswith("\\") else line
        if line.endswith("\\"):
            continue
        if pending.strip() and not pending.lstrip().startswith("#"):
            yield start, pending.strip()
        pending, start = "", 0
