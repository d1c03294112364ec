# SPDX-License-Identifier: GPL-2.0-only
"""Links between machines: a socket pair for a cable, and a thread of ours that is the medium of every other link.

One datagram is one frame (QEMU's `net/dgram.c`). A cable without conditions goes from QEMU to QEMU; a segment of more
than two ends, and a link that loses or delays frames, is a `Segment`. Nothing has a path or a port, and all of it ends
with this process. Why not one of QEMU's own means: docs/decisions/0013-links.md.
"""

from __future__ import annotations

import random
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from harness.errors import UsageError
from harness.vm.nic import Link
from harness.vm.qemu import MachineSpec

_LONGEST = 1 << 17
"""More than the longest frame that QEMU sends (NET_BUFSIZE in its include/net/net.h)."""
_MOST_WAITING = 4096
"""Frames that wait for an end that does not take them; what comes then is dropped, as a switch does."""

Sockets = dict[str, dict[str, socket.socket]]
"""By machine and NIC, what QEMU inherits."""


@contextmanager
def plugged(specs: Sequence[MachineSpec], links: Sequence[Link] = ()) -> Iterator[Sockets]:
    """The sockets of all links for the block; the caller closes them once the machines have theirs.

    Args:
        links: those that have conditions; any other is a cable, or a segment where it has more than two ends.

    Raises:
        UsageError: a link has one end only.
    """
    sockets: Sockets = {spec.name: {} for spec in specs}
    conditions = {link.name: link for link in links}
    with ExitStack() as stack:
        for name, members in ends(specs).items():
            link = conditions.get(name, Link(name=name))
            if len(members) < 2:
                raise UsageError(f"link {name!r} has one end only", hint=":".join(members[0]))
            direct = len(members) == 2 and not link.loss and not link.delay
            pairs = [_pair(stack)] if direct else [_pair(stack) for _ in members]
            theirs = pairs[0] if direct else tuple(pair[1] for pair in pairs)
            for (machine, nic), end in zip(members, theirs, strict=True):
                sockets[machine][nic] = end
            if not direct:
                stack.enter_context(Segment(link, [pair[0] for pair in pairs]).running())
        yield sockets


def ends(specs: Sequence[MachineSpec]) -> dict[str, list[tuple[str, str]]]:
    """By link, the (machine, NIC) pairs that are plugged into it, in the machines' order."""
    found: dict[str, list[tuple[str, str]]] = {}
    for spec in specs:
        for card in spec.nics:
            if card.link is not None:
                found.setdefault(card.link, []).append((spec.name, card.name))
    return found


def close_all(sockets: Mapping[str, Mapping[str, socket.socket]]) -> None:
    """Close our copies: a machine that ends then closes the link, and does not leave its peer with a full queue."""
    for of_machine in sockets.values():
        for end in of_machine.values():
            end.close()


def _pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return stack.enter_context(one), stack.enter_context(other)


@dataclass(slots=True, kw_only=True)
class _Port:
    """One end of a segment: its socket, and the frames that are on their way to it with the time they are due."""

    sock: socket.socket
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)
    blocked: bool = False
    gone: bool = False


class Segment:
    """A shared medium: every frame reaches all other ends, some of them later or not at all.

    Which frames are lost depends on the link's name and their order alone.

    Args:
        link: its conditions.
        socks: our side of each end's socket pair.
    """

    def __init__(self, link: Link, socks: Sequence[socket.socket]) -> None:
        self._link = link
        # Its own kind of chance, seeded: the same traffic loses the same frames in every run.
        self._random = random.Random(link.name)
        self._ports = [_Port(sock=sock) for sock in socks]
        self._selector = selectors.DefaultSelector()
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Frames that an end did not take in time, besides those that its `loss` took."""
        return self._dropped

    @contextmanager
    def running(self) -> Iterator[None]:
        """Carry frames for the block."""
        stop, stopped = socket.socketpair()
        with stop, stopped, self._selector:
            self._selector.register(stopped, selectors.EVENT_READ, None)
            for port in self._ports:
                port.sock.setblocking(False)
                self._selector.register(port.sock, selectors.EVENT_READ, port)
            thread = threading.Thread(target=self._carry, name=f"link-{self._link.name}", daemon=True)
            thread.start()
            try:
                yield
            finally:
                stop.send(b"\0")
                thread.join()

    def _carry(self) -> None:
        while True:
            ready = self._selector.select(self._next_due())
            for key, mask in ready:
                port: _Port | None = key.data
                if port is None:
                    return
                if mask & selectors.EVENT_WRITE:
                    port.blocked = False
                if mask & selectors.EVENT_READ:
                    self._take(port)
            for port in self._ports:
                self._deliver(port)

    def _next_due(self) -> float | None:
        """Seconds until a frame that could be delivered is due; None where there is none."""
        due = [port.waiting[0][0] for port in self._ports if port.waiting and not port.blocked]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _take(self, source: _Port) -> None:
        """Take one frame (the others get their turn) and send it on its way to the other ends."""
        try:
            frame = source.sock.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            self._leave(source)
            return
        due = time.monotonic() + self._link.delay
        for port in self._ports:
            if port is source or port.gone or self._random.random() < self._link.loss:
                continue
            if len(port.waiting) < _MOST_WAITING:
                port.waiting.append((due, frame))
            else:
                self._dropped += 1

    def _deliver(self, port: _Port) -> None:
        """Hand over what is due, until the end takes no more; then watch for the moment when it does again."""
        while port.waiting and not port.blocked and port.waiting[0][0] <= time.monotonic():
            try:
                port.sock.send(port.waiting[0][1])
                port.waiting.popleft()
            except (BlockingIOError, InterruptedError):
                port.blocked = True
            except OSError:
                self._leave(port)
                return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if port.blocked else 0)
        if not port.gone and self._selector.get_key(port.sock).events != wanted:
            self._selector.modify(port.sock, wanted, port)

    def _leave(self, port: _Port) -> None:
        """A machine has ended: its end of the segment is free."""
        port.gone = True
        port.waiting.clear()
        self._selector.unregister(port.sock)
