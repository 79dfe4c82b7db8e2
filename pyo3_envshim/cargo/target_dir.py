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

from pyo3_envshim.call import PassThrough

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from typing import Any

# https://bford.info/cachedir
CACHE_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# made by pyo3-envshim for cargo\n"
LOCKS = (".cargo-lock", ".cargo-build-lock")  # of a profile: up to 1.95, and from 1.96 on
TIMESTAMP = "invoked.timestamp"
RUSTC_INFO = ".rustc_info.json"  # cargo leaves it in each build folder, and not in a target's in there
RUN = "run-build-script-"
_WINDOWS, _LONGEST = os.name == "nt", 259
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
    return [os.path.join(folder, name) for name in names_in(folder)]


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
        first = names_in(f"{profile}/.fingerprint")
        for name in first:
            yield Unit(name.rpartition("-")[0], f"{profile}/.fingerprint/{name}", f"{profile}/build/{name}")
        for name in set(names_in(f"{profile}/build")).difference(first):
            for number in names_in(f"{profile}/build/{name}"):
                if is_hash(number):
                    unit = f"{profile}/build/{name}/{number}"
                    yield Unit(name, f"{unit}/fingerprint", f"{unit}/run", f"{unit}/out")


# What of a unit's outputs a back end, or rustc, may take; executables have no ending on POSIX.
_OF_PROGRAMS = frozenset(("", "exe", "wasm"))
_OF_LIBRARIES = frozenset(("so", "dylib", "dll", "rlib", "rmeta", "a", "lib", "wasm"))


def overwritten(found: Iterable[Unit]) -> Iterator[Unit]:
    """Find units of which an output was written after cargo had noted that it was done.

    In place, by way of the link that cargo puts beside ``deps`` (patchelf, strip); or, where cargo puts no
    hash into its name (a library that other programs load, in the first layout), for another version of the
    package. cargo asks only whether it is there. Raises OSError.
    """
    listed: dict[str, dict[str, list[str]]] = {}
    for unit in found:
        above = os.path.dirname(unit.folder)
        folder = unit.out or os.path.join(os.path.dirname(above), "deps")
        number = (above if unit.out else unit.folder)[-16:]
        if folder not in listed:
            listed[folder] = _outputs_in(folder)
        outputs = listed[folder]
        for name in names_in(unit.folder):
            kind, _, target = name.partition("-")
            if kind not in ("lib", "bin") or name.endswith(".json"):
                continue
            crate = target.replace("-", "_")
            own = outputs.get(number) or [*outputs.get(crate, ()), *outputs.get(f"lib{crate}", ())]
            # With no hash in its name (Windows), a program may lie beside the library of that name.
            endings = _OF_LIBRARIES if kind == "lib" else _OF_PROGRAMS
            own = [path for path in own if os.path.basename(path).partition(".")[2] in endings]
            if _is_any_newer(own, f"{unit.folder}/{name}"):
                yield unit
                break


def _outputs_in(folder: str) -> dict[str, list[str]]:
    """Return what lies in a folder, by the hash in the name, or else by the name up to a dot."""
    found: dict[str, list[str]] = {}
    for name in names_in(folder):
        stem = name.partition(".")[0]
        number = stem[-16:]
        found.setdefault(number if is_hash(number) else stem, []).append(f"{folder}/{name}")
    return found


def _is_any_newer(paths: Iterable[str], fingerprint: str) -> bool:
    """Tell whether a file may be newer than a unit's fingerprint, which is empty while the unit is compiled.

    A time without a fraction may be that of any moment of its second (FAT, archives).
    """
    try:
        noted = os.stat(fingerprint)
        times = [os.stat(path).st_mtime_ns for path in paths]
    except FileNotFoundError:  # removed since it was listed, so that cargo compiles
        return False
    least = noted.st_mtime_ns + (noted.st_mtime_ns % 1_000_000_000 != 0)
    return noted.st_size > 0 and any(time >= least for time in times)


class TooLong(PassThrough, OSError):
    """cargo reads paths that this Python does not."""


def names_in(folder: str) -> list[str]:
    """Return the names in a folder; none if it does not exist. Raises OSError."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    if _WINDOWS:
        _check_length(folder, names)
    return names


def _check_length(folder: str, names: list[str]) -> None:
    """Raise `TooLong` where what is in a folder seems not to be there.

    Without the setting LongPathsEnabled, Windows says so beyond 259 characters. cargo gets around that, so
    there may be units that nobody here would see, and so judge. A folder's own content has two more.
    """
    path = f"{folder}/{max(names, key=len, default='')}"
    if len(path) > _LONGEST - 2:
        try:
            os.lstat(path)
            if os.path.isdir(path):
                os.listdir(path)
        except FileNotFoundError:
            raise TooLong(f"Windows does not let this Python read {path}") from None


def invalidate(profiles: Iterable[str], doubted: Container[str] | None) -> None:
    """Make cargo compile what is *doubted* (all, if None), and what needs it. Raises OSError.

    That is packages, or folders of single units' fingerprints. Their profiles must be locked.

    A unit without dep-info is stale, and so is all that depends on it: the run of a build script
    too, whose own fingerprint would not be enough. What was compiled stays, until cargo replaces
    it; so does ``OUT_DIR``, in which a build script may go on from what is there. With all that is in
    the folder goes the mark of sets: where a script has written into the sources, no older run comes back.
    """
    from pyo3_envshim import files

    for unit in units(profiles):
        if doubted is None or unit.package in doubted or unit.folder in doubted:
            for path in paths_in(unit.folder):
                files.unlink(path)


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
