# SPDX-License-Identifier: GPL-2.0-only
"""What a comparison says, as values. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

SCHEMA = "harness.objdiff/2"
"""Version of the JSON form; the number grows when a reader of the old form would misread the new one."""

Status = Literal["identical", "explained", "changed", "only-base", "only-patched"]
"""`explained`: the files differ and named rules explain all of it. Anything after it is a change."""

Proof = Literal["", "lines", "sections", "parts", "offsets", "rule"]
"""How it is known that an explained object did not change: proved by compiling (docs/objdiff.md), or by rule alone."""

Kind = Literal["header", "section", "bytes", "relocation", "size", "symbol", "moved", "group", "archive", "script",
               "file"]
"""What a `Change` is about; the table stands in docs/objdiff.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference that no rule explains, attributed to the symbol that holds it.

    All text is printable ASCII: names come from object files and are escaped when a change is made.

    Attributes:
        kind: what differs.
        section: the section it is in, "" where it is the whole file.
        symbol: the function or datum that holds the differing bytes; for a record of a table without symbols
            (`__bug_table`, `.altinstructions`, `__ex_table`), the function it is for; None where neither is known.
        offset: bytes from the symbol's start, or the section's where no symbol of it is named; None where it has no
            place.
        base, patched: the two sides in a few words; None where a side has no such thing.
    """

    kind: Kind
    section: str
    symbol: str | None = None
    offset: int | None = None
    base: str | None = None
    patched: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleUse:
    """How often a rule was needed. `sites` are symbols, records, sections or notes, as the rule has them."""

    rule: str
    objects: int
    sites: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectDelta:
    """One object (or archive, or linker script) of the comparison.

    Attributes:
        path: relative to both build folders; the file's name when two files were compared. As the file system has it.
        status: see `Status`.
        rules: names of the rules that were needed, sorted. A changed object can have some, too.
        changes: what is left, in file order.
        proof: how an explained object is known not to have changed; "" for all others.
        proof_note: where a proof was tried: what it showed, or why it could not be had; else "".
    """

    path: str
    status: Status
    rules: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    proof: Proof = ""
    proof_note: str = ""

    @property
    def on_both_sides(self) -> bool:
        """Whether it is an object (no archive, no linker script) that both sides have."""
        return self.status not in ("only-base", "only-patched") and not any(
            change.kind in ("archive", "script") for change in self.changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result for two build folders or two objects.

    objects == identical + explained + changed + only_base + only_patched. `.a` files are counted apart.

    Attributes:
        base, patched: the two paths as they were given.
        strict: True when no rule was allowed.
        archives, archives_changed: number of `.a` files and of those whose list of members differs (link order).
        link_scripts, link_scripts_changed: number of linker scripts and of those that differ or are on one side only.
        deltas: every object, identical ones too, and every changed archive and linker script; sorted by path.
        rules: the rules that were needed, in the order of `noise.RULES`.
        excluded: (why, how many files) of what was not compared, sorted.
        seconds: wall time.
    """

    base: str
    patched: str
    strict: bool
    objects: int
    identical: int
    explained: int
    changed: int
    only_base: int
    only_patched: int
    archives: int
    archives_changed: int
    deltas: tuple[ObjectDelta, ...]
    rules: tuple[RuleUse, ...]
    excluded: tuple[tuple[str, int], ...]
    seconds: float = field(compare=False)
    link_scripts: int = 0
    link_scripts_changed: int = 0

    @property
    def proved(self) -> int:
        """How many of the explained objects are proved; the others are explained by rule alone."""
        return sum(delta.proof not in ("", "rule") for delta in self.deltas)

    def replaced(self, deltas: Mapping[str, ObjectDelta]) -> Comparison:
        """The comparison with objects judged anew, by path; counts follow."""
        found = tuple(deltas.get(delta.path, delta) for delta in self.deltas)
        now = Counter(deltas[delta.path].status for delta in self.deltas if delta.path in deltas)
        now.subtract(delta.status for delta in self.deltas if delta.path in deltas)
        return replace(self, deltas=found, explained=self.explained + now["explained"],
                       changed=self.changed + now["changed"])

    @property
    def identical_code(self) -> bool:
        """True when there were objects and each of them is identical or fully explained. No evidence is no pass."""
        return (self.objects > 0 and self.objects == self.identical + self.explained and not self.archives_changed
                and not self.link_scripts_changed)

    @property
    def identical_bytes(self) -> bool:
        """True when there were objects, each of them is identical, and so is how they are linked: no rule needed."""
        return self.identical_code and self.identical == self.objects

    @property
    def differing(self) -> tuple[ObjectDelta, ...]:
        """The deltas that are a change: changed, or on one side only."""
        return tuple(d for d in self.deltas if d.status not in ("identical", "explained"))

    def to_json(self) -> dict[str, object]:
        """The whole result as JSON values, as docs/objdiff.md has it. All text is printable ASCII."""
        counts = ("strict", "objects", "identical", "explained", "proved", "changed", "only_base", "only_patched",
                  "archives", "archives_changed", "link_scripts", "link_scripts_changed", "identical_code")
        return {
            "schema": SCHEMA,
            "base": printable(self.base),
            "patched": printable(self.patched),
            **{name: getattr(self, name) for name in counts},
            "rules": [{"rule": use.rule, "objects": use.objects, "sites": use.sites} for use in self.rules],
            "excluded": [{"reason": reason, "files": count} for reason, count in self.excluded],
            "seconds": round(self.seconds, 4),
            "deltas": [_delta_json(delta) for delta in self.deltas if delta.status != "identical"],
            "identical_objects": [printable(delta.path) for delta in self.deltas if delta.status == "identical"],
        }


def _delta_json(delta: ObjectDelta) -> dict[str, object]:
    names = ("kind", "section", "symbol", "offset", "base", "patched")
    return {"path": printable(delta.path), "status": delta.status, "rules": list(delta.rules),
            "proof": delta.proof, "proof_note": printable(delta.proof_note),
            "changes": [{name: getattr(change, name) for name in names} for change in delta.changes]}


def printable(text: str) -> str:
    """`text` with everything but printable ASCII escaped, so that no name can reach a terminal as a command."""
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if " " <= character <= "~" and character != "\\":
        return character
    return f"\\x{ord(character):02x}" if character.isascii() else character.encode("ascii", "backslashreplace").decode()
