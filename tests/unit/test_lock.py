"""Locks: who gets one, who waits, and where there are none."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyo3_envshim.store.lock import Lock, is_locked, open_folder, share, stands, try_lock

HOLDER = """\
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "folder"
    found.mkdir()
    return found


@pytest.fixture
def opened(folder: Path) -> Iterator[int]:
    found = open_folder(str(folder))
    yield found
    os.close(found)


def locking(path: Path, how: int) -> subprocess.Popen[str]:
    """Start a process that has locked *path*."""
    pipe = subprocess.PIPE
    found = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(how)], stdin=pipe, stdout=pipe, text=True
    )
    assert found.stdout is not None
    assert found.stdout.readline() == "ready\n"
    return found


def without_locks(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)


class TestALock:
    @pytest.mark.parametrize("other", [fcntl.LOCK_SH, fcntl.LOCK_EX])
    @pytest.mark.parametrize("exclusive", [False, True])
    def test_is_refused_if_another_process_has_it(
        self, exclusive: bool, other: int, folder: Path, opened: int
    ) -> None:
        holder = locking(folder, other)
        shared = not exclusive and other == fcntl.LOCK_SH
        assert try_lock(opened, exclusive) is shared
        with Lock(str(folder), exclusive, without=True) as had:
            assert had is shared
        holder.kill()  # the kernel releases the lock of a process that is killed
        holder.communicate()
        assert try_lock(opened, exclusive) is True

    def test_is_waited_for(self, folder: Path, opened: int) -> None:
        holder = locking(folder, fcntl.LOCK_EX)
        assert holder.stdin is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert try_lock(opened, exclusive=True, wait=True) is True
        holder.communicate()

    @pytest.mark.parametrize("code", ["ENOLCK", "ENOTSUP", "ENOSYS", "EBADF", "EINVAL"])
    def test_is_neither_had_nor_refused_where_there_are_none(
        self, code: str, folder: Path, opened: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        without_locks(monkeypatch, getattr(errno, code))
        assert try_lock(opened, exclusive=True) is None
        for answer in (False, True):
            with Lock(str(folder), exclusive=True, without=answer) as had:
                assert had is answer

    def test_that_fails_is_an_error_and_leaves_nothing_open(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        without_locks(monkeypatch, errno.EIO)
        before = len(os.listdir("/dev/fd"))
        with pytest.raises(OSError, match="Input/output error"), Lock(str(folder), True, without=True):
            pass
        with pytest.raises(OSError, match="Input/output error"):
            share(str(folder))
        assert len(os.listdir("/dev/fd")) == before

    def test_is_of_the_folder_that_stands_at_its_path(
        self, folder: Path, opened: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flock = fcntl.flock

        def flock_and_replace(descriptor: int, how: int) -> None:
            flock(descriptor, how)
            folder.rmdir()
            folder.mkdir()

        assert stands(opened, str(folder))
        monkeypatch.setattr(fcntl, "flock", flock_and_replace)
        with Lock(str(folder), exclusive=True, without=True) as had:
            assert not had
        assert not stands(opened, str(folder))
        folder.rmdir()
        assert not stands(opened, str(folder))


class TestSharing:
    def test_goes_with_others_that_share(self, folder: Path) -> None:
        one, other = share(str(folder)), share(str(folder))
        assert one is not None
        assert other is not None
        os.close(one)
        with Lock(str(folder), exclusive=True, without=True) as had:
            assert not had
        os.close(other)

    @pytest.mark.parametrize("name", ["gone", "file", "file/below", "link"])
    def test_is_nothing_where_there_is_no_folder(self, name: str, folder: Path) -> None:
        (folder / "file").touch()
        (folder / "link").symlink_to("..")
        assert share(str(folder / name)) is None


class TestALockedFile:
    def test_is_told_while_another_process_has_it(self, tmp_path: Path) -> None:
        file = tmp_path / ".cargo-lock"
        assert not is_locked(str(file))
        assert not is_locked(str(file / "below"))
        file.touch()
        assert not is_locked(str(file))
        for how in (fcntl.LOCK_SH, fcntl.LOCK_EX):
            holder = locking(file, how)
            assert is_locked(str(file))
            holder.communicate("\n")
            assert not is_locked(str(file))

    def test_may_be_any_where_there_are_no_locks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        without_locks(monkeypatch, errno.ENOLCK)
        assert is_locked(str(tmp_path / "file"))
