"""The stamp of a build: which workspace was built, with which nonce, and the state of each source then.

It lies in the profile's folder, or in a kept build folder, and says nothing of the build's end: that is the
newest time stamp that cargo itself compares with. It lists files, not only the time of the start, because
renaming a folder into place changes no ctime below it, and a clock that steps back makes a later change
look earlier. It is written last: if we die earlier, the doubt remains.
"""

from __future__ import annotations

import os  # nothing else from the standard library: every call that compiles imports this module

from pyo3_envshim import files
from pyo3_envshim.sources import LINK, Source, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping


# Swatinem/rust-cache (2.9) takes what follows the last hyphen for a hash, and keeps .fingerprint.
STAMP = ".fingerprint-envshim"
# What is known, if anything, of units that were left in doubt; they may be put aside.
OLD_STAMP = ".fingerprint-envshim-old"
FORMAT = "pyo3-envshim stamp 1"
CONFIGURATION = "configuration "  # before the path of such a file in the stamp
_WRITTEN = 60  # seconds after which surely nobody is still writing one


class Stamp:
    """What is known of the last build in a build folder.

    *root*: the workspace root. *nonce*: that of the path it used; may be empty. *start*: when
    it started, in ns of the build folder's file system. *files*: the state of each local
    source file then, by path.
    """

    __slots__ = ("files", "nonce", "root", "start")

    def __init__(self, root: str, nonce: str, start: int, files: dict[str, str]) -> None:
        self.root = root
        self.nonce = nonce
        self.start = start
        self.files = files


def read_stamp(path: str) -> Stamp | None:
    """Return the stamp at *path*, or None if there is none of this format. Raises OSError."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            text = file.read()
        start = os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return None
    lines = text.split("\0")
    if lines[0] != FORMAT or len(lines) < 4 or lines[-1] != "end":
        return None  # nothing is known; the next stamp replaces it
    # The path is the key: two names of one file have the same state.
    states = {path: state for state, _, path in (line.partition(" ") for line in lines[3:-1])}
    return Stamp(lines[1], lines[2], start, states)


def is_unreadable(path: str) -> bool:
    """Tell whether a stamp is there that says nothing, and that nobody is just writing. Raises OSError.

    It was cut short by a power failure, or is of another format.
    """
    import time

    try:
        age = time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        return False
    return abs(age) > _WRITTEN and read_stamp(path) is None


def write_stamp(
    build: str, root: str, nonce: str, sources: Mapping[str, Source], only_as_first: bool = False
) -> bool:
    """Leave a stamp in the folder *build*; its own mtime is the start of the build.

    Returns False if there is one already and this was to be the first. Raises OSError.
    """
    states = [f"{source.state} {path}" for path, source in sources.items()]
    content = "\0".join([FORMAT, root, nonce, *states, "end"]).encode("utf-8", "surrogateescape")
    os.makedirs(build, exist_ok=True)
    path = os.path.join(build, STAMP)
    if not only_as_first:
        files.replace(path, content)
        return True
    try:
        files.create(path, content)  # not every file system has hard links; half a stamp is none
    except FileExistsError:
        return False
    except OSError:  # a full disk
        files.remove(path)
        raise
    return True


def is_of_this_kind(stamp: Stamp, root: str, sources: Mapping[str, Source]) -> bool:
    """Tell whether the last build was of this workspace, with this configuration."""
    now = {path: source.state for path, source in sources.items() if path.startswith(CONFIGURATION)}
    before = {path: state for path, state in stamp.files.items() if path.startswith(CONFIGURATION)}
    return stamp.root == root and now == before


def gone_sources(
    stamp: Stamp | None, sources: Mapping[str, Source], read: Container[str] | None = None
) -> dict[str, Source]:
    """Return the files of *stamp* that no longer exist, each as new as the folder that it was in.

    If *read* is given, only those count. A link that is gone is not new: cargo knows the file that it
    led to, and looks at that.
    """
    found = {}
    for path, state in stamp.files.items() if stamp else ():
        if path in sources or path.startswith(CONFIGURATION) or not (read is None or plain(path) in read):
            continue
        if state == LINK or not os.path.lexists(path):
            found[path] = Source("gone", 0 if state == LINK else _mtime_above(path), 0)
    return found


def _mtime_above(path: str) -> int:
    """Return the mtime of the nearest folder above *path* that exists; 0 if there is none."""
    folder = os.path.dirname(path)
    while folder != path:
        try:
            return os.stat(folder).st_mtime_ns
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            path, folder = folder, os.path.dirname(folder)
    return 0
