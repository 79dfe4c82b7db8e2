"""Which sources cargo may misjudge."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim.assessment import Assessment, assess, doubtful
from pyo3_envshim.sources import LINK, Source
from pyo3_envshim.stamp import Stamp

from .test_freshness import UNIT, Workshop
from .test_inputs import dep_info
from .test_units import OTHER, facts

SECOND = 1_000_000_000
# A build from 100.5 s to 200.5 s, of one file that was last changed at 50.5 s.
START, END = 100 * SECOND + 5, 200 * SECOND + 5
BEFORE, DURING, AFTER = 50 * SECOND + 5, 150 * SECOND + 5, 250 * SECOND + 5
FILE = "/work/src/lib.rs"


def stamp(root: str = "/work", start: int = START, files: tuple[str, ...] = (FILE,)) -> Stamp:
    return Stamp(root, "0a1b2c3d", start, dict.fromkeys(files, "same"))


def trusted(source: Source | None, of: Stamp | None, end: int | None) -> bool:
    return doubtful({FILE: source} if source else {}, of, end) == []


class TestTimeStampsAreTrusted:
    def test_in_a_new_folder(self) -> None:
        assert trusted(Source("any", AFTER, AFTER), None, None)

    def test_for_the_very_file_that_was_there_before_the_build(self) -> None:
        assert trusted(Source("same", BEFORE, BEFORE), stamp(), END)

    def test_for_a_file_that_cargo_sees_to_be_newer(self) -> None:
        assert trusted(Source("other", AFTER, AFTER), stamp(), END)

    def test_for_a_file_from_the_future(self) -> None:
        assert trusted(Source("other", AFTER * 100, AFTER), stamp(), END)

    def test_where_a_file_was_removed(self) -> None:
        assert trusted(None, stamp(), END)

    def test_where_nothing_local_is_left_of_the_last_build(self) -> None:
        assert trusted(Source("other", BEFORE, BEFORE), stamp(), None)


class TestTimeStampsAreDoubted:
    def test_for_an_older_file_that_was_not_there(self) -> None:
        assert not trusted(Source("other", BEFORE, BEFORE), Stamp("/work", "", START, {}), END)

    def test_for_another_file_in_its_place(self) -> None:
        assert not trusted(Source("other", BEFORE, AFTER), stamp(), END)

    def test_for_another_file_in_its_place_after_the_clock_stepped_back(self) -> None:
        assert not trusted(Source("other", BEFORE, BEFORE), stamp(), END)

    def test_for_a_file_that_changed_while_cargo_was_building(self) -> None:
        """Written after the stamp, before the end: cargo may have read the old one or the new one."""
        assert not trusted(Source("other", DURING, DURING), stamp(), END)

    def test_for_a_file_that_changed_as_the_build_started(self) -> None:
        """The state in the stamp may be the one before a change within the clock's grain."""
        assert not trusted(Source("same", START, START), stamp(), END)
        assert trusted(Source("same", START - 1, START - 1), stamp(), END)

    def test_for_a_file_as_old_as_the_end_of_the_build(self) -> None:
        assert not trusted(Source("other", END, END), stamp(), END)
        assert trusted(Source("other", END + 1, END + 1), stamp(), END)

    def test_where_there_is_no_stamp(self) -> None:
        assert not trusted(Source("any", BEFORE, BEFORE), None, END)
        assert not trusted(Source("any", AFTER, AFTER), None, END)

    def test_for_a_newer_link_that_leads_elsewhere(self) -> None:
        assert not trusted(Source(LINK, AFTER, AFTER), stamp(), END)

    def test_for_one_file_among_many(self) -> None:
        good = {f"/work/{n}.rs": Source("same", BEFORE, BEFORE) for n in range(5)}
        known = stamp(files=(*good, FILE))
        assert doubtful(good, known, END) == []
        assert doubtful({**good, FILE: Source("other", BEFORE, BEFORE)}, known, END) == [FILE]

    def test_for_a_file_of_a_coarse_file_system_that_may_have_changed_after_the_start(self) -> None:
        """A time without a fraction may be one of FAT's, which count two seconds."""
        assert not trusted(Source("same", 100 * SECOND, 100 * SECOND), stamp(start=100 * SECOND + 5), END)
        assert not trusted(Source("same", 98 * SECOND, 98 * SECOND), stamp(start=100 * SECOND), END)
        assert trusted(Source("same", 98 * SECOND, 98 * SECOND), stamp(start=100 * SECOND + 1), END)


