# SPDX-License-Identifier: GPL-2.0-only
"""suites: a test has crashed until its record says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.claims import Check, Claim, Row, Verdict
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.jobs import suites
from harness.jobs.suites import Session
from harness.lab.shapes import PAIR
from harness.lab.topology import to_json
from harness.plan.plan import Suite, read_plan
from tests.conftest import PLAN

CUSTOMER = read_plan(PLAN)
NOWHERE = tuple(("test_mptcp.py", variant.name) for variant in CUSTOMER.variants)
SUITE = Suite(name="tests/guest/s.py", path=Path("/abs/tests/guest/s.py"))


def record(event: str, test: str = "a", **more: object) -> dict[str, object]:
    return {"event": event, "id": f"/abs/tests/guest/s.py::{test}", **more}


def finished(verdict: str) -> dict[str, object]:
    return record("finished", verdict=verdict, reason="why", seconds=1.5, detail=["line"])


@pytest.mark.parametrize(("records", "verdict", "reason"), [
    ([record("planned")], Verdict.ERROR, "it was never started"),
    ([record("planned"), record("started")], Verdict.ERROR, "it crashed"),
    ([record("planned"), record("started"), finished("PASS")], Verdict.PASS, "why"),
    ([record("planned"), record("started"), finished("FAIL")], Verdict.FAIL, "why"),
])
def test_a_result_is_earned(records: list[dict[str, object]], verdict: Verdict, reason: str) -> None:
    (result,) = suites.collect(SUITE, tuple(records), "")
    assert (result.id, result.verdict, result.reason) == ("tests/guest/s.py::a", verdict, reason)


def test_a_pytest_that_was_ended_says_so_for_every_unfinished_test() -> None:
    records = (record("planned"), record("planned", "b"), record("started"), finished("PASS"), record("started", "b"))
    first, second = suites.collect(SUITE, records, "pytest ended with signal SIGKILL")
    assert first.verdict is Verdict.PASS
    assert (second.verdict, second.reason) == (Verdict.ERROR, "pytest ended with signal SIGKILL")


def test_a_result_names_the_nic_model_whatever_became_of_it() -> None:
    records = (record("planned"), record("planned", "b"), record("started", "b"), record("planned", "c"))
    found = suites.collect(SUITE, (*records, {**finished("FAIL"), "id": "/abs/tests/guest/s.py::c"}), "", "rtl8139")
    assert [result.label for result in found] == [f"tests/guest/s.py::{name} on rtl8139" for name in "abc"]


def test_an_unknown_verdict_is_no_pass() -> None:
    with pytest.raises(ValueError, match="MAYBE"):
        suites.collect(SUITE, (finished("MAYBE"),), "")


@pytest.mark.parametrize(("text", "message"), [
    ("x = 1\n", "contains no test"), ("def test_x(:\n", "not Python"), ("", "contains no test"),
])
def test_files_that_are_no_suites(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        suites.check(Suite(name="s.py", path=path))
    assert str(path) in str(caught.value.where)


def suite(tmp_path: Path, text: str) -> Suite:
    (tmp_path / "s.py").write_text(text)
    return Suite(name="s.py", path=tmp_path / "s.py")


def test_a_claim_on_a_test_that_the_suite_has_not_is_refused(tmp_path: Path) -> None:
    asks = suite(tmp_path, "class TestAll:\n    def test_ping(self): pass\n")
    named = [Claim(id="C1", says="", check=Check.TESTS, variants=("v",), expect="pass", tests=(f"s.py{test}", "t.py"))
             for test in ("", "::TestAll::test_ping", "::TestAll::test_ping[ipv4]", "::TestAll::test_pink")]
    suites.check(asks, (), named[:3])
    with pytest.raises(UsageError, match="claim C1 is checked by test_pink, which is no test of this suite") as caught:
        suites.check(asks, (), named)
    assert (caught.value.where, caught.value.hint) == (str(asks.path), "did you mean test_ping?")


def test_an_unknown_topology_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    asks = suite(tmp_path, 'import pytest\npytestmark = [pytest.mark.topology("ring")]\ndef test_x(): pass\n')
    with pytest.raises(UsageError, match="unknown topology 'ring'") as caught:
        suites.check(asks)
    assert caught.value.where == f"{asks.path}:2"
    suites.check(asks, (replace(PAIR, name="ring"),))


@pytest.mark.parametrize(("mark", "matters"), [
    ("pytest.mark.topology('pair')", True), ("pytest.mark.topology('solo')", False),
    ("pytest.mark.topology(NAME)", True), ("None", True)])
def test_whether_the_nic_model_matters_to_a_suite(tmp_path: Path, mark: str, matters: bool) -> None:
    asks = suite(tmp_path, f"import pytest\npytestmark = [{mark}]\ndef test_x(): pass\n")
    assert suites.has_nics_of_the_run(asks, ()) is matters


@pytest.mark.parametrize(("marks", "needs"), [
    ("pytestmark = [pytest.mark.topology('pair'), pytest.mark.needs('A|B', 'C')]", ("A|B", "C")),
    ("pytestmark = pytest.mark.needs('A')", ("A",)),
    ("pytestmark = (pytest.mark.needs('A'), pytest.mark.needs('B'))", ("A", "B")),
    ("pytestmark = [pytest.mark.topology('pair')]", ()),
    ("NEEDS = ('A',)\npytestmark = [pytest.mark.needs(*NEEDS)]", ()),
    ("pytestmark = pytest.mark.needs('A')\npytestmark = []", ()),  # which of them holds, only pytest knows
    ("MARK = pytest.mark.needs('A')\n@MARK", ()),  # the test's, not the file's
    ("class TestAll:\n    pytestmark = pytest.mark.needs('A')\n", ())])
def test_what_every_test_of_a_suite_needs(tmp_path: Path, marks: str, needs: tuple[str, ...]) -> None:
    assert suites.needs_of(suite(tmp_path, f"import pytest\n{marks}\ndef test_x(): pass\n")) == needs


def test_a_session_round_trips_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    session = Session(tree="patched", variant="v", arch="x86_64", image="i", build="k", out="o", source="s", cc="gcc",
                      make_vars=["W=1"], cache="c", rootfs="r", memory=1, cpus=1, accel="tcg", boot_timeout=1,
                      workdir="w", results="r")
    assert session.nic == "e1000"
    session = replace(session, nic="rtl8139", images={"base": "b"}, topologies=(to_json(PAIR),))
    session.write(tmp_path / "session.json")
    assert Session.read(tmp_path / "session.json").own_topologies == (PAIR,)
    assert replace(Session.read(tmp_path / "session.json"), topologies=()) == replace(session, topologies=())
    with pytest.raises(UsageError, match="not a topology"):
        assert replace(session, topologies=({"name": "x"},)).own_topologies
    (tmp_path / "session.json").write_text("{}")
    with pytest.raises(UsageError, match="not a session file"):
        Session.read(tmp_path / "session.json")


@pytest.mark.parametrize(("lacking", "rows"), [
    ((), ()),
    ((("test_bridge.py", "none"),), ()),  # it runs on others
    ((("test_ipsec.py", "xfrm"),), (("test_ipsec.py", "xfrm"),)),  # the plan wants it there
    (NOWHERE, NOWHERE),
])
def test_a_suite_that_can_run_nowhere_fails(lacking: Sequence[tuple[str, str]],
                                            rows: Sequence[tuple[str, str]]) -> None:
    unfit = {(name, variant): Row(kind="suite", id=name, variant=variant, verdict=Verdict.FAIL, evidence="why")
             for file, variant in lacking for name in [f"tests/guest/{file}"]}
    found = suites.never_ran(CUSTOMER, unfit)
    assert tuple((row.id.rpartition("/")[2], row.variant) for row in found) == rows


def ran(tmp_path: Path, text: str, conftest: str = "") -> Row:
    """The row of a suite that needs no machine."""
    for name in ("out", "work", "suite"):
        (tmp_path / name).mkdir()
    (tmp_path / "out/.config").write_text("CONFIG_NET=y\n")
    (tmp_path / "suite/conftest.py").write_text(conftest)
    path = tmp_path / "suite/test_s.py"
    path.write_text(text)
    session = Session(tree="patched", variant="v", arch="x86_64", image="i", build="k", out=str(tmp_path / "out"),
                      source="s", cc="gcc", make_vars=[], cache="c", rootfs="r", memory=1, cpus=1, accel="tcg",
                      boot_timeout=1, workdir=str(tmp_path / "work"), results=str(tmp_path / "work/results.jsonl"))
    with suites.started(Suite(name="test_s.py", path=path), session, deadline=Deadline.after(60)) as running:
        row = running.row()
    assert row is not None
    return row


PASSES = "def test_a():\n    assert True\n"
STRICT = f"import pytest\n\n@pytest.mark.xfail(strict=True, reason='known')\n{PASSES}"
SKIPS = "import pytest\n\ndef test_a():\n    pytest.skip('no card')\n    assert True\n"
KILLED = "import os\n\ndef pytest_sessionfinish():\n    os.kill(os.getpid(), 9)\n"
SAYS_FAILED = """import pytest
@pytest.hookimpl(wrapper=True%s)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        report.outcome, report.longrepr = "failed", "it leaks"
    return report
