# SPDX-License-Identifier: GPL-2.0-only
"""The only place that starts processes on the host.

argv is always a sequence, no shell is involved, the environment is ours and small, and every child dies with us:
on an exception its whole process group is killed and reaped, and where we are killed ourselves the kernel kills it
(`setpriv --pdeathsig`, PR_SET_PDEATHSIG in prctl(2)). That signal is tied to the *thread* that spawned the child,
so `spawn` must be called from a thread that lives as long as the child does. It is not sent for a parent that was
dead before the child asked for it: so every child then looks whether we are still there, before it is the program.
The one exception is `detach`, for what has to outlive us.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn, Protocol

from harness import host, pipes
from harness.deadline import Deadline
from harness.errors import DeadlineExpired, HarnessError, InfraError

TAIL_LINES = pipes.TAIL_LINES
_IF_ALIVE = "getppid == shift or exit; exec { $ARGV[0] } @ARGV; die qq($ARGV[0]: $!\\n)"
"""Perl, because it starts in a millisecond (Python: ten), and leaves signals and environment as they are (a shell does
not: it exports PWD). With the program in braces `exec` never uses a shell."""
_KEPT = ("PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")


class CommandFailed(HarnessError):  # noqa: N818 - it says what happened
    """A command ended with another exit code than 0; `completed` holds it."""

    def __init__(self, completed: Completed) -> None:
        super().__init__(f"command failed with {completed.ending}: {completed.command}",
                         detail=completed.tail)
        self.completed = completed


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A command that has ended.

    Attributes:
        argv: what was run.
        returncode: its exit code; minus the signal's number where a signal ended it.
        stdout: what it printed, standard error included where `log` took both; with a log, only the last lines.
        stderr: its standard error where it was captured on its own.
        seconds: wall-clock time it took.
    """

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def ending(self) -> str:
        """`exit code 2` or `signal SIGKILL`."""
        return ending(self.returncode)

    @property
    def command(self) -> str:
        """The command as one would type it; of a sandboxed one, what ran in the sandbox."""
        argv = self.argv
        if argv[0] == "bwrap" and "prlimit" in argv:
            argv = argv[argv.index("--", argv.index("prlimit")) + 1:]
        return shlex.join(argv)

    @property
    def tail(self) -> tuple[str, ...]:
        """The end of what it said: standard error where there is any, else standard output."""
        return tuple((self.stderr.strip() or self.stdout.strip()).splitlines()[-TAIL_LINES:])


class Guard(Protocol):
    """Looks after a command while it runs."""

    @property
    def pass_fds(self) -> tuple[int, ...]:
        """Descriptors of ours that the command inherits."""

    @property
    def most_output(self) -> int:
        """Bytes that it may print; on more, `overflow` is called."""

    def overflow(self) -> NoReturn:
        """Raises the error of a command that printed too much."""

    def look(self, pid: int) -> float:
        """Called again and again; says when next, in seconds. Raises to have the command killed."""


def ending(returncode: int) -> str:
    """How a process ended, by its `Completed.returncode`."""
    return f"exit code {returncode}" if returncode >= 0 else f"signal {signal.Signals(-returncode).name}"


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every child: a few variables of ours, the C locale, and `extra`."""
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    env["PATH"] = host.search_path()
    env["LC_ALL"] = "C.UTF-8"
    env.update(extra or {})
    return env


def find(program: str) -> str:
    """The path of `program` on this host.

    Raises:
        InfraError: it is not installed; the hint names the Debian package that has it.
    """
    found = shutil.which(program, path=host.search_path())
    if found is None:
        package = host.package_of(program)
        raise InfraError(f"{program} is not installed",
                         hint=f"apt-get install {package}, or `make setup`" if package else None)
    return found


def run(argv: Sequence[str], *, deadline: Deadline, cwd: Path | None = None, env: Mapping[str, str] | None = None,
        stdin: bytes | None = None, log: Path | None = None, on_line: Callable[[str], None] | None = None,
        check: bool = True, guard: Guard | None = None) -> Completed:
    """Run a command to its end.

    Args:
        argv: program and arguments; the program is looked up on the host's PATH.
        deadline: when it must have ended.
        cwd: its working folder.
        env: variables on top of `environment()`.
        stdin: what it reads; nothing otherwise.
        log: a file that takes everything it prints; standard output and error are then one stream.
        on_line: called with each line as it comes (implies one stream).
        check: raise when it fails.
        guard: looks after it while it runs, and may raise to end it.

    Raises:
        CommandFailed: it ended with another code than 0 and `check` is set.
        DeadlineExpired: it was still running at the deadline; it and its children were killed.
        InfraError: the program is not installed.
    """
    started = time.monotonic()
    merged = log is not None or on_line is not None
    child = _popen(argv, cwd=cwd, env=env,
                   stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT if merged else subprocess.PIPE,
                   pass_fds=guard.pass_fds if guard else ())
    try:
        out, err = _drain(child, argv, deadline=deadline, stdin=stdin, log=log, on_line=on_line, guard=guard)
    finally:
        _kill_group(child)
    completed = Completed(argv=tuple(argv), returncode=child.returncode, stdout=out, stderr=err,
                          seconds=time.monotonic() - started)
    if check and completed.returncode != 0:
        raise CommandFailed(completed)
    return completed


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A running child. Its group is killed when the `spawn` block ends."""

    argv: tuple[str, ...]
    popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code as `Completed.returncode` has it, or None while it runs."""
        return self.popen.poll()

    def wait(self, deadline: Deadline) -> int:
        """Wait for its end and return the exit code.

        Raises:
            DeadlineExpired: it still runs.
        """
        try:
            return self.popen.wait(deadline.remaining)
        except subprocess.TimeoutExpired:
            raise DeadlineExpired(f"{self.argv[0]} (pid {self.pid}) still runs after {deadline.budget:g} s") from None

    def kill(self) -> None:
        """Kill it and its process group, and reap it."""
        _kill_group(self.popen)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whom a child runs as: nobody in particular, without any privilege, and none to be had (`no_new_privs`).

    Attributes:
        uid: its user and group.
        groups: its other groups.
    """

    uid: int
    groups: tuple[int, ...] = ()


