"""The freshness guard: can cargo's time stamps be trusted in this build folder?

cargo calls a local crate fresh by comparing the mtimes of its sources with the time of its
last build, and knows the crate by its place within the workspace. That is wrong when two
source trees share a build folder, or when sources were replaced by older ones. The random
path of an ephemeral environment hid the mistake: everything that depends on PyO3 was
compiled each time. Any tool that makes the path stable must give the same guarantee:

    cargo's time stamps can be trusted if the last build here was of the same workspace
    root, and every local source file either has an mtime later than the end of that build
    (cargo will see it), or is the very file that was there when that build started: the
    same inode, size, mtime and ctime, and a ctime before the start. A link must lead where
    it led, and a folder that has lost a file must be newer than the end of that build.

"Here" is one profile of the build folder, in which cargo compiles as if there were no other.
"The end" is when the newest unit of a local package was started; where there is no such unit,
nothing can be stale. Sources are the files in the packages' folders, and whatever cargo noted
as an input elsewhere.

Where a file is in doubt, or a build was here that left no stamp, cargo is made to compile the
packages that the file belongs to, and all local ones that a random path would have made it
compile: under cargo's own locks, their fingerprints are removed. PyO3 stays.

Where another workspace root was here last, or a cargo holds a lock, or there are no locks, the
environment's path gets a new nonce instead. No other workspace root ever has the same one, so
two builds that wait for cargo's lock cannot take each other's code.

A stamp in the profile's folder records the last build, but not its end: that is the newest time
stamp that cargo itself compares with. The stamp lists files, not only the time of the start,
because renaming a folder into place changes no ctime below it, and a clock that steps back
makes a later change look earlier. It is written last: if we die earlier, the doubt remains.
"""

from __future__ import annotations

import os  # nothing else from the standard library: every call that compiles imports this module

from pyo3_envshim import files
from pyo3_envshim.cargo import target_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyo3_envshim.cargo.metadata import Workspace

# Swatinem/rust-cache (2.9) takes what follows the last hyphen for a hash, and keeps .fingerprint.
STAMP = ".fingerprint-envshim"
_VENDORED = os.sep + ".cargo-checksum.json"  # in each crate of a directory source
LINK = "link"  # the state of a link; its key in the stamp says where it leads
FORMAT = "pyo3-envshim stamp 1"
# What cargo is given another value of with another path; a build script may ask for one of these.
_VARIABLES = ("PYO3_PYTHON", "PYTHON_SYS_EXECUTABLE", "PYO3_BASE_PYTHON", "VIRTUAL_ENV", "PATH")


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


class Source:
    """A local source file: its state (to compare), and its mtime and ctime in ns."""

    __slots__ = ("ctime", "mtime", "state")

    def __init__(self, state: str, mtime: int, ctime: int) -> None:
        self.state = state
        self.mtime = mtime
        self.ctime = ctime


class Assessment:
    """The local sources by path, the stamp of the last build, and the sources that cargo may misjudge.

    *doubted* is None where all that was built here is in doubt. *is_other*: whether another workspace
    root was here last. *notes*: what cargo noted. *has_vendored*: whether a crate of a directory source
    lies among the sources.
    """

    __slots__ = ("doubted", "has_vendored", "is_other", "notes", "sources", "stamp")

    def __init__(self, sources: dict[str, Source], notes: target_dir.Notes) -> None:
        self.sources = sources
        self.notes = notes
        self.has_vendored = any(path.endswith(_VENDORED) for path in sources)
        self.stamp: Stamp | None = None
        self.doubted: list[str] | None = None
        self.is_other = False

    @property
    def trusted(self) -> bool:
        """Whether cargo's time stamps can be trusted."""
        return not self.is_other and self.doubted == []


def nonce_for(workspace: Workspace) -> str:
    """Return the nonce for a build that is about to start, and leave its stamp.

    Where sources are in doubt, cargo is made to compile them, or the nonce is new.
    Raises OSError where the guard cannot tell; the call must then be passed through.
    """
    build, root = workspace.build_dir, workspace.root
    if not os.path.isdir(build):
        os.makedirs(build, exist_ok=True)
        target_dir.tag(build)
    folder = os.path.join(build, workspace.profile)
    found = assess(workspace, build, workspace.profile)
    if found.trusted or (not found.is_other and invalidate(workspace, found)):
        nonce = found.stamp.nonce if found.stamp else ""
        # Of two builds that find the folder new at the same time, one gets the empty nonce.
        if write_stamp(folder, root, nonce, found.sources, only_as_first=found.stamp is None):
            return nonce
    nonce = os.urandom(4).hex()
    write_stamp(folder, root, nonce, found.sources)
    return nonce


