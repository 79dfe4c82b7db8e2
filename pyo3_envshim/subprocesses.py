"""Runs a program in the middle of a chain: signals, exit status and streams are as without us.

Imports are late: becoming another program needs none of them.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import ModuleType


def run_and_wait(program: str, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run *program* and return its exit status; an interruption reaches it too, and is left to it."""
    import signal
    import subprocess

    signal.signal(signal.SIGINT, lambda number, frame: None)
    _prepare()
    return ended(subprocess.Popen([program, *arguments], env=environ))


def _prepare() -> None:
    """Import what binds a process to this one, so that it is not unbound for long."""
    if os.name == "nt":
        _windows()


def _windows() -> ModuleType | None:
    """Return `windows`; None where there is no ctypes, as in conda's Python where nothing activated it."""
    try:
        from pyo3_envshim import windows
    except (ImportError, OSError, AttributeError):
        return None
    return windows


def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for *process* and return its exit status. On Windows, it ends if this process is ended."""
    if os.name != "nt":
        return process.wait()
    windows = _windows()
    job = windows.end_together(process) if windows else None
    status = process.wait()
    if windows:
        windows.let_live(job)
    return as_status(status)


def as_status(status: int) -> int:
    """Return an exit status of Windows, which has no sign, as `sys.exit` takes it: 0xC0000005, say."""
    return status - (1 << 32) if status >= 1 << 31 else status


def started(
    command: Sequence[str],
    environ: Mapping[str, str],
    stdout: int | None = None,
    stderr: int | None = None,
    in_child: Callable[[], object] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that gets the signals meant for this one, which goes on to wait for it.

    A terminal sends SIGINT and SIGQUIT to both. On POSIX, *in_child* is called in the process first.
    Windows has a console's interruption only.
    """
    import signal
    import subprocess

    _prepare()
    running: list[subprocess.Popen[bytes]] = []
    from_terminal = [signal.SIGINT] if os.name == "nt" else [signal.SIGINT, signal.SIGQUIT]

    def forward(number: int, _: object) -> None:
        for process in running:
            if number not in from_terminal:
                process.send_signal(number)

    for number in [*from_terminal, *([] if os.name == "nt" else [signal.SIGTERM, signal.SIGHUP])]:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, forward)
    # Inheritable descriptors stay inheritable: make's job server is one.
    process = subprocess.Popen(
        command,
        env=environ,
        stdout=stdout,
        stderr=stderr,
        close_fds=False,
        preexec_fn=None if os.name == "nt" else in_child,  # no other thread runs here
    )
    running.append(process)
    return process


def end_as(status: int) -> int:
    """End by the signal that ended a process, if *status* says so; else return *status*."""
    import signal

    if status < 0 and os.name != "nt":
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def running(paths: Iterable[str]) -> str | None:
    """Return what shows that a program at one of *paths* runs: on Windows it, on Linux a link to it."""
    if os.name == "nt":  # where nobody may write to a program that runs, but rename it
        for path in filter(os.path.isfile, paths):
            try:
                os.close(os.open(path, os.O_RDWR))
            except PermissionError:
                return path
        return None
    programs = {_identity(path) for path in paths} - {None}
    processes = os.listdir("/proc") if programs and os.path.isdir("/proc") else ()
    links = (f"/proc/{it}/exe" for it in processes)
    return next((it for it in links if _identity(it) in programs), None)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:  # no process, one that has ended, or another user's
        return None
    return found.st_dev, found.st_ino
