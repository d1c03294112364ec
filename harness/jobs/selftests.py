# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tests on base and on patched: what each earned, side by side, and whose fault a failure is.

A test that fails before the series as well is not the series' fault; it is shown as skipped, with what it said. That
holds for what failed there, and for nothing else: a case that fails on patched alone is a failure, and so is whatever
the patched kernel reports while a test runs and base did not, whatever the test says of itself. Where there is no base
to hold it against, as the configuration is the series' own, a failure of a test alone decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from harness import ktap
from harness.arch import Arch
from harness.claims import Row, TestResult, Verdict
from harness.deadline import Deadline
from harness.errors import DeadlineExpired, KernelError
from harness.kernel import selftests
from harness.kernel.kbuild import Build
from harness.kernel.selftests import Selftest
from harness.kernel.toolchain import Toolchain
from harness.store.store import Store
from harness.vm.handle import Machine

_SKIP = 4
"""kselftest.h: KSFT_SKIP."""
_UNLIMITED = 600
"""Seconds for a test whose collection sets no limit."""
_SLOWER = 5
"""How much longer a test may take in an emulated guest than its collection says."""
_BUILD = 1800.0
_KILLED = (124, 137, 143)
"""timeout's own code, and those of what it killed: 128 + SIGKILL, 128 + SIGTERM, which busybox's ends with."""
_LINES = 20
_RUN = 'cd "/tmp/selftests/$1" && exec timeout -k 5 "$2" ./"$3"'

Booted = Callable[[Build], AbstractContextManager[Machine]]
"""Boots a kernel for a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a test earned on one kernel.

    Attributes:
        verdict: PASS, FAIL or SKIP.
        reason: in a few words.
        said: the end of its output.
        cases: its own results, where it reports in KTAP.
        kernel: what the kernel reported while it ran, or that it did not boot; empty where it was well.
    """

    verdict: Verdict
    reason: str = ""
    said: tuple[str, ...] = ()
    cases: tuple[ktap.Case, ...] = ()
    seconds: float = 0.0
    kernel: str = ""

    @property
    def ending(self) -> str:
        """How it ended (`exit code 1`), without what it said."""
        return self.reason.partition(":")[0]

    @property
    def failed(self) -> frozenset[str]:
        """The names of its cases that failed."""
        return frozenset(case.name for case in self.cases if case.failed)

    def lost(self, before: Outcome) -> list[str]:
        """The names of cases that passed on another kernel and did not run on this one.

        A name that is not found is one of them only where there are fewer results: a test may put figures into names.
        """
        ran = {case.name: not case.skipped for case in self.cases}
        fewer = len(self.cases) < len(before.cases)
        return [case.name for case in before.cases
                if case.passed and not case.skipped and not ran.get(case.name, not fewer)]


def packed(tests: Sequence[Selftest], tree: Path, content: str, *, arch: Arch, toolchain: Toolchain, store: Store,
           progress: Callable[[str], None]) -> dict[str, bytes]:
    """What each test brings into its guest, by its id; the programs are built where they are not in the store.

    Args:
        content: the key of what is in the tree.
        progress: told, too, which programs of a test cannot be built here.

    Raises:
        KernelError: the tree's headers cannot be installed.
    """
    built = {name: selftests.build(name, tree=tree, content=content, arch=arch, toolchain=toolchain, store=store,
                                   deadline=Deadline.after(_BUILD), progress=progress)
             for name in dict.fromkeys(test.collection for test in tests)}
    for test in tests:
        lacking = selftests.missing(test, tree, built[test.collection])
        if lacking:
            progress(f"{test.id} names programs that this host cannot build: {', '.join(lacking)}")
    return {test.id: selftests.pack(test, tree, built[test.collection]) for test in tests}


def judge(code: int, output: str, seconds: float, limit: float) -> Outcome:
    """What a test's exit code and output say (kselftest/runner.sh); KTAP results count before the exit code.

    A report that is not whole fails: a test that died in the middle has not passed. One in which nothing ran is a skip.

    Args:
        seconds: what it took.
        limit: what it might take.
    """
    lines = output.splitlines()
    said = tuple(lines[-_LINES:])
    if code in _KILLED and seconds >= limit:
        return Outcome(verdict=Verdict.FAIL, reason=f"still running after {limit:g} s", said=said, seconds=seconds)
    if code == _SKIP:
        reason = next((line for line in reversed(lines) if "skip" in line.lower()), said[-1] if said else "it skipped")
        return Outcome(verdict=Verdict.SKIP, reason=reason.strip(), said=said, seconds=seconds)
    report = ktap.parse(lines) if ktap.reports(lines) else None
    verdict, reason = _reported(report) if code == 0 else (Verdict.FAIL, _failure(code, lines, report))
    return Outcome(verdict=verdict, reason=reason, said=said, cases=report.cases if report else (), seconds=seconds)


def _reported(report: ktap.Report | None) -> tuple[Verdict, str]:
    """The verdict of a test that ended well, by its own report if it has one."""
    if report is None:
        return Verdict.PASS, ""
    failed = [case.name for case in report.cases if case.failed]
    if failed:
        return Verdict.FAIL, f"{len(failed)} cases failed: {failed[0]}"
    if report.problems:
        return Verdict.FAIL, f"the report is not whole: {report.problems[0]}"
    ran = [case for case in report.cases if not case.skipped]
    if not ran:
        return Verdict.SKIP, next((case.reason for case in report.cases if case.reason), "none of its cases ran")
    return Verdict.PASS, f"{len(ran)} cases"


