"""cargo's command line: which calls compile, what their options say, and where the real cargo is.

Pure functions over arguments, but for `find_cargo`, which looks at ``PATH``.
"""

from __future__ import annotations

import os
import sys

from pyo3_envshim import _startup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# cargo's own commands that compile local packages, with their built-in aliases (1.95).
# Other commands, the user's aliases and plug-ins reach cargo as they came.
COMPILING = frozenset(
    ("build", "b", "check", "c", "clippy", "doc", "d", "run", "r", "rustc", "rustdoc", "test", "t", "bench")
)
# Not served: a user's alias replaces a built-in one, and what follows the first plain argument of `run`
# is the program's, so that it would not be known in which profile cargo compiles.
_UNSURE = frozenset(("b", "c", "d", "r", "t", "run"))
# Options before the command that take a value (cargo 1.95, src/bin/cargo/cli.rs).
_WITH_VALUE = frozenset(("--color", "--config", "-Z", "--explain"))


def compiles(arguments: Sequence[str]) -> bool:
    """Tell whether a call with *arguments* compiles, as far as is known."""
    return command_of(arguments) in COMPILING


def is_sure(arguments: Sequence[str]) -> bool:
    """Tell whether a call with *arguments* compiles in a profile that they tell."""
    return compiles(arguments) and command_of(arguments) not in _UNSURE


def command_of(arguments: Sequence[str]) -> str:
    """Return cargo's command among *arguments*, or "" if there is none or it is not known."""
    rest = iter(arguments)
    for argument in rest:
        if argument.startswith("-C"):
            return ""  # an unstable option: it changes the folder that all others are relative to
        if argument in _WITH_VALUE:
            next(rest, None)
        elif not argument.startswith(("-", "+")):
            return argument
    return ""


def values_of(name: str, arguments: Sequence[str]) -> list[str]:
    """Return the values that the option *name* has among cargo's arguments."""
    found = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            break
        if argument == name:
            found += [value for value in [next(rest, None)] if value is not None]
        elif argument.startswith(name + "="):
            found.append(argument[len(name) + 1 :])
        elif len(name) == 2 and argument.startswith(name):
            found.append(argument[2:])
    return found


def metadata_arguments(arguments: Sequence[str], dependencies: bool = False) -> list[str]:
    """Return the arguments of the ``cargo metadata`` call that asks where *arguments* would work.

    With *dependencies* it may download what the build is about to download, but must not
    resolve anew: that is left to the build.
    """
    toolchain = [a for a in arguments[:1] if a.startswith("+")]
    found = [*toolchain, "metadata", "--format-version", "1"]
    found += ["--locked"] if dependencies else ["--no-deps", "--offline"]
    if dependencies:
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        found += [a for a in ("--offline", "--frozen", "--all-features") if a in options]
    features = ("--features", "-F") if dependencies else ()
    for name in ("--manifest-path", "--config", "-Z", *features):
        for value in values_of(name, arguments):
            found += [name, value]
    return found


def metadata_environ(arguments: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for that call; ``metadata`` has no ``--target-dir``."""
    for value in values_of("--target-dir", arguments):
        return {**environ, "CARGO_TARGET_DIR": os.path.abspath(value)}
    return dict(environ)


def find_cargo(
    restored: Mapping[str, str], environ: Mapping[str, str], windows: bool = os.name == "nt"
) -> str | None:
    """Return the real cargo: the user's own ``CARGO``, or the first on the call's ``PATH``.

    Where the wrapper was found on ``PATH``, it is the next there, whatever ``CARGO`` says.
    *environ* are the variables of the wrapper's process, *restored* those without it
    (`call.user_environ`).
    """
    folders, own = _folders(restored.get("PATH", os.defpath), windows), None
    if _startup.is_on_path(os.path.dirname(sys.argv[0])):
        folders = _behind_ours(_folders(environ.get("PATH", os.defpath), windows))
    else:
        own = environ.get("PYO3_ENVSHIM_CARGO") or _startup.own_cargo(sys.argv[0]) or restored.get("CARGO")
    if own and _is_this(own):
        own = None
    if own and os.path.dirname(own):
        return own
    name = own or "cargo"
    if windows and not name.lower().endswith(".exe"):
        name += ".exe"
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK) and not _is_this(path):
            return path
    return None


def _folders(path: str, windows: bool) -> list[str]:
    """Return the entries of ``PATH``; on Windows as Rust's library splits it, and none that are empty."""
    if not windows:
        return path.split(os.pathsep)
    parts = path.split('"')  # every second one is quoted
    parts[::2] = [part.replace(os.pathsep, "\0") for part in parts[::2]]
    return [folder for folder in "".join(parts).split("\0") if folder]


def _behind_ours(folders: list[str]) -> list[str]:
    """Return the entries of ``PATH``, those behind the folder of `pyo3-envshim env --path` first.

    What stands before it may be a script that calls the next cargo, which is this wrapper.
    """
    at = next((number for number, folder in enumerate(folders) if _startup.is_on_path(folder)), 0)
    return [*folders[at:], *folders[:at]]


def _is_this(path: str) -> bool:
    """Tell whether *path* is this wrapper, under whatever name."""
    real = os.path.realpath(path)
    return _startup.is_wrapper(real) or real == os.path.realpath(sys.argv[0])
