"""A daemon that a build starts and that outlives it, with all files open that it has inherited."""

from __future__ import annotations

import os
import signal
from pathlib import Path

_PROGRAM = """\
import os, signal, sys
ready, said = os.pipe()
if os.fork():
    os.read(ready, 1)
    os._exit(0)
os.setsid()
null = os.open(os.devnull, os.O_RDWR)
for number in (0, 1, 2):
    os.dup2(null, number)
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
os.write(said, b".")
signal.pause()
"""


class Daemon:
    """A *program* for a Python to run, with the argument *note*; it ends when the daemon is there."""

    def __init__(self, folder: Path) -> None:
        self.program, self.note = folder / "daemon.py", folder / "daemon.pid"
        self.program.write_text(_PROGRAM)

    def lives(self) -> bool:
        """Tell whether it was started and lives."""
        os.kill(int(self.note.read_text()), 0)
        return True

    def end(self) -> None:
        """End it, if it was started."""
        if self.note.exists():
            os.kill(int(self.note.read_text()), signal.SIGKILL)
