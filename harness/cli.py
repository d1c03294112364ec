# SPDX-License-Identifier: GPL-2.0-only
"""The `harness` command: a thin shell that reads arguments, calls the engine, prints, and exits."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from harness import cli_cache
from harness.errors import ExitCode, HarnessError, InfraError, UsageError

if TYPE_CHECKING:
    from harness.report.progress import Progress
    from harness.store import Store

_PLAN = click.argument("plan", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
_QUIET = click.option("--quiet", "-q", is_flag=True, help="No progress on standard error.")
_CACHE = click.option("--cache", type=click.Path(path_type=Path, file_okay=False), envvar="HARNESS_CACHE",
                      help="The cache of sources, builds and userlands.  [default: in the user's cache folder]")
_VARIANT = click.option("--variant", "-v", "variants", multiple=True, metavar="NAME",
                        help="Only this variant of the plan; may be given several times.")
_ACCEL = click.option("--accel", type=click.Choice(["kvm", "tcg"]), default=None,
                      help="The accelerator.  [default: KVM where a real Linux boots under it, else TCG]")
_REQUIRE_SANDBOX = click.option(
    "--require-sandbox", is_flag=True, expose_value=False,
    help="Refuse to run foreign code outside the sandbox. It is always so; CI scripts may say it.")
_SIDE = click.option("--side", type=click.Choice(["base", "patched"]), default="patched", show_default=True,
                     help="The tree: before the series, or after it.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="kernel-patch-harness", prog_name="harness")
def cli() -> None:
    """Check what the author of a Linux patch series says about it, on real kernels.

    A PLAN is a folder with a plan.yaml (or such a file): source, series, variants, claims, suites.

    \b
    Exit codes: 0 all passed, 1 something failed, 2 wrong usage, 3 the lab failed, 4 inconclusive.
    """


@cli.command()
@_PLAN
@_VARIANT
@click.option("--out", type=click.Path(path_type=Path, file_okay=False),
              help="The run folder.  [default: runs/PLAN-TIME]")
@_ACCEL
@_CACHE
@_JSON
@_QUIET
@_REQUIRE_SANDBOX
@click.option("--walk/--no-walk", default=True, show_default=True,
              help="Where a claim on objects or sizes fails, walk the series to say which patch did it.")
def run(plan: Path, variants: tuple[str, ...], out: Path | None, accel: str | None, cache: Path | None, as_json: bool,
        quiet: bool, walk: bool) -> None:
    """Build, compare, boot, test and judge everything in PLAN.

    The run folder gets results.json, junit.xml, every build log, console log and object comparison, and repeat.sh,
    the command that repeats the run.
    """
    from rich.console import Console

    from harness import engine
    from harness.plan import read_plan
    from harness.report import model, terminal

    read = read_plan(plan)
    for name in variants:
        read.variant(name)
    options = [("--variant", name) for name in variants]
    options += [(name, str(value)) for name, value in (("--accel", accel), ("--cache", cache)) if value]
    again = ["harness", "run", str(plan.resolve()), *(word for option in options for word in option),
             *(() if walk else ("--no-walk",))]
    folder = out or Path("runs") / f"{read.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    _new_folder(folder)
    report = engine.run(read, store=_store(cache), out=folder.resolve(), progress=_progress(quiet),
                        variants=variants, accel=accel or "", walking=walk, command=again)
    if as_json:
        click.echo(json.dumps(model.to_json(report), indent=1))
    else:
        console = Console(highlight=False)
        terminal.show(report, console)
        console.print(f"\n{terminal.summary(report)}. Results, logs and the command to repeat it: {folder}")
    sys.exit(report.code)


@cli.command()
@_PLAN
@_VARIANT
@click.option("--side", type=click.Choice(["base", "patched", "both"]), default="both", show_default=True,
              help="The tree: before the series, after it, or both.")
@click.option("--each-patch", "each", is_flag=True,
              help="Build base, then the kernel with each further patch of the series; exit code 1 when one does not "
                   "build or brings new warnings.")
@click.option("--warnings", "-W", "extra", type=click.Choice(["1", "2", "3", "12", "123"]),
              help="Kernels of their own, with more warnings of the compiler: kbuild's W=.")
@_CACHE
@_JSON
@_QUIET
@_REQUIRE_SANDBOX
def build(plan: Path, variants: tuple[str, ...], side: str, each: bool, extra: str | None, cache: Path | None,
          as_json: bool, quiet: bool) -> None:
    """Build the kernels of PLAN (or take them from the cache) and say where they are."""
    from harness import builds
    from harness.deadline import Deadline
    from harness.plan import read_plan
    from harness.report import steps

    read, store, progress = read_plan(plan), _store(cache), _progress(quiet)
    inputs = builds.resolve(read, Deadline.after(60), store=store, progress=progress.step)
    inputs = replace(builds.applied(inputs, store=store, progress=progress), extra_warnings=extra or "")
    names = [read.variant(name).name for name in variants or [row.name for row in read.variants]]
    if each:
        walked = {name: builds.each_patch(inputs, name, store=store, progress=progress) for name in names}
        click.echo(json.dumps([steps.to_json(*item) for item in walked.items()], indent=1) if as_json
                   else "\n\n".join("\n".join(steps.lines(*item)) for item in walked.items()))
        clean = all(row.after is not None and not row.new_warnings for rows in walked.values() for row in rows)
        sys.exit(ExitCode.PASSED if clean else ExitCode.FAILED)
    configs = [(where, builds.configure(inputs, where, name, store=store, progress=progress))
               for name in names for where in builds.SIDES if side in ("both", where)]
    found = [builds.build(inputs, where, config, store=store, progress=progress) for where, config in configs]
    if as_json:
        click.echo(json.dumps([{"name": item.name, "out": str(item.out), "image": str(item.image),
                                "seconds": round(item.seconds, 1), "reused": item.reused,
                                "warnings": sum(map(len, item.warnings.values()))} for item in found], indent=1))
        return
    for item in found:
        click.echo(f"{item.name}: {item.out} ({'from the cache' if item.reused else f'{item.seconds:.0f} s'})")


@cli.command()
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("patched", type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Explain nothing: any difference is a change.")
@click.option("--all", "show_all", is_flag=True, help="A line for every change, however many.")
@click.option("--show", "shown", metavar="FUNCTION",
              help="Both sides of this function beside each other, in every object that has it; OBJECT:FUNCTION for "
                   "one. With source lines where there is debug info.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Also write a page for reviewers: all changes, and the changed functions side by side.")
@_JSON
def objdiff(base: Path, patched: Path, strict: bool, show_all: bool, shown: str | None, html: Path | None,
            as_json: bool) -> None:
    """Compare the object code of two kernel build folders, or of two objects, archives or modules.

    Exit code 0 when nothing changed (byte-identical, or every difference explained by a named rule), 1 otherwise.
    """
    from harness.compare.objdiff import compare
    from harness.compare.opened import Opened, to_json
    from harness.report import objdiff_text

    if shown and as_json:
        raise UsageError("--show and --json exclude each other", hint="the JSON form has a line for every change")
    gc.disable()  # one pass that keeps nearly all it makes
    try:
        comparison = compare(base, patched, strict=strict)
    finally:
        gc.enable()
    opened = Opened(comparison)
    if html is not None:
        from harness.report import objdiff_page

        objdiff_page.write(opened, html)
    if as_json:
        click.echo(json.dumps(to_json(opened), indent=1))
    elif shown:
        click.echo("\n".join(objdiff_text.show(opened, shown, shutil.get_terminal_size((80, 24)).columns)))
    else:
        click.echo("\n".join(objdiff_text.summary(opened, None if show_all else objdiff_text.LIMIT)))
    sys.exit(ExitCode.PASSED if comparison.identical_code else ExitCode.FAILED)


@cli.command()
@_PLAN
@_VARIANT
@click.option("--all", "-a", "everything", is_flag=True, help="Show every function and datum.")
@_CACHE
@_JSON
@_QUIET
def blame(plan: Path, variants: tuple[str, ...], everything: bool, cache: Path | None, as_json: bool,
          quiet: bool) -> None:
    """Say which patch of PLAN's series changed which function.

    The series is built patch by patch, each kernel from the one before it. All kernels stay in the cache, so a walk
    that was interrupted goes on where it was. Exit code 1 when the kernel does not build with one of the patches.
    """
    from harness import builds
    from harness.deadline import Deadline
    from harness.plan import read_plan
    from harness.report import blame as report

    read, store, progress = read_plan(plan), _store(cache), _progress(quiet)
    names = [read.variant(name).name for name in variants or [row.name for row in read.variants]]
    inputs = builds.resolve(read, Deadline.after(60), store=store, progress=progress.step)
    found = [builds.blame(inputs, name, store=store, progress=progress) for name in names]
    click.echo(json.dumps([report.to_json(one) for one in found], indent=1) if as_json else "\n\n".join(
        "\n".join(report.lines(one, limit=None if everything else 20)) for one in found))
    sys.exit(ExitCode.FAILED if any(one.broken for one in found) else ExitCode.PASSED)


@cli.command()
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("patched", type=click.Path(path_type=Path))
@click.option("--all", "-a", "everything", is_flag=True, help="Show every symbol and object that differs.")
@_JSON
def size(base: Path, patched: Path, everything: bool, as_json: bool) -> None:
    """Compare the sizes of two kernel build folders, or of two ELF files.

    Text, data and bss as size(1) has them, then functions and data by name, as the kernel's scripts/bloat-o-meter
    counts them. Nothing is judged: the exit code is 0 when both sides could be measured.
    """
    from harness.compare import size_text
    from harness.compare.size import compare_sizes

    report = compare_sizes(base, patched)
    click.echo(json.dumps(size_text.to_json(report), indent=1) if as_json
               else "\n".join(size_text.lines(report, limit=None if everything else 20)))


@cli.command()
@_PLAN
@click.option("--struct", required=True, metavar="TAG", help="The structure, as sk_buff.")
@click.option("--header", "headers", required=True, multiple=True, metavar="FILE",
              help="What to include for it, as linux/skbuff.h; may be given several times.")
@_VARIANT
@_CACHE
@_JSON
@_QUIET
def layout(plan: Path, struct: str, headers: tuple[str, ...], variants: tuple[str, ...], cache: Path | None,
           as_json: bool, quiet: bool) -> None:
    """Show how a structure lies in memory before and after the series, side by side.

    Exit code 1 when a side has no such structure.
    """
    from harness import builds, layouts
    from harness.compare.layout import Layout
    from harness.deadline import Deadline
    from harness.plan import read_plan
    from harness.plan_claims import HEADER, TAG

    if not re.fullmatch(TAG, struct) or not all(re.fullmatch(HEADER, header) for header in headers):
        raise UsageError("this is no structure of a header", where=f"struct {struct} of {', '.join(headers)}",
                         hint="--struct sk_buff --header linux/skbuff.h")
    read, store, progress = read_plan(plan), _store(cache), _progress(quiet)
    inputs = builds.resolve(read, Deadline.after(60), store=store, progress=progress.step)
    names = [read.variant(name).name for name in variants or [row.name for row in read.variants]]
    found = {}
    for name in names:
        configs = [builds.configure(inputs, side, name, store=store, progress=progress) for side in builds.SIDES]
        kernels = [builds.build(inputs, side, config, store=store, progress=progress)
                   for side, config in zip(builds.SIDES, configs, strict=True)]
        found[name] = [builds.measure(inputs, build, struct, headers, store=store) for build in kernels]
    if as_json:
        click.echo(json.dumps({name: layouts.as_json(*sides) for name, sides in found.items()}, indent=1))
    else:
        click.echo("\n\n".join("\n".join((f"variant {name}", *layouts.as_text(*sides)))
                               for name, sides in found.items()))
    whole = all(isinstance(side, Layout) for sides in found.values() for side in sides)
    sys.exit(ExitCode.PASSED if whole else ExitCode.FAILED)


@cli.command()
@_PLAN
@click.option("--variant", "-v", "variant", required=True, metavar="NAME", help="The variant to boot.")
@_SIDE
@click.option("--command", "-c", "command", metavar="COMMAND",
              help="Run this in the guest's shell and end with its exit code, in place of an interactive shell.")
@_ACCEL
@_CACHE
@_QUIET
def boot(plan: Path, variant: str, side: str, command: str | None, accel: str | None, cache: Path | None,
         quiet: bool) -> None:
    """Boot one kernel of PLAN and open a shell in it over SSH; the machine ends with the shell."""
    from harness import boots, builds
    from harness.deadline import Deadline
    from harness.plan import read_plan

    read, store, progress = read_plan(plan), _store(cache), _progress(quiet)
    read.variant(variant)
    inputs = builds.resolve(read, Deadline.after(60), store=store, progress=progress.step)
    config = builds.configure(inputs, side, variant, store=store, progress=progress)
    finished = builds.build(inputs, side, config, store=store, progress=progress)
    userland = boots.userland(store, inputs.arch, progress=progress.step)
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        chosen = boots.accelerator(store, inputs.arch, finished.image, override=accel or "", progress=progress.step)
        lab = boots.Lab(plan=read, arch=inputs.arch, rootfs=userland, accel=chosen, out=Path(folder),
                        progress=progress.step)
        sys.exit(lab.shell(finished, command))


@cli.command()
@_JSON
@_CACHE
def doctor(as_json: bool, cache: Path | None) -> None:
    """Say what this host lacks, and whether KVM really boots Linux here."""
    from harness import arch, boots, host
    from harness.store import default_root

    missing = [package for package in host.packages() if package.missing]
    accel = boots.known_accel(_store(cache), arch.native(), _progress().step)
    if as_json:
        click.echo(json.dumps({
            "missing": [{"package": item.name, "lacks": item.missing, "for": item.why} for item in missing],
            **accel, "cache": str(cache or default_root()), "host": boots.host_facts()}, indent=1))
    else:
        for package in host.packages():
            state = f"MISSING {', '.join(package.missing)}" if package.missing else "ok"
            click.echo(f"{package.name:20} {state:30} {package.why}")
        for name, value in {**boots.host_facts(), **accel, "cache": str(cache or default_root())}.items():
            click.echo(f"{name:20} {value}")
    host.require()


@cli.command(name="list")
@click.argument("what", type=click.Choice(["plan", "fragments", "nics", "packages"]))
@click.argument("plan", type=click.Path(path_type=Path), required=False)
@_JSON
def list_(what: str, plan: Path | None, as_json: bool) -> None:
    """List what there is: the variants, claims and suites of a PLAN, fragments, NIC models, or host packages."""
    from harness import listing

    rows = listing.rows(what, plan, _store(None))
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    widths = [max((len(str(row[key])) for row in rows), default=0) for key in (rows[0] if rows else {})]
    for row in rows:
        click.echo("  ".join(f"{_clean(str(value)):{width}}" for value, width in zip(row.values(), widths, strict=True))
                   .rstrip())


cli.add_command(cli_cache.cache)


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
    except Exception:  # the last line of defence: no traceback at a user
        with tempfile.NamedTemporaryFile("w", prefix="harness-crash-", suffix=".txt", delete=False) as crash:
            traceback.print_exc(file=crash)
        _say(f"a bug in the harness, not in your kernel: please send {crash.name}")
        return ExitCode.LAB
    return ExitCode.PASSED


def _clean(text: str) -> str:
    from harness.report.model import clean

    return clean(text)


def _say(text: str) -> None:
    print(f"harness: {_clean(text)}", file=sys.stderr)  # noqa: T201


def _interrupt(number: int, _: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _progress(quiet: bool = False) -> Progress:
    from harness.report.progress import Progress

    return Progress(quiet=quiet)


def _store(cache: Path | None) -> Store:
    return cli_cache.open_store(cache)


def _new_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if not folder.is_dir() or any(folder.iterdir()):
            raise UsageError("the run folder is already in use", where=str(folder),
                             hint="name another one with --out") from None
    except OSError as error:
        raise InfraError(f"the run folder cannot be made: {error.strerror}", where=str(folder)) from error
