"""What ``pyo3-envshim doctor`` looks at: everything here that decides what a build would get.

Starts the front ends on PATH (only until their Python is ready, when the hook has run), cargo
and uv; reads the store and ./pyproject.toml. Changes nothing, but makes the store's folders,
as a build would; `cache.leaving_no_folders` removes them.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pyo3_envshim import _startup, builds, call, launcher
from pyo3_envshim.cargo import command_line
from pyo3_envshim.cli import cache, install
from pyo3_envshim.cli.errors import CommandError
from pyo3_envshim.environment import interpreter
from pyo3_envshim.environment.frontends import FRONT_ENDS, FrontEnd
from pyo3_envshim.store import entry, prune, store

OK = "ok"
OFF = "off"  # it keeps builds from being served
IDLE = "idle"  # there is nothing to serve
UNKNOWN = "unknown"
# The build back ends that read CARGO, and export PYO3_PYTHON to cargo.
BACK_ENDS = frozenset(("maturin", "setuptools-rust"))
# Those, and plug-ins of others, that name no interpreter to cargo, so that there is no path to replace.
NAMING_NONE = {
    "hatch-rs": "starts the cargo on PATH and names no interpreter to it",  # 0.4.3
    "hatchling-pyo3-plugin": "starts the cargo on PATH and names no interpreter to it",  # 0.1.1
    "meson-python": "starts no cargo and names no interpreter to one that Meson starts",  # 0.22.1
    "scikit-build-core": "leaves cargo to CMake, which names no interpreter to it",  # 1.1.2; Corrosion 0.6.1
}
SHIM = "pyo3-envshim"


class Finding(NamedTuple):
    """One thing that was looked at: its state (one of the four above), why, and the way out."""

    about: str
    state: str
    reason: str
    hint: str = ""


class Project(NamedTuple):
    """What a pyproject.toml says; *flaw* if it was not read. Names are normalised."""

    requires: tuple[str, ...] = ()
    backend: str = ""
    manifest: str = "Cargo.toml"
    uses_base: bool = False
    extra: tuple[str, ...] = ()
    flaw: str = ""
    broken: bool = False

    @property
    def is_rust(self) -> bool:
        """Whether its wheel is built by a back end that we serve."""
        return not BACK_ENDS.isdisjoint(self.requires) or self.backend.partition(".")[0] in BACK_ENDS


class DetectedFrontEnd(NamedTuple):
    """A front end on PATH.

    *python*: the interpreter that it runs in, or would build for. *prefix*: the root of its
    own environment, if it is a Python program in one. *hooked*: what the hook set CARGO to
    in it. *hook*: the folder of the hook's startup line. *asked*: whether its process
    answered. *option*: whether its `FrontEnd.option` is set.
    """

    name: str
    path: str
    version: str = ""
    python: str = ""
    prefix: str = ""
    has_pip: bool = False
    hooked: str = ""
    hook: str = ""
    installed: install.Installed | None = None
    asked: bool = False
    option: bool = False


class Snapshot(NamedTuple):
    """What was seen: *manifest* and *lock* are the texts of the crate's Cargo.toml and Cargo.lock."""

    environ: Mapping[str, str]
    project: Project | None
    findings: tuple[Finding, ...]
    front_ends: tuple[DetectedFrontEnd, ...]
    manifest: str | None = None
    lock: str | None = None


def take(environ: Mapping[str, str], folder: str, asked: str | None = None) -> Snapshot:
    """Look at what matters for a build that is started in *folder*, by any front end or one."""

    def read(*parts: str) -> str | None:
        return install.read_text(os.path.join(folder, *parts))

    project = read_project(read("pyproject.toml"), read("uv.toml"))
    crate = project.manifest if project else "Cargo.toml"
    texts = read(crate), read(os.path.dirname(crate), "Cargo.lock")
    findings = (_cargo(environ), _store(environ), _builds(environ), _interpreter())
    found = (detect(it, environ) for it in FRONT_ENDS if asked in (None, it.name))
    return Snapshot(environ, project, findings, tuple(it for it in found if it), *texts)


