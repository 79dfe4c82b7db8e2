"""What cargo keeps in its build folder: where it lies, how it is named, and what can be read from it.

A profile is a folder ``[<target>/]<profile>`` in the build folder. A unit is one step of a
build, such as compiling a library or running a build script; its hash has 16 hex digits.
cargo has two layouts, and one profile may hold both:

    first (the default of 1.95)              second (1.97's ``-Zbuild-dir-new-layout``)
    .fingerprint/<package>-<hash>/           build/<package>/<hash>/fingerprint/
    build/<package>-<hash>/                  build/<package>/<hash>/run/, out/
    deps/<crate>-<hash>.…, examples/         build/<package>/<hash>/out/

A unit's fingerprint is a file that holds a hash, named after the unit's kind and target, such
as ``lib-tiny``. Beside it lie ``<fingerprint>.json`` (what the hash was made of),
``dep-<fingerprint>`` (the inputs) and ``invoked.timestamp``, whose mtime is when the unit was
started: the time that cargo compares with (cargo 1.95, ``core/compiler/fingerprint``).

Only `tag`, `evict` and `invalidate` change anything.
"""

from __future__ import annotations

import os  # nothing else at the top: every call that compiles imports this module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
    from typing import Any

# https://bford.info/cachedir
CACHE_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# made by pyo3-envshim for cargo\n"
LOCKS = (".cargo-lock", ".cargo-build-lock")  # of a profile: up to 1.95, and from 1.96 on
TIMESTAMP = "invoked.timestamp"
RUSTC_INFO = ".rustc_info.json"  # cargo leaves it in each build folder, and not in a target's in there
RUN = "run-build-script-"
_OWN = frozenset(("artifact", "build", "deps", "examples", "incremental"))  # cargo's, in a profile


def tag(folder: str) -> None:
    """Tag a build folder as a cache, as cargo does only where it creates the folder. Raises OSError."""
    path = os.path.join(folder, "CACHEDIR.TAG")
    if not os.path.exists(path):
        with open(path, "w", encoding="ascii") as file:
            file.write(CACHE_TAG)


def make_build_dir(folder: str) -> None:
    """Make a build folder as cargo would, if it is missing. Raises OSError."""
    if not os.path.isdir(folder):
        os.makedirs(folder, exist_ok=True)
        tag(folder)


def lock_files(profiles: Iterable[str]) -> list[str]:
    """Return the paths of the files that cargo locks while it works in *profiles*."""
    return [os.path.join(profile, name) for profile in profiles for name in LOCKS]


def profiles(folder: str) -> Iterator[str]:
    """Find the folders in a build folder that may be a profile: ``release``, ``<target>/release``."""
    for path in _folders_in(folder):
        yield path
        yield from _folders_in(path)


def paths_in(*parts: str) -> list[str]:
    """Return the paths of what lies in a folder; none if it does not exist."""
    folder = os.path.join(*parts)
    return [os.path.join(folder, name) for name in _names_in(folder)]


def profiles_called(name: str, folder: str) -> list[str]:
    """Return the folders of a profile: that of the host, and those of the targets that have one.

    A build folder of its own may lie there as well, such as ``target/rust-analyzer``.
    """
    targets = (path for path in _folders_in(folder) if not os.path.exists(os.path.join(path, RUSTC_INFO)))
    found = [os.path.join(above, name) for above in (folder, *targets)]
    return [path for path in found if os.path.isdir(path)]


def _folders_in(folder: str) -> Iterator[str]:
    return (path for path in paths_in(folder) if os.path.isdir(path) and not os.path.islink(path))


def is_hash(text: str) -> bool:
    """Tell whether *text* is a unit's hash."""
    return len(text) == 16 and not text.strip("0123456789abcdef")


def package_of(path: str) -> str:
    """Return the package whose units lie at *path*, in ``.fingerprint`` or ``build``; or ""."""
    name = os.path.basename(path)
    if any(is_hash(os.path.basename(inner)) for inner in paths_in(path)):
        return name  # the second layout
    name, _, number = name.rpartition("-")
    return name if is_hash(number) else ""


def hash_of(path: str) -> str:
    """Return the hash in the name of a file or folder of the first layout, or ""."""
    number = os.path.basename(path).partition(".")[0].rpartition("-")[2]
    return number if is_hash(number) else ""


def crates_of(path: str) -> set[str]:
    """Return the crate whose output is the file at *path*: either of two if its name starts with ``lib``."""
    crate = os.path.basename(path).partition(".")[0]
    if hash_of(path):
        crate = crate.rpartition("-")[0]
    return {crate, crate[len("lib") :] if crate.startswith("lib") else crate}


