"""What is known of cargo's files: on files as cargo writes them, and on some that the real one wrote."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyo3_envshim.cargo import target_dir

from .environments import tree

SECOND = 1_000_000_000
HASH = "0123456789abcdef"
OTHER = "fedcba9876543210"


class Built:
    """The folder of a workspace, and its build folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "work"
        self.build = self.root / "target"


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Built(tmp_path)


def noted_file(path: str, in_package: bool = True, checksum: str = "") -> bytes:
    """Return an entry of cargo's dep-info; absolute paths are among those relative to the build folder."""
    kind = b"\0" if in_package and not os.path.isabs(path) else b"\1"
    name = kind + len(path).to_bytes(4, "little") + path.encode()
    if not checksum:
        return name + b"\0"
    return (
        name
        + b"\1"
        + (70_000).to_bytes(8, "little")
        + len(checksum).to_bytes(4, "little")
        + checksum.encode()
    )


def dep_info(*paths: str | bytes, version: int = 1) -> bytes:
    """Return what cargo 1.95 leaves of a unit that read these files of its package."""
    entries = b"".join(noted_file(path) if isinstance(path, str) else path for path in paths)
    count = len(paths).to_bytes(4, "little")
    return b"\1\0\0\0\xff" + bytes([version]) + count + entries + bytes(4)


def noted(build: Path, *names: str) -> set[str]:
    """Return the inputs of all local packages: those called so, and others that cargo noted files of."""
    inputs = target_dir.read_notes(target_dir.profiles(str(build)), names).inputs
    return set().union(*inputs.values())


class TestWhatCargoNotedAsInputs:
    def noted(self, built: Built, content: bytes) -> set[str]:
        unit = built.build / "debug" / ".fingerprint" / "tiny-0123456789abcdef"
        unit.mkdir(parents=True, exist_ok=True)
        (unit / "dep-lib-tiny").write_bytes(content)
        return noted(built.build)

    def test_is_read(self, built: Built) -> None:
        expected = {"src/lib.rs", "/elsewhere/x.rs"}
        assert self.noted(built, dep_info("src/lib.rs", "/elsewhere/x.rs")) == expected

    def test_is_read_whatever_stands_between(self, built: Built) -> None:
        """Long names, checksums (``-Zchecksum-freshness``), and files in the build folder."""
        names = ["/elsewhere/x.rs", f"src/{'long' * 200}.rs", "src/lib.rs", "src/last.rs"]
        checksums = ["", "blake3=0", f"blake3={'0' * 300}", ""]
        entries = [noted_file(name, checksum=checksum) for name, checksum in zip(names, checksums)]
        content = dep_info(entries[0], noted_file("debug/out.rs", in_package=False), *entries[1:])
        assert self.noted(built, content) == set(names)

    def test_is_read_of_all_units(self, built: Built) -> None:
        for number in range(3):
            unit = built.build / "debug" / ".fingerprint" / f"tiny-{number}"
            unit.mkdir(parents=True)
            (unit / "dep-lib-tiny").write_bytes(dep_info(f"src/{number}.rs", f"/elsewhere/{number}.rs"))
        expected = {f"{at}/{number}.rs" for at in ("src", "/elsewhere") for number in range(3)}
        assert noted(built.build) == expected

    def test_is_not_looked_for_among_what_cargo_built(self, built: Built) -> None:
        """A program may be called so, and so may what a build script makes."""
        content = dep_info("src/lib.rs", version=2)
        for name in ("debug/dep-tool", "a/b/c/d/e/f/.fingerprint/tiny-0/dep-lib-tiny"):
            (built.build / name).parent.mkdir(parents=True, exist_ok=True)
            (built.build / name).write_bytes(content)
        assert self.noted(built, dep_info("src/one.rs")) == {"src/one.rs"}

    def test_is_read_of_many_files(self, built: Built) -> None:
        assert len(self.noted(built, dep_info(*map(str, range(300))))) == 300

    def test_is_read_as_cargo_left_it_up_to_1_83(self, built: Built) -> None:
        content = b"\1\0\0\0\0\x0a\0\0\0src/lib.rs\0\0\0\0"
        assert self.noted(built, content) == {"src/lib.rs"}

    @pytest.mark.parametrize("size", [0, 5, 6, 9, 10, 20, 25, 30])
    def test_is_nothing_where_it_is_cut_short(self, size: int, built: Built) -> None:
        """cargo compiles such a unit."""
        assert self.noted(built, dep_info("src/lib.rs", "src/other.rs")[:size]) == set()

    def test_is_not_guessed_where_a_newer_cargo_left_it(self, built: Built) -> None:
        with pytest.raises(OSError, match="version"):
            self.noted(built, dep_info("src/lib.rs", version=2))

    def asked_for(self, built: Built, folder: str, text: str) -> set[str]:
        """Return what is noted where a build script has left *text* in a unit's folder."""
        self.noted(built, dep_info("src/lib.rs"))
        unit = built.build / "debug" / folder
        unit.mkdir(parents=True)
        (unit / "run-build-script-build-script-build.json").write_text(text)
        return noted(built.build)

    @pytest.mark.parametrize(
        "folder", [".fingerprint/{}-fedcba9876543210", "build/{}/fedcba9876543210/fingerprint"]
    )
    def test_is_what_the_build_script_of_a_local_package_asked_for(self, folder: str, built: Built) -> None:
        files = {"output": "debug/build/o", "paths": ["data/x", "/elsewhere/y"]}
        text = json.dumps({"local": [{"RerunIfEnvChanged": {"var": "X"}}, {"RerunIfChanged": files}]})
        own = {"src/lib.rs"}
        assert self.asked_for(built, folder.format("from-a-registry"), text) == own
        asked = {"data/x", "/elsewhere/y"}
        assert self.asked_for(built, folder.format("tiny"), text) == own | asked

    @pytest.mark.parametrize("text", ["", '{"local":[{"Rerun', "{}"])
    def test_is_not_what_a_build_script_asked_for_in_a_note_that_is_cut_short(
        self, text: str, built: Built
    ) -> None:
        """cargo runs such a script."""
        unit = ".fingerprint/tiny-fedcba9876543210"
        assert self.asked_for(built, unit, text) == {"src/lib.rs"}

    def test_is_noted_of_each_package_and_of_no_other(self, built: Built) -> None:
        """Of a registry's crate, cargo notes no files of its own; a local one may lie elsewhere."""
        contents = {
            "tiny": dep_info("src/lib.rs"),
            "pyo3": dep_info(),
            "outside": dep_info("/elsewhere/lib.rs"),
        }
        contents["included"] = dep_info(noted_file("debug/build/x/out/y.rs", in_package=False))
        profile = built.build / "debug"
        for name, content in contents.items():
            unit(profile, name, name)
            (profile / ".fingerprint" / f"{name}-{HASH}" / f"dep-lib-{name}").write_bytes(content)
        unit(profile, "not-built-yet", "not_built_yet")
        notes = target_dir.read_notes([str(profile)], ["empty"])
        assert notes.inputs == {"tiny": {"src/lib.rs"}, "outside": {"/elsewhere/lib.rs"}, "empty": set()}
        assert {Path(folder).name for folder in notes.foreign} == {f"pyo3-{HASH}", f"included-{HASH}"}