@contextmanager
def spawn(argv: Sequence[str], *, log: Path, cwd: Path | None = None, env: Mapping[str, str] | None = None,
          pass_fds: tuple[int, ...] = (), user: User | None = None) -> Iterator[Process]:
    """Start a command that lives for the `with` block; what it prints goes to `log`.

    Args:
        user: whom it runs as, for which we must be root; as ourselves otherwise.
    """
    with log.open("ab") as sink:
        child = _popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT,
                       pass_fds=pass_fds, user=user)
    try:
        yield Process(argv=tuple(argv), popen=child)
    finally:
        _kill_group(child)


def detach(argv: Sequence[str], *, log: Path, cwd: Path | None = None, pass_fds: tuple[int, ...] = ()) -> int:
    """Start a command that goes on when we end, in a session of its own; its pid. What it prints goes to `log`."""
    with log.open("ab") as sink:
        child = subprocess.Popen([find(argv[0]), *argv[1:]], cwd=cwd, env=environment(), stdin=subprocess.DEVNULL,
                                 stdout=sink, stderr=subprocess.STDOUT, start_new_session=True, pass_fds=pass_fds)
    child.returncode = 0  # nobody will wait for it here, and Popen would complain
    return child.pid


def if_alive(parent: int, argv: Sequence[str]) -> tuple[str, ...]:
    """`argv`, run only if the process that starts it is still `parent`.

    Raises:
        InfraError: the program is not installed.
    """
    program = find(argv[0])
    return find("perl"), "-e", _IF_ALIVE, str(parent), program, *argv[1:]


def _popen(argv: Sequence[str], *, cwd: Path | None, env: Mapping[str, str] | None, stdin: int,
           stdout: int | IO[bytes], stderr: int | IO[bytes], pass_fds: tuple[int, ...] = (),
           user: User | None = None) -> subprocess.Popen[bytes]:
    # A change of user undoes PR_SET_PDEATHSIG: setpriv asks for it after that.
    guarded = if_alive(os.getpid(), argv)
    guard = [find("setpriv"), *_as(user), "--pdeathsig", "KILL", "--", *guarded]
    return subprocess.Popen(guard, cwd=cwd, env=environment(env), stdin=stdin, stdout=stdout, stderr=stderr,
                            start_new_session=True, pass_fds=pass_fds)


def _as(user: User | None) -> tuple[str, ...]:
    if user is None:
        return ()
    groups = ",".join(map(str, user.groups))
    return (f"--reuid={user.uid}", f"--regid={user.uid}", f"--groups={groups}" if groups else "--clear-groups",
            "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the child's group (the child leads its own session) and reap the child."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _drain(child: subprocess.Popen[bytes], argv: Sequence[str], *, deadline: Deadline, stdin: bytes | None,
           log: Path | None, on_line: Callable[[str], None] | None, guard: Guard | None) -> tuple[str, str]:
    """Take all a child says until it has ended; (standard output or the last lines of both, standard error)."""
    def tick() -> float:
        if deadline.expired:
            raise DeadlineExpired(f"{shlex.join(argv)}: still running after {deadline.budget:g} s")
        return min(deadline.remaining, guard.look(child.pid) if guard else deadline.remaining)

    most = guard.most_output if guard else None
    full = guard.overflow if guard else lambda: None
    feed = (child.stdin, stdin) if child.stdin is not None and stdin is not None else None
    assert child.stdout is not None
    if child.stderr is None:
        with log.open("ab") if log else contextlib.nullcontext() as sink:
            lines = pipes.Lines(sink, on_line, most, full)
            pipes.drain({child.stdout: lines}, feed, tick)
        said = (lines.tail, "")
    else:
        kept = pipes.Bounded(most, full), pipes.Bounded(most, full)
        pipes.drain(dict(zip((child.stdout, child.stderr), kept, strict=True)), feed, tick)
        said = (kept[0].data.decode(errors="replace"), kept[1].data.decode(errors="replace"))
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(tick())
            return said
