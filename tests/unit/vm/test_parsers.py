# SPDX-License-Identifier: GPL-2.0-only
"""Small pure parts of the machine layer: quoting, keys, what QEMU and the guest print."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.vm import accel, keys, qmp, words
from harness.vm.handle import parse_addresses

WAIT = b"read -r _ || exit; "
USERNET = """hub -1
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   31       127.0.0.1 40001  100.127.255.15    22     0     0
  TCP[HOST_FORWARD]  14       127.0.0.1 35225  100.127.255.15    22     0     0
"""


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_a_posix_shell_reads_back_what_was_quoted(args: list[str]) -> None:
    line = words.command(args)
    assert line.startswith(WAIT + b"exec ")
    assert shlex.split(line.removeprefix(WAIT + b"exec ").decode()) == args


def test_bytes_and_numbers_are_words_too() -> None:
    assert words.command(["a", b"\xff'", 7, 0.5]) == WAIT + b"exec 'a' '\xff'\\''' '7' '0.5'"
    assert words.quote("\udcff") == b"'\xff'"
    assert words.command(["a"], 3) == WAIT + b"export HARNESS_COMMAND=3; exec 'a'"


def test_what_cannot_be_a_command() -> None:
    with pytest.raises(UsageError, match="NUL"):
        words.quote(b"a\0")
    with pytest.raises(UsageError, match="no command"):
        words.command([])
    with pytest.raises(UsageError, match="takes 9000"):
        words.command(["x" * 9000])


def test_output_survives_whatever_bytes_it_has() -> None:
    raw = bytes(range(256))
    assert words.decode(raw).encode(errors="surrogateescape") == raw


def test_the_forwarded_port_is_the_one_that_listens() -> None:
    assert qmp.parse_forward(USERNET, 22) == ("127.0.0.1", 35225)
    assert qmp.parse_forward(USERNET, 23) is None
    assert qmp.parse_forward("", 22) is None


def test_interfaces_by_address() -> None:
    listing = '[{"ifname":"lo"},{"ifname":"sit0"},{"ifname":"lan0","address":"52:54:00:00:00:01"}]'
    assert parse_addresses(listing) == {"52:54:00:00:00:01": "lan0"}


def test_a_bridge_is_not_taken_for_its_port_nor_a_changed_address_for_another_card() -> None:
    listing = """[{"ifname": "port0", "address": "52:54:00:00:00:01",
                   "linkinfo": {"info_slave_kind": "bridge"}},
                  {"ifname": "br0", "address": "52:54:00:00:00:01", "linkinfo": {"info_kind": "bridge"}},
                  {"ifname": "lan1", "address": "52:54:00:00:00:99", "permaddr": "52:54:00:00:00:02"}]"""
    assert parse_addresses(listing) == {"52:54:00:00:00:01": "port0", "52:54:00:00:00:02": "lan1"}


def test_the_cpu_model() -> None:
    assert accel.parse_cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2GHz\n") == "Some CPU @ 2GHz"
    assert accel.parse_cpu_model("") == ""


def test_a_key_in_the_formats_of_both_ends() -> None:
    pair = keys.generate()
    kind, blob = pair.public.split()
    assert kind == b"ssh-ed25519"
    assert pair.paramiko().get_base64().encode() == blob
    assert pair.dropbear.startswith(b"\0\0\0\x0bssh-ed25519\0\0\0\x40")
    assert len(pair.dropbear) == 4 + 11 + 4 + 64
    assert pair.dropbear[-32:] == pair.paramiko().asbytes()[-32:]
    assert keys.generate() != pair
