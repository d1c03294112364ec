# SPDX-License-Identifier: GPL-2.0-only
"""`harness kselftest`: the kernel's own tests in guests, before the series and after it."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import click

from harness.cli import common
from harness.cli.common import ARCH, CACHE, JSON, PLAN, QUIET, open_store


@click.command()
@PLAN
@click.argument("tests", nargs=-1, required=True, metavar="COLLECTION:TEST...")
@click.option("--variant", "-v", "variant", required=True, metavar="NAME", help="The variant whose kernels are tested.")
@ARCH
@click.option("--accel", type=click.Choice(["kvm", "tcg"]), default=None,
              help="The accelerator.  [default: KVM where a real Linux boots under it, else TCG]")
@CACHE
@JSON
@QUIET
def kselftest(plan: Path, tests: tuple[str, ...], variant: str, arch: str | None, accel: str | None,
              cache: Path | None, as_json: bool, quiet: bool) -> None:
    """Run the kernel's own TESTS (tools/testing/selftests) of PLAN's tree on base and on patched.

    A test is named as net:xfrm_policy.sh; net:* is every script of a collection. Its programs are built, it runs as
    root in a guest of its own, and its result before the series stands beside the one after it: what fails on both
    is not the fault of the series. In a variant without a base only patched is tested.
    """
    from rich.console import Console

    from harness.claims import exit_code
    from harness.deadline import Deadline
    from harness.jobs import boots, builds, selftests
    from harness.jobs.inputs import resolve
    from harness.kernel import selftests as kernels_own
    from harness.plan.plan import read_plan
    from harness.report import model, terminal

    read, store, progress = read_plan(plan, arch or ""), open_store(cache), common.progress(quiet)
    sides = read.variant(variant).sides
    inputs = resolve(read, Deadline.after(60), store=store, progress=progress.step)
    chosen = kernels_own.find(builds.source_of(inputs, "patched", store), tests)
    kernels = {}
    for side in sides:
        config = builds.configure(inputs, side, variant, store=store, progress=progress)
        kernels[side] = builds.build(inputs, side, config, store=store, progress=progress)
    packed = builds.packed_selftests(inputs, chosen, store=store, progress=progress)
    userland = boots.userland(store, inputs.arch, progress=progress.step)
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        image = kernels["patched"].image
        using = boots.accelerator(store, inputs.arch, image, override=accel or "", progress=progress.step)
        lab = builds.lab(inputs, userland, using, Path(folder), store=store, progress=progress)
        earned = {side: selftests.on_kernel(kernel, chosen, packed, lab.machine, progress.step)
                  for side, kernel in kernels.items()}
    rows = tuple(selftests.compare(variant, chosen, earned))
    if as_json:
        click.echo(json.dumps([model.row_to_json(row) for row in rows], indent=1))
    else:
        console = Console(highlight=False)
        terminal.show_rows(f"selftests on {variant}", rows, console)
        terminal.show_detail(rows, console)
    sys.exit(exit_code(row.verdict for row in rows))