"""


@pytest.mark.parametrize(("text", "conftest", "verdict", "evidence"), [
    (STRICT, "", Verdict.FAIL, "1 fail; test_a: [XPASS(strict)] known"),
    (PASSES, SAYS_FAILED % "", Verdict.FAIL, "1 fail; test_a: it leaks"),
    (PASSES, SAYS_FAILED % ", tryfirst=True", Verdict.ERROR, "pytest failed, though no test of it did: 1 pass"),
    (PASSES, "def pytest_sessionfinish(session):\n    raise OSError('gone')\n", Verdict.ERROR,
     "pytest failed, though no test of it did: 1 pass"),
    (SKIPS, KILLED, Verdict.ERROR, "pytest ended with signal SIGKILL"),
    (PASSES, "", Verdict.PASS, "1 pass"),
], ids=["a strict xfail passes", "a hook's word", "a hook's last word", "a hook fails", "killed", "all is well"])
def test_what_pytest_calls_a_failure_is_no_pass(tmp_path: Path, text: str, conftest: str, verdict: Verdict,
                                                evidence: str) -> None:
    row = ran(tmp_path, text, conftest)
    assert (row.verdict, row.evidence) == (verdict, evidence)


NEVER_CALLED = "1 error; test_a: it was never called"
NOTHING = "1 pass, 1 error; test_a: the test asserts nothing: it cannot fail"
INDENTED = 'class TestAll:\n    def test_a(self):\n        assert """\nat the margin\n"""\n'
PARTIAL = "import functools\n\ndef is_true(it):\n    assert it\n\ntest_a = functools.partial(is_true, True)\n"
MADE = 'exec("def test_a():\\n    assert True\\n")\n'


@pytest.mark.parametrize(("text", "conftest", "evidence"), [
    (PASSES, "def pytest_configure(config):\n    config.option.setuponly = True\n", NEVER_CALLED),
    (PASSES, "def pytest_runtest_protocol(item, nextitem):\n    return True\n", NEVER_CALLED),
    (f"{INDENTED}\ndef test_b():\n    assert True\n", "", "2 pass"),
    (f"{PARTIAL}\ndef test_b():\n    assert True\n", "", NOTHING),
    (f"{MADE}\ndef test_b():\n    assert True\n", "", NOTHING),
], ids=["only set up", "another protocol", "a string at the margin", "no function", "no source"])
def test_a_pass_is_one_of_a_test_that_was_called_and_asserts(tmp_path: Path, text: str, conftest: str,
                                                             evidence: str) -> None:
    assert ran(tmp_path, text, conftest).evidence == evidence


@pytest.mark.parametrize("ends", ["pytest.skip('no such thing')", "pytest.fail('it hangs')",
                                  "pytest.raises(OSError, int)"])
def test_what_a_kernel_reported_outranks_how_the_test_ended(tmp_path: Path, ends: str) -> None:
    sick = """from types import SimpleNamespace