class TestTheEndOfTheLastBuild:
    """Read from what cargo leaves."""

    def end(self, folder: Path, *names: str) -> int | None:
        for number, name in enumerate(names, 1):
            unit = folder / name
            unit.mkdir(parents=True)
            (unit / "invoked.timestamp").touch()
            os.utime(unit / "invoked.timestamp", (number, number))
        return target_dir.end_of_last_build(target_dir.profiles(str(folder)))

    def test_is_unknown_where_there_is_no_folder(self, tmp_path: Path) -> None:
        assert target_dir.end_of_last_build(target_dir.profiles(str(tmp_path / "gone"))) is None

    def test_is_unknown_where_nothing_was_built(self, tmp_path: Path) -> None:
        (tmp_path / "debug" / "deps").mkdir(parents=True)
        assert target_dir.end_of_last_build(target_dir.profiles(str(tmp_path))) is None

    def test_is_that_of_the_newest_unit_of_any_profile(self, tmp_path: Path) -> None:
        names = ["debug/.fingerprint/a-1", "release/.fingerprint/a-1", "debug/.fingerprint/b-1"]
        assert self.end(tmp_path, *names) == 3 * SECOND

    @pytest.mark.parametrize(
        "profile", ["debug", "release", "out", "deps", "incremental", "build", "dev-opt"]
    )
    def test_is_seen_whatever_the_profile_is_called(self, profile: str, tmp_path: Path) -> None:
        assert self.end(tmp_path, f"{profile}/.fingerprint/a-1") == SECOND

    @pytest.mark.parametrize("profile", ["debug", "out", "deps", "incremental"])
    def test_is_seen_below_a_target_whatever_the_profile_is_called(
        self, profile: str, tmp_path: Path
    ) -> None:
        """``cargo build --target x86_64-unknown-linux-gnu --profile out``."""
        assert self.end(tmp_path, f"x86_64-unknown-linux-gnu/{profile}/.fingerprint/a-1") == SECOND

    def test_is_seen_in_a_profile_that_holds_both_layouts(self, tmp_path: Path) -> None:
        """An older cargo filled it first, a newer one builds on."""
        names = ["debug/.fingerprint/tiny-1", "debug/build/tiny/0123456789abcdef/fingerprint"]
        assert self.end(tmp_path, *names) == 2 * SECOND

    def test_is_seen_in_cargos_new_layout(self, tmp_path: Path) -> None:
        names = [
            "debug/build/tiny/0123456789abcdef/fingerprint",
            f"x86_64/debug/build/tiny/{OTHER}/fingerprint",
        ]
        assert self.end(tmp_path, *names) == 2 * SECOND

    @pytest.mark.parametrize("package", ["out", "deps", "incremental"])
    def test_is_seen_in_cargos_new_layout_whatever_the_package_is_called(
        self, package: str, tmp_path: Path
    ) -> None:
        assert self.end(tmp_path, f"debug/build/{package}/0123456789abcdef/fingerprint") == SECOND

    @pytest.mark.parametrize("run", [f"debug/build/tiny-{HASH}", f"debug/build/tiny/{HASH}/run"])
    def test_is_that_of_a_build_scripts_run(self, run: str, tmp_path: Path) -> None:
        (tmp_path / "debug" / ".fingerprint" / f"tiny-{HASH}").mkdir(parents=True)
        assert self.end(tmp_path, run) == SECOND

    def test_is_not_that_of_a_foreign_unit(self, tmp_path: Path) -> None:
        assert self.end(tmp_path, "debug/.fingerprint/a-1", "debug/.fingerprint/pyo3-1") == 2 * SECOND
        profile = str(tmp_path / "debug")
        assert target_dir.end_of_last_build([profile], {f"{profile}/.fingerprint/pyo3-1"}) == SECOND

    def test_is_not_that_of_another_profile(self, tmp_path: Path) -> None:
        self.end(
            tmp_path, "debug/.fingerprint/a-1", "x86_64/debug/.fingerprint/a-1", "release/.fingerprint/a-1"
        )
        profiles = target_dir.profiles_called("debug", str(tmp_path))
        assert target_dir.end_of_last_build(profiles) == 2 * SECOND
        assert target_dir.profiles_called("debug", str(tmp_path / "gone")) == []

    def test_is_not_looked_for_behind_links(self, tmp_path: Path) -> None:
        (tmp_path / "build").mkdir()
        (tmp_path / "build" / "circle").symlink_to(".")
        self.end(tmp_path / "elsewhere", "debug/.fingerprint/a-1")
        (tmp_path / "build" / "linked").symlink_to("../elsewhere")
        assert target_dir.end_of_last_build(target_dir.profiles(str(tmp_path / "build"))) is None

    def test_is_not_looked_for_in_what_build_scripts_made(self, tmp_path: Path) -> None:
        """One may run cargo itself."""
        (tmp_path / "debug" / "build" / "a-1").mkdir(parents=True)
        (tmp_path / "debug" / "build" / "a-1" / "root-output").touch()
        assert self.end(tmp_path, "debug/build/a-1/out/debug/.fingerprint/b-1") is None

    def test_is_not_looked_for_where_cargo_leaves_none(self, tmp_path: Path) -> None:
        assert self.end(tmp_path, "a/b/c/d/e/f/.fingerprint/tiny-0") is None

    @pytest.mark.cargo
    def test_is_what_cargo_really_leaves(self, tmp_path: Path) -> None:
        (tmp_path / "src").mkdir()
        (tmp_path / "src" / "lib.rs").touch()
        (tmp_path / "Cargo.toml").write_text('[package]\nname = "deps"\nversion = "1.0.0"\n')
        cargo = shutil.which("cargo")
        if cargo is None:
            pytest.skip("there is no cargo on PATH")
        status = os.spawnl(
            os.P_WAIT, cargo, "cargo", "check", "-q", "--manifest-path", f"{tmp_path}/Cargo.toml"
        )
        assert status == 0
        end = target_dir.end_of_last_build(target_dir.profiles(str(tmp_path / "target")))
        assert end is not None
        assert end >= (tmp_path / "Cargo.toml").stat().st_mtime_ns


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


