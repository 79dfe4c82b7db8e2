"""The ways to switch the shim on that are more than an installed package.

All of them only put the wrapper in front of cargo: ``CARGO`` names no interpreter, so it
may be inherited by a build for any.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

from pyo3_envshim import _startup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHELLS = ("sh", "fish", "powershell")


class ActivationError(Exception):
    """What was asked for cannot be done; the message says why, *hint* the way out."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that switch the shim on for what is started with *environ*.

    None, if it is on already. Raises `ActivationError` if the wrapper is not installed.
    """
    wrapper = _startup.wrapper()
    if wrapper is None:
        raise ActivationError(
            f"{_startup.WRAPPER} is not beside {sys.executable}", "reinstall pyo3-envshim with its scripts"
        )
    return {name: value for name, value in _startup.with_wrapper(environ, wrapper).items() if value}


def shell_code(found: Mapping[str, str], shell: str) -> str:
    """Return the code that sets the variables *found* in *shell* (one of `SHELLS`)."""
    lines = []
    for name, value in found.items():
        if shell == "sh":
            lines.append(f"export {name}={shlex.quote(value)}")
        elif shell == "fish":
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            lines.append(f"set -gx {name} '{quoted}'")
        else:
            quoted = value.replace("'", "''")
            lines.append(f"$env:{name} = '{quoted}'")
    return "".join(line + "\n" for line in lines)


def shell_of(environ: Mapping[str, str], windows: bool) -> str:
    """Return the shell that most likely evaluates our output."""
    if os.path.basename(environ.get("SHELL", "")) == "fish":
        return "fish"
    return "powershell" if windows and not environ.get("SHELL") else "sh"


def run(command: Sequence[str]) -> int:
    """Run *command* with the shim on; return its exit status (POSIX: become it, do not return).

    Raises `ActivationError` if it cannot be started.
    """
    environ = {**os.environ, **variables(os.environ)}
    try:
        if os.name == "nt":
            return subprocess.run(command, env=environ, check=False).returncode
        os.execvpe(command[0], list(command), environ)
    except OSError as error:
        raise ActivationError(f"{command[0]} cannot be run: {error.strerror}", "is it on PATH?") from None
