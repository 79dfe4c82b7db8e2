"""Checks that a folder is the user's own, and everything on the way to it the user's or root's.

Anyone who can write to a folder above the store, or owns a link on the way to it, can put
another store in its place. For root, and so under sudo, a folder of the caller's is another
user's. Access control lists are not looked at beyond what the mode shows of them. Nothing
is checked on Windows, where the user's folders are private by default.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Flaw:
    """Why a folder cannot be trusted, and a hint: what to do about it, or the command to *run*."""

    def __init__(self, text: str, hint: str, run: bool = False) -> None:
        self.text = text
        self.hint = hint
        self._run = run

    def __str__(self) -> str:
        return f"{self.text}; {'run: ' if self._run else ''}{self.hint}"


def flaw_on_the_way(path: str) -> Flaw | None:
    """Return why the folder at *path* (absolute) or one on the way to it cannot be trusted, or None.

    Creates the folder if it is missing, but nothing below a folder with a flaw. Raises OSError.
    """
    if os.name == "nt":
        os.makedirs(path, exist_ok=True)
        return None
    user = os.geteuid()
    for at, found in _steps(path):
        # The sticky bit, as on /tmp: others may write, but not remove what is not theirs.
        flaw = _flaw(at, found, (0, user), allowed=stat.S_ISVTX)
        if flaw:
            return flaw
    return flaw_of(at)


def flaw_of(path: str) -> Flaw | None:
    """Return why the folder at *path* is not the user's alone, or None.

    Creates the folder if it is missing. Raises OSError.
    """
    found = _created(path)
    if os.name == "nt":
        return None
    if found.st_uid == os.geteuid() and not stat.S_ISDIR(found.st_mode):
        return Flaw(f"{path} is not a folder", "remove it")
    return _flaw(path, found, (os.geteuid(),))


def _steps(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each folder and link on the way to *path*, from the root down, and its stat."""
    at = os.sep
    yield at, os.lstat(at)
    pending = path.split(os.sep)[::-1]
    while pending:
        name = pending.pop()
        if name in ("", "."):
            continue
        if name == "..":  # in a link's target; the folder above was yielded before
            at = os.path.dirname(at)
            continue
        step = os.path.join(at, name)
        found = _created(step)
        yield step, found
        if stat.S_ISLNK(found.st_mode):
            os.stat(step)  # raises for a link that leads nowhere: its target is not created
            target = os.readlink(step)
            pending += target.split(os.sep)[::-1]
            at = os.sep if os.path.isabs(target) else at
        else:
            at = step


def _created(path: str) -> os.stat_result:
    """Return the stat of what is at *path*: a new folder, if nothing was there."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        pass
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:  # another process was first
        pass
    return os.lstat(path)


def _flaw(path: str, found: os.stat_result, owners: tuple[int, ...], allowed: int = 0) -> Flaw | None:
    if found.st_uid not in owners:
        text = f"{path} belongs to another user (uid {found.st_uid})"
        return Flaw(text, "set PYO3_ENVSHIM_CACHE_DIR to a folder of your own")
    if stat.S_ISLNK(found.st_mode) or not found.st_mode & 0o022 or found.st_mode & allowed:
        return None
    return Flaw(f"{path} can be written by others", f"chmod go-w {path}", run=True)
