"""The wrapper: what it decides, and the installed program end to end in front of a fake cargo."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pyo3_envshim import _startup, call, wrapper
from pyo3_envshim.environment import layout
from pyo3_envshim.stamp import STAMP, write_stamp
from pyo3_envshim.store import prune
from pyo3_envshim.store.store import Store, StoreError
from support.interpreters import interpreter

from .environments import (
    IN_A_BUILD,
    MARKERS,
    ROOT,
    Changes,
    FakeCargo,
    Shared,
    changed,
    program,
    program_in,
    run,
    script,
    site_packages,
    write_crate,
)
from .environments import wrapper as wrapper_of
from .posix import names_in
from .sample_wheels import SampleWheels, read

Done = subprocess.CompletedProcess[str]


class TestTheVariablesOfAServedCall:
    def test_name_the_entry(self) -> None:
        environ = {"PYO3_PYTHON": "/env/bin/python3", "PATH": "/usr/bin", "OTHER": "1"}
        found = wrapper.redirect(environ, "/env", "/store/digest", "/usr/bin/python3.11")
        base = dict.fromkeys(("PYO3_BASE_PYTHON", "PYO3_ENVSHIM_BASE"), "/usr/bin/python3.11")
        assert found == {**environ, "PYO3_PYTHON": "/store/digest/bin/python", **base}

    def test_name_it_wherever_they_named_the_environment(self) -> None:
        environ = {
            "PYO3_PYTHON": "/env/bin/python",
            "PYTHON_SYS_EXECUTABLE": "/env/bin/python3",
            "VIRTUAL_ENV": "/env",
            "PATH": "/env/bin:/usr/bin:/env/bin/:/environment/bin",
        }
        found = wrapper.redirect(environ, "/env", "/a", "/base")
        assert found["PYTHON_SYS_EXECUTABLE"] == "/a/bin/python"
        assert found["VIRTUAL_ENV"] == "/a"
        assert found["PATH"] == "/a/bin:/usr/bin:/a/bin:/environment/bin"

    def test_stay_where_they_named_another_environment(self) -> None:
        environ = {
            "PYO3_PYTHON": "/env/bin/python",
            "PYTHON_SYS_EXECUTABLE": "/other/bin/python",
            "VIRTUAL_ENV": "/other",
            "PATH": ":/other/bin::",
        }
        found = wrapper.redirect(environ, "/env", "/a", "/base")
        for name in ("PYTHON_SYS_EXECUTABLE", "VIRTUAL_ENV", "PATH"):
            assert found[name] == environ[name]

    def test_do_not_gain_a_path(self) -> None:
        assert "PATH" not in wrapper.redirect({"PYO3_PYTHON": "/env/bin/python"}, "/env", "/a", "/base")

    def test_name_the_base_interpreter(self) -> None:
        found = wrapper.redirect({"PATH": ""}, "/env", "/store/digest", "/base")
        assert found["PYO3_BASE_PYTHON"] == found["PYO3_ENVSHIM_BASE"] == "/base"

    def test_keep_the_users_base_interpreter(self) -> None:
        environ = {"PYO3_BASE_PYTHON": "/own", "PATH": ""}
        found = wrapper.redirect(environ, "/env", "/store/digest", "/base")
        assert found["PYO3_BASE_PYTHON"] == "/own"
        assert "PYO3_ENVSHIM_BASE" not in found

    def test_replace_a_base_of_ours(self) -> None:
        environ = {"PYO3_BASE_PYTHON": "/ours", "PYO3_ENVSHIM_BASE": "/ours", "PATH": ""}
        assert wrapper.redirect(environ, "/env", "/a", "/base")["PYO3_BASE_PYTHON"] == "/base"


class TestABaseOfOurs:
    def test_is_corrected_for_the_interpreter_of_the_call(self, shared: Shared, python: str) -> None:
        root = shared.environment(python)
        environ = {
            "PYO3_BASE_PYTHON": "/x",
            "PYO3_ENVSHIM_BASE": "/x",
            "PYO3_PYTHON": layout.interpreter(str(root)),
        }
        found = wrapper.with_base(environ)
        assert os.path.realpath(found["PYO3_BASE_PYTHON"]) == python
        assert found["PYO3_ENVSHIM_BASE"] == found["PYO3_BASE_PYTHON"]

    @pytest.mark.parametrize("python", [None, "", "/gone/bin/python", "/bin/sh", "python3", sys.base_prefix])
    def test_is_taken_back_for_an_interpreter_in_no_environment(self, python: str | None) -> None:
        environ = {"PYO3_BASE_PYTHON": "/x", "PYO3_ENVSHIM_BASE": "/x", "OTHER": "1"}
        given = environ if python is None else {**environ, "PYO3_PYTHON": python}
        assert set(wrapper.with_base(given)) - {"PYO3_PYTHON"} == {"OTHER"}

    def test_is_not_one_that_the_user_set(self) -> None:
        environ = {"PYO3_BASE_PYTHON": "/own", "PYO3_ENVSHIM_BASE": "/ours"}
        assert wrapper.with_base(environ)["PYO3_BASE_PYTHON"] == "/own"


class Bench:
    """The installed wrapper, a fake cargo, a crate, and a ephemeral environment to build in."""

    def __init__(
        self,
        shared: Shared,
        python: str,
        environ: Mapping[str, str],
        folder: Path,
        isolated: bool = False,
    ) -> None:
        self.folder = folder
        self.installed = shared.environment(python, isolated=isolated)
        self.wrapper = wrapper_of(self.installed)
        self.cargo = FakeCargo(folder / "cargo-bin")
        self.project = folder / "project"
        write_crate(self.project, "tiny", "")
        self.store = folder / "store"
        self.sample = SampleWheels(shared, python, environ, folder / "tmp")
        self.root = self.ephemeral()
        self.environ = {
            **environ,
            **IN_A_BUILD,
            "TMPDIR": str(folder / "tmp"),
            "PATH": self.path(self.root),
            "PYO3_PYTHON": layout.interpreter(str(self.root)),
            "PYTHON_SYS_EXECUTABLE": layout.interpreter(str(self.root)),
            "VIRTUAL_ENV": str(self.root),
            "CARGO": str(self.wrapper),
            "PYO3_ENVSHIM_CACHE_DIR": str(self.store),
        }
        target = {"name": "tiny", "src_path": str(self.project / "src" / "lib.rs")}
        package: dict[str, Any] = {"name": "tiny", "source": None, "dependencies": [], "targets": [target]}
        package["manifest_path"] = str(self.project / "Cargo.toml")
        self.metadata: dict[str, Any] = {
            "workspace_root": str(self.project),
            "target_directory": str(self.project / "target"),
            "packages": [package],
        }
        self.cargo.answers(self.metadata)

    def path(self, root: Path) -> str:
        """Return the `PATH` of a build in the environment at *root*."""
        return os.pathsep.join([str(root / layout.scripts()), str(self.cargo.folder), "/usr/bin", "/bin"])

    def ephemeral(self, name: str = "build-env-a1b2c3d4", maker: str = "uv") -> Path:
        root = self.sample.environment(name, maker=maker)
        root.chmod(0o700)
        return root

    def run(self, *arguments: str, input: str = "", **more: str) -> Done:
        """Run the wrapper in the project's folder, with *more* variables."""
        return self.run_program(self.wrapper, *arguments, input=input, **more)

    def run_program(self, program: Path, *arguments: str, input: str = "", **more: str) -> Done:
        """Run *program* as the wrapper would be run."""
        return subprocess.run(
            [program, *arguments],
            env={**self.environ, **more},
            cwd=self.project,
            input=input,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,  # a wrapper that runs itself would do so for ever
        )

    def without(self, *names: str) -> Bench:
        for name in names:
            del self.environ[name]
        return self

    def plain(self, **more: str) -> dict[str, str]:
        """Return the variables that cargo gets where we are not there."""
        return {name: value for name, value in {**self.environ, **more}.items() if name != "CARGO"}

    def changes(self, **more: str) -> Changes:
        """Return what the wrapper changed of these for its last call."""
        return changed(self.plain(**more), self.cargo.calls[-1].environ)

    @property
    def entries(self) -> list[str]:
        found = self.store / "environments"
        return sorted(names_in(found)) if found.exists() else []


