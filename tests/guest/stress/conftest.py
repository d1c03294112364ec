# SPDX-License-Identifier: GPL-2.0-only
"""Options of the stress tests: how long, and from which seed."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stress")
    group.addoption("--duration", type=float, default=60.0, metavar="SECONDS", help="how long each test disturbs")
    group.addoption("--seed", type=int, default=1, metavar="N", help="the sequence of disturbances")
