"""Moves units out of cargo's way, into sets on the profile's `shelf`, and back; under cargo's own locks.

cargo never asks whose outputs lie beside a fingerprint. That one set's fingerprints never lie
beside another's outputs is what all of this is about:

- A fingerprint leaves before its outputs and comes back after them, a dependent's before and after
  its dependencies'. Where we are killed, outputs may lack their fingerprints: cargo compiles again.
- A set is written in ``tmp-…`` and counts from the rename to its name on: what was put aside by
  halves never comes back. To come back, it is first renamed to ``tmp-…`` again.
- A set is what its manifest says, file by file, or it does not come back, nor where another unit
  lives. A unit comes back only beside the very dependencies that it was compiled against.
- Units make a set only if the last known call explains their values: its workspace's root, and its
  interpreter, are what a set is for. Otherwise a cargo that we know nothing of was here. So it was where
  cargo has noted another worktree's sources beside the results.
- A folder of fingerprints that loses its files to a set stays, with a mark in it. ``cargo clean -p``
  takes it away, and the unit does not come back.
- cargo's time stamps are trusted for a set as they are for a folder (`freshness`): it has the stamp
  of the last build for which it was in place.
"""

from __future__ import annotations

import os

from pyo3_envshim import assessment, files, freshness, shelf, subprocesses
from pyo3_envshim.cargo import target_dir
from pyo3_envshim.cargo.units import (
    Outputs,
    UnitFolder,
    doomed,
    invalidate,
    to_move,
    unit_folders,
    values_of,
    with_dependents,
)
from pyo3_envshim.shelf import CallNote, Set, Shelf, is_worthwhile, states
from pyo3_envshim.stamp import OLD_STAMP, STAMP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
    from typing import Any

    from pyo3_envshim.cargo.metadata import Workspace
    from pyo3_envshim.set_aside import Exchange

    Stem = tuple[str, str, str]  # of a file without a hash: its profile, its folder's name, and its own
    Values = Mapping[str, "str | None"]


class Refused(Exception):
    """Nothing is moved; the message says why."""


class Place:
    """Where an exchange takes place.

    *call*: what is to be noted of the call. *build*, *profiles*: its build folder, and the profiles in it
    that have the name of the call's. *units*, *outputs*: what cargo has left in them.
    """

    __slots__ = ("build", "call", "is_stamped", "outputs", "profiles", "shelf", "units", "workspace")

    def __init__(self, workspace: Workspace, shelf: Shelf, call: CallNote, is_stamped: bool) -> None:
        self.workspace = workspace
        self.is_stamped = is_stamped
        self.build = workspace.build_dir
        self.profiles = target_dir.profiles_called(workspace.profile, self.build)
        self.call = call
        self.shelf = shelf

    def read(self) -> None:
        """Read what cargo has left. Raises OSError, UnknownFormat."""
        self.units = unit_folders(self.profiles)
        self.outputs = Outputs(self.profiles)

    def relative(self, path: str) -> str:
        return os.path.relpath(path, self.build)

    def claims(self, unit: UnitFolder) -> set[Stem]:
        return {(unit.profile, *stem) for stem in self.outputs.claims(unit)}

    def outputs_of(self, unit: UnitFolder) -> list[str]:
        return self.outputs.of(unit, self.outputs.claims(unit))


def exchange(place: Place, seen: Values, done: Exchange) -> None:
    """Put aside what differs from the values in *seen*, and bring back what is for them.

    Raises OSError, `Refused`, UnknownFormat.
    """
    from pyo3_envshim.store.lock import Locks, is_on_network

    if is_on_network(place.build):
        raise Refused("cargo takes no locks on a network share")
    with Locks(target_dir.lock_files(place.profiles)) as free:
        if not free:
            raise Refused("another process has locked the build folder, or there are no locks")
        _check_folders(place)
        place.shelf.sweep()
        place.read()
        invalidate(doomed(place.units))
        fitting = [each for each in place.shelf.sets() if each.fits(place.call, seen)]
        _remove_unexplained(place, seen)
        moving = to_move(place.units, seen)
        values = values_of(moving, seen) or {}
        origin = place.shelf.origin(values) if is_worthwhile(values) else None
        if origin and _is_built_elsewhere(place, moving, origin.root):
            origin = None
        if moving and (origin or fitting):  # otherwise cargo may as well overwrite them
            done.put_aside = _put_aside(place, moving, values, origin)
        for each in fitting:
            if not done.brought_back:
                _bring_back(place, each, done)
        place.shelf.prune()


