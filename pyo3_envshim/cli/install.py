"""``pyo3-envshim install`` and ``uninstall``: switch the shim on for all environments of an interpreter.

A ``sitecustomize.py`` in the interpreter's standard library runs the startup hook in each of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import NamedTuple

from pyo3_envshim import _startup, files
from pyo3_envshim.cli.errors import CommandError

SITECUSTOMIZE = "sitecustomize.py"
BEFORE = "sitecustomize-before-pyo3-envshim.py"  # another owner's file, which ours runs
_MARK = "# pyo3-envshim: written by"  # how our file begins
# What the interpreter is asked for. The marker of PEP 668 lies in the same folder.
_PROBE = """\
import json, os, sys, sysconfig
print(json.dumps([sysconfig.get_path("stdlib"), sys.version.split()[0]]))
"""


class Installed(NamedTuple):
    """What `install` wrote for an interpreter, and whether the package that it names is there."""

    path: str
    is_whole: bool


def install(python: str, chain: bool = False, force: bool = False, dry_run: bool = False) -> str:
    """Switch the shim on for every environment made from the interpreter *python*.

    With *chain*, another owner's ``sitecustomize.py`` is kept, and ours runs it; with
    *force*, even an externally managed interpreter (PEP 668) is changed. Returns one line
    that says what was (with *dry_run*: would be) done. Raises `CommandError`.
    """
    folder, version = _standard_library(python)
    path, before = os.path.join(folder, SITECUSTOMIZE), os.path.join(folder, BEFORE)
    content = _sitecustomize()
    present = read_text(path)
    if present == content:
        return f"already installed: {path}"
    if os.path.exists(os.path.join(folder, "EXTERNALLY-MANAGED")) and not force:
        reason = f"{python} (Python {version}) is externally managed: {folder}/EXTERNALLY-MANAGED"
        raise CommandError(reason, "use another way in, or --force if this interpreter is yours to change")
    foreign = os.path.lexists(path) and not (present or "").startswith(_MARK)
    if foreign and not chain:
        raise CommandError(f"{path} belongs to another owner", "--chain keeps it, and runs it after ours")
    _check_writable(folder)
    done = f"installed {path} for Python {version}" + (f", which runs {before}" if foreign else "")
    if dry_run:
        return "would have " + done
    new = ""
    try:
        new = files.write_beside(path, content.encode())
        os.chmod(new, 0o644)  # other users start this interpreter too, whatever our umask
        if foreign:
            # Link before replacing, so that one of the two files is there at any moment. A
            # link that exists is stale: something, such as an upgrade, overwrote our file.
            _discard(before)
            os.link(path, before, follow_symlinks=False)
        os.replace(new, path)
    except OSError as error:
        files.remove(new)
        raise CommandError(f"{path} cannot be written: {error.strerror}", "is the folder yours?") from None
    return done


def uninstall(python: str, dry_run: bool = False) -> str:
    """Remove exactly what `install` wrote for *python*; return one line. Raises `CommandError`."""
    folder, version = _standard_library(python)
    path, before = os.path.join(folder, SITECUSTOMIZE), os.path.join(folder, BEFORE)
    if not (read_text(path) or "").startswith(_MARK):
        if os.path.lexists(before) and not dry_run:
            _discard(before)  # ours was overwritten, so nothing runs this any more
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
        raise CommandError(f"{path} cannot be removed: {error.strerror}", "is the folder yours?") from None
    return done


def installed(python: str) -> Installed | None:
    """Return what `install` wrote for *python*, or None. Raises `CommandError` if *python* does not run."""
    path = os.path.join(_standard_library(python)[0], SITECUSTOMIZE)
    text = read_text(path) or ""
    if not text.startswith(_MARK):
        return None
    line = re.search(r'^ *sitedir = (".*")', text, re.MULTILINE)
    whole = line is not None and os.path.isdir(os.path.join(json.loads(line[1]), "pyo3_envshim"))
    return Installed(path, whole)


def _standard_library(python: str) -> tuple[str, str]:
    """Return the standard-library folder of *python* (its base interpreter's) and its version."""
    try:
        command = [python, "-I", "-S", "-c", _PROBE]
        folder, version = json.loads(subprocess.check_output(command, stderr=subprocess.DEVNULL))
    except OSError as error:
        reason = f"{python} cannot be run: {error.strerror}"
    except (ValueError, subprocess.CalledProcessError):
        reason = f"{python} is not a Python that runs"
    else:
        return folder, version
    raise CommandError(reason, "--python takes the name or the path of an interpreter, such as python3.13")


def _sitecustomize() -> str:
    """Return the text of our ``sitecustomize.py``, which names the folder that holds this package."""
    package = os.path.dirname(os.path.abspath(_startup.__file__))
    template = read_text(os.path.join(package, "_sitecustomize.py.in"))
    if template is None:
        raise CommandError(f"{package} is not a whole installation", "install the wheel, not as editable")
    return template.replace('"@SITE@"', json.dumps(os.path.dirname(package), ensure_ascii=False))


def _check_writable(folder: str) -> None:
    if not os.access(folder, os.W_OK):
        raise CommandError(f"{folder} is not writable", "run this as the interpreter's owner")


def read_text(path: str) -> str | None:
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
