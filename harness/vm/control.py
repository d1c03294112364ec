# SPDX-License-Identifier: GPL-2.0-only
"""The guest's control port, a virtio-serial port beside the console: how far its init is, and what we ask of it.

The guest's side is `harness/guest/init`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from harness.deadline import Deadline
from harness.errors import DeadlineExpired, KernelError
from harness.vm.vitals import Vitals


class Control:
    """The guest's control port: one word a line, `up`, `ready`, `failed: ...` or `pong` from it,
    `poweroff`, `reboot`, `shell` (on the console), `log TEXT` (to the kernel's log), `ping` or `sysrq KEY` to it."""

    def __init__(self, sock: socket.socket, vitals: Vitals) -> None:
        self._sock = sock
        self._vitals = vitals
        self._said: list[str] = []
        self._pongs = 0
        self._thread = threading.Thread(target=self._read, name=f"control-{vitals.name}", daemon=True)
        self._thread.start()

    def heard(self, prefix: str) -> str | None:
        """The first line that begins with `prefix`, if it has come."""
        return next((line for line in self._said if line.startswith(prefix)), None)

    def await_ready(self, deadline: Deadline, examine: Callable[[], tuple[str, ...]]) -> None:
        """Wait until the guest's SSH server listens.

        Args:
            examine: says what can be had from a guest that does not come up.

        Raises:
            KernelError: it does not in time, which says how far it came; its init failed; the machine is not well.
        """
        name, log = self._vitals.name, str(self._vitals.log)
        try:
            said = self._vitals.wait_for(lambda: self.heard("ready") or self.heard("failed"), deadline, "booting")
        except DeadlineExpired as error:
            up = self.heard("up") is not None
            found = examine()
            what = ("userspace came up, but its SSH server did not" if up
                    else "the kernel hangs before it reaches userspace" if error.detail
                    else "the kernel hangs without having printed anything")
            raise KernelError(f"{name}: {what} within {deadline.budget:g} s", where=log,
                              detail=(*error.detail, *found)) from error
        if said != "ready":
            raise KernelError(f"{name}: the guest's init {said}", where=log, detail=self._vitals.tail())

    def forget(self) -> None:
        """Forget what the guest said: another boot of it will say it again."""
        with self._vitals.changed:
            self._said.clear()

    def ask(self, verb: str) -> None:
        """Send `verb`; nobody may be there any more."""
        with contextlib.suppress(OSError):
            self._sock.sendall(f"{verb}\n".encode())

    def answers(self, deadline: Deadline) -> bool:
        """Whether the guest's init answers in time: its kernel still schedules, its userspace still runs."""
        with self._vitals.changed:
            before = self._pongs
        self.ask("ping")
        with self._vitals.changed:
            return self._vitals.changed.wait_for(lambda: self._pongs > before, deadline.remaining)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._sock.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._sock.makefile(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                with self._vitals.changed:
                    if line.strip() == "pong":
                        self._pongs += 1
                    else:
                        self._said.append(line.strip())
                    self._vitals.changed.notify_all()