@pytest.fixture
def bench(shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path) -> Bench:
    return Bench(shared, a_python, environ, tmp_path)


class OfEachForm:
    """Tests of the script that an installer writes, and of the one that starts Python isolated on POSIX."""

    @pytest.fixture(params=["installer's"] if layout.WINDOWS else ["installer's", "isolated"])
    def bench(
        self,
        request: pytest.FixtureRequest,
        shared: Shared,
        a_python: str,
        environ: dict[str, str],
        tmp_path: Path,
    ) -> Bench:
        return Bench(shared, a_python, environ, tmp_path, isolated=request.param == "isolated")


def fine(done: Done) -> Done:
    """Check that a call succeeded and said nothing."""
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return done


def warned(done: Done) -> str:
    """Check that a call succeeded, and return the one line it said."""
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("pyo3-envshim: ")
    return done.stderr


class TestAServedCall:
    def test_gets_the_permanent_path(
        self, shared: Shared, python: str, environ: dict[str, str], tmp_path: Path
    ) -> None:
        bench = Bench(shared, python, environ, tmp_path)
        fine(bench.run("rustc", "--lib"))
        (digest,) = bench.entries
        path = bench.store / "environments" / digest
        changes = bench.changes()
        base = changes.pop("PYO3_BASE_PYTHON")
        assert changes == {
            "PYO3_PYTHON": layout.interpreter(str(path)),
            "PYTHON_SYS_EXECUTABLE": layout.interpreter(str(path)),
            "VIRTUAL_ENV": str(path),
            "PATH": bench.path(path),
            "PYO3_ENVSHIM_BASE": base,
        }
        assert os.path.realpath(base or "") == python
        assert run([changes["PYO3_PYTHON"] or "", "-c", "import tiny; print(tiny.NAME)"], {}) == "tiny\n"

    def test_gets_the_same_path_from_another_environment(self, bench: Bench) -> None:
        fine(bench.run("build"))
        first = bench.cargo.calls[-1].environ
        shutil.rmtree(bench.root)
        root = bench.ephemeral("pip-build-env-00000000", maker="venv")
        fine(
            bench.run(
                "build",
                PYO3_PYTHON=str(program_in(root, "python" if layout.WINDOWS else "python3")),
                VIRTUAL_ENV=str(root),
                PATH=bench.path(root),
                PYTHON_SYS_EXECUTABLE=str(program_in(root, "python" if layout.WINDOWS else "python3")),
            )
        )
        assert changed(first, bench.cargo.calls[-1].environ) == {}

    def test_gets_another_path_when_a_requirement_changed(self, bench: Bench) -> None:
        fine(bench.run("build"))
        (site_packages(bench.root) / "other.py").write_text("VERSION = 3\n")
        fine(bench.run("build"))
        assert len(bench.entries) == 2
        first, second = (call.environ["PYO3_PYTHON"] for call in bench.cargo.calls)
        assert first != second

    def test_gets_a_new_nonce_when_another_workspace_was_built_here(self, bench: Bench) -> None:
        write_stamp(str(bench.project / "target" / "debug"), "/elsewhere", "", {})
        line = warned(bench.run("build", PYO3_ENVSHIM_VERBOSE="1"))
        python = bench.cargo.calls[-1].environ["PYO3_PYTHON"]
        digest, dash, nonce = Path(python).parents[1].name.partition("-")
        assert dash
        assert line == f"pyo3-envshim: environment {digest[:12]}-{nonce} stored: PYO3_PYTHON={python}\n"
        assert bench.cargo.calls[-1].environ["PYO3_BASE_PYTHON"] == python
        assert run([python, "-c", "import tiny; print(tiny.NAME)"], {}) == "tiny\n"

    @pytest.mark.parametrize("marker", MARKERS)
    def test_comes_from_any_front_end(self, marker: str, bench: Bench) -> None:
        bench.without(*IN_A_BUILD)
        fine(bench.run("build", **{marker: "x"}))
        assert bench.entries

    def test_says_what_was_done_if_asked(self, bench: Bench) -> None:
        first = warned(bench.run("build", PYO3_ENVSHIM_VERBOSE="1"))
        second = warned(bench.run("build", PYO3_ENVSHIM_VERBOSE="1"))
        (digest,) = bench.entries
        python = layout.interpreter(str(bench.store / "environments" / digest))
        assert first == f"pyo3-envshim: environment {digest[:12]} stored: PYO3_PYTHON={python}\n"
        assert second == f"pyo3-envshim: environment {digest[:12]} reused: PYO3_PYTHON={python}\n"

    def test_has_no_store_whose_folder_depends_on_the_working_folder(self, bench: Bench) -> None:
        line = warned(bench.run("build", PYO3_ENVSHIM_CACHE_DIR="cache-here"))
        reason = "PYO3_ENVSHIM_CACHE_DIR=cache-here depends on the working directory"
        hint = "set PYO3_ENVSHIM_CACHE_DIR to a full path"
        assert line == f"pyo3-envshim: warning: not used for this build: {reason}; {hint}\n"
        assert not (bench.project / "cache-here").exists()

    @pytest.mark.parametrize("value", ["relative", "~/cache", ""])
    def test_gets_an_absolute_path_whatever_the_cache_folder(self, value: str, bench: Bench) -> None:
        bench.without("PYO3_ENVSHIM_CACHE_DIR")
        bench.run("build", XDG_CACHE_HOME=value)
        assert os.path.isabs(bench.cargo.calls[-1].environ["PYO3_PYTHON"])

    def test_has_a_store_in_the_temporary_folder_where_the_home_is_open_to_others(self, bench: Bench) -> None:
        home = bench.folder / "open"
        home.mkdir()
        home.chmod(0o777)
        bench.without("PYO3_ENVSHIM_CACHE_DIR")
        for _ in range(2):
            fine(bench.run("build", HOME=str(home), XDG_CACHE_HOME=""))
        spare = f"{bench.environ['TMPDIR']}/pyo3-envshim-{os.geteuid()}/environments/"
        first, second = (call.environ["PYO3_PYTHON"] for call in bench.cargo.calls)
        assert first.startswith(spare)
        assert first == second

    def test_keeps_the_users_base_interpreter(self, bench: Bench) -> None:
        fine(bench.run("build", PYO3_BASE_PYTHON="/own"))
        assert "PYO3_BASE_PYTHON" not in bench.changes(PYO3_BASE_PYTHON="/own")

    def test_asks_cargo_once_and_runs_it_once(self, bench: Bench) -> None:
        fine(bench.run("build"))
        assert [call.arguments[0] for call in bench.cargo.all_calls] == ["metadata", "build"]

    def test_asks_cargo_again_where_the_lock_file_knows_more(self, bench: Bench) -> None:
        (bench.project / "Cargo.lock").write_text('[[package]]\nname = "other"\n')
        fine(bench.run("build", "--config", "a=1"))
        first, second, build = bench.cargo.all_calls
        assert {"--no-deps", "--config", "a=1"} <= set(first.arguments)
        assert {"--locked", "--config", "a=1"} <= set(second.arguments)
        assert changed(first.environ, second.environ) == {}
        assert build.arguments == ["build", "--config", "a=1"]

    def test_asks_cargo_with_the_environment_as_it_was(self, bench: Bench) -> None:
        fine(bench.run("build"))
        assert changed(bench.plain(), bench.cargo.all_calls[0].environ) == {}

    def test_is_served_whatever_the_locale(self, bench: Bench) -> None:
        ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        (bench.project / "Cargo.lock").write_text('[[package]]\nname = "tiny"\n# \u00fc\n', "utf-8")
        (bench.project / "src" / "\u00fc.rs").touch()
        fine(bench.run("build", **ascii_only))
        assert "PYO3_PYTHON" in bench.changes(**ascii_only)

    def test_shows_nothing_of_the_question_to_cargo(self, bench: Bench) -> None:
        fine(bench.run("build", input="for the build\n"))
        assert bench.cargo.call.input == "for the build\n"


