# SPDX-License-Identifier: GPL-2.0-only
"""Suites of guest tests: runs each in a pytest of its own and reads back what each test earned.

The two sides speak through files: a session file (what to boot, where to write; `Session`) goes in with
`--harness-session`, and the plugin appends one JSON record a line to `results`, so that a pytest that dies leaves
what it had done. A test that was planned and has no result is an ERROR: it crashed.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from harness import claims, proc
from harness.claims import Claim, Row, TestResult, Verdict
from harness.deadline import Deadline
from harness.errors import DeadlineExpired, UsageError
from harness.lab import shapes
from harness.lab.topology import RUNS_MODEL, Topology, from_json
from harness.plan.plan import Plan, Suite
from harness.proc import Process
from harness.vm.nic import DEFAULT_MODEL

STRICT = ("-W", "error::pytest.PytestUnhandledThreadExceptionWarning", "-W", "error::pytest.PytestCollectionWarning")
"""For pytest: an assertion that fails in a thread fails its test; a class of tests that cannot be run is an error."""
_LAST_LINES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What `harness.pytest_plugin` needs to know, as JSON (all values are text, numbers or lists of them).

    Attributes:
        tree: `base` or `patched`.
        variant: the configuration's name.
        arch: name of the row in `harness.arch`.
        image: the kernel to boot.
        build: the key of the kernel's build; this and what follows is for modules that tests build against it.
        out: its output, with its `.config`.
        source: the tree it was built from.
        cc: the compiler.
        make_vars: for make, `NAME=value`.
        cache: the store's folder.
        rootfs: the initramfs.
        memory: MiB of each machine.
        cpus: of each machine.
        accel: `kvm` or `tcg`.
        boot_timeout: seconds from QEMU's start to the first SSH answer.
        workdir: the suite's folder, where consoles and captures go; exists.
        results: the file that takes the records.
        silence: seconds without progress after which a machine is examined and given up.
        benign: the file with the allow-list of kernel reports, the plan; empty for none.
        nic: the model of the NICs that do not name one; empty where there are none.
        images: by side, the kernels of this variant, for topologies that ask for a side.
        topologies: the plan's, as `harness.lab.topology.to_json` writes them.
    """

    tree: str
    variant: str
    arch: str
    image: str
    build: str
    out: str
    source: str
    cc: str
    make_vars: list[str]
    cache: str
    rootfs: str
    memory: int
    cpus: int
    accel: str
    boot_timeout: int
    workdir: str
    results: str
    silence: int = 120
    benign: str = ""
    nic: str = DEFAULT_MODEL
    images: dict[str, str] = dataclasses.field(default_factory=dict)
    topologies: tuple[dict[str, Any], ...] = ()

    @property
    def own_topologies(self) -> tuple[Topology, ...]:
        """The plan's topologies. Raises UsageError where they are none."""
        try:
            return tuple(map(from_json, self.topologies))
        except (KeyError, TypeError) as error:
            raise UsageError(f"not a topology: {error}", where="session file") from error

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Session:
        """Raises UsageError where the file is no session file."""
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**value, "topologies": tuple(value.get("topologies", ()))})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"not a session file: {error}", where=str(path)) from error


def check(suite: Suite, topologies: Sequence[Topology] = (), claims_on: Sequence[Claim] = ()) -> None:
    """Refuse a suite file that is no Python, or lacks what is asked for, before anything is built.

    It must hold a test, ask for topologies that there are, and hold the tests that claims name.

    Args:
        topologies: the plan's, besides the ready-made ones.
        claims_on: the plan's claims.

    Raises:
        UsageError: says which and where.
    """
    try:
        module = _parsed(suite)
    except SyntaxError as error:
        raise UsageError(f"the suite is not Python: {error.msg}", where=f"{suite.path}:{error.lineno}") from error
    names = [node.name for node in ast.walk(module)
             if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test")]
    if not names:
        raise UsageError("the suite contains no test", where=str(suite.path),
                         hint="a test is a function whose name starts with test_")
    for node in ast.walk(module):
        _check_names(suite, node)
    for claim in claims_on:
        for file, _, test in (name.partition("::") for name in claim.tests):
            wanted = test.partition("[")[0].rpartition("::")[2]
            if file == suite.name and wanted and wanted not in names:
                near = get_close_matches(wanted, names, n=1)
                raise UsageError(f"claim {claim.id} is checked by {wanted}, which is no test of this suite",
                                 where=str(suite.path), hint=f"did you mean {near[0]}?" if near else "")
    topology_of(suite, topologies)


def _parsed(suite: Suite) -> ast.Module:
    return ast.parse(suite.path.read_text(encoding="utf-8"), filename=str(suite.path))


def _check_names(suite: Suite, node: ast.AST) -> None:
    """Refuse a module or a class that defines a test twice: Python keeps the last one, and no other would run."""
    seen: set[str] = set()
    for item in node.body if isinstance(node, (ast.Module, ast.ClassDef)) else ():
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)) and item.name.startswith("test"):
            if item.name in seen:
                raise UsageError(f"the suite has {item.name} twice: the first would not run",
                                 where=f"{suite.path}:{item.lineno}")
            seen.add(item.name)


