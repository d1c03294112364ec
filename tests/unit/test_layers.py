# SPDX-License-Identifier: GPL-2.0-only
"""The order of the modules: each may import only what stands before it, and some never meet."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parent

ORDER = (
    "errors", "deadline", "frozen", "forks", "ktap", "host", "pipes", "proc", "sandbox.foreign", "sandbox.limits",
    "sandbox.watchdog", "sandbox.orphans", "sandbox.bwrap", "arch", "store.manifest", "store.staging", "store.uses",
    "store.entries", "store.store", "store.cache", "kernel.series", "kernel.mails", "kernel.mailbox", "kernel.gitplace",
    "kernel.gitrepo", "kernel.gitrange", "kernel.collect", "kernel.source", "kernel.am", "kernel.tree",
    "kernel.toolchain", "kernel.kbuild_box", "kernel.kconfig_why", "kernel.kconfig", "kernel.warnings",
    "kernel.cmdfiles", "kernel.kbuild", "kernel.recompile", "kernel.partial", "kernel.module", "kernel.selftests",
    "jobs.steps", "compare", "jobs.compared", "jobs.again", "jobs.proof", "jobs.others", "guest", "vm", "lab", "claims",
    "plan.node", "plan.benign", "plan.claims", "plan.topologies", "plan.plan", "jobs.suites", "jobs.selftests",
    "report.objdiff_text", "report.objdiff_page", "report.model", "report.plot", "report.junit", "report.terminal",
    "report.progress", "jobs.boots", "report.steps", "jobs.blame", "report.blame", "jobs.layouts", "jobs.inputs",
    "jobs.seeds", "jobs.builds", "jobs.state", "jobs.guests", "jobs.judging", "engine", "pytest_plugin", "cli.common",
    "cli.listing", "cli.cache", "cli.compare", "cli.klog", "cli.kselftest", "cli.prepare", "cli.guests", "cli.tests",
    "cli.main", "__main__",
)
STRANGERS = (("compare", "vm"), ("compare", "guest"), ("compare", "kernel"), ("kernel", "vm"), ("kernel", "compare"))


def modules() -> list[str]:
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(ROOT.rglob("*.py"))
            if path.name != "__init__.py"]


def imports(module: str) -> set[str]:
    """Modules of ours that a module imports, as `ORDER` names them."""
    tree = ast.parse((ROOT / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name.removeprefix("harness.") for name in found if name.startswith("harness.")}


def layer(name: str) -> int | None:
    """Its place in the order; the longest entry that it equals or lies below."""
    fits = [entry for entry in ORDER if name == entry or name.startswith(f"{entry}.")]
    return ORDER.index(max(fits, key=len)) if fits else None


@pytest.mark.parametrize("module", modules())
def test_imports_point_upward(module: str) -> None:
    own = layer(module)
    assert own is not None, f"{module} has no place in ORDER"
    for name in imports(module):
        other = layer(name)
        assert other is None or other <= own, f"{module} imports {name}, which comes after it"


@pytest.mark.parametrize(("one", "other"), STRANGERS)
def test_strangers_never_meet(one: str, other: str) -> None:
    for module in modules():
        if module.split(".")[0] == one:
            assert not [name for name in imports(module) if name.split(".")[0] == other], module


def test_only_proc_spawns_and_only_plan_node_reads_yaml() -> None:
    for module in modules():
        text = (ROOT / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8")
        nodes = ast.walk(ast.parse(text))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        assert ("subprocess" in names) <= (module == "proc"), module
        assert ("yaml" in names) <= (module == "plan.node"), module
