"""What is known of the last build in a build folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyo3_envshim import files
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


def test_a_full_disk_leaves_no_stamp_that_would_be_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(path: str, content: bytes) -> None:
        Path(path).write_bytes(content[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "create", create)
        with pytest.raises(OSError, match="space"):
            write_stamp(str(tmp_path), "/", "", {}, only_as_first=True)
    assert write_stamp(str(tmp_path), "/", "", {}, only_as_first=True)


def test_half_a_stamp_is_none(tmp_path: Path) -> None:
    """The first one in a folder is not written in one step."""
    path = tmp_path / STAMP
    write_stamp(
        str(tmp_path), "/end", "0a1b2c3d", {"/end": Source("1-2", 1, 1), "/work": Source("1-2", 1, 1)}
    )
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
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


def test_only_what_was_read_is_gone_where_it_is_known_what_was(tmp_path: Path) -> None:
    files = {f"{tmp_path}/{name}": "1-1" for name in ("one", "two", "link//-> /gone")}
    stamp = Stamp(str(tmp_path), "", 1, files)
    for name in ("one", "link"):
        (path,) = gone_sources(stamp, {}, {f"{tmp_path}/{name}"})
        assert path.partition("//")[0] == f"{tmp_path}/{name}"


def test_only_one_is_the_first_also_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """exFAT, some network shares. Two build at once, each of them with the empty nonce."""

    def refuse(source: str, target: str) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), target)

    monkeypatch.setattr(os, "link", refuse)
    written = [write_stamp(str(tmp_path), root, "", {}, only_as_first=True) for root in ("/one", "/two")]
    found = read_stamp(str(tmp_path / STAMP))
    assert found is not None
    assert (written, found.root, os.listdir(tmp_path)) == ([True, False], "/one", [STAMP])
