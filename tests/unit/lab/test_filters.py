# SPDX-License-Identifier: GPL-2.0-only
"""Counts of rules that are waited for, and of rules of one name in two tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

import pytest

from harness.lab import filters
from harness.lab.bench import Host
from harness.lab.counters import Count
from harness.lab.filters import Counts
from harness.proc import Completed


@dataclass
class FakeMachine:
    """A machine whose iptables keeps tables; each of their rules has matched as many packets as its line has words."""

    tables: dict[str, list[str]] = field(default_factory=dict)

    def run(self, *args: object, stdin: bytes = b"", **_: object) -> Completed:
        program, *options = map(str, args)
        said = ""
        if program.endswith("-restore"):
            head, *lines = stdin.decode().splitlines()
            self.tables[head.removeprefix("*")] = [line for line in lines if line.startswith("-A")]
        else:
            asked = [options[options.index("-t") + 1]] if "-t" in options else list(self.tables)
            said = "".join(f"*{table}\n" + "".join(f"[{len(rule.split())}:0] {rule}\n" for rule in self.tables[table])
                           + "COMMIT\n" for table in asked)
        return Completed(argv=(), returncode=0, stdout=said, stderr="", seconds=0.0)


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("order", [("filter", "mangle"), ("mangle", "filter")], ids="-then-".join)
def test_a_rule_of_the_same_name_in_another_table_has_a_count_of_its_own(order: tuple[str, str], family: int) -> None:
    rules = {"filter": "FORWARD -p icmp", "mangle": "POSTROUTING"}
    host = Host(machine=cast(Any, FakeMachine()), faces=())
    one, other = order
    with (filters.iptables(host, family, {"request": rules[one]}, one) as first,
          filters.iptables(host, family, {"request": rules[other]}, other) as second):
        assert {one: first.packets(), other: second.packets()} == {"filter": {"request": 8}, "mangle": {"request": 6}}


def counting(up: int) -> Counts:
    """A rule, `seen`, that has matched one packet more at each reading, up to so many; and one that matches none."""
    readings = count()
    return Counts(frozenset({"seen", "never"}), lambda: {
        "seen": Count(packets=min(next(readings), up), bytes=0), "never": Count(packets=0, bytes=0)})


def test_what_is_waited_for_ends_the_wait() -> None:
    assert counting(9).reach({"seen": 5, "never": 0}, seconds=60) == {"seen": 5, "never": 0}


def test_what_does_not_come_is_said_as_it_is() -> None:
    assert counting(3).reach({"seen": 5}, seconds=0.05) == {"seen": 3, "never": 0}
