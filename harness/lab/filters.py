# SPDX-License-Identifier: GPL-2.0-only
"""Packet filter rules in a guest for the time of a block, each with a name under which its count is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.lab import counters
from harness.lab.bench import Host
from harness.lab.counters import Count

_PROGRAMS = {4: "iptables", 6: "ip6tables"}


class Counts:
    """Reads what the rules of a block matched. Made by `iptables` and `nftables`."""

    def __init__(self, names: frozenset[str], read: Callable[[], Mapping[str, Count]]) -> None:
        self._names = names
        self._read = read

    def packets(self) -> dict[str, int]:
        """By name, how many packets each rule matched until now.

        Raises:
            InfraError: the kernel does not list one of them.
        """
        return {name: count.packets for name, count in self.read().items()}

    def reach(self, least: Mapping[str, int], seconds: float = 5) -> dict[str, int]:
        """What `packets` says once each of these rules has matched at least so many, or after `seconds`."""
        late = Deadline.after(seconds)
        while True:
            saw = self.packets()
            if late.expired or all(saw[name] >= count for name, count in least.items()):
                return saw

    def read(self) -> dict[str, Count]:
        """By name, packets and bytes; otherwise like `packets`."""
        read = self._read()
        if missing := sorted(self._names - read.keys()):
            raise InfraError(f"the kernel does not list rule {missing[0]}", detail=(" ".join(sorted(read)),))
        return {name: read[name] for name in sorted(self._names)}


@contextmanager
def iptables(host: Host, family: int, rules: Mapping[str, str], table: str = "filter") -> Iterator[Counts]:
    """Rules by name, as in `FORWARD -p icmp`, appended to a table that is empty otherwise, in their order.

    Blocks of different tables may be nested; each counts its own rules, also where another has one of the same name.
    """
    program = _PROGRAMS[family]
    lines = [f"*{table}", *(f"-A {rule} -m comment --comment {name}" for name, rule in rules.items()), "COMMIT", ""]
    host.run(f"{program}-restore", stdin="\n".join(lines).encode())
    try:
        yield Counts(frozenset(rules), lambda: counters.rules(host, family, table))
    finally:
        host.run(f"{program}-restore", stdin=f"*{table}\nCOMMIT\n".encode())


@contextmanager
def nftables(host: Host, ruleset: str) -> Iterator[Counts]:
    """A ruleset as `nft -f` reads it; the counts are those of rules with both `counter` and `comment`."""
    host.run("nft", "-f", "-", stdin=ruleset.encode())
    try:
        names = frozenset(counters.nft(host))
        if not names:
            raise InfraError("no rule of the ruleset has both a counter and a comment",
                             detail=tuple(ruleset.splitlines()))
        yield Counts(names, lambda: counters.nft(host))
    finally:
        host.run("nft", "flush", "ruleset")
