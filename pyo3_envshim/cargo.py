"""The wrapper: runs the real cargo, with the environment's permanent address.

Reads: its arguments (cargo's own); ``PYO3_ENVSHIM`` and the ``PYO3_ENVSHIM_…`` variables
in the README's table; ``PYO3_PYTHON`` and the variables that front ends set, or
users (`PYO3_OWN`); the throw-away environment and the project's sources.

Sets for cargo, if it compiles in a throw-away environment and nothing is in doubt:
``PYO3_PYTHON`` and, where they name that environment, ``PYTHON_SYS_EXECUTABLE``,
``VIRTUAL_ENV`` and entries of ``PATH``; and a ``PYO3_BASE_PYTHON`` that is unset or ours.

Where ``PYO3_ENVSHIM_BUILD_CACHE`` asks for it, and the sources are an unpacked sdist, cargo
gets a build folder that stays (`sources`), and this process waits for it to end.

Leaves: an entry in the store and a stamp in cargo's build folder; and, open in cargo and
what it starts, the entry's folder: nobody prunes it meanwhile.

Leaves alone: arguments, standard streams, exit status, signals, everything else. It must
never fail where cargo would not: what goes wrong here is one warning, and cargo runs
with the variables it would have had. Imports are late, because most calls need few.
"""

from __future__ import annotations

import os
import sys

from pyo3_envshim import _startup, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

    from pyo3_envshim.environments import Environment
    from pyo3_envshim.sources import Kept
    from pyo3_envshim.store import Store

# cargo's own commands that compile local packages, with their built-in aliases (1.95).
# Others, and the user's aliases and plug-ins, are left as they came.
COMPILING = frozenset(
    ("build", "b", "check", "c", "clippy", "doc", "d", "run", "r", "rustc", "rustdoc", "test", "t", "bench")
)
# Options before the command that take a value (cargo 1.95, src/bin/cargo/cli.rs).
_WITH_VALUE = frozenset(("--color", "--config", "-Z", "--explain"))
# Who sets one of these has told PyO3, or cargo, what to build for.
PYO3_OWN = ("PYO3_CONFIG_FILE", "PYO3_NO_PYTHON", "PYO3_CROSS", "CARGO_BUILD_TARGET")


class LeftAlone(Exception):
    """The call is not for us; the message says why, for ``PYO3_ENVSHIM_VERBOSE``."""


def main() -> int:
    """Run the wrapper; does not return where a process can be replaced (POSIX)."""
    forget_the_project()
    try:
        return wrap()
    except KeyboardInterrupt:  # end as cargo would: killed by the signal, without a trace
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 130


def forget_the_project() -> None:
    """Import nothing from the folders on ``PYTHONPATH``, or from the working directory.

    They come before the standard library, and may be the project's: a ``json.py`` there
    is not ours to run. cargo, and what it starts, get ``PYTHONPATH`` as it is.
    """
    try:
        here = os.getcwd()
    except OSError:  # it is gone, and what is relative to it leads nowhere
        here = os.sep

    def place(folder: str) -> str:
        return os.path.normpath(os.path.join(here, folder))

    own = {place(os.path.dirname(file)) for file in (os.__file__, os.path.dirname(__file__))}
    named = {place(folder) for folder in ["", *os.environ.get("PYTHONPATH", "").split(os.pathsep)]}
    sys.path[:] = [folder for folder in sys.path if place(folder) not in named - own]


def wrap() -> int:
    """Find the real cargo, decide what it is given, and run it; return its exit status."""
    environ = dict(os.environ)
    arguments = sys.argv[1:]
    restored = restore(environ)
    cargo = find_cargo(restored, environ)
    if cargo is None:
        say("cargo was not found on PATH")
        say("hint: install it, or set PYO3_ENVSHIM_CARGO to its path")
        return 127
    wanted = restored
    kept = None
    mode = _startup.mode(environ)
    if mode == "on":
        if compiles(arguments):
            wanted, kept = served(cargo, arguments, restored)
    elif mode == "base":
        wanted = with_base(restored)
    try:
        return kept.run(cargo, arguments, wanted) if kept else run(cargo, arguments, wanted)
    except OSError as error:
        say(f"{cargo} cannot be run: {error.strerror}")
        return 126


