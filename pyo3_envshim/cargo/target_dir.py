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
    from collections.abc import Container, Iterable, Iterator, Mapping
    from typing import Any

# https://bford.info/cachedir
CACHE_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# made by pyo3-envshim for cargo\n"
LOCKS = (".cargo-lock", ".cargo-build-lock")  # of a profile: up to 1.95, and from 1.96 on
_TIMESTAMP = "invoked.timestamp"
_RUN = "run-build-script-"


def tag(folder: str) -> None:
    """Tag a build folder as a cache, as cargo does only where it creates the folder. Raises OSError."""
    path = os.path.join(folder, "CACHEDIR.TAG")
    if not os.path.exists(path):
        with open(path, "w", encoding="ascii") as file:
            file.write(CACHE_TAG)


def profiles(folder: str) -> Iterator[str]:
    """Find the folders in a build folder that may be a profile: ``release``, ``<target>/release``."""
    for path in _folders_in(folder):
        yield path
        yield from _folders_in(path)


def paths_in(*parts: str) -> list[str]:
    """Return the paths of what lies in a folder; none if it does not exist."""
    folder = os.path.join(*parts)
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def profiles_called(name: str, folder: str) -> list[str]:
    """Return the folders of a profile: that of the host, and those of the targets that have one."""
    found = [os.path.join(above, name) for above in (folder, *_folders_in(folder))]
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


def containing(place: str) -> str | None:
    """Return the build folder that contains a fingerprint, or None."""
    folder = place
    for _ in range(8):
        folder = os.path.dirname(folder)
        if any(os.path.exists(os.path.join(folder, name)) for name in (".rustc_info.json", "CACHEDIR.TAG")):
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


class Notes:
    """What cargo noted of local packages' units.

    *inputs*: by package, the files in dep-info and in the ``rerun-if-changed`` of build scripts, which
    may be relative to the package. *declared*: the files of others' ``rerun-if-changed`` that are in
    no crate of a registry or of git, by package. *foreign*: the fingerprints' folders of all the rest.
    """

    __slots__ = ("declared", "foreign", "inputs")

    def __init__(self) -> None:
        self.inputs: dict[str, set[str]] = {}
        self.declared: dict[str, set[str]] = {}
        self.foreign: set[str] = set()


def read_notes(profiles: Iterable[str], names: Iterable[str]) -> Notes:
    """Read what cargo noted in some profiles. Raises OSError.

    Local are the packages called *names*, and all of which cargo noted files outside of the build folder.
    """
    notes = Notes()
    notes.inputs.update((name, set()) for name in names)
    scripts, others = [], []
    for unit in _units(profiles):
        is_known = False
        for path in paths_in(unit.folder):
            name = os.path.basename(path)
            is_known = is_known or name.startswith(("dep-", _RUN))
            if name.startswith("dep-"):
                with open(path, "rb") as file:
                    noted = _read_dep_info(file.read())
                own = {path for in_package, path in noted if in_package or os.path.isabs(path)}
                if own:
                    notes.inputs.setdefault(unit.package, set()).update(own)
            elif name.startswith(_RUN) and name.endswith(".json"):
                scripts.append((unit.package, path))
        others += [unit] if is_known else []
    crates = (*verified_sources(os.environ), *(os.path.join(profile, "build", "") for profile in profiles))
    for package, path in scripts:
        asked = _rerun_if_changed(path)
        if package in notes.inputs:
            notes.inputs[package].update(asked)
        elif elsewhere := {it for it in asked if os.path.isabs(it) and not it.startswith(crates)}:
            notes.declared.setdefault(package, set()).update(elsewhere)
    local = notes.inputs.keys() | notes.declared.keys()
    notes.foreign.update(unit.folder for unit in others if unit.package not in local)
    return notes


def end_of_last_build(profiles: Iterable[str], foreign: Container[str] = ()) -> int | None:
    """Return when the newest unit was started that is not *foreign*, in ns; None if there is none.

    A unit that cargo is about to start has no time stamp yet, and will read what is there then.
    """
    times = []
    for unit in _units(profiles):
        if unit.folder not in foreign:
            for folder in (unit.folder, unit.run):
                try:
                    times.append(os.stat(os.path.join(folder, _TIMESTAMP)).st_mtime_ns)
                except (FileNotFoundError, NotADirectoryError):
                    pass
    return max(times, default=None)


