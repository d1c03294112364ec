# SPDX-License-Identifier: GPL-2.0-only
"""The rate of the host's time stamp counter, which is that of a guest under TCG on x86 (cpu_get_host_ticks() in QEMU).

A kernel measures the rate against a timer while it boots. Where QEMU gets too little of a busy host meanwhile, it finds
40 MHz in place of 2600: its clock then runs 65 times too fast, and 45 seconds without a grace period are one.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path


def parse(cpuinfo: str) -> int | None:
    """kHz, from /proc/cpuinfo of x86; None where it is of something else.

    `bogomips` is twice the rate that Linux counts time by (lpj_fine in arch/x86/kernel/tsc.c), `cpu MHz` may be any.
    """
    found = re.search(r"^bogomips\s*: (\d+\.\d+)$", cpuinfo, re.MULTILINE)
    return round(float(found[1]) * 500) if found and re.search(r"^flags\s*:.* constant_tsc", cpuinfo, re.M) else None


@functools.cache
def khz() -> int | None:
    """The host's rate in kHz; None where it is no x86, or where the rate changes."""
    try:
        return parse(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
