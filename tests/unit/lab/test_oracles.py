# SPDX-License-Identifier: GPL-2.0-only
"""What a machine must be again after a test: what is read of it, and what counts as a difference."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from harness.errors import KernelError
from harness.lab import oracles
from harness.lab.oracles import Seen

STILL = Seen(interfaces=("br0", "lo"), namespaces="/run/netns/*", taint=0,
             used=(("skbuff_ext_cache", 0), ("xfrm_state", 2)))
HEAD = "lo br0\n/run/netns/*\n"


def test_what_is_read_leaves_out_that_a_module_was_loaded() -> None:
    counts = "84 N0=84\n0\n2 N0=2\n5 N0=4 N1=1\n"
    files = "skbuff_ext_cache/objects xfrm_state/objects xfrm_dst_cache/objects"
    assert oracles.parse(f"{HEAD}{files}\n12288\n{counts}") == replace(STILL, routes=5)
    assert oracles.parse(f"{HEAD}\n12800\n84 N0=84\n").taint == 512, "a warning"


def test_a_count_that_is_missing_is_no_count() -> None:
    with pytest.raises(ValueError, match="shorter"):
        oracles.parse(f"{HEAD}skbuff_ext_cache/objects xfrm_state/objects\n0\n84\n0\n")


@pytest.mark.parametrize(("after", "said"), [
    (STILL, []),
    (replace(STILL, used=(("skbuff_ext_cache", 0), ("xfrm_state", 1))), []),
    (replace(STILL, used=(("skbuff_ext_cache", 3), ("xfrm_state", 2))),
     ["objects in skbuff_ext_cache: expected 0, saw 3"]),
    (replace(STILL, used=(*STILL.used, ("secpath_cache", 1))), ["objects in secpath_cache: expected 0, saw 1"]),
    (replace(STILL, interfaces=("br0", "lo", "veth0"), namespaces="/run/netns/a", taint=512),
     ["interfaces: expected br0 lo, saw br0 lo veth0", "network namespaces: expected /run/netns/*, saw /run/netns/a",
      "taint of the kernel: expected 0x0, saw 0x200"]),
])
def test_more_than_before_is_a_difference(after: Seen, said: list[str]) -> None:
    assert list(oracles.differences(STILL, after)) == said


@pytest.mark.parametrize(("states", "routes", "stranded", "said"), [
    (2 + 3, 3, 5, []),
    (2 + 3, 4, 5, []),
    (2 + 3, 2, 5, ["objects in xfrm_state: expected 2, saw 5"]),
    (2 + 3, 3, 2, ["objects in xfrm_state: expected 2, saw 5"]),
    (2 + 3, 3, 0, ["objects in xfrm_state: expected 2, saw 5"]),
    (2, -1, 5, []),
])
def test_a_stranded_socket_excuses_the_state_of_its_route(states: int, routes: int, stranded: int,
                                                         said: list[str]) -> None:
    before = replace(STILL, routes=1)
    after = replace(STILL, used=(("skbuff_ext_cache", 0), ("xfrm_state", states)), routes=1 + routes)
    assert list(oracles.differences(before, after, stranded)) == said


@dataclass
class Guest:
    """A machine that is looked at; each look takes the next of what it says, the last one for ever."""

    name: str
    says: list[str]
    looks: int = field(default=0)

    def run(self, *_: object) -> SimpleNamespace:
        self.looks += 1
        return SimpleNamespace(stdout=self.says.pop(0) if len(self.says) > 1 else self.says[0])


def lab(**guests: Guest) -> SimpleNamespace:
    hosts: Mapping[str, Guest] = guests
    return SimpleNamespace(hosts=hosts)


def test_what_comes_back_late_is_waited_for_and_what_does_not_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    still, more = (f"lo\n\nxfrm_state/objects\n0\n84 N0=84\n{count} N0={count}\n" for count in (0, 4))
    good = lab(a=Guest("a", [still, more, more, still]))
    before = oracles.look(good)  # type: ignore[arg-type]
    assert oracles.compare(good, before) == before  # type: ignore[arg-type]
    assert good.hosts["a"].looks == 4
    monkeypatch.setattr(oracles, "_BACK", 0.05)
    bad = lab(a=Guest("a", [still]), b=Guest("b", [still, more]))
    before = oracles.look(bad)  # type: ignore[arg-type]
    with pytest.raises(KernelError, match=re.escape("objects in xfrm_state: expected 0, saw 4")) as caught:
        oracles.compare(bad, before)  # type: ignore[arg-type]
    assert caught.value.where == "machine b"
