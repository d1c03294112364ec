# SPDX-License-Identifier: GPL-2.0-only
"""Pure: lines of a kernel's console to events: what went wrong, what it is called, and the lines that tell of it.

A table of patterns, most specific first, says which lines open a report; ignore rules, each with its reason, say
which similar ones do not. A report is then read to its end: its own end marker, another report, or the caller's
word (`Scanner.finish`, on silence or the end of the console).

Sources: the kernel's own messages (`kernel/panic.c`, `lib/bug.c`, `arch/x86/mm/fault.c`, `mm/kasan/report.c`,
`kernel/locking/lockdep.c`, `kernel/rcu/tree_stall.h`, `kernel/watchdog.c`, `kernel/hung_task.c`, `net/core/dev.c`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

MAX_LINES = 400
"""Lines of one report that are kept; a report that goes on is cut there."""
_MAX_LINE = 4096


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
    SLAB = "slab corruption"
    LIST = "list corruption"
    OOM = "out of memory"
    ALLOCATION = "page allocation failure"
    REBOOT = "unexpected reboot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A row of the table.

    Attributes:
        kind: what a line that matches opens.
        pattern: searched in the line without its timestamp.
        fatal: whether a test may not go on after it.
    """

    kind: Kind
    pattern: re.Pattern[str]
    fatal: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """Lines that look like a report and are none.

    Attributes:
        pattern: searched in the line without its timestamp.
        reason: why it is harmless.
    """

    pattern: re.Pattern[str]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelEvent:
    """A report of the kernel's.

    Attributes:
        kind: what it is about.
        title: the line that says it, without timestamp.
        line: that line's number in the console log, counted from 1.
        lines: the report, as it stood in the log.
        fatal: whether a test may not go on after it.
    """

    kind: Kind
    title: str
    line: int
    lines: tuple[str, ...]
    fatal: bool = True


def _rule(kind: Kind, pattern: str, *, fatal: bool = True) -> Rule:
    return Rule(kind=kind, pattern=re.compile(pattern), fatal=fatal)


def _ignore(pattern: str, reason: str) -> Ignore:
    return Ignore(pattern=re.compile(pattern), reason=reason)


_CUT = "[ cut here ]"
"""Opens a report that says further down what it is about; it is retitled by that line."""
_STARTS = r"^(?:.*?\]\s*)?"
"""A report's first words stand at the start of the line, or after what an interleaved console left in front."""

