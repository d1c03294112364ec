# SPDX-License-Identifier: GPL-2.0-only
"""The table of what a kernel's reports look like: which lines open one, and which similar ones do not.

Sources: the kernel's own messages (`kernel/panic.c`, `lib/bug.c`, `arch/x86/mm/fault.c`, `mm/kasan/report.c`,
`kernel/locking/lockdep.c`, `kernel/rcu/tree_stall.h`, `kernel/watchdog.c`, `kernel/hung_task.c`, `net/core/dev.c`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Kind(StrEnum):
    """What a report is about."""

    PANIC = "panic"
    OOPS = "oops"
    GPF = "general protection fault"
    EXCEPTION = "exception"
    BUG = "BUG"
    WARNING = "WARNING"
    KASAN = "KASAN"
    KMSAN = "KMSAN"
    KCSAN = "KCSAN"
    KFENCE = "KFENCE"
    UBSAN = "UBSAN"
    LEAK = "memory leak"
    LOCKDEP = "lockdep"
    ATOMIC = "sleeping in atomic context"
    RCU = "RCU usage"
    RCU_STALL = "RCU stall"
    SOFT_LOCKUP = "soft lockup"
    HARD_LOCKUP = "hard lockup"
    HUNG_TASK = "hung task"
    REFCOUNT = "refcount"
    NETDEV = "netdevice never freed"
    TIMEOUT = "transmit timeout"
    PREEMPT = "preemption imbalance"
    SLAB = "slab corruption"
    LIST = "list corruption"
    OOM = "out of memory"
    ALLOCATION = "page allocation failure"
    REBOOT = "unexpected reboot"
    DROPPED = "printk messages dropped"
    SILENCE = "silence"


STACKLESS = frozenset((Kind.OOM, Kind.REBOOT, Kind.DROPPED, Kind.SILENCE, Kind.NETDEV, Kind.LEAK,
                       Kind.TIMEOUT, Kind.PREEMPT))
"""Reports that are whole without a stack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A row of the table.

    Attributes:
        kind: what a line that matches opens.
        pattern: searched in the line without its timestamp.
        fatal: whether a test may not go on after it.
        alone: whether it is a report of one line, which may stand anywhere in another.
        needs: a line that `pattern` matches has one of these: asking that first is many times faster.
    """

    kind: Kind
    pattern: re.Pattern[str]
    fatal: bool = True
    alone: bool = False
    needs: tuple[str, ...] = ("",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """Lines that look like a report and are none.

    Attributes:
        pattern: searched in the line without its timestamp.
        reason: why it is harmless.
        expires: the last day on which that is believed; None for ever.
        where: the file and line that says so, for messages.
    """

    pattern: re.Pattern[str]
    reason: str
    expires: date | None = None
    where: str = ""

    def expired(self, today: date) -> bool:
        """Whether its last day has passed."""
        return self.expires is not None and today > self.expires


def _rule(kind: Kind, needs: str, pattern: str, *, fatal: bool = True, alone: bool = False) -> Rule:
    return Rule(kind=kind, pattern=re.compile(pattern), needs=tuple(needs.split("|")), fatal=fatal, alone=alone)


def _ignore(pattern: str, reason: str) -> Ignore:
    return Ignore(pattern=re.compile(pattern), reason=reason)


_STARTS = r"^(?:.*?\]\s*)?"
"""A report's first words stand at the start of the line, or after what an interleaved console left in front."""

