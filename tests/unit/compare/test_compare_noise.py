# SPDX-License-Identifier: GPL-2.0-only
"""Each rule for noise: what it explains, and next to it what it must not explain."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from compare_kit import Compile, Differ

from harness.compare import boot_header, noise
from harness.compare.elf import parse
from harness.compare.objdiff import compare
from harness.compare.opened import Opened, to_json
from harness.compare.pair import diff as diff_pair
from harness.report.objdiff_text import counts

BUG = """
    .text
f:  nop
1:  ud2
    .pushsection __bug_table,"aw"
2:  .long 1b - .
    .long {file} - .
    .word {line}
    .word {flags}
    .org 2b + 12
    .popsection
3:  ud2
    .pushsection __bug_table,"aw"
4:  .long 3b - .
    .long .Lfile - .
    .word 77
    .word 0
    .org 4b + 12
    .popsection
    .section .rodata.str1.1,"aMS",@progbits,1
.Lfile:  .asciz "net/core/skbuff.c"
.Lother: .asciz "net/core/other.c"
"""
BUG32 = BUG.replace(" - .\n", "\n")
BUG_QUIET = """
f:  nop
1:  ud2
    .pushsection __bug_table,"aw"
2:  .long 1b - .
    .word {flags}
    .org 2b + 8
    .popsection
"""
BUG_FORMAT = """
f:  nop
1:  ud2
    .pushsection __bug_table,"aw"
2:  .long 1b - .
    .long .Lformat - .
    .word {flags}
    .org 2b + 12
    .popsection
    .section .rodata.str1.1,"aMS",@progbits,1
