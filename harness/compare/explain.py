# SPDX-License-Identifier: GPL-2.0-only
"""The changes of an object to lines for people: one for each function, datum, export, initcall, parameter or section.

Pure. It is called for what is known to be a change, and only for what is shown: the verdict and the list of changes do
not depend on it. A line never says more than the bytes do: where no instruction can be told, it says bytes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.compare import disasm, phrases, tables
from harness.compare.attribute import BIND, TYPE, VISIBILITY
from harness.compare.content import bias, paired, units, within
from harness.compare.elf import SHF_EXECINSTR, byte_order
from harness.compare.facts import ObjectView
from harness.compare.groups import Group, only_moved, plain, plain_entries
from harness.compare.naming import stem, target_name
from harness.compare.values import Change, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.compare.content import Content
    from harness.compare.model import SymbolFact
    from harness.compare.naming import Unit

ONLY_MOVED = "only moved"
_SHOWN = 4
_SIGNED = b"~Module signature appended~\n"
"""MODULE_SIG_STRING, include/linux/module_signature.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One changed thing of one object. All text is printable ASCII.

    Attributes:
        name: the function or datum; the section where there is none; "" for the object as a whole.
        section: the section the difference is in, "" where it is the whole file.
        offset: bytes from its start, on the patched side where it is there, else on the base side; None where it has
            no place.
        says: what differs, in a few words.
        moved: it only moved, or only what it branches to did. Still a difference; shown last.
        code: it is a function whose instructions differ, so that `show` has something to show.
        resized: it has more or fewer instructions than before, or data of another size.
    """

    name: str
    section: str
    offset: int | None
    says: str
    moved: bool = False
    code: bool = False
    resized: bool = False

    @property
    def text(self) -> str:
        """`skb_clone_sk+0x41: call sock_efree -> sock_rfree`."""
        place = f"{self.name}{f'+{self.offset:#x}' if self.offset else ''}"
        return f"{place}: {self.says}" if place else self.says


def line(key: Group, changes: list[Change], base: ObjectView | None, patched: ObjectView | None) -> Line:
    """The words for one group of changes; in plain words where the objects are not at hand."""
    kind, name = key
    first = changes[0]
    if kind == "symbol":
        name = min((change.symbol for change in changes if change.symbol), key=lambda text: text == name)
    if only_moved(changes):
        return Line(name=name, section=first.section, offset=None, says=_moved(changes), moved=True,
                    code=kind == "symbol" and any(change.offset is not None for change in changes))
    if base is not None and patched is not None:
        said = _table_words(kind, name, base, patched) or _signature(first, base, patched)
        if said:
            return Line(name=name, section=first.section, offset=None, says=said)
        if kind == "symbol":
            return _symbol(name, changes, base, patched)
    # of an archive and a linker script it counts members and lines, and `plain` says it
    offset = None if first.kind in ("archive", "script") else first.offset
    return Line(name=name, section=first.section, offset=offset,
                says="; ".join(dict.fromkeys(plain(change) for change in changes)))


def _moved(changes: list[Change]) -> str:
    first = changes[0]
    if first.symbol is None:
        return f"{ONLY_MOVED}: {first.base} {first.patched}".replace("None ", "")
    distances = [change for change in changes if change.offset is not None]
    if distances and distances[0].patched != distances[0].base:
        why = distances[0]
        said = f"{why.base} -> {why.patched}" if "bytes" in str(why.patched) else f"branches to {why.base}"
        return f"{ONLY_MOVED}, or what it branches to ({said})"
    return ONLY_MOVED


def _table_words(kind: str, name: str, base: ObjectView, patched: ObjectView) -> str:
    """Words for exports, initcalls, parameters and module versions; empty where there are none."""
    rows: Mapping[str, tuple[Mapping[str, str], Mapping[str, str], str]] = {
        "export": (base.exports, patched.exports, "export"),
        "initcall": (base.initcalls, patched.initcalls, "initcall level"),
        "parameter": (base.parameters, patched.parameters, "module parameter"),
    }
    if kind in rows:
        left, right, what = rows[kind]
        a, b = left.get(name), right.get(name)
        if a == b:
            return ""
        if a is None or b is None:
            return f"{what} gone: {a}" if b is None else f"new {what}: {b}"
        return f"{a} -> {b}" if kind == "export" else f"{what} {a} -> {b}"
    if (kind, name) == ("section", "__versions"):
        return _listed(base.versions, patched.versions)
    if (kind, name) == ("section", ".export_symbol"):
        return _listed(base.exports, patched.exports)
    if (kind, name) == ("section", "__ksymtab_strings"):
        # what is exported in another class or anew has a line of its own
        return _listed(*({symbol: said for symbol, said in side.items() if _same_class(base, patched, symbol)}
                         for side in (base.exports, patched.exports)))
    if (kind, name) == ("section", ".discard.addressable"):
        marks = [f"{word} {name}" for word, one, other in (("no longer keeps", base, patched), ("keeps", patched, base))
                 for name in sorted(one.addressable - other.addressable)]
        return ", ".join(marks[:_SHOWN]) + f", {len(marks) - _SHOWN} more" * (len(marks) > _SHOWN) or \
            "the same marks, with other numbers in their names"
    return ""


def _signature(change: Change, base: ObjectView, patched: ObjectView) -> str:
    """Words for a module's signature, which stands behind the ELF file; empty for anything else."""
    signed = [view.model.elf.data.endswith(_SIGNED) for view in (base, patched)]
    if change.kind != "file" or not any(signed):
        return ""
    return f"module signature: {'differs' if all(signed) else 'gone' if signed[0] else 'new'}"