def served(
    cargo: str, arguments: Sequence[str], environ: dict[str, str]
) -> tuple[dict[str, str], Kept | None]:
    """Return the variables for a call that compiles: *environ*, with the address if it is served.

    And the build folder that it is given, where one is kept for it.
    """
    verbose = environ.get("PYO3_ENVSHIM_VERBOSE", "") not in ("", "0")
    value = environ.get("PYO3_ENVSHIM", "")
    if value.strip().lower() not in ("", "on", "1", "yes", "true"):
        say(f"warning: PYO3_ENVSHIM={value} is not known and taken as on")
    plain = environ
    kept = None
    try:
        plain = with_base(environ)
        root = throw_away_root(environ)
        address, found, note, kept = address_of(root, cargo, arguments, environ, verbose)
        if verbose:
            say(f"{note}: PYO3_PYTHON={layout.interpreter(address)}")
        wanted = readdressed(environ, root, address, found.base)
        return (kept.variables(wanted) if kept else wanted), kept
    except LeftAlone as reason:
        if verbose:
            say(f"left alone: {reason}")
    except Exception as error:  # whatever it is, the build goes on as if we were not here
        say(f"warning: not used for this build: {type(error).__name__}: {error}")
    if kept:
        kept.release()
    return plain, None


def throw_away_root(environ: Mapping[str, str]) -> str:
    """Return the root of the throw-away environment this call builds in, or raise `LeftAlone`."""
    from pyo3_envshim import frontends, interpreters

    own = setting_of_the_users(environ)
    if own is not None:
        raise LeftAlone(f"{own} is set")
    if not any(marker in environ for marker in _startup.MARKERS):
        raise LeftAlone("no build front end runs this")
    python = environ.get("PYO3_PYTHON", "")
    root = interpreters.environment_of(python)
    if root is None:
        raise LeftAlone(f"PYO3_PYTHON={python} is in no environment")
    if frontends.throw_away(root, environ) is None:
        raise LeftAlone(f"{root} is not an environment that a front end throws away")
    return root


def setting_of_the_users(environ: Mapping[str, str]) -> str | None:
    """Return the variable by which PyO3, or cargo, was told what to build for, if there is one."""
    for name, value in environ.items():
        if value and (name in PYO3_OWN or name.startswith("PYO3_CROSS_")) and not _is_maturins(name, value):
            return name
    return None


def _is_maturins(name: str, value: str) -> bool:
    """Tell whether a variable names the configuration that maturin 1.16 writes for abi3 itself.

    It lies at a permanent path below the target folder, and PyO3 then reads nothing else;
    but other build scripts still ask ``PYO3_PYTHON``.
    """
    folder, file = os.path.split(value)
    return (
        name == "PYO3_CONFIG_FILE"
        and os.path.basename(folder) == "maturin"
        and file.startswith("pyo3-config-")
    )


