"""What cargo and rustc noted as the inputs of units."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from pyo3_envshim.cargo import inputs, target_dir

from .test_target_dir import HASH, OTHER, unit
from .test_units import ASKED, facts, unit_folder

SECOND = 1_000_000_000


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
    notes = inputs.read_notes(list(target_dir.profiles(str(build))), names, str(build))
    return set().union(*notes.inputs.values())


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
        content = dep_info(entries[0], noted_file("debug/build/x/out/y", in_package=False), *entries[1:])
        assert self.noted(built, content) == set(names)

    def test_is_what_lies_in_the_build_folder_but_what_build_scripts_made(self, built: Built) -> None:
        """All of it if that is above the sources."""
        names = ("gen/x", "debug/x", "build/x", "debug/builder/x", "debug/build/x/out/y")
        content = dep_info(*(noted_file(name, in_package=False) for name in names))
        assert self.noted(built, content) == {f"{built.build}/{name}" for name in names[:-1]}

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
        unit.mkdir(parents=True, exist_ok=True)
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

    def test_is_what_the_build_script_of_another_asked_for_elsewhere(self, built: Built) -> None:
        made = f"{built.build}/debug/build/pyo3/out/x"
        files = {"paths": ["data/x", "../x", "/elsewhere/y", made]}
        self.asked_for(
            built, f".fingerprint/pyo3-{OTHER}", json.dumps({"local": [{"RerunIfChanged": files}]})
        )
        notes = inputs.read_notes([f"{built.build}/debug"], ["tiny"], str(built.build))
        assert notes.declared == {"pyo3": {"../x", "/elsewhere/y"}}
        assert {found.package for found in notes.local} == {"tiny", "pyo3"}

    def test_is_not_what_is_removed_meanwhile(self, built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
        """cargo compiles it. Its neighbours, which share its hash, are read."""
        names = ("dep-lib-tiny", "dep-test-lib-tiny", "dep-bin-tiny")
        place = built.build / "debug" / ".fingerprint" / f"tiny-{HASH}"
        place.mkdir(parents=True)
        for name in names:
            (place / name).write_bytes(dep_info(name))
        monkeypatch.setattr(os, "listdir", lambda folder, real=os.listdir: sorted(real(folder)))
        (place / "dep-bin-gone").symlink_to("gone")
        assert noted(built.build) == {*names}

    def test_tells_of_a_build_script_that_told_cargo_nothing(self, built: Built) -> None:
        unit(built.build / "debug", "tiny", "tiny")
        for local, undirected in (([{"Precalculated": "1"}], {"tiny"}), ([{"RerunIfEnvChanged": {}}], set())):
            self.asked_for(built, f".fingerprint/tiny-{HASH}", json.dumps({"local": local}))
            profile = str(built.build / "debug")
            assert inputs.read_notes([profile], ["tiny"], str(built.build)).undirected == undirected

    @pytest.mark.parametrize("text", ["", '{"local":[{"Rerun', "{}"])
    def test_is_not_what_a_build_script_asked_for_in_a_note_that_is_cut_short(
        self, text: str, built: Built
    ) -> None:
        """cargo runs such a script."""
        unit = ".fingerprint/tiny-fedcba9876543210"
        assert self.asked_for(built, unit, text) == {"src/lib.rs"}
        assert inputs.read_notes([f"{built.build}/debug"], ["tiny"], str(built.build)).undirected == set()

    @pytest.mark.parametrize("package", ["tiny", "pyo3-ffi"])
    @pytest.mark.parametrize(
        ("value", "declared", "told"),
        [
            ("/elsewhere/x", [], {"/elsewhere/x"}),
            ("/elsewhere/x", ["/elsewhere/x"], set()),
            ("x", [], set()),  # PyO3 refuses it
            (None, [], set()),
            (f"BUILD/{inputs.KEPT_CONFIGURATION}1", [], set()),
        ],
    )
    def test_is_what_a_variable_told_pyo3_to_read(
        self, value: str | None, declared: list[str], told: set[str], package: str, built: Built
    ) -> None:
        value = value and value.replace("BUILD", str(built.build))
        variable = {"RerunIfEnvChanged": {"var": "PYO3_CONFIG_FILE", "val": value}}
        text = facts(variable, ASKED, {"RerunIfChanged": {"output": "", "paths": declared}})
        self.asked_for(built, f".fingerprint/{package}-{OTHER}", text)
        notes = inputs.read_notes([f"{built.build}/debug"], ["tiny"], str(built.build))
        assert notes.told == told
        found = {**notes.declared, **notes.inputs}.get(package, set()) - {"src/lib.rs"}
        is_kept = value and inputs.KEPT_CONFIGURATION in value and package == "tiny"
        assert found == told | {*declared} | ({value} if is_kept else set())

    def test_is_nothing_of_a_run_that_declares_nothing_elsewhere(self, built: Built) -> None:
        self.asked_for(built, f".fingerprint/pyo3-{OTHER}", facts(ASKED))
        notes = inputs.read_notes([f"{built.build}/debug"], ["tiny"], str(built.build))
        assert [found.package for found in notes.foreign] == ["pyo3"]

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
        notes = inputs.read_notes([str(profile)], ["empty"], str(built.build))
        assert notes.inputs == {"tiny": {"src/lib.rs"}, "outside": {"/elsewhere/lib.rs"}, "empty": set()}
        assert notes.unplaced == {"tiny"}
        assert {Path(foreign.folder).name for foreign in notes.foreign} == {
            f"pyo3-{HASH}",
            f"included-{HASH}",
        }


class TestTheEndOfTheLastBuild:
    """Read from what cargo leaves."""

    def end(self, folder: Path, *names: str) -> int | None:
        for number, name in enumerate(names, 1):
            unit = folder / name
            unit.mkdir(parents=True)
            (unit / "invoked.timestamp").touch()
            os.utime(unit / "invoked.timestamp", (number, number))
        return inputs.end_of_last_build(target_dir.profiles(str(folder)))

    def test_is_unknown_where_there_is_no_folder(self, tmp_path: Path) -> None:
        assert inputs.end_of_last_build(target_dir.profiles(str(tmp_path / "gone"))) is None

    def test_is_unknown_where_nothing_was_built(self, tmp_path: Path) -> None:
        (tmp_path / "debug" / "deps").mkdir(parents=True)
        assert inputs.end_of_last_build(target_dir.profiles(str(tmp_path))) is None

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

    @pytest.mark.parametrize(
        "name",
        [
            *("debug/.fingerprint/a-1/dep-lib-a", f"debug/build/a/{HASH}/fingerprint/dep-lib-a"),
            *(f"debug/build/tiny-{HASH}/output", f"debug/build/tiny/{HASH}/run/stdout"),
        ],
    )
    def test_is_that_of_what_cargo_compares_with(self, name: str, tmp_path: Path) -> None:
        """It dates these back to the unit's start; what copies a build folder may not."""
        for name_of in ("a-1", f"tiny-{HASH}"):
            (tmp_path / "debug" / ".fingerprint" / name_of).mkdir(parents=True)
        self.end(tmp_path, f"release/.fingerprint/a-{OTHER}")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (7, 7))
        assert inputs.end_of_last_build(target_dir.profiles(str(tmp_path))) == 7 * SECOND

    def test_is_not_that_of_a_foreign_unit(self, tmp_path: Path) -> None:
        assert self.end(tmp_path, "debug/.fingerprint/a-1", "debug/.fingerprint/pyo3-1") == 2 * SECOND
        profile = str(tmp_path / "debug")
        (pyo3,) = (unit for unit in target_dir.units([profile]) if unit.package == "pyo3")
        assert inputs.end_of_last_build([profile], [pyo3]) == SECOND

    def test_is_not_that_of_another_profile(self, tmp_path: Path) -> None:
        self.end(
            tmp_path, "debug/.fingerprint/a-1", "x86_64/debug/.fingerprint/a-1", "release/.fingerprint/a-1"
        )
        profiles = target_dir.profiles_called("debug", str(tmp_path))
        assert inputs.end_of_last_build(profiles) == 2 * SECOND
        assert target_dir.profiles_called("debug", str(tmp_path / "gone")) == []

    def test_is_not_looked_for_behind_links(self, tmp_path: Path) -> None:
        (tmp_path / "build").mkdir()
        (tmp_path / "build" / "circle").symlink_to(".")
        self.end(tmp_path / "elsewhere", "debug/.fingerprint/a-1")
        (tmp_path / "build" / "linked").symlink_to("../elsewhere")
        assert inputs.end_of_last_build(target_dir.profiles(str(tmp_path / "build"))) is None

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
        end = inputs.end_of_last_build(target_dir.profiles(str(tmp_path / "target")))
        assert end is not None
        assert end >= (tmp_path / "Cargo.toml").stat().st_mtime_ns


