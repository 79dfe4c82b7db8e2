"""The startup hook, which runs in processes that may take part in a build.

Must never raise, print, or import anything but ``os`` and ``sys``.

Reads: ``PYO3_ENVSHIM``; the variables in `MARKERS` and `BUILD_SCRIPT`; ``PYTHONPATH``;
``sys.orig_argv``; the ``pyvenv.cfg`` of this environment; the first line of the wrapper's script,
on Windows the program.

Sets, in the process that runs a build back end's hook, if it is in an environment:
  ``PYO3_BASE_PYTHON``       this environment's base interpreter, if unset or ours
  ``PYO3_ENVSHIM_BASE``      the same value, by which we later recognise it as ours
  ``CARGO``                  the wrapper
  ``PYO3_ENVSHIM_CARGO``     the previous ``CARGO``, if there was one
and in a front end's own process only the last two.

Leaves alone: a ``PYO3_BASE_PYTHON`` that is not ours, a ``CARGO`` that is a wrapper of ours
already, and every other process.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence
    from typing import Optional

    Changes = dict[str, Optional[str]]

# The programs and modules that front ends are started as, and the variables that they set around a
# build back end's hook. `python hatch_build.py` writes both lines from environment/frontends.py.
_PROGRAMS = "pip __pip-runner__ build pyproject-build uv pdm poetry hatch tox nox pipx pre-commit pre_commit cibuildwheel"  # noqa: E501
_MARKERS = "_PYPROJECT_HOOKS_BUILD_BACKEND PEP517_BUILD_BACKEND UV_INTERNAL__BUILD_DIR"
PROGRAMS, MARKERS = frozenset(_PROGRAMS.split()), tuple(_MARKERS.split())

WRAPPER = "pyo3-envshim-cargo"
# What the folder is called whose `cargo` is the wrapper (`pyo3-envshim env --path`).
ON_PATH = "pyo3-envshim-path-"
# What cargo sets for a build script (cargo 1.95). For a program of `cargo run` it sets OUT_DIR only,
# if its package has a build script; and `cargo xtask`, say, may start a build.
BUILD_SCRIPT = ("OUT_DIR", "HOST", "TARGET", "NUM_JOBS")


def mode(environ: Mapping[str, str]) -> str:
    """Return what ``PYO3_ENVSHIM`` asks for: ``"on"``, ``"base"`` or ``"off"``.

    Where it is not set, the user's switch decides. An unknown value means ``"on"``, and the
    wrapper warns about it.
    """
    value = environ.get("PYO3_ENVSHIM", "").strip().lower()
    if value in ("off", "0", "no", "false"):
        return "off"
    if not value and os.path.exists(switch()):
        return "off"
    return "base" if value == "base" else "on"


def switch(platform: str = sys.platform) -> str:
    """Return the path of the file that switches all of this off for the user, if it exists.

    ``pyo3-envshim off`` creates it, beside the default store. Only the home folder decides where:
    front ends such as tox pass on no other variable.
    """
    folders = {"darwin": "Library/Caches", "win32": "AppData/Local"}
    home = os.path.expanduser("~")
    return os.path.join(home, folders.get(platform, ".cache"), "pyo3-envshim", "switched-off")


def run() -> None:
    """Change this process's environment variables as this module's docstring says."""
    try:
        apply(changes(os.environ, _argv()), os.environ)
    except Exception:  # better a build without us than a Python that does not start
        pass


def apply(changes: Changes, environ: MutableMapping[str, str]) -> None:
    """Carry out *changes* on *environ*."""
    for name, value in changes.items():
        if value is not None:
            environ[name] = value
        elif name in environ:
            del environ[name]


def changes(environ: Mapping[str, str], argv: Sequence[str]) -> Changes:
    """Return the variables to set in a process, or, where the value is None, to remove.

    *argv* is this interpreter's command line, including its options.
    """
    program = program_of(argv)
    if program in (WRAPPER, "cargo"):  # decides for itself; it only needs to find this package
        return {}
    wanted = mode(environ)
    if wanted == "off":
        return {}
    if program in PROGRAMS:
        # It may build for any interpreter, so name none, and take back the one that a parent named.
        found = with_wrapper(environ, startable(wrapper())) if wanted == "on" else {}
        if base_is_ours(environ):
            found.update({"PYO3_BASE_PYTHON": None, "PYO3_ENVSHIM_BASE": None})
        return found
    if not any(marker in environ for marker in MARKERS) or all(name in environ for name in BUILD_SCRIPT):
        return {}  # not a build, or a Python that one of cargo's build scripts started
    inside = sys.prefix != sys.base_prefix
    found = {}
    if wanted == "on" and (inside or _overlaid(environ)):
        found.update(with_wrapper(environ, startable(wrapper())))
    if base_is_ours(environ) or (inside and not environ.get("PYO3_BASE_PYTHON")):
        base = base_interpreter(sys.prefix, getattr(sys, "_base_executable", None)) if inside else None
        found.update({"PYO3_BASE_PYTHON": base, "PYO3_ENVSHIM_BASE": base})
    return found


def with_wrapper(environ: Mapping[str, str], wrapper: str | None) -> Changes:
    """Return the changes that put *wrapper* (a path, or None if not found) in front of cargo.

    None where the user's own ``CARGO`` is not called cargo: back ends ask what it is called, and
    map paths for cross (setuptools-rust 1.13, maturin 1.16).
    """
    present = environ.get("CARGO", "")
    if not wrapper or (is_wrapper(present) and os.path.exists(present)):
        return {}
    if is_wrapper(present):  # it is gone
        return {"CARGO": by_way_of(environ.get("PYO3_ENVSHIM_CARGO", ""), wrapper)}
    if not present:
        return {"CARGO": wrapper}
    if has_other_name(present):
        return {}
    return {"CARGO": by_way_of(present, wrapper), "PYO3_ENVSHIM_CARGO": present}


def has_other_name(cargo: str) -> bool:
    """Tell whether *cargo*, the value of ``CARGO``, is called neither cargo (in any case) nor as we are."""
    called = os.path.basename(cargo).lower()
    return bool(cargo) and called not in ("cargo", "cargo.exe") and not is_wrapper(cargo)


def by_way_of(own: str, wrapper: str) -> str:
    """Return a path of *wrapper* that names the folder of *own*: ``/opt/x/./../../env/…``.

    A back end may start cargo without our variables (setuptools-rust: ``RustExtension(env=…)``);
    the wrapper's own path is then all that tells which cargo the user chose (`own_cargo`).
    """
    if os.name != "posix" or not os.path.isabs(own):
        return wrapper
    folder = os.path.dirname(own)
    path = folder + "/." + "/.." * os.path.realpath(folder).count("/") + wrapper
    return path if os.path.exists(path) else wrapper


def own_cargo(path: str) -> str | None:
    """Return the user's cargo that *path*, the wrapper's, names (`by_way_of`), or None."""
    folder, named, _ = path.rpartition("/./../")
    return os.path.join(folder, "cargo") if named else None


def wrapper(windows: bool = os.name == "nt") -> str | None:
    """Return the path of this package's installed wrapper, or None.

    Installers put scripts beside the interpreter, or, for ``--user`` and overlays, into a folder
    at a fixed place relative to site-packages (``sysconfig``'s schemes).
    """
    site = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for folder in script_folders(site, os.path.dirname(sys.executable or ""), windows):
        path = os.path.join(folder, WRAPPER + (".exe" if windows else ""))
        if _is_program(path, windows):
            return path
    return None


def startable(wrapper: str | None) -> str | None:
    """Return *wrapper*, or None if it may be unable to start in what a front end starts.

    pip's default isolation hides the user's site-packages (``PYTHONNOUSERSITE``): what lies there is found
    only by a script that `launcher` has rewritten.
    """
    user = getattr(sys.modules.get("site"), "USER_SITE", None)
    site = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    is_users = user and os.path.realpath(user) == os.path.realpath(site)
    return None if wrapper and is_users and not _first_line(wrapper).endswith(b" -IS") else wrapper


def _is_program(path: str, windows: bool = os.name == "nt") -> bool:
    """Tell whether *path* can be run: the interpreter of a script is gone if the environment was moved."""
    if not (os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK)):
        return False
    try:
        if windows:
            python = _started_by(path)
            return not python or os.path.isfile(python)
        line = _first_line(path)
    except OSError:
        return False
    return line[:2] != b"#!" or any(map(os.path.exists, line[2:].split()[:1]))


def _started_by(launcher: str) -> str:
    """Return the interpreter that a launcher of Windows starts, or "" if it names none by its path.

    pip's has a first line of a script in it, uv's a resource: the last absolute path that ends in .exe.
    """
    with open(launcher, "rb") as file:
        data = file.read()
    end = len(data)
    while (end := data.rfind(b".exe", 0, end)) >= 0:
        start = max(data.rfind(mark, 0, end) + len(mark) for mark in (b"#!", b'"', b"\0", b"\n"))
        try:
            path = os.fsdecode(data[start : end + 4])
        except ValueError:
            continue
        if os.path.isabs(path):
            return path
    return ""


def _first_line(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 1000).partition(b"\n")[0]
    finally:
        os.close(file)


def script_folders(site: str, beside: str, windows: bool) -> list[str]:
    """Return the folders that may hold the scripts of what is in *site*, the likeliest first."""
    up = os.path.dirname
    if os.path.basename(site) not in ("site-packages", "dist-packages"):
        relative = []  # a checkout: what lies above it may be anyone's
    elif windows:  # <prefix>\Lib\site-packages, or …\Python311\site-packages for --user
        relative = [os.path.join(up(up(site)), "Scripts"), os.path.join(up(site), "Scripts")]
    else:
        relative = [os.path.join(up(up(up(site))), "bin")]
    return [*relative, beside]


def base_interpreter(
    prefix: str, announced: str | None = None, windows: bool = os.name == "nt"
) -> str | None:
    """Return the path of the base interpreter of the environment at *prefix*, or None.

    *announced* is ``sys._base_executable``, if this process runs in the environment. It is right
    on CPython 3.11 and later. Before that, and on PyPy, it is the environment's own python, and
    ``pyvenv.cfg`` decides (PEP 405): ``home`` is the folder, on which ``sys.base_prefix``
    depends; ``base-executable`` (virtualenv) and ``executable`` (venv since 3.11) are the
    resolved file. Never returns a path inside an environment, or one that does not exist.
    """
    for _ in range(8):  # on 3.9 and 3.10, an environment made from an environment names that one
        config = read_config(prefix)
        home = config.get("home")
        told = [config.get("base-executable"), config.get("executable")]
        name, copied = (_name_on_windows(prefix), False) if windows else _name_of_interpreter(prefix)
        # A folder may hold several interpreters, so first try the names that say which one. A
        # copied interpreter announces only its own name in the home folder.
        sure = [name, *map(os.path.basename, filter(None, told))]
        vague = ["python3", "python", "pypy3", "python.exe"]
        candidates = [None if copied else announced]
        candidates += [os.path.join(home, name) for name in sure if home and name]
        candidates += [*told, announced, *(os.path.join(home, name) for name in vague if home)]
        outside = [c for c in candidates if c and os.path.isfile(c) and not _inside(c, prefix)]
        if not outside:
            return None
        base = os.path.normpath(outside[0])
        above = os.path.dirname(os.path.dirname(base))
        if not os.path.exists(os.path.join(above, "pyvenv.cfg")):
            return base
        prefix, announced = above, None
    return None


def read_config(prefix: str) -> dict[str, str]:
    """Return the keys, in lower case, and values of the ``pyvenv.cfg`` of the environment at *prefix*.

    Returns {} if it cannot be read or gives a key two values, of which getpath takes the first
    and site the last.
    """
    try:
        with open(os.path.join(prefix, "pyvenv.cfg"), encoding="utf-8") as file:
            pairs = [line.partition("=") for line in file]
    except (OSError, ValueError):
        return {}
    given = {(key.strip().lower(), value.strip()) for key, equals, value in pairs if equals}
    found = dict(given)
    return found if len(found) == len(given) else {}


def program_of(argv: Sequence[str]) -> str:
    """Return the program or module that an interpreter runs, without version or extension.

    ``["python", "-Im", "pip"]`` and ``["python", "/usr/bin/pip3.11"]`` give ``"pip"``; ``-c`` and
    an interactive interpreter give ``""``. The options that take a value are those of CPython
    3.15's ``python --help``.
    """
    rest = iter(argv[1:])
    for argument in rest:
        if not argument.startswith("-") or argument == "-":
            return _plain_name(argument)
        if argument.startswith("--"):
            if argument == "--check-hash-based-pycs":
                next(rest, None)
            continue
        for position, letter in enumerate(argument[1:], 2):
            value = argument[position:]
            if letter == "c":
                return ""
            if letter == "m":
                return (value or next(rest, "")).partition(".")[0]
            if letter in "WX":
                if not value:
                    next(rest, None)
                break
    return ""


def _plain_name(script: str) -> str:
    folder, name = os.path.split(script.rstrip("/" + os.sep))
    if name == "__main__.py":
        name = os.path.basename(folder)
    if os.name == "nt":  # whoever finds a program there takes the ending from PATHEXT: pip.EXE
        name = name.lower()
    for ending in (".exe", ".py", ".pyz", ".pyw", "-script"):
        if name.endswith(ending):
            name = name[: -len(ending)]
    return name.rstrip("0123456789.") if name.startswith("pip") else name


def _argv() -> Sequence[str]:
    argv = getattr(sys, "orig_argv", None)
    if argv is None:  # CPython 3.9, whose sys.argv names neither the interpreter nor a module yet
        try:
            with open("/proc/self/cmdline", "rb") as file:
                argv = [os.fsdecode(part) for part in file.read().split(b"\0")[:-1]]
        except OSError:
            argv = [sys.executable, *getattr(sys, "argv", [])]
    return argv


def base_is_ours(environ: Mapping[str, str]) -> bool:
    """Tell whether this package set ``PYO3_BASE_PYTHON``, here or in a parent process."""
    base = environ.get("PYO3_BASE_PYTHON")
    return bool(base) and base == environ.get("PYO3_ENVSHIM_BASE")


def is_wrapper(path: str) -> bool:
    """Tell by its name whether *path* is a wrapper of ours."""
    return os.path.basename(path).startswith(WRAPPER)


def is_on_path(folder: str) -> bool:
    """Tell by its name whether *folder*, an entry of ``PATH``, is the one whose ``cargo`` is the wrapper."""
    return os.path.basename(folder.rstrip(os.sep)).startswith(ON_PATH)


def _overlaid(environ: Mapping[str, str]) -> bool:
    """Tell whether a front end overlays this interpreter instead of making an environment.

    pip's default isolation and pdm put a folder with a ``sitecustomize.py`` on ``PYTHONPATH``. It hides
    the site-packages that the wrapper may lie in; the package that this process has imported stays.
    """
    folders = environ.get("PYTHONPATH", "").split(os.pathsep)
    return any(f and os.path.exists(os.path.join(f, "sitecustomize.py")) for f in folders)


def _name_of_interpreter(prefix: str) -> tuple[str, bool]:
    """Return the name that the environment's python has in its base, or "", and whether it is a copy."""
    path = os.path.realpath(os.path.join(prefix, "bin", "python"))
    if not _inside(path, prefix):
        return os.path.basename(path), False
    try:  # the folder of its packages is named after it
        versions = [name for name in os.listdir(os.path.join(prefix, "lib")) if name.startswith("py")]
    except OSError:
        versions = []
    return (versions[0], True) if len(versions) == 1 else ("", False)


def _name_on_windows(prefix: str) -> str:
    """Return the name that a free-threaded environment's python has in its base, or "".

    A python.exe beside it is another (python.org's installer), and uv's pyvenv.cfg names neither.
    """
    try:
        names = [name for name in os.listdir(os.path.join(prefix, "Scripts")) if name.startswith("python3.")]
    except OSError:
        return ""
    return next((name for name in names if name.endswith("t.exe")), "")


def _inside(path: str, folder: str) -> bool:
    """Tell whether *path* lies in *folder*; the last part of *path* is not resolved."""
    parent, name = os.path.split(path)
    path = os.path.normcase(os.path.join(os.path.realpath(parent), name))
    folder = os.path.normcase(os.path.realpath(folder))
    return path.startswith(os.path.join(folder, ""))
