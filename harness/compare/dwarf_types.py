# SPDX-License-Identifier: GPL-2.0-only
"""A structure's layout from the entries of an object's debug information, as gcc and clang write them for C.

References between entries are followed within bounds: a type that holds itself, or that takes exponential time to
spell, ends in an error.

Source: the DWARF standards, chapter 5 (types), http://dwarfstd.org; bit-fields: 5.7.6 of DWARF 5, 5.5.6 of DWARF 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.compare.dwarf import Entry, bad, read_entries, text
from harness.compare.layout import Kind, Layout, Member
from harness.compare.values import printable

_MOST_STEPS = 1_000_000
_DEEPEST = 40
_LARGEST = 1 << 24
"""Bytes of a structure. Larger figures are damage, and would make endless tables of cache lines."""
_ALIASES = {"DW_TAG_typedef": "", "DW_TAG_const_type": "const ", "DW_TAG_volatile_type": "volatile ",
            "DW_TAG_restrict_type": "restrict ", "DW_TAG_atomic_type": "_Atomic "}
_TAGGED: Mapping[str, Kind] = {"DW_TAG_structure_type": "struct", "DW_TAG_union_type": "union"}
_WORDS = {**_TAGGED, "DW_TAG_enumeration_type": "enum"}
_NAMELESS = "{...}"
_PLUS_UCONST = 0x23


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What debug information says where it has no layout: the structure is only declared, or unknown."""

    known: bool


def read_layout(data: bytes, name: str, *, where: str) -> Layout | Declared:
    """The layout of `struct name` in an object with debug information; the first definition counts.

    Args:
        data: the object.
        where: what messages call it.

    Raises:
        InfraError: it is no ELF file, has no debug information, or that is damaged.
    """
    (found,) = read_layouts(data, (name,), where=where)
    return found