def address_of(
    root: str, cargo: str, arguments: Sequence[str], environ: Mapping[str, str], verbose: bool
) -> tuple[str, Environment, str, Kept | None]:
    """Store the environment at *root* if need be; return its address, itself, and what was done.

    And the build folder that is kept for the sources, if there is one: no token is needed there.

    Raises `LeftAlone` in doubt, and anything else where it fails.
    """
    query = Query(cargo, metadata_arguments(arguments), metadata_environ(arguments, environ))
    try:
        from pyo3_envshim import environments, freshness, store

        place = store.Store(store.folder(environ))
        try:
            found = environments.read(root, environ, place.hash_file)
        except environments.NotStorable as reason:
            raise LeftAlone(f"the environment cannot be stored: {reason}") from None
        known, damage = place.use(found)
        if damage:
            say(f"a stored environment had changed and was replaced: {place.address(found.digest)}: {damage}")
        if not known:
            prune(place, environ)
    except Exception:
        query.answered()  # leave no child behind for cargo
        raise
    answer = query.answer()
    build, workspace, packages, skip = locations(answer, cargo, arguments, environ)
    kept = None
    if environ.get("PYO3_ENVSHIM_BUILD_CACHE"):
        seen = (answer, packages, [*skip, place.root])
        kept = kept_for(place.root, seen, found.base, cargo, arguments, environ, verbose)
    token = "" if kept else freshness.token_for(build, workspace, packages, [*skip, place.root])
    if token:
        place.alias(found.digest, token)
    place.keep()
    note = f"environment {found.digest[:12]}{'-' + token if token else ''} {'reused' if known else 'stored'}"
    if kept:
        note += f", build folder {kept.folder}"
    return place.address(found.digest, token), found, note, kept


def kept_for(
    cache: str,
    seen: tuple[dict[str, Any], Sequence[str], Sequence[str]],
    base: str,
    cargo: str,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    verbose: bool,
) -> Kept | None:
    """Return the build folder that is kept for the sources (`sources.taken`), or None: it goes on without."""

    def ask(platforms: Sequence[str]) -> dict[str, Any]:
        asked = metadata_arguments(arguments, dependencies=True)
        for platform in [*platforms, *values_of("--target", arguments)] if platforms else ():
            asked += ["--filter-platform", platform]
        return Query(cargo, asked, metadata_environ(arguments, environ)).answer()

    try:
        from pyo3_envshim import sources

        try:
            return sources.taken(cache, seen, base, environ, ask, say)
        except (LeftAlone, sources.Unfit) as reason:
            if verbose:
                say(f"no build folder is kept: {reason}")
    except Exception as error:
        say(f"warning: no build folder is kept: {type(error).__name__}: {error}")
    return None


def prune(place: Store, environ: Mapping[str, str]) -> None:
    """Keep the store small; where that fails, it is used all the same."""
    from pyo3_envshim import upkeep

    limit: int | None = upkeep.LIMIT
    value = environ.get("PYO3_ENVSHIM_CACHE_SIZE", "")
    try:
        limit = upkeep.parse_size(value) if value.strip() else limit
    except ValueError as error:
        say(f"warning: PYO3_ENVSHIM_CACHE_SIZE is taken as 2G: {error}")
    try:
        upkeep.prune(place, limit)
    except Exception as error:
        say(f"warning: the store was not pruned: {type(error).__name__}: {error}")


def locations(
    answer: dict[str, Any], cargo: str, arguments: Sequence[str], environ: Mapping[str, str]
) -> tuple[str, str, list[str], list[str]]:
    """Return cargo's build folder, the workspace root, all local packages' folders, and those to skip.

    ``cargo metadata --no-deps`` lists the members of the workspace only. Where the lock
    file tells of other local packages (path dependencies, patches), cargo is asked again,
    for all. Raises `LeftAlone` where it cannot tell.
    """
    workspace = answer["workspace_root"]
    target = answer["target_directory"]
    build = answer.get("build_directory") or target  # cargo 1.91 and later
    members = {package["name"] for package in answer["packages"]}
    if not local_names(os.path.join(workspace, "Cargo.lock")) <= members:
        everything = metadata_arguments(arguments, dependencies=True)
        answer = Query(cargo, everything, metadata_environ(arguments, environ)).answer()
    folders = []
    for package in answer["packages"]:
        if package["source"] is None:
            folders.append(os.path.dirname(package["manifest_path"]))
            folders += [os.path.dirname(kind["src_path"]) for kind in package["targets"]]
            folders += [need["path"] for need in package["dependencies"] if need.get("path")]
    return build, workspace, sorted(set(folders)), [build, target]


