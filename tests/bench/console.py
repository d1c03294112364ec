# SPDX-License-Identifier: GPL-2.0-only
"""A flood on the console: a million lines through the kind of socket that QEMU would use, drained, kept and watched.

The writer is a process of its own, the harness another, so that its memory is its own, too. In the middle and at the
end of the flood stands a report that must be found. Beside it, what the machine can do at best: the same bytes through
the same kind of socket, read and thrown away.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.lab import Lab, Part, Rows
from tests.conftest import ROOT

_LINES = 1_000_000
_LINE = "[%12.6f] e1000 0000:00:04.0 lan0: rx ring %d of 256 has been refilled, %d buffers left\r\n"

_WRITER = f"""
import socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
report = (b"[   99.000000] ------------[ cut here ]------------\\r\\n"
          b"[   99.000000] WARNING: CPU: 0 PID: 1 at net/core/dev.c:1 f+0x1/0x2\\r\\n[   99.000000] Call Trace:\\r\\n"
          b"[   99.000000]  f+0x1/0x2\\r\\n[   99.000000] ---[ end trace 0000000000000000 ]---\\r\\n")
for start in range(0, {_LINES}, 1000):
    if start == {_LINES // 2}:
        sock.sendall(report)
    sock.sendall(b"".join({_LINE!r}.encode() % (n / 1000, n % 256, n % 99) for n in range(start, start + 1000)))
sock.sendall(report)
"""
_DRAIN = """
import json, socket, sys, time
from pathlib import Path
import harness.engine  # all that a run has in memory
from harness.deadline import Deadline
from harness.vm import console
log = Path(sys.argv[2])
started, before = time.monotonic(), time.process_time()
with console.drained(socket.socket(fileno=int(sys.argv[1])), "flood", log) as view:
    with view.vitals.changed:
        view.vitals.changed.wait_for(lambda: view.vitals.ended)
    # VmHWM is of this program alone; ru_maxrss also counts what its parent had in memory until exec (execve(2)).
    (peak,) = (int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    print(json.dumps({"seconds": time.monotonic() - started, "cpu": time.process_time() - before,
                      "bytes": log.stat().st_size, "lines": view.lines,
                      "events": [event.title for event in view.vitals.events if event.line < 2_000_000],
                      "mib": peak}))
"""
_SINK = """
import json, socket, sys, time
sock = socket.socket(fileno=int(sys.argv[1]))
started, count = time.monotonic(), 0
while chunk := sock.recv(1 << 16):
    count += len(chunk)
print(json.dumps({"seconds": time.monotonic() - started, "bytes": count}))
"""


def flood(reader: str, log: Path) -> dict[str, object]:
    """What `reader`, a program, says of the flood that it was fed."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = ours.fileno()
        drain = subprocess.Popen([sys.executable, "-c", reader, str(fd), str(log)], pass_fds=[fd], cwd=ROOT,
                                 stdout=subprocess.PIPE, text=True)
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(theirs.fileno())], pass_fds=[theirs.fileno()])
        ours.close()
        theirs.close()
        said = drain.communicate(timeout=600)[0]
        if writer.wait() or drain.returncode:
            raise SystemExit("the flood was not drained")
    found = json.loads(said)
    assert isinstance(found, dict)
    return found


def measure(lab: Lab) -> Rows:
    """Rows for the flood drained by the harness, and for the same socket without it."""
    drained, thrown = [], []
    with tempfile.TemporaryDirectory() as name:
        for number in range(lab.runs):
            drained.append(flood(_DRAIN, Path(name) / f"{number}.log"))
            thrown.append(flood(_SINK, Path(name) / "none"))
    for row in drained:
        if row["lines"] != _LINES + 10 or row["events"] != ["WARNING in f"] * 2:
            raise SystemExit(f"the flood was not watched: {row}")
    rate = statistics.median(_rate(row, "seconds") for row in drained)
    work = statistics.median(_rate(row, "cpu") for row in drained)
    best = statistics.median(_rate(row, "seconds") for row in thrown)
    most = max(float(str(row["mib"])) for row in drained)
    size = int(str(drained[0]["bytes"])) / 1e6
    return [
        (f"{_LINES:,} lines ({size:.0f} MB) drained, kept and watched", f"{rate:.0f} MB/s",
         f"median of {lab.runs}; {work:.0f} MB for a second of processor time (wanted: at least 20 MB/s)"),
        ("the same read and thrown away", f"{best:.0f} MB/s", f"the writer's limit; {rate / best:.2f} of it"),
        ("memory of the harness in the flood", f"{most:.0f} MiB", "the most of all runs (wanted: below 150 MB)")]


def _rate(row: dict[str, object], key: str) -> float:
    """Megabytes a second."""
    return int(str(row["bytes"])) / 1e6 / float(str(row[key]))


PART = Part(name="console", what="A console that floods: 1,000,000 lines through a socket pair, as QEMU has it.",
            takes="a minute", measure=measure)
