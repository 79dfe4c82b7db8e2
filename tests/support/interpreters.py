"""The interpreters of this machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def base_interpreter() -> str:
    """Return the interpreter that the environment of whoever asks was made from."""
    return os.path.realpath(sys.executable)


def other_interpreter() -> str:
    """Return a CPython of another minor version, at least 3.9."""
    for minor in range(13, 8, -1):
        found = interpreter(f"3.{minor}") if minor != sys.version_info.minor else None
        if found:
            return found
    raise LookupError("the tests need a second CPython (3.9 to 3.13), from pyenv or on PATH")


def interpreter(version: str) -> str | None:
    """Return the path of a CPython of this version, from pyenv or else from PATH; None if there is none."""
    if os.name == "nt":  # where no name has a version
        own = version == f"{sys.version_info.major}.{sys.version_info.minor}"
        return os.path.realpath(getattr(sys, "_base_executable", sys.executable)) if own else None
    root = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    installed = sorted(Path(root).glob(f"versions/{version}.*/bin/python{version}"))
    found = str(installed[-1]) if installed else shutil.which(f"python{version}")
    return os.path.realpath(found) if found else None