def local_names(lock: str) -> set[str]:
    """Return the names of the local packages in a ``Cargo.lock``; none if there is no such file.

    Local are those without ``source`` (cargo's ``core/resolver/encode.rs``).
    """
    try:
        with open(lock, encoding="utf-8") as file:
            blocks = file.read().split("[[package]]")[1:]
    except FileNotFoundError:
        return set()
    names = set()
    for block in blocks:
        block = block.partition("\n[")[0]  # of what is behind the last package
        keys = dict(line.partition(" = ")[::2] for line in block.splitlines() if " = " in line)
        if "source" not in keys:
            names.add(keys.get("name", "").strip('"'))
    return names


def metadata_arguments(arguments: Sequence[str], dependencies: bool = False) -> list[str]:
    """Return the arguments of the ``cargo metadata`` call that asks where *arguments* would work.

    With *dependencies* it may download what the build is about to download, but must not
    resolve anew: that is the build's to do.
    """
    toolchain = [a for a in arguments[:1] if a.startswith("+")]
    found = [*toolchain, "metadata", "--format-version", "1"]
    found += ["--locked"] if dependencies else ["--no-deps", "--offline"]
    if dependencies:
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        found += [a for a in ("--offline", "--frozen") if a in options]
    for name in ("--manifest-path", "--config", "-Z"):
        for value in values_of(name, arguments):
            found += [name, value]
    return found


