# SPDX-License-Identifier: GPL-2.0-only
"""Proofs on real objects of a kernel: what is noise is proved, and no real change hides behind it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.compare import elf, sections
from harness.compare.objdiff import compare
from harness.compare.values import Comparison, ObjectDelta
from harness.deadline import Deadline
from harness.jobs import proof
from harness.jobs.again import Side
from harness.jobs.inputs import Inputs
from harness.kernel import recompile
from harness.kernel.kbuild import Build
from harness.kernel.recompile import Job
from harness.kernel.tree import prepare
from harness.store.store import Store

ADDR = "net/core/dev_addr_lists.c"
"""Two ASSERT_RTNL(), each with its line in an immediate of the code and in `__bug_table`."""

Edit = tuple[str, str, str]
"""A file, a text that stands in it once, and what stands there instead."""

Judge = Callable[..., ObjectDelta]


class Lab:
    """Makes the two sides of a comparison out of one build: each with its edits of the tree, and its object."""

    def __init__(self, build: Build, tree: Path, folder: Path) -> None:
        self.build, self.tree, self.folder, self.count = build, tree, folder, 0

    def side(self, name: str, objects: tuple[str, ...], edits: tuple[Edit, ...], flags: tuple[str, ...] = ()) -> Side:
        self.count += 1
        folder = self.folder / f"{name}-{self.count}"
        shown: dict[str, Path] = {}
        for file, old, new in edits:
            path = shown.setdefault(file, folder / f"{len(shown)}.txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            text = (path if path.exists() else self.tree / file).read_text(encoding="utf-8")
            assert text.count(old) == 1, f"{old!r} is not in {file} exactly once"
            path.write_text(text.replace(old, new), encoding="utf-8")
        made = recompile.recompile(self.build.out, self.tree, [Job(object=item, flags=flags) for item in objects],
                                   deadline=Deadline.after(600), overrides=shown)
        root = folder / "objects"
        for item, data in zip(objects, made, strict=True):
            assert isinstance(data, bytes), data.detail
            (root / item).parent.mkdir(parents=True, exist_ok=True)
            (root / item).write_bytes(data)
        return Side(out=self.build.out, tree=self.tree, shown=shown, objects=root)

    def compared(self, base: Side, patched: Side) -> Comparison:
        assert base.objects is not None
        assert patched.objects is not None
        return compare(base.objects, patched.objects)

    def proved(self, comparison: Comparison, base: Side, patched: Side) -> Comparison:
        return proof.prove(comparison, base, patched, {*base.shown, *patched.shown}, deadline=Deadline.after(600))


@pytest.fixture
def lab(patched_both: Build, inputs: Inputs, store: Store, tmp_path: Path) -> Lab:
    return Lab(patched_both, prepare(inputs.trees["patched"], store, deadline=Deadline.after(300)), tmp_path)


@pytest.fixture
def judge(lab: Lab) -> Judge:
    """The verdict on one object, of base (with edits of its own) and the patched tree; as it was without proof, too."""
    def judged(*edits: Edit, base: tuple[Edit, ...] = (), before: str = "changed", name: str = ADDR) -> ObjectDelta:
        item = name.removesuffix(".c") + ".o"
        sides = lab.side("base", (item,), base), lab.side("patched", (item,), (*base, *edits))
        plain = lab.compared(*sides)
        assert plain.deltas[0].status == before
        found = lab.proved(plain, *sides)
        assert found.objects == found.identical + found.explained + found.changed
        return found.deltas[0]

    return judged


GENERAL = "/*\n * General list handling functions\n */\n"
TOP: Edit = (ADDR, GENERAL, f"/*\n * more\n */\n\n{GENERAL}")
"""Lines of a comment: they move all that follows."""

STREAM: Edit = ("net/core/stream.c", "#include <linux/module.h>", "\n\n#include <linux/module.h>")
FLUSH = "void dev_addr_flush(struct net_device *dev)\n{\n"


def test_lines_in_code_are_proved(judge: Judge) -> None:
    delta = judge(TOP)
    assert (delta.status, delta.proof, delta.changes) == ("explained", "lines", ())
    assert delta.proof_note == "byte for byte base's object with base's line numbers"


DEBUG: Edit = ("include/linux/kconfig.h", "#ifndef __LINUX_KCONFIG_H\n", """#define CONFIG_DEBUG_ATOMIC_SLEEP 1
#define CONFIG_DYNAMIC_DEBUG 1
#define CONFIG_DYNAMIC_DEBUG_CORE 1
#ifndef __LINUX_KCONFIG_H
""")
"""More places with line numbers: `might_sleep()` in code, and `__dyndbg` records that hold them in 18 bits."""


def test_lines_of_debugging_options_are_proved(lab: Lab, judge: Judge) -> None:
    code = f'{FLUSH}\tmight_sleep();\n\tpr_debug("flush %p\\n", dev);\n'
    data = lab.side("check", ("net/core/dev_addr_lists.o",), (DEBUG, (ADDR, FLUSH, code))).object(
        "net/core/dev_addr_lists.o")
    assert all(name in data for name in (b"__dyndbg", b"__might_sleep"))
    delta = judge(TOP, base=(DEBUG, (ADDR, FLUSH, code)))
    assert (delta.status, delta.proof) == ("explained", "lines"), delta.proof_note
    real = judge(TOP, (ADDR, "flush %p", "Flush %p"), base=(DEBUG, (ADDR, FLUSH, code)))
    assert (real.status, real.proof) == ("changed", "")


def test_lines_that_went_away_are_proved(judge: Judge) -> None:
    delta = judge((ADDR, GENERAL, ""))
    assert (delta.status, delta.proof) == ("explained", "lines")


def test_a_stub_behind_an_ifdef_is_proved(judge: Judge) -> None:
    stub = "static inline void extra_put(struct sk_buff *skb) {}"
    both = f"#ifdef CONFIG_NOT_THERE\nvoid extra_put(struct sk_buff *skb);\n#else\n{stub}\n#endif\n\n"
    delta = judge(("include/linux/rtnetlink.h", "#define ASSERT_RTNL()", f"{both}#define ASSERT_RTNL()"),
                  (ADDR, FLUSH, f"{FLUSH}\textra_put(NULL);\n"))
    assert (delta.status, delta.proof) == ("explained", "lines")


def test_what_a_rule_explains_is_proved_as_well(judge: Judge) -> None:
    delta = judge(STREAM, before="explained", name="net/core/stream.c")
    assert (delta.status, delta.proof) == ("explained", "lines")
    assert delta.rules == ("bug-table-line",)


def test_one_counter_more_is_proved_but_for_names(judge: Judge) -> None:
    delta = judge(TOP, ("include/linux/rtnetlink.h", "#define ASSERT_RTNL() \\",
                        "static inline int used(void) { return __COUNTER__; }\n\n#define ASSERT_RTNL() \\"))
    assert (delta.status, delta.proof) == ("explained", "lines")
    assert "numbers in names (" in delta.proof_note


@pytest.mark.parametrize(("old", "new"), [
    ("\t\tif (diff < 0)\n\t\t\tins_point = &parent->rb_left;",
     "\t\tif (diff <= 0)\n\t\t\tins_point = &parent->rb_left;"),
    ("EXPORT_SYMBOL(dev_addr_add);", "EXPORT_SYMBOL_GPL(dev_addr_add);"),
])
def test_a_real_change_stays_one_alone_and_with_lines(judge: Judge, old: str, new: str) -> None:
    for edits in [(), (TOP,)]:
        delta = judge(*edits, (ADDR, old, new))
        assert (delta.status, delta.proof) == ("changed", "")
        assert delta.changes


@pytest.mark.parametrize("hidden", ["#if __LINE__ > {}\n\tdev->flags = 0;\n#endif\n",
                                    "\tif (__LINE__ > {})\n\t\tdev->flags = 0;\n"])
def test_code_that_depends_on_its_line_is_no_noise(lab: Lab, judge: Judge, hidden: str) -> None:
    """With base's line numbers it is base's object, yet what was built is another."""
    text = (lab.tree / ADDR).read_text(encoding="utf-8")
    line = text[:text.index(FLUSH)].count("\n") + FLUSH.count("\n") + 1
    delta = judge(TOP, base=((ADDR, FLUSH, FLUSH + hidden.format(line)),))
    assert (delta.status, delta.proof) == ("changed", "")
    assert "but as built, more than line numbers differs" in delta.proof_note


def test_a_line_as_a_constant_changed_to_no_line(judge: Judge) -> None:
    delta = judge(TOP, (ADDR, "value = __LINE__;", "value = __LINE__ + 1;"),
                  base=((ADDR, FLUSH, f"static volatile int value;\n{FLUSH}\tvalue = __LINE__;\n"),))
    assert (delta.status, delta.proof) == ("changed", "")


def test_where_directives_do_not_compile_the_verdict_stays(judge: Judge) -> None:
    """Two lines with one number make one name twice."""
    one, other = "enum { JOINED(line_, __LINE__) };\n", "enum { JOINED(line_, __LINE__) = 1 };\n"
    macros = "#define JOIN(a, b) a##b\n#define JOINED(a, b) JOIN(a, b)\n"
    delta = judge(TOP, (ADDR, f"{one}{one}", f"{one}{other}{one}"),
                  base=((ADDR, '#include "dev.h"\n', f'#include "dev.h"\n{macros}{one}{one}'),))
    assert (delta.status, delta.proof) == ("changed", "")
    assert delta.proof_note.startswith("with the line numbers of base it does not compile")


def swapped(lab: Lab, file: str, first: str, second: str) -> Edit:
    """An edit that puts the second function, with its export, where the first stood, and the first where it stood."""
    text = (lab.tree / file).read_text(encoding="utf-8")
    form = r"^[a-z][\w *]*\b{}\([^;{{]*\)\n\{{\n.*?^\}}\n(EXPORT_SYMBOL\w*\(\w+\);\n)?"
    a, b = (re.search(form.format(name), text, re.MULTILINE | re.DOTALL) for name in (first, second))
    assert a is not None
    assert b is not None
    return file, text[a.start():b.end()], b[0] + text[a.end():b.start()] + a[0]


def test_functions_in_another_order_are_proved(lab: Lab, judge: Judge) -> None:
    delta = judge(swapped(lab, ADDR, "dev_uc_flush", "dev_mc_flush"))
    assert (delta.status, delta.proof) == ("explained", "sections"), delta.proof_note
    assert delta.proof_note == "by symbol it is base's object"


def test_functions_in_another_order_with_lines_are_proved(lab: Lab, judge: Judge) -> None:
    skbuff = "net/core/skbuff.c"
    delta = judge(swapped(lab, skbuff, "skb_copy_and_csum_dev", "skb_queue_purge"), name=skbuff)
    assert (delta.status, delta.proof) == ("explained", "sections"), delta.proof_note
    assert delta.proof_note == "by symbol it is base's object with base's line numbers"


def test_a_change_in_functions_of_another_order_stays_one(lab: Lab, judge: Judge) -> None:
    file, old, new = swapped(lab, ADDR, "dev_uc_flush", "dev_mc_flush")
    assert new.count("__hw_addr_flush(&dev->uc)") == 1
    for one, other in (("__hw_addr_flush(&dev->uc)", "__hw_addr_flush(&dev->mc)"),
                       ("void dev_uc_flush", "void __cold dev_uc_flush"),
                       ("EXPORT_SYMBOL(dev_uc_flush)", "EXPORT_SYMBOL_GPL(dev_uc_flush)")):
        delta = judge((file, old, new.replace(one, other)))
        assert (delta.status, delta.proof) == ("changed", ""), one
        assert delta.changes


def test_the_order_of_initcalls_is_a_change(judge: Judge) -> None:
    calls = "static int __init {0}(void)\n{{\n\tpr_info(\"{0}\");\n\treturn 0;\n}}\n"
    order = "fs_initcall(one);\nfs_initcall(two);\n"
    code = calls.format("one") + calls.format("two") + order
    other = calls.format("one") + calls.format("two") + "fs_initcall(two);\nfs_initcall(one);\n"
    include = '#include "dev.h"\n'
    delta = judge((ADDR, code, other), base=((ADDR, include, f"{include}{code}"),))
    assert (delta.status, delta.proof) == ("changed", "")


def test_a_proof_is_void_where_the_object_is_not_what_its_command_makes(lab: Lab) -> None:
    base = lab.side("base", ("net/core/dev_addr_lists.o",), ())
    other = lab.side("patched", ("net/core/dev_addr_lists.o",), (TOP,), flags=("-fno-inline",))
    found = lab.proved(lab.compared(base, other), base, other)
    assert found.deltas[0].status == "changed"
    assert found.deltas[0].proof_note.startswith("void: compiled again unchanged")


def test_after_a_real_change_the_rest_is_not_tried(lab: Lab) -> None:
    """Explained ones are proved nevertheless; a strict comparison, or one of other objects, proves nothing."""
    objects = ("net/core/dev_addr_lists.o", "net/core/stream.o")
    edits: Mapping[str, tuple[Edit, ...]] = {"base": (), "patched": (
        TOP, STREAM)}
    base, patched = (lab.side(name, objects, edits[name]) for name in edits)
    assert base.objects is not None
    assert patched.objects is not None
    found = lab.proved(lab.compared(base, patched), base, patched)
    assert (found.explained, found.proved, found.changed, found.identical_code) == (2, 2, 0, True)
    strict = compare(base.objects, patched.objects, strict=True)
    assert lab.proved(strict, base, patched) == strict
    (patched.objects / "net/core/more.o").write_bytes((patched.objects / objects[1]).read_bytes())
    found = lab.proved(lab.compared(base, patched), base, patched)
    assert (found.explained, found.proved, found.changed, found.only_patched) == (1, 1, 1, 1)
    assert found.deltas[0].proof_note.startswith("no proof was tried: objects on one side only")


def test_no_small_change_is_equal_by_symbol(lab: Lab) -> None:
    """One token each, anywhere in the code: what differs as it is compiled for the kernel differs by symbol, too."""
    text = (lab.tree / ADDR).read_text(encoding="utf-8")
    tokens = ((" == ", " != "), ("&&", "||"), ("->uc", "->mc"), ("++;", "--;"), ("if (!", "if ("), ("true", "false"),
              ("false", "true"), ("GFP_ATOMIC", "GFP_KERNEL"), ("return err;", "return 0;"), ("-EEXIST", "-ENOENT"))
    changed = [text[:at] + new + text[at + len(old):]
               for old, new in tokens for at in (text.find(old), text.rfind(old))]
    apart = ("-ffunction-sections", "-fdata-sections")
    jobs = [Job(object="net/core/dev_addr_lists.o", text=one, flags=flags)
            for one in (text, *changed) for flags in ((), apart)]
    made = recompile.recompile(lab.build.out, lab.tree, jobs, deadline=Deadline.after(600))
    assert all(isinstance(data, bytes) for data in made)
    plain, by_symbol = made[::2], [elf.parse(data, "x.o") for data in made[1::2] if isinstance(data, bytes)]
    found = [(data != plain[0], bool(sections.difference(by_symbol[0], other)))
             for data, other in zip(plain, by_symbol, strict=True)]
    assert [differs for differs, _ in found] == [differs for _, differs in found]
    assert sum(differs for differs, _ in found) > len(tokens)
