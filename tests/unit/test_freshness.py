"""The guard: doubt where cargo's time stamps would mislead it, and nowhere else."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyo3_envshim import assessment, freshness
from pyo3_envshim.cargo import target_dir
from pyo3_envshim.cargo.inputs import KEPT_CONFIGURATION
from pyo3_envshim.cargo.metadata import Workspace
from pyo3_envshim.shelf import CallNote, Shelf
from pyo3_envshim.sources import Source
from pyo3_envshim.stamp import CONFIGURATION, FORMAT, OLD_STAMP, STAMP, read_stamp, write_stamp
from pyo3_envshim.store import lock

from .environments import ROOT, run, tree
from .posix import IS_ROOT, fcntl
from .test_inputs import dep_info, noted_file
from .test_units import ASKED, OTHER, facts

TRUSTED, COMPILED, NEW_PATH = "nothing is compiled", "the crate is compiled", "PyO3 is compiled"


UNIT, TIME = "tiny-0123456789abcdef", "invoked.timestamp"


class Workshop:
    """A workspace with one crate, and its build folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "work"
        self.build = self.root / "target"
        self.packages = [self.root]
        self.crates = [self.root / "src"]
        self.scripts = True
        self.loaded: dict[str, set[str]] = {}
        self.last = ""
        self.noted = dep_info("src/lib.rs")
        self.write("src/lib.rs", "fn one() {}")
        self.write("Cargo.toml", "[package]")

    def write(self, name: str, text: str = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.back_date(path)
        return path

    def back_date(self, path: Path, time: int = 1_000_000_000) -> None:
        os.utime(path, (time, time + 0.5))

    def built(self, ends_at: int | None = None, profile: str = "debug") -> None:
        """Leave what cargo leaves; it ends long after everything that is there."""
        unit = self.build / profile / ".fingerprint" / UNIT
        unit.mkdir(parents=True, exist_ok=True)
        (unit / TIME).write_text("This file has an mtime of when this was started.")
        end = ends_at or 4_000_000_000
        os.utime(unit / TIME, (end, end))
        (unit / "dep-lib-tiny").write_bytes(self.noted)
        os.utime(unit / "dep-lib-tiny", (end, end))

    def left(self, package: str, noted: bytes = b"", run: str = "") -> Path:
        """Leave what cargo leaves of one more unit: its dep-info, what a build script's run noted."""
        unit = self.build / "debug" / ".fingerprint" / f"{package}-{OTHER}"
        unit.mkdir(parents=True, exist_ok=True)
        (unit / f"dep-lib-{package}").write_bytes(noted or dep_info())
        if run:
            (unit / "run-build-script-build-script-build").write_text(OTHER)
            (unit / "run-build-script-build-script-build.json").write_text(run)
            (self.build / "debug" / "build" / unit.name).mkdir(parents=True, exist_ok=True)
        return unit / f"dep-lib-{package}"

    def workspace(self) -> Workspace:
        where = {"workspace_root": str(self.root), "target_directory": str(self.build), "packages": []}
        workspace = Workspace(where, [])
        workspace.packages = {str(package): {"tiny"} for package in self.packages}
        if not self.scripts:
            workspace.crates = {str(crate): {"tiny"} for crate in self.crates}
        workspace.scripts, workspace.loaded = self.scripts, self.loaded
        return workspace

    def nonce(self) -> str:
        self.last = freshness.nonce_for(self.workspace())
        return self.last

    @property
    def stamp(self) -> Path:
        return self.build / "debug" / STAMP

    def verdict(self) -> str:
        """Let a build start; return what cargo will do."""
        if self.last != self.nonce():
            return NEW_PATH
        return TRUSTED if (self.build / "debug" / ".fingerprint" / UNIT / TIME).exists() else COMPILED

    def settled(self) -> None:
        """Build through us until nothing is in doubt.

        The stamp is dated forward, as if time had passed since the sources were written.
        """
        self.nonce()
        self.back_date(self.stamp, 3_000_000_000)
        self.built()
        assert self.verdict() == TRUSTED
        self.back_date(self.stamp, 3_000_000_000)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def replace_by_an_older_one(workshop: Workshop) -> None:
    path = workshop.write("new.rs", "fn two() {}")
    workshop.back_date(path, 900_000_000)
    path.replace(workshop.root / "src" / "lib.rs")


def overwrite_in_place_keeping_times(workshop: Workshop) -> None:
    workshop.write("src/lib.rs", "fn two() {}")


def replace_the_folder(workshop: Workshop) -> None:
    other = Workshop(workshop.root.parent / "other")
    other.write("src/lib.rs", "fn two() {}")
    workshop.root.rename(workshop.root.parent / "old")
    other.root.rename(workshop.root)
    shutil.move(str(workshop.root.parent / "old" / "target"), str(workshop.build))


def swap_two_files(workshop: Workshop) -> None:
    src = workshop.root / "src"
    (src / "lib.rs").rename(src / "kept.rs")
    workshop.write("src/lib.rs", "fn two() {}")


def remove(workshop: Workshop, at: int) -> None:
    (workshop.root / "Cargo.toml").unlink()
    workshop.back_date(workshop.root, at)


CHANGES: dict[str, Callable[[Workshop], object]] = {
    "a file was removed, its folder's time kept": lambda workshop: remove(workshop, 900_000_000),
    "a file was replaced by an older one": replace_by_an_older_one,
    "a file was overwritten in place, its time kept": overwrite_in_place_keeping_times,
    "the folder was replaced by another": replace_the_folder,
    "a file took the place of another": swap_two_files,
    "an older file was added": lambda workshop: workshop.write("src/added.rs"),
    "an older file was added beside the sources": lambda workshop: workshop.write("pyproject.toml"),
    "an older file was added in a new folder": lambda workshop: workshop.write("src/deep/er/added.rs"),
    "an older file was added in a folder called build": lambda workshop: workshop.write("build/in/x.rs"),
    "an older file was added in a folder called lib.x": lambda workshop: workshop.write("lib.x/added.rs"),
    "an older file was added in a folder called out": lambda workshop: workshop.write("src/out/added.rs"),
}


class TestTheCrateIsCompiled:
    @pytest.mark.parametrize("what", CHANGES)
    def test_when_cargo_would_not_notice(self, what: str, workshop: Workshop) -> None:
        workshop.settled()
        CHANGES[what](workshop)
        assert workshop.verdict() == COMPILED

    def test_when_a_folder_of_equal_times_takes_the_place_of_another(self, workshop: Workshop) -> None:
        """Copied with their times in one tick of the clock: only the files' numbers differ."""
        one = workshop.root / "src" / "lib.rs"
        two = workshop.write("../other/lib.rs", "fn two() {}")
        for _ in range(1000):
            workshop.back_date(one)
            workshop.back_date(two)
            if one.stat().st_ctime_ns == two.stat().st_ctime_ns:
                break
        else:
            pytest.skip("this file system has no two equal times")
        workshop.settled()
        one.parent.rename(workshop.root.parent / "away")
        two.parent.rename(one.parent)
        assert workshop.verdict() == COMPILED

    def test_when_the_folder_was_first_filled_without_us(self, workshop: Workshop) -> None:
        workshop.built()
        assert workshop.verdict() == COMPILED

    def test_not_when_the_folder_was_filled_by_another_build_since(self, workshop: Workshop) -> None:
        """Sources as they were, so only what changed after our stamp is in doubt."""
        workshop.settled()
        workshop.built()
        assert workshop.verdict() == TRUSTED

    def test_when_a_link_leads_elsewhere(self, workshop: Workshop) -> None:
        for name in ("one.rs", "two.rs"):
            workshop.write(f"../shared/{name}", name)
        link = workshop.root / "src" / "linked.rs"
        link.symlink_to("../../shared/one.rs")
        workshop.settled()
        link.unlink()
        link.symlink_to("../../shared/two.rs")
        assert workshop.verdict() == COMPILED

    def test_when_a_link_leads_to_a_newer_file(self, workshop: Workshop) -> None:
        """cargo notes where a link within the package led, and would look there."""
        for name in ("one.rs", "two.rs"):
            workshop.write(f"src/{name}", name)
        link = workshop.root / "src" / "linked.rs"
        link.symlink_to("one.rs")
        workshop.settled()
        workshop.back_date(workshop.root / "src" / "two.rs", 4_000_000_001)
        link.unlink()
        link.symlink_to("two.rs")
        assert workshop.verdict() == COMPILED

    def test_when_a_newer_file_takes_the_place_of_a_link(self, workshop: Workshop) -> None:
        workshop.write("src/one.rs", "one")
        link = workshop.root / "src" / "linked.rs"
        link.symlink_to("one.rs")
        workshop.settled()
        link.unlink()
        workshop.back_date(workshop.write("src/linked.rs", "two"), 4_000_000_001)
        workshop.back_date(workshop.root / "src", 4_000_000_001)
        assert workshop.verdict() == COMPILED

    def test_when_a_link_to_a_folder_leads_to_another_known_one(self, workshop: Workshop) -> None:
        for name in ("one", "two"):
            workshop.write(f"{name}/x.rs", name)
        link = workshop.root / "linked"
        link.symlink_to("one")
        workshop.settled()
        link.unlink()
        link.symlink_to("two")
        assert workshop.verdict() == COMPILED

    def test_when_what_a_link_leads_to_changes(self, workshop: Workshop) -> None:
        workshop.write("../shared/one.rs", "one")
        (workshop.root / "src" / "linked.rs").symlink_to("../../shared/one.rs")
        workshop.settled()
        workshop.write("../shared/one.rs", "two")
        assert workshop.verdict() == COMPILED

    def test_when_a_folder_behind_a_link_changes(self, workshop: Workshop) -> None:
        workshop.write("../shared/one.rs", "one")
        (workshop.root / "src" / "linked").symlink_to("../../shared")
        workshop.settled()
        workshop.write("../shared/one.rs", "two")
        assert workshop.verdict() == COMPILED

    @pytest.mark.parametrize("mark", ["pyvenv.cfg", "CACHEDIR.TAG"])
    def test_when_a_package_changes_though_its_folder_is_an_environment(
        self, mark: str, workshop: Workshop
    ) -> None:
        """``python -m venv .`` in the folder of a package: cargo builds what lies there all the same."""
        workshop.write(f"member/{mark}")
        workshop.write("member/src/lib.rs", "one")
        workshop.packages.append(workshop.root / "member")
        workshop.settled()
        workshop.write("member/src/lib.rs", "two")
        assert workshop.verdict() == COMPILED

    @pytest.mark.parametrize("mark", ["pyvenv.cfg", "CACHEDIR.TAG"])
    def test_when_the_workspace_changes_though_its_folder_is_an_environment(
        self, mark: str, workshop: Workshop
    ) -> None:
        workshop.write(mark)
        workshop.settled()
        workshop.write("src/lib.rs", "two")
        assert workshop.verdict() == COMPILED

    def test_when_a_package_changes_in_a_hidden_folder(self, workshop: Workshop) -> None:
        workshop.write(".hidden/src/lib.rs", "one")
        workshop.packages.append(workshop.root / ".hidden")
        workshop.settled()
        workshop.write(".hidden/src/lib.rs", "two")
        assert workshop.verdict() == COMPILED

    def test_when_a_package_changes_in_the_target_folder(self, workshop: Workshop) -> None:
        """Generated there, say."""
        workshop.write("target/generated/src/lib.rs", "one")
        workshop.packages.append(workshop.build / "generated")
        workshop.settled()
        workshop.write("target/generated/src/lib.rs", "two")
        assert workshop.verdict() == COMPILED

    def test_when_a_package_outside_of_the_workspace_changes(self, workshop: Workshop) -> None:
        workshop.write("../path-dependency/src/lib.rs", "one")
        workshop.packages.append(workshop.root.parent / "path-dependency")
        workshop.settled()
        workshop.write("../path-dependency/src/lib.rs", "two")
        assert workshop.verdict() == COMPILED

    def test_when_the_stamp_is_gone(self, workshop: Workshop) -> None:
        workshop.settled()
        (workshop.stamp).unlink()
        assert workshop.verdict() == COMPILED

    @pytest.mark.parametrize("line", ["", "junk", "1-2 ", "1-2 relative", "link ", "1-2 //gone/x"])
    def test_when_the_stamp_holds_what_was_never_there(self, line: str, workshop: Workshop) -> None:
        workshop.settled()
        path = workshop.stamp
        path.write_text(path.read_text().replace("\0end", f"\0{line}\0end"))
        os.utime(path, (3_000_000_000, 3_000_000_000))
        assert workshop.verdict() == COMPILED

    def test_when_a_stamp_from_the_future_hides_nothing(self, workshop: Workshop) -> None:
        workshop.settled()
        os.utime(workshop.stamp, (4_100_000_000, 4_100_000_000))
        assert workshop.verdict() == TRUSTED
        os.utime(workshop.stamp, (4_100_000_000, 4_100_000_000))
        workshop.write("src/lib.rs", "two")
        assert workshop.verdict() == COMPILED

    def test_when_cargo_compiles_while_the_sources_are_listed(
        self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The end is read last: what was newer a moment ago may not be now."""
        workshop.settled()
        workshop.back_date(workshop.write("src/lib.rs", "two"), 4_000_000_001)
        listing = assessment._list_sources

        def meanwhile(*arguments: Any) -> Any:
            found = listing(*arguments)
            workshop.built(4_000_000_002)
            return found

        monkeypatch.setattr(assessment, "_list_sources", meanwhile)
        assert workshop.verdict() == COMPILED


class TestThePathIsNew:
    """All that depends on PyO3 is compiled, as without us."""

    def test_when_another_workspace_uses_the_build_folder(self, workshop: Workshop, tmp_path: Path) -> None:
        workshop.settled()
        other = Workshop(tmp_path / "second")
        other.build = workshop.build
        found = {workshop.last, other.nonce()}
        assert len(found) == 2
        found.add(workshop.nonce())
        assert len(found) == 3

    @pytest.mark.parametrize("size", [0, 1, 10, -1, -4])
    def test_when_the_stamp_is_cut_short(self, size: int, workshop: Workshop) -> None:
        workshop.settled()
        path = workshop.stamp
        path.write_bytes(path.read_bytes()[:size])
        os.utime(path, (3_000_000_000, 3_000_000_000))
        assert workshop.verdict() == NEW_PATH

    @pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"[package]", b"pyo3-envshim stamp 2\0/work\0\0end"])
    def test_when_the_stamp_is_foreign(self, text: bytes, workshop: Workshop) -> None:
        workshop.settled()
        path = workshop.stamp
        path.write_bytes(text)
        os.utime(path, (3_000_000_000, 3_000_000_000))
        assert workshop.verdict() == NEW_PATH

    def test_when_the_stamp_has_another_format(self, workshop: Workshop) -> None:
        workshop.settled()
        path = workshop.stamp
        path.write_text(path.read_text().replace(FORMAT, "pyo3-envshim stamp 2"))
        os.utime(path, (3_000_000_000, 3_000_000_000))
        assert workshop.verdict() == NEW_PATH

    def test_for_the_second_of_two_that_find_the_folder_new(self, workshop: Workshop) -> None:
        """Both looked before either left its stamp: only one may get the empty nonce."""
        write_stamp(str(workshop.build), "/elsewhere", "", {})
        written = write_stamp(str(workshop.build), "/here", "", {}, only_as_first=True)
        assert not written
        found = read_stamp(str(workshop.build / STAMP))
        assert found is not None
        assert found.root == "/elsewhere"
        assert os.listdir(workshop.build) == [STAMP]

    def test_for_the_slower_of_two_first_builds(
        self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def meanwhile(*_: object) -> list[str]:
            write_stamp(str(workshop.stamp.parent), "/elsewhere", "", {})
            return []

        monkeypatch.setattr(assessment, "doubtful", meanwhile)
        assert workshop.nonce() != ""

    @pytest.mark.parametrize("name", target_dir.LOCKS)
    def test_when_a_cargo_works_in_the_folder(self, name: str, workshop: Workshop) -> None:
        workshop.settled()
        workshop.write("src/lib.rs", "two")
        with open(workshop.stamp.parent / name, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            assert workshop.verdict() == NEW_PATH
        workshop.write("src/lib.rs", "three")
        assert workshop.verdict() == COMPILED

    def test_when_there_are_no_locks(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        workshop.settled()
        workshop.write("src/lib.rs", "two")
        monkeypatch.setattr(lock, "try_lock", lambda descriptor, exclusive, wait=False: None)
        assert workshop.verdict() == NEW_PATH

    def test_when_what_cargo_left_cannot_be_removed(self, workshop: Workshop) -> None:
        workshop.settled()
        (workshop.stamp.parent / ".fingerprint" / UNIT / "folder").mkdir()
        workshop.write("src/lib.rs", "two")
        assert workshop.verdict() == NEW_PATH

    def test_that_was_never_used(self, workshop: Workshop) -> None:
        other = Workshop(workshop.root.parent / "second")
        other.build = workshop.build
        found = [each.nonce() for each in (workshop, other) * 4]
        assert len(set(found)) == 8


class Project(Workshop):
    """With more packages: by its lock file, ``tiny`` needs PyO3; ``a`` and ``b b`` need nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        blocks = (f'[[package]]\nname = "{name}"\n' for name in ("a", "b b", "pyo3"))
        own = '[[package]]\nname = "tiny"\ndependencies = [\n "pyo3",\n]\n'
        self.write("Cargo.lock", "".join([*blocks, own]))
        self.write("a/src/lib.rs")
        self.write("b b/src/lib.rs")

    def workspace(self) -> Workspace:
        workspace = super().workspace()
        workspace.packages.update({str(self.root / name): {name} for name in ("a", "b b")})
        return workspace

    def built(self, *how: Any) -> None:
        super().built(*how)
        self.left("a", dep_info("src/lib.rs", str(self.root.parent / "shared.rs")))
        self.left("b b", dep_info("src/lib.rs"))
        made = noted_file(os.path.join("debug", "build", "pyo3", "out", "x.rs"), in_package=False)
        self.left("pyo3", dep_info(made), run=facts(ASKED))

    def settled(self) -> None:
        self.nonce()
        self.built()
        super().settled()  # what lies outside is known from the second build on

    def declared(self, path: str) -> None:
        """Leave a crate of others whose build script declares a file."""
        self.left("other", run=facts({"RerunIfChanged": {"output": "", "paths": [path]}}))

    def compiled(self) -> set[str]:
        """Let a build start; return the packages that cargo will compile: all if the path is new."""
        return {NEW_PATH} if self.verdict() == NEW_PATH else self.units(self.build, there=False)

    def units(self, build: Path, *, there: bool = True) -> set[str]:
        """Return the packages whose fingerprints are there, or are not there any more."""
        units = (build / "debug" / ".fingerprint").iterdir()
        return {unit.name.rpartition("-")[0] for unit in units if any(unit.iterdir()) == there}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write("../shared.rs")
    return project


class TestWhatIsCompiledInDoubt:
    """Of a project of several packages."""

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("a/src/lib.rs", {"a", "tiny"}),
            ("b b/src/lib.rs", {"b b", "tiny"}),
            ("../shared.rs", {"a", "tiny"}),
            ("src/lib.rs", {"tiny"}),
        ],
    )
    def test_is_whose_file_it_is_and_what_a_random_path_made_cargo_compile(
        self, name: str, expected: set[str], project: Project
    ) -> None:
        project.settled()
        project.write(name, "two")
        assert project.compiled() == expected

    def test_is_all_whose_libraries_overwrite_each_other_each_time(self, project: Project) -> None:
        """Where both were built; and what else was overwritten."""
        project.settled()
        project.loaded = {"one": {"a", "tiny"}, "two": {"b b", "another"}}
        assert project.compiled() == {"a", "tiny"}
        project.built()
        project.loaded = {"three": {"a", "b b", "tiny"}}
        assert project.compiled() == {"a", "b b", "tiny"}
        project.built()
        project.loaded = {"one": {"a", "tiny"}}
        place = project.build / "debug" / ".fingerprint" / f"b b-{OTHER}" / "lib-b_b"
        place.write_text("0123456789abcdef")
        library = project.build / "debug" / "deps" / "libb_b.so"
        library.parent.mkdir()
        library.touch()
        os.utime(library, (4_000_000_000, 4_000_000_000))
        assert project.compiled() == {"a", "b b", "tiny"}

    def test_is_what_a_link_belongs_to(self, project: Project) -> None:
        for name in ("one", "two"):
            project.write(f"../{name}.rs", name)
        link = project.root / "b b" / "linked.rs"
        link.symlink_to("../../one.rs")
        project.settled()
        link.unlink()
        link.symlink_to("../../two.rs")
        assert project.compiled() == {"b b", "tiny"}

    def test_is_all_that_is_local_without_a_lock_file(self, project: Project) -> None:
        (project.root / "Cargo.lock").unlink()
        project.settled()
        project.write("a/src/lib.rs", "two")
        assert project.compiled() == {"a", "b b", "tiny"}

    def test_is_all_that_is_local_without_a_stamp(self, project: Project) -> None:
        project.settled()
        project.stamp.unlink()
        assert project.compiled() == {"a", "b b", "tiny"}

    @pytest.mark.parametrize("needs", [True, False])
    def test_is_in_each_build_a_package_that_lies_nobody_knows_where_if_it_needs_pyo3(
        self, needs: bool, project: Project
    ) -> None:
        """``paths = […]`` in cargo's configuration."""
        block = '[[package]]\nname = "elsewhere"\ndependencies = [\n "pyo3",\n]\n'
        with (project.root / "Cargo.lock").open("a") as lock_file:
            lock_file.write(block if needs else block.replace("pyo3", "a"))
        project.settled()
        project.left("elsewhere", dep_info("src/lib.rs"))
        assert project.compiled() == ({"elsewhere", "tiny"} if needs else set())

    @pytest.mark.parametrize("path", ["x", "../x", "a/../../x"])
    def test_is_all_where_a_crate_of_others_declares_what_is_in_doubt(
        self, path: str, project: Project
    ) -> None:
        project.write(path)
        project.settled()
        project.declared(str(project.root / path))
        project.write(path, "two")
        assert project.compiled() == {NEW_PATH}

    @pytest.mark.parametrize("name", ["", "x"])
    def test_is_all_where_a_crate_of_others_declares_anything_in_the_project(
        self, name: str, project: Project
    ) -> None:
        project.packages.append(project.write("../dependency/src/lib.rs").parent.parent)
        project.settled()
        project.declared(str(project.root / name))
        project.write("../dependency/src/lib.rs", "two")
        assert project.compiled() == {NEW_PATH}

    def test_is_not_all_where_it_declares_what_lies_elsewhere(self, project: Project) -> None:
        project.write("../work-2/x")
        project.declared(str(project.root.parent / "work-2" / "x"))
        project.settled()
        project.write("src/lib.rs", "two")
        assert project.compiled() == {"tiny"}
        project.settled()
        project.stamp.unlink()
        assert project.compiled() == {NEW_PATH}

    def test_is_all_where_it_lies_in_a_vendored_crate(self, project: Project) -> None:
        """A file that is newer, too: cargo does not look at these."""
        project.write("vendor/x/.cargo-checksum.json")
        project.settled()
        project.write("src/lib.rs", "two")
        assert project.compiled() == {"tiny"}
        project.settled()
        project.back_date(project.write("vendor/x/src/lib.rs", "two"), 4_000_000_001)
        assert project.compiled() == {NEW_PATH}
        project.settled()
        project.stamp.unlink()
        assert project.compiled() == {NEW_PATH}


