"""What `pyo3-envshim doctor` sees of real programs, the store and the project."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import uv

from pyo3_envshim.cli import snapshot
from pyo3_envshim.cli.snapshot import OFF, OK, UNKNOWN, Project
from support.interpreters import interpreter

from .environments import FakeCargo, Shared, make_environment, site_packages
from .test_doctor import DIRECT, HOOKED, about, diagnosed, examined, in_a_project, put_build
from .test_main import Cli

_BY_SH = DIRECT.replace("#!{python}", "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''")
_BEHIND_A_SHIM = '#!/bin/sh\nexec "$(dirname "$0")/real/pyproject-build" "$@"\n'


@pytest.fixture
def cli(shared: Shared, a_python: str, environ: dict[str, str], home: Path) -> Cli:
    """Return the installed program in a project."""
    return in_a_project(shared.environment(a_python), environ, home)


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
        found = snapshot.read_project(text, uv_text)
        assert found is not None
        return found


class TestAFrontEndOnPath:
    """Its own process is asked, whatever kind of script starts it."""

    @pytest.mark.parametrize(
        "text", [DIRECT, _BY_SH, _BEHIND_A_SHIM], ids=["direct", "by sh", "behind a shim"]
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

    def test_is_known_though_the_user_has_switched_it_off(self, cli: Cli) -> None:
        put_build(cli, cli.root)
        cli.run("off")
        found = examined(cli, "build")
        assert not found["served"]
        assert about(found, "build")["state"] == OK
        assert examined(cli, "build", PYO3_ENVSHIM="on")["served"]

    def test_whose_wrapper_is_gone_is_not_served(
        self, cli: Cli, shared: Shared, a_python: str, home: Path
    ) -> None:
        root = make_environment("venv", a_python, home / "half", shared.environ)
        package, pth = (site_packages(cli.root) / name for name in ("pyo3_envshim", "pyo3_envshim.pth"))
        shutil.copytree(package, site_packages(root) / package.name)
        shutil.copy(pth, site_packages(root))
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
        assert found["hint"].endswith("cargo --version")

    def test_a_store_that_others_can_write_to_is_not_used(self, cli: Cli, home: Path) -> None:
        put_build(cli, cli.root)
        open_to_all = home / "store"
        open_to_all.mkdir()
        open_to_all.chmod(0o777)
        found = examined(cli, PYO3_ENVSHIM_CACHE_DIR=str(open_to_all))
        assert found["verdict"] == f"would not be served: store: {open_to_all} can be written by others"
        assert found["hint"] == f"chmod go-w {open_to_all}"

    def test_a_store_that_is_missing_stays_so(self, cli: Cli, home: Path) -> None:
        put_build(cli, cli.root)
        assert examined(cli, PYO3_ENVSHIM_CACHE_DIR=str(home / "no" / "such"))["served"]
        assert examined(cli, PYO3_ENVSHIM_CACHE_DIR="", XDG_CACHE_HOME=str(home / "no"))["served"]
        assert not (home / "no").exists()

    def test_a_size_that_is_none_is_told_and_builds_are_served(self, cli: Cli) -> None:
        put_build(cli, cli.root)
        found = examined(cli, PYO3_ENVSHIM_CACHE_SIZE="5Q")
        assert found["served"]
        said = "PYO3_ENVSHIM_CACHE_SIZE='5Q' is taken as its default: say none or a size such as 500M"
        assert about(found, "store")["reason"].endswith(f"(at most 2.0 GiB); {said}")

    def test_a_cargo_that_is_named_wrongly_is_told_with_the_variable(self, cli: Cli) -> None:
        told = about(examined(cli, PYO3_ENVSHIM_CARGO="/bin/true"), "cargo")
        assert (told["state"], told["reason"]) == (OFF, "/bin/true does not tell its version")
        assert told["hint"] == "set PYO3_ENVSHIM_CARGO to a cargo, or unset it"

    def test_a_store_in_the_temporary_folder_is_told_with_the_reason(self, cli: Cli, home: Path) -> None:
        put_build(cli, cli.root)
        cache = home / ".cache"
        cache.mkdir(exist_ok=True)
        cache.chmod(0o777)
        found = examined(cli)
        assert found["served"]
        told = about(found, "store")
        spare = f"{cli.environ['TMPDIR']}/pyo3-envshim-{os.geteuid()}"
        assert told["reason"].startswith(f"{spare}: 0 entries")
        why = f"for as long as this machine or container runs: {cache} can be written by others"
        assert told["reason"].endswith(why)
        assert told["hint"] == f"chmod go-w {cache}"
        assert cli.said("cache", "dir") == f"{spare}\n"

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
        assert reason.endswith(
            f"{cli.root / 'bin' / 'python'}, made from {a_python}; the wrapper starts it with its site"
        )
