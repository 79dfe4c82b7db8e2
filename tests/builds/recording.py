"""A cargo that writes down how it was called, and what the real cargo compiled."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

_RECORDER = """\
#!{python} -IS
import json, os, re, subprocess, sys
process = subprocess.Popen([{cargo!r}, *sys.argv[1:]], stderr=subprocess.PIPE)
compiled = []
for line in process.stderr:
    sys.stderr.buffer.write(line)
    sys.stderr.buffer.flush()
    plain = re.sub(r"\\x1b\\[[0-9;]*m", "", line.decode(errors="replace"))
    found = re.match(r"\\s*Compiling (\\S+) v", plain)
    if found:
        compiled.append(found[1])
status = process.wait()
call = dict(
    arguments=sys.argv[1:], environment=dict(os.environ), compiled=compiled, status=status
)
with open({log!r}, "a") as log:
    log.write(json.dumps(call) + "\\n")
sys.exit(status if status >= 0 else 128 - status)
"""


@dataclass(frozen=True)
class CargoCall:
    """One call of cargo, as the recording cargo saw it."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    compiled: tuple[str, ...]
    status: int

    @property
    def compiles(self) -> bool:
        """Whether it is a call that could compile something."""
        return any(argument in ("build", "rustc") for argument in self.arguments[:3])


class RecordingCargo:
    """An executable in its own folder, and the log of its calls."""

    def __init__(self, executable: Path, real_cargo: str, python: str | None = None) -> None:
        self.executable = executable
        self._log = executable.parent / "calls.jsonl"
        executable.parent.mkdir(parents=True, exist_ok=True)
        python = python or str(Path(sys.executable).resolve())
        executable.write_text(_RECORDER.format(python=python, cargo=real_cargo, log=str(self._log)))
        executable.chmod(0o755)

    def take_calls(self) -> list[CargoCall]:
        """Return the calls since the last time, oldest first."""
        if not self._log.exists():
            return []
        lines = self._log.read_text().splitlines()
        self._log.unlink()
        return [_parsed(line) for line in lines]


def _parsed(line: str) -> CargoCall:
    call = json.loads(line)
    return CargoCall(tuple(call["arguments"]), call["environment"], tuple(call["compiled"]), call["status"])


def normalised(environment: dict[str, str], names: dict[str, str]) -> dict[str, str]:
    """Return the variables with folders that differ by chance replaced by their roles."""
    result = {}
    for variable, value in environment.items():
        for folder, role in names.items():
            value = value.replace(folder, role)
        result[variable] = re.sub(r"(/build-env-|/\.tmp|/pip-[a-z-]+-)\w+", r"\1?", value)
    return result
