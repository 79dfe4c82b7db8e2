"""The stamp of a build: which workspace was built, with which nonce, and the state of each source then.

It lies in the profile's folder, or in a kept build folder, and says nothing of the build's end: that is the
newest time stamp that cargo itself compares with. It lists files, not only the time of the start, because
renaming a folder into place changes no ctime below it, and a clock that steps back makes a later change
look earlier. It is written last: if we die earlier, the doubt remains.
"""

from __future__ import annotations

import os  # nothing else from the standard library: every call that compiles imports this module

from pyo3_envshim import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyo3_envshim.sources import Source


# Swatinem/rust-cache (2.9) takes what follows the last hyphen for a hash, and keeps .fingerprint.
STAMP = ".fingerprint-envshim"
# What is known, if anything, of units that were left in doubt; they may be put aside.
OLD_STAMP = ".fingerprint-envshim-old"
FORMAT = "pyo3-envshim stamp 1"


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


def write_stamp(
    build: str, root: str, nonce: str, sources: Mapping[str, Source], only_as_first: bool = False
) -> bool:
    """Leave a stamp in the folder *build*, in one step; its own mtime is the start of the build.

    Returns False if there is one already and this was to be the first. Raises OSError.
    """
    states = [f"{source.state} {path}" for path, source in sources.items()]
    content = "\0".join([FORMAT, root, nonce, *states, "end"]).encode("utf-8", "surrogateescape")
    os.makedirs(build, exist_ok=True)
    path = os.path.join(build, STAMP)
    if not only_as_first:
        files.replace(path, content)
        return True
    temporary = files.write_beside(path, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # no hard links here
        files.rename(temporary, path, over=True)
    finally:
        files.remove(temporary)
    return True
