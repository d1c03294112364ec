# SPDX-License-Identifier: GPL-2.0-only
"""Objects in the guest's slab caches: what traffic left behind.

/proc/slabinfo counts the free objects of a CPU's slab as used. `shrink` of a cache takes the slabs of all CPUs back
first (`__kmem_cache_shrink()` in mm/slub.c), so that what is counted then is what is held, but for one slab of what
the reading itself needs (`kernfs_open_node` goes through kfree_rcu(), which collects for seconds). So a leak is told
by numbers: thousands of packets, and a margin of a tenth of them. What RCU or a timer still frees is waited for by
its condition, that the counts come back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.lab.bench import Host

EXTENSIONS = "skbuff_ext_cache"
"""The cache of skb extensions; only a kernel that has some of them has it."""
WATCHED = re.compile(r"^(skbuff_\w+|secpath\w*|nf_bridge\w*|xfrm_dst_cache|kmalloc-(\d+|[12]k))$")
"""What a packet may be made of. Before the series bridge data and secpaths are in a kmalloc or a cache of their own."""

_BACK = 20.0
"""Seconds that counts have to come back; a leak costs them, nothing else does."""
_PAUSE = 0.5
_SHRINK = """
for cache in $1; do echo 1 > /sys/kernel/slab/$cache/shrink; done
cat /proc/slabinfo
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """A cache that holds more than before."""

    cache: str
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.cache} {self.before} -> {self.after}"


def parse(slabinfo: str) -> dict[str, int]:
    """Used objects by cache, from /proc/slabinfo (version 2).

    Raises:
        InfraError: it is not that.
    """
    head, *rows = slabinfo.splitlines() or [""]
    if not head.startswith("slabinfo - version: 2"):
        raise InfraError("not a /proc/slabinfo of version 2", detail=(head,))
    return {row.split()[0]: int(row.split()[1]) for row in rows if row.strip() and not row.startswith("#")}


def growth(before: Mapping[str, int], after: Mapping[str, int], allowed: int) -> tuple[Growth, ...]:
    """Caches that hold more than `allowed` objects more than before."""
    return tuple(Growth(cache=name, before=before.get(name, 0), after=count) for name, count in sorted(after.items())
                 if count - before.get(name, 0) > allowed)


def count(host: Host, caches: re.Pattern[str] = WATCHED, *, after: float = 0) -> dict[str, int]:
    """The used objects of the guest's caches by name, the slabs of its CPUs taken back first.

    Args:
        after: seconds that the guest is left alone before.

    Raises:
        InfraError: it has none of them.
    """
    names = [name for name in parse(host.read("/proc/slabinfo")) if caches.match(name)]
    if not names:
        raise InfraError("/proc/slabinfo lists none of the caches", where=f"machine {host.name}",
                         hint="the kernel needs CONFIG_SLUB_DEBUG, and slab_nomerge on its command line")
    counts = parse(host.shell(f"usleep {int(after * 1e6)}\n" + _SHRINK.replace("$1", " ".join(names))).stdout)
    return {name: counts[name] for name in names}


def left_behind(host: Host, before: Mapping[str, int], *, packets: int,
                caches: re.Pattern[str] = WATCHED) -> tuple[Growth, ...]:
    """Caches that still hold at least an object for every tenth of `packets` more than `before`.

    Ends as soon as there is none; a leak shows by staying. Between readings the guest has time to free what they took.
    """
    deadline = Deadline.after(_BACK)
    grown = growth(before, count(host, caches), packets // 10)
    while grown and not deadline.expired:
        grown = growth(before, count(host, caches, after=_PAUSE), packets // 10)
    return grown