def _same_class(base: ObjectView, patched: ObjectView, symbol: str) -> bool:
    classes = [view.exports.get(symbol, "").split(" ")[0] for view in (base, patched)]
    return classes[0] == classes[1]


def _listed(left: Mapping[str, str], right: Mapping[str, str]) -> str:
    """What two tables say differently of a name; the first few."""
    said = [f"{name} {phrases.sides(left.get(name), right.get(name))}"
            for name in sorted(left.keys() | right.keys()) if left.get(name) != right.get(name)]
    return "; ".join([*said[:_SHOWN], *([f"{len(said) - _SHOWN} more"] if len(said) > _SHOWN else [])])


def _symbol(name: str, changes: list[Change], base: ObjectView, patched: ObjectView) -> Line:
    """A function or datum: what its contents do, what its symbol says, and the tables that go with it."""
    own = [change for change in changes if tables.owned(change.section) is None]
    contents = next((c for c in own if c.kind in ("size", "bytes", "relocation")), None)
    parts: list[str] = []
    offset, code = None, False
    if contents is not None:
        offset, said, code = _contents(contents, base, patched)
        parts.append(said)
    parts += _facts(own, base, patched, sized=contents is not None)
    also = [f"{tables.name_of(c.section)} ({plain_entries(c)})" for c in changes
            if tables.owned(c.section) and c.kind != "moved"]
    parts += [f"also {', '.join(dict.fromkeys(also))}" if parts else ", ".join(dict.fromkeys(also))] if also else []
    if not parts:
        parts = list(dict.fromkeys(plain(change) for change in own or changes))
    return Line(name=name, section=(contents or changes[0]).section, offset=offset, says="; ".join(parts), code=code,
                resized=contents is not None and contents.kind == "size" and phrases.SAME_NUMBER not in parts[0])


def _facts(changes: list[Change], base: ObjectView, patched: ObjectView, *, sized: bool) -> list[str]:
    """What differs in the symbols of these changes."""
    names = dict.fromkeys(change.symbol for change in changes if change.kind == "symbol" and change.symbol)
    said: list[str] = []
    for name in names:
        both = Counter(base.symbols.get(name, ())), Counter(patched.symbols.get(name, ()))
        left, right = (sorted((one - other).elements()) for one, other in (both, both[::-1]))
        for number in range(max(len(left), len(right))):
            pair = (left[number] if number < len(left) else None, right[number] if number < len(right) else None)
            said += _fact(*pair, sized=sized)
    return list(dict.fromkeys(said))


_LINKAGE: Mapping[str, str] = {"local": "static"}


def _fact(a: SymbolFact | None, b: SymbolFact | None, *, sized: bool) -> list[str]:
    """`static -> global`, `section .text -> .init.text`; `new function, 80 bytes`."""
    if a is None or b is None:
        fact = a or b
        assert fact is not None
        word = "new" if a is None else "gone"
        if fact.where == "UND":
            return ["newly referred to" if a is None else "no longer referred to"]
        kind = {"func": "function", "object": "datum"}.get(TYPE.get(fact.type, ""), "symbol")
        bind = BIND.get(fact.bind, "")
        return [f"{word} {_LINKAGE.get(bind, bind)} {kind}, {fact.size} bytes"]
    said = []
    if a.bind != b.bind:
        weak = "weak" in (BIND.get(a.bind), BIND.get(b.bind))
        words = [("strong" if weak and bind == "global" else _LINKAGE.get(bind, bind))
                 for bind in (BIND.get(fact.bind, f"binding {fact.bind}") for fact in (a, b))]
        said.append(f"{words[0]} -> {words[1]}")
    for what, x, y in (
            ("type", TYPE.get(a.type, a.type), TYPE.get(b.type, b.type)),
            ("visibility", VISIBILITY.get(a.other, f"{a.other:#x}"), VISIBILITY.get(b.other, f"{b.other:#x}")),
            ("section", printable(a.where), printable(b.where)),
            ("size", a.size if not sized else 0, b.size if not sized else 0)):
        if x != y:
            said.append(f"{what} {x} -> {y}")
    if not said and not sized and a.value != b.value:
        said.append(f"at {a.value:#x} -> {b.value:#x}")
    return said


