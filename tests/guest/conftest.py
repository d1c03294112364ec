# SPDX-License-Identifier: GPL-2.0-only
"""Guest tests run inside `harness run`, which says what to boot."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config) -> None:
    if not config.getoption("--harness-session", default=None):
        raise pytest.UsageError("guest tests need a kernel to boot: run them with `harness run patches/skb-extensions` "
                                "(or pytest -p harness.pytest_plugin --harness-session=FILE with the session.json of a "
                                "run folder)")