def left_by_scripts(folder: str) -> list[str]:
    """Return what build scripts have left beside cargo's own folders in the profiles of a build folder."""
    found = [
        path for it in profiles(folder) if any(map(os.path.exists, lock_files([it]))) for path in paths_in(it)
    ]
    names = ((path, os.path.basename(path)) for path in found)
    return [path for path, name in names if name not in _OWN and not name.startswith(".")]


def sizes_of_outputs(folder: str) -> dict[str, int]:
    """Return the sizes of libraries and build scripts in a build folder, by their paths in it."""
    found = [path for profile in profiles(folder) for path in paths_in(profile, "deps")]
    found += [
        path for unit in units(profiles(folder)) for it in (unit.run, unit.out) if it for path in paths_in(it)
    ]
    endings = (".rlib", ".rmeta", ".so", ".dylib", ".dll")  # not executables, which a back end may strip
    sizes = {}
    for path in found:
        name = os.path.basename(path)
        if hash_of(path) and (name.endswith(endings) or name.startswith(("build_script_", "build-script-"))):
            sizes[os.path.relpath(path, folder)] = os.stat(path).st_size
    return sizes


def containing(place: str) -> str | None:
    """Return the build folder that contains a fingerprint, or None."""
    folder = place
    for _ in range(8):
        folder = os.path.dirname(folder)
        if any(os.path.exists(os.path.join(folder, name)) for name in (RUSTC_INFO, "CACHEDIR.TAG")):
            return folder
    return None


def siblings(place: str) -> list[str]:
    """Return the fingerprints of the same unit with other settings: they differ in the hash only."""
    unit = os.path.dirname(place)
    if os.path.basename(unit) == "fingerprint":
        unit = os.path.dirname(unit)
    prefix, own = unit[:-16], unit[-16:]
    if not is_hash(own) or not prefix.endswith(("-", "/", "\\")):
        return []
    try:
        others = [os.path.join(os.path.dirname(unit), name) for name in os.listdir(os.path.dirname(unit))]
    except OSError:
        return []
    rest = place[len(unit) :]
    return [it + rest for it in others if it != unit and it[:-16] == prefix and is_hash(it[-16:])]


class Unit:
    """A unit: its package, and the folders of its fingerprint, of a build script's run, and of its outputs.

    The last is "" in the first layout, in which units share one. *has_ended*: whether it ever did.
    """

    __slots__ = ("folder", "has_ended", "out", "package", "run")

    def __init__(self, package: str, folder: str, run: str, out: str = "") -> None:
        self.package = package
        self.folder = folder
        self.run = run
        self.out = out
        self.has_ended = False


def units(profiles: Iterable[str]) -> Iterator[Unit]:
    """Find the units in some profiles."""
    for profile in profiles:
        first = _names_in(f"{profile}/.fingerprint")
        for name in first:
            yield Unit(name.rpartition("-")[0], f"{profile}/.fingerprint/{name}", f"{profile}/build/{name}")
        for name in set(_names_in(f"{profile}/build")).difference(first):
            for number in _names_in(f"{profile}/build/{name}"):
                if is_hash(number):
                    unit = f"{profile}/build/{name}/{number}"
                    yield Unit(name, f"{unit}/fingerprint", f"{unit}/run", f"{unit}/out")


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


class Notes:
    """What cargo noted of units in some profiles.

    *inputs*: by local package, the files in dep-info and in the ``rerun-if-changed`` of build scripts,
    which may be relative to the package. *declared*: the files of others' ``rerun-if-changed`` that are
    in no crate of a registry or of git, by package; those above its own folder may be relative.
    *undirected*: local packages whose build script told cargo nothing. *unplaced*: local packages that are
    not among the known ones, so that nobody knows where they lie. *local*: units of all these packages, and
    what is being compiled for the first time; *foreign*: all others.
    """

    __slots__ = ("declared", "foreign", "inputs", "local", "undirected", "unplaced")

    def __init__(self, names: Iterable[str]) -> None:
        self.inputs: dict[str, set[str]] = {name: set() for name in names}
        self.declared: dict[str, set[str]] = {}
        self.undirected: set[str] = set()
        self.unplaced: set[str] = set()
        self.local: list[Unit] = []
        self.foreign: list[Unit] = []