PASSED_THROUGH: dict[str, Callable[[Bench], Mapping[str, str]]] = {
    "that does not compile": lambda bench: {},
    "for a configured interpreter": lambda bench: {"PYO3_CONFIG_FILE": "/x"},
    "for no interpreter": lambda bench: {"PYO3_NO_PYTHON": "1"},
    "for another platform": lambda bench: {"PYO3_CROSS_LIB_DIR": "/x"},
    "for another target": lambda bench: {"CARGO_BUILD_TARGET": "wasm32-wasip1"},
    "without an interpreter": lambda bench: {"PYO3_PYTHON": ""},
    "for an interpreter by its name": lambda bench: {"PYO3_PYTHON": "python3"},
    "for an interpreter that is a folder": lambda bench: {"PYO3_PYTHON": f"{bench.root}/bin"},
    "for an interpreter that is not there": lambda bench: {"PYO3_PYTHON": f"{bench.root}/bin/python9"},
    "for a base interpreter": lambda bench: {"PYO3_PYTHON": os.path.realpath(sys.executable)},
    "for an environment elsewhere": lambda bench: {"TMPDIR": "/elsewhere"},
    "for the user's environment": lambda bench: {"PYO3_PYTHON": layout.interpreter(str(bench.installed))},
}


class TestACallThatIsPassedThrough(OfEachForm):
    @pytest.mark.parametrize("what", PASSED_THROUGH)
    def test_is_as_if_we_were_not_there(self, what: str, bench: Bench) -> None:
        more = PASSED_THROUGH[what](bench)
        fine(bench.run("metadata-of-another-kind" if "compile" in what else "build", **more))
        assert bench.changes(**more) == {}
        assert bench.entries == []
        left = {path.name for path in bench.project.glob("target/**/*") if path.is_file()}
        assert left <= {"CACHEDIR.TAG", STAMP, "last"}  # for what may be set aside

    @pytest.mark.parametrize(
        ("name", "place"),
        [
            ("PYO3_CONFIG_FILE", "mine/pyo3-config-x.txt"),
            ("PYO3_CONFIG_FILE", "maturin/mine.txt"),
            ("PYO3_CROSS_LIB_DIR", "maturin/pyo3-config-x.txt"),
        ],
    )
    def test_is_one_with_a_setting_that_is_not_maturins_own(
        self, name: str, place: str, bench: Bench
    ) -> None:
        more = {name: f"{bench.project}/target/{place}"}
        fine(bench.run("build", **more))
        assert bench.changes(**more) == {}
        fine(bench.run("build", PYO3_CONFIG_FILE=f"{bench.project}/target/maturin/pyo3-config-x.txt"))
        assert bench.entries

    def test_is_one_without_an_interpreter_at_all(self, bench: Bench) -> None:
        bench.without("PYO3_PYTHON")
        fine(bench.run("build"))
        assert bench.changes() == {}

    def test_is_one_outside_of_a_build(self, bench: Bench) -> None:
        bench.without(*IN_A_BUILD)
        fine(bench.run("build"))
        assert bench.changes() == {}
        assert bench.entries == []

    def test_is_one_with_an_environment_that_cannot_be_stored(self, bench: Bench) -> None:
        (site_packages(bench.root) / "source.pth").write_text("/project/src\n")
        fine(bench.run("build"))
        assert bench.changes() == {}
        assert bench.entries == []

    def test_is_one_where_cargo_cannot_tell_where_it_works(self, bench: Bench) -> None:
        """Its manifest is broken, say: cargo will say so itself."""
        answer = bench.cargo.folder / "metadata.json"
        answer.unlink()
        fine(bench.run("build"))
        assert bench.changes() == {}
        answer.write_text("this is not JSON")
        fine(bench.run("build"))
        assert bench.changes() == {}

    def test_asks_cargo_nothing_if_it_does_not_compile(self, bench: Bench) -> None:
        for command in ("fetch", "--version", "locate-project"):
            fine(bench.run(command))
        assert [call.arguments for call in bench.cargo.all_calls] == [
            ["fetch"],
            ["--version"],
            ["locate-project"],
        ]
        assert bench.changes() == {}

    def test_says_why_if_asked(self, bench: Bench) -> None:
        line = warned(bench.run("build", PYO3_ENVSHIM_VERBOSE="1", PYO3_CONFIG_FILE="/x"))
        assert line == "pyo3-envshim: left alone: PYO3_CONFIG_FILE is set\n"

    def test_says_nothing_if_that_is_switched_off(self, bench: Bench) -> None:
        fine(bench.run("build", PYO3_ENVSHIM_VERBOSE="0"))

    @pytest.mark.parametrize("switch", ["on", "base"])
    def test_has_a_base_of_ours_corrected(self, switch: str, shared: Shared, bench: Bench) -> None:
        """``maturin -i``: the hook named the base of the interpreter that runs maturin."""
        other = next(
            (p for v in ("3.12", "3.13") if (p := interpreter(v)) and p != bench.sample.python), None
        )
        if other is None:
            pytest.skip("this needs a second CPython")
        python = layout.interpreter(str(shared.environment(other)))
        ours = {"PYO3_BASE_PYTHON": bench.sample.python, "PYO3_ENVSHIM_BASE": bench.sample.python}
        ours["PYO3_ENVSHIM"] = switch
        fine(bench.run("build", PYO3_PYTHON=python, **ours))
        assert os.path.realpath(bench.cargo.call.environ["PYO3_BASE_PYTHON"]) == other


