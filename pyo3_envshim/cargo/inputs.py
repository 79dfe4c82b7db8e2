"""What cargo and rustc noted as the inputs of units: files, and the variables that build scripts asked for.

Reads cargo's dep-info and rustc's own, and the fingerprints of build scripts' runs (`target_dir`).
"""

from __future__ import annotations

import os  # nothing else at the top: every call that compiles imports this module

from pyo3_envshim.cargo import fast_json
from pyo3_envshim.cargo.configuration import cargo_home
from pyo3_envshim.cargo.target_dir import (
    RUN,
    TIMESTAMP,
    hash_of,
    names_in,
    read_json,
    units,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from pyo3_envshim.cargo.target_dir import Unit

KEPT_CONFIGURATION = "envshim-pyo3-config-"  # ours, in a kept build folder; its content is in its name
# What cargo is given another value of with another environment; a build script may ask for one of these.
OF_ENVIRONMENT = ("PYO3_PYTHON", "PYTHON_SYS_EXECUTABLE", "PYO3_BASE_PYTHON", "VIRTUAL_ENV", "PATH")


class Notes:
    """What cargo noted of units in some profiles.

    *inputs*: by local package, the files in dep-info and in the ``rerun-if-changed`` of build scripts,
    which may be relative to the package. *declared*: the files of others' ``rerun-if-changed`` that are
    in no crate of a registry or of git, by package; those above its own folder may be relative. *told*: files
    that a variable told a script to read, and that it has not declared. *undirected*: local packages whose
    build script told cargo nothing. *unplaced*: local packages that are not among the known ones, so that
    nobody knows where they lie. *local*: units of all these packages, and what is being compiled for the
    first time; *foreign*: all others. *profiles*: where all that was noted.
    """

    __slots__ = ("declared", "foreign", "inputs", "local", "profiles", "told", "undirected", "unplaced")

    def __init__(self, names: Iterable[str], profiles: Sequence[str]) -> None:
        self.profiles = profiles
        self.inputs: dict[str, set[str]] = {name: set() for name in names}
        self.declared: dict[str, set[str]] = {}
        self.told: set[str] = set()
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
    notes = Notes(names, profiles)
    found, scripts = list(units(profiles)), []
    kept = (os.path.join(at, KEPT_CONFIGURATION) for at in {build, os.path.realpath(build)})
    made = (*(unwatched(profiles) if made is None else made), *kept)
    build = os.path.realpath(build)
    for unit in found:
        for name in names_in(unit.folder):
            path = f"{unit.folder}/{name}"
            if name.startswith("dep-"):
                unit.has_ended = True
                noted = _noted_by_rustc(path)
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
        run = _noted_by_run(path)
        asked, told = _rerun_if_changed(run), _told(run)
        notes.told.update(it for it in told.difference(asked) if not it.startswith(made))
        asked |= told
        is_undirected = any("Precalculated" in each for each in run)
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


def noted_by_units(
    notes: Iterable[Notes], folders: Mapping[str, Container[str]], build: str
) -> dict[str, set[str]]:
    """Return the folders of the local units that noted each file, by its path without links.

    *folders*: those of the local packages, with their names. *build*: the build folder. What was noted
    relative to the folder of a package is left out where that is not known for sure. Raises OSError.
    """
    found: dict[str, set[str]] = {}
    for known, unit in ((it.inputs, unit) for it in notes for unit in it.local):
        own = [folder for folder, names in folders.items() if unit.package in names]
        own = own if len(own) == 1 and unit.package in known else []
        paths: set[str] = set()
        for name in names_in(unit.folder):
            path = f"{unit.folder}/{name}"
            if _is_of_run(name):
                asked = _rerun_if_changed(_noted_by_run(path))
                paths.update(filter(os.path.isabs, asked))
                paths.update(os.path.join(folder, it) for folder in own for it in asked)
            elif name.startswith("dep-"):
                for in_package, it in _noted_by_rustc(path):
                    paths.update(os.path.join(folder, it) for folder in (own if in_package else [build]))
        for place in map(os.path.realpath, paths):
            found.setdefault(place, set()).add(unit.folder)
    return found


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
            names = [name for name in names_in(unit.folder) if name.startswith("dep-")]
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
        for name in names_in(unit.folder):
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
    crates of which there are libraries for rustc itself to load, and their packages; a local one has more.
    """

    __slots__ = ("is_all", "macros", "names")

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.macros: set[str] = set()
        self.is_all = True


def read_by_rustc(notes: Notes) -> Rustc:
    """Return what rustc read for the local units of *notes*, by its own dep-info. Raises OSError."""
    found = Rustc()
    infos: dict[str, list[str]] = {}  # by hash; where outputs have none, their dep-info has none
    shared = [f"{profile}/{name}" for profile in notes.profiles for name in ("deps", "examples")]
    packages = {unit.out or hash_of(unit.folder): unit.package for unit in (*notes.foreign, *notes.local)}
    for folder in (*shared, *(unit.out for unit in (*notes.foreign, *notes.local) if unit.out)):
        for name in names_in(folder):
            if name.endswith(".d"):
                key = hash_of(name) if folder in shared else folder
                infos.setdefault(key, []).append(f"{folder}/{name}")
            elif name.endswith((".so", ".dylib", ".dll")) and hash_of(name):  # a cdylib has no hash
                crate = name.rpartition("-")[0]
                crate = crate if name.endswith(".dll") else crate[len("lib") :]
                key = hash_of(name) if folder in shared else folder
                package = packages.get(key, crate)
                found.macros.update((crate, package.replace("-", "_")))
                if package in notes.inputs:
                    found.macros.add(f"{package}, a local one")  # it may be called like one of others
    for unit in notes.local:
        if unit.has_ended and unit.package not in notes.inputs:
            continue
        begun = _mtime(f"{unit.folder}/{TIMESTAMP}")
        # cargo sets dep-info's time to that of the unit's start, when it has ended.
        notes_of = [name for name in names_in(unit.folder) if name.startswith("dep-")]
        times = [_mtime(f"{unit.folder}/{name}") for name in notes_of]
        if begun is not None and (not times or any(time is None or time < begun for time in times)):
            found.is_all = False
        if not times:
            continue
        plain = [path for path in infos.get("", ()) if any(_is_of(path, name) for name in notes_of)]
        paths = infos.get(unit.out or hash_of(unit.folder)) or plain
        # The first layout keeps that of a build script beside its executable.
        paths = paths + [f"{unit.run}/{it}" for it in names_in(unit.run) if it.endswith(".d")]
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
    runs = ((unit, name) for unit in units(profiles) for name in names_in(unit.folder) if _is_of_run(name))
    asked = ((unit.package, _read_variables(f"{unit.folder}/{name}")) for unit, name in runs)
    return {package for package, names in asked if not names.keys().isdisjoint(variables)}


def _noted_by_rustc(path: str) -> list[tuple[bool, str]]:
    """Return what `_read_dep_info` does of a file; nothing if it was removed: cargo will compile that."""
    try:
        with open(path, "rb") as file:
            return _read_dep_info(file.read())
    except FileNotFoundError:
        return []


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


def _noted_by_run(path: str) -> list[dict[str, Any]]:
    """Return what cargo noted of what the run of a build script depends on; nothing if it will run it."""
    try:
        noted: list[dict[str, Any]] = read_json(path)["local"]
    except (ValueError, KeyError, FileNotFoundError):  # truncated, or removed
        return []
    return noted


def _rerun_if_changed(noted: Iterable[dict[str, Any]]) -> set[str]:
    """Return the files that a build script told cargo to run it for."""
    return {name for each in noted for name in each.get("RerunIfChanged", {}).get("paths", ())}


def _told(noted: Iterable[dict[str, Any]]) -> set[str]:
    """Return the file by which PyO3 was told what to build for, if a build script asked for its name."""
    value = watched_variables({"facts": {"local": noted}}).get("PYO3_CONFIG_FILE")
    return {value} if value and os.path.isabs(value) else set()


def watched_variables(unit: dict[str, Any]) -> dict[str, str | None]:
    """Return the variables that the run of a build script depends on, with their values then."""
    found = {}
    for local in unit["facts"].get("local") or ():
        watched = local.get("RerunIfEnvChanged") if isinstance(local, dict) else None
        if isinstance(watched, dict):
            found[watched.get("var", "")] = watched.get("val")
    return found


def verified_sources(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders in which cargo unpacks what it has verified: by a checksum, or by a commit."""
    home = cargo_home(environ)
    parts = (("registry", "src"), ("git", "checkouts"))
    return tuple(os.path.join(at, *part, "") for at in (home, os.path.realpath(home)) for part in parts)


def recorded_variables(profiles: Iterable[str]) -> dict[str, set[str | None]]:
    """Return the variables that build scripts asked for, with the values that cargo saw. Raises OSError.

    Reads as little as that takes: only what has run has a folder in ``build``, or ``run`` in its own.
    """
    found: dict[str, set[str | None]] = {}
    for place in (place for profile in profiles for place in _places_of_runs(profile)):
        for name in names_in(place):
            if _is_of_run(name):
                for variable, value in _read_variables(f"{place}/{name}").items():
                    found.setdefault(variable, set()).add(value)
    return found


def _places_of_runs(profile: str) -> Iterator[str]:
    for name in names_in(f"{profile}/build"):
        if hash_of(name):
            yield f"{profile}/.fingerprint/{name}"
        else:
            units = (f"{profile}/build/{name}/{number}" for number in names_in(f"{profile}/build/{name}"))
            yield from (f"{unit}/fingerprint" for unit in units if os.path.exists(f"{unit}/run"))


def _is_of_run(name: str) -> bool:
    return name.startswith(RUN) and name.endswith(".json")


def _read_variables(path: str) -> dict[str, str | None]:
    try:
        with open(path, "rb") as file:
            text = file.read()
        facts = fast_json.loads(text.decode()) if b"RerunIfEnvChanged" in text else {}
    except (FileNotFoundError, ValueError):  # a cargo is writing it
        return {}
    return watched_variables({"facts": facts})
