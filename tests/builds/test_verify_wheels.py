"""How scripts/verify-wheels compares and judges; `.ci/run` runs it for real."""

from __future__ import annotations

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
    "wheel": "tiny-1-cp39-abi3-any.whl",
    "back_end": "maturin",
    "pyo3": "0.30.1",
    "cold": 3,
    "without": ["pyo3 v0.30.1", "tiny v1 (its own)"],
}


def row(script: Any, front_end: str = "uv build --wheel", **found: Any) -> Any:
    return script.Row("tiny-1", front_end, **{**_GOOD, **found})


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


@pytest.mark.parametrize(
    ("back_end", "unpacked", "there"),
    [("maturin", True, False), ("maturin", False, True), ("setuptools.build_meta", True, True)],
    ids=["maturin", "in-place", "setuptools"],
)
def test_what_maturin_makes_an_sdist_of_has_no_pkg_info(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back_end: str, unpacked: bool, there: bool
) -> None:
    (tmp_path / "tiny-1").mkdir()
    (tmp_path / "tiny-1" / "PKG-INFO").write_text("Name: tiny\n")
    (tmp_path / "tiny-1" / "pyproject.toml").write_text(f'[build-system]\nbuild-backend = "{back_end}"\n')
    with tarfile.open(tmp_path / "tiny-1.tar.gz", "w:gz") as sdist:
        sdist.add(tmp_path / "tiny-1", "tiny-1")
    workshop = script.Verification(tmp_path, tmp_path / "source", "cargo", script.Progress(1))
    workshop.unpacked = unpacked
    monkeypatch.setattr(workshop, "build", lambda front_end, host: None)
    front_end = script.FRONT_ENDS[-1]
    workshop._cold(tmp_path / "tiny-1.tar.gz", row(script), front_end, workshop.hosts[0])
    assert (tmp_path / "source" / "PKG-INFO").exists() == there


def test_wheels_that_name_a_random_folder_are_compared_in_one_of_one_name(script: Any) -> None:
    found = row(script, differs=["a.so"], differs_without=["a.so"], at_one_path=True)
    assert found.verdict == "identical in a folder of one name"
    assert row(script, differs=["a.so"], at_one_path=True).verdict == "**DIFFERENT**: a.so"


def test_vendored_crates_are_known(script: Any, tmp_path: Path) -> None:
    crate = tmp_path / "source" / "vendor" / "some-crate-1.0.0"
    crate.mkdir(parents=True)
    (crate / ".cargo-checksum.json").write_text("{}")
    (crate / "Cargo.toml").write_text('[package]\nname = "some-crate"\n')
    workshop = script.Verification(tmp_path, tmp_path / "source", "cargo", script.Progress(1))
    assert workshop._vendored() == {"some-crate"}