class TestTheSwitch:
    @pytest.mark.parametrize("value", ["off", "0", "no", "FALSE"])
    def test_off_leaves_every_variable_as_it_was(self, value: str, bench: Bench) -> None:
        more = {"PYO3_ENVSHIM": value, "PYO3_BASE_PYTHON": "/x", "PYO3_ENVSHIM_BASE": "/x"}
        fine(bench.run("build", **more))
        assert bench.changes(**more) == {}
        assert bench.entries == []

    def test_base_stores_nothing(self, bench: Bench) -> None:
        fine(bench.run("build", PYO3_ENVSHIM="base"))
        assert bench.changes(PYO3_ENVSHIM="base") == {}
        assert bench.entries == []

    def test_an_unknown_value_is_taken_as_on_and_said_once(self, bench: Bench) -> None:
        assert "sometimes" in warned(bench.run("build", PYO3_ENVSHIM="sometimes"))
        assert bench.entries
        fine(bench.run("fetch", PYO3_ENVSHIM="sometimes"))

    @pytest.mark.parametrize("value", ["", "on", "1", "yes", "true", "ON", " on "])
    def test_a_known_value_is_not_talked_about(self, value: str, bench: Bench) -> None:
        fine(bench.run("build", PYO3_ENVSHIM=value))
        assert bench.entries


