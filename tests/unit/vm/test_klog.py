# SPDX-License-Identifier: GPL-2.0-only
"""Console lines to kernel events: what is a report and what only looks like one, on samples and on real logs."""

from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.vm import klog
from harness.vm.klog import Ignore, Kind
from harness.vm.reports import RULES

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
    (Kind.HUNG_TASK, "INFO: task ip:77 blocked in I/O wait for more than 120 seconds."),
    (Kind.TIMEOUT, "e1000 0000:00:03.0 eth0: NETDEV WATCHDOG: CPU: 0: transmit queue 0 timed out 5120 ms"),
    (Kind.PREEMPT, "huh, entered softirq 3 NET_RX 00000000f with preempt_count 00000101, exited with 00000102?"),
    (Kind.WARNING, "e1000 0000:00:03.0 eth0: hw csum failure"),
    (Kind.WARNING, 'irq 11: nobody cared (try booting with the "irqpoll" option)'),
    (Kind.WARNING, "sysfs: cannot create duplicate filename '/class/net/eth0'"),
    (Kind.WARNING, "Destroying alive neighbour 00000000f"), (Kind.WARNING, "NEIGH: BUG, double timer add, state is 1"),
    (Kind.WARNING, "page_pool_release() page_pool refcnt -1 violation"), (Kind.WARNING, "neighbour leakage"),
    (Kind.WARNING, "IPv4: Attempt to release TCP socket in state 10 00000000f"),
    (Kind.WARNING, "kobject (00000000f): tried to init an initialized object, something is seriously wrong."),
    (Kind.WARNING, "pagealloc: memory corruption"), (Kind.WARNING, "bad: scheduling from the idle thread!"),
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
    "harness: after test_klog[BUG: KASAN: use-after-free in f]",
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


def stamped(text: str) -> list[str]:
    return [STAMP + line for line in text.splitlines()]


@pytest.mark.parametrize(("kind", "line"), REPORTS)
def test_a_report_is_recognised(kind: Kind, line: str) -> None:
    for text in (line, STAMP + line, f"<2>{STAMP}[   T42] {line}", f"\x1b[1;31m{STAMP}{line}\x1b[0m\r", f"{line}\r\r"):
        events = klog.scan(["earlier", text, STAMP + "later"])
        assert [(event.kind, event.headline, event.line) for event in events] == [(kind, line, 2)]
        assert events[0].fatal
    assert klog.suspicious(line.encode())


@pytest.mark.parametrize("line", HARMLESS)
def test_a_harmless_line_is_none(line: str) -> None:
    assert klog.scan([line, STAMP + line]) == () or "SeaBIOS" in line
    assert klog.scan([line]) == ()


def test_a_report_is_read_to_its_end_and_named_by_the_line_that_says_what_it_is() -> None:
    (event,) = klog.scan([*stamped("boots"), *stamped(WARNING), *stamped("and goes on")])
    assert (event.kind, event.headline) == (Kind.REFCOUNT, "refcount_t: underflow; use-after-free.")
    assert event.title == "WARNING: refcount bug in skb_ext_put"
    assert (event.line, len(event.lines)) == (2, 7)
    assert event.lines[0] == STAMP + "------------[ cut here ]------------"


def test_a_cut_here_with_nothing_else_to_say_is_named_by_its_warning() -> None:
    (event,) = klog.scan(stamped(WARNING.replace("refcount_t: underflow; use-after-free.\n", "")))
    assert event.kind is Kind.REFCOUNT
    assert event.headline.startswith("WARNING: CPU: 0 PID: 1 at lib/refcount.c:28")


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
    assert event.headline == "kernel BUG at a.c:1!"


@given(st.lists(st.text(), max_size=20))
def test_no_line_breaks_the_scanner(lines: list[str]) -> None:
    for event in klog.scan(lines):
        assert 1 <= event.line <= len(lines)


@given(st.binary(max_size=2000))
def test_what_is_not_suspicious_has_no_event(block: bytes) -> None:
    if not klog.suspicious(block):
        assert klog.scan(block.decode(errors="replace").split("\n")) == ()


