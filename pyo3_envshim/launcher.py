"""Rewrites the wrapper's installed script, so that it starts Python without its site and its variables.

What an installer writes starts a Python that obeys ``PYTHONHOME``, which may keep it from starting,
and that runs each ``.pth`` file and ``sitecustomize`` first. ``-I`` and ``-S`` end that, and save time.

Reads: the script. Writes: a file beside it, which is tried before it takes the script's place.
Leaves alone, in silence: a script that is not just what an installer wrote for this interpreter and
this user, one that would import from where others can write, and one in an environment whose content
counts: an ephemeral one, or the store's.
"""

from __future__ import annotations

import os
import sys

from pyo3_envshim import _startup, files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_OPTIONS = b" -IS"
_LONGEST_LINE = 126  # Linux before 5.1 reads 127 bytes of a first line, its end included
_TEXT = """\
# Written by pyo3-envshim over the installer's script: starts Python without its site and its variables.
import os, sys
sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
sys.pycache_prefix = os.environ.get("PYTHONPYCACHEPREFIX") or None
sys.path += {}
try:
    from pyo3_envshim.wrapper import main
except ImportError:  # the environment was moved, and only the first line with it
    import site
    site.main()
    from pyo3_envshim.wrapper import main
sys.exit(main())
"""


def isolate(environ: Mapping[str, str]) -> bool:
    """Rewrite the script of this installation, if it is an installer's; tell whether that was done."""
    try:
        path = _startup.wrapper()
        text = rewritten(path, environ) if path else None
        return path is not None and text is not None and _replace(path, text)
    except Exception:  # the installer's script does its work as well
        return False


def is_isolated(path: str) -> bool:
    """Tell whether the script at *path* is one that was rewritten."""
    try:
        with open(path, "rb") as file:
            first, second = file.readline(), file.readline()
    except OSError:
        return False
    return first.endswith(_OPTIONS + b"\n") and second == _TEXT.splitlines(keepends=True)[0].encode()


def rewritten(path: str, environ: Mapping[str, str]) -> bytes | None:
    """Return what the script at *path* is to contain, or None if it stays as it is. Raises OSError."""
    import stat

    from pyo3_envshim.environment import scripts
    from pyo3_envshim.store import ownership

    if os.name != "posix" or sys.implementation.name not in ("cpython", "pypy"):
        return None
    status = os.lstat(path)
    ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_mode & stat.S_IWUSR
    folders = _folders(environ)
    if not ours or not folders:
        return None
    with open(path, "rb") as file:
        first, _, body = file.read().partition(b"\n")
    line = first + _OPTIONS
    python = os.fsdecode(first[2:])
    if first[:2] != b"#!" or len(line) > _LONGEST_LINE or len(first.split()) != 1:
        return None
    if not _runs_us(python) or _counts(python, environ):
        return None
    if not scripts.is_generated(body, "pyo3_envshim.wrapper:main"):
        return None
    if not all(ownership.is_as_safe_as(path, folder) for folder in folders):
        return None
    return line + b"\n" + _TEXT.format(ascii(folders)).encode()


def _folders(environ: Mapping[str, str]) -> list[str]:
    """Return the folders to import from: of this package, and of platformdirs; none if they are not known.

    What is found by ``PYTHONPATH`` or in the working directory is not what is installed. In
    another locale, a name that is not ASCII would be another.
    """
    import importlib.util

    named = {os.path.abspath(folder) for folder in ["", *environ.get("PYTHONPATH", "").split(os.pathsep)]}
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    installed = {os.path.abspath(folder) for folder in sys.path} - named
    found = [own]
    spec = importlib.util.find_spec("platformdirs")
    if spec and spec.origin:
        found.append(os.path.dirname(os.path.dirname(os.path.abspath(spec.origin))))
    sure = all(it in installed and os.path.isdir(it) and it.isascii() for it in found)
    return list(dict.fromkeys(found)) if sure else []


def _runs_us(python: str) -> bool:
    """Tell whether *python* is the interpreter that runs this, in the same environment."""
    if not os.path.isabs(python) or not sys.executable or not os.path.samefile(python, sys.executable):
        return False
    return os.path.samefile(os.path.dirname(python), os.path.dirname(sys.executable))


def _counts(python: str, environ: Mapping[str, str]) -> bool:
    """Tell whether the interpreter's environment is ephemeral or stored, known by its content."""
    from pyo3_envshim.environment import frontends, interpreter
    from pyo3_envshim.store.entry import MANIFEST

    root = interpreter.environment_of(python)
    if root is None:
        return False
    return bool(frontends.maker_of(root, environ)) or os.path.lexists(os.path.join(root, MANIFEST))


def _replace(path: str, text: bytes) -> bool:
    """Put *text* in the place of the script at *path*, if it runs there. Raises OSError."""
    files.remove_unfinished(path)
    new = files.write_beside(path, text)
    try:
        old = os.stat(path)
        if os.stat(new).st_gid != old.st_gid:  # a group may be all who can run it
            os.chown(new, -1, old.st_gid)
        os.chmod(new, old.st_mode & 0o7777)
        with open(new, "rb") as file:
            os.fsync(file.fileno())  # a script that a power failure empties would run no cargo at all
        works = _runs(new)
        if works:
            os.replace(new, path)
        return works
    finally:
        files.remove(new)


def _runs(script: str) -> bool:
    """Try a script, with this Python in cargo's place: some Pythons do not start without their variables."""
    import subprocess

    null = subprocess.DEVNULL
    environ = {**os.environ, "PYO3_ENVSHIM_CARGO": sys.executable}
    done = subprocess.run(
        [script, "--version"], env=environ, stdin=null, stdout=subprocess.PIPE, stderr=null, check=False
    )
    return done.returncode == 0 and done.stdout.startswith(b"Python ")
