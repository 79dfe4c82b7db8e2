"""What cargo metadata tells: asked of a fake cargo, of scripts, and of the real one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyo3_envshim.call import CargoCall
from pyo3_envshim.cargo.metadata import (
    MetadataError,
    Query,
    Workspace,
    all_packages,
    checksums,
    dependents,
    local_names,
    locked,
)

from .environments import ROOT, FakeCargo, run, script, write_crate

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
        assert set(local_names(str(tmp_path / "Cargo.lock"))) == {"tiny", "helper"}

    def test_tells_nothing_if_it_is_not_there(self, tmp_path: Path) -> None:
        assert set(local_names(str(tmp_path / "Cargo.lock"))) == set()

    def test_that_is_broken_names_a_package_that_nobody_knows(self, tmp_path: Path) -> None:
        """So cargo is asked, and refuses."""
        (tmp_path / "Cargo.lock").write_text('[[package]]\nname = "X"\n[[package]]\nversion = "1"\n')
        assert set(local_names(str(tmp_path / "Cargo.lock"))) == {"X", ""}

    def test_tells_which_packages_are_unused_patches(self, tmp_path: Path) -> None:
        """They are listed apart and are not compiled."""
        unused = (
            '\n[[patch.unused]]\nname = "odd"\nversion = "1.0.0"\nsource = "git+https://example.org/y#0123"\n'
        )
        local = {"tiny", "helper", "patched"}
        (tmp_path / "Cargo.lock").write_text(LOCK.rpartition("source")[0] + unused)
        assert local <= set(local_names(str(tmp_path / "Cargo.lock"))) <= {*local, "odd"}

    def test_tells_versions_sources_and_checksums(self, tmp_path: Path) -> None:
        lock = tmp_path / "Cargo.lock"
        assert (locked(str(lock)), checksums(str(lock))) == ([], {})
        lock.write_text(LOCK)
        registry = "registry+https://github.com/rust-lang/crates.io-index"
        assert locked(str(lock)) == [
            ("tiny", "0.1.0", None),
            ("helper", "0.1.0", None),
            ("pyo3", "0.30.1", registry),
            ("patched", "1.0.0", "git+https://example.org/x#0123"),
        ]
        assert checksums(str(lock)) == {f"pyo3 0.30.1 {registry}": "00"}

    @pytest.mark.parametrize(
        ("name", "expected"),
        [("pyo3", True), ("pyo3-ffi", True), ("python3-sys", True), ("my-pyo3", False), ("serde", False)],
    )
    def test_tells_whether_a_python_is_used(self, name: str, expected: bool, tmp_path: Path) -> None:
        answer = {"workspace_root": str(tmp_path), "target_directory": "/target", "packages": []}
        assert not Workspace(answer, []).uses_python
        (tmp_path / "Cargo.lock").write_text(f'[[package]]\nname = "tiny"\n[[package]]\nname = "{name}"\n')
        assert Workspace(answer, []).uses_python == expected

    def test_is_read_whatever_the_locale(self, tmp_path: Path) -> None:
        (tmp_path / "Cargo.lock").write_text('# \u00fc\n[[package]]\nname = "\u00fc"\n', "utf-8")
        code = "import sys; from pyo3_envshim.cargo.metadata import local_names\n"
        code += "print(ascii(local_names(sys.argv[1])))"
        environ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        assert run([sys.executable, "-c", code, str(tmp_path / "Cargo.lock")], environ, ROOT) == "['\\xfc']\n"


def test_a_lock_file_tells_what_needs_a_package(tmp_path: Path) -> None:
    lock = tmp_path / "Cargo.lock"
    assert dependents(str(lock), {"pyo3"}) is None
    needs = {
        "pyo3": ["pyo3-ffi 0.30.1"],
        "tiny": ["helper", "pyo3"],
        "helper": [],
        "pyo3-ffi": [],
        "macros": [],
    }
    text = "version = 4\n"
    for name, own in needs.items():
        text += f'[[package]]\nname = "{name}"\nversion = "1"\n'
        text += "".join(["dependencies = [\n", *(f' "{need}",\n' for need in own), "]\n"]) if own else ""
    replaced = '[[package]]\nname = "old"\ndependencies = [\n "helper",\n]\nreplace = "tiny 1"\n'
    lock.write_text(text + replaced + "[metadata]\n")
    assert dependents(str(lock), {"pyo3-ffi"}) == {"pyo3-ffi", "pyo3", "tiny"}
    assert dependents(str(lock), {"helper"}) == {"helper", "old", "tiny"}
    assert dependents(str(lock), set()) == set()


class TestAWorkspace:
    @pytest.fixture
    def answer(self, tmp_path: Path) -> dict[str, Any]:
        """One member, with a module elsewhere and two dependencies."""
        package: dict[str, Any] = {"name": "tiny", "source": None, "manifest_path": "/work/tiny/Cargo.toml"}
        package["targets"] = [{"name": "tiny", "src_path": "/elsewhere/lib.rs"}]
        package["dependencies"] = [{"name": "helper", "path": "/work/helper"}, {"path": None}, {}]
        return {"workspace_root": str(tmp_path), "target_directory": "/target", "packages": [package]}

    def test_knows_where_the_sources_are(self, answer: dict[str, Any], tmp_path: Path) -> None:
        found = Workspace(answer, answer["packages"])
        assert found.root == str(tmp_path)
        assert found.packages == {"/work/helper": {"helper"}, "/work/tiny": {"tiny"}}
        assert found.crates == {"/elsewhere": {"tiny"}}

    def test_knows_whether_there_may_be_a_build_script_or_a_macro(self, answer: dict[str, Any]) -> None:
        tiny = answer["packages"][0]
        helper = {**tiny, "name": "helper", "dependencies": []}
        script, macro = (
            {**helper, "targets": [{"name": "x", "src_path": "/work/x.rs", "kind": [kind]}]}
            for kind in ("custom-build", "proc-macro")
        )
        circle = {**helper, "dependencies": [{"name": "tiny", "path": "/work/tiny"}]}
        asked = ([tiny], [tiny, helper], [tiny, circle], [tiny, script], [tiny, macro])
        found = [Workspace(answer, packages).scripts for packages in asked]
        assert found == [True, False, False, True, True]

    @pytest.mark.parametrize(
        ("target", "expected"),
        [
            ({"name": "_Core", "kind": ["cdylib"]}, [{"tiny", "helper"}]),
            ({"name": "_core", "kind": ["rlib", "dylib"]}, [{"tiny", "helper"}]),
            ({"name": "-core", "kind": ["cdylib"]}, [{"tiny", "helper"}]),
            ({"name": "_core", "kind": ["lib"]}, []),  # its file has a hash in its name
            ({"name": "_core", "kind": ["bin"]}, []),
            ({"name": "_cores", "kind": ["cdylib"]}, []),
        ],
    )
    def test_knows_libraries_of_one_name(
        self, target: dict[str, Any], expected: list[set[str]], answer: dict[str, Any]
    ) -> None:
        tiny = answer["packages"][0]
        tiny["targets"] = [{"name": "_core", "src_path": "/x.rs", "kind": ["cdylib"]}]
        helper = {**tiny, "name": "helper", "targets": [{"src_path": "/y.rs", **target}]}
        own = {"name": "z", "src_path": "/z.rs", "kind": ["cdylib"]}
        other = {**tiny, "name": "other", "targets": [own]}
        assert Workspace(answer, [tiny, helper, other]).namesakes == expected

    @pytest.mark.parametrize(
        ("arguments", "profile"),
        [
            ("", "debug"),
            ("build", "debug"),
            ("+nightly build --release", "release"),
            ("rustc -r", "release"),
            ("b -vr", "release"),
            ("b -qpr -Fr -vj2", "debug"),
            ("build --profile dev", "debug"),
            ("test", "debug"),
            ("check --profile=test", "debug"),
            ("rustc --profile check", "debug"),
            ("--color always bench -p build", "release"),
            ("build -p bench", "debug"),
            ("build -p xrelease", "debug"),
            ("build --profile bench", "release"),
            ("rustc --release --profile=dist -- --profile x", "dist"),
            ("rustc -- -r --release", "debug"),
        ],
    )
    def test_knows_the_profile_of_a_call(self, arguments: str, profile: str, answer: dict[str, Any]) -> None:
        assert Workspace(answer, [], arguments.split()).profile == profile

    def test_knows_the_settings_and_platforms_of_a_call(self, answer: dict[str, Any]) -> None:
        call = "build --config a=1 --target x --target=y --config=b=2 -- --target z --config c"
        found = Workspace(answer, [], call.split())
        assert (found.settings, found.targets) == (["a=1", "b=2"], ["x", "y"])
        assert found.local_names == set()

    def test_is_told_the_flags_for_rustc(self) -> None:
        answer = {"workspace_root": "/work", "target_directory": "/work/target", "packages": []}
        found = Workspace(answer, [], ["rustc", "--lib", "--", "-Clink-arg=a.o", "--", "x"])
        assert found.flags == ["-Clink-arg=a.o", "--", "x"]
        assert Workspace(answer, [], ["build"]).flags == []

    def test_knows_the_target_folder_and_from_cargo_1_91_on_the_build_folder(
        self, answer: dict[str, Any]
    ) -> None:
        old = Workspace(answer, answer["packages"])
        assert (old.build_dir, old.target_dir, old.tells_build_dir) == ("/target", "/target", False)
        new = Workspace({**answer, "build_directory": "/build"}, answer["packages"])
        assert (new.build_dir, new.target_dir, new.tells_build_dir) == ("/build", "/target", True)
        assert (old.exclude, new.exclude) == (["/target", "/target"], ["/build", "/target"])

    def test_is_called_as_its_root_package_or_as_all_members(
        self, answer: dict[str, Any], tmp_path: Path
    ) -> None:
        answer["packages"] += [{**answer["packages"][0], "name": "a"}]
        assert Workspace(answer, []).names == ("a", "tiny")
        answer["packages"][1]["manifest_path"] = f"{tmp_path}/Cargo.toml"
        assert Workspace(answer, []).names == ("a",)

    @pytest.mark.parametrize(
        ("names", "asked"),
        [(["tiny"], []), (["tiny", "other"], ["--locked"]), (["tiny", "tiny"], ["--locked"])],
    )
    def test_is_asked_for_again_where_the_lock_file_knows_more(
        self, names: list[str], asked: list[str], answer: dict[str, Any], tmp_path: Path
    ) -> None:
        """``--no-deps`` names the members of the workspace only."""
        members, everything = FakeCargo(tmp_path / "members"), FakeCargo(tmp_path / "bin")
        members.answers(answer)
        everything.answers({"packages": [{**answer["packages"][0], "manifest_path": "/other/Cargo.toml"}]})
        lock = "".join(f'[[package]]\nname = "{name}"\n' for name in names)
        (tmp_path / "Cargo.lock").write_text(lock)
        arguments = ["build", "--config", "a=1", "--target-dir", "/there"]
        call = CargoCall(str(members.path), arguments, {"A": "b"})
        with Query(call) as query:
            call.cargo = str(everything.path)
            found = query.workspace()
        assert ("/other" in found.packages, found.settings) == (bool(asked), ["a=1"])
        assert ["--no-deps" in it.arguments for it in members.all_calls] == [True]
        calls = [it.arguments for it in everything.all_calls]
        assert calls == [["metadata", "--format-version", "1", it, "--config", "a=1"] for it in asked]
        environs = [{name: it.environ.get(name) for name in ("A", "HOME")} for it in everything.all_calls]
        assert environs == [{"A": "b", "HOME": None} for _ in asked]
        assert all(it.environ["CARGO_TARGET_DIR"] == os.path.abspath("/there") for it in everything.all_calls)

    def test_is_asked_for_with_the_platforms_of_the_call(self, tmp_path: Path) -> None:
        """Where any platform is named."""
        fake = FakeCargo(tmp_path / "bin")
        fake.answers({})
        call = CargoCall(str(fake.path), ["build", "--target", "x"], {})
        for platforms, settings in (([], []), (["host"], []), ([], ["--config", "a=1"])):
            all_packages(call, platforms, settings)
        first, second, third = (it.arguments for it in fake.all_calls)
        assert second == [*first, "--filter-platform", "host", "--filter-platform", "x"]
        assert third == [*first, "--config", "a=1"]


ASKS = """
import os, sys
from pyo3_envshim.call import CargoCall
from pyo3_envshim.cargo import metadata
metadata.metadata_arguments = lambda *_: ["one", "two"]
{before}
with metadata.Query(CargoCall({program!r}, [], {{"A": "b"}})) as query:
    pass
