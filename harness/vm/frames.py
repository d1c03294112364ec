# SPDX-License-Identifier: GPL-2.0-only
"""Pure: the stack frames of a kernel report, and which of them is to blame.

Forms of a frame: `printk_stack_address` and `show_trace_log_lvl` (`arch/x86/kernel/dumpstack.c`),
`dump_backtrace_entry` (`arch/arm/kernel/traps.c`), `%pS` (`lib/vsprintf.c`), and what scripts/decode_stacktrace.sh
makes of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.vm.machinery import CROSS_CALLS, DISPATCHERS, MACHINERY, RENAMED, Group

_NAME = r"(?P<function>[A-Za-z_$][\w.$]*|<[\w:<> ]+>::\w+)"
_AT = r"\+(?P<offset>0x[0-9a-f]+)/(?P<size>0x[0-9a-f]+)"
_MODULE = r"(?:\s+\[(?P<module>[\w-]+)(?: [0-9a-f]{20,})?\])?"
_SOURCE = r"(?:\s+(?P<source>[\w./+-]+:\d+))?(?:\s+\[inline\])?"
_ADDRESS = r"(?:\[<?(?P<address>[0-9a-f]{8,16})>?\]\s*)"
_POINTER = r"(?:[RE]?IP\s*: (?:[0-9a-f]{4}:)?|PC is at |pc : |epc : |NIP )"
"""What stands before the instruction pointer's function."""
_CALLED = re.compile(rf"^\s*(?P<unsure>\? )?\s*{_ADDRESS}?\s*(?:{_ADDRESS.replace('address', 'other')}\s*)?"
                     rf"(?P<doubt>\? )?\s*\(?{_NAME}\)?(?:{_AT})?{_MODULE}{_SOURCE}\s*(?:\(unreliable\))?\s*$")
_ARM = re.compile(rf"^\s*{_ADDRESS}\((?P<function>[A-Za-z_$][\w.$]*)\) from ")
_POINTED = re.compile(rf"^\s*{_POINTER}\s*{_ADDRESS}?\s*(?:{_ADDRESS.replace('address', 'other')}\s*)?{_NAME}{_AT}"
                      rf"{_MODULE}{_SOURCE}")
_BARE = re.compile(r"^\s*(?P<unsure>\? )?(?:\[<?|0x)(?P<address>[0-9a-f]{8,16})(?:>?\])?\s*(?:0x[0-9a-f]+)?\s*$")
_CLONES = re.compile(r"(?:\.(?:isra|part|constprop|cold|llvm|lto_priv|localalias)(?:\.\d+)?)+$")
_SYSCALL = re.compile(r"^(?:__(?:x64|ia32|arm64|riscv|s390x?|se|do|do_compat|se_compat|x32_compat)_(?:compat_)?sys_|"
                      r"SYS?C?_|SyS_|SYSC_|C_SYSC_|compat_SyS_)(?=\w)")
_USER = re.compile(r"^\s*(?:RIP|EIP|pc)\s*: (?:0033|0023|002b|0073):")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A frame of a stack.

    Attributes:
        function: as the kernel printed it; empty where it printed only an address.
        offset, size: of the place in the function, and of the function, in bytes; None where they were not printed.
        module: the module it is of; empty for the kernel itself.
        reliable: whether the unwinder is sure of it (no `?`).
        address: where it is, where that was printed.
        source: `file:line`, where the log or `harness.vm.symbolize` says it.
        pointer: whether it is where a CPU was (RIP), not a caller.
        line: its line in the report, from 0.
    """

    function: str
    offset: int | None = None
    size: int | None = None
    module: str = ""
    reliable: bool = True
    address: int | None = None
    source: str = ""
    pointer: bool = False
    line: int = 0

    @property
    def name(self) -> str:
        """The function without what a compiler put behind it, and a system call by the name it is known by."""
        return plain(self.function)


def plain(function: str) -> str:
    """A function's name as its author wrote it: `f` for `f.isra.0`, `sys_read` for `__x64_sys_read`."""
    bare = _CLONES.sub("", function)
    name = _SYSCALL.sub("sys_", bare)
    return next((new for pattern, new in RENAMED if pattern.fullmatch(name)), name)


def _number(text: str | None) -> int | None:
    return int(text, 16) if text else None


def parse(text: str, line: int = 0) -> Frame | None:
    """The frame that `text`, a line without timestamp, tells of; None where it tells of none."""
    if (found := _POINTED.match(text)) is not None:
        return _frame(found.groupdict(), line, pointer=True)
    if "+0x" in text or " from [<" in text or "[inline]" in text:
        if (found := _ARM.match(text)) is not None:
            return _frame(found.groupdict(), line)
        if (found := _CALLED.match(text)) is not None and (found["offset"] or found["source"] or found["address"]):
            return _frame(found.groupdict(), line)
    elif (found := _BARE.match(text)) is not None and text[:1] in " \t[":
        return _frame({"function": "", **found.groupdict()}, line)
    return None


def _frame(groups: dict[str, str | None], line: int, *, pointer: bool = False) -> Frame:
    return Frame(function=groups["function"] or "", offset=_number(groups.get("offset")),
                 size=_number(groups.get("size")), module=groups.get("module") or "",
                 reliable=not (groups.get("unsure") or groups.get("doubt")), address=_number(groups.get("address")),
                 source=groups.get("source") or "", pointer=pointer, line=line)


def stack(texts: Sequence[str]) -> tuple[Frame, ...]:
    """All frames of a report's lines (without timestamps), in their order; a user program's are not the kernel's."""
    found: list[Frame] = []
    for number, text in enumerate(texts):
        if _USER.match(text):
            continue
        frame = parse(text, number)
        if frame is not None:
            found.append(frame)
    return tuple(found)


def machinery(function: str, groups: Iterable[Group]) -> bool:
    """Whether `function` belongs to one of `groups` of the table: it reports, checks or waits for somebody else."""
    name = plain(function)
    return any(MACHINERY[group].fullmatch(name) for group in groups)


def guilty(frames: Iterable[Frame], groups: Sequence[Group]) -> str:
    """The function to blame: the first that is no machinery; sure frames before doubtful ones; empty for none."""
    known = [frame for frame in frames if frame.function]
    for sure in (True, False):
        for frame in known:
            if frame.reliable is sure and not machinery(frame.function, groups):
                return frame.name
    return ""


def handler(frames: Iterable[Frame], groups: Sequence[Group]) -> str:
    """What a CPU was busy with: the innermost function that a dispatcher called, else the guilty one.

    Where a CPU spins it is anywhere in a loop; what was called, and never came back, is what names it.
    """
    known = [frame for frame in frames if frame.function and frame.reliable]
    for frame in known:
        if CROSS_CALLS.fullmatch(frame.function):
            return frame.name
        if not machinery(frame.function, groups):
            break
    for inner, outer in pairwise(known):
        if DISPATCHERS.fullmatch(outer.name) and not DISPATCHERS.fullmatch(inner.name) and not machinery(
                inner.function, groups):
            return inner.name
    return guilty(known, groups)
