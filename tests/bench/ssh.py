# SPDX-License-Identifier: GPL-2.0-only
"""What SSH costs: one more command, twenty at once, 256 MiB into a guest and out again, and our memory meanwhile."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.deadline import Deadline
from harness.vm.machine import boot
from harness.vm.qemu import MachineSpec
from tests.bench.lab import Lab, Part, Rows, timed

_COMMANDS = 40
_AT_ONCE = 20
_SIZE = 256
_MIB = 1 << 20
_SECONDS = 600.0


def measure(lab: Lab) -> Rows:
    """All with one machine under TCG."""
    image, userland = lab.kernel("patched", "both").image, lab.userland
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = MachineSpec(name="guest", kernel=image, initrd=(userland,), memory_mib=1024)
        with boot(spec, folder, deadline=Deadline.after(120)) as machine:
            small = [1000 * timed(lambda: machine.run("true")) for _ in range(_COMMANDS)]
            real = [1000 * timed(lambda: machine.run("ip", "link")) for _ in range(_COMMANDS)]
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                many = timed(lambda: list(pool.map(lambda _: machine.run("true"), range(_AT_ONCE))))
            source, back = folder / "source", folder / "back"
            with source.open("wb") as file:
                for _ in range(_SIZE):
                    file.write(os.urandom(_MIB))
            rows = [
                _transfer("into the guest", lambda: machine.put("/big", source, deadline=Deadline.after(_SECONDS))),
                _transfer("out of the guest", lambda: machine.fetch("/big", back, deadline=Deadline.after(_SECONDS)))]
            if back.read_bytes() != source.read_bytes():
                raise SystemExit("what came back is not what went in")
    return [("one more SSH command, `true`", f"{statistics.median(small):.0f} ms",
             f"median of {_COMMANDS}, the slowest {max(small):.0f} ms (wanted: at most 80 ms)"),
            ("one more SSH command, `ip link`", f"{statistics.median(real):.0f} ms",
             f"median of {_COMMANDS}, the slowest {max(real):.0f} ms (wanted: at most 80 ms)"),
            (f"{_AT_ONCE} commands at once, `true`", f"{many:.2f} s", "until the last has answered; logins included"),
            *rows]


def _transfer(what: str, move: Callable[[], object]) -> tuple[str, str, str]:
    """A row for one way."""
    # Writing 5 sets the peak (VmHWM) back to what is resident now: proc(5), clear_refs.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    seconds = timed(move)
    grown = (_status("VmHWM") - before) / 1024
    note = (f"{_SIZE / seconds:.0f} MiB/s; our memory at its peak {grown:+.1f} MiB from before "
            f"({before / 1024:.0f} MiB) (wanted: does not grow)")
    return f"{_SIZE} MiB {what}, SHA-256 checked", f"{seconds:.1f} s", note


def _status(field: str) -> int:
    """A field of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


PART = Part(name="ssh",
            what="One machine under TCG, 1 GiB, the patched kernel of variant `both`.",
            takes="two minutes", measure=measure)