from harness import pytest_plugin
from harness.errors import KernelError

def check(label):
    raise KernelError("dut: WARNING in f")

def pytest_runtest_setup(item):
    item.config.stash[pytest_plugin._LABS] = [SimpleNamespace(hosts={}, check=check)]
"""
    row = ran(tmp_path, f"import pytest\n\ndef test_a():\n    {ends}\n    assert True\n", sick)
    assert (row.verdict, row.evidence) == (Verdict.FAIL, "1 fail; test_a: dut: WARNING in f")


THREAD = """import threading

def test_a():
    def look():
        assert 1 == 2

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
"""
ALONE = "class TestAll:\n    def __init__(self):\n        pass\n\n    def test_b(self):\n        assert False\n"


def test_an_assertion_that_fails_in_a_thread_fails_its_test(tmp_path: Path) -> None:
    row = ran(tmp_path, THREAD)
    assert (row.verdict, row.evidence) == (Verdict.FAIL, "1 fail; test_a: assert 1 == 2")


def test_a_class_of_tests_that_cannot_be_run_is_no_pass(tmp_path: Path) -> None:
    row = ran(tmp_path, f"{PASSES}{ALONE}")
    assert row.verdict is Verdict.ERROR
    assert any("cannot collect test class 'TestAll'" in line for line in row.detail), row.detail


ONE_ID = """import pytest

