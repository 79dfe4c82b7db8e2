"""Where things are in an environment, and how that differs between POSIX and Windows.

Pure functions over names; *windows* selects the flavour (default: this system's). Sources: PEP 405,
and ``sysconfig``'s schemes ``posix_venv`` and ``nt_venv``.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

WINDOWS = os.name == "nt"


def paths(windows: bool = WINDOWS) -> ModuleType:
    """Return the module for paths of that flavour; ``os.path`` is one of the two."""
    if windows:
        import ntpath

        return ntpath
    import posixpath

    return posixpath


def scripts(windows: bool = WINDOWS) -> str:
    """Return the name of the folder that holds an environment's interpreter and scripts."""
    return "Scripts" if windows else "bin"


def interpreter(root: str, windows: bool = WINDOWS) -> str:
    """Return the path of the interpreter of the environment at *root*."""
    found: str = paths(windows).join(root, scripts(windows), "python.exe" if windows else "python")
    return found


def is_the_one(python: str, windows: bool = WINDOWS) -> bool:
    """Tell whether *python*, an interpreter of an environment, is the same as that of `interpreter`.

    On Windows, ``python_d.exe`` beside it may be a debug build (venv before 3.13 copies both).
    """
    return not windows or paths(windows).basename(python).lower() == "python.exe"


def is_interpreter(name: str) -> bool:
    """Tell whether *name*, in ``bin``, is one of the interpreter's: python, python3.11, pypy3…

    A version may end in ABI flags (``t`` free-threaded, ``d`` debug), and each name in what Debian
    calls its debug builds (``-dbg``) and CPython the Intel half of a universal one (``-intel64``).
    """
    stem = "pypy" if name.startswith("pypy") else "python"
    version = name[len(stem) :] if name.startswith(stem) else "-"
    for ending in ("-dbg", "-intel64"):
        if version.endswith(ending):
            version = version[: -len(ending)]
            break
    if version[:1].isdigit():
        version = version.removesuffix("d").removesuffix("t")
    numbers = version.split(".")
    return not version or (len(numbers) <= 3 and all(it.isascii() and it.isdigit() for it in numbers))


def site_packages(library: str, windows: bool = WINDOWS) -> str:
    """Return the path of site-packages below an environment, with ``/``.

    *library* is the name of the interpreter's folder under ``lib``: ``python3.11``, ``pypy3.11``.
    """
    return "Lib/site-packages" if windows else f"lib/{library}/site-packages"


def same_folder(one: str, other: str, windows: bool = WINDOWS) -> bool:
    """Tell whether two paths lead to the same folder; an empty one leads nowhere."""
    return bool(one) and resolved(one, windows) == resolved(other, windows)


def is_entry_for(entry: str, folder: str, windows: bool = WINDOWS) -> bool:
    """Tell whether an entry of ``PATH`` leads to *folder*.

    On Windows, only one with the same last name is looked at: for a share that is gone, that takes long.
    """
    entry, module = entry.strip('"'), paths(windows)
    ends = [module.normcase(module.basename(module.normpath(it))) for it in (entry, folder)]
    return (not windows or ends[0] == ends[1]) and same_folder(entry, folder, windows)


def resolved(path: str, windows: bool = WINDOWS) -> str:
    """Return where *path* leads, in a form that all paths to that place have in common."""
    found: str = paths(windows).normcase(paths(windows).realpath(path))
    return found