def break_store(bench: Bench) -> None:
    bench.store.write_text("a file")


def open_store(bench: Bench) -> None:
    bench.store.mkdir()
    bench.store.chmod(0o777)


def block_stamp(bench: Bench) -> None:
    (bench.project / "target").write_text("a file")


def remove_sources(bench: Bench) -> None:
    bench.metadata["packages"][0]["manifest_path"] = f"{bench.folder}/gone/Cargo.toml"
    bench.cargo.answers(bench.metadata)


def odd_answer(bench: Bench) -> None:
    bench.cargo.answers({"unexpected": True})


def break_environment(bench: Bench) -> None:
    shutil.rmtree(bench.root / "lib")


def break_package(bench: Bench, module: str = "environment/digest") -> None:
    own = bench.folder / "installed"
    shutil.copytree(bench.installed, own, symlinks=True)
    (site_packages(own) / "pyo3_envshim" / f"{module}.py").write_text("def (:\n")
    code = "import sys\nfrom pyo3_envshim.wrapper import main\nsys.exit(main())\n"
    wrapper_of(own).chmod(0o755)  # on Windows, nothing that is read-only can be replaced
    wrapper_of(own).unlink()
    at = own / layout.scripts() / "pyo3-envshim-cargo"
    bench.wrapper = program(at, code, layout.interpreter(str(own)))


TROUBLE: dict[str, Callable[[Bench], None]] = {
    "a store that cannot be made": break_store,
    "a store that others can write to": open_store,
    "a build folder that cannot be written to": block_stamp,
    "sources that are gone": remove_sources,
    "an answer of cargo's that is not understood": odd_answer,
    "an environment that is broken": break_environment,
    "a package of ours that is broken": break_package,
}


