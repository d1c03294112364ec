# SPDX-License-Identifier: GPL-2.0-only
"""When lines came: beside the log, never in it."""

from __future__ import annotations

import io
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.vm import console, timeline

TEXT = """\
# seconds since 2030-01-31T12:00:00.000+00:00: the line that began to come
0.100 1
2.500 7
9.000 8
9.9"""


def test_lines_have_the_time_of_the_entry_at_or_before_them() -> None:
    read = timeline.parse(TEXT)
    start = datetime(2030, 1, 31, 12, tzinfo=UTC)
    assert [read.at(line) - start for line in (1, 6, 7, 8, 100)] == [
        timedelta(seconds=seconds) for seconds in (0.1, 0.1, 2.5, 9.0, 9.0)]


@pytest.mark.parametrize("text", ["", "nothing", TEXT.replace("7", "x"), TEXT.replace("2030-01-31", "yesterday")])
def test_what_is_no_timeline(text: str) -> None:
    with pytest.raises(UsageError, match="no timeline"):
        timeline.parse(text)


def test_lines_that_come_together_share_an_entry() -> None:
    sink = io.StringIO()
    writer = timeline.Writer(sink)
    for line in range(1, 1001):
        writer.line(line)
    assert timeline.parse(sink.getvalue()).lines[0] == 1
    assert len(timeline.parse(sink.getvalue()).lines) < 500


def test_the_console_writes_one_and_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    log = tmp_path / "console.log"
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    with theirs, console.drained(ours, "m", log) as view:
        for text in (b"one\r\n", b"tw", b"o\r\nthree\r\n"):
            with view.watch("one|two") as marker:
                theirs.sendall(text)
                marker.came(Deadline.after(0.2))
        theirs.close()
        view.vitals.expect_end()
        view.vitals.wait_end(Deadline.after(10))
    assert log.read_bytes() == b"one\r\ntwo\r\nthree\r\n"
    read = timeline.parse(timeline.beside(log).read_text(encoding="ascii"))
    assert before <= read.start <= read.at(1) <= read.at(2) <= read.at(3) <= datetime.now(UTC)
    assert set(read.lines) <= {1, 2, 3}
