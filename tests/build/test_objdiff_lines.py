# SPDX-License-Identifier: GPL-2.0-only
"""Changes to the real kernel's source, and the line a reviewer gets for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.compare.objdiff import compare
from harness.compare.opened import Opened
from harness.deadline import Deadline
from harness.jobs import builds
from harness.jobs.inputs import Inputs
from harness.kernel import recompile
from harness.kernel.kbuild import Build
from harness.kernel.recompile import Job
from harness.kernel.tree import prepare
from harness.report.progress import Progress
from harness.store.store import Store

CASES = {
    # name: (object, old text, new text, the line)
    "pointer": ("net/core/skbuff.o", "clone->destructor = sock_efree;", "clone->destructor = sock_rfree;",
                "skb_clone_sk+0x40: movq $sock_efree -> $sock_rfree"),
    "export": ("net/core/skbuff.o", "EXPORT_SYMBOL(skb_clone_sk)", "EXPORT_SYMBOL_GPL(skb_clone_sk)",
               "skb_clone_sk: EXPORT_SYMBOL -> EXPORT_SYMBOL_GPL"),
    "initcall": ("net/core/dev.o", "subsys_initcall(net_dev_init)", "fs_initcall(net_dev_init)",
                 "net_dev_init: initcall level 4 (subsys) -> 5 (fs)"),
    "parameter": ("net/ipv4/tcp_cubic.o", "module_param(beta, int, 0644)", "module_param(beta, int, 0444)",
                  "beta: module parameter permissions 0644, param_ops_int -> permissions 0444, param_ops_int"),
    "init": ("net/core/skbuff.o", "void __init skb_init(void)", "void skb_init(void)",
             "skb_init: section .init.text -> .text"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_the_real_source(patched_both: Build, inputs: Inputs, store: Store, tmp_path: Path,
                                     name: str) -> None:
    path, old, new, wanted = CASES[name]
    tree = prepare(inputs.trees["patched"], store, deadline=Deadline.after(300))
    text = (tree / path).with_suffix(".c").read_text(encoding="utf-8")
    assert text.count(old) == 1
    # in the source's own place, so that __FILE__ stays
    (tmp_path / "edited.c").write_text(text.replace(old, new), encoding="utf-8")
    made = recompile.recompile(patched_both.out, tree, [Job(object=path)], deadline=Deadline.after(300),
                               overrides={path.replace(".o", ".c"): tmp_path / "edited.c"})[0]
    assert isinstance(made, bytes), made
    for side, data in (("base", (patched_both.out / path).read_bytes()), ("patched", made)):
        (tmp_path / side / path).parent.mkdir(parents=True)
        (tmp_path / side / path).write_bytes(data)
    opened = Opened(compare(tmp_path / "base", tmp_path / "patched"))
    (delta,) = opened.comparison.differing
    lines = [line.text for line in opened.lines(delta) if not line.moved]
    assert [line for line in lines if line == wanted or line.startswith(f"{wanted};")], lines


def test_every_changed_function_of_the_series_has_words(patched_both: Build, inputs: Inputs, store: Store,
                                                        progress: Progress) -> None:
    """On the whole series no function falls back to bytes, and nothing unprintable comes out."""
    config = builds.configure(inputs, "base", "both", store=store, progress=progress)
    base = builds.build(inputs, "base", config, store=store, progress=progress)
    opened = Opened(compare(base.out, patched_both.out))
    lines = [line for delta in opened.comparison.differing for line in opened.lines(delta)]
    code = [line for line in lines if line.code and not line.moved]
    assert len(code) > 500
    assert [line.text for line in code if line.says.startswith("bytes ")] == []
    assert all(line.text.isascii() and line.text.isprintable() for line in lines)
    assert any(line.text == "skb_ext_add: new export: EXPORT_SYMBOL" for line in lines)
