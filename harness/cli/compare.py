# SPDX-License-Identifier: GPL-2.0-only
"""The commands that compare kernels: `harness objdiff`, `blame`, `size` and `layout`; thin like `cli`."""

from __future__ import annotations

import gc
import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import ARCH, CACHE, JSON, PLAN, QUIET, VARIANT, open_store, progress
from harness.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from harness.compare.values import Comparison

_PROOF_SECONDS = 3600


@click.command()
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("patched", type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Explain nothing: any difference is a change.")
@click.option("--all", "show_all", is_flag=True, help="A line for every change, however many.")
@click.option("--show", "shown", metavar="FUNCTION",
              help="Both sides of this function beside each other, in every object that has it; OBJECT:FUNCTION for "
                   "one. With source lines where there is debug info.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Also write a page for reviewers: all changes, and the changed functions side by side.")
@click.option("--prove", "proving", is_flag=True,
              help="Compile the objects that differ again, in the sandbox, and say of each whether it is proved that "
                   "it did not change. For build folders with their .cmd files and source trees.")
@click.option("--base-source", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="With --prove: BASE's source tree.  [default: where it was when BASE was built]")
@click.option("--patched-source", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="With --prove: PATCHED's source tree.  [default: where it was when PATCHED was built]")
@JSON
@QUIET
def objdiff(base: Path, patched: Path, strict: bool, show_all: bool, shown: str | None, html: Path | None,
            proving: bool, base_source: Path | None, patched_source: Path | None, as_json: bool, quiet: bool) -> None:
    """Compare the object code of two kernel build folders, or of two objects, archives or modules.

    Exit code 0 when nothing changed (byte-identical, or every difference explained by a named rule or proved), 1
    otherwise.
    """
    from harness import forks
    from harness.compare.objdiff import compare
    from harness.compare.opened import Opened, to_json
    from harness.report import objdiff_text

    if shown and as_json:
        raise UsageError("--show and --json exclude each other", hint="the JSON form has a line for every change")
    sources = {name: path for name, path in (("base", base_source), ("patched", patched_source)) if path}
    if (proving and (strict or not (base.is_dir() and patched.is_dir()))) or (sources and not proving):
        raise UsageError("--prove is for two build folders, not with --strict; --base-source and --patched-source are "
                         "for --prove", where=f"{base}, {patched}")
    with _keeping():
        comparison = compare(base, patched, strict=strict, copies=forks.cores())
    if proving:
        comparison = _proved(comparison, base, patched, sources, quiet)
    opened = Opened(comparison)
    if html is not None:
        from harness.report import objdiff_page

        objdiff_page.write(opened, html)
    if as_json:
        click.echo(json.dumps(to_json(opened), indent=1))
    elif shown:
        click.echo("\n".join(objdiff_text.show(opened, shown, shutil.get_terminal_size((80, 24)).columns)))
    else:
        with _keeping():
            lines = objdiff_text.summary(opened, None if show_all else objdiff_text.LIMIT)
        click.echo("\n".join(lines))
    sys.exit(ExitCode.PASSED if comparison.identical_code else ExitCode.FAILED)


@contextmanager
def _keeping() -> Iterator[None]:
    """No search for garbage in a pass that keeps nearly all it makes."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _proved(comparison: Comparison, base: Path, patched: Path, sources: dict[str, Path], quiet: bool) -> Comparison:
    """The comparison with what differs proved, where it can be."""
    from harness.deadline import Deadline
    from harness.jobs import others

    told = progress(quiet)
    told.step(f"proving {comparison.explained} explained and {comparison.changed} changed objects")
    with told.counting("proving", unit="objects") as counted:
        return others.prove(comparison, base, patched, deadline=Deadline.after(_PROOF_SECONDS), sources=sources,
                            counted=counted)


@click.command()
@PLAN
@VARIANT
@ARCH
@click.option("--all", "-a", "everything", is_flag=True, help="Show every function and datum.")
@CACHE
@JSON
@QUIET
def blame(plan: Path, variants: tuple[str, ...], arch: str | None, everything: bool, cache: Path | None,
          as_json: bool, quiet: bool) -> None:
    """Say which patch of PLAN's series changed which function.

    The series is built patch by patch, each kernel from the one before it. All kernels stay in the cache, so a walk
    that was interrupted goes on where it was. Exit code 1 when the kernel does not build with one of the patches.
    """
    from harness.deadline import Deadline
    from harness.jobs import builds
    from harness.jobs.inputs import resolve
    from harness.plan.plan import read_plan
    from harness.report import blame as report

    read, store, told = read_plan(plan, arch or ""), open_store(cache), progress(quiet)
    names = read.compared(variants)
    inputs = resolve(read, Deadline.after(60), store=store, progress=told.step)
    found = [builds.blame(inputs, name, store=store, progress=told) for name in names]
    click.echo(json.dumps([report.to_json(one) for one in found], indent=1) if as_json else "\n\n".join(
        "\n".join(report.lines(one, limit=None if everything else 20)) for one in found))
    sys.exit(ExitCode.FAILED if any(one.broken for one in found) else ExitCode.PASSED)


@click.command()
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("patched", type=click.Path(path_type=Path))
@click.option("--all", "-a", "everything", is_flag=True, help="Show every symbol and object that differs.")
@JSON
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


@click.command()
@PLAN
@click.option("--struct", required=True, metavar="TAG", help="The structure, as sk_buff.")
@click.option("--header", "headers", required=True, multiple=True, metavar="FILE",
              help="What to include for it, as linux/skbuff.h; may be given several times.")
@VARIANT
@ARCH
@CACHE
@JSON
@QUIET
def layout(plan: Path, struct: str, headers: tuple[str, ...], variants: tuple[str, ...], arch: str | None,
           cache: Path | None, as_json: bool, quiet: bool) -> None:
    """Show how a structure lies in memory before and after the series, side by side.

    Exit code 1 when a side has no such structure.
    """
    from harness.compare.layout import Layout
    from harness.deadline import Deadline
    from harness.jobs import builds, layouts
    from harness.jobs.inputs import resolve
    from harness.plan.claims import HEADER, TAG
    from harness.plan.plan import SIDES, read_plan

    if not re.fullmatch(TAG, struct) or not all(re.fullmatch(HEADER, header) for header in headers):
        raise UsageError("this is no structure of a header", where=f"struct {struct} of {', '.join(headers)}",
                         hint="--struct sk_buff --header linux/skbuff.h")
    read, store, told = read_plan(plan, arch or ""), open_store(cache), progress(quiet)
    inputs = resolve(read, Deadline.after(60), store=store, progress=told.step)
    names = read.compared(variants)
    found = {}
    for name in names:
        configs = [builds.configure(inputs, side, name, store=store, progress=told) for side in SIDES]
        kernels = [builds.build(inputs, side, config, store=store, progress=told)
                   for side, config in zip(SIDES, configs, strict=True)]
        found[name] = [builds.measure(inputs, build, struct, headers, store=store) for build in kernels]
    if as_json:
        click.echo(json.dumps({name: layouts.as_json(*sides) for name, sides in found.items()}, indent=1))
    else:
        click.echo("\n\n".join("\n".join((f"variant {name}", *layouts.as_text(*sides)))
                               for name, sides in found.items()))
    whole = all(isinstance(side, Layout) for sides in found.values() for side in sides)
    sys.exit(ExitCode.PASSED if whole else ExitCode.FAILED)
