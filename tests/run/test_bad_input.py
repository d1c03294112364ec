# SPDX-License-Identifier: GPL-2.0-only
"""Bad input: one clear message (what, where, what to do), the right exit code, no traceback, nothing half-written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.store.store import Store, default_root
from tests.conftest import PLAN, ROOT
from tests.run.conftest import DummyPatch, PlanMaker, Ran, Runner, half_written, harness

INIT = "\tdown_write(&pernet_ops_rwsem);\n\trtnl_lock();\n"


def clear(ran: Ran, code: int, *said: str) -> None:
    """The command ended with `code` and a message that holds every one of `said`, and no traceback."""
    assert ran.code == code, ran
    for text in said:
        assert text in ran.err + ran.out, ran
    assert "Traceback" not in ran.err + ran.out, ran
    assert not half_written()


def test_an_unknown_key(run: Runner, derived_plan: PlanMaker) -> None:
    plan = derived_plan(more="clams: {}")
    line = (plan / "plan.yaml").read_text().splitlines().index("clams: {}") + 1
    clear(run(plan), 2, f"{plan}/plan.yaml:{line}: unknown key `clams`", "did you mean `claims`?")


def test_a_wrong_type(run: Runner, derived_plan: PlanMaker) -> None:
    clear(run(derived_plan(more="lab: {memory: lots}")), 2, "`memory` must be a whole number", "plan.yaml:")


def test_a_missing_patch(run: Runner, derived_plan: PlanMaker, tmp_path: Path) -> None:
    clear(run(derived_plan(extra=[tmp_path / "0009-not-there.patch"])), 2, "no patch matches", "0009-not-there.patch")


def test_a_malformed_patch(run: Runner, derived_plan: PlanMaker, tmp_path: Path) -> None:
    whole = next((PLAN / "series").glob("0002-*.patch")).read_text()
    (tmp_path / "cut.patch").write_text(whole[:len(whole) * 2 // 3].rpartition("\n+")[0] + "\n")
    clear(run(derived_plan(extra=[tmp_path / "cut.patch"])), 2, "malformed patch", f"{tmp_path}/cut.patch:")


def test_a_patch_that_does_not_apply(run: Runner, derived_plan: PlanMaker) -> None:
    twice = next((PLAN / "series").glob("0002-*.patch"))
    count = len(list((PLAN / "base").iterdir())) + len(list((PLAN / "series").iterdir())) + 1
    clear(run(derived_plan(extra=[twice])), 1, f"patch {count} of {count} does not apply", str(twice), "hunk ",
          "error: patch failed:")


def test_an_option_that_was_not_honoured(run: Runner, derived_plan: PlanMaker, tmp_path: Path) -> None:
    (tmp_path / "mptcp").write_text("CONFIG_MPTCP=y\n")
    plan = derived_plan(series=False, extra=[next((PLAN / "series").glob("0001-*.patch"))])
    text = (plan / "plan.yaml").read_text()
    assert "no-mptcp," in text
    text = text.replace("no-mptcp,", "mptcp,")
    (plan / "plan.yaml").write_text(text)
    clear(run(plan), 1, "did not come out as asked", "CONFIG_MPTCP: asked y", "came out n", "depends on")


def test_a_compiler_error_shows_the_first_errors(run: Runner, derived_plan: PlanMaker, dummy_patch: DummyPatch) -> None:
    broken = dummy_patch("static int numdummies = 1;\n", "static int numdummies = not_declared;\n")
    ran = run(derived_plan(extra=[broken]))
    clear(ran, 1, "patched/both", "does not compile", "drivers/net/dummy.c:46: error:", "not_declared")
    (row,) = ran.rows("build")
    assert (row["id"], row["verdict"]) == ("patched/both", "FAIL")


def test_a_kernel_that_panics_at_boot(run: Runner, derived_plan: PlanMaker, dummy_patch: DummyPatch) -> None:
    panics = dummy_patch(INIT, '\tpanic("on purpose");\n' + INIT)
    ran = run(derived_plan(extra=[panics]))
    clear(ran, 1, "Kernel panic - not syncing: on purpose", "console.log")
    (row,) = ran.rows("boot", id="patched/both")
    assert row["verdict"] == "FAIL"
    assert ran.rows("boot", id="base/both")[0]["verdict"] == "PASS"


def test_a_suite_without_a_test(run: Runner, derived_plan: PlanMaker, tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text("def helper() -> None:\n    pass\n")
    clear(run(derived_plan(suites=["test_nothing.py"])), 2, "the suite contains no test", f"{tmp_path}/test_nothing.py")


def test_a_claim_on_a_test_that_there_is_not(run: Runner, derived_plan: PlanMaker, tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("def test_x(lab):\n    assert lab\n")
    claim = 'claims: {C1: {says: "it works", check: tests, variants: [both], tests: ["test_one.py::test_y"]}}'
    ran = run(derived_plan(suites=["test_one.py"], more=claim))
    clear(ran, 2, "claim C1 is checked by test_y, which is no test of this suite", f"{tmp_path}/test_one.py", "test_x")


def test_a_suite_that_collects_no_test_fails(run: Runner, derived_plan: PlanMaker, tmp_path: Path) -> None:
    (tmp_path / "test_none.py").write_text(
        "import pytest\n\n@pytest.mark.parametrize('x', [])\nclass Hidden:\n    def test_x(self, x):\n        pass\n")
    ran = run(derived_plan(suites=["test_none.py"]))
    clear(ran, 1, "it contains no test")


@pytest.mark.parametrize("mark", ["@", "pytestmark = "], ids=["of-the-test", "of-the-file"])
def test_a_suite_none_of_whose_tests_applies_fails(run: Runner, derived_plan: PlanMaker, tmp_path: Path,
                                                   mark: str) -> None:
    (tmp_path / "test_unfit.py").write_text(
        f"import pytest\n\n{mark}pytest.mark.needs('NO_SUCH')\ndef test_x(lab):\n    assert lab\n")
    ran = run(derived_plan(suites=["test_unfit.py"]))
    clear(ran, 1, "CONFIG_NO_SUCH")
    (row,) = ran.rows("suite")
    assert (row["verdict"], row["evidence"]) == ("FAIL", "no test of it can run here: the kernel lacks CONFIG_NO_SUCH")


def test_a_suite_that_cannot_be_imported_says_why(run: Runner, derived_plan: PlanMaker, tmp_path: Path) -> None:
    (tmp_path / "test_import.py").write_text("import not_installed\n\ndef test_x():\n    assert True\n")
    ran = run(derived_plan(suites=["test_import.py"]))
    clear(ran, 3, "No module named 'not_installed'", "pytest.log")
    (row,) = ran.rows("suite")
    assert (row["verdict"], row["evidence"]) == ("ERROR", "pytest ended with exit code 2")


def test_a_suite_that_crashes_is_an_error(run: Runner, derived_plan: PlanMaker, tmp_path: Path) -> None:
    (tmp_path / "test_crash.py").write_text("import os\n\ndef test_x():\n    os._exit(0)\n")
    ran = run(derived_plan(suites=["test_crash.py"]))
    clear(ran, 3, "crashed")
    assert ran.rows("suite")[0]["verdict"] == "ERROR"


def test_a_missing_tool(tmp_path: Path) -> None:
    """QEMU is masked by a mount of the test's own; the run says so before it builds anything."""
    mask = tmp_path / "mask"
    mask.touch(mode=0o644)
    assert shutil.which("bwrap")
    done = subprocess.run(
        ["bwrap", "--dev-bind", "/", "/", "--ro-bind", str(mask), "/usr/bin/qemu-system-x86_64", sys.executable, "-m",
         "harness", "run", str(PLAN), "--out", str(tmp_path / "run")], capture_output=True, text=True, check=False,
        cwd=ROOT)
    ran = Ran(code=done.returncode, out=done.stdout, err=done.stderr, folder=tmp_path / "run")
    clear(ran, 3, "qemu-system-x86_64", "apt-get install qemu-system-x86")


@pytest.mark.parametrize("arguments", [("run",), ("run", "nowhere"), ("boot", str(PLAN)), ("frobnicate",),
                                       ("run", str(PLAN), "--variant", "nine"), ("objdiff", "a")])
def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = harness(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_a_run_folder_in_use(tmp_path: Path, derived_plan: PlanMaker) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("kept")
    done = harness("run", str(derived_plan()), "--out", str(tmp_path / "run"), cwd=tmp_path)
    assert done.returncode == 2
    assert "already in use" in done.stderr
    assert (tmp_path / "run" / "mine").read_text() == "kept"


def test_the_cache_is_usable_afterwards() -> None:
    store = Store(root=default_root())
    for manifest in store.root.glob("config/*/manifest.json"):
        assert store.load("config", manifest.parent.name) is not None
