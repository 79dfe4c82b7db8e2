"""The freshness guard: can cargo's time stamps be trusted in this build folder?

cargo calls a local crate fresh by comparing the mtimes of its sources with the time of
its last build, and knows the crate by its place within the workspace. That is wrong when
two source trees share a build folder, or when sources were replaced by older ones. The
random path of a throw-away environment hid it: everything that depends on PyO3 was
compiled anyway. Who takes the random path away has to keep that promise, so:

    The time stamps can be trusted if every local source file either has an mtime later
    than the end of the last build (cargo will see it), or is the very file that was
    there when the last build started (the same inode, size, mtime and ctime, and a ctime
    before that start), in the same workspace root.

Otherwise the address gets a new token. What is known of the last build stands in a stamp
in the build folder, but for its end: the newest ``invoked.timestamp`` among cargo's
fingerprints, the very times that cargo compares with (cargo 1.95,
``core/compiler/fingerprint``).

The stamp lists the files instead of only the time of the start, because a folder that is
renamed into place changes no ctime below it, and a clock that steps back makes a later
change look like an earlier one.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

STAMP = ".pyo3-envshim"
FORMAT = "pyo3-envshim stamp 1"
# https://bford.info/cachedir
CACHE_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# made by pyo3-envshim for cargo\n"


class Stamp:
    """What is known of the last build in a build folder.

    *root*: the workspace root. *token*: of the address it used; may be empty. *start*:
    when it started, in ns of the build folder's file system. *files*: the local source
    files then, path to state.
    """

    __slots__ = ("files", "root", "start", "token")

    def __init__(self, root: str, token: str, start: int, files: dict[str, str]) -> None:
        self.root = root
        self.token = token
        self.start = start
        self.files = files


class Source:
    """A local source file: its state (to compare), mtime and ctime in ns."""

    __slots__ = ("ctime", "mtime", "state")

    def __init__(self, state: str, mtime: int, ctime: int) -> None:
        self.state = state
        self.mtime = mtime
        self.ctime = ctime


def token_for(build: str, root: str, packages: Iterable[str], skip: Sequence[str]) -> str:
    """Return the token for a build that is about to start, and leave its stamp.

    *build*: cargo's build folder; *root*: the workspace root; *packages*: the folders of
    all local packages; *skip*: the target and build folders: all absolute paths.
    Raises OSError where the guard cannot tell; the call must then be left as it came.
    """
    sources = local_sources([root, *packages], {*skip, build})
    # In this order: what cargo compiles meanwhile can only make the end later.
    end = end_of_last_build(build)
    stamp = read_stamp(os.path.join(build, STAMP))
    if trustworthy(sources, root, stamp, end):
        token = stamp.token if stamp else ""
    else:
        token = os.urandom(4).hex()
    write_stamp(build, root, token, sources)
    return token


def trustworthy(sources: dict[str, Source], root: str, stamp: Stamp | None, end: int | None) -> bool:
    """Tell whether cargo's time stamps can be trusted, as this module's docstring says.

    *stamp* is None where there is none; *end*, in ns, is None where nothing was built.
    """
    if stamp is None and end is None:
        return True  # a new folder
    known = stamp.files if stamp and stamp.root == root else {}
    for path, source in sources.items():
        if end is not None and source.mtime > end:
            continue
        if known.get(path) != source.state or not stamp or not _before(source.ctime, stamp.start):
            return False
    return True


def _before(time: int, start: int) -> bool:
    """Tell whether *time* is surely before *start*, whatever the file system's clock counts.

    FAT counts two seconds, HFS+ and ext3 one; a time without a fraction may be such a one.
    """
    return (time + 2_000_000_000 if time % 1_000_000_000 == 0 else time) < start


def local_sources(folders: Sequence[str], skip: set[str]) -> dict[str, Source]:
    """Return the source files below *folders* by path.

    Hidden folders, environments, tagged caches, what setuptools builds, and the folders
    in *skip* hold none.
    Links are followed: what counts is what cargo would read.
    """
    found: dict[str, Source] = {}
    # What cargo builds has sources, whatever else it is: in doubt, doubt.
    own = {os.path.realpath(folder) for folder in folders}
    skipped = {os.path.realpath(folder) for folder in skip} - own
    seen: set[str] = set()
    for folder in folders:
        _collect(folder, own, skipped, seen, found)
    return found


def _collect(folder: str, own: set[str], skipped: set[str], seen: set[str], found: dict[str, Source]) -> None:
    real = os.path.realpath(folder)
    if real in seen or real in skipped:
        return
    seen.add(real)
    with os.scandir(folder) as entries:
        listing = list(entries)
    names = {entry.name for entry in listing}
    if real not in own and ("pyvenv.cfg" in names or "CACHEDIR.TAG" in names):
        return
    for entry in listing:
        if entry.is_dir():
            if not entry.name.startswith(".") and not _is_product(folder, entry.name):
                _collect(entry.path, own, skipped, seen, found)
            continue
        try:
            at = entry.stat()
        except FileNotFoundError:  # a dangling link, or a file that is just being removed
            continue
        state = f"{at.st_ino}-{at.st_size}-{at.st_mtime_ns}-{at.st_ctime_ns}"
        mtime, ctime = at.st_mtime_ns, at.st_ctime_ns
        if entry.is_symlink():  # pointing it elsewhere changes the link, not the file
            link = entry.stat(follow_symlinks=False)
            state += f"-{link.st_ino}-{link.st_ctime_ns}"
            ctime = max(ctime, link.st_ctime_ns)
        found[entry.path] = Source(state, mtime, ctime)


def _is_product(folder: str, name: str) -> bool:
    """Tell whether setuptools makes the folder: ``build/lib.linux-x86_64-cpython-39`` and the like.

    It copies modules there in each build, and for Python 3.9 with times cut to a second.
    """
    return os.path.basename(folder) == "build" and name.startswith(("lib.", "temp.", "bdist."))


def end_of_last_build(build: str) -> int | None:
    """Return the mtime, in ns, of the newest fingerprint in the folder *build*, or None.

    cargo lays them at ``[<target>/]<profile>/.fingerprint/<unit>/invoked.timestamp`` up to
    1.95, and below ``[<target>/]<profile>/build/<package>/<hash>/`` with its new layout.
    """
    return max(_invoked(build, 7), default=None)


# Large folders without fingerprints, by a folder that stands beside them: a profile, a
# target or a package may have such a name too.
# Not ``build`` beside ``.fingerprint``: one profile may hold both layouts.
_NO_FINGERPRINTS = {".fingerprint": ("deps", "incremental"), "fingerprint": ("out",), "root-output": ("out",)}


def _invoked(folder: str, depth: int) -> Iterator[int]:
    try:
        with os.scandir(folder) as entries:
            listing = list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    names = {entry.name for entry in listing}
    passed_over = [
        name for beside, without in _NO_FINGERPRINTS.items() if beside in names for name in without
    ]
    for entry in listing:
        if entry.name == "invoked.timestamp":
            yield entry.stat().st_mtime_ns
        elif depth and entry.name not in passed_over and entry.is_dir(follow_symlinks=False):
            yield from _invoked(entry.path, depth - 1)


def read_stamp(path: str) -> Stamp | None:
    """Read a stamp; None if there is none, or none of ours. Raises OSError."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            text = file.read()
        start = os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return None
    lines = text.split("\0")
    if lines[0] != FORMAT or len(lines) < 4 or lines[-1] != "end":
        return None  # nothing is known; the next one takes its place
    # by path: two names of one file have the same state
    files = {path: state for state, _, path in (line.partition(" ") for line in lines[3:-1])}
    return Stamp(lines[1], lines[2], start, files)


def write_stamp(build: str, root: str, token: str, sources: dict[str, Source]) -> None:
    """Leave a stamp in the folder *build*, at once; its own mtime is the start of the build."""
    lines = [FORMAT, root, token]
    lines += [f"{source.state} {path}" for path, source in sources.items()]
    if not os.path.isdir(build):
        os.makedirs(build, exist_ok=True)
        with open(os.path.join(build, "CACHEDIR.TAG"), "w", encoding="ascii") as tag:
            tag.write(CACHE_TAG)  # cargo tags only a folder that it makes itself
    temporary = os.path.join(build, f"{STAMP}.{os.getpid()}-{os.urandom(4).hex()}")
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.write("\0".join([*lines, "end"]))
    os.replace(temporary, os.path.join(build, STAMP))