.Lformat: .asciz "{format}"
"""
BUG64 = BUG.replace(".long", ".quad").replace(" - .\n", "\n").replace("+ 12", "+ 24")


def bug(template: str = BUG, *, file: str = ".Lfile", line: int = 10, flags: int = 1) -> str:
    return template.format(file=file, line=line, flags=flags)


@pytest.mark.parametrize(("template", "options"), [(BUG, ()), (BUG32, ("-m32",)), (BUG64, ())])
def test_a_bug_table_line_is_explained_and_nothing_else_of_it(
        differ: Differ, template: str, options: tuple[str, ...]) -> None:
    moved = differ(bug(template), bug(template, line=13), *options, asm=True)
    assert (moved.status, moved.rules) == ("explained", ("bug-table-line",))
    for other in (bug(template, flags=2049), bug(template, file=".Lother"),
                  bug(template, line=13, flags=3), bug(template, line=13, file=".Lother")):
        delta = differ(bug(template), other, *options, asm=True)
        assert delta.status == "changed"
        assert "__bug_table" in {c.section for c in delta.changes}


def test_a_bug_table_without_lines_has_none_to_explain(differ: Differ) -> None:
    assert differ(BUG_QUIET.format(flags=1), BUG_QUIET.format(flags=2), asm=True).status == "changed"


@pytest.mark.parametrize("text", ["", "a message of %s.c", "Oops, no driver"])
def test_flags_are_no_line_where_the_second_pointer_goes_to_a_format(differ: Differ, text: str) -> None:
    """x86_64 since 6.19 without CONFIG_DEBUG_BUGVERBOSE: flags lie where the line would, 0x903 warns only once."""
    delta = differ(BUG_FORMAT.format(flags=0x901, format=text), BUG_FORMAT.format(flags=0x903, format=text), asm=True)
    assert (delta.status, delta.rules) == ("changed", ())
    assert delta.changes[0].patched == "1 entry"  # not "with other line numbers"


def test_a_bug_table_of_unknown_layout_is_not_explained(differ: Differ) -> None:
    unrelocated = '.section __bug_table,"aw"\n.long 1, 2\n.word {}\n.word 0\n'
    assert differ(unrelocated.format(3), unrelocated.format(4), asm=True).status == "changed"


def test_a_line_and_a_real_change_together_are_a_change(differ: Differ) -> None:
    delta = differ(bug(), bug(line=11).replace("f:  nop", "f:  hlt"), asm=True)
    assert delta.status == "changed"
    assert {c.section for c in delta.changes} == {".text"}
    assert delta.rules == ("bug-table-line",)


def test_one_record_more_is_a_change(differ: Differ) -> None:
    more = '    .pushsection __bug_table,"aw"\n    .long f - .\n    .long .Lfile - .\n    .word 1, 0\n    .popsection\n'
    assert differ(bug(), bug() + more, asm=True).status == "changed"


ADDRESSABLE = """
int f(void) {{ return 1; }}
int g(void) {{ return 2; }}
static void *__attribute__((used, section("{section}"))) {name} = (void *)&{target};
"""


@pytest.mark.parametrize(("rule", "name", "section"), [
    ("addressable-line", "__addressable_f{}", ".discard.addressable"),
    ("unique-id-number", "__UNIQUE_ID___addressable_f{}", ".discard.addressable"),
    ("unique-id-number", "__UNIQUE_ID_name{}", ".modinfo"),
    ("initcall-number", "__initcall__kmod_af_inet__{0}_2{0}_f6", ".initcall6.init"),
    ("initcall-number", "__initcall__kmod_serial__{0}_2{0}_fcon", ".con_initcall.init"),
])
def test_a_number_in_a_name_is_explained(differ: Differ, rule: str, name: str, section: str) -> None:
    def source(number: int, target: str = "f") -> str:
        return ADDRESSABLE.format(section=section, name=name.format(number), target=target)

    delta = differ(source(99), source(1000))
    assert (delta.status, delta.rules) == ("explained", (rule,))
    assert differ(source(99), source(1000, "g")).status == "changed"
    assert differ(source(99), source(1000).replace("static", "")).status == "changed"
    assert differ(source(99), source(1000), strict=True).status == "changed"


@pytest.mark.parametrize(("base", "patched", "section"), [
    ("__addressable_f1", "__addressable_g1", ".discard.addressable"),
    ("__addressable_f1", "__addressable_f2", ".data"),
    ("__UNIQUE_ID_a1", "__UNIQUE_ID_b1", ".modinfo"),
    ("__initcall__kmod_a__1_2_f6", "__initcall__kmod_b__1_2_f6", ".initcall6.init"),
    ("__initcall__kmod_a__1_2_f6", "__initcall__kmod_a__1_2_g6", ".initcall6.init"),
    ("__initcall__kmod_a__1_2_f6", "__initcall__kmod_a__1_3_f6", ".data"),
    ("v1", "v2", ".data"),
])
def test_another_name_is_a_change(differ: Differ, base: str, patched: str, section: str) -> None:
    delta = differ(*(ADDRESSABLE.format(section=section, name=name, target="f") for name in (base, patched)))
    assert delta.status == "changed"


def test_two_numbered_names_at_swapped_places_with_other_contents_are_a_change(differ: Differ) -> None:
    source = '.section .modinfo,"a"\n{}'
    one = '.type __UNIQUE_ID_a{0},@object\n__UNIQUE_ID_a{0}: .asciz "{1}"\n.size __UNIQUE_ID_a{0},4\n'
    base = source.format(one.format(1, "x=1") + one.format(2, "y=2"))
    assert differ(base, source.format(one.format(2, "x=1") + one.format(1, "y=2")), asm=True).status == "explained"
    assert differ(base, source.format(one.format(1, "y=2") + one.format(2, "x=1")), asm=True).status == "changed"


def test_numbers_of_static_locals_and_labels_are_explained(differ: Differ) -> None:
    local = ".bss\n.type seen.{0},@object\n.size seen.{0},4\nseen.{0}: .skip 4\n"
    assert differ(local.format(0), local.format(7), asm=True).rules == ("static-local-number",)
    assert differ(local.format(0), local.format(7).replace("skip 4", "skip 8"), asm=True).status == "changed"
    label = '.section .rodata.str1.1,"aMS",@progbits,1\n.LC{0}: .asciz "x"\n.text\nlea .LC{0}(%rip),%rax\n'
    assert differ(label.format(1), label.format(2), asm=True).rules == ("local-label-number",)


FUNCTION = ".type {0},@function\n{0}: ret\n.size {0},1\n.globl g\ng: call {0}\n"


@pytest.mark.parametrize(("base", "patched"), [
    ("f.part.0", "f.part.1"), ("f.constprop.0", "f.constprop.12"), ("f.cold.3", "f.cold.4"),
    ("f.part.0.isra.0", "f.part.1.isra.2"), ("f.isra.0.cold", "f.isra.1.cold"),
])
def test_the_number_of_a_clone_is_explained_and_nothing_else_of_its_name(
        differ: Differ, base: str, patched: str) -> None:
    def status(name: str, **changed: str) -> str:
        source = FUNCTION.format(name)
        for old, new in changed.items():
            source = source.replace(old, new)
        return differ(FUNCTION.format(base), source, asm=True).status

    assert differ(FUNCTION.format(base), FUNCTION.format(patched), asm=True).rules == ("clone-number",)
    assert status(patched, ret="nop") == "changed"
    assert status(f"x{patched}") == "changed"
    assert status(patched.replace(".part", ".isra").replace(".constprop", ".part").replace(".cold.", ".isra.")) == \
        ("explained" if base.startswith("f.isra") else "changed")
    assert status(patched, globl=f"globl {patched}\n.globl") == "changed"


def test_a_name_with_a_number_that_is_no_clones_is_compared(differ: Differ) -> None:
    for base, patched in (("f.0", "f.1"), ("f.local.0", "f.local.1"), ("f.part0", "f.part1")):
        assert differ(FUNCTION.format(base), FUNCTION.format(patched), asm=True).status == "changed"


@pytest.mark.parametrize("flags", [("-g",), ("-g3",), ("-g", "-m32", "-fno-pie")])
def test_debug_information_is_explained(cc: Compile, flags: tuple[str, ...]) -> None:
    source = "#define TWO 2\nint f(int x) { return x * TWO; }\n"
    objects = [cc(source), cc(source, *flags), cc("\n\n" + source, *flags)]
    objects[0] = cc(source, *(flag for flag in flags if not flag.startswith("-g")))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        (delta,) = compare(objects[a], objects[b]).deltas
        assert (delta.status, delta.rules) == ("explained", ("debug-sections",))


def test_an_allocated_section_with_a_debug_name_is_compared(differ: Differ) -> None:
    source = '.section .debug_x,"a"\n.long {}\n'
    assert differ(source.format(1), source.format(2), asm=True).status == "changed"


BTF = '.section {0},"{1}"\n.long {2}\n'


@pytest.mark.parametrize(("name", "flags", "status"), [
    (".BTF", "", "explained"), (".BTF.ext", "", "explained"), (".BTF", "a", "changed"), (".BTF_ids", "", "changed"),
])
def test_type_information_is_explained_where_it_is_not_loaded(
        differ: Differ, name: str, flags: str, status: str) -> None:
    delta = differ(BTF.format(name, flags, 1), BTF.format(name, flags, 2), asm=True)
    assert (delta.status, delta.rules) == (status, ("btf-sections",) if status == "explained" else ())


DDEBUG = """
    .section __dyndbg,"aw"
    .balign 8
    .type __UNIQUE_ID_ddebug{id}.1,@object
