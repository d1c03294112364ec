# SPDX-License-Identifier: GPL-2.0-only
"""Pure: a report's title in normal form: what went wrong and in which function, without what varies from run to run.

"KASAN: use-after-free Read in f", "WARNING in f", "possible deadlock in f": the forms that kernel developers know from
syzkaller's reports, so that two logs of one bug have one title. Two tables say it: which line takes which form, and
(`harness.vm.machinery`) which functions are skipped when the guilty one is looked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from harness.vm import frames as stacks
from harness.vm.frames import Frame
from harness.vm.machinery import Group
from harness.vm.reports import Kind


class Where(Enum):
    """Which frames of a report may name its function."""

    NOWHERE = auto()
    ALL = auto()
    STACK = auto()
    """Not the one that the first line names."""
    BACKTRACE = auto()
    """Those below lockdep's "stack backtrace:"; the chains above it are of other times."""
    TASK = auto()
    """Those below the interrupt that noticed it, by what was dispatched (`frames.handler`)."""
    WAITER = auto()
    """Those of a task that waits."""


_BASE = (Group.REPORT, Group.SANITIZER, Group.ENTRY)
_MEMORY = (*_BASE, Group.STRING, Group.ATOMIC, Group.LOCKS, Group.LOCKDEP, Group.LISTS, Group.ALLOCATOR, Group.CHECK,
           Group.DEBUGOBJECTS, Group.CORE, Group.REFERENCES, Group.WAIT)
