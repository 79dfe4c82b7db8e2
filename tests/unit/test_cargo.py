"""The wrapper: what it decides, and the installed program end to end in front of a fake cargo."""

from __future__ import annotations

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
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim import cargo, upkeep
from pyo3_envshim.store import Store

from .kit import Kit, read
from .making import (
    IN_A_BUILD,
    MARKERS,
    ROOT,
    Changes,
    FakeCargo,
    Shared,
    changed,
    interpreter,
    run,
    script,
    site_packages,
)

Done = subprocess.CompletedProcess[str]


def words(text: str) -> list[str]:
    return text.split()


class TestACallCompiles:
    @pytest.mark.parametrize(
        "call",
        [
            "build",
            "b --release",
            "rustc --lib -- -C link-arg=-s",
            "check",
            "clippy",
            "test --no-run",
            "bench",
            "run",
            "doc",
            "rustdoc",
            "+nightly build",
            "-v build",
            "-vv --locked build",
            "--color always build",
            "--color=always build",
            "--config net.offline=true build",
            "--config=net.offline=true build",
            "-Z unstable-options build",
            "-Zunstable-options build",
            "+stable --config x=1 --offline rustc",
            "build --config x",
        ],
    )
    def test_if_its_command_does(self, call: str) -> None:
        assert cargo.compiles(words(call))

    @pytest.mark.parametrize(
        "call",
        [
            "",
            "metadata --format-version 1",
            "--version",
            "-V",
            "-vV",
            "--list",
            "fetch",
            "clean",
            "update",
            "locate-project",
            "+nightly",
            "+nightly metadata",
            "--color build",
            "--color build metadata",
            "--config build metadata",
            "-Z build metadata",
            "--explain build",
            "metadata build",
            "zigbuild --release",
            "xwin build",
            "my-alias",
            "-C elsewhere build",
            "-Celsewhere build",
            "Build",
        ],
    )
    def test_not_if_it_does_not_or_nobody_knows(self, call: str) -> None:
        assert not cargo.compiles(words(call))

    @given(
        st.lists(
            st.one_of(st.text(max_size=6), st.sampled_from(["build", "-C", "--config", "--color", "-Z"]))
        )
    )
    def test_or_not_whatever_its_arguments(self, arguments: list[str]) -> None:
        assert cargo.compiles(arguments) in (True, False)


@pytest.mark.parametrize(
    ("call", "values"),
    [
        ("build", []),
        ("build --config a --config b", ["a", "b"]),
        ("build --config=a=1 --config b", ["a=1", "b"]),
        ("--config a build", ["a"]),
        ("build --config", []),
        ("rustc -- --config a", []),
        ("rustc --config a -- --config b", ["a"]),
        ("build --configure a", []),
        ("build --config=", [""]),
    ],
)
def test_the_values_of_a_long_option_are_found(call: str, values: list[str]) -> None:
    assert cargo.values_of("--config", words(call)) == values


@pytest.mark.parametrize(
    ("call", "values"),
    [("-Z a build -Zb", ["a", "b"]), ("build -Z", []), ("build --Z a", []), ("-Z=a", ["a"])],
)
def test_the_values_of_a_short_option_are_found(call: str, values: list[str]) -> None:
    assert [value.lstrip("=") for value in cargo.values_of("-Z", words(call))] == values


class TestTheQuestionWhereCargoWorks:
    def test_hands_on_what_decides_the_answer(self) -> None:
        call = "+nightly rustc --manifest-path m/Cargo.toml --config a=1 -Zx --release --config=b"
        found = cargo.metadata_arguments(words(f"{call} --lib -- --config c"))
        assert found[:2] == ["+nightly", "metadata"]
        rest = " ".join(found[2:])
        for part in (
            "--manifest-path m/Cargo.toml",
            "--config a=1",
            "--config b",
            "-Z x",
            "--format-version 1",
        ):
            assert part in rest
        for part in ("--release", "--lib", "--config c", "rustc"):
            assert part not in rest

    def test_hands_on_no_toolchain_that_is_none(self) -> None:
        """It can only come first; this one is for the program that is run."""
        assert cargo.metadata_arguments(words("run +nightly"))[0] == "metadata"

    def test_neither_resolves_nor_downloads(self) -> None:
        assert {"--no-deps", "--offline"} <= set(cargo.metadata_arguments(["build"]))

    @pytest.mark.parametrize("option", ["--offline", "--frozen"])
    def test_about_dependencies_never_resolves_anew(self, option: str) -> None:
        found = cargo.metadata_arguments(["build", option], dependencies=True)
        assert "--locked" in found
        assert option in found
        assert "--no-deps" not in found

    def test_about_dependencies_may_download_where_the_call_may(self) -> None:
        assert "--offline" not in cargo.metadata_arguments(words("rustc -- --offline"), dependencies=True)

    def test_hands_the_target_folder_on_in_a_variable(self) -> None:
        """``cargo metadata`` has no such option."""
        found = cargo.metadata_environ(
            words("build --target-dir out"), {"A": "1", "CARGO_TARGET_DIR": "other"}
        )
        assert found == {"A": "1", "CARGO_TARGET_DIR": os.path.abspath("out")}
        assert cargo.metadata_environ(words("build --target-dir=/out"), {}) == {"CARGO_TARGET_DIR": "/out"}

    def test_has_the_calls_variables_else(self) -> None:
        environ = {"CARGO_TARGET_DIR": "there"}
        assert cargo.metadata_environ(words("build --target x86_64-unknown-linux-gnu"), environ) == environ
        assert cargo.metadata_environ(words("rustc -- --target-dir x"), environ) == environ


