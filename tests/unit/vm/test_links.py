# SPDX-License-Identifier: GPL-2.0-only
"""Links: who is plugged into what, a segment that carries every frame to all others, loss, delay, and ends that go."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.vm import links
from harness.vm.nic import Link, Nic
from harness.vm.qemu import MachineSpec


def machine(name: str, *link_names: str) -> MachineSpec:
    return MachineSpec(name=name, kernel=Path("k"), initrd=(),
                       nics=tuple(Nic(name=f"lan{index}", link=link) for index, link in enumerate(link_names)))


@contextmanager
def plugged(count: int, link: Link) -> Iterator[list[socket.socket]]:
    """The ends, as QEMU has them, of one segment of `count` machines."""
    specs = [machine(f"m{number}", link.name) for number in range(count)]
    with links.plugged(specs, (link,)) as sockets:
        yield [sockets[spec.name]["lan0"] for spec in specs]


def frames(end: socket.socket, count: int, seconds: float = 5.0) -> list[bytes]:
    """The next `count` frames at an end, or what came of them in time."""
    found = []
    while len(found) < count and select.select([end], [], [], seconds)[0]:
        found.append(end.recv(1 << 17))
    return found


def silent(end: socket.socket) -> bool:
    return not select.select([end], [], [], 0.1)[0]


def test_a_cable_needs_nothing_of_ours() -> None:
    before = threading.active_count()
    with links.plugged([machine("a", "wire"), machine("b", "wire")]) as sockets:
        assert threading.active_count() == before
        sockets["a"]["lan0"].send(b"frame")
        assert frames(sockets["b"]["lan0"], 1) == [b"frame"]


def test_a_segment_carries_every_frame_to_all_others_in_order_and_none_back() -> None:
    sent = [bytes([number]) * 60 for number in range(200)]
    with plugged(4, Link(name="segment")) as (one, *others):
        got: dict[int, list[bytes]] = {}
        readers = [threading.Thread(target=lambda end=end, index=index: got.update({index: frames(end, len(sent))}))
                   for index, end in enumerate(others)]
        for reader in readers:
            reader.start()
        for frame in sent:
            one.send(frame)
        for reader in readers:
            reader.join()
        assert got == dict.fromkeys(range(3), sent)
        assert silent(one)


def test_a_frame_of_the_longest_kind_passes_whole() -> None:
    frame = bytes(range(256)) * 256
    with plugged(3, Link(name="segment")) as (one, other, third):
        one.send(frame)
        assert frames(other, 1) == frames(third, 1) == [frame]


def test_an_end_that_takes_nothing_holds_nobody_up_and_what_is_too_much_is_dropped() -> None:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(3)]
    segment = links.Segment(Link(name="segment"), [pair[0] for pair in pairs])
    one, _idle, third = (pair[1] for pair in pairs)
    count = 6000
    with segment.running():
        for number in range(count):
            one.send(number.to_bytes(4))
            assert frames(third, 1) == [number.to_bytes(4)]
    assert 0 < segment.dropped < count
    for pair in pairs:
        for end in pair:
            end.close()


def test_a_machine_that_ends_leaves_the_others_connected() -> None:
    with plugged(3, Link(name="segment")) as (one, other, third):
        other.close()
        for number in range(50):
            one.send(bytes([number]))
        assert frames(third, 50) == [bytes([number]) for number in range(50)]
        third.send(b"back")
        assert frames(one, 1) == [b"back"]


def test_loss_takes_its_share_and_the_same_frames_every_time() -> None:
    with plugged(2, Link(name="lossy", loss=1.0)) as (one, other):
        one.send(b"frame")
        assert silent(other)
    first = _lost("lossy")
    assert 40 <= len(first) <= 160  # 100 of 1000 are expected; 160 or more come by once in a billion
    assert _lost("lossy") == first
    assert _lost("another") != first


def _lost(name: str) -> list[int]:
    """Which of 1000 frames do not arrive."""
    arrived: list[bytes] = []
    with plugged(2, Link(name=name, loss=0.1)) as (one, other):
        reader = threading.Thread(target=lambda: arrived.extend(frames(other, 1000, seconds=1.0)))
        reader.start()
        for number in range(1000):
            one.send(number.to_bytes(4))
        reader.join()
    return sorted(set(range(1000)) - {int.from_bytes(frame) for frame in arrived})


def test_no_frame_comes_before_its_delay_and_the_order_stays() -> None:
    sent = [bytes([number]) for number in range(20)]
    with plugged(2, Link(name="far", delay=0.2)) as (one, other):
        started = time.monotonic()
        for frame in sent:
            one.send(frame)
        assert frames(other, 1) == sent[:1]
        assert time.monotonic() - started >= 0.2
        assert frames(other, 19) == sent[1:]


def test_nothing_is_left_when_the_block_ends() -> None:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with plugged(3, Link(name="segment", delay=10.0)) as (one, *_):
        one.send(b"under way")
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("link-")]


def test_a_link_with_one_end_is_refused() -> None:
    with pytest.raises(UsageError, match="link 'wire' has one end only"), links.plugged([machine("a", "wire")]):
        pass
