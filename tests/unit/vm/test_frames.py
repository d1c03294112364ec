# SPDX-License-Identifier: GPL-2.0-only
"""Stack frames in the forms that kernels print, the function to blame, and the titles that come of it."""

from __future__ import annotations

import pytest

from harness.vm import frames, klog
from harness.vm.frames import Frame
from harness.vm.machinery import Group


@pytest.mark.parametrize(("text", "frame"), [
    (" f+0x1/0x2", Frame(function="f", offset=1, size=2)),
    (" ? f+0x1/0x2", Frame(function="f", offset=1, size=2, reliable=False)),
    (" f.isra.0+0x1a/0x2b [nf_nat]", Frame(function="f.isra.0", offset=0x1A, size=0x2B, module="nf_nat")),
    (" [<ffffffff81000010>] f+0x1/0x2", Frame(function="f", offset=1, size=2, address=0xFFFFFFFF81000010)),
    (" [<ffffffff81000010>] ? f+0x1/0x2", Frame(function="f", offset=1, size=2, address=0xFFFFFFFF81000010,
                                               reliable=False)),
    (" f+0x1/0x2 net/core/dev.c:12", Frame(function="f", offset=1, size=2, source="net/core/dev.c:12")),
    (" f net/core/dev.c:12 [inline]", Frame(function="f", source="net/core/dev.c:12")),
    ("RIP: 0010:f+0x1/0x2", Frame(function="f", offset=1, size=2, pointer=True)),
    ("RIP: 0010:[<ffffffff81000010>]  [<ffffffff81000010>] f+0x1/0x2",
     Frame(function="f", offset=1, size=2, address=0xFFFFFFFF81000010, pointer=True)),
    ("IP: f+0x1/0x2", Frame(function="f", offset=1, size=2, pointer=True)),
    ("pc : f+0x1/0x2", Frame(function="f", offset=1, size=2, pointer=True)),
    ("PC is at f+0x1/0x2", Frame(function="f", offset=1, size=2, pointer=True)),
    ("[<80de0078>] (f) from [<80de0574>] (g+0x28/0x2c)", Frame(function="f", address=0x80DE0078)),
    (" [<ffffffff81000010>]", Frame(function="", address=0xFFFFFFFF81000010)),
    (" 0xffffffff81000010", Frame(function="", address=0xFFFFFFFF81000010)),
])
def test_a_frame(text: str, frame: Frame) -> None:
    assert frames.parse(text) == frame


@pytest.mark.parametrize("text", [
    "RAX: 0000000000000001 RBX: ffff888000000000 RCX: 0000000000000000", "Code: 00 01 02 <0f> 0b", "Call Trace:",
    "</TASK>", "CPU: 0 PID: 1 Comm: ip Not tainted 6.1.0 #1", "00000000: de ad be ef", "", "1 lock held by sh/1:",
    "Modules linked in: veth", "ffffffff81000010",
])
def test_no_frame(text: str) -> None:
    assert frames.parse(text) is None


def test_a_user_programs_place_is_no_frame() -> None:
    assert frames.stack(["RIP: 0033:f+0x1/0x2", "RIP: 0010:g+0x1/0x2"])[0].function == "g"


@pytest.mark.parametrize(("printed", "name"), [
    ("f.isra.0", "f"), ("f.constprop.0.isra.3", "f"), ("f.cold", "f"), ("__x64_sys_read", "sys_read"),
    ("__do_sys_read", "sys_read"), ("SyS_read", "sys_read"), ("__ia32_compat_sys_ioctl", "sys_ioctl"),
    ("smp_call_function_many_cond", "smp_call_function"), ("synchronize_rcu_expedited", "synchronize_rcu"),
    ("system_call", "system_call"), ("part_round", "part_round"),
])
def test_the_name_that_the_author_wrote(printed: str, name: str) -> None:
    assert frames.plain(printed) == name


def stack(*names: str) -> list[Frame]:
    return [Frame(function=name.removeprefix("? "), reliable=not name.startswith("?")) for name in names]


def test_the_guilty_one_is_the_first_that_is_no_machinery_sure_ones_before_others() -> None:
    groups = (Group.REPORT, Group.SANITIZER)
    assert frames.guilty(stack("dump_stack_lvl", "kasan_report", "? stale", "skb_ext_put", "kfree_skb"), groups
                         ) == "skb_ext_put"
    assert frames.guilty(stack("dump_stack", "? stale"), groups) == "stale"
    assert frames.guilty(stack("dump_stack"), groups) == ""
    assert frames.guilty([], groups) == ""