def metadata_environ(arguments: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for that call; ``metadata`` has no ``--target-dir``."""
    for value in values_of("--target-dir", arguments):
        return {**environ, "CARGO_TARGET_DIR": os.path.abspath(value)}
    return dict(environ)


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


def compiles(arguments: Sequence[str]) -> bool:
    """Tell whether a call with *arguments* compiles, as far as is known."""
    rest = iter(arguments)
    for argument in rest:
        if argument.startswith("-C"):
            return False  # an unstable option that changes the folder all others are relative to
        if argument in _WITH_VALUE:
            next(rest, None)
        elif not argument.startswith(("-", "+")):
            return argument in COMPILING
    return False


def readdressed(
    environ: Mapping[str, str], root: str, address: str, base: str, windows: bool = layout.WINDOWS
) -> dict[str, str]:
    """Return *environ* with the environment at *root* replaced by that at *address*."""
    path = layout.paths(windows)
    python = layout.interpreter(address, windows)
    scripts = path.dirname(layout.interpreter(root, windows))
    found = {**environ, "PYO3_PYTHON": python}
    if layout.same_folder(path.dirname(environ.get("PYTHON_SYS_EXECUTABLE", "")), scripts, windows):
        found["PYTHON_SYS_EXECUTABLE"] = python
    if layout.same_folder(environ.get("VIRTUAL_ENV", ""), root, windows):
        found["VIRTUAL_ENV"] = address
    if "PATH" in environ:
        own = layout.resolved(scripts, windows)
        found["PATH"] = path.pathsep.join(
            path.dirname(python) if entry and layout.resolved(entry, windows) == own else entry
            for entry in environ["PATH"].split(path.pathsep)
        )
    if not environ.get("PYO3_BASE_PYTHON") or _is_ours(environ):
        # A PyO3 that reads it would not see the token otherwise.
        tokened = "-" in path.basename(address)
        found["PYO3_BASE_PYTHON"] = found["PYO3_ENVSHIM_BASE"] = python if tokened else base
    return found


def with_base(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* with a ``PYO3_BASE_PYTHON`` of ours corrected against ``PYO3_PYTHON``.

    The startup hook set it for the interpreter that runs the build backend; a build for
    another one (``maturin -i``) must not be given that, nor one that the user has told
    what to build for.
    """
    found = dict(environ)
    if not _is_ours(environ):
        return found
    from pyo3_envshim import interpreters

    root = interpreters.environment_of(environ.get("PYO3_PYTHON", ""))
    base = interpreters.base_of(root) if root and not setting_of_the_users(environ) else None
    if base is None:
        del found["PYO3_BASE_PYTHON"], found["PYO3_ENVSHIM_BASE"]
    else:
        found["PYO3_BASE_PYTHON"] = found["PYO3_ENVSHIM_BASE"] = base
    return found


def restore(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* as it would be without the wrapper: ``CARGO`` is the user's own or unset."""
    found = dict(environ)
    own = found.pop("PYO3_ENVSHIM_CARGO", None)
    if _startup.is_wrapper(found.get("CARGO", "")):
        del found["CARGO"]
        if own:
            found["CARGO"] = own
    return found


def find_cargo(
    restored: Mapping[str, str], environ: Mapping[str, str], windows: bool = layout.WINDOWS
) -> str | None:
    """Return the real cargo: the user's own ``CARGO``, or the first on the call's ``PATH``."""
    own = environ.get("PYO3_ENVSHIM_CARGO") or restored.get("CARGO")
    if own and _is_this(own):
        own = None
    if own and os.path.dirname(own):
        return own
    names = layout.programs(own or "cargo", windows)
    for folder in restored.get("PATH", os.defpath).split(os.pathsep):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and os.access(path, os.X_OK) and not _is_this(path):
                return path
    return None


def run(cargo: str, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Become cargo (POSIX), or run it and return its exit status (Windows)."""
    if not layout.WINDOWS:
        _become(cargo, arguments, environ)
    return run_and_wait(cargo, arguments, environ)


def run_and_wait(cargo: str, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run cargo and return its exit status; an interruption reaches it too, and is its to answer."""
    import signal
    import subprocess

    signal.signal(signal.SIGINT, lambda number, frame: None)
    return subprocess.run([cargo, *arguments], env=environ, check=False).returncode


def _become(cargo: str, arguments: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    # Python ignores these two, and what is ignored stays so across exec. Not the signal
    # module: it imports enum, which a call that does not compile would pay for.
    import _signal  # type: ignore[import-not-found]

    for ignored in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(ignored, _signal.SIG_DFL)
    os.execve(cargo, [cargo, *arguments], environ)


class Query:
    """A ``cargo metadata`` call that runs while the environment is read."""

    def __init__(self, cargo: str, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self._output, out = os.pipe()
        try:
            self._process = _spawned([cargo, *arguments], environ, out)
        finally:
            os.close(out)

    def answer(self) -> dict[str, Any]:
        """Return the parsed answer. Raises `LeftAlone` if cargo could not tell."""
        from pyo3_envshim import jsontext

        output = self.answered()
        try:
            found: dict[str, Any] = jsontext.loads(output.decode())
        except ValueError:
            raise LeftAlone("cargo metadata failed, so it is not known where cargo works") from None
        return found

    def answered(self) -> bytes:
        """Wait for cargo to end; return what it said, or nothing if it failed."""
        with open(self._output, "rb") as file:
            output = file.read()
        return output if os.waitpid(self._process, 0)[1] == 0 else b""


def _spawned(command: list[str], environ: Mapping[str, str], out: int) -> int:
    """Start a process that writes to the descriptor *out*, and is not seen else; return its number."""
    if not hasattr(os, "POSIX_SPAWN_OPEN"):  # PyPy
        import subprocess

        null = subprocess.DEVNULL
        process = subprocess.Popen(command, env=environ, stdin=null, stdout=out, stderr=null)
        process.returncode = 0  # it is waited for in `answered`, not where this object ends
        return process.pid
    # Not subprocess: its import takes as long as half of this call.
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, out, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    return os.posix_spawn(command[0], command, environ, file_actions=actions)


def say(message: str) -> None:
    """Print one line of ours; a closed stderr is not worth failing for."""
    try:
        sys.stderr.write(f"pyo3-envshim: {message}\n")
    except (OSError, ValueError, AttributeError):
        pass


def _is_ours(environ: Mapping[str, str]) -> bool:
    return _startup.base_is_ours(environ)


def _is_this(path: str) -> bool:
    """Tell whether *path* is this wrapper, under whatever name."""
    real = os.path.realpath(path)
    return _startup.is_wrapper(real) or real == os.path.realpath(sys.argv[0])
