"""What is known of the last build in a build folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim.sources import LINK, Source
from pyo3_envshim.stamp import STAMP, Stamp, gone_sources, read_stamp, write_stamp

TIMES = st.integers(1, 8)


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.text("0123456789abcdef"),
    st.dictionaries(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
        st.builds(Source, st.from_regex(r"\A[0-9]+(-[0-9]+)*\Z"), TIMES, TIMES),
    ),
)
def test_a_stamp_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, root: str, nonce: str, sources: dict[str, Source]
) -> None:
    folder = tmp_path_factory.mktemp("stamp")
    write_stamp(str(folder), root, nonce, sources)
    found = read_stamp(str(folder / STAMP))
    assert found is not None
    assert (found.root, found.nonce) == (root, nonce)
    assert found.files == {path: source.state for path, source in sources.items()}


def test_a_stamp_may_hold_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"/work/\xff.rs")
    write_stamp(str(tmp_path), os.fsdecode(b"/\xfe"), "", {name: Source("1-2", 1, 1)})
    found = read_stamp(str(tmp_path / STAMP))
    assert found is not None
    assert found.files == {name: "1-2"}


@given(st.binary())
def test_any_other_file_is_no_stamp(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("stamp") / STAMP
    path.write_bytes(content)
    assert read_stamp(str(path)) is None


def test_a_stamp_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_stamp(str(tmp_path / "gone")) is None


def test_what_is_there_is_not_gone_because_it_is_no_source_any_more(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "lib.rs").touch()
    root = str(tmp_path)
    files = {f"{root}/src/lib.rs": "1-1", f"{root}/src/gone.rs": "1-2", f"{root}/link//-> /gone": LINK}
    found = gone_sources(Stamp(root, "", 1, files), {})
    assert sorted(found) == [f"{root}/link//-> /gone", f"{root}/src/gone.rs"]
    assert found[f"{root}/src/gone.rs"].mtime == (tmp_path / "src").stat().st_mtime_ns
