"""Sets of compiled units: what cargo would overwrite is put aside, and brought back when it is wanted.

cargo keeps one result per unit. If a variable that a build script asked for has another value, it
runs the script again, and overwrites what the script and all that depends on it had led to. Before
cargo starts, under cargo's own locks, `exchange` moves these units out of its way, and brings back
those that were once put aside for the values that cargo is about to see. Renames keep the times,
so that cargo judges what it finds by its own rules; a mistake in a value only costs time.

But cargo never asks whose outputs lie beside a fingerprint. That one set's fingerprints never lie
beside another's outputs is what all of this is about:

- A fingerprint leaves before its outputs and comes back after them, a dependent's before and after
  its dependencies'. Where we are killed, outputs may lack their fingerprints: cargo compiles again.
- A set is written in ``tmp-…`` and counts from the rename to its name on: what was put aside by
  halves never comes back. To come back, it is first renamed to ``tmp-…`` again.
- A set is what its manifest says, file by file, or it does not come back. It comes back only
  beside the very dependencies that it was compiled against, and where no other unit lives.
- A folder of fingerprints that loses its files to a set stays, with a mark in it. ``cargo clean -p``
  takes it away, and the set does not come back.

Sets lie in ``<build folder>/<profile>/.envshim-sets``: whatever removes a profile removes them.
"""

from __future__ import annotations

import os  # nothing else at the top: every call that compiles imports this module

