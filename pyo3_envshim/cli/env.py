"""``pyo3-envshim env`` and ``run``: put the wrapper in front of cargo, for a shell or one command.

They set ``CARGO``, and ``PYO3_ENVSHIM_CARGO`` where the user has a cargo of their own. Neither
names an interpreter, so builds for any interpreter may inherit them.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence

from pyo3_envshim import _startup, call, launcher
from pyo3_envshim.cli.errors import CommandError

SHELLS = ("sh", "fish", "powershell")


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that switch the shim on for processes started with *environ*.

    There are none if it is on already, or, with a warning, if ``CARGO`` has another name than cargo.
    Raises `CommandError` if the wrapper is not installed.
    """
    own = environ.get("CARGO", "")
    if _startup.has_other_name(own):
        call.warn(f"warning: CARGO={own} is not called cargo, and stays: back ends ask what it is called")
    wrapper = _startup.wrapper()
    if wrapper is None:
        reason = f"{_startup.WRAPPER} is not beside {sys.executable}"
        raise CommandError(reason, "reinstall pyo3-envshim with its scripts")
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
        else:  # PowerShell ends a string at a typographic quote as well
            quoted = value.translate({ord(quote): quote * 2 for quote in "'\u2018\u2019\u201a\u201b"})
            lines.append(f"$env:{name} = '{quoted}'")
    return "".join(line + "\n" for line in lines)


def shell_of(environ: Mapping[str, str], windows: bool) -> str:
    """Return the shell that most likely evaluates our output."""
    if os.path.basename(environ.get("SHELL", "")) == "fish":
        return "fish"
    return "powershell" if windows and not environ.get("SHELL") else "sh"


def append_for_github(found: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Switch the shim on for the following steps of a GitHub Actions job; return one line.

    Appends to the files that the runner names (GitHub's "Workflow commands"). Raises
    `CommandError` outside such a job.
    """
    found = {**found, **cache_folder(environ)}
    lines = "".join(f"{name}={value}\n" for name, value in found.items())
    scripts = os.path.dirname(_startup.wrapper() or "")
    texts = {"GITHUB_ENV": lines, "GITHUB_PATH": f"{scripts}\n"}
    for name in texts:
        if not environ.get(name):
            raise CommandError(f"{name} is not set", "--github is for a step of a GitHub Actions job")
    for name, value in found.items():
        if "\n" in value or "\r" in value:
            raise CommandError(f"{name} has a line break in it", "set CARGO to a path without one")
    for name, text in texts.items():
        path = environ[name]
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}", f"{name} names it") from None
    return f"switched on for the following steps: {' '.join(found) or 'CARGO is the wrapper already'}"


def cache_folder(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that names the cache folder, where the user's own cannot be used.

    In a container job, HOME and RUNNER_TEMP belong to the runner's user, and the steps run as root.
    """
    from pyo3_envshim.store.store import Store, StoreError

    try:
        opened = Store.open(environ)
    except (OSError, StoreError):
        return {}
    return {"PYO3_ENVSHIM_CACHE_DIR": opened.root} if opened.instead_of else {}


def run(command: Sequence[str]) -> int:
    """Run *command* with the shim on; return its exit status (POSIX: become it, do not return).

    Raises `CommandError` if it cannot be started.
    """
    import shutil

    environ = {**os.environ, **variables(os.environ)}
    launcher.isolate(os.environ)
    program = shutil.which(command[0])
    if program is None:
        raise CommandError(f"{command[0]} cannot be run: not found", "is it on PATH?")
    try:
        return call.run(program, command[1:], environ)
    except OSError as error:
        raise CommandError(f"{command[0]} cannot be run: {error.strerror}", "is it on PATH?") from None
