# SPDX-License-Identifier: GPL-2.0-only
"""A source tree of a few files, built as kbuild builds: commands, source files and dependencies in `.cmd` files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SOURCES = {
    "Makefile": "# the kernel's\n",
    "Kconfig": "# the kernel's\n",
    "include/linux/warn.h": "void warn(int line);\n#define WARN() warn(__LINE__)\n",
    "net/a.c": '#include <linux/warn.h>\n#include <generated/conf.h>\n\n'
               'int f(int x)\n{\n\tWARN();\n\treturn x * CONF;\n}\n',
    "net/b.c": '#include <linux/warn.h>\n\nint g(int x)\n{\n\tWARN();\n\treturn x + 1;\n}\n',
}
OBJECTS = ("net/a.o", "net/b.o")
MODULE = "net/m.o"


def tree(path: Path, **edits: tuple[str, str]) -> Path:
    """The tree; `a=(old, new)` edits net/a.c."""
    for name, text in SOURCES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    for name, (old, new) in edits.items():
        file = path / f"net/{name}.c"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new, 1))
    return path


def build(source: Path, out: Path, *flags: str, conf: int = 3, named: str = "") -> Path:
    """Build it; `named`: how commands name the tree, relative to `out` or absolute, with its slash."""
    (out / "include/generated").mkdir(parents=True, exist_ok=True)
    (out / "include/generated/conf.h").write_text(f"#define CONF {conf}\n")
    (out / "net").mkdir(exist_ok=True)
    prefix = "" if out == source else named or f"{source}/"
    for name in OBJECTS:
        stem = name.removesuffix(".o")
        notes = f"net/.{stem.removeprefix('net/')}.o.d"
        command = " ".join(["gcc", f"-Wp,-MMD,{notes}", "-O2", "-fno-pic", f"-I{prefix}include", "-I./include",
                            f"-fmacro-prefix-map={prefix or './'}=", *flags, "-c", "-o", name, f"{prefix}{stem}.c"])
        subprocess.run(command, shell=True, cwd=out, check=True)
        _target, _, words = (out / notes).read_text().replace("\\\n", " ").partition(":")
        files = "".join(f"  {word} \\\n" for word in words.split()[1:])
        (out / f"net/.{Path(name).name}.cmd").write_text(
            f"savedcmd_{name} := {command}\n\nsource_{name} := {prefix}{stem}.c\n\ndeps_{name} := \\\n{files}\n"
            f"{name}: $(deps_{name})\n\n$(deps_{name}):\n")
    (out / "net/m.mod").write_text("".join(f"{name}\n" for name in OBJECTS))
    link(out)
    return out


def link(out: Path, more: str = "") -> None:
    """The module of both objects."""
    command = f"ld -m elf_x86_64 -z noexecstack{more} -r -o {MODULE} @net/m.mod"
    subprocess.run(command, shell=True, cwd=out, check=True)
    (out / "net/.m.o.cmd").write_text(f"savedcmd_{MODULE} := {command}\n")


def everything(*folders: Path) -> dict[str, tuple[int, int, bytes]]:
    """All there is in some folders: modes, times, contents."""
    found = {}
    for folder in folders:
        for where, _folders, names in os.walk(folder):
            for path in (Path(where), *(Path(where, name) for name in names)):
                info = path.lstat()
                found[str(path)] = info.st_mode, info.st_mtime_ns, path.read_bytes() if path.is_file() else b""
    return found
