"""The only place that takes locks: on folders and files of ours, and on cargo's lock files.

The kernel releases a flock when the last process that inherited its descriptor exits. A record
lock (POSIX's, by `fcntl.lockf`) belongs to one process: the program that replaces it keeps the
lock, what it starts does not have it. Both are local to a machine. Some file systems have no locks.

On Windows, where no program replaces a process, one kind is enough: it ends with its process. That
of a folder is on a file beside it, and of its name (`windows.open_lock`).
"""

from __future__ import annotations

import errno
import os
import sys

from pyo3_envshim.environment import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# flock's errors where there are no locks; NFS has none for a folder that cannot be written to.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL)
# open's errors where there is no folder, or none that this user can open.
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES)
# open's errors where there is no file that `hold` could have locked.
_NO_FILE = (errno.ENOENT, errno.ELOOP, errno.EISDIR)
_SHARES = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "fuse.sshfs")
# Shell scripts use small descriptors (dash and bash up to 63) for files of their own.
_INHERITED = 100


def try_lock(descriptor: int, exclusive: bool, wait: bool = False) -> bool | None:
    """Lock an open file or folder; *wait* until other processes release it.

    Returns False if another process has it, None if there are no locks. Raises OSError.
    """
    if layout.WINDOWS:
        from pyo3_envshim import windows

        return windows.try_lock(descriptor, exclusive, wait)
    import fcntl

    how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


def is_locked(path: str) -> bool:
    """Tell whether another process may have locked the file at *path*. Raises OSError."""
    try:
        file = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not try_lock(file, exclusive=True)
    finally:
        os.close(file)


def is_on_network(path: str) -> bool:
    """Tell whether *path* lies on a share, where cargo takes no locks (1.95, ``util/flock.rs``).

    As far as Linux knows; elsewhere cargo asks nothing and takes them.
    """
    if not sys.platform.startswith("linux"):
        return False
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            mounts = [line.split(" ") for line in file]
    except FileNotFoundError:
        return False
    kinds = {mount[mount.index("-") + 1] for mount in mounts if mount[2:3] == [number] and "-" in mount}
    return any(kind.startswith(_SHARES) for kind in kinds)


def hold(path: str) -> int | None:
    """Take a shared record lock on the file at *path*, for this process and what replaces it.

    Returns an inheritable descriptor, for `hold_again`, or None if there can be no such lock. The
    lock ends when this process closes any descriptor of the file: nothing may open it again.
    """
    if layout.WINDOWS or not _outlasts_exec():
        return None
    import fcntl

    try:
        file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            held = fcntl.fcntl(file, fcntl.F_DUPFD, _INHERITED)
        finally:
            os.close(file)
    except OSError:
        return None
    if not hold_again(held):
        os.close(held)
        return None
    return held


def hold_again(held: int) -> bool:
    """Take the lock of `hold` in a process that has inherited its descriptor; tell whether that worked."""
    import fcntl

    try:
        fcntl.lockf(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def is_held(path: str) -> bool | None:
    """Tell whether another process may hold the file at *path* (`hold`); None if there are no such locks.

    Not for a file that this process holds: that would end it. Raises OSError.
    """
    if layout.WINDOWS:  # who uses an entry has a lock on its folder
        return False
    import fcntl

    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # EACCES or EAGAIN if another process has it
        return None if error.errno in _NO_LOCKS else True
    finally:
        os.close(file)
    return False


def inherit(descriptor: int) -> None:
    """Let the program that replaces this process, and all that it starts, keep a flock. Raises OSError."""
    if layout.WINDOWS:  # nothing replaces it: it waits
        return
    import fcntl

    fcntl.fcntl(descriptor, fcntl.F_DUPFD, _INHERITED)  # unlike the original, inheritable


def _outlasts_exec() -> bool:
    """Tell whether a record lock stays when a process of several threads, as rustup's proxy, is replaced.

    Linux before 5.11 drops it (fs/exec.c called unshare_files while the threads still ran).
    """
    if not sys.platform.startswith("linux"):
        return True
    try:
        return [int(number) for number in os.uname().release.split(".")[:2]] >= [5, 11]
    except ValueError:
        return False


def open_folder(path: str) -> int:
    """Open the folder at *path*, but not behind a link: to lock it. Raises OSError."""
    if layout.WINDOWS:
        from pyo3_envshim import windows

        return windows.open_lock(path)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def stands(descriptor: int, path: str) -> bool:
    """Tell whether an open folder is still the one at *path*."""
    if layout.WINDOWS:  # the lock is of the name
        from pyo3_envshim import windows

        return windows.is_folder(path)
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def close(descriptor: int | None) -> None:
    """Close a descriptor, and so release its lock, if there is one."""
    if descriptor is not None:
        os.close(descriptor)


def share(path: str) -> int | None:
    """Take a shared lock on the folder at *path*; return its descriptor.

    None if there is no folder that can be opened. Raises OSError.
    """
    folder = None
    try:
        folder = open_folder(path)
        try_lock(folder, exclusive=False, wait=True)
    except OSError as error:
        close(folder)
        if folder is not None or error.errno not in _NO_FOLDER:
            raise
    return folder


class Locks:
    """Files to lock for us alone in a ``with`` statement, which tells whether all are. Raises OSError.

    They are not if another process has one, or if there are no locks. A file that is not there is made.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = paths
        self._files: list[int] = []

    def __enter__(self) -> bool:
        try:
            for path in self._paths:
                self._files.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))  # cargo's own mode
                if not try_lock(self._files[-1], exclusive=True):
                    return False
        except BaseException:
            self.__exit__()
            raise
        return True

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            os.close(file)


class Lock:
    """A folder to lock in a ``with`` statement, which tells whether it is locked. Raises OSError.

    It is not if another process has it and we do not *wait*, or if it does not stand at its
    path any more. *without* is the answer where there are no locks.
    """

    def __init__(self, path: str, exclusive: bool, without: bool, wait: bool = False) -> None:
        self._path, self._without, self._how = path, without, (exclusive, wait)
        self._folder: int | None = None

    def __enter__(self) -> bool:
        self._folder = open_folder(self._path)
        try:
            locked = try_lock(self._folder, *self._how)
            return (self._without if locked is None else locked) and stands(self._folder, self._path)
        except OSError:
            os.close(self._folder)
            raise

    def __exit__(self, *_: object) -> None:
        close(self._folder)
