# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tests.mutants [NAME...]`: what the customer's plan would have caught, written to docs/mutants.md.

Each patch here is the series with one fault that a person could make. It is killed where the plan says FAIL of it, by a
suite, a boot, a build or a claim; what the lab could not finish is no kill. Suites run in order of cost, and the first
that fails ends it. Rows of mutants that are not asked for stay as they are.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import PLAN, ROOT

FOLDER = Path(__file__).parent
TABLE = ROOT / "docs" / "mutants.md"
SUITES = (("tests/guest/test_semantics.py",),
          ("tests/guest/test_bridge.py", "tests/guest/test_ipsec.py", "tests/guest/test_bridged_ipsec.py"),
          ("tests/guest/test_ipsec_paths.py", "tests/guest/test_bridge_paths.py",
           "tests/guest/test_bridge_hooks.py", "tests/guest/test_copies.py", "tests/guest/test_link.py"))
"""The suites of the plan, in the order in which they are tried."""
CLAIMS = {
    "C1": ("none", {"says": "no object changes", "check": "objdiff", "variants": ["none"], "expect": "identical"}),
    "C3": ("both", {"says": "8 bytes less", "check": "layout", "variants": ["both"], "struct": "sk_buff",
                    "header": "linux/skbuff.h", "size_delta": -8}),
}
"""Mutants that break one of these are judged by it alone: the variant, and what the customer's plan says."""
_HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-only -->
# Mutants

What the suites and claims of `patches/skb-extensions` catch: `tests/mutants/` holds the series with one fault each.
Made by `make mutants` (`python -m tests.mutants NAME...` runs some of them and leaves the other rows). {score}

{control}

| mutant | breaks | killed by | s |
|---|---|---|---|
"""
_CONTROL = re.compile(r"^The series itself: .*$", re.MULTILINE)
_ROW = re.compile(r"^\| (\S+) \| .* \| .* \| \d+ \|$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        killed: by what; empty where it survived.
        error: what the lab could not do; says nothing of the mutant.
    """

    name: str
    breaks: str
    killed: str = ""
    error: str = ""
    seconds: float = 0

    def __str__(self) -> str:
        word = f"ERROR: {self.error}" if self.error else self.killed or "**survived**"
        return f"| {self.name} | {self.breaks} | {word.replace('|', '/')} | {self.seconds:.0f} |"


def mutants() -> dict[str, Path]:
    """Every mutant by its name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.patch"))}


def breaks(patch: Path) -> str:
    """What a mutant breaks, in its own words."""
    found = re.search(r"^Breaks: (.+)$", patch.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{patch}: it does not say what it breaks (a line `Breaks: ...`)")
    return found[1]


def plan_for(patch: Path | None, folder: Path, suites: Sequence[str]) -> str:
    """Write the customer's plan, with a mutant on top of the series where there is one; the variant to run."""
    text = (PLAN / "plan.yaml").read_text(encoding="utf-8")
    source = text[text.index("source:"):text.index("base:")]
    what = breaks(patch) if patch else ""
    variant, claim = CLAIMS.get(what, ("both", None))
    (row,) = re.findall(rf"^  {variant}: +\[.*\]$", text, re.MULTILINE)
    series = [f"{PLAN}/series/*.patch", *([str(patch)] if patch else [])]
    parts = [source, f"base: {PLAN}/base/*.patch", f"series: {json.dumps(series)}", "variants:", row]
    parts += [f"claims: {json.dumps({what: claim})}"] if claim else [f"suites: {json.dumps(suites)}"]
    parts.append("lab: {test_timeout: 300}")
    (folder / "plan.yaml").write_text("\n".join([*parts, ""]), encoding="utf-8")
    return variant


def run(patch: Path) -> Outcome:
    """Run a mutant until something fails of it."""
    what, began = breaks(patch), time.monotonic()
    killed = error = ""
    for suites in SUITES[:1] if what in CLAIMS else SUITES:
        with tempfile.TemporaryDirectory() as name:
            killed, error = judged(patch, suites, Path(name))
        if killed or error:
            break
    return Outcome(name=patch.stem, breaks=what, killed=killed, error=error, seconds=time.monotonic() - began)


def judged(patch: Path | None, suites: Sequence[str], folder: Path) -> tuple[str, str]:
    """Run suites on a mutant, or on the series itself, and leave plan and run in a folder; see `verdict`."""
    variant = plan_for(patch, folder, suites)
    out = folder / "run"
    done = _harness("run", str(folder), "--variant", variant, "--no-walk", "--out", str(out))
    return verdict(done, out / "results.json")


def on_base(suites: Sequence[str], folder: Path) -> str:
    """Run suites on the kernel before the series; the first that did not pass, or what went wrong, if anything did."""
    out = folder / "base"
    done = _harness("test", str(PLAN), "--variant", "both", "--side", "base", "--quiet", "--out", str(out), *suites)
    results = out / "results.jsonl"
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    ended = [row for row in map(json.loads, lines) if row["event"] == "finished"]
    bad = [row for row in ended if row["verdict"] not in ("PASS", "SKIP")]
    if bad:
        return f"base: `{bad[0]['id'].rpartition('/')[2]}`: {bad[0]['verdict']}: {_short(bad[0]['reason'])}"
    if done.returncode != 0 or not ended:
        return f"base: exit code {done.returncode}: {_error(done.stderr)}"
    return ""


