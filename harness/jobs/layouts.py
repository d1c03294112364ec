# SPDX-License-Identifier: GPL-2.0-only
"""The layout of a structure in a finished build: a probe that includes its header, compiled as the build compiles.

The kernel itself has no debug information. The probe does: a few lines of C, compiled in the sandbox with the options
of an object that every kernel has, and -g. One probe takes half a second; a kernel with debug information, minutes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness.compare import layout_text
from harness.compare.dwarf_types import read_layout
from harness.compare.layout import Layout, Unmeasured, compare_layouts
from harness.compare.values import printable
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.kernel.kbuild import Build, diagnostics
from harness.kernel.recompile import Job, recompile

_OBJECT = "init/main.o"
"""Compiled in every kernel of every architecture, with the options of ordinary code."""

_FLAGS = ("-g", "-gz=none", "-fno-lto", "-w")
"""Debug information, whatever the configuration says of it (none, compressed, bitcode in place of an object), and no
warnings, which -Werror would turn into errors."""

_GCC_FLAGS = ("-femit-struct-debug-detailed=any", "-fmax-errors=5", "-fno-diagnostics-show-caret")
"""What only gcc knows: the opposite of CONFIG_DEBUG_INFO_REDUCED, which leaves out structures of headers; brevity."""

_QUOTES = {0x2018: "'", 0x2019: "'"}
"""gcc's, in a locale with UTF-8."""


def measure(build: Build, tree: Path, struct: str, headers: Sequence[str], deadline: Deadline) -> Layout | Unmeasured:
    """The layout of `struct` in a build.

    Args:
        tree: the folder of the tree that it was built from.
        struct: the tag, a C identifier.
        headers: what to include, in order, as `#include <...>` has it.

    Raises:
        UsageError: the build has no command for the probe's object.
        InfraError: the probe did not compile and no message of the compiler says why, or what it left cannot be read.
        DeadlineExpired: not in time.
    """
    includes = "".join(f"#include <{header}>\n" for header in headers)
    said = ", ".join(headers)
    made = _compile(build, tree, f"{includes}struct {struct} *harness_probe;\n", deadline)
    if isinstance(made, Unmeasured):
        own = made.detail[0].startswith(f"/build/job/source.c:{len(headers) + 1}:")
        what = f"struct {struct} of {said}" if own else said
        return Unmeasured(why=f"{what} does not compile: {made.why}", detail=made.detail)
    found = read_layout(made, struct, where=f"{build.name}: the probe of struct {struct}")
    if isinstance(found, Layout):
        return found
    # A tag names one kind of thing, so this compiles only where the headers do not declare it (C11 6.7.2.3).
    declared = _compile(build, tree, f"{includes}enum {struct} {{ harness_probe }};\n", deadline)
    if isinstance(declared, Unmeasured):
        return Unmeasured(why=f"struct {struct} is only declared in {said}, not defined")
    return Unmeasured(why=f"there is no struct {struct} in {said}")


def _compile(build: Build, tree: Path, text: str, deadline: Deadline) -> bytes | Unmeasured:
    flags = (*_FLAGS, *(_GCC_FLAGS if "CONFIG_CC_IS_GCC=y\n" in build.config.text else ()))
    (made,) = recompile(build.out, tree, [Job(object=_OBJECT, text=text, flags=flags)], deadline=deadline)
    if isinstance(made, bytes):
        return made
    errors = [row for row in diagnostics("\n".join(made.detail)) if row.kind == "error"]
    if not errors:
        raise InfraError("the layout probe was not compiled, and the compiler does not say why", where=build.name,
                         detail=made.detail)
    said = [(row.where, row.text.translate(_QUOTES)) for row in errors]
    return Unmeasured(why=printable(said[0][1]), detail=tuple(f"{where}: {text}" for where, text in said))


def write(folder: Path, name: str, base: Layout | Unmeasured, patched: Layout | Unmeasured) -> None:
    """Leave the whole of both layouts in `folder`: `name.json` for programs, `name.txt` for people."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(as_json(base, patched), indent=1), encoding="utf-8")
    (folder / f"{name}.txt").write_text("\n".join((*as_text(base, patched), "")), encoding="utf-8")


def as_json(base: Layout | Unmeasured, patched: Layout | Unmeasured) -> dict[str, object]:
    """Schema `harness.layout/1`, docs/layout.md."""
    if isinstance(base, Layout) and isinstance(patched, Layout):
        return layout_text.delta_json(compare_layouts(base, patched))
    sides = {name: layout_text.to_json(side) if isinstance(side, Layout) else {"missing": side.why}
             for name, side in (("base", base), ("patched", patched))}
    return {"schema": layout_text.SCHEMA, **sides}


def as_text(base: Layout | Unmeasured, patched: Layout | Unmeasured) -> tuple[str, ...]:
    """The two side by side; where one is missing, why, and the other's size."""
    if isinstance(base, Layout) and isinstance(patched, Layout):
        return layout_text.table(compare_layouts(base, patched))
    return tuple(f"{name:7}  {layout_text.summary(side) if isinstance(side, Layout) else side.why}"
                 for name, side in (("base", base), ("patched", patched)))
