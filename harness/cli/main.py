# SPDX-License-Identifier: GPL-2.0-only
"""The `harness` command: a thin shell that reads arguments, calls the engine, prints, and exits."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import click

from harness.cli import cache as cli_cache
from harness.cli import common as cli_common
from harness.cli import compare as cli_compare
from harness.cli import guests as cli_guests
from harness.cli import klog as cli_klog
from harness.cli import kselftest as cli_kselftest
from harness.cli import tests as cli_tests
from harness.cli.common import ACCEL, ARCH, CACHE, JSON, PLAN, QUIET, VARIANT, open_store
from harness.errors import ExitCode, HarnessError, UsageError

_HOSTS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOSPC, errno.EDQUOT,
          errno.EIO)
"""What an OSError says of the host or of a name that the user gave, and not of this program."""

_REQUIRE_SANDBOX = click.option(
    "--require-sandbox", is_flag=True, expose_value=False,
    help="Refuse to run foreign code outside the sandbox. It is always so; CI scripts may say it.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="kernel-patch-harness", prog_name="harness")
def cli() -> None:
    """Check what the author of a Linux patch series says about it, on real kernels.

    A PLAN is a folder with a plan.yaml (or such a file): source, series, variants, claims, suites.

    \b
    Exit codes: 0 all passed, 1 something failed, 2 wrong usage, 3 the lab failed, 4 inconclusive.
    """


@cli.command()
@PLAN
@VARIANT
@ARCH
@click.option("--out", type=click.Path(path_type=Path, file_okay=False),
              help="The run folder.  [default: runs/PLAN-TIME]")
@ACCEL
@CACHE
@JSON
@QUIET
@_REQUIRE_SANDBOX
@click.option("--nic", "nics", multiple=True, metavar="MODEL",
              help="Run all suites on NICs of this model, whatever PLAN says; may be given several times. "
                   "`harness list nics` names them.")
@click.option("--all-nics", is_flag=True, help="Run all suites on each NIC model that QEMU and the kernels have.")
@click.option("--walk/--no-walk", default=True, show_default=True,
              help="Where a claim on objects or sizes fails, walk the series to say which patch did it.")
def run(plan: Path, variants: tuple[str, ...], arch: str | None, out: Path | None, accel: str | None,
        cache: Path | None, as_json: bool, quiet: bool, nics: tuple[str, ...], all_nics: bool, walk: bool) -> None:
    """Build, compare, boot, test and judge everything in PLAN.

    The run folder gets results.json, junit.xml, every build log, console log and object comparison, and repeat.sh,
    the command that repeats the run.
    """
    from rich.console import Console

    from harness import engine
    from harness.plan.plan import read_plan
    from harness.report import model, terminal
    from harness.vm import nic

    read = read_plan(plan, arch or "")
    for name in variants:
        read.variant(name)
    models = [nic.model(name).name for name in dict.fromkeys(nics)]
    if all_nics:
        models = [row.name for row in nic.models()]
    options = [("--variant", name) for name in variants] + [("--nic", name) for name in models]
    options += [(name, str(value)) for name, value in (("--arch", arch), ("--accel", accel), ("--cache", cache))
                if value]
    again = ["harness", "run", str(plan.resolve()), *(word for option in options for word in option),
             *(() if walk else ("--no-walk",))]
    folder = out or cli_common.run_folder(f"{read.name}-{arch}" if arch else read.name)
    cli_common.new_folder(folder)
    report = engine.run(read, store=open_store(cache), out=folder.resolve(), progress=cli_common.progress(quiet),
                        variants=variants, accel=accel or "", nics=models, walking=walk, command=again)
    if as_json:
        click.echo(json.dumps(model.to_json(report), indent=1))
    else:
        console = Console(highlight=False)
        terminal.show(report, console)
        console.print(f"\n{terminal.summary(report)}. Results, logs and the command to repeat it: {folder}")
    sys.exit(report.code)


@cli.command()
@PLAN
@VARIANT
@ARCH
@click.option("--side", type=click.Choice(["base", "patched", "both"]), default="both", show_default=True,
              help="The tree: before the series, after it, or both.")
@click.option("--each-patch", "each", is_flag=True,
              help="Build base, then the kernel with each further patch of the series; exit code 1 when one does not "
                   "build or brings new warnings.")
@click.option("--warnings", "-W", "extra", type=click.Choice(["1", "2", "3", "12", "123"]),
              help="Kernels of their own, with more warnings of the compiler: kbuild's W=.")
@CACHE
@JSON
@QUIET
@_REQUIRE_SANDBOX
def build(plan: Path, variants: tuple[str, ...], arch: str | None, side: str, each: bool, extra: str | None,
          cache: Path | None, as_json: bool, quiet: bool) -> None:
    """Build the kernels of PLAN (or take them from the cache) and say where they are."""
    from harness.deadline import Deadline
    from harness.jobs import builds
    from harness.jobs.inputs import applied, resolve
    from harness.plan.plan import read_plan
    from harness.report import steps

    read, store, progress = read_plan(plan, arch or ""), open_store(cache), cli_common.progress(quiet)
    inputs = resolve(read, Deadline.after(60), store=store, progress=progress.step)
    inputs = replace(applied(inputs, store=store, progress=progress), extra_warnings=extra or "")
    names = [read.variant(name).name for name in variants or [row.name for row in read.variants]]
    if each:
        walked = {name: builds.each_patch(inputs, name, store=store, progress=progress)
                  for name in read.compared(variants)}
        click.echo(json.dumps([steps.to_json(*item) for item in walked.items()], indent=1) if as_json
                   else "\n\n".join("\n".join(steps.lines(*item)) for item in walked.items()))
        clean = all(row.after is not None and not row.new_warnings for rows in walked.values() for row in rows)
        sys.exit(ExitCode.PASSED if clean else ExitCode.FAILED)
    configs = [(where, builds.configure(inputs, where, name, store=store, progress=progress))
               for name in names for where in read.variant(name).sides if side in ("both", where)]
    if not configs:
        raise UsageError(f"{', '.join(names)}: no {side} to build", where=str(read.path), hint="see `only` in the plan")
    found = [builds.build(inputs, where, config, store=store, progress=progress) for where, config in configs]
    if as_json:
        click.echo(json.dumps([{"name": item.name, "out": str(item.out), "image": str(item.image),
                                "seconds": round(item.seconds, 1), "reused": item.reused,
                                "warnings": sum(map(len, item.warnings.values()))} for item in found], indent=1))
        return
    for item in found:
        click.echo(f"{item.name}: {item.out} ({'from the cache' if item.reused else f'{item.seconds:.0f} s'})")


@cli.command()
@JSON
@CACHE
def doctor(as_json: bool, cache: Path | None) -> None:
    """Say what this host lacks, and whether KVM really boots Linux here."""
    from harness import arch, host
    from harness.jobs import boots
    from harness.store.store import default_root

    missing = [package for package in host.packages() if package.missing]
    known = {package.name for package in host.packages()}
    others = [package for package in arch.packages(platform.machine()) if package.name not in known]
    accel = boots.known_accel(open_store(cache), arch.native(), cli_common.progress().step)
    if as_json:
        click.echo(json.dumps({
            "missing": [{"package": item.name, "lacks": item.missing, "for": item.why} for item in missing],
            "other_architectures": [{"package": item.name, "lacks": item.missing, "for": item.why} for item in others],
            **accel, "cache": str(cache or default_root()), "host": boots.host_facts()}, indent=1))
    else:
        for package in host.packages():
            state = f"MISSING {', '.join(package.missing)}" if package.missing else "ok"
            click.echo(f"{package.name:22} {state:30} {package.why}")
        for package in others:
            state = f"not there: {', '.join(package.missing)}" if package.missing else "ok"
            click.echo(f"{package.name:22} {state:30} {package.why}")
        for name, value in {**boots.host_facts(), **accel, "cache": str(cache or default_root())}.items():
            click.echo(f"{name:22} {value}")
    host.require()


@cli.command(name="list")
@click.argument("what", type=click.Choice(["plan", "fragments", "nics", "topologies", "packages", "labs"]))
@click.argument("plan", type=click.Path(path_type=Path), required=False)
@JSON
def list_(what: str, plan: Path | None, as_json: bool) -> None:
    """List what there is: what a PLAN says, fragments, NIC models, topologies, host packages, kept labs.

    `list nics` says which models this QEMU emulates, and with a PLAN which variants have their drivers.
    """
    from harness.cli import listing

    rows = cli_guests.rows() if what == "labs" else listing.rows(what, plan, open_store(None))
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    widths = [max((len(str(row[key])) for row in rows), default=0) for key in (rows[0] if rows else {})]
    for row in rows:
        click.echo("  ".join(f"{_clean(str(value)):{width}}" for value, width in zip(row.values(), widths, strict=True))
                   .rstrip())


cli.add_command(cli_cache.cache)
for _command in (cli_compare.objdiff, cli_compare.blame, cli_compare.size, cli_compare.layout, cli_klog.klog,
                 cli_kselftest.kselftest, cli_guests.boot, cli_guests.exec_, cli_guests.console, cli_guests.down,
                 cli_tests.test):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: the only place that turns errors into messages and exit codes."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    sys.exit(_guarded(lambda: cli(args=None if arguments is None else list(arguments), standalone_mode=False)))


def _guarded(call: Callable[[], Any]) -> int:
    try:
        call()
    except HarnessError as error:
        _say(str(error))
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.LAB
    except OSError as error:
        if error.errno not in _HOSTS:
            return _crashed()
        _say(f"{error.filename or 'output'}: {error.strerror}")
        return ExitCode.LAB
    except Exception:  # the last line of defence: no traceback at a user
        return _crashed()
    return ExitCode.PASSED


def _crashed() -> int:
    """Keep the traceback of what nobody foresaw, and say where it is."""
    with tempfile.NamedTemporaryFile("w", prefix="harness-crash-", suffix=".txt", delete=False) as crash:
        traceback.print_exc(file=crash)
    _say(f"a bug in the harness, not in your kernel: please send {crash.name}")
    return ExitCode.LAB


def _clean(text: str) -> str:
    from harness.report.model import clean

    return clean(text)


def _say(text: str) -> None:
    print(f"harness: {_clean(text)}", file=sys.stderr)  # noqa: T201


def _interrupt(number: int, _: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)