@pytest.mark.parametrize("folder", [f".fingerprint/pyo3-ffi-{HASH}", f"build/pyo3-ffi/{HASH}/fingerprint"])
def test_a_package_asks_for_a_variable_where_cargo_noted_so(folder: str, tmp_path: Path) -> None:
    path = tmp_path / folder
    path.mkdir(parents=True)
    watched = [{"RerunIfEnvChanged": {"var": "PYO3_PYTHON", "val": None}}]
    (path / "run-build-script-build-script-build").write_text(HASH)
    (path / "run-build-script-build-script-build.json").write_text(json.dumps({"local": watched}))
    assert target_dir.packages_asking_for(["PYO3_PYTHON", "PATH"], [str(tmp_path)]) == {"pyo3-ffi"}
    assert target_dir.packages_asking_for(["PATH"], [str(tmp_path)]) == set()


@contextlib.contextmanager
def undeletable(path: Path) -> Iterator[None]:
    """Hold a folder so that not even root can remove it, where the file system can do that."""
    if subprocess.run(["chattr", "+i", str(path)], capture_output=True).returncode:
        pytest.skip("there is no chattr +i here")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(path)], check=True)


class TestAUnit:
    @pytest.mark.parametrize("place", [".fingerprint/{}-{}/lib-a", "build/{}/{}/fingerprint/lib-a"])
    def test_is_found_with_other_settings_in_both_layouts(self, tmp_path: Path, place: str) -> None:
        one, other, foreign = (
            tmp_path / place.format(name, digit * 16)
            for name, digit in (("a", "1"), ("a", "2"), ("a-b", "3"))
        )
        for path in (one, other, foreign):
            path.parent.mkdir(parents=True)
            path.touch()
        assert target_dir.siblings(str(one)) == [str(other)]

    @pytest.mark.parametrize("place", ["lib-a", ".fingerprint/a-nohash/lib-a", f"x{HASH}/lib-a"])
    def test_without_a_hash_has_no_other_settings(self, tmp_path: Path, place: str) -> None:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"x{OTHER}").mkdir()
        assert target_dir.siblings(str(tmp_path / place)) == []

    @pytest.mark.parametrize(
        "text", ["", "[]", '{"local": null}', '{"local": [1, {"RerunIfEnvChanged": 2}]}', "\udcff"]
    )
    def test_is_read_as_nothing_where_it_is_not_known(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "unit").write_text("00")
        (tmp_path / "unit.json").write_text(text, errors="surrogateescape")
        assert target_dir.watched_variables(target_dir.read_unit(str(tmp_path / "unit"))) == {}

    @pytest.mark.parametrize(
        ("place", "stamp"),
        [
            (f".fingerprint/a-{HASH}/lib-a", f".fingerprint/a-{HASH}"),
            (f".fingerprint/a-{HASH}/run-build-script-build-script-build", f"build/a-{HASH}"),
            (f"build/a/{HASH}/fingerprint/lib-a", f"build/a/{HASH}/fingerprint"),
            (f"build/a/{HASH}/fingerprint/run-build-script-build-script-build", f"build/a/{HASH}/run"),
        ],
    )
    def test_is_read_with_its_times_and_variables(self, tmp_path: Path, place: str, stamp: str) -> None:
        path = tmp_path / place
        for folder in (path.parent, tmp_path / stamp):
            folder.mkdir(parents=True, exist_ok=True)
        path.write_text("00")
        watched = {"local": [{"RerunIfEnvChanged": {"var": "X", "val": None}}, {"RerunIfChanged": {}}]}
        path.with_name(path.name + ".json").write_text(json.dumps(watched))
        (tmp_path / stamp / "invoked.timestamp").touch()
        os.utime(tmp_path / stamp / "invoked.timestamp", (1, 1))
        os.utime(path, (2, 2))
        found = target_dir.read_unit(str(path))
        assert found == {"hash": "00", "facts": watched, "begun": 1.0, "ended": 2.0}
        assert target_dir.watched_variables(found) == {"X": None}

    def test_belongs_to_the_build_folder_above_it(self, built: Built) -> None:
        place = built.build / "x86_64" / "debug" / "build" / "a" / HASH / "fingerprint" / "lib-a"
        assert target_dir.containing(str(place)) is None
        built.build.mkdir(parents=True)
        target_dir.tag(str(built.build))
        assert target_dir.containing(str(place)) == str(built.build)


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


def test_a_profile_was_built_before_where_it_holds_an_older_unit(tmp_path: Path) -> None:
    unit(tmp_path / "debug", "a", "a")
    (tmp_path / "x86_64" / "release" / "build" / "a" / HASH).mkdir(parents=True)
    (tmp_path / "empty" / ".fingerprint").mkdir(parents=True)
    assert target_dir.built_profiles(str(tmp_path), 4e9) == ["debug", "x86_64/release"]
    assert target_dir.built_profiles(str(tmp_path), 1.0) == []
    assert target_dir.built_profiles(None, 4e9) == []