class WithNotes:
    """``a`` needs no PyO3, and ``tiny`` does; a macro, or a build script, may read more than it has noted."""

    @pytest.fixture
    def project(self, project: Project) -> Project:
        for name in ("data.txt", "other.txt", "../afar.txt", "src/tests.rs", "src/noted.rs"):
            project.write(name)
        return project

    def macro(self, project: Project) -> None:
        project.write(f"target/debug/deps/libsqlx_macros-{OTHER}.so")

    def left(self, project: Project, number: int, package: str, *noted: str, needs: int = 0) -> None:
        """Leave a library that has noted these files."""
        files = [str(project.root / name) for name in noted]
        dep_info_of = project.left(package, dep_info("src/lib.rs", *files))
        dep_info_of.with_name(f"lib-{package}").write_bytes(number.to_bytes(8, "little").hex().encode())
        dep_info_of.with_name(f"lib-{package}.json").write_text(facts(needs=(needs,) if needs else ()))


class TestWhatSomethingElseHasNoted(WithNotes):
    def ran(self, project: Project, package: str, *needs: int) -> None:
        """Leave the run of a build script that told cargo nothing."""
        name = f"{package}-{'7' * 16}"
        folder = project.build / "debug" / ".fingerprint" / name
        folder.mkdir()
        (folder / "run-build-script-build-script-build").write_text("7" * 16)
        run = facts({"Precalculated": "1"}, needs=needs)
        (folder / "run-build-script-build-script-build.json").write_text(run)
        (project.build / "debug" / "build" / name).mkdir()

    def compiled(self, project: Project, name: str = "data.txt") -> set[str]:
        """Return what is compiled when a file is newer."""
        project.back_date(project.stamp, 3_000_000_000)
        project.back_date(project.write(name, "two"), 4_000_000_001)
        return project.compiled()

    @pytest.mark.parametrize(
        ("noting", "compiled"), [(("a",), {"a", "tiny"}), (("tiny",), set()), (("a", "tiny"), set())]
    )
    def test_is_in_doubt_for_what_a_random_path_compiles(
        self, noting: tuple[str, ...], compiled: set[str], project: Project
    ) -> None:
        self.macro(project)
        project.settled()
        for number, package in enumerate(("a", "tiny"), 1):
            self.left(project, number, package, *(["data.txt"] if package in noting else []))
        assert self.compiled(project) == compiled

    def test_is_in_doubt_for_all_without_a_lock_file(self, project: Project) -> None:
        (project.root / "Cargo.lock").unlink()
        self.macro(project)
        project.settled()
        self.left(project, 1, "a")
        self.left(project, 2, "tiny", "data.txt")
        assert self.compiled(project) == {"a", "b b", "tiny"}

    def test_is_not_in_doubt_if_it_is_a_module(self, project: Project) -> None:
        self.macro(project)
        project.settled()
        self.left(project, 1, "a")
        self.left(project, 2, "tiny")
        assert self.compiled(project, "a/src/lib.rs") == set()

    @pytest.mark.parametrize(
        ("package", "compiled"),
        [("tiny", {"tiny"}), ("a", set())],
        ids=["which needs PyO3", "which does not"],
    )
    def test_is_in_doubt_for_a_build_script_that_told_cargo_nothing(
        self, package: str, compiled: set[str], project: Project
    ) -> None:
        project.settled()
        self.ran(project, package)
        self.left(project, 1, "a", "data.txt")
        self.left(project, 2, "tiny", "data.txt")
        assert self.compiled(project) == (compiled and {*compiled, "a"})

    def test_is_not_in_doubt_for_other_units_of_its_package(self, project: Project) -> None:
        """cargo will run the script, which needs what noted it."""
        project.settled()
        self.ran(project, "tiny", 1)
        self.left(project, 1, "a", "data.txt")
        self.left(project, 2, "tiny")
        assert self.compiled(project) == set()