OTHER = """\
[   10.000000][    T7] ------------[ cut here ]------------
[   10.000001][    C1] BUG: KASAN: slab-out-of-bounds in tcp_rcv+0x10/0x20
[   10.000002][    T7] WARNING: CPU: 0 PID: 7 at net/core/dev.c:1 dev_thing+0x1/0x2
[   10.000003][    C1] Write of size 8 at addr ffff888000000000 by task nc/99
[   10.000004][    T7] CPU: 0 PID: 7 Comm: ip Tainted: G        W          6.1.0 #1
[   10.000005][    C1] CPU: 1 PID: 99 Comm: nc Not tainted 6.1.0 #1
[   10.000006][    T7] Call Trace:
[   10.000007][    C1] Call Trace:
[   10.000008][    T7]  dev_thing+0x1/0x2
[   10.000009][    C1]  kasan_report+0x1/0x2
[   10.000010][    T7]  ? maybe+0x1/0x2 [veth]
[   10.000011][    C1]  tcp_rcv+0x10/0x20
[   10.000012][    T7] ---[ end trace 0000000000000000 ]---
[   10.000013][    C1] ==================================================================
"""


def test_reports_of_two_cpus_at_once_are_told_apart_by_their_callers() -> None:
    first, second = klog.scan(OTHER.splitlines())
    assert (first.kind, first.title, first.line) == (Kind.WARNING, "WARNING in dev_thing", 1)
    assert (first.context.cpu, first.context.pid, first.context.command, first.context.taint) == (0, 7, "ip", "G W")
    assert [(frame.function, frame.reliable, frame.module) for frame in first.stack] == [
        ("dev_thing", True, ""), ("maybe", False, "veth")]
    assert (second.kind, second.title, second.line) == (
        Kind.KASAN, "KASAN: slab-out-of-bounds Write in tcp_rcv", 2)
    assert (second.context.cpu, second.context.command, second.context.kernel) == (1, "nc", "6.1.0")
    assert [frame.function for frame in second.stack] == ["kasan_report", "tcp_rcv"]
    assert (first.corrupted, second.corrupted) == ("", "")


def test_without_callers_they_run_into_each_other_and_that_is_said() -> None:
    bare = [re.sub(r"\[ +[TC]\d+\] ", " ", line) for line in OTHER.splitlines()]
    events = klog.scan(bare)
    assert [event.kind for event in events] == [Kind.KASAN, Kind.WARNING]
    assert events[0].corrupted
    mixed = klog.scan(["WARNING: CPU: 0 PID: 7 at a.c:1 f+0x1/0x2", "BUG: KASAN: use-after-free in g+0x1/0x2"])
    assert [event.corrupted for event in mixed] == ["another report cuts in", "no stack"]


@pytest.mark.parametrize(("text", "why"), [
    ("kernel BUG at a.c:1!\nRIP: 0010:f+0x1/0x2\nCall Trace:\n</TASK>", "a call trace without frames"),
    ("kernel BUG at a.c:1!\nand no more", "no stack"),
    ("kernel BUG at a.c:1!\n f+0x1/0x2 [   12.345678] other", "lines run into each other"),
    ("kernel BUG at a.c:1!\n** 7 printk messages dropped **\n f+0x1/0x2", "messages were dropped"),
    ("kernel BUG at a.c:1!\n \ufffd\ufffd\n f+0x1/0x2", "bytes that are no text"),
    ("kernel BUG at a.c:1!\nCall Trace:\n f+0x1/0x2", ""),
])
def test_what_is_amiss_with_a_report_is_said(text: str, why: str) -> None:
    assert [event.corrupted for event in klog.scan(stamped(text)) if event.fatal] == [why]


def test_dropped_messages_are_an_event_once_and_hide_no_report() -> None:
    scanner = klog.Scanner()
    events = [event for line in ["** 7 printk messages dropped ** [    1.000000] kernel BUG at a.c:1!",
                                 "** 5 printk messages dropped ** [    1.000000] x"] for event in scanner.feed(line)]
    assert [(event.kind, event.fatal) for event in (*events, *scanner.finish())] == [
        (Kind.DROPPED, False), (Kind.BUG, True)]
    assert scanner.dropped == 12


def test_a_report_of_one_line_does_not_cut_the_one_around_it() -> None:
    waits = "unregister_netdevice: waiting for lo to become free. Usage count = 6"
    hung, netdev = klog.scan(stamped(
        f"INFO: task ip:7 blocked for more than 120 seconds.\nCall Trace:\n schedule+0x1/0x2\n{waits}\n"
        " copy_net_ns+0x1/0x2"))
    assert (hung.title, hung.context.pid) == ("INFO: task hung in copy_net_ns", 7)
    assert (netdev.kind, netdev.lines) == (Kind.NETDEV, (STAMP + waits,))


