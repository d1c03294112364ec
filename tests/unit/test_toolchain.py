# SPDX-License-Identifier: GPL-2.0-only
"""What the sandbox says of programs, read; what goes on make's command line."""

from __future__ import annotations

from harness.kernel.toolchain import Program, Toolchain, parse

SAID = """\
program gcc
version gcc (Debian 12.2.0-14) 12.2.0
file /usr/bin/gcc-12
file /usr/lib/gcc/cc1
program ld
version GNU ld 2.40
file /usr/bin/ld.bfd
sum 1111  /usr/bin/gcc-12
sum 2222  /usr/lib/gcc/cc1
sum 3333  /usr/bin/ld.bfd
"""


def test_programs_are_known_by_what_they_say_and_by_the_content_of_their_files() -> None:
    found = parse(SAID)
    assert {name: version for name, (version, _) in found.items()} == {
        "gcc": "gcc (Debian 12.2.0-14) 12.2.0", "ld": "GNU ld 2.40"}
    assert parse(SAID.replace("2222", "4444"))["gcc"] != found["gcc"]
    assert parse(SAID.replace("2222", "4444"))["ld"] == found["ld"]
    assert parse("") == {}


def test_what_make_is_told() -> None:
    programs = tuple(Program(variable=variable, name=name, version="1", content="c")
                     for variable, name in (("CC", "arm-gcc"), ("LD", "arm-ld"), ("HOSTCC", "gcc")))
    made = Toolchain(cc="gcc", programs=programs, cross="arm-", make_vars=(("HOSTCFLAGS", "-fcommon"),))
    assert made.variables == (("CROSS_COMPILE", "arm-"), ("CC", "arm-gcc"), ("HOSTCFLAGS", "-fcommon"))
    assert made.with_var("W", "1").variables[-1] == ("W", "1")
    assert (made.cc_version, made.ld_version) == ("1", "1")
