"""Real front ends for several interpreters, and an editor beside: each finds what it has compiled before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.front_ends import (
    BUILD,
    MATURIN_BUILD,
    MATURIN_DEVELOP,
    NOX,
    PASSED_TO_TOX,
    TOX,
    UV_BUILD,
    FrontEnd,
)
from support.interpreters import interpreter
from support.sample_crates import MATURIN, SETUPTOOLS_RUST, BackEnd, Project, PyO3

from .workshop import Bench, Built, run

ABI3 = ("abi3-py39",)
CONFIGURED = (*ABI3, "generate-import-lib")  # maturin 1.16 writes a PYO3_CONFIG_FILE for each interpreter
SECOND_LAYOUT = {"CARGO_UNSTABLE_BUILD_DIR_NEW_LAYOUT": "true", "RUSTC_BOOTSTRAP": "1"}
REPRODUCIBLE = {"SOURCE_DATE_EPOCH": "1700000000", "PYO3_ENVSHIM_VERBOSE": "1"}
RELEASE = {"MATURIN_PEP517_ARGS": "--profile release", "SETUPTOOLS_RUST_CARGO_PROFILE": "release"}
# A crate that does not depend on Python, and what has its outputs beside the library's.
WORKSPACE = {
    "Cargo.toml": 'core-of-it = { path = "core" }\n[workspace]\nmembers = ["core"]\n',
    "core/Cargo.toml": '[package]\nname = "core-of-it"\nversion = "0.1.0"\nedition = "2021"\n',
    "core/src/lib.rs": "pub fn f() -> u32 { 1 }\n",
    "src/bin/tool.rs": "fn main() {}\n",
    "examples/plain.rs": "fn main() {}\n",
}


def pythons(count: int = 3) -> list[str]:
    """Return some interpreters that all these releases of PyO3 know; skip the test if there is only one."""
    found = [python for minor in (12, 11, 10, 9) if (python := interpreter(f"3.{minor}"))][:count]
    if len(found) < 2:
        pytest.skip("there is only one of CPython 3.9 to 3.12 in PYENV_ROOT or on PATH")
    return found


def extend(project: Project) -> None:
    """Make a workspace of it."""
    for name, text in WORKSPACE.items():
        if name == "Cargo.toml":
            project.extend(name, text)
        else:
            project.write(name, text)


@pytest.mark.parametrize(
    ("version", "back_end", "features", "front_end", "variables"),
    [
        ("0.22", SETUPTOOLS_RUST, (), UV_BUILD, {}),
        ("0.22", MATURIN, ABI3, UV_BUILD, {}),
        ("0.26", MATURIN, (), BUILD, {}),
        ("0.26", SETUPTOOLS_RUST, ABI3, UV_BUILD, {}),
        ("0.29", MATURIN, (), UV_BUILD, RELEASE),
        ("0.29", MATURIN, CONFIGURED, UV_BUILD, {}),
        ("0.29", SETUPTOOLS_RUST, (), BUILD, {}),
        ("0.30", MATURIN, (), UV_BUILD, SECOND_LAYOUT),
        ("0.30", SETUPTOOLS_RUST, ABI3, UV_BUILD, RELEASE),
        ("0.30", MATURIN, (), MATURIN_BUILD, {}),
    ],
    ids=str,
)
def test_the_second_round_of_several_interpreters_compiles_nothing(
    bench: Bench,
    version: str,
    back_end: BackEnd,
    features: tuple[str, ...],
    front_end: FrontEnd,
    variables: dict[str, str],
) -> None:
    bench.variables |= {**REPRODUCIBLE, **variables}
    crate = PyO3(version, features)
    project = bench.project(back_end, pyo3=crate)
    own = {"CARGO_TARGET_DIR": str(bench.fill(bench.folder / "own", crate))}

    def build(python: str, *, shimmed: bool, **own: str) -> Built:
        host = bench.host(front_end, shimmed=shimmed, python=python)
        return bench.build(front_end, project, host, python=python, **own)

    known = pythons(3 if variables else 2)  # two take turns as three do, in two thirds of the time
    wheels = {python: build(python, shimmed=False, **own).wheel for python in known}
    for is_second in (False, True):
        for python, wheel in wheels.items():
            built = build(python, shimmed=True)
            assert not (is_second and built.compiled), built.output
            assert built.wheel
            assert wheel
            assert built.wheel.read_bytes() == wheel.read_bytes()
            assert bench.answer(built, python) == "42"


def test_a_workspace_with_a_program_and_examples(bench: Bench) -> None:
    bench.variables |= REPRODUCIBLE
    project = bench.project()
    extend(project)
    bench.settle_lock(project)
    for python in pythons():
        bench.build(UV_BUILD, project, bench.shimmed, python=python)
    run_cargo(bench, project, "build", "--all-targets")
    for python in pythons():
        built = bench.build(UV_BUILD, project, bench.shimmed, python=python)
        assert built.compiled == []
        assert bench.answer(built, python) == "42"
    assert run_cargo(bench, project, "build", "--all-targets") == []
    project.set_answer("changed")
    for python in pythons():
        built = bench.build(UV_BUILD, project, bench.shimmed, python=python)
        assert built.compiled == ["tiny"]
        assert bench.answer(built, python) == "changed"
    project.write("core/src/lib.rs", "pub fn f() -> u32 { 2 }\n")
    for number, python in enumerate(pythons()):
        built = bench.build(UV_BUILD, project, bench.shimmed, python=python)
        assert sorted(built.compiled) == (["core-of-it", "tiny"] if number == 0 else ["tiny"])


def run_cargo(bench: Bench, project: Project, *arguments: str, **variables: str) -> list[str]:
    """Run the cargo of a terminal, as `env --path` has put it there; return what was compiled."""
    command = [str(bench.shimmed.script("pyo3-envshim")), "run", "--path", "--", "cargo", *arguments]
    bench.cargo.take_calls()
    environment = bench.environment(bench.shimmed) | variables
    output = run(command, environment, project.folder)
    lines = (line.split() for line in output.splitlines())
    return [words[1] for words in lines if words[:1] in (["Compiling"], ["Checking"])]


def test_a_terminal_and_front_ends_in_one_profile(bench: Bench) -> None:
    project = bench.project()
    project.extend("src/lib.rs", "#[test]\nfn nothing() {}\n")
    manifest = (project.folder / "Cargo.toml").read_text()
    project.write("Cargo.toml", manifest.replace('["cdylib"]', '["cdylib", "rlib"]'))
    one, other = pythons()[:2]
    developing = bench.host(MATURIN_DEVELOP, shimmed=True)
    path = f"{bench.environment()['PATH']}:{bench.plain.folder}/bin"  # maturin installs with uv
    rounds: list[Callable[[], list[str]]] = [
        lambda: bench.build(UV_BUILD, project, bench.shimmed, python=one).compiled,
        lambda: run_cargo(bench, project, "check"),
        lambda: run_cargo(bench, project, "test", "--no-run", PYO3_PYTHON=other),
        lambda: bench.build(MATURIN_DEVELOP, project, developing, PATH=path).compiled,
        lambda: bench.build(UV_BUILD, project, bench.shimmed, python=other).compiled,
    ]
    for step in rounds:
        step()
    for number, step in enumerate(rounds):
        assert step() == [], number
    project.set_answer("changed")
    for number, step in enumerate(rounds):
        assert step() == ["tiny"], number
    for number, step in enumerate(rounds):
        assert step() == [], number


def test_a_terminal_with_one_environment_and_another(bench: Bench, tmp_path: Path) -> None:
    project = bench.project()
    environments = [tmp_path / Path(python).name for python in pythons(2)]
    for python, environment in zip(pythons(2), environments):
        run([python, "-m", "venv", "--without-pip", str(environment)], bench.environment())
    for number in range(3):
        for environment in environments:
            compiled = run_cargo(bench, project, "check", VIRTUAL_ENV=str(environment))
            assert (compiled == []) == (number > 0)
    environments[0].joinpath("pyvenv.cfg").touch()
    assert "pyo3-ffi" in run_cargo(bench, project, "check", VIRTUAL_ENV=str(environments[0]))


def test_two_front_ends_with_a_build_requirement_each(bench: Bench) -> None:
    project = bench.project(also_requires=("reqlib",))
    for number in range(3):
        for front_end, version in ((UV_BUILD, "1"), (BUILD, "2")):
            bench.requirement_version = version
            built = bench.build(front_end, project, bench.shimmed)
            assert built.compiled == [] or number == 0
            assert bench.answer(built) == "42"


_NOXFILE = """\
import nox

