"""A model of cargo's fingerprints that leaves real files: what it compiles says from what it was made.

It judges as cargo 1.95 does (``core/compiler/fingerprint``): a unit is fresh if its hash is as
recorded, its outputs are there, none of its dependencies' outputs is newer, and no source is newer
than the unit's own start. As cargo, it never asks whose outputs lie there. Its clock is its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyo3_envshim.cargo.metadata import Workspace
from pyo3_envshim.set_aside import Exchange, exchange

START = 1_700_000_000
Environ = Mapping[str, str]


@dataclass(frozen=True)
class Unit:
    """A unit of the model: what is in its folder's name, and its fingerprint's; and what it depends on."""

    package: str
    name: str
    needs: Sequence[str] = ()
    variables: Sequence[str] = ()
    source: str = ""
    is_hashless: bool = False
    triple: str = ""

    @property
    def hash(self) -> str:
        of = self.package if self.is_hashless else f"{self.package} {self.name} {self.triple}"
        return hashlib.sha256(of.encode()).hexdigest()[:16]


# By a name for the tests. `tiny` and `plug` are local and have hashless outputs; `core` needs no Python.
UNITS = {
    "core": Unit("core-x", "lib-core_x", source="core"),
    "script": Unit("standin", "build-script-build-script-build"),
    "run": Unit("standin", "run-build-script-build-script-build", ["script"], ["PYO3_PYTHON"]),
    "standin": Unit("standin", "lib-standin", ["run"]),
    "tiny": Unit("tiny", "lib-tiny", ["standin", "core"], source="tiny", is_hashless=True),
    "test": Unit("tiny", "test-lib-tiny", ["standin", "core"], source="tiny"),
    "bin": Unit("tiny", "bin-my-bin", ["tiny", "core"]),
    "example": Unit("tiny", "example-ex-a", ["tiny"]),
    "plug": Unit("plug", "example-plug", ["standin"], is_hashless=True),
    "plain": Unit("plain", "lib-plain", source="plain", is_hashless=True),
    "cross": Unit("cross", "lib-cross", ["standin"], triple="x86_64-pc"),
    "doc": Unit("tiny", "doc-lib-tiny", ["standin"], is_hashless=True),
}


class Killed(BaseException):
    """What a process that is killed does no more."""


class Fabricated:
    """A build folder, the sources' versions, and a clock."""

    def __init__(self, build: Path, *, second_layout: bool = False) -> None:
        self.build = build
        self.second_layout = second_layout
        self.clock = START
        self.sources = dict.fromkeys(("core", "tiny", "plain"), (1, START))
        self.made: dict[tuple[str, str], str] = {}
        (build / "debug").mkdir(parents=True)
        self.root = str(build.parent / "work")
        os.makedirs(self.root, exist_ok=True)

    # What a user does

    def edit(self, source: str) -> None:
        """Change a source file now."""
        self.clock += 10
        self.sources[source] = (self.sources[source][0] + 1, self.clock)

    def clean(self, package: str) -> None:
        """Do what ``cargo clean -p`` does."""
        for profile in (self.build / "debug", self.build / "x86_64-pc" / "debug"):
            for found in [*profile.glob(f".fingerprint/{package}-*"), *profile.glob(f"build/{package}-*")]:
                shutil.rmtree(found)
            shutil.rmtree(profile / "build" / package, ignore_errors=True)
            for unit in UNITS.values():
                if unit.package == package:
                    for path in self._outputs(unit):
                        if path.parent.name in ("deps", "examples"):
                            path.unlink(missing_ok=True)

    def exchange(self, environ: Environ, root: str = "", *, is_kept: bool = False) -> Exchange:
        """Do what the wrapper does before cargo starts."""
        answer = {"workspace_root": root or self.root, "target_directory": str(self.build), "packages": []}
        return exchange(environ, Workspace(answer, [], ["build"]), is_kept=is_kept)

    def cargo(self, environ: Environ, *wanted: str, breaks_at: str = "") -> list[str]:
        """Build some units, and what they need; return the names of those that were compiled.

        *breaks_at*: the name of a unit whose compiler fails half-way.
        """
        begun = self.clock + 10
        self.clock = begun + 2 * len(UNITS)
        compiled: list[str] = []
        numbers: dict[str, int] = {}
        stale: set[str] = set()
        for name in self._in_order(wanted):
            unit = UNITS[name]
            recorded = self._place(unit) / unit.name
            recorded.parent.mkdir(parents=True, exist_ok=True)
            numbers[name] = self._number(unit, environ, numbers)
            text = numbers[name].to_bytes(8, "little").hex()
            is_recorded = recorded.exists() and recorded.read_text() == text
            if is_recorded and not stale.intersection(unit.needs) and self._is_fresh(unit):
                continue
            stale.add(name)
            compiled.append(name)
            if recorded.exists():
                recorded.write_text("")
            self._compile(unit, environ, begun + 2 * list(UNITS).index(name), is_broken=name == breaks_at)
            if name == breaks_at:
                break
            recorded.write_text(text)
            facts = json.dumps(self._facts(unit, environ, numbers))
            recorded.with_name(f"{unit.name}.json").write_text(facts)
            self.made[name, text] = self.content(name)
        return compiled

    def build_for(self, environ: Environ, *wanted: str) -> list[str]:
        """Exchange, and build; fail if anything wanted is not what cargo would make in an empty folder."""
        self.exchange(environ)
        compiled = self.cargo(environ, *wanted)
        for name in self._in_order(wanted):
            assert self.content(name) == self.right(name, environ), name
        return compiled

    def content(self, name: str) -> str:
        """Return what a unit's main output says."""
        return self.outputs(name)[0].read_text()

    def right(self, name: str, environ: Environ) -> str:
        """Return what it should say."""
        unit = UNITS[name]
        version = self.sources[unit.source][0] if unit.source else ""
        values = [str(environ.get(variable)) for variable in unit.variables]
        inner = ",".join(self.right(need, environ) for need in unit.needs)
        return f"{name}{version}{values}({inner})"

    def check(self) -> None:
        """Fail if a fingerprint lies beside what it was not made for, or without its dependencies."""
        recorded = {name: self._place(unit) / unit.name for name, unit in UNITS.items()}
        numbers = {name: path.read_text() for name, path in recorded.items() if path.exists()}
        for name, text in numbers.items():
            if text:
                outputs = [path for path in self.outputs(name) if path.exists()]
                assert {path.read_text() for path in outputs} == {self.made[name, text]}, name
                assert all(numbers.get(need) for need in UNITS[name].needs), name

    def files(self) -> dict[str, str]:
        """Return all that cargo would find, by path: not the sets, locks and marks, which are ours."""
        return {
            str(path.relative_to(self.build)): path.read_text()
            for path in sorted(self.build.rglob("*"))
            if path.is_file()
            and "envshim" not in str(path.relative_to(self.build))
            and "lock" not in path.name
        }

    def sets(self) -> list[Path]:
        """Return what lies on the shelf."""
        return sorted(path for path in (self.build / "debug" / ".envshim-sets").glob("*") if path.is_dir())

    def place(self, name: str) -> Path:
        """Return the folder of a unit's fingerprint."""
        return self._place(UNITS[name])

    def outputs(self, name: str) -> list[Path]:
        """Return a unit's outputs: first what cargo asks the mtime of, then what it never looks at."""
        return self._outputs(UNITS[name])

    # How cargo goes about it

    def _in_order(self, wanted: Sequence[str]) -> list[str]:
        found: list[str] = []
        for name in wanted:
            found += [it for it in [*self._in_order(UNITS[name].needs), name] if it not in found]
        return found

    def profile(self, unit: Unit) -> Path:
        return self.build / unit.triple / "debug"

    def _place(self, unit: Unit) -> Path:
        if self.second_layout:
            return self.profile(unit) / "build" / unit.package / unit.hash / "fingerprint"
        return self.profile(unit) / ".fingerprint" / f"{unit.package}-{unit.hash}"

    def _outputs(self, unit: Unit) -> list[Path]:
        kind = unit.name.partition("-")[0]
        crate = unit.name.rpartition("lib-")[2] if "lib-" in unit.name else unit.name.partition("-")[2]
        crate = crate.replace("-", "_") + ("" if unit.is_hashless else f"-{unit.hash}")
        if kind == "doc":
            return [self.build / "doc" / crate / "index.html"]
        if kind in ("run", "build"):
            folder = self.profile(unit) / "build" / f"{unit.package}-{unit.hash}"
            names = ["output", "out/generated.rs"] if kind == "run" else [crate]
            if self.second_layout:
                folder = self._place(unit).parent
                names = ["run/stdout", "out/generated.rs"] if kind == "run" else ["out/script"]
            return [folder / name for name in names]
        folder = self.profile(unit) / ("examples" if kind == "example" else "deps")
        if self.second_layout:
            folder = self._place(unit).parent / "out"
        return [folder / f"lib{crate}.so", folder / f"{crate}.d", folder / f"{crate}.pdb"]

    def _facts(self, unit: Unit, environ: Environ, numbers: Mapping[str, int]) -> dict[str, object]:
        variables = [{"var": name, "val": environ.get(name)} for name in unit.variables]
        local: list[object] = [{"RerunIfEnvChanged": variable} for variable in variables]
        local = local or [{"CheckDepInfo": {"dep_info": "", "checksum": False}}]
        return {"deps": [[1, need, False, numbers[need]] for need in unit.needs], "local": local}

    def _number(self, unit: Unit, environ: Environ, numbers: Mapping[str, int]) -> int:
        # The folder's hash is in it by way of the path of the dep-info.
        text = json.dumps([unit.name, unit.hash, self._facts(unit, environ, numbers)])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    def _is_fresh(self, unit: Unit) -> bool:
        own = self._mtime(unit)
        dep_info = self._place(unit) / f"dep-{unit.name}"
        if own is None or not dep_info.exists():
            return False
        needed = [self._mtime(UNITS[need]) for need in unit.needs]
        if any(time is None or time > own for time in needed):
            return False
        return not unit.source or self.sources[unit.source][1] <= dep_info.stat().st_mtime

    def _mtime(self, unit: Unit) -> float | None:
        path = self._outputs(unit)[0]
        return path.stat().st_mtime if path.exists() else None

    def _compile(self, unit: Unit, environ: Environ, now: int, *, is_broken: bool) -> None:
        """Leave what the compiler does: from what lies there, whoever made it."""
        version = self.sources[unit.source][0] if unit.source else ""
        values = [str(environ.get(variable)) for variable in unit.variables]
        name = next(name for name, it in UNITS.items() if it is unit)
        inner = ",".join(self.content(need) for need in unit.needs)
        said = f"{name}{version}{values}({inner})"
        self._write(self._place(unit) / "invoked.timestamp", "", now)
        self._write(self._place(unit) / f"dep-{unit.name}", "", now)
        for path in self._outputs(unit):
            # For some interpreters only, there is what no staleness check looks at.
            if path.suffix != ".pdb" or "/B" in said:
                self._write(path, "half" if is_broken else said, now + 1)

    def _write(self, path: Path, text: str, now: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
        os.utime(path, (now, now))
