"""What Python has no name for on Windows: shared locks, when a file last changed, ending with a parent.

Imported on Windows only, and late: ctypes takes some milliseconds. All of it is documented (kernel32),
and was run under Wine 10.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import msvcrt
import os
import time
from ctypes import wintypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from typing import Any

# Type checkers know these modules as they are elsewhere, without what is used here.
_ctypes: Any = ctypes
_msvcrt: Any = msvcrt

LOCKS = ".locks"  # beside the folders whose locks it holds
_LOCKED, _NO_LOCKS = 33, (1, 50)  # LockFileEx: another has it; the file system has none
_EXCLUSIVE, _FAIL_IMMEDIATELY = 2, 1
_UNIX_EPOCH = 116444736000000000  # in 100 ns since 1601

_kernel32 = _ctypes.WinDLL("kernel32", use_last_error=True)
_kernel32.CreateFileW.restype = wintypes.HANDLE
_kernel32.CreateJobObjectW.restype = wintypes.HANDLE


class _Overlapped(ctypes.Structure):
    _fields_ = (
        ("internal", ctypes.c_void_p),
        ("internal_high", ctypes.c_void_p),
        ("offset", wintypes.DWORD),
        ("offset_high", wintypes.DWORD),
        ("event", wintypes.HANDLE),
    )


class _BasicInfo(ctypes.Structure):
    _fields_ = (
        ("created", ctypes.c_int64),
        ("accessed", ctypes.c_int64),
        ("written", ctypes.c_int64),
        ("changed", ctypes.c_int64),
        ("attributes", wintypes.DWORD),
    )


class _JobLimits(ctypes.Structure):
    _fields_ = (
        ("times", ctypes.c_int64 * 2),
        ("flags", wintypes.DWORD),
        ("working_set", ctypes.c_size_t * 2),
        ("active_processes", wintypes.DWORD),
        ("affinity", ctypes.c_size_t),
        ("classes", wintypes.DWORD * 2),
        ("io", ctypes.c_uint64 * 6),
        ("memory", ctypes.c_size_t * 4),
    )


def change_time(path: str, is_link: bool = False) -> int | None:
    """Return when the file at *path* last changed, in ns since 1970; None where that is not kept (FAT).

    NTFS' change time, which `os.utime` and its like cannot put back. ``st_ctime`` is the time of
    creation here.
    """
    own = 0x00200000 if is_link else 0  # FILE_FLAG_OPEN_REPARSE_POINT; the other is BACKUP_SEMANTICS
    file = _kernel32.CreateFileW(path, 0x80, 7, None, 3, 0x02000000 | own, None)
    if file in (None, wintypes.HANDLE(-1).value):
        return None
    file, info = wintypes.HANDLE(file), _BasicInfo()
    known = _kernel32.GetFileInformationByHandleEx(file, 0, ctypes.byref(info), ctypes.sizeof(info))
    _kernel32.CloseHandle(file)
    return (info.changed - _UNIX_EPOCH) * 100 if known and info.changed else None


def open_lock(folder: str) -> int:
    """Open what stands for the lock of *folder*: a byte of a file beside it, at which the descriptor is.

    A folder has no locks of its own, and cannot be renamed while a file in it is open. Raises OSError.
    """
    if not is_folder(folder):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
    above, name = os.path.split(os.path.abspath(folder))
    file = os.open(os.path.join(above, LOCKS), os.O_RDWR | os.O_CREAT, 0o600)
    key = hashlib.sha256(os.path.normcase(name).encode("utf-8", "surrogatepass")).digest()
    os.lseek(file, int.from_bytes(key[:4], "big") + 1, os.SEEK_SET)
    return file


def is_folder(path: str) -> bool:
    """Tell whether *path* is a folder, and not a link to one."""
    return os.path.isdir(path) and not os.path.islink(path)


def try_lock(descriptor: int, exclusive: bool, wait: bool) -> bool | None:
    """Lock the byte at which an open file is, as `lock.try_lock` does. Raises OSError.

    The lock ends with this process, or when it closes the descriptor; it is not inherited.
    """
    at = os.lseek(descriptor, 0, os.SEEK_CUR)
    place = _Overlapped(offset=at & 0xFFFFFFFF, offset_high=at >> 32)
    file = wintypes.HANDLE(_msvcrt.get_osfhandle(descriptor))
    flags = (_EXCLUSIVE if exclusive else 0) | _FAIL_IMMEDIATELY
    _kernel32.UnlockFileEx(file, 0, 1, 0, ctypes.byref(place))  # a second lock would wait for the first
    while not _kernel32.LockFileEx(file, flags, 0, 1, 0, ctypes.byref(place)):
        code = _ctypes.get_last_error()
        if code in _NO_LOCKS:
            return None
        if code != _LOCKED:
            raise _ctypes.WinError(code)
        if not wait:
            return False
        time.sleep(0.01)  # within LockFileEx, Ctrl-C would be ignored
    return True


def end_together(process: subprocess.Popen[bytes]) -> Any:
    """Let *process* end if this one does: a job ends with the last handle to it, which is returned.

    What the process starts is not in the job, unless the process makes one for itself, as cargo does and
    rustup: that is within this one then, and nothing leaves it. So it ends too, as after a kill of cargo.
    """
    job = wintypes.HANDLE(_kernel32.CreateJobObjectW(None, None))
    # KILL_ON_JOB_CLOSE, which is when this process ends, and SILENT_BREAKAWAY_OK
    _limit(job, 0x2000 | 0x1000)
    _kernel32.AssignProcessToJobObject(job, wintypes.HANDLE(int(process._handle)))  # type: ignore[attr-defined]
    return job


def let_live(job: Any) -> None:
    """Let what is left in a job of `end_together` live on: a compiler cache's server, the linker's.

    As cargo does, whose own job has no limits when it has ended by itself (1.95, ``util/job.rs``).
    """
    _limit(job, 0)


def _limit(job: Any, flags: int) -> None:
    limits = _JobLimits(flags=flags)
    _kernel32.SetInformationJobObject(job, 9, ctypes.byref(limits), ctypes.sizeof(limits))
