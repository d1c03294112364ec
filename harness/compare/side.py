# SPDX-License-Identifier: GPL-2.0-only
"""One side of a pair of sections, as the rules about bytes see it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.compare.elf import Section
    from harness.compare.model import Model, Target


BootFields: TypeAlias = "Mapping[int, int]"
"""Values of the boot header's fields, by their offset in the boot sector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a pair of sections whose headers are equal, as a rule about bytes sees it.

    Attributes:
        path: the object's path relative to its build folder.
        model: the object.
        section: the section.
        data, relocs: its contents, as `model.resolve` gives them.
        boot: what fields of the boot header must hold for the compressed kernel in its build folder
            (`boot_header.fields`); none where that is not known.
    """

    path: str
    model: Model
    section: Section
    data: bytes
    relocs: list[Target]
    boot: BootFields = field(default_factory=dict)


Ranges = list[tuple[int, int]]
"""[start, end) offsets in a section."""
