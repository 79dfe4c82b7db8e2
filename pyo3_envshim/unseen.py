"""Newer files of which cargo's notes are not enough: others than those who noted them may read them.

cargo compiles each unit that has a note of a newer file, and what needs that. A macro, or the linker, may
have read the file for another unit; a random path would have made cargo compile that, too.
"""

from __future__ import annotations

import os

from pyo3_envshim.cargo.units import UnitFolder, UnknownFormat, unit_folders, with_dependents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from pyo3_envshim.cargo.units import Fingerprint


class Readers:
    """Who may read what.

    *noted*: the folders of the units that noted a file or folder, by its path. *packages*: those whose units
    may read more than that. *undirected*: those whose build scripts may. *profiles*: where all of them are.
    """

    __slots__ = ("noted", "packages", "profiles", "undirected")

    def __init__(
        self,
        noted: Mapping[str, Collection[str]],
        packages: Collection[str],
        undirected: Collection[str],
        profiles: Iterable[str],
    ) -> None:
        self.noted = noted
        self.packages = packages
        self.undirected = undirected
        self.profiles = profiles

    def left_out(self, newer: Collection[str]) -> set[str]:
        """Return those of the files *newer* after which cargo would leave a unit that may have read it.

        All of them, where it is not known what cargo would compile. Raises OSError.
        """
        try:
            units = unit_folders(self.profiles)
        except UnknownFormat:
            return set(newer)
        reading = [unit for unit in units if any(self._may_read(unit, it) for it in unit.fingerprints)]
        by_note: dict[frozenset[str], set[str]] = {}
        for path in newer:
            by_note.setdefault(self._noting(path, units), set()).add(path)
        found: set[str] = set()
        for places, paths in by_note.items():
            compiled = with_dependents((unit for unit in units if unit.place in places), units)
            if not all(unit in compiled for unit in reading):
                found |= paths
        return found

    def _may_read(self, unit: UnitFolder, it: Fingerprint) -> bool:
        """Tell whether a unit may read what it has no note of. No macros are looked for in build scripts."""
        if not it.number or unit.package not in self.packages or it.name.startswith("build-script-"):
            return False
        return not it.name.startswith("run-") or unit.package in self.undirected

    def _noting(self, path: str, units: Iterable[UnitFolder]) -> frozenset[str]:
        """Return the folders of the units that noted a file, or a folder that it lies in.

        A package's module is taken as noted by all of its units: they are read by rustc, not by macros.
        """
        found: set[str] = set()
        folder, above = path, ""
        while folder != above:
            found.update(self.noted.get(folder, ()))
            above, folder = folder, os.path.dirname(folder)
        if path.endswith(".rs"):
            packages = {unit.package for unit in units if unit.place in found}
            found.update(unit.place for unit in units if unit.package in packages)
        return frozenset(found)
