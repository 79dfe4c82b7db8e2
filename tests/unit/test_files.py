"""Writing beside, then renaming; and removing."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim import files


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_the_profile_makes_private_needs_no_list_of_its_own_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An elevated process would shut the user out with one (python/cpython#157876)."""
    monkeypatch.setenv("USERPROFILE" if os.name == "nt" else "HOME", str(tmp_path / "me"))
    assert files.private_mode(str(tmp_path / "me" / "cache"), windows=True) == 0o777
    assert files.private_mode(str(tmp_path / "me too" / "cache"), windows=True) == 0o700
    assert files.private_mode(str(tmp_path / "me" / "cache"), windows=False) == 0o700


class TestInsistingOnWindows:
    """A stand-in: Wine keeps nobody from renaming the folder of an open file."""

    def fail(self, times: int, winerror: int | None, monkeypatch: pytest.MonkeyPatch) -> int:
        """Return how often something was tried that fails so often."""
        monkeypatch.setattr(files, "os", SimpleNamespace(name="nt"))
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        tried = []

        def attempt() -> None:
            tried.append(1)
            if len(tried) <= times:
                error = OSError(errno.EIO, "in use")
                error.winerror = winerror  # type: ignore[attr-defined,unused-ignore]
                raise error

        files._insist(attempt)
        return len(tried)

    @pytest.mark.parametrize("winerror", [5, 32, 33, 145, 303, 1224])
    def test_waits_for_who_has_a_file_open(self, winerror: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """145: a folder in which something is still being removed (before Windows 10 1809)."""
        assert self.fail(3, winerror, monkeypatch) == 4

    @pytest.mark.parametrize("winerror", [None, 2, 112])
    def test_is_not_for_another_error(self, winerror: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(OSError, match="in use"):
            self.fail(1, winerror, monkeypatch)

    def test_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(OSError, match="in use"):
            self.fail(10**6, 5, monkeypatch)


class TestReplacing:
    @pytest.mark.parametrize(("executable", "mode"), [(False, 0o644), (True, 0o755)])
    def test_writes_a_file_with_its_mode(self, executable: bool, mode: int, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("old")
        before = os.umask(0)
        try:
            files.replace(str(tmp_path / "file"), b"new", executable)
        finally:
            os.umask(before)
        assert (tmp_path / "file").read_text() == "new"
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
        assert os.listdir(tmp_path) == ["file"]

    def test_leaves_the_file_that_is_open_elsewhere_as_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("old")
        with open(tmp_path / "file") as reader:
            files.replace(str(tmp_path / "file"), b"new")
            assert reader.read() == "old"

    def test_does_not_follow_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").write_text("elsewhere")
        (tmp_path / "link").symlink_to("elsewhere")
        files.replace(str(tmp_path / "link"), b"new")
        assert (tmp_path / "elsewhere").read_text() == "elsewhere"
        assert not (tmp_path / "link").is_symlink()

    @pytest.mark.parametrize("call", ["open", "replace"])
    def test_that_fails_leaves_the_old_file_and_nothing_else(
        self, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("old")
        with monkeypatch.context() as patched:
            patched.setattr(os, call, refuse)
            with pytest.raises(OSError, match="No space left"):
                files.replace(str(tmp_path / "file"), b"new")
        assert (tmp_path / "file").read_text() == "old"
        assert os.listdir(tmp_path) == ["file"]

    def test_that_fails_while_it_writes_leaves_nothing_beside(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("builtins.open", refuse)  # it gets the descriptor of a file that is there
            with pytest.raises(OSError, match="No space left"):
                files.write_beside(str(tmp_path / "file"), b"new")
        assert os.listdir(tmp_path) == []


class TestWritingBeside:
    def test_gives_a_new_file_each_time(self, tmp_path: Path) -> None:
        found = [files.write_beside(str(tmp_path / "file"), b"new") for _ in range(2)]
        assert sorted(os.listdir(tmp_path)) == sorted(os.path.basename(path) for path in found)
        assert all(Path(path).read_bytes() == b"new" for path in found)
        assert all(os.path.basename(path).startswith("file.") for path in found)

    def test_does_not_write_to_what_is_there(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("elsewhere")
        with pytest.raises(FileExistsError):
            files.create(str(tmp_path / "link"), b"new")
        assert not (tmp_path / "elsewhere").exists()


class TestRemoving:
    def test_removes_files_links_and_folders(self, tmp_path: Path) -> None:
        (tmp_path / "folder" / "below").mkdir(parents=True)
        (tmp_path / "kept").mkdir()
        (tmp_path / "link").symlink_to("kept")
        (tmp_path / "dangling").symlink_to("gone")
        (tmp_path / "file").touch()
        for name in ("folder", "link", "dangling", "file", "gone", "kept/gone", "file/below"):
            files.remove(str(tmp_path / name))
        assert os.listdir(tmp_path) == ["kept"]

    def test_leaves_what_cannot_be_removed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        with monkeypatch.context() as patched:
            patched.setattr(os, "unlink", refuse)
            files.remove(str(tmp_path / "file"))
        assert os.listdir(tmp_path) == ["file"]