STATES = st.sampled_from(["one", "two"])
TIMES = st.integers(1, 8).map(lambda n: n * SECOND // 2 + 1)
SOURCES = st.builds(Source, STATES, TIMES, TIMES)


@given(
    st.dictionaries(st.sampled_from("abc"), SOURCES),
    st.dictionaries(st.sampled_from("abc"), STATES),
    TIMES,
    st.one_of(st.none(), TIMES),
)
def test_whatever_is_trusted_is_new_to_cargo_or_was_there(
    sources: dict[str, Source], files: dict[str, str], start: int, end: int | None
) -> None:
    """The sentence that the module's docstring puts first, in other words."""
    doubted = []
    for path, source in sources.items():
        seen = end is not None and source.mtime > end
        if not (seen or (files.get(path) == source.state and source.ctime < start)):
            doubted.append(path)
    assert doubtful(sources, Stamp("/work", "", start, files), end) == ([] if end is None else doubted)
    assert doubtful(sources, None, end) == ([] if end is None else None)


RUSTCS = f"target/debug/deps/tiny-{UNIT[-16:]}.d"


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARGO_HOME", str(tmp_path / "home"))
    workshop = Workshop(tmp_path / "here")
    workshop.write(RUSTCS, "x: src/lib.rs\n\nsrc/lib.rs:\n")
    for name in ("data.txt", ".data/x", "wrapper", "vendor/x/lib.rs"):
        workshop.write(name)
    return workshop


def assessed(workshop: Workshop, **settings: Any) -> Assessment:
    """Return what is known if a build starts; *settings* are those of the `Workspace`."""
    workspace = workshop.workspace()
    for name, value in settings.items():
        setattr(workspace, name, value)
    return assess(workspace, str(workshop.build), "debug")


def doubted(workshop: Workshop, **settings: Any) -> set[str]:
    """Return the sources that are in doubt, relative to the workspace's root."""
    found = assessed(workshop, **settings).doubted
    return {os.path.relpath(path, workshop.root) for path in found or ()}


def no_change(workshop: Workshop) -> None:
    pass


def unknown_macro(workshop: Workshop) -> None:
    workshop.write(f"target/debug/deps/libsqlx_macros-{OTHER}.so")


def script_without_directives(workshop: Workshop) -> None:
    workshop.left("tiny", dep_info("src/lib.rs"), facts({"Precalculated": "1"}))


def being_compiled(workshop: Workshop) -> None:
    (workshop.root / RUSTCS).unlink()


def nothing_noted(workshop: Workshop) -> None:
    workshop.noted = dep_info()


def package_elsewhere(workshop: Workshop) -> None:
    workshop.left("elsewhere", dep_info("src/lib.rs"))


def crate_that_declares(workshop: Workshop) -> None:
    declared = {"RerunIfChanged": {"output": "", "paths": [f"{workshop.root}/x"]}}
    workshop.left("other", run=facts(declared))


def configured(text: str) -> Callable[[Workshop], None]:
    def write(workshop: Workshop) -> None:
        workshop.write("../../.cargo/config.toml", text)

    return write


class TestWhatNobodyNotedIsInDoubtThoughItIsNewer:
    """Where more than rustc, and build scripts that told what they read, may have read it."""

    def newer(self, workshop: Workshop, *names: str, reader: Callable[[Workshop], None] = no_change) -> None:
        workshop.settled()
        reader(workshop)
        for name in names:
            workshop.back_date(workshop.write(name, "two"), 4_000_000_001)

    @pytest.mark.parametrize(
        "reader", [unknown_macro, script_without_directives, configured("rustflags = ['-Clink-arg=/x.o']")]
    )
    def test_if_so(self, reader: Callable[[Workshop], None], workshop: Workshop) -> None:
        self.newer(workshop, "data.txt", "src/lib.rs", "Cargo.toml", reader=reader)
        assert doubted(workshop) - {".data/x"} == {"data.txt", "Cargo.toml"}

    def test_if_flags_on_the_command_line_name_files(self, workshop: Workshop) -> None:
        self.newer(workshop, "data.txt", "src/lib.rs")
        assert doubted(workshop, flags=["-Clink-arg=/x.o"]) == {"data.txt"}

    def test_if_it_is_a_program_that_cargo_starts_to_compile(self, workshop: Workshop) -> None:
        self.newer(workshop, "wrapper", "data.txt", reader=configured("rustc-wrapper = 'here/work/wrapper'"))
        assert doubted(workshop) == {"wrapper"}

    def test_and_otherwise_not(self, workshop: Workshop) -> None:
        self.newer(workshop, "data.txt", "src/lib.rs", "Cargo.toml", "wrapper")
        assert doubted(workshop) == set()


class TestWhatNobodyReadIsInDoubt:
    """Where more than rustc may have read it, in some cases in hidden folders too."""

    @pytest.mark.parametrize(
        ("reader", "settings", "is_in_doubt", "is_if_hidden"),
        [
            (no_change, {}, False, False),
            (no_change, {"scripts": True}, True, False),
            (no_change, {"settings": ["x.toml"]}, True, False),
            (being_compiled, {}, True, False),
            (package_elsewhere, {}, True, False),
            (crate_that_declares, {}, True, False),
            (script_without_directives, {}, True, True),
            (unknown_macro, {}, True, True),
            (nothing_noted, {}, True, True),
            (configured("[source.x]\ndirectory = 'here/work/vendor'"), {}, True, True),
        ],
    )
    def test_if_so(
        self,
        reader: Callable[[Workshop], None],
        settings: dict[str, Any],
        is_in_doubt: bool,
        is_if_hidden: bool,
        workshop: Workshop,
    ) -> None:
        workshop.scripts = False
        workshop.nonce()
        reader(workshop)
        workshop.built()
        for name in ("data.txt", ".data/x"):
            workshop.write(name, "two")
        expected = {"data.txt"} if is_in_doubt else set()
        assert doubted(workshop, **settings) == expected | ({".data/x"} if is_if_hidden else set())


class TestWhatIsLookedAt:
    """By what is in doubt if it changes, and keeps its time."""

    def changed(self, workshop: Workshop, *names: str, **settings: Any) -> set[str]:
        """Return which of some files are in doubt if they change after a build."""
        for name in names:
            workshop.write(name, "one")
        workshop.nonce()
        workshop.back_date(workshop.stamp, 3_000_000_000)
        workshop.built()
        for name in names:
            workshop.write(name, "two")
        return doubted(workshop, **settings) & {os.path.normpath(name) for name in names}

    def test_what_rustc_read_by_the_names_that_it_used(self, workshop: Workshop) -> None:
        """Relative to the workspace, wherever cargo runs; cargo notes where links led."""
        workshop.scripts = False
        for name in ("one", "two"):
            workshop.write(f"{name}/mod.rs")
        (workshop.root / "gen").symlink_to("one")
        workshop.write(RUSTCS, "x: src/lib.rs gen/mod.rs\n\nsrc/lib.rs:\ngen/mod.rs:\n")
        workshop.noted = dep_info("src/lib.rs", "one/mod.rs")
        workshop.settled()
        (workshop.root / "gen").unlink()
        (workshop.root / "gen").symlink_to("two")
        assert any(path.startswith("gen/") for path in doubted(workshop))

    def test_nothing_below_what_cargo_is_to_leave_out(self, workshop: Workshop) -> None:
        """Not even what was read: an environment in the store, say."""
        names = ("../store/x", "../store-of-mine/x")
        workshop.noted = dep_info("src/lib.rs", *(os.path.normpath(workshop.root / it) for it in names))
        for name in names:
            workshop.write(name)
        exclude = [str(workshop.build), str(workshop.root.parent / "store")]
        assert self.changed(workshop, *names, exclude=exclude) == {"../store-of-mine/x"}

    @pytest.mark.parametrize("package", ["../store", "../store/package"])
    def test_all_that_was_read_there_if_a_package_lies_in_it(self, package: str, workshop: Workshop) -> None:
        name = "../store/.x/y"
        workshop.noted = dep_info(str(workshop.write(name).resolve()))
        workshop.packages.append(workshop.write(f"{package}/Cargo.toml").parent)
        exclude = [str(workshop.build), str(workshop.root.parent / "store")]
        assert self.changed(workshop, name, exclude=exclude) == {name}

    def test_nothing_of_cargos_in_the_project(
        self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """GitLab's jobs cache a cargo's home that lies there."""
        monkeypatch.setenv("CARGO_HOME", str(workshop.root / "cargo"))
        assert self.changed(workshop, "cargo/registry/x.rs", "data/x.rs") == {"data/x.rs"}

    @pytest.mark.parametrize(
        ("folder", "reader", "counts"),
        [
            ("here", unknown_macro, True),
            ("here", no_change, False),
            ("her", unknown_macro, False),
        ],
    )
    def test_the_python_projects_folder_above_if_macros_may_read_there(
        self,
        folder: str,
        reader: Callable[[Workshop], None],
        counts: bool,
        workshop: Workshop,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        here = workshop.write(f"../../{folder}/pyproject.toml").parent
        monkeypatch.chdir(here)
        reader(workshop)
        name = os.path.relpath(here / "migrations" / "1.sql", workshop.root)
        assert bool(self.changed(workshop, name)) == counts

    def test_no_other_folder_that_cargo_runs_in(self, workshop: Workshop) -> None:
        unknown_macro(workshop)
        assert self.changed(workshop, "../../migrations/1.sql") == set()

    @pytest.mark.parametrize("profile", ["release", "x86_64/debug"])
    def test_all_profiles_where_none_is_named(self, profile: str, workshop: Workshop) -> None:
        """In a kept build folder; the stamp lies in it then."""
        workshop.settled()
        workshop.stamp.rename(workshop.build / workshop.stamp.name)
        workshop.built(4_100_000_000, profile)
        workshop.back_date(workshop.write("src/lib.rs", "two"), 4_000_000_001)
        found = assess(workshop.workspace(), str(workshop.build))
        assert found.doubted == [str(workshop.root / "src" / "lib.rs")]


class TestAVendoredCrate:
    """cargo trusts its checksums, and looks at no times."""

    def test_counts_where_no_local_crate_was_built(self, workshop: Workshop) -> None:
        workshop.write("vendor/x/.cargo-checksum.json")
        workshop.nonce()
        workshop.back_date(workshop.left("x"), 4_000_000_000)
        workshop.write("vendor/x/lib.rs", "two")
        assert doubted(workshop) == {"vendor/x/lib.rs"}

    def test_is_why_crates_of_others_count(self, workshop: Workshop) -> None:
        """They may be such crates, whose files keep their times."""
        workshop.settled()
        workshop.back_date(workshop.left("x"), 4_200_000_000)
        workshop.back_date(workshop.write("src/lib.rs", "two"), 4_100_000_000)
        assert doubted(workshop) == set()
        workshop.back_date(workshop.write("vendor/x/.cargo-checksum.json"), 4_300_000_000)
        assert "src/lib.rs" in doubted(workshop)


def test_what_nobody_read_is_not_known_when_somebody_reads_it(workshop: Workshop) -> None:
    workshop.scripts = False
    workshop.settled()
    workshop.write("data.txt", "two")
    names = {os.path.relpath(path, workshop.root) for path in assessed(workshop).sources}
    assert ("src/lib.rs" in names, "data.txt" in names) == (True, False)
