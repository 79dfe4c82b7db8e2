"""What is known of cargo's files: on files as cargo writes them, and on some that the real one wrote."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyo3_envshim.call import PassThrough
from pyo3_envshim.cargo import target_dir

from .environments import tree
from .posix import fcntl

HASH = "0123456789abcdef"
OTHER = "fedcba9876543210"


def unit(profile: Path, name: str, crate: str, number: str = HASH) -> None:
    """Write what cargo leaves of a crate with a build script."""
    for file in (
        *(f".fingerprint/{name}-{number}/{kind}" for kind in ("invoked.timestamp", f"lib-{crate}")),
        *(f"build/{name}-{number}/{kind}" for kind in ("out/generated.rs", "output")),
        *(
            f"deps/{kind}"
            for kind in (f"{crate}-{number}.d", f"lib{crate}-{number}.rlib", f"lib{crate}-{number}.rmeta")
        ),
    ):
        (profile / file).parent.mkdir(parents=True, exist_ok=True)
        (profile / file).write_text("")


class TestAnOutputThatWasWrittenAfterItsFingerprint:
    """cargo writes the fingerprint when the output is done, and never looks at the output's time again."""

    @pytest.fixture
    def profile(self, tmp_path: Path) -> Path:
        for name in ("a-b", "other"):
            self.left(tmp_path, f".fingerprint/{name}-{HASH}/lib-a-b", 10, "0123")
        return tmp_path

    def left(self, profile: Path, name: str, time: int, text: str = "x") -> None:
        path = profile / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (time + 0.5, time + 0.5))

    def found(self, profile: Path) -> set[str]:
        return {unit.package for unit in target_dir.overwritten(target_dir.units([str(profile)]))}

    @pytest.mark.parametrize("name", ["liba_b.so", "a_b.dll", "liba_b.rlib", "liba_b.a", "a_b.wasm"])
    def test_may_be_another_package_s(self, name: str, profile: Path) -> None:
        self.left(profile, f"deps/{name}", 10)
        assert self.found(profile) == set()
        self.left(profile, f"deps/{name}", 11)
        assert self.found(profile) == {"a-b", "other"}

    def test_may_be_of_any_moment_of_its_second(self, profile: Path) -> None:
        """Where times have no fraction: in some archives, and on FAT."""
        paths = [profile / "deps" / "liba_b.so", profile / ".fingerprint" / f"a-b-{HASH}" / "lib-a-b"]
        self.left(profile, "deps/liba_b.so", 9)
        for path, time in zip(paths, (10, 10)):
            os.utime(path, (time, time))
        assert self.found(profile) == {"a-b"}
        os.utime(paths[0], (9, 9))
        assert self.found(profile) == set()

    @pytest.mark.parametrize(("own", "other"), [("lib", "bin"), ("bin", "lib")])
    def test_is_no_program_beside_a_library(self, own: str, other: str, profile: Path) -> None:
        """On Windows, neither has a hash in its name, and they share a folder of fingerprints."""
        endings = {"lib": "dll", "bin": "exe"}
        self.left(profile, f".fingerprint/both-{HASH}/{own}-both", 10, "0123")
        self.left(profile, f"deps/both.{endings[other]}", 11)
        assert self.found(profile) == set()
        self.left(profile, f".fingerprint/both-{HASH}/{other}-both", 11, "0123")
        self.left(profile, f"deps/both.{endings[own]}", 11)
        assert self.found(profile) == {"both"}

    @pytest.mark.parametrize(
        "name", ["a_b", "a_b.exe", "liba_b.d", "a_b.pdb", "libother.so", "liba-b.so", "b.so", "liba_b.x.so"]
    )
    def test_is_none_of_another_name(self, name: str, profile: Path) -> None:
        self.left(profile, f"deps/{name}", 11)
        assert self.found(profile) == set()

    def test_is_that_with_its_hash_where_there_is_one(self, profile: Path) -> None:
        self.left(profile, "deps/liba_b.so", 11)
        self.left(profile, f".fingerprint/check-{OTHER}/lib-a-b", 10, "0123")
        self.left(profile, f"deps/liba_b-{OTHER}.rmeta", 10)
        assert self.found(profile) == {"a-b", "other"}
        self.left(profile, f"deps/liba_b-{OTHER}.rmeta", 11)
        assert self.found(profile) == {"a-b", "other", "check"}

    def test_may_have_a_longer_name_than_a_hash(self, profile: Path) -> None:
        name = "a_library_of_a_long_name"
        self.left(profile, f".fingerprint/long-{OTHER}/lib-{name}", 10, "0123")
        self.left(profile, f"deps/lib{name}.so", 11)
        assert self.found(profile) == {"long"}

    def test_may_be_a_program(self, profile: Path) -> None:
        self.left(profile, f".fingerprint/tool-{OTHER}/bin-my-tool", 10, "0123")
        self.left(profile, f"deps/my_tool-{OTHER}", 11)
        assert self.found(profile) == {"tool"}

    @pytest.mark.parametrize(
        "name", ["test-lib-a-b", "doc-lib-a-b", "lib-a-b.json", "dep-lib-a-b", "example-x"]
    )
    def test_is_not_looked_for_beside(self, name: str, profile: Path) -> None:
        self.left(profile, f".fingerprint/tool-{OTHER}/{name}", 10, "0123")
        self.left(profile, f"deps/liba_b-{OTHER}.rlib", 11)
        assert self.found(profile) == set()

    def test_is_about_to_be_done_where_the_fingerprint_is_empty(self, profile: Path) -> None:
        """Another cargo compiles it: to wait for that is enough."""
        self.left(profile, "deps/liba_b.so", 11)
        self.left(profile, f".fingerprint/a-b-{HASH}/lib-a-b", 10, "")
        assert self.found(profile) == {"other"}

    def test_may_be_gone_by_now(self, profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left(profile, "deps/liba_b.so", 11)
        names_in = target_dir.names_in
        monkeypatch.setattr(
            target_dir, "names_in", lambda folder: [*names_in(folder), "liba_b.a", "lib-gone"]
        )
        assert self.found(profile) <= {"a-b", "other"}

    @pytest.mark.parametrize("name", ["liba_b.so", f"liba_b-{OTHER}.rlib"])
    def test_lies_with_its_unit_in_the_second_layout(self, name: str, tmp_path: Path) -> None:
        self.left(tmp_path, f"build/a-b/{OTHER}/fingerprint/lib-a-b", 10, "0123")
        self.left(tmp_path, "deps/liba_b.so", 11)
        self.left(tmp_path, f"build/a-b/{OTHER}/out/{name}", 10)
        assert self.found(tmp_path) == set()
        self.left(tmp_path, f"build/a-b/{OTHER}/out/{name}", 11)
        assert self.found(tmp_path) == {"a-b"}


class TestAPathThatIsTooLongForWindows:
    """cargo reads it; what Python takes for a folder without units would be trusted."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """Return a folder that can be listed, and in which nothing can be read."""
        unit(tmp_path / "release", "own", "own")
        folder = f"{tmp_path}/release/.fingerprint/own-{HASH}"
        monkeypatch.setattr(target_dir, "_WINDOWS", True)
        monkeypatch.setattr(target_dir, "_LONGEST", len(folder) + 2)
        lstat = os.lstat

        def refuse(path: str) -> os.stat_result:
            if str(path).startswith(f"{folder}/"):
                raise FileNotFoundError(errno.ENOENT, "The system cannot find the path specified", path)
            return lstat(path)

        monkeypatch.setattr(os, "lstat", refuse)
        return folder

    def test_passes_the_call_through(self, folder: str) -> None:
        for error in (OSError, PassThrough):
            with pytest.raises(error, match="does not let this Python read"):
                target_dir.names_in(folder)

    def test_is_none_where_the_system_lets_it(self, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "lstat", os.stat)
        assert sorted(target_dir.names_in(folder)) == ["invoked.timestamp", "lib-own"]

    @pytest.mark.parametrize(("more", "fails"), [(1, True), (2, False)])
    def test_is_that_of_the_longest_name(
        self, more: int, fails: bool, folder: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(target_dir, "_LONGEST", len(f"{folder}/invoked.timestamp") + more)
        with pytest.raises(PassThrough) if fails else contextlib.nullcontext():
            target_dir.names_in(folder)

    def test_is_that_of_a_folder_whose_content_seems_to_be_gone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "folder").mkdir()
        monkeypatch.setattr(target_dir, "_WINDOWS", True)
        monkeypatch.setattr(target_dir, "_LONGEST", 1)
        assert target_dir.names_in(str(tmp_path)) == ["folder"]
        assert target_dir.names_in(str(tmp_path / "folder")) == []

        def listdir(path: str, really: Callable[[str], list[str]] = os.listdir) -> list[str]:
            if path.endswith("folder"):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return really(path)

        monkeypatch.setattr(os, "listdir", listdir)
        with pytest.raises(PassThrough, match="folder"):
            target_dir.names_in(str(tmp_path))


class TestEvicting:
    @pytest.mark.parametrize("profile", ["debug", "release", "x86_64-unknown-linux-gnu/release", "build"])
    def test_leaves_nothing_of_a_crate_that_is_not_named(self, tmp_path: Path, profile: str) -> None:
        unit(tmp_path / profile, "good-one", "good_one")
        (tmp_path / profile / "deps" / f"good_one-{HASH}.good_one.0.rcgu.o").write_text("")
        before = set(tree(tmp_path))
        unit(tmp_path / profile, "own", "own", OTHER)
        unit(tmp_path / profile, "notgood-one", "notgood_one", OTHER)
        for name in (
            *("deps/libtiny.so", "deps/tiny.d", f"incremental/own-{HASH}/x", "examples/libown.so"),
            *("deps/good_one-nohash.so", ".fingerprint/good-one-nohash/x", "build/good-one-nohash/x"),
        ):
            (tmp_path / profile / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / profile / name).write_text("")
        (tmp_path / ".rustc_info.json").write_text("{}")
        target_dir.evict(str(tmp_path), {"good-one"}, {"good_one"})
        assert set(tree(tmp_path)) == before | {".rustc_info.json"}

    def test_tells_two_crates_of_one_name_apart(self, tmp_path: Path) -> None:
        """The library of rpds-py is called rpds, as one that it depends on."""
        profile = tmp_path / "release"
        unit(profile, "rpds", "rpds")
        before = set(tree(tmp_path))
        unit(profile, "rpds-py", "rpds", OTHER)
        for name in ("librpds.so", "librpds.d", "librpds.rlib"):
            (profile / "deps" / name).write_text("")
        target_dir.evict(str(tmp_path), {"rpds"}, set())
        assert set(tree(tmp_path)) == before

    def test_takes_what_build_scripts_have_left_with_it(self, tmp_path: Path) -> None:
        for profile in ("debug", "x86_64/debug"):
            unit(tmp_path / profile, "good", "good")
            (tmp_path / profile / ".cargo-lock").touch()
        before = set(tree(tmp_path))
        for name in ("debug/generated/x.h", "x86_64/debug/x.h"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        target_dir.evict(str(tmp_path), {"good"}, {"good"})
        assert set(tree(tmp_path)) == before

    def test_knows_cargos_new_layout(self, tmp_path: Path) -> None:
        for name in ("good", "own", f"good-{HASH}"):
            (tmp_path / "debug" / "build" / name / HASH / "fingerprint").mkdir(parents=True)
        target_dir.evict(str(tmp_path), {"good"}, {"good"})
        assert os.listdir(tmp_path / "debug" / "build") == ["good"]

    def test_follows_no_link(self, tmp_path: Path) -> None:
        unit(tmp_path / "elsewhere" / "debug", "own", "own")
        before = tree(tmp_path / "elsewhere")
        kept = tmp_path / "kept"
        (kept / "debug" / "deps").mkdir(parents=True)
        (kept / "x86_64").mkdir()
        for link in (kept / "linked", kept / "x86_64" / "linked", kept / "debug" / "deps" / "own"):
            link.symlink_to(tmp_path / "elsewhere" / "debug")
        target_dir.evict(str(kept), set(), set())
        assert tree(tmp_path / "elsewhere") == before
        assert not (kept / "debug" / "deps" / "own").is_symlink()

    def test_fails_where_something_stays(self, tmp_path: Path) -> None:
        """The call is then passed through, and the stamp stays as it was."""
        unit(tmp_path / "debug", "own", "own")
        with pytest.raises(PermissionError), undeletable(tmp_path / "debug" / ".fingerprint" / f"own-{HASH}"):
            target_dir.evict(str(tmp_path), set(), set())


class TestInvalidating:
    @pytest.mark.parametrize("profile", ["debug", "x86_64-unknown-linux-gnu/debug"])
    def test_leaves_all_but_fingerprints(self, profile: str, tmp_path: Path) -> None:
        for name in ("own-one", "own-one-more", "pyo3"):
            unit(tmp_path / profile, name, name.replace("-", "_"))
        before = set(tree(tmp_path))
        target_dir.invalidate([str(tmp_path / profile)], {"own-one"})
        assert before - set(tree(tmp_path)) == {
            f"{profile}/.fingerprint/own-one-{HASH}/invoked.timestamp",
            f"{profile}/.fingerprint/own-one-{HASH}/lib-own_one",
        }

    def test_may_be_about_one_unit(self, tmp_path: Path) -> None:
        for number in (HASH, OTHER):
            unit(tmp_path, "own", "own", number)
        first, second = sorted(target_dir.units([str(tmp_path)]), key=lambda unit: unit.folder)
        target_dir.invalidate([str(tmp_path)], {first.folder})
        assert [len(os.listdir(it.folder)) for it in (first, second)] == [0, 2]

    def test_knows_cargos_new_layout(self, tmp_path: Path) -> None:
        kept, gone = ("out/x.rs", "run/stdout"), ("fingerprint/dep-lib-own", "fingerprint/lib-own")
        for name in ("pyo3", "own"):
            for file in (*kept, *gone):
                path = tmp_path / "debug" / "build" / name / HASH / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        before = set(tree(tmp_path))
        target_dir.invalidate([str(tmp_path / "debug")], {"own"})
        assert before - set(tree(tmp_path)) == {f"debug/build/own/{HASH}/{file}" for file in gone}


@contextlib.contextmanager
def undeletable(path: Path) -> Iterator[None]:
    """Hold a folder so that not even root can remove it, where the file system can do that."""
    if subprocess.run(["chattr", "+i", str(path)], capture_output=True).returncode:
        pytest.skip("there is no chattr +i here")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(path)], check=True)


class TestTheCompiler:
    def test_is_the_one_that_built_last(self, tmp_path: Path) -> None:
        outputs = {
            "1": {"stdout": "rustc 1.95.0 (\u00fc)\nhost: x86_64-linux\n"},
            "2": {"stdout": "___\nlib___.rlib\n"},
            "3": {"status": 1},
        }
        text = json.dumps({"outputs": outputs}, ensure_ascii=False)
        (tmp_path / ".rustc_info.json").write_text(text, "utf-8")
        assert target_dir.rustc_version(str(tmp_path)) == "rustc 1.95.0 (\u00fc)"
        assert target_dir.platforms(str(tmp_path)) == ["x86_64-linux"]

    @pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"outputs": {"1": 2}}'])
    def test_is_not_known_where_cargo_did_not_write_it_down(self, text: str | None, tmp_path: Path) -> None:
        if text is not None:
            (tmp_path / ".rustc_info.json").write_text(text)
        assert target_dir.rustc_version(str(tmp_path)) is None
        assert target_dir.platforms(str(tmp_path)) == []

    def test_is_not_known_without_a_build_folder(self) -> None:
        assert target_dir.rustc_version(None) is None


@pytest.mark.parametrize(
    ("name", "crates", "number"),
    [
        (f"libx_y-{HASH}.rlib", {"libx_y", "x_y"}, HASH),
        (f"x_y-{HASH}.x_y.0.rcgu.o", {"x_y"}, HASH),
        (f"my-bin-{HASH}", {"my-bin"}, HASH),
        ("libx.so", {"libx", "x"}, ""),
        ("x.d", {"x"}, ""),
        (f"x-{'X' * 16}", {f"x-{'X' * 16}"}, ""),
        (f"x-{HASH[1:]}", {f"x-{HASH[1:]}"}, ""),
    ],
)
def test_an_output_is_known_by_its_name(name: str, crates: set[str], number: str) -> None:
    path = f"/t/debug/deps/{name}"
    assert (target_dir.crates_of(path), target_dir.hash_of(path)) == (crates, number)


def test_a_unit_is_known_by_its_folders_name(tmp_path: Path) -> None:
    (tmp_path / "x" / HASH).mkdir(parents=True)
    names = {"x": "x", f"a-b-{HASH}": "a-b", "a-b-0": "", "a": ""}
    assert {name: target_dir.package_of(str(tmp_path / name)) for name in names} == names


def test_a_build_folder_in_another_is_no_platforms(tmp_path: Path) -> None:
    """``target/rust-analyzer``."""
    for name in ("debug", "x86_64/debug", "rust-analyzer/debug", "x86_64/release"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "rust-analyzer" / ".rustc_info.json").touch()
    found = target_dir.profiles_called("debug", str(tmp_path))
    assert found == [str(tmp_path / "debug"), str(tmp_path / "x86_64" / "debug")]


@pytest.mark.parametrize(
    "name", [f"{at}/{name}" for at in ("debug", "x86_64/debug") for name in target_dir.LOCKS]
)
def test_a_build_folder_is_used_where_a_cargo_works_there(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    with (tmp_path / name).open("w") as lock:
        assert not target_dir.is_used(str(tmp_path))
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert target_dir.is_used(str(tmp_path))


class TestWhatLiesThere:
    FOLDERS = ("artifact", "build", "deps", "examples", "incremental", ".fingerprint")

    @pytest.mark.parametrize("profile", ["release", "x86_64/debug"])
    @pytest.mark.parametrize("lock", target_dir.LOCKS)
    def test_of_build_scripts_is_what_cargo_does_not_make(
        self, lock: str, profile: str, tmp_path: Path
    ) -> None:
        for name in (*self.FOLDERS, "generated"):
            (tmp_path / profile / name).mkdir(parents=True)
        for name in (lock, ".hidden", "generated/x.h", "x.h"):
            (tmp_path / profile / name).touch()
        (tmp_path / "no-profile" / "x").mkdir(parents=True)
        found = target_dir.left_by_scripts(str(tmp_path))
        assert sorted(found) == [str(tmp_path / profile / name) for name in ("generated", "x.h")]

    def test_as_outputs_are_libraries_and_build_scripts_with_their_sizes(self, tmp_path: Path) -> None:
        """Not programs, which a back end may strip, nor what bears no hash."""
        libraries = [f"libx-{HASH}{ending}" for ending in (".rlib", ".rmeta", ".so", ".dylib")]
        libraries.append(f"x-{HASH}.dll")
        scripts = [f"build_script_build-{HASH}", f"build-script-build-{HASH}"]
        others = [f"x-{HASH}", f"x-{HASH}.d", "libx.so", f"libx-{HASH}.rlib.bak"]
        folders = [
            "debug/deps",
            "x86_64/release/deps",
            f"debug/build/x-{OTHER}",
            f"x86_64/debug/build/x/{OTHER}/out",
        ]
        (tmp_path / "debug" / ".fingerprint" / f"x-{OTHER}").mkdir(parents=True)
        for folder in folders:
            (tmp_path / folder).mkdir(parents=True)
            for name in (*libraries, *scripts, *others):
                (tmp_path / folder / name).write_text("x" * len(name))
        expected = {f"{folder}/{name}": len(name) for folder in folders for name in (*libraries, *scripts)}
        assert target_dir.sizes_of_outputs(str(tmp_path)) == expected

    def test_by_the_compilers_word_is_its_folder(self, tmp_path: Path) -> None:
        outputs = {"1": {"stdout": f"___\nlib___.so\n{tmp_path}\n/gone\ndeps\n"}, "2": {"stdout": "/\n"}}
        (tmp_path / ".rustc_info.json").write_text(json.dumps({"outputs": outputs}))
        (tmp_path / "deps").mkdir()
        assert target_dir.sysroots(str(tmp_path)) == ["/", str(tmp_path)]
