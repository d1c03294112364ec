# SPDX-License-Identifier: GPL-2.0-only
"""A hostile series achieves nothing: its Makefile tries (hostile.sh), the verdict is clear, and nothing is left behind.

The real kernel source, with one patch that has the top Makefile run the script before anything else. What the script
tries is chosen by the configuration, so all tests share one tree.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.jobs import builds
from harness.jobs.inputs import Inputs
from harness.report.progress import Progress
from harness.store.store import Store, default_root
from tests.build.conftest import write_patch
from tests.conftest import PLAN
from tests.run.conftest import Ran, half_written, harness

SCRIPT = Path(__file__).with_name("hostile.sh")
HOOK = """HOSTILE := $(shell sh /build/src/hostile.sh)
ifneq ($(filter own-%,$(HOSTILE)),)
.PHONY: allnoconfig bzImage modules
allnoconfig bzImage modules:
\t@exit $(patsubst own-%,%,$(lastword $(HOSTILE)))
else
"""
SECRET = "correct horse battery staple"
MARK = b"sleep\x0060.98765\0", b"sleep\x00120.98765\0"


@pytest.fixture(scope="session")
def series(tmp_path_factory: pytest.TempPathFactory, clean_tree: Path, inputs: Inputs, store: Store,
           progress: Progress) -> Path:
    """The folder of the hostile series. What Kconfig runs is in the cache, so that limits of time are of the attack."""
    builds.configure(inputs, "base", "none", store=store, progress=progress)
    folder = tmp_path_factory.mktemp("hostile") / "series"
    makefile = (clean_tree / "Makefile").read_text(encoding="utf-8")
    write_patch(folder, "Makefile", makefile, f"{HOOK}{makefile}\nendif\n")
    added = write_patch(folder, "hostile.sh", "", SCRIPT.read_text(encoding="utf-8"))
    added.write_text(added.read_text().replace("a/hostile.sh\n+++", "/dev/null\n+++").replace(
        "index", "new file mode 100644\nindex", 1))
    return folder


Attack = Callable[..., Ran]


@pytest.fixture
def attack(tmp_path: Path, series: Path) -> Attack:
    """Runs `harness build` (or another command) on the hostile series with one attack chosen."""
    def start(name: str, argument: object = "", *, command: tuple[str, ...] = ("build", "--side", "patched"),
              env: Mapping[str, str] | None = None, **limits: int) -> Ran:
        (tmp_path / "fragment").write_text(f'CONFIG_64BIT=y\nCONFIG_LOCALVERSION="{name}:{argument}"\n')
        limits = {"seconds": 60, "memory": 4096, **limits}
        text = (PLAN / "plan.yaml").read_text(encoding="utf-8")
        source = text[text.index("source:"):text.index("base:")]
        (tmp_path / "plan.yaml").write_text(
            f"{source}series: {series}/*.patch\nvariants:\n  hostile: [{tmp_path}/fragment]\n"
            f"limits: {{{', '.join(f'{key}: {value}' for key, value in limits.items())}}}\n", encoding="utf-8")
        done = harness(command[0], str(tmp_path), *command[1:], "--quiet", cwd=tmp_path, env=env)
        return Ran(code=done.returncode, out=done.stdout, err=done.stderr, folder=tmp_path / "run")

    return start


def harmless(ran: Ran, *said: str, code: int = 1) -> None:
    """The series is at fault, in one message with every one of `said`; it reached nothing and left nothing behind."""
    assert ran.code == code, ran
    for text in said:
        assert text in ran.err, ran
    assert "REACHED" not in ran.out + ran.err, ran
    assert "Traceback" not in ran.err, ran
    assert "bug in the harness" not in ran.err, ran
    assert not running(), ran
    assert not half_written(), ran


def running() -> list[str]:
    """Processes of an attack that still run; what has ended and nobody reaped does not count."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if command.endswith(MARK) or b"/build/src/hostile.sh" in command:
            found.append(f"{path}: {command!r}")
    return found


def test_it_writes_nowhere_but_into_its_output(attack: Attack, tmp_path: Path, clean_tree: Path) -> None:
    before = (clean_tree / "Makefile").stat()
    (tmp_path / "victim").mkdir()
    harmless(attack("outside", tmp_path / "victim"), "Kconfig fails on this tree", "patched/hostile")
    assert not list((tmp_path / "victim").iterdir())
    assert not [path for path in ("/etc", "/usr", "/root", "/", "/dev") if Path(path, "touched").exists()]
    after = (clean_tree / "Makefile").stat()
    assert (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino)