def assess(workspace: Workspace, build: str, profile: str = "") -> Assessment:
    """Compare the sources with what the last build left in a profile of the folder *build*, or in all.

    Raises OSError where the guard cannot tell.
    """
    profiles = _profiles(build, profile)
    names = {name for own in workspace.folders.values() for name in own}
    notes = target_dir.read_notes(profiles, names)
    folders = [workspace.root, *workspace.folders]
    inputs = noted_by(workspace.folders, {**notes.declared, **notes.inputs})
    sources = local_sources(folders, {*workspace.exclude, build}, inputs)
    found = Assessment(sources, notes)
    # Read the end last: what cargo compiles meanwhile can only make it later. A vendored crate may be
    # changed with its times: then all that was built here counts.
    end = target_dir.end_of_last_build(profiles, () if found.has_vendored else notes.foreign)
    found.stamp = stamp = read_stamp(os.path.join(build, profile, STAMP))
    found.is_other = stamp is not None and stamp.root != workspace.root
    found.doubted = doubtful({**gone_sources(stamp, sources), **sources}, stamp, end)
    return found


def _profiles(build: str, profile: str) -> list[str]:
    return target_dir.profiles_called(profile, build) if profile else list(target_dir.profiles(build))


def doubtful(sources: Mapping[str, Source], stamp: Stamp | None, end: int | None) -> list[str] | None:
    """Return the sources that cargo may misjudge, by the rule in this module's docstring; None if all.

    *stamp* is None where there is none; *end*, in ns, is None where nothing local was built.
    """
    if end is None:
        return []
    if stamp is None:
        return None
    found = []
    for path, source in sources.items():
        same = stamp.files.get(path) == source.state
        # cargo looks at the file that a link within a package led to, not at the link.
        if source.mtime > end and (same or source.state != LINK):
            continue
        if not same or not _before(source.ctime, stamp.start):
            found.append(path)
    return found


def invalidate(workspace: Workspace, found: Assessment) -> bool:
    """Make cargo compile what is in doubt. Returns False where that cannot be done."""
    from pyo3_envshim.cargo.metadata import dependents
    from pyo3_envshim.store.lock import Locks

    # A crate of others may have read a file of the project, or lie in it: it is not known which is stale.
    if found.notes.declared or found.has_vendored:
        return False
    profiles = _profiles(workspace.build_dir, workspace.profile)
    packages = set(found.notes.inputs)
    if found.doubted is not None:
        asking = target_dir.packages_asking_for(_VARIABLES, profiles)
        would_be_compiled = dependents(os.path.join(workspace.root, "Cargo.lock"), asking)
        if would_be_compiled is not None:
            packages &= would_be_compiled | owners(found.doubted, workspace.folders, found.notes.inputs)
    try:
        with Locks(os.path.join(profile, name) for profile in profiles for name in target_dir.LOCKS) as free:
            if free:
                target_dir.invalidate(profiles, packages)
            return free
    except OSError:
        return False


def owners(
    paths: Iterable[str], folders: Mapping[str, Iterable[str]], inputs: Mapping[str, Iterable[str]]
) -> set[str]:
    """Return the packages that noted one of *paths*, or that it lies in."""
    places = noted_by(folders, inputs)
    for folder, names in folders.items():
        places.setdefault(folder, set()).update(names)
    found: set[str] = set()
    for path in paths:
        place, above = path.partition(" -> ")[0], ""
        while place != above:
            found.update(places.get(place, ()))
            place, above = os.path.dirname(place), place
    return found


def noted_by(
    folders: Mapping[str, Iterable[str]], inputs: Mapping[str, Iterable[str]]
) -> dict[str, set[str]]:
    """Return the packages that noted each file, by the file's path.

    *folders*: the packages by folder. *inputs*: the files by package, some relative to its folder.
    """
    found: dict[str, set[str]] = {}
    for package, paths in inputs.items():
        own = [folder for folder, names in folders.items() if package in names] or folders
        for folder in own:
            for path in paths:
                found.setdefault(os.path.join(folder, path), set()).add(package)
    return found


