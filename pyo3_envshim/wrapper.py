"""The wrapper: runs the real cargo, and gives it a permanent path for an ephemeral environment.

Reads: its arguments (cargo's own); ``PYO3_ENVSHIM`` and the ``PYO3_ENVSHIM_…`` variables
in the README's table; ``PYO3_PYTHON`` and the variables that front ends set, or
users (`PYO3_OWN`); the ephemeral environment and the project's sources.

Sets for cargo, if it compiles in an ephemeral environment and nothing is in doubt:
``PYO3_PYTHON`` and, where they name that environment, ``PYTHON_SYS_EXECUTABLE``,
``VIRTUAL_ENV`` and entries of ``PATH``; and a ``PYO3_BASE_PYTHON`` that is unset or ours.

Where the sources are an unpacked sdist, cargo gets a build folder that stays (`build_dir`), and
this process waits for cargo to end.

In every call that compiles, units in cargo's build folder may be moved (`set_aside`).

Leaves: an entry in the store and a stamp in cargo's build folder; and a lock on the entry,
held by cargo, so that nobody prunes it meanwhile.

Leaves alone: arguments (but that they name a kept build folder), standard streams, exit status, signals,
everything else. It must never fail where cargo would not: any trouble of ours is one warning, and cargo runs
with the variables it would have had. Imports are late, because most calls need few.
"""

from __future__ import annotations

import os
import sys

from pyo3_envshim import _startup
from pyo3_envshim.call import MOVED, RECORDING, CargoCall, PassThrough, Plan, reason_of, user_environ, warn
from pyo3_envshim.cargo.command_line import find_cargo, is_sure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyo3_envshim.build_dir import BuildDir
    from pyo3_envshim.cargo.metadata import Workspace
    from pyo3_envshim.environment.digest import Environment
    from pyo3_envshim.store.store import Acquired, Store

# Whoever sets one of these has told PyO3, or cargo, what to build for.
PYO3_OWN = ("PYO3_CONFIG_FILE", "PYO3_NO_PYTHON", "PYO3_CROSS", "CARGO_BUILD_TARGET")


def main() -> int:
    """Run the wrapper; does not return where a process can be replaced (POSIX)."""
    if not sys.flags.isolated:  # as an installer's script starts it, and not `launcher`'s
        isolate_imports()
    try:
        call = make_call()
        if call is None:
            return 127
        plan = make_plan(call)
        set_aside(plan)
        return plan.execute()
    except KeyboardInterrupt:  # end as cargo would: killed by the signal, without a traceback
        import signal

        if os.name == "nt":
            return -0x3FFFFEC6  # STATUS_CONTROL_C_EXIT
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 130


def isolate_imports() -> None:
    """Import nothing from the folders on ``PYTHONPATH``, or from the working directory.

    They come before the standard library and may be the project's: a ``json.py`` there is
    not ours to run. cargo, and what it starts, get ``PYTHONPATH`` as it is.
    """
    try:
        here = os.getcwd()
    except OSError:  # it was removed, and relative entries lead nowhere
        here = os.sep

    def resolve(folder: str) -> str:
        return os.path.normpath(os.path.join(here, folder))

    own = {resolve(os.path.dirname(file)) for file in (os.__file__, os.path.dirname(__file__))}
    site = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if site not in sys.path:  # an overlay of pip's or pdm's hides it, and platformdirs
        sys.path.append(site)
    named = {resolve(folder) for folder in ["", *os.environ.get("PYTHONPATH", "").split(os.pathsep)]}
    sys.path[:] = [folder for folder in sys.path if resolve(folder) not in named - own]


def make_call() -> CargoCall | None:
    """Return the call that this process was started for; None, and two lines, if there is no cargo."""
    environ = user_environ(os.environ)
    _restore_locale(environ)
    cargo = find_cargo(environ, os.environ)
    if cargo is None:
        warn("cargo was not found on PATH")
        warn("hint: install it, or set PYO3_ENVSHIM_CARGO to its path")
        return None
    verbose = environ.get("PYO3_ENVSHIM_VERBOSE", "") not in ("", "0")
    return CargoCall(cargo, sys.argv[1:], environ, verbose)