def test_it_phones_nobody(attack: Attack, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, \
            socket.socket(socket.AF_UNIX) as path, socket.socket(socket.AF_UNIX) as abstract:
        port = tcp.getsockname()[1]
        path.bind(str(tmp_path / "s"))
        abstract.bind(f"\0harness-{port}")
        path.listen()
        abstract.listen()
        harmless(attack("phone", f"{port},{tmp_path}/s"), "Kconfig fails on this tree")
        for server in (tcp, path, abstract):
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()


def test_it_reads_no_secret(attack: Attack, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    ran = attack("secret", tmp_path / "secret", env={"TOKEN": SECRET})
    harmless(ran, "Kconfig fails on this tree", "LC_ALL=C.UTF-8")
    assert SECRET not in ran.out + ran.err
    assert "root:" not in ran.err


@pytest.mark.parametrize(("name", "limits", "said"), [
    ("processes", {"processes": 300}, "the limit is 300 (processes and threads at once)"),
    ("threads", {"processes": 300}, "the limit is 300 (processes and threads at once)"),
    ("memory", {"memory": 600}, "the limit is 600 MiB (memory of a step)"),
    ("one-memory", {"memory": 600}, "the limit is 600 MiB (memory of a step)"),
    ("disk", {"folder": 300}, "the limit is 300 MiB (size of the output folder)"),
    ("file", {"file": 100}, "the limit is 100 MiB (size of one file)"),
    ("files", {"files": 20000}, "the limit is 20000 (entries of the output folder)"),
    ("scratch", {"scratch": 100}, "the limit is 100 MiB (scratch space in the sandbox)"),
    ("prints", {"printed": 8}, "the limit is 8 MiB (output printed)"),
    ("line", {"printed": 8}, "the limit is 8 MiB (output printed)"),
    ("forever", {"seconds": 15}, "the limit is 15 s (time of one step)"),
])
def test_a_limit_ends_it_and_is_named(attack: Attack, name: str, limits: dict[str, int], said: str) -> None:
    free, began = os.statvfs(default_root()).f_bavail, time.monotonic()
    ran = attack(name, **limits)
    harmless(ran, "patched/hostile: ", said, f"raise `{next(iter(limits))}` of `limits:` in the plan")
    assert time.monotonic() - began < 60, ran
    assert free - os.statvfs(default_root()).f_bavail < (4 << 30) // os.statvfs(default_root()).f_bsize


def test_a_daemon_ends_with_its_step(attack: Attack) -> None:
    harmless(attack("daemon"), "Kconfig fails on this tree")


def test_what_it_prints_cannot_talk_to_a_terminal(attack: Attack) -> None:
    ran = attack("escapes")
    harmless(ran, "Kconfig fails on this tree", "\ufffd]0;owned\ufffd")
    assert not {"\x1b", "\x07", "\x9b"} & set(ran.out + ran.err)


@pytest.mark.parametrize(("name", "said"), [
    ("config-zero", "it left a link that leads out: .config -> /dev/zero"),
    ("config-fifo", "it left something else than a file: .config"),
    ("config-none", "Kconfig ended well but left no .config"),
    ("config-huge", "it left a file of more than 64 MiB"),
    ("left-link", "it left a link that leads out: vmlinux -> /etc/passwd"),
    ("left-folder", "it left a link that leads out: net -> /etc"),
    ("left-winding", "it left a link that leads out: net -> a/b/up/../../etc"),
    ("left-fifo", "it left something else than a file: vmlinux.o"),
    ("left-socket", "it left something else than a file: init.o"),
    ("left-setuid", "it left a program that would run with our rights: sh"),
    ("left-deep", "it left a folder that cannot be read: File name too long"),
])
def test_what_it_leaves_is_not_followed(attack: Attack, name: str, said: str) -> None:
    ran = attack(name)
    if name.startswith("left-"):
        harmless(ran, "patched/hostile: ", said)
    else:
        harmless(ran, said)


def test_a_whole_run_says_it_in_its_report(attack: Attack) -> None:
    ran = attack("processes", command=("run", "--out", "run", "--require-sandbox"), processes=300)
    harmless(ran, "the limit is 300 (processes and threads at once)")
    assert ran.results["exit_code"] == 1
    assert "the limit is 300" in ran.results["error"]
    assert ran.results["sandbox"].startswith("bubblewrap ")
