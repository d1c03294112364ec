# SPDX-License-Identifier: GPL-2.0-only
"""The console's thread, fed through the kind of socket that QEMU uses: nothing lost, everything watched."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import DeadlineExpired, InfraError, KernelError
from harness.vm import console
from harness.vm.console import Console
from harness.vm.klog import Kind

PANIC = (b"[    1.000000] Kernel panic - not syncing: oh no\r\n"
         b"[    1.000001] ---[ end Kernel panic - not syncing: oh no ]---\r\n")


@contextmanager
def fed(tmp_path: Path) -> Iterator[tuple[Console, socket.socket]]:
    ours, theirs = socket.socketpair()
    with theirs, console.drained(ours, "m", tmp_path / "console.log") as view:
        yield view, theirs


def wait_end(view: Console) -> None:
    view.vitals.expect_end()
    view.vitals.wait_end(Deadline.after(10))


def test_every_byte_is_in_the_log(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    with fed(tmp_path) as (view, qemu):
        qemu.sendall(data)
        qemu.close()
        wait_end(view)
    assert (tmp_path / "console.log").read_bytes() == data


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_report_is_found_whatever_the_reads(tmp_path: Path, size: int) -> None:
    data = b"hello\r\n" * 10 + PANIC
    with fed(tmp_path) as (view, qemu):
        for at in range(0, len(data), size):
            qemu.sendall(data[at:at + size])
        with pytest.raises(KernelError, match="panic: kernel panic: oh no") as caught:
            view.wait_for("never", Deadline.after(10))
    assert caught.value.where == f"{tmp_path / 'console.log'}:11"
    assert [(event.kind, event.line) for event in view.vitals.events] == [(Kind.PANIC, 11)]


def test_a_report_that_stops_in_the_middle_is_complete_after_a_silence(tmp_path: Path) -> None:
    with fed(tmp_path) as (view, qemu):
        qemu.sendall(b"BUG: kernel NULL pointer dereference, address: 0\nRIP: 0010:f+1/2\n")
        with pytest.raises(KernelError, match="oops") as caught:
            view.wait_for("never", Deadline.after(10))
    assert caught.value.detail[:2] == ("BUG: kernel NULL pointer dereference, address: 0", "RIP: 0010:f+1/2")


def test_a_marker_is_waited_for(tmp_path: Path) -> None:
    with fed(tmp_path) as (view, qemu), view.watch(r"log\w+:") as marker:
        qemu.sendall(b"\x1b[1mlo")
        qemu.sendall(b"gin: here\r\n")
        assert marker.wait(Deadline.after(10)) == "login: here"


def test_a_marker_that_does_not_come(tmp_path: Path) -> None:
    with fed(tmp_path) as (view, qemu):
        qemu.sendall(b"something else\nunfinished")
        with pytest.raises(DeadlineExpired, match="login") as caught:
            view.wait_for("login", Deadline.after(0.3))
    assert caught.value.detail == ("something else", "unfinished")


def test_the_end_of_qemu_ends_waits(tmp_path: Path) -> None:
    with fed(tmp_path) as (view, qemu):
        qemu.close()
        with pytest.raises(KernelError, match="ended without a word"):
            view.wait_for("login", Deadline.after(10))


def test_whoever_knows_why_qemu_ended_is_asked(tmp_path: Path) -> None:
    with fed(tmp_path) as (view, qemu):
        view.vitals.explain_end_with(lambda: InfraError("QEMU says no"))
        qemu.close()
        with pytest.raises(InfraError, match="QEMU says no"):
            view.wait_for("login", Deadline.after(10))


def test_listeners_hear_of_a_fatal_report_and_late_ones_too(tmp_path: Path) -> None:
    heard: list[str] = []
    with fed(tmp_path) as (view, qemu), view.vitals.listening(lambda: heard.append("first")):
        qemu.sendall(PANIC)
        with pytest.raises(KernelError):
            view.wait_for("never", Deadline.after(10))
        with view.vitals.listening(lambda: heard.append("late")):
            pass
        qemu.close()
        wait_end_quietly(view)
    assert heard[0] == "first"
    assert "late" in heard


def wait_end_quietly(view: Console) -> None:
    with view.vitals.changed:
        assert view.vitals.changed.wait_for(lambda: view.vitals.ended, 10)


def test_a_symptom_is_explained_by_the_report_that_comes_after_it(tmp_path: Path) -> None:
    with fed(tmp_path) as (view, qemu):
        qemu.sendall(PANIC)
        cause = view.vitals.explain(InfraError("connection lost"), Deadline.after(10))
        assert isinstance(cause, KernelError)
    with fed(tmp_path) as (view, qemu):
        assert view.vitals.explain(InfraError("connection lost"), Deadline.after(0.1)).what == "connection lost"


def test_memory_is_bounded_by_a_line_without_end(tmp_path: Path) -> None:
    with fed(tmp_path) as (view, qemu):
        for _ in range(100):
            qemu.sendall(b"x" * 100_000)
        qemu.close()
        wait_end(view)
        assert sum(map(len, view.tail())) < 1_000_000
    assert (tmp_path / "console.log").stat().st_size == 10_000_000


def test_who_taps_it_gets_the_last_lines_and_then_all_of_it(tmp_path: Path) -> None:
    with fed(tmp_path) as (view, qemu):
        with view.watch("second") as seen:
            qemu.sendall(b"first\r\nsecond\r\nprompt # ")
            seen.wait(Deadline.after(10))
            view.vitals.wait_for(lambda: True if view.tail()[-1] == "prompt # " else None, Deadline.after(10), "prompt")
        got = bytearray()
        with view.tapped(got.extend), view.watch("third") as seen:
            qemu.sendall(b"typed\r\nthird\r\n")
            seen.wait(Deadline.after(10))
        with view.watch("fourth") as seen:
            qemu.sendall(b"fourth\r\n")
            seen.wait(Deadline.after(10))
    assert bytes(got) == b"first\r\nsecond\r\nprompt # typed\r\nthird\r\n"


def test_a_boot_that_is_expected_is_no_event_and_the_next_one_is(tmp_path: Path) -> None:
    boot = b"SeaBIOS (version 1.16.2)\r\nLinux version 6.1.192\r\nup\r\n"
    with fed(tmp_path) as (view, qemu):
        qemu.sendall(boot)
        view.expect_boot()
        with view.watch("end of the second") as seen:
            qemu.sendall(b"reboot: Restarting system\r\n" + boot + b"end of the second\r\n")
            seen.wait(Deadline.after(10))
        assert view.vitals.events == ()
        qemu.sendall(boot)
        with pytest.raises(KernelError, match="reboot"):
            view.wait_for("never", Deadline.after(10))
