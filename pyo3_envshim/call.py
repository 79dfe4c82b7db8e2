"""One call of cargo, and the plan for it.

Imports nothing that a call which compiles nothing would have to pay for.
"""

from __future__ import annotations

import os
import sys

from pyo3_envshim import _startup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyo3_envshim.build_dir import BuildDir
    from pyo3_envshim.cargo.metadata import Workspace


class PassThrough(Exception):
    """The call reaches cargo as it came; the message says why, for ``PYO3_ENVSHIM_VERBOSE``."""


class CargoCall:
    """A call of cargo, as it would be without the wrapper.

    *cargo*: the path of the real one. *arguments*: those after the program's name.
    *environ*: the variables, `CARGO` being the user's own. *verbose*: whether to say what is done.
    """

    __slots__ = ("arguments", "cargo", "environ", "verbose")

    def __init__(
        self, cargo: str, arguments: Sequence[str], environ: Mapping[str, str], verbose: bool = False
    ) -> None:
        self.cargo = cargo
        self.arguments = list(arguments)
        self.environ = dict(environ)
        self.verbose = verbose

    def tell(self, message: str) -> None:
        """Print one line, if the call is verbose."""
        if self.verbose:
            warn(message)


# What the wrapper has moved, in words, for `explain`, whose recorder takes the variable out again.
MOVED = "PYO3_ENVSHIM_MOVED"
RECORDING = "pyo3-envshim-explain-"  # how the folder is called that the recorder's lies in


class Plan:
    """What to run for a call: with which variables, and in which kept build folder, if any.

    *workspace*: where cargo will work, if it was asked. *is_fallback*: whether something of ours failed.
    """

    __slots__ = ("build_dir", "call", "environ", "is_fallback", "workspace")

    def __init__(
        self,
        call: CargoCall,
        environ: dict[str, str],
        build_dir: BuildDir | None = None,
        workspace: Workspace | None = None,
    ) -> None:
        self.call = call
        self.environ = environ
        self.build_dir = build_dir
        self.workspace = workspace
        self.is_fallback = False

    def execute(self) -> int:
        """Become cargo (POSIX), or run it and return its exit status."""
        try:
            if self.build_dir:
                return self.build_dir.run(self.call, self.environ)
            return run(self.call.cargo, self.call.arguments, self.environ)
        except OSError as error:
            name = variable_of(self.call.cargo, os.environ)
            warn(f"{f'{name}=' if name else ''}{self.call.cargo} cannot be run: {error.strerror}")
            return 126


def run(program: str, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Become *program* (POSIX), or run it and return its exit status (Windows). Raises OSError."""
    if os.name != "nt":
        # Python ignores these two signals, and ignored signals stay ignored across exec. Not the
        # signal module: it imports enum, which a call that does not compile would pay for.
        import _signal  # type: ignore[import-not-found]

        for ignored in (_signal.SIGPIPE, _signal.SIGXFSZ):
            _signal.signal(ignored, _signal.SIG_DFL)
        os.execve(program, [program, *arguments], environ)
    from pyo3_envshim import subprocesses

    return subprocesses.run_and_wait(program, arguments, environ)


def variable_of(cargo: str, environ: Mapping[str, str]) -> str:
    """Return the variable that names this *cargo*, or ""."""
    return next((it for it in ("PYO3_ENVSHIM_CARGO", "CARGO") if environ.get(it) == cargo), "")


def user_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* as it would be without the wrapper: ``CARGO`` is the user's own, or unset.

    ``PATH`` is without the folder that `pyo3-envshim env --path` has put there.
    """
    found = dict(environ)
    own = found.pop("PYO3_ENVSHIM_CARGO", None)
    if _startup.is_wrapper(found.get("CARGO", "")):
        del found["CARGO"]
        if own:
            found["CARGO"] = own
    path = found.get("PATH", "")
    if _startup.ON_PATH in path:
        folders = path.split(os.pathsep)
        found["PATH"] = os.pathsep.join(folder for folder in folders if not _startup.is_on_path(folder))
    return found


def reason_of(error: Exception) -> str:
    """Return in words what went wrong; with the name of its class if it should never happen."""
    if isinstance(error, OSError) and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else error.strerror
    return str(error) if hasattr(error, "hint") else f"{type(error).__name__}: {error}"


def warn(message: str) -> None:
    """Print one line of ours to stderr; a stderr that is closed is not worth failing for."""
    try:
        sys.stderr.write(f"pyo3-envshim: {message}\n")
    except (OSError, ValueError, AttributeError):
        pass