def _restore_locale(environ: dict[str, str]) -> None:
    """Take back the LC_CTYPE that Python sets where the locale is C (PEP 538), if /proc tells of it."""
    if "LC_CTYPE" not in environ:
        return
    try:
        with open("/proc/self/environ", "rb") as file:  # as this process was started
            before = dict(entry.split(b"=", 1) for entry in file.read().split(b"\0") if b"=" in entry)
    except OSError:
        return
    if b"LC_CTYPE" in before:
        environ["LC_CTYPE"] = os.fsdecode(before[b"LC_CTYPE"])
    else:
        del environ["LC_CTYPE"]


def make_plan(call: CargoCall) -> Plan:
    """Decide what cargo is given. Raises nothing: in doubt and in trouble, it is the call as it came."""
    mode = _startup.mode(call.environ)
    if mode == "base":
        return Plan(call, with_base(call.environ))
    if mode == "off" or not is_sure(call.arguments):
        return Plan(call, call.environ)
    value = call.environ.get("PYO3_ENVSHIM", "")
    if value.strip().lower() not in ("", "on", "1", "yes", "true"):
        warn(f"warning: PYO3_ENVSHIM={value} is not known and taken as on")
    plain = Plan(call, call.environ)
    try:
        plain = Plan(call, with_base(call.environ))
        return _with_stored_environment(call)
    except PassThrough as reason:
        try:
            if found := _with_overlay(call):
                return found
        except Exception as error:
            _warn(call, "not used for this build", error)
        call.tell(f"left alone: {reason}")
    except Exception as error:  # whatever it is, the build goes on as if we were not here
        _warn(call, "not used for this build", error)
        plain.is_fallback = True
    return plain


def _warn(call: CargoCall, what: str, error: Exception) -> None:
    """Say that something of ours failed; not if it is cargo, which `Plan.execute` says once."""
    if getattr(error, "filename", None) != call.cargo:
        warn(f"warning: {what}: {reason_of(error)}")


def _with_stored_environment(call: CargoCall) -> Plan:
    """Return the plan for a call in an ephemeral environment. Raises `PassThrough`, or where it fails."""
    root = ephemeral_environment(call.environ)
    from pyo3_envshim.cargo.metadata import MetadataError, Query

    with Query(call) as query:
        from pyo3_envshim import freshness
        from pyo3_envshim.environment import digest, item, layout
        from pyo3_envshim.store.store import Store

        store = Store.open(call.environ)
        try:
            environment = digest.read(root, call.environ, store.hash_file)
        except item.NotStorable as reason:
            raise PassThrough(f"the environment cannot be stored: {reason}") from None
        entry = store_environment(store, environment, call.environ)
    try:
        workspace = query.workspace()
    except MetadataError as reason:
        raise PassThrough(str(reason)) from None
    workspace.exclude.append(store.root)
    build_dir = kept_build_dir(call, workspace, store.root)
    try:
        nonce = "" if build_dir else freshness.nonce_for(workspace)
        if nonce:
            entry.add_nonce(nonce)
        entry.inherit_lock()
        path = entry.path(nonce)
        python = layout.interpreter(path)
        # A PyO3 that reads PYO3_BASE_PYTHON would not see the nonce otherwise.
        environ = redirect(call.environ, root, path, python if nonce else environment.base)
        if environment.hidden and "PATH" in environ:  # its programs are not in the entry
            environ["PATH"] = call.environ["PATH"]
        if build_dir:
            environ = build_dir.variables(environ)
            build_dir.in_child = entry.hold_in_child
    except BaseException:
        if build_dir:
            build_dir.release()
        raise
    note = f"environment {entry.digest[:12]}{'-' + nonce if nonce else ''} "
    note += "stored" if entry.is_new else "reused"
    call.tell(f"{note}{f', build folder {build_dir.folder}' if build_dir else ''}: PYO3_PYTHON={python}")
    return Plan(call, environ, build_dir, workspace)