LOCK = """\
version = 4

[[package]]
name = "tiny"
version = "0.1.0"
dependencies = [
 "helper",
 "pyo3",
]

[[package]]
name = "helper"
version = "0.1.0"

[[package]]
name = "pyo3"
version = "0.30.1"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "00"

[[package]]
name = "patched"
version = "1.0.0"
source = "git+https://example.org/x#0123"
"""


class TestALockFile:
    @pytest.mark.parametrize("line_end", ["\n", "\r\n"])
    def test_tells_which_packages_are_local(self, line_end: str, tmp_path: Path) -> None:
        (tmp_path / "Cargo.lock").write_bytes(LOCK.replace("\n", line_end).encode())
        assert cargo.local_names(str(tmp_path / "Cargo.lock")) == {"tiny", "helper"}

    def test_tells_nothing_if_it_is_not_there(self, tmp_path: Path) -> None:
        assert cargo.local_names(str(tmp_path / "Cargo.lock")) == set()

    def test_that_is_broken_names_a_package_that_nobody_knows(self, tmp_path: Path) -> None:
        """So cargo is asked, and refuses."""
        (tmp_path / "Cargo.lock").write_text('[[package]]\nname = "X"\n[[package]]\nversion = "1"\n')
        assert cargo.local_names(str(tmp_path / "Cargo.lock")) == {"X", ""}

    def test_tells_which_packages_are_unused_patches(self, tmp_path: Path) -> None:
        """They are listed apart and are not compiled."""
        unused = '\n[[patch.unused]]\nname = "odd"\nversion = "1.0.0"\n'
        local = {"tiny", "helper", "patched"}
        (tmp_path / "Cargo.lock").write_text(LOCK.rpartition("source")[0] + unused)
        assert local <= cargo.local_names(str(tmp_path / "Cargo.lock")) <= {*local, "odd"}


class TestWhatCargoAnswers:
    @pytest.fixture
    def answer(self, tmp_path: Path) -> dict[str, Any]:
        """One member, with a module elsewhere and two dependencies."""
        package: dict[str, Any] = {"name": "tiny", "source": None, "manifest_path": "/work/tiny/Cargo.toml"}
        package["targets"] = [{"src_path": "/elsewhere/lib.rs"}]
        package["dependencies"] = [{"path": "/work/helper"}, {"path": None}, {}]
        return {"workspace_root": str(tmp_path), "target_directory": "/target", "packages": [package]}

    def test_tells_where_the_sources_are(self, answer: dict[str, Any], tmp_path: Path) -> None:
        places = ["/elsewhere", "/work/helper", "/work/tiny"]
        found = cargo.locations(answer, "/no/cargo", ["build"], {})
        assert found == ("/target", str(tmp_path), places, ["/target", "/target"])
        answer["build_directory"] = "/build"
        found = cargo.locations(answer, "/no/cargo", ["build"], {})
        assert found == ("/build", str(tmp_path), places, ["/build", "/target"])

    @pytest.mark.parametrize(("names", "asked"), [(["tiny"], []), (["tiny", "other"], ["--locked"])])
    def test_is_not_all_where_the_lock_file_knows_more(
        self, names: list[str], asked: list[str], answer: dict[str, Any], tmp_path: Path
    ) -> None:
        """``--no-deps`` names the members of the workspace only."""
        fake = FakeCargo(tmp_path / "bin")
        (other,) = answer["packages"]
        fake.answers({"packages": [{**other, "manifest_path": "/other/Cargo.toml"}]})
        lock = "".join(f'[[package]]\nname = "{name}"\n' for name in names)
        (tmp_path / "Cargo.lock").write_text(lock)
        call = ["build", "--config", "a=1", "--target-dir", "/there"]
        places = cargo.locations(answer, str(fake.path), call, {"A": "b"})[2]
        assert ("/other" in places) == bool(asked)
        calls = [it.arguments for it in fake.all_calls]
        assert calls == [["metadata", "--format-version", "1", it, "--config", "a=1"] for it in asked]
        environs = [{name: it.environ.get(name) for name in ("A", "HOME")} for it in fake.all_calls]
        assert environs == [{"A": "b", "HOME": None} for _ in asked]
        assert all(it.environ["CARGO_TARGET_DIR"] == "/there" for it in fake.all_calls)