def _harness(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "harness", *arguments], cwd=ROOT, capture_output=True, text=True,
                          check=False, stdin=subprocess.DEVNULL)


def control(times: int) -> Iterator[str]:
    """Run every suite on base and on the series itself so many times; after each, what has come of it, in a line.

    Both run side by side: the machines of one mostly wait, and a false alarm is likelier beside other work.
    """
    suites = [suite for part in SUITES for suite in part]
    alarms: list[str] = []
    for number in range(1, times + 1):
        folder = ROOT / "runs" / f"control-{time.strftime('%Y%m%d-%H%M%S')}-{number}"
        folder.mkdir(parents=True)
        with ThreadPoolExecutor() as beside:
            base = beside.submit(on_base, suites, folder)
            alarm = " ".join(filter(None, (*judged(None, suites, folder), base.result())))
        if alarm:
            alarms.append(f"{number}: {alarm}")
        else:
            shutil.rmtree(folder)
        print(f"{number}/{times} of the series itself: {f'{alarm} ({folder})' if alarm else 'passed'}",  # noqa: T201
              flush=True)
        said = f"; false alarms: {'; '.join(alarms)}" if alarms else ""
        yield (f"The series itself: all these suites on base and patched, in `both`, {number} times in a row: "
               f"{number - len(alarms)} passed{said} (`python -m tests.mutants --control {number}`).")


def verdict(done: subprocess.CompletedProcess[str], results: Path) -> tuple[str, str]:
    """By what it was killed, and why nothing can be said; both empty where everything passed."""
    if done.returncode == 0:
        return "", ""
    if done.returncode != 1 or not results.is_file():
        return "", f"exit code {done.returncode}: {_error(done.stderr)}"
    rows: list[dict[str, Any]] = json.loads(results.read_text(encoding="utf-8"))["rows"]
    bad = [row for row in rows if row["verdict"] == "FAIL"]
    ours = next((row for row in bad if row["id"].startswith("base/")), None)
    if ours is not None:
        return "", f"base itself fails: {_short(ours['evidence'])}"
    if not bad:
        return "", f"exit code 1: {_error(done.stderr)}"
    failed = bad[0]
    test = next((test for test in failed["tests"] if test["verdict"] == "FAIL"), None)
    where, why = (test["id"], test["reason"]) if test else (f"{failed['kind']} {failed['id']}", failed["evidence"])
    return f"`{where.rpartition('/')[2]}`: {_short(why)}", ""


def _error(stderr: str) -> str:
    """The harness's own message, between its progress and its hints."""
    said = [line.removeprefix("harness: ") for line in stderr.splitlines() if line.startswith("harness: ")]
    return _short(said[-1]) if said else "no row failed, and nothing was said"


def _short(text: str, most: int = 140) -> str:
    line = re.sub(r"\[/\S+\]", "", " ".join(text.split())).strip()
    return line if len(line) <= most else f"{line[:most - 1]}…"


def write(outcomes: Sequence[Outcome], control: str = "") -> None:
    """Put the outcomes into the table; rows of mutants that are gone go."""
    text = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
    old, known = text.splitlines(), _CONTROL.search(text)
    control = control or (known[0] if known else "The series itself: not run yet (`--control TIMES`).")
    rows = {found[1]: line for line in old if (found := _ROW.match(line))} | {each.name: str(each) for each in outcomes}
    kept = [rows[name] for name in mutants() if name in rows]
    dead = sum("**survived**" not in row and "ERROR:" not in row for row in kept)
    left = len(mutants()) - len(kept)
    score = (f"Of {len(kept)} that ran, {dead} are killed ({100 * dead // max(len(kept), 1)} %; wanted: at least 90 %)"
             f"{f'; {left} have not run yet' if left else ''}.")
    TABLE.write_text(_HEAD.format(score=score, control=control) + "\n".join([*kept, ""]), encoding="utf-8")


def main() -> None:
    known = mutants()
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a mutant, or how its name starts; all where none")
    parser.add_argument("--control", type=int, metavar="TIMES",
                        help="in place of mutants, run the series itself so many times: none may fail")
    options = parser.parse_args()
    if options.control:
        for line in control(options.control):
            write([], line)
        return
    chosen = [name for name in known if not options.names or name.startswith(tuple(options.names))]
    if not chosen:
        parser.error(f"no such mutant; there are: {', '.join(known)}")
    for number, name in enumerate(chosen, 1):
        outcome = run(known[name])
        print(f"{number}/{len(chosen)} {outcome}", flush=True)  # noqa: T201
        write([outcome])


if __name__ == "__main__":
    main()