def _with_overlay(call: CargoCall) -> Plan | None:
    """Return the plan for unpacked sources under an overlay of pip's or pdm's, or None: it changes nothing.

    The interpreter is the user's own, and stays; only the build folder is one that is kept.
    """
    python = call.environ.get("PYO3_PYTHON", "")
    if not python or not call.environ.get("PYTHONPATH") or user_setting(call.environ) is not None:
        return None
    from pyo3_envshim.environment import digest, frontends, interpreter, overlay

    # Back ends call cargo in the source folder.
    if not overlay.is_all(call.environ) or frontends.unpacked_at(os.getcwd(), call.environ) is None:
        return None
    content = [interpreter.state_of(python), *digest.variables(call.environ)]
    if not content[0]:
        return None
    import hashlib

    from pyo3_envshim.cargo.metadata import MetadataError, Query
    from pyo3_envshim.store.store import Store

    try:
        with Query(call) as query:
            workspace = query.workspace()
    except MetadataError:
        return None
    build_dir = kept_build_dir(call, workspace, Store.open(call.environ).root)
    if build_dir is None:
        return None
    try:
        build_dir.use_for(python, hashlib.sha256(os.fsencode("\0".join(content))).hexdigest())
        environ = build_dir.variables(with_base(call.environ))
    except BaseException:
        build_dir.release()
        raise
    call.tell(f"build folder {build_dir.folder}: PYO3_PYTHON={python} stays")
    return Plan(call, environ, build_dir, workspace)


def set_aside(plan: Plan) -> None:
    """Put aside what cargo would overwrite, and bring back what it would make. Raises nothing.

    In every call that compiles in a project with a Python in it, whether it is served or passed through.
    """
    call = plan.call
    if plan.is_fallback or _startup.mode(call.environ) != "on" or not is_sure(call.arguments):
        return
    try:
        from pyo3_envshim.cargo.metadata import MetadataError, Query

        try:
            workspace, is_stamped = plan.workspace, True  # by the guard, where there is one
            if workspace is None:
                with Query(call) as query:
                    workspace = query.workspace()
                if not workspace.uses_python and not call.environ.get("PYO3_PYTHON"):
                    return
                from pyo3_envshim import freshness

                is_stamped = freshness.refresh(workspace)
            from pyo3_envshim.set_aside import exchange

            if plan.build_dir:
                workspace.build_dir = plan.build_dir.folder
                is_stamped = False  # what is local stays only where it is
            done = exchange(plan.environ, workspace, is_stamped, bool(plan.build_dir))
            if plan.build_dir and done.brought_back:
                plan.build_dir.judge_again()
            if done.put_aside or done.brought_back or done.reason:
                call.tell(str(done))
            if RECORDING in call.cargo:
                plan.environ[MOVED] = str(done)
        except (MetadataError, PassThrough) as reason:
            call.tell(f"nothing is set aside: {reason}")
    except Exception as error:  # whatever it is, the build goes on as if we were not here
        _warn(call, "nothing is set aside", error)


def ephemeral_environment(environ: Mapping[str, str]) -> str:
    """Return the root of the ephemeral environment that a call builds in, or raise `PassThrough`."""
    from pyo3_envshim.environment import frontends, interpreter, layout

    own = user_setting(environ)
    if own is not None:
        raise PassThrough(f"{own} is set")
    if not any(marker in environ for marker in _startup.MARKERS):
        raise PassThrough("no build front end runs this")
    python = environ.get("PYO3_PYTHON", "")
    root = interpreter.environment_of(python)
    if root is None:
        raise PassThrough(f"PYO3_PYTHON={python} is in no environment")
    if not layout.is_the_one(python):
        raise PassThrough(f"PYO3_PYTHON={python} may be another than python.exe beside it")
    if frontends.maker_of(root, environ) is None:
        raise PassThrough(f"{root} is not an ephemeral environment of a front end")
    return root


def user_setting(environ: Mapping[str, str]) -> str | None:
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


