"""Runs a program in the middle of a chain: signals, exit status and streams are as without us.

Imports are late: becoming another program needs none of them.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence


def run_and_wait(program: str, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run *program* and return its exit status; an interruption reaches it too, and is left to it."""
    import signal
    import subprocess

    signal.signal(signal.SIGINT, lambda number, frame: None)
    return subprocess.run([program, *arguments], env=environ, check=False).returncode


def started(
    command: Sequence[str],
    environ: Mapping[str, str],
    stdout: int | None = None,
    stderr: int | None = None,
    in_child: Callable[[], object] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that gets the signals meant for this one, which goes on to wait for it.

    A terminal sends SIGINT and SIGQUIT to both. On POSIX, *in_child* is called in the process first.
    """
    import signal
    import subprocess

    running: list[subprocess.Popen[bytes]] = []

    def forward(number: int, _: object) -> None:
        for process in running:
            if number not in (signal.SIGINT, signal.SIGQUIT):
                process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
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

    if status < 0:
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status
