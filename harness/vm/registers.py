# SPDX-License-Identifier: GPL-2.0-only
"""Pure: where each CPU is, from QEMU's monitor (`info registers -a`) and from its log of resets (`-d cpu_reset`).

Forms: `x86_cpu_dump_state` and `aarch64_cpu_dump_state` of QEMU (`target/*/cpu*.c`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_CPU = re.compile(r"^CPU#(?=\d)", re.MULTILINE)
_NUMBER = re.compile(r"\d+")
_PC = re.compile(r"\b(?:RIP|EIP|PC|pc|NIP)\s*=\s*(?P<pc>[0-9a-f]{8,16})\b")
_LEVEL = re.compile(r"\bCPL=(?P<level>\d)|\bEL(?P<exception>\d)[th]\b")
_HALTED = re.compile(r"\bHLT=1\b")
_FLAGS = re.compile(r"\bRFL=(?P<flags>[0-9a-f]+)")
_INTERRUPTS = 1 << 9
"""RFLAGS.IF of x86."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """Where a CPU is.

    Attributes:
        number: its number, from 0.
        pc: its instruction pointer.
        user: whether it runs a program, not the kernel.
        halted: whether it sleeps until an interrupt comes.
        deaf: whether its interrupts are off; None where the dump does not say.
    """

    number: int
    pc: int
    user: bool = False
    halted: bool = False
    deaf: bool | None = None


def parse(text: str) -> tuple[Cpu, ...]:
    """The CPUs of a register dump; those without an instruction pointer are left out."""
    found = []
    for block in _CPU.split(text)[1:]:
        number, pc = _NUMBER.match(block), _PC.search(block)
        level, flags = _LEVEL.search(block), _FLAGS.search(block)
        if number is None or pc is None:
            continue
        user = level is not None and (level["level"] == "3" or level["exception"] == "0")
        found.append(Cpu(number=int(number[0]), pc=int(pc["pc"], 16), user=user,
                         halted=_HALTED.search(block) is not None,
                         deaf=int(flags["flags"], 16) & _INTERRUPTS == 0 if flags else None))
    return tuple(found)


def last_reset(lines: Iterable[str]) -> tuple[str, ...]:
    """Of a log of resets, the last triple fault and what follows it; empty where there was none.

    Where it ends QEMU (`-no-reboot`), nothing follows it.
    """
    kept: list[str] = []
    for line in lines:
        if "Triple fault" in line:
            kept = [line]
        elif kept and len(kept) < 30:
            kept.append(line)
    return tuple(kept)
