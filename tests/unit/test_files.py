"""Writing beside, then renaming; and removing."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyo3_envshim import files


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Let the module take this for Windows; return its `os`."""
    found = SimpleNamespace(**{**vars(os), "name": "nt"})
    monkeypatch.setattr(files, "os", found)
    return found


def test_what_the_profile_makes_private_needs_no_list_of_its_own_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An elevated process would shut the user out with one (python/cpython#157876)."""
    monkeypatch.setenv("USERPROFILE" if os.name == "nt" else "HOME", str(tmp_path / "me"))
    assert files.private_mode(str(tmp_path / "me" / "cache"), windows=True) == 0o777
    assert files.private_mode(str(tmp_path / "me too" / "cache"), windows=True) == 0o700
    assert files.private_mode(str(tmp_path / "me" / "cache"), windows=False) == 0o700


@pytest.mark.parametrize(
    ("name", "constants", "flags", "expected"),
    [
        ("posix", {"ST_NOEXEC": 8}, 6, True),
        ("posix", {"ST_NOEXEC": 8}, 14, False),
        ("posix", {}, 15, True),  # macOS names no such flag
        ("nt", {}, None, True),
    ],
)
def test_programs_start_where_nothing_forbids_it(
    name: str, constants: dict[str, int], flags: int | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = SimpleNamespace(name=name, **constants)
    if flags is not None:
        system.statvfs = lambda path: SimpleNamespace(f_flag=flags if path == "/here" else 8)
    monkeypatch.setattr(files, "os", system)
    assert files.starts_programs("/here") == expected


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
                if winerror is not None:
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

    @pytest.mark.parametrize(("tries", "seconds"), [((), 1), ((files.A_SCAN,), 10)])
    def test_ends(self, tries: tuple[int, ...], seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
        def rename(*_: str) -> None:
            error = OSError(errno.EIO, "in use")
            error.winerror = 5  # type: ignore[attr-defined,unused-ignore]
            raise error

        slept: list[float] = []
        monkeypatch.setattr("time.sleep", slept.append)
        monkeypatch.setattr(files, "os", SimpleNamespace(name="nt", rename=rename))
        with pytest.raises(OSError, match="in use"):
            files.rename("a", "b", False, *tries)
        assert sum(slept) == pytest.approx(seconds)


@pytest.mark.usefixtures("windows")
def test_when_a_file_last_changed_is_asked_of_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = SimpleNamespace(change_time=lambda path, is_link: (path, is_link))
    monkeypatch.setitem(sys.modules, "pyo3_envshim.windows", asked)
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        path = str(tmp_path / name)
        assert files.change_time(path, os.lstat(path)) == (path, name == "link")  # type: ignore[comparison-overlap]


class TestReplacing:
    @pytest.mark.parametrize("write", [files.create, files.write_beside, files.replace])
    @pytest.mark.parametrize(("executable", "mode"), [((), 0o644), ((False,), 0o644), ((True,), 0o755)])
    def test_writes_a_file_with_its_mode(
        self, write: Callable[..., object], executable: tuple[bool, ...], mode: int, tmp_path: Path
    ) -> None:
        if write is files.replace:
            (tmp_path / "file").write_text("old")
        before = os.umask(0)
        try:
            write(str(tmp_path / "file"), b"new", *executable)
        finally:
            os.umask(before)
        (found,) = tmp_path.iterdir()
        assert found.read_text() == "new"
        assert stat.S_IMODE(found.stat().st_mode) == mode

    def test_needs_no_working_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        (tmp_path / "here").rmdir()
        files.replace(str(tmp_path / "file"), b"new")
        assert (tmp_path / "file").read_text() == "new"

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


class TestWhatWasLeft:
    """By `write_beside`, in a process that was killed."""

    @pytest.fixture
    def left(self, tmp_path: Path) -> tuple[Path, Path]:
        with subprocess.Popen([sys.executable, "-c", ""]) as ended:
            pass
        found = tmp_path / f"file.{ended.pid}-0a1b", tmp_path / f"file.{os.getpid()}-0a1b"
        for path in found:
            path.touch()
        return found

    def test_is_removed_unless_the_process_lives(self, left: tuple[Path, Path], tmp_path: Path) -> None:
        for name in ("file", "file.txt", "other.1-0a1b"):
            (tmp_path / name).touch()
        files.remove_unfinished(str(tmp_path / "file"))
        assert sorted(os.listdir(tmp_path)) == sorted(["file", "file.txt", left[1].name, "other.1-0a1b"])

    def test_is_asked_for_without_harm(self, tmp_path: Path) -> None:
        def prepare() -> None:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup

        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, preexec_fn=prepare) as process:
            (tmp_path / f"file.{process.pid}-0a1b").touch()
            files.remove_unfinished(str(tmp_path / "file"))
        assert process.returncode == 0
        assert len(os.listdir(tmp_path)) == 1

    @pytest.mark.usefixtures("windows")
    def test_stays_on_windows(self, left: tuple[Path, Path], tmp_path: Path) -> None:
        """There, the question would be a signal."""
        files.remove_unfinished(str(tmp_path / "file"))
        assert all(path.exists() for path in left)


class TestRemovingOnWindows:
    """Nobody can remove there what is marked read-only, or is open."""

    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, windows: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
        def check(path: str) -> None:
            if path.endswith("open") or not os.lstat(path).st_mode & stat.S_IWRITE:
                raise PermissionError(errno.EACCES, "Access is denied", path)

        def unlink(path: str) -> None:
            check(path)
            os.unlink(path)

        def rmtree(path: str, ignore_errors: bool = False) -> None:
            for above, _, names in os.walk(path, topdown=False):
                for place in [*(os.path.join(above, name) for name in names), above]:
                    try:
                        check(place)
                        (os.rmdir if place == above else os.unlink)(place)
                    except OSError:
                        if not ignore_errors:
                            raise

        windows.unlink = unlink
        monkeypatch.setattr(shutil, "rmtree", rmtree)

    @pytest.mark.parametrize("remove", [files.remove, files.delete])
    def test_removes_what_is_read_only(self, remove: Callable[[str], None], tmp_path: Path) -> None:
        (tmp_path / "folder" / "below").mkdir(parents=True)
        for name in ("file", "folder/below/file"):
            (tmp_path / name).touch(0o444)
        (tmp_path / "folder" / "writable").touch()
        for name in ("file", "folder"):
            remove(str(tmp_path / name))
        assert os.listdir(tmp_path) == []

    def test_changes_the_mode_of_nothing_else(self, windows: SimpleNamespace, tmp_path: Path) -> None:
        """Where it takes long: a target folder has thousands of files."""
        changed: list[str] = []

        def chmod(path: str, mode: int) -> None:
            changed.append(os.path.basename(path))
            os.chmod(path, mode)

        windows.chmod = chmod
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "writable").touch(0o666)
        (tmp_path / "folder" / "read-only").touch(0o444)
        files.delete(str(tmp_path / "folder"))
        assert changed == ["read-only"]

    def test_leaves_no_more_than_what_is_open(self, tmp_path: Path) -> None:
        for name in ("a", "b-open", "c"):
            (tmp_path / name).touch(0o444)
        files.remove(str(tmp_path))
        assert os.listdir(tmp_path) == ["b-open"]


class TestRemovingWhatItsOwnerMustNotChange:
    """A folder whose mode keeps all but root from removing what is in it: a build script has copied it."""

    @pytest.fixture(autouse=True)
    def here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rmtree = shutil.rmtree

        def check(path: str, ignore_errors: bool = False) -> None:
            for above, _, _ in os.walk(path):
                if os.lstat(above).st_mode & stat.S_IRWXU != stat.S_IRWXU:
                    if ignore_errors:
                        return
                    raise PermissionError(errno.EACCES, "Permission denied", above)
            rmtree(path, ignore_errors)

        monkeypatch.setattr(shutil, "rmtree", check)

    @pytest.mark.parametrize("remove", [files.remove, files.delete])
    @pytest.mark.parametrize("mode", [0o555, 0o500, 0o600, 0])
    def test_removes_it(self, mode: int, remove: Callable[[str], None], tmp_path: Path) -> None:
        below = tmp_path / "folder" / "below"
        below.mkdir(parents=True)
        (below / "file").touch(0o444)
        (tmp_path / "outside").touch(0o444)
        (below / "link").symlink_to(tmp_path / "outside")
        os.link(tmp_path / "outside", below / "second name")
        below.chmod(mode)
        below.parent.chmod(mode)
        remove(str(tmp_path / "folder"))
        assert os.listdir(tmp_path) == ["outside"]
        assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o444

    def test_leaves_other_troubles_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "folder").mkdir(0o555)

        def fail(path: str) -> None:
            raise OSError(errno.EBUSY, "Device or resource busy", path)

        monkeypatch.setattr(shutil, "rmtree", fail)
        with pytest.raises(OSError, match="busy"):
            files.delete(str(tmp_path / "folder"))
        assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o555


class TestRemoving:
    def test_fails_where_there_is_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        files.unlink(str(tmp_path / "file"))
        assert os.listdir(tmp_path) == []
        for remove in (files.unlink, files.delete):
            with pytest.raises(FileNotFoundError):
                remove(str(tmp_path / "file"))

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