RULES = (
    _rule(Kind.KASAN, r"BUG: KASAN: "),
    _rule(Kind.KASAN, r"BUG: KASan: "),
    _rule(Kind.KMSAN, r"BUG: KMSAN: "),
    _rule(Kind.KCSAN, r"BUG: KCSAN: "),
    _rule(Kind.KFENCE, r"BUG: KFENCE: "),
    _rule(Kind.UBSAN, r"UBSAN: "),
    _rule(Kind.LEAK, r"BUG: memory leak|unreferenced object 0x[0-9a-f]+ \(size|"
                     r"kmemleak: \d+ new suspected memory leaks"),
    _rule(Kind.SOFT_LOCKUP, r"BUG: soft lockup|BUG: workqueue lockup|watchdog: BUG: soft lockup"),
    _rule(Kind.HARD_LOCKUP, r"Watchdog detected hard LOCKUP|NMI watchdog: Watchdog detected hard LOCKUP"),
    _rule(Kind.RCU_STALL, r"INFO: rcu\w* (?:self-)?detected (?:expedited )?stalls?|rcu: INFO: rcu\w* "
                          r"(?:self-)?detected|rcu.*detected stall|rcu: .*kthread (?:timer wakeup|starved)|"
                          r"INFO: rcu_\w+ .*stall"),
    _rule(Kind.HUNG_TASK, r"INFO: task .* blocked for more than \d+ seconds|INFO: task .* can't die for more than"),
    _rule(Kind.ATOMIC, r"BUG: sleeping function called from invalid context|BUG: scheduling while atomic|"
                       r"BUG: using (?:__)?(?:this_cpu|smp_processor_id|__this_cpu)|BUG: workqueue leaked lock|"
                       r"BUG: Invalid wait context"),
    _rule(Kind.RCU, r"WARNING: suspicious RCU usage|INFO: suspicious RCU usage|\[ INFO: suspicious RCU"),
    _rule(Kind.LOCKDEP, r"WARNING: possible circular locking|WARNING: possible recursive locking|"
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
    _rule(Kind.REFCOUNT, r"refcount_t: "),
    _rule(Kind.NETDEV, r"unregister_netdevice: waiting for \S+ to become free"),
    _rule(Kind.SLAB, r"BUG \S.*(?:Not tainted|Tainted).*?: |"
                     r"BUG [\w:-]+(?: \(.*\))?: (?:Objects remaining|Redzone|Poison|"
                     r"Object |Padding|Freepointer|Wrong |Freechain|Freelist|Left Redzone|Right Redzone)|"
                     r"cache_from_obj: Wrong slab cache|kmem_cache_destroy \S+: Slab cache still has objects|"
                     r"Slab corruption|usercopy: Kernel memory (?:exposure|overwrite) attempt|"
                     r"BUG: Object already free|slab error in"),
    _rule(Kind.LIST, r"list_(?:add|del|add_tail) corruption|corruption\. (?:next|prev)->"),
    _rule(Kind.GPF, r"general protection fault(?:,| for |: [0-9a-f]{4} )"),
    _rule(Kind.EXCEPTION, _STARTS + r"(?:divide[_ ]error|invalid opcode|int3|stack segment|double fault|"
                          r"bounds|segment not present|coprocessor segment overrun|alignment check|"
                          r"invalid TSS|machine check|simd exception|debug|overflow|control protection): "
                          r"[0-9a-f]{4} \[#\d+\]|PANIC: double fault|PANIC: early exception|"
                          r"traps: PANIC|Oops: (?:divide|invalid|stack|double|int3)|Bad mode in|"
                          r"unexpected system error|Unrecoverable exception"),
    _rule(Kind.OOPS, r"(?:BUG: )?[Uu]nable to handle (?:kernel )?(?:NULL pointer|paging request|access to user|"
                     r"kernel|read from|write to)|BUG: kernel NULL pointer dereference|BUG: unable to handle|"
                     r"Unhandled fault: |Unable to handle kernel|Internal error: |kernel stack overflow|"
                     r"BUG: stack guard page was hit|kernel stack overflow \(page|kernel tried to execute|"
                     r"Insufficient stack space to handle exception|BUG: TASK stack guard page|"
                     r"Kernel stack overflow|Kernel access of bad area|"
                     r"Oops(?::| \[#| - |\[#)"),
    _rule(Kind.BUG, r"kernel BUG (?:at|in) |\bBUG: [A-Z]|\bBUG: (?!unable|soft|sleeping|scheduling|bad)\S|"
                    r"BUG: bad |"
                    r"PANIC: .*|ASSERTION? [Ff]ailed|ASSERT FAILED|Assertion failed:"),
    _rule(Kind.WARNING, r"WARNING: (?:CPU: ?\d+|.* at |kernel stack|[a-z].*\+0x)|-{8,}\[ cut here \]-{8,}|"
                        r"WARNING: can't dereference|^WARNING: |ODEBUG: (?:free|init|activate|deactivate|assert)"),
    _rule(Kind.OOM, r"Out of memory(?: \(oom_kill_allocating_task\))?: Kill(?:ed)? process|invoked oom-killer|"
                    r"Memory cgroup out of memory: Kill"),
    _rule(Kind.PANIC, r"(?<!end )Kernel panic - not syncing|^panic: |Kernel panic: "),
    _rule(Kind.BUG, r"INFO: (?:Freed in|Allocated in|Slab 0x|Object 0x)|INFO: possible"),
    _rule(Kind.ALLOCATION, r": page allocation failure(?:: order|\. order)|vmalloc: allocation failure|"
                           r"vmalloc error: size|zero-size vmalloc", fatal=False),
)

IGNORES = (
    _ignore(r"INFO: lockdep is turned off", "said in passing inside other reports"),
    _ignore(r"INFO: NMI handler .* took too (?:long|lo)", "a slow host"),
    _ignore(r"INFO: Stall ended before state dump start", "the stall it speaks of was reported"),
    _ignore(r"(?:Spectre|Speculative|MDS|MMIO|TAA|ITS|SRSO|L1TF|RETBleed|Retbleed|VMSCAPE)\b.*WARNING",
            "mitigations that this CPU model lacks"),
    _ignore(r"WARNING: (?:the mand mount option|Support for |Unprivileged eBPF|.*deprecated|See https?:|"
            r"kernel not compiled with)", "deprecation notices and advice, not reports"),
    _ignore(r"traps: \S+\[\d+\] (?:general protection|trap )", "a fault of a user program"),
    _ignore(r"ODEBUG: Out of memory", "a debugging aid switched itself off"),
    _ignore(r"\[U\] ", "text of user programs"),
    _ignore(r"^(?:Command line: |Kernel command line: |Unknown kernel command line )", "echo of the command line"),
)

_PREFIX = re.compile(r"^(?:<\d+>)?(?:\[\s*\d+\.\d+\](?:\s?\[\s*[TC]\d+\])?\s?)+")
_STAMPED = re.compile(r"^.*\[\s*\d+\.\d+\](?:\s?\[\s*[TC]\d+\])?\s*")
_COLOUR = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[=>c7-8]|\][^\x07]*\x07)")
_ENDS = re.compile(r"---\[ end (?:trace|Kernel panic)")
_BOOT = re.compile(r"^Linux version \d")
_FIRMWARE = re.compile(r"^SeaBIOS \(version ")
_HINTS = tuple(hint.encode() for hint in (
    "BUG", "WARNING", "INFO: ", "UBSAN", "unreferenced object", "kmemleak", "rcu", "refcount_t", "unregister_netdevice",
    "orruption", "nable to handle", "Oops", "Internal error", "stack", "general protection", "[#", "PANIC", "Bad mode",
    "ssert", "ASSERT", "cut here", "ut of memory", "oom-killer", "panic", "allocation failure", "vmalloc",
    "Linux version", "SeaBIOS", "LOCKUP", "LOCKS_WARN", "possible deadlock", "slab", "usercopy", "nhandled", "bad area",
    "nrecoverable", "unexpected system", "kernel tried",
))
"""Every line that a rule can match has one of these: looking for them first is many times faster than the rules."""