class TestTroubleOfOurOwn:
    @pytest.mark.parametrize("what", TROUBLE)
    def test_is_one_line_and_cargo_runs_with_its_variables_untouched(self, what: str, bench: Bench) -> None:
        TROUBLE[what](bench)
        line = warned(bench.run("build", "--release"))
        assert "warning: not used for this build" in line
        assert len(bench.cargo.calls) == 1
        assert bench.cargo.call.arguments == ["build", "--release"]
        assert bench.changes() == {}

    @pytest.mark.parametrize("what", TROUBLE)
    def test_does_not_reach_a_call_that_does_not_compile(self, what: str, bench: Bench) -> None:
        TROUBLE[what](bench)
        fine(bench.run("fetch"))
        assert bench.changes() == {}

    @pytest.mark.parametrize("what", TROUBLE)
    def test_does_not_reach_one_who_switched_it_off(self, what: str, bench: Bench) -> None:
        TROUBLE[what](bench)
        fine(bench.run("build", PYO3_ENVSHIM="off"))
        assert bench.changes(PYO3_ENVSHIM="off") == {}

    def test_leaves_a_base_of_ours_that_cannot_be_corrected(self, bench: Bench) -> None:
        break_package(bench, "environment/interpreter")
        ours = {"PYO3_BASE_PYTHON": "/x", "PYO3_ENVSHIM_BASE": "/x"}
        assert "warning: not used for this build" in warned(bench.run("build", **ours))
        assert bench.changes(**ours) == {}

    def test_is_not_a_working_folder_that_is_gone(self, bench: Bench) -> None:
        script(bench.cargo.path, "#!/bin/sh\nexit 7\n")
        code = 'mkdir gone && cd gone && rmdir ../gone && exec "$CARGO" fetch'
        done = bench.run_program(Path("/bin/sh"), "-c", code)
        assert done.returncode == 7
        assert "envshim" not in done.stderr  # the shells themselves may say something

    def test_is_survived_with_standard_error_closed(self, bench: Bench) -> None:
        break_store(bench)
        command = ["/bin/sh", "-c", f'exec "{bench.wrapper}" build 2>&-']
        run(command, bench.environ, bench.project)
        assert bench.cargo.call.arguments == ["build"]


class TestPassingThrough(OfEachForm):
    """What cargo gets and gives is untouched, served or not."""

    @pytest.mark.parametrize("command", ["build", "fetch"])
    def test_arguments(self, command: str, bench: Bench) -> None:
        odd = [command, "", " ", "--", "-x", "a b", "$HOME", "*", "\u00fc", "new\nline", '"', "'"]
        odd += [] if layout.WINDOWS else ["\udcff"]
        fine(bench.run(*odd))
        assert bench.cargo.call.arguments == odd

    @pytest.mark.parametrize("command", ["build", "fetch"])
    def test_standard_streams(self, command: str, bench: Bench) -> None:
        bench.cargo.behaves(out="out\n", err="err\n")
        done = bench.run(command, input="in\n")
        assert (done.stdout, done.stderr) == ("out\n", "err\n")
        assert bench.cargo.call.input == "in\n"

    @pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="there is no /proc")
    @pytest.mark.parametrize("value", [None, "", "C", "POSIX", "C.UTF-8", "de_DE.ISO-8859-1"])
    def test_the_locale(self, value: str | None, bench: Bench) -> None:
        """Python itself sets LC_CTYPE where that is C (PEP 538)."""
        bench.without("LC_ALL")
        more = {} if value is None else {"LC_CTYPE": value}
        script(bench.cargo.path, '#!/bin/sh\nprintf %s "${LC_CTYPE-unset}"\n')
        assert bench.run("fetch", **more).stdout == ("unset" if value is None else value)

    @pytest.mark.parametrize("command", ["build", "fetch"])
    @pytest.mark.parametrize("status", [1, 2, 101, 255])
    def test_the_exit_status(self, command: str, status: int, bench: Bench) -> None:
        bench.cargo.behaves(status=status)
        assert bench.run(command).returncode == status

    @pytest.mark.parametrize("command", ["build", "fetch"])
    @pytest.mark.parametrize("by", ["SIGTERM", "SIGKILL", "SIGINT", "SIGPIPE"])
    def test_death_by_signal(self, command: str, by: str, bench: Bench) -> None:
        number = getattr(signal, by)
        bench.cargo.behaves(signal=number)
        if by in ("SIGINT", "SIGPIPE"):  # the fake cargo is Python, which does not die of these
            script(
                bench.cargo.path,
                f'#!/bin/sh\ntest "$1" = metadata && cat "{bench.cargo.folder}/metadata.json" '
                f"|| kill -{by[3:]} $$\n",
            )
        assert bench.run(command).returncode == -number

    def test_the_working_folder(self, bench: Bench) -> None:
        fine(bench.run("build"))
        assert bench.cargo.call.cwd == str(bench.project)

    @pytest.mark.parametrize("command", ["build", "fetch"])
    def test_the_process_itself(self, command: str, bench: Bench) -> None:
        """cargo takes the wrapper's place, so that a signal to one is a signal to the other."""
        script(
            bench.cargo.path,
            f'#!/bin/sh\ntest "$1" = metadata && cat "{bench.cargo.folder}/metadata.json" || echo $$\n',
        )
        process = subprocess.Popen(
            [bench.wrapper, command], env=bench.environ, cwd=bench.project, stdout=subprocess.PIPE, text=True
        )
        assert process.communicate()[0] == f"{process.pid}\n"

    @pytest.mark.parametrize("command", ["build", "fetch"])
    def test_how_signals_are_taken_and_which_files_are_open(self, command: str, bench: Bench) -> None:
        script(
            bench.cargo.path,
            f'#!/bin/sh\ntest "$1" = metadata && exec cat "{bench.cargo.folder}/metadata.json"\n'
            "grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status; ls /proc/self/fd | wc -l; umask; ulimit -a\n",
        )
        plain = bench.run_program(bench.cargo.path, command).stdout.splitlines()
        assert any("SigIgn" in line for line in plain)
        (at,) = (number for number, line in enumerate(plain) if line.isdigit() and len(line) < 4)
        # one more where it is served: the entry, which is held as long as cargo lives
        plain[at] = str(int(plain[at]) + (command == "build"))
        assert bench.run(command).stdout.splitlines() == plain

    def test_the_users_own_cargo(self, bench: Bench) -> None:
        own = FakeCargo(bench.folder / "own", name="cargo-nightly")
        own.answers(bench.metadata)
        fine(bench.run("build", PYO3_ENVSHIM_CARGO=str(own.path)))
        assert own.call.environ["CARGO"] == str(own.path)
        assert "PYO3_ENVSHIM_CARGO" not in own.call.environ
        assert bench.cargo.all_calls == []

    def test_no_cargo_of_ours_to_what_cargo_runs(self, bench: Bench) -> None:
        """It hands the variable on to build scripts."""
        for command in ("build", "fetch"):
            fine(bench.run(command))
            assert "CARGO" not in bench.cargo.calls[-1].environ

    def test_the_name_that_cargo_is_called_by(self, bench: Bench) -> None:
        script(bench.cargo.path, '#!/bin/sh\nprintf "%s\\n" "$0"\n')
        assert bench.run("fetch").stdout == f"{bench.cargo.path}\n"

    def test_an_interruption_while_we_are_at_work(self, bench: Bench) -> None:
        """Ctrl-C while cargo is asked where it works: dead by the signal, no trace, no cargo."""
        script(
            bench.cargo.path,
            '#!/bin/sh\nif test "$1" = metadata; then kill -INT $PPID; else echo built; fi\n',
        )
        done = subprocess.run(
            [bench.wrapper, "build"],
            env=bench.environ,
            cwd=bench.project,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell may ignore it for us
        )
        assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


