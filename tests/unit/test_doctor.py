"""`pyo3-envshim doctor`: what it concludes from what it sees, and what it sees of real programs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uv

from pyo3_envshim import activation, doctor
from pyo3_envshim.doctor import IDLE, OFF, OK, UNKNOWN, Finding, Project, Seen, Sight

from .making import FakeCargo, Shared, interpreter, make_environment, script, site_packages
from .test_cli import Cli

RUST = Project(requires=("maturin",), backend="maturin")
HOOKED = Seen(
    "build", "/bin/pyproject-build", python="/bin/python", hooked="/bin/pyo3-envshim-cargo", hook="/s"
)
PLAIN = Seen("build", "/bin/pyproject-build", python="/bin/python", asked=True)
UV = Seen("uv", "/bin/uv")


def diagnosed(
    *front_ends: Seen,
    project: Project | None = RUST,
    asked: str | None = None,
    findings: tuple[Finding, ...] = (),
    **environ: Any,
) -> doctor.Diagnosis:
    """Return what follows from these values."""
    return doctor.diagnose(Sight(environ, project, findings, front_ends), asked)


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
        assert found.mend == 'eval "$(pyo3-envshim env)"'

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
        assert found.mend == "bring it"

    def test_is_yes_if_the_project_could_not_be_read(self) -> None:
        assert diagnosed(HOOKED, project=Project(flaw="no parser")).served

    def test_is_yes_without_a_project(self) -> None:
        assert diagnosed(HOOKED, project=None).served

    def test_is_no_for_a_project_without_rust(self) -> None:
        found = diagnosed(HOOKED, project=Project(("hatchling",), "hatchling.build"))
        assert not found.served
        assert "hatchling.build" in found.verdict


class TestTheSwitch:
    """`PYO3_ENVSHIM`."""

    @pytest.mark.parametrize("value", ["off", "0", "no", "false", "base"])
    def test_keeps_builds_from_being_served(self, value: str) -> None:
        found = diagnosed(HOOKED, PYO3_ENVSHIM=value)
        assert not found.served
        assert value in found.verdict
        assert found.mend == "unset PYO3_ENVSHIM"

    @pytest.mark.parametrize("value", ["", "on", "1", "nonsense"])
    def test_is_on_otherwise(self, value: str) -> None:
        assert diagnosed(HOOKED, PYO3_ENVSHIM=value).served

    @pytest.mark.parametrize(("value", "state"), [("", OFF), ("1", OFF), ("off", OFF), ("on", OK)])
    def test_has_to_be_on_on_windows(self, value: str, state: str) -> None:
        found = doctor.of_mode({"PYO3_ENVSHIM": value}, windows=True)
        assert found.state == state
        assert found.mend == ("" if state == OK else "set PYO3_ENVSHIM=on")


class TestSettings:
    """Variables by which something else was asked for."""

    @pytest.mark.parametrize("name", ["PYO3_CONFIG_FILE", "PYO3_CROSS_LIB_DIR", "CARGO_BUILD_TARGET"])
    def test_of_the_user_for_pyo3_or_cargo_come_first(self, name: str) -> None:
        setting: dict[str, Any] = {name: "/some/thing"}
        found = diagnosed(HOOKED, **setting)
        assert not found.served
        assert found.mend == f"unset {name}"

    def test_of_maturin_name_the_base_interpreter(self) -> None:
        assert not diagnosed(HOOKED, MATURIN_PEP517_USE_BASE_PYTHON="1").served
        assert diagnosed(HOOKED, MATURIN_PEP517_USE_BASE_PYTHON="0").served
        assert not diagnosed(HOOKED, project=RUST._replace(uses_base=True)).served

    def test_a_wrapper_that_is_gone_is_told(self) -> None:
        found = diagnosed(HOOKED, CARGO="/gone/bin/pyo3-envshim-cargo")
        assert not found.served
        assert "/gone/bin/pyo3-envshim-cargo" in found.verdict
        assert found.mend == "unset CARGO"


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

    def ways(self, seen: Seen, project: Project | None = RUST, **environ: str) -> list[str]:
        return doctor.ways_in(seen, environ, project)

    def test_the_wrapper_in_cargo(self, tmp_path: Path) -> None:
        wrapper = script(tmp_path / "pyo3-envshim-cargo", "")
        assert self.ways(UV, CARGO=str(wrapper)) == ["CARGO is the wrapper"]
        assert self.ways(UV, CARGO="/usr/bin/cargo") == []

    def test_the_hook(self) -> None:
        assert self.ways(HOOKED) == ["the hook in /s"]
        assert self.ways(HOOKED._replace(hooked="/usr/bin/cargo")) == []

    def test_the_interpreter(self) -> None:
        assert self.ways(UV._replace(installed=("/lib/sitecustomize.py", True))) == [
            "installed: /lib/sitecustomize.py"
        ]
        assert self.ways(UV._replace(installed=("/lib/sitecustomize.py", False))) == []

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

    def found(self, seen: Seen, **environ: str) -> Finding:
        return doctor.of_front_end(seen, environ, RUST)

    def test_that_is_no_python_gets_cargo(self) -> None:
        assert self.found(UV).mend == 'eval "$(pyo3-envshim env)"'
        assert self.found(UV, SHELL="/usr/bin/fish").mend == "pyo3-envshim env | source"

    def test_of_an_environment_gets_the_shim_beside_it(self) -> None:
        found = self.found(PLAIN._replace(prefix="/my env", python="/my env/bin/python", has_pip=True))
        assert found.state == OFF
        assert found.mend == "'/my env/bin/python' -m pip install pyo3-envshim"

    @pytest.mark.parametrize("prefix", ["", "/env"], ids=["a base interpreter", "an environment without pip"])
    def test_of_anything_else_gets_cargo(self, prefix: str) -> None:
        assert self.found(PLAIN._replace(prefix=prefix)).mend == 'eval "$(pyo3-envshim env)"'

    @pytest.mark.parametrize(
        ("file", "mend"),
        [
            ("pipx_metadata.json", "pipx inject build pyo3-envshim"),
            ("uv-receipt.toml", "uv tool install --with pyo3-envshim build"),
        ],
    )
    def test_of_an_installer_of_programs_gets_it_from_that(
        self, file: str, mend: str, tmp_path: Path
    ) -> None:
        (tmp_path / file).touch()
        assert self.found(PLAIN._replace(prefix=str(tmp_path), has_pip=True)).mend == mend

    def test_with_a_hook_without_a_wrapper_is_told(self) -> None:
        found = self.found(PLAIN._replace(hook="/site"))
        assert (found.state, found.reason) == (OFF, "the hook in /site finds no pyo3-envshim-cargo")

    def test_whose_interpreter_names_a_package_that_is_gone_is_told(self) -> None:
        found = self.found(PLAIN._replace(installed=("/lib/sitecustomize.py", False)))
        assert (found.state, found.mend) == (OFF, "pyo3-envshim install --python /bin/python")

    @pytest.mark.parametrize(("name", "state"), [("nox", UNKNOWN), ("cibuildwheel", UNKNOWN), ("tox", IDLE)])
    def test_that_starts_others_is_unknown(self, name: str, state: str) -> None:
        assert self.found(HOOKED._replace(name=name)).state == state

    def test_that_could_not_be_asked_is_unknown(self) -> None:
        assert self.found(PLAIN._replace(asked=False)).state == UNKNOWN

    def test_pips_default_has_nothing_to_serve(self) -> None:
        pip = HOOKED._replace(name="pip")
        assert self.found(pip).state == IDLE
        assert self.found(pip._replace(option=True)).state == OK


class TestThePyproject:
    """What is read of it."""

    pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")

    @pytest.mark.parametrize(
        "requirement",
        ["pyo3-envshim", "PyO3_EnvShim", " pyo3.envshim>=0.1", "pyo3-envshim[x]; python_version>'3.8'"],
    )
    def test_names_the_shim_in_any_spelling(self, requirement: str) -> None:
        text = f"[build-system]\nrequires = [{requirement!r}]\n".replace("'3.8'", "3.8")
        assert self.read(text).requires == ("pyo3-envshim",)

    @pytest.mark.parametrize(
        ("text", "rust"),
        [
            ('requires = ["maturin>=1,<2"]\nbuild-backend = "maturin"', True),
            ('requires = ["setuptools", "setuptools_rust>=1"]', True),
            ('requires = ["maturin"]\nbuild-backend = "own"\nbackend-path = ["."]', True),
            ('requires = []\nbuild-backend = "maturin"', True),
            ('requires = ["setuptools"]', False),
            ('requires = ["maturin-extras"]\nbuild-backend = "other"', False),
            ("", False),
        ],
    )
    def test_tells_whether_rust_is_built(self, text: str, rust: bool) -> None:
        assert self.read(f"[build-system]\n{text}\n").is_rust == rust

    def test_tells_of_maturins_base_interpreter(self) -> None:
        assert self.read("[tool.maturin]\nuse-base-python = true\n").uses_base
        assert not self.read("[tool.maturin]\nuse-base-python = false\n").uses_base

    def test_tells_of_uvs_extra_build_dependencies(self) -> None:
        recipe = (
            'a = ["x"]\nb = ["pyo3-envshim"]\nc = [{requirement = "pyo3-envshim", match-runtime = false}]\n'
        )
        text = f"[tool.uv.extra-build-dependencies]\n{recipe}"
        assert self.read(text).extra == ("b", "c")
        assert self.read(text, "").extra == ()  # uv reads a uv.toml instead
        assert self.read("", f"[extra-build-dependencies]\n{recipe}").extra == ("b", "c")

    @pytest.mark.parametrize(
        "text", ["build-system = 1", "[build-system]\nrequires = 1\nbuild-backend = []", "tool.uv = []"]
    )
    def test_of_other_types_is_taken_for_empty(self, text: str) -> None:
        assert self.read(text) == Project()

    def test_that_is_not_toml_fails_every_build(self) -> None:
        project = self.read("[build-system\n")
        assert not diagnosed(HOOKED, project=project).served
        assert "not TOML" in project.flaw

    @staticmethod
    def read(text: str, uv_text: str | None = None) -> Project:
        found = doctor.read_project(text, uv_text)
        assert found is not None
        return found


@pytest.fixture
def cli(shared: Shared, a_python: str, environ: dict[str, str], home: Path) -> Cli:
    """Return the installed program, with a cargo and nothing else on PATH, in a maturin project."""
    cargo = FakeCargo(home / "cargo")
    cargo.behaves(out="cargo 1.95.0 (0123456 2026-01-01)\n")
    project = home / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text('[build-system]\nrequires=["maturin"]\nbuild-backend="maturin"\n')
    temporary = home / "tmp"
    temporary.mkdir()
    folders = [home / "bin", cargo.folder, "/usr/bin", "/bin"]
    return Cli(
        shared.environment(a_python),
        {**environ, "PATH": os.pathsep.join(map(str, folders)), "TMPDIR": str(temporary)},
        project,
    )


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


_DIRECT = "#!{python}\nimport sys\nsys.exit('the front end itself ran')\n"
_BY_SH = _DIRECT.replace("#!{python}", "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''")
_BEHIND_A_SHIM = '#!/bin/sh\nexec "$(dirname "$0")/real/pyproject-build" "$@"\n'


def put_build(cli: Cli, root: Path, text: str = _DIRECT) -> Path:
    """Put a stand-in for build on PATH, which runs in the environment at *root*; return its path."""
    python = root / "bin" / "python"
    script(Path(cli.environ["HOME"], "bin", "real", "pyproject-build"), _DIRECT.format(python=python))
    return script(Path(cli.environ["HOME"], "bin", "pyproject-build"), text.format(python=python))


class TestAFrontEndOnPath:
    """Its own process is asked, whatever kind of script starts it."""

    @pytest.mark.parametrize(
        "text", [_DIRECT, _BY_SH, _BEHIND_A_SHIM], ids=["direct", "by sh", "behind a shim"]
    )
    def test_with_the_shim_beside_it_is_served(self, cli: Cli, text: str) -> None:
        path = put_build(cli, cli.root, text)
        build = about(examined(cli, "build"), "build")
        assert build["state"] == OK
        assert build["ways"] == [f"the hook in {site_packages(cli.root)}"]
        assert build["path"] == str(path)
        assert build["python"] == str(cli.root / "bin" / "python")

    def test_without_it_is_not(self, cli: Cli, shared: Shared, a_python: str) -> None:
        bare = shared.environment(a_python, shim=False)
        put_build(cli, bare)
        build = about(examined(cli, "build"), "build")
        assert build["state"] == OFF
        assert str(bare) in build["reason"]

    def test_of_an_older_python_is_asked_too(self, cli: Cli, shared: Shared, python: str) -> None:
        put_build(cli, shared.environment(python))
        assert about(examined(cli, "build"), "build")["state"] == OK

    def test_is_served_by_a_wrapper_in_cargo(self, cli: Cli, shared: Shared, a_python: str) -> None:
        put_build(cli, shared.environment(a_python, shim=False))
        found = examined(cli, "build", CARGO=cli.wrapper)
        assert about(found, "build")["ways"] == ["CARGO is the wrapper"]

    def test_is_served_beside_a_cargo_of_the_user(self, cli: Cli) -> None:
        put_build(cli, cli.root)
        cargo = shutil.which("cargo", path=cli.environ["PATH"]) or ""
        found = examined(cli, "build", CARGO=cargo)
        assert about(found, "build")["state"] == OK
        assert cargo in about(found, "cargo")["reason"]

    def test_is_known_though_it_is_switched_off(self, cli: Cli) -> None:
        put_build(cli, cli.root)
        found = examined(cli, "build", PYO3_ENVSHIM="off")
        assert not found["served"]
        assert about(found, "build")["state"] == OK

    def test_whose_wrapper_is_gone_is_not_served(
        self, cli: Cli, shared: Shared, a_python: str, home: Path
    ) -> None:
        root = make_environment("venv", a_python, home / "half", shared.environ)
        for name in ("pyo3_envshim", "pyo3_envshim.pth"):
            (site_packages(root) / name).symlink_to(site_packages(cli.root) / name)
        put_build(cli, root)
        build = about(examined(cli, "build"), "build")
        assert build["reason"] == f"the hook in {site_packages(root)} finds no pyo3-envshim-cargo"
        build = about(examined(cli, "build", CARGO=cli.wrapper), "build")
        assert build["ways"] == ["CARGO is the wrapper"]

    def test_that_ignores_pythonpath_is_unknown(self, cli: Cli) -> None:
        put_build(cli, cli.root, "#!{python} -I\nprint('build 1.2.3 (somewhere)')\n")
        build = about(examined(cli, "build"), "build")
        assert (build["state"], build["version"]) == (UNKNOWN, "1.2.3")

    @pytest.mark.parametrize("way", ["", "CARGO"])
    def test_uv_needs_cargo(self, cli: Cli, way: str) -> None:
        (Path(cli.environ["HOME"]) / "bin").mkdir(exist_ok=True)
        (Path(cli.environ["HOME"]) / "bin" / "uv").symlink_to(uv.find_uv_bin())
        found = examined(cli, "uv", **({"CARGO": cli.wrapper} if way else {}))
        assert found["served"] == bool(way)
        assert about(found, "uv")["version"].count(".") == 2

    def test_is_left_as_it_was(self, cli: Cli) -> None:
        """It was not run beyond its startup, and nothing of ours stays."""
        put_build(cli, cli.root)
        examined(cli)
        assert os.listdir(cli.environ["TMPDIR"]) == []


class TestAnInterpreterInstalledInto:
    """`pyo3-envshim install` is seen, and whether the package that it names is still there."""

    def test_is_seen(self, cli: Cli, tmp_path: Path) -> None:
        library = tmp_path / "library"
        library.mkdir()
        answer = json.dumps([str(library), "3.11.7"])
        python = str(script(tmp_path / "python", f"#!/bin/sh\necho '{answer}'\n"))
        assert activation.installed(python) is None
        cli.said("install", "--python", python)
        file = library / "sitecustomize.py"
        assert activation.installed(python) == (str(file), True)
        file.write_text(file.read_text().replace(str(cli.root), "/gone"))
        assert activation.installed(python) == (str(file), False)
        file.write_text("# another owner's\n")
        assert activation.installed(python) is None


class TestTheSurroundings:
    """cargo, the store, the project."""

    def test_without_cargo_nothing_is_served(self, cli: Cli) -> None:
        put_build(cli, cli.root)
        found = examined(cli, PATH=str(Path(cli.environ["HOME"], "bin")))
        assert found["verdict"] == "would not be served: cargo: not found on PATH"

    def test_a_cargo_that_fails_is_told(self, cli: Cli) -> None:
        put_build(cli, cli.root)
        FakeCargo(Path(cli.environ["HOME"], "cargo")).behaves(err="no toolchain", status=1)
        found = examined(cli)
        assert not found["served"]
        assert found["mend"].endswith("cargo --version")

    def test_a_store_that_others_can_write_to_is_not_used(self, cli: Cli, home: Path) -> None:
        put_build(cli, cli.root)
        open_to_all = home / "store"
        open_to_all.mkdir()
        open_to_all.chmod(0o777)
        found = examined(cli, PYO3_ENVSHIM_CACHE_DIR=str(open_to_all))
        assert found["verdict"] == f"would not be served: store: {open_to_all} can be written by others"
        assert found["mend"] == f"chmod go-w {open_to_all}"

    def test_an_older_python_says_that_the_project_was_not_read(self, cli: Cli, shared: Shared) -> None:
        oldest = interpreter("3.9")
        if oldest is None:
            pytest.skip("there is no CPython 3.9")
        cli.root = shared.environment(oldest)
        put_build(cli, cli.root)
        found = examined(cli)
        assert found["served"]
        assert about(found, "project")["state"] == UNKNOWN
        assert "3.9" in about(found, "project")["reason"]

    def test_the_interpreter_is_told_with_its_base(self, cli: Cli, a_python: str) -> None:
        reason = about(examined(cli), "python")["reason"]
        assert reason.endswith(f"{cli.root / 'bin' / 'python'}, made from {a_python}")


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

    def test_refuses_a_front_end_that_is_not_known(self, cli: Cli) -> None:
        assert cli.run("doctor", "conda").returncode == 2


@pytest.fixture
def on_terminal() -> Callable[..., str]:
    """Return a function that runs the program with a terminal for its output."""

    def run(cli: Cli, *arguments: str, **variables: str) -> str:
        ours, its = os.openpty()
        command = [str(cli.root / "bin" / "pyo3-envshim"), *arguments]
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
