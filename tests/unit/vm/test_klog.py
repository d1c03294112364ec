# SPDX-License-Identifier: GPL-2.0-only
"""Console lines to kernel events: what is a report and what only looks like one, on samples and on real logs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.vm import klog
from harness.vm.klog import Ignore, Kind

STAMP = "[   12.345678] "
REPORTS = [
    (Kind.PANIC, "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"),
    (Kind.OOPS, "BUG: kernel NULL pointer dereference, address: 0000000000000010"),
    (Kind.OOPS, "BUG: unable to handle page fault for address: ffffffffa0000000"),
    (Kind.OOPS, "Unable to handle kernel paging request at virtual address dead000000000100"),
    (Kind.GPF, "general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP"),
    (Kind.EXCEPTION, "divide error: 0000 [#1] PREEMPT SMP"),
    (Kind.EXCEPTION, "invalid opcode: 0000 [#1] SMP NOPTI"),
    (Kind.EXCEPTION, "PANIC: double fault, error_code: 0x0"),
    (Kind.BUG, "kernel BUG at net/core/skbuff.c:109!"),
    (Kind.BUG, "BUG: Bad page state in process init  pfn:00042"),
    (Kind.WARNING, "WARNING: CPU: 1 PID: 42 at net/core/dev.c:1 dev_thing+0x1/0x2"),
    (Kind.WARNING, "WARNING: net/core/dev.c:1 at dev_thing+0x1/0x2, CPU#1: init/42"),
    (Kind.KASAN, "BUG: KASAN: use-after-free in skb_ext_put+0x1/0x2"),
    (Kind.KFENCE, "BUG: KFENCE: out-of-bounds read in f+0x1/0x2"),
    (Kind.KCSAN, "BUG: KCSAN: data-race in f / g"),
    (Kind.UBSAN, "UBSAN: array-index-out-of-bounds in net/core/dev.c:1:2"),
    (Kind.LEAK, "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"),
    (Kind.LOCKDEP, "WARNING: possible circular locking dependency detected"),
    (Kind.LOCKDEP, "WARNING: inconsistent lock state"),
    (Kind.LOCKDEP, "BUG: spinlock recursion on CPU#0, init/1"),
    (Kind.RCU, "WARNING: suspicious RCU usage"),
    (Kind.ATOMIC, "BUG: sleeping function called from invalid context at mm/slab.h:1"),
    (Kind.ATOMIC, "BUG: scheduling while atomic: init/1/0x00000002"),
    (Kind.RCU_STALL, "rcu: INFO: rcu_sched self-detected stall on CPU"),
    (Kind.SOFT_LOCKUP, "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [ksoftirqd/0:9]"),
    (Kind.HARD_LOCKUP, "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1"),
    (Kind.HUNG_TASK, "INFO: task ip:77 blocked for more than 120 seconds."),
    (Kind.REFCOUNT, "refcount_t: underflow; use-after-free."),
    (Kind.NETDEV, "unregister_netdevice: waiting for veth0 to become free. Usage count = 2"),
    (Kind.SLAB, "BUG skbuff_ext_cache (Not tainted): Objects remaining in skbuff_ext_cache on __kmem_cache_shutdown()"),
    (Kind.LIST, "list_del corruption. prev->next should be ffff, but was 0000"),
    (Kind.OOM, "Out of memory: Killed process 42 (iperf3) total-vm:1kB, anon-rss:1kB, file-rss:0kB"),
]
HARMLESS = [
    "Kernel command line: console=ttyS0 panic=-1 oops=panic", "e1000 0000:00:04.0 eth1: renamed",
    "INFO: lockdep is turned off.", "traps: prog[7] general protection fault ip:7f sp:7f error:0 in prog[7f+8]",
    "Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible",
    "rcu: Hierarchical RCU implementation.", "NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
    "debug: unmapping init memory", "random: crng init done", "kmemleak: Kernel memory leak detector initialized",
    "page_owner is disabled", "ODEBUG: Out of memory. ODEBUG disabled", "SeaBIOS (version 1.16.2-debian)",
]
WARNING = """\
------------[ cut here ]------------
refcount_t: underflow; use-after-free.
WARNING: CPU: 0 PID: 1 at lib/refcount.c:28 refcount_warn_saturate+0x13c/0x174
Modules linked in:
Call Trace:
 skb_ext_put+0x1/0x2
