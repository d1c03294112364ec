# SPDX-License-Identifier: GPL-2.0-only
"""The box that foreign code runs in: argv for bubblewrap (bwrap(1)).

Inside there are the host's programs (read-only), the folders it was given, an empty /tmp, and nothing else: no
network, no home, no other processes, a clean environment. All that runs in it ends when it or we end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/alternatives", "/etc/ld.so.cache")
_SCRATCH = "/tmp"  # noqa: S108 - a tmpfs inside the box, not the host's


def boxed(argv: Sequence[str], *, read: Mapping[str, Path], write: Mapping[str, Path], cwd: str,
          env: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """`argv` wrapped so that it runs in the box.

    Args:
        argv: what runs inside.
        read: folders or files of the host shown read-only, by the path they have inside.
        write: the same, writable.
        cwd: the working folder, a path inside.
        env: variables on top of PATH, HOME and the locale.
    """
    variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": _SCRATCH, "LC_ALL": "C.UTF-8", **(env or {})}
    box: list[str] = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    for name, value in variables.items():
        box += ["--setenv", name, value]
    for path in map(Path, _PROGRAMS):
        if path.is_symlink():
            box += ["--symlink", str(path.readlink()), str(path)]
        elif path.exists():
            box += ["--ro-bind", str(path), str(path)]
    box += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", _SCRATCH]
    for inside, outside in read.items():
        box += ["--ro-bind", str(outside), inside]
    for inside, outside in write.items():
        box += ["--bind", str(outside), inside]
    return (*box, "--chdir", cwd, "--", *argv)
