"""Newer files of which cargo's notes are not enough: others than those who noted them may read them.

cargo compiles each unit that has a note of a newer file, and what needs that. A macro, or the linker, may
have read the file for another unit; a random path would have made cargo compile that, too.

`units` refuses what is not whole, and orders; here no lock is held, so a unit that is being written is passed
over, and the order does not matter: this is asked for each set of notes, in a folder of any size.
"""

from __future__ import annotations

import os

from pyo3_envshim.cargo.target_dir import RUN, names_in, read_json, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


class _Unit:
    """What is known of a unit: its *package*, its fingerprint's *folder* and *name*, and its *number*.

    *needs*: the numbers of its dependencies then.
    """

    __slots__ = ("folder", "name", "needs", "number", "package")

    def __init__(self, package: str, folder: str, name: str) -> None:
        """Read it. Raises LookupError or TypeError where the format is not known; ValueError, OSError."""
        self.package = package
        self.folder = folder
        self.name = name
        with open(f"{folder}/{name}", encoding="ascii") as file:
            # The file has the number's bytes in little-endian order (cargo's `util::to_hex`).
            self.number = int.from_bytes(bytes.fromhex(file.read()), "little")
        self.needs = frozenset(needed[3] for needed in read_json(f"{folder}/{name}.json")["deps"])
        if not all(type(need) is int for need in self.needs):
            raise TypeError


class Readers:
    """Who may read what they have no note of.

    *noted*: the folders of the units that noted a file or folder, by its path. *packages*: those for whose
    units macros, or the linker, may read more. *undirected*: those whose build scripts may.
    """

    __slots__ = ("noted", "packages", "undirected")

    def __init__(
        self, noted: Mapping[str, Collection[str]], packages: Collection[str], undirected: Collection[str]
    ) -> None:
        self.noted = noted
        self.packages = packages
        self.undirected = undirected

    def left_out(
        self, newer: Collection[str], profiles: Iterable[str], beside: Iterable[str] = ()
    ) -> set[str]:
        """Return those of the files *newer* after which cargo would leave a unit that may have read it.

        All of them, where it is not known what cargo would compile. *beside*: profiles with more units, which
        those in *profiles* may need. Raises OSError.
        """
        try:
            own = list(_read(profiles))
            there = [*own, *_read(beside)]
        except (LookupError, TypeError):
            return set(newer)
        needing: dict[int, list[_Unit]] = {}
        for unit in there:
            for need in unit.needs:
                needing.setdefault(need, []).append(unit)
        numbers = {unit.number for unit in there}
        anyway = _with_dependents((unit for unit in there if not unit.needs <= numbers), needing)
        reading = {unit.number for unit in own if self._may_read(unit)} - anyway
        by_note: dict[frozenset[str], set[str]] = {}
        for path in newer:
            by_note.setdefault(self._noting(path), set()).add(path)
        found: set[str] = set()
        for places, paths in by_note.items():
            compiled = _with_dependents((unit for unit in there if unit.folder in places), needing)
            if not reading <= compiled:
                found |= paths
        return found

    def _may_read(self, unit: _Unit) -> bool:
        """Tell whether a unit may read what it has no note of. No macros are looked for in build scripts."""
        if unit.name.startswith(RUN):
            return unit.package in self.undirected
        return unit.package in self.packages and not unit.name.startswith(("build-script-", "doc-"))

    def _noting(self, path: str) -> frozenset[str]:
        """Return the folders of the units that noted a file, or a folder that it lies in."""
        found: set[str] = set()
        for place in (path, os.path.realpath(path)):  # cargo notes where a link led
            above = ""
            while place != above:
                found.update(self.noted.get(place, ()))
                above, place = place, os.path.dirname(place)
        return frozenset(found)


def _read(profiles: Iterable[str]) -> Iterable[_Unit]:
    """Yield all units in some profiles but those that cargo will compile anyway."""
    for unit in units(profiles):
        for name in names_in(unit.folder):
            if name.endswith(".json"):
                try:
                    found = _Unit(unit.package, unit.folder, name[: -len(".json")])
                except (FileNotFoundError, ValueError):  # being written, or removed since it was listed
                    pass
                else:
                    if found.number:  # cargo empties it before it compiles the unit
                        yield found


def _with_dependents(chosen: Iterable[_Unit], needing: Mapping[int, Iterable[_Unit]]) -> set[int]:
    """Return the numbers of *chosen*, and of all that need them."""
    left = [unit.number for unit in chosen]
    found = set(left)
    while left:
        for unit in needing.get(left.pop(), ()):
            if unit.number not in found:
                found.add(unit.number)
                left.append(unit.number)
    return found