class TestASetAndWhatHasStayed(WithNotes):
    """``tiny`` and PyO3 come back; ``a`` has stayed, and what needs no interpreter.

    Each of the other sets has noted, for a target, a module, one that is new, and ``other.txt``.
    """

    root = ""
    own = "lib-tiny"
    targets: tuple[tuple[str, str], ...] = (("tiny", "test-lib-tiny"),)
    version = 1  # of cargo's notes in the newest of them

    def put_aside(
        self, project: Project, package: str = "tiny", target: str = "test-lib-tiny", version: int = 1
    ) -> None:
        """Put another set on the shelf."""
        files = [str(project.root / it) for it in ("src/tests.rs", "src/new.rs", "other.txt")]
        shelf = project.build / "debug" / ".envshim-sets"
        other = shelf / "tmp-2" / "debug" / ".fingerprint" / f"{package}-{OTHER}"
        other.mkdir(parents=True)
        (other / f"dep-{target}").write_bytes(dep_info(*files, version=version))
        (other / f"{target}.json").write_text(facts())
        call = CallNote(self.root or str(project.root), {}, {})
        Shelf(str(shelf.parent)).commit(str(shelf / "tmp-2"), {"X": target}, call, {})

    def comes_back(self, project: Project, name: str, time: int = 4_000_000_001, needs: int = 0) -> set[str]:
        """Put a set aside, and change a file; return what of the set is compiled when it comes back.

        *needs*: the unit that ``tiny`` needs; the first has stayed.
        """
        project.settled()
        for _ in range(2):  # what lies outside of the packages is known from the second build on
            project.built()
            self.left(project, 1, "a", "data.txt", "../afar.txt", "src/noted.rs", "src/noted, new.rs")
            self.left(project, 2, "tiny", needs=needs)
            self.left(project, 3, "b b", "b b/data.txt")
            last = project.build / "debug" / ".fingerprint" / f"b b-{OTHER}" / "dep-lib-b b"
            project.back_date(last, 5_000_000_000)
            project.nonce()
            project.back_date(project.stamp, 3_000_000_000)
        place = project.build / "debug" / ".envshim-sets" / "tmp-1"
        prints = project.build / "debug" / ".fingerprint"
        (place / "debug" / ".fingerprint").mkdir(parents=True)
        for unit in [unit for unit in prints.iterdir() if unit.name.startswith(("tiny", "pyo3"))]:
            unit.rename(place / "debug" / ".fingerprint" / unit.name)
        for file in (place / "debug" / ".fingerprint" / f"tiny-{OTHER}").iterdir():
            file.rename(file.with_name(file.name.replace("lib-tiny", self.own)))
        project.stamp.rename(place / STAMP)
        assert project.units(place) == {"tiny", "pyo3"}
        for package, target in self.targets:
            version = self.version if target == self.targets[-1][1] else 1
            for older in place.parent.glob("*/manifest"):
                project.back_date(older, 1_000_000_000)
            self.put_aside(project, package, target, version)
        changed = project.write(name, "two")
        project.back_date(changed, time)
        if not time:
            changed.unlink()
            project.back_date(changed.parent, 4_000_000_001)
        freshness.judge_set(project.workspace(), str(place))
        return {"tiny", "pyo3"} - project.units(place)

    def test_in_place_a_module_that_another_set_has_is_not_excused(self, project: Project) -> None:
        """Nobody keeps another call from taking the set meanwhile."""
        self.macro(project)
        project.settled()
        self.left(project, 1, "a")
        self.left(project, 2, "tiny")
        self.put_aside(project)
        project.back_date(project.stamp, 3_000_000_000)
        project.back_date(project.write("src/tests.rs", "two"), 4_000_000_001)
        assert project.compiled() == {"tiny"}

    @pytest.mark.parametrize(
        ("name", "time", "compiled"),
        [
            ("data.txt", 4_000_000_001, {"tiny"}),
            ("other.txt", 4_000_000_001, {"tiny"}),
            ("../afar.txt", 4_000_000_001, {"tiny"}),
            ("../afar.txt", 900_000_000, {"tiny"}),
            ("src/lib.rs", 4_000_000_001, set()),
            ("src/tests.rs", 4_000_000_001, set()),
            ("src/tests.rs", 0, {"tiny"}),  # it is gone
            ("src/new.rs", 4_000_000_001, {"tiny"}),
            ("src/unknown.rs", 4_000_000_001, {"tiny"}),
            ("src/noted.rs", 4_000_000_001, set()),
            ("src/noted.rs", 0, {"tiny"}),
            ("src/noted, new.rs", 4_000_000_001, {"tiny"}),
        ],
    )
    def test_a_macro(self, name: str, time: int, compiled: set[str], project: Project) -> None:
        """What is newer than the end of the set's own build need not be newer than that of the last."""
        self.macro(project)
        assert self.comes_back(project, name, time) == compiled

    def test_no_macro_of_another_profile(self, project: Project) -> None:
        project.write(f"target/release/deps/libsqlx_macros-{OTHER}.so")
        assert self.comes_back(project, "../afar.txt", 900_000_000) == set()

    def test_a_module_of_another_worktree(self, project: Project) -> None:
        self.macro(project)
        self.root = "/another"
        assert self.comes_back(project, "src/tests.rs") == {"tiny"}

    @pytest.mark.parametrize(
        "targets",
        [[("tiny", "lib-tiny")], [("tiny", "lib-tiny"), ("tiny", "test-lib-tiny")], [("a", "lib-a")]],
        ids=["in the set", "and of a test", "beside it"],
    )
    def test_a_module_of_what_is_here_for_another_interpreter(
        self, targets: list[tuple[str, str]], project: Project
    ) -> None:
        self.macro(project)
        self.targets = tuple(targets)
        assert self.comes_back(project, "src/tests.rs") == {"tiny"}

    def test_a_module_of_the_library_of_which_a_test_is_here(self, project: Project) -> None:
        self.macro(project)
        self.own, self.targets = "test-lib-tiny", (("tiny", "lib-tiny"),)
        assert self.comes_back(project, "src/tests.rs") == {"tiny"}

    @pytest.mark.parametrize(
        ("targets", "compiled"),
        [([("tiny", "test-lib-tiny")], {"tiny"}), ([("tiny", "test-lib-tiny"), ("tiny", "test-it")], set())],
        ids=["alone", "and another"],
    )
    def test_a_set_of_a_cargo_that_is_not_known_says_nothing(
        self, targets: list[tuple[str, str]], compiled: set[str], project: Project
    ) -> None:
        self.macro(project)
        self.version = 2
        self.targets = tuple(targets)
        assert self.comes_back(project, "src/tests.rs") == compiled

    def test_what_noted_a_file_and_is_needed(self, project: Project) -> None:
        self.macro(project)
        assert self.comes_back(project, "data.txt", needs=1) == set()

    def test_what_is_needed_and_has_not_noted_the_file(self, project: Project) -> None:
        """Where that is not there, cargo compiles anyway."""
        self.macro(project)
        project.write("b b/data.txt")
        assert self.comes_back(project, "b b/data.txt", needs=1) == {"tiny"}

    def test_what_rustc_alone_reads_is_compared_by_its_outputs(self, project: Project) -> None:
        assert self.comes_back(project, "../afar.txt", 900_000_000) == set()


