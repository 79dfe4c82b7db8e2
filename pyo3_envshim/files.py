"""Writes files that no reader sees half-written, and removes what may already be gone."""

from __future__ import annotations

import os


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
        os.replace(temporary, path)
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
