# SPDX-License-Identifier: GPL-2.0-only
"""plan: what is wrong in a plan is named with file, line and remedy."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import arch
from harness.claims import Check, LayoutStatement
from harness.errors import UsageError
from harness.kernel.gitrange import GitRange
from harness.lab.topology import Bridge, Network, Station, Topology
from harness.plan.plan import read_plan
from harness.plan.topologies import NicUse
from harness.sandbox.limits import Limits
from harness.vm.nic import Link, Nic

ROOT = Path(__file__).parents[2]

GOOD = """\
source: {debian: linux-source-6.1, version: 6.1-1, sha256: abc}
series: series/*.patch
variants:
  none: [qemu-x86_64, net]
claims:
  C1: {says: no change, check: objdiff, variants: [none], expect: identical}
"""


def plan(tmp_path: Path, text: str) -> Path:
    (tmp_path / "plan.yaml").write_text(text)
    return tmp_path


def test_the_customers_plan_reads() -> None:
    read = read_plan(ROOT / "patches" / "skb-extensions")
    assert [row.name for row in read.variants] == ["none", "xfrm", "br_netfilter", "mptcp", "both"]
    assert read.claims[0].check is Check.OBJDIFF
    assert all(path.is_file() for row in read.variants for path in row.fragments)


def test_a_suite_may_be_kept_to_some_variants(tmp_path: Path) -> None:
    text = GOOD.replace("claims:\n", """\
  more: [qemu-x86_64, net, nics]
suites:
  - tests/guest/test_link.py
  - {file: tests/guest/test_bridge.py, variants: [more]}
claims:
""")
    link, bridge = read_plan(plan(tmp_path, text)).suites
    assert [link.runs_on(name) for name in ("none", "more")] == [True, True]
    assert [bridge.runs_on(name) for name in ("none", "more")] == [False, True]


def test_a_variant_that_only_the_series_makes_possible(tmp_path: Path) -> None:
    text = GOOD.replace("claims:\n", """\
  new: {fragments: [net], only: patched}
claims:
  C5: {says: it works, check: tests, variants: [new], tests: [tests/guest/test_link.py::b]}
""") + "suites: [tests/guest/test_link.py]\n"
    read = read_plan(plan(tmp_path, text))
    assert [row.sides for row in read.variants] == [("base", "patched"), ("patched",)]
    assert read.compared(()) == read.compared(("none",)) == ("none",)
    with pytest.raises(UsageError, match="variant new has no base to compare with"):
        read.compared(("none", "new"))
    with pytest.raises(UsageError, match="no variant 'old'"):
        read.compared(("old",))
    with pytest.raises(UsageError, match="no variant of this plan has a base"):
        replace(read, variants=read.variants[1:]).compared(())


def test_the_plan_with_the_original_commits_reads() -> None:
    read = read_plan(ROOT / "patches" / "skb-extensions" / "upstream.yaml")
    assert read.name == "skb-extensions-upstream"
    assert (read.source.kind, read.source.version) == ("git", "4a54877ee767^1")
    assert read.series == (GitRange(git=read.source.name, base="4a54877ee767^1", tip="4a54877ee767"),)


def test_git_sources_and_series(tmp_path: Path) -> None:
    text = GOOD.replace("{debian: linux-source-6.1, version: 6.1-1, sha256: abc}", "{git: linux, ref: v6.1}").replace(
        "series: series/*.patch", """base: [fix.mbox, {git: "https://example.org/linux.git", range: v1..v2~3}]
series: {git: ../other, base: v6.1, tip: topic}
fuzz: true""")
    read = read_plan(plan(tmp_path, text))
    assert (read.source.kind, read.source.name, read.source.version) == ("git", str(tmp_path / "linux"), "v6.1")
    assert read.base == ("fix.mbox", GitRange(git="https://example.org/linux.git", base="v1", tip="v2~3"))
    assert read.series == (GitRange(git=str(tmp_path.parent / "other"), base="v6.1", tip="topic"),)
    assert read.fuzz
    assert not read_plan(plan(tmp_path, GOOD)).fuzz


def test_a_small_plan_has_defaults(tmp_path: Path) -> None:
    read = read_plan(plan(tmp_path, GOOD))
    assert (read.arch, read.cc, read.base, read.suites, read.control) == ("x86_64", "gcc", (), (), "")


@pytest.mark.parametrize(("old", "new", "line", "message"), [
    ("series: series", "serie: series", 2, "unknown key `serie` in `plan`[\\s\\S]*did you mean `series`"),
    ("expect: identical", "expects: identical", 6, "unknown key `expects`[\\s\\S]*did you mean `expect`"),
    ("expect: identical", "expect: smaller", 6, "`expect` must be one of identical, changed"),
    ("check: objdiff, variants: [none], expect: identical", "check: size, variants: [none], of: size", 6,
     "`of` must be one of text, rodata, data, bss, total, not the value 'size'"),
    ("check: objdiff", "check: objdump", 6,
     "`check` must be one of objdiff, size, layout, tests, builds, not the value"),
    ("variants: [none]", "variants: [nono]", 6, "must be one of none, not the value 'nono'"),
    ("variants: [none]", "variants: []", 6, "`variants` is an empty list"),
    ("variants: [none]", "variants: [none], arch: []", 6, "`arch` is an empty list"),
    ("check: objdiff, variants: [none], expect: identical", "check: tests, variants: [none], tests: []", 6,
     "`tests` is an empty list"),
    ("check: objdiff, variants: [none], expect: identical}",
     "check: tests, variants: [none], tests: [tests/guest/test_lint.py::a]}\nsuites: [tests/guest/test_link.py]", 6,
     "tests/guest/test_lint.py is no suite of this plan[\\s\\S]*did you mean tests/guest/test_link.py"),
    ("claims:\n  C1: {says: no change, check: objdiff, variants: [none], expect: identical}",
     ("  new: {fragments: [net], only: patched}\nclaims:\n  C1: {says: x, check: tests, variants: [new], tests: "
      "[tests/guest/test_link.py]}\nsuites: [{file: tests/guest/test_link.py, variants: [none]}]"), 7,
     "the plan does not run tests/guest/test_link.py on new[\\s\\S]*it does on none"),
    ("[qemu-x86_64, net]", "[qemu-x86_64, nett]", 4, "no fragment 'nett'[\\s\\S]*did you mean net"),
    ("[qemu-x86_64, net]", "{a: b}", 4, "unknown key `a` in `none`"),
    ("[qemu-x86_64, net]", "{only: patched}", 4, "`none` lacks `fragments`"),
    ("[qemu-x86_64, net]", "{fragments: [net], only: base}", 4, "`only` must be one of patched, not the value 'base'"),
    ("[qemu-x86_64, net]", "{fragments: [net], only: patched}", 6,
     "claim C1 compares base with patched, but variant none has no base[\\s\\S]*`only: patched`"),
    ("claims:", "  new: {fragments: [net], only: patched}\ncontrol: new\nclaims:", 6,
     "`control` needs a base, which variant new has not"),
    ("claims:", "suites: [{file: tests/guest/test_link.py, variants: [nono]}]\nclaims:", 5,
     "`variants` must be one of none, not the value 'nono'"),
    ("claims:", "suites: [{variants: [none]}]\nclaims:", 5, "lacks `file`"),
    ("series: series/*.patch", "series: {a: b}", 2, "unknown key `a` in `series`"),
    ("series: series/*.patch", "series: {git: x}", 2, "`series` lacks `base`"),
    ("series: series/*.patch", "series: {range: a..b}", 2, "`series` lacks `git`"),
    ("series: series/*.patch", "series: {git: x, range: a...b}", 2, "`range` must be a range of commits, as `v6.1..t"),
    ("series: series/*.patch", "series: [a, {git: x, range: ..b}]", 2, "`range` must be a range of commits"),
    ("series: series/*.patch", "series: {git: x, range: a..b, tip: c}", 2, "`tip` means nothing beside `range`"),
    ("series: series/*.patch", "series: [[a]]", 2, "`series` must be text, not a list"),
    ("series: series/*.patch", "series: a\nfuzz: 2", 3, "`fuzz` must be true or false"),
    ("debian: linux-source-6.1, version: 6.1-1, sha256: abc", "git: x", 1, "`source` lacks `ref`"),
    ("debian: linux-source-6.1, version: 6.1-1, sha256: abc", "git: x, dir: y", 1, "exactly one of debian, tarball"),
    ("version: 6.1-1, ", "", 1, "`source` lacks `version`"),
    ("debian: linux-source-6.1", "dir: x", 1, "unknown key `version`"),
    ("series: series/*.patch", "series: a\nseries: b", 3, "`series` is given twice"),
    ("series: series/*.patch", "series: [a", 3, "not YAML"),
    ("expect: identical", "of: text", 6, "`of` means nothing in a claim that is checked by objdiff"),
    ("claims:", "make_vars: {O: /tmp}\nclaims:", 5, "`O` cannot be set here"),
    ("series: series/*.patch", "series: ~nobody-of-this-name/a", 2, "`series` must be a path in the home of a user"),
    ("series: series/*.patch", f"series: {'a' * 256}", 2, "`series` must be a path"),
    ("debian: linux-source-6.1, version: 6.1-1, sha256: abc", 'dir: "a\\0"', 1, "`dir` must be a path"),
    ("[qemu-x86_64, net]", f"[{'a' * 256}]", 4, "`none` must be a path"),
    ("claims:", f"suites: [{'a' * 256}]\nclaims:", 5, "`suites` must be a path"),
    ("claims:", f"limits: {{memory: {1 << 60}}}\nclaims:", 5, "`memory` must be at most 16777216"),
    ("expect: identical", "objects: [a.o], expect: identical", 6, "`objects` means nothing in a claim that expects id"),
    ("check: objdiff, variants: [none], expect: identical",
     "check: size, variants: [none], expect: equal, margin: 1", 6,
     "`margin` means nothing in a claim that expects equal"),
    ("claims:", "make_vars: {hostcflags: x}\nclaims:", 5, "'hostcflags' is no variable of make"),
    ("claims:", "cc: gcc -O3\nclaims:", 5, "`cc` must be a compiler"),
    ("claims:", "arch: vax\nclaims:", 5, "`arch` must be one of x86_64, i386, arm64, not the value 'vax'"),
    ("expect: identical", "arch: [i386, vax]", 6, "`arch` must be one of x86_64, i386, arm64, not the value 'vax'"),
    ("claims:", "make_vars: {CROSS_COMPILE: x-}\nclaims:", 5, "`CROSS_COMPILE` cannot be set here"),
    ("claims:", "lab: {memory: much}\nclaims:", 5, "`memory` must be a whole number"),
    ("claims:", "lab: {memory: 3}\nclaims:", 5, "`memory` must be at least 64, not 3"),
    ("claims:", "suites: [no/such.py]\nclaims:", 5, "no suite 'no/such.py'"),
    ("claims:", "selftests: {nono: [net:a.sh]}\nclaims:", 5, "unknown key `nono` in `selftests`"),
    ("claims:", "selftests: {none: [xfrm_policy.sh]}\nclaims:", 5, "must be a selftest, as net:xfrm_policy.sh"),
])
def test_bad_plans_name_file_line_and_remedy(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert old in GOOD
    with pytest.raises(UsageError, match=message) as caught:
        read_plan(plan(tmp_path, GOOD.replace(old, new, 1)))
    assert caught.value.where == f"{tmp_path}/plan.yaml:{line}"


def test_fragments_and_claims_follow_the_architecture(tmp_path: Path) -> None:
    folder = plan(tmp_path, GOOD.replace("qemu-x86_64", "qemu").replace("claims:", """arch: i386
claims:
  pc: {says: x, check: size, variants: [none], arch: [x86_64, i386]}
  arm: {says: x, check: size, variants: [none], arch: arm64}"""))
    for asked, said, claims in (("", "i386", ["pc", "C1"]), ("x86_64", "x86_64", ["pc", "C1"]),
                               ("arm64", "arm64", ["arm", "C1"])):
        read = read_plan(folder, asked)
        assert read.arch == said
        assert [path.name for path in read.variants[0].fragments] == [f"qemu-{said}.config", "net.config"]
        assert [claim.id for claim in read.claims] == claims
    with pytest.raises(UsageError, match="unknown architecture 'vax'"):
        read_plan(folder, "vax")


def test_the_customers_plan_reads_for_every_architecture() -> None:
    for name in arch.names():
        read = read_plan(ROOT / "patches" / "skb-extensions", name)
        assert {path.name for row in read.variants for path in row.fragments} >= {f"qemu-{name}.config"}
        assert len([claim for claim in read.claims if claim.layout and claim.layout.size_delta == -8]) == 1


LAYOUT = GOOD + """\
  C3:
    says: it gets smaller
    check: layout
    variants: [none]
    struct: sk_buff
    header: linux/skbuff.h
    size_delta: -8
    member: active_extensions
    fills_hole: true
"""


def test_a_claim_on_a_layout(tmp_path: Path) -> None:
    claim = read_plan(plan(tmp_path, LAYOUT)).claims[1]
    assert (claim.check, claim.expect) == (Check.LAYOUT, "as-stated")
    assert claim.layout == LayoutStatement(struct="sk_buff", headers=("linux/skbuff.h",), size_delta=-8,
                                           member="active_extensions", fills_hole=True)
    several = LAYOUT.replace("header: linux/skbuff.h", "header: [linux/a.h, ../net/core/dev.h]")
    read = read_plan(plan(tmp_path, several)).claims[1].layout
    assert read is not None
    assert read.headers == ("linux/a.h", "../net/core/dev.h")
    alone = LAYOUT[:LAYOUT.index("    size_delta")] + "    expect: identical\n"
    assert read_plan(plan(tmp_path, alone)).claims[1].expect == "identical"


@pytest.mark.parametrize(("old", "new", "line", "message"), [
    ("struct: sk_buff", "structs: sk_buff", 11, "unknown key `structs`[\\s\\S]*did you mean `struct`"),
    ("    struct: sk_buff\n", "", 8, "claim C3 is checked by layout but lacks `struct`"),
    ("    header: linux/skbuff.h\n", "", 8, "claim C3 is checked by layout but lacks `header`"),
    ("struct: sk_buff", "struct: struct sk_buff", 11, "`struct` must be the tag of a structure, as `sk_buff`"),
    ("struct: sk_buff", "struct: [a, b]", 11, "`struct` must be text, not a list"),
    ("header: linux/skbuff.h", "header: <linux/skbuff.h>", 12, "`header` must be a header, as `linux/skbuff.h`"),
    ("header: linux/skbuff.h", 'header: "a.h>\\nint x;//"', 12, "`header` must be a header"),
    ("header: linux/skbuff.h", "header: /etc/passwd", 12, "`header` must be a header"),
    ("header: linux/skbuff.h", "header: []", 12, "`header` is an empty list"),
    ("size_delta: -8", "size_delta: small", 13, "`size_delta` must be a whole number"),
    ("size_delta: -8", "size_delta: -8.5", 13, "`size_delta` must be a whole number"),
    ("member: active_extensions", "member: [a]", 14, "`member` must be text"),
    ("member: active_extensions", "member: a b", 14, "`member` must be a member's name"),
    ("member: active_extensions", "member: headers.len", 14, "needs a `member` of the structure itself"),
    ("    member: active_extensions\n", "", 14, "`fills_hole` but not which `member`"),
    ("fills_hole: true", "fills_hole: perhaps", 15, "`fills_hole` must be true or false"),
    ("fills_hole: true", "expect: smaller", 15, "`expect` must be one of as-stated, identical"),
    ("fills_hole: true", "margin: 3", 15, "`margin` means nothing in a claim that is checked by layout"),
    ("expect: identical}", "struct: x}", 6, "`struct` means nothing in a claim that is checked by objdiff"),
])
def test_bad_claims_on_layouts(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert old in LAYOUT
    with pytest.raises(UsageError, match=message) as caught:
        read_plan(plan(tmp_path, LAYOUT.replace(old, new, 1)))
    assert caught.value.where == f"{tmp_path}/plan.yaml:{line}"


@pytest.mark.parametrize("rest", ["", "    fills_hole: false\n", "    expect: as-stated\n"])
def test_a_claim_on_a_layout_that_states_nothing(tmp_path: Path, rest: str) -> None:
    with pytest.raises(UsageError, match="claim C3 states nothing that can be checked"):
        read_plan(plan(tmp_path, LAYOUT[:LAYOUT.index("    size_delta")] + rest))


def test_a_missing_or_empty_plan(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_plan(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="empty"):
        read_plan(plan(tmp_path, ""))
    with pytest.raises(UsageError, match="nested too deeply"):
        read_plan(plan(tmp_path, "[" * 3000))
    (tmp_path / "plan.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="UTF-8"):
        read_plan(tmp_path)


@given(st.text(max_size=60))
def test_no_text_makes_anything_but_a_usage_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("plan")
    (folder / "plan.yaml").write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(UsageError):
        read_plan(folder)


def test_two_suites_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test_same.py").write_text("def test_a(): assert True\n")
    text = GOOD.replace("claims:", "suites: [one/test_same.py, two/test_same.py]\nclaims:")
    with pytest.raises(UsageError, match="two suites are called test_same"):
        read_plan(plan(tmp_path, text))


def test_the_kernels_own_tests(tmp_path: Path) -> None:
    assert read_plan(plan(tmp_path, GOOD)).selftests == ()
    read = read_plan(plan(tmp_path, f"{GOOD}selftests: {{none: [net:xfrm_policy.sh, 'netfilter:*']}}\n"))
    assert read.selftests == (("none", ("net:xfrm_policy.sh", "netfilter:*")),)


def test_limits_of_a_step(tmp_path: Path) -> None:
    assert read_plan(plan(tmp_path, GOOD)).limits == Limits()
    assert read_plan(plan(tmp_path, f"{GOOD}limits: {{seconds: 7, memory: 9}}\n")).limits == Limits(seconds=7, memory=9)


@pytest.mark.parametrize(("text", "said"), [
    ("{second: 7}", "did you mean `seconds`"), ("{file: 0}", "at least 1"), ("{files: x}", "a whole number"),
])
def test_limits_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_plan(plan(tmp_path, f"{GOOD}limits: {text}\n"))


DIAMOND = """topologies:
  diamond:
    links:
      far: {loss: 2.5%, delay: 20ms, mtu: 9000}
    machines:
      a: {kernel: base, memory: 512, cpus: 2, nics: {lan0: near}}
      r:
        forward: true
        nics:
          lan0: {link: near, model: vmxnet3, properties: [x-old-msi-offsets=off]}
          lan1: {link: far, hotplug: true}
          spare: {model: rtl8139}
        bridges: {br0: [spare]}
      b: {nics: {lan0: far}}
    networks:
      40: [a.lan0, r.lan0]
      41: [b.lan0, r.lan1]
"""


def test_a_topology(tmp_path: Path) -> None:
    (found,) = read_plan(plan(tmp_path, GOOD + DIAMOND)).topologies
    assert found == Topology(
        name="diamond", links=(Link(name="far", loss=0.025, delay=0.02, mtu=9000),),
        machines=(
            Station(name="a", kernel="base", memory=512, cpus=2, nics=(Nic(name="lan0", link="near", model=""),)),
            Station(name="r", forward=True, bridges=(Bridge(name="br0", ports=("spare",)),), nics=(
                Nic(name="lan0", link="near", model="vmxnet3", properties=("x-old-msi-offsets=off",)),
                Nic(name="lan1", link="far", model="", hotplug=True), Nic(name="spare", model="rtl8139"))),
            Station(name="b", nics=(Nic(name="lan0", link="far", model=""),))),
        networks=(Network(number=40, members=(("a", "lan0"), ("r", "lan0"))),
                  Network(number=41, members=(("b", "lan0"), ("r", "lan1")))))


@pytest.mark.parametrize(("old", "new", "line", "words"), [
    ("diamond:", "pair:", 9, "'pair' is ready-made"),
    ("loss: 2.5%", "loss: 2.5", 10, "a share of the frames, as `2.5%`"),
    ("loss: 2.5%", "loss: 250%", 10, "at most 100%"),
    ("delay: 20ms", "delay: 1s", 10, "milliseconds"),
    ("mtu: 9000", "mtu: 70000", 10, "at most 65535"),
    ("far: {", "fra: {", 9, "link 'fra' has 0 ends"),
    ("kernel: base", "kernel: mine", 12, "one of base, patched"),
    ("vmxnet3", "vmxnet4", 16, "`model` must be one of virtio-net-pci, e1000"),
    ("[x-old-msi-offsets=off]", "['mq=on,netdev=x']", 16, "a property of a QEMU device"),
    ("[spare]", "[spear]", 9, "no interface 'spear'"),
    ("a: {kernel", "A: {kernel", 12, "not a name for a machine: 'A'"),
    ("lan0: near}}", "eth0: near}}", 9, "'eth0' is taken"),
    ("40:", "400:", 9, "400 is no number for a network"),
    ("40:", "x:", 22, "not a number for a network: 'x'"),
    ("a.lan0", "a:lan0", 22, "MACHINE.INTERFACE"),
    ("lan0: far", "lan0: fra", 9, "link 'far' has 1 end"),
])
def test_a_topology_that_cannot_be(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert old in DIAMOND
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        read_plan(plan(tmp_path, GOOD + DIAMOND.replace(old, new)))
    assert caught.value.where == f"{tmp_path / 'plan.yaml'}:{line}"


def with_suite(tmp_path: Path, text: str) -> Path:
    (tmp_path / "test_one.py").write_text("def test_x(): pass\n")
    (tmp_path / "test_two.py").write_text("def test_x(): pass\n")
    return plan(tmp_path, GOOD + "suites: [test_one.py, test_two.py]\n" + text)


def test_suites_run_on_e1000_where_the_plan_says_nothing(tmp_path: Path) -> None:
    assert read_plan(with_suite(tmp_path, "")).nics == (NicUse(model="e1000"),)


def test_a_list_of_nic_models_is_for_all_suites_in_all_variants(tmp_path: Path) -> None:
    (one, other) = read_plan(with_suite(tmp_path, "nics: [rtl8139, vmxnet3]\n")).nics
    assert (one.model, other.model) == ("rtl8139", "vmxnet3")
    assert one.covers("test_one.py", "none")


def test_a_nic_model_may_be_for_some_suites_in_some_variants(tmp_path: Path) -> None:
    text = "nics:\n  e1000:\n  rtl8139: {suites: [test_one.py], variants: [none]}\n"
    everything, some = read_plan(with_suite(tmp_path, text)).nics
    assert everything == NicUse(model="e1000")
    assert [some.covers(suite, variant) for suite, variant in (
        ("test_one.py", "none"), ("test_two.py", "none"), ("test_one.py", "other"))] == [True, False, False]


@pytest.mark.parametrize(("text", "words"), [
    ("nics: [e1000, e1000]\n", "NIC models, each once"),
    ("nics: []\n", "`nics` is an empty list"),
    ("nics: {e1000: {variants: []}}\n", "`variants` is an empty list"),
    ("nics: {}\n", "NIC models"),
    ("nics: [ne3000]\n", "one of virtio-net-pci, e1000"),
    ("nics: {e1001: }\n", "did you mean `e1000"),
    ("nics: {e1000: {suites: [test_three.py]}}\n", "one of test_one.py, test_two.py"),
    ("nics: {e1000: {variants: [some]}}\n", "one of none"),
])
def test_nic_models_that_cannot_be(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_plan(with_suite(tmp_path, text))
    assert words in str(caught.value)
    assert f"{tmp_path / 'plan.yaml'}:8" in str(caught.value.where)
