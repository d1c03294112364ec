# SPDX-License-Identifier: GPL-2.0-only
"""The one result model of a run, and its JSON form (schema `harness.results/1`, docs/results.md)."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from harness.claims import Claim, Row, exit_code
from harness.errors import ExitCode

SCHEMA = "harness.results/1"

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""What a terminal may take for a command, and what XML cannot hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A finished (or interrupted) run.

    Attributes:
        plan: the plan's name.
        command: what repeats the run.
        started: ISO 8601, UTC.
        seconds: wall-clock time.
        host: facts of the machine and its tools, by name.
        sandbox: what foreign code ran in; empty where the run stopped before any did.
        inputs: what went in, by name: source, patches, toolchain.
        claims: what the plan claims.
        rows: the results, in the order of the table.
        builds: facts of each build.
        error: why the run stopped early; empty where it did not.
        code: the exit code.
    """

    plan: str
    command: str
    started: str
    seconds: float
    host: dict[str, str]
    sandbox: str
    inputs: dict[str, object]
    claims: tuple[Claim, ...]
    rows: tuple[Row, ...]
    builds: tuple[dict[str, object], ...]
    error: str = ""
    error_code: ExitCode | None = None

    @property
    def code(self) -> ExitCode:
        return self.error_code if self.error_code is not None else exit_code(row.verdict for row in self.rows)


def to_json(report: RunReport) -> dict[str, object]:
    """The report as `results.json` holds it."""
    return {
        "schema": SCHEMA, "plan": report.plan, "command": report.command, "started": report.started,
        "seconds": round(report.seconds, 1), "exit_code": int(report.code), "error": clean(report.error),
        "host": report.host, "sandbox": report.sandbox, "inputs": report.inputs,
        "claims": [dataclasses.asdict(claim) for claim in report.claims],
        "rows": [row_to_json(row) for row in report.rows],
        "builds": list(report.builds),
    }


def clean(text: str) -> str:
    """Text of guests, compilers and patches without control characters, so that it is safe in any output."""
    return _UNPRINTABLE.sub("\ufffd", text)


def row_to_json(row: Row) -> dict[str, object]:
    """A row as `results.json` holds it."""
    value = dataclasses.asdict(row)
    value["seconds"] = round(row.seconds, 2)
    value["evidence"] = clean(row.evidence)
    value["detail"] = [clean(line) for line in row.detail]
    value["tests"] = [{**dataclasses.asdict(test), "reason": clean(test.reason), "seconds": round(test.seconds, 2),
                       "detail": [clean(line) for line in test.detail]} for test in row.tests]
    return value