def _failure(code: int, lines: Sequence[str], report: ktap.Report | None) -> str:
    failed = [case.name for case in report.cases if case.failed] if report else []
    first = f": {failed[0]}" if failed else ""
    last = next((line.strip() for line in reversed(lines) if "fail" in line.lower()), "")
    return f"exit code {code}{first}" + (f": {last}" if last and not first else "")


def run(machine: Machine, test: Selftest, archive: bytes) -> Outcome:
    """Run a test in a guest, as root, in its own folder.

    Raises:
        KernelError: the guest's kernel is not well any more.
    """
    machine.put("/tmp/selftests.tar", archive)  # noqa: S108 - in the guest
    machine.shell("rm -rf /tmp/selftests; mkdir -p /var/run/netns; cd /tmp && tar xf selftests.tar; rm selftests.tar")
    limit = _SLOWER * test.seconds if test.seconds else _UNLIMITED
    began = time.monotonic()
    try:
        done = machine.run("sh", "-c", f"({_RUN}) 2>&1", "sh", test.collection, limit, test.name, check=False,
                           deadline=Deadline.after(limit + 30))
    except DeadlineExpired:
        return Outcome(verdict=Verdict.FAIL, reason=f"still running after {limit} s", seconds=time.monotonic() - began)
    machine.check()
    return judge(done.returncode, done.stdout, done.seconds, limit)


def on_kernel(build: Build, tests: Sequence[Selftest], packed: Mapping[str, bytes],
              booted: Booted, progress: Callable[[str], None]) -> dict[str, Outcome]:
    """Run tests on a kernel, each in a machine of its own: what one leaves behind does not meet the next."""
    found: dict[str, Outcome] = {}
    for test in tests:
        progress(f"{test.id} on {build.name}")
        began = time.monotonic()
        try:
            with booted(build) as machine:
                _name_builtins(machine, build)
                found[test.id] = run(machine, test, packed[test.id])
        except KernelError as error:
            found[test.id] = Outcome(verdict=Verdict.FAIL, reason=error.what, said=error.detail[:_LINES],
                                     seconds=time.monotonic() - began, kernel=error.what)
    return found


def _name_builtins(machine: Machine, build: Build) -> None:
    """Let modprobe(8) succeed for what is built in, as some tests ask first (modules.builtin: Documentation/kbuild)."""
    folder = f"/lib/modules/{machine.shell('uname -r').stdout.strip()}"
    machine.shell(f"mkdir -p {folder}; : > {folder}/modules.dep")
    machine.put(f"{folder}/modules.builtin", build.out / "modules.builtin")


def compare(variant: str, tests: Sequence[Selftest], sides: Mapping[str, Mapping[str, Outcome]]) -> Iterator[Row]:
    """A row for each test: what the series did to it.

    Args:
        sides: what each test earned, by its id, on `base`, where the variant has one, and on `patched`.
    """
    for test in tests:
        earned = {side: outcomes[test.id] for side, outcomes in sides.items()}
        verdict, evidence = (_verdict(earned["base"], earned["patched"]) if "base" in earned
                             else _verdict_alone(earned["patched"]))
        results = tuple(TestResult(id=f"{test.id} on {side}", verdict=each.verdict, reason=each.reason,
                                   seconds=each.seconds, detail=each.said) for side, each in earned.items())
        detail = tuple(f"{side}: {line}" for side, each in earned.items() if each.verdict is Verdict.FAIL
                       for line in each.said)
        yield Row(kind="selftest", id=test.id, variant=variant, verdict=verdict, evidence=evidence, detail=detail,
                  tests=results, seconds=sum(each.seconds for each in earned.values()))


def _verdict(before: Outcome, after: Outcome) -> tuple[Verdict, str]:
    words = f"base: {_words(before)}; patched: {_words(after)}"
    lost = after.lost(before)
    if after.verdict is Verdict.FAIL and before.verdict is Verdict.FAIL:
        if after.kernel and before.kernel:
            return Verdict.INCONCLUSIVE, f"the kernel fails before the series, too: {after.kernel}"
        if after.kernel:
            return Verdict.FAIL, words
        more = sorted(after.failed - before.failed)
        if more:
            return Verdict.FAIL, f"{more[0]} fails on patched only ({len(more)} such cases; others fail on both)"
        if lost:
            return Verdict.FAIL, f"{_no_longer(lost)}: {after.reason}"
        if not before.kernel and not after.cases and after.ending != before.ending:
            return Verdict.INCONCLUSIVE, f"fails in another way than before the series: {words}"
        return Verdict.SKIP, f"fails before the series, too: {after.reason}"
    if after.verdict is Verdict.SKIP and before.verdict is Verdict.PASS:
        return Verdict.FAIL, f"no longer runs: {words}"
    if after.verdict is Verdict.PASS and lost:
        return Verdict.FAIL, _no_longer(lost)
    return after.verdict, after.reason if before.verdict is after.verdict and after.reason else words


def _no_longer(lost: Sequence[str]) -> str:
    return f"{lost[0]} passes on base and does not run on patched ({len(lost)} such cases)"


def _verdict_alone(after: Outcome) -> tuple[Verdict, str]:
    if after.verdict is Verdict.FAIL and not after.kernel:
        return Verdict.INCONCLUSIVE, f"fails, and there is no base to hold it against: {after.reason}"
    return after.verdict, f"patched: {_words(after)}; no base"


def _words(outcome: Outcome) -> str:
    return f"{outcome.verdict} ({outcome.reason})" if outcome.reason else str(outcome.verdict)
