# SPDX-License-Identifier: GPL-2.0-only
"""The pytest side of guest suites: fixtures that hold booted machines, marks, and a record of every result.

`harness.jobs.suites` starts pytest with `-p harness.pytest_plugin --harness-session=FILE` and reads the records. A test
has no result until it has earned one: "started" is written before it runs, "finished" after its teardown. What a
kernel reported outranks what the test noticed, and fails a test that noticed nothing.
"""

from __future__ import annotations

import ast
import inspect
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import arch
from harness.claims import Verdict
from harness.deadline import Deadline
from harness.errors import HarnessError, KernelError, UsageError
from harness.jobs.suites import Session
from harness.kernel import module
from harness.kernel.toolchain import toolchain
from harness.lab import shapes
from harness.lab.bench import Lab, up
from harness.lab.kernel import Kernel, parse_config
from harness.lab.topology import Topology
from harness.plan.benign import read_benign
from harness.store.store import Store
from harness.vm import hang
from harness.vm.handle import Machine
from harness.vm.nic import DEFAULT_MODEL
from harness.vm.qemu import MachineSpec

_SETUP = 60.0
"""Seconds beyond the boot for links and addresses."""
_MODULE = 300.0
"""Seconds that a module has to build."""
_TRACEBACK = 25
_CONSOLE = 15
_REASON = 400
_KEY = pytest.StashKey["Recorder"]()
_LABS = pytest.StashKey[list[Lab]]()
_SEEN = pytest.StashKey[dict[int, int]]()
_MARKS = (
    "topology(name): the machines and links that a guest test runs on",
    "needs(*options): kernel options a guest test needs; a variant without them does not run it",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--harness-session", metavar="FILE", help="the session file that `harness run` wrote")


def pytest_configure(config: pytest.Config) -> None:
    for mark in _MARKS:
        config.addinivalue_line("markers", mark)
    config.stash[_LABS] = []
    config.stash[_SEEN] = {}
    path = config.getoption("--harness-session")
    if path is not None:
        try:
            session = Session.read(Path(path))
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
        recorder = Recorder(session)
        config.pluginmanager.register(recorder, "harness-recorder")
        config.stash[_KEY] = recorder


class Recorder:
    """Selects the tests of a session and writes what each earned, a JSON record a line."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.kernel = Kernel(tree=session.tree, variant=session.variant,
                             config=parse_config(Path(session.out, ".config").read_text(encoding="utf-8")))
        self._phases: list[tuple[Verdict, str, tuple[str, ...]]] = []
        self._called = False

    def write(self, event: str, item: pytest.Item, **fields: object) -> None:
        self._append({"event": event, "id": _id(item), **fields})

    def hidden(self, lab: Lab) -> None:
        """Record what the kernels of a lab reported and the allow-list hid: a pass must not look as if nothing was."""
        for host in lab.hosts.values():
            if host.machine.console.hidden:
                self._append({"event": "hidden", "machine": host.name, "reports": host.machine.console.hidden})

    def _append(self, record: Mapping[str, object]) -> None:
        with Path(self.session.results).open("a", encoding="utf-8") as sink:
            sink.write(json.dumps(record) + "\n")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record why a whole file was skipped: there is no test of it to say so."""
        if report.skipped:
            said = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self._append({"event": "skipped", "reason": _line(said)})

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]
                                      ) -> Generator[None, object, object]:
        """Plan what the kernel can run; the rest is recorded as not applicable, with what it lacks.

        What hooks or options have taken away is recorded, too: a suite must not look as if that had passed.
        """
        collected = tuple(items)
        outcome = yield
        for item in collected:
            if item not in items:
                self.write("deselected", item)
        kept, left = [], []
        for item in items:
            wanted = tuple(dict.fromkeys(option for mark in item.iter_markers("needs") for option in mark.args))
            reason = self.kernel.why_not(wanted)
            if reason:
                self.write("not-applicable", item, reason=reason)
                left.append(item)
            else:
                self.write("planned", item)
                kept.append(item)
        items[:] = kept
        if left:
            config.hook.pytest_deselected(items=left)
        return outcome

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.write("started", item)
        self._phases, self._called = [], False
        item.config.stash[_SEEN] = {id(machine): len(machine.events) for machine in _machines(item)}
        began = time.monotonic()
        outcome = yield
        verdict, reason, detail = self._judge(item)
        self.write("finished", item, verdict=str(verdict), reason=reason, seconds=round(time.monotonic() - began, 3),
                   detail=list(detail))
        return outcome

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]
                                  ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.excinfo is not None:
            verdict, reason = verdict_of(call.excinfo.value, call.when)
            self._phases.append((verdict, reason, _detail(item, call.excinfo.value, report)))
            if verdict is not Verdict.SKIP:
                report.sections += _sections(item)
        elif report.failed:  # a strict xfail that passes, or a conftest's word
            lines = report.longreprtext.splitlines() or ["pytest says that it failed"]
            self._phases.append((Verdict.FAIL if call.when == "call" else Verdict.ERROR, _line(lines[-1]),
                                 tuple(lines[-_TRACEBACK:])))
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Look at every kernel after the test, whether it failed or not."""
        try:
            outcome = yield
        except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:
            if not isinstance(error, KernelError):
                _check_labs(item, error)
            raise
        _check_labs(item, None)
        self._called = True
        return outcome

    def _judge(self, item: pytest.Item) -> tuple[Verdict, str, tuple[str, ...]]:
        """The first thing that went wrong; a failure in teardown counts as much as one in the test."""
        bad = [phase for phase in self._phases if phase[0] is not Verdict.SKIP]
        if bad or self._phases:
            return (bad or self._phases)[0]
        if not self._called:
            return Verdict.ERROR, "it was never called", ()
        if not asserts_something(item):
            return Verdict.ERROR, "the test asserts nothing: it cannot fail", ()
        return Verdict.PASS, "", ()


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Session:
    """What `harness run` asked for.

    Raises:
        pytest.UsageError: pytest was started by hand.
    """
    return _recorder(request.config).session


@pytest.fixture(scope="session")
def kernel(request: pytest.FixtureRequest) -> Kernel:
    """The kernel under test: its tree and its options."""
    return _recorder(request.config).kernel


@pytest.fixture(scope="module")
def module_file(request: pytest.FixtureRequest, session: Session) -> Callable[[str], Path]:
    """Builds a kernel module of the test's own against the kernel under test; its `.ko` file.

    It is given the module's folder, as a path from the test's file (`harness.kernel.module`).
    """
    def build(folder: str) -> Path:
        deadline = Deadline.after(_MODULE)
        row, make_vars = arch.get(session.arch), dict(pair.split("=", 1) for pair in session.make_vars)
        return module.build(request.path.parent / folder, kernel=session.build, tree=Path(session.source),
                            out=Path(session.out), arch=row, deadline=deadline, store=Store(root=Path(session.cache)),
                            toolchain=toolchain(deadline, session.cc, make_vars, arch=row))

    return build


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest, session: Session) -> Iterator[Machine]:
    """One machine with the kernel under test, booted once for the whole file; it needs no mark."""
    with _up(request.config, shapes.SOLO, session) as running:
        yield next(iter(running.hosts.values())).machine


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, session: Session) -> Iterator[Lab]:
    """The machines of the module's `topology` mark, booted and wired once for the whole file."""
    module = request.module
    marks = list(request.node.iter_markers("topology"))
    if len(marks) != 1 or len(marks[0].args) != 1:
        raise UsageError('a file of guest tests says once which machines it needs',
                         where=str(module.__file__), hint='pytestmark = [pytest.mark.topology("pair")]')
    with _up(request.config, shapes.get(marks[0].args[0], session.own_topologies), session) as running:
        yield running