nox.options.default_venv_backend = "uv"

@nox.session(python={pythons})
def tests(session):
    environment = {{"UV_PROJECT_ENVIRONMENT": session.virtualenv.location}}
    python = session.virtualenv.location + "/bin/python"
    session.run_install("uv", "sync", "--no-cache", "-p", python, env=environment)
    session.run("python", "-c", "import tiny; print('answer', tiny.answer())")
"""
_TOX_INI = """\
[tox]
env_list = {names}
[testenv]
package = wheel
commands = python -c "import tiny; print('answer', tiny.answer())"
pass_env = {passed}
[pkgenv]
pass_env = {passed}
"""


@pytest.mark.parametrize("front_end", [NOX, TOX], ids=lambda it: it.name)
def test_a_session_for_each_interpreter(bench: Bench, front_end: FrontEnd, tmp_path: Path) -> None:
    project = bench.project()
    found = pythons()
    names = ",".join("py" + Path(python).name[len("python") :].replace(".", "") for python in found)
    project.write("noxfile.py", _NOXFILE.format(pythons=[Path(it).name[len("python") :] for it in found]))
    project.write("tox.ini", _TOX_INI.format(names=names, passed=PASSED_TO_TOX))
    host = bench.host(front_end, shimmed=True)
    commands = {
        NOX.name: [str(host.script("nox")), "--no-reuse-existing-virtualenvs"],
        TOX.name: [str(host.script("tox")), "run", "--recreate", "--discover", *found],
    }
    compiled = []
    for _ in range(2):
        own = {name: value.format(work=tmp_path) for name, value in front_end.variables}
        environment = bench.environment(host) | own
        environment["PATH"] += "".join(f":{Path(python).parent}" for python in found)
        bench.cargo.take_calls()
        output = run(commands[front_end.name], environment, project.folder)
        assert output.count("answer 42") == len(found), output
        compiled.append([crate for call in bench.cargo.take_calls() for crate in call.compiled])
    assert compiled[0].count("tiny") == len(found)
    assert compiled[1] == []
