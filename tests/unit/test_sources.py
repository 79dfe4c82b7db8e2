"""Which files are sources, and what is known of each."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyo3_envshim import sources
from pyo3_envshim.sources import EVERYTHING, FILES, HIDDEN_TOO, LINK, NOT_KNOWN, SOURCES, Listing, Source

from .environments import ROOT, run
from .posix import IS_ROOT

_TOOLS = (
    ".git",
    ".hg",
    ".jj",
    "build/lib.linux",
    "build/temp.x",
    "build/bdist.x",
    "__pycache__",
    "x.egg-info",
)
_FOLDERS = ("src", ".hidden", ".sqlx", *_TOOLS, "env", "cache", "other")
_TAGS = ("env/pyvenv.cfg", "cache/CACHEDIR.TAG")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder with a file in each kind of folder."""
    for name in ("Cargo.toml", *_TAGS, *(f"{folder}/x" for folder in _FOLDERS)):
        write(tmp_path / "work" / name)
    return tmp_path / "work"


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def listed(tree: Path, reach: int = SOURCES, *skip: Path) -> dict[str, Source]:
    listing = Listing(map(str, skip), [str(tree)])
    listing.add(str(tree), reach)
    return listing.found


def read(tree: Path, *names: str, unwatched: tuple[str, ...] = ()) -> dict[str, Source]:
    listing = Listing((), [str(tree)])
    listing.add_read((f"{tree}/{name}" for name in names), unwatched)
    return listing.found


def folders(found: dict[str, Source], tree: Path) -> set[str]:
    return {os.path.relpath(os.path.dirname(path), tree) for path in found}


@pytest.mark.parametrize(
    ("reach", "expected"),
    [
        (FILES, {"."}),
        (SOURCES, {".", "src", ".sqlx", "other"}),
        (HIDDEN_TOO, {".", "src", ".sqlx", "other", ".hidden"}),
        (EVERYTHING, {".", *_FOLDERS}),
    ],
)
def test_so_much_of_a_folder_counts_as_was_asked_for(reach: int, expected: set[str], tree: Path) -> None:
    assert folders(listed(tree, reach), tree) == expected


def test_more_of_a_folder_is_listed_if_it_is_asked_for_later(tree: Path) -> None:
    listing = Listing((), [str(tree)])
    for reach in (FILES, HIDDEN_TOO, SOURCES):
        listing.add(str(tree), reach)
    assert folders(listing.found, tree) == {".", "src", ".sqlx", "other", ".hidden"}


def test_a_folder_to_be_skipped_holds_none(tree: Path) -> None:
    assert "src" not in folders(listed(tree, EVERYTHING, tree / "src"), tree)


def test_a_source_is_known_by_its_path_and_state(tree: Path) -> None:
    at = (tree / "Cargo.toml").stat()
    source = listed(tree)[f"{tree}/Cargo.toml"]
    assert source.state == f"{at.st_ino}-{at.st_size}-{at.st_mtime_ns}-{at.st_ctime_ns}"
    assert (source.mtime, source.ctime) == (at.st_mtime_ns, at.st_ctime_ns)


def test_a_folder_that_a_link_leads_back_to_is_looked_through_once(tree: Path) -> None:
    (tree / "src" / "again").symlink_to("..")
    found = {os.path.relpath(path, tree) for path in listed(tree)}
    assert found == {"Cargo.toml", "src/x", "other/x", ".sqlx/x", f"src/again/-> {tree}"}


def test_a_link_is_as_old_as_itself_and_one_that_leads_nowhere_hides_nothing(tree: Path) -> None:
    for number in range(20):  # folders are listed in no order
        (tree / "src" / f"dangling{number}").symlink_to("nothing")
    link = tree / "src" / "link"
    link.symlink_to("x")
    found = listed(tree / "src")
    source = found[f"{link}//-> {tree}/src/x"]
    assert set(found) == {f"{link}//-> {tree}/src/x", str(link), f"{tree}/src/x"}
    assert (source.state, source.mtime) == (LINK, link.lstat().st_mtime_ns)
    assert source.ctime == link.lstat().st_ctime_ns


@pytest.mark.parametrize("name", [".hidden/x", "src/../.hidden/x", "env/x", ".git/x"])
def test_what_was_read_counts_wherever_it_lies(name: str, tree: Path) -> None:
    assert set(read(tree, name)) == {os.path.normpath(f"{tree}/{name}")}