class TestWhichUnitsNotedAFile:
    """By where it really lies."""

    def noting(self, built: Built, folders: dict[str, set[str]]) -> dict[str, set[str]]:
        """Return the packages whose units noted each file, by its path in the workspace's folder."""
        profile = str(built.build / "debug")
        notes = inputs.read_notes([profile], ["tiny", "core"], str(built.build))
        found = inputs.noted_by_units([notes], folders, str(built.build))
        names = {path: {os.path.basename(it).rpartition("-")[0] for it in found[path]} for path in found}
        return {os.path.relpath(path, built.root).replace(os.sep, "/"): names[path] for path in names}

    def left(self, built: Built, package: str, *noted: str | bytes, asked: tuple[str, ...] = ()) -> None:
        folder = built.build / "debug" / ".fingerprint" / f"{package}-{HASH}"
        folder.mkdir(parents=True)
        (folder / "dep-lib-x").write_bytes(dep_info(*noted))
        declared = {"RerunIfChanged": {"output": "", "paths": list(asked)}}
        (folder / "run-build-script-build-script-build.json").write_text(facts(declared))

    def test_is_told_of_what_rustc_and_build_scripts_read(self, built: Built) -> None:
        made = noted_file("debug/build/x", in_package=False)
        data = str(built.root / "data.txt")
        self.left(built, "tiny", "src/lib.rs", data, made, asked=("templates", data))
        self.left(built, "core", "src/lib.rs", asked=("../shared",))
        found = self.noting(built, {str(built.root): {"tiny"}, str(built.root / "core"): {"core"}})
        own = ("src/lib.rs", "data.txt", "target/debug/build/x", "templates")
        others = ("core/src/lib.rs", "shared")
        assert found == {**{path: {"tiny"} for path in own}, **{path: {"core"} for path in others}}

    def test_is_not_told_of_what_is_relative_to_nobody_knows_what(self, built: Built) -> None:
        data = str(built.root / "data.txt")
        self.left(built, "tiny", "src/lib.rs", asked=("x", data))
        self.left(built, "other", asked=("templates", "../y", data))
        folders = {str(built.root / "one"): {"tiny"}, str(built.root / "two"): {"tiny"}}
        assert self.noting(built, folders) == {"data.txt": {"tiny", "other"}}

    def test_is_not_told_of_what_others_declare_in_their_own_folder(self, built: Built) -> None:
        """It may lie anywhere, though it is called as one of the project's packages."""
        data = str(built.root / "data.txt")
        self.left(built, "other", asked=("templates", data))
        assert self.noting(built, {str(built.root): {"other"}}) == {"data.txt": {"other"}}

    def test_is_not_told_of_what_was_removed_meanwhile(self, built: Built) -> None:
        self.left(built, "tiny", "src/lib.rs")
        folder = built.build / "debug" / ".fingerprint" / f"tiny-{HASH}"
        (folder / "dep-bin-gone").symlink_to("gone")
        (folder / "run-build-script-gone.json").symlink_to("gone")
        assert self.noting(built, {str(built.root): {"tiny"}}) == {"src/lib.rs": {"tiny"}}


