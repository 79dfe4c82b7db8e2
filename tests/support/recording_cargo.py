"""A cargo that writes down how it was called, and what the real cargo compiled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .interpreters import base_interpreter

_RECORDER = """\
#!{python} -IS
import os, sys
if {only_compiling} and not {{"build", "rustc"}}.intersection(sys.argv[1:4]):
    os.execv({cargo!r}, [{cargo!r}, *sys.argv[1:]])
import json, re, subprocess
process = subprocess.Popen([{cargo!r}, *sys.argv[1:]], stderr=subprocess.PIPE)
units = []
for line in process.stderr:
    sys.stderr.buffer.write(line)
    sys.stderr.buffer.flush()
    plain = re.sub(r"\\x1b\\[[0-9;]*m", "", line.decode(errors="replace"))
    found = re.match(r"\\s*Compiling (\\S+ v.*)", plain)
    if found:
        units.append(found[1])
status = process.wait()
call = dict(
    arguments=sys.argv[1:], environment=dict(os.environ), folder=os.getcwd(), units=units, status=status
)
with open({log!r}, "a") as log:
    log.write(json.dumps(call) + "\\n")
sys.exit(status if status >= 0 else 128 - status)
"""


@dataclass(frozen=True)
class RecordedCall:
    """One call of cargo, as the recording cargo saw it.

    *units* is what cargo said of each crate that it compiled: its name, its version, its path if it
    is local. *folder* is the working directory.
    """

    arguments: tuple[str, ...]
    environment: dict[str, str]
    folder: str
    units: tuple[str, ...]
    status: int

    @property
    def compiled(self) -> tuple[str, ...]:
        """The names of the crates that cargo compiled."""
        return tuple(unit.split()[0] for unit in self.units)

    @property
    def compiles(self) -> bool:
        """Whether it is a call that could compile something."""
        return any(argument in ("build", "rustc") for argument in self.arguments[:3])


class RecordingCargo:
    """An executable in its own folder, and the log of its calls.

    *python* is what runs it. *only_compiling*: calls that compile nothing are handed on at once, and
    not recorded.
    """

    def __init__(
        self,
        executable: Path,
        real_cargo: str,
        python: str | None = None,
        *,
        only_compiling: bool = False,
    ) -> None:
        self.executable = executable
        self._log = executable.parent / "calls.jsonl"
        executable.parent.mkdir(parents=True, exist_ok=True)
        text = _RECORDER.format(
            python=python or base_interpreter(),
            cargo=real_cargo,
            log=str(self._log),
            only_compiling=only_compiling,
        )
        executable.write_text(text)
        executable.chmod(0o755)

    def take_calls(self) -> list[RecordedCall]:
        """Return the calls since the last time, oldest first."""
        if not self._log.exists():
            return []
        lines = self._log.read_text().splitlines()
        self._log.unlink()
        calls = map(json.loads, lines)
        return [
            RecordedCall(**{**call, "arguments": tuple(call["arguments"]), "units": tuple(call["units"])})
            for call in calls
        ]
