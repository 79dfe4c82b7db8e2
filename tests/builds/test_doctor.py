"""What `pyo3-envshim doctor` foretells is what happens: both are tried, with real front ends."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from support.front_ends import BUILD, PIP, PIP_VENV, UV_BUILD, FrontEnd, Host
from support.sample_crates import MATURIN, Project

from .workshop import Bench

_NAMES = {PIP: "pip", PIP_VENV: "pip", BUILD: "build", UV_BUILD: "uv"}


def _foretold(
    bench: Bench, front_end: FrontEnd, project: Project, host: Host, **variables: str
) -> dict[str, Any]:
    """Ask, in the project's folder and with the build's variables, about the host's front end."""
    if front_end is PIP_VENV:
        variables["PIP_USE_FEATURE"] = "venv-isolation"
    done = subprocess.run(
        [str(bench.shimmed.folder / "bin" / "pyo3-envshim"), "doctor", "--json", _NAMES[front_end]],
        env=bench.environment(host) | variables,
        cwd=project.folder,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["served"] else 1)
    return found


def _assert_happens(
    bench: Bench, front_end: FrontEnd, project: Project, host: Host, served: bool, **variables: str
) -> None:
    """Assert that it is foretold whether a build is served, and that this comes true."""
    if host.shimmed and front_end is UV_BUILD:
        variables.setdefault("CARGO", str(host.wrapper))
    found = _foretold(bench, front_end, project, host, **variables)
    built = bench.build(front_end, project, host, **variables)
    assert built.pyo3_python.startswith(str(bench.store)) == served
    assert found["served"] == served, found["verdict"]


@pytest.mark.parametrize("shimmed", [True, False], ids=["with the shim", "without"])
@pytest.mark.parametrize("front_end", [PIP_VENV, BUILD, UV_BUILD], ids=lambda it: it.name)
def test_a_build_is_served_exactly_if_it_is_foretold(
    bench: Bench, front_end: FrontEnd, shimmed: bool
) -> None:
    host = bench.shimmed if shimmed else bench.plain
    _assert_happens(bench, front_end, bench.project(), host, served=shimmed)


def test_a_build_requirement_is_seen(bench: Bench) -> None:
    project = bench.project(also_requires=("pyo3-envshim",))
    _assert_happens(bench, UV_BUILD, project, bench.plain, served=True)


def test_pips_default_isolation_is_known_to_need_nothing(bench: Bench) -> None:
    _assert_happens(bench, PIP, bench.project(), bench.shimmed, served=False)


@pytest.mark.parametrize(
    "variables",
    [
        {"PYO3_ENVSHIM": "off"},
        {"PYO3_ENVSHIM": "base"},
        {"MATURIN_PEP517_USE_BASE_PYTHON": "1"},
        {"PYO3_ENVSHIM_CACHE_DIR": "/dev/null/store"},
    ],
    ids=lambda it: "=".join(*it.items()),
)
def test_what_keeps_a_build_from_being_served_is_seen(bench: Bench, variables: dict[str, str]) -> None:
    _assert_happens(bench, BUILD, bench.project(), bench.shimmed, served=False, **variables)


def test_a_crate_without_pyo3_is_known_to_need_nothing(bench: Bench) -> None:
    project = bench.project(warm=False)
    manifest = (project.folder / "Cargo.toml").read_text()
    project.write("Cargo.toml", manifest[: manifest.index("[lib]")])
    project.write("src/main.rs", "fn main() {}\n")
    (project.folder / "src" / "lib.rs").unlink()
    bench.settle_lock(project)
    found = _foretold(bench, BUILD, project, bench.shimmed)
    assert found["verdict"].startswith("would not be served: crate: ")
    built = bench.build(BUILD, project, bench.shimmed)
    assert built.compiled == ["tiny"]
    assert bench.entries == []


def test_maturins_own_setting_is_seen(bench: Bench) -> None:
    project = bench.project()
    project.write("pyproject.toml", MATURIN.pyproject() + "\n[tool.maturin]\nuse-base-python = true\n")
    _assert_happens(bench, BUILD, project, bench.shimmed, served=False)
