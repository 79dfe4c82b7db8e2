"""The freshness guard: can cargo's time stamps be trusted in this build folder?

cargo calls a local crate fresh by comparing the mtimes of its sources with the time of its
last build, and knows the crate by its place within the workspace. That is wrong when two
source trees share a build folder, or when sources were replaced by older ones. The random
path of an ephemeral environment hid the mistake: everything that depends on PyO3 was
compiled each time. Any tool that makes the path stable must give the same guarantee:
`assessment` has the rule.

Where a file is in doubt, or a build was here that left no stamp, cargo is made to compile the
packages that the file belongs to, and all local ones that a random path would have made it
compile: under cargo's own locks, their fingerprints are removed. PyO3 stays. So it is, each time,
with a local package whose folder is not known (``paths`` in cargo's configuration).

The environment's path gets a new nonce instead where another workspace root, or other content of
cargo's configuration, was here last; where a crate of others may be stale, because what is in doubt
lies in it, or its build script declares that or anything else in the project; and where a cargo holds
a lock, or there are no locks.
No other workspace root ever has the same nonce, so two builds that wait for cargo's lock cannot
take each other's code. A root whose units were put aside has its old nonce again.

A stamp in the profile's folder records the last build (`stamp`).
"""

from __future__ import annotations

import os  # nothing else from the standard library: every call that compiles imports this module

from pyo3_envshim import files
from pyo3_envshim.assessment import assess, compiled_for_a_new_path, is_read_by_others, moved
from pyo3_envshim.cargo import inputs, target_dir
from pyo3_envshim.sources import ARROW, Source, listed
from pyo3_envshim.stamp import OLD_STAMP, STAMP, is_of_this_kind, is_unreadable, read_stamp, write_stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyo3_envshim.assessment import Assessment
    from pyo3_envshim.cargo.metadata import Workspace

_STORED = os.path.join(os.sep, "environments", "")  # in the path of a stored environment


def nonce_for(workspace: Workspace) -> str:
    """Return the nonce for a build that is about to start, and leave its stamp.

    Where sources are in doubt, cargo is made to compile them, or the nonce is new.
    Raises OSError where the guard cannot tell; the call must then be passed through.
    """
    build, root = workspace.build_dir, workspace.root
    target_dir.make_build_dir(build)
    folder = os.path.join(build, workspace.profile)
    found = assess(workspace, build, workspace.profile)
    if found.trusted or (not found.is_other and invalidate(workspace, found)):
        nonce = found.stamp.nonce if found.stamp else ""
        # Of two builds that find the folder new at the same time, one gets the empty nonce.
        if write_stamp(folder, root, nonce, found.sources, only_as_first=found.stamp is None):
            return nonce
    nonce = _nonce_of_old(workspace, found) or os.urandom(4).hex()
    old = os.path.join(folder, OLD_STAMP)
    try:
        files.rename(os.path.join(folder, STAMP), old, over=True)
    except FileNotFoundError:
        files.replace(old, b"")
    write_stamp(folder, root, nonce, found.sources)
    return nonce


def _nonce_of_old(workspace: Workspace, found: Assessment) -> str:
    """Return the nonce with which this workspace was here before another, if its units were put aside.

    None of them may have stayed in place: nothing tells whether those can be trusted.
    """
    from pyo3_envshim.shelf import Shelf

    if not found.is_other:
        return ""
    for each in Shelf(os.path.join(workspace.build_dir, workspace.profile)).sets():
        stamp = read_stamp(os.path.join(each.path, STAMP))
        if stamp and stamp.nonce and is_of_this_kind(stamp, workspace.root, found.sources):
            return "" if _is_compiled_for(stamp.nonce, workspace) else stamp.nonce
    return ""


def _is_compiled_for(part: str, workspace: Workspace) -> bool:
    """Tell whether a build script in place has seen a variable with *part* in its value."""
    recorded = inputs.recorded_variables(target_dir.profiles_called(workspace.profile, workspace.build_dir))
    return any(part in value for values in recorded.values() for value in values if value)


