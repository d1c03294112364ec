# SPDX-License-Identifier: GPL-2.0-only
"""Real kernel objects, damaged: the comparison gives a result or an `InfraError`, in bounded memory, and never less
than there is: a damaged object is not the undamaged one."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.compare import elf
from harness.compare.elf import EM_386, EM_X86_64
from harness.compare.pair import diff
from harness.errors import InfraError
from harness.kernel.kbuild import Build
from tests.accuracy.mutate import EDGES, big_endian, mutate, tables

OBJECTS = {
    "x86_64": ("net/core/fib_notifier.o", EM_X86_64, 2, 1),
    "i386 REL, real mode": ("arch/x86/boot/string.o", EM_386, 1, 1),
    "assembler": ("arch/x86/lib/getuser.o", EM_X86_64, 2, 1),
    "vdso": ("arch/x86/entry/vdso/vclock_gettime.o", EM_X86_64, 2, 1),
    "big endian": ("net/core/fib_notifier.o", EM_X86_64, 2, 2),
    "big endian, 32 bit": ("arch/x86/boot/string.o", EM_386, 1, 2),
}
FIXED = 16 << 20
PER_BYTE = 200
"""Most memory one comparison may take, in bytes: a fixed part, and so much for each byte of the two files."""


class Victims(dict[str, bytes]):
    """Real objects by kind; hypothesis prints arguments, and these would be too long."""

    def __repr__(self) -> str:
        return ", ".join(self)


@pytest.fixture(scope="session")
def victims(patched_both: Build) -> Victims:
    found = Victims()
    for kind, (name, machine, klass, order) in OBJECTS.items():
        data = (patched_both.out / name).read_bytes()
        found[kind] = big_endian(data) if order == 2 else data
        header = elf.parse(found[kind], kind).header
        assert (header[0], header[1], header[5]) == (klass, order, machine), kind
    return found


def bounded(base: bytes, damaged: bytes) -> None:
    """A symmetric result with a reason, or `InfraError`; in bounded memory."""
    tracemalloc.start()
    try:
        a, b = elf.parse(base, "base"), elf.parse(damaged, "damaged")
        there, back = diff("x.o", a, b, strict=False), diff("x.o", b, a, strict=False)
        strict = diff("x.o", a, b, strict=True)
    except InfraError as error:
        assert error.where in ("base", "damaged")  # noqa: PT017 - an error is one of two right answers
    else:
        assert there.sites == back.sites
        assert bool(there.changes) == bool(back.changes)
        if base != damaged:
            assert there.changes or there.sites
            assert strict.changes
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < FIXED + PER_BYTE * (len(base) + len(damaged))


kinds = st.sampled_from(list(OBJECTS))
values = st.one_of(st.sampled_from(EDGES), st.integers(0, (1 << 64) - 1))
numbers = st.integers(0, 1 << 16)
quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


@settings(max_examples=300, suppress_health_check=quiet)
@given(kinds, st.lists(st.tuples(numbers, numbers, numbers, values), min_size=1, max_size=4))
@example("x86_64", [(0, 0, 10, 0xFFFF)])
@example("i386 REL, real mode", [(1, 1, 5, (1 << 32) - 1)])
def test_damaged_fields(victims: Victims, kind: str, edits: list[tuple[int, int, int, int]]) -> None:
    bounded(victims[kind], mutate(victims[kind], edits))


@settings(max_examples=150, suppress_health_check=quiet)
@given(kinds, st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=16)), min_size=1, max_size=8))
def test_damaged_bytes(victims: Victims, kind: str, edits: list[tuple[int, bytes]]) -> None:
    damaged = bytearray(victims[kind])
    for at, data in edits:
        start = at % len(damaged)
        damaged[start:start + len(data)] = data
    bounded(victims[kind], bytes(damaged[:len(victims[kind])]))


@settings(max_examples=100, suppress_health_check=quiet)
@given(kinds, numbers, numbers)
def test_cut_and_doubled(victims: Victims, kind: str, first: int, last: int) -> None:
    data = victims[kind]
    start, end = sorted((first % (len(data) + 1), last % (len(data) + 1)))
    for damaged in (data[:end], data[start:], data[:start] + data[end:], data[:end] + data[start:]):
        bounded(data, damaged)


@settings(max_examples=40, suppress_health_check=quiet)
@given(kinds, kinds)
def test_one_kind_against_another(victims: Victims, one: str, other: str) -> None:
    bounded(victims[one], victims[other])


@pytest.mark.parametrize("kind", OBJECTS)
def test_every_field_of_the_header_and_of_each_section_at_its_edges(victims: Victims, kind: str) -> None:
    data = victims[kind]
    header, sections, *_ = tables(data)
    for table, number in ((header, 0), (sections, 1)):
        for entry in range(min(table.count, 12)):
            for field in range(len(table.entry.unpack(bytes(table.entry.size)))):
                for value in (0, 1, 0xFFFF, (1 << 32) - 1, (1 << 64) - 1):
                    bounded(data, mutate(data, [(number, entry, field, value)]))


def test_the_bound_on_memory_would_be_noticed(victims: Victims, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "FIXED", 0)
    monkeypatch.setitem(globals(), "PER_BYTE", 1)
    with pytest.raises(AssertionError):
        bounded(victims["x86_64"], mutate(victims["x86_64"], [(2, 3, 4, 8)]))