@pytest.mark.parametrize(
    "call", [Workshop.nonce, lambda project: freshness.refresh(project.workspace())], ids=["ours", "others'"]
)
class TestTheFileThatPyO3IsToldBy:
    """maturin writes one for each interpreter, and leaves it as it is in the next round."""

    @pytest.fixture
    def told(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A file that nothing in place has read, older than that."""
        project.settled()
        path = project.write("target/maturin/pyo3-config-3.9.txt")
        monkeypatch.setenv("PYO3_CONFIG_FILE", str(path))
        return path

    def test_puts_nothing_in_doubt(
        self, call: Callable[[Project], object], told: Path, project: Project
    ) -> None:
        call(project)
        assert project.last == ""
        assert project.units(project.build) == {"a", "b b", "pyo3", "tiny"}

    def test_is_known_to_the_next_build(
        self, call: Callable[[Project], object], told: Path, project: Project
    ) -> None:
        call(project)
        project.back_date(project.stamp, 3_000_000_000)
        project.write(str(told), "one")
        assert project.compiled() == {"tiny"}
        project.declared(str(told))
        project.settled()
        assert project.compiled() == set()
        project.back_date(project.stamp, 3_000_000_000)
        project.write(str(told), "two")
        assert project.compiled() == {NEW_PATH}

    def test_puts_nothing_in_doubt_where_it_is_written_anew(
        self, call: Callable[[Project], object], told: Path, project: Project
    ) -> None:
        """No macro reads it; nothing in place has noted it, or cargo compiles that."""
        project.write(f"target/debug/deps/libsqlx_macros-{OTHER}.so")
        for unit, name in (("tiny", "lib-tiny"), ("other", "lib-other")):
            left = project.left(unit)
            left.with_name(name).write_text(OTHER)
            left.with_name(f"{name}.json").write_text(facts())
        call(project)
        project.built()
        project.back_date(project.stamp, 3_000_000_000)
        project.back_date(project.write(str(told), "two"), 4_000_000_001)
        assert project.compiled() == set()

    def test_is_not_forgotten_for_another_call(
        self,
        call: Callable[[Project], object],
        told: Path,
        project: Project,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        call(project)
        monkeypatch.delenv("PYO3_CONFIG_FILE")
        call(project)
        project.back_date(project.stamp, 3_000_000_000)
        project.write(str(told), "two")
        assert project.compiled() == {"tiny"}


class TestAFileThatAScriptWasTold:
    """PyO3 0.23.0 to 0.23.2 asks for its name, and does not declare it: cargo does not look at it."""

    @pytest.fixture
    def told(self, project: Project) -> Path:
        path = project.write("target/x.txt")
        value = {"RerunIfEnvChanged": {"var": "PYO3_CONFIG_FILE", "val": str(path)}}
        project.settled()
        project.left("pyo3-ffi", run=facts(value))
        project.settled()
        return path

    @pytest.mark.parametrize("time", [1_000_000_000, 4_000_000_001])
    def test_is_why_it_is_compiled(self, time: int, told: Path, project: Project) -> None:
        assert project.compiled() == set()
        project.back_date(project.stamp, 3_000_000_000)
        project.back_date(project.write(str(told), "two"), time)
        assert project.compiled() == {NEW_PATH}

    def test_is_not_where_its_content_is_in_its_name(self, told: Path, project: Project) -> None:
        kept = project.write(f"target/{KEPT_CONFIGURATION}0.txt")
        value = {"RerunIfEnvChanged": {"var": "PYO3_CONFIG_FILE", "val": str(kept)}}
        project.left("pyo3-ffi", run=facts(value, {"RerunIfChanged": {"output": "", "paths": [str(kept)]}}))
        assert project.compiled() == set()
        project.write("src/lib.rs", "two")
        project.back_date(project.stamp, 3_000_000_000)
        assert project.compiled() == {"tiny"}


class TestTheStampOfWhatIsInPlace:
    """Left beside the new one until the units are put aside."""

    def test_is_kept_where_the_path_is_new(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also on Windows, where a file is not renamed to one that is there."""
        rename = os.rename

        def as_on_windows(source: str, target: str) -> None:
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
            rename(source, target)

        monkeypatch.setattr(os, "rename", as_on_windows)
        workshop.settled()
        for root in ("first", "second"):
            before = workshop.stamp.read_bytes()
            workshop.root = workshop.root.parent / root
            workshop.write("src/lib.rs")
            assert workshop.verdict() == NEW_PATH
            assert workshop.stamp.with_name(OLD_STAMP).read_bytes() == before

    def test_is_empty_where_there_was_none(self, project: Project) -> None:
        project.declared(str(project.root / "x"))
        project.built()
        assert project.verdict() == NEW_PATH
        assert project.stamp.with_name(OLD_STAMP).read_bytes() == b""


class TestANonceThatAWorkspaceHadBefore:
    NONCE = "0a1b2c3d"

    def put_aside(
        self, project: Project, root: str = "", nonce: str = NONCE, configuration: str = ""
    ) -> None:
        """Let units be on the shelf, with the stamp of the last build for which they were in place."""
        sources = {CONFIGURATION + configuration: Source("state", 0, 0)} if configuration else {}
        shelf = Shelf(str(project.build / "debug"))
        folder = shelf.temporary()
        write_stamp(folder, root or str(project.root), nonce, sources)
        call = CallNote(str(project.root), {}, {})
        shelf.commit(folder, {"PYO3_PYTHON": f"/{root}{nonce}{configuration}"}, call, {})

    def another_was_here(self, project: Project) -> None:
        other = Project(project.root.parent / "second")
        other.build = project.build
        other.nonce()

    def test_is_given_again_where_another_was_here_last(self, project: Project) -> None:
        self.put_aside(project)
        self.another_was_here(project)
        assert project.nonce() == self.NONCE

    @pytest.mark.parametrize("why", [{"root": "/elsewhere"}, {"nonce": ""}, {"configuration": "/x.toml"}])
    def test_is_not_that_of_anything_else(self, why: dict[str, str], project: Project) -> None:
        self.put_aside(project, **why)
        self.another_was_here(project)
        assert project.nonce() not in ("", self.NONCE)

    def test_is_not_given_again_where_its_units_are_in_place(self, project: Project) -> None:
        """Nothing tells whether those can be trusted."""
        self.put_aside(project)
        self.another_was_here(project)
        project.left("pyo3", run=facts(ASKED).replace("/a", f"/environments/x-{self.NONCE}/bin/python"))
        assert re.fullmatch("[0-9a-f]{8}", project.nonce())
        assert project.last != self.NONCE

    def test_is_not_given_again_where_no_other_was_here(self, project: Project) -> None:
        """What was in doubt may be on the shelf, too."""
        project.settled()
        self.put_aside(project)
        project.declared(str(project.root / "x"))
        project.write("src/lib.rs", "two")
        assert re.fullmatch("[0-9a-f]{8}", project.nonce())
        assert project.last != self.NONCE


class TestACallWhoseVariablesAreNotOurs:
    """It keeps its path, whatever is in doubt; its units may be put aside only if a stamp was left."""

    def refreshed(self, project: Project) -> bool:
        return freshness.refresh(project.workspace())

    def test_leaves_a_stamp_in_a_new_folder(self, project: Project) -> None:
        assert self.refreshed(project)
        found = read_stamp(str(project.stamp))
        assert found is not None
        assert (found.root, found.nonce) == (str(project.root), "")
        assert str(project.root / "src" / "lib.rs") in found.files
        assert (project.build / "CACHEDIR.TAG").exists()

    def test_keeps_the_nonce_and_the_units_where_nothing_is_in_doubt(self, project: Project) -> None:
        project.settled()
        project.stamp.write_text(project.stamp.read_text().replace("\0\0", "\x000a1b2c3d\0", 1))
        project.back_date(project.stamp, 3_000_000_000)
        project.left("elsewhere", dep_info("src/lib.rs"))  # it cannot be compiled in each call of an editor
        assert self.refreshed(project)
        found = read_stamp(str(project.stamp))
        assert found is not None
        assert found.nonce == "0a1b2c3d"
        assert project.stamp.stat().st_mtime != 3_000_000_000
        assert project.units(project.build) == {"a", "b b", "elsewhere", "pyo3", "tiny"}

    def test_has_compiled_what_is_in_doubt(self, project: Project) -> None:
        project.settled()
        project.write("a/src/lib.rs", "two")
        assert self.refreshed(project)
        assert project.units(project.build) == {"b b", "pyo3"}

    @pytest.mark.parametrize("is_ours", [True, False])
    def test_trusts_cargo_where_there_is_no_stamp_unless_units_are_for_us(
        self, is_ours: bool, project: Project
    ) -> None:
        project.built()
        if is_ours:
            project.left("pyo3", run=facts(ASKED).replace("/a", "/cache/environments/0123/bin/python"))
        assert self.refreshed(project)
        assert project.stamp.exists()
        assert project.units(project.build) == ({"pyo3"} if is_ours else {"a", "b b", "pyo3", "tiny"})

    @pytest.mark.parametrize("time", [1_000_000_000, 5_000_000_000])
    @pytest.mark.parametrize("text", ["", "pyo3-envshim stamp 2\0/work\0\0end"])
    def test_has_compiled_what_is_local_where_the_stamp_says_nothing(
        self, text: str, time: int, project: Project
    ) -> None:
        """It was cut short, or is another release's: then it is replaced, and the next build is as ever."""
        project.built()
        project.stamp.write_text(text)
        assert not self.refreshed(project)  # it may just be being written
        assert project.stamp.read_text() == text
        project.built()
        project.back_date(project.stamp, time)
        assert self.refreshed(project)
        assert project.units(project.build) == {"pyo3"}
        found = read_stamp(str(project.stamp))
        assert found is not None
        assert re.fullmatch("[0-9a-f]{8}", found.nonce)  # not known, so not anyone's

    def test_leaves_what_only_a_nonce_would_help(self, project: Project) -> None:
        project.settled()
        before = project.stamp.read_bytes()
        project.declared(str(project.root / "x"))
        project.write("src/lib.rs", "two")
        assert not self.refreshed(project)
        assert (project.stamp.read_bytes(), "tiny" in project.units(project.build)) == (before, True)

    def test_leaves_the_stamp_of_another_workspace(self, project: Project) -> None:
        project.settled()
        before = project.stamp.read_bytes()
        other = Project(project.root.parent / "second")
        other.build = project.build
        assert not self.refreshed(other)
        assert (project.stamp.read_bytes(), "tiny" in project.units(project.build)) == (before, True)

    def test_is_not_the_first_where_another_was_faster(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def meanwhile(*_: object) -> list[str]:
            write_stamp(str(project.stamp.parent), "/elsewhere", "", {})
            return []

        monkeypatch.setattr(assessment, "doubtful", meanwhile)
        assert not self.refreshed(project)

    @pytest.mark.parametrize("python", ["", "/usr/bin/python3"])
    def test_knows_of_an_environment_what_pyo3_is_about_to_declare(
        self, project: Project, python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
        monkeypatch.setenv("PYO3_PYTHON", python)
        configuration = tmp_path / "pyvenv.cfg"
        (tmp_path / "another").touch()
        assert self.refreshed(project)  # there is none
        configuration.touch()
        assert self.refreshed(project)
        found = read_stamp(str(project.stamp))
        assert found is not None
        assert (str(configuration) in found.files) == (not python)
        assert str(tmp_path / "another") not in found.files


class TestASetThatComesBack:
    """Its units lie in another folder, with the stamp of the last build for which they were in place."""

    @pytest.fixture
    def place(self, project: Project) -> Path:
        project.settled()
        place = project.build / "debug" / ".envshim-sets" / "tmp-1"
        (place / "debug").mkdir(parents=True)
        (project.build / "debug" / ".fingerprint").rename(place / "debug" / ".fingerprint")
        project.stamp.rename(place / STAMP)
        return place

    def test_is_as_it_was_where_nothing_is_in_doubt(self, place: Path, project: Project) -> None:
        sources = freshness.judge_set(project.workspace(), str(place))
        assert {str(project.root / name) for name in ("src/lib.rs", "a/src/lib.rs")} <= sources.keys()
        assert project.units(place) == {"a", "b b", "pyo3", "tiny"}

    def test_loses_what_is_in_doubt(self, place: Path, project: Project) -> None:
        project.write("a/src/lib.rs", "two")
        freshness.judge_set(project.workspace(), str(place))
        assert project.units(place) == {"b b", "pyo3"}

    def test_loses_what_others_have_written_since(self, place: Path, project: Project) -> None:
        """Its outputs may be another package's."""
        unit = place / "debug" / ".fingerprint" / UNIT
        (unit / "lib-tiny").write_text("0123456789abcdef")
        library = place / "debug" / "deps" / "libtiny.so"
        library.parent.mkdir()
        library.touch()
        os.utime(library, (1, 1))
        freshness.judge_set(project.workspace(), str(place))
        assert "tiny" in project.units(place)
        os.utime(library, (4_000_000_000, 4_000_000_000))
        freshness.judge_set(project.workspace(), str(place))
        assert project.units(place) == {"a", "b b", "pyo3"}

    def test_loses_what_lies_nobody_knows_where_and_needs_what_has_stayed(
        self, place: Path, project: Project
    ) -> None:
        """The set is for another variable, so that PyO3 is not in it."""
        lock = project.root / "Cargo.lock"
        lock.write_text(
            f'{lock.read_text()}[[package]]\nname = "extra"\ndependencies = [\n "pyo3",\n]\n'
            '[[package]]\nname = "asks"\n'
        )
        project.back_date(lock)
        units = place / "debug" / ".fingerprint"
        project.left("extra", dep_info("src/lib.rs"))
        project.left("asks", run=facts(ASKED))
        for unit in list((project.build / "debug" / ".fingerprint").iterdir()):
            unit.rename(units / unit.name)
        (units / f"pyo3-{OTHER}").rename(project.build / "debug" / ".fingerprint" / f"pyo3-{OTHER}")
        freshness.judge_set(project.workspace(), str(place))
        assert project.units(place) == {"a", "asks", "b b"}

    def test_loses_what_is_local_without_a_stamp(self, place: Path, project: Project) -> None:
        """Where a macro may have read a newer file, too."""
        project.write(f"target/debug/deps/libsqlx_macros-{OTHER}.so")
        project.back_date(project.write("a/src/lib.rs", "two"), 4_000_000_001)
        (place / STAMP).unlink()
        freshness.judge_set(project.workspace(), str(place))
        assert project.units(place) == {"pyo3"}

    def test_loses_all_where_only_a_nonce_would_help(self, place: Path, project: Project) -> None:
        """The configuration was another one."""
        stamp = read_stamp(str(place / STAMP))
        assert stamp is not None
        write_stamp(str(place), stamp.root, "", {f"{CONFIGURATION}/config.toml": Source("state", 0, 0)})
        freshness.judge_set(project.workspace(), str(place))
        assert project.units(place) == set()

    def test_adds_its_sources_to_the_stamp_and_changes_none(self, project: Project) -> None:
        profile = str(project.stamp.parent)
        write_stamp(profile, "/work", "0a1b2c3d", {"/x": Source("known", 1, 1)})
        sources = {path: Source("new", 1, 1) for path in ("/x", "/y")}
        freshness.add_to_stamp(project.workspace(), sources)
        found = read_stamp(str(project.stamp))
        assert found is not None
        assert (found.root, found.nonce, found.files) == ("/work", "0a1b2c3d", {"/x": "known", "/y": "new"})

    def test_makes_no_stamp(self, project: Project) -> None:
        freshness.add_to_stamp(project.workspace(), {})
        assert not project.stamp.exists()


class TestWhereRustcAloneReads:
    """No build script, no macros but PyO3's: what cargo noted is all there is."""

    @pytest.fixture
    def workshop(self, tmp_path: Path) -> Workshop:
        workshop = Workshop(tmp_path)
        workshop.scripts = False
        workshop.write(f"target/debug/deps/tiny-{UNIT[-16:]}.d", "x: src/lib.rs\n\nsrc/lib.rs:\n")
        return workshop

    @pytest.mark.parametrize("name", ["node_modules/x/y.js", "NOTES.txt", "src/other.rs"])
    def test_other_files_raise_no_doubt(self, name: str, workshop: Workshop) -> None:
        workshop.settled()
        workshop.write(name)
        assert workshop.verdict() == TRUSTED

    def test_what_was_read_and_is_newer_raises_none_though_the_package_has_checksums(
        self, workshop: Workshop
    ) -> None:
        """As one that was unpacked from a registry: it is no vendored crate for all that."""
        workshop.write(".cargo-checksum.json")
        workshop.settled()
        workshop.back_date(workshop.write("src/lib.rs", "two"), 4_000_000_001)
        assert workshop.verdict() == TRUSTED

    @pytest.mark.parametrize("name", ["src/lib.rs", "Cargo.toml"])
    def test_what_was_read_raises_doubt(self, name: str, workshop: Workshop) -> None:
        workshop.settled()
        workshop.write(name, "two")
        assert workshop.verdict() == COMPILED

    @pytest.mark.parametrize("crate", ["", "src"])
    def test_other_folders_are_neither_listed_nor_kept_in_mind(
        self, crate: str, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workshop.crates = [workshop.root / crate]
        workshop.write("node_modules/x/y.js")
        workshop.settled()
        listed: list[str] = []
        scandir = os.scandir

        def scan(path: str) -> Any:
            listed.append(path)
            return scandir(path)

        monkeypatch.setattr(os, "scandir", scan)
        assert workshop.verdict() == TRUSTED
        assert sorted(listed) == sorted({str(workshop.root), str(workshop.root / crate)})
        assert "node_modules" not in workshop.stamp.read_text()

    def test_what_it_reads_for_the_first_time_and_was_there_raises_none(self, workshop: Workshop) -> None:
        workshop.write("src/deep/er.rs")
        workshop.settled()
        workshop.noted = dep_info("src/lib.rs", "src/deep/er.rs")
        workshop.built()
        assert workshop.verdict() == TRUSTED

    def test_a_link_on_the_way_raises_doubt(self, workshop: Workshop) -> None:
        """The crate's root is a link to another folder, and then to a third."""
        for name in ("one", "two"):
            workshop.write(f"../{name}/lib.rs", name)
        (workshop.root / "src" / "lib.rs").unlink()
        (workshop.root / "src").rmdir()
        (workshop.root / "src").symlink_to("../one")
        workshop.noted = dep_info(str(workshop.root.parent / "one" / "lib.rs"))
        workshop.nonce()
        workshop.built()
        workshop.nonce()  # what lies outside is known from the second build on
        workshop.back_date(workshop.stamp, 3_000_000_000)
        workshop.built()
        assert workshop.verdict() == TRUSTED
        workshop.back_date(workshop.stamp, 3_000_000_000)
        (workshop.root / "src").unlink()
        (workshop.root / "src").symlink_to("../two")
        assert workshop.verdict() == COMPILED


class TestAFolderThatCannotBeRead:
    @pytest.mark.parametrize("scripts", [True, False])
    def test_holds_nothing(self, scripts: bool, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        """A data base's, of another user, who alone may look into it."""
        workshop.scripts = scripts
        workshop.write("pgdata/base/1")
        scandir, stat = os.scandir, os.stat

        def refuse(path: Any, *rest: Any, **more: Any) -> Any:
            if f"{os.fspath(path)}/".partition("pgdata/")[2]:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return stat(path, *rest, **more)

        def scan(path: str) -> Any:
            return refuse(path + "/x") if path.endswith("pgdata") else scandir(path)

        monkeypatch.setattr(os, "stat", refuse)
        monkeypatch.setattr(os, "scandir", scan)
        workshop.settled()
        assert workshop.verdict() == TRUSTED

    @pytest.mark.skipif(not IS_ROOT, reason="only root can give a folder to another user")
    @pytest.mark.parametrize("scripts", [True, False])
    def test_raises_no_doubt(self, scripts: bool) -> None:
        """The shim was off for good."""
        code = "import encodings.ascii, os, sys\n"  # all of them before it cannot read them any more
        code += "from pyo3_envshim import freshness; from pyo3_envshim.environment import hashing\n"
        code += "from pyo3_envshim.cargo.metadata import Workspace\n"
        code += "os.setuid(65534); os.environ['HOME'] = '/nonexistent'; folder = sys.argv[1]\n"
        code += "answer = dict(workspace_root=folder, target_directory=folder + '/target', packages=[])\n"
        code += f"workspace = Workspace(answer, []); workspace.scripts = {scripts}\n"
        code += "workspace.packages = {folder: {'tiny'}}\n"
        code += "print([freshness.nonce_for(workspace) for _ in 'ab'])"
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            for name in ("", "src", "pgdata", "pgdata/base"):
                os.makedirs(os.path.join(folder, name), exist_ok=True)
                os.chmod(os.path.join(folder, name), 0o777)
                Path(folder, name, "x").touch()
            Path(folder, "pgdata").chmod(0o700)
            assert run([sys.executable, "-c", code, folder], {}, ROOT) == "['', '']\n"


class TestAFileThatCargoReadsItsConfigurationFrom:
    @pytest.fixture
    def path(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(workshop.root)
        return workshop.write(".cargo/config.toml", "one")

    def test_raises_no_doubt_if_it_is_written_again(self, workshop: Workshop, path: Path) -> None:
        workshop.settled()
        path.write_text("one")
        assert workshop.verdict() == TRUSTED

    @pytest.mark.parametrize("change", [lambda path: path.write_text("two"), Path.unlink])
    def test_makes_the_path_new(
        self, workshop: Workshop, path: Path, change: Callable[[Path], object]
    ) -> None:
        workshop.settled()
        change(path)
        assert workshop.verdict() == NEW_PATH

    @pytest.mark.parametrize("home", ["home", ""])
    def test_may_lie_in_cargos_home(
        self, home: str, workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CARGO_HOME", str(tmp_path / home) if home else "")
        monkeypatch.setenv("USERPROFILE" if os.name == "nt" else "HOME", str(tmp_path / "user"))
        workshop.settled()
        workshop.write(f"../{home or 'user/.cargo'}/config.toml", "one")
        assert workshop.verdict() == NEW_PATH


UNSEEN: dict[str, Callable[[Workshop], object]] = {
    "nothing changed": lambda workshop: None,
    "a hidden folder": lambda workshop: workshop.write(".git/index"),
    "the project's own environment": lambda workshop: workshop.write("venv/lib/x.py"),
    "a tagged cache": lambda workshop: workshop.write("cache/x.rs"),
    "the target folder": lambda workshop: workshop.write("target/debug/build/x/out/x.rs"),
    "byte code": lambda workshop: workshop.write(".mypy_cache/x.json"),
    "a link to itself": lambda workshop: (workshop.root / "circle").symlink_to("circle"),
    "a dangling link": lambda workshop: (workshop.root / "dangling").symlink_to("nothing"),
    "a file that is newer than the last build": lambda workshop: workshop.back_date(
        workshop.write("src/lib.rs", "two"), 4_000_000_001
    ),
    "what setuptools copies": lambda workshop: [
        workshop.write(f"build/{kind}.linux-x86_64-cpython-39/x.py") for kind in ("lib", "temp", "bdist")
    ],
    "a removed file": lambda workshop: remove(workshop, 4_000_000_001),
}


class TestANonceStays:
    def test_empty_in_a_new_folder(self, workshop: Workshop) -> None:
        assert workshop.nonce() == ""

    @pytest.mark.parametrize("what", UNSEEN)
    @pytest.mark.parametrize("used", [False, True], ids=["without", "with"])
    def test_where_cargo_is_not_misled(self, what: str, used: bool, workshop: Workshop) -> None:
        workshop.write("venv/pyvenv.cfg")
        workshop.write("cache/CACHEDIR.TAG")
        if used:
            workshop.built()
        workshop.settled()
        UNSEEN[what](workshop)
        assert workshop.verdict() == TRUSTED

    def test_where_the_build_folder_is_outside_of_the_workspace(
        self, workshop: Workshop, tmp_path: Path
    ) -> None:
        workshop.build = tmp_path / "elsewhere" / "build"
        workshop.settled()
        assert workshop.last == ""

    def test_where_the_workspace_is_reached_through_links_in_a_circle(self, workshop: Workshop) -> None:
        (workshop.root / "src" / "again").symlink_to("..")
        workshop.settled()
        assert workshop.last == ""


def test_where_sources_cannot_be_listed_the_guard_does_not_guess(workshop: Workshop) -> None:
    workshop.packages.append(workshop.root / "gone")
    with pytest.raises(OSError, match="gone"):
        workshop.nonce()


def test_where_the_stamp_cannot_be_written_the_guard_does_not_guess(workshop: Workshop) -> None:
    workshop.build.write_text("a file")
    with pytest.raises(OSError, match="target"):
        workshop.nonce()


class TestWhatCargoNotedAsInputs:
    def noted(self, workshop: Workshop, content: bytes) -> None:
        workshop.noted = content
        workshop.built()

    def test_is_watched_in_a_hidden_folder(self, workshop: Workshop) -> None:
        workshop.write(".hidden/x.rs", "one")
        self.noted(workshop, dep_info("src/lib.rs", ".hidden/x.rs"))
        workshop.settled()
        workshop.write(".hidden/x.rs", "two")
        assert workshop.verdict() == COMPILED

    def test_is_watched_in_a_folder_that_was_asked_for(self, workshop: Workshop) -> None:
        workshop.write(".hidden/deep/x.rs", "one")
        self.noted(workshop, dep_info("src/lib.rs", ".hidden"))
        workshop.settled()
        workshop.write(".hidden/deep/x.rs", "two")
        assert workshop.verdict() == COMPILED

    def noted_after_the_first_build(self, workshop: Workshop, name: str) -> bool:
        """Tell whether what cargo noted only now was known before."""
        workshop.nonce()
        os.utime(workshop.stamp, (3_000_000_000, 3_000_000_000))
        self.noted(workshop, dep_info("src/lib.rs", name))
        return workshop.verdict() == TRUSTED

    def test_is_one_file_by_any_name(self, workshop: Workshop) -> None:
        """cryptography's build script asks for ../../cryptography/__about__.py."""
        workshop.write("data/x")
        assert self.noted_after_the_first_build(workshop, "src/../data/x")

    def test_is_another_file_behind_a_link(self, workshop: Workshop, tmp_path: Path) -> None:
        workshop.write("x")
        (tmp_path / "elsewhere" / "folder").mkdir(parents=True)
        (workshop.root / "linked").symlink_to(tmp_path / "elsewhere" / "folder")
        workshop.back_date(workshop.write("../elsewhere/x"))
        assert not self.noted_after_the_first_build(workshop, "linked/../x")

    def test_is_where_a_package_was_reached_by_a_link(self, workshop: Workshop, tmp_path: Path) -> None:
        """What is named by way of its folder may lie elsewhere now."""
        (tmp_path / "real").mkdir()
        (tmp_path / "linked").symlink_to("real")
        workshop.packages.append(tmp_path / "linked")
        workshop.settled()
        (tmp_path / "linked").unlink()
        (tmp_path / "real").rename(tmp_path / "linked")
        assert workshop.verdict() == COMPILED

    def test_is_not_watched_in_the_build_folder(self, workshop: Workshop) -> None:
        """What build scripts make there is cargo's to follow."""
        workshop.write("target/debug/build/out/x.rs", "one")
        self.noted(workshop, dep_info("src/lib.rs", "target/debug/build/out/x.rs"))
        workshop.settled()
        workshop.write("target/debug/build/out/x.rs", "two")
        assert workshop.verdict() == TRUSTED


def test_a_new_build_folder_holds_the_stamp_and_cargos_tag_for_caches(workshop: Workshop) -> None:
    workshop.nonce()
    assert set(tree(workshop.build)) == {f"debug/{STAMP}", "CACHEDIR.TAG"}


def test_a_build_folder_that_is_there_is_not_tagged(workshop: Workshop) -> None:
    """Someone made it, and may keep more in it."""
    workshop.build.mkdir()
    workshop.nonce()
    assert set(tree(workshop.build)) == {f"debug/{STAMP}"}


def test_a_build_folder_that_another_makes_just_now_is_used(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = iter([False])
    really = os.path.isdir
    workshop.build.mkdir()
    monkeypatch.setattr(os.path, "isdir", lambda path: next(seen, True) and really(path))
    assert workshop.nonce() == ""


IN_ASCII = """
import sys
import tempfile
from pyo3_envshim.cargo import inputs, target_dir
from pyo3_envshim.stamp import STAMP, read_stamp, write_stamp
_, build, root, other = sys.argv
write_stamp(other, "/\\u00fc", "", {})
stamp = read_stamp(build + "/" + STAMP)
notes = inputs.read_notes([build + "/debug"], [], build)
rustcs = inputs.read_by_rustc(notes).names
print(ascii((stamp.files, sorted(notes.inputs["tiny"]), rustcs)))
"""


def test_what_was_left_is_read_whatever_the_locale(workshop: Workshop, tmp_path: Path) -> None:
    unit = workshop.build / "debug" / ".fingerprint" / "tiny-0"
    unit.mkdir(parents=True)
    (unit / "dep-lib-tiny").write_bytes(dep_info("src/lib.rs"))
    note = {"local": [{"RerunIfChanged": {"output": "", "paths": ["/\u00fc"]}}]}
    (unit / "run-build-script-build-script-build.json").write_text(
        json.dumps(note, ensure_ascii=False), "utf-8"
    )
    workshop.write("target/debug/deps/tiny.d").write_text("/\u00fc:\n", "utf-8")
    write_stamp(str(workshop.build), "/", "", {"/\u00fc": Source("1-2", 1, 1)})
    environ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", IN_ASCII, *map(str, (workshop.build, workshop.root, tmp_path / "other"))]
    expected = {"/\u00fc": "1-2"}, sorted(["/\u00fc", "src/lib.rs"]), {"/\u00fc"}
    assert run(command, environ, ROOT) == f"{expected!a}\n"
    found = read_stamp(str(tmp_path / "other" / STAMP))
    assert found is not None
    assert found.root == "/\u00fc"