def read_layouts(data: bytes, names: Sequence[str], *, where: str) -> tuple[Layout | Declared, ...]:
    """The layouts of several structures, as `read_layout` has them, in the order of `names`."""
    by_offset, units = read_entries(data, where)
    known = {text(entry) for unit in units for entry in unit.children if entry.tag == "DW_TAG_structure_type"}
    defined: dict[str, Entry] = {}
    for unit in units:
        for entry in unit.children:
            if entry.tag == "DW_TAG_structure_type" and not entry.values.get("DW_AT_declaration"):
                defined.setdefault(text(entry), entry)
    reader = _Reader(by_offset=by_offset, where=where, little=data[5] == 1)
    return tuple(reader.layout(name, defined[name]) if name in defined else Declared(known=name in known)
                 for name in names)


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Follows types from entry to entry, within bounds."""

    by_offset: Mapping[int, Entry]
    where: str
    little: bool
    steps: int = 0

    def step(self) -> None:
        """Count what can be repeated without end."""
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise bad(self.where, "its types refer to each other too often")

    def layout(self, name: str, entry: Entry) -> Layout:
        size = self.bounded(self.number(entry, "DW_AT_byte_size"))
        align = entry.values.get("DW_AT_alignment", 0)
        return Layout(name=printable(name), size=size, members=self.members(entry, 0, 0),
                      align=align if isinstance(align, int) else 0)

    def bounded(self, size: int) -> int:
        """`size` where it can be a structure's."""
        if not 0 <= size <= _LARGEST:
            raise bad(self.where, f"no structure has {size} bytes")
        return size

    def number(self, entry: Entry, name: str, default: int | None = None) -> int:
        """A constant. An address class value of DWARF 2 (`DW_OP_plus_uconst N`) counts as N."""
        value = entry.values.get(name, default)
        if isinstance(value, list) and value[:1] == [_PLUS_UCONST]:
            return sum((byte & 0x7F) << 7 * index for index, byte in enumerate(value[1:11]))
        if not isinstance(value, int):
            raise bad(self.where, f"{entry.tag} {text(entry)} has no constant {name}")
        return int(value)

    def target(self, entry: Entry) -> Entry | None:
        """The entry that `DW_AT_type` refers to; None for void."""
        if "DW_AT_type" not in entry.values:
            return None
        value = entry.values["DW_AT_type"]
        found = self.by_offset.get(value) if isinstance(value, int) else None
        if found is None:
            raise bad(self.where, f"{entry.tag} {text(entry)} refers to a type that is not there")
        return found

    def bare(self, entry: Entry | None) -> Entry | None:
        """A type without typedefs and qualifiers."""
        for _ in range(_DEEPEST):
            if entry is None or entry.tag not in _ALIASES:
                return entry
            entry = self.target(entry)
        raise bad(self.where, "types refer to each other too deeply")

    def size(self, entry: Entry | None, depth: int = 0) -> int:
        """Bytes of a type."""
        found = self.bare(entry)
        if found is None or depth > _DEEPEST:
            raise bad(self.where, "a member's type has no size")
        if found.tag == "DW_TAG_array_type" and "DW_AT_byte_size" not in found.values:
            total = self.size(self.target(found), depth + 1)
            for length in self.lengths(found):
                total *= length or 0
            return self.bounded(total)
        return self.bounded(self.number(found, "DW_AT_byte_size"))

    def lengths(self, array: Entry) -> list[int | None]:
        """The number of elements in each dimension of an array; None for a flexible one."""
        found: list[int | None] = []
        for child in array.children:
            if child.tag != "DW_TAG_subrange_type":
                continue
            if "DW_AT_count" in child.values:
                found.append(self.number(child, "DW_AT_count"))
            elif "DW_AT_upper_bound" in child.values:
                found.append((self.number(child, "DW_AT_upper_bound") + 1) % (1 << 32))  # -1, in any width, is none
            else:
                found.append(None)
        return found

    def members(self, entry: Entry, start: int, depth: int) -> tuple[Member, ...]:
        """The members of a structure or union that starts at bit `start`."""
        if depth > _DEEPEST:
            raise bad(self.where, "structures lie in each other too deeply")
        return tuple(self.member(child, start, depth) for child in entry.children if child.tag == "DW_TAG_member")

    def member(self, entry: Entry, start: int, depth: int) -> Member:
        self.step()
        kind_entry = self.target(entry)
        bare = self.bare(kind_entry)
        name = text(entry) if "DW_AT_name" in entry.values else ""
        width = self.number(entry, "DW_AT_bit_size") if "DW_AT_bit_size" in entry.values else None
        at = start + self.offset(entry, kind_entry, width)
        self.bounded(at // 8)
        declaration = self.spell(kind_entry, name)
        if width is not None:
            self.bounded(width)
            return Member(name=name, declaration=f"{declaration}:{width}", start=at, bits=width,
                          unit=8 * self.size(kind_entry))
        kind, held = self.held(bare)
        tagless = held is not None and "DW_AT_name" not in held.values
        aligned = (each.values.get("DW_AT_alignment", 0) for each in (entry, kind_entry, held) if each is not None)
        return Member(
            name=name, declaration=declaration, start=at, bits=8 * self.size(kind_entry),
            align=max((value for value in aligned if isinstance(value, int)), default=0),
            nameless=tagless and self.direct(kind_entry) is held, kind=kind,
            members=self.members(held, at, depth + 1) if held is not None else ())

    def held(self, bare: Entry | None) -> tuple[Kind, Entry | None]:
        """The structure or union that a member of this type holds by value, itself or as an array's elements."""
        if bare is not None and bare.tag == "DW_TAG_array_type":
            element = self.bare(self.target(bare))
            for _ in range(_DEEPEST):
                if element is None or element.tag != "DW_TAG_array_type":
                    break
                element = self.bare(self.target(element))
            return ("array", element) if element is not None and element.tag in _TAGGED else ("", None)
        return (_TAGGED[bare.tag], bare) if bare is not None and bare.tag in _TAGGED else ("", None)

    def direct(self, entry: Entry | None) -> Entry | None:
        """What the declaration itself names: the type, or an array's elements."""
        return self.target(entry) if entry is not None and entry.tag == "DW_TAG_array_type" else entry

    def offset(self, entry: Entry, kind: Entry | None, width: int | None) -> int:
        """Bits from the start of the structure; nothing is written for members of a union.

        DWARF 4 and 5 count a bit-field in `DW_AT_data_bit_offset`. Before, `DW_AT_bit_offset` counts from the most
        significant bit of a unit of `DW_AT_byte_size` bytes (or of the type's) that lies at the member's location.
        """
        if "DW_AT_data_bit_offset" in entry.values:
            return self.number(entry, "DW_AT_data_bit_offset")
        at = 8 * self.number(entry, "DW_AT_data_member_location", 0)
        if width is None or "DW_AT_bit_offset" not in entry.values:
            return at
        down = self.number(entry, "DW_AT_bit_offset")
        if down >> 63 == 1:  # negative, where a bit-field of a packed structure crosses its unit, in an unsigned form
            down -= 1 << 64
        if not self.little:
            return at + down
        unit = entry.values.get("DW_AT_byte_size")
        return at + 8 * (unit if isinstance(unit, int) else self.size(kind)) - down - width

    def spell(self, entry: Entry | None, inner: str, depth: int = 0) -> str:
        """A type and what it declares, in C: `char cb[48]`, `void (*destructor)(struct sk_buff *)`."""
        self.step()
        if depth > _DEEPEST:
            raise bad(self.where, "types refer to each other too deeply")
        gap = " " if inner and not inner.startswith("[") else ""
        if entry is None:
            return f"void{gap}{inner}"
        if entry.tag == "DW_TAG_pointer_type":
            return self._pointer(entry, inner, depth)
        if entry.tag == "DW_TAG_array_type":
            lengths = "".join(f"[{'' if length is None else length}]" for length in self.lengths(entry))
            return self.spell(self.target(entry), inner + lengths, depth + 1)
        if entry.tag == "DW_TAG_subroutine_type":
            return self.spell(self.target(entry), f"{inner}({self._parameters(entry, depth)})", depth + 1)
        if entry.tag in _ALIASES and entry.tag != "DW_TAG_typedef":
            to = self.target(entry)
            if to is not None and to.tag == "DW_TAG_pointer_type":
                return self.spell(to, f"{_ALIASES[entry.tag]}{inner}".rstrip(), depth + 1)
            return _ALIASES[entry.tag] + self.spell(to, inner, depth + 1)
        if entry.tag in _WORDS:
            return f"{_WORDS[entry.tag]} {text(entry) or _NAMELESS}{gap}{inner}"
        return f"{text(entry)}{gap}{inner}"

    def _pointer(self, entry: Entry, inner: str, depth: int) -> str:
        to = self.target(entry)
        star = f"*{inner}"
        if to is not None and to.tag in ("DW_TAG_array_type", "DW_TAG_subroutine_type"):
            star = f"({star})"
        return self.spell(to, star, depth + 1)

    def _parameters(self, entry: Entry, depth: int) -> str:
        said = []
        for child in entry.children:
            if child.tag == "DW_TAG_unspecified_parameters":
                said.append("...")
            elif child.tag == "DW_TAG_formal_parameter":
                said.append(self.spell(self.target(child), "", depth + 1))
        return ", ".join(said) or "void"