RULES = (
    _rule(Kind.KASAN, "BUG: KASAN",
          r"BUG: KASAN: "),
    _rule(Kind.KASAN, "BUG: KASan",
          r"BUG: KASan: "),
    _rule(Kind.KMSAN, "BUG: KMSAN",
          r"BUG: KMSAN: "),
    _rule(Kind.KCSAN, "BUG: KCSAN",
          r"BUG: KCSAN: "),
    _rule(Kind.KFENCE, "BUG: KFENCE",
          r"BUG: KFENCE: "),
    _rule(Kind.UBSAN, "UBSAN: ",
          r"UBSAN: "),
    _rule(Kind.LEAK, "BUG: memory|unreferenced object|kmemleak",
          r"BUG: memory leak|unreferenced object 0x[0-9a-f]+ \(size|"
          r"kmemleak: \d+ new suspected memory leaks"),
    _rule(Kind.SOFT_LOCKUP, "BUG: soft|BUG: workqueue",
          r"BUG: soft lockup|BUG: workqueue lockup|watchdog: BUG: soft lockup"),
    _rule(Kind.HARD_LOCKUP, "hard LOCKUP",
          r"Watchdog detected hard LOCKUP|NMI watchdog: Watchdog detected hard LOCKUP"),
    _rule(Kind.RCU_STALL, "rcu",
          r"INFO: rcu\w* (?:self-)?detected (?:expedited )?stalls?|rcu: INFO: rcu\w* "
          r"(?:self-)?detected|rcu.*detected stall|rcu: .*kthread (?:timer wakeup|starved)|"
          r"INFO: rcu_\w+ .*stall"),
    _rule(Kind.HUNG_TASK, "INFO: task",
          r"INFO: task .* blocked(?: in I/O wait)? for more than \d+ seconds|INFO: task .* can't die for more than"),
    _rule(Kind.ATOMIC, "BUG: sleep|BUG: sched|BUG: using|BUG: work|BUG: Inv",
          r"BUG: sleeping function called from invalid context|BUG: scheduling while atomic|"
          r"BUG: using (?:__)?(?:this_cpu|smp_processor_id|__this_cpu)|BUG: workqueue leaked lock|"
          r"BUG: Invalid wait context"),
    _rule(Kind.RCU, "suspicious RCU",
          r"WARNING: suspicious RCU usage|INFO: suspicious RCU usage|\[ INFO: suspicious RCU"),
    _rule(Kind.LOCKDEP, "WARNING: |INFO: |BUG: |LOCKS_WARN|possible deadlock",
          r"WARNING: possible circular locking|WARNING: possible recursive locking|"
          r"WARNING: possible irq lock inversion|WARNING: inconsistent lock state|"
          r"WARNING: .*-> .*unsafe lock order detected|WARNING: bad unlock balance|"
          r"WARNING: held lock freed|WARNING: lock held|WARNING: .*lock.*held when returning|"
          r"WARNING: bad contention|WARNING: nested lock was not taken|"
          r"\[ ?(?:INFO|BUG): (?:possible|inconsistent|bad|held|.*lock)|"
          r"INFO: possible (?:circular|recursive|irq) ?lock|INFO: inconsistent lock|"
          r"INFO: .*unsafe lock order|BUG: held lock freed|BUG: bad unlock balance|"
          r"BUG: lock held (?:when returning|at task exit)|"
          r"BUG: MAX_(?:LOCKDEP|STACK_TRACE|LOCK)\w+ too low|INFO: trying to register non-static key|"
          r"BUG: (?:spinlock|rwlock|mutex|rwsem)\b|DEBUG_LOCKS_WARN_ON|"
          r"possible deadlock|WARNING: Nested lock"),
    _rule(Kind.REFCOUNT, "refcount",
          r"refcount_t: |WARNING: .*\blib/refcount\.c:\d+"),
    _rule(Kind.NETDEV, "unregister_netdevice",
          r"unregister_netdevice: waiting for \S+ to become free", alone=True),
    # No WARN since 6.8 and in stable trees (e316dd1cf135); until then the WARNING says it.
    _rule(Kind.TIMEOUT, "NETDEV WATCHDOG",
          r"NETDEV WATCHDOG: CPU: \d+: transmit queue \d+ timed out", alone=True),
    _rule(Kind.PREEMPT, "entered softirq",
          r"huh, entered softirq .* with preempt_count", alone=True),
    _rule(Kind.SLAB, "BUG |cache_from_obj|kmem_cache_destroy|Slab corruption|usercopy|BUG: Obj|slab error",
          r"BUG \S.*(?:Not tainted|Tainted).*?: |"
          r"BUG [\w:-]+(?: \(.*\))?: (?:Objects remaining|Redzone|Poison|"
          r"Object |Padding|Freepointer|Wrong |Freechain|Freelist|Left Redzone|Right Redzone)|"
          r"cache_from_obj: Wrong slab cache|kmem_cache_destroy \S+: Slab cache still has objects|"
          r"Slab corruption|usercopy: Kernel memory (?:exposure|overwrite) attempt|"
          r"BUG: Object already free|slab error in"),
    _rule(Kind.LIST, "orruption",
          r"list_(?:add|del|add_tail) corruption|corruption\. (?:next|prev)->"),
    _rule(Kind.GPF, "general protection",
          r"general protection fault(?:,| for |: [0-9a-f]{4} )"),
    _rule(Kind.EXCEPTION, "[#|PANIC|Oops: |Bad mode|unexpected system|nrecoverable",
          _STARTS + r"(?:divide[_ ]error|invalid opcode|int3|stack segment|double fault|"
          r"bounds|segment not present|coprocessor segment overrun|alignment check|"
          r"invalid TSS|machine check|simd exception|debug|overflow|control protection): "
          r"[0-9a-f]{4} \[#\d+\]|PANIC: double fault|PANIC: early exception|"
          r"traps: PANIC|Oops: (?:divide|invalid|stack|double|int3)|Bad mode in|"
          r"unexpected system error|Unrecoverable exception"),
    _rule(Kind.OOPS, "nable to handle|BUG: |nhandled fault|Internal error|ernel stack overflow|kernel tried|"
          "nsufficient|bad area|Oops",
          r"(?:BUG: )?[Uu]nable to handle (?:kernel )?(?:NULL pointer|paging request|access to user|"
          r"kernel|read from|write to)|BUG: kernel NULL pointer dereference|BUG: unable to handle|"
          r"Unhandled fault: |Unable to handle kernel|Internal error: |kernel stack overflow|"
          r"BUG: stack guard page was hit|kernel stack overflow \(page|kernel tried to execute|"
          r"Insufficient stack space to handle exception|BUG: TASK stack guard page|"
          r"Kernel stack overflow|Kernel access of bad area|"
          r"Oops(?::| \[#| - |\[#)"),
    _rule(Kind.BUG, "kernel BUG|BUG: |PANIC: |panicked|SSERT|ssertion",
          r"kernel BUG (?:at|in) |\bBUG: [A-Z]|\bBUG: (?!unable|soft|sleeping|scheduling|bad)\S|"
          r"BUG: bad |"
          r"PANIC: .*|rust_kernel: panicked at|ASSERTION? [Ff]ailed|ASSERT FAILED|Assertion failed:"),
    _rule(Kind.WARNING, "WARNING: |cut here|ODEBUG",
          r"WARNING: (?:CPU: ?\d+|.* at |kernel stack|[a-z].*\+0x)|-{8,}\[ cut here \]-{8,}|"
          r"WARNING: can't dereference|^WARNING: |ODEBUG: (?:free|init|activate|deactivate|assert)"),
    # What prints a stack without a word that says so: netdev_rx_csum_fault, __report_bad_irq, sysfs_warn_dup.
    _rule(Kind.WARNING, "hw csum|nobody cared|duplicate filename",
          r"\bhw csum failure|\birq \d+: nobody cared|sysfs: cannot create duplicate filename"),
    # The same, or not even a stack: net/core/neighbour.c, net/core/page_pool.c, net/ipv4/af_inet.c, lib/kobject.c,
    # mm/page_poison.c, kernel/sched/idle.c.
    _rule(Kind.WARNING, "neighbour|NEIGH|page_pool|Attempt to release|seriously wrong|pagealloc|idle thread",
          r"NEIGH: BUG, double timer add|Destroying alive neighbour|\bneighbour leakage|"
          r"page_pool refcnt -?\d+ violation|Attempt to release (?:TCP|alive inet) socket|"
          r"kobject .*something is seriously wrong|pagealloc: (?:memory corruption|single bit error)|"
          r"bad: scheduling from the idle thread"),
    _rule(Kind.OOM, "ut of memory|oom-killer",
          r"Out of memory(?: \(oom_kill_allocating_task\))?: Kill(?:ed)? process|invoked oom-killer|"
          r"Memory cgroup out of memory: Kill"),
    _rule(Kind.PANIC, "panic: |Kernel panic",
          r"(?<!end )Kernel panic - not syncing|^panic: |Kernel panic: "),
    _rule(Kind.BUG, "INFO: ",
          r"INFO: (?:Freed in|Allocated in|Slab 0x|Object 0x)|INFO: possible"),
    _rule(Kind.ALLOCATION, "allocation failure|vmalloc",
          r": page allocation failure(?:: order|\. order)|vmalloc: allocation failure|"
          r"vmalloc error: size|zero-size vmalloc", fatal=False),
)