class TestFindingCargo(OfEachForm):
    def test_runs_the_cargo_that_its_path_names_without_any_variable(self, bench: Bench) -> None:
        """setuptools-rust's RustExtension(env={…}) starts cargo with variables of the project's choice."""
        other = FakeCargo(bench.folder / "other")
        path = _startup.by_way_of(str(bench.cargo.path), str(bench.wrapper))
        subprocess.run([path, "build"], env={"PATH": str(other.folder)}, cwd=bench.project, check=True)
        assert bench.cargo.call.arguments == ["build"]
        assert set(bench.cargo.call.environ) == {"PATH", "LC_CTYPE"}  # the fake cargo sets that itself
        assert other.calls == []

    def test_on_the_path_of_the_call(self, bench: Bench) -> None:
        """maturin can install one for the build, into the environment it builds in."""
        newer = FakeCargo(bench.folder / "newer")
        newer.answers(bench.metadata)
        fine(bench.run("build", PATH=f"{newer.folder}:{bench.environ['PATH']}"))
        assert newer.call.arguments == ["build"]
        assert bench.cargo.all_calls == []

    @pytest.mark.parametrize("command", ["build", "fetch"])
    def test_never_finds_the_wrapper(self, command: str, bench: Bench) -> None:
        links = bench.folder / "links"
        links.mkdir()
        (links / "cargo").symlink_to(bench.wrapper)
        fine(bench.run(command, PATH=f"{links}:{bench.environ['PATH']}"))
        fine(bench.run_program(links / "cargo", command, PATH=f"{links}:{bench.environ['PATH']}"))
        copied = script(bench.folder / "copied" / "cargo", bench.wrapper.read_text())
        fine(bench.run_program(copied, command, PATH=f"{copied.parent}:{bench.environ['PATH']}"))
        assert len(bench.cargo.calls) == 3

    def test_never_finds_the_wrapper_of_another_environment(self, shared: Shared, bench: Bench) -> None:
        other = shared.environment(bench.sample.python, "venv")
        links = bench.folder / "links"
        links.mkdir()
        (links / "cargo").symlink_to(wrapper_of(other))
        fine(bench.run("build", PATH=f"{links}:{bench.environ['PATH']}"))
        assert len(bench.cargo.calls) == 1

    def test_that_is_not_there_is_said_with_a_way_out(self, bench: Bench) -> None:
        done = bench.run("build", PATH="/nowhere")
        assert done.returncode == 127
        assert done.stdout == ""
        first, second = done.stderr.splitlines()
        assert first == "pyo3-envshim: cargo was not found on PATH"
        assert "hint:" in second

    @pytest.mark.parametrize("command", ["build", "fetch"])
    def test_that_cannot_be_run_is_said(self, command: str, bench: Bench) -> None:
        bench.cargo.path.write_bytes(b"\x7fELF is what this is not")
        done = bench.run(command)
        assert done.returncode == 126
        assert done.stderr.startswith(f"pyo3-envshim: {bench.cargo.path} cannot be run: ")
        assert done.stderr.count("\n") == 1

    @pytest.mark.parametrize("command", ["build", "fetch"])
    @pytest.mark.parametrize("path", ["/gone/cargo", os.path.dirname(__file__)])
    @pytest.mark.parametrize("without", [None, *IN_A_BUILD])
    def test_that_the_user_named_wrongly_is_said_once(
        self, without: str | None, path: str, command: str, bench: Bench
    ) -> None:
        if without:  # nothing is served, but something might be set aside
            bench.without(without)
        done = bench.run(command, PYO3_ENVSHIM_CARGO=path)
        assert done.returncode == 126
        assert done.stderr.startswith(f"pyo3-envshim: PYO3_ENVSHIM_CARGO={path} cannot be run: ")
        assert done.stderr.count("\n") == 1