ASKS = """
import os, sys
from pyo3_envshim import cargo, upkeep
{before}
print(cargo.Query({program!r}, ["one", "two"], {{"A": "b"}}).answered())
print(sys.stdin.read(), "subprocess" in sys.modules)
"""


class TestTheProcessThatIsAsked:
    @pytest.fixture(params=[False, True], ids=["at once", "slowly, as on PyPy"])
    def slowly(self, request: pytest.FixtureRequest) -> bool:
        return bool(request.param)

    def asks(self, text: str, slowly: bool, folder: Path) -> str:
        """Return what a Python says that asks such a script, and is given an input."""
        program = script(folder / "cargo", f"#!/bin/sh\n{text}\n")
        before = "del os.POSIX_SPAWN_OPEN" if slowly else ""
        code = ASKS.format(before=before, program=str(program))
        command = [sys.executable, "-W", "always::ResourceWarning", "-c", code]
        done = subprocess.run(command, cwd=ROOT, input="input", capture_output=True, text=True, check=True)
        assert done.stderr == ""
        answer, rest = done.stdout.splitlines()
        assert rest == f"input {slowly}"  # subprocess takes long to import
        return answer

    def test_has_its_arguments_and_variables_and_no_input(self, slowly: bool, tmp_path: Path) -> None:
        text = 'cat; echo "trouble" >&2; echo "$1 $2 $A ${HOME-none}"'
        assert self.asks(text, slowly, tmp_path) == repr(b"one two b none\n")

    def test_has_said_nothing_if_it_fails_later(self, slowly: bool, tmp_path: Path) -> None:
        text = 'echo x; exec >&-; n=0; while [ "$n" -lt 10000 ]; do n=$((n + 1)); done; exit 1'
        assert self.asks(text, slowly, tmp_path) == repr(b"")


