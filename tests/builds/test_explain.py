"""`pyo3-envshim explain`: each cause, provoked in a real build, is named with its way out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.front_ends import (
    BUILD,
    BUILD_FROM_SDIST,
    MATURIN_DEVELOP,
    PIP,
    PIP_VENV,
    POETRY_INSTALL,
    UV_BUILD,
    UV_BUILD_FROM_SDIST,
    FrontEnd,
    Host,
)
from support.interpreters import base_interpreter, other_interpreter
from support.sample_crates import BACK_ENDS, SETUPTOOLS_RUST, BackEnd, Project

from .workshop import Bench, real_cargo

PYO3 = ["pyo3-ffi", "pyo3", "tiny"]
# What hatch-rs 0.4.3, hatchling-pyo3-plugin 0.1.1 and Corrosion 0.6.1 do: start the cargo on PATH, and
# name no interpreter to it.
_OWN_BACK_END = """\
[build-system]
requires = ["platformdirs"]
build-backend = "backend"
backend-path = ["."]

[project]
name = "tiny"
version = "0.1.0"
"""
_FROM_PATH = """\
import pathlib
import subprocess
import zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    subprocess.run(["cargo", "build"], check=True)
    info = "tiny-0.1.0.dist-info"
    name = "tiny-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(directory, name), "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 0.1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""


@dataclass
class Explained:
    """What `explain --json` said of one command."""

    data: dict[str, Any]
    status: int = 0
    error: str = ""

    @property
    def crates(self) -> list[str]:
        """The crates that were recompiled, of all calls."""
        return [crate["name"] for call in self.data["calls"] for crate in call["recompiled"]]

    @property
    def total(self) -> int:
        """The crates that cargo looked at."""
        return sum(call["crates"] for call in self.data["calls"])

    @property
    def causes(self) -> list[dict[str, Any]]:
        """The root causes."""
        found: list[dict[str, Any]] = self.data["causes"]
        return found

    @property
    def cause(self) -> dict[str, Any]:
        """The only root cause, which all that was recompiled has."""
        (found,) = self.causes
        for call in self.data["calls"]:
            for crate in call["recompiled"]:
                assert crate["causes"] == [0], crate
        return found


def program(bench: Bench) -> str:
    """Return the installed pyo3-envshim."""
    return str(bench.shimmed.folder / "bin" / "pyo3-envshim")


def explained(bench: Bench, front_end: FrontEnd, project: Project, host: Host, **variables: str) -> Explained:
    """Build under explain."""
    before, bench.enter = bench.enter, (program(bench), "explain", "--json", "--")
    try:
        output = bench.build(front_end, project, host, **variables).output
    finally:
        bench.enter = before
    return Explained(json.loads(output[output.rindex('\n{\n  "version"') :]))