def packages_asking_for(variables: Iterable[str], profiles: Iterable[str]) -> set[str]:
    """Return the packages whose build scripts cargo runs again if one of *variables* changes."""
    found = set()
    for unit in _units(profiles):
        paths = (path for path in paths_in(unit.folder) if os.path.basename(path).startswith(_RUN))
        runs = [read_unit(path[: -len(".json")]) for path in paths if path.endswith(".json")]
        if any(not watched_variables(run).keys().isdisjoint(variables) for run in runs):
            found.add(unit.package)
    return found


def invalidate(profiles: Iterable[str], packages: Container[str]) -> None:
    """Make cargo compile *packages*, and what needs them; their profiles must be locked. Raises OSError.

    A unit without dep-info is stale, and so is all that depends on it: the run of a build script
    too, whose own fingerprint would not be enough. What was compiled stays, until cargo replaces
    it; so does ``OUT_DIR``, in which a build script may go on from what is there.
    """
    for unit in _units(profiles):
        if unit.package in packages:
            for path in paths_in(unit.folder):
                os.unlink(path)


class _Unit:
    """A unit: its package, the folder of its fingerprint, and that of a build script's output."""

    __slots__ = ("folder", "package", "run")

    def __init__(self, package: str, folder: str, run: str) -> None:
        self.package = package
        self.folder = folder
        self.run = run


def _units(profiles: Iterable[str]) -> Iterator[_Unit]:
    for profile in profiles:
        for path in paths_in(profile, ".fingerprint"):
            name = os.path.basename(path)
            yield _Unit(name.rpartition("-")[0], path, os.path.join(profile, "build", name))
        for path in paths_in(profile, "build"):
            for unit in paths_in(path):
                if is_hash(os.path.basename(unit)):
                    parts = (os.path.join(unit, part) for part in ("fingerprint", "run"))
                    yield _Unit(os.path.basename(path), *parts)


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


def _rerun_if_changed(path: str) -> list[str]:
    try:
        noted = _read_json(path)["local"]
    except (ValueError, KeyError):  # truncated: cargo will run the script
        return []
    return [name for each in noted for name in each.get("RerunIfChanged", {}).get("paths", ())]


def read_unit(place: str) -> dict[str, Any]:
    """Read the fingerprint at *place*: its hash, the facts in its JSON, when it was begun and ended."""
    found: dict[str, Any] = {"hash": "", "facts": {}, "begun": None, "ended": None}
    try:
        with open(place, encoding="ascii") as file:
            found["hash"] = file.read()
        found["ended"] = os.stat(place).st_mtime
        facts = _read_json(place + ".json")
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
            return os.stat(os.path.join(candidate, _TIMESTAMP)).st_mtime
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


def _rustc_outputs(folder: str) -> list[str]:
    """Return what the compiler printed about itself: cargo keeps that for its next start."""
    try:
        outputs = _read_json(os.path.join(folder, ".rustc_info.json"))["outputs"].values()
        return [output.get("stdout", "") for output in outputs]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _read_json(path: str) -> Any:
    from pyo3_envshim.cargo import fast_json

    with open(path, encoding="utf-8") as file:
        return fast_json.loads(file.read())


def is_used(folder: str) -> bool:
    """Tell whether a cargo has locked a profile in a build folder. Raises OSError."""
    from pyo3_envshim.store.lock import is_locked

    return any(is_locked(os.path.join(profile, name)) for profile in profiles(folder) for name in LOCKS)


def evict(folder: str, packages: set[str], crates: set[str]) -> None:
    """Remove from a build folder all units but those of *packages*, with *crates*. Raises OSError."""
    import shutil

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
        for path in (*gone, *paths_in(profile, "incremental"), *paths_in(profile, "examples")):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)


def verified_sources(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders in which cargo unpacks what it has verified: by a checksum, or by a commit."""
    home = environ.get("CARGO_HOME") or os.path.join(environ.get("HOME", ""), ".cargo")
    parts = (("registry", "src"), ("git", "checkouts"))
    return tuple(os.path.join(at, *part, "") for at in (home, os.path.realpath(home)) for part in parts)