__UNIQUE_ID_ddebug{id}.1:
    {word} .Lmod, .Lfn, .Lfile, {format}
    .long {line} + ({class_id} << 18) + ({flags} << 24)
    {key}
    .balign 8
    .size __UNIQUE_ID_ddebug{id}.1, . - __UNIQUE_ID_ddebug{id}.1
"""
DDEBUG_TEXT = """
    .section .rodata.str1.1,"aMS",@progbits,1
.Lmod: .asciz "tcp"
.Lfn: .asciz "tcp_f"
.Lfile: .asciz "net/ipv4/tcp.c"
.Lfmt: .asciz "got %d"
.Lother: .asciz "had %d"
"""


def ddebug(word: str, tail: str, /, *lines: int, **changed: object) -> str:
    """A table with one record for each line; what is changed is changed in the last."""
    plain = {"format": ".Lfmt", "class_id": 63, "flags": 0, "word": word, "key": tail}
    rows = [{**plain, **(changed if line == lines[-1] else {}), "line": line, "id": number}
            for number, line in enumerate(lines)]
    return "".join(DDEBUG.format(**row) for row in rows) + DDEBUG_TEXT


@pytest.mark.parametrize(("word", "key", "options"), [
    (".quad", "", ()), (".quad", ".balign 8\n.quad 0, 1", ()),
    (".long", "", ("-m32",)), (".long", ".long 0, 1", ("-m32",)),
])
def test_a_line_of_dynamic_debug_is_explained_and_nothing_else_of_it(
        differ: Differ, word: str, key: str, options: tuple[str, ...]) -> None:
    base = ddebug(word, key, 9, 77)
    for lines in ((9, 80), (12, 80), (9, 0x3FFFF)):
        delta = differ(base, ddebug(word, key, *lines), *options, asm=True)
        assert (delta.status, delta.rules) == ("explained", ("dyndbg-line",))
    for changed in ({"flags": 1}, {"class_id": 62}, {"format": ".Lother"},
                    *([{"key": key.replace("0,", "1,")}] if key else [])):
        for line in (77, 80):
            assert differ(base, ddebug(word, key, 9, line, **changed), *options, asm=True).status == "changed"
    assert differ(base, ddebug(word, key, 9, 77, 80), *options, asm=True).status == "changed"
    assert differ(base, ddebug(word, key, 9, 80), *options, asm=True, strict=True).status == "changed"


def test_a_table_of_dynamic_debug_of_unknown_layout_is_not_explained(differ: Differ) -> None:
    for more in (".long 0, 0", ".quad 0, 0, 0", ".quad .Lfn, 0"):
        assert differ(ddebug(".quad", more, 9), ddebug(".quad", more, 10), asm=True).status == "changed"
    assert differ(ddebug(".quad", "", 9).replace("__dyndbg", "__other"),
                  ddebug(".quad", "", 10).replace("__dyndbg", "__other"), asm=True).status == "changed"


NOTE = '.section .note.gnu.build-id,"a",@note\n.long 4, {size}, {kind}\n.asciz "GNU"\n.long {desc}, 7\n'


def test_a_build_id_is_explained_and_another_note_is_not(differ: Differ) -> None:
    good = {"size": 8, "kind": 3}
    delta = differ(NOTE.format(desc=1, **good), NOTE.format(desc=2, **good), asm=True)
    assert (delta.status, delta.rules) == ("explained", ("build-id-note",))
    for size, kind in ((4, 3), (8, 1)):
        pair = [NOTE.format(desc=desc, size=size, kind=kind) for desc in (1, 2)]
        assert differ(*pair, asm=True).status == "changed"
        assert differ(pair[0].replace("build-id", "other"), pair[1].replace("build-id", "other"),
                      asm=True).status == "changed"


VERSION = """
struct uts {{ char name[6][65]; void *user_ns; int inum; }};
extern int init_user_ns;
struct uts init_uts_ns = {{ .name = {{ "{sysname}", "(none)", "{release}", "{version}", "x86_64", "(none)" }},
                            .user_ns = &init_user_ns, .inum = {inum} }};
