# SPDX-License-Identifier: GPL-2.0-only
"""Layouts read from debug information of every version, shown, and compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from compare_kit import Compile, compile_into
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.compare import dwarf_types, layout_text
from harness.compare.dwarf import Entry
from harness.compare.dwarf_types import Declared, read_layout
from harness.compare.layout import Layout, compare_layouts, entries, find, holes, place
from harness.errors import InfraError

SOURCE = (Path(__file__).parent / "layouts.c").read_text(encoding="utf-8")
VERSIONS = ("-gdwarf-2", "-gdwarf-3", "-gdwarf-4", "-gdwarf-5")
DIALECTS = tuple((version, strict) for version in VERSIONS for strict in ("-gstrict-dwarf", "-gno-strict-dwarf"))


def layout(data: bytes, name: str) -> Layout:
    found = read_layout(data, name, where="x.o")
    assert isinstance(found, Layout)
    return found


def flat(data: bytes, name: str) -> list[str]:
    """Place, bits and path of every member."""
    return [f"{place(entry.member.start)} {entry.member.bits} {entry.path}"
            for entry in entries(layout(data, name).members)]


EXPECTED = {
    "holes": (32, ["0 8 a", "4 32 b", "8 8 c", "16 64 d", "24 8 e"]),
    "bits": (24, ["0 3 a", "0:3 5 b", "1:4 12 c", "3 8 d", "8 40 e", "16 30 f", "19:6 1 g"]),
    "cross": (8, ["0 30 a", "4 4 b", "6 16 c"]),
    "packed": (20, ["0 8 a", "1 32 b", "5 3 c", "6 64 d", "14 31 e", "17:7 9 f", "19 8 g"]),
    "outer": (40, [
        "0 32 <union of x>", "0 32 <struct of x>", "0 16 x", "2 16 y", "0 32 whole",
        "4 64 <struct of flag>", "4 1 flag", "4:1 7 rest", "8 32 value",
        "16 128 link", "16 64 link.next", "24 64 link.prev", "32 32 refs", "32 32 refs.counter", "36 8 tail"]),
    "grouped": (16, [
        "0 8 before", "4 64 <union of p>", "4 64 <struct of p>", "4 3 p", "6 16 q", "8 32 r",
        "4 64 group", "4 3 group.p", "6 16 group.q", "8 32 group.r", "12 8 after"]),
    "arrays": (64, [
        "0 128 name", "16 192 grid", "40 96 pairs", "40 8 pairs[0].k", "42 16 pairs[0].v", "52 0 zero", "56 64 u",
        "56 8 u.byte", "56 64 u.word", "64 0 flex"]),
    "flexible": (8, ["0 16 count", "8 0 entries", "8 64 entries[0].next", "16 64 entries[0].prev"]),
    "aligned": (128, ["0 8 a", "64 32 hot", "68 8 b"]),
    "wide": (32, ["0 8 a"]),
    "holds_empty": (8, ["0 8 a", "1 0 nothing", "4 32 b"]),
}

DECLARATIONS = (
    "void *nothing", "const char *text", "void (*call)(struct pointers *, int, ...)", "int (*table[4])(void)",
    "char (*rows)[8]", "volatile u32 *reg", "enum color color", "_Bool yes", "struct later *unknown",
    "const struct list *const end")


@pytest.fixture(scope="module", params=DIALECTS, ids=lambda row: " ".join(row))
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """`layouts.c` with debug information of one version."""
    return compile_into(tmp_path_factory.mktemp("dwarf"), SOURCE, "-g", *request.param).read_bytes()


@pytest.fixture(scope="module")
def latest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_into(tmp_path_factory.mktemp("dwarf"), SOURCE, "-g").read_bytes()


@pytest.mark.parametrize("name", EXPECTED)
def test_every_member_is_where_the_abi_puts_it(built: bytes, name: str) -> None:
    size, members = EXPECTED[name]
    assert (layout(built, name).size, flat(built, name)) == (size, members)


def test_declarations_are_those_of_c(built: bytes) -> None:
    assert tuple(member.declaration for member in layout(built, "pointers").members) == DECLARATIONS
    assert layout(built, "bits").members[0].declaration == "u32 a:3"
    assert [member.declaration for member in layout(built, "arrays").members][:3] == \
        ["char name[16]", "u32 grid[2][3]", "struct {...} pairs[3]"]


def test_a_structure_that_is_declared_only_or_unknown(built: bytes) -> None:
    assert read_layout(built, "only_declared", where="x") == Declared(known=True)
    assert read_layout(built, "nowhere", where="x") == Declared(known=False)


def test_members_are_found_as_c_reaches_them(latest: bytes) -> None:
    outer, grouped = layout(latest, "outer"), layout(latest, "grouped")
    for path, start in (("y", 16), ("rest", 33), ("link.prev", 192), ("tail", 288)):
        member = find(outer, path)
        assert member is not None
        assert member.start == start
    assert find(outer, "prev") is None
    assert find(grouped, "group.q") == find(grouped, "q")


def test_holes_and_padding(latest: bytes) -> None:
    def said(name: str) -> list[tuple[str, int, bool]]:
        found = layout(latest, name)
        return [(place(hole.start), hole.bits, hole.padding) for hole in holes(found.members, 0, 8 * found.size)]

    assert said("holes") == [("1", 24, False), ("9", 56, False), ("25", 56, True)]
    assert said("bits") == [("1", 4, False), ("4", 32, False), ("13", 24, False), ("19:7", 33, True)]
    assert said("packed") == [("5:3", 5, False)]
    assert said("aligned") == [("1", 504, False), ("69", 472, True)]
    assert said("arrays") == [("52", 32, False)]


def test_reduced_debug_information_is_no_layout(tmp_path: Path, cc: Compile) -> None:
    """What CONFIG_DEBUG_INFO_REDUCED does to a structure of a header, and no debug information at all."""
    (tmp_path / "other.h").write_text("struct held { int a; };\n")
    text = "#include <other.h>\nstruct held *probe;\n"
    reduced = cc(text, "-g", "-femit-struct-debug-baseonly", f"-I{tmp_path}").read_bytes()
    assert read_layout(reduced, "held", where="x") == Declared(known=True)
    again = cc(text, "-g", "-femit-struct-debug-baseonly", f"-I{tmp_path}", "-femit-struct-debug-detailed=any")
    assert layout(again.read_bytes(), "held").size == 4
    with pytest.raises(InfraError, match="there is none"):
        read_layout(cc(text, f"-I{tmp_path}").read_bytes(), "held", where="x")


def test_compressed_debug_information(cc: Compile) -> None:
    assert flat(cc(SOURCE, "-g", "-gz=zlib").read_bytes(), "bits") == EXPECTED["bits"][1]


def test_equal_layouts_are_identical_and_any_difference_is_seen(cc: Compile, latest: bytes) -> None:
    for name in EXPECTED:
        same = compare_layouts(layout(latest, name), layout(cc(SOURCE, "-g", "-gdwarf-4").read_bytes(), name))
        assert same.identical
        assert not same.differing
    for old, new, name, paths in (
        ("u8 c; u64 d; u8 e;", "u8 c; u64 d; u16 e;", "holes", ["e"]),
        ("u32 a:3; u32 b:5;", "u32 a:4; u32 b:4;", "bits", ["a", "b"]),
        ("struct list { struct list *next, *prev; }", "struct list { struct list *prev, *next; }", "outer",
         ["link.prev", "link.next", "link.prev"]),
        ("u16 v; } pairs[3]", "short v; } pairs[3]", "arrays", ["pairs[0].v"]),
        ("volatile u32 *reg", "u32 *reg", "pointers", ["reg"]),
    ):
        assert old in SOURCE
        changed = layout(cc(SOURCE.replace(old, new, 1), "-g").read_bytes(), name)
        delta = compare_layouts(layout(latest, name), changed)
        assert not delta.identical, name
        assert [pair.path for pair in delta.differing][:len(paths)] == paths


def test_the_alignment_of_a_structure_counts_also_where_its_size_hides_it(cc: Compile) -> None:
    text = "struct s {{ char a[64]; }} {}; struct s *p;"
    plain, aligned, more = (layout(cc(text.format(words), "-g").read_bytes(), "s") for words in (
        "", "__attribute__((aligned(32)))", "__attribute__((aligned(64)))"))
    for one, other in ((plain, aligned), (aligned, more), (aligned, plain)):
        assert not compare_layouts(one, other).identical
    assert layout_text.table(compare_layouts(plain, aligned))[-1].endswith("padding 0 bytes, aligned to 32")


def test_the_table_shows_both_sides_within_80_columns(cc: Compile) -> None:
    old = "struct s { char a; long gone; char b; long c; char buffer[40]; struct { int x; }; }; struct s *p;"
    new = "struct s { char a; char b; char added; long c; char buffer[48]; struct { int x; }; }; struct s *p;"
    delta = compare_layouts(*(layout(cc(text, "-g").read_bytes(), "s") for text in (old, new)))
    shown = layout_text.table(delta)
    assert all(len(line) <= 80 and line.isascii() and line.isprintable() for line in shown)
    assert shown[0] == "struct s: 80 -> 72 (-8)"
    for line in (
        "        0       0      1  char a",
        "-       8              8  long int gone",
        "       16       1      1  char b",
        "+               2      1  char added",
        "~      32      16     48  char buffer[48]  (was char buffer[40], 40)",
        "       64      64         -- cache line 1 --",
        "       72      64      4    int x",
        "base     80 bytes, 2 cache lines, 2 holes, padding 4 bytes",
    ):
        assert line in shown, "\n".join(shown)


def test_json_holds_the_whole_of_both_sides(latest: bytes) -> None:
    value = layout_text.delta_json(compare_layouts(layout(latest, "outer"), layout(latest, "outer")))
    assert json.loads(json.dumps(value)) == value
    assert value["schema"] == "harness.layout/1"
    assert value["identical"] is True
    assert value["base"] == value["patched"]
    base = value["base"]
    assert isinstance(base, dict)
    assert base["members"][0]["members"][0]["members"][1] == {
        "name": "y", "declaration": "u16 y", "offset": 2, "bit": 0, "bits": 16}
    assert base["holes"] == [{"offset": 5, "bit": 0, "bits": 24, "padding": False},
                             {"offset": 12, "bit": 0, "bits": 32, "padding": False},
                             {"offset": 37, "bit": 0, "bits": 24, "padding": True}]


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"not an object at all", b"\x7fELF" + bytes(200)])
def test_what_is_no_object(data: bytes) -> None:
    with pytest.raises(InfraError, match="cannot read the debug information"):
        read_layout(data, "holes", where="x.o")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_debug_information_is_an_error_or_a_layout(latest: bytes, data: st.DataObject) -> None:
    """Never another exception, never a hang."""
    damaged = bytearray(latest)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    try:
        found = read_layout(bytes(damaged[:cut]), "outer", where="x.o")
    except InfraError:
        return
    if isinstance(found, Layout):
        delta = compare_layouts(found, layout(latest, "outer"))
        assert layout_text.table(delta)
        assert all(line.isascii() and line.isprintable() for line in layout_text.table(delta))


def entry(tag: str, *children: Entry, **values: object) -> Entry:
    return Entry(tag=f"DW_TAG_{tag}", values={f"DW_AT_{name}": value for name, value in values.items()},
                 children=list(children))


def hostile(kind: str) -> tuple[dict[int, Entry], list[Entry]]:
    """Debug information that no compiler writes."""
    member = entry("member", name=b"m", type=1, data_member_location=0)
    one = entry("base_type", name=b"int", byte_size=4)
    whole = entry("structure_type", member, name=b"s", byte_size=4)
    if kind == "a type that is no reference":
        member.values["DW_AT_type"] = [1]
    elif kind == "a typedef of itself":
        one = entry("typedef", name=b"t", type=1)
    elif kind == "a structure that holds itself":
        one = whole
    elif kind == "a function type that takes itself, twice":
        one = entry("subroutine_type", entry("formal_parameter", type=1), entry("formal_parameter", type=1))
    elif kind == "a place beyond all":
        member.values["DW_AT_data_member_location"] = 1 << 60
    elif kind == "a negative size":
        whole.values["DW_AT_byte_size"] = -4
    elif kind == "a negative width":
        member.values["DW_AT_bit_size"] = -1
    elif kind == "an endless array":
        one = entry("array_type", entry("subrange_type", count=1 << 62), type=2)
    elif kind == "a size that is an expression":
        one.values["DW_AT_byte_size"] = [0x97]
    return {1: one, 2: entry("base_type", name=b"int", byte_size=4)}, [entry("compile_unit", whole)]


@pytest.mark.parametrize("kind", [
    "a type that is no reference", "a typedef of itself", "a structure that holds itself",
    "a function type that takes itself, twice", "a place beyond all", "a negative size", "a negative width",
    "an endless array", "a size that is an expression"])
def test_what_no_compiler_writes_is_an_error(monkeypatch: pytest.MonkeyPatch, latest: bytes, kind: str) -> None:
    monkeypatch.setattr(dwarf_types, "read_entries", lambda *_: hostile("nothing"))
    assert layout(latest, "s").members[0].declaration == "int m"
    monkeypatch.setattr(dwarf_types, "read_entries", lambda *_: hostile(kind))
    with pytest.raises(InfraError, match="cannot read the debug information"):
        read_layout(latest, "s", where="x.o")