_LOCKING = (*_BASE, Group.LOCKS, Group.LOCKDEP, Group.ATOMIC, Group.INTERRUPT, Group.REFERENCES, Group.CHECK)
_BUSY = (*_MEMORY, Group.INTERRUPT, Group.WAIT)
_WAITING = (*_BASE, Group.WAIT, Group.LOCKS, Group.LOCKDEP, Group.ATOMIC, Group.CORE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A row of the table.

    Attributes:
        pattern: searched in the line that opens the report.
        form: the title; `{function}` is the guilty one, other fields are groups of `pattern`.
        where: the frames that may name it.
        skip: functions that do not.
        unnamed: the title where no function is found; without it, the form up to " in ".
        inside: searched in the rest of the report; with it the row holds only where that is found, and its groups are
            fields, too.
    """

    pattern: re.Pattern[str]
    form: str
    where: Where = Where.ALL
    skip: tuple[Group, ...] = _BASE
    unnamed: str = ""
    inside: re.Pattern[str] | None = None


def _form(pattern: str, form: str, where: Where = Where.ALL, skip: tuple[Group, ...] = _BASE, unnamed: str = "",
          inside: str = "") -> Form:
    if "{function}" not in form:
        where = Where.NOWHERE
    return Form(pattern=re.compile(pattern), form=form, where=where, skip=skip, unnamed=unnamed,
                inside=re.compile(inside) if inside else None)


_FUNCTION = r"(?P<function>[A-Za-z_][\w.]*)"
_ACCESS = r"(?P<access>Read|Write) (?:of size|at addr)"

FORMS = (
    # Until 6.1 one line said both (mm/kasan/report.c): one title, so that it is the same for all kernels.
    _form(r"KASA[Nn]: (?:double-free|invalid-free)", "KASAN: invalid-free in {function}", skip=_MEMORY),
    _form(r"KASA[Nn]: (?P<what>[\w -]+?) (?:in|on) ", "KASAN: {what} {access} in {function}", skip=_MEMORY,
          inside=_ACCESS),
    _form(r"KASA[Nn]: (?P<what>[\w -]+?) (?:in|on) ", "KASAN: {what} in {function}", skip=_MEMORY),
    _form(r"KMSAN: (?P<what>[\w-]+) in ", "KMSAN: {what} in {function}", skip=_MEMORY),
    _form(r"KCSAN: (?P<what>[\w-]+) in (?P<one>[\w.]+)(?:\+\S+)? / (?P<other>[\w.]+)",
          "KCSAN: {what} in {one} / {other}"),
    _form(r"KCSAN: (?P<what>[\w-]+(?: [\w-]+)?) in ", "KCSAN: {what} in {function}", skip=_MEMORY),
    _form(r"KFENCE: (?P<what>[\w -]+?) in ", "KFENCE: {what} in {function}", skip=_MEMORY),
    _form(r"UBSAN: [Uu]ndefined behaviour", "UBSAN: undefined-behaviour in {function}"),
    _form(r"UBSAN: (?P<what>[\w-]+)", "UBSAN: {what} in {function}"),
    _form(r"memory leak|unreferenced object", "memory leak in {function}",
          skip=(*_MEMORY, Group.SOCKETS)),
    _form(r"kmemleak: \d+ new suspected", "memory leak"),
    _form(r"BUG: soft lockup", "BUG: soft lockup in {function}", Where.TASK, _BUSY),
    _form(r"BUG: workqueue lockup", "BUG: workqueue lockup"),
    _form(r"hard LOCKUP", "BUG: hard lockup in {function}", Where.TASK, _BUSY),
    _form(r"\brcu\w*[ :].*(?:stall|detected|kthread)", "INFO: rcu detected stall in {function}", Where.TASK,
          _BUSY),
    _form(r"INFO: task .* can't die", "INFO: task can't die in {function}", Where.WAITER, _WAITING),
    _form(r"INFO: task .* blocked", "INFO: task hung in {function}", Where.WAITER, _WAITING),
    _form(r"BUG: sleeping function called from invalid context",
          "BUG: sleeping function called from invalid context in {function}",
          skip=(*_LOCKING, Group.CHECK, Group.ALLOCATOR, Group.STRING, Group.WAIT)),
    _form(r"BUG: scheduling while atomic", "BUG: scheduling while atomic in {function}",
          skip=(*_LOCKING, Group.CHECK, Group.WAIT)),
    _form(r"BUG: using (?P<what>\S+) in preemptible", "BUG: using {what} in preemptible code in {function}",
          skip=(*_LOCKING, Group.CHECK)),
    _form(r"BUG: workqueue leaked lock", "BUG: workqueue leaked lock or atomic in {function}", Where.NOWHERE,
          inside=rf"last function: {_FUNCTION}"),
    _form(r"suspicious RCU usage", "WARNING: suspicious RCU usage in {function}", Where.BACKTRACE,
          (*_LOCKING, Group.LISTS, Group.CHECK)),
    _form(r"Invalid wait context", "WARNING: locking bug in {function}", Where.BACKTRACE,
          (*_LOCKING, Group.ALLOCATOR)),
    _form(r"inconsistent lock state", "inconsistent lock state in {function}", Where.BACKTRACE, _LOCKING),
    _form(r"(?:WARNING|INFO): possible|unsafe lock order|possible deadlock|irq lock inversion",
          "possible deadlock in {function}", Where.BACKTRACE, _LOCKING),
    _form(r"bad unlock balance", "BUG: bad unlock balance in {function}", Where.BACKTRACE, _LOCKING),
    _form(r"(?P<level>WARNING|BUG): held lock freed", "{level}: held lock freed in {function}", Where.BACKTRACE,
          (*_LOCKING, Group.ALLOCATOR)),
    _form(r"lock held (?P<when>when returning to user space|at task exit)", "BUG: lock held {when} in {function}",
          Where.NOWHERE, inside=rf"#0: .*, at: (?:\[<\w+>\] )?{_FUNCTION}"),
    _form(r"nested lock was not taken|Nested lock", "WARNING: nested lock was not taken in {function}",
          Where.BACKTRACE, _LOCKING),
    _form(r"BUG: (?P<what>MAX_\w+) too low", "BUG: {what} too low!"),
    _form(r"trying to register non-static key", "INFO: trying to register non-static key in {function}",
          Where.ALL, (*_LOCKING, Group.WAIT, Group.DEBUGOBJECTS, Group.LISTS)),
    _form(r"BUG: (?P<what>(?:spinlock|rwlock|mutex|rwsem) .*?)(?: on |,|$)", "BUG: {what} in {function}",
          skip=(*_LOCKING, Group.LISTS, Group.WAIT)),
    _form(r"refcount_t: |refcount_warn_saturate|at lib/refcount\.c", "WARNING: refcount bug in {function}",
          skip=(*_MEMORY, Group.WORK)),
    _form(r"ODEBUG: |at lib/debugobjects\.c|WARNING: lib/debugobjects\.c", "WARNING: ODEBUG bug in {function}",
          Where.STACK, _MEMORY),
    _form(r"at lib/kobject\.c|kobject: ", "WARNING: kobject bug in {function}", skip=_MEMORY),
    _form(r"proc_dir_entry|proc_register", "WARNING: proc registration bug in {function}", skip=_MEMORY),
    _form(r"at kernel/locking/lockdep\.c|DEBUG_LOCKS_WARN_ON", "WARNING: locking bug in {function}",
          skip=(*_LOCKING, Group.ALLOCATOR)),
    _form(r"at mm/(?:slab_common|util)\.c.* k[vm]\w*alloc",
          "WARNING: kmalloc bug in {function}", skip=_MEMORY),
    _form(r"zero-size vmalloc|at mm/vmalloc\.c", "WARNING: zero-size vmalloc in {function}", skip=_MEMORY),
    _form(r"WARNING: kernel stack (?:regs|frame pointer).* has bad (?P<what>'\w+' )?value",
          "WARNING: kernel stack regs has bad {what}value"),
    _form(r"WARNING: kernel stack", "WARNING: kernel stack regs has bad value"),
    _form(r"usb_submit_urb", "WARNING in {function}/usb_submit_urb", skip=_MEMORY),
    _form(r"(?:WARNING: .* at |cut here)", "WARNING in {function}",
          skip=_MEMORY),
    _form(r"NETDEV WATCHDOG: CPU", "NETDEV WATCHDOG: transmit queue timed out"),
    _form(r"entered softirq \d+ (?P<what>\w+)", "softirq {what} leaks a preempt_count"),
    _form(r"hw csum failure", "hw csum failure"),
    _form(r"nobody cared", "irq: nobody cared"),
    _form(r"sysfs: cannot create duplicate", "sysfs: cannot create duplicate filename in {function}", skip=_MEMORY),
    _form(r"unregister_netdevice: waiting", "unregister_netdevice: waiting for DEV to become free"),
    _form(r"usercopy: |mm/usercopy\.c", "BUG: bad usercopy in {function}", skip=_MEMORY),
    _form(r"lib/list_debug\.c|list_\w+ corruption|corruption\. (?:next|prev)->", "BUG: corrupted list in {function}",
          skip=_MEMORY),
    _form(r"Object already free", "BUG: Object already free"),
    _form(r"Slab cache still has objects|Objects remaining", "BUG: objects remaining in a slab cache"),
    _form(r"INFO: Freed in (?P<who>[\w.]+)", "INFO: Freed in {who} age=NUM cpu=NUM pid=NUM"),
    _form(r"BUG \S+ \(.*\): (?P<what>[\w -]+)", "BUG: slab corruption: {what}"),
    _form(r"general protection fault", "general protection fault in {function}", skip=_MEMORY),
    _form(r"double fault", "PANIC: double fault in {function}", skip=_MEMORY),
    _form(r"int3: ", "int3 in {function}", skip=_MEMORY),
    _form(r"divide[_ ]error", "divide error in {function}", skip=_MEMORY),
    _form(r"stack segment", "stack segment fault in {function}", skip=_MEMORY),
    _form(r"invalid opcode", "invalid opcode in {function}", skip=_MEMORY),
    _form(r"stack guard page was hit", "BUG: stack guard page was hit in {function}", Where.TASK, _BUSY),
    _form(r"[Kk]ernel stack overflow|Insufficient stack space", "kernel stack overflow in {function}", Where.TASK,
          _BUSY),
    _form(r"Unhandled fault", "Unhandled fault in {function}", skip=(Group.REPORT, Group.STRING)),
    _form(r"NULL pointer", "BUG: unable to handle kernel NULL pointer dereference in {function}", skip=_MEMORY),
    _form(r"[Uu]nable to handle|kernel tried to|Bad kernel access|bad area",
          "BUG: unable to handle kernel paging request in {function}", skip=_MEMORY),
    _form(r"rust_kernel: panicked", "rust panic: {what}", inside=r"^(?P<what>[a-z][\w ]+)$"),
    _form(r"kernel BUG (?:at|in) ", "kernel BUG in {function}", skip=(*_MEMORY, Group.INTERRUPT)),
    _form(r"BUG: Bad page state", "BUG: Bad page state in {function}", skip=_MEMORY,
          unnamed="BUG: Bad page state"),
    _form(r"BUG: Bad (?P<what>page map|rss-counter state)", "BUG: Bad {what}"),
    _form(r"BUG: Dentry .* still in use .*\[(?P<what>unmount)", "BUG: Dentry still in use in {what}"),
    _form(r"(?P<what>\w+): ASSERT FAILED", "{what}: ASSERT FAILED:"),
    _form(r"Bad mode in", "kernel panic: bad mode"),
    _form(r"stack is corrupted in", "kernel panic: stack is corrupted in {function}", skip=_MEMORY),
    _form(r"corrupted stack end", "kernel panic: corrupted stack end in {function}", Where.TASK,
          _BUSY),
    _form(r"Kernel panic - not syncing: (?P<what>.*?)(?:\s*\.\.\.|:? 0x[0-9a-f]+.*|! exitcode.*)?$",
          "kernel panic: {what}"),
    _form(r"attempt to (?P<what>[\w ]+?) with overflow", "attempt to {what} with overflow in {function}"),
    _form(r"Out of memory|oom-killer|out of memory", "out of memory"),
    _form(r"page allocation failure", "page allocation failure in {function}",
          skip=(*_MEMORY, Group.INTERRUPT), unnamed="page allocation failure"),
    _form(r"Oops|Internal error", "kernel oops in {function}", skip=_MEMORY),
)
_FIXED = {Kind.REBOOT: "unexpected kernel reboot"}
_NAMED = re.compile(r"\b(?:in|at|on) (?:\S+:\d+ (?:at )?)?(?:\[<\w+>\]\s*)*"
                    r"(?P<function>[A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+|"
                    r" (?P<other>[A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
_TAKER = re.compile(r", at: (?:\[<\w+>\] )?" + _FUNCTION)
_BACKTRACE = re.compile(r"stack backtrace:|^\s*Call [Tt]race:|^\s*Backtrace:")
_SPACES = re.compile(r"\s+")


def title(kind: Kind, headline: str, texts: Sequence[str], stack: Sequence[Frame]) -> str:
    """The title of a report.

    Args:
        kind: what it is about.
        headline: the line that says so, without timestamp.
        texts: all its lines, without timestamps.
        stack: its frames.
    """
    if kind in _FIXED:
        return _FIXED[kind]
    for form in FORMS:
        found = form.pattern.search(headline)
        if found is None:
            continue
        fields = {key: value or "" for key, value in found.groupdict().items()}
        if form.inside is not None:
            inner = next((match for text in texts if (match := form.inside.search(text)) is not None), None)
            if inner is None:
                if form.where is Where.NOWHERE:
                    return _without(form)
                continue
            fields |= {key: value or "" for key, value in inner.groupdict().items()}
        if form.where is not Where.NOWHERE:
            fields["function"] = _function(form, headline, texts, stack)
        if "{function}" in form.form and not fields.get("function"):
            return _fill(_without(form), fields)
        fields["function"] = stacks.plain(fields.get("function", ""))
        return _fill(form.form, fields)
    return _SPACES.sub(" ", headline)


def stuck(stack: Sequence[Frame]) -> str:
    """Where a CPU with this stack is; empty where that cannot be said."""
    return stacks.plain(stacks.guilty(stack, _BUSY))


def _without(form: Form) -> str:
    return form.unnamed or form.form.partition(" in {function}")[0]


def _fill(form: str, fields: dict[str, str]) -> str:
    return _SPACES.sub(" ", form.format(**fields)).strip()


def _function(form: Form, headline: str, texts: Sequence[str], stack: Sequence[Frame]) -> str:
    if form.where in (Where.TASK, Where.WAITER):
        return (stacks.handler if form.where is Where.TASK else stacks.guilty)(stack, form.skip)
    if form.where is Where.BACKTRACE:
        below = _after(stack, texts, _BACKTRACE)
        return stacks.guilty(below or _takers(texts), form.skip)
    named = _NAMED.search(headline) if form.where is Where.ALL else None
    first = [Frame(function=named["function"] or named["other"], pointer=True)] if named else []
    return stacks.guilty([*first, *stack], form.skip)


def _takers(texts: Sequence[str]) -> list[Frame]:
    """The functions that lockdep names where it speaks of a lock, for a report that was cut before its stack."""
    found = (_TAKER.search(text) for text in texts)
    return [Frame(function=match["function"]) for match in found if match]


def _after(stack: Sequence[Frame], texts: Sequence[str], mark: re.Pattern[str]) -> Sequence[Frame]:
    """The frames below the first line with `mark` that has any below it; all where there is none."""
    for number, text in enumerate(texts):
        if mark.search(text):
            below = [frame for frame in stack if frame.line > number]
            if below:
                return below
    return () if any("dependency chain" in text for text in texts) else stack
