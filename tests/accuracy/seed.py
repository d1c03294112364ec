# SPDX-License-Identifier: GPL-2.0-only
"""What a row of the accuracy table is made of, and when a verdict is the right one. Pure.

A row's verdict is written from what is true of the change, not from what the comparison says: does what the machine
runs, or what another part of the kernel can see, differ? `identical` means equal files, `explained` that the files
differ and nothing else does, `changed` that something does, with the functions and data it is in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["identical", "explained", "changed"]
CONFIGS = ("lean", "debug")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One text for another in a file of the tree, where the old text stands exactly once."""

    old: str
    new: str
    path: str = ""

    def apply(self, text: str, where: str) -> str:
        if text.count(self.old) != 1:
            raise ValueError(f"{self.old!r} stands {text.count(self.old)} times in {where}, not once")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """Text at the end of a file."""

    new: str
    path: str = ""

    def apply(self, text: str, where: str) -> str:
        return f"{text}{self.new}"


Change = Edit | Append


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison says of one pair of objects.

    Attributes:
        status: in one word.
        names: for `explained` the rules that were needed, for `changed` the symbols (or sections, where no symbol
            holds the difference) that are named. Sorted.
        more: of an expected verdict: others may be named, too, because they moved or refer to what moved.
    """

    status: Status
    names: tuple[str, ...] = ()
    more: bool = False

    def __str__(self) -> str:
        names = ", ".join(f"`{name}`" for name in self.names)
        return self.status + (f": {names}" if names else "") + (", and others" * self.more)


IDENTICAL = Verdict("identical")


def explained(*rules: str) -> Verdict:
    return Verdict("explained", tuple(sorted(rules)))


def changed(*symbols: str, more: bool = False) -> Verdict:
    return Verdict("changed", tuple(sorted(symbols)), more)


PROVED = explained()
"""What only a recompilation can find: that nothing but line numbers or the layout differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The verdicts a row must get in one configuration.

    Attributes:
        by_bytes: of the comparison alone. It may say `changed` of what is noise only a recompilation can prove, and
            may then name more than what changed; it may never say less than the truth.
        proved: with the proof by recompilation, which must reach the truth of what changed nothing. Of what did change
            it has nothing to add.
    """

    by_bytes: Verdict
    proved: Verdict

    def of(self, column: str) -> Verdict:
        return self.by_bytes if column == "by bytes" else self.proved


def both(by_bytes: Verdict, proved: Verdict | None = None, *, debug: Verdict | None = None,
         debug_proved: Verdict | None = None) -> Mapping[str, Expected]:
    """Verdicts in both configurations: `debug` as lean, and proved as by bytes, where it is not said otherwise."""
    lean = Expected(by_bytes=by_bytes, proved=proved or by_bytes)
    if debug is None:
        return {"lean": lean, "debug": lean}
    return {"lean": lean, "debug": Expected(by_bytes=debug, proved=debug_proved or debug)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """One row.

    Attributes:
        name: what is changed, as the table has it; unique.
        object: the object that is compared; its source is where edits without a path go.
        after: the change.
        before: edits that both sides have, where the tree holds no place for the change as it is.
        expected: by configuration.
    """

    name: str
    object: str
    after: tuple[Change, ...]
    before: tuple[Change, ...] = ()
    expected: Mapping[str, Expected]

    @property
    def key(self) -> str:
        """The name as a file name."""
        return "".join(c if c.isalnum() else "-" for c in self.name)


def wrong(expected: Verdict, got: Verdict) -> str:
    """Why a verdict is not the expected one; empty where it is. A wrong `no change` is called what it is."""
    if expected.status == "changed" and got.status != "changed":
        return f"false \"no change\": {got}, but it is {expected}"
    if expected.status != "changed" and got.status == "changed":
        return f"false \"changed\": {got}, but it is {expected}"
    missing, others = set(expected.names) - set(got.names), set(got.names) - set(expected.names)
    free = expected.more or (expected == PROVED)
    if expected.status != got.status or missing or (others and not free):
        return f"{got}, not {expected}"
    return ""