@pytest.mark.parametrize("name", ["env", ".hidden/", "src/../.git", "other/."])
def test_all_below_a_folder_counts_that_was_read(name: str, tree: Path) -> None:
    write(tree / name / ".deep" / "build" / "lib.x" / "y")
    place = os.path.normpath(f"{tree}/{name}")
    assert {f"{place}/x", f"{place}/.deep/build/lib.x/y"} <= set(read(tree, name))


def test_what_build_scripts_made_does_not_count(tree: Path) -> None:
    names = ("other/x", "src/x", "src/../other/x")
    assert set(read(tree, *names, unwatched=(f"{tree}/other/",))) == {f"{tree}/src/x"}


def test_a_file_that_is_not_there_hides_no_other(tree: Path) -> None:
    assert set(read(tree, "gone", "too-long" * 100, "src/x/below", "src/x")) == {f"{tree}/src/x"}


@pytest.mark.parametrize(
    ("name", "links"),
    [
        ("link", {"link//-> .hidden/x"}),
        ("src/../link", {"link//-> .hidden/x"}),
        ("folder/x", {"folder//-> .hidden"}),
        ("again/folder/x", {"again//-> ", "folder//-> .hidden"}),
        ("again/src/../link", {"again//-> ", "link//-> .hidden/x"}),
    ],
)
def test_the_links_on_the_way_count_too(name: str, links: set[str], tree: Path) -> None:
    for link, place in (("link", ".hidden/x"), ("folder", ".hidden"), ("again", ".")):
        (tree / link).symlink_to(place)
    expected = {f"{tree}/{link.replace('-> ', f'-> {tree}/')}".rstrip("/") for link in links}
    found = read(tree, name)
    assert set(found) == {*expected, f"{tree}/.hidden/x"}
    assert {(it.state, it.mtime, it.ctime) for path, it in found.items() if "->" in path} == {(LINK, 0, 0)}


def test_what_was_read_is_known_by_its_name_and_by_where_that_leads(tree: Path) -> None:
    (tree / "again").symlink_to(".")
    listing = Listing((), [str(tree)])
    listing.add_read([f"{tree}/again/src/../other/x", f"{tree}/src"])
    assert listing.read == {
        f"{tree}/{name}" for name in ("again/other/x", "again", "other/x", "src", "src/x")
    }


def test_a_package_that_is_reached_by_a_link_has_that_among_its_sources(tree: Path) -> None:
    (tree.parent / "linked").symlink_to("work")
    listing = Listing((), [str(tree)])
    listing.add(str(tree.parent / "linked"))
    found = listing.found[f"{tree.parent}/linked//-> {tree}"]
    assert (found.state, found.mtime, found.ctime) == (LINK, 0, 0)
    assert f"{tree.parent}/linked" in listing.read
    assert folders(listing.found, tree) >= {".", "src"}


@pytest.mark.parametrize("name", ["env", "cache"])
def test_a_crates_folder_counts_whatever_it_looks_like(name: str, tree: Path) -> None:
    listing = Listing((), [str(tree)])
    listing.add(str(tree / name))
    assert f"{tree}/{name}/x" in listing.found


@pytest.mark.parametrize("name", ["src", "src/", "src/.", "src/../src"])
def test_a_folder_to_be_skipped_holds_none_though_it_was_read(name: str, tree: Path) -> None:
    listing = Listing([str(tree / "src")], [str(tree)])
    listing.add_read([f"{tree}/{name}"])
    assert listing.found == {}


_MADE = ("x.abi3.so", "x.cpython-39.so", "x.pypy39.so", "x.whl", "x.pyd", "dist/x.tar.gz")


def test_what_front_and_back_ends_leave_beside_the_sources_counts_only_if_it_was_read(tree: Path) -> None:
    others = ("x.so", "x.cpython-39.c", "x.tar.gz", "dist/x.zip")
    for name in (*_MADE, *others):
        write(tree / "src" / name)
    found = {os.path.relpath(path, tree / "src") for path in listed(tree)}
    assert {*others} <= found
    assert found.isdisjoint(_MADE)
    assert {os.path.relpath(path, tree / "src") for path in read(tree, "src")} == {*_MADE, *others, "x"}