const char linux_banner[] = "Linux version {release} ({user}@host) (gcc 12) {version}\\n";
"""


def version(**changed: object) -> str:
    return VERSION.format(**{"sysname": "Linux", "release": "6.1.1", "version": "#1 SMP 2020", "user": "me", "inum": 1}
                          | changed)


@pytest.mark.parametrize(("changed", "status"), [
    ({"version": "#2 SMP 2021"}, "explained"), ({"release": "6.1.2"}, "explained"),
    ({"user": "us"}, "changed"), ({"inum": 2}, "changed"), ({"version": "#1 SMP 2020 longer"}, "changed"),
    ({"version": "#2 SMP 2021", "inum": 2}, "changed"),
])
@pytest.mark.parametrize("path", ["init/version.o", "init/version-timestamp.o", "net/version.o"])
def test_version_strings_are_explained_where_they_are_proved(
        cc: Compile, path: str, changed: dict[str, object], status: str) -> None:
    a, b = (parse(cc(source).read_bytes(), path) for source in (version(), version(**changed)))
    result = diff_pair(path, a, b, strict=False)
    assert bool(result.changes) == (status == "changed" or path == "net/version.o")
    assert bool(result.sites.get("version-string")) or result.changes


def test_something_else_in_a_version_object_is_a_change(cc: Compile) -> None:
    pair = [parse(cc(version(sysname="Minix", version=v)).read_bytes(), "x") for v in ("#1", "#2")]
    assert diff_pair("init/version.o", *pair, strict=False).changes


FORM = """
    .text
    .long 0
{label}f: nop
    .section .data
    {reloc}
    .quad 0