@pytest.mark.parametrize("last", ["b-c", "c"])
@pytest.mark.parametrize("first", ["a", "a-b"])
def test_a(first, last):
    assert (first, last) != ("a", "b-c")
"""


def test_of_tests_with_one_id_each_has_its_result(tmp_path: Path) -> None:
    row = ran(tmp_path, ONE_ID)
    assert row.verdict is Verdict.FAIL
    assert {result.id: result.verdict for result in row.tests if "a-b-c" in result.id} == {
        "test_s.py::test_a[a-b-c]": Verdict.FAIL, "test_s.py::test_a[a-b-c][2]": Verdict.PASS}


def test_of_tests_with_one_id_one_that_never_ran_is_no_pass() -> None:
    records = (record("planned"), record("planned"), record("started"), finished("PASS"))
    assert [result.verdict for result in suites.collect(SUITE, records, "")] == [Verdict.PASS, Verdict.ERROR]


@pytest.mark.parametrize(("text", "reason"), [
    ("import pytest\npytest.importorskip('not_here')\n",
     "Skipped: could not import 'not_here': No module named 'not_here'"),
    ("import pytest\npytest.skip('no card', allow_module_level=True)\n", "Skipped: no card"),
], ids=["a module that is missing", "its own word"])
def test_a_file_that_skips_itself_says_why_no_test_ran(tmp_path: Path, text: str, reason: str) -> None:
    row = ran(tmp_path, f"{text}{PASSES}")
    assert (row.verdict, row.evidence) == (Verdict.FAIL, f"none of its tests ran: {reason}")


def test_what_a_hook_takes_away_is_seen(tmp_path: Path) -> None:
    takes = "def pytest_collection_modifyitems(items):\n    del items[1]\n"
    row = ran(tmp_path, f"{PASSES}\ndef test_b():\n    assert False\n", takes)
    assert (row.verdict, row.evidence) == (Verdict.PASS, "1 pass, 1 skip; test_b: a hook has deselected it")


def test_a_test_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    suites.check(suite(tmp_path, f"{PASSES}\nclass TestAll:\n    def test_a(self):\n        assert True\n"))
    with pytest.raises(UsageError, match="has test_a twice: the first would not run") as caught:
        suites.check(suite(tmp_path, f"{PASSES}\n{PASSES}"))
    assert caught.value.where == f"{tmp_path}/s.py:4"
