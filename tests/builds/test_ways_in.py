"""Every way to switch it on makes a second build recompile nothing.

`pip install pyo3-envshim` beside the front end is what test_front_ends.py tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from support.front_ends import BUILD, PIP_VENV, UV_BUILD, UV_SYNC, FrontEnd
from support.interpreters import base_interpreter, interpreter
from support.recording_cargo import RecordingCargo
from support.sample_crates import MATURIN, SETUPTOOLS_RUST, BackEnd, Project

from .workshop import Bench, Built, Shared, real_cargo, run

_OURS = "{host}/bin/pyo3-envshim"
_SH = ("sh", "-c", 'eval "$("$0" env)" && exec "$@"', _OURS)
_FISH = ("fish", "--no-config", "-c", "$argv[1] env --shell fish | source; and $argv[2..]", _OURS)
IN_SH = FrontEnd("uv-build-in-sh", (*_SH, *UV_BUILD.command))
IN_FISH = FrontEnd("uv-build-in-fish", (*_FISH, *UV_BUILD.command))
RUN = FrontEnd("run-uv-build", (_OURS, "run", "--", *UV_BUILD.command))


def _assert_warm(bench: Bench, first: Built, second: Built) -> None:
    assert "pyo3" in first.compiled
    assert first.pyo3_python.startswith(str(bench.store))
    assert second.compiled == []
    assert bench.answer(second) == "42"


@pytest.mark.parametrize(
    ("front_end", "back_end"),
    [(BUILD, MATURIN), (UV_BUILD, MATURIN), (PIP_VENV, MATURIN), (BUILD, SETUPTOOLS_RUST)],
    ids=lambda it: it.name,
)
def test_a_build_requirement_is_all_that_is_needed(
    bench: Bench, front_end: FrontEnd, back_end: BackEnd
) -> None:
    project = bench.project(back_end, also_requires=("pyo3-envshim",))
    first, second = (bench.build(front_end, project, bench.plain) for _ in range(2))
    _assert_warm(bench, first, second)


class TestAShell:
    """`eval "$(pyo3-envshim env)"` and `pyo3-envshim run -- COMMAND`."""

    @pytest.mark.parametrize("way", [IN_SH, IN_FISH, RUN], ids=lambda it: it.name)
    def test_what_it_starts_is_served(self, bench: Bench, way: FrontEnd) -> None:
        if way is IN_FISH:
            fish = shutil.which("fish")
            if fish is None:
                pytest.skip("there is no fish on PATH")
            bench.variables["PATH"] = f"{bench.environment(bench.shimmed)['PATH']}:{os.path.dirname(fish)}"
        project = bench.project()
        first, second = (bench.build(way, project, bench.shimmed) for _ in range(2))
        _assert_warm(bench, first, second)

    @pytest.mark.parametrize("way", [IN_SH, RUN], ids=lambda it: it.name)
    def test_keeps_the_users_own_cargo_as_the_real_one(self, bench: Bench, way: FrontEnd) -> None:
        own = RecordingCargo(bench.folder / "own" / "cargo", real_cargo())
        project = bench.project()
        seen = []
        for front_end, host in ((UV_BUILD, bench.plain), (way, bench.shimmed)):
            built = bench.build(front_end, project, host, CARGO=str(own.executable))
            assert not any(call.compiles for call in built.calls)
            (call,) = [call for call in own.take_calls() if call.compiles]
            seen.append(call.environment)
        assert seen[1].get("CARGO") == seen[0].get("CARGO")
        assert seen[1]["PYO3_PYTHON"].startswith(str(bench.store))


class TestACargoOnThePath:
    """`pyo3-envshim env --path` and `run --path`."""

    def test_calls_the_next_one_with_the_variables_as_they_were(self, bench: Bench) -> None:
        """Whatever was named in CARGO, and as rustup's cargo is called; build scripts see no trace of us."""
        environ = {**bench.environment(bench.plain), "LC_ALL": "C"}
        own = RecordingCargo(bench.folder / "own" / "cargo", "/bin/true")
        environ["PATH"] = f"{own.executable.parent}:{environ['PATH']}"
        arguments = ["+nightly", "build", "--", "a b", ""]
        subprocess.run(["cargo", *arguments], env=environ, check=True)
        program = [str(bench.shimmed.folder / "bin" / "pyo3-envshim"), "run", "--path", "--"]
        subprocess.run([*program, "cargo", *arguments], env=environ, check=True)
        without, *asked, through = own.take_calls()
        assert all("metadata" in call.arguments for call in asked)
        assert through.arguments == without.arguments == tuple(arguments)
        assert through.environment == without.environment

    def test_serves_what_looks_for_cargo_there(self, bench: Bench) -> None:
        """What does not read CARGO."""
        way = FrontEnd("run-path", (_OURS, "run", "--path", "--", "sh", "-c", 'unset CARGO; exec "$@"', "sh"))
        project = bench.project()
        by_path = replace(way, command=(*way.command, *UV_BUILD.command))
        first, second = (bench.build(by_path, project, bench.shimmed) for _ in range(2))
        _assert_warm(bench, first, second)

    def test_is_the_real_one_where_the_cache_is_gone(self, bench: Bench) -> None:
        environ = bench.environment(bench.shimmed)
        ours = str(bench.shimmed.folder / "bin" / "pyo3-envshim")
        code = f'eval "$({ours} env --path)"; rm -r "$({ours} cache dir)"; command -v cargo'
        done = subprocess.run(["sh", "-c", code], env=environ, check=True, capture_output=True, text=True)
        assert done.stdout.strip() == shutil.which("cargo", path=environ["PATH"])