def read_notes(
    profiles: Sequence[str], names: Collection[str], build: str, made: tuple[str, ...] | None = None
) -> Notes:
    """Read what cargo noted in some profiles of the build folder *build*. Raises OSError.

    *made*: the folders that hold no sources, if these profiles were moved (default: `unwatched`).
    Local are the packages called *names*, and all of which cargo noted files that no build script made.
    """
    notes = Notes(names)
    found, scripts = list(units(profiles)), []
    build = os.path.realpath(build)
    made = unwatched(profiles) if made is None else made
    for unit in found:
        for name in _names_in(unit.folder):
            path = f"{unit.folder}/{name}"
            if name.startswith("dep-"):
                unit.has_ended = True
                try:
                    with open(path, "rb") as file:
                        noted = _read_dep_info(file.read())
                except FileNotFoundError:  # removed since it was listed, so that cargo compiles
                    continue
                # What is below the build folder is relative to that.
                own = {place if in_package else os.path.join(build, place) for in_package, place in noted}
                if own := {place for place in own if not place.startswith(made)}:
                    notes.inputs.setdefault(unit.package, set()).update(own)
                # Relative to its own folder are only the files of a package that has no checksum.
                if unit.package not in names and any(in_package for in_package, _ in noted):
                    notes.unplaced.add(unit.package)
            elif name.startswith(RUN):
                unit.has_ended = True
                if name.endswith(".json"):
                    scripts.append((unit.package, path))
    for package, path in scripts:
        asked, is_undirected = _rerun_if_changed(path)
        if package in notes.inputs:
            notes.inputs[package].update(asked)
            notes.undirected.update([package] if is_undirected else ())
        elif elsewhere := {it for it in asked if os.path.isabs(it) or ".." in it if not it.startswith(made)}:
            notes.declared.setdefault(package, set()).update(elsewhere)
    packages = notes.inputs.keys() | notes.declared.keys()
    for unit in found:
        is_local = unit.package in packages or not unit.has_ended
        (notes.local if is_local else notes.foreign).append(unit)
    return notes


def unwatched(profiles: Iterable[str]) -> tuple[str, ...]:
    """Return the folders that hold no sources: what cargo has verified, and what build scripts made."""
    places = [os.path.join(profile, "build") for profile in profiles]
    made = (os.path.join(place, "") for place in {*places, *map(os.path.realpath, places)})
    return (*verified_sources(os.environ), *made)


def end_of_last_build(profiles: Iterable[str], foreign: Iterable[Unit] = ()) -> int | None:
    """Return when the newest unit was started that is not *foreign*, in ns; None if there is none.

    cargo compares with dep-info and a script's output, which it dates back to that; what copies a build
    folder may not. A unit that cargo is about to start has no time stamp yet, and will read what is there
    then.
    """
    known = {unit.folder for unit in foreign}
    times: list[int | None] = []
    for unit in units(profiles):
        if unit.folder not in known:
            names = [name for name in _names_in(unit.folder) if name.startswith("dep-")]
            times += [_mtime(f"{unit.folder}/{name}") for name in (TIMESTAMP, *names)]
            times += [_mtime(f"{unit.run}/{name}") for name in (TIMESTAMP, "output", "stdout")]
    return max((time for time in times if time is not None), default=None)


