# SPDX-License-Identifier: GPL-2.0-only
"""Stress on a machine with one processor."""

from __future__ import annotations

import pytest

from harness.jobs.suites import Session
from harness.lab.bench import Lab
from harness.lab.kernel import Kernel
from tests.guest.stress import bridged_ipsec

pytestmark = [pytest.mark.topology("one-cpu"), pytest.mark.needs(*bridged_ipsec.NEEDS)]


def test_bridged_traffic_and_ipsec_survive(lab: Lab, kernel: Kernel, session: Session,
                                           pytestconfig: pytest.Config) -> None:
    broke = bridged_ipsec.what_broke(lab, kernel, session, pytestconfig)
    assert not broke, "; ".join(broke)
