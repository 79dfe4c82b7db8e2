"""``pyo3-envshim doctor``: what a build started here and now would get from the shim, and why.

`look` looks at the world: it starts the front ends on PATH (as far as their Python's
startup, where the hook has run), cargo and uv, and reads the store and ./pyproject.toml.
`diagnose` decides, from values; the rest puts it into words. Nothing is changed, but
that the store's folders are made, as a build would.
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
from typing import TYPE_CHECKING, Any, NamedTuple

from pyo3_envshim import (
    __version__,
    _startup,
    activation,
    cache,
    cargo,
    contents,
    interpreters,
    sources,
    store,
    upkeep,
)
from pyo3_envshim.frontends import FRONT_ENDS, STARTS, FrontEnd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OK = "ok"
OFF = "off"  # a build is not served because of it
IDLE = "idle"  # there is nothing to serve
UNKNOWN = "unknown"
_COLOURS = {OK: "32", OFF: "31", IDLE: "33", UNKNOWN: "33"}
# The build back ends that read CARGO, and export PYO3_PYTHON to cargo.
BACK_ENDS = frozenset(("maturin", "setuptools-rust"))
_SHIM = "pyo3-envshim"


class Finding(NamedTuple):
    """One thing looked at: its state (one of the four above), why, and the command that mends it."""

    about: str
    state: str
    reason: str
    mend: str = ""


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


class Seen(NamedTuple):
    """A front end on PATH.

    *python*: the interpreter that it runs in, or would build for; *prefix*: of the
    environment that is its own, if it is a Python program in one. *hooked*: what its
    hook set CARGO to. *hook*: the folder of the hook's startup line. *installed*: as
    `activation.installed`. *asked*: whether its process could be asked at all.
    *option*: whether its `FrontEnd.option` is set.
    """

    name: str
    path: str
    version: str = ""
    python: str = ""
    prefix: str = ""
    has_pip: bool = False
    hooked: str = ""
    hook: str = ""
    installed: tuple[str, bool] | None = None
    asked: bool = False
    option: bool = False


class Sight(NamedTuple):
    """What `look` has seen."""

    environ: Mapping[str, str]
    project: Project | None
    findings: tuple[Finding, ...]
    front_ends: tuple[Seen, ...]


class Diagnosis(NamedTuple):
    """The findings, those about front ends, and what follows for a build started here."""

    findings: tuple[Finding, ...]
    front_ends: tuple[Finding, ...]
    served: bool
    verdict: str
    mend: str


def diagnose(sight: Sight, asked: str | None = None) -> Diagnosis:
    """Decide what a build would get, by any front end or by the one *asked* for."""
    environ, project = sight.environ, sight.project
    findings = (of_mode(environ), *of_settings(environ, project), *sight.findings, of_project(project))
    front_ends = tuple(of_front_end(seen, environ, project) for seen in sight.front_ends)
    chosen = [found for found in front_ends if asked in (None, found.about)]
    against = [found for found in findings if found.state in (OFF, IDLE)]
    by = [found.about for found in chosen if found.state == OK]
    if by and not against:
        others = [found.about for found in chosen if found.state == OFF]
        verdict = "would be served by " + ", ".join(by) + (f"; not by {', '.join(others)}" if others else "")
        return Diagnosis(findings, front_ends, True, verdict, "")
    against += sorted(chosen, key=lambda found: found.state != OFF)
    if not against:
        what = asked or "no front end that is known"
        against = [Finding(asked or "front ends", OFF, f"{what} is {'not ' if asked else ''}on PATH")]
    why = against[0]
    return Diagnosis(findings, front_ends, False, f"would not be served: {why.about}: {why.reason}", why.mend)


def of_mode(environ: Mapping[str, str], windows: bool = os.name == "nt") -> Finding:
    """Say what ``PYO3_ENVSHIM`` asks for."""
    value = environ.get("PYO3_ENVSHIM", "").strip()
    mode = _startup.mode(environ, windows)
    if mode == "on":
        return Finding("switch", OK, f"PYO3_ENVSHIM={value} means on" if value else "PYO3_ENVSHIM is not set")
    if mode == "base":
        return Finding("switch", OFF, "PYO3_ENVSHIM=base: cargo is not wrapped", "unset PYO3_ENVSHIM")
    if value.lower() in ("", "on"):  # only on Windows, and it is not "on"
        return Finding("switch", OFF, "on Windows it has to be switched on", "set PYO3_ENVSHIM=on")
    return Finding(
        "switch", OFF, f"PYO3_ENVSHIM={value}", "set PYO3_ENVSHIM=on" if windows else "unset PYO3_ENVSHIM"
    )


def of_settings(environ: Mapping[str, str], project: Project | None) -> list[Finding]:
    """Say which settings keep the wrapper from serving."""
    found = []
    own = cargo.setting_of_the_users(environ)
    if own:
        reason = f"{own} tells PyO3 or cargo what to build for"
        found.append(Finding("settings", OFF, reason, f"unset {own}"))
    wrapper = environ.get("CARGO", "")
    if _startup.is_wrapper(wrapper) and not os.access(wrapper, os.X_OK):
        found.append(
            Finding("settings", OFF, f"CARGO names a wrapper that is gone: {wrapper}", "unset CARGO")
        )
    # maturin 1.16: it then names the base interpreter to cargo, whose path is permanent
    if environ.get("MATURIN_PEP517_USE_BASE_PYTHON") in ("1", "true"):
        found.append(
            Finding(
                "settings",
                IDLE,
                "MATURIN_PEP517_USE_BASE_PYTHON is set: no random path",
                "unset MATURIN_PEP517_USE_BASE_PYTHON",
            )
        )
    elif project and project.uses_base:
        reason = "use-base-python of [tool.maturin] is set: no random path"
        found.append(Finding("settings", IDLE, reason, "remove it from pyproject.toml"))
    return found


def of_project(project: Project | None) -> Finding:
    """Say what is built from the source folder."""
    if project is None:
        return Finding("project", OK, "no pyproject.toml here: this is about what is built from elsewhere")
    if project.flaw:
        return Finding("project", OFF if project.broken else UNKNOWN, project.flaw)
    if project.is_rust:
        names = sorted(BACK_ENDS.intersection(project.requires)) or [project.backend]
        return Finding("project", OK, f"./pyproject.toml is built with {', '.join(names)}")
    if project.extra:
        return Finding("project", OK, f"no Rust build of its own, but uv builds {', '.join(project.extra)}")
    what = project.backend or "setuptools"
    return Finding("project", IDLE, f"no Rust build: ./pyproject.toml is built with {what}")


def of_crate(project: Project, manifest: str | None, lock: str | None) -> list[Finding]:
    """Say so if a crate, by the texts of its Cargo.toml and Cargo.lock, depends on no PyO3.

    maturin (1.16) then exports no PYO3_PYTHON; setuptools-rust always does.
    """
    maturins = project.is_rust and "setuptools-rust" not in project.requires
    if not maturins or manifest is None or "pyo3" in manifest or "pyo3" in (lock or ""):
        return []
    if lock is None:  # it may come with a dependency, or the lock file lie at a workspace's root
        return [Finding("crate", UNKNOWN, f"{project.manifest} names no PyO3")]
    return [Finding("crate", IDLE, f"{project.manifest} depends on no PyO3")]


def of_front_end(seen: Seen, environ: Mapping[str, str], project: Project | None) -> Finding:
    """Say whether a build by a front end would be served."""
    front_end = named(seen.name)
    if front_end.environment is None:
        return Finding(seen.name, UNKNOWN if front_end.why.startswith(STARTS) else IDLE, front_end.why)
    ways = ways_in(seen, environ, project)
    if front_end.option and not seen.option:
        then = "is served" if ways else "makes environments to serve"
        return Finding(seen.name, IDLE, f"only {front_end.option} {then}")
    if ways:
        return Finding(seen.name, OK, "; ".join(ways))
    return _not_on(seen, environ)


def ways_in(seen: Seen, environ: Mapping[str, str], project: Project | None) -> list[str]:
    """Return the ways in which the shim is on for a front end."""
    found = []
    wrapper = environ.get("CARGO", "")
    if _startup.is_wrapper(wrapper) and os.access(wrapper, os.X_OK):
        found.append("CARGO is the wrapper")
    if _startup.is_wrapper(seen.hooked) and seen.hook:
        found.append(f"the hook in {seen.hook}")
    if seen.installed and seen.installed[1]:
        found.append(f"installed: {seen.installed[0]}")
    if project and _SHIM in project.requires:
        found.append("build-system.requires")
    if project and not project.is_rust and project.extra and seen.name == "uv":
        found.append(f"extra-build-dependencies of {', '.join(project.extra)}")
    return found


def _not_on(seen: Seen, environ: Mapping[str, str]) -> Finding:
    """Say why a front end is not served, and the command that is closest to it."""
    mend = switch_on(environ)
    if seen.installed:
        path = seen.installed[0]
        mend = f"pyo3-envshim install --python {shlex.quote(seen.python)}"
        return Finding(seen.name, OFF, f"{path} names a package that is gone", mend)
    if not named(seen.name).python and not seen.asked:
        return Finding(seen.name, OFF, "no Python program, and CARGO is not the wrapper", mend)
    if not seen.asked:
        return Finding(seen.name, UNKNOWN, f"{seen.path} did not start a Python that answers", mend)
    if seen.hook:
        reason = f"the hook in {seen.hook} finds no {_startup.WRAPPER}"
        return Finding(seen.name, OFF, reason, "reinstall pyo3-envshim there, with its scripts")
    owner = _owner_of(seen.prefix) if seen.prefix else None
    if owner:
        mend = owner.format(seen.name)
    elif seen.prefix and seen.has_pip:
        mend = f"{shlex.quote(seen.python)} -m pip install {_SHIM}"
    return Finding(seen.name, OFF, f"pyo3-envshim is not beside it, in {seen.python}", mend)


# The files by which installers of programs know their environments (pipx 1.7, uv 0.13).
_OWNERS = (
    ("pipx_metadata.json", f"pipx inject {{}} {_SHIM}"),
    ("uv-receipt.toml", f"uv tool install --with {_SHIM} {{}}"),
)


def _owner_of(prefix: str) -> str | None:
    """Return the command with which a program's installer puts us beside it, its name left out."""
    return next((does for file, does in _OWNERS if os.path.exists(os.path.join(prefix, file))), None)


