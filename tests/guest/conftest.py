# SPDX-License-Identifier: GPL-2.0-only
"""Guest tests run inside `harness run`, which says what to boot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.lab import oracles
from harness.lab.bench import Lab
from harness.lab.oracles import Seen


def pytest_collection_modifyitems(config: pytest.Config) -> None:
    if not config.getoption("--harness-session", default=None):
        raise pytest.UsageError("guest tests need a kernel to boot: run them with `harness run patches/skb-extensions` "
                                "(or pytest -p harness.pytest_plugin --harness-session=FILE with the session.json of a "
                                "run folder)")


@pytest.fixture(scope="module")
def known() -> dict[int, dict[str, Seen]]:
    """What the machines of a lab were like after the test before."""
    return {}


@pytest.fixture
def stranded() -> int:
    """Sockets that the kernel may fail to free on a machine, with their routes through IPsec."""
    return 0


@pytest.fixture(autouse=True)
def unchanged(request: pytest.FixtureRequest, known: dict[int, dict[str, Seen]], stranded: int) -> Iterator[None]:
    """After every test its machines are what they were before: a leak, a taint or an interface left behind fails it."""
    if "lab" not in request.fixturenames:
        yield
        return
    lab: Lab = request.getfixturevalue("lab")
    before = known.pop(id(lab), None) or oracles.look(lab)
    yield
    known[id(lab)] = oracles.compare(lab, before, stranded)