def _is_built_elsewhere(place: Place, units: Iterable[UnitFolder], root: str) -> bool:
    """Tell whether one of *units* was last built in another worktree than *root*'s: by a cargo without us.

    In each build, cargo notes beside the results where their sources lie (``output_depinfo.rs``); of tests,
    it notes nothing.
    """
    names = {f"{stem}.d" for unit in units for _, stem in unit.stems()}
    names |= {f"{it.name.partition('-')[2]}.d" for unit in units for it in unit.fingerprints}  # a program's
    for profile in place.profiles:
        for name in names:
            try:
                path = os.path.join(place.workspace.target_dir, place.relative(profile), name)
                with open(path, encoding="utf-8", errors="surrogateescape") as file:
                    noted = file.read().partition(": ")[2]
            except FileNotFoundError:  # it is no result
                continue
            sources = [it.replace("\0", " ") for it in noted.replace("\\ ", "\0").split()]
            # With `build.dep-info-basedir` they may be relative.
            sources = list(filter(os.path.isabs, sources))
            if sources and not any(_is_of_worktree(source, root) for source in sources):
                return True
    return False


def _is_of_worktree(source: str, root: str) -> bool:
    """Tell whether a source lies below a workspace's root, and in no other worktree within it."""
    folder = os.path.dirname(source)
    while folder.startswith(os.path.join(root, "")):
        if os.path.lexists(os.path.join(folder, ".git")):
            return False
        folder = os.path.dirname(folder)
    return folder == root


def _check_folders(place: Place) -> None:
    """Raise `Refused` if a rename could fail half-way, or lead elsewhere."""
    import stat

    device = os.stat(place.build).st_dev
    names = (".fingerprint", "build", "deps", "deps/artifact", "examples", shelf.FOLDER)
    for profile in place.profiles:
        for path in (profile, *(os.path.join(profile, name) for name in names)):
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(found.st_mode) or found.st_dev != device:
                raise Refused(f"{path} is a link, or on another device")


def _shared(place: Place, stems: Container[Stem], units: Iterable[UnitFolder]) -> str:
    """Tell which of *units* may have files without a hash that are called so; "" if none has."""
    for unit in units:
        if any(stem in stems for stem in place.claims(unit)):
            return f"an output without a hash may belong to {unit.package}, too"
    return ""


def _check_tests(place: Place, moving: Iterable[UnitFolder]) -> None:
    """Raise `Refused` if a test is running, as far as Linux and Windows tell.

    cargo holds no lock then, and is about to start others; another cargo overwrites no tests but by its own.
    """
    tests = [unit for unit in moving if any(it.name.startswith("test-") for it in unit.fingerprints)]
    outputs = [path for unit in tests for path in place.outputs_of(unit)]
    outputs += [path for folder in outputs for path in target_dir.paths_in(folder)]
    if outputs and (found := subprocesses.running(outputs)):
        raise Refused(f"a test of this project is in use: {found}")


def _put_aside(place: Place, moving: list[UnitFolder], values: Values, origin: CallNote | None) -> int:
    """Move units out of cargo's way; return how many folders that was.

    Into a set for *values*, if it is known by what call they were made: *origin*.
    """
    # What rustdoc made lies elsewhere, and has no hash in its name.
    docs = [(unit, it.name) for unit in moving for it in unit.fingerprints if it.name.startswith("doc-")]
    claimed = {stem for unit in moving for stem in place.claims(unit)}
    if flaw := _shared(place, claimed, (unit for unit in place.units if unit not in moving)):
        raise Refused(flaw)
    invalidate(docs)
    moving = [unit for unit in moving if unit.fingerprints]
    outputs = [path for unit in moving for path in place.outputs_of(unit)]
    for path in outputs:
        if os.path.islink(path):
            raise Refused(f"{path} is a link")
    _check_tests(place, moving)
    body = {
        "marks": {place.relative(unit.place): unit.mark() for unit in moving},
        "outside": _outside(place, moving),
        "outputs": [place.relative(path) for path in outputs],
        "stems": sorted((place.relative(profile), *stem) for profile, *stem in claimed),
    }
    temporary = place.shelf.temporary()
    moved: list[tuple[str, str]] = []
    try:
        prints = [path for unit in moving for path in unit.files()]
        for path in [*prints, *outputs]:
            _rename(path, os.path.join(temporary, place.relative(path)), moved)
        if origin:
            body["fingerprints"] = [place.relative(path) for path in reversed(prints)]
            _keep_stamp(place, temporary)
            place.shelf.commit(temporary, values, origin, body)
    except BaseException:
        _move_back(moved)
        raise
    finally:
        files.remove(temporary)
    for unit in moving:
        unit.fingerprints.clear()
    place.outputs = Outputs(place.profiles)
    return len(moving)


def _remove_unexplained(place: Place, seen: Values) -> None:
    """Remove older units than the last call that contradict it: with its own, they would make no set."""
    moving = to_move(place.units, seen)
    if not place.shelf.last or values_of(moving, seen) is not None:
        return
    last, own = place.shelf.last[-1], ((unit, values_of([unit], seen)) for unit in moving)
    strange = [unit for unit, values in own if values is None or not last.explains(values)]
    prints = [os.path.join(unit.place, it.name) for unit in strange for it in unit.fingerprints]
    if all(os.stat(path).st_mtime_ns < place.shelf.noted for path in prints):
        _put_aside(place, with_dependents(strange, place.units), {}, None)


