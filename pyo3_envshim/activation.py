"""The ways to switch the shim on that are more than an installed package.

``env`` and ``run`` only put the wrapper in front of cargo: ``CARGO`` names no
interpreter, so it may be inherited by a build for any. ``install`` gives an interpreter
a ``sitecustomize`` that runs the startup hook in every environment made from it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from pyo3_envshim import _startup, cargo

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
        else:  # PowerShell takes the typographic ones for the same
            quoted = "".join(
                letter * 2 if letter in "'\u2018\u2019\u201a\u201b" else letter for letter in value
            )
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
    `ActivationError` outside such a job.
    """
    files = {name: environ.get(name) for name in ("GITHUB_ENV", "GITHUB_PATH")}
    scripts = os.path.dirname(_startup.wrapper() or "")
    texts = {
        "GITHUB_ENV": "".join(f"{name}={value}\n" for name, value in found.items()),
        "GITHUB_PATH": f"{scripts}\n",
    }
    for name, path in files.items():
        if not path:
            raise ActivationError(f"{name} is not set", "--github is for a step of a GitHub Actions job")
    for name, value in found.items():
        if "\n" in value or "\r" in value:
            raise ActivationError(f"{name} has a line break in it", "set CARGO to a path without one")
    for name, path in files.items():
        try:
            with open(path or "", "a", encoding="utf-8") as file:
                file.write(texts[name])
        except OSError as error:
            raise ActivationError(f"{path} cannot be written: {error.strerror}", f"{name} names it") from None
    return f"switched on for the following steps: {' '.join(found) or 'CARGO is the wrapper already'}"


def run(command: Sequence[str]) -> int:
    """Run *command* with the shim on; return its exit status (POSIX: become it, do not return).

    Raises `ActivationError` if it cannot be started.
    """
    environ = {**os.environ, **variables(os.environ)}
    program = shutil.which(command[0])
    if program is None:
        raise ActivationError(f"{command[0]} cannot be run: not found", "is it on PATH?")
    try:
        return cargo.run(program, command[1:], environ)
    except OSError as error:
        raise ActivationError(f"{command[0]} cannot be run: {error.strerror}", "is it on PATH?") from None


SITECUSTOMIZE = "sitecustomize.py"
BEFORE = "sitecustomize-before-pyo3-envshim.py"  # another owner's, while ours runs it
_MARK = "# pyo3-envshim: written by"  # our file's first line
# What `install` asks the interpreter. PEP 668's marker stands in the same folder.
_PROBE = """\
import json, os, sys, sysconfig
print(json.dumps([sysconfig.get_path("stdlib"), sys.version.split()[0]]))
"""


def install(python: str, chain: bool = False, force: bool = False, dry_run: bool = False) -> str:
    """Switch the shim on for every environment made from the interpreter *python*.

    With *chain*, a ``sitecustomize.py`` of another owner is kept, and run by ours; with
    *force*, an externally managed interpreter (PEP 668) is changed all the same. Returns
    one line that says what was (with *dry_run*: would be) done. Raises `ActivationError`.
    """
    folder, version = _standard_library(python)
    path, before = os.path.join(folder, SITECUSTOMIZE), os.path.join(folder, BEFORE)
    content = _sitecustomize()
    present = read(path)
    if present == content:
        return f"already installed: {path}"
    if os.path.exists(os.path.join(folder, "EXTERNALLY-MANAGED")) and not force:
        raise ActivationError(
            f"{python} (Python {version}) is externally managed: {folder}/EXTERNALLY-MANAGED",
            "use another way in, or --force if this interpreter is yours to change",
        )
    foreign = os.path.lexists(path) and not (present or "").startswith(_MARK)
    if foreign and not chain:
        raise ActivationError(f"{path} belongs to another owner", "--chain keeps it, and runs it after ours")
    _check_writable(folder)
    done = f"installed {path} for Python {version}" + (f", which runs {before}" if foreign else "")
    if dry_run:
        return "would have " + done
    new = f"{path}.{os.getpid()}"
    try:
        with open(new, "x", encoding="utf-8") as file:
            file.write(content)
        os.chmod(new, 0o644)  # others start this interpreter too, whatever our umask
        if foreign:
            # A second name first: there is no moment without the one or the other. One
            # that is there is of before our file was overwritten, by an upgrade say.
            _discard(before)
            os.link(path, before, follow_symlinks=False)
        os.replace(new, path)
    except OSError as error:
        _discard(new)
        raise ActivationError(f"{path} cannot be written: {error.strerror}", "is the folder yours?") from None
    return done


def uninstall(python: str, dry_run: bool = False) -> str:
    """Remove exactly what `install` wrote for *python*; return one line. Raises `ActivationError`."""
    folder, version = _standard_library(python)
    path, before = os.path.join(folder, SITECUSTOMIZE), os.path.join(folder, BEFORE)
    if not (read(path) or "").startswith(_MARK):
        if os.path.lexists(before) and not dry_run:
            _discard(before)  # ours was overwritten, and nothing reads this any more
        return f"not installed: {path}"
    _check_writable(folder)
    kept = os.path.lexists(before)
    done = f"{'restored' if kept else 'removed'} {path} of Python {version}"
    if dry_run:
        return "would have " + done
    try:
        if kept:
            os.replace(before, path)
        else:
            os.unlink(path)
        cache = os.path.join(folder, "__pycache__")
        for name in os.listdir(cache) if os.path.isdir(cache) else []:
            if name.startswith((BEFORE[:-2], SITECUSTOMIZE[:-2])):
                _discard(os.path.join(cache, name))
    except OSError as error:
        raise ActivationError(f"{path} cannot be removed: {error.strerror}", "is the folder yours?") from None
    return done


def installed(python: str) -> tuple[str, bool] | None:
    """Return the path of what `install` wrote for *python*, and whether that finds a package; or None.

    Raises `ActivationError` if *python* does not run.
    """
    path = os.path.join(_standard_library(python)[0], SITECUSTOMIZE)
    text = read(path) or ""
    if not text.startswith(_MARK):
        return None
    line = re.search(r'^ *sitedir = (".*")', text, re.MULTILINE)
    return path, line is not None and os.path.isdir(os.path.join(json.loads(line[1]), "pyo3_envshim"))


def _standard_library(python: str) -> tuple[str, str]:
    """Return the standard-library folder of *python* (its base interpreter's) and its version."""
    try:
        command = [python, "-I", "-S", "-c", _PROBE]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        folder, version = json.loads(answer)
    except (OSError, ValueError, subprocess.CalledProcessError):
        raise ActivationError(f"{python} is not a Python that runs", "name one with --python") from None
    return folder, version


def _sitecustomize() -> str:
    """Return the text of our ``sitecustomize.py``, with the place of this package in it."""
    here = os.path.dirname(os.path.abspath(__file__))
    template = read(os.path.join(here, "_sitecustomize.py.in"))
    if template is None:
        raise ActivationError(f"{here} is not a whole installation", "install the wheel, not as editable")
    return template.replace('"@SITE@"', json.dumps(os.path.dirname(here), ensure_ascii=False))


def _check_writable(folder: str) -> None:
    if not os.access(folder, os.W_OK):
        raise ActivationError(f"{folder} is not writable", "run this as the interpreter's owner")


def read(path: str) -> str | None:
    """Return the text of a file, or None if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def _discard(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
