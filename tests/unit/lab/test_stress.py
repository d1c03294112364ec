# SPDX-License-Identifier: GPL-2.0-only
"""Stress: what a seed says, what a record holds, and the picture of it."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from harness.lab import stress
from harness.lab.flows import Tally
from harness.lab.stress import Done, Record, Sample, Step
from harness.report import plot

ACTIONS = ("flap", "rekey", "memory")


def first(seed: int, count: int) -> list[Step]:
    return list(itertools.islice(stress.steps(seed, ACTIONS), count))


def test_a_seed_is_a_sequence() -> None:
    assert first(7, 50) == first(7, 50)
    assert first(7, 50) != first(8, 50)
    assert first(7, 50)[:20] == first(7, 20)


def test_each_action_comes_once_before_any_comes_again() -> None:
    drawn = [step.action for step in first(3, 30)]
    for start in range(0, 30, len(ACTIONS)):
        assert Counter(drawn[start:start + len(ACTIONS)]) == Counter(ACTIONS)


def record() -> Record:
    tallies = [{"a<b>": Tally(whole=whole, lost=lost, size=125_000)} for whole, lost in ((0, 0), (10, 0), (10, 3))]
    done = Done(step=Step(action="flap & more", pick=1, pause=0.5, hold=1.0), began=0.5, ended=1.7)
    return Record(seed=4, seconds=4, done=[done],
                  samples=[Sample(at=2.0 * number, tallies=row) for number, row in enumerate(tallies)])


def test_rates_are_of_what_arrived_whole() -> None:
    assert plot.rates(record().samples) == [(2.0, 5.0, 0), (4.0, 0.0, 3)]


def test_a_record_as_json_says_what_was_done_and_seen() -> None:
    said = json.loads(json.dumps(record().to_json()))
    assert (said["schema"], said["seed"]) == ("harness.stress/1", 4)
    assert said["disturbances"] == [{"action": "flap & more", "pick": 1, "hold": 1.0, "began": 0.5, "ended": 1.7}]
    assert said["samples"][2] == {"at": 4.0, "flows": {"a<b>": {"whole": 10, "wrong": 0, "lost": 3, "size": 125000}}}


@pytest.mark.parametrize("value", [record(), Record(seed=1, seconds=5)], ids=["some", "none"])
def test_the_picture_is_svg_and_escaped(value: Record) -> None:
    root = ET.fromstring(plot.render(value, "<patched> & base"))
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "<patched> & base" in texts
    assert ("flap & more" in texts) == bool(value.done)