from pyo3_envshim import files
from pyo3_envshim.cargo import target_dir
from pyo3_envshim.cargo.units import (
    MARK,
    Outputs,
    UnitFolder,
    UnknownFormat,
    doomed,
    recorded_variables,
    stem_of,
    unit_folders,
    with_dependents,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from pyo3_envshim.call import CargoCall
    from pyo3_envshim.cargo.metadata import Workspace
    from pyo3_envshim.cargo.units import Fingerprint

    Values = Mapping[str, "str | None"]

FOLDER = ".envshim-sets"
KEPT = 8  # sets of a profile: an interpreter's wheels, tests and editor need one or two
_ROOT = "root"
_MANIFEST = "manifest"
_FORMAT = "pyo3-envshim set 1"
_TEMPORARY = "tmp-"


class Refused(Exception):
    """Nothing is moved; the message says why."""


class Exchange:
    """What was done: how many units were put aside and brought back; or why not, if there is a reason."""

    __slots__ = ("brought_back", "put_aside", "reason")

    def __init__(self) -> None:
        self.put_aside = self.brought_back = 0
        self.reason = ""

    def __str__(self) -> str:
        done = f"{self.put_aside} units set aside, {self.brought_back} brought back"
        return f"{done}: {self.reason}" if self.reason else done


class Set:
    """What was put aside together: its path, the workspace root and the values it is for, and when."""

    __slots__ = ("path", "root", "time", "values")

    def __init__(self, path: str, head: Mapping[str, Any], time: int) -> None:
        self.path = path
        self.root: str = head["root"]
        self.values: dict[str, str | None] = head["values"]
        self.time = time

    def fits(self, root: str, seen: Values) -> bool:
        """Tell whether it is for a cargo that works in *root* and sees these values."""
        values = self.values.items()
        return self.root == root and all(name in seen and seen[name] == value for name, value in values)


def exchange(call: CargoCall, environ: Mapping[str, str], workspace: Workspace) -> Exchange:
    """Put aside what a cargo with these variables would overwrite, and bring back what it would make.

    Raises nothing that could keep cargo from running: where something is not as it should be, things
    stay as they are.
    """
    done = Exchange()
    place = Place(workspace)
    try:
        sets = read_sets(place.shelf)
        recorded = recorded_variables(place.profiles)
        seen = _values_seen({*recorded, *(name for each in sets for name in each.values)}, environ)
        if _is_due(place, recorded, sets, seen):
            from pyo3_envshim.cargo.configuration import may_change

            for name in may_change(seen, call.arguments, environ):
                del seen[name]
            if _is_due(place, recorded, sets, seen):
                _exchange_locked(place, seen, done)
    except (OSError, UnknownFormat, Refused) as error:
        done.reason = str(error)
    place.note_root()
    return done


def _values_seen(names: Iterable[str], environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return variables as cargo sees them: it notes nothing for what is not Unicode."""
    found = {name: environ.get(name) for name in names}
    return {name: None if value and _is_not_unicode(value) else value for name, value in found.items()}


def _is_not_unicode(value: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in value)


def _is_due(place: Place, recorded: Mapping[str, set[str | None]], sets: Iterable[Set], seen: Values) -> bool:
    differs = any(values != {seen[name]} for name, values in recorded.items() if name in seen)
    return differs or any(each.fits(place.root, seen) for each in sets)


def read_sets(shelf: str) -> list[Set]:
    """Return the sets on a shelf, the newest first. Raises OSError."""
    found = []
    for path in target_dir.paths_in(shelf):
        if os.path.basename(path).startswith(_TEMPORARY):
            continue
        try:
            name = os.path.join(path, _MANIFEST)
            with open(name, encoding="utf-8") as file:
                head = _loads(file.readline())
            if head["format"] == _FORMAT:
                found.append(Set(path, head, os.stat(name).st_mtime_ns))
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            pass  # cut short by a full disk, or by what removes caches; `_prune` removes it
    return sorted(found, key=lambda each: (each.time, each.path), reverse=True)


def _loads(text: str) -> Any:
    from pyo3_envshim.cargo import fast_json

    return fast_json.loads(text)


class Place:
    """Where an exchange takes place.

    *root*: the workspace's. *build*, *profiles*: its build folder, and the profiles in it that have the
    name of the call's. *shelf*: the folder for sets. *last_root*: where the last cargo worked here.
    """

    __slots__ = ("build", "last_root", "outputs", "profiles", "root", "shelf", "units")

    def __init__(self, workspace: Workspace) -> None:
        self.root = workspace.root
        self.build = workspace.build_dir
        self.profiles = target_dir.profiles_called(workspace.profile, self.build)
        self.shelf = os.path.join(self.build, workspace.profile, FOLDER)
        self.units: list[UnitFolder] = []
        self.last_root = ""
        try:
            with open(os.path.join(self.shelf, _ROOT), encoding="utf-8", errors="surrogateescape") as file:
                self.last_root = file.read()
        except OSError:
            pass  # nobody knows whose sources the units were compiled from: they make no set

    def note_root(self) -> None:
        """Leave a note of the root for the next exchange. What is there must not be taken for another's."""
        path = os.path.join(self.shelf, _ROOT)
        if self.last_root != self.root:
            try:
                if not os.path.isdir(self.build):
                    os.makedirs(self.build)
                    target_dir.tag(self.build)
                os.makedirs(self.shelf, exist_ok=True)
                files.replace(path, self.root.encode("utf-8", "surrogateescape"))
            except OSError:
                files.remove(path)

    def read(self) -> None:
        """Read what cargo has left. Raises OSError, UnknownFormat."""
        self.units = unit_folders(self.profiles)
        self.outputs = Outputs(self.profiles)

    def relative(self, path: str) -> str:
        return os.path.relpath(path, self.build)

    def outputs_of(self, unit: UnitFolder) -> list[str]:
        return self.outputs.of(unit, self.outputs.claims(unit))

    def temporary(self) -> str:
        """Return a new path for what does not count."""
        os.makedirs(self.shelf, exist_ok=True)
        return os.path.join(self.shelf, f"{_TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}")


def _exchange_locked(place: Place, seen: Values, done: Exchange) -> None:
    from pyo3_envshim.store.lock import Locks, is_on_network

    if is_on_network(place.build):
        raise Refused("cargo takes no locks on a network share")
    with Locks(
        os.path.join(profile, name) for profile in place.profiles for name in target_dir.LOCKS
    ) as free:
        if not free:
            raise Refused("another process has locked the build folder, or there are no locks")
        for path in target_dir.paths_in(place.shelf):
            if os.path.basename(path).startswith(_TEMPORARY):
                files.remove(path)
        _check_folders(place)
        place.read()
        _invalidate(place, doomed(place.units))
        if moving := to_move(place.units, seen):
            done.put_aside = _put_aside(place, moving, seen)
            place.outputs = Outputs(place.profiles)
        for each in read_sets(place.shelf):
            if each.fits(place.root, seen) and not done.brought_back:
                done.brought_back = _bring_back(place, each, done)
        _prune(place.shelf)


def _check_folders(place: Place) -> None:
    """Raise `Refused` if a rename could fail half-way, or lead elsewhere."""
    import stat

    device = os.stat(place.build).st_dev
    for profile in place.profiles:
        for name in ("", ".fingerprint", "build", "deps", "deps/artifact", "examples", FOLDER):
            try:
                found = os.lstat(os.path.join(profile, name))
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(found.st_mode) or found.st_dev != device:
                raise Refused(f"{os.path.join(profile, name)} is a link, or on another device")


# ---- What moves: decided without touching anything.


def to_move(units: Iterable[UnitFolder], seen: Values) -> list[UnitFolder]:
    """Return the folders of units that cargo would overwrite, dependents before their dependencies."""
    units = list(units)
    return with_dependents(
        (unit for unit in units if any(_differs(it, seen) for it in unit.fingerprints)), units
    )


def _differs(it: Fingerprint, seen: Values) -> bool:
    return any(name in seen and seen[name] != value for name, value in it.variables.items())


def values_of(units: Iterable[UnitFolder], seen: Values) -> dict[str, str | None] | None:
    """Return what *units* were compiled for, of the variables in *seen*; None if they contradict."""
    found: dict[str, str | None] = {}
    for unit in units:
        for it in unit.fingerprints:
            for name, value in it.variables.items():
                if name in seen and found.setdefault(name, value) != value:
                    return None
    return found


def is_worthwhile(values: Values | None) -> bool:
    """Tell whether anybody may ask for these values again: not for an interpreter that is gone."""
    python = values.get("PYO3_PYTHON") if values else None
    return bool(values) and (not python or not os.path.isabs(python) or os.path.lexists(python))


def _check_claims(place: Place, moving: list[UnitFolder]) -> None:
    """Raise `Refused` if a file without a hash may be that of a unit that stays as well."""
    ours = {(unit.profile, *stem) for unit in moving for stem in place.outputs.claims(unit)}
    for unit in place.units:
        if unit not in moving:
            for stem in place.outputs.claims(unit):
                if (unit.profile, *stem) in ours:
                    raise Refused(f"{stem[1]} may belong to {unit.package}, too")


# ---- Out.


def _invalidate(place: Place, units: Iterable[tuple[UnitFolder, str]]) -> None:
    for unit, name in units:
        it = next(it for it in unit.fingerprints if it.name == name)
        for file in it.files:
            files.remove(os.path.join(unit.place, file))
        unit.fingerprints.remove(it)


def _put_aside(place: Place, moving: list[UnitFolder], seen: Values) -> int:
    """Move units out of cargo's way, into a set if it may be of use; return how many folders that was."""
    # What rustdoc made lies elsewhere, and has no hash in its name.
    docs = [(unit, it.name) for unit in moving for it in unit.fingerprints if it.name.startswith("doc-")]
    _check_claims(place, moving)
    _invalidate(place, docs)
    moving = [unit for unit in moving if unit.fingerprints]
    outputs = [path for unit in moving for path in place.outputs_of(unit)]
    for path in outputs:
        if os.path.islink(path):
            raise Refused(f"{path} is a link")
    values = values_of(moving, seen)
    body = {
        "marks": {place.relative(unit.place): _marked(unit.place) for unit in moving},
        "outside": _outside(place, moving),
        "outputs": [place.relative(path) for path in outputs],
    }
    temporary = place.temporary()
    moved: list[tuple[str, str]] = []
    try:
        prints = [path for unit in moving for path in _files_of(unit)]
        for path in [*prints, *outputs]:
            _rename(path, os.path.join(temporary, place.relative(path)), moved)
        if place.last_root and is_worthwhile(values):
            body["fingerprints"] = [place.relative(path) for path in reversed(prints)]
            head = {"format": _FORMAT, "root": place.last_root, "values": values}
            _commit(place.shelf, temporary, head, body)
    except BaseException:
        _move_back(moved)
        raise
    finally:
        files.remove(temporary)
    for unit in moving:
        unit.fingerprints.clear()
    return len(moving)


def _files_of(unit: UnitFolder) -> list[str]:
    """Return the paths of a folder's files but the mark: first those without which cargo trusts no other."""
    first = [os.path.join(unit.place, it.name) for it in unit.fingerprints]
    rest = sorted({*target_dir.paths_in(unit.place)} - {*first, os.path.join(unit.place, MARK)})
    return first + rest


def _marked(folder: str) -> str:
    """Return what the mark in a folder says; leave one if there is none. Raises OSError."""
    if not read_mark(folder):
        files.replace(os.path.join(folder, MARK), os.urandom(8).hex().encode())
    return read_mark(folder)


def read_mark(folder: str) -> str:
    """Return what the mark in a folder says; "" if there is none."""
    try:
        with open(os.path.join(folder, MARK), encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _outside(place: Place, moving: list[UnitFolder]) -> list[dict[str, Any]]:
    """Return what the set's units need that is not in the set, as it is now."""
    needs = {need for unit in moving for it in unit.fingerprints for need in it.needs}
    return [
        _state(place, unit, it.name, it.number)
        for unit in place.units
        if unit not in moving
        for it in unit.fingerprints
        if it.number in needs
    ]


def _state(place: Place, unit: UnitFolder, name: str, number: int) -> dict[str, Any]:
    outputs = _states(place.outputs_of(unit), place.build)
    return {"place": place.relative(unit.place), "name": name, "number": number, "outputs": outputs}


def _states(paths: Iterable[str], above: str) -> dict[str, list[int]]:
    """Return size and mtime of all files at or below *paths*, by their paths relative to *above*."""
    found = {}
    left = list(paths)
    while left:
        path = left.pop()
        at = os.lstat(path)
        if at.st_mode & 0o170000 == 0o040000:
            left += target_dir.paths_in(path)
        else:
            found[os.path.relpath(path, above)] = [at.st_size, at.st_mtime_ns]
    return found


def _rename(source: str, target: str, moved: list[tuple[str, str]]) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.rename(source, target)
    moved.append((source, target))


def _move_back(moved: list[tuple[str, str]]) -> None:
    """Undo renames, the last one first: where one fails, what had to come after it stays away, too."""
    try:
        for source, target in reversed(moved):
            os.rename(target, source)
    except OSError:
        pass  # cargo compiles what is not there


def _commit(shelf: str, temporary: str, head: dict[str, Any], body: dict[str, Any]) -> None:
    """Write the manifest, and let the set count from now on, instead of an older one for the same values."""
    import hashlib
    import json

    body["files"] = _states(target_dir.paths_in(temporary), temporary)
    text = f"{json.dumps(head, sort_keys=True)}\n{json.dumps(body)}\n"
    files.create(os.path.join(temporary, _MANIFEST), text.encode())
    path = os.path.join(shelf, hashlib.sha256(text.partition("\n")[0].encode()).hexdigest()[:16])
    if os.path.lexists(path):
        os.rename(path, f"{temporary}-old")
        files.remove(f"{temporary}-old")
    os.rename(temporary, path)


# ---- In.


def _bring_back(place: Place, found: Set, done: Exchange) -> int:
    """Bring a set back and return how many folders that was; where it must not come back, remove it."""
    temporary = place.temporary()
    try:
        with open(os.path.join(found.path, _MANIFEST), encoding="utf-8") as file:
            body = _loads(file.read().partition("\n")[2])
        done.reason = flaw_of(place, found.path, body)
        if not done.reason:
            _clear(place, body)
            os.rename(found.path, temporary)
            for path in [*body["outputs"], *body["fingerprints"]]:
                _rename(os.path.join(temporary, path), os.path.join(place.build, path), [])
            return len(body["marks"])
    except (ValueError, KeyError, TypeError) as error:
        done.reason = f"the set cannot be read: {error}"
    finally:
        files.remove(temporary)
    os.rename(found.path, temporary)
    files.remove(temporary)
    return 0


def flaw_of(place: Place, path: str, body: dict[str, Any]) -> str:
    """Tell why the set at *path* must not come back; "" if it may."""
    states = _states(target_dir.paths_in(path), path)
    del states[_MANIFEST]
    if states != body["files"]:
        return "the set is not what it was"
    units = {place.relative(unit.place): unit for unit in place.units}
    for folder, mark in body["marks"].items():
        if folder not in units or read_mark(units[folder].place) != mark:
            return f"{folder} was removed since the set was made"
        if units[folder].fingerprints:
            return f"another unit is in {folder}"
    for noted in body["outside"]:
        unit = units.get(noted["place"])
        if unit is None or noted["number"] not in {it.number for it in unit.fingerprints}:
            return f"{noted['place']} is not what the set was compiled against"
        if _state(place, unit, noted["name"], noted["number"]) != noted:
            return f"{noted['place']} was compiled again since the set was made"
    stems = _stems(place, body)
    for unit in place.units:
        if not stems.isdisjoint((unit.profile, *stem) for stem in place.outputs.claims(unit)):
            return f"an output without a hash may belong to {unit.package}, too"
    return ""


def _stems(place: Place, body: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Return the profiles, folders and stems of a set's outputs without a hash."""
    paths = [os.path.join(place.build, path) for path in body["outputs"] if not target_dir.hash_of(path)]
    parts = [(os.path.split(os.path.dirname(path)), stem_of(path)) for path in paths]
    return {(profile, folder, stem) for (profile, folder), stem in parts if folder in ("deps", "examples")}


def _clear(place: Place, body: dict[str, Any]) -> None:
    """Remove what would lie beside the set's files: fingerprints that do not count, and their outputs."""
    stems = _stems(place, body)
    for unit in place.units:
        if place.relative(unit.place) in body["marks"]:
            own = [(folder, stem) for profile, folder, stem in stems if profile == unit.profile]
            for path in [*_files_of(unit), *place.outputs.of(unit, own)]:
                files.remove(path)
                if os.path.lexists(path):
                    raise Refused(f"{path} cannot be removed")


# ---- Limits.


def _prune(shelf: str) -> None:
    """Remove what is no set, sets for interpreters that are gone, and the oldest ones beyond `KEPT`."""
    kept = [each.path for each in read_sets(shelf) if is_worthwhile(each.values)][:KEPT]
    for path in target_dir.paths_in(shelf):
        if path not in kept and os.path.isdir(path):
            gone = os.path.join(shelf, f"{_TEMPORARY}{os.path.basename(path)}")
            os.rename(path, gone)  # a set that is removed by halves must not count
            files.remove(gone)