---[ end trace 0000000000000000 ]---
"""
OOPS = """\
BUG: kernel NULL pointer dereference, address: 0
Oops: 0000 [#1] SMP
RIP: 0010:f+0x1/0x2
Kernel panic - not syncing: Fatal exception
---[ end Kernel panic - not syncing: Fatal exception ]---
"""
CORPUS = Path(os.environ.get("HARNESS_CRASH_LOGS", Path(__file__).parents[4] / "shared" / "crash-logs"))


def stamped(text: str) -> list[str]:
    return [STAMP + line for line in text.splitlines()]


@pytest.mark.parametrize(("kind", "line"), REPORTS)
def test_a_report_is_recognised(kind: Kind, line: str) -> None:
    for text in (line, STAMP + line, f"<2>{STAMP}[   T42] {line}", f"\x1b[1;31m{STAMP}{line}\x1b[0m\r", f"{line}\r\r"):
        events = klog.scan(["earlier", text, STAMP + "later"])
        assert [(event.kind, event.title, event.line) for event in events] == [(kind, line, 2)]
        assert events[0].fatal
    assert klog.suspicious(line.encode())


@pytest.mark.parametrize("line", HARMLESS)
def test_a_harmless_line_is_none(line: str) -> None:
    assert klog.scan([line, STAMP + line]) == () or "SeaBIOS" in line
    assert klog.scan([line]) == ()


def test_a_report_is_read_to_its_end_and_named_by_the_line_that_says_what_it_is() -> None:
    (event,) = klog.scan([*stamped("boots"), *stamped(WARNING), *stamped("and goes on")])
    assert (event.kind, event.title) == (Kind.REFCOUNT, "refcount_t: underflow; use-after-free.")
    assert (event.line, len(event.lines)) == (2, 7)
    assert event.lines[0] == STAMP + "------------[ cut here ]------------"


def test_a_cut_here_with_nothing_else_to_say_is_named_by_its_warning() -> None:
    (event,) = klog.scan(stamped(WARNING.replace("refcount_t: underflow; use-after-free.\n", "")))
    assert event.kind is Kind.WARNING
    assert event.title.startswith("WARNING: CPU: 0 PID: 1 at lib/refcount.c:28")


def test_two_reports_are_two_events() -> None:
    assert [event.line for event in klog.scan(stamped(WARNING + "between\n" + WARNING))] == [1, 9]


def test_the_panic_that_follows_an_oops_is_an_event_of_its_own() -> None:
    assert [event.kind for event in klog.scan(stamped(OOPS))] == [Kind.OOPS, Kind.PANIC]


def test_a_fatal_report_ends_one_that_is_not() -> None:
    text = "init: page allocation failure: order:4, mode:0x0\nkernel BUG at a.c:1!"
    assert [(event.kind, event.fatal) for event in klog.scan(stamped(text))] == [
        (Kind.ALLOCATION, False), (Kind.BUG, True)]


def test_a_second_boot_is_a_reboot() -> None:
    boot = "Linux version 6.1.0 (x@y) #1 SMP"
    assert klog.scan(stamped(boot)) == ()
    (event,) = klog.scan(stamped(f"{boot}\nwork\n{boot}"))
    assert (event.kind, event.line) == (Kind.REBOOT, 3)


def test_a_report_without_end_is_cut() -> None:
    events = klog.scan(stamped("Kernel panic - not syncing: x\n" + "noise\n" * 10_000))
    assert [len(event.lines) for event in events] == [klog.MAX_LINES]


def test_expected_reports_can_be_ignored() -> None:
    rule = Ignore(pattern=re.compile("refcount_t: underflow|lib/refcount.c:28|cut here"), reason="provoked by the test")
    assert klog.scan(stamped(WARNING), [rule]) == ()


def test_text_that_an_interleaved_console_left_in_front_is_no_part_of_the_title() -> None:
    (event,) = klog.scan(["login: [    1.000000] kernel BUG at a.c:1!"])
    assert event.title == "kernel BUG at a.c:1!"


@given(st.lists(st.text(), max_size=20))
def test_no_line_breaks_the_scanner(lines: list[str]) -> None:
    for event in klog.scan(lines):
        assert 1 <= event.line <= len(lines)


@given(st.binary(max_size=2000))
def test_what_is_not_suspicious_has_no_event(block: bytes) -> None:
    if not klog.suspicious(block):
        assert klog.scan(block.decode(errors="replace").split("\n")) == ()


def test_real_crash_logs() -> None:
    files = sorted(CORPUS.glob("*.txt"))
    if not files:
        pytest.skip(f"no crash logs at {CORPUS} (HARNESS_CRASH_LOGS names another folder)")
    missed, false = [], []
    titled = 0
    for file in files:
        head, _, body = file.read_text(errors="replace").partition("\n\n")
        has_title = bool(re.search(r"^TITLE: ", head, re.MULTILINE))
        titled += has_title
        events = klog.scan(body.split("\nREPORT:")[0].split("\n"))
        if has_title and not events:
            missed.append(file.name)
        if not has_title and events:
            false.append((file.name, events[0].title))
    assert 1 - len(missed) / titled >= 0.98, missed
    assert len(false) <= 1, false
