# SPDX-License-Identifier: GPL-2.0-only
"""kernel.warnings: what is new is told from what was there, moved, or made again."""

from __future__ import annotations

import pytest

from harness.kernel import warnings
from harness.kernel.warnings import Warned

LOG = """\
make[1]: Entering directory '/build/out'
  GEN     Makefile
  CC      net/core/skbuff.o
/build/src/net/core/skbuff.c: In function 'f':
/build/src/net/core/skbuff.c:12:5: warning: unused variable 'x' [-Wunused-variable]
   12 | int x;
/build/src/net/core/skbuff.c:30: warning: unused variable 'x' [-Wunused-variable]
In file included from /build/src/net/core/dev.c:1:
  CC [M]  net/core/dev.o
/build/src/net/core/../../include/linux/skbuff.h:9:1: warning: no previous prototype for 'g' [-Wmissing-prototypes]
net/core/dev.o: warning: objtool: f+0x12: unreachable instruction
  MODPOST Module.symvers
WARNING: modpost: vmlinux.o: section mismatch in reference: f+0x3 (section: .text) -> g (section: .init.text)
/build/src/net/core/error.c:1:1: error: not a warning
"""
UNUSED = Warned(file="net/core/skbuff.c", text="unused variable 'x' [-Wunused-variable]")
PROTOTYPE = Warned(file="include/linux/skbuff.h", text="no previous prototype for 'g' [-Wmissing-prototypes]")
UNREACHABLE = Warned(file="net/core/dev.o", text="objtool: f: unreachable instruction")


def test_a_log_is_read_by_object() -> None:
    found = warnings.by_object(LOG)
    assert found["net/core/skbuff.o"] == (UNUSED, UNUSED)
    assert found["net/core/dev.o"] == (PROTOTYPE, UNREACHABLE)
    assert [row.file for row in found["Module.symvers"]] == ["modpost"]
    assert found["Makefile"] == ()


@pytest.mark.parametrize(("before", "after", "new"), [
    ({"a.o": (UNUSED,)}, {"a.o": (UNUSED,)}, ()),
    ({"a.o": (UNUSED,)}, {"a.o": (UNUSED, UNUSED)}, (UNUSED,)),
    ({"a.o": (UNUSED, UNUSED)}, {"a.o": (UNUSED,)}, ()),
    ({}, {"a.o": (PROTOTYPE,), "b.o": (PROTOTYPE,)}, (PROTOTYPE,)),
    ({"a.o": (PROTOTYPE,)}, {"a.o": (PROTOTYPE,), "b.o": (PROTOTYPE,)}, ()),
    ({"a.o": (UNUSED,)}, {"a.o": (PROTOTYPE,)}, (PROTOTYPE,)),
    ({"a.o": (UNUSED,)}, {}, ()),
])
def test_new_is_what_there_is_more_of(before: warnings.ByObject, after: warnings.ByObject,
                                      new: tuple[Warned, ...]) -> None:
    assert warnings.new(before, after) == new


def test_what_was_made_again_replaces_and_the_rest_stays() -> None:
    before = {"a.o": (UNUSED,), "b.o": (PROTOTYPE,), "gone.o": (UNUSED,)}
    assert warnings.carried(before, {"a.o": (), "c.o": (UNREACHABLE,)}, ["a.o", "b.o"]) == {
        "b.o": (PROTOTYPE,), "c.o": (UNREACHABLE,)}
