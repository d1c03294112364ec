# SPDX-License-Identifier: GPL-2.0-only
"""What a machine must be again after a test, whatever the test asked: nothing held, nothing left, nothing tainted.

Counts of slab caches are exact once `shrink` has taken back the slabs of all CPUs (`harness.lab.slabs`). What RCU, a
timer or a work queue still frees is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.deadline import Deadline
from harness.errors import KernelError
from harness.lab import slabs
from harness.lab.bench import Host, Lab

CACHES = (slabs.EXTENSIONS, "secpath_cache", "xfrm_state")
"""Extensions, what secpaths were kept in before the series, IPsec states: those a kernel has. Not `net_namespace`: the
last namespaces that went are freed when the next ones go (net_complete_free() in net/core/net_namespace.c)."""
ROUTES = "xfrm_dst_cache"
"""What sockets keep of IPsec: a route, which refers to its state."""
_BACK = 20.0
"""Seconds that all has to be back; only what does not come back costs them."""
_PAUSE = 0.1
_LOOK = f"""
cd /sys/kernel/slab
counts=
for cache in {' '.join((*CACHES, ROUTES))}; do
    [ ! -e $cache/shrink ] || {{ echo 1 > $cache/shrink; counts="$counts $cache/objects"; }}
done
cd /sys/class/net
echo *
echo /run/netns/*
echo $counts
cd /sys/kernel/slab
exec cat /proc/sys/kernel/tainted kmalloc-256/objects $counts
"""
"""One program, for it is run after every test on every machine. kmalloc-256, which every architecture has, is there to
fail where the kernel does not count (CONFIG_SLUB_DEBUG); `objects` is the number that /proc/slabinfo has (mm/slub.c).
arm64 has no kmalloc-64: its caches begin at ARCH_KMALLOC_MINALIGN."""
_TAINTED_BY_MODULE = 1 << 12 | 1 << 13
"""A module from elsewhere, or without a signature: the suites load some (Documentation/admin-guide/tainted-kernels)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of a machine.

    Attributes:
        interfaces: of its first network namespace.
        namespaces: those that have a name, by ip-netns(8).
        taint: bits of /proc/sys/kernel/tainted but for those of modules.
        used: objects by cache.
        routes: objects in `ROUTES`.
    """

    interfaces: tuple[str, ...]
    namespaces: str
    taint: int
    used: tuple[tuple[str, int], ...]
    routes: int = 0


def parse(text: str) -> Seen:
    """What `_LOOK` prints."""
    interfaces, namespaces, files, taint, _, *numbers = text.rstrip("\n").split("\n")
    counts = {file.partition("/")[0]: int(number.split()[0])
              for file, number in zip(files.split(), numbers, strict=True)}
    return Seen(interfaces=tuple(sorted(interfaces.split())), namespaces=namespaces,
                taint=int(taint) & ~_TAINTED_BY_MODULE,
                used=tuple((name, counts[name]) for name in sorted(CACHES) if name in counts),
                routes=counts.get(ROUTES, 0))


def differences(before: Seen, after: Seen, stranded: int = 0) -> Iterator[str]:
    """What is not as it was, in words; fewer objects of a cache are no difference.

    Args:
        stranded: sockets that the kernel may have failed to free. Each keeps its route and with that a state: states
            that no route accounts for are a difference all the same.
    """
    if before.interfaces != after.interfaces:
        yield f"interfaces: expected {' '.join(before.interfaces)}, saw {' '.join(after.interfaces)}"
    if before.namespaces != after.namespaces:
        yield f"network namespaces: expected {before.namespaces}, saw {after.namespaces}"
    if before.taint != after.taint:
        yield f"taint of the kernel: expected {before.taint:#x}, saw {after.taint:#x}"
    known = dict(before.used)
    excused = {"xfrm_state": min(stranded, after.routes - before.routes)}
    for name, count in after.used:
        if count > known.get(name, 0) + max(excused.get(name, 0), 0):
            yield f"objects in {name}: expected {known.get(name, 0)}, saw {count}"


def look(lab: Lab) -> dict[str, Seen]:
    """What each machine of a lab is like now."""
    return {name: _look(host) for name, host in lab.hosts.items()}


def _look(host: Host, after: float = 0) -> Seen:
    wait = f"usleep {int(after * 1e6)}\n" if after else ""
    return parse(host.run("sh", "-ec", wait + _LOOK).stdout)


def compare(lab: Lab, before: dict[str, Seen], stranded: int = 0) -> dict[str, Seen]:
    """Hold the machines of a lab against what they were; what they are like now.

    Args:
        stranded: see `differences`.

    Raises:
        KernelError: one did not become what it was.
    """
    deadline, found = Deadline.after(_BACK), {}
    for name, host in lab.hosts.items():
        seen = _look(host)
        while (wrong := tuple(differences(before[name], seen, stranded))) and not deadline.expired:
            seen = _look(host, _PAUSE)
        if wrong:
            raise KernelError(f"after the test: {wrong[0]}", where=f"machine {name}", detail=wrong[1:])
        found[name] = seen
    return found