def test_a_panic_lends_its_stack_to_the_report_that_caused_it() -> None:
    warning, panic = klog.scan(stamped(
        "WARNING: CPU: 0 PID: 1 at lib/refcount.c:28 refcount_warn_saturate+0x1/0x2\n"
        "Kernel panic - not syncing: panic_on_warn set ...\nCall Trace:\n panic+0x1/0x2\n"
        " refcount_warn_saturate+0x1/0x2\n skb_ext_put+0x1/0x2"))
    assert warning.title == "WARNING: refcount bug in skb_ext_put"
    assert (panic.title, panic.line) == ("kernel panic: panic_on_warn set", 2)


def test_a_report_that_stands_behind_a_long_unfinished_line_is_found() -> None:
    (event,) = klog.scan(["." * 5000 + f"{STAMP}BUG: sleeping function called from invalid context at mm/slab.h:1"])
    assert event.headline == "BUG: sleeping function called from invalid context at mm/slab.h:1"
    (event,) = klog.scan([f"{STAMP}BUG: sleeping function called from invalid context at mm/slab.h:1" + "." * 5000])
    assert event.kind is Kind.ATOMIC


@pytest.mark.parametrize("known", ["INFO: trying to register non-static key.", "BUG: bad thing",
                                   "BUG skb (Tainted: G): Objects remaining on __kmem_cache_shutdown()"])
@pytest.mark.parametrize("other", ["WARNING: CPU: 1 PID: 2 at net/core/dev.c:1 f+0x1/0x2", "Oops: 0000 [#1] SMP"])
def test_a_known_report_hides_no_other_that_comes_after_its_stack(known: str, other: str) -> None:
    ignore = Ignore(pattern=re.compile(re.escape(known)), reason="known")
    (event,) = klog.scan([known, "Call Trace:", " g+0x1/0x2", other, "Call Trace:", " f+0x1/0x2"], [ignore])
    assert event.headline == other


def test_a_harmless_line_hides_no_report_that_runs_into_it() -> None:
    harmless, report = f"{STAMP}INFO: NMI handler (x) took too long to run", "BUG: KFENCE: out-of-bounds read in f"
    (event,) = klog.scan([f"{harmless}{STAMP}{report}"])
    assert event.headline == report
    assert klog.scan([harmless]) == ()


def test_a_report_is_being_read_until_its_event_is_there() -> None:
    scanner = klog.Scanner()
    assert list(scanner.feed("BUG: KFENCE: out-of-bounds read in f")) == []
    assert [scanner.reading for _ in scanner.finish()] == [True]
    assert not scanner.reading


def test_a_flood_of_reports_that_a_test_may_go_on_after_hides_no_other() -> None:
    scanner = klog.Scanner(most=3)
    lines = [*["ip: page allocation failure: order:3, mode:0x40cc0"] * 10, "BUG: KASAN: use-after-free in f+0x1/0x2"]
    events = [*(event for line in lines for event in scanner.feed(line)), *scanner.finish()]
    assert [event.fatal for event in events] == [False, False, False, True]
    assert scanner.uncounted == 7


def test_reports_beyond_the_most_are_only_counted() -> None:
    scanner = klog.Scanner(most=3)
    events = [event for line in stamped(WARNING * 10) for event in scanner.feed(line)]
    assert (len(events), scanner.uncounted) == (3, 7)


KNOWN = Ignore(pattern=re.compile(r"refcount bug in skb_ext_put"), reason="seen since 6.1", expires=date(2030, 1, 31),
               where="plan.yaml:7")


def test_a_known_report_is_hidden_until_its_day_has_passed_and_then_says_so() -> None:
    scanner = klog.Scanner([KNOWN], date(2030, 1, 31))
    assert [*(event for line in stamped(WARNING) for event in scanner.feed(line)), *scanner.finish()] == []
    assert dict(scanner.hidden) == {"seen since 6.1": 1}
    (event,) = klog.scan(stamped(WARNING), [KNOWN], date(2030, 2, 1))
    assert event.fatal
    assert event.note == "known as benign (seen since 6.1) until 2030-01-31, which has passed: plan.yaml:7"
    (other,) = klog.scan(stamped(WARNING.replace("skb_ext_put", "skb_clone")), [KNOWN], date(2030, 1, 1))
    assert other.note == ""


def test_every_rule_is_reached_by_its_own_hints() -> None:
    for _, line in REPORTS:
        for rule in RULES:
            if rule.pattern.search(line):
                assert any(hint in line for hint in rule.needs), (rule.kind, line)
