"""The local source files, and the state in which they are: by `stat` alone, no content is read.

Reads: the folders of the local packages, and what cargo or rustc is known to have read elsewhere.
"""

from __future__ import annotations

import os  # nothing else: every call that compiles imports this module

from pyo3_envshim.files import change_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LINK = "link"  # the state of a link; its key says where it leads
ARROW = "//-> "  # between the two in that key: in no path that has no superfluous slashes
NOT_KNOWN = 1 << 63  # as the time of a change: later than the start of any build, so in doubt


class Source:
    """A local source file: its state (to compare), and its mtime and ctime in ns."""

    __slots__ = ("ctime", "mtime", "state")

    def __init__(self, state: str, mtime: int, ctime: int) -> None:
        self.state = state
        self.mtime = mtime
        self.ctime = ctime


FILES, SOURCES, HIDDEN_TOO, EVERYTHING = range(4)  # how much of a folder counts


class Listing:
    """The source files, by path: *found*. Links are followed, because cargo reads what they lead to.

    *read*: the names of those that something is known to have read, and where these lead.

    Hidden folders, environments, tagged caches, what front and back ends make (they do so in each build),
    and the folders in *skip* hold no sources, except for what was read. A folder that cannot be read holds
    none: cargo cannot read it either.
    """

    def __init__(self, skip: Iterable[str], packages: Iterable[str]) -> None:
        self.found: dict[str, Source] = {}
        self.read: set[str] = set()
        # Always scan the packages' own folders, even ones that look like caches.
        self._own = {os.path.realpath(folder) for folder in packages}
        self._skipped = {os.path.realpath(folder) for folder in skip} - self._own
        self._seen: dict[str, int] = {}

    def add(self, folder: str, reach: int = SOURCES) -> None:
        """Add the files of a folder of sources: so many of those below it as *reach* tells."""
        real = os.path.realpath(folder)
        if real != folder:  # decides where a `..` behind it leads
            self.found[f"{folder}{ARROW}{real}"] = Source(LINK, 0, 0)
            self.read.add(folder)
        self._own.add(real)
        self._collect(real, reach)

    def add_read(self, paths: Iterable[str], unwatched: tuple[str, ...] = ()) -> None:
        """Add files that something has read, and all below the folders; but none below *unwatched* ones."""
        folders: dict[str, str] = {}
        for path in paths:
            folder, name = os.path.split(path)
            if folder not in folders:
                folders[folder] = os.path.realpath(folder)
            real = os.path.join(folders[folder], name)
            if name in ("", os.curdir, os.pardir) or os.path.islink(real):
                real = os.path.realpath(path)
            if real.startswith(unwatched):
                continue
            plain = os.path.normpath(path)
            self.read.update((plain, real))
            if plain != real:
                self._add_links(path)
            if os.path.isdir(real):
                self._collect(real, EVERYTHING)
            elif real not in self.found and (os.path.exists(real) or _is_too_long(real)):
                self._add(real)

    def _add_links(self, path: str) -> None:
        """Add the links on the way to *path*, each by the folder that it really lies in."""
        above = ""
        while path != above:
            folder, name = os.path.split(path)
            if os.path.islink(path) or (os.name == "nt" and _leads_elsewhere(path)):
                place = os.path.join(os.path.realpath(folder), name)
                self.read.add(place)
                if os.path.exists(path):
                    self.found.setdefault(f"{place}{ARROW}{os.path.realpath(path)}", Source(LINK, 0, 0))
            path, above = folder, path

    def _collect(self, folder: str, reach: int) -> None:
        """Add the files below *folder*, a path without links."""
        if folder in self._skipped or self._seen.get(folder, -1) >= reach:
            return
        try:
            with os.scandir(folder) as entries:
                listing = list(entries)
        except PermissionError:
            return
        except FileNotFoundError:
            if folder in self._own:
                raise
            if _is_too_long(folder):
                self.found[folder] = _out_of_reach()
            return  # removed since it was listed
        is_tagged = any(entry.name in ("pyvenv.cfg", "CACHEDIR.TAG") for entry in listing)
        if is_tagged and reach < EVERYTHING and folder not in self._own:
            return
        self._seen[folder] = reach
        for entry in listing:
            path = place = entry.path
            if entry.is_symlink() or (os.name == "nt" and _is_junction(entry.stat(follow_symlinks=False))):
                if not os.path.exists(path):  # cargo sees nothing there
                    continue
                at = entry.stat(follow_symlinks=False)
                place = os.path.realpath(path)
                self.found[f"{path}{ARROW}{place}"] = Source(LINK, at.st_mtime_ns, _changed(path, at))
            if not entry.is_dir():
                if reach == EVERYTHING or not _is_made_by_builds(folder, entry.name):
                    self._add(path)
            elif reach == EVERYTHING or (reach and not _holds_no_sources(folder, entry.name, reach)):
                self._collect(place, reach)
            if reach == EVERYTHING:
                self.read.add(path)

    def _add(self, path: str) -> None:
        try:
            at = os.stat(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):  # removed since it was listed
            if _is_too_long(path):
                self.found[path] = _out_of_reach()
            return
        changed = _changed(path, at)
        state = f"{at.st_ino}-{at.st_size}-{at.st_mtime_ns}-{changed}"
        self.found[path] = Source(state, at.st_mtime_ns, changed)


def listed(paths: Iterable[str]) -> dict[str, Source]:
    """Return files that will be read, and the links on the way to them, as sources. Raises OSError."""
    listing = Listing((), ())
    listing.add_read(paths)
    return listing.found


def _is_too_long(path: str, windows: bool = os.name == "nt") -> bool:
    """Tell whether *path* may seem not to be there for its length, for all but programs of Rust's.

    Unless LongPathsEnabled is set, Windows knows 259 characters, two or more of a folder's for what is in it.
    """
    return windows and len(path) > 250


def _out_of_reach() -> Source:
    return Source("out of reach", 0, NOT_KNOWN)


def _is_junction(found: os.stat_result) -> bool:
    """Tell by its stat whether a folder on Windows is a name of another (pnpm makes such, in circles)."""
    return getattr(found, "st_reparse_tag", 0) == 0xA0000003  # IO_REPARSE_TAG_MOUNT_POINT


def _leads_elsewhere(path: str) -> bool:
    return os.path.exists(path) and _is_junction(os.lstat(path))


def _changed(path: str, at: os.stat_result) -> int:
    found = change_time(path, at)
    return NOT_KNOWN if found is None else found


def _holds_no_sources(folder: str, name: str, reach: int) -> bool:
    """Tell whether a folder is hidden, or made by setuptools: ``build/lib.linux-x86_64-cpython-39``.

    setuptools copies modules there in each build; for Python 3.9 their times have no fraction of a
    second. The macros of sqlx read ``.sqlx``.
    """
    if name.startswith("."):
        return name in (".git", ".hg", ".jj") or (reach == SOURCES and name != ".sqlx")
    if name == "__pycache__":
        return True
    is_built = os.path.basename(folder) == "build" and name.startswith(("lib.", "temp.", "bdist."))
    return is_built or name.endswith(".egg-info")


def _is_made_by_builds(folder: str, name: str) -> bool:
    """Tell whether a file is a wheel, an sdist, or an extension module that was put beside the sources."""
    if name.endswith(".so"):
        return name.endswith(".abi3.so") or ".cpython-" in name or ".pypy" in name
    return name.endswith((".whl", ".pyd")) or (name.endswith(".tar.gz") and folder.endswith("dist"))


def plain(path: str) -> str:
    """Return the name of a source without where it leads."""
    return path.partition(ARROW)[0]