def _keep_stamp(place: Place, folder: str) -> None:
    """Give a set the stamp of its units, with its time. Without one, what is local does not come back.

    The old one is for what is in place, where this call has left another and that in doubt.
    """
    profile = os.path.join(place.build, place.workspace.profile)
    paths = (os.path.join(profile, name) for name in (OLD_STAMP, STAMP))
    path = next(filter(os.path.lexists, paths), "")
    try:
        os.link(path, os.path.join(folder, STAMP))
    except OSError:  # none, or no hard links here
        pass


def _outside(place: Place, moving: list[UnitFolder]) -> list[dict[str, Any]]:
    """Return what the set's units need that is not in the set, as it is now."""
    needs = {need for unit in moving for it in unit.fingerprints for need in it.needs}
    return [
        _state(place, unit, it.number)
        for unit in place.units
        if unit not in moving
        for it in unit.fingerprints
        if it.number in needs
    ]


def _state(place: Place, unit: UnitFolder, number: int) -> dict[str, Any]:
    outputs = states(place.outputs_of(unit), place.build)
    return {"place": place.relative(unit.place), "number": number, "outputs": outputs}


def _rename(source: str, target: str, moved: list[tuple[str, str]]) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    files.rename(source, target)
    moved.append((source, target))


def _move_back(moved: list[tuple[str, str]]) -> None:
    """Undo renames, the last one first: where one fails, what had to come after it stays away, too."""
    try:
        for source, target in reversed(moved):
            files.rename(target, source)
    except OSError:
        pass  # cargo compiles what is not there


def _bring_back(place: Place, found: Set, done: Exchange) -> None:
    """Bring back what can be trusted of a set; what must not come back is removed with it."""
    body = found.body()
    done.reason = flaw_of(place, body) if body else "the set is not what it was"
    if body and not done.reason:
        _clear(place, body)
    temporary = place.shelf.take(found.path)
    try:
        if body and not done.reason:
            left_out = _leave_out(place, body, temporary)
            sources = freshness.judge_set(place.workspace, temporary)
            outputs = [path for path in body["outputs"] if target_dir.hash_of(path) not in left_out]
            prints = [it for it in body["fingerprints"] if os.path.lexists(os.path.join(temporary, it))]
            for path in [*outputs, *prints]:
                _rename(os.path.join(temporary, path), os.path.join(place.build, path), [])
            if place.is_stamped:
                freshness.add_to_stamp(place.workspace, sources)
            done.brought_back = len({os.path.dirname(path) for path in prints})
            if not prints:
                done.reason = "all that was set aside for this is in doubt, or was cleaned"
    finally:
        files.remove(temporary)


def flaw_of(place: Place, body: dict[str, Any]) -> str:
    """Tell why a set must not come back; "" if it may."""
    units = {place.relative(unit.place): unit for unit in place.units}
    for folder in body["marks"]:
        if folder in units and units[folder].fingerprints:
            return f"another unit is in {folder}"
    return _shared(place, _stems(place, body), place.units)


def _leave_out(place: Place, body: dict[str, Any], temporary: str) -> set[str]:
    """Remove from a set the fingerprints of units that must not come back; return the hashes of some.

    Those are units whose folder was removed since (`cargo clean -p`); the others, what was compiled
    against something that is not there any more, and all that needs either.
    """
    units = {place.relative(unit.place): unit for unit in place.units}
    theirs = unit_folders(assessment.moved(place.profiles, place.workspace, temporary))
    gone = [
        unit
        for unit in theirs
        for folder in [os.path.relpath(unit.place, temporary)]
        if folder not in units or units[folder].read_mark() != body["marks"].get(folder)
    ]
    changed = {noted["number"] for noted in body["outside"] if not _is_as_it_was(place, units, noted)}
    stale = [unit for unit in theirs if not unit.needs.isdisjoint(changed)]
    for unit in with_dependents([*gone, *(unit for unit in stale if unit not in gone)], theirs):
        for path in unit.files():
            files.unlink(path)
    return {unit.hash for unit in gone}


def _is_as_it_was(place: Place, units: Mapping[str, UnitFolder], noted: dict[str, Any]) -> bool:
    """Tell whether a unit that a set was compiled against is there, and was not compiled again."""
    unit = units.get(noted["place"])
    if unit is None or noted["number"] not in {it.number for it in unit.fingerprints}:
        return False
    return _state(place, unit, noted["number"]) == noted


def _stems(place: Place, body: dict[str, Any]) -> set[Stem]:
    """Return the stems that a set's units claim, whether they had outputs or not."""
    return {(os.path.join(place.build, profile), folder, stem) for profile, folder, stem in body["stems"]}


def _clear(place: Place, body: dict[str, Any]) -> None:
    """Remove what would lie beside the set's files: fingerprints that do not count, and their outputs."""
    stems = _stems(place, body)
    for unit in place.units:
        if place.relative(unit.place) in body["marks"]:
            own = [(folder, stem) for profile, folder, stem in stems if profile == unit.profile]
            for path in [*unit.files(), *place.outputs.of(unit, own)]:
                files.remove(path)
                if os.path.lexists(path):
                    raise Refused(f"{path} cannot be removed")