def _mtime(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None


def reading_elsewhere(profiles: Iterable[str], sources: tuple[str, ...]) -> set[str]:
    """Return the packages of which rustc read files that lie neither below *sources* nor with cargo's own.

    Raises OSError.
    """
    found = set()
    for unit in units(profiles):
        for name in _names_in(unit.folder):
            if name.startswith("dep-"):
                with open(f"{unit.folder}/{name}", "rb") as file:
                    paths = [path for in_package, path in _read_dep_info(file.read()) if not in_package]
                if any(os.path.isabs(path) and not path.startswith(sources) for path in paths):
                    found.add(unit.package)
    return found


class Rustc:
    """What rustc read for local units.

    *names*: of the files, as it was told them: links are not resolved. They may be relative to the
    workspace. *is_all*: whether these are all: not while a unit is being compiled. *macros*: the
    crates of which there are libraries for rustc itself to load, and their packages.
    """

    __slots__ = ("is_all", "macros", "names")

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.macros: set[str] = set()
        self.is_all = True


def read_by_rustc(profiles: Iterable[str], notes: Notes) -> Rustc:
    """Return what rustc read for the local units in some profiles, by its own dep-info. Raises OSError."""
    found = Rustc()
    infos: dict[str, list[str]] = {}  # by hash; where outputs have none, their dep-info has none
    shared = [f"{profile}/{name}" for profile in profiles for name in ("deps", "examples")]
    packages = {unit.out or hash_of(unit.folder): unit.package for unit in (*notes.foreign, *notes.local)}
    for folder in (*shared, *(unit.out for unit in (*notes.foreign, *notes.local) if unit.out)):
        for name in _names_in(folder):
            if name.endswith(".d"):
                key = hash_of(name) if folder in shared else folder
                infos.setdefault(key, []).append(f"{folder}/{name}")
            elif name.endswith((".so", ".dylib", ".dll")) and hash_of(name):  # a cdylib has no hash
                crate = name.rpartition("-")[0]
                crate = crate if name.endswith(".dll") else crate[len("lib") :]
                key = hash_of(name) if folder in shared else folder
                found.macros.update((crate, packages.get(key, crate).replace("-", "_")))
    for unit in notes.local:
        if unit.has_ended and unit.package not in notes.inputs:
            continue
        begun = _mtime(f"{unit.folder}/{TIMESTAMP}")
        # cargo sets dep-info's time to that of the unit's start, when it has ended.
        notes_of = [name for name in _names_in(unit.folder) if name.startswith("dep-")]
        times = [_mtime(f"{unit.folder}/{name}") for name in notes_of]
        if begun is not None and (not times or any(time is None or time < begun for time in times)):
            found.is_all = False
        if not times:
            continue
        plain = [path for path in infos.get("", ()) if any(_is_of(path, name) for name in notes_of)]
        paths = infos.get(unit.out or hash_of(unit.folder)) or plain
        # The first layout keeps that of a build script beside its executable.
        paths = paths + [f"{unit.run}/{it}" for it in _names_in(unit.run) if it.endswith(".d")]
        found.is_all = found.is_all and bool(paths)
        for path in paths:
            try:
                with open(path, encoding="utf-8", errors="surrogateescape") as file:
                    lines = file.read().splitlines()
            except FileNotFoundError:  # removed since it was listed
                found.is_all, lines = False, []
            found.names.update(line[:-1].replace("\\ ", " ") for line in lines if line.endswith(":"))
    return found


def _is_of(info: str, note: str) -> bool:
    """Tell whether rustc's dep-info *info*, whose name has no hash, is that of the unit with the *note*."""
    crate = os.path.basename(info)[: -len(".d")]
    kinds = ("lib", "bin", "example", "test", "bench")
    return note.replace("-", "_").endswith(tuple(f"_{kind}_{crate}" for kind in kinds))


def packages_asking_for(variables: Iterable[str], profiles: Iterable[str]) -> set[str]:
    """Return the packages whose build scripts cargo runs again if one of *variables* changes."""
    found = set()
    for unit in units(profiles):
        paths = (path for path in paths_in(unit.folder) if os.path.basename(path).startswith(RUN))
        runs = [read_unit(path[: -len(".json")]) for path in paths if path.endswith(".json")]
        if any(not watched_variables(run).keys().isdisjoint(variables) for run in runs):
            found.add(unit.package)
    return found


def invalidate(profiles: Iterable[str], packages: Container[str] | None) -> None:
    """Make cargo compile *packages* (all, if None), and what needs them. Raises OSError.

    Their profiles must be locked.

    A unit without dep-info is stale, and so is all that depends on it: the run of a build script
    too, whose own fingerprint would not be enough. What was compiled stays, until cargo replaces
    it; so does ``OUT_DIR``, in which a build script may go on from what is there.
    """
    for unit in units(profiles):
        if packages is None or unit.package in packages:
            for path in paths_in(unit.folder):
                os.unlink(path)


def _read_dep_info(data: bytes) -> list[tuple[bool, str]]:
    """Return the files in cargo's dep-info, each with whether its path is relative to the package.

    cargo 1.95, ``fingerprint/dep_info.rs``: all strings follow their little-endian length.
    Since 1.84 there are six bytes in front: the fifth is 255, the sixth the version, 1.
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
            return []  # truncated: cargo will compile the unit
        found.append((data[at] == 0, os.fsdecode(data[start:end])))
        at = end
        if marked:  # a size and a checksum may follow (-Zchecksum-freshness)
            at += 1 + (12 + int.from_bytes(data[end + 9 : end + 13], "little")) * data[end]
    return found


def _rerun_if_changed(path: str) -> tuple[list[str], bool]:
    """Return the files that a build script told cargo to run it for, and whether it told cargo nothing."""
    try:
        noted = read_json(path)["local"]
    except (ValueError, KeyError, FileNotFoundError):  # truncated, or removed: cargo will run the script
        return [], False
    paths = [name for each in noted for name in each.get("RerunIfChanged", {}).get("paths", ())]
    return paths, any("Precalculated" in each for each in noted)


def read_unit(place: str) -> dict[str, Any]:
    """Read the fingerprint at *place*: its hash, the facts in its JSON, when it was begun and ended."""
    found: dict[str, Any] = {"hash": "", "facts": {}, "begun": None, "ended": None}
    try:
        with open(place, encoding="ascii") as file:
            found["hash"] = file.read()
        found["ended"] = os.stat(place).st_mtime
        facts = read_json(place + ".json")
        found["facts"] = facts if isinstance(facts, dict) else {}
        found["begun"] = _begun(place)
    except (OSError, ValueError):
        pass
    return found


def _begun(place: str) -> float | None:
    """Return when a unit was begun. The run of a build script has its time stamp beside its output."""
    folder = os.path.dirname(place)
    above, name = os.path.split(folder)
    for candidate in (folder, os.path.join(os.path.dirname(above), "build", name), above, above + "/run"):
        try:
            return os.stat(os.path.join(candidate, TIMESTAMP)).st_mtime
        except OSError:
            pass
    return None


def watched_variables(unit: dict[str, Any]) -> dict[str, str | None]:
    """Return the variables that the run of a build script depends on, with their values then."""
    found = {}
    for local in unit["facts"].get("local") or ():
        watched = local.get("RerunIfEnvChanged") if isinstance(local, dict) else None
        if isinstance(watched, dict):
            found[watched.get("var", "")] = watched.get("val")
    return found


def built_profiles(target: str | None, before: float) -> list[str]:
    """Return the profiles in *target*, relative to it, that hold a unit from *before* a time in seconds."""
    found = set()
    for profile in profiles(target) if target else ():
        units = [*paths_in(profile, ".fingerprint"), *paths_in(profile, "build")]
        # not mtime: cargo touches no folder again, but a restored cache has its own times
        if any(os.path.getctime(unit) < before for unit in units):
            found.add(os.path.relpath(profile, target))
    return sorted(found)


def rustc_version(target: str | None) -> str | None:
    """Return the first line of ``rustc -vV`` of the compiler that last built in *target*, or None."""
    told = [text for text in _rustc_outputs(target or "") if text.startswith("rustc ")]
    return told[0].splitlines()[0] if told else None


def platforms(folder: str) -> list[str]:
    """Return the hosts of the compilers that built in a build folder."""
    lines = [line for text in _rustc_outputs(folder) for line in text.splitlines()]
    return sorted({line[len("host: ") :] for line in lines if line.startswith("host: ")})


def sysroots(folder: str) -> list[str]:
    """Return the folders of the compilers that built in a build folder, as they told."""
    lines = [line for text in _rustc_outputs(folder) for line in text.splitlines()]
    return sorted({line for line in lines if os.path.isabs(line) and os.path.isdir(line)})


def _rustc_outputs(folder: str) -> list[str]:
    """Return what the compiler printed about itself: cargo keeps that for its next start."""
    try:
        outputs = read_json(os.path.join(folder, RUSTC_INFO))["outputs"].values()
        return [output.get("stdout", "") for output in outputs]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def read_json(path: str) -> Any:
    from pyo3_envshim.cargo import fast_json

    with open(path, encoding="utf-8") as file:
        return fast_json.loads(file.read())


def is_used(folder: str) -> bool:
    """Tell whether a cargo has locked a profile in a build folder. Raises OSError."""
    from pyo3_envshim.store.lock import is_locked

    return any(map(is_locked, lock_files(profiles(folder))))


def evict(folder: str, packages: set[str], crates: set[str]) -> None:
    """Remove from a build folder all units but those of *packages*, with *crates*. Raises OSError."""
    from pyo3_envshim import files

    left = left_by_scripts(folder)  # by a build that was killed
    for profile in profiles(folder):
        # Fingerprints first: without one, cargo trusts nothing else of the unit.
        prints = paths_in(profile, ".fingerprint")
        gone = [path for path in [*prints, *paths_in(profile, "build")] if package_of(path) not in packages]
        # A local crate may have the same name as one that stays: the hash tells them apart.
        staying = {hash_of(path) for path in prints if package_of(path) in packages}
        gone += [
            path
            for path in paths_in(profile, "deps")
            if crates_of(path).isdisjoint(crates) and (hash_of(path) or None) not in staying
        ]
        gone += [path for path in left if os.path.dirname(path) == profile]
        for path in (*gone, *paths_in(profile, "incremental"), *paths_in(profile, "examples")):
            files.delete(path)


def verified_sources(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders in which cargo unpacks what it has verified: by a checksum, or by a commit."""
    user = environ.get("USERPROFILE" if os.name == "nt" else "HOME") or os.path.expanduser("~")
    home = environ.get("CARGO_HOME") or os.path.join(user, ".cargo")
    parts = (("registry", "src"), ("git", "checkouts"))
    return tuple(os.path.join(at, *part, "") for at in (home, os.path.realpath(home)) for part in parts)
