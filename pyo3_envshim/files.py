"""Writes files that no reader sees half-written, and removes what may already be gone."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Windows' answers where somebody else has a file open: access denied, a sharing violation; has part of it
# locked, or mapped; and where what is removed, or in a folder that is, stays until it is closed.
_IN_USE = (5, 32, 33, 1224, 303, 145)
_SECOND = 50  # tries
A_SCAN = 10 * _SECOND  # a scanner reads all that has just been written; uv waits as long


def rename(source: str, target: str, over: bool = False, tries: int = _SECOND) -> None:
    """Rename a file or folder; a file that is there is replaced if it is to go *over* that. Raises OSError.

    On Windows, a virus scanner or an indexer may have it open for a moment.
    """
    function = os.replace if over else os.rename
    _insist(lambda: function(source, target), tries)


def _insist(function: Callable[[], None], tries: int = _SECOND) -> None:
    if os.name == "nt":
        import time

        for _ in range(tries):
            try:
                return function()
            except OSError as error:
                if getattr(error, "winerror", None) not in _IN_USE:
                    raise
            time.sleep(0.02)
    return function()


def change_time(path: str, found: os.stat_result) -> int | None:
    """Return when the file at *path*, with this stat, last changed in any way, in ns; None if not known.

    Unlike the mtime, this is no time that a program sets. Of a link (by its stat), it is the link's own.
    """
    if os.name != "nt":
        return found.st_ctime_ns
    import stat

    from pyo3_envshim import windows

    return windows.change_time(path, stat.S_ISLNK(found.st_mode))


def starts_programs(folder: str) -> bool:
    """Tell whether what lies in *folder* can be started, which is mounted without noexec. Raises OSError."""
    return os.name == "nt" or not os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0)


def private_mode(path: str, windows: bool = os.name == "nt") -> int:
    """Return the mode to make the folder *path* with, which is to be the user's alone.

    On Windows, all below the user's profile is. With 0o700, Python (3.12.4) lets the owner in and no other
    user, and what an elevated process makes is the administrators': the user themselves would be
    shut out for good (python/cpython#157876).
    """
    if not windows:
        return 0o700
    profile = os.path.normcase(os.path.realpath(os.path.expanduser("~")))
    is_below = os.path.normcase(os.path.realpath(path)).startswith(os.path.join(profile, ""))
    return 0o777 if is_below else 0o700


def create(path: str, content: bytes, executable: bool = False) -> None:
    """Write a file that must not exist yet. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755 if executable else 0o644)
    with open(descriptor, "wb") as file:
        file.write(content)


def write_beside(path: str, content: bytes, executable: bool = False) -> str:
    """Write a temporary file in the folder of *path*, and return its path. Raises OSError."""
    temporary = f"{path}.{os.getpid()}-{os.urandom(4).hex()}"
    try:
        create(temporary, content, executable)
    except OSError:
        remove(temporary)
        raise
    return temporary


def remove_unfinished(path: str) -> None:
    """Remove what processes that were killed have left of `write_beside`. Raises OSError."""
    above, name = os.path.split(path)
    for other in os.listdir(above):
        number = other[len(name) + 1 :].partition("-")[0]
        if other.startswith(f"{name}.") and number.isdecimal() and not _lives(int(number)):
            remove(os.path.join(above, other))


def _lives(process: int) -> bool:
    """Tell whether *process* may still run; one in another container does not seem to."""
    if os.name == "nt":  # where 0 is no question but CTRL_C_EVENT
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def replace(path: str, content: bytes, executable: bool = False) -> None:
    """Write the file at *path*; a reader sees the old content or the new one. Raises OSError."""
    temporary = write_beside(path, content, executable)
    try:
        rename(temporary, path, over=True)
    except OSError:
        remove(temporary)
        raise


def remove(path: str) -> None:
    """Remove a file or folder if it exists; what cannot be removed stays."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:  # a folder: EISDIR on Linux, EPERM on macOS
        import shutil

        shutil.rmtree(path, ignore_errors=True)
        if os.path.lexists(path):
            try:
                delete(path)
            except OSError:
                shutil.rmtree(path, ignore_errors=True)


def unlink(path: str) -> None:
    """Remove a file. Raises OSError."""
    _insist(lambda: os.unlink(path))


def delete(path: str) -> None:
    """Remove a file or folder. Raises OSError."""
    if os.name == "nt":
        make_writable(path)
    if not os.path.isdir(path) or os.path.islink(path):
        return unlink(path)
    import shutil

    try:
        return _insist(lambda: shutil.rmtree(path))
    except PermissionError:
        make_writable(path)
        return _insist(lambda: shutil.rmtree(path))


def make_writable(path: str) -> None:
    """Let no mode keep the owner from removing what is at *path*: that of what a build script copied, say.

    On POSIX a folder's does, and on Windows that of files, too. Raises OSError.
    """
    import stat

    wanted = stat.S_IWRITE if os.name == "nt" else stat.S_IRWXU

    def insist(place: str) -> None:
        mode = stat.S_IMODE(os.lstat(place).st_mode)
        if mode & wanted != wanted:
            os.chmod(place, mode | wanted)

    insist(path)
    for above, folders, names in os.walk(path):  # a folder is opened after it was among *folders*
        for name in [*folders, *(names if os.name == "nt" else ())]:
            insist(os.path.join(above, name))
