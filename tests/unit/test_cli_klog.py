# SPDX-License-Identifier: GPL-2.0-only
"""`harness klog` as a command: exit codes, text, JSON, standard input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import cli, main

LOG = """\
[    1.000000] booted
[    2.000000] ------------[ cut here ]------------
[    2.000001] WARNING: CPU: 0 PID: 42 at net/core/dev.c:1 dev_thing+0x1/0x2
[    2.000002] CPU: 0 PID: 42 Comm: ip Not tainted 6.1.0 #1
[    2.000003] Call Trace:
[    2.000004]  dump_stack+0x1/0x2
[    2.000005]  dev_thing+0x1/0x2
[    2.000006] ---[ end trace 0000000000000000 ]---
"""
KNOWN = "- {pattern: WARNING in dev_thing, reason: known, expires: %s}\n"


def run(*words: str | Path, stdin: str | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["klog", *map(str, words)], input=stdin)
    return done.exit_code, done.output


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "console.log"
    path.write_text(LOG)
    return path


def test_a_report_is_shown(log: Path) -> None:
    code, text = run(log)
    assert code == 1
    assert text == (f"{log}:2: WARNING in dev_thing\n"
                    "    WARNING: CPU: 0 PID: 42 at net/core/dev.c:1 dev_thing+0x1/0x2\n"
                    "    on CPU 0, task ip/42, Linux 6.1.0\n      dev_thing+0x1/0x2\n")
    assert "| [    2.000006] ---[ end trace" in run("--all", log)[1]


def test_nothing_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "quiet.log"
    path.write_text("booted\n")
    assert run(path) == (0, f"{path}: nothing reported\n")
    code, text = run("--json", path)
    assert (code, json.loads(text)) == (0, [{"file": str(path), "events": [], "hidden": {}}])


def test_what_a_test_may_go_on_after_is_no_failure(tmp_path: Path) -> None:
    path = tmp_path / "dropped.log"
    path.write_text("** 7 printk messages dropped **\n")
    code, text = run(path)
    assert code == 0
    assert "printk messages dropped (a test may go on)" in text


def test_json_has_a_record_for_each_file(log: Path) -> None:
    code, text = run("--json", log, "-", stdin="kernel BUG at a.c:1!\n")
    first, second = json.loads(text)
    assert code == 1
    (event,) = first["events"]
    assert (event["kind"], event["title"], event["line"], event["corrupted"]) == (
        "WARNING", "WARNING in dev_thing", 2, "")
    assert event["context"] == {"cpu": 0, "pid": 42, "command": "ip", "workqueue": "", "kernel": "6.1.0", "taint": ""}
    assert [frame["function"] for frame in event["stack"]] == ["dump_stack", "dev_thing"]
    assert len(event["lines"]) == 7
    assert (second["file"], second["events"][0]["kind"]) == ("-", "BUG")


def test_an_allow_list(log: Path, tmp_path: Path) -> None:
    known = tmp_path / "known.yaml"
    known.write_text(KNOWN % "2999-01-01")
    code, text = run("--benign", known, log)
    assert code == 0
    assert "1 known as benign: known" in text
    known.write_text(KNOWN % "2000-01-01")
    code, text = run("--benign", known, log)
    assert code == 1
    assert f"known as benign (known) until 2000-01-01, which has passed: {known}:1" in text


def test_a_timeline_beside_the_log_says_when(log: Path) -> None:
    log.with_name("console.log.times").write_text("# seconds since 2030-01-31T12:00:00.000+00:00: x\n1.5 1\n3.0 2\n")
    assert "    at 2030-01-31T12:00:03.000+00:00\n" in run(log)[1]


@pytest.mark.parametrize("words", [[], ["/nonexistent/console.log"], ["--vmlinux", "/nonexistent", "-"],
                                   ["--nonsense", "-"]])
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["klog", *words])
    assert ended.value.code == 2
    assert capsys.readouterr().err


def test_a_vmlinux_that_is_none(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vmlinux").write_text("no ELF")
    with pytest.raises(SystemExit) as ended:
        main(["klog", "--vmlinux", str(tmp_path / "vmlinux"), str(log)])
    assert ended.value.code == 2
    assert "no ELF file with symbols" in capsys.readouterr().err