@dataclass
class Crate:
    """A small crate with a dependency that has a build script."""

    bench: Bench
    folder: Path

    def write(self, name: str, text: str) -> None:
        """Write one file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def watches(self, *instructions: str) -> None:
        """Write the dependency's build script."""
        lines = "".join(f'println!("cargo:{line}");' for line in instructions)
        self.write("dep/build.rs", f"fn main() {{ {lines} }}\n")

    @property
    def environment(self) -> dict[str, str]:
        """The variables that cargo gets."""
        return self.bench.environment()

    def explain(
        self, *arguments: str, command: Sequence[str] = (), status: Any = 0, **variables: str
    ) -> Explained:
        """Run cargo (or *command*) under explain; it ends with *status*."""
        words = [program(self.bench), "explain", "--json", "--", *(command or ("cargo", "build")), *arguments]
        done = self.run(words, variables)
        assert done.returncode == status, done.stderr
        return Explained(json.loads(done.stdout), done.returncode, done.stderr)

    def said(self, *arguments: str, **variables: str) -> str:
        """Run cargo under explain; return what is on stderr."""
        done = self.run([program(self.bench), "explain", "--", "cargo", "build", *arguments], variables)
        assert (done.returncode, done.stdout) == (0, "")
        return done.stderr

    def run(self, words: Sequence[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a command in the crate's folder."""
        environment = {**self.environment, **variables}
        return subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def crate(bench: Bench) -> Crate:
    """Return the small crate, not compiled."""
    found = Crate(bench, bench.folder / "crate")
    package = '[package]\nname = "{}"\nversion = "0.1.0"\nedition = "2021"\n'
    features = '[features]\nextra = []\n[dependencies]\ndep = { path = "dep" }\n'
    found.write("Cargo.toml", package.format("top") + features)
    found.write("dep/Cargo.toml", package.format("dep"))
    found.write("src/lib.rs", "pub fn top() { dep::dep() }\n")
    found.write("dep/src/lib.rs", "pub fn dep() {}\n")
    found.watches("rerun-if-changed=build.rs")
    return found


class TestAnEphemeralEnvironment:
    """What the shim is for."""

    @pytest.mark.parametrize("back_end", BACK_ENDS, ids=lambda it: it.name)
    @pytest.mark.parametrize("front_end", [BUILD, UV_BUILD, PIP_VENV], ids=lambda it: it.name)
    def test_is_the_cause_and_the_shim_the_cure(
        self, bench: Bench, front_end: FrontEnd, back_end: BackEnd
    ) -> None:
        project = bench.project(back_end)
        bench.build(front_end, project, bench.plain)
        found = explained(bench, front_end, project, bench.plain)
        assert found.crates == PYO3
        assert found.total > len(PYO3)
        assert (found.cause["kind"], found.cause["name"]) == ("ephemeral", "PYO3_PYTHON")
        assert found.cause["old"] != found.cause["new"]
        assert '"pyo3-envshim" to build-system.requires' in found.cause["hint"]
        way_in = "pyo3-envshim run -- uv" if front_end is UV_BUILD else "pip install pyo3-envshim beside"
        assert way_in in found.cause["hint"]
        bench.build(front_end, project, bench.shimmed)
        assert explained(bench, front_end, project, bench.shimmed).crates == []

    def test_of_poetry_is_the_cause_too(self, bench: Bench) -> None:
        project = bench.project(warm=False)
        host = bench.host(POETRY_INSTALL, shimmed=False)
        target = str(bench.fill(bench.folder / "target"))
        bench.build(POETRY_INSTALL, project, host, CARGO_TARGET_DIR=target)
        found = explained(bench, POETRY_INSTALL, project, host, CARGO_TARGET_DIR=target)
        assert found.cause["kind"] == "ephemeral"
        assert "beside poetry" in found.cause["hint"]

    @pytest.mark.parametrize("front_end", [BUILD, UV_BUILD, PIP], ids=lambda it: it.name)
    def test_that_the_back_end_does_not_name_is_told_with_the_way_out(
        self, bench: Bench, front_end: FrontEnd
    ) -> None:
        project = bench.project()
        project.write("pyproject.toml", _OWN_BACK_END)
        project.write("backend.py", _FROM_PATH)
        bench.build(front_end, project, bench.shimmed)
        found = explained(bench, front_end, project, bench.shimmed)
        assert found.crates == PYO3
        assert found.cause["kind"] == "ephemeral"
        assert found.cause["name"] == ("VIRTUAL_ENV" if front_end is UV_BUILD else "PATH")
        assert "set PYO3_PYTHON to the path of the interpreter" in found.cause["hint"]
        assert "set it alike" not in found.cause["hint"]
        named = {"PYO3_PYTHON": base_interpreter()}
        bench.build(front_end, project, bench.shimmed, **named)
        assert explained(bench, front_end, project, bench.shimmed, **named).crates == []

    def test_is_told_in_a_short_table(self, bench: Bench) -> None:
        project = bench.project()
        bench.build(BUILD, project, bench.plain)
        bench.enter = (program(bench), "explain", "--")
        lines = bench.build(BUILD, project, bench.plain).output.splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("cargo recompiled 3 of "))
        assert "Successfully built" in "".join(lines[:start])
        assert lines[start + 1].split() == ["crate", "time", "because"]
        rows = [line.split(None, 3) for line in lines[start + 2 : start + 5]]
        assert [row[0] for row in rows] == PYO3
        assert [row[3] for row in rows] == [
            "PYO3_PYTHON changed",
            "depends on pyo3-ffi",
            "depends on pyo3",
        ]
        assert all(float(row[1]) >= 0 and row[2] == "s" for row in rows)
        assert lines[start + 5].startswith("cause: PYO3_PYTHON changed: ")
        assert lines[start + 6].startswith("hint: switch the shim on: ")
        assert len(lines) == start + 7

    def test_given_to_the_shim_for_the_first_time_is_told(self, bench: Bench) -> None:
        project = bench.project()
        bench.build(BUILD, project, bench.plain)
        found = explained(bench, BUILD, project, bench.shimmed)
        of_pyo3, of_the_crate = sorted(found.causes, key=lambda it: str(it["kind"]) != "stored")
        assert of_pyo3["kind"] == "stored"
        assert of_pyo3["new"].startswith(str(bench.store))
        assert of_the_crate["kind"] == "new-crate"  # nothing is known of the build before
        assert "time stamps were in doubt" in of_the_crate["text"]


class TestItChangesNothing:
    """A build under explain is the build without it."""

    @pytest.mark.parametrize("back_end", BACK_ENDS, ids=lambda it: it.name)
    def test_neither_before_nor_after_a_build_without_it(self, bench: Bench, back_end: BackEnd) -> None:
        project = bench.project(back_end)
        variables = {"SOURCE_DATE_EPOCH": "1577836800"}
        adopting = bench.build(BUILD, project, bench.shimmed, **variables)
        assert adopting.compiled
        assert explained(bench, BUILD, project, bench.shimmed, **variables).crates == []
        project.set_answer("other")
        assert explained(bench, BUILD, project, bench.shimmed, **variables).crates == ["tiny"]
        after = bench.build(BUILD, project, bench.shimmed, **variables)
        assert after.compiled == []
        explained(bench, BUILD, project, bench.shimmed, **variables)
        ours = sorted((bench.folder / "dist").glob("*/*.whl"), key=os.path.getmtime)
        assert after.wheel is not None
        assert ours[-1].read_bytes() == after.wheel.read_bytes()
        assert bench.answer(after) == "other"

    @pytest.mark.parametrize("host", ["plain", "shimmed"])
    @pytest.mark.parametrize("front_end", [BUILD, PIP, UV_BUILD], ids=lambda it: it.name)
    def test_cargo_sees_the_same_variables_but_for_its_log(
        self, bench: Bench, front_end: FrontEnd, host: str
    ) -> None:
        project = bench.project()
        installed: Host = getattr(bench, host)
        bench.build(front_end, project, installed)
        without = bench.build(front_end, project, installed)
        bench.enter = (program(bench), "explain", "--")
        under = bench.build(front_end, project, installed)
        compiling = [[call.arguments for call in built.calls if call.compiles] for built in (without, under)]
        assert compiling[1] == compiling[0]
        seen = [
            {
                name: value
                for name, value in built.compiling_environment.items()
                if str(bench.temporary) not in value and "builds-v" not in value
            }
            for built in (without, under)
        ]
        assert seen[1].pop("CARGO_LOG").startswith("cargo::core::compiler::fingerprint=")
        assert seen[1] == seen[0]

    def test_a_users_own_cargo_and_log_are_kept(self, bench: Bench, crate: Crate) -> None:
        own = crate.folder / "own" / "my-cargo"
        crate.write("own/my-cargo", f'#!/bin/sh\necho "$CARGO" >>"$0.calls"\nexec {real_cargo()} "$@"\n')
        own.chmod(0o755)
        found = crate.explain(
            command=["sh", "-c", '"$CARGO" build'], CARGO=str(own), CARGO_LOG="cargo::ops=debug"
        )
        assert found.crates == ["dep", "top"]
        assert set(own.with_name("my-cargo.calls").read_text().split()) == {str(own)}
        assert "cargo::core::compiler::fingerprint" in found.error  # who asks for a log sees it

    def test_nothing_is_left_behind(self, bench: Bench, crate: Crate) -> None:
        crate.explain()
        assert list(bench.temporary.iterdir()) == []


class TestVariables:
    """A variable that differs between those who build."""

    @pytest.mark.parametrize("name", ["PYO3_PYTHON", "VIRTUAL_ENV", "PATH", "PYO3_ENVIRONMENT_SIGNATURE"])
    def test_are_named_with_both_values(self, crate: Crate, name: str) -> None:
        crate.watches(f"rerun-if-env-changed={name}")
        values = ["/one", "/other"]
        if name == "PATH":
            path = crate.environment["PATH"]
            values = [path, path + ":/other"]
        one, other = ({name: value} for value in values)
        crate.explain(**one)
        found = crate.explain(**other)
        assert found.crates == ["dep", "top"]
        assert [found.cause[key] for key in ("kind", "name", "old", "new")] == ["variable", name, *values]
        assert name in found.cause["hint"]
        assert crate.explain(**other).crates == []

    def test_are_all_named_where_cargo_names_the_first(self, crate: Crate) -> None:
        names = ("VIRTUAL_ENV", "PYO3_PYTHON", "SAME")
        crate.watches(*(f"rerun-if-env-changed={name}" for name in names))
        crate.explain(VIRTUAL_ENV="/v", SAME="1")
        found = crate.explain(PYO3_PYTHON="/python", SAME="1")
        assert [(it["name"], it["old"], it["new"]) for it in found.causes] == [
            ("VIRTUAL_ENV", "/v", None),
            ("PYO3_PYTHON", None, "/python"),
        ]

    def test_tell_what_was_set_aside_and_brought_back(self, crate: Crate) -> None:
        crate.watches("rerun-if-env-changed=PYO3_PYTHON")
        wrapper = str(crate.bench.shimmed.wrapper)
        one, other = base_interpreter(), other_interpreter()

        def explain(python: str) -> Explained:
            return crate.explain("build", command=[wrapper], CARGO=wrapper, PYO3_PYTHON=python)

        for _ in range(2):  # the first one writes Cargo.lock
            explain(one)
        found = explain(other)
        assert found.crates == ["dep", "top"]
        assert [found.cause[key] for key in ("kind", "old", "new")] == ["set-aside", one, other]
        assert found.data["calls"][0]["moved"] == "3 units set aside, 0 brought back"
        found = explain(one)
        assert found.crates == []
        assert found.data["calls"][0]["moved"] == "3 units set aside, 3 brought back"

    def test_that_the_source_reads_are_named_too(self, crate: Crate) -> None:
        crate.write("dep/src/lib.rs", 'pub fn dep() { let _ = option_env!("SETTING"); }\n')
        crate.explain(SETTING="1")
        cause = crate.explain().cause
        assert [cause[key] for key in ("kind", "name", "old", "new")] == ["variable", "SETTING", "1", None]
        assert "unset" in cause["text"]


class TestSettings:
    """What cargo is told by flags and configuration."""

    def test_rustflags(self, crate: Crate) -> None:
        crate.explain()
        cause = crate.explain(RUSTFLAGS="-g --cfg x").cause
        assert (cause["kind"], cause["old"], cause["new"]) == ("rustflags", "", "-g --cfg x")
        assert crate.explain().crates == []

    def test_rustflags_that_take_turns(self, bench: Bench) -> None:
        """A cdylib has one place, whatever the flags are."""
        project = bench.project()
        crate = Crate(bench, project.folder)
        for flags in ("", "--cfg x"):  # PyO3 is compiled twice: without, and with them
            last = crate.explain(RUSTFLAGS=flags)
        assert "own target folder" in last.cause["hint"]
        assert crate.explain(RUSTFLAGS="").crates == ["tiny"]

    def test_features(self, crate: Crate) -> None:
        crate.explain()
        found = crate.explain("--features=extra")
        assert found.crates == ["top"]
        assert (found.cause["kind"], found.cause["old"], found.cause["new"]) == ("features", "", "extra")

    def test_a_profiles_settings(self, crate: Crate) -> None:
        crate.explain()
        found = crate.explain(CARGO_PROFILE_DEV_OPT_LEVEL="1")
        assert found.crates == ["dep", "top"]
        assert found.cause["kind"] == "profile"

    def test_another_profile(self, crate: Crate) -> None:
        crate.explain()
        cause = crate.explain("--release").cause
        assert (cause["kind"], cause["name"]) == ("profile", "release")
        assert "there is debug" in cause["text"]

    def test_two_at_once(self, crate: Crate) -> None:
        crate.explain()
        found = crate.explain("--features=extra", RUSTFLAGS="-g")
        assert [cause["kind"] for cause in found.causes] == ["rustflags", "features"]

    def test_another_toolchain(self, crate: Crate) -> None:
        crate.explain()
        rustc = crate.folder / "rustc"
        rustc.write_text(f'#!/bin/sh\n[ "$*" = -vV ] || exec {real("rustc")} "$@"\n{real("rustc")} -vV')
        rustc.write_text(rustc.read_text() + " | sed '1s/rustc /rustc other-/'\n")
        rustc.chmod(0o755)
        cause = crate.explain(RUSTC=str(rustc)).cause
        assert cause["kind"] == "toolchain"
        assert cause["old"].startswith("rustc 1.")
        assert cause["new"].startswith("rustc other-1.")

    def test_another_version(self, crate: Crate) -> None:
        crate.explain()
        manifest = (crate.folder / "Cargo.toml").read_text()
        crate.write("Cargo.toml", manifest.replace("0.1.0", "0.2.0"))
        found = crate.explain()
        assert found.crates == ["top"]
        assert found.cause["kind"] == "identity"
        assert "its version" in found.cause["hint"]


def real(name: str) -> str:
    """Return a program on our own PATH."""
    found = shutil.which(name)
    assert found is not None
    return found


class TestFiles:
    """What build scripts watch, and sources."""

    def test_a_file_that_does_not_exist(self, crate: Crate) -> None:
        crate.watches("rerun-if-changed=no-such-file")
        crate.explain()
        found = crate.explain()
        assert found.crates == ["dep", "top"]
        assert found.cause["kind"] == "missing-file"
        assert found.cause["name"] == str(crate.folder / "dep" / "no-such-file")
        assert "what exists only" in found.cause["hint"]

    def test_a_pattern_as_orjson_has_one(self, crate: Crate) -> None:
        """orjson 3.13.0's build script prints rerun-if-changed=include/yyjson/*."""
        crate.write("dep/include/yyjson/yyjson.c", "")
        crate.watches("rerun-if-changed=include/yyjson/*")
        crate.explain()
        cause = crate.explain().cause
        assert cause["kind"] == "missing-file"
        assert "cargo expands no patterns" in cause["hint"]

    def test_a_changed_source(self, crate: Crate) -> None:
        crate.explain()
        crate.write("src/lib.rs", "pub fn changed() { dep::dep() }\n")
        found = crate.explain()
        assert found.crates == ["top"]
        assert (found.cause["kind"], found.cause["hint"]) == ("file", "")
        assert found.cause["name"] == str(crate.folder / "src" / "lib.rs")

    def test_a_file_that_the_build_itself_writes(self, crate: Crate) -> None:
        crate.explain()
        found = crate.explain(command=["sh", "-c", "touch dep/src/lib.rs && cargo build"])
        assert found.crates == ["dep", "top"]
        assert "while this command ran" in found.cause["text"]
        assert "write only what differs" in found.cause["hint"]

    def test_a_package_whose_script_watches_nothing(self, crate: Crate) -> None:
        crate.watches()
        crate.explain()
        crate.write("dep/data.txt", "")
        assert crate.explain().cause["name"].endswith("data.txt")

    def test_a_build_before_that_failed(self, crate: Crate) -> None:
        crate.explain()
        crate.write("src/lib.rs", "fn")
        failed = crate.explain(status=101)
        assert failed.data["calls"][0]["status"] == 101
        assert failed.crates == ["top"]
        assert failed.cause["name"].endswith("lib.rs")

    def test_a_build_with_other_settings_in_between(self, crate: Crate) -> None:
        crate.explain()
        crate.explain("--features=extra")
        os.utime(crate.folder / "dep" / "src" / "lib.rs")
        crate.explain()
        found = crate.explain("--features=extra")
        assert found.crates == ["top"]
        assert (found.cause["kind"], found.cause["name"]) == ("taking-turns", "dep")


class TestTargetFolders:
    """A target folder that is new."""

    def test_is_the_cause_of_all(self, crate: Crate) -> None:
        found = crate.explain()
        assert found.crates == ["dep", "top"]
        assert found.cause["kind"] == "target-folder"
        assert found.cause["name"] == str(crate.folder / "target")

    @pytest.mark.parametrize("front_end", [BUILD_FROM_SDIST, UV_BUILD_FROM_SDIST], ids=lambda it: it.name)
    def test_below_an_unpacked_sdist_has_a_cure(self, bench: Bench, front_end: FrontEnd) -> None:
        project = bench.project(warm=False)
        found = explained(bench, front_end, project, bench.plain)
        assert len(found.crates) == found.total > len(PYO3)
        assert found.cause["kind"] == "target-folder"
        assert "unpacked the sdist" in found.cause["text"]
        assert "--wheel" in found.cause["hint"]

    def test_in_a_warm_one_a_crate_may_be_new(self, crate: Crate) -> None:
        crate.explain()
        crate.write("Cargo.toml", (crate.folder / "Cargo.toml").read_text() + 'more = { path = "more" }\n')
        crate.write("more/Cargo.toml", '[package]\nname = "more"\nversion = "1.0.0"\n')
        crate.write("more/src/lib.rs", "")
        found = crate.explain()
        assert "more" in found.crates
        assert ("new-crate", "more") in [(cause["kind"], cause["name"]) for cause in found.causes]


class TestTheCommand:
    """It is run as it would be without explain."""

    def test_may_be_maturin_develop(self, bench: Bench) -> None:
        host = bench.host(MATURIN_DEVELOP, shimmed=False)
        path = f"{bench.environment(host)['PATH']}:{bench.plain.folder}/bin"  # it installs with uv
        found = explained(bench, MATURIN_DEVELOP, bench.project(), host, PATH=path)
        assert found.crates == PYO3
        # the target folder was filled by plain cargo; maturin sets these
        names = {it["name"]: it["kind"] for it in found.causes}
        for name in ("PYO3_ENVIRONMENT_SIGNATURE", "PYO3_PYTHON"):
            assert names[name] == "variable"

    def test_may_be_cargo_by_its_path(self, crate: Crate) -> None:
        assert crate.explain(command=[real_cargo(), "build"]).crates == ["dep", "top"]

    def test_is_heard_where_the_front_end_hides_it(self, bench: Bench) -> None:
        project = bench.project(SETUPTOOLS_RUST)
        bench.build(PIP, project, bench.plain)
        project.set_answer("other")
        assert explained(bench, PIP, project, bench.plain).crates == ["tiny"]

    def test_without_cargo_is_told(self, crate: Crate) -> None:
        found = crate.explain(command=["true"])
        assert (found.data["calls"], found.causes) == ([], [])
        done = crate.run([program(crate.bench), "explain", "--", "true"], {})
        assert done.stderr.startswith("cargo compiled nothing: ")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
    def test_ends_explain_by_its_signal(self, crate: Crate, number: signal.Signals) -> None:
        crate.explain(command=["sh", "-c", f"kill -{int(number)} $$"], status=-number)

    def test_of_which_cargo_is_killed_ends_as_without(self, crate: Crate) -> None:
        kills = "kill -TERM $(awk '/^PPid/{print $2}' /proc/$PPID/status); sleep 60"
        call = f'std::process::Command::new("sh").args(["-c", {json.dumps(kills)}]).status().unwrap();'
        crate.write("dep/build.rs", f"fn main() {{ {call} }}\n")
        found = crate.explain(status=-signal.SIGTERM, command=[real_cargo(), "build"])
        assert found.data["calls"][0]["status"] == -signal.SIGTERM

    def test_shows_nothing_of_the_log(self, crate: Crate) -> None:
        for backtrace in ("0", "1"):
            said = crate.said(RUST_BACKTRACE=backtrace, RUSTFLAGS=f"--cfg a{backtrace}")
            lines = [line for line in said.splitlines() if not line.startswith(("cause:", "hint:"))]
            shown = lines[: next(i for i, line in enumerate(lines) if line.startswith("cargo re"))]
            words = [line.split()[0] for line in shown if line.strip()]
            # cargo waits where another test's cargo has the lock of the package cache
            words = [word for word in words if word not in ("Blocking", "Locking")]
            assert words == ["Compiling", "Compiling", "Finished"]

    def test_gets_json_messages_untouched(self, crate: Crate) -> None:
        words = ("cargo", "build", "--message-format=json")
        under = crate.run([program(crate.bench), "explain", "--", *words], {})
        without = crate.run(words, {})
        assert under.stdout.replace('"fresh":false', '"fresh":true') == without.stdout

    @pytest.mark.parametrize("no_colour", [False, True])
    def test_has_its_colours_on_a_terminal(self, crate: Crate, no_colour: bool) -> None:
        words = ["script", "-qec", f"{program(crate.bench)} explain -- cargo build", "/dev/null"]
        if shutil.which("script") is None:
            pytest.skip("this needs util-linux's script")
        variables = {"NO_COLOR": "1"} if no_colour else {}
        said = crate.run(words, {"TERM": "xterm", **variables}).stdout
        assert "fingerprint" not in said
        assert ("\x1b[1mcargo recompiled" in said) != no_colour
        assert ("\x1b[1m\x1b[92m   Compiling" in said) != no_colour


@pytest.mark.parametrize("toolchain", ["nightly", "nightly-new-layout"])
def test_other_cargos_are_understood(crate: Crate, toolchain: str) -> None:
    name, _, layout = toolchain.partition("-")
    command = ["cargo", f"+{name}", *["-Zbuild-dir-new-layout"] * bool(layout), "build"]
    if crate.run([*command, "--help"], {}).returncode:
        pytest.skip(f"there is no {name} toolchain of rustup")
    crate.watches("rerun-if-env-changed=PYO3_PYTHON")
    assert crate.explain(command=command, PYO3_PYTHON="/one").cause["kind"] == "target-folder"
    cause = crate.explain(command=command, PYO3_PYTHON="/other").cause
    assert (cause["old"], cause["new"]) == ("/one", "/other")
    assert crate.explain(command=[*command, "--features=extra"], PYO3_PYTHON="/other").crates == ["top"]
    assert crate.explain(command=command, PYO3_PYTHON="/other").crates == []
