"""``pyo3-envshim env`` and ``run``: put the wrapper in front of cargo, for a shell or one command.

They set ``CARGO``, and ``PYO3_ENVSHIM_CARGO`` where the user has a cargo of their own; with ``--path``,
also ``PATH``, for what looks for cargo there. None names an interpreter, so builds for any
interpreter may inherit them.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence

from pyo3_envshim import _startup, call, files, launcher
from pyo3_envshim.cli.errors import CommandError

SHELLS = ("sh", "fish", "powershell")


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that switch the shim on for processes started with *environ*.

    There are none if it is on already, or, with a warning, if ``CARGO`` has another name than cargo.
    Raises `CommandError` if the wrapper is not installed.
    """
    own = environ.get("CARGO", "")
    if not environ.get("PYO3_ENVSHIM") and os.path.exists(_startup.switch()):
        call.warn("warning: it is switched off for this user, until pyo3-envshim on")
    if _startup.has_other_name(own):
        call.warn(f"warning: CARGO={own} is not called cargo, and stays: back ends ask what it is called")
    return {name: value for name, value in _startup.with_wrapper(environ, _wrapper()).items() if value}


def _wrapper() -> str:
    wrapper = _startup.wrapper()
    if wrapper is None:
        reason = f"{_startup.WRAPPER} is not beside {sys.executable}"
        raise CommandError(reason, "reinstall pyo3-envshim with its scripts")
    launcher.isolate(os.environ)
    if _startup.startable(wrapper) is None:
        reason = "the wrapper lies in the user's site-packages, which pip hides from what it builds with"
        raise CommandError(reason, "install pyo3-envshim into an environment")
    return wrapper


def on_path(environ: Mapping[str, str]) -> str:
    """Return the folder whose ``cargo`` is the wrapper; it lies in the cache folder, and is made if missing.

    A link there, so that a cache folder that is removed leaves the real cargo the first on ``PATH``.
    Raises `CommandError`, also where others could make that folder once it is gone.
    """
    from pyo3_envshim.environment import layout
    from pyo3_envshim.store import ownership
    from pyo3_envshim.store.store import Store, StoreError

    if layout.WINDOWS:
        raise CommandError("--path is not for Windows yet", "most back ends read CARGO, which env sets")
    wrapper = _wrapper()
    name = _startup.ON_PATH + hashlib.sha256(os.fsencode(wrapper)).hexdigest()[:8]
    try:
        store = Store.open(environ)
        if store.instead_of and not environ.get("GITHUB_PATH"):
            raise store.instead_of
        folder = os.path.join(store.root, name)
        if flaw := ownership.flaw_of(folder):
            raise CommandError(flaw.text, flaw.hint)
        link = os.path.join(folder, "cargo")
        if not os.path.islink(link) or os.readlink(link) != wrapper:
            files.remove(link)
            os.symlink(wrapper, link)
    except FileExistsError:  # another process made it
        pass
    except StoreError as error:
        raise CommandError(error.text, error.hint) from None
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be written: {error.strerror}", "is it yours?") from None
    if os.pathsep in folder:
        reason = f"{folder} cannot stand in PATH"
        raise CommandError(reason, f"set PYO3_ENVSHIM_CACHE_DIR to a path without {os.pathsep}")
    return folder


def with_path(found: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables *found*, and a ``PATH`` that begins with the folder of `on_path`."""
    folder, path = on_path(environ), environ.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] == folder:
        return dict(found)
    return {**found, "PATH": folder + os.pathsep + path}


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


def append_for_github(found: Mapping[str, str], environ: Mapping[str, str], folder: str = "") -> str:
    """Switch the shim on for the following steps of a GitHub Actions job; return one line.

    *folder*, if it is given, is put in front of their ``PATH`` (`on_path`); not the one of our scripts,
    whose python would be in front of the job's own. Appends to the files that the runner names
    (GitHub's "Workflow commands"). Raises `CommandError` outside such a job.
    """
    found = {**found, **cache_folder(environ)}
    lines = "".join(f"{name}={value}\n" for name, value in found.items())
    texts = {"GITHUB_ENV": lines, "GITHUB_PATH": f"{folder}\n" if folder else ""}
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


def run(command: Sequence[str], path: bool = False) -> int:
    """Run *command* with the shim on; return its exit status (POSIX: become it, do not return).

    *path*: whether also for what looks for cargo on ``PATH``.

    Raises `CommandError` if it cannot be started.
    """
    found = variables(os.environ)
    environ = {**os.environ, **(with_path(found, os.environ) if path else found)}
    program = program_of(command[0], environ)
    try:
        return call.run(program, command[1:], environ)
    except OSError as error:
        raise not_run(command[0], error) from None


def program_of(name: str, environ: Mapping[str, str]) -> str:
    """Return the path of the program *name*. Raises `CommandError`, with the exit status that a shell has."""
    import shutil

    if found := shutil.which(name, path=environ.get("PATH")):
        return found
    reason, hint, status = "not found", "is it on PATH?", 127
    if os.path.dirname(name):
        hint = "is the path right?"
        if os.path.isdir(name):
            reason, hint, status = "it is a folder", "name a program", 126
        elif os.path.exists(name):
            reason, hint, status = "it is not executable", f"chmod +x {shlex.quote(name)}", 126
    raise CommandError(f"{name} cannot be run: {reason}", hint, status)


def not_run(name: str, error: OSError) -> CommandError:
    """Return what to say of a program that is there, but does not start."""
    hint = "is it a program of this machine, or a script whose first line names an interpreter?"
    return CommandError(f"{name} cannot be run: {error.strerror}", hint, 126)
