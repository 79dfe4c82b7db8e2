"""What the hook process and cargo see: everything as it was with PYO3_ENVSHIM=off."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from support.front_ends import BUILD, PIP, PIP_VENV, TOX_PASS_ENV, TOX_SDIST, UV_BUILD, FrontEnd, Host
from support.interpreters import base_interpreter
from support.sample_crates import MATURIN, Project

from .workshop import Bench, Built, normalised

_SPY = """\
import json, os
from maturin import *
from maturin import build_wheel as real_build_wheel

def build_wheel(*arguments, **settings):
    with open("hook.json", "w") as file:
        json.dump(dict(os.environ), file)
    return real_build_wheel(*arguments, **settings)
"""
_RUST = {"RUSTUP_HOME": ".rustup", "CARGO_HOME": ".cargo"}
_OFF = ("off", "0", "no", "false")

_each_front_end = pytest.mark.parametrize(
    "front_end", [PIP, PIP_VENV, BUILD, UV_BUILD], ids=lambda it: it.name
)


def _project_that_spies(bench: Bench, name: str, *, with_shim: bool) -> Project:
    """Write a project whose back end leaves its variables in hook.json."""
    project = bench.project(MATURIN, name=name)
    also = ("pyo3-envshim",) if with_shim else ("platformdirs",)
    text = MATURIN.pyproject(also)
    backend = 'build-backend = "maturin"'
    assert backend in text
    project.write("pyproject.toml", text.replace(backend, 'build-backend = "spy"\nbackend-path = ["."]'))
    project.write("spy.py", _SPY)
    return project


def _seen(
    bench: Bench, front_end: FrontEnd, project: Project, host: Host, mode: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Build and return the variables of the hook process and of the cargo that compiles."""
    built: Built = bench.build(front_end, project, host, PYO3_ENVSHIM=mode)
    names = {str(host.folder): "<host>", str(project.folder): "<project>"}
    hook = json.loads((project.folder / "hook.json").read_text())
    return normalised(hook, names), normalised(built.compiling_environment, names)


@_each_front_end
@pytest.mark.parametrize("mode", _OFF[:1])
def test_off_leaves_every_variable_as_it_was(bench: Bench, front_end: FrontEnd, mode: str) -> None:
    without = _project_that_spies(bench, "without", with_shim=False)
    with_it = _project_that_spies(bench, "with", with_shim=True)
    plain_hook, plain_cargo = _seen(bench, front_end, without, bench.plain, mode)
    hook, cargo = _seen(bench, front_end, with_it, bench.shimmed, mode)
    if front_end is UV_BUILD:
        wrapper = hook.pop("CARGO")
        assert wrapper.startswith("<host>/")
        assert wrapper.endswith("/pyo3-envshim-cargo")
    assert hook == plain_hook
    assert cargo == plain_cargo


@pytest.mark.parametrize("mode", _OFF)
def test_every_word_for_off_keeps_the_wrapper_out(bench: Bench, mode: str) -> None:
    project = _project_that_spies(bench, "project", with_shim=True)
    hook, cargo = _seen(bench, BUILD, project, bench.shimmed, mode)
    assert "CARGO" not in hook
    assert "PYO3_BASE_PYTHON" not in hook
    assert "/build-env-?/" in cargo["PYO3_PYTHON"]


@_each_front_end
def test_base_sets_the_base_interpreter_only(bench: Bench, front_end: FrontEnd) -> None:
    project = _project_that_spies(bench, "project", with_shim=True)
    hook, cargo = _seen(bench, front_end, project, bench.shimmed, "base")
    _assert_is_base(hook["PYO3_BASE_PYTHON"], hook)
    if front_end is not UV_BUILD:
        assert "CARGO" not in hook
    assert cargo["PYO3_BASE_PYTHON"] == hook["PYO3_BASE_PYTHON"]
    if front_end.ephemeral:
        assert "?/" in cargo["PYO3_PYTHON"]


@_each_front_end
def test_by_default_the_hook_process_gets_both_variables(bench: Bench, front_end: FrontEnd) -> None:
    project = _project_that_spies(bench, "project", with_shim=True)
    hook, cargo = _seen(bench, front_end, project, bench.shimmed, "")
    _assert_is_base(hook["PYO3_BASE_PYTHON"], hook)
    assert Path(hook.get("CARGO", "")).name == "pyo3-envshim-cargo"
    assert "CARGO" not in cargo
    assert cargo["PYO3_PYTHON"].startswith(str(bench.store)) == front_end.ephemeral


def test_a_base_interpreter_set_by_the_user_is_never_changed(bench: Bench) -> None:
    project = _project_that_spies(bench, "project", with_shim=True)
    bench.variables["PYO3_BASE_PYTHON"] = "/of/the/user"
    hook, cargo = _seen(bench, BUILD, project, bench.shimmed, "")
    assert hook["PYO3_BASE_PYTHON"] == cargo["PYO3_BASE_PYTHON"] == "/of/the/user"


def _assert_is_base(python: str, environment: dict[str, str]) -> None:
    assert os.path.realpath(python) == base_interpreter()
    assert not python.startswith(environment.get("VIRTUAL_ENV", "\0"))


@pytest.mark.parametrize("by", ["nothing", "the recipe", "the plugin"])
def test_the_users_switch_is_off_where_tox_drops_the_variable(bench: Bench, by: str) -> None:
    """tox passes on none of our variables unless it is told to, by one of these; HOME it does."""
    project = _project_that_spies(bench, "project", with_shim=True)
    left = project.folder / "hook.json"
    spy = _SPY.replace('"hook.json"', repr(str(left)))
    project.write(
        "spy.py", spy.replace("return real_build_wheel(*arguments, **settings)", "raise SystemExit")
    )
    included = '\n[tool.maturin]\ninclude = [{ path = "spy.py", format = "sdist" }]\n'
    project.write("pyproject.toml", (project.folder / "pyproject.toml").read_text() + included)
    tox = TOX_PASS_ENV if by == "the recipe" else TOX_SDIST
    bench.variables |= {name: os.environ.get(name, str(Path.home() / at)) for name, at in _RUST.items()}
    bench.variables["PIP_USE_FEATURE"] = "venv-isolation"
    home = bench.folder / "home"
    switch = home / ".cache" / "pyo3-envshim" / "switched-off"
    switch.parent.mkdir(parents=True)
    seen = []
    for _ in range(2):
        left.unlink(missing_ok=True)
        try:
            host = bench.host(tox, shimmed=by == "the plugin")
            bench.build(tox, project, host, HOME=str(home), PYO3_ENVSHIM="off")
        except AssertionError:  # it ends where the spy has seen enough
            pass
        hook = json.loads(left.read_text())
        assert ("PYO3_ENVSHIM" in hook) == (by != "nothing")
        seen.append("CARGO" in hook)
        switch.touch()
    assert seen == [by == "nothing", False]
