# SPDX-License-Identifier: GPL-2.0-only
"""Whom QEMU runs as, and how it then gets at what it boots."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from harness import proc
from harness.deadline import Deadline
from harness.vm import user
from harness.vm.user import Facts, choose

ALL = (1 << 41) - 1
EVERYBODY = "         0          0 4294967295\n"
ROOT = Facts(euid=0, capabilities=ALL, uid_map=EVERYBODY, pid=4096 * 3 + 7)


def test_root_gives_it_a_user_that_nobody_else_is() -> None:
    chosen = choose(ROOT)
    assert chosen is not None
    assert (chosen.uid, chosen.groups) == (61184 + 7, ())
    another = choose(replace(ROOT, taken=frozenset({61184 + 7})))
    assert another is not None
    assert another.uid == 61184 + 8


@pytest.mark.parametrize("facts", [
    replace(ROOT, euid=1000), replace(ROOT, capabilities=ALL & ~(1 << 7)), replace(ROOT, capabilities=0),
    replace(ROOT, uid_map="0 1000 1\n"), replace(ROOT, uid_map=""),
    replace(ROOT, kvm=(0o600, 0)), replace(ROOT, kvm=(0o660, 0)),
], ids=["a user", "no CAP_SETUID", "no capability", "a namespace of one user", "no map", "kvm for root only",
        "kvm for root's group"])
def test_where_it_cannot_be_it_stays_what_we_are(facts: Facts) -> None:
    assert choose(facts) is None


@pytest.mark.parametrize(("kvm", "groups"), [((0o660, 108), (108,)), ((0o666, 108), ())])
def test_it_gets_at_kvm(kvm: tuple[int, int], groups: tuple[int, ...]) -> None:
    chosen = choose(replace(ROOT, kvm=kvm))
    assert chosen is not None
    assert chosen.groups == groups


def test_a_rootless_container_maps_enough_users() -> None:
    assert choose(replace(ROOT, uid_map="0 1000 1\n1 100000 65536\n")) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a child as somebody else")
@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_file_in_a_folder_of_ours_is_read_by_somebody_else(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "ours"
    folder.mkdir(mode=0o700)
    (folder / "image").write_bytes(b"kernel")
    (folder / "image").chmod(mode)
    with ExitStack() as stack:
        file = user.inherited(stack, folder / "image")
        chosen = user.here("tcg")
        assert chosen is not None
        with proc.spawn(["cat", str(user.path_of(file))], log=tmp_path / "log", user=chosen,
                        pass_fds=(file.fileno(),)) as child:
            assert child.wait(Deadline.after(20)) == 0
    assert (tmp_path / "log").read_text() == "kernel"
