# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tests.bench`: measure on this host and write docs/benchmarks.md.

Builds come from the cache; those that are missing are made. Whatever is compared runs side by side in this one call,
in turns, and the median of each is taken. `--cold` also times a run with an empty cache (an hour or less).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from harness.arch import native
from harness.deadline import Deadline
from harness.guest import rootfs
from harness.jobs import boots, builds
from harness.jobs.builds import Inputs
from harness.kernel.kbuild import Build
from harness.kernel.source import fetch
from harness.kernel.tree import prepare
from harness.plan.plan import read_plan
from harness.report.progress import Progress
from harness.store.store import Store, default_root
from harness.vm.accel import bare_boot
from harness.vm.machine import boot
from harness.vm.qemu import MachineSpec
from tests.bench import objdiff, sandbox
from tests.bench.objdiff import Rows
from tests.conftest import PLAN, ROOT

HARNESS = (sys.executable, "-m", "harness")


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.monotonic()
    call()
    return time.monotonic() - started


def command(*argv: str, cwd: Path = ROOT, env: dict[str, str] | None = None, codes: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})})
    if done.returncode not in codes:
        raise SystemExit(f"{argv}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def measure_boot(build: Build, userland: Path, runs: int) -> Rows:
    """QEMU's start to a bare busybox init, and to the answer of the first SSH command: in turns, same kernel, TCG."""
    bare, ssh = [], []
    with tempfile.TemporaryDirectory() as name:
        small = Path(name) / "bare.cpio"
        rootfs.build_bare_rootfs(small, deadline=Deadline.after(300))
        for number in range(runs):
            bare.append(bare_boot(build.image, small, arch=native(), accel="tcg",
                                  deadline=Deadline.after(120)))
            spec = MachineSpec(name="guest", kernel=build.image, initrd=(userland,), memory_mib=256)
            started = time.monotonic()
            with boot(spec, Path(name) / str(number), deadline=Deadline.after(120)) as machine:
                machine.run("true")
                ssh.append(time.monotonic() - started)
    first, second = statistics.median(bare), statistics.median(ssh)
    return [("QEMU start to a bare busybox init", f"{first:.2f} s", f"median of {runs}, in turns with the next row"),
            ("QEMU start to the first SSH command's answer", f"{second:.2f} s",
             f"{second / first:.2f} times the bare boot (wanted: at most 2.0)")]


def whole_run(cache: Path | None) -> float:
    """Seconds of a whole run."""
    with tempfile.TemporaryDirectory() as name:
        return timed(lambda: command(*HARNESS, "run", str(PLAN), "--out", f"{name}/run",
                                     env={"HARNESS_CACHE": str(cache)} if cache else {}))


def build_times(builds: list[Build]) -> Rows:
    """What the builds in the cache took when they were made."""
    return [(f"build {item.name}", f"{item.seconds:.0f} s",
             f"{item.rebuilt} files compiled, {f'from {item.seed}' if item.seed else 'from nothing'}")
            for item in builds]


def full_build(inputs: Inputs, like: Build, store: Store) -> float:
    """Seconds of a build from nothing; what it built is removed again."""
    made = builds.build(inputs, "base", like.config, store=store, progress=Progress(), again=f"bench {time.time_ns()}")
    shutil.rmtree(made.out.parents[1])
    return made.seconds


def all_builds(inputs: Inputs, store: Store) -> dict[str, Build]:
    progress = Progress()
    found = {}
    for variant in inputs.plan.variants:
        for side in builds.SIDES:
            config = builds.configure(inputs, side, variant.name, store=store, progress=progress)
            found[f"{side}/{variant.name}"] = builds.build(inputs, side, config, store=store, progress=progress)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--cold", action="store_true", help="also time a run with an empty cache")
    parser.add_argument("--runs", type=int, default=5, help="of each figure that is a median")
    parser.add_argument("--short", action="store_true", help="leave out the whole run, the full build and the proof")
    options = parser.parse_args()
    store = Store(root=default_root())
    inputs = builds.resolve(read_plan(PLAN), Deadline.after(60))
    userland = boots.userland(store, inputs.arch, progress=Progress().step)
    kernels = all_builds(inputs, store)
    control = builds.build(inputs, "base", kernels["base/none"].config, store=store, progress=Progress(),
                           again="control")
    script = fetch(inputs.trees["base"].source, store, deadline=Deadline.after(900)) / "scripts" / "objdiff"
    rows: Rows = []
    if options.cold:
        with tempfile.TemporaryDirectory() as name:
            cold, warm = whole_run(Path(name)), whole_run(Path(name))
        rows.append(("harness run patches/skb-extensions, empty cache", f"{cold / 60:.1f} min",
                     "wanted: at most 40 min"))
    elif not options.short:
        warm = whole_run(None)
    if not options.short:
        rows.append(("harness run patches/skb-extensions, again", f"{warm:.0f} s", "wanted: at most 180 s"))
    rows += measure_boot(kernels["patched/both"], userland, options.runs)
    rows += objdiff.measure((kernels["base/none"], control), (kernels["base/both"], kernels["patched/both"]),
                            prepare(inputs.trees["base"], store, deadline=Deadline.after(900)), script, options.runs,
                            None if options.short else full_build(inputs, kernels["base/none"], store))
    rows += sandbox.measure(prepare(inputs.trees["base"], store, deadline=Deadline.after(900)), kernels["base/none"],
                            inputs.toolchain, options.runs)
    rows += build_times(list(kernels.values()))
    write(rows, " ".join(["python -m tests.bench", *sys.argv[1:]]))


def write(rows: Rows, made_by: str) -> None:
    cpu = json.dumps(boots.host_facts()["cpu"])
    table = "\n".join(f"| {what} | {figure} | {note} |" for what, figure, note in rows)
    (ROOT / "docs" / "benchmarks.md").write_text(
        "<!-- SPDX-License-Identifier: GPL-2.0-only -->\n# Benchmarks\n\n"
        f"Made by `{made_by}` (`make bench`) on {datetime.now(UTC):%Y-%m-%d}; {len(os.sched_getaffinity(0))} cores, "
        f"{cpu}, Python {platform.python_version()}. Times are of one machine on one day: compare the rows with each "
        "other, not with another table.\n\n| what | figure | |\n|---|---|---|\n" + table + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