print(query._said)
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


class TestAQuery:
    def ask(self, folder: Path, text: str, program: str = "cargo") -> dict[str, Any]:
        script(folder / "cargo", f"#!/bin/sh\nprintf '{text}'\n")
        with Query(CargoCall(str(folder / program), ["build"], {})) as query:
            assert query.answer() == query.answer()
            return query.answer()

    def test_that_is_answered_may_be_asked_again(self, tmp_path: Path) -> None:
        assert self.ask(tmp_path, '{"a": "\u00fc"}') == {"a": "\u00fc"}

    def test_cannot_be_understood_where_paths_are_other_than_the_locales(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-15")
        assert self.ask(tmp_path, "{}") == {}
        with pytest.raises(MetadataError, match="not ASCII"):
            self.ask(tmp_path, '{"a": "\u00fc"}')

    @pytest.mark.parametrize("text", ["", "{", "\\377"])
    def test_that_is_not_answered_is_an_error(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(MetadataError, match="not known where cargo works"):
            self.ask(tmp_path, text)

    @pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="nothing tells what is open")
    @pytest.mark.parametrize("program", ["cargo", "gone"])
    def test_leaves_nothing_open(self, program: str, tmp_path: Path) -> None:
        before = os.listdir("/proc/self/fd")
        with contextlib.suppress(FileNotFoundError, MetadataError):
            self.ask(tmp_path, "{}", program)
        assert os.listdir("/proc/self/fd") == before


@pytest.mark.cargo
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

        def locate(*arguments: str, **more: str) -> Workspace:
            with Query(CargoCall(real, ["build", *arguments], {**environ, **more})) as query:
                return query.workspace()

        return locate

    def test_names_the_build_folder_the_workspace_and_every_local_package(
        self, locate: Locate, tmp_path: Path
    ) -> None:
        found = locate()
        assert found.build_dir == f"{tmp_path}/work/target"
        assert found.root == f"{tmp_path}/work"
        assert found.packages == {f"{tmp_path}/work": {"tiny"}, f"{tmp_path}/helper": {"helper"}}
        assert set(found.crates) == {f"{tmp_path}/work/src", f"{tmp_path}/helper/src"}
        assert found.build_dir in found.exclude

    def test_names_a_crate_that_a_patch_brings(self, locate: Locate, real: str, tmp_path: Path) -> None:
        write_crate(tmp_path / "extra", "extra", "")
        manifest = tmp_path / "helper" / "Cargo.toml"
        manifest.write_text(
            manifest.read_text() + '[target."cfg(unix)".dependencies]\nextra = { path = "../extra" }\n'
        )
        run([real, "generate-lockfile", "--offline"], os.environ, tmp_path / "work")
        assert f"{tmp_path}/extra" in locate().packages

    def test_is_believed_about_target_folders(self, locate: Locate, tmp_path: Path) -> None:
        for arguments, more in (
            (["--target-dir", "elsewhere"], {}),
            (["--config", "build.target-dir='elsewhere'"], {}),
            ([], {"CARGO_TARGET_DIR": "elsewhere"}),
        ):
            found = locate(*arguments, **more)
            assert found.build_dir == f"{tmp_path}/work/elsewhere"
            assert found.build_dir in found.exclude

    def test_is_believed_about_a_build_folder(self, locate: Locate, tmp_path: Path) -> None:
        found = locate("--config", "build.build-dir='build-here'")
        here, target = f"{tmp_path}/work/build-here", f"{tmp_path}/work/target"
        assert found.build_dir == (here if found.tells_build_dir else target)
        assert set(found.exclude) == {found.build_dir, target}

    def test_is_asked_with_the_calls_manifest(
        self, locate: Locate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert locate("--manifest-path", "work/Cargo.toml").root == f"{tmp_path}/work"

    def test_that_cannot_tell_is_an_error(
        self, locate: Locate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
        with pytest.raises(MetadataError):
            locate()

    def test_is_asked_by_a_python_that_cannot_spawn_at_once(
        self, locate: Locate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """PyPy."""
        before = locate()
        monkeypatch.delattr(os, "POSIX_SPAWN_OPEN")
        after = locate()
        assert [getattr(after, name) for name in Workspace.__slots__] == [
            getattr(before, name) for name in Workspace.__slots__
        ]
        (tmp_path / "work" / "Cargo.toml").unlink()
        with pytest.raises(MetadataError):
            locate()


Locate = Callable[..., Workspace]