def topology_of(suite: Suite, topologies: Sequence[Topology]) -> Topology | None:
    """The topology that a suite's mark names; None where it cannot be read without running the file.

    Raises:
        UsageError: there is none of that name.
    """
    for node in ast.walk(_parsed(suite)):
        match node:
            case ast.Call(func=ast.Attribute(attr="topology", value=ast.Attribute(attr="mark")),
                          args=[ast.Constant(value=str(name))]):
                try:
                    return shapes.get(name, topologies)
                except UsageError as error:
                    raise UsageError(error.what, where=f"{suite.path}:{node.lineno}", hint=error.hint) from error
    return None


def needs_of(suite: Suite) -> tuple[str, ...]:
    """The kernel options that every test of a suite needs, as its `pytestmark` says; those that it says in plain text.

    What only running the file would tell is left to its pytest.
    """
    marks = [node.value for node in _parsed(suite).body if isinstance(node, ast.Assign)
             and any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)]
    if len(marks) != 1:
        return ()
    needs = [node for node in (marks[0].elts if isinstance(marks[0], (ast.List, ast.Tuple)) else marks)
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "needs"]
    return tuple(option.value for node in needs for option in node.args
                 if isinstance(option, ast.Constant) and isinstance(option.value, str))


def has_nics_of_the_run(suite: Suite, topologies: Sequence[Topology]) -> bool:
    """Whether it matters to a suite which NIC model the run is on. Raises UsageError as `topology_of` does."""
    found = topology_of(suite, topologies)
    return found is None or any(nic.model == RUNS_MODEL for station in found.machines for nic in station.nics)


class Running:
    """A suite that runs, in a pytest of its own. Made by `started`."""

    def __init__(self, suite: Suite, session: Session, process: Process, deadline: Deadline) -> None:
        self.suite, self._session = suite, session
        self._process, self._deadline = process, deadline

    @property
    def variant(self) -> str:
        return self._session.variant

    @property
    def nic(self) -> str:
        return self._session.nic

    @property
    def finished(self) -> int:
        """How many tests have a result."""
        return sum(record["event"] == "finished" for record in _records(Path(self._session.results)))

    def wait(self, seconds: float) -> bool:
        """Wait for its end, or that of its time, for so long; whether it has come."""
        try:
            self._process.wait(self._deadline.within(seconds))
        except DeadlineExpired:
            return self._deadline.expired
        return True

    @property
    def unfit(self) -> Row:
        """What to say where none of its tests applies, and it was to run here."""
        reasons = dict.fromkeys(str(record["reason"]) for record in _records(Path(self._session.results))
                                if record["event"] == "not-applicable")
        return unfit(self.suite, self.variant, "; ".join(reasons))

    def row(self) -> Row | None:
        """Wait for its end; None where none of its tests applies to the variant (their `needs` marks say so)."""
        ended, failed = "", False
        try:
            code = self._process.wait(self._deadline)
            failed = code == 1
            if code not in (0, 1, 5):
                ended = f"pytest ended with {proc.ending(code)}"
        except DeadlineExpired:
            self._process.kill()
            ended = f"the suite was still running after {self._deadline.budget:g} s"
        log = Path(self._session.workdir) / "pytest.log"
        return _row(self.suite, tuple(_records(Path(self._session.results))), self._session, ended, log, failed=failed)


def unfit(suite: Suite, variant: str, why: str) -> Row:
    """What to say of a suite that was to run on a variant, and no test of which can."""
    return Row(kind="suite", id=suite.name, variant=variant, verdict=Verdict.FAIL,
               evidence=f"no test of it can run here: {why}")


@contextmanager
def started(suite: Suite, session: Session, *, deadline: Deadline) -> Iterator[Running]:
    """Run the suite's tests for this variant, for as long as the block lasts and until `deadline` at most."""
    workdir = Path(session.workdir)
    session.write(workdir / "session.json")
    Path(session.results).touch()
    home = suite.path.parent
    argv = [sys.executable, "-m", "pytest", "-p", "harness.pytest_plugin", f"--harness-session={workdir}/session.json",
            "-p", "no:cacheprovider", "--override-ini=addopts=", *STRICT, "--color=no", "-v",
            f"--rootdir={home}", f"--confcutdir={home}", str(suite.path)]
    with proc.spawn(argv, log=workdir / "pytest.log") as process:
        yield Running(suite, session, process, deadline)