def refresh(workspace: Workspace) -> bool:
    """Do the same for a call whose variables are not ours to change; return whether a stamp was left.

    Where only a nonce would help, the old stamp stays. Where there was none, and no unit for an environment
    of the store, cargo is trusted as it would be without us. Raises OSError where the guard cannot tell.
    """
    folder = os.path.join(workspace.build_dir, workspace.profile)
    target_dir.make_build_dir(workspace.build_dir)
    says_nothing = is_unreadable(os.path.join(folder, STAMP))
    found = assess(workspace, workspace.build_dir, workspace.profile)
    found.unplaced = set()
    is_first = found.stamp is None and not says_nothing
    if is_first and found.doubted is None and not _is_compiled_for(_STORED, workspace):
        found.doubted = []
    if not found.trusted and (found.is_other or not invalidate(workspace, found)):
        return False
    # A stamp that says nothing may have been of another workspace, with any nonce.
    nonce = found.stamp.nonce if found.stamp else "" if is_first else os.urandom(4).hex()
    sources = {**_read_by_pyo3(os.environ), **found.sources}
    return write_stamp(folder, workspace.root, nonce, sources, only_as_first=is_first)


def _read_by_pyo3(environ: Mapping[str, str]) -> dict[str, Source]:
    """Return what PyO3 (0.29 and later) will declare of a virtual environment that it finds by itself.

    Otherwise it would be known from the second build for that environment on. Raises OSError.
    """
    environment = environ.get("VIRTUAL_ENV")
    if not environment or environ.get("PYO3_PYTHON"):
        return {}
    return listed([os.path.join(environment, "pyvenv.cfg")])


def judge_set(workspace: Workspace, place: str) -> dict[str, Source]:
    """Make cargo compile what is in doubt of a set that is about to come back; return its sources.

    *place*: the folder that holds it as the build folder does, and the stamp of the last build for
    which it was in place. The profile must be locked. Raises OSError.
    """
    found = assess(workspace, workspace.build_dir, workspace.profile, place)
    if not found.trusted:
        stayed = target_dir.profiles_called(workspace.profile, workspace.build_dir)
        profiles = moved(stayed, workspace, place)
        doubted = None if found.is_other else _in_doubt(workspace, found, [*profiles, *stayed])
        target_dir.invalidate(profiles, doubted)
    return found.sources


def add_to_stamp(workspace: Workspace, sources: Mapping[str, Source]) -> None:
    """Add *sources* to the stamp that was left a moment ago. Raises OSError."""
    folder = os.path.join(workspace.build_dir, workspace.profile)
    stamp = read_stamp(os.path.join(folder, STAMP))
    if stamp:
        known = {path: Source(state, 0, 0) for path, state in stamp.files.items()}
        write_stamp(folder, stamp.root, stamp.nonce, {**sources, **known})


def invalidate(workspace: Workspace, found: Assessment) -> bool:
    """Make cargo compile what is in doubt. Returns False where that cannot be done."""
    from pyo3_envshim.store.lock import Locks

    profiles = target_dir.profiles_called(workspace.profile, workspace.build_dir)
    doubted = _in_doubt(workspace, found, profiles)
    if doubted is None:
        return False
    try:
        with Locks(target_dir.lock_files(profiles)) as free:
            if free:
                target_dir.invalidate(profiles, doubted)
            return free
    except OSError:
        return False


def _in_doubt(workspace: Workspace, found: Assessment, profiles: list[str]) -> set[str] | None:
    """Return the packages, or units, that cargo has to compile; None where others' may be among them."""
    if found.doubted == [] and not found.unplaced:
        return found.overwritten  # their sources are what they were
    owned = owners(found.doubted or (), found)
    declared, vendored = found.notes.declared, found.vendored
    # A crate of others may have read a file of the project, or lie in it: it is not known which is stale.
    if is_read_by_others(workspace, found) or (found.doubted is None and (declared or vendored)):
        return None
    if not owned.isdisjoint(declared) or any(path.startswith(vendored) for path in found.doubted or ()):
        return None
    would_be_compiled = compiled_for_a_new_path(workspace, profiles)
    if found.doubted is None or would_be_compiled is None:
        return set(found.notes.inputs)
    return owned | found.overwritten | (would_be_compiled & (workspace.local_names | found.unplaced))


def owners(paths: Iterable[str], found: Assessment) -> set[str]:
    """Return the packages that noted one of *paths*, or that it lies in."""
    places = {folder: set(names) for folder, names in found.folders.items()}
    for path, names in found.noted.items():
        for place in (os.path.normpath(path), os.path.realpath(path)):
            places.setdefault(place, set()).update(names)
    owned: set[str] = set()
    for path in paths:
        for place in path.split(ARROW):
            above = ""
            while place != above:
                owned |= places.get(place, set())
                place, above = os.path.dirname(place), place
    return owned