def switch_on(environ: Mapping[str, str]) -> str:
    """Return the command that switches the shim on in the user's shell."""
    shell = activation.shell_of(environ, os.name == "nt")
    ends = {"fish": "pyo3-envshim env | source", "powershell": "pyo3-envshim env | Out-String | iex"}
    return ends.get(shell, 'eval "$(pyo3-envshim env)"')


def named(name: str) -> FrontEnd:
    """Return the front end of that name."""
    return next(front_end for front_end in FRONT_ENDS if front_end.name == name)


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
    system = _table(tables, "build-system")
    extra = _table(uv, "extra-build-dependencies")
    backend = system.get("build-backend")
    return Project(
        requires=_names(system.get("requires")),
        backend=backend if isinstance(backend, str) else "",
        manifest=str(_table(tables, "tool", "maturin").get("manifest-path", "Cargo.toml")),
        uses_base=_table(tables, "tool", "maturin").get("use-base-python") is True,
        extra=tuple(name for name in extra if _SHIM in _names(extra[name])),
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
        match = re.match(r"\s*([\w.-]*\w)", str(text))
        found += [re.sub(r"[-_.]+", "-", match[1]).lower()] if match else []
    return tuple(found)


def look(environ: Mapping[str, str], folder: str) -> Sight:
    """Look at what matters for a build that is started in *folder* with *environ*."""
    project = read_project(
        activation.read(os.path.join(folder, "pyproject.toml")),
        activation.read(os.path.join(folder, "uv.toml")),
    )
    findings = [_cargo(environ), _store(environ), *_builds(environ), _interpreter()]
    if project:
        manifest = os.path.join(folder, project.manifest)
        lock = os.path.join(os.path.dirname(manifest), "Cargo.lock")
        findings += of_crate(project, activation.read(manifest), activation.read(lock))
    found = (look_at(front_end, environ) for front_end in FRONT_ENDS)
    return Sight(environ, project, tuple(findings), tuple(seen for seen in found if seen))


def look_at(front_end: FrontEnd, environ: Mapping[str, str]) -> Seen | None:
    """Find a front end on PATH and ask it; None if it is not there."""
    found = (shutil.which(name, path=environ.get("PATH")) for name in front_end.commands)
    path = next(filter(None, found), None)
    if path is None:
        return None
    option = front_end.option.partition("=")[2]
    facts: dict[str, Any] = {
        "name": front_end.name,
        "path": path,
        "option": bool(option) and option in _output([path, *front_end.settings], environ),
    }
    answer = _ask(path, front_end.name, environ)
    if answer:
        facts.update(answer, asked=True)
    else:
        version = re.search(r"\d+(\.\w+)+", _output([path, "--version"], environ))
        facts["version"] = version[0] if version else ""
        facts["python"] = _output([path, *front_end.target], environ).strip() if front_end.target else ""
    if facts["python"]:
        try:
            facts["installed"] = activation.installed(facts["python"])
        except activation.ActivationError:
            pass
    return Seen(**facts)


# Runs at the end of the Python's startup, when the hook has run, and ends the process.
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
    """Start a front end up to where its Python is ready, and return what the process is then.

    None if it starts no Python, or one that does not read PYTHONPATH. This finds what is
    behind any kind of script, and shows what the hook does instead of what it should do.
    """
    with tempfile.TemporaryDirectory(prefix="pyo3-envshim-doctor-") as folder:
        file = os.path.join(folder, "answer")
        with open(os.path.join(folder, "sitecustomize.py"), "w", encoding="utf-8") as probe:
            probe.write(_PROBE.format(name=name, answer=file))
        # as if the shim were not switched on, nor off, by variables: those are looked at apart
        variables = {key: value for key, value in cargo.restore(environ).items() if key != "PYO3_ENVSHIM"}
        folders = [folder, *filter(None, [environ.get("PYTHONPATH")])]
        _output([path, "--version"], {**variables, "PYTHONPATH": os.pathsep.join(folders)})
        text = activation.read(file)
    answer: dict[str, Any] | None = json.loads(text) if text else None
    return answer


def _cargo(environ: Mapping[str, str]) -> Finding:
    path = cargo.find_cargo(cargo.restore(environ), environ)
    if path is None:
        return Finding(
            "cargo", OFF, "not found on PATH", "install Rust, or set PYO3_ENVSHIM_CARGO to its path"
        )
    said = re.search(r"^cargo (\S+)", _output([path, "--version"], environ))
    if said is None:
        return Finding("cargo", OFF, f"{path} does not tell its version", f"{shlex.quote(path)} --version")
    return Finding("cargo", OK, f"{said[1]}, {path}")


def _store(environ: Mapping[str, str]) -> Finding:
    """Look at the store: at names and sizes only, as a look at all contents may take long."""
    try:
        place = cache.opened(environ)
        limit = cache.limit_of(None, environ)
        entries = upkeep.entries(place)
        damaged = sum(contents.surface(entry.path)[0] is not None for entry in entries)
    except activation.ActivationError as error:
        return Finding("store", OFF, str(error), error.hint)
    except OSError as error:
        return Finding("store", OFF, str(error))
    if not os.access(place.environments, os.W_OK | os.X_OK):
        return Finding(
            "store", OFF, f"{place.environments} is not writable", f"chmod u+rwx {place.environments}"
        )
    most = "no limit" if limit is None else f"at most {cache.human(limit)}"
    reason = f"{place.root}: {cache.content(entries)} ({most})"
    if damaged:
        reason += f"; {damaged} damaged, to be replaced when needed"
    return Finding("store", OK, reason, "pyo3-envshim cache verify" if damaged else "")


def _builds(environ: Mapping[str, str]) -> list[Finding]:
    """Look at the build folders that are kept, if there are any or shall be."""
    found = sources.builds(store.folder(environ))
    mend = f"set {sources.VARIABLE}=on"
    try:
        limit = sources.limit_of(environ)
    except ValueError as error:
        return [Finding("build cache", UNKNOWN, f"{sources.VARIABLE}: {error}; it is off", mend)]
    content = cache.content_of_builds(found) or "no build folders yet"
    if limit:
        most = "no limit" if limit == float("inf") else f"at most {cache.human(int(limit))}"
        reason = f"unpacked sdists keep what is compiled: {content} ({most})"
        return [Finding("build cache", OK, reason)]
    return [Finding("build cache", OK, f"{content}, but {sources.VARIABLE} is off", mend)] if found else []


def _interpreter() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    reason = f"{version}, {sys.executable}"
    root = interpreters.environment_of(sys.executable)
    if root:
        reason += f", made from {interpreters.base_of(root) or 'an interpreter that is gone'}"
    return Finding("python", OK, reason)


def _output(command: Sequence[str], environ: Mapping[str, str]) -> str:
    """Run a command; return what it printed, or nothing if it failed."""
    try:
        done = subprocess.run(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def report(sight: Sight, found: Diagnosis, colour: bool = False) -> str:
    """Return what is said of it: a table, a hint below what can be mended, and what follows."""
    titles = {seen.name: f"{seen.name} {seen.version}".strip() for seen in sight.front_ends}
    rows = [(it.about, it.state, it.reason) for it in found.findings]
    rows += [(titles[it.about], it.state, it.reason) for it in found.front_ends]
    lines = [f"pyo3-envshim {__version__}"]
    for row, line, it in zip(rows, cache.aligned(rows), (*found.findings, *found.front_ends)):
        if colour:
            head = line[: -len(row[2])].replace(it.state, f"\033[{_COLOURS[it.state]}m{it.state}\033[0m")
            line = head + row[2]
        lines.append(line)
        if it.mend:
            lines.append(f"  hint: {it.mend}")
    lines += ["", f"a build started here {found.verdict}"]
    if found.mend:
        lines.append(f"hint: {found.mend}")
    return "".join(line + "\n" for line in lines)


def as_data(sight: Sight, found: Diagnosis) -> dict[str, Any]:
    """Return the same for JSON."""
    front_ends = []
    for seen, finding in zip(sight.front_ends, found.front_ends):
        root = interpreters.environment_of(seen.python)
        more = {
            "version": seen.version,
            "path": seen.path,
            "python": seen.python,
            "base": (interpreters.base_of(root) if root else seen.python) or "",
            "ways": ways_in(seen, sight.environ, sight.project),
        }
        front_ends.append({**finding._asdict(), **more})
    return {
        "version": __version__,
        "served": found.served,
        "verdict": found.verdict,
        "mend": found.mend,
        "findings": [finding._asdict() for finding in found.findings],
        "front_ends": front_ends,
    }