@contextmanager
def _up(config: pytest.Config, topology: Topology, session: Session) -> Iterator[Lab]:
    """A lab that is up, and that every test is followed by a look at."""
    images = {side: Path(image) for side, image in session.images.items()}
    deadline = Deadline.after(session.boot_timeout + _SETUP)
    known = read_benign(Path(session.benign)) if session.benign else ()
    labs, running = config.stash[_LABS], None
    try:
        with (up(topology, _template(session), Path(session.workdir), deadline=deadline,
                 model=session.nic or DEFAULT_MODEL, kernels=images, ignores=known) as running,
              hang.watched([host.machine.scene() for host in running.hosts.values()], session.silence)):
            labs.append(running)
            yield running
    finally:
        if running is not None:
            labs.remove(running)
            _recorder(config).hidden(running)  # the last report is whole when its console has ended


def verdict_of(error: BaseException, when: str) -> tuple[Verdict, str]:
    """What an exception out of a test's phase (`setup`, `call`, `teardown`) makes of it, and why in one line."""
    if isinstance(error, pytest.PytestUnhandledThreadExceptionWarning) and error.__cause__ is not None:
        return verdict_of(error.__cause__, when)
    if isinstance(error, pytest.skip.Exception):
        return Verdict.SKIP, _line(error.msg or "no reason given")
    if isinstance(error, KernelError):
        return Verdict.FAIL, _line(f"{error.what} [{error.where}]" if error.where else error.what)
    if isinstance(error, HarnessError):
        return Verdict.ERROR, _line(f"{error.what} [{error.where}]" if error.where else error.what)
    if isinstance(error, AssertionError) and when == "call":
        # pytest puts the comparison below the test's own message; the detail has both.
        return Verdict.FAIL, _line((str(error).splitlines() or ["assertion failed"])[0])
    if isinstance(error, pytest.fail.Exception) and when == "call":
        return Verdict.FAIL, _line(error.msg or "failed")
    return Verdict.ERROR, _line(f"{type(error).__name__} in {when}: {error}")