def never_ran(plan: Plan, unfit: Mapping[tuple[str, str], Row]) -> tuple[Row, ...]:
    """The rows of suites that the plan wants and that ran no test, as none could run where it was to.

    A suite that is kept to some variants is wanted on each of them, any other one on at least one of the plan's.

    Args:
        unfit: by suite and variant, the row that says why no test can run there.
    """
    patched = tuple(variant.name for variant in plan.variants if "patched" in variant.sides)
    rows = []
    for suite in plan.suites:
        found = [unfit[suite.name, variant] for variant in suite.variants or patched if (suite.name, variant) in unfit]
        if suite.variants or len(found) == len(patched):
            rows += found
    return tuple(rows)


def _records(path: Path) -> Iterator[dict[str, object]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def _row(suite: Suite, records: tuple[dict[str, object], ...], session: Session, ended: str, log: Path, *,
         failed: bool) -> Row | None:
    """What a suite comes to.

    Args:
        ended: how pytest ended, where that was no end of its own.
        failed: whether pytest says that the suite failed: a hook's word, or its crash, where no test says so.
    """
    results = collect(suite, records, ended, session.nic)
    if not results and not ended and any(record["event"] == "not-applicable" for record in records):
        return None
    row = claims.judge_suite(suite.name, session.variant, results, sum(result.seconds for result in results), ended,
                             session.nic)
    skipped = [str(record["reason"]) for record in records if record["event"] == "skipped"]
    if skipped and not results and not ended:
        row = dataclasses.replace(row, evidence=f"none of its tests ran: {skipped[0]}")
    known = known_reports(records)
    if known:
        row = dataclasses.replace(row, evidence=f"{row.evidence}; {known[0]}", detail=(*known, *row.detail))
    well = row.verdict in (Verdict.PASS, Verdict.SKIP)
    if failed and well:
        ended = f"pytest failed, though no test of it did: {row.evidence}"
    said = (*_errors(log), *row.detail) if ended else row.detail
    if ended and well:
        row = dataclasses.replace(row, verdict=Verdict.ERROR, evidence=ended)
    return dataclasses.replace(row, detail=(*said, f"log: {log}")) if said or ended else row


def known_reports(records: Iterable[Mapping[str, object]]) -> tuple[str, ...]:
    """What the kernels reported and the plan's `benign` hid, a line for each machine and reason."""
    return tuple(f"{record['machine']}: {count} reports known as benign: {reason}"
                 for record in records if record["event"] == "hidden" and isinstance(record["reports"], dict)
                 for reason, count in record["reports"].items())


def _errors(log: Path) -> tuple[str, ...]:
    """What pytest says of an error, which it marks with an E; where it marks nothing, the end of its words."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return tuple(line for line in lines if line.startswith("E "))[-proc.TAIL_LINES:] or tuple(lines[-_LAST_LINES:])


def collect(suite: Suite, records: tuple[dict[str, object], ...], ended: str,
            nic: str = "") -> tuple[TestResult, ...]:
    """Every planned test's result; one that was planned and never finished is an ERROR that says how far it got.

    pytest gives several tests one id where those of their parameters run into each other (`a-b` and `c`, `a` and
    `b-c`): the second is `test_x[a-b-c][2]`, so that what a claim says of the id holds for both.
    """
    found: dict[str, TestResult] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for record in records:
        if record["event"] not in ("planned", "started", "finished", "deselected"):
            continue
        name = f"{suite.name}::{str(record['id']).partition('::')[2]}"
        seen[str(record["event"]), name] += 1
        if (number := seen[str(record["event"]), name]) > 1:
            name = f"{name}[{number}]"
        if record["event"] == "planned":
            found[name] = TestResult(id=name, nic=nic, verdict=Verdict.ERROR, reason=ended or "it was never started")
        elif record["event"] == "deselected":
            found[name] = TestResult(id=name, nic=nic, verdict=Verdict.SKIP, reason="a hook has deselected it")
        elif record["event"] == "started":
            found[name] = TestResult(id=name, nic=nic, verdict=Verdict.ERROR, reason=ended or "it crashed")
        elif record["event"] == "finished":
            detail = record.get("detail", [])
            assert isinstance(detail, list)
            found[name] = TestResult(id=name, nic=nic, verdict=Verdict(str(record["verdict"])),
                                     reason=str(record["reason"]), seconds=float(str(record["seconds"])),
                                     detail=tuple(str(row) for row in detail))
    return tuple(found.values())
