"""Which newer files cargo's notes are not enough of: those after which it leaves what may have read them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from pyo3_envshim.cargo.unseen import Readers

from .test_units import facts

LIBRARY, PROGRAM, SCRIPT, RUN, TEST, OTHER = (f"{number}{'0' * 15}" for number in range(1, 7))
PLACES = {LIBRARY: "tiny", PROGRAM: "tiny", SCRIPT: "tiny", RUN: "tiny", TEST: "tiny", OTHER: "other"}
DATA = os.path.join(os.sep, "work", "data.txt")


def number(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text), "little")


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """One in which two packages were built: ``tiny`` has a build script, a library, a program and a test."""
    for unit, name, needs in (
        (SCRIPT, "build-script-build-script-build", ()),
        (RUN, "run-build-script-build-script-build", (SCRIPT,)),
        (LIBRARY, "lib-tiny", (RUN,)),
        (PROGRAM, "bin-tool", (LIBRARY,)),
        (TEST, "test-lib-tiny", (RUN,)),
        (OTHER, "lib-other", ()),
    ):
        write(tmp_path, unit, name, unit, facts(needs=tuple(map(number, needs))))
    return tmp_path


def write(profile: Path, unit: str, name: str, content: str, noted: str) -> None:
    folder = profile / ".fingerprint" / f"{PLACES[unit]}-{unit}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)
    (folder / f"{name}.json").write_text(noted)


def left_out(
    profile: Path,
    noting: Iterable[str],
    packages: Iterable[str] = ("tiny",),
    undirected: Iterable[str] = (),
) -> bool:
    """Tell whether a newer file is left out that these units noted."""
    places = {f"{profile}/.fingerprint/{PLACES[unit]}-{unit}" for unit in noting}
    readers = Readers({DATA: places}, set(packages), set(undirected))
    return readers.left_out({DATA}, [str(profile)]) == {DATA}


@pytest.mark.parametrize("noting", [(OTHER,), (PROGRAM,), (TEST,), (PROGRAM, TEST), (LIBRARY,), ()])
def test_what_something_else_noted(noting: tuple[str, ...], profile: Path) -> None:
    """A library's note is not enough for a test of its own, which does not need it."""
    assert left_out(profile, noting)


@pytest.mark.parametrize("noting", [(LIBRARY, TEST), (RUN,), (SCRIPT,)])
def test_not_what_all_noted_or_need_what_did(noting: tuple[str, ...], profile: Path) -> None:
    assert not left_out(profile, noting)


def test_not_where_no_package_may_have_read_it(profile: Path) -> None:
    assert not left_out(profile, [OTHER], packages=[])


def test_what_a_build_script_reads_that_told_cargo_nothing(profile: Path) -> None:
    assert left_out(profile, [LIBRARY, TEST], undirected=["tiny"])
    assert not left_out(profile, [SCRIPT], undirected=["tiny"])


def test_what_lies_in_a_noted_folder(profile: Path) -> None:
    run = {f"{profile}/.fingerprint/tiny-{RUN}"}
    readers = Readers({os.path.dirname(DATA): run}, {"tiny"}, ())
    assert readers.left_out({DATA}, [str(profile)]) == set()


def test_what_a_link_leads_to_is_noted(profile: Path) -> None:
    (profile / "real.txt").touch()
    (profile / "link.txt").symlink_to("real.txt")
    readers = Readers({str(profile / "real.txt"): {f"{profile}/.fingerprint/tiny-{RUN}"}}, {"tiny"}, ())
    names = {str(profile / name) for name in ("real.txt", "link.txt")}
    assert readers.left_out(names, [str(profile)]) == set()


def test_not_what_will_be_compiled_anyway(profile: Path) -> None:
    """cargo empties a fingerprint before it compiles the unit."""
    write(profile, TEST, "test-lib-tiny", "", facts())
    assert not left_out(profile, [LIBRARY])


def test_each_file_by_itself(profile: Path) -> None:
    run, other = f"{profile}/.fingerprint/tiny-{RUN}", f"{profile}/.fingerprint/other-{OTHER}"
    names = [os.path.join(os.sep, name) for name in ("seen", "noted by another", "not noted")]
    readers = Readers({names[0]: {run}, names[1]: {other}}, {"tiny"}, ())
    assert readers.left_out(names, [str(profile)]) == set(names[1:])


def test_not_what_rustdoc_made(profile: Path) -> None:
    write(profile, SCRIPT, "doc-lib-tiny", f"7{'0' * 15}", facts())
    assert not left_out(profile, [LIBRARY, TEST])


@pytest.mark.parametrize(
    "text", ["{", '{"deps": [[1, "x", false, 77]]}'], ids=["half", "a dependency is gone"]
)
def test_not_what_cargo_will_compile_for_other_reasons(text: str, profile: Path) -> None:
    write(profile, TEST, "test-lib-tiny", TEST, text)
    assert not left_out(profile, [LIBRARY])


def test_not_what_was_removed_meanwhile(profile: Path) -> None:
    (profile / ".fingerprint" / f"tiny-{TEST}" / "test-lib-tiny").unlink()
    (profile / ".fingerprint" / ".DS_Store").touch()
    assert not left_out(profile, [LIBRARY])


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"deps": [7]}', '{"deps": [[1, "x", 7]]}', '{"deps": ["long"]}']
)
def test_all_where_the_format_is_not_known(text: str, profile: Path) -> None:
    write(profile, OTHER, "lib-other", OTHER, text)
    assert left_out(profile, [LIBRARY, TEST])


@pytest.mark.parametrize(
    ("noting", "is_left_out"),
    [(LIBRARY, False), (RUN, False), (OTHER, True)],
    ids=["itself", "need", "other"],
)
def test_units_beside_may_be_needed_and_are_judged_elsewhere(
    noting: str, is_left_out: bool, tmp_path: Path, profile: Path
) -> None:
    """A set has the library and the program, and its build script and test have stayed in place."""
    place = tmp_path / "set"
    (place / ".fingerprint").mkdir(parents=True)
    for unit in (LIBRARY, PROGRAM):
        name = f"{PLACES[unit]}-{unit}"
        (profile / ".fingerprint" / name).rename(place / ".fingerprint" / name)
    above = place if noting == LIBRARY else profile
    readers = Readers({DATA: {f"{above}/.fingerprint/{PLACES[noting]}-{noting}"}}, {"tiny"}, ())
    assert (readers.left_out({DATA}, [str(place)], [str(profile)]) == {DATA}) == is_left_out
