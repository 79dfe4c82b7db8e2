"""The startup hook, mostly in real interpreters that start in real environments with it installed."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import uv

import hatch_build
from pyo3_envshim import _startup
from pyo3_envshim.environment import frontends
from support.interpreters import interpreter

from .environments import (
    DUMP,
    FRONT_END_MODULES,
    IN_A_BUILD,
    MARKERS,
    ROOT,
    Changes,
    Shared,
    changed,
    install,
    make_environment,
    program,
    program_in,
    run,
    script,
    site_packages,
    started,
    wrapper,
)

HOOK = hatch_build.hooks(str(ROOT))["pyo3_envshim.pth"]
DUMPED = ("-c", DUMP)  # what most of these tests' processes run
IDENTITY = "import sys; print(sys.version, sys.base_prefix, sys.base_exec_prefix, sep='\\n')"


def wrapper_of(root: Path) -> str:
    return str(wrapper(root))


def assert_is_base_of(root: Path, base: str | None, environ: Mapping[str, str]) -> None:
    """Check that *base* is in no environment, and is the interpreter that *root* was made from."""
    assert base is not None
    assert os.path.isfile(base)
    assert not (Path(base).parents[1] / "pyvenv.cfg").exists()
    inside = run([program_in(root, "python"), "-c", IDENTITY], environ)
    assert run([base, "-c", IDENTITY], environ) == inside


class TestABuildBackEndsProcess:
    """A process that runs a build back end's hook in an environment."""

    @pytest.mark.parametrize("nested", [False, True], ids=["", "nested"])
    @pytest.mark.parametrize("maker", ["venv", "virtualenv", "uv"])
    def test_is_told_the_base_interpreter_and_the_wrapper(
        self, shared: Shared, python: str, maker: str, nested: bool, environ: dict[str, str], home: Path
    ) -> None:
        root = shared.environment(python, maker, nested)
        changes = started(program_in(root, "python"), *DUMPED, environ={**environ, **IN_A_BUILD}, cwd=home)
        base = changes["PYO3_BASE_PYTHON"]
        assert changes == {"PYO3_BASE_PYTHON": base, "PYO3_ENVSHIM_BASE": base, "CARGO": wrapper_of(root)}
        assert_is_base_of(root, base, environ)

    @pytest.mark.parametrize("marker", MARKERS)
    def test_is_recognised_by_each_marker(
        self, shared: Shared, python: str, marker: str, environ: dict[str, str], home: Path
    ) -> None:
        root = shared.environment(python)
        changes = started(program_in(root, "python"), *DUMPED, environ={**environ, marker: "x"}, cwd=home)
        assert set(changes) == {"PYO3_BASE_PYTHON", "PYO3_ENVSHIM_BASE", "CARGO"}

    def test_is_recognised_when_it_is_isolated(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        root = shared.environment(python)
        changes = started(
            program_in(root, "python"), "-I", *DUMPED, environ={**environ, **IN_A_BUILD}, cwd=home
        )
        assert set(changes) == {"PYO3_BASE_PYTHON", "PYO3_ENVSHIM_BASE", "CARGO"}

    def test_is_told_the_base_of_an_environment_with_a_copied_interpreter(
        self, shared: Shared, python: str, environ: dict[str, str], tmp_path: Path
    ) -> None:
        root = tmp_path / "copied"
        run([python, "-m", "venv", "--without-pip", "--copies", root], environ)
        install(root, shared.wheel, environ=environ)
        changes = started(
            program_in(root, "python"), *DUMPED, environ={**environ, **IN_A_BUILD}, cwd=tmp_path
        )
        assert_is_base_of(root, changes["PYO3_BASE_PYTHON"], environ)

    @pytest.mark.parametrize("how", ["symlinks", "copies"])
    def test_is_told_its_own_base_where_other_interpreters_lie_beside_it(
        self, shared: Shared, python: str, how: str, environ: dict[str, str], tmp_path: Path
    ) -> None:
        """As in ``/usr/bin``, where ``python3`` is the distribution's own."""
        shelf = tmp_path / "shelf" / "bin"
        shelf.mkdir(parents=True)
        name = Path(python).name
        others = [
            found for version in ("3.12", "3.13") if (found := interpreter(version)) not in (None, python)
        ]
        if not others:
            pytest.skip("this needs a second CPython")
        for link, target in ((name, python), ("python3", others[0]), ("python", others[0])):
            (shelf / link).symlink_to(str(target))
        root = tmp_path / "environment"
        run([shelf / name, "-m", "venv", "--without-pip", f"--{how}", root], environ)
        install(root, shared.wheel, environ=environ)
        changes = started(
            program_in(root, "python"), *DUMPED, environ={**environ, **IN_A_BUILD}, cwd=tmp_path
        )
        assert_is_base_of(root, changes["PYO3_BASE_PYTHON"], environ)

    def test_is_told_the_base_that_python_announces_where_the_configuration_is_in_doubt(
        self, shared: Shared, python: str, environ: dict[str, str], tmp_path: Path
    ) -> None:
        """It is None where python does not know the base either: before 3.11 it announces itself."""
        root = make_environment("uv", python, tmp_path / "environment", environ)
        install(root, shared.wheel, environ=environ)
        with open(root / "pyvenv.cfg", "a") as file:
            file.write(f"home = {tmp_path}\n")
        own = str(program_in(root, "python"))
        announced = run([own, "-c", "import sys; print(sys._base_executable)"], environ).strip()
        changes = started(own, *DUMPED, environ={**environ, **IN_A_BUILD}, cwd=tmp_path)
        assert changes.get("PYO3_BASE_PYTHON") == (None if announced == own else announced)

    def test_keeps_the_base_interpreter_that_the_user_set(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        root = shared.environment(python)
        environ = {**environ, **IN_A_BUILD, "PYO3_BASE_PYTHON": "/the/users/own"}
        assert started(program_in(root, "python"), *DUMPED, environ=environ, cwd=home) == {
            "CARGO": wrapper_of(root)
        }

    def test_takes_an_empty_base_interpreter_for_none(
        self, shared: Shared, a_python: str, environ: dict[str, str], home: Path
    ) -> None:
        root = shared.environment(a_python)
        environ = {**environ, **IN_A_BUILD, "PYO3_BASE_PYTHON": ""}
        assert started(program_in(root, "python"), *DUMPED, environ=environ, cwd=home)["PYO3_BASE_PYTHON"]

    def test_looks_again_where_a_parent_of_ours_named_another_base(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        root = shared.environment(python)
        of_parent = {"PYO3_BASE_PYTHON": "/usr/bin/other", "PYO3_ENVSHIM_BASE": "/usr/bin/other"}
        environ = {**environ, **IN_A_BUILD, **of_parent}
        changes = started(program_in(root, "python"), *DUMPED, environ=environ, cwd=home)
        assert_is_base_of(root, changes["PYO3_BASE_PYTHON"], environ)
        assert changes["PYO3_ENVSHIM_BASE"] == changes["PYO3_BASE_PYTHON"]

    def test_hands_the_users_own_cargo_to_the_wrapper(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        root = shared.environment(python)
        (home / "link").symlink_to(home)
        own = str(script(home / "cargo", ""))
        for cargo in ("/gone/cargo", own, str(home / "link" / "cargo")):
            environ = {**environ, **IN_A_BUILD, "CARGO": cargo}
            found = started(program_in(root, "python"), *DUMPED, environ=environ, cwd=home)
            assert os.path.realpath(found["CARGO"] or "") == os.path.realpath(wrapper_of(root))
            assert found["PYO3_ENVSHIM_CARGO"] == cargo
            named = _startup.own_cargo(found["CARGO"] or "")
            assert named == (None if cargo == "/gone/cargo" else cargo)

    @pytest.mark.parametrize("cargo", ["cross", "/opt/bin/cross", "cargo-zigbuild", "/x/cargo-1.85"])
    def test_leaves_a_cargo_that_has_another_name(
        self, cargo: str, shared: Shared, a_python: str, environ: dict[str, str], home: Path
    ) -> None:
        """setuptools-rust and maturin ask whether it is called cross."""
        root = shared.environment(a_python)
        environ = {**environ, **IN_A_BUILD, "CARGO": cargo}
        changes = started(program_in(root, "python"), *DUMPED, environ=environ, cwd=home)
        assert set(changes) == {"PYO3_BASE_PYTHON", "PYO3_ENVSHIM_BASE"}

    def test_is_left_alone_where_the_user_has_switched_it_off(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        """By a file: tox passes on none of our variables. A variable that is set wins."""
        root = shared.environment(python)
        environ = {**environ, **IN_A_BUILD}
        cache = "AppData/Local" if os.name == "nt" else ".cache"
        switch = home / cache / "pyo3-envshim" / "switched-off"
        switch.parent.mkdir(parents=True)
        switch.touch()
        assert started(program_in(root, "python"), *DUMPED, environ=environ, cwd=home) == {}
        environ["PYO3_ENVSHIM"] = "on"
        assert "CARGO" in started(program_in(root, "python"), *DUMPED, environ=environ, cwd=home)

    def test_keeps_a_wrapper_of_its_parent(
        self, shared: Shared, python: str, a_python: str, environ: dict[str, str], home: Path
    ) -> None:
        of_parent = wrapper_of(shared.environment(a_python, "venv"))
        environ = {**environ, **IN_A_BUILD, "CARGO": of_parent, "PYO3_ENVSHIM_CARGO": "/opt/own/cargo"}
        root = shared.environment(python)
        changes = started(program_in(root, "python"), *DUMPED, environ=environ, cwd=home)
        assert set(changes) == {"PYO3_BASE_PYTHON", "PYO3_ENVSHIM_BASE"}

    def test_replaces_a_wrapper_whose_environment_is_gone(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        gone = {"CARGO": "/gone/bin/pyo3-envshim-cargo", "PYO3_ENVSHIM_CARGO": "/opt/own/cargo"}
        root = shared.environment(python)
        environ = {**environ, **IN_A_BUILD, **gone}
        changes = started(program_in(root, "python"), *DUMPED, environ=environ, cwd=home)
        assert changes["CARGO"] == wrapper_of(root)
        assert "PYO3_ENVSHIM_CARGO" not in changes
        environ["PYO3_ENVSHIM_CARGO"] = str(script(home / "cargo", ""))
        changes = started(program_in(root, "python"), *DUMPED, environ=environ, cwd=home)
        assert _startup.own_cargo(changes["CARGO"] or "") == str(home / "cargo")
        del environ["PYO3_ENVSHIM_CARGO"]
        changes = started(program_in(root, "python"), *DUMPED, environ=environ, cwd=home)
        assert changes["CARGO"] == wrapper_of(root)

    def test_changes_nothing_more_the_second_time(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        executable = program_in(shared.environment(python), "python")
        environ = {**environ, **IN_A_BUILD, "CARGO": "/opt/own/cargo"}
        first = started(executable, *DUMPED, environ=environ, cwd=home)
        environ.update({name: value for name, value in first.items() if value is not None})
        assert started(executable, *DUMPED, environ=environ, cwd=home) == {}
        again = "import pyo3_envshim._startup as hook; hook.run(); hook.run(); " + DUMP
        assert started(executable, "-c", again, environ=environ, cwd=home) == {}

    def test_is_left_alone_below_a_cargo_build_script(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        executable = program_in(shared.environment(python), "python")
        script = {"OUT_DIR": "/target/out", "HOST": "host", "TARGET": "target", "NUM_JOBS": "2"}
        environ = {**environ, **IN_A_BUILD, **script}
        assert started(executable, *DUMPED, environ=environ, cwd=home) == {}

    @pytest.mark.cargo
    def test_is_left_alone_below_a_running_build_script_and_not_below_a_program_of_cargo_run(
        self, shared: Shared, a_python: str, environ: dict[str, str], home: Path
    ) -> None:
        """cargo sets OUT_DIR for both, if the program's package has a build script (``cargo xtask``)."""
        root = shared.environment(a_python)
        command = f'std::process::Command::new("{root}/bin/python").args(["-c", {json.dumps(DUMP)}])'
        start = "std::fs::write({}, {}.output().unwrap().stdout).unwrap();"
        note = 'std::env::var("OUT_DIR").unwrap() + "/{}"'
        for name in ("script", "program"):
            text = f"fn main() {{ {start.format(note.format(name), command)} }}"
            path = home / ("build.rs" if name == "script" else "src/main.rs")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        (home / "Cargo.toml").write_text('[package]\nname = "xtask"\nversion = "1.0.0"\n')
        rust = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
        run([shutil.which("cargo") or "cargo", "run", "-q"], {**environ, **rust, **IN_A_BUILD}, home)
        (out,) = home.glob("target/debug/build/xtask-*/out")
        script, program = (json.loads((out / name).read_text()) for name in ("script", "program"))
        assert "OUT_DIR" in program
        assert not _startup.is_wrapper(script["CARGO"])
        assert os.path.realpath(program["CARGO"] or "") == os.path.realpath(wrapper_of(root))
        assert program["PYO3_ENVSHIM_CARGO"] == script["CARGO"]

    @pytest.mark.parametrize("own", [{}, {"CARGO": "/opt/own/cargo"}], ids=["none", "one"])
    def test_gets_the_wrapper_where_the_front_end_overlays_the_interpreter(
        self, shared: Shared, python: str, own: dict[str, str], environ: dict[str, str], home: Path
    ) -> None:
        root = shared.environment(python)
        (home / "sitecustomize.py").touch()
        environ = {**environ, **IN_A_BUILD, **own, "PYTHONPATH": str(home)}
        changes = started(program_in(root, "python"), *DUMPED, environ=environ, cwd=home)
        assert os.path.realpath(changes["CARGO"] or "") == os.path.realpath(wrapper_of(root))
        assert changes.get("PYO3_ENVSHIM_CARGO") == own.get("CARGO")

    @pytest.mark.parametrize("name", [_startup.WRAPPER, "cargo"])
    def test_is_left_alone_where_it_is_the_wrapper(
        self, name: str, shared: Shared, a_python: str, environ: dict[str, str], home: Path
    ) -> None:
        """It is called cargo where it stands on PATH (``pyo3-envshim env --path``)."""
        executable = program_in(shared.environment(a_python), "python")
        wrapper = script(home / name, DUMP)
        assert started(executable, wrapper, environ={**environ, **IN_A_BUILD}, cwd=home) == {}

    def test_in_no_environment_gets_the_wrapper_where_the_front_end_overlays_it(
        self, shared: Shared, a_python: str, environ: dict[str, str], home: Path
    ) -> None:
        executable = in_user_site(shared, a_python, home, environ)
        environ["PYTHONUSERBASE"] = str(home / "user")
        run([home / "user" / "bin" / "pyo3-envshim", "env", "--shell", "sh"], environ)
        (home / "sitecustomize.py").touch()
        wrapper = str(home / "user" / "bin" / _startup.WRAPPER)
        both = f"{home / 'user'}{os.pathsep}{home}"
        for path, expected in ((both, {"CARGO": wrapper}), (home / "user", {}), ("", {})):
            environ = {**environ, **IN_A_BUILD, "PYTHONPATH": str(path)}
            assert started(executable, *DUMPED, environ=environ, cwd=home) == expected

    def test_in_no_environment_gets_nothing(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        """It is the base interpreter, with the hook in the user's site-packages."""
        executable = in_user_site(shared, python, home, environ)
        environ["PYTHONUSERBASE"] = str(home / "user")
        assert started(executable, *DUMPED, environ={**environ, **IN_A_BUILD}, cwd=home) == {}

    def test_in_no_environment_forgets_the_base_of_a_parent_of_ours(
        self, shared: Shared, a_python: str, environ: dict[str, str], home: Path
    ) -> None:
        """A hook in an environment named its own interpreter, not that of the process it started."""
        (home / "linked").symlink_to(in_user_site(shared, a_python, home, environ))
        of_parent = {"PYO3_BASE_PYTHON": "/usr/bin/other", "PYO3_ENVSHIM_BASE": "/usr/bin/other"}
        environ = {**environ, **IN_A_BUILD, **of_parent, "PYTHONUSERBASE": str(home / "user")}
        for executable in (a_python, home / "linked"):
            changes = started(executable, *DUMPED, environ=environ, cwd=home)
            assert changes == {"PYO3_BASE_PYTHON": None, "PYO3_ENVSHIM_BASE": None}


def in_user_site(shared: Shared, python: str, home: Path, environ: Mapping[str, str]) -> str:
    """Install the shim for the user, into ``home/user``; return *python*."""
    command: list[str | Path] = [
        uv.find_uv_bin(),
        "pip",
        "install",
        "-q",
        "--python",
        python,
        "--prefix",
        home / "user",
    ]
    run([*command, "--no-deps", shared.wheel, shared.front_ends], environ)  # into the folders of pip's --user
    return python


class TestAFrontEndsProcess:
    """The process of pip, build, …"""

    def test_gets_no_wrapper_that_needs_the_users_site_packages(
        self, shared: Shared, python: str, home: Path, environ: dict[str, str]
    ) -> None:
        """pip's default isolation hides them from the back end, and so from the wrapper."""
        executable = in_user_site(shared, python, home, environ)
        environ["PYTHONUSERBASE"] = str(home / "user")
        assert started(executable, "-m", "tox", environ=environ, cwd=home) == {}
        hidden = {**environ, "PYTHONNOUSERSITE": "1", "PYO3_ENVSHIM_CARGO": "/bin/echo"}
        script = home / "user" / "bin" / _startup.WRAPPER
        assert subprocess.run([script, "fetch"], env=hidden, capture_output=True).returncode == 1
        if sys.implementation.name == "cpython":
            command = [str(home / "user" / "bin" / "pyo3-envshim"), "env", "--shell", "sh"]
            assert f"CARGO={script}" in run(command, environ)
            assert started(executable, "-m", "tox", environ=environ, cwd=home) == {"CARGO": str(script)}
            assert subprocess.check_output([script, "fetch"], env=hidden) == b"fetch\n"

    @pytest.mark.parametrize("module", FRONT_END_MODULES)
    def test_run_as_a_module_gets_the_wrapper_only(
        self, shared: Shared, a_python: str, module: str, environ: dict[str, str], home: Path
    ) -> None:
        root = shared.environment(a_python)
        assert started(program_in(root, "python"), "-m", module, environ=environ, cwd=home) == {
            "CARGO": wrapper_of(root)
        }

    @pytest.mark.parametrize(
        "options",
        [
            "-m pip",
            "-mpip",
            "-Im build",
            "-ImX pip",
            "-E -m pip",
            "-X utf8 -W ignore -m build",
            "-Wignore -sm pip",
        ],
    )
    def test_is_recognised_whatever_the_interpreters_options(
        self, shared: Shared, python: str, options: str, environ: dict[str, str], home: Path
    ) -> None:
        if options == "-ImX pip":  # -m takes the rest of its word as the module's name
            options = "-IXutf8 -mpip"
        root = shared.environment(python)
        assert started(program_in(root, "python"), *options.split(), environ=environ, cwd=home) == {
            "CARGO": wrapper_of(root)
        }

    @pytest.mark.parametrize(
        "name",
        [
            "pip",
            "pip3",
            "pip3.11",
            "pip3.9",
            "pyproject-build",
            "build",
            "pdm",
            "poetry",
            "hatch",
            "tox",
            "nox",
        ]
        + ["cibuildwheel"],
    )
    def test_run_as_a_script_gets_the_wrapper_only(
        self, shared: Shared, a_python: str, name: str, environ: dict[str, str], home: Path
    ) -> None:
        root = shared.environment(a_python)
        path = program(home / "bin" / name, DUMP, str(program_in(root, "python")))
        done = subprocess.run([path], env=environ, cwd=home, capture_output=True, text=True, check=True)
        assert changed(environ, json.loads(done.stdout)) == {"CARGO": wrapper_of(root)}
        assert done.stderr == ""

    def test_run_by_its_script_is_recognised_on_each_interpreter(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        root = shared.environment(python)
        path = script(home / "pip3.13", DUMP)
        assert started(program_in(root, "python"), "-I", path, environ=environ, cwd=home) == {
            "CARGO": wrapper_of(root)
        }

    def test_names_no_interpreter_even_below_a_build(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        """It may build for another one, so it takes back what a parent of ours named."""
        root = shared.environment(python)
        of_parent = {"PYO3_BASE_PYTHON": "/usr/bin/other", "PYO3_ENVSHIM_BASE": "/usr/bin/other"}
        environ = {**environ, **IN_A_BUILD, **of_parent}
        assert started(program_in(root, "python"), "-m", "pip", environ=environ, cwd=home) == {
            "CARGO": wrapper_of(root),
            "PYO3_BASE_PYTHON": None,
            "PYO3_ENVSHIM_BASE": None,
        }

    def test_keeps_the_base_interpreter_that_the_user_set(
        self, shared: Shared, a_python: str, environ: dict[str, str], home: Path
    ) -> None:
        root = shared.environment(a_python)
        environ["PYO3_BASE_PYTHON"] = "/the/users/own"
        assert started(program_in(root, "python"), "-m", "pip", environ=environ, cwd=home) == {
            "CARGO": wrapper_of(root)
        }


class TestAnyOtherProcess:
    """A process that takes no part in a build."""

    @pytest.mark.parametrize(
        "command",
        ["-c DUMP", "-m other", "setup.py", "build.py", "twine", "mypip", "rebuild", "py.test", "x-pip"],
    )
    def test_gets_nothing(
        self, shared: Shared, a_python: str, command: str, environ: dict[str, str], home: Path
    ) -> None:
        arguments = [DUMP if word == "DUMP" else word for word in command.split()]
        if not command.startswith("-"):
            script(home / command, DUMP)
        executable = program_in(shared.environment(a_python), "python")
        assert started(executable, *arguments, environ=environ, cwd=home) == {}

    def test_gets_nothing_on_each_interpreter(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        executable = program_in(shared.environment(python), "python")
        assert started(executable, *DUMPED, environ=environ, cwd=home) == {}
        assert started(executable, "-m", "other", "pip", environ=environ, cwd=home) == {}

    def test_does_not_import_the_package(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        executable = program_in(shared.environment(python), "python")
        code = "import sys; print([name for name in sys.modules if 'envshim' in name])"
        assert run([executable, "-c", code], environ, home) == "[]\n"


class TestTheSwitch:
    """``PYO3_ENVSHIM``."""

    @pytest.mark.parametrize("value", ["off", "0", "no", "false", "OFF", "False"])
    @pytest.mark.parametrize("arguments", [DUMPED, ("-m", "pip")], ids=["hook", "pip"])
    def test_off_means_nothing_anywhere(
        self,
        shared: Shared,
        a_python: str,
        value: str,
        arguments: tuple[str],
        environ: dict[str, str],
        home: Path,
    ) -> None:
        executable = program_in(shared.environment(a_python), "python")
        environ = {**environ, **IN_A_BUILD, "PYO3_ENVSHIM": value, "CARGO": "/opt/own/cargo"}
        assert started(executable, *arguments, environ=environ, cwd=home) == {}

    def test_base_means_the_base_interpreter_only(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        root = shared.environment(python)
        environ = {**environ, **IN_A_BUILD, "PYO3_ENVSHIM": "base"}
        changes = started(program_in(root, "python"), *DUMPED, environ=environ, cwd=home)
        assert set(changes) == {"PYO3_BASE_PYTHON", "PYO3_ENVSHIM_BASE"}
        assert_is_base_of(root, changes["PYO3_BASE_PYTHON"], environ)

    def test_base_means_nothing_for_a_front_end(
        self, shared: Shared, a_python: str, environ: dict[str, str], home: Path
    ) -> None:
        executable = program_in(shared.environment(a_python), "python")
        environ["PYO3_ENVSHIM"] = "base"
        assert started(executable, "-m", "pip", environ=environ, cwd=home) == {}

    @pytest.mark.parametrize("value", ["", "on", "1", "yes", "sometimes"])
    def test_any_other_value_means_on(
        self, shared: Shared, a_python: str, value: str, environ: dict[str, str], home: Path
    ) -> None:
        executable = program_in(shared.environment(a_python), "python")
        environ = {**environ, **IN_A_BUILD, "PYO3_ENVSHIM": value}
        changes = started(executable, *DUMPED, environ=environ, cwd=home)
        assert set(changes) == {"PYO3_BASE_PYTHON", "PYO3_ENVSHIM_BASE", "CARGO"}


def empty(package: Path) -> None:
    shutil.rmtree(package)
    package.mkdir()


BREAKS: dict[str, Callable[[Path], object]] = {
    "the package was removed": shutil.rmtree,
    "the package is empty": empty,
    "the boot file is binary": lambda package: (package / "_boot.py").write_bytes(b"\xff\0\xfe"),
    "the boot file raises": lambda package: (package / "_boot.py").write_text("1 / 0\n"),
    "the hook does not parse": lambda package: (package / "_startup.py").write_text("def (:\n"),
    "the hook does not decode": lambda package: (package / "_startup.py").write_bytes(b"# \xff\n"),
    "the hook raises at import": lambda package: (package / "_startup.py").write_text("1 / 0\n"),
    "the hook raises": lambda package: (package / "_startup.py").write_text("def run(): 1 / 0\n"),
    "the package raises": lambda package: (package / "__init__.py").write_text("1 / 0\n"),
    "an older hook": lambda package: (package / "_startup.py").write_text("\n"),
}


class TestSilence:
    """Whatever happens, there is no exception and no output."""

    @pytest.mark.parametrize("what", BREAKS)
    def test_a_broken_installation_is_silent(
        self, shared: Shared, a_python: str, what: str, environ: dict[str, str], home: Path
    ) -> None:
        root = make_environment("uv", a_python, home / "environment", environ)
        install(root, shared.wheel, shared.front_ends, environ=environ)
        BREAKS[what](site_packages(root) / "pyo3_envshim")
        for arguments in (DUMPED, ("-m", "pip")):
            changes = started(
                program_in(root, "python"), *arguments, environ={**environ, **IN_A_BUILD}, cwd=home
            )
            assert changes == {}

    def test_a_broken_installation_is_silent_on_each_interpreter(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        root = make_environment("uv", python, home / "environment", environ)
        install(root, shared.wheel, shared.front_ends, environ=environ)
        shutil.rmtree(site_packages(root) / "pyo3_envshim")
        for arguments in (DUMPED, ("-m", "pip"), ("-m", "other")):
            changes = started(
                program_in(root, "python"), *arguments, environ={**environ, **IN_A_BUILD}, cwd=home
            )
            assert changes == {}

    def test_an_installation_that_cannot_be_read_is_silent(
        self, shared: Shared, a_python: str, environ: dict[str, str], home: Path
    ) -> None:
        """Folders replace the files that the hook reads, because root can read any file."""
        for name in ("_boot.py", "_startup.py"):
            root = make_environment("uv", a_python, home / name, environ)
            install(root, shared.wheel, environ=environ)
            path = site_packages(root) / "pyo3_envshim" / name
            path.unlink()
            path.mkdir()
            changes = started(
                program_in(root, "python"), *DUMPED, environ={**environ, **IN_A_BUILD}, cwd=home
            )
            assert changes == {}

    @pytest.mark.parametrize(
        "options",
        [
            ["-X", "dev"],
            ["-W", "error"],
            ["-W", "always", "-b"],
            ["-X", "dev", "-W", "error"],
            ["-X", "warn_default_encoding", "-W", "error"],
            ["-X", "warn_default_encoding"],
        ],
        ids=" ".join,
    )
    def test_warnings_that_the_user_asked_for_are_not_about_us(
        self, shared: Shared, python: str, options: list[str], environ: dict[str, str], home: Path
    ) -> None:
        executable = program_in(shared.environment(python), "python")
        environ = {**environ, **IN_A_BUILD}
        changes = started(executable, *options, *DUMPED, environ=environ, cwd=home)
        assert set(changes) == {"PYO3_BASE_PYTHON", "PYO3_ENVSHIM_BASE", "CARGO"}

    def test_closed_standard_streams_do_no_harm(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        executable = program_in(shared.environment(python), "python")
        code = "import os; open('seen', 'w').write(os.environ['PYO3_BASE_PYTHON'])"
        run(
            ["/bin/sh", "-c", f'exec "{executable}" -c "{code}" <&- >&- 2>&-'],
            {**environ, **IN_A_BUILD},
            home,
        )
        assert (home / "seen").read_text()

    def test_a_home_that_is_gone_does_no_harm(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        """So does a working directory that is gone."""
        executable = program_in(shared.environment(python), "python")
        (home / "gone").mkdir()
        code = f'cd "{home}/gone" && rmdir "{home}/gone" && exec "{executable}" -Ic "{DUMP.strip()}"'
        environ = {**environ, **IN_A_BUILD, "HOME": str(home / "gone")}
        done = subprocess.run(
            ["/bin/sh", "-c", code], env=environ, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        assert "PYO3_BASE_PYTHON" in json.loads(done.stdout)

    def test_the_hook_swallows_what_it_did_not_expect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> Changes:
            raise RuntimeError("unexpected")

        monkeypatch.setattr(_startup, "changes", broken)
        _startup.run()


def test_the_command_line_is_known_where_python_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CPython 3.9."""
    if not (hasattr(sys, "orig_argv") and os.path.exists("/proc/self/cmdline")):
        pytest.skip("this needs Python 3.10 or later, and Linux's /proc")
    told = list(sys.orig_argv)
    monkeypatch.delattr(sys, "orig_argv")
    monkeypatch.setattr(sys, "argv", ["-m"])
    assert _startup._argv() == told


def test_the_command_line_is_what_python_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "pip"], raising=False)
    assert _startup._argv() == ["python", "-m", "pip"]


def test_only_the_script_is_known_where_the_system_does_not_tell_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on CPython 3.9 without Linux's /proc; early in its start, it may have no sys.argv."""

    def refuse(path: str, mode: str) -> None:
        raise FileNotFoundError(path)

    monkeypatch.delattr(sys, "orig_argv", raising=False)
    monkeypatch.setattr(_startup, "open", refuse, raising=False)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pip", "install"])
    assert _startup._argv() == [sys.executable, "/usr/bin/pip", "install"]
    monkeypatch.delattr(sys, "argv")
    assert _startup._argv() == [sys.executable]


HOSTILE = "import os\nopen(os.environ['HOSTILE_RAN'], 'w').close()\n"


class TestTheProjectBeingBuilt:
    """Its files must not change which code of ours runs."""

    @pytest.mark.parametrize("where", ["PYTHONPATH", "working directory", "both"])
    @pytest.mark.parametrize("arguments", [DUMPED, ("-m", "pip")], ids=["hook", "pip"])
    def test_cannot_put_a_package_of_its_own_in_the_hooks_place(
        self,
        shared: Shared,
        python: str,
        where: str,
        arguments: tuple[str],
        environ: dict[str, str],
        home: Path,
    ) -> None:
        hostile = home / "source"
        for name in ("__init__", "_startup", "_boot", "wrapper"):
            script(hostile / "pyo3_envshim" / f"{name}.py", HOSTILE)
        environ = {**environ, **IN_A_BUILD, "HOSTILE_RAN": str(home / "ran")}
        if where != "working directory":
            environ["PYTHONPATH"] = str(hostile)
        root = shared.environment(python)
        cwd = home if where == "PYTHONPATH" else hostile
        changes = started(program_in(root, "python"), *arguments, environ=environ, cwd=cwd)
        assert changes["CARGO"] == wrapper_of(root)
        assert not (home / "ran").exists()

    def test_is_not_left_on_the_path_of_modules(
        self, shared: Shared, python: str, environ: dict[str, str], home: Path
    ) -> None:
        """Nothing else changes there either, so that a build sees the modules that it would have seen."""
        code = "import sys; print(sys.path)"
        root = shared.environment(python)
        assert run([program_in(root, "python"), "-c", code], {**environ, **IN_A_BUILD}, home) == run(
            [program_in(root, "python"), "-c", code], environ, home
        )


class TestTheStartupLine:
    """``pyo3_envshim.pth``, run as ``site`` runs it."""

    @pytest.fixture
    def goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GoesOn:
        (tmp_path / "pyo3_envshim").mkdir()
        (tmp_path / "pyo3_envshim" / "_boot.py").write_text("ran.append(True)\n")
        for marker in MARKERS:
            monkeypatch.delenv(marker, raising=False)
        return GoesOn(tmp_path, monkeypatch)

    @pytest.mark.parametrize("ending", ["", ".exe"])
    @pytest.mark.parametrize("program", sorted(_startup.PROGRAMS - {"uv", "__pip-runner__"}))
    def test_goes_on_for_each_program_that_the_hook_knows(
        self, program: str, ending: str, goes_on: GoesOn
    ) -> None:
        """uv's program is no Python script, and ``__pip-runner__`` is not installed as one."""
        assert _startup.program_of(["python", f"/usr/bin/{program}{ending}"]) == program
        assert goes_on.with_argv(f"/usr/bin/{program}{ending}")

    @pytest.mark.parametrize("version", ["3", *(f"3.{minor}" for minor in range(9, 21))])
    @pytest.mark.parametrize("ending", ["", ".exe"])
    def test_goes_on_for_each_version_of_pip(self, version: str, ending: str, goes_on: GoesOn) -> None:
        assert _startup.program_of(["python", f"/usr/bin/pip{version}{ending}"]) == "pip"
        assert goes_on.with_argv(f"/usr/bin/pip{version}{ending}")

    def test_goes_on_for_a_module(self, goes_on: GoesOn) -> None:
        assert goes_on.with_argv("-m")

    def test_goes_on_for_the_wrapper_so_that_it_finds_this_package(self, goes_on: GoesOn) -> None:
        assert goes_on.with_argv(f"/usr/bin/{_startup.WRAPPER}")

    @pytest.mark.parametrize("marker", _startup.MARKERS)
    def test_goes_on_for_each_marker(
        self, marker: str, goes_on: GoesOn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(marker, "x")
        assert goes_on.with_argv("-c")

    @pytest.mark.parametrize("argv", ["-c", "manage.py", "/usr/bin/pytest", "/usr/bin/mypy", "/usr/bin/ruff"])
    def test_stops_for_anything_else(self, argv: str, goes_on: GoesOn) -> None:
        assert not goes_on.with_argv(argv)

    def test_is_one_line_that_begins_with_an_import(self) -> None:
        assert HOOK.count("\n") == 1
        assert HOOK.endswith("\n")
        assert HOOK.startswith("import ")

    def test_has_the_markers_and_the_hook_has_them_too(self) -> None:
        assert set(_startup.MARKERS) == set(MARKERS)
        assert all(marker in HOOK for marker in MARKERS)


# The cheapest of the well-known startup lines: coverage 7.17.3's a1_coverage.pth.
COVERAGE = (
    'import sys; exec(\'import os\\n\\nif os.getenv("COVERAGE_PROCESS_START") or '
    'os.getenv("COVERAGE_PROCESS_CONFIG"):\\n try:\\n  import coverage\\n except:\\n  pass\\n else:\\n  '
    'coverage.process_startup(slug="pth")\')'
)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="this needs valgrind")
def test_the_startup_line_costs_less_than_two_thirds_of_the_cheapest_well_known_one(
    python: str, environ: dict[str, str], tmp_path: Path
) -> None:
    """Compiled and run, in instructions; it was 0.58 to 0.61 of it on CPython 3.9 to 3.13."""
    code = "import gc, os, sys; gc.disable()\nfor _ in range(50): exec(sys.argv[1])"
    counts = []
    for line in ("#", COVERAGE, HOOK):
        command = [
            "valgrind",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            python,
            "-ISc",
            code,
            line,
        ]
        done = subprocess.run(
            command, env={**environ, "PYTHONHASHSEED": "0"}, cwd=tmp_path, capture_output=True, text=True
        )
        counts.append(int(re.findall(r"Collected : (\d+)", done.stderr)[0]))
    comment, coverage, ours = counts
    assert ours - comment < 0.63 * (coverage - comment)


class GoesOn:
    """Runs the startup line with a faked ``sys.argv``."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch

    def with_argv(self, program: str) -> bool:
        """Tell whether the line runs the hook."""
        ran: list[bool] = []
        self.monkeypatch.setattr(sys, "argv", [program])
        exec(HOOK, {"sitedir": str(self.folder), "ran": ran})
        return bool(ran)


class TestTheNamesOfFrontEnds:
    """The startup line, ``sitecustomize.py`` and ``_startup.py`` have them from the one table."""

    def test_are_the_tables_everywhere(self) -> None:
        programs = {name for front_end in frontends.FRONT_ENDS for name in front_end.programs}
        assert programs == _startup.PROGRAMS
        assert frontends.MARKERS == _startup.MARKERS
        scripts = [name for front_end in frontends.FRONT_ENDS for name in front_end.scripts]
        line, sitecustomize = hatch_build.hooks(str(ROOT)).values()
        assert all(f" {name[-3:]} " in line for name in scripts)
        assert all(f" {name.rstrip('0123456789.')} " in sitecustomize for name in scripts)
        assert all(f'"{" ".join(frontends.MARKERS)}"' in text for text in (line, sitecustomize))

    def test_are_written_where_a_front_end_is_added_to_the_table(self, tmp_path: Path) -> None:
        """Until then, a wheel cannot be built."""
        checkout = str(tmp_path)
        for folder in ("hooks", "pyo3_envshim"):
            shutil.copytree(ROOT / folder, tmp_path / folder)
        table = tmp_path / "pyo3_envshim" / "environment" / "frontends.py"
        added = 'FRONT_ENDS = (\n    FrontEnd("flit", "flit", "flit-core", why=PERMANENT),'
        table.write_text(table.read_text().replace("FRONT_ENDS = (", added))
        with pytest.raises(ValueError, match=r"_PROGRAMS .* run `python hatch_build.py`"):
            hatch_build.check_startup(checkout)
        hatch_build.write_startup(checkout)
        hatch_build.check_startup(checkout)
        made = runpy.run_path(str(tmp_path / "pyo3_envshim" / "_startup.py"))
        assert made["PROGRAMS"] == _startup.PROGRAMS | {"flit", "flit-core"}
        line, sitecustomize = hatch_build.hooks(checkout).values()
        assert line == HOOK.replace("-m pip", "-m lit ore pip")
        assert ' = "-m flit flit-core pip ' in sitecustomize


def test_the_start_file_names_a_callable() -> None:
    lines = (ROOT / "hooks" / "pyo3_envshim.start").read_text().splitlines()
    assert len(lines) == 1
    module, _, name = lines[0].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_the_hook_imports_os_and_sys_only() -> None:
    for name, allowed in (
        ("__init__", set()),
        ("_startup", {"__future__", "os", "sys"}),
        ("_boot", {"os", "sys"}),
    ):
        module = ast.parse((ROOT / "pyo3_envshim" / f"{name}.py").read_text())
        imported = set()
        for node in module.body:
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                continue
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import):
                    imported |= {alias.name for alias in inner.names}
                elif isinstance(inner, ast.ImportFrom):
                    imported.add(inner.module or "")
        assert imported - {"pyo3_envshim._startup"} == allowed


def test_the_hook_loads_no_module_but_its_own(
    shared: Shared, python: str, environ: dict[str, str], home: Path
) -> None:
    executable = program_in(shared.environment(python), "python")
    code = "import sys; print(*sorted(sys.modules), sep='\\n')"
    without = run([executable, "-c", code], environ, home).splitlines()
    with_hook = run([executable, "-c", code], {**environ, **IN_A_BUILD}, home).splitlines()
    assert set(with_hook) - set(without) - {"__future__"} == {"pyo3_envshim", "pyo3_envshim._startup"}


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("python", ""),
        ("python -", "-"),
        ("python -c pip", ""),
        ("python -Ic pip -m build", ""),
        ("python -m pip install", "pip"),
        ("python -mpip", "pip"),
        ("python -Im build", "build"),
        ("python -m", ""),
        ("python -m build.__main__", "build"),
        ("python -X importtime -m pip", "pip"),
        ("python -Ximporttime -m pip", "pip"),
        ("python -IX importtime -m pip", "pip"),
        ("python -W pip -m build", "build"),
        ("python -W", ""),
        ("python --check-hash-based-pycs", ""),
        ("python --check-hash-based-pycs never -m pip", "pip"),
        ("python --version pip", "pip"),
        ("python pip", "pip"),
        ("python /usr/bin/pip3.11 -m build", "pip"),
        ("python /lib/site-packages/pip/", "pip"),
        ("python /lib/site-packages/pip/__main__.py", "pip"),
        ("python /lib/site-packages/pip/__pip-runner__.py", "__pip-runner__"),
        ("python pip.pyz", "pip"),
        ("python C:/Scripts/pip-script.pyw", "pip"),
        ("python C:/Scripts/pip.exe", "pip"),
        ("python C:/Scripts/pip-script.py", "pip"),
        ("python pyproject-build", "pyproject-build"),
        ("python setup.py", "setup"),
        ("python tox4", "tox4"),
        ("python pipx", "pipx"),
        ("python pipX/", "pipX"),
    ],
)
def test_the_program_is_read_from_the_command_line(command: str, program: str) -> None:
    assert _startup.program_of(command.split()) == program


def test_the_name_of_a_program_has_no_case_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_startup, "os", SimpleNamespace(**{**vars(os), "name": "nt"}))
    assert _startup.program_of(["python", "C:/Scripts/PIP.EXE"]) == "pip"


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        ("", "on"),
        ("off", "off"),
        (" Off ", "off"),
        ("0", "off"),
        ("no", "off"),
        ("False", "off"),
        ("base", "base"),
        ("BASE", "base"),
        ("x", "on"),
    ],
)
def test_the_mode_is_read_from_the_variable(value: str, mode: str) -> None:
    assert _startup.mode({"PYO3_ENVSHIM": value}) == mode


def test_the_mode_is_on_without_the_variable() -> None:
    assert _startup.mode({}) == "on"


def test_changes_are_carried_out() -> None:
    environ = {"kept": "1", "gone": "1", "changed": "1"}
    _startup.apply({"gone": None, "absent": None, "changed": "2", "added": "3"}, environ)
    assert environ == {"kept": "1", "changed": "2", "added": "3"}


@pytest.mark.parametrize("cargo", ["cargo", "/gone/cargo", "/gone/cargo.exe", "/gone/Cargo.EXE"])
def test_a_cargo_is_known_by_its_name(cargo: str, tmp_path: Path) -> None:
    wrapper = str(script(tmp_path / _startup.WRAPPER, ""))
    found = _startup.with_wrapper({"CARGO": cargo}, wrapper)
    assert found == {"CARGO": wrapper, "PYO3_ENVSHIM_CARGO": cargo}


def test_scripts_are_looked_for_where_installers_put_them() -> None:
    assert _startup.script_folders("/env/lib/python3.11/site-packages", "/usr/bin", False) == [
        "/env/bin",
        "/usr/bin",
    ]


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize(
    "source", ["/home/me/source", "/src/site-packages-of-mine", "/a/b/c/site-packages/vendored"]
)
def test_no_scripts_are_looked_for_above_a_checkout(source: str, windows: bool) -> None:
    """An editable installation: what lies above may be anyone's."""
    assert _startup.script_folders(source, "/env/bin", windows) == ["/env/bin"]


def test_scripts_are_looked_for_beside_debians_packages() -> None:
    assert _startup.script_folders("/usr/lib/python3/dist-packages", "/opt", False) == ["/usr/bin", "/opt"]


def test_scripts_are_looked_for_where_installers_put_them_on_windows() -> None:
    found = _startup.script_folders("/env/Lib/site-packages", "/env/Scripts", True)
    assert found == [os.path.join("/env", "Scripts"), os.path.join("/env/Lib", "Scripts"), "/env/Scripts"]


def test_a_script_folder_is_found_beside_site_packages() -> None:
    site = "C:/e/Lib/site-packages"
    assert _startup.script_folders(site, "C:/e/Scripts", windows=True)[0] == "C:/e/Scripts"


def test_the_wrapper_is_found_beside_the_interpreter_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the package does not lie in site-packages: an editable installation."""
    path = script(tmp_path / "pyo3-envshim-cargo", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert _startup.wrapper() == str(path)
    path.chmod(0o644)
    assert _startup.wrapper() is None
    path.unlink()
    path.mkdir()
    assert _startup.wrapper() is None


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        (f"#!{sys.executable} -IS", True),
        (f"#! {sys.executable}", True),
        ("#!/bin/sh", True),
        ("", True),
        ("#!", False),
        ("#!/moved/away/bin/python", False),
        ("#!/moved/away/bin/python -IS", False),
        ("#!/moved/away/bin/python /", False),
    ],
)
def test_a_wrapper_whose_interpreter_is_gone_is_none(
    line: str, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an environment that was moved, or packed (venv-pack): cargo could not be started at all."""
    path = script(tmp_path / "pyo3-envshim-cargo", f"{line}\n")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert _startup.wrapper() == (str(path) if taken else None)


def test_a_wrapper_that_cannot_be_read_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> bytes:
        raise PermissionError(path)

    script(tmp_path / "pyo3-envshim-cargo", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(_startup, "_first_line", refuse)
    assert _startup.wrapper() is None


def test_a_wrapper_can_start_where_no_site_packages_are_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """``python -S``."""
    monkeypatch.delitem(sys.modules, "site")
    assert _startup.startable("/x/pyo3-envshim-cargo") == "/x/pyo3-envshim-cargo"


def test_no_wrapper_is_taken_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Python does not know its own path: in a program that embeds it."""
    script(tmp_path / "pyo3-envshim-cargo", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", None)
    assert _startup.wrapper() is None


LAUNCHERS = {
    "pip's": "MZ program.exe\0#!{}\r\nPK\3\4 sub(r'(-script\\.pyw|\\.exe)?$', '')",
    "pip's, quoted": 'MZ /gone/other.exe\0#!"{}"\nPK\3\4 endswith(".exe")',
    "uv's": "MZ\0{}\0\0PK\3\4 removesuffix('.exe')\0 trampoline.exe\0\udcff.exe",
}


@pytest.mark.parametrize("kind", LAUNCHERS)
def test_a_launcher_whose_interpreter_is_gone_is_no_program_on_windows(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment was moved: its python.exe starts, and what pip and uv wrote does not."""
    monkeypatch.setattr(os, "fsdecode", bytes.decode)  # which raises, as on Windows
    python = script(tmp_path / "an environment \u00fc" / "python.exe", "")
    launcher = tmp_path / "pyo3-envshim-cargo.exe"
    launcher.write_bytes(os.fsencode(LAUNCHERS[kind].format(python)))
    launcher.chmod(0o755)
    assert _startup._is_program(str(launcher), windows=True)
    python.unlink()
    assert not _startup._is_program(str(launcher), windows=True)
    launcher.write_bytes(b"MZ python.exe")  # beside it
    assert _startup._is_program(str(launcher), windows=True)


def test_the_wrapper_has_an_ending_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = script(tmp_path / "Scripts" / "pyo3-envshim-cargo.exe", "")
    installed = tmp_path / "Lib" / "site-packages" / "pyo3_envshim" / "_startup.py"
    monkeypatch.setattr(_startup, "__file__", str(installed))
    assert _startup.wrapper(windows=True) == str(path)
    path.write_bytes(os.fsencode(LAUNCHERS["uv's"].format("/gone/python.exe")))
    assert _startup.wrapper(windows=True) is None


class TestTheBaseInterpreter:
    """As an environment's files and the interpreter's own word tell it."""

    @pytest.fixture
    def shelf(self, tmp_path: Path) -> Path:
        """Return a folder with several interpreters, beside an environment."""
        folder = tmp_path / "environment-shelf"
        folder.mkdir()
        for name in ("python", "python3", "python3.12", "python3.13", "own"):
            (folder / name).touch()
        return folder

    def base(
        self,
        shelf: Path,
        *libraries: str,
        link: Path | None = None,
        announced: Path | None = None,
        **told: Path,
    ) -> str | None:
        """Return the base of an environment with a link to, or else a copy of, its interpreter."""
        root = shelf.parent / "environment"
        shutil.rmtree(root, ignore_errors=True)
        script(root / "bin" / "python", "")
        if link:
            (root / "bin" / "python").unlink()
            (root / "bin" / "python").symlink_to(link)
        for library in libraries:
            (root / "lib" / library).mkdir(parents=True)
        lines = [f"{key.replace('_', '-')} = {path}\n" for key, path in told.items()]
        (root / "pyvenv.cfg").write_text("".join(lines))
        return _startup.base_interpreter(str(root), str(announced) if announced else None, windows=False)

    def test_is_the_one_that_python_announces(self, shelf: Path) -> None:
        (shelf.parent / "resolved").touch()
        announced = shelf.parent / "resolved"
        assert self.base(shelf, link=shelf / "own", announced=announced, home=shelf) == str(announced)

    def test_is_not_the_one_that_a_copy_announces_but_its_librarys(self, shelf: Path) -> None:
        """The copy announces its own name."""
        found = self.base(shelf, "python3.12", "pkgconfig", announced=shelf / "python", home=shelf)
        assert found == str(shelf / "python3.12")

    def test_is_the_one_that_a_copy_with_several_libraries_announces(self, shelf: Path) -> None:
        """``venv --upgrade`` keeps the copy, and tells the new interpreter."""
        told = {"home": shelf, "executable": shelf / "python3.13"}
        found = self.base(shelf, "python3.12", "python3.13", announced=shelf / "python", **told)
        assert found == str(shelf / "python")

    def test_has_the_name_that_the_environment_links_to(self, shelf: Path) -> None:
        assert self.base(shelf, "python3.13", link=shelf / "own", home=shelf) == str(shelf / "own")

    @pytest.mark.parametrize("key", ["base_executable", "executable"])
    def test_has_the_name_that_the_configuration_tells(self, key: str, shelf: Path) -> None:
        resolved = shelf.parent / "resolved" / "own"
        script(resolved, "")
        assert self.base(shelf, home=shelf, **{key: resolved}) == str(shelf / "own")
        (shelf / "own").unlink()
        assert self.base(shelf, home=shelf, **{key: resolved}) == str(resolved)
        assert self.base(shelf, **{key: resolved}) == str(resolved)

    @pytest.mark.parametrize("name", ["python3", "python", "pypy3", "python.exe"])
    def test_has_a_usual_name_where_nothing_tells_which(self, name: str, shelf: Path) -> None:
        shutil.rmtree(shelf)
        script(shelf / name, "")
        assert self.base(shelf, home=shelf) == str(shelf / name)

    @pytest.mark.parametrize("name", ["python.exe", "python3.13t.exe"])
    def test_of_a_free_threaded_environment_of_uvs_is_free_threaded_on_windows(
        self, name: str, tmp_path: Path
    ) -> None:
        """python.org's installer puts both into one folder, and uv's pyvenv.cfg tells that only."""
        for base in ("python.exe", "python3.13t.exe"):
            script(tmp_path / "base" / base, "")
        for own in {"python.exe", name}:
            script(tmp_path / "environment" / "Scripts" / own, "")
        (tmp_path / "environment" / "pyvenv.cfg").write_text(f"home = {tmp_path / 'base'}\n")
        root = str(tmp_path / "environment")
        assert _startup.base_interpreter(root, windows=True) == str(tmp_path / "base" / name)
        announced = str(script(tmp_path / "base" / "own.exe", ""))
        assert _startup.base_interpreter(root, announced, windows=True) == announced

    def test_does_not_lie_in_the_environment_itself(self, tmp_path: Path) -> None:
        script(tmp_path / "python3", "")
        (tmp_path / "pyvenv.cfg").write_text(f"home = {tmp_path}\n")
        assert _startup.base_interpreter(str(tmp_path)) is None

    def test_is_unknown_where_the_configuration_tells_nothing(self, shelf: Path) -> None:
        assert self.base(shelf, link=shelf / "own") is None


@pytest.mark.parametrize(
    ("text", "config"),
    [
        (b"home = /usr/bin\n", {"home": "/usr/bin"}),
        (b"HOME=/usr/bin", {"home": "/usr/bin"}),
        (b"home = /a=b\r\nversion = 3\r\n", {"home": "/a=b", "version": "3"}),
        (b"home\nversion = 3", {"version": "3"}),
        (b"", {}),
        (b"\xff\xfe\0h", {}),
        (b"home = /a\nhome = /b\n", {}),
        (b"home = /a\nHome=/a\n", {"home": "/a"}),
    ],
)
def test_an_environments_configuration_is_read(text: bytes, config: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_bytes(text)
    assert _startup.read_config(str(tmp_path)) == config


def test_an_environments_configuration_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert _startup.read_config(str(tmp_path)) == {}
