# SPDX-License-Identifier: GPL-2.0-only
"""`harness test`, on the examples of docs/guest-tests.md and on tests that fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.kernel.kbuild import Build
from tests.boot.conftest import BOOT
from tests.conftest import PLAN, ROOT

EXAMPLES = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/guest-tests.md").read_text(), re.MULTILINE | re.DOTALL)


def run(folder: Path, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_mine.py").write_text(text)
    argv = [sys.executable, "-m", "harness", "test", str(PLAN), "-v", "both", "--out", str(folder / "out")]
    return subprocess.run([*argv, "test_mine.py", *words], cwd=folder, capture_output=True, text=True, check=False,
                          timeout=BOOT,
                          env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())})


def records(folder: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (folder / "out/results.jsonl").read_text().splitlines()]
    return {row["id"].partition("::")[2]: row["verdict"] for row in rows if row["event"] == "finished"}


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_documented_examples_pass(patched_both: Build, tmp_path: Path, number: int) -> None:
    assert len(EXAMPLES) == 2
    done = run(tmp_path, "from harness.deadline import Deadline\n" + EXAMPLES[number])
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(records(tmp_path).values()) == {"PASS"}


def test_the_first_example_has_ten_lines_at_most() -> None:
    assert len([line for line in EXAMPLES[0].splitlines() if line]) <= 10


FAILING = '''
import pytest

def test_before(machine):
    machine.shell("echo 'harness test: before' > /dev/kmsg")
    assert machine.name == "dut"

def test_fails(machine):
    machine.shell("echo 'said in the test' > /dev/kmsg")
    assert machine.run("uname", "-n").stdout == "another"

def test_asserts_nothing(machine):
    machine.run("true")

@pytest.mark.needs("NO_SUCH_OPTION")
def test_not_here(machine):
    assert machine

def test_the_kernel_warns(machine):
    machine.shell("""
        echo '------------[ cut here ]------------' > /dev/kmsg
        echo 'WARNING: CPU: 0 PID: 1 at net/core/fake.c:1 fake+0x1/0x2' > /dev/kmsg
        echo '---[ end trace 0000000000000000 ]---' > /dev/kmsg""", check=False)
    assert machine.name == "dut"
'''


def test_a_failing_test_shows_the_console_and_what_the_kernel_reported_in_its_time(patched_both: Build,
                                                                                  tmp_path: Path) -> None:
    done = run(tmp_path, FAILING)
    assert done.returncode == 1, done.stdout + done.stderr
    assert records(tmp_path) == {"test_before": "PASS", "test_fails": "FAIL", "test_asserts_nothing": "ERROR",
                                 "test_the_kernel_warns": "FAIL"}
    reports = dict(re.findall(r"^_+ (test_\w+) _+$(.*?)(?=^_{5,} |^=)", done.stdout, re.MULTILINE | re.DOTALL))
    assert "dut: the console's last lines" in reports["test_fails"]
    assert "said in the test" in reports["test_fails"]
    assert "the kernel reported in this test" not in reports["test_fails"]
    assert re.search(r"dut: the kernel reported in this test.*\nWARNING: .*console\.log:\d+\]\n.*fake\.c:1 ",
                     reports["test_the_kernel_warns"], re.IGNORECASE)
    rows = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    detail = next(row["detail"] for row in rows if row["event"] == "finished" and "test_fails" in row["id"])
    assert any("said in the test" in line for line in detail)


def test_a_report_without_an_end_fails_the_test_that_it_came_in(patched_both: Build, tmp_path: Path) -> None:
    done = run(tmp_path, """
def test_the_kernel_complains(machine):
    machine.shell("echo '<3>BUG: sleeping function called from invalid context at mm/slab.h:1' > /dev/kmsg")
    assert machine.name == "dut"
""" + PASSES)
    assert done.returncode == 1, done.stdout + done.stderr
    assert records(tmp_path)["test_the_kernel_complains"] == "FAIL"


PASSES = "def test_passes():\n    assert True\n\ndef test_ends():\n    assert True\n"


@pytest.mark.parametrize(("text", "words", "code"), [
    ("def test_nothing_asserted(machine):\n    machine.run('true')\n", (), 3),
    ("import pytest\n\ndef test_it():\n    pytest.skip('no')\n    assert True\n", (), 3),
    ("def test_it():\n    assert 1 / 0\n", (), 3),
    ("def test_it(machine):\n    assert machine\n", ("-k", "another"), 2),
    ("def test_it(machine):\n    assert machine\n", ("--no-such-option",), 2),
    ("def test_it(machine:\n", (), 2),
    (f"{PASSES}    import os\n    os._exit(0)\n", (), 3),
    (f"{PASSES}    import pytest\n    pytest.exit('enough', returncode=0)\n", (), 3),
    (f"{PASSES}    import os\n    if os.fork() == 0:\n        os._exit(0)\n    os.wait()\n    assert True\n", (), 0),
], ids=["asserts nothing", "skips", "is wrong", "selects nothing", "an unknown option", "no Python",
        "leaves the process", "leaves pytest", "lets a copy of the process leave"])
def test_what_is_no_pass(patched_both: Build, tmp_path: Path, text: str, words: tuple[str, ...], code: int) -> None:
    done = run(tmp_path, text, *words)
    assert done.returncode == code, done.stdout + done.stderr


def test_who_leaves_early_is_named(patched_both: Build, tmp_path: Path) -> None:
    assert "ended pytest by os._exit" in run(tmp_path, f"{PASSES}    import os\n    os._exit(0)\n").stderr
    (tmp_path / "second").mkdir()
    leaves = "\ndef test_leaves():\n    pytest.exit('enough', returncode=0)\n\ndef test_never():\n    assert True\n"
    done = run(tmp_path / "second", f"import pytest\n\n{PASSES}{leaves}")
    assert "2 of 4 tests have no result, the first: test_leaves" in done.stderr
