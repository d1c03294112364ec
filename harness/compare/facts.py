# SPDX-License-Identifier: GPL-2.0-only
"""What an object says to the rest of the kernel, read for people: exports, initcalls, parameters, module versions.

Pure. Each table maps a name to words; two tables are then compared by name. What is not understood is left out, and
the reader gets the bytes.

Sources: include/linux/{export,export-internal,init,moduleparam,module}.h, scripts/mod/modpost.c.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.compare.content import Content
from harness.compare.elf import MAX_NAME, byte_order
from harness.compare.model import Model, SymbolFact, model, resolve, symbol_facts
from harness.compare.naming import Names, names, target_name
from harness.compare.values import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.compare.elf import Elf
    from harness.compare.symtab import Symbol

INITCALL = re.compile(r"__initcall(?:__kmod_.+?__\d+_\d+)?_(.+?)(?:early|con|rootfs|\d)s?")
_INITCALL_SECTION = re.compile(r"\.initcall(.+)\.init|\.(con)_initcall\.init")
EXPORT_SECTION = re.compile(r"___k(?:sym|crc)tab(?:_gpl)?\+(.+)")
EXPORT_SYMBOL = re.compile(r"(?:__ksymtab|__kstrtab|__kstrtabns|__crc|__export_symbol)_(.+)")
_ADDRESSABLE = re.compile(r"(?:__UNIQUE_ID_)?_*addressable_(.+?)\d+")
PARAMETER = re.compile(r"__param_(?!str_|ops_|arr_|string_)(.+)")

LEVELS: Mapping[str, str] = {
    "early": "early", "0": "pure", "1": "core", "2": "postcore", "3": "arch", "4": "subsys", "5": "fs",
    "rootfs": "rootfs", "6": "device", "7": "late", "con": "console"}
"""Initcall levels by the part of the section's name that says them; `s` behind one means its sync half."""


class ObjectView:
    """One object with all that is needed to explain a difference; each part is read when it is first asked for.

    `partners` is where `explain` keeps, by section, which of its symbols belong to which of the other side's.

    Raises `InfraError` for a malformed object.
    """

    def __init__(self, elf: Elf) -> None:
        self.model: Model = model(elf)
        self.names: Names = names(self.model)
        self.partners: dict[str, tuple[ObjectView, Mapping[str, Any]]] = {}
        self._contents: dict[str, Content] = {}
        self._printable = {printable(key): key for key in self.model.sections}

    def content(self, section: str) -> Content | None:
        """A section by its printable key, with its relocations; None where it is not there."""
        key = self._printable.get(section)
        if key is None:
            return None
        if key not in self._contents:
            found = self.model.sections[key]
            data, relocs, _forms = resolve(self.model, found)
            self._contents[key] = Content(names=self.names, section=found, data=data, relocs=relocs)
        return self._contents[key]

    @cached_property
    def symbols(self) -> Mapping[str, list[SymbolFact]]:
        """Symbols by their printable name."""
        found: dict[str, list[SymbolFact]] = {}
        for fact in symbol_facts(self.model):
            found.setdefault(printable(fact.name), []).append(fact)
        return found

    @cached_property
    def exports(self) -> Mapping[str, str]:
        """Exported symbol to `EXPORT_SYMBOL` or `EXPORT_SYMBOL_GPL`, with its namespace."""
        found = {}
        for symbol in self.model.symbols:
            where = self.model.keys[symbol.section]
            if symbol.name.startswith("__ksymtab_") and where.startswith(("___ksymtab", "__ksymtab")):
                name = symbol.name.removeprefix("__ksymtab_")
                gpl = where.startswith(("___ksymtab_gpl+", "__ksymtab_gpl"))
                found[name] = f"EXPORT_SYMBOL{'_GPL' * gpl}{self._namespace(f'__kstrtabns_{name}')}"
            elif symbol.name.startswith("__export_symbol_") and where == ".export_symbol":
                # from Linux 6.4 on: .asciz license; .asciz namespace
                licence, space = self._texts(symbol, 2)
                found[symbol.name.removeprefix("__export_symbol_")] = \
                    f"EXPORT_SYMBOL{'_GPL' * (licence == 'GPL')}{f' in {printable(space)}' if space else ''}"
        return {printable(name): said for name, said in found.items()}

    def _namespace(self, name: str) -> str:
        symbol = self._by_name.get(name)
        space = self._texts(symbol, 1)[0] if symbol else ""
        return f" in {printable(space)}" if space else ""

    @cached_property
    def _by_name(self) -> Mapping[str, Symbol]:
        return {symbol.name: symbol for symbol in self.model.symbols if symbol.section}

    def _texts(self, symbol: Symbol, count: int) -> list[str]:
        """`count` strings that stand behind each other at a symbol."""
        section = self.model.elf.sections[symbol.section]
        start = section.offset + symbol.value
        data = self.model.elf.data[start:min(start + count * MAX_NAME, section.offset + section.size)]
        return [text.decode("latin-1") for text in [*data.split(b"\0", count)[:count], *[b""] * count][:count]]

    @cached_property
    def initcalls(self) -> Mapping[str, str]:
        """Function to the level it is called at, in words."""
        found = {}
        for symbol in self.model.symbols:
            named = INITCALL.fullmatch(symbol.name)
            where = _INITCALL_SECTION.fullmatch(self.model.keys[symbol.section])
            if named and where:
                level = where[1] or where[2]
                word = LEVELS.get(level.removesuffix("s") if level not in LEVELS else level, "")
                sync = "_sync" * (level not in LEVELS and level.endswith("s"))
                found[printable(named[1])] = f"{printable(level)} ({word}{sync})" if word else printable(level)
        return found

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        """Parameter to its permissions and operations: `struct kernel_param` is name, mod, ops, u16 perm ..."""
        found: dict[str, str] = {}
        side = self.content("__param")
        pointer = 8 if self.model.elf.layout.wide else 4
        operations = {r.offset: target_name(self.names, r, 0) for r in side.relocs} if side else {}
        for symbol in self.model.symbols if side else ():
            named = PARAMETER.fullmatch(symbol.name)
            at = symbol.value + 3 * pointer
            if named and side and symbol.section == side.section.number and at + 2 <= len(side.data):
                mode = int.from_bytes(side.data[at:at + 2], byte_order(self.model.elf))
                ops = operations.get(symbol.value + 2 * pointer, "?")
                found[printable(named[1])] = f"permissions {mode:04o}, {ops}"
        return found

    @cached_property
    def addressable(self) -> frozenset[str]:
        """What is marked by `___ADDRESSABLE` so that the compiler keeps it."""
        found = (_ADDRESSABLE.fullmatch(symbol.name) for symbol in self.model.symbols)
        return frozenset(printable(match[1]) for match in found if match)

    @cached_property
    def versions(self) -> Mapping[str, str]:
        """Symbol to the CRC that a module wants of it: `struct modversion_info`, 64 bytes: unsigned long, name."""
        side = self.content("__versions")
        width = 8 if self.model.elf.layout.wide else 4
        found = {}
        for at in range(0, len(side.data) - 63, 64) if side else ():
            assert side is not None
            entry = side.data[at:at + 64]
            name = entry[width:].split(b"\0", 1)[0].decode("latin-1")
            found[printable(name)] = f"crc {int.from_bytes(entry[:width], byte_order(self.model.elf)):#010x}"
        return found
