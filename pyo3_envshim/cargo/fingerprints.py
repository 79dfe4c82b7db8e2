"""One unit's fingerprint, its neighbours and its build folder, as `explain` reads them after a build."""

from __future__ import annotations

import os

from pyo3_envshim.cargo.target_dir import RUSTC_INFO, TIMESTAMP, is_hash, paths_in, profiles, read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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


def built_profiles(target: str | None, before: float) -> list[str]:
    """Return the profiles in *target*, relative to it, that hold a unit from *before* a time in seconds."""
    found = set()
    for profile in profiles(target) if target else ():
        units = [*paths_in(profile, ".fingerprint"), *paths_in(profile, "build")]
        # not mtime: cargo touches no folder again, but a restored cache has its own times
        if any(os.path.getctime(unit) < before for unit in units):
            found.add(os.path.relpath(profile, target))
    return sorted(found)
