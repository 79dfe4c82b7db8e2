"""``pyo3-envshim doctor``: says what a build started here and now would get from the shim, and why.

`diagnose` decides, from the values of a `Snapshot`; `report` and `as_data` put that into words.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from pyo3_envshim import __version__, _startup, wrapper
from pyo3_envshim.cli import cache, env
from pyo3_envshim.cli.explain.causes import NAME_IT
from pyo3_envshim.cli.snapshot import (
    BACK_ENDS,
    IDLE,
    NAMING_NONE,
    OFF,
    OK,
    SHIM,
    UNKNOWN,
    DetectedFrontEnd,
    Finding,
    Project,
    Snapshot,
)
from pyo3_envshim.environment import interpreter
from pyo3_envshim.environment.frontends import FRONT_ENDS

_NAMED = {front_end.name: front_end for front_end in FRONT_ENDS}
_COLOURS = {OK: "32", OFF: "31", IDLE: "33", UNKNOWN: "33"}
# How program installers put us beside a program, by the file in its environment (pipx 1.7, uv 0.13).
_OWNERS = {
    "uv-receipt.toml": f"uv tool install --with {SHIM} {{}}",
    "pipx_metadata.json": f"pipx inject {{}} {SHIM}",
}


class Diagnosis(NamedTuple):
    """The findings, those about front ends, and what they mean for a build started here."""

    findings: list[Finding]
    front_ends: list[Finding]
    served: bool
    verdict: str
    hint: str


def diagnose(seen: Snapshot, asked: str | None = None) -> Diagnosis:
    """Decide what a build would get, by any front end or by the one *asked* for."""
    environ, project = seen.environ, seen.project
    findings = [of_mode(environ), *of_settings(environ, project), *seen.findings]
    findings += [*of_crate(project, seen.manifest, seen.lock), of_project(environ, project)]
    front_ends = [of_front_end(it, environ, project) for it in seen.front_ends]
    chosen = [found for found in front_ends if asked in (None, found.about)]
    against = [found for found in findings if found.state in (OFF, IDLE)]
    by = [found.about for found in chosen if found.state == OK]
    if by and not against:
        others = [found.about for found in chosen if found.state == OFF]
        verdict = "would be served by " + ", ".join(by) + (f"; not by {', '.join(others)}" if others else "")
        return Diagnosis(findings, front_ends, True, verdict, "")
    against += sorted(chosen, key=lambda found: found.state != OFF)
    none = f"{asked} is not on PATH" if asked else "no front end that is known is on PATH"
    why = against[0] if against else Finding(asked or "front ends", OFF, none)
    return Diagnosis(findings, front_ends, False, f"would not be served: {why.about}: {why.reason}", why.hint)


def of_mode(environ: Mapping[str, str]) -> Finding:
    value = environ.get("PYO3_ENVSHIM", "").strip()
    mode = _startup.mode(environ)
    if mode == "on":
        counts = " and counts more than the user's switch" if os.path.exists(_startup.switch()) else ""
        reason = f"PYO3_ENVSHIM={value} means on{counts}" if value else "PYO3_ENVSHIM is not set"
        return Finding("switch", OK, reason)
    if mode == "base":
        return Finding("switch", OFF, "PYO3_ENVSHIM=base: cargo is not wrapped", "unset PYO3_ENVSHIM")
    if not value and os.path.exists(_startup.switch()):
        return Finding("switch", OFF, f"switched off by {_startup.switch()}", "pyo3-envshim on")
    return Finding("switch", OFF, f"PYO3_ENVSHIM={value}", "unset PYO3_ENVSHIM")


def of_settings(environ: Mapping[str, str], project: Project | None) -> list[Finding]:
    """Say which settings keep the wrapper from serving."""
    found = []
    if own := wrapper.user_setting(environ):
        reason = f"{own} tells PyO3 or cargo what to build for"
        found.append(Finding("settings", OFF, reason, f"unset {own}"))
    cargo = environ.get("CARGO", "")
    if _startup.is_wrapper(cargo) and not os.access(cargo, os.X_OK):
        reason = f"CARGO names a wrapper that is gone: {cargo}"
        found.append(Finding("settings", OFF, reason, "unset CARGO"))
    if _startup.has_other_name(cargo):
        reason = f"CARGO={cargo} is not called cargo, and stays: back ends ask what it is called"
        found.append(Finding("settings", OFF, reason, "unset CARGO"))
    # maturin 1.16 then names the base interpreter to cargo, whose path is permanent.
    if environ.get("MATURIN_PEP517_USE_BASE_PYTHON") in ("1", "true"):
        reason = "MATURIN_PEP517_USE_BASE_PYTHON is set: no random path"
        found.append(Finding("settings", IDLE, reason, "unset MATURIN_PEP517_USE_BASE_PYTHON"))
    elif project and project.uses_base:
        reason = "use-base-python of [tool.maturin] is set: no random path"
        found.append(Finding("settings", IDLE, reason, "remove it from pyproject.toml"))
    return found


def of_project(environ: Mapping[str, str], project: Project | None) -> Finding:
    if project is None:
        return Finding("project", OK, "no pyproject.toml here: this is about what is built from elsewhere")
    if project.flaw:
        return Finding("project", OFF if project.broken else UNKNOWN, project.flaw)
    if project.is_rust:
        names = sorted(BACK_ENDS.intersection(project.requires)) or [project.backend]
        return Finding("project", OK, f"./pyproject.toml is built with {', '.join(names)}")
    if project.extra:
        return Finding("project", OK, f"no Rust build of its own, but uv builds {', '.join(project.extra)}")
    for name in (name for name in project.requires if name in NAMING_NONE):
        hint = "" if environ.get("PYO3_PYTHON") else f"if it compiles PyO3, {NAME_IT}"
        return Finding("project", IDLE, f"./pyproject.toml is built with {name}: {NAMING_NONE[name]}", hint)
    what = project.backend or "setuptools"
    return Finding("project", IDLE, f"no Rust build: ./pyproject.toml is built with {what}")


def of_crate(project: Project | None, manifest: str | None, lock: str | None) -> list[Finding]:
    """Say so if the crate with these texts of Cargo.toml and Cargo.lock does not depend on PyO3.

    maturin (1.16) then exports no PYO3_PYTHON; setuptools-rust always does.
    """
    if project is None or not project.is_rust or "setuptools-rust" in project.requires:
        return []
    if manifest is None or "pyo3" in manifest or "pyo3" in (lock or ""):
        return []
    if lock is None:  # a dependency may bring PyO3, or the lock file lie at a workspace's root
        return [Finding("crate", UNKNOWN, f"{project.manifest} names no PyO3")]
    return [Finding("crate", IDLE, f"{project.manifest} depends on no PyO3")]


def of_front_end(seen: DetectedFrontEnd, environ: Mapping[str, str], project: Project | None) -> Finding:
    front_end = _NAMED[seen.name]
    if not front_end.passes_cargo and not ways_in(seen, {}, project):
        return _not_on(seen, environ)
    if front_end.why:
        return Finding(seen.name, UNKNOWN if front_end.starts_others else IDLE, front_end.why)
    ways = ways_in(seen, environ, project)
    if front_end.option and not seen.option:
        if ways and project is None:
            return Finding(seen.name, OK, f"for sdists and clones: {'; '.join(ways)}")
        reason = f"where the sources are, only {front_end.option} makes environments to serve"
        if ways:
            reason = f"for an sdist or a clone, it is served; {reason}"
        return Finding(seen.name, IDLE, reason)
    if ways:
        return Finding(seen.name, OK, "; ".join(ways))
    return _not_on(seen, environ)


def ways_in(seen: DetectedFrontEnd, environ: Mapping[str, str], project: Project | None) -> list[str]:
    found = []
    cargo = environ.get("CARGO", "")
    if _startup.is_wrapper(cargo) and os.access(cargo, os.X_OK):
        found.append("CARGO is the wrapper")
    if _startup.is_wrapper(seen.hooked) and seen.hook:
        found.append(f"the hook in {seen.hook}")
    if seen.installed and seen.installed.is_whole:
        found.append(f"installed: {seen.installed.path}")
    if project and SHIM in project.requires:
        found.append("build-system.requires")
    if project and not project.is_rust and project.extra and seen.name == "uv":
        found.append(f"extra-build-dependencies of {', '.join(project.extra)}")
    return found


def _not_on(seen: DetectedFrontEnd, environ: Mapping[str, str]) -> Finding:
    """Say why a front end is not served, and the command that is the shortest way to change it."""
    if _startup.has_other_name(cargo := environ.get("CARGO", "")):
        return Finding(seen.name, OFF, f"CARGO={cargo} stays", "unset CARGO")
    ways = {"fish": "pyo3-envshim env | source", "powershell": "pyo3-envshim env | Out-String | iex"}
    hint = ways.get(env.shell_of(environ, os.name == "nt"), 'eval "$(pyo3-envshim env)"')
    if not _NAMED[seen.name].passes_cargo:
        hint = f"add `requires = {SHIM}` below [tox]"
    if seen.installed:
        hint = f"pyo3-envshim install --python {shlex.quote(seen.python)}"
        return Finding(seen.name, OFF, f"{seen.installed.path} names a package that is gone", hint)
    if not _NAMED[seen.name].python and not seen.asked:
        return Finding(seen.name, OFF, "no Python program, and CARGO is not the wrapper", hint)
    if not seen.asked:
        return Finding(seen.name, UNKNOWN, f"{seen.path} did not start a Python that answers", hint)
    if seen.hook and (script := _startup.wrapper()) and _startup.startable(script) is None:
        reason = "the wrapper cannot start yet without the user's site-packages, which pip hides"
        return Finding(seen.name, OFF, reason, 'once: eval "$(pyo3-envshim env)"')
    if seen.hook:
        reason = f"the hook in {seen.hook} finds no {_startup.WRAPPER}"
        return Finding(seen.name, OFF, reason, "reinstall pyo3-envshim there, with its scripts")
    if seen.prefix and seen.has_pip:
        hint = f"{shlex.quote(seen.python)} -m pip install {SHIM}"
    for file, command in _OWNERS.items():
        if seen.prefix and os.path.exists(os.path.join(seen.prefix, file)):
            hint = command.format(seen.name)
    reason = f"pyo3-envshim is not beside it, in {seen.python}"
    if not _NAMED[seen.name].passes_cargo:
        reason += ", and it passes CARGO on to nothing"
    return Finding(seen.name, OFF, reason, hint)


def report(seen: Snapshot, found: Diagnosis, colour: bool = False) -> str:
    """Return a diagnosis as a table, with a hint below what can be changed and the verdict last."""
    titles = {it.name: f"{it.name} {it.version}".strip() for it in seen.front_ends}
    every = [*found.findings, *found.front_ends]
    rows = [(titles.get(it.about, it.about), it.state, it.reason) for it in every]
    lines = [f"pyo3-envshim {__version__}"]
    for line, it in zip(cache.aligned(rows), every):
        if colour:
            head = line[: -len(it.reason)].replace(it.state, f"\033[{_COLOURS[it.state]}m{it.state}\033[0m")
            line = head + it.reason
        lines.append(line)
        if it.hint:
            lines.append(f"  hint: {it.hint}")
    lines += ["", f"a build started here {found.verdict}"]
    if found.hint:
        lines.append(f"hint: {found.hint}")
    return "".join(line + "\n" for line in lines)


def as_data(seen: Snapshot, found: Diagnosis) -> dict[str, Any]:
    front_ends = []
    for it, finding in zip(seen.front_ends, found.front_ends):
        root = interpreter.environment_of(it.python)
        more = {name: getattr(it, name) for name in ("version", "path", "python")}
        base = (interpreter.base_of(root) if root else it.python) or ""
        ways = ways_in(it, seen.environ, seen.project)
        front_ends.append({**finding._asdict(), **more, "base": base, "ways": ways})
    findings = [finding._asdict() for finding in found.findings]
    verdict = {"served": found.served, "verdict": found.verdict, "hint": found.hint}
    return {"version": __version__, **verdict, "findings": findings, "front_ends": front_ends}
