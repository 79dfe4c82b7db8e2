"""Locks: who gets one, who waits, and where there are none."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyo3_envshim.environment import layout
from pyo3_envshim.store import lock
from pyo3_envshim.store.lock import (
    Lock,
    Locks,
    hold,
    is_held,
    is_locked,
    open_folder,
    share,
    stands,
    try_lock,
)
from support.daemon import Daemon

from .environments import ROOT
from .windows_stand_in import StandIn

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


class TestCargosLocks:
    @pytest.fixture
    def paths(self, tmp_path: Path) -> list[str]:
        return [str(tmp_path / name) for name in (".cargo-lock", ".cargo-build-lock")]

    def test_are_made_as_cargo_makes_them_and_had_alone(self, paths: list[str]) -> None:
        mask = os.umask(0)
        try:
            with Locks(paths) as had:
                assert had
                assert [is_locked(path) for path in paths] == [True, True]
        finally:
            os.umask(mask)
        assert [is_locked(path) for path in paths] == [False, False]
        assert {os.stat(path).st_mode & 0o777 for path in paths} == {0o666}

    @pytest.mark.parametrize("how", [fcntl.LOCK_SH, fcntl.LOCK_EX])
    @pytest.mark.parametrize("which", [0, 1])
    def test_are_not_had_if_another_process_has_one(self, which: int, how: int, paths: list[str]) -> None:
        before = len(os.listdir("/dev/fd"))
        Path(paths[which]).touch()
        holder = locking(Path(paths[which]), how)
        with Locks(paths) as had:
            assert not had
        holder.communicate("\n")
        assert not any(is_locked(path) for path in paths)
        assert len(os.listdir("/dev/fd")) == before

    def test_are_not_had_where_there_are_none(
        self, paths: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        without_locks(monkeypatch, errno.ENOLCK)
        with Locks(paths) as had:
            assert not had


class TestOnWindows:
    """What is asked there; `windows` itself is tested in tests/windows."""

    @pytest.fixture(autouse=True)
    def stand_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(layout, "WINDOWS", True)
        monkeypatch.setitem(sys.modules, "pyo3_envshim.windows", StandIn)

    @pytest.mark.parametrize("exclusive", [False, True])
    def test_a_lock_is_refused_or_waited_for_if_another_process_has_it(
        self, exclusive: bool, folder: Path
    ) -> None:
        holder = locking(folder, fcntl.LOCK_SH)
        with Lock(str(folder), exclusive, without=True) as had:
            assert had is not exclusive
        assert holder.stdin is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        with Lock(str(folder), exclusive, without=True, wait=True) as had:
            assert had
        holder.communicate()

    def test_a_lock_is_of_the_name_and_no_file_is_held(self, folder: Path, opened: int) -> None:
        assert stands(opened, str(folder))
        folder.rmdir()
        assert not stands(opened, str(folder))
        folder.touch()
        assert hold(str(folder)) is None
        assert is_held(str(folder)) is False
        lock.inherit(-1)


class TestSharing:
    def test_waits_for_who_has_it_alone(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        holder, flock = locking(folder, fcntl.LOCK_EX), fcntl.flock

        def release_and_flock(descriptor: int, how: int) -> None:
            if not how & fcntl.LOCK_NB:
                holder.communicate("\n")
            flock(descriptor, how)

        monkeypatch.setattr(fcntl, "flock", release_and_flock)
        shared = share(str(folder))
        holder.communicate()
        with Lock(str(folder), exclusive=True, without=True) as had:
            assert not had
        lock.close(shared)

    def test_goes_with_others_that_share(self, folder: Path) -> None:
        one, other = share(str(folder)), share(str(folder))
        assert one is not None
        assert other is not None
        os.close(one)
        with Lock(str(folder), exclusive=True, without=True) as had:
            assert not had
        os.close(other)

    def test_is_an_error_where_nothing_more_can_be_opened(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: str) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)

        monkeypatch.setattr(lock, "open_folder", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            share(str(folder))

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


_BECOMES = """\
import os, sys, threading
sys.path.insert(0, sys.argv[1])
from pyo3_envshim.store.lock import hold
held = hold(sys.argv[2])
threading.Thread(target=sys.stdin.readline, daemon=True).start()  # as rustup's proxy has some
os.execv(sys.executable, [sys.executable, "-c", sys.argv[3], str(held)])
"""
_WAITS = "import sys; print('ready', flush=True); sys.stdin.readline()"


class TestAHeldFile:
    @pytest.fixture
    def file(self, tmp_path: Path) -> str:
        return str(tmp_path / "file")

    def held(self, file: str, code: str) -> subprocess.Popen[str]:
        """Start a process that holds *file* and becomes another that runs *code*."""
        command = [sys.executable, "-c", _BECOMES, str(ROOT), file, code]
        pipe = subprocess.PIPE
        found = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert found.stdout is not None
        assert found.stdout.readline() == "ready\n"
        return found

    def test_is_made_where_it_is_missing_for_the_user_alone(self, file: str) -> None:
        assert is_held(file) is False
        held = hold(file)
        assert held is not None
        assert held >= 100  # out of the way of a shell's script
        assert os.get_inheritable(held)
        assert os.stat(file).st_mode & 0o777 == 0o600
        os.close(held)

    @pytest.mark.skipif(not lock._outlasts_exec(), reason="this Linux drops it")
    def test_is_held_by_what_replaces_the_process(self, file: str) -> None:
        process = self.held(file, _WAITS)
        assert is_held(file) is True
        assert is_held(file) is True  # having looked changes nothing
        also = hold(file)
        assert also is not None  # it is shared
        os.close(also)
        process.communicate("\n")
        assert is_held(file) is False

    def test_is_not_held_by_what_that_starts(self, file: str, tmp_path: Path) -> None:
        daemon = Daemon(tmp_path)
        start = [sys.executable, str(daemon.program), str(daemon.note)]
        code = f"import subprocess; subprocess.run({start}, close_fds=False, check=True); {_WAITS}"
        process = self.held(file, code)
        process.communicate("\n")
        assert daemon.lives()
        assert is_held(file) is False
        daemon.end()

    @pytest.mark.parametrize("code", ["ENOLCK", "ENOTSUP", "EINVAL"])
    def test_is_neither_held_nor_free_where_there_are_no_such_locks(
        self, code: str, file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(getattr(errno, code), code)

        Path(file).touch()
        before = len(os.listdir("/dev/fd"))
        monkeypatch.setattr(fcntl, "lockf", refuse)
        assert hold(file) is None
        assert is_held(file) is None
        assert len(os.listdir("/dev/fd")) == before

    def test_is_in_use_where_that_is_in_doubt(self, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        Path(file).touch()
        monkeypatch.setattr(fcntl, "lockf", refuse)
        assert is_held(file) is True

    @pytest.mark.parametrize("make", [lambda path: os.symlink("/dev/null", path), os.mkdir])
    def test_is_neither_a_link_nor_a_folder(self, make: Callable[[str], object], file: str) -> None:
        make(file)
        assert hold(file) is None
        assert is_held(file) is False

    @pytest.mark.parametrize(
        ("release", "outlasts"),
        [("5.10.0-28-amd64", False), ("4.4.0", False), ("5.11.0-rc1", True), ("6.1", True), ("odd", False)],
    )
    def test_needs_a_linux_that_keeps_it(
        self, release: str, outlasts: bool, file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = os.uname_result(("Linux", "", release, "", ""))
        monkeypatch.setattr(os, "uname", lambda: names)
        monkeypatch.setattr(sys, "platform", "linux")
        held = hold(file)
        assert (held is not None) == outlasts
        lock.close(held)
        monkeypatch.setattr(sys, "platform", "darwin")
        assert lock._outlasts_exec()


def test_where_cargo_takes_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not lock.is_on_network(str(tmp_path))
    note, device = tmp_path / "mountinfo", os.stat(tmp_path).st_dev
    here = f"{os.major(device)}:{os.minor(device)}"
    names = b"/ /odd\xff\xe2\x80\x83-\xe2\x80\x83ext4 rw master:1"  # not UTF-8; wide spaces
    opened = open

    def open_note(path: str, **how: str) -> object:
        assert path == "/proc/self/mountinfo"
        return opened(note, **how)  # type: ignore[call-overload]

    monkeypatch.setattr(lock, "open", open_note, raising=False)
    for number, there in ((f"{here}1", False), (here, True)):
        note.write_bytes(b"36 35 %b %b - nfs4 server:/ rw\n" % (number.encode(), names))
        assert lock.is_on_network(str(tmp_path)) is there
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not lock.is_on_network(str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    note.unlink()
    assert not lock.is_on_network(str(tmp_path))