"""


@pytest.mark.parametrize(("target", "status"), [(".text+4", "explained"), (".text+5", "changed")])
def test_section_form_and_symbol_form_of_one_target_are_equal(differ: Differ, target: str, status: str) -> None:
    a = FORM.format(label="", reloc=".reloc ., R_X86_64_64, f")
    b = FORM.format(label="", reloc=f".reloc ., R_X86_64_64, {target}")
    delta = differ(a, b, asm=True)
    assert delta.status == status
    assert status == "changed" or delta.rules in (("relocation-form",), ("elf-encoding",))


@pytest.mark.parametrize("kind", ["R_X86_64_GOTPCREL", "R_X86_64_REX_GOTPCRELX", "R_X86_64_GOT32"])
def test_through_the_got_a_symbol_is_not_its_section_and_an_offset(differ: Differ, kind: str) -> None:
    source = ".data\n.long 0\nv: .long 1\nw: .long 2\n.text\n.reloc ., {}, {}\n.quad 0\n"
    assert differ(source.format(kind, "v"), source.format(kind, ".data+4"), asm=True).status == "changed"
    assert differ(source.format(kind, "v"), source.format(kind, "w"), asm=True).status == "changed"
    assert differ(source.format(kind, "v"), source.format(kind, "v-4"), asm=True).status == "changed"
    assert differ(source.format("R_X86_64_64", "v"), source.format("R_X86_64_64", ".data+4"),
                  asm=True).status == "explained"


def test_the_order_of_symbols_is_encoding(differ: Differ) -> None:
    delta = differ(".globl a,b\na: nop\nb: nop\n", ".globl b,a\na: nop\nb: nop\n", asm=True)
    assert (delta.status, delta.rules) in (("explained", ("elf-encoding",)), ("identical", ()))
    delta = differ("a: nop\nb: nop\n", ".local b\na: nop\nb: nop\n", asm=True)
    assert delta.status in ("explained", "identical")


def test_bytes_after_the_end_are_a_change(cc: Compile, tmp_path: Path) -> None:
    base = cc("int v = 1;")
    patched = tmp_path / "signed.o"
    patched.write_bytes(base.read_bytes() + b"~Module signature appended~\n")
    (delta,) = compare(base, patched).deltas
    assert (delta.status, delta.changes[0].kind) == ("changed", "file")


def test_every_rule_is_registered_once_and_documented() -> None:
    names = [rule.name for rule in noise.RULES]
    assert len(names) == len(set(names))
    assert {rule.rule for rule in noise.NAME_RULES} | set(noise.BYTE_RULES) <= set(names)
    text = (Path(__file__).parents[3] / "docs" / "objdiff.md").read_text()
    chapter = text.partition("\n## Rules\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### `([\w-]+)`$", chapter, re.M) == names
    table = "".join(re.findall(r"^(\| `.+?) \|", chapter, re.M))
    assert set(re.findall(r"`([\w-]+)`", table)) == set(noise.SEEN)


def test_what_a_running_kernel_shows_nevertheless_is_said(cc: Compile) -> None:
    sides = [cc(FUNCTION.format(name), asm=True) for name in ("f.constprop.0", "f.constprop.1")]
    opened = Opened(compare(*sides))
    assert counts(opened.comparison)[1:] == [
        "  explained by clone-number: 1 in 1 objects",
        "  a running kernel shows it all the same: clone-number in /proc/kallsyms, and in traces and stack dumps"]
    assert to_json(opened)["rules"] == [{"rule": "clone-number", "objects": 1, "sites": 1,
                                         "seen": "/proc/kallsyms, and in traces and stack dumps"}]
    debug = compare(cc("int v;"), cc("int v;", "-g"))
    assert [line.partition(":")[0] for line in counts(debug)[1:]] == ["  explained by debug-sections"]


BOOT_HEADER = """
.section ".header", "a"
.byte 0xff, 0xff
.globl hdr
hdr: .skip 0x1f4 - 0x1f1
.long {syssize}
.skip 0x248 - 0x1f8
.long {payload_offset}, {payload_length}
.skip 0x260 - 0x250
.long {init_size}
.long 0
.long {kernel_info_offset}
.long {after}
"""
UNPACKER = """
.globl startup_32, _ehead, input_data, kernel_info, _edata, _end, z_input_len, z_output_len
startup_32 = 0; _ehead = 0x2a3; input_data = 0x2a3; kernel_info = 0x1000 + {size}; _edata = 0x1800 + 16 * {size}
_end = 0x20000; z_input_len = {size}; z_output_len = 0x3000
"""


def boot(size: int, *, init: int = 0x44000, **other: int) -> dict[str, int]:
    """What the boot header holds of a compressed kernel of `size` bytes, as by hand from header.S; and what differs."""
    return {"syssize": 0x180 + size, "payload_offset": 0x2a3, "payload_length": size, "init_size": init,
            "kernel_info_offset": 0x1000 + size, "after": 0, **other}


@pytest.mark.parametrize(("fields", "sizes", "status"), [
    ((boot(5), boot(7)), (5, 7), "explained"),
    ((boot(0x2a00, init=0x41000), boot(0x1900, init=0x42000)), (0x2a00, 0x1900), "explained"),
    ((boot(0x1900, init=0x42000), boot(0x4900, init=0x41000)), (0x1900, 0x4900), "explained"),  # larger than unpacked
    ((boot(5), boot(7)), (5, 8), "changed"),
    ((boot(5), boot(7)), (5, None), "changed"),
    ((boot(5), boot(7, after=1)), (5, 7), "changed"),
    ((boot(5), boot(5, after=1)), (5, 5), "changed"),
    *(((boot(5), boot(7, **{field: 1})), (5, 7), "changed")
      for field in ("syssize", "payload_offset", "payload_length", "init_size", "kernel_info_offset")),
])
def test_the_boot_header_must_be_that_of_the_compressed_kernel(
        cc: Compile, tmp_path: Path, fields: tuple[dict[str, int], ...], sizes: tuple[int | None, ...],
        status: str) -> None:
    for side, values, size in zip("ab", fields, sizes, strict=True):
        boot_folder = tmp_path / side / "arch" / "x86" / "boot"
        (boot_folder / "compressed").mkdir(parents=True)
        cc(BOOT_HEADER.format(**values), asm=True).rename(boot_folder / "header.o")
        if size is not None:
            (boot_folder / "compressed" / "vmlinux.bin.gz").write_bytes(bytes(size))
            unpacker = cc(UNPACKER.format(size=size), asm=True)
            unpacker.rename(boot_folder / "compressed" / "vmlinux")
    (delta,) = compare(tmp_path / "a", tmp_path / "b").deltas
    assert delta.status == status
    (strict,) = compare(tmp_path / "a", tmp_path / "b", strict=True).deltas
    assert strict.status == "changed"


def test_a_long_head_needs_room_before_what_is_unpacked() -> None:
    symbols = {"startup_32": 0, "_ehead": 0x30001, "_end": 0x40000, "z_input_len": 5, "z_output_len": 0x3000}
    assert boot_header.fields(symbols, 5) == {0x24c: 5, 0x260: 0x40000 + 0x31000}


@pytest.mark.parametrize("unpacker", [None, b"no ELF file"])
def test_of_a_compressed_kernel_without_its_unpacker_the_size_is_known(
        cc: Compile, tmp_path: Path, unpacker: bytes | None) -> None:
    for side, values in (("a", boot(5)), ("b", {**boot(5), "payload_length": 7}), ("c", boot(7))):
        boot_folder = tmp_path / side / "arch" / "x86" / "boot"
        (boot_folder / "compressed").mkdir(parents=True)
        cc(BOOT_HEADER.format(**values), asm=True).rename(boot_folder / "header.o")
        (boot_folder / "compressed" / "vmlinux.bin.gz").write_bytes(bytes(values["payload_length"]))
        if unpacker is not None:
            (boot_folder / "compressed" / "vmlinux").write_bytes(unpacker)
    assert [compare(tmp_path / "a", tmp_path / side).deltas[0].status for side in "bc"] == ["explained", "changed"]
