# SPDX-License-Identifier: GPL-2.0-only
"""One side of a pair of sections, as the rules about bytes see it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.compare.elf import Section
    from harness.compare.model import Model, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a pair of sections whose headers are equal, as a rule about bytes sees it.

    Attributes:
        path: the object's path relative to its build folder.
        model: the object.
        section: the section.
        data, relocs: its contents, as `model.resolve` gives them.
        payload: bytes of the compressed kernel in its build folder; None where that is not known.
    """

    path: str
    model: Model
    section: Section
    data: bytes
    relocs: list[Target]
    payload: int | None = None


Ranges = list[tuple[int, int]]
"""[start, end) offsets in a section."""
