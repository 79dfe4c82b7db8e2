"""What the package asks of `windows`, by means of POSIX: to see on POSIX what it does there."""

from __future__ import annotations

import os

from .posix import fcntl


class StandIn:
    """Stands for the module."""

    @staticmethod
    def try_lock(descriptor: int, exclusive: bool, wait: bool) -> bool:
        how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @staticmethod
    def open_lock(path: str) -> int:
        return os.open(path, os.O_RDONLY)

    @staticmethod
    def is_folder(path: str) -> bool:
        return os.path.isdir(path) and not os.path.islink(path)