def store_environment(store: Store, environment: Environment, environ: Mapping[str, str]) -> Acquired:
    """Return the locked entry of *environment*, stored first if need be. Raises OSError, StoreError."""
    entry = store.acquire(environment)
    if entry.damage:
        warn(f"a stored environment had changed and was replaced: {entry.path()}: {entry.damage}")
    if entry.is_new:
        from pyo3_envshim import launcher

        _prune(store, environ)
        launcher.isolate(environ)
    return entry


def _prune(store: Store, environ: Mapping[str, str]) -> None:
    """Keep the store small; where that fails, it is used all the same."""
    from pyo3_envshim.store import prune

    limit, flaw = prune.limit_of(environ)
    if flaw:
        warn(f"warning: {flaw}")
    try:
        prune.prune(store, limit)
    except Exception as error:
        warn(f"warning: the store was not pruned: {reason_of(error)}")


def kept_build_dir(call: CargoCall, workspace: Workspace, cache: str) -> BuildDir | None:
    """Return the build folder that is kept for an unpacked sdist, or None: the build goes on without.

    *cache*: the cache folder.
    """
    from pyo3_envshim.environment import frontends

    if frontends.unpacked_at(workspace.root, call.environ) is None:
        return None
    if all(name in call.environ for name in _startup.BUILD_SCRIPT):  # its cargo may wait for this one
        call.tell("no build folder is kept: a build script runs this")
        return None
    try:
        from pyo3_envshim import build_dir
        from pyo3_envshim.cargo.metadata import MetadataError

        try:
            return build_dir.acquire(call, workspace, cache)
        except (MetadataError, PassThrough, build_dir.Ineligible) as reason:
            call.tell(f"no build folder is kept: {reason}")
    except Exception as error:
        _warn(call, "no build folder is kept", error)
    return None


def redirect(
    environ: Mapping[str, str], root: str, path: str, base: str, windows: bool = os.name == "nt"
) -> dict[str, str]:
    """Return *environ* with the environment at *root* replaced by the entry at *path*.

    *base* is what ``PYO3_BASE_PYTHON`` is to name, where the user has not set it.
    """
    from pyo3_envshim.environment import layout

    paths = layout.paths(windows)
    python = layout.interpreter(path, windows)
    scripts = paths.dirname(layout.interpreter(root, windows))
    found = {**environ, "PYO3_PYTHON": python}
    other = environ.get("PYTHON_SYS_EXECUTABLE", "")
    if layout.same_folder(paths.dirname(other), scripts, windows) and layout.is_the_one(other, windows):
        found["PYTHON_SYS_EXECUTABLE"] = python
    if layout.same_folder(environ.get("VIRTUAL_ENV", ""), root, windows):
        found["VIRTUAL_ENV"] = path
    if "PATH" in environ:
        found["PATH"] = paths.pathsep.join(
            paths.dirname(python) if layout.is_entry_for(folder, scripts, windows) else folder
            for folder in environ["PATH"].split(paths.pathsep)
        )
    if not environ.get("PYO3_BASE_PYTHON") or _startup.base_is_ours(environ):
        found["PYO3_BASE_PYTHON"] = found["PYO3_ENVSHIM_BASE"] = base
    return found


def with_base(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* with a ``PYO3_BASE_PYTHON`` of ours corrected against ``PYO3_PYTHON``.

    The startup hook set it for the interpreter that runs the build back end; a build for
    another one (``maturin -i``) must not be given it, nor one whose user has told PyO3
    what to build for.
    """
    found = dict(environ)
    if not _startup.base_is_ours(environ):
        return found
    from pyo3_envshim.environment import interpreter

    root = interpreter.environment_of(environ.get("PYO3_PYTHON", ""))
    base = interpreter.base_of(root) if root and not user_setting(environ) else None
    if base is None:
        del found["PYO3_BASE_PYTHON"], found["PYO3_ENVSHIM_BASE"]
    else:
        found["PYO3_BASE_PYTHON"] = found["PYO3_ENVSHIM_BASE"] = base
    return found
