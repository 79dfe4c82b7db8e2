"""Checks that a folder is the user's own, and everything on the way to it the user's or root's.

Anyone who can write to a folder above the store, or owns a link on the way to it, can put
another store in its place. For root, and so under sudo, a folder of the caller's is another
user's. Access control lists are not looked at beyond what the mode shows of them. Nothing
is checked on Windows: all below the user's profile is private there, and a folder elsewhere is made
so, as far as Python can (`files.private_mode`).

In a user namespace (bubblewrap, ``unshare -Ur``), users that are not mapped, root mostly among
them, all seem to be one, nobody (the overflow uid, user_namespaces(7)). A folder of nobody's may be
root's or anyone's. It is trusted where its owner could run code in this very build without us, so
that nothing is gained by distrust: the root folder, with every program in it; HOME and what is on
the way to it, as cargo, front ends and shells read there which programs to run; the temporary
folder and what is on the way, as front ends make the environment there that is stored, and
compilers write there. What is in the temporary folder is not: anyone may have put it there.
"""

from __future__ import annotations

import os
import stat

from pyo3_envshim import files
from pyo3_envshim.environment import frontends

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


HINT = "set PYO3_ENVSHIM_CACHE_DIR to a folder of your own, below folders of yours or root's"
_NOBODY = 65534  # the overflow uid, if nobody has changed it


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
    if user >= _NOBODY and user == _nobody():
        return Flaw(f"uid {user} is not mapped in this user namespace, and may be anyone", HINT)
    for at, found in _steps(path):
        # The sticky bit, as on /tmp: others may write, but not remove what is not theirs.
        flaw = _flaw(at, found, _owners(at, found), allowed=stat.S_ISVTX)
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
        return Flaw(f"{path} is not a folder", HINT)
    return _flaw(path, found, (os.geteuid(),))


def is_as_safe_as(script: str, folder: str) -> bool:
    """Tell whether only those can change what is in *folder* who could replace the user's *script* as well.

    Raises OSError.
    """
    beside = os.stat(os.path.dirname(script))
    steps = list(_steps(folder))
    for at, found in steps:
        others = 0 if stat.S_ISLNK(found.st_mode) else 0o022 & found.st_mode
        if found.st_gid == beside.st_gid:  # with a umask of 002
            others &= ~(0o020 & beside.st_mode)
        is_kept = found.st_mode & stat.S_ISVTX and found is not steps[-1][1]
        if found.st_uid not in _owners(at, found) or (others and not is_kept):
            return False
    return True


def _owners(path: str, found: os.stat_result) -> tuple[int, ...]:
    """Return who may own what is on the way at *path*: root, the user, or who is trusted anyway."""
    owners: tuple[int, ...] = (0, os.geteuid())
    if found.st_uid not in owners and _is_relied_on(path) and found.st_uid == _nobody():
        owners += (found.st_uid,)
    return owners


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
        os.mkdir(path, files.private_mode(path))
    except FileExistsError:  # another process was first
        pass
    return os.lstat(path)


def _flaw(path: str, found: os.stat_result, owners: tuple[int, ...], allowed: int = 0) -> Flaw | None:
    if found.st_uid not in owners:
        return Flaw(f"{path} belongs to another user (uid {found.st_uid})", HINT)
    if stat.S_ISLNK(found.st_mode) or not found.st_mode & 0o022 or found.st_mode & allowed:
        return None
    text = f"{path} can be written by others"
    is_own = found.st_uid == os.geteuid()
    return Flaw(text, f"chmod go-w {path}", run=True) if is_own else Flaw(text, HINT)


def _is_relied_on(path: str) -> bool:
    """Tell whether who owns what is at *path* could run code in this build without us (see above)."""
    home = os.environ.get("HOME", "")
    home = home if os.path.isabs(home) else os.sep
    relied_on = (home, os.path.realpath(home), frontends.temporary_folder(os.environ))
    return any(f"{it}/".startswith(os.path.join(path, "")) for it in relied_on)


def _nobody() -> int | None:
    """Return the uid that stands for users who are not mapped; None if it may be a user's own."""
    try:
        with open("/proc/sys/kernel/overflowuid", "rb") as file:
            overflow = int(file.read())
        with open("/proc/self/uid_map", "rb") as file:
            ranges = [list(map(int, line.split())) for line in file]
    except (OSError, ValueError):
        return None
    mapped = any(first <= overflow < first + count for first, _, count in ranges)
    return None if mapped else overflow