def asserts_something(item: pytest.Item) -> bool:
    """Whether a test's own source has an `assert` or a `pytest.raises`: one without, or without source, cannot fail."""
    function = getattr(item, "function", None)
    if function is None:
        return True
    return any(isinstance(node, ast.Assert) or (isinstance(node, ast.Attribute) and node.attr == "raises")
               for node in ast.walk(_parsed(function)))


def _parsed(function: object) -> ast.Module:
    """A function's source, as it stands in its file: dedenting it would change its strings, or fail at them."""
    try:
        source = inspect.getsource(function)  # type: ignore[arg-type]  # what has none is refused
        return ast.parse(f"if True:\n{source}" if source[0].isspace() else source)
    except (OSError, TypeError, SyntaxError):  # made by exec; no function; a lambda amid others
        return ast.Module(body=[], type_ignores=[])


def _recorder(config: pytest.Config) -> Recorder:
    try:
        return config.stash[_KEY]
    except KeyError:
        raise pytest.UsageError("guest tests need a kernel: they are run by `harness run PLAN`, which starts pytest "
                                "with --harness-session=FILE") from None


def _template(session: Session) -> MachineSpec:
    return MachineSpec(name="template", kernel=Path(session.image), initrd=(Path(session.rootfs),),
                       arch=arch.get(session.arch), accel=session.accel, memory_mib=session.memory, cpus=session.cpus)


def _check_labs(item: pytest.Item, error: BaseException | None) -> None:
    for running in item.config.stash[_LABS]:
        try:
            running.check(item.name)
        except KernelError as cause:
            raise cause from error


def _detail(item: pytest.Item, error: BaseException, report: pytest.TestReport) -> tuple[str, ...]:
    """What a reader needs first: the error's own evidence, the end of the traceback, what the kernels said last."""
    lines = list(error.detail) if isinstance(error, HarnessError) else []
    lines += report.longreprtext.splitlines()[-_TRACEBACK:]
    for title, text in _sections(item):
        lines += [f"{title}:", *(f"  {line}" for line in text.splitlines())]
    return tuple(lines)


def _sections(item: pytest.Item) -> list[tuple[str, str]]:
    """What each kernel reported since the test began, and what it said last."""
    found = []
    for machine in _machines(item):
        log = machine.files.console
        events = machine.events[item.config.stash[_SEEN].get(id(machine), 0):]
        if events:
            titles = [f"{event.kind}: {event.title} [{log}:{event.line}]\n  {event.headline}" for event in events]
            found.append((f"{machine.name}: the kernel reported in this test", "\n".join(titles)))
        found.append((f"{machine.name}: the console's last lines ({log})",
                      "\n".join(machine.console.tail()[-_CONSOLE:])))
    return found


def _machines(item: pytest.Item) -> list[Machine]:
    """All machines that are up."""
    return [host.machine for running in item.config.stash[_LABS] for host in running.hosts.values()]


def _id(item: pytest.Item) -> str:
    return f"{item.path}::{item.nodeid.partition('::')[2]}"


def _line(text: str) -> str:
    """`text` in one line of bearable length."""
    line = " ".join(text.split())
    return line if len(line) <= _REASON else f"{line[:_REASON - 1]}…"
