"""How scripts/verify-wheels compares and judges; `.ci/run` runs it for real."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .scripts import loaded

_MEMBERS = {"tiny/__init__.py": "", "tiny/tiny.so": "code", "tiny-1.dist-info/RECORD": "tiny,,"}


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    with loaded("verify-wheels") as module:
        yield module


def wheel(
    folder: Path, members: dict[str, str], *, mode: int = 0o644, level: int = 6, name: str = "tiny"
) -> Path:
    """Write a wheel with these members, in this order."""
    folder.mkdir()
    path = folder / f"{name}-1-cp39-abi3-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in members.items():
            info = zipfile.ZipInfo(member)
            info.external_attr = mode << 16
            archive.writestr(info, text * 1000, zipfile.ZIP_DEFLATED, compresslevel=level)
    return path


@pytest.mark.parametrize(
    ("members", "options", "expected"),
    [
        (_MEMBERS, {}, []),
        (_MEMBERS | {"tiny/tiny.so": "other"}, {}, ["tiny/tiny.so"]),
        (_MEMBERS | {"tiny/added.py": "1"}, {}, ["tiny/added.py (only in one)"]),
        (dict(list(_MEMBERS.items())[1:]), {}, ["tiny/__init__.py (only in one)"]),
        (_MEMBERS, {"mode": 0o755}, [f"{name} (its date, mode or compression)" for name in sorted(_MEMBERS)]),
        (dict(reversed(list(_MEMBERS.items()))), {}, ["(the order of its members)"]),
        (_MEMBERS, {"level": 0}, ["(how it is packed)"]),
        (_MEMBERS, {"name": "big"}, ["(its name: tiny-1-cp39-abi3-any.whl, big-1-cp39-abi3-any.whl)"]),
    ],
    ids=["nothing", "a-content", "an-addition", "a-loss", "modes", "order", "packing", "name"],
)
def test_what_differs_in_two_wheels_is_named(
    script: Any, tmp_path: Path, members: dict[str, str], options: dict[str, Any], expected: list[str]
) -> None:
    one = wheel(tmp_path / "one", _MEMBERS)
    other = wheel(tmp_path / "other", members, **options)
    assert script.differences(one, other) == expected


_GOOD: dict[str, Any] = {
    "wheels": ["tiny-1-cp39-abi3-any.whl"],
    "back_end": "maturin",
    "pyo3": "0.30.1",
    "cold": 3,
    "without": ["pyo3 v0.30.1", "tiny v1 (its own)"],
}


def row(script: Any, front_end: str = "uv build --wheel", **found: Any) -> Any:
    return script.Row("tiny-1", front_end, **{**_GOOD, **found})


def workshop_of(script: Any, folder: Path, *pythons: str) -> Any:
    return script.Verification(folder, "cargo", script.Progress(1), pythons or [sys.executable])


def test_a_good_row_is_no_fault(script: Any) -> None:
    good = row(script)
    assert good.faults() == []
    assert good.cells() == [
        *("tiny-1", "maturin", "0.30.1", "abi3", "uv build --wheel", "3", "2", "**0**", "identical")
    ]
    script.judge([good, row(script, trouble="does not build here: no OpenSSL")])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"differs": ["tiny.so"]}, "the wheels differ in tiny.so"),
        ({"differs": ["a.so", "b.txt"], "differs_without": ["b.txt"]}, "the wheels differ in a.so"),
        ({"with_shim": ["pyo3 v0.30.1"]}, "recompiled pyo3 v0.30.1"),
        ({"with_shim": ["tiny v1", "pyo3 v0.30.1"], "limit": ["tiny v1"]}, "recompiled pyo3 v0.30.1"),
        ({"broken": "error: no cargo"}, "fails only with the shim: error: no cargo"),
    ],
    ids=["a-difference", "one-more-difference", "a-crate", "one-more-crate", "no-wheel"],
)
def test_what_the_shim_changes_is_its_fault(script: Any, found: dict[str, Any], said: str) -> None:
    bad = row(script, **found)
    assert [fault.endswith(said) for fault in bad.faults()] == [True]
    assert ("identical" in bad.cells()[-1]) == ("with_shim" in found)
    with pytest.raises(script.Failure, match="faults of the shim: 1"):
        script.judge([row(script), bad])


@pytest.mark.parametrize(
    "found",
    [
        {"differs": ["a.so"], "differs_without": ["a.so"]},
        {"differs_without": ["a.so"]},
        {"with_shim": ["tiny v1 (its own)"], "limit": ["tiny v1 (its own)"]},
        {"trouble": "it needs no Rust"},
    ],
    ids=["not-reproducible", "not-reproducible-without", "recompiled-anywhere", "trouble"],
)
def test_what_happens_without_the_shim_too_is_not_its_fault(script: Any, found: dict[str, Any]) -> None:
    assert row(script, **found).faults() == []


def test_a_table_without_a_verified_wheel_is_a_failure(script: Any) -> None:
    with pytest.raises(script.Failure, match="nothing was verified"):
        script.judge([row(script, trouble="cannot be had")])


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("error[E1]: one\nerror: could not compile\nerror: Failed to build x\n", "error: could not compile"),
        ("Fatal Error: one\nother\n", "Fatal Error: one"),
        ("no\nway\n\n", "way"),
        ("", "it says nothing"),
    ],
)
def test_an_error_is_told_in_one_line(script: Any, output: str, said: str) -> None:
    assert script.last_error(output) == said


def test_only_good_rows_of_the_same_versions_are_kept(script: Any, tmp_path: Path) -> None:
    def table(version: str) -> Any:
        return script.Table(tmp_path / "new" / "table", {"uv": version}, "./scripts/verify-wheels")

    saved = table("1")
    assert saved.kept() == {}
    for found in (
        row(script),
        row(script, front_end="b", broken="x"),
        row(script, front_end="c", trouble="x"),
    ):
        saved.add(found)
    assert list(table("1").kept().values()) == [row(script)]
    assert table("2").kept() == {}
    assert (tmp_path / "new" / "table.md").read_text() == saved.page()


def sdist_of_tiny(folder: Path, build_system: str = 'requires = ["maturin"]') -> Path:
    (folder / "tiny-1").mkdir()
    (folder / "tiny-1" / "PKG-INFO").write_text("Name: tiny\n")
    (folder / "tiny-1" / "pyproject.toml").write_text(f"[build-system]\n{build_system}\n")
    with tarfile.open(folder / "tiny-1.tar.gz", "w:gz") as sdist:
        sdist.add(folder / "tiny-1", "tiny-1")
    return folder / "tiny-1.tar.gz"


@pytest.mark.parametrize(
    ("build_system", "there"),
    [
        ('requires = ["maturin>=1,<2"]\nbuild-backend = "maturin"', False),
        (
            'build-backend = "own"\nrequires = [\n  "wheel",\n  "maturin>=1.15",\n]\nbackend-path = ["."]',
            False,
        ),
        ('requires = ["setuptools", "setuptools-rust"]\nbuild-backend = "setuptools.build_meta"', True),
    ],
    ids=["maturin", "a-back-end-in-the-tree", "setuptools"],
)
def test_what_maturin_makes_an_sdist_of_has_no_pkg_info(
    script: Any, tmp_path: Path, build_system: str, there: bool
) -> None:
    workshop = workshop_of(script, tmp_path)
    workshop.unpack(sdist_of_tiny(tmp_path, build_system))
    assert (workshop.source / "PKG-INFO").exists() == there


def test_wheels_that_name_a_random_folder_are_compared_in_one_of_one_name(script: Any) -> None:
    found = row(script, differs=["a.so"], differs_without=["a.so"], at_one_path=True)
    assert found.verdict == "identical in a folder of one name"
    assert row(script, differs=["a.so"], at_one_path=True).verdict == "**DIFFERENT**: a.so"


def test_vendored_crates_are_known(script: Any, tmp_path: Path) -> None:
    crate = tmp_path / "source" / "vendor" / "some-crate-1.0.0"
    crate.mkdir(parents=True)
    (crate / ".cargo-checksum.json").write_text("{}")
    (crate / "Cargo.toml").write_text('[package]\nname = "some-crate"\n')
    workshop = workshop_of(script, tmp_path)
    assert workshop._vendored() == {"some-crate"}


# --- in turn ----------------------------------------------------------------------------------------

_PYTHONS = ("/opt/python3.11", "/opt/python3.12", "/opt/python3.13")


class _Builds:
    """In place of front ends: without the shim, cargo remembers one interpreter, with it all.

    *spoiled*: the interpreter for which the shim gives another wheel. *anyhow*: what is compiled each
    time, however it is built; *with_shim*: only with the shim.
    """

    def __init__(self, script: Any, folder: Path) -> None:
        self.workshop = workshop_of(script, folder, *_PYTHONS)
        self.workshop.left = 4 * len(_PYTHONS)
        self.workshop.build = self.build
        self.sdist = sdist_of_tiny(folder)
        self.row = script.Row("tiny-1", "uv build --wheel")
        self.made: list[tuple[str, str, bool]] = []
        self.spoiled = ""
        self.anyhow: list[str] = []
        self.with_shim: list[str] = []
        self._script, self._folder = script, folder

    def measure(self) -> Any:
        self.workshop.measure(self.sdist, self.row, self._script._BY_NAME["uv"])
        return self.row

    def build(self, front_end: Any, host: Any) -> Any:
        python = Path(self.workshop._environment(host)["UV_PYTHON"]).name
        assert host.folder.parent.name == python
        self.made.append((front_end.name, python, host.shimmed))
        compiled = self._compiled(python, host.shimmed)
        code = "other" if host.shimmed and python == self.spoiled else f"for {python}"
        members = {
            "tiny/tiny.so": code,
            "tiny-1.dist-info/WHEEL": "Generator: maturin (1.16)\n",
        }
        file = wheel(self._folder / f"wheel-{len(self.made)}", members)
        return self._script.Build(compiled, 0.0, file, "")

    def _compiled(self, python: str, shimmed: bool) -> list[str]:
        known = self.workshop.source / "target"
        seen = known.read_text().split() if known.exists() else []
        known.write_text(" ".join([*seen, python] if shimmed else [python]))
        anyhow = [*self.anyhow, *(self.with_shim if shimmed else [])]
        if python in seen:
            return anyhow
        return [
            *([] if seen else ["memchr v2"]),
            "pyo3 v0.30.1",
            f"tiny v1 ({self.workshop.source})",
            *anyhow,
        ]


@pytest.fixture
def builds(script: Any, tmp_path: Path) -> _Builds:
    return _Builds(script, tmp_path)


def test_in_turn_each_round_is_for_all_interpreters_in_one_folder(builds: _Builds, script: Any) -> None:
    row = builds.measure()
    names = [Path(python).name for python in _PYTHONS]
    shown = [("uv build --wheel", python, shimmed) for shimmed in (False, True) for python in names * 2]
    assert builds.made == shown
    assert (row.cold, len(row.without), row.with_shim) == (3 + 2 + 2, 3 * 2, [])
    assert row.faults() == []
    assert row.cells()[-4:] == ["7", "6", "**0**", "identical"]


def test_in_turn_what_one_interpreter_gets_is_compared_with_its_own(builds: _Builds, script: Any) -> None:
    builds.spoiled = "python3.12"
    assert builds.measure().wrongly == ["tiny/tiny.so for python3.12"]
    with pytest.raises(script.Failure, match="faults of the shim: 1"):
        script.judge([builds.row])


def test_in_turn_what_a_permanent_environment_recompiles_too_is_no_fault(builds: _Builds) -> None:
    builds.anyhow = ["clock v1"]
    row = builds.measure()
    assert row.limit == ["clock v1"] * 3
    assert row.faults() == []
    assert [name for name, *_ in builds.made[12:]] == ["build --env-dir"] * 6
    assert row.cells()[-2] == "**3** (at least 3)"


def test_in_turn_what_only_the_shim_recompiles_is_a_fault(builds: _Builds) -> None:
    builds.anyhow, builds.with_shim = ["clock v1"], ["memchr v2"]
    assert builds.measure().needlessly == ["memchr v2"] * 3


@pytest.mark.parametrize(
    ("found", "title", "says"),
    [
        ({}, "# Verified wheels", []),
        ({"front_end": "uv build"}, "# Verified wheels: the default commands", ["unpack an sdist"]),
        ({"wheels": ["tiny-1-cp311-cp311-x.whl"] * 2}, "# Verified wheels: in turn", ["one after another"]),
    ],
    ids=["in-place", "unpacked", "in-turn"],
)
def test_a_page_says_what_its_rows_mean(
    script: Any, found: dict[str, Any], title: str, says: list[str]
) -> None:
    page = script.page([row(script, **found)], {"uv": "1"}, "./scripts/verify-wheels")
    assert page.splitlines()[0] == title
    assert [it for it in ("unpack an sdist", "one after another") if it in page] == says
