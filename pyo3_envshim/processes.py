"""Runs a program in the middle of a chain: signals, exit status and streams are as without us."""

from __future__ import annotations

import os
import signal
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def started(
    command: Sequence[str], environ: Mapping[str, str], stdout: int | None = None, stderr: int | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that gets the signals meant for this one, which then goes on to wait for it.

    A terminal sends the first two to both.
    """
    running: list[subprocess.Popen[bytes]] = []

    def forward(number: int, _: object) -> None:
        for process in running:
            if number not in (signal.SIGINT, signal.SIGQUIT):
                process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, forward)
    # What is inheritable stays so: make's job server is.
    process = subprocess.Popen(command, env=environ, stdout=stdout, stderr=stderr, close_fds=False)
    running.append(process)
    return process


def end_as(status: int) -> int:
    """End by the signal that ended a process, if *status* says so; else return it."""
    if status < 0:
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status