def _before(time: int, start: int) -> bool:
    """Tell whether *time* is surely before *start*, however coarse the file system's clock is.

    FAT counts two seconds, HFS+ and ext3 one; a time without a fraction may be from one of these.
    """
    return (time + 2_000_000_000 if time % 1_000_000_000 == 0 else time) < start


def local_sources(folders: Sequence[str], skip: set[str], inputs: Iterable[str] = ()) -> dict[str, Source]:
    """Return the source files below *folders*, and those of *inputs* that lie elsewhere, by path.

    Hidden folders, environments, tagged caches, what setuptools builds, and the folders
    in *skip* hold no sources, except for what is among *inputs*. Links are followed, because
    cargo reads what they lead to.
    """
    found: dict[str, Source] = {}
    # Always scan the packages' own folders, even ones that look like caches.
    own = {os.path.realpath(folder) for folder in folders}
    skipped = {os.path.realpath(folder) for folder in skip} - own
    # A cache folder above the project skips no input of it.
    products = [at for at in skipped if not any(it.startswith(os.path.join(at, "")) for it in own)]
    seen: set[str] = set()
    for folder in folders:
        real = os.path.realpath(folder)
        if real != folder:  # decides where a `..` behind it leads
            found[f"{folder} -> {real}"] = Source(LINK, 0, 0)
        _collect(folder, own, skipped, seen, found)
    for path in inputs:
        plain = os.path.normpath(path)
        if path in found or not os.path.exists(path):
            continue
        real = os.path.realpath(path)
        is_skipped = any(real.startswith(folder + os.sep) for folder in products)
        if is_skipped or (plain in found and os.path.realpath(plain) == real):
            continue
        if os.path.isdir(path):
            _collect(path, {*own, real}, skipped, seen, found)
        else:
            _add(path, found)
    return found


def _collect(folder: str, own: set[str], skipped: set[str], seen: set[str], found: dict[str, Source]) -> None:
    """Add the source files below *folder* to *found*, unless its resolved path is in *skipped* or *seen*."""
    real = os.path.realpath(folder)
    if real in seen or real in skipped:
        return
    with os.scandir(folder) as entries:
        listing = list(entries)
    names = {entry.name for entry in listing}
    if real not in own and ("pyvenv.cfg" in names or "CACHEDIR.TAG" in names):
        return  # not seen: it may be an input all the same
    seen.add(real)
    for entry in listing:
        if entry.is_symlink():
            if not os.path.exists(entry.path):  # cargo sees nothing there
                continue
            at = entry.stat(follow_symlinks=False)
            leads_to = os.path.realpath(entry.path)
            found[f"{entry.path} -> {leads_to}"] = Source(LINK, at.st_mtime_ns, at.st_ctime_ns)
        if not entry.is_dir():
            _add(entry.path, found)
        elif not entry.name.startswith(".") and not _is_product(folder, entry.name):
            _collect(entry.path, own, skipped, seen, found)


def _add(path: str, found: dict[str, Source]) -> None:
    try:
        at = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):  # removed since it was listed
        return
    state = f"{at.st_ino}-{at.st_size}-{at.st_mtime_ns}-{at.st_ctime_ns}"
    found[path] = Source(state, at.st_mtime_ns, at.st_ctime_ns)


def _is_product(folder: str, name: str) -> bool:
    """Tell whether setuptools made the folder: ``build/lib.linux-x86_64-cpython-39`` and the like.

    It copies modules there in each build; for Python 3.9 their times have no fraction of a second.
    """
    return os.path.basename(folder) == "build" and name.startswith(("lib.", "temp.", "bdist."))


def gone_sources(stamp: Stamp | None, sources: Mapping[str, Source]) -> dict[str, Source]:
    """Return the files of *stamp* that no longer exist, each as new as the folder that it was in.

    A link that is gone is not new: cargo knows the file that it led to, and looks at that.
    """
    found = {}
    for path, state in stamp.files.items() if stamp else ():
        if path not in sources and (state == LINK or not os.path.lexists(path)):
            found[path] = Source("gone", 0 if state == LINK else _mtime_above(path), 0)
    return found


def _mtime_above(path: str) -> int:
    """Return the mtime of the nearest folder above *path* that exists; 0 if there is none."""
    folder = os.path.dirname(path)
    while folder != path:
        try:
            return os.stat(folder).st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            path, folder = folder, os.path.dirname(folder)
    return 0


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
        os.replace(temporary, path)
    finally:
        files.remove(temporary)
    return True
