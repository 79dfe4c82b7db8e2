"""Whether a folder is the user's own, and everything on the way to it is the user's or root's.

Who may write to a folder above the store, or owns a link on the way to it, can put another
store in its place. As root, so with sudo, a folder of the caller's is another user's.
Not looked at: access control lists beyond what the mode shows of them. On Windows nothing
is: the user's folders are the user's there.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def flaw_on_the_way(path: str) -> str | None:
    """Return why the folder at *path* (absolute) cannot be trusted, and the way out, or None.

    It is made if it is missing, but nothing below a folder with a flaw. Raises OSError.
    """
    if os.name == "nt":
        os.makedirs(path, exist_ok=True)
        return None
    user = os.geteuid()
    for at, found in _steps(path):
        flaw = _flaw(at, found, (0, user))
        # Others may write to /tmp, but not take away what is not theirs: it is sticky.
        if flaw is None and _others_write(found) and not found.st_mode & stat.S_ISVTX:
            flaw = _written_by_others(at)
        if flaw:
            return flaw
    return flaw_of(at)


def flaw_of(path: str) -> str | None:
    """Return why the folder at *path* is not the user's alone, and the way out, or None.

    It is made if it is missing. Raises OSError.
    """
    found = _found(path)
    if os.name == "nt":
        return None
    flaw = _flaw(path, found, (os.geteuid(),))
    if flaw is None and not stat.S_ISDIR(found.st_mode):
        flaw = f"{path} is not a folder; remove it"
    if flaw is None and _others_write(found):
        flaw = _written_by_others(path)
    return flaw


def _steps(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each folder and link on the way to *path*, from the root down, and its stat."""
    at = os.sep
    yield at, os.lstat(at)
    pending = path.split(os.sep)[::-1]
    while pending:
        name = pending.pop()
        if name in ("", "."):
            continue
        if name == "..":  # of a link; the folder above was yielded before
            at = os.path.dirname(at)
            continue
        step = os.path.join(at, name)
        found = _found(step)
        yield step, found
        if stat.S_ISLNK(found.st_mode):
            os.stat(step)  # one that leads nowhere is an error: nothing is made there
            target = os.readlink(step)
            pending += target.split(os.sep)[::-1]
            at = os.sep if os.path.isabs(target) else at
        else:
            at = step


def _found(path: str) -> os.stat_result:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        pass
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:  # another process was first
        pass
    return os.lstat(path)


def _flaw(path: str, found: os.stat_result, owners: tuple[int, ...]) -> str | None:
    if found.st_uid in owners:
        return None
    hint = "set PYO3_ENVSHIM_CACHE_DIR to a folder of your own"
    return f"{path} belongs to another user (uid {found.st_uid}); {hint}"


def _others_write(found: os.stat_result) -> bool:
    return bool(found.st_mode & 0o022) and not stat.S_ISLNK(found.st_mode)


def _written_by_others(path: str) -> str:
    return f"{path} can be written by others; run: chmod go-w {path}"