IGNORES = (
    _ignore(r"^(?:TITLE|ALT|START|FRAME): ", "headers of a saved log that say what is in it"),
    _ignore(r"INFO: lockdep is turned off", "said in passing inside other reports"),
    _ignore(r"INFO: NMI handler .* took too (?:long|lo)", "a slow host"),
    _ignore(r"INFO: Stall ended before state dump start", "the stall it speaks of was reported"),
    _ignore(r"(?:Spectre|Speculative|MDS|MMIO|TAA|ITS|SRSO|L1TF|RETBleed|Retbleed|VMSCAPE)\b.*WARNING",
            "mitigations that this CPU model lacks"),
    _ignore(r"WARNING: (?:the mand mount option|Support for |Unprivileged eBPF|.*deprecated|See https?:|"
            r"kernel not compiled with)", "deprecation notices and advice, not reports"),
    _ignore(r"traps: \S+\[\d+\] (?:general protection|trap )", "a fault of a user program"),
    _ignore(r"ODEBUG: Out of memory", "a debugging aid switched itself off"),
    _ignore(r"^harness: after ", "the name of a guest test, which may be anything"),
    _ignore(r"\[U\] ", "text of user programs"),
    _ignore(r"^(?:Command line: |Kernel command line: |Unknown kernel command line )", "echo of the command line"),
)

_ALL_HINTS = frozenset((
    "messages dropped", "Linux version", "SeaBIOS", *(hint for rule in RULES for hint in rule.needs)))
HINTS = tuple(hint.encode() for hint in sorted(_ALL_HINTS)
              if not any(other in hint for other in _ALL_HINTS - {hint}))
"""Every line that means anything to `harness.vm.klog` has one of these."""
