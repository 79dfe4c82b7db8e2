"""cargo's command line: which calls compile, what their options say, where the real cargo is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim import _startup
from pyo3_envshim.call import user_environ
from pyo3_envshim.cargo import command_line

from .environments import script


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
        assert command_line.compiles(words(call))

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
        assert not command_line.compiles(words(call))

    @given(
        st.lists(
            st.one_of(st.text(max_size=6), st.sampled_from(["build", "-C", "--config", "--color", "-Z"]))
        )
    )
    def test_or_not_whatever_its_arguments(self, arguments: list[str]) -> None:
        assert command_line.compiles(arguments) in (True, False)


@pytest.mark.parametrize(
    ("call", "command"),
    [
        *(("", ""), ("--version", ""), ("-C elsewhere build", ""), ("-Celsewhere build", "")),
        *(("+nightly -q build x", "build"), ("--color always my-alias", "my-alias"), ("-Z x b", "b")),
    ],
)
def test_a_calls_command_is_known(call: str, command: str) -> None:
    assert command_line.command_of(words(call)) == command


@pytest.mark.parametrize("call", ["b", "run x --release", "r", "t", "+nightly c", "fetch", ""])
def test_a_call_is_not_served_whose_profile_is_not_sure(call: str) -> None:
    """A user's alias replaces a built-in one; what follows `run x` is the program's."""
    assert not command_line.is_sure(words(call))
    assert command_line.is_sure(["build"])


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
    assert command_line.values_of("--config", words(call)) == values


@pytest.mark.parametrize(
    ("call", "values"),
    [("-Z a build -Zb", ["a", "b"]), ("build -Z", []), ("build --Z a", []), ("-Z=a", ["a"])],
)
def test_the_values_of_a_short_option_are_found(call: str, values: list[str]) -> None:
    assert [value.lstrip("=") for value in command_line.values_of("-Z", words(call))] == values


class TestTheQuestionWhereCargoWorks:
    def test_hands_on_what_decides_the_answer(self) -> None:
        call = "+nightly rustc --manifest-path m/Cargo.toml --config a=1 -Zx --release --config=b"
        found = command_line.metadata_arguments(words(f"{call} --lib -- --config c"))
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
        assert command_line.metadata_arguments(words("run +nightly"))[0] == "metadata"

    def test_neither_resolves_nor_downloads(self) -> None:
        assert {"--no-deps", "--offline"} <= set(command_line.metadata_arguments(["build"]))

    @pytest.mark.parametrize("option", ["--offline", "--frozen"])
    def test_about_dependencies_never_resolves_anew(self, option: str) -> None:
        found = command_line.metadata_arguments(["build", option], dependencies=True)
        assert "--locked" in found
        assert option in found
        assert "--no-deps" not in found

    def test_about_dependencies_may_download_where_the_call_may(self) -> None:
        assert "--offline" not in command_line.metadata_arguments(
            words("rustc -- --offline"), dependencies=True
        )

    def test_about_dependencies_has_the_calls_features(self) -> None:
        call = words("build --all-features --features a -F b -Fc --features=d -- --features e")
        found = " ".join(command_line.metadata_arguments(call, dependencies=True))
        for part in ("--all-features", "--features a", "--features d", "-F b", "-F c"):
            assert part in found
        assert "--features e" not in found
        assert "features" not in " ".join(command_line.metadata_arguments(call))

    def test_hands_the_target_folder_on_in_a_variable(self) -> None:
        """``cargo metadata`` has no such option."""
        found = command_line.metadata_environ(
            words("build --target-dir out"), {"A": "1", "CARGO_TARGET_DIR": "other"}
        )
        assert found == {"A": "1", "CARGO_TARGET_DIR": os.path.abspath("out")}
        assert command_line.metadata_environ(words("build --target-dir=/out"), {}) == {
            "CARGO_TARGET_DIR": os.path.abspath("/out")
        }

    def test_has_the_calls_variables_else(self) -> None:
        environ = {"CARGO_TARGET_DIR": "there"}
        assert (
            command_line.metadata_environ(words("build --target x86_64-unknown-linux-gnu"), environ)
            == environ
        )
        assert command_line.metadata_environ(words("rustc -- --target-dir x"), environ) == environ


class TestTheRealCargo:
    def find(self, **environ: str) -> str | None:
        return command_line.find_cargo(user_environ(environ), environ)

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

    def test_is_in_the_systems_folders_without_a_path_where_the_wrapper_is_called_cargo(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script(tmp_path / "cargo", "")
        monkeypatch.setattr(os, "defpath", str(tmp_path))
        monkeypatch.setattr(sys, "argv", [str(tmp_path / (_startup.ON_PATH + "0") / "cargo")])
        assert self.find() == f"{tmp_path}/cargo"

    @pytest.mark.parametrize("argv", ["pyo3-envshim-cargo", f"{_startup.ON_PATH}0/cargo"])
    def test_is_looked_for_on_windows_as_rust_does(
        self, argv: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An entry of PATH may be quoted; one that is empty is no folder."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(tmp_path / argv)])
        script(tmp_path / "cargo.exe", "")
        names = [f"a b{os.pathsep}c", "d", f"e{os.pathsep}f"]
        for name in names:
            script(tmp_path / name / "cargo.exe", "")
        quoted = [f'"{tmp_path / names[0]}"', str(tmp_path / names[1]), f'"{tmp_path / names[2]}"']
        for number, name in enumerate(names):
            environ = {"PATH": os.pathsep.join(["", "", *quoted[number:], ""])}
            found = command_line.find_cargo(environ, environ, windows=True)
            assert found == str(tmp_path / name / "cargo.exe")
        assert command_line._folders(os.pathsep.join(["", *quoted]), windows=True) == [
            str(tmp_path / name) for name in names
        ]

    def test_can_be_run(self, tmp_path: Path) -> None:
        (tmp_path / "one" / "cargo").mkdir(parents=True)
        script(tmp_path / "two" / "cargo", "").chmod(0o644)
        script(tmp_path / "three" / "cargo", "")
        assert self.find(PATH=f"{tmp_path}/one:{tmp_path}/two:{tmp_path}/three") == f"{tmp_path}/three/cargo"

    def test_is_the_one_that_the_wrappers_path_names(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A back end may start the wrapper without any variable: setuptools-rust's RustExtension(env=…)."""
        wrapper = script(tmp_path / "env" / "pyo3-envshim-cargo", "")
        for folder in ("own", "other"):
            script(tmp_path / folder / "cargo", "")
        script(tmp_path / "cargo", "")
        path = _startup.by_way_of(f"{tmp_path}/own/cargo", str(wrapper))
        assert os.path.samefile(path, wrapper)
        monkeypatch.setattr(sys, "argv", [path])
        assert self.find(PATH=f"{tmp_path}/other") == f"{tmp_path}/own/cargo"
        assert self.find(PYO3_ENVSHIM_CARGO="/named/cargo") == "/named/cargo"
        odd = f"{tmp_path}/./../{tmp_path.name}/own"
        monkeypatch.setattr(sys, "argv", [_startup.by_way_of(f"{odd}/cargo", str(wrapper))])
        assert self.find(PATH=f"{tmp_path}/other") == f"{odd}/cargo"

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

    @pytest.mark.parametrize("own", [{}, {"CARGO": "cross"}, {"PYO3_ENVSHIM_CARGO": "/own/cargo"}], ids=str)
    def test_is_the_next_on_the_path_where_the_wrapper_is_called_cargo(
        self, own: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`pyo3-envshim env --path`. cross, say, starts cargo itself."""
        ours = script(tmp_path / (_startup.ON_PATH + "0") / "cargo", "")
        for folder in ("before", "behind"):
            script(tmp_path / folder / "cargo", "")
        monkeypatch.setattr(sys, "argv", [str(ours)])
        folders = [str(tmp_path / "before"), str(ours.parent), str(tmp_path / "behind")]
        assert self.find(PATH=":".join(folders), **own) == f"{tmp_path}/behind/cargo"
        assert self.find(PATH=":".join(folders[:2]), **own) == f"{tmp_path}/before/cargo"
        folders[1] += "/"
        assert self.find(PATH=":".join(folders), **own) == f"{tmp_path}/behind/cargo"

    def test_is_looked_for_on_the_path_where_the_users_own_is_the_wrapper(self, tmp_path: Path) -> None:
        """A shell profile that exports it, and a parent of ours that took it for the user's."""
        wrapper = script(tmp_path / "env" / "pyo3-envshim-cargo", "")
        script(tmp_path / "real" / "cargo", "")
        found = self.find(PATH=f"{tmp_path}/real", PYO3_ENVSHIM_CARGO=str(wrapper), CARGO=str(wrapper))
        assert found == f"{tmp_path}/real/cargo"