Stretch = tuple[tuple["Content", "Unit"], tuple["Content", "Unit"]]


def stretch(section: str, name: str, base: ObjectView, patched: ObjectView) -> Stretch | None:
    """The two stretches that a symbol of this printable name covers in a section; None where a side has none.

    Of several of that name, the first that differs.
    """
    known = base.partners.get(section)
    if known is None or known[0] is not patched:
        known = base.partners[section] = patched, _stretches(section, base, patched)
    found = known[1].get(stem(name), ())
    differing = (pair for pair in found if len({side.data[unit.start:unit.end] for side, unit in pair}) > 1)
    return next(differing, found[0] if found else None)


def _stretches(section: str, base: ObjectView, patched: ObjectView) -> Mapping[str, list[Stretch]]:
    """All of a section, by the printable name without the numbers that rules know."""
    left, right = base.content(section), patched.content(section)
    found: dict[str, list[Stretch]] = {}
    for a, b in paired(units(left), units(right)) if left and right else ():
        assert left is not None
        assert right is not None
        found.setdefault(stem(printable(a.name)), []).append(((left, a), (right, b)))
    return found


def _contents(change: Change, base: ObjectView, patched: ObjectView) -> tuple[int | None, str, bool]:
    """(offset, words, whether it is code) for a difference in what a symbol covers."""
    found = stretch(change.section, change.symbol or "", base, patched)
    if found is None:
        return change.offset, plain(change), False
    (left, a), (right, b) = found
    sizes = [f"size {a.end - a.start} -> {b.end - b.start}"] if a.end - a.start != b.end - b.start else []
    if left.section.flags & right.section.flags & SHF_EXECINSTR:
        decoded = disasm.decode(left, a), disasm.decode(right, b)
        if decoded[0] is not None and decoded[1] is not None:
            more = len(decoded[1]) - len(decoded[0])
            tail = [*sizes, *([phrases.instructions(more)] if more or sizes else [])]
            difference = phrases.first_difference(decoded[0], decoded[1])
            if difference is not None:
                at = difference[1] if difference[1] is not None else difference[0]
                calls = [] if "call" in difference[2] else phrases.calls(decoded[0], decoded[1])
                return at, "; ".join([difference[2], *([", ".join(tail)] if tail else []), *calls]), True
        if sizes:
            return None, sizes[0], True
        return change.offset, plain(change), True
    at, said = _datum(change, left, a, right, b)
    return at, "; ".join([*([said] if said else []), *sizes]), False


def _datum(change: Change, left: Content, a: Unit, right: Content, b: Unit) -> tuple[int | None, str]:
    """Words for data: a pointer, a string, a word."""
    data = left.data[a.start:a.end], right.data[b.start:b.end]
    pointers = [{r.offset - unit.start: (r.type, target_name(side.names, r, bias(side))) for r in within(side, unit)}
                for side, unit in ((left, a), (right, b))]
    at_pointer = next((at for at in sorted(pointers[0].keys() | pointers[1].keys())
                       if pointers[0].get(at) != pointers[1].get(at)), None)
    at_byte = next((i for i, (x, y) in enumerate(zip(*data, strict=False)) if x != y), None)
    texts = phrases.text_of(data[0]), phrases.text_of(data[1])
    if texts[0] and texts[1] and not pointers[0] and not pointers[1]:
        return None, f"{texts[0]} -> {texts[1]}"
    if at_pointer is not None and (at_byte is None or at_pointer <= at_byte):
        x, y = pointers[0].get(at_pointer), pointers[1].get(at_pointer)
        row = disasm.decoder(left.names.model)
        whole = row and {entry[0] for entry in (x, y) if entry} <= row.pointers
        types = x and y and x[1] == y[1]
        said = [None if e is None else f"{e[1]}{f' (type {e[0]})' if types else ''}" for e in (x, y)]
        return at_pointer, f"{'pointer' if whole else 'reference'} {said[0] or 'none'} -> {said[1] or 'none'}"
    if at_byte is None or change.kind == "size":
        return (None, "") if at_byte is None else (at_byte, phrases.raw(*data, at_byte))
    return phrases.words(*data, at_byte, byte_order(left.names.model.elf))