class TestWhatRustcRead:
    """Told by the dep-info that rustc itself writes, beside what it compiles."""

    FIRST = (
        f".fingerprint/tiny-{HASH}/dep-lib-tiny",
        f"deps/tiny-{HASH}.d",
        f"deps/libpyo3_macros-{OTHER}.so",
    )
    SECOND = (
        f"build/tiny/{HASH}/fingerprint/dep-lib-tiny",
        f"build/tiny/{HASH}/out/tiny-{HASH}.d",
        f"build/pyo3-macros/{OTHER}/out/libpyo3_macros-{OTHER}.so",
    )

    NAMES = frozenset({"src/lib.rs", "src/a b.rs", "/x/y"})

    def read(self, profile: Path) -> inputs.Rustc:
        notes = inputs.read_notes([str(profile)], ["tiny"], str(profile))
        return inputs.read_by_rustc(notes)

    @pytest.fixture(params=[FIRST, SECOND], ids=["first layout", "second layout"])
    def files(self, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, Path]:
        """Return the note, rustc's dep-info, and the macro."""
        note, info, macro = (tmp_path / name for name in request.param)
        for path in (note, info, macro):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        info.write_text(
            "/t/libtiny.so: src/lib.rs src/a\\ b.rs\n\nsrc/lib.rs:\nsrc/a\\ b.rs:\n/x/y:\n# env-dep:A=b\n"
        )
        return note, info, macro

    def test_is_known_by_the_names_that_it_used(self, files: tuple[Path, ...], tmp_path: Path) -> None:
        found = self.read(tmp_path)
        assert found.names == self.NAMES
        assert (found.is_all, found.macros) == (True, {"pyo3_macros"})

    def test_is_not_known_where_it_is_gone(self, files: tuple[Path, ...], tmp_path: Path) -> None:
        files[1].unlink()
        assert not self.read(tmp_path).is_all

    def test_is_not_known_while_it_is_compiled_again(self, files: tuple[Path, ...], tmp_path: Path) -> None:
        (files[0].parent / "invoked.timestamp").touch()
        os.utime(files[0], (1, 1))
        assert not self.read(tmp_path).is_all
        os.utime(files[0].parent / "invoked.timestamp", (1, 1))
        assert self.read(tmp_path).is_all

    def test_is_not_known_while_it_is_compiled_for_the_first_time(
        self, files: tuple[Path, ...], tmp_path: Path
    ) -> None:
        (files[0].parent / "invoked.timestamp").touch()
        files[0].unlink()
        assert not self.read(tmp_path).is_all

    def test_is_nothing_where_no_unit_ended(self, files: tuple[Path, ...], tmp_path: Path) -> None:
        files[0].unlink()
        found = self.read(tmp_path)
        assert (found.names, found.is_all) == (set(), True)

    def test_is_known_of_a_library_whose_name_has_no_hash(
        self, files: tuple[Path, ...], tmp_path: Path
    ) -> None:
        """A cdylib's."""
        files[1].rename(files[1].with_name("tiny.d"))
        assert self.read(tmp_path).names == self.NAMES

    def test_is_of_examples_too(self, tmp_path: Path) -> None:
        for name in (f".fingerprint/tiny-{HASH}/dep-example-ex", f"examples/ex-{HASH}.d"):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).write_text("examples/ex.rs:\n")
        assert self.read(tmp_path).names == {"examples/ex.rs"}

    def test_is_of_a_build_script_beside_its_program(self, tmp_path: Path) -> None:
        """In the first layout, it lies in no folder that units share."""
        for name in (
            f".fingerprint/tiny-{HASH}/dep-build-script-x",
            f"build/tiny-{HASH}/build_script_x-{HASH}.d",
        ):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).write_text("build.rs:\n")
        found = self.read(tmp_path)
        assert (found.names, found.is_all) == ({"build.rs"}, True)

    def test_is_not_what_it_read_for_others(self, tmp_path: Path) -> None:
        """Nor for one that declares a file. It comes first, and so does a unit that read nothing."""
        unit_folder(tmp_path, "tiny", OTHER, **{"run-build-script-x": HASH})
        for name in (f"build/tiny/{HASH}/fingerprint/dep-lib-tiny", f"build/tiny/{HASH}/out/tiny-{HASH}.d"):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).write_bytes(b"src/a/\xff.rs:\n")
        unit_folder(
            tmp_path,
            "pyo3",
            OTHER,
            **{"run-build-script-x.json": facts({"RerunIfChanged": {"paths": ["/x"]}})},
        )
        for name in (f".fingerprint/pyo3-{OTHER}/dep-lib-pyo3", f"deps/pyo3-{OTHER}.d"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("/pyo3/src/lib.rs:\n")
        found = self.read(tmp_path)
        assert (found.names, found.is_all) == ({os.fsdecode(b"src/a/\xff.rs")}, True)

    @pytest.mark.parametrize("number", range(2))
    def test_is_not_known_while_one_of_several_units_is_compiled(
        self, number: int, files: tuple[Path, ...], tmp_path: Path
    ) -> None:
        """The library, and its tests."""
        notes = [files[0], files[0].with_name("dep-test-lib-tiny")]
        notes[1].write_text("")
        (files[0].parent / "invoked.timestamp").touch()
        os.utime(files[0].parent / "invoked.timestamp", (5, 5))
        for note in notes:
            os.utime(note, (5, 5))
        assert self.read(tmp_path).is_all
        os.utime(notes[number], (4, 4))
        assert not self.read(tmp_path).is_all

    def test_is_not_known_where_it_is_removed_meanwhile(
        self, files: tuple[Path, ...], tmp_path: Path
    ) -> None:
        files[1].unlink()
        files[1].symlink_to("gone")
        found = self.read(tmp_path)
        assert (found.names, found.is_all) == (set(), False)

    @pytest.mark.parametrize(
        ("info", "note", "expected"),
        [
            ("tiny", "lib-tiny", True),
            ("tiny", "test-lib-tiny", True),
            ("my_bin", "bin-my-bin", True),
            ("ex_a", "example-ex-a", True),
            ("t", "test-integration-test-t", True),
            ("b", "test-bench-b", True),
            ("iny", "lib-tiny", False),
            ("other", "lib-tiny", False),
        ],
    )
    def test_is_told_apart_where_names_have_no_hash(
        self, info: str, note: str, expected: bool, tmp_path: Path
    ) -> None:
        for name in (f".fingerprint/tiny-{HASH}/dep-{note}", f"deps/{info}.d"):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).write_text("src/x.rs:\n")
        found = self.read(tmp_path)
        assert (found.names, found.is_all) == ({"src/x.rs"} if expected else set(), expected)

    @pytest.mark.parametrize("name", ["libodd_macros-{}.so", "libodd_macros-{}.dylib", "odd_macros-{}.dll"])
    @pytest.mark.parametrize("layout", ["deps", "build/tools/{}/out"])
    def test_tells_of_macros_by_crate_and_by_package(self, name: str, layout: str, tmp_path: Path) -> None:
        folder = tmp_path / layout.format(OTHER)
        folder.mkdir(parents=True)
        if layout == "deps":
            unit_folder(tmp_path, "tools", OTHER)
        for file in (name.format(OTHER), f"libserde-{OTHER}.rlib", "libtiny.so", "tiny.dll"):
            (folder / file).touch()
        assert self.read(tmp_path).macros == {"odd_macros", "tools"}

    def test_tells_a_macro_of_the_project_from_one_of_others(self, tmp_path: Path) -> None:
        unit_folder(tmp_path, "tiny", OTHER)
        (tmp_path / "deps").mkdir()
        (tmp_path / "deps" / f"libtiny-{OTHER}.so").touch()
        assert self.read(tmp_path).macros == {"tiny", "tiny, a local one"}