def read_project(text: str | None, uv_text: str | None = None) -> Project | None:
    """Return what the text of a pyproject.toml says, and of the uv.toml beside it; None if there is none."""
    if text is None:
        return None
    try:
        toml = importlib.import_module("tomllib")
    except ModuleNotFoundError:
        version = ".".join(map(str, sys.version_info[:2]))
        return Project(flaw=f"pyproject.toml was not read: Python {version} has no TOML parser")
    try:
        tables = toml.loads(text)
        uv = toml.loads(uv_text) if uv_text is not None else _table(tables, "tool", "uv")
    except ValueError as error:
        return Project(flaw=f"not TOML: {error}", broken=True)
    system, maturin = _table(tables, "build-system"), _table(tables, "tool", "maturin")
    extra = _table(uv, "extra-build-dependencies")
    backend = system.get("build-backend")
    return Project(
        requires=_names(system.get("requires")),
        backend=backend if isinstance(backend, str) else "",
        manifest=str(maturin.get("manifest-path", "Cargo.toml")),
        uses_base=maturin.get("use-base-python") is True,
        extra=tuple(name for name in extra if SHIM in _names(extra[name])),
    )


def _table(tables: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    for key in keys:
        value = tables.get(key)
        tables = value if isinstance(value, dict) else {}
    return tables


def _names(requirements: object) -> tuple[str, ...]:
    """Return the normalised names (PEP 503) of requirements: strings, or uv's tables."""
    found = []
    for requirement in requirements if isinstance(requirements, list) else ():
        text = requirement.get("requirement", "") if isinstance(requirement, dict) else requirement
        if match := re.match(r"\s*([\w.-]*\w)", str(text)):
            found.append(re.sub(r"[-_.]+", "-", match[1]).lower())
    return tuple(found)


def detect(front_end: FrontEnd, environ: Mapping[str, str]) -> DetectedFrontEnd | None:
    """Find a front end on PATH and ask it; return None if it is not there."""
    found = (shutil.which(name, path=environ.get("PATH")) for name in front_end.commands)
    path = next(filter(None, found), None)
    if path is None:
        return None
    option = front_end.option.partition("=")[2]
    is_set = bool(option) and option in _output([path, *front_end.settings], environ)
    facts: dict[str, Any] = {"name": front_end.name, "path": path, "option": is_set}
    if answer := _ask(path, front_end.name, environ):
        facts.update(answer, asked=True)
    else:
        version = re.search(r"\d+(\.\w+)+", _output([path, "--version"], environ))
        facts["version"] = version[0] if version else ""
        facts["python"] = _output([path, *front_end.target], environ).strip() if front_end.target else ""
    if facts["python"]:
        try:
            facts["installed"] = install.installed(facts["python"])
        except CommandError:
            pass
    return DetectedFrontEnd(**facts)


# Runs at the end of Python's startup, after the hook, and ends the process.
_PROBE = """\
import json, os, sys
try:
    from importlib.metadata import version
    found = version({name!r})
except Exception:
    found = ""
files = ("pyo3_envshim.pth", "pyo3_envshim.start")
hooks = [path for path in sys.path if any(os.path.exists(os.path.join(path, name)) for name in files)]
answer = dict(
    version=found,
    python=sys.executable,
    prefix=sys.prefix if sys.prefix != sys.base_prefix else "",
    has_pip=any(os.path.isdir(os.path.join(path, "pip")) for path in sys.path),
    hooked=os.environ.get("CARGO", ""),
    hook=hooks[0] if hooks else "",
)
with open({answer!r}, "w") as file:
    json.dump(answer, file)
os._exit(0)
"""


def _ask(path: str, name: str, environ: Mapping[str, str]) -> dict[str, Any] | None:
    """Start a front end until its Python is ready, and return what the process is then.

    None if it starts no Python, or one that does not read PYTHONPATH. This looks behind any
    kind of script, and shows what the hook does, not what it should do.
    """
    with tempfile.TemporaryDirectory(prefix="pyo3-envshim-doctor-") as folder:
        file = os.path.join(folder, "answer")
        with open(os.path.join(folder, "sitecustomize.py"), "w", encoding="utf-8") as probe:
            probe.write(_PROBE.format(name=name, answer=file))
        # Switched on: the variable and the user's switch are looked at elsewhere.
        variables = {**call.user_environ(environ), "PYO3_ENVSHIM": "on"}
        folders = [folder, *filter(None, [environ.get("PYTHONPATH")])]
        _output([path, "--version"], {**variables, "PYTHONPATH": os.pathsep.join(folders)})
        text = install.read_text(file)
    return dict(json.loads(text)) if text else None


def _cargo(environ: Mapping[str, str]) -> Finding:
    path = command_line.find_cargo(call.user_environ(environ), environ)
    if path is None:
        hint = "install Rust, or set PYO3_ENVSHIM_CARGO to its path"
        return Finding("cargo", OFF, "not found on PATH", hint)
    said = re.search(r"^cargo (\S+)", _output([path, "--version"], environ))
    if said is None:
        name = call.variable_of(path, environ)
        hint = f"set {name} to a cargo, or unset it" if name else f"{shlex.quote(path)} --version"
        return Finding("cargo", OFF, f"{path} does not tell its version", hint)
    return Finding("cargo", OK, f"{said[1]}, {path}")


def _store(environ: Mapping[str, str]) -> Finding:
    """Look at the names and sizes in the store; reading all contents may take long."""
    try:
        opened = cache.open_store(environ)
        limit, flaw = prune.limit_of(environ)
        entries = prune.entries(opened)
        damaged = sum(entry.surface(one.path)[0] is not None for one in entries)
    except (CommandError, OSError) as error:
        return Finding("store", OFF, str(error), getattr(error, "hint", ""))
    folder = opened.environments
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding("store", OFF, f"{folder} is not writable", f"chmod u+rwx {folder}")
    most = "no limit" if limit is None else f"at most {cache.human(limit)}"
    reason, hint = f"{opened.root}: {cache.content(entries)} ({most})", ""
    if flaw:
        reason += f"; {flaw}"
    if opened.instead_of:
        reason += f", for as long as this machine or container runs: {opened.instead_of.text}"
        hint = opened.instead_of.hint
    if damaged:
        reason += f"; {damaged} damaged, to be replaced when needed"
        hint = "pyo3-envshim cache verify"
    return Finding("store", OK, reason, hint)


def _builds(environ: Mapping[str, str]) -> Finding:
    found = builds.builds(store.folder_in_use(environ))
    content = cache.content_of_builds(found) or "no build folders yet"
    limit, flaw = builds.limit_of(environ)
    if not limit:
        reason = f"{content}; {builds.VARIABLE} is off, so unpacked sdists keep nothing"
        return Finding("build cache", OK, reason, f"unset {builds.VARIABLE}")
    most = "no limit" if limit == float("inf") else f"at most {cache.human(int(limit))}"
    reason = f"unpacked sdists keep what is compiled: {content} ({most})"
    return Finding("build cache", OK, f"{reason}; {flaw}" if flaw else reason)


def _interpreter() -> Finding:
    reason = f"{'.'.join(map(str, sys.version_info[:3]))}, {sys.executable}"
    if root := interpreter.environment_of(sys.executable):
        reason += f", made from {interpreter.base_of(root) or 'an interpreter that is gone'}"
    script = _startup.wrapper()
    if script:
        reason += f"; the wrapper starts it {'isolated' if launcher.is_isolated(script) else 'with its site'}"
    return Finding("python", OK, reason)


def _output(command: Sequence[str], environ: Mapping[str, str]) -> str:
    """Run a command; return what it printed, or "" if it failed."""
    null = subprocess.DEVNULL
    try:
        said = subprocess.check_output(command, env=environ, stdin=null, stderr=null, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.decode(errors="replace")