def test_what_the_file_system_does_not_tell_when_it_changed_is_in_doubt(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tree / "src" / "link"
    link.symlink_to("x")
    times = {str(link): 5, f"{tree}/src/x": 7}
    monkeypatch.setattr(sources, "change_time", lambda path, _: times.get(path))
    found = listed(tree)
    assert [found[name].ctime for name in (f"{link}//-> {tree}/src/x", f"{tree}/src/x")] == [5, 7]
    assert found[f"{tree}/other/x"].ctime == NOT_KNOWN


class TestAJunctionOnWindows:
    """A folder that is a name of another, and no link for Python."""

    @pytest.fixture
    def junction(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        class Entry:
            def __init__(self, entry: os.DirEntry[str]) -> None:
                self.entry = entry

            def __getattr__(self, name: str) -> Any:
                return getattr(self.entry, name)

            def is_symlink(self) -> bool:
                return False

        def scandir(folder: str) -> Any:
            return contextlib.nullcontext([Entry(entry) for entry in os.scandir(folder)])

        path = SimpleNamespace(**{**vars(os.path), "islink": lambda path: False})
        patched = SimpleNamespace(**{**vars(os), "name": "nt", "path": path, "scandir": scandir})
        monkeypatch.setattr(sources, "os", patched)
        monkeypatch.setattr(sources, "_is_junction", lambda found: stat.S_ISLNK(found.st_mode))
        junction = tree / "src" / "junction"
        junction.symlink_to("../.hidden")
        return junction

    def test_is_a_link_where_folders_are_listed(self, junction: Path, tree: Path) -> None:
        link = f"{junction}//-> {tree}/.hidden"
        assert set(listed(tree / "src")) == {link, f"{tree}/.hidden/x", f"{tree}/src/x"}

    def test_is_a_link_on_the_way(self, junction: Path, tree: Path) -> None:
        link = f"{junction}//-> {tree}/.hidden"
        assert set(read(tree, "src/junction/x")) == {link, f"{tree}/.hidden/x"}

    def test_is_hidden_by_nothing_that_is_gone(self, junction: Path, tree: Path) -> None:
        assert read(tree, "src/junction/gone/y").keys() == {f"{junction}//-> {tree}/.hidden"}


@pytest.mark.parametrize(("tag", "expected"), [(0xA0000003, True), (0xA000000C, False), (0, False)])
def test_a_junction_is_known_by_its_tag(tag: int, expected: bool) -> None:
    """A symbolic link has another; on POSIX, there are none."""
    found: Any = SimpleNamespace(st_reparse_tag=tag)
    assert sources._is_junction(found) == expected
    assert not sources._is_junction(os.stat("."))


def test_a_step_up_is_taken_from_where_a_link_leads(tree: Path) -> None:
    write(tree / "other" / "deep" / "y")
    (tree / "link").symlink_to("other/deep")
    assert set(read(tree, "link/../x")) == {f"{tree}/link//-> {tree}/other/deep", f"{tree}/other/x"}
    (tree / "other" / "up").symlink_to("x")
    assert f"{tree}/other/up//-> {tree}/other/x" in read(tree, "link/../up")


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a folder to another user")
@pytest.mark.parametrize("how", ["listing.add(tree)", "listing.add_read([tree, tree + '/pgdata/x'])"])
def test_a_folder_that_cannot_be_read_holds_none(how: str) -> None:
    """A data base's, of another user, who alone may look into it."""
    code = "import os, sys; from pyo3_envshim.sources import Listing; os.setuid(65534); tree = sys.argv[1]; "
    code += f"listing = Listing([], [tree]); {how}; print(len(listing.found))"
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        for name in ("readable", "pgdata"):
            write(Path(folder, name, "x"))
        Path(folder, "pgdata").chmod(0o700)
        assert run([sys.executable, "-c", code, folder], {}, ROOT) == "1\n"


def test_what_is_too_long_for_windows_is_in_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It seems not to be there, and rustc reads it."""
    monkeypatch.setattr(sources, "_is_too_long", functools.partial(sources._is_too_long, windows=True))
    listing = Listing([], [str(tmp_path)])
    long = str(tmp_path / ("x" * 120) / ("y" * 120))
    listing.add_read([os.path.join(long, "lib.rs"), str(tmp_path / "gone.rs")])
    listing._collect(long, SOURCES)
    assert {path: (it.mtime, it.ctime) for path, it in listing.found.items()} == {
        os.path.join(long, "lib.rs"): (0, NOT_KNOWN),
        long: (0, NOT_KNOWN),
    }
