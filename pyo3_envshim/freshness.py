"""The freshness guard: can cargo's time stamps be trusted in this build folder?

cargo calls a local crate fresh by comparing the mtimes of its sources with the time of
its last build, and knows the crate by its place within the workspace. That is wrong when
two source trees share a build folder, or when sources were replaced by older ones. The
random path of a throw-away environment hid it: everything that depends on PyO3 was
compiled anyway. Who takes the random path away has to keep that promise, so:

    The time stamps can be trusted if the last build here was of the same workspace root,
    and every local source file either has an mtime later than the end of the last build
    (cargo will see it), or is the very file that was there when the last build started
    (the same inode, size, mtime and ctime, and a ctime before that start). A link must
    lead where it led, and a folder that a file is gone from must be newer than that end.

Otherwise the address gets a new token: one that no other workspace root will ever have,
which is why two builds that wait for cargo's lock cannot take each other's code. Sources
are the files in the packages' folders, and what cargo noted that it read elsewhere. What is
known of the last build stands in a stamp in the build folder, but for its end: the newest
``invoked.timestamp`` among cargo's fingerprints, the very times that cargo compares with
(cargo 1.95, ``core/compiler/fingerprint``).

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
LINK = "link"  # the state of a link, whose path says where it leads
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
    sources, stamp, trusted = judged(build, root, packages, skip)
    if trusted:
        token = stamp.token if stamp else ""
        # Of two that find the folder new at once, one gets the empty token.
        if write_stamp(build, root, token, sources, only_as_first=stamp is None):
            return token
    token = os.urandom(4).hex()
    write_stamp(build, root, token, sources)
    return token


def judged(
    build: str, root: str, packages: Iterable[str], skip: Sequence[str]
) -> tuple[dict[str, Source], Stamp | None, bool]:
    """Return the local sources, the stamp of the last build, and whether cargo's times can be trusted.

    The arguments are those of `token_for`. Raises OSError where the guard cannot tell.
    """
    folders = [root, *packages]
    sources = local_sources(folders, {*skip, build}, noted_inputs(build, folders))
    # In this order: what cargo compiles meanwhile can only make the end later.
    end = end_of_last_build(build)
    stamp = read_stamp(os.path.join(build, STAMP))
    return sources, stamp, trustworthy({**gone_sources(stamp, sources), **sources}, root, stamp, end)


def trustworthy(sources: dict[str, Source], root: str, stamp: Stamp | None, end: int | None) -> bool:
    """Tell whether cargo's time stamps can be trusted, as this module's docstring says.

    *stamp* is None where there is none; *end*, in ns, is None where nothing was built.
    """
    if stamp is None or stamp.root != root:
        return stamp is None and end is None  # a new folder
    for path, source in sources.items():
        same = stamp.files.get(path) == source.state
        # cargo looks at where a link within a package led, not at the link.
        if end is not None and source.mtime > end and (same or source.state != LINK):
            continue
        if not same or not _before(source.ctime, stamp.start):
            return False
    return True


def _before(time: int, start: int) -> bool:
    """Tell whether *time* is surely before *start*, whatever the file system's clock counts.

    FAT counts two seconds, HFS+ and ext3 one; a time without a fraction may be such a one.
    """
    return (time + 2_000_000_000 if time % 1_000_000_000 == 0 else time) < start


def local_sources(folders: Sequence[str], skip: set[str], inputs: Iterable[str] = ()) -> dict[str, Source]:
    """Return the source files below *folders*, and those of *inputs* that lie elsewhere, by path.

    Hidden folders, environments, tagged caches, what setuptools builds, and the folders
    in *skip* hold none, but for what is among *inputs*.
    Links are followed: what counts is what cargo would read.
    """
    found: dict[str, Source] = {}
    # What cargo builds has sources, whatever else it is: in doubt, doubt.
    own = {os.path.realpath(folder) for folder in folders}
    skipped = {os.path.realpath(folder) for folder in skip} - own
    seen: set[str] = set()
    for folder in folders:
        real = os.path.realpath(folder)
        if real != folder:  # where `..` behind it leads depends on that
            found[f"{folder} -> {real}"] = Source(LINK, 0, 0)
        _collect(folder, own, skipped, seen, found)
    for path in inputs:
        plain = os.path.normpath(path)
        if path in found or not os.path.exists(path):
            continue
        real = os.path.realpath(path)
        if _within(real, skipped) or (plain in found and os.path.realpath(plain) == real):
            continue
        if os.path.isdir(path):
            _collect(path, {*own, real}, skipped, seen, found)
        else:
            _add(path, found)
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
    except (FileNotFoundError, NotADirectoryError):  # gone, or just being removed
        return
    state = f"{at.st_ino}-{at.st_size}-{at.st_mtime_ns}-{at.st_ctime_ns}"
    found[path] = Source(state, at.st_mtime_ns, at.st_ctime_ns)


def _within(path: str, folders: Iterable[str]) -> bool:
    return any(path.startswith(folder + os.sep) for folder in folders)


def gone_sources(stamp: Stamp | None, sources: dict[str, Source]) -> dict[str, Source]:
    """Return the files of *stamp* that are gone, each as new as the folder it is gone from.

    A link that is gone is not new: cargo knows what it led to, and looks there.
    """
    found = {}
    for path, state in stamp.files.items() if stamp else ():
        if path not in sources and (state == LINK or not os.path.lexists(path)):
            found[path] = Source("gone", 0 if state == LINK else _mtime_above(path), 0)
    return found


def _mtime_above(path: str) -> int:
    """Return the mtime of the nearest folder above *path* that is there; 0 if there is none."""
    folder = os.path.dirname(path)
    while folder != path:
        try:
            return os.stat(folder).st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            path, folder = folder, os.path.dirname(folder)
    return 0


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
    times = (entry.stat().st_mtime_ns for entry in _left(build, 7) if entry.name == "invoked.timestamp")
    return max(times, default=None)


def noted_inputs(build: str, folders: Sequence[str]) -> set[str]:
    """Return the paths that cargo noted as inputs of local packages: in their dep-info, and
    from their build scripts' ``rerun-if-changed``. *folders*: what the relative ones may be relative to.
    """
    relative: set[str] = set()
    absolute: set[str] = set()
    scripts = []
    local = set()
    for entry in _left(build, 7):
        unit = os.path.dirname(entry.path)
        package = os.path.basename(unit).rpartition("-")[0]
        if not package:  # the new layout
            package = os.path.basename(os.path.dirname(os.path.dirname(unit)))
        if entry.name.endswith(".json"):
            scripts.append((package, entry.path))
        elif entry.name.startswith("dep-"):
            with open(entry.path, "rb") as file:
                noted = _read_dep_info(file.read())
            own = {path for in_package, path in noted if in_package}
            absolute |= {path for _, path in noted if os.path.isabs(path)}
            if own:  # cargo notes no files of packages that are not local
                local.add(package)
                relative |= own
    for package, path in scripts:
        if package in local:
            relative.update(_rerun_if_changed(path))
    return absolute.union(os.path.join(folder, name) for folder in folders for name in relative)


def _read_dep_info(data: bytes) -> list[tuple[bool, str]]:
    """Return the files in cargo's dep-info, each with whether its path is relative to the package.

    cargo 1.95, ``fingerprint/dep_info.rs``: little-endian lengths before all strings; from
    1.84 on after six bytes of which the fifth is 255 and the sixth the version, 1.
    """
    marked = data[4:5] == b"\xff"
    if marked and data[5:6] not in (b"\1", b""):
        raise OSError(f"cargo's dep-info has a version that is not known: {data[5:6]!r}")
    at = 6 if marked else 0
    found = []
    count, at = int.from_bytes(data[at : at + 4], "little"), at + 4
    for _ in range(count):
        start = at + 5
        end = start + int.from_bytes(data[at + 1 : start], "little")
        if end >= len(data):
            return []  # cut short: cargo will compile the unit
        found.append((data[at] == 0, os.fsdecode(data[start:end])))
        at = end
        if marked:
            at += 1 + (12 + int.from_bytes(data[end + 9 : end + 13], "little")) * data[end]
    return found


def _rerun_if_changed(path: str) -> list[str]:
    from pyo3_envshim import jsontext

    try:
        with open(path, encoding="utf-8") as file:
            noted = jsontext.loads(file.read())["local"]
    except (ValueError, KeyError):  # cut short: cargo will run the script
        return []
    return [name for each in noted for name in each.get("RerunIfChanged", {}).get("paths", ())]


# Large folders without fingerprints, by a folder that stands beside them: a profile, a
# target or a package may have such a name too.
# Not ``build`` beside ``.fingerprint``: one profile may hold both layouts.
_NO_FINGERPRINTS = {".fingerprint": ("deps", "incremental"), "fingerprint": ("out",), "root-output": ("out",)}


def _left(folder: str, depth: int) -> Iterator[os.DirEntry[str]]:
    """Find what cargo left of its builds that is read here."""
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
        if entry.name == "invoked.timestamp" or (_is_note(entry.name) and _is_unit(folder)):
            yield entry
        elif depth and entry.name not in passed_over and entry.is_dir(follow_symlinks=False):
            yield from _left(entry.path, depth - 1)


def _is_note(name: str) -> bool:
    return name.startswith("dep-") or (name.startswith("run-build-script-") and name.endswith(".json"))


def _is_unit(folder: str) -> bool:
    parent, name = os.path.split(folder)
    return name == "fingerprint" or os.path.basename(parent) == ".fingerprint"


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


def write_stamp(
    build: str, root: str, token: str, sources: dict[str, Source], only_as_first: bool = False
) -> bool:
    """Leave a stamp in the folder *build*, at once; its own mtime is the start of the build.

    False if it is there and ours was to be the first.
    """
    lines = [FORMAT, root, token]
    lines += [f"{source.state} {path}" for path, source in sources.items()]
    if not os.path.isdir(build):
        os.makedirs(build, exist_ok=True)
        with open(os.path.join(build, "CACHEDIR.TAG"), "w", encoding="ascii") as tag:
            tag.write(CACHE_TAG)  # cargo tags only a folder that it makes itself
    place = os.path.join(build, STAMP)
    temporary = f"{place}.{os.getpid()}-{os.urandom(4).hex()}"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.write("\0".join([*lines, "end"]))
    if only_as_first:
        try:
            os.link(temporary, place)
            os.unlink(temporary)
            return True
        except FileExistsError:
            os.unlink(temporary)
            return False
        except OSError:
            pass  # no hard links here
    os.replace(temporary, place)
    return True
