"""What `pyo3-envshim doctor` concludes from what it saw, and what it prints."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pyo3_envshim.cli import doctor
from pyo3_envshim.cli.install import Installed
from pyo3_envshim.cli.snapshot import IDLE, OFF, OK, UNKNOWN, DetectedFrontEnd, Finding, Project, Snapshot

from .environments import FakeCargo, Shared, program_in, script
from .test_main import Cli

RUST = Project(requires=("maturin",), backend="maturin")
HOOKED = DetectedFrontEnd(
    "build", "/bin/pyproject-build", python="/bin/python", hooked="/bin/pyo3-envshim-cargo", hook="/s"
)
PLAIN = DetectedFrontEnd("build", "/bin/pyproject-build", python="/bin/python", asked=True)
UV = DetectedFrontEnd("uv", "/bin/uv")


def diagnosed(
    *front_ends: DetectedFrontEnd,
    project: Project | None = RUST,
    asked: str | None = None,
    findings: tuple[Finding, ...] = (),
    **environ: Any,
) -> doctor.Diagnosis:
    """Return what follows from these values."""
    return doctor.diagnose(Snapshot(environ, project, findings, front_ends), asked)


class TestTheVerdict:
    """Whether a build would be served, by whom, and the first reason why not."""

    def test_names_who_serves_and_who_does_not(self) -> None:
        found = diagnosed(HOOKED, UV)
        assert found.served
        assert found.verdict == "would be served by build; not by uv"

    def test_is_about_the_front_end_asked_for(self) -> None:
        assert diagnosed(HOOKED, UV, asked="build").served
        found = diagnosed(HOOKED, UV, asked="uv")
        assert not found.served
        assert found.verdict.startswith("would not be served: uv: ")
        assert found.hint == 'eval "$(pyo3-envshim env)"'

    def test_is_no_if_the_one_asked_for_is_not_there(self) -> None:
        found = diagnosed(HOOKED, asked="poetry")
        assert (found.served, found.verdict) == (False, "would not be served: poetry: poetry is not on PATH")

    def test_is_no_without_any_front_end(self) -> None:
        assert not diagnosed().served

    @pytest.mark.parametrize("name", ["pdm", "hatch", "tox", "nox", "cibuildwheel"])
    def test_is_no_where_there_is_nothing_to_serve(self, name: str) -> None:
        assert not diagnosed(HOOKED._replace(name=name)).served

    @pytest.mark.parametrize("state", [OFF, IDLE])
    def test_is_no_if_anything_is_in_the_way(self, state: str) -> None:
        found = diagnosed(HOOKED, findings=(Finding("cargo", state, "is away", "bring it"),))
        assert (found.served, found.verdict) == (False, "would not be served: cargo: is away")
        assert found.hint == "bring it"

    def test_is_yes_if_the_project_could_not_be_read(self) -> None:
        assert diagnosed(HOOKED, project=Project(flaw="no parser")).served

    def test_is_yes_without_a_project(self) -> None:
        assert diagnosed(HOOKED, project=None).served

    def test_is_no_for_a_project_without_rust(self) -> None:
        found = diagnosed(HOOKED, project=Project(("hatchling",), "hatchling.build"))
        assert not found.served
        assert "hatchling.build" in found.verdict


class TestABackEndThatNamesNoInterpreter:
    """It is told, with what to do, since nothing can be served there."""

    @pytest.mark.parametrize(
        ("requires", "backend", "name"),
        [
            (("hatchling", "hatch-rs"), "hatchling.build", "hatch-rs"),
            (("hatchling", "hatchling-pyo3-plugin"), "hatchling.build", "hatchling-pyo3-plugin"),
            (("meson-python",), "mesonpy", "meson-python"),
            (("scikit-build-core", "pybind11"), "scikit_build_core.build", "scikit-build-core"),
        ],
    )
    def test_is_told_with_the_way_out(self, requires: tuple[str, ...], backend: str, name: str) -> None:
        project = Project(requires, backend)
        found = diagnosed(HOOKED, project=project)
        assert found.verdict.startswith(
            f"would not be served: project: ./pyproject.toml is built with {name}"
        )
        assert "PYO3_PYTHON" in found.hint
        assert "names no interpreter" in found.verdict
        named = diagnosed(HOOKED, project=project, PYO3_PYTHON="/usr/bin/python3")
        assert (named.served, named.hint) == (False, "")

    def test_is_not_told_beside_one_that_does(self) -> None:
        assert diagnosed(HOOKED, project=RUST._replace(requires=("maturin", "meson-python"))).served


class TestTheSwitch:
    """`PYO3_ENVSHIM`."""

    @pytest.mark.parametrize("value", ["off", "0", "no", "false", "base"])
    def test_keeps_builds_from_being_served(self, value: str) -> None:
        found = diagnosed(HOOKED, PYO3_ENVSHIM=value)
        assert not found.served
        assert value in found.verdict
        assert found.hint == "unset PYO3_ENVSHIM"

    @pytest.mark.parametrize("value", ["", "on", "1", "nonsense"])
    def test_is_on_otherwise(self, value: str) -> None:
        assert diagnosed(HOOKED, PYO3_ENVSHIM=value).served


class TestSettings:
    """Variables by which something else was asked for."""

    @pytest.mark.parametrize("name", ["PYO3_CONFIG_FILE", "PYO3_CROSS_LIB_DIR", "CARGO_BUILD_TARGET"])
    def test_of_the_user_for_pyo3_or_cargo_come_first(self, name: str) -> None:
        setting: dict[str, Any] = {name: "/some/thing"}
        found = diagnosed(HOOKED, **setting)
        assert not found.served
        assert found.hint == f"unset {name}"

    def test_of_maturin_name_the_base_interpreter(self) -> None:
        assert not diagnosed(HOOKED, MATURIN_PEP517_USE_BASE_PYTHON="1").served
        assert diagnosed(HOOKED, MATURIN_PEP517_USE_BASE_PYTHON="0").served
        assert not diagnosed(HOOKED, project=RUST._replace(uses_base=True)).served

    def test_a_wrapper_that_is_gone_is_told(self) -> None:
        found = diagnosed(HOOKED, CARGO="/gone/bin/pyo3-envshim-cargo")
        assert not found.served
        assert "/gone/bin/pyo3-envshim-cargo" in found.verdict
        assert found.hint == "unset CARGO"


class TestTheCrate:
    """A crate without PyO3 has nothing to serve: maturin then names no interpreter."""

    @pytest.mark.parametrize(
        ("manifest", "lock", "states"),
        [
            ('[dependencies]\npyo3 = "0.30"', None, []),
            ("[dependencies]\npyo3.workspace = true", "", []),
            ("[dependencies]\nnumpy = '1'", '[[package]]\nname = "pyo3"', []),
            ("[dependencies]\nnumpy = '1'", None, [UNKNOWN]),
            ("[dependencies]", '[[package]]\nname = "libc"', [IDLE]),
            (None, None, []),
        ],
    )
    def test_is_known_by_its_manifest_and_lock(
        self, manifest: str | None, lock: str | None, states: list[str]
    ) -> None:
        assert [it.state for it in doctor.of_crate(RUST, manifest, lock)] == states

    def test_of_setuptools_rust_is_served_anyway(self) -> None:
        project = Project(("setuptools", "setuptools-rust"), "setuptools.build_meta")
        assert doctor.of_crate(project, "[dependencies]", "") == []

    def test_is_looked_for_where_maturin_does(self, cli: Cli) -> None:
        put_build(cli, cli.root)
        project = cli.cwd / "pyproject.toml"
        project.write_text(project.read_text() + '[tool.maturin]\nmanifest-path = "rust/Cargo.toml"\n')
        (cli.cwd / "rust").mkdir()
        (cli.cwd / "rust" / "Cargo.toml").write_text("[dependencies]\n")
        assert examined(cli)["served"]
        (cli.cwd / "rust" / "Cargo.lock").touch()
        assert examined(cli)["verdict"].startswith("would not be served: crate: rust/Cargo.toml ")


class TestWaysIn:
    """Each way to switch it on is known by what it leaves."""

    def ways(self, seen: DetectedFrontEnd, project: Project | None = RUST, **environ: str) -> list[str]:
        return doctor.ways_in(seen, environ, project)

    def test_the_wrapper_in_cargo(self, tmp_path: Path) -> None:
        wrapper = script(tmp_path / "pyo3-envshim-cargo", "")
        assert self.ways(UV, CARGO=str(wrapper)) == ["CARGO is the wrapper"]
        assert self.ways(UV, CARGO="/usr/bin/cargo") == []

    def test_the_hook(self) -> None:
        assert self.ways(HOOKED) == ["the hook in /s"]
        assert self.ways(HOOKED._replace(hooked="/usr/bin/cargo")) == []

    def test_the_interpreter(self) -> None:
        assert self.ways(UV._replace(installed=Installed("/lib/sitecustomize.py", True))) == [
            "installed: /lib/sitecustomize.py"
        ]
        assert self.ways(UV._replace(installed=Installed("/lib/sitecustomize.py", False))) == []

    def test_the_project(self) -> None:
        project = RUST._replace(requires=("maturin", "pyo3-envshim"))
        assert self.ways(UV, project) == ["build-system.requires"]

    def test_uvs_settings_for_what_an_application_needs(self) -> None:
        project = Project(("hatchling",), "hatchling.build", extra=("rpds-py",))
        assert self.ways(UV, project) == ["extra-build-dependencies of rpds-py"]
        assert self.ways(PLAIN, project) == []
        assert diagnosed(UV, project=project).served

    def test_not_uvs_settings_for_other_packages(self) -> None:
        assert self.ways(UV, RUST._replace(extra=("rpds-py",))) == []


class TestAFrontEndThatIsNotServed:
    """Why, and the command that changes it."""

    def found(self, seen: DetectedFrontEnd, **environ: str) -> Finding:
        return doctor.of_front_end(seen, environ, RUST)

    def test_that_is_no_python_gets_cargo(self) -> None:
        assert self.found(UV).hint == 'eval "$(pyo3-envshim env)"'
        assert self.found(UV, SHELL="/usr/bin/fish").hint == "pyo3-envshim env | source"

    def test_of_an_environment_gets_the_shim_beside_it(self) -> None:
        found = self.found(PLAIN._replace(prefix="/my env", python="/my env/bin/python", has_pip=True))
        assert found.state == OFF
        assert found.hint == "'/my env/bin/python' -m pip install pyo3-envshim"

    @pytest.mark.parametrize("prefix", ["", "/env"], ids=["a base interpreter", "an environment without pip"])
    def test_of_anything_else_gets_cargo(self, prefix: str) -> None:
        assert self.found(PLAIN._replace(prefix=prefix)).hint == 'eval "$(pyo3-envshim env)"'

    @pytest.mark.parametrize(
        ("file", "hint"),
        [
            ("pipx_metadata.json", "pipx inject build pyo3-envshim"),
            ("uv-receipt.toml", "uv tool install --with pyo3-envshim build"),
        ],
    )
    def test_of_an_installer_of_programs_gets_it_from_that(
        self, file: str, hint: str, tmp_path: Path
    ) -> None:
        (tmp_path / file).touch()
        assert self.found(PLAIN._replace(prefix=str(tmp_path), has_pip=True)).hint == hint

    def test_with_a_hook_without_a_wrapper_is_told(self) -> None:
        found = self.found(PLAIN._replace(hook="/site"))
        assert (found.state, found.reason) == (OFF, "the hook in /site finds no pyo3-envshim-cargo")

    def test_whose_interpreter_names_a_package_that_is_gone_is_told(self) -> None:
        found = self.found(PLAIN._replace(installed=Installed("/lib/sitecustomize.py", False)))
        assert (found.state, found.hint) == (OFF, "pyo3-envshim install --python /bin/python")

    @pytest.mark.parametrize("name", ["nox", "cibuildwheel", "tox"])
    def test_that_starts_others_is_unknown(self, name: str) -> None:
        assert self.found(HOOKED._replace(name=name)).state == UNKNOWN

    def test_that_passes_no_cargo_on_needs_the_shim_beside_it(self, tmp_path: Path) -> None:
        tox = PLAIN._replace(name="tox")
        found = self.found(tox, CARGO=str(script(tmp_path / "pyo3-envshim-cargo", "")))
        assert (found.state, found.hint) == (OFF, "add `requires = pyo3-envshim` below [tox]")
        assert found.reason.endswith("and it passes CARGO on to nothing")
        with_pip = self.found(tox._replace(prefix="/env", has_pip=True))
        assert with_pip.hint == "/bin/python -m pip install pyo3-envshim"
        assert self.found(HOOKED._replace(name="tox")).state == UNKNOWN
        required = Project(("maturin", "pyo3-envshim"))
        assert doctor.of_front_end(tox, {}, required).state == UNKNOWN

    def test_that_could_not_be_asked_is_unknown(self) -> None:
        assert self.found(PLAIN._replace(asked=False)).state == UNKNOWN

    def test_pips_default_has_nothing_to_serve(self) -> None:
        pip = HOOKED._replace(name="pip")
        assert self.found(pip).state == IDLE
        assert self.found(pip._replace(option=True)).state == OK

    def test_pip_serves_what_is_built_from_elsewhere(self) -> None:
        pip = HOOKED._replace(name="pip")
        found = diagnosed(pip, project=None)
        assert (found.served, found.verdict) == (True, "would be served by pip")
        assert found.front_ends[0].reason == "for sdists and clones: the hook in /s"
        assert not diagnosed(pip).served
        assert not diagnosed(pip._replace(hooked=""), project=None).served

    def test_under_a_cargo_of_another_name_has_that_reason_only(self) -> None:
        """The hook leaves it, and finds the wrapper all the same."""
        found = self.found(PLAIN._replace(hook="/site", hooked="/tmp"), CARGO="/tmp")
        assert (found.reason, found.hint) == ("CARGO=/tmp stays", "unset CARGO")


def in_a_project(root: Path, environ: Mapping[str, str], home: Path) -> Cli:
    """Return the program installed at *root*, with a cargo and nothing else on PATH, in a maturin project."""
    cargo = FakeCargo(home / "cargo")
    cargo.behaves(out="cargo 1.95.0 (0123456 2026-01-01)\n")
    project = home / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text('[build-system]\nrequires=["maturin"]\nbuild-backend="maturin"\n')
    temporary = home / "tmp"
    temporary.mkdir()
    folders = [home / "bin", cargo.folder, "/usr/bin", "/bin"]
    return Cli(
        root,
        {**environ, "PATH": os.pathsep.join(map(str, folders)), "TMPDIR": str(temporary)},
        project,
    )


@pytest.fixture
def cli(shared: Shared, a_python: str, environ: dict[str, str], home: Path) -> Cli:
    """Return the installed program in a project."""
    return in_a_project(shared.environment(a_python), environ, home)


def examined(cli: Cli, *arguments: str, **variables: str) -> dict[str, Any]:
    """Run it; return what it says as JSON, after its exit status has been found to agree."""
    done = cli.run("doctor", "--json", *arguments, **variables)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["served"] else 1)
    return found


def about(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the one finding about *name*."""
    (one,) = [it for it in (*found["findings"], *found["front_ends"]) if it["about"] == name]
    return dict(one)


