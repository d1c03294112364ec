# SPDX-License-Identifier: GPL-2.0-only
"""Slab counts, the kernel's facts, and the words of ip-xfrm(8)."""

from __future__ import annotations

import pytest

from harness.errors import InfraError
from harness.lab import ipsec, slabs
from harness.lab.ipsec import End
from harness.lab.kernel import Kernel, parse_config

SLABINFO = """slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit>
skbuff_ext_cache       3     32    128   32    1 : tunables    0    0    0 : slabdata      1      1      0
kmalloc-96           335    336     96   42    1 : tunables    0    0    0 : slabdata      8      8      0
"""
KERNEL = Kernel(tree="patched", variant="xfrm", config=parse_config(
    "# CONFIG_BRIDGE_NETFILTER is not set\nCONFIG_XFRM=y\nCONFIG_INET_ESP=m\nCONFIG_NR_CPUS=8\n"))


def test_slabinfo_gives_used_objects() -> None:
    assert slabs.parse(SLABINFO) == {"skbuff_ext_cache": 3, "kmalloc-96": 335}
    for text in ("", "cat: can't open '/proc/slabinfo'"):
        with pytest.raises(InfraError, match="not a /proc/slabinfo"):
            slabs.parse(text)


def test_growth_is_told_from_slack() -> None:
    before = {"skbuff_ext_cache": 3, "kmalloc-96": 300}
    after = {"skbuff_ext_cache": 2003, "kmalloc-96": 342, "skbuff_head_cache": 500}
    assert [str(row) for row in slabs.growth(before, after, allowed=200)] == [
        "skbuff_ext_cache 3 -> 2003", "skbuff_head_cache 0 -> 500"]
    assert not slabs.growth(after, before, allowed=0)


def test_watched_are_the_caches_that_packets_are_made_of() -> None:
    names = ("skbuff_head_cache", "skbuff_ext_cache", "kmalloc-1k", "kmalloc-8k", "secpath_cache", "dma-kmalloc-64",
             "dentry", "xfrm_state")
    assert [name for name in names if slabs.WATCHED.match(name)] == [
        "skbuff_head_cache", "skbuff_ext_cache", "kmalloc-1k", "secpath_cache"]


def test_kernel_has_what_is_built_in_or_a_module() -> None:
    assert KERNEL.has("XFRM")
    assert KERNEL.has("INET_ESP")
    assert KERNEL.lacks(("XFRM", "BRIDGE_NETFILTER", "NR_CPUS")) == ("BRIDGE_NETFILTER", "NR_CPUS")
    assert KERNEL.lacks(("BRIDGE_NETFILTER|XFRM", "XFRM|NR_CPUS", "A|B")) == ("A|B",)


def test_keys_have_their_length_and_differ_by_direction() -> None:
    words = ipsec.key(ipsec.AES_CBC, 0x7701).split()
    assert [len(word) for word in words if word.startswith("0x")] == [2 + 64, 2 + 32]
    assert ipsec.key(ipsec.AES_CBC, 0x7701) == ipsec.key(ipsec.AES_CBC, 0x7701) != ipsec.key(ipsec.AES_CBC, 0x7702)


def test_states_are_the_same_at_both_ends_and_policies_mirror() -> None:
    one = End(outer="10.0.0.1", inner="10.1.0.1", dev="lan0", spi=0x7701)
    other = End(outer="10.0.0.2", inner="10.1.0.2", dev="lan0", spi=0x7702)
    here, there = ipsec.states(ipsec.AES_GCM, "tunnel", one, other), ipsec.states(ipsec.AES_GCM, "tunnel", other, one)
    assert set(here) == set(there)
    out, back = ipsec.policies("tunnel", one, other)
    assert out.split(" tmpl ") == ["xfrm policy add src 10.1.0.1 dst 10.1.0.2 dir out",
                                   "src 10.0.0.1 dst 10.0.0.2 proto esp reqid 77 mode tunnel"]
    assert back.split(" tmpl ") == ["xfrm policy add src 10.1.0.2 dst 10.1.0.1 dir in",
                                    "src 10.0.0.2 dst 10.0.0.1 proto esp reqid 77 mode tunnel"]
