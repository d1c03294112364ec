# SPDX-License-Identifier: GPL-2.0-only
"""A console's bytes in pieces of any size: the same events, the same tail, the same lines looked out for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.vm.feed import MOST_EVENTS, TAIL, Feed, Sought
from harness.vm.klog import KernelEvent

PIECES = (
    b"[    1.000000][    T7] ------------[ cut here ]------------\r\n",
    b"[    1.000001][    T7] WARNING: CPU: 0 PID: 7 at net/core/dev.c:1 dev_thing+0x1/0x2\r\n",
    b"[    1.000002][    C1] BUG: KASAN: use-after-free in g+0x1/0x2\r\n",
    b"[    1.000003][    C1] Read of size 8 at addr ffff888000000000 by task nc/9\n",
    b"[    1.000004][    T7] CPU: 0 PID: 7 Comm: ip Not tainted 6.1.0 #1\r\r\n",
    b"[    1.000005][    T7] Call Trace:\r\n",
    b"\x1b[1;31m[    1.000006][    T7]  dev_thing+0x1/0x2\x1b[0m\r\n",
    b"[    1.000007][    C1]  ? kasan_report+0x1/0x2\r\n",
    b"[    1.000008][    C1]  g+0x1/0x2 [veth]\r\n",
    b"[    1.000009][    T7] ---[ end trace 0000000000000000 ]---\r\n",
    b"[    1.000010][    C1] ==================================================================\r\n",
    b"half a line [    1.000011] kernel BUG at a.c:1!\n",
    b"progress  1%\rprogress 99%\rINFO: task ip:7 blocked for more than 120 seconds.\n",
    b"** 12 printk messages dropped ** [    2.000000] unregister_netdevice: waiting for lo to become free. Usage\n",
    b"\xff\xfe\x80 BUG: \xc3(\n", b"\n", b"\x00\x01", b"no end", b"Linux version 6.1.0 (a@b)\n",
    b"Kernel panic - not syncing: oh no\n", b"x" * 5000 + b"\n",
)
streams = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=60)), max_size=40).map(b"".join)


def fed(data: bytes, cuts: list[int]) -> tuple[list[KernelEvent], tuple[str, ...], list[str], int]:
    events: list[KernelEvent] = []
    feed = Feed(events.append)
    sought = Sought(r"dev_\w+\+")
    feed.sought.append(sought)
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        feed.take(data[start:end])
    tail = feed.tail()
    feed.finish()
    return events, tail, sought.hits, feed.scanner.number


@given(streams, st.lists(st.integers(0, 3000), max_size=30))
def test_how_bytes_are_cut_does_not_matter(data: bytes, cuts: list[int]) -> None:
    places = sorted(min(cut, len(data)) for cut in cuts)
    whole = fed(data, [])
    assert fed(data, places) == whole
    assert fed(data, list(range(1, len(data)))) == whole


@given(streams)
def test_watching_for_a_line_changes_no_event(data: bytes) -> None:
    events: list[KernelEvent] = []
    feed = Feed(events.append)
    feed.take(data)
    feed.finish()
    assert events == fed(data, [])[0]


@given(streams)
def test_events_are_made_of_lines_of_the_log(data: bytes) -> None:
    count = len(data.split(b"\n"))
    for event in fed(data, [])[0]:
        assert 1 <= event.line <= count
        assert event.title
        assert "\n" not in event.title


def test_a_line_without_end_is_kept_only_in_part() -> None:
    feed = Feed(lambda _: None)
    for _ in range(100):
        feed.take(b"y" * 100_000)
    assert sum(map(len, feed.tail())) <= 1 << 16
    feed.take(b"\nkernel BUG at a.c:1!\n")
    feed.finish()
    assert feed.scanner.number == 2


def test_a_flood_of_reports_is_bounded() -> None:
    events: list[KernelEvent] = []
    feed = Feed(events.append)
    for _ in range(10):
        feed.take(b"unregister_netdevice: waiting for lo to become free. Usage count = 6\n" * 100)
    assert len(events) == MOST_EVENTS
    assert feed.scanner.uncounted == 1000 - MOST_EVENTS
    assert len(feed.tail()) == TAIL