_PROBE = """\
import json, os, sys
of_site = sys.modules.get("sitecustomize")
print(json.dumps(dict(
    ran=getattr(sys, "ran", []), cargo=os.environ.get("CARGO"), base=os.environ.get("PYO3_BASE_PYTHON"),
    file=getattr(of_site, "__file__", None),
)))
"""
_THEIRS = "import sys\nsys.ran = [*getattr(sys, 'ran', []), ({name!r}, __name__, __file__)]\n"


@dataclass
class Interpreter:
    """A copy of an interpreter, to install into."""

    bench: Bench
    prefix: Path
    version: str

    @property
    def python(self) -> str:
        """Its path."""
        return str(self.prefix / "bin" / f"python{self.version}")

    @property
    def library(self) -> Path:
        """Its standard-library folder."""
        return self.prefix / "lib" / f"python{self.version}"

    @property
    def sitecustomize(self) -> Path:
        """What `install` writes."""
        return self.library / "sitecustomize.py"

    def cli(self, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run `pyo3-envshim` for it."""
        command = [*prefix, str(self.bench.shimmed.folder / "bin" / "pyo3-envshim"), *arguments]
        environment = self.bench.environment()
        named = [*command, "--python", self.python]
        return subprocess.run(named, env=environment, capture_output=True, text=True)

    def done(self, *arguments: str) -> str:
        """Run it; return the one line that it said."""
        result = self.cli(*arguments)
        assert (result.returncode, result.stderr) == (0, "")
        (line,) = result.stdout.splitlines()
        return line

    def refused(self, *arguments: str, prefix: tuple[str, ...] = ()) -> str:
        """Run it; return the reason and the way out, after it has changed nothing."""
        before = self.listing()
        result = self.cli(*arguments, prefix=prefix)
        assert (result.returncode, result.stdout) == (2, "")
        error, hint = result.stderr.splitlines()
        assert error.startswith("error: ")
        assert hint.startswith("hint: ")
        assert self.listing() == before
        return result.stderr

    def listing(self) -> dict[str, tuple[object, ...]]:
        """Return everything in its folder, byte code aside: kind, mode, time and content."""
        found: dict[str, tuple[object, ...]] = {}
        for folder, names, files in os.walk(self.prefix):
            names[:] = [name for name in names if name != "__pycache__"]
            for path in (Path(folder, name) for name in [*names, *files]):
                about = path.lstat()
                content: object = None
                if path.is_symlink():
                    content = os.readlink(path)
                elif path.is_file():
                    content = (about.st_mtime_ns, hashlib.sha256(path.read_bytes()).digest())
                found[str(path.relative_to(self.prefix))] = (stat.filemode(about.st_mode), content)
        return found

    def environment(self, name: str = "environment") -> Path:
        """Make an environment from it, or return the one that is there."""
        root = self.prefix.parent / name
        if not root.exists():
            run([self.python, "-m", "venv", "--without-pip", str(root)], self.bench.environment())
        return root

    def started(self, python: str | Path | None = None, **variables: str) -> Mapping[str, object]:
        """Start an environment's Python as a build's; return what the hooks there did, silently."""
        command = [str(python or self.environment() / "bin" / "python"), "-c", _PROBE]
        environment = self.bench.environment() | {"_PYPROJECT_HOOKS_BUILD_BACKEND": "maturin"} | variables
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (0, "")
        found: Mapping[str, object] = json.loads(result.stdout)
        return found

    def give_theirs(self, path: Path, name: str = "theirs") -> Path:
        """Write a sitecustomize of another owner."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_THEIRS.format(name=name))
        path.chmod(0o640)
        os.utime(path, ns=(1_600_000_000_123_456_789,) * 2)
        return path


def _with_a_folder_of_its_own() -> tuple[Path, str]:
    """Return prefix and version of a CPython that is not a part of the system, the tests' own if it is so."""
    versions = [f"3.{sys.version_info.minor}", *(f"3.{minor}" for minor in range(13, 8, -1))]
    for version, python in zip([versions[0], *versions], [base_interpreter(), *map(interpreter, versions)]):
        prefix = Path(python or "/usr/bin/python").parent.parent
        if (
            prefix not in (Path("/usr"), Path("/usr/local"))
            and (prefix / "lib" / f"python{version}").is_dir()
        ):
            return prefix, version
    pytest.skip("this needs an interpreter with a folder of its own, as pyenv's have, to copy")


@pytest.fixture
def installed_into(shared: Shared, bench: Bench) -> Interpreter:
    """Return an interpreter of the test's own: a copy without what was installed into it."""
    prefix, version = _with_a_folder_of_its_own()

    def copy(folder: Path) -> None:
        library = Path("lib", f"python{version}")
        left_out = shutil.ignore_patterns("__pycache__", "test", "idlelib", "config-*")
        (folder / "bin").mkdir(parents=True)
        name = f"python{version}"
        shutil.copy2(prefix / "bin" / name, folder / "bin" / name)
        for link in ("python", "python3"):
            (folder / "bin" / link).symlink_to(name)
        shutil.copytree(prefix / library, folder / library, symlinks=True, ignore=left_out)
        shutil.rmtree(folder / library / "site-packages")
        (folder / library / "site-packages").mkdir()

    original = shared.once("copied-interpreter", copy)
    own = bench.folder / "interpreter" / "prefix"
    own.parent.mkdir()
    run(["cp", "-al", str(original), str(own)], bench.environment())
    return Interpreter(bench, own, version)


class TestInstall:
    """`pyo3-envshim install` and `uninstall`, into a copy of an interpreter."""

    def test_the_copy_is_an_interpreter_of_its_own(self, installed_into: Interpreter) -> None:
        code = "import sys, sysconfig; print(sys.base_prefix, sysconfig.get_path('stdlib'), sep='\\n')"
        said = run([installed_into.python, "-c", code], installed_into.bench.environment())
        assert said.splitlines() == [str(installed_into.prefix), str(installed_into.library)]

    @pytest.mark.parametrize("front_end", [UV_BUILD, BUILD, PIP_VENV], ids=lambda it: it.name)
    def test_serves_every_environment_made_from_the_interpreter(
        self, bench: Bench, installed_into: Interpreter, front_end: FrontEnd
    ) -> None:
        before = installed_into.listing()
        installed_into.done("install")
        host = bench.plain
        if front_end is not UV_BUILD:
            host = bench.shared.host(front_end.command[2], shimmed=False, python=installed_into.python)
        project = bench.project()
        first, second = (
            bench.build(front_end, project, host, python=installed_into.python) for _ in range(2)
        )
        assert "pyo3" in first.compiled
        assert first.pyo3_python.startswith(str(bench.store)), first.output
        assert second.compiled == []
        assert bench.answer(second, installed_into.python) == "42"
        installed_into.done("uninstall")
        assert installed_into.listing() == before

    def test_after_uninstall_an_environment_is_not_served(
        self, bench: Bench, installed_into: Interpreter
    ) -> None:
        before = installed_into.listing()
        installed_into.done("install")
        assert installed_into.started()["cargo"] == str(bench.shimmed.wrapper)
        assert installed_into.started()["base"] == installed_into.python
        installed_into.done("uninstall")
        started = installed_into.started()
        assert started == {"ran": [], "cargo": None, "base": None, "file": None}
        assert installed_into.listing() == before
        assert list(installed_into.library.glob("__pycache__/sitecustomize*")) == []

    def test_each_says_what_it_did_in_one_line(self, installed_into: Interpreter) -> None:
        path = installed_into.sitecustomize
        said = [installed_into.done(it) for it in ("install", "install", "uninstall", "uninstall")]
        version = run([installed_into.python, "-c", "import sys; print(sys.version.split()[0])"], {}).strip()
        assert said == [
            f"installed {path} for Python {version}",
            f"already installed: {path}",
            f"removed {path} of Python {version}",
            f"not installed: {path}",
        ]

    def test_a_second_time_changes_nothing(self, installed_into: Interpreter) -> None:
        installed_into.done("install")
        once = installed_into.listing()
        installed_into.done("install")
        assert installed_into.listing() == once

    def test_what_an_older_release_wrote_is_replaced(self, installed_into: Interpreter) -> None:
        installed_into.done("install")
        path = installed_into.sitecustomize
        current = path.read_text()
        path.write_text(current.splitlines()[0] + "\n# of an older release\n")
        installed_into.done("install")
        assert path.read_text() == current

    @pytest.mark.parametrize("chain", [False, True], ids=["", "chain"])
    def test_a_dry_run_changes_nothing(self, installed_into: Interpreter, chain: bool) -> None:
        if chain:
            installed_into.give_theirs(installed_into.sitecustomize)
        options = ["--chain"] if chain else []
        before = installed_into.listing()
        would = installed_into.done("install", *options, "--dry-run")
        assert installed_into.listing() == before
        assert would == "would have " + installed_into.done("install", *options)
        installed = installed_into.listing()
        assert installed != before
        would = installed_into.done("uninstall", "--dry-run")
        assert installed_into.listing() == installed
        assert would == "would have " + installed_into.done("uninstall")
        assert installed_into.listing() == before

    def test_an_environments_python_means_its_base_interpreter(self, installed_into: Interpreter) -> None:
        python = str(installed_into.environment() / "bin" / "python")
        command = [str(installed_into.bench.shimmed.folder / "bin" / "pyo3-envshim"), "install"]
        run([*command, "--python", python], installed_into.bench.environment())
        assert installed_into.sitecustomize.exists()
        assert installed_into.done("install").startswith("already installed")

    def test_a_missing_package_is_not_noticed(self, installed_into: Interpreter) -> None:
        installed_into.done("install")
        path = installed_into.sitecustomize
        here = str(next(installed_into.bench.shimmed.folder.glob("lib/python3.*/site-packages")))
        text = path.read_text()
        assert here in text
        path.write_text(text.replace(here, here + "-gone"))
        assert installed_into.started()["cargo"] is None

    def test_the_owners_file_mode_mask_does_not_shut_others_out(self, installed_into: Interpreter) -> None:
        command = ("sh", "-c", 'umask 077; exec "$@"', "sh")
        result = installed_into.cli("install", prefix=command)
        assert result.returncode == 0
        assert installed_into.sitecustomize.stat().st_mode & 0o444 == 0o444


class TestAnotherOwnersSitecustomize:
    """A `sitecustomize` that is not ours."""

    @pytest.mark.parametrize("linked", [False, True], ids=["file", "symlink"])
    def test_is_refused(self, installed_into: Interpreter, linked: bool) -> None:
        _theirs_in_place(installed_into, linked)
        said = installed_into.refused("install")
        assert str(installed_into.sitecustomize) in said
        assert "--chain" in said

    @pytest.mark.parametrize("linked", [False, True], ids=["file", "symlink"])
    def test_is_kept_and_run_when_chained_and_restored_exactly(
        self, installed_into: Interpreter, linked: bool
    ) -> None:
        _theirs_in_place(installed_into, linked)
        before = installed_into.listing()
        said = installed_into.done("install", "--chain")
        kept = installed_into.library / "sitecustomize-before-pyo3-envshim.py"
        assert said.endswith(f"which runs {kept}")
        started = installed_into.started()
        assert started["ran"] == [["theirs", "sitecustomize", str(kept)]]
        assert started["cargo"] == str(installed_into.bench.shimmed.wrapper)
        assert installed_into.done("install", "--chain").startswith("already installed")
        assert installed_into.done("uninstall").startswith("restored ")
        assert installed_into.listing() == before
        assert installed_into.started()["ran"] == [
            ["theirs", "sitecustomize", str(installed_into.sitecustomize)]
        ]

    def test_is_run_when_chained_though_the_shim_is_off(self, installed_into: Interpreter) -> None:
        installed_into.give_theirs(installed_into.sitecustomize)
        installed_into.done("install", "--chain")
        started = installed_into.started(PYO3_ENVSHIM="off")
        assert len(started["ran"]) == 1  # type: ignore[arg-type]
        assert started["cargo"] is None

    def test_that_came_after_ours_is_left_alone(self, installed_into: Interpreter) -> None:
        """As when the interpreter's package is upgraded."""
        installed_into.done("install")
        installed_into.give_theirs(installed_into.sitecustomize)
        before = installed_into.listing()
        assert installed_into.done("uninstall").startswith("not installed")
        assert installed_into.listing() == before

    def test_that_came_back_after_a_chained_one_can_be_chained_again(
        self, installed_into: Interpreter
    ) -> None:
        installed_into.give_theirs(installed_into.sitecustomize, "old")
        installed_into.done("install", "--chain")
        installed_into.sitecustomize.unlink()
        installed_into.give_theirs(installed_into.sitecustomize, "new")
        installed_into.done("install", "--chain")
        assert [ran[0] for ran in installed_into.started()["ran"]] == ["new"]  # type: ignore[attr-defined]

    @pytest.mark.parametrize("chained", [False, True], ids=["", "chained"])
    def test_in_an_environments_own_site_packages_runs_as_without_us(
        self, installed_into: Interpreter, chained: bool
    ) -> None:
        if chained:
            installed_into.give_theirs(installed_into.sitecustomize)
        root = installed_into.environment()
        (site,) = root.glob("lib/python3.*/site-packages")
        installed_into.give_theirs(site / "sitecustomize.py", "environment's")
        without = installed_into.started()
        installed_into.done("install", "--chain")
        started = installed_into.started()
        assert started["cargo"] == str(installed_into.bench.shimmed.wrapper)
        assert _names(started) == _names(without)

    def test_on_pythonpath_comes_before_ours(self, installed_into: Interpreter, tmp_path: Path) -> None:
        installed_into.give_theirs(tmp_path / "path" / "sitecustomize.py", "path's")
        installed_into.done("install")
        started = installed_into.started(PYTHONPATH=str(tmp_path / "path"))
        assert _names(started) == ["path's"]


def _theirs_in_place(at: Interpreter, linked: bool) -> None:
    """Put another owner's file at the place of ours; linked, as Debian does."""
    if linked:
        at.give_theirs(at.prefix / "etc" / "sitecustomize.py")
        at.sitecustomize.symlink_to("../../etc/sitecustomize.py")
    else:
        at.give_theirs(at.sitecustomize)


def _names(started: Mapping[str, object]) -> list[str]:
    return [ran[0] for ran in started["ran"]]  # type: ignore[attr-defined]


class TestInstallRefuses:
    """Reasons not to touch an interpreter, and the ways out."""

    def test_an_externally_managed_interpreter_without_force(self, installed_into: Interpreter) -> None:
        marker = installed_into.library / "EXTERNALLY-MANAGED"
        marker.write_text("[externally-managed]\nError=no\n")
        said = installed_into.refused("install")
        assert str(marker) in said
        assert "--force" in said
        before = installed_into.listing()
        installed_into.done("install", "--force")
        assert installed_into.started()["cargo"] is not None
        installed_into.done("uninstall")
        assert installed_into.listing() == before

    @pytest.mark.parametrize("command", ["install", "uninstall"])
    def test_a_folder_that_is_not_writable(self, installed_into: Interpreter, command: str) -> None:
        if command == "uninstall":
            installed_into.done("install")
        # root writes everywhere, but not without its capabilities
        prefix: tuple[str, ...] = ()
        if os.geteuid() == 0:
            if shutil.which("setpriv") is None:
                pytest.skip("as root this needs setpriv, to write no more than others")
            prefix = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
        installed_into.library.chmod(0o555)
        said = installed_into.refused(command, prefix=prefix)
        assert f"{installed_into.library} is not writable" in said

    @pytest.mark.parametrize("kind", ["missing", "no Python", "fails"])
    def test_what_is_no_interpreter(self, installed_into: Interpreter, kind: str) -> None:
        path = installed_into.prefix / "bin" / f"python{installed_into.version}"
        path.unlink()
        if kind != "missing":
            path.write_text("#!/bin/sh\n" + ("exit 3\n" if kind == "fails" else "echo hello\n"))
            path.chmod(0o755)
        said = installed_into.refused("install")
        assert str(path) in said
        assert "--python" in said


_APPLICATION = """\
[project]
name = "application"
version = "1"
requires-python = ">=3.9"
dependencies = ["tiny"]
"""
_RECIPE = """
[tool.uv.extra-build-dependencies]
tiny = ["pyo3-envshim"]
"""
_SOURCE = """
[tool.uv.sources]
tiny = { path = "../project" }
"""


class TestExtraBuildDependencies:
    """uv's setting that adds to what a third party's package is built with."""

    def test_serve_a_third_partys_sdist(self, bench: Bench) -> None:
        """Each unpacking is another workspace root: compiled as without the shim, and never stale."""
        self._serve_sdist(bench)
        bench.variables["CARGO_TARGET_DIR"] = str(bench.fill(bench.folder / "target"))
        application = self._application(bench, "application", _RECIPE)
        first = bench.build(UV_SYNC, application, bench.plain)
        assert first.pyo3_python.startswith(str(bench.store)), first.output
        shutil.rmtree(bench.folder / "uv-cache")  # which holds the wheel
        second = bench.build(UV_SYNC, application, bench.plain)
        assert bench.answer(second) == "42"
        digest, token = (Path(it.pyo3_python).parents[1].name for it in (first, second))
        assert token.startswith(digest.partition("-")[0] + "-")
        assert "tiny" in second.compiled

    def test_serve_a_third_partys_source_folder(self, bench: Bench) -> None:
        bench.project()
        application = self._application(bench, "application", _RECIPE + _SOURCE)
        first, second = (bench.build(UV_SYNC, application, bench.plain) for _ in range(2))
        _assert_warm(bench, first, second)
        assert any(call.compiles for call in second.calls)

    @staticmethod
    def _application(bench: Bench, name: str, settings: str) -> Project:
        application = Project(bench.folder / name)
        application.write("pyproject.toml", _APPLICATION + settings)
        return application

    @staticmethod
    def _serve_sdist(bench: Bench) -> None:
        served = bench.folder / "served"
        if not served.exists():
            command = [str(bench.plain.python), "-m", "build", "-s", "-o", str(served)]
            run([*command, str(bench.project().folder)], bench.environment(bench.plain))
            bench.variables["UV_FIND_LINKS"] = f"{bench.environment()['UV_FIND_LINKS']},{served}"