class TestRealCargo:
    """Where it works, asked of the real one."""

    @pytest.fixture
    def real(self) -> str:
        found = shutil.which("cargo")
        if found is None:
            pytest.skip("there is no cargo on PATH")
        return found

    @pytest.fixture
    def locate(self, real: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Locate:
        write_crate(tmp_path / "work", "tiny", 'helper = { path = "../helper" }')
        write_crate(tmp_path / "helper", "helper", "")
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CARGO_TARGET")}
        run([real, "generate-lockfile", "--offline"], environ, tmp_path / "work")
        monkeypatch.chdir(tmp_path / "work")

        def locate(*arguments: str, **more: str) -> tuple[str, str, list[str], list[str]]:
            call, variables = ["build", *arguments], {**environ, **more}
            query = cargo.Query(real, cargo.metadata_arguments(call), cargo.metadata_environ(call, variables))
            return cargo.locations(query.answer(), real, call, variables)

        return locate

    def test_names_the_build_folder_the_workspace_and_every_local_package(
        self, locate: Locate, tmp_path: Path
    ) -> None:
        build, workspace, packages, skip = locate()
        assert build == f"{tmp_path}/work/target"
        assert workspace == f"{tmp_path}/work"
        assert {f"{tmp_path}/work", f"{tmp_path}/work/src", f"{tmp_path}/helper"} <= set(packages)
        assert build in skip

    def test_names_a_crate_that_a_patch_brings(self, locate: Locate, real: str, tmp_path: Path) -> None:
        write_crate(tmp_path / "extra", "extra", "")
        manifest = tmp_path / "helper" / "Cargo.toml"
        manifest.write_text(
            manifest.read_text() + '[target."cfg(unix)".dependencies]\nextra = { path = "../extra" }\n'
        )
        run([real, "generate-lockfile", "--offline"], os.environ, tmp_path / "work")
        assert f"{tmp_path}/extra" in locate()[2]

    def test_is_believed_about_target_folders(self, locate: Locate, tmp_path: Path) -> None:
        for arguments, more in (
            (["--target-dir", "elsewhere"], {}),
            (["--config", "build.target-dir='elsewhere'"], {}),
            ([], {"CARGO_TARGET_DIR": "elsewhere"}),
        ):
            build, _, _, skip = locate(*arguments, **more)
            assert build == f"{tmp_path}/work/elsewhere"
            assert build in skip

    def test_is_believed_about_a_build_folder(self, locate: Locate, tmp_path: Path) -> None:
        build, _, _, skip = locate("--config", "build.build-dir='build-here'")
        assert build in (f"{tmp_path}/work/build-here", f"{tmp_path}/work/target")  # cargo 1.91 knows it
        assert {build, f"{tmp_path}/work/target"} == set(skip)

    def test_is_asked_with_the_calls_manifest(
        self, locate: Locate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert locate("--manifest-path", "work/Cargo.toml")[1] == f"{tmp_path}/work"

    def test_that_cannot_tell_leaves_the_call_alone(
        self, locate: Locate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
        with pytest.raises(cargo.LeftAlone):
            locate()

    def test_is_asked_by_a_python_that_cannot_spawn_at_once(
        self, locate: Locate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """PyPy."""
        answer = locate()
        monkeypatch.delattr(os, "POSIX_SPAWN_OPEN")
        assert locate() == answer
        (tmp_path / "work" / "Cargo.toml").unlink()
        with pytest.raises(cargo.LeftAlone):
            locate()


Locate = Callable[..., "tuple[str, str, list[str], list[str]]"]


def write_crate(folder: Path, name: str, dependencies: str) -> None:
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "lib.rs").touch()
    package = f'[package]\nname = "{name}"\nversion = "0.1.0"\n\n[dependencies]\n{dependencies}\n'
    (folder / "Cargo.toml").write_text(package)


class TestTheVariablesOfAServedCall:
    def test_name_the_address(self) -> None:
        environ = {"PYO3_PYTHON": "/env/bin/python3", "PATH": "/usr/bin", "OTHER": "1"}
        found = cargo.readdressed(environ, "/env", "/store/digest", "/usr/bin/python3.11")
        base = dict.fromkeys(("PYO3_BASE_PYTHON", "PYO3_ENVSHIM_BASE"), "/usr/bin/python3.11")
        assert found == {**environ, "PYO3_PYTHON": "/store/digest/bin/python", **base}

    def test_name_it_wherever_they_named_the_environment(self) -> None:
        environ = {
            "PYO3_PYTHON": "/env/bin/python",
            "PYTHON_SYS_EXECUTABLE": "/env/bin/python3",
            "VIRTUAL_ENV": "/env",
            "PATH": "/env/bin:/usr/bin:/env/bin/:/environment/bin",
        }
        found = cargo.readdressed(environ, "/env", "/a", "/base")
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
        found = cargo.readdressed(environ, "/env", "/a", "/base")
        for name in ("PYTHON_SYS_EXECUTABLE", "VIRTUAL_ENV", "PATH"):
            assert found[name] == environ[name]

    def test_do_not_gain_a_path(self) -> None:
        assert "PATH" not in cargo.readdressed({"PYO3_PYTHON": "/env/bin/python"}, "/env", "/a", "/base")

    def test_name_the_tokened_address_as_base_too(self) -> None:
        """A PyO3 that reads it would not see the token otherwise."""
        found = cargo.readdressed({"PATH": ""}, "/env", "/store/digest-token", "/base")
        assert found["PYO3_BASE_PYTHON"] == found["PYO3_ENVSHIM_BASE"] == "/store/digest-token/bin/python"

    def test_keep_the_users_base_interpreter(self) -> None:
        environ = {"PYO3_BASE_PYTHON": "/own", "PATH": ""}
        found = cargo.readdressed(environ, "/env", "/store/digest-token", "/base")
        assert found["PYO3_BASE_PYTHON"] == "/own"
        assert "PYO3_ENVSHIM_BASE" not in found

    def test_replace_a_base_of_ours(self) -> None:
        environ = {"PYO3_BASE_PYTHON": "/ours", "PYO3_ENVSHIM_BASE": "/ours", "PATH": ""}
        assert cargo.readdressed(environ, "/env", "/a", "/base")["PYO3_BASE_PYTHON"] == "/base"


class TestABaseOfOurs:
    def test_is_corrected_for_the_interpreter_of_the_call(self, shared: Shared, python: str) -> None:
        root = shared.environment(python)
        environ = {"PYO3_BASE_PYTHON": "/x", "PYO3_ENVSHIM_BASE": "/x", "PYO3_PYTHON": f"{root}/bin/python"}
        found = cargo.with_base(environ)
        assert os.path.realpath(found["PYO3_BASE_PYTHON"]) == python
        assert found["PYO3_ENVSHIM_BASE"] == found["PYO3_BASE_PYTHON"]

    @pytest.mark.parametrize("python", [None, "", "/gone/bin/python", "/bin/sh", "python3", sys.base_prefix])
    def test_is_taken_back_for_an_interpreter_in_no_environment(self, python: str | None) -> None:
        environ = {"PYO3_BASE_PYTHON": "/x", "PYO3_ENVSHIM_BASE": "/x", "OTHER": "1"}
        given = environ if python is None else {**environ, "PYO3_PYTHON": python}
        assert set(cargo.with_base(given)) - {"PYO3_PYTHON"} == {"OTHER"}

    def test_is_not_one_that_the_user_set(self) -> None:
        environ = {"PYO3_BASE_PYTHON": "/own", "PYO3_ENVSHIM_BASE": "/ours"}
        assert cargo.with_base(environ)["PYO3_BASE_PYTHON"] == "/own"


@pytest.mark.parametrize(
    ("environ", "restored"),
    [
        ({"CARGO": "/env/bin/pyo3-envshim-cargo"}, {}),
        ({"CARGO": "/env/bin/pyo3-envshim-cargo", "PYO3_ENVSHIM_CARGO": "/own"}, {"CARGO": "/own"}),
        ({"CARGO": "/own/cargo"}, {"CARGO": "/own/cargo"}),
        ({"CARGO": "pyo3-envshim-cargo.exe", "PYO3_ENVSHIM_CARGO": ""}, {}),
        ({"OTHER": "1", "PYO3_ENVSHIM_CARGO": "/own"}, {"OTHER": "1"}),
        ({}, {}),
    ],
)
def test_the_variables_are_what_they_would_be_without_us(
    environ: dict[str, str], restored: dict[str, str]
) -> None:
    before = dict(environ)
    assert cargo.restore(environ) == restored
    assert environ == before


class TestTheRealCargo:
    def find(self, **environ: str) -> str | None:
        return cargo.find_cargo(cargo.restore(environ), environ)

    def test_is_the_first_on_the_path(self, tmp_path: Path) -> None:
        for name in ("two", "three"):
            script(tmp_path / name / "cargo", "")
        (tmp_path / "one").mkdir()
        path = ":".join(str(tmp_path / name) for name in ("gone", "one", "two", "three"))
        assert self.find(PATH=path) == f"{tmp_path}/two/cargo"

    def test_is_in_the_systems_folders_without_a_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script(tmp_path / "cargo", "")
        monkeypatch.setattr(os, "defpath", f"/gone:{tmp_path}")
        assert self.find() == f"{tmp_path}/cargo"

    def test_can_be_run(self, tmp_path: Path) -> None:
        (tmp_path / "one" / "cargo").mkdir(parents=True)
        script(tmp_path / "two" / "cargo", "").chmod(0o644)
        script(tmp_path / "three" / "cargo", "")
        assert self.find(PATH=f"{tmp_path}/one:{tmp_path}/two:{tmp_path}/three") == f"{tmp_path}/three/cargo"

    @pytest.mark.parametrize("variable", ["CARGO", "PYO3_ENVSHIM_CARGO"])
    def test_is_the_users_own(self, variable: str, tmp_path: Path) -> None:
        script(tmp_path / "cargo", "")
        assert self.find(PATH=str(tmp_path), **{variable: "/own/cargo"}) == "/own/cargo"

    def test_is_the_users_own_by_its_name(self, tmp_path: Path) -> None:
        script(tmp_path / "cargo", "")
        script(tmp_path / "cargo-nightly", "")
        assert (
            self.find(PATH=str(tmp_path), PYO3_ENVSHIM_CARGO="cargo-nightly") == f"{tmp_path}/cargo-nightly"
        )

    def test_is_never_the_wrapper(self, tmp_path: Path) -> None:
        script(tmp_path / "env" / "pyo3-envshim-cargo", "")
        (tmp_path / "links").mkdir()
        (tmp_path / "links" / "cargo").symlink_to("../env/pyo3-envshim-cargo")
        script(tmp_path / "real" / "cargo", "")
        assert self.find(PATH=f"{tmp_path}/links:{tmp_path}/real") == f"{tmp_path}/real/cargo"
        assert self.find(PATH=f"{tmp_path}/links") is None

    def test_is_looked_for_on_the_path_where_the_users_own_is_the_wrapper(self, tmp_path: Path) -> None:
        """A shell profile that exports it, and a parent of ours that took it for the user's."""
        wrapper = script(tmp_path / "env" / "pyo3-envshim-cargo", "")
        script(tmp_path / "real" / "cargo", "")
        found = self.find(PATH=f"{tmp_path}/real", PYO3_ENVSHIM_CARGO=str(wrapper), CARGO=str(wrapper))
        assert found == f"{tmp_path}/real/cargo"


class Bench:
    """The installed wrapper, a fake cargo, a crate, and a throw-away environment to build in."""

    def __init__(self, shared: Shared, python: str, environ: Mapping[str, str], folder: Path) -> None:
        self.folder = folder
        self.installed = shared.environment(python)
        self.wrapper = self.installed / "bin" / "pyo3-envshim-cargo"
        self.cargo = FakeCargo(folder / "cargo-bin")
        self.project = folder / "project"
        write_crate(self.project, "tiny", "")
        self.store = folder / "store"
        self.kit = Kit(shared, python, environ, folder / "tmp")
        self.root = self.throw_away()
        self.environ = {
            **environ,
            **IN_A_BUILD,
            "TMPDIR": str(folder / "tmp"),
            "PATH": f"{self.root}/bin:{self.cargo.folder}:/usr/bin:/bin",
            "PYO3_PYTHON": f"{self.root}/bin/python",
            "PYTHON_SYS_EXECUTABLE": f"{self.root}/bin/python",
            "VIRTUAL_ENV": str(self.root),
            "CARGO": str(self.wrapper),
            "PYO3_ENVSHIM_CACHE_DIR": str(self.store),
        }
        target = {"name": "tiny", "src_path": f"{self.project}/src/lib.rs"}
        package: dict[str, Any] = {"name": "tiny", "source": None, "dependencies": [], "targets": [target]}
        package["manifest_path"] = f"{self.project}/Cargo.toml"
        self.metadata: dict[str, Any] = {
            "workspace_root": str(self.project),
            "target_directory": f"{self.project}/target",
            "packages": [package],
        }
        self.cargo.answers(self.metadata)

    def throw_away(self, name: str = "build-env-a1b2c3d4", maker: str = "uv") -> Path:
        root = self.kit.environment(name, maker=maker)
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
    def addresses(self) -> list[str]:
        found = self.store / "environments"
        return sorted(os.listdir(found)) if found.exists() else []


@pytest.fixture
def bench(shared: Shared, a_python: str, environ: dict[str, str], tmp_path: Path) -> Bench:
    return Bench(shared, a_python, environ, tmp_path)


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
    def test_gets_the_permanent_address(
        self, shared: Shared, python: str, environ: dict[str, str], tmp_path: Path
    ) -> None:
        bench = Bench(shared, python, environ, tmp_path)
        fine(bench.run("rustc", "--lib"))
        (digest,) = bench.addresses
        address = bench.store / "environments" / digest
        changes = bench.changes()
        base = changes.pop("PYO3_BASE_PYTHON")
        assert changes == {
            "PYO3_PYTHON": f"{address}/bin/python",
            "PYTHON_SYS_EXECUTABLE": f"{address}/bin/python",
            "VIRTUAL_ENV": str(address),
            "PATH": f"{address}/bin:{bench.cargo.folder}:/usr/bin:/bin",
            "PYO3_ENVSHIM_BASE": base,
        }
        assert os.path.realpath(base or "") == python
        assert run([changes["PYO3_PYTHON"] or "", "-c", "import tiny; print(tiny.NAME)"], {}) == "tiny\n"

    def test_gets_the_same_address_from_another_environment(self, bench: Bench) -> None:
        fine(bench.run("build"))
        first = bench.cargo.calls[-1].environ
        shutil.rmtree(bench.root)
        root = bench.throw_away("pip-build-env-00000000", maker="venv")
        fine(
            bench.run(
                "build",
                PYO3_PYTHON=f"{root}/bin/python3",
                VIRTUAL_ENV=str(root),
                PATH=f"{root}/bin:{bench.cargo.folder}:/usr/bin:/bin",
                PYTHON_SYS_EXECUTABLE=f"{root}/bin/python3",
            )
        )
        assert changed(first, bench.cargo.calls[-1].environ) == {}

    def test_gets_another_address_when_a_requirement_changed(self, bench: Bench) -> None:
        fine(bench.run("build"))
        (site_packages(bench.root) / "other.py").write_text("VERSION = 3\n")
        fine(bench.run("build"))
        assert len(bench.addresses) == 2
        first, second = (call.environ["PYO3_PYTHON"] for call in bench.cargo.calls)
        assert first != second

    def test_gets_a_new_token_when_its_sources_are_in_doubt(self, bench: Bench) -> None:
        unit = bench.project / "target" / "debug" / ".fingerprint" / "tiny-0"
        unit.mkdir(parents=True)
        (unit / "invoked.timestamp").touch()  # a build without us
        line = warned(bench.run("build", PYO3_ENVSHIM_VERBOSE="1"))
        python = bench.cargo.calls[-1].environ["PYO3_PYTHON"]
        digest, dash, token = Path(python).parents[1].name.partition("-")
        assert dash
        assert line == f"pyo3-envshim: environment {digest[:12]}-{token} stored: PYO3_PYTHON={python}\n"
        assert bench.cargo.calls[-1].environ["PYO3_BASE_PYTHON"] == python
        assert run([python, "-c", "import tiny; print(tiny.NAME)"], {}) == "tiny\n"

    @pytest.mark.parametrize("marker", MARKERS)
    def test_comes_from_any_front_end(self, marker: str, bench: Bench) -> None:
        bench.without(*IN_A_BUILD)
        fine(bench.run("build", **{marker: "x"}))
        assert bench.addresses

    def test_says_what_was_done_if_asked(self, bench: Bench) -> None:
        first = warned(bench.run("build", PYO3_ENVSHIM_VERBOSE="1"))
        second = warned(bench.run("build", PYO3_ENVSHIM_VERBOSE="1"))
        (digest,) = bench.addresses
        python = f"{bench.store}/environments/{digest}/bin/python"
        assert first == f"pyo3-envshim: environment {digest[:12]} stored: PYO3_PYTHON={python}\n"
        assert second == f"pyo3-envshim: environment {digest[:12]} reused: PYO3_PYTHON={python}\n"

    def test_has_the_folder_of_the_store_made_absolute(self, bench: Bench) -> None:
        bench.run("build", PYO3_ENVSHIM_CACHE_DIR="cache-here")
        python = bench.cargo.calls[-1].environ["PYO3_PYTHON"]
        assert python.startswith(f"{bench.project}/cache-here/environments/")

    @pytest.mark.parametrize("value", ["relative", "~/cache", ""])
    def test_gets_an_absolute_address_whatever_the_cache_folder(self, value: str, bench: Bench) -> None:
        bench.without("PYO3_ENVSHIM_CACHE_DIR")
        bench.run("build", XDG_CACHE_HOME=value)
        assert os.path.isabs(bench.cargo.calls[-1].environ["PYO3_PYTHON"])

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


LEFT_ALONE: dict[str, Callable[[Bench], Mapping[str, str]]] = {
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
    "for the user's environment": lambda bench: {"PYO3_PYTHON": f"{bench.installed}/bin/python"},
}


class TestACallThatIsLeftAlone:
    @pytest.mark.parametrize("what", LEFT_ALONE)
    def test_is_as_if_we_were_not_there(self, what: str, bench: Bench) -> None:
        more = LEFT_ALONE[what](bench)
        fine(bench.run("metadata-of-another-kind" if "compile" in what else "build", **more))
        assert bench.changes(**more) == {}
        assert bench.addresses == []
        assert not (bench.project / "target").exists()

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
        assert bench.addresses

    def test_is_one_without_an_interpreter_at_all(self, bench: Bench) -> None:
        bench.without("PYO3_PYTHON")
        fine(bench.run("build"))
        assert bench.changes() == {}

    def test_is_one_outside_of_a_build(self, bench: Bench) -> None:
        bench.without(*IN_A_BUILD)
        fine(bench.run("build"))
        assert bench.changes() == {}
        assert bench.addresses == []

    def test_is_one_with_an_environment_that_cannot_be_stored(self, bench: Bench) -> None:
        (site_packages(bench.root) / "source.pth").write_text("/project/src\n")
        fine(bench.run("build"))
        assert bench.changes() == {}
        assert bench.addresses == []

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
        other = next((p for v in ("3.12", "3.13") if (p := interpreter(v)) and p != bench.kit.python), None)
        if other is None:
            pytest.skip("this needs a second CPython")
        python = f"{shared.environment(other)}/bin/python"
        ours = {"PYO3_BASE_PYTHON": bench.kit.python, "PYO3_ENVSHIM_BASE": bench.kit.python}
        ours["PYO3_ENVSHIM"] = switch
        fine(bench.run("build", PYO3_PYTHON=python, **ours))
        assert os.path.realpath(bench.cargo.call.environ["PYO3_BASE_PYTHON"]) == other


class TestTheSwitch:
    @pytest.mark.parametrize("value", ["off", "0", "no", "FALSE"])
    def test_off_leaves_every_variable_as_it_was(self, value: str, bench: Bench) -> None:
        more = {"PYO3_ENVSHIM": value, "PYO3_BASE_PYTHON": "/x", "PYO3_ENVSHIM_BASE": "/x"}
        fine(bench.run("build", **more))
        assert bench.changes(**more) == {}
        assert bench.addresses == []

    def test_base_stores_nothing(self, bench: Bench) -> None:
        fine(bench.run("build", PYO3_ENVSHIM="base"))
        assert bench.changes(PYO3_ENVSHIM="base") == {}
        assert bench.addresses == []

    def test_an_unknown_value_is_taken_as_on_and_said_once(self, bench: Bench) -> None:
        assert "sometimes" in warned(bench.run("build", PYO3_ENVSHIM="sometimes"))
        assert bench.addresses
        fine(bench.run("fetch", PYO3_ENVSHIM="sometimes"))

    @pytest.mark.parametrize("value", ["", "on", "1", "yes", "true", "ON", " on "])
    def test_a_known_value_is_not_talked_about(self, value: str, bench: Bench) -> None:
        fine(bench.run("build", PYO3_ENVSHIM=value))
        assert bench.addresses


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


def break_package(bench: Bench, module: str = "environments") -> None:
    own = bench.folder / "installed"
    shutil.copytree(bench.installed, own, symlinks=True)
    (site_packages(own) / "pyo3_envshim" / f"{module}.py").write_text("def (:\n")
    bench.wrapper = script(
        own / "bin" / "pyo3-envshim-cargo",
        f"#!{own}/bin/python\nimport sys\nfrom pyo3_envshim.cargo import main\nsys.exit(main())\n",
    )


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
        break_package(bench, "interpreters")
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


class TestPassingThrough:
    """What cargo gets and gives is untouched, served or not."""

    @pytest.mark.parametrize("command", ["build", "fetch"])
    def test_arguments(self, command: str, bench: Bench) -> None:
        odd = [command, "", " ", "--", "-x", "a b", "$HOME", "*", "\u00fc", "new\nline", '"', "'", "\udcff"]
        fine(bench.run(*odd))
        assert bench.cargo.call.arguments == odd

    @pytest.mark.parametrize("command", ["build", "fetch"])
    def test_standard_streams(self, command: str, bench: Bench) -> None:
        bench.cargo.behaves(out="out\n", err="err\n")
        done = bench.run(command, input="in\n")
        assert (done.stdout, done.stderr) == ("out\n", "err\n")
        assert bench.cargo.call.input == "in\n"

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


class TestFindingCargo:
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
        other = shared.environment(bench.kit.python, "venv")
        links = bench.folder / "links"
        links.mkdir()
        (links / "cargo").symlink_to(other / "bin" / "pyo3-envshim-cargo")
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
        assert f"{bench.cargo.path} cannot be run" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("command", ["build", "fetch"])
    def test_that_the_user_named_wrongly_is_said(self, command: str, bench: Bench) -> None:
        done = bench.run(command, PYO3_ENVSHIM_CARGO="/gone/cargo")
        assert done.returncode == 126
        assert "/gone/cargo cannot be run" in done.stderr
        assert "Traceback" not in done.stderr


class TestTheProjectBeingBuilt:
    """What it holds must not change which code of ours runs."""

    @pytest.mark.parametrize("where", ["PYTHONPATH", "working directory"])
    @pytest.mark.parametrize("inside", [True, False], ids=["in a build", "outside"])
    def test_cannot_put_a_package_of_its_own_in_our_place(
        self, where: str, inside: bool, python: str, shared: Shared, environ: dict[str, str], tmp_path: Path
    ) -> None:
        bench = Bench(shared, python, environ, tmp_path)
        hostile = bench.project if where == "working directory" else bench.folder / "hostile"
        for name in ("__init__", "_startup", "cargo", "store", "environments"):
            text = "import os\nopen(os.environ['HOSTILE_RAN'], 'w').close()\n"
            script(hostile / "pyo3_envshim" / f"{name}.py", text)
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
        assert bool(bench.addresses) == inside

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
        run([bench.installed / "bin" / "python", "-c", code], bench.environ, bench.project)
        (digest,) = bench.addresses
        python = f"{bench.store}/environments/{digest}/bin/python"
        assert bench.cargo.call.environ["PYO3_PYTHON"] == python
        assert json.dumps(bench.cargo.call.environ).count(str(bench.root)) == 0


@pytest.mark.parametrize(
    ("variables", "stays"),
    [({}, False), ({"PYO3_ENVSHIM_CACHE_SIZE": "1G"}, True), ({"PYO3_ENVSHIM_CACHE_SIZE": " "}, False)],
)
def test_a_store_has_a_limit_of_ours_or_of_the_users(
    variables: dict[str, str], stays: bool, place: Store, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.use(read(kit.environment("one", "other")))
    place.release()
    monkeypatch.setattr(upkeep, "LIMIT", 1)
    cargo.prune(place, variables)
    assert bool(os.listdir(place.environments)) == stays


def test_a_store_that_cannot_be_pruned_costs_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Store(str(tmp_path / "store"))
    os.rmdir(place.environments)
    cargo.prune(place, {})
    said = capsys.readouterr().err
    assert said.startswith("pyo3-envshim: warning: the store was not pruned: FileNotFoundError: ")
    assert said.count("\n") == 1
