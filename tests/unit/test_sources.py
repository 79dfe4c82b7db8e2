"""Which files are sources, and what is known of each."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from pathlib import Path

import pytest

from pyo3_envshim import sources
from pyo3_envshim.sources import EVERYTHING, FILES, HIDDEN_TOO, LINK, NOT_KNOWN, SOURCES, Listing, Source

from .environments import ROOT, run
from .posix import IS_ROOT

_FOLDERS = ("src", ".hidden", ".sqlx", ".git", "build/lib.linux", "env", "cache", "other")
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
    names = ("src/x", "other/x", "src/../other/x")
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
    assert set(read(tree, name)) == {*expected, f"{tree}/.hidden/x"}


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
    assert {path: it.ctime for path, it in listing.found.items()} == {
        os.path.join(long, "lib.rs"): NOT_KNOWN,
        long: NOT_KNOWN,
    }