DIRECT = "#!{python}\nimport sys\nsys.exit('the front end itself ran')\n"


def put_build(cli: Cli, root: Path, text: str = DIRECT) -> Path:
    """Put a stand-in for build on PATH, which runs in the environment at *root*; return its path."""
    python = program_in(root, "python")
    script(Path(cli.environ["HOME"], "bin", "real", "pyproject-build"), DIRECT.format(python=python))
    return script(Path(cli.environ["HOME"], "bin", "pyproject-build"), text.format(python=python))


class TestWhatIsPrinted:
    """For people: a line for each finding, a hint below what can be mended, and the verdict last."""

    def test_says_the_same_as_json(self, cli: Cli) -> None:
        put_build(cli, cli.root)
        found = examined(cli)
        lines = cli.said("doctor").splitlines()
        for it in (*found["findings"], *found["front_ends"]):
            assert any(it["state"] in line and line.endswith(it["reason"]) for line in lines), it
        assert lines[-1] == f"a build started here {found['verdict']}"

    def test_ends_with_the_way_out(self, cli: Cli) -> None:
        put_build(cli, cli.root)
        done = cli.run("doctor", PYO3_ENVSHIM="off")
        assert done.returncode == 1
        assert done.stdout.splitlines()[-2:] == [
            "a build started here would not be served: switch: PYO3_ENVSHIM=off",
            "hint: unset PYO3_ENVSHIM",
        ]

    def test_has_colours_on_a_terminal_only(self, cli: Cli, on_terminal: Callable[..., str]) -> None:
        put_build(cli, cli.root)
        assert "\033[32mok\033[0m" in on_terminal(cli, "doctor", TERM="xterm")
        assert "\033" not in on_terminal(cli, "doctor", TERM="xterm", NO_COLOR="1")
        assert "\033" not in on_terminal(cli, "doctor", TERM="dumb")
        assert "\033" not in cli.said("doctor", TERM="xterm")

    def test_of_one_front_end_is_about_no_other(self, cli: Cli) -> None:
        put_build(cli, cli.root)
        assert [it["about"] for it in examined(cli)["front_ends"]] != ["build"]
        assert [it["about"] for it in examined(cli, "build")["front_ends"]] == ["build"]
        assert examined(cli, "poetry")["front_ends"] == []

    def test_refuses_a_front_end_that_is_not_known(self, cli: Cli) -> None:
        assert cli.run("doctor", "conda").returncode == 2


@pytest.fixture
def on_terminal() -> Callable[..., str]:
    """Return a function that runs the program with a terminal for its output."""

    def run(cli: Cli, *arguments: str, **variables: str) -> str:
        ours, its = os.openpty()
        command = [str(program_in(cli.root, "pyo3-envshim")), *arguments]
        with open(ours, "rb", buffering=0) as terminal:
            process = subprocess.Popen(command, env={**cli.environ, **variables}, cwd=cli.cwd, stdout=its)
            os.close(its)
            said = b""
            try:
                while part := terminal.read(4096):
                    said += part
            except OSError:  # Linux, once the last process that had it has ended
                pass
            process.wait()
        return said.decode()

    return run