def test_packages_that_read_elsewhere_are_known(tmp_path: Path) -> None:
    read: dict[str, list[str | bytes]] = {
        "elsewhere": ["src/lib.rs", "/usr/include/x"],
        "own": ["src/lib.rs"],
        "registry": ["/cargo/registry/src/x.rs"],
        "made": [noted_file("debug/build/x/out/y", in_package=False)],
    }
    for package, paths in read.items():
        place = unit_folder(tmp_path, package, lib__x=HASH)
        (place / "dep-lib-x").write_bytes(dep_info(*paths))
    assert inputs.reading_elsewhere([str(tmp_path)], ("/cargo/registry/src/", "/git/")) == {"elsewhere"}


@pytest.mark.parametrize("folder", [f".fingerprint/pyo3-ffi-{HASH}", f"build/pyo3-ffi/{HASH}/fingerprint"])
def test_a_package_asks_for_a_variable_where_cargo_noted_so(folder: str, tmp_path: Path) -> None:
    path = tmp_path / folder
    path.mkdir(parents=True)
    watched = [{"RerunIfEnvChanged": {"var": "PYO3_PYTHON", "val": None}}]
    (path / "run-build-script-build-script-build").write_text(HASH)
    (path / "run-build-script-build-script-build.json").write_text(json.dumps({"local": watched}))
    assert inputs.packages_asking_for(["PYO3_PYTHON", "PATH"], [str(tmp_path)]) == {"pyo3-ffi"}
    assert inputs.packages_asking_for(["PATH"], [str(tmp_path)]) == set()


def test_variables_without_reading_all(tmp_path: Path) -> None:
    run = {"run-build-script-x": HASH, "run-build-script-x.json": facts(ASKED)}
    unit_folder(tmp_path, number=OTHER, lib__tiny="broken", lib__tiny_json="{")
    unit_folder(tmp_path, **run)
    assert inputs.recorded_variables([str(tmp_path)]) == {}  # it has not run
    (tmp_path / "build" / f"tiny-rs-{HASH}").mkdir(parents=True)
    assert inputs.recorded_variables([str(tmp_path)]) == {"PYO3_PYTHON": {"/a"}}
    second = tmp_path / "build" / "tiny" / HASH / "fingerprint"
    (second.parent / "run").mkdir(parents=True)
    second.mkdir()
    (second / "run-build-script-x.json").write_text(facts(ASKED).replace("/a", "/b"))
    assert inputs.recorded_variables([str(tmp_path)]) == {"PYO3_PYTHON": {"/a", "/b"}}
    (second / "run-build-script-x.json").write_text("{")  # a cargo is writing it
    assert inputs.recorded_variables([str(tmp_path)]) == {"PYO3_PYTHON": {"/a"}}
