"""The kept build folders in the cache: where one may be, which there are, how large, and which of them go."""

from __future__ import annotations

import os

from pyo3_envshim import files
from pyo3_envshim.cargo import target_dir
from pyo3_envshim.environment import layout
from pyo3_envshim.stamp import STAMP
from pyo3_envshim.store import ownership
from pyo3_envshim.store.lock import Lock, is_held
from pyo3_envshim.store.prune import evict, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


VARIABLE = "PYO3_ENVSHIM_BUILD_CACHE"
LIMIT = 5 << 30
BUILDS = "builds"
USED = ".in-use"  # locked by the cargo that works in the folder
_OLD = ".old-"
_ON = ("on", "1", "yes", "true")
_LONGEST = 128  # on Windows, where compilers and linkers know 260 characters; cargo adds about 100
# In OUT_DIR, some build scripts cannot bear these; cargo refuses ":", which separates paths. On Windows,
# where no shell reads them, only what is a template for cargo.
_SPECIAL = frozenset("{" if layout.WINDOWS else " \t\n\r:;'\"`$&|<>*?()[]{}\\")


def keeps_all(environ: Mapping[str, str]) -> bool:
    """Tell whether all that comes from a registry or from git is kept."""
    return environ.get(VARIABLE, "").strip().lower() in _ON


def limit_of(environ: Mapping[str, str]) -> tuple[float, str]:
    """Return how many bytes the folders may have together, 0 being off; and what is wrong with that."""
    value = environ.get(VARIABLE, "").strip()
    word = value.lower()
    if word in ("off", "0", "no", "false"):
        return 0, ""
    if word in ("", *_ON):
        return LIMIT, ""
    try:
        size = parse_size(word)
    except ValueError:
        return LIMIT, f"{VARIABLE}={value!r} is taken as its default: say on, off or a size such as 10G"
    return (float("inf") if size is None else size), ""


def flaw_of(folder: str, longest: int) -> str:
    """Return why cargo must not work in *folder*, which may be missing; or "". Raises OSError.

    *longest*: how long the path may be in any case.
    """
    # A surrogate stands for a byte that is not UTF-8.
    if any(it in _SPECIAL or "\ud800" <= it <= "\udfff" for it in folder):
        return f"not everything can work with the path {folder}"
    if layout.WINDOWS and len(folder) > max(_LONGEST, longest):
        return f"the path {folder} is too long for compilers on Windows"
    above = os.path.dirname(folder)
    if flaw := ownership.flaw_of(above):
        return str(flaw)
    if not files.starts_programs(above):
        return f"no build script can be started in {above}"
    return ""


class Build:
    """A kept build folder: its name and path; when it was last used (seconds); its files' sizes by inode."""

    def __init__(self, path: str) -> None:
        self.name, self.path = os.path.basename(path), path
        self.inodes: dict[int, int] = {}
        for above, _, names in os.walk(path):
            for name in names:
                try:
                    found = os.lstat(os.path.join(above, name))
                    self.inodes[found.st_ino] = found.st_size
                except OSError:  # a build has just removed it
                    pass
        try:
            self.used = os.lstat(os.path.join(path, STAMP)).st_mtime
        except OSError:
            self.used = 0.0

    @property
    def size(self) -> int:
        """The size of the files in bytes."""
        return sum(self.inodes.values())


def builds(cache: str) -> list[Build]:
    """Return the folders that are kept in a cache folder, the least recently used first."""
    paths = target_dir.paths_in(cache, BUILDS)
    found = [Build(path) for path in paths if not os.path.basename(path).startswith(".")]
    return sorted(found, key=lambda build: build.used)


def prune(cache: str, limit: float, before: float = 0) -> list[str]:
    """Remove the least recently used until there are at most *limit* bytes, and those unused since *before*.

    A folder that is in use stays. Returns the names of those that were removed.
    """
    for path in target_dir.paths_in(cache, BUILDS):
        if os.path.basename(path).startswith(_OLD):  # left by a process that was killed while removing it
            files.remove(path)
    return [build.name for build in evict(builds(cache), limit, before, _take_away)]


def clear(cache: str) -> list[str]:
    """Remove all folders that are not in use; return their names."""
    return prune(cache, 0, before=float("inf"))


def _take_away(build: Build) -> bool:
    try:
        with Lock(build.path, exclusive=True, without=False) as free:
            if not free or is_held(os.path.join(build.path, USED)):
                return False
            old = os.path.join(os.path.dirname(build.path), f"{_OLD}{os.getpid()}-{os.urandom(4).hex()}")
            files.rename(build.path, old)
    except OSError:
        return False
    files.remove(old)
    return True
