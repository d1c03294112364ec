# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's monitor for code that is not asyncio: `qemu.qmp` in a thread of its own, every call under a deadline.

Protocol: QEMU's `docs/interop/qmp-spec.rst`; commands: QEMU's `qapi/*.json`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import re
import socket
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from qemu.qmp import ExecuteError, QMPClient, QMPError

from harness.deadline import Deadline
from harness.errors import InfraError

_T = TypeVar("_T")
_FORWARD = re.compile(r"^\s*TCP\[HOST_FORWARD\]\s+\d+\s+(?P<host>\S+)\s+(?P<port>\d+)\s+(?P<guest>\S+)\s+"
                      r"(?P<guest_port>\d+)\s", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event of QEMU's, as in `SHUTDOWN` with `{"guest": true, "reason": "guest-shutdown"}`."""

    name: str
    data: Mapping[str, object]


def parse_forward(usernet: str, guest_port: int) -> tuple[str, int] | None:
    """Host address and port that the output of HMP `info usernet` says lead to the guest's TCP `guest_port`."""
    for match in _FORWARD.finditer(usernet):
        if int(match["guest_port"]) == guest_port:
            return match["host"], int(match["port"])
    return None


class Qmp:
    """A connection to one QEMU's monitor. Made by `connect`."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._name = name
        self._loop = loop
        self._client = QMPClient(name)
        self._events: list[Event] = []
        self._woken: list[threading.Condition] = []

    @property
    def events(self) -> tuple[Event, ...]:
        """The events there were until now."""
        return tuple(self._events)

    @contextmanager
    def waking(self, condition: threading.Condition) -> Iterator[None]:
        """Notify those who wait on `condition` of every event, for the block."""
        self._woken.append(condition)
        try:
            yield
        finally:
            self._woken.remove(condition)

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, *,
                deadline: Deadline) -> Any:
        """The result of a monitor command.

        Raises:
            InfraError: QEMU refused it, is gone, or did not answer in time.
        """
        return self._await(self._client.execute(command, dict(arguments or {})), command, deadline)

    def give(self, file: BinaryIO, name: str, *, deadline: Deadline) -> None:
        """Give QEMU an open file, which its commands then call `fd:NAME`: it can open none of ours by itself.

        Raises:
            InfraError: QEMU does not take it.
        """
        async def send() -> None:
            self._client.send_fd_scm(file.fileno())

        self._await(send(), "a file", deadline)
        self.execute("getfd", {"fdname": name}, deadline=deadline)

    def forwarded(self, guest_port: int, *, deadline: Deadline) -> tuple[str, int]:
        """The host address and port that lead to TCP port `guest_port` of the guest (`hostfwd=...:0-...`).

        Raises:
            InfraError: there is no such forwarding.
        """
        text = self.execute("human-monitor-command", {"command-line": "info usernet"}, deadline=deadline)
        found = parse_forward(str(text), guest_port)
        if found is None:
            raise InfraError(f"QEMU forwards no port to the guest's port {guest_port}", where=self._name,
                             detail=tuple(str(text).splitlines()))
        return found

    def quit(self, *, deadline: Deadline) -> None:
        """End QEMU at once; it may be gone before it answers."""
        with contextlib.suppress(InfraError):
            self.execute("quit", deadline=deadline)

    async def _open(self, sock: socket.socket) -> None:
        await self._client.connect(sock)

    async def _follow(self) -> None:
        async for message in self._client.events:
            data = message.get("data")
            self._events.append(Event(name=str(message["event"]), data=data if isinstance(data, dict) else {}))
            for condition in tuple(self._woken):
                with condition:
                    condition.notify_all()

    def _await(self, work: Coroutine[object, object, _T], doing: str, deadline: Deadline) -> _T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(deadline.remaining)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise InfraError(f"QEMU's monitor did not answer {doing!r} within {deadline.budget:g} s",
                             where=self._name) from None
        except ExecuteError as error:
            raise InfraError(f"QEMU refused {doing!r}: {error}", where=self._name) from error
        except (QMPError, OSError, EOFError) as error:
            raise InfraError(f"QEMU's monitor is gone: {error or type(error).__name__}", where=self._name) from error

    async def _close(self) -> None:
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._client.disconnect()


@contextmanager
def connect(name: str, sock: socket.socket, *, deadline: Deadline) -> Iterator[Qmp]:
    """Speak QMP over `sock`, QEMU's end of which QEMU holds.

    Raises:
        InfraError: QEMU does not greet.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=f"qmp-{name}", daemon=True)
    thread.start()
    qmp = Qmp(name, loop)
    try:
        qmp._await(qmp._open(sock), "the greeting", deadline)
        follower = asyncio.run_coroutine_threadsafe(qmp._follow(), loop)
        try:
            yield qmp
        finally:
            follower.cancel()
    finally:
        with contextlib.suppress(InfraError):
            qmp._await(qmp._close(), "goodbye", Deadline.after(5))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