class TestTheProjectBeingBuilt:
    """What it holds must not change which code of ours runs."""

    @pytest.mark.parametrize("where", ["PYTHONPATH", "working directory"])
    @pytest.mark.parametrize("inside", [True, False], ids=["in a build", "outside"])
    def test_cannot_put_a_package_of_its_own_in_our_place(
        self, where: str, inside: bool, python: str, shared: Shared, environ: dict[str, str], tmp_path: Path
    ) -> None:
        bench = Bench(shared, python, environ, tmp_path)
        hostile = bench.project if where == "working directory" else bench.folder / "hostile"
        for path in (ROOT / "pyo3_envshim").rglob("*.py"):
            text = "import os\nopen(os.environ['HOSTILE_RAN'], 'w').close()\n"
            script(hostile / path.relative_to(ROOT), text)
        more = {"HOSTILE_RAN": str(bench.folder / "ran")}
        if where == "PYTHONPATH":
            more["PYTHONPATH"] = str(hostile)
        if not inside:
            bench.without(*IN_A_BUILD)
        for command in ("fetch", "build"):
            done = bench.run(command, **more)
            assert (done.returncode, done.stderr) == (0, "")
        assert [call.arguments for call in bench.cargo.calls] == [["fetch"], ["build"]]
        assert not (bench.folder / "ran").exists()
        assert bool(bench.entries) == inside

    def test_cannot_put_modules_in_place_of_the_standard_librarys(self, bench: Bench) -> None:
        """A folder on ``PYTHONPATH``, relative to the working directory or not, comes before it."""
        (bench.project / "hostile").mkdir()
        for name in ("json", "hashlib", "time", "fcntl", "ntpath", "posixpath", "shutil", "platformdirs"):
            text = "import os\nopen(os.environ['HOSTILE_RAN'], 'w').close()\n"
            script(bench.project / "hostile" / f"{name}.py", text)
        for path in ("hostile", f"/nothing:{bench.project}/hostile"):
            more = {"HOSTILE_RAN": str(bench.folder / "ran"), "PYTHONPATH": path}
            fine(bench.run("build", **more))
            assert bench.changes(**more)["PYO3_PYTHON"]
            assert not (bench.folder / "ran").exists()


class TestARecordOfTheEnvironment:
    def test_is_what_the_hook_and_the_wrapper_together_make_of_a_build(self, bench: Bench) -> None:
        """A hook process in the installed environment starts cargo as maturin does."""
        code = "import os, subprocess; subprocess.run([os.environ['CARGO'], 'build'], check=True)"
        bench.without("CARGO")
        run([program_in(bench.installed, "python"), "-c", code], bench.environ, bench.project)
        (digest,) = bench.entries
        python = layout.interpreter(str(bench.store / "environments" / digest))
        assert bench.cargo.call.environ["PYO3_PYTHON"] == python
        assert json.dumps(bench.cargo.call.environ).count(str(bench.root)) == 0


@pytest.mark.parametrize(
    ("variables", "stays"),
    [({}, False), ({"PYO3_ENVSHIM_CACHE_SIZE": "1G"}, True), ({"PYO3_ENVSHIM_CACHE_SIZE": " "}, False)],
)
def test_a_store_has_a_limit_of_ours_or_of_the_users(
    variables: dict[str, str],
    stays: bool,
    store: Store,
    sample: SampleWheels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store.acquire(read(sample.environment("one", "other"))).release()
    monkeypatch.setattr(prune, "LIMIT", 1)
    wrapper._prune(store, variables)
    assert bool(names_in(store.environments)) == stays


def test_a_store_that_cannot_be_pruned_costs_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Store(str(tmp_path / "store"))
    os.rmdir(place.environments)
    wrapper._prune(place, {})
    said = capsys.readouterr().err
    missing = f"{place.environments}: {os.strerror(errno.ENOENT)}"
    assert said == f"pyo3-envshim: warning: the store was not pruned: {missing}\n"


def test_a_limit_that_is_none_is_taken_as_the_default(
    store: Store, sample: SampleWheels, capsys: pytest.CaptureFixture[str]
) -> None:
    store.acquire(read(sample.environment("one", "other"))).release()
    wrapper._prune(store, {"PYO3_ENVSHIM_CACHE_SIZE": "5Q"})
    assert names_in(store.environments)
    said = "PYO3_ENVSHIM_CACHE_SIZE='5Q' is taken as its default: say none or a size such as 500M"
    assert capsys.readouterr().err == f"pyo3-envshim: warning: {said}\n"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "/x: No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EACCES, "Permission denied", b"/x"), "/x: Permission denied"),
        (OSError("odd"), "OSError: odd"),
        (StoreError("/x is not yours", "take another"), "/x is not yours; take another"),
        (StoreError("/x had changed"), "/x had changed"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_trouble_is_told_in_words_and_by_a_name_of_pythons_only_if_it_is_a_bug(
    error: Exception, reason: str
) -> None:
    assert call.reason_of(error) == reason
