# SPDX-License-Identifier: GPL-2.0-only
"""The switches of bridge netfilter (Documentation/networking/ip-sysctl.rst, net.bridge)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.lab.bench import Host


@contextmanager
def switched(dut: Host, **values: int) -> Iterator[None]:
    """Set switches of bridge netfilter (net.bridge.bridge-nf-*), by name with underscores, for a block."""
    names = {f"/proc/sys/net/bridge/bridge-nf-{name.replace('_', '-')}": value for name, value in values.items()}
    before = {path: dut.read(path).strip() for path in names}
    try:
        for path, value in names.items():
            dut.shell(f"echo {value} > {path}")
        yield
    finally:
        for path, text in before.items():
            dut.shell(f"echo {text} > {path}")
