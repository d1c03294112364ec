# SPDX-License-Identifier: GPL-2.0-only
"""Slow: the first customer on other architectures, built, compared, booted and tested as on the host's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import PLAN
from tests.run.conftest import Ran, Runner, harness

pytestmark = pytest.mark.slow

SK_BUFF = {"i386": "sk_buff 192 -> 184 (-8)", "arm64": "sk_buff 232 -> 224 (-8)"}
HOLE = {"i386": "fills a hole at 99 (107 in base)", "arm64": "fills a hole at 127 (143 in base)"}


def only(ran: Ran, kind: str, name: str) -> str:
    (row,) = ran.rows(kind, id=name)
    assert row["verdict"] == "PASS", row
    return str(row["evidence"])


@pytest.mark.parametrize("arch", list(SK_BUFF))
def test_the_customers_plan_holds_with_both_options(run: Runner, arch: str) -> None:
    ran = run(PLAN, "--arch", arch, "-v", "both")
    assert ran.code == 0, ran
    assert ran.results["inputs"]["arch"] == arch
    assert f"--arch {arch}" in (ran.folder / "repeat.sh").read_text()
    assert only(ran, "claim", f"C3-{arch}") == SK_BUFF[arch]
    assert HOLE[arch] in only(ran, "claim", "C3-hole")
    assert not ran.rows("claim", id="C3"), "C3 is about x86_64"
    for side in ("base", "patched"):
        assert "answered over SSH" in only(ran, "boot", f"{side}/both")
    ran_suites = {Path(row["id"]).name: len(row["tests"]) for row in ran.rows("suite")}
    assert set(ran_suites) >= {"test_link.py", "test_bridge.py", "test_ipsec.py", "test_bridged_ipsec.py"}
    assert all(ran_suites.values())


@pytest.mark.parametrize(("arch", "machine", "bits"), [("i386", "i686", 32), ("arm64", "aarch64", 64)])
def test_a_shell_in_the_kernel_is_one_of_that_architecture(arch: str, machine: str, bits: int, tmp_path: Path) -> None:
    done = harness("boot", str(PLAN), "--arch", arch, "-v", "both", "-c", "uname -m; "
                   "head -c 5 /bin/busybox | od -An -tx1", cwd=tmp_path)
    assert done.returncode == 0, done
    said = done.stdout.split()
    assert said[0] == machine
    # the fifth byte of an ELF file is its class (elf(5))
    assert int(said[-1], 16) == bits // 32