def test_a_busy_cpu_is_named_by_what_was_dispatched() -> None:
    groups = (Group.REPORT, Group.INTERRUPT, Group.LOCKS)
    spinning = stack("watchdog_timer_fn", "__hrtimer_run_queues", "memcpy", "fill", "tc_modify_qdisc",
                     "rtnetlink_rcv_msg", "netlink_rcv_skb", "sock_sendmsg")
    assert frames.handler(spinning, groups) == "tc_modify_qdisc"
    assert frames.handler(stack("f", "g"), groups) == "f"
    assert frames.handler(stack("smp_call_function_single", "on_each_cpu", "g", "vfs_write"), groups
                          ) == "smp_call_function"


TRACE = "\nCall Trace:\n <TASK>\n dump_stack_lvl+0x1/0x2\n {}+0x1/0x2\n skb_ext_put+0x1/0x2\n __x64_sys_read+0x1/0x2"


@pytest.mark.parametrize(("text", "title"), [
    ("BUG: KASAN: double-free or invalid-free in skb_ext_put+0x1/0x2" + TRACE.format("kasan_report"),
     "KASAN: invalid-free in skb_ext_put"),
    ("BUG: KASAN: slab-use-after-free in memcpy+0x1/0x2\nRead of size 8 at addr" + TRACE.format("kasan_report"),
     "KASAN: slab-use-after-free Read in skb_ext_put"),
    ("BUG: KFENCE: out-of-bounds read in skb_ext_put+0x1/0x2" + TRACE.format("kfence_report_error"),
     "KFENCE: out-of-bounds read in skb_ext_put"),
    ("BUG: KCSAN: data-race in f / g", "KCSAN: data-race in f / g"),
    ("UBSAN: shift-out-of-bounds in a.c:1:2" + TRACE.format("ubsan_epilogue"),
     "UBSAN: shift-out-of-bounds in skb_ext_put"),
    ("WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2", "WARNING in f"),
    ("WARNING: a.c:1 at f+0x1/0x2, CPU#1: ip/7", "WARNING in f"),
    ("WARNING: possible circular locking dependency detected\n-> #1 (a){}:\n wrong+0x1/0x2\nstack backtrace:"
     + TRACE.format("lock_acquire"), "possible deadlock in skb_ext_put"),
    ("WARNING: suspicious RCU usage\nstack backtrace:" + TRACE.format("lockdep_rcu_suspicious"),
     "WARNING: suspicious RCU usage in skb_ext_put"),
    ("BUG: sleeping function called from invalid context at a.c:1" + TRACE.format("__might_resched"),
     "BUG: sleeping function called from invalid context in skb_ext_put"),
    ("INFO: task ip:7 blocked for more than 120 seconds." + TRACE.format("schedule"),
     "INFO: task hung in skb_ext_put"),
    ("watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [ip:7]\nRIP: 0010:f+0x1/0x2", "BUG: soft lockup in f"),
    ("rcu: INFO: rcu_sched self-detected stall on CPU" + TRACE.format("rcu_sched_clock_irq"),
     "INFO: rcu detected stall in skb_ext_put"),
    ("general protection fault: 0000 [#1] SMP\nRIP: 0010:f+0x1/0x2", "general protection fault in f"),
    ("BUG: kernel NULL pointer dereference, address: 0\nRIP: 0010:f+0x1/0x2",
     "BUG: unable to handle kernel NULL pointer dereference in f"),
    ("BUG: unable to handle page fault for address: ff\nRIP: 0010:strlen+0x1/0x2\nCall Trace:\n f+0x1/0x2",
     "BUG: unable to handle kernel paging request in f"),
    ("kernel BUG at a.c:1!\nRIP: 0010:skb_panic+0x1/0x2\nCall Trace:\n skb_put+0x1/0x2\n f+0x1/0x2",
     "kernel BUG in f"),
    ("kernel BUG at lib/list_debug.c:26!\nRIP: 0010:__list_add_valid+0x1/0x2\nCall Trace:\n f+0x1/0x2",
     "BUG: corrupted list in f"),
    (("unreferenced object 0xffff888000000000 (size 64):\n  comm \"ip\", pid 7\n  backtrace:\n"
     "    [<ffffffff81000010>] kmalloc+0x1/0x2\n    [<ffffffff81000010>] f+0x1/0x2"), "memory leak in f"),
    ("kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)", "memory leak"),
    ("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
     "kernel panic: Attempted to kill init"),
    ("tail invoked oom-killer: gfp_mask=0x0", "out of memory"),
    ("unregister_netdevice: waiting for veth0 to become free. Usage count = 2",
     "unregister_netdevice: waiting for DEV to become free"),
    ("ip: page allocation failure: order:4, mode:0x0" + TRACE.format("warn_alloc"),
     "page allocation failure in skb_ext_put"),
])
def test_a_title(text: str, title: str) -> None:
    assert klog.scan(text.split("\n"))[0].title == title