def suspicious(block: bytes) -> bool:
    """Whether any line of `block` could open a report. False is certain."""
    return any(hint in block for hint in _HINTS)


def clean(line: str) -> str:
    """`line` as text: colour codes and control characters out; of what `\\r` overwrote, the last version."""
    line = _COLOUR.sub("", line[:_MAX_LINE]).rstrip("\r\n")
    line = line.rsplit("\r", 1)[-1]
    return "".join(char for char in line if char >= " " or char == "\t")


def message(line: str) -> str:
    """`line` without what printk put in front of it: level, timestamp, caller."""
    return _PREFIX.sub("", clean(line))


def title(text: str) -> str:
    """A title from `text`, a line without timestamp; what an interleaved console left in front of it is cut off."""
    return _STAMPED.sub("", text).strip()


def opens(text: str, ignores: Iterable[Ignore] = ()) -> Rule | None:
    """The rule by which `text` (a line without timestamp) opens a report, or None.

    `ignores` are rules besides those that always hold.
    """
    rule = next((rule for rule in RULES if rule.pattern.search(text)), None)
    if rule is None or any(ignore.pattern.search(text) for ignore in (*IGNORES, *ignores)):
        return None
    return rule


class Scanner:
    """Finds events in a stream of lines. Holds at most one open report."""

    def __init__(self, ignores: Iterable[Ignore] = ()) -> None:
        self._ignores = tuple(ignores)
        self._number = 0
        self._boots = 0
        self._spoken = False
        self._rule: Rule | None = None
        self._title = ""
        self._start = 0
        self._lines: list[str] = []

    @property
    def number(self) -> int:
        """The lines seen until now."""
        return self._number

    @property
    def reading(self) -> bool:
        """Whether a report is open."""
        return self._rule is not None

    def skip(self, block: bytes) -> None:
        """Take lines that are not `suspicious`, while no report is open."""
        self._number += block.count(b"\n")
        self._spoken = self._spoken or not block.isspace()

    def feed(self, line: str) -> Iterator[KernelEvent]:
        """Take one line; yields the reports that it completes."""
        self._number += 1
        if self._rule is None and not suspicious(line.encode()):
            self._spoken = self._spoken or not line.isspace()
            return
        text = message(line)
        rule = self._opener(text)
        if rule is not None and self._replaces(rule):
            yield from self.finish()
            self._rule, self._title, self._start = rule, title(text), self._number
        if self._rule is None:
            return
        self._lines.append(clean(line))
        if rule is not None and _CUT in self._title and _CUT not in text:
            self._rule, self._title = rule, title(text)
        if len(self._lines) >= MAX_LINES or _ENDS.search(text):
            yield from self.finish()

    def finish(self) -> Iterator[KernelEvent]:
        """The open report, if there is one, as it is: nothing more will come of it."""
        if self._rule is not None:
            yield KernelEvent(kind=self._rule.kind, title=self._title, line=self._start, lines=tuple(self._lines),
                              fatal=self._rule.fatal)
        self._rule, self._lines = None, []

    def _opener(self, text: str) -> Rule | None:
        if _BOOT.search(text):
            self._boots += 1
            if self._boots > 1:
                return _REBOOT
        if _FIRMWARE.search(text) and self._spoken:
            return _REBOOT
        return opens(text, self._ignores)

    def _replaces(self, rule: Rule) -> bool:
        """Whether a line of `rule` opens a report of its own rather than being part of the open one."""
        return (self._rule is None or rule.kind in (Kind.PANIC, Kind.REBOOT)
                or (rule.fatal and not self._rule.fatal))


_REBOOT = Rule(kind=Kind.REBOOT, pattern=_BOOT)


def scan(lines: Iterable[str], ignores: Iterable[Ignore] = ()) -> tuple[KernelEvent, ...]:
    """Every event in `lines`, a whole console log."""
    scanner = Scanner(ignores)
    events = [event for line in lines for event in scanner.feed(line)]
    return (*events, *scanner.finish())
