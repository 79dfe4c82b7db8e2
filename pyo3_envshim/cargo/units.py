"""cargo's units as a graph: what each needs, what belongs to it, and what its build script asked for.

Reads what `target_dir` describes, and only what is known for sure: anything else is `UnknownFormat`.
Only `invalidate` and `UnitFolder.mark` change anything.
"""

from __future__ import annotations

import os  # nothing else at the top: every call that compiles imports this module

from pyo3_envshim import files
from pyo3_envshim.cargo.inputs import watched_variables
from pyo3_envshim.cargo.target_dir import (
    TIMESTAMP,
    hash_of,
    is_hash,
    paths_in,
    read_json,
    units,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Values = Mapping[str, "str | None"]


class UnknownFormat(Exception):
    """cargo's files are not as we know them; the message says which."""


class Fingerprint:
    """A unit's: *name*, such as ``lib-tiny``; *number*: its hash, 0 if cargo will compile the unit anyway.

    *needs*: the hashes of its dependencies then. *variables*: those that a build script asked for,
    with the values that cargo saw.
    """

    __slots__ = ("name", "needs", "number", "variables")

    def __init__(
        self, name: str, number: int, needs: Iterable[int], variables: dict[str, str | None]
    ) -> None:
        self.name = name
        self.number = number
        self.needs = frozenset(needs)
        self.variables = variables

    @property
    def files(self) -> list[str]:
        """The files' names. cargo trusts nothing else without the first one."""
        return [self.name, f"{self.name}.json", f"dep-{self.name}", f"output-{self.name}"]


class UnitFolder:
    """A folder with fingerprints: one, or those of several units that share a hash.

    *place*: its path. *profile*: that of its profile. *package*, *hash*: what it is named after.
    """

    __slots__ = ("fingerprints", "hash", "is_second_layout", "package", "place", "profile")

    def __init__(self, profile: str, place: str) -> None:
        """Read it. Raises OSError, UnknownFormat."""
        self.profile = profile
        self.place = place
        self.is_second_layout = os.path.basename(place) == "fingerprint"
        if self.is_second_layout:
            above, self.hash = os.path.split(os.path.dirname(place))
            self.package = os.path.basename(above)
        else:
            self.package, _, self.hash = os.path.basename(place).rpartition("-")
        if not self.package or not is_hash(self.hash):
            raise UnknownFormat(f"{place} is not named after a package and a hash")
        self.fingerprints = _read_fingerprints(place)

    @property
    def needs(self) -> set[int]:
        """The hashes of all that its units depend on."""
        return {need for it in self.fingerprints for need in it.needs}

    def files(self) -> list[str]:
        """Return the paths of its files but the mark: first those without which cargo trusts no other."""
        first = [os.path.join(self.place, it.name) for it in self.fingerprints]
        return first + sorted({*paths_in(self.place)} - {*first, os.path.join(self.place, MARK)})

    def mark(self) -> str:
        """Return what the mark in it says; leave one if there is none. Raises OSError."""
        if not self.read_mark():
            with open(os.path.join(self.place, MARK), "w", encoding="ascii") as file:
                file.write(os.urandom(8).hex())
        return self.read_mark()

    def read_mark(self) -> str:
        """Return what the mark in it says; "" if there is none."""
        try:
            with open(os.path.join(self.place, MARK), encoding="ascii") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def stems(self) -> set[tuple[str, str]]:
        """Return what files without a hash may be called up to the first dot, each with its folder's name."""
        found = set()
        for fingerprint in self.fingerprints:
            kind, _, target = fingerprint.name.partition("-")
            if kind in ("lib", "bin", "example"):
                crate = target.replace("-", "_")
                folder = "examples" if kind == "example" else "deps"
                found.update({(folder, crate), (folder, f"lib{crate}")})
        return found


# What cargo 1.95 calls fingerprints, before the target's name (`TargetKind::description`).
_KINDS = ("lib-", "bin-", "example-", "integration-test-", "bench-", "build-script-")
_FLAVORS = ("test-", "doc-", "run-")
_LOCAL = ("Precalculated", "CheckDepInfo", "RerunIfChanged", "RerunIfEnvChanged")
MARK = "envshim-mark"  # ours, in a folder of fingerprints, to be missed where somebody removed that


def unit_folders(profiles: Iterable[str]) -> list[UnitFolder]:
    """Read all fingerprints in some profiles. Raises OSError, UnknownFormat."""
    return [UnitFolder(profile, unit.folder) for profile in profiles for unit in units([profile])]


def _read_fingerprints(place: str) -> list[Fingerprint]:
    names = {os.path.basename(path) for path in paths_in(place)} - {TIMESTAMP, MARK}
    found = []
    for name in sorted(names):
        if name.startswith(("dep-", "output-")):
            continue
        if name.endswith(".json"):
            if name[: -len(".json")] not in names:  # the target's name may have a dot
                raise UnknownFormat(f"{place} holds {name} without its hash")
            continue
        flavor = next((it for it in _FLAVORS if name.startswith(it)), "")
        if not name.startswith(_KINDS, len(flavor)):
            raise UnknownFormat(f"{place} holds {name}, which is not known")
        with open(os.path.join(place, name), encoding="utf-8", errors="replace") as file:
            number = file.read()
        if not number:  # cargo empties it before it compiles the unit
            found.append(Fingerprint(name, 0, (), {}))
            continue
        if not is_hash(number) or f"{name}.json" not in names:
            raise UnknownFormat(f"{place} holds {name} without what its hash was made of")
        try:
            facts = read_json(os.path.join(place, f"{name}.json"))
            needs = [need for _, _, _, need in facts["deps"]]
            kinds = [kind for local in facts["local"] for kind in local]
            if not all(type(need) is int for need in needs) or not {*kinds}.issubset(_LOCAL):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise UnknownFormat(f"{place} holds {name}.json, in a form that is not known") from None
        variables = watched_variables({"facts": facts})
        # The file has the number's bytes in little-endian order (cargo's `util::to_hex`).
        found.append(Fingerprint(name, int.from_bytes(bytes.fromhex(number), "little"), needs, variables))
    return found


class Outputs:
    """The files and folders beside the fingerprints in some profiles, as they were when this was made."""

    def __init__(self, profiles: Iterable[str]) -> None:
        """List them. Raises OSError."""
        self._by_hash: dict[tuple[str, str], list[str]] = {}
        self._by_stem: dict[tuple[str, str, str], list[str]] = {}
        self._compiled: set[tuple[str, str]] = set()
        for profile in profiles:
            for folder in ("deps", "examples", os.path.join("deps", "artifact"), "build"):
                for path in paths_in(profile, folder):
                    if found := hash_of(path):
                        self._by_hash.setdefault((profile, found), []).append(path)
                        if folder in ("deps", "examples"):
                            self._compiled.add((profile, found))
                    elif folder in ("deps", "examples"):
                        self._by_stem.setdefault((profile, folder, stem_of(path)), []).append(path)

    def of(self, unit: UnitFolder, stems: Iterable[tuple[str, str]]) -> list[str]:
        """Return what belongs to a folder of fingerprints, *stems* being those that it claims."""
        if unit.is_second_layout:
            above = os.path.dirname(unit.place)
            own = os.path.basename(unit.place)
            return [path for path in paths_in(above) if os.path.basename(path) != own]
        found = list(self._by_hash.get((unit.profile, unit.hash), ()))
        for folder, stem in stems:
            found += self._by_stem.get((unit.profile, folder, stem), ())
        return found

    def claims(self, unit: UnitFolder) -> set[tuple[str, str]]:
        """Return the stems of files without a hash that may belong to a folder of fingerprints.

        None in the second layout, or where files bear its hash: either all of a unit's do or none does
        (cargo's ``use_extra_filename``).
        """
        if unit.is_second_layout or (unit.profile, unit.hash) in self._compiled:
            return set()
        return unit.stems()


def stem_of(path: str) -> str:
    """Return a file's name up to the first dot."""
    return os.path.basename(path).partition(".")[0]


def doomed(units: Iterable[UnitFolder]) -> list[tuple[UnitFolder, str]]:
    """Return the units that cargo will compile in any case, each as its folder and its fingerprint's name.

    Those that it had begun to compile, and those that nothing in place could be a dependency of.
    """
    live = [(unit, it) for unit in units for it in unit.fingerprints]
    everything, before = live, -1
    while len(live) != before:
        before = len(live)
        numbers = {it.number for _, it in live if it.number}
        live = [(unit, it) for unit, it in live if it.number and it.needs <= numbers]
    kept = {id(it) for _, it in live}
    return [(unit, it.name) for unit, it in everything if id(it) not in kept]


def invalidate(units: Iterable[tuple[UnitFolder, str]]) -> None:
    """Let cargo compile units, each given as its folder and its fingerprint's name."""
    for unit, name in units:
        it = next(it for it in unit.fingerprints if it.name == name)
        for file in it.files:
            files.remove(os.path.join(unit.place, file))
        unit.fingerprints.remove(it)


def with_dependents(chosen: Iterable[UnitFolder], units: Iterable[UnitFolder]) -> list[UnitFolder]:
    """Return *chosen* and all of *units* that need them, dependents before their dependencies."""
    units, found = list(units), list(chosen)
    before = 0
    while len(found) > before:
        before = len(found)
        numbers = {it.number for unit in found for it in unit.fingerprints}
        found += [unit for unit in units if unit not in found and not unit.needs.isdisjoint(numbers)]
    ordered: list[UnitFolder] = []
    while found:
        needed = {id(unit): unit.needs for unit in found}
        ready = [
            unit
            for unit in found
            if not any(
                it.number in needs
                for it in unit.fingerprints
                for other, needs in needed.items()
                if other != id(unit)
            )
        ]
        ordered += ready or found
        found = [unit for unit in found if ready and unit not in ready]
    return ordered


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
