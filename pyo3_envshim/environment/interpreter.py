"""Finds an environment's base interpreter, and the files that make it what it is.

Never runs an interpreter: everything is read from the file system.
"""

from __future__ import annotations

import os

from pyo3_envshim import _startup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def environment_of(python: str) -> str | None:
    """Return the root of the environment that the interpreter *python* belongs to, or None.

    An environment has a ``pyvenv.cfg`` in the folder above the interpreter's (PEP 405). *python*
    is an absolute path and is not resolved: an environment's scripts contain the path as the
    front end spelled it.
    """
    if not os.path.isabs(python) or not os.path.isfile(python) or not os.access(python, os.X_OK):
        return None
    root = os.path.dirname(os.path.dirname(os.path.normpath(python)))
    return root if os.path.isfile(os.path.join(root, "pyvenv.cfg")) else None


def base_of(root: str) -> str | None:
    """Return the path of the interpreter that the environment at *root* was made from, or None.

    The path's folder is the one that the environment names, because it decides
    ``sys.base_prefix``. The file's own name is resolved, because front ends link to ``python``,
    ``python3`` or ``python3.x`` as they like.
    """
    base = _startup.base_interpreter(root)
    if base is None:
        return None
    folder, target = os.path.dirname(base), os.path.realpath(base)
    beside = os.path.join(folder, os.path.basename(target))
    return beside if os.path.realpath(beside) == target else base


def state_of(python: str) -> str:
    """Return the state of the interpreter at the path *python*, and of what makes it what it is.

    Another one at that path, or the same one built anew, has another. "" where that cannot be told: of what
    is not there, is a script, which may start any (pyenv's shims), or cannot be read, as what Microsoft
    Store has on PATH. Raises OSError.
    """
    if not os.path.isabs(python) or not os.path.isfile(python):
        return ""
    try:
        with open(python, "rb") as file:
            is_script = file.read(2) == b"#!" or python.lower().endswith((".bat", ".cmd"))
    except OSError:
        return ""
    if is_script:
        return ""
    root = environment_of(python)
    base = (root and base_of(root)) or python
    above = os.path.dirname(os.path.dirname(os.path.realpath(base)))
    parts = {os.path.realpath(base)}
    libraries = [""] if os.name == "nt" else []
    for place in ("lib", "lib64"):
        folder = os.path.join(above, place)
        libraries += _files(folder, lambda name: name.startswith("py"), os.path.isdir)
    for library in libraries:
        parts.update(parts_of(base, os.path.basename(library)) or ())
    found = ((path, os.stat(path)) for path in sorted(parts))
    return "".join(f"{path} {at.st_ino} {at.st_size} {at.st_mtime_ns}\n" for path, at in found)


# Where, below Python.framework/Versions/3.x, a framework build (macOS) has its library and the
# program that bin/python3.x starts (CPython, Mac/Tools/pythonw.c). Never run there yet.
FRAMEWORK = ("", "Resources/Python.app/Contents/MacOS")


def parts_of(base: str, library: str, windows: bool = os.name == "nt") -> list[str] | None:
    """Return the files that make the base interpreter *base* what it is, or None if in doubt.

    They are the executable; the shared library, where the executable is only a stub;
    ``_sysconfigdata``, which tells build scripts how it was built (not on Windows); and
    ``patchlevel.h``, which tells its version. The standard library is not looked at. *library* is
    the name of its folder under ``lib`` (``python3.11``, ``pypy3.11``).
    """
    found: list[str] = [os.path.realpath(base)]
    data: list[str] = []
    if windows:  # python.exe, its DLLs and the headers' folder are siblings
        folder = os.path.dirname(found[0])
        found += _files(folder, lambda it: it.lower().startswith("python") and it.lower().endswith(".dll"))
        found += _files(os.path.join(folder, "include"), lambda name: name == "patchlevel.h")
        return found if len(found) > 1 else None
    # getpath looks for the prefix upwards from the executable, as it is called and as it resolves.
    prefixes = {os.path.dirname(os.path.dirname(path)) for path in (base, found[0])}
    for prefix in sorted(prefixes):
        for place in ("lib", "lib64"):  # sys.platlibdir
            folder = os.path.join(prefix, place, library)
            data += _files(folder, lambda name: name.startswith("_sysconfigdata") and name.endswith(".py"))
        for place in ("lib", "lib64", "bin"):
            found += _files(os.path.join(prefix, place), lambda name: _is_shared_library(name, library))
        for place in FRAMEWORK:
            found += _files(os.path.join(prefix, place), lambda name: name == "Python")
        found += _files(os.path.join(prefix, "include", library), lambda name: name == "patchlevel.h")
    return found + data if data else None


def _is_shared_library(name: str, library: str) -> bool:
    return name.startswith("lib" + library) and (".so" in name or name.endswith(".dylib"))


def _files(
    folder: str, wanted: Callable[[str], bool], is_one: Callable[[str], bool] = os.path.isfile
) -> list[str]:
    try:
        names = sorted(filter(wanted, os.listdir(folder)))
    except OSError:
        return []
    return [path for path in (os.path.join(folder, name) for name in names) if is_one(path)]
