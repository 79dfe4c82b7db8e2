"""A CI job in a fresh clone at the same path, with what the last one kept: crates and seconds."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace

from support.rust_cache import clean_as_rust_cache

from .common import Found, Setting, Target, run
from .ways import (
    BOTH,
    LIMIT,
    PROJECTS,
    SCCACHE,
    SHIM,
    Project,
    Range,
    Way,
    beside_sccache,
    check,
    end_sccache,
    sccache_ended,
    sccache_missed,
    sccache_names,
)

TITLE = "CI: a fresh clone, with the target folder of the last job"
ABOUT = """
Crates compiled, and seconds (median), by a job that has nothing from the one before it but what stands
in its row (packed and unpacked by tar, which is not timed): the clone is new, at the same path, and the
caches of the front end and of the shim are empty. *rust-cache's*: what the GitHub action leaves of a
target folder before it saves that. The ways with sccache (where it is on `PATH`) keep its local cache as
well; the build starts its server, and what it brings counts as compiled. A fresh clone's files are newer than
the last build, so cargo compiles the project's own crate in any case, as *limit* (`--no-build-isolation`)
shows. Each way is seen to compile the same crates in the first job as all others, and to make the same
wheel in all.
"""
NEEDS = ("cargo", "tar", "git")

TARGET = "target folder"
CLEANED = "rust-cache's target folder"
NOTHING = "no target folder"
KEPT = (TARGET, CLEANED, NOTHING)


class Jobs(Range):
    """Jobs of one project, each on a machine of its own."""

    def commit(self) -> None:
        """Make the source folder a repository that is cloned from then on."""
        self._packages = self._dependencies()
        self.commit_source()
        shutil.rmtree(self.folder / "origin", ignore_errors=True)
        self.source.rename(self.folder / "origin")

    def _dependencies(self) -> set[str]:
        (manifest,) = self.manifests()
        named = re.findall(r'^name = "(.*)"', manifest.with_name("Cargo.lock").read_text(), re.M)
        return set(named) - self.own_crates()

    def first_job(self, way: Way) -> None:
        """Build as a fresh machine does, and save what there is to be kept."""
        self._begin()
        self.build_way(way)
        end_sccache(self.folder)
        saved = [name for name in ("target", SCCACHE) if (self.folder / name).exists()]
        run(["tar", "--format=posix", "-cf", self._saved(way), *saved], self.folder)

    def next_job(self, way: Way, kept: str) -> None:
        """Build as a fresh machine does that has what was kept."""
        self._begin()
        run(["tar", "-xf", self._saved(way)], self.folder)
        if kept == CLEANED:
            clean_as_rust_cache(self.target, self._packages)
        elif kept == NOTHING:
            shutil.rmtree(self.target)
        self.build_way(way)
        end_sccache(self.folder)

    def _begin(self) -> None:
        for name in ("source", "target", "tmp", "shim-cache", "uv-cache", "pip-cache", SCCACHE):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        run(["git", "clone", "-q", self.folder / "origin", self.source], self.folder)

    def _saved(self, way: Way) -> str:
        return re.sub(r"\W+", "-", way.name) + ".tar"  # tar takes a colon for a host's


def _chosen(setting: Setting) -> tuple[tuple[Project, ...], tuple[str, ...]]:
    return (PROJECTS[:1], ("uv",)) if setting.quick else (PROJECTS[:2], ("uv", "build"))


def _rounds(setting: Setting) -> int:
    return setting.rounds or (1 if setting.quick else 3)


def _with(kept: str, ways: Iterable[Way]) -> list[Way]:
    """Return the ways that have something from the job before."""
    return [way for way in ways if kept != NOTHING or way.name in (SCCACHE, BOTH)]


def steps(setting: Setting) -> int:
    """Return how many steps it takes."""
    projects, names = _chosen(setting)
    sccache = len(sccache_names())
    later = 2 * (3 + sccache) + sccache
    return 2 + len(projects) * (2 + len(names) * (3 + sccache + _rounds(setting) * later))


def measure(setting: Setting) -> Found:
    """Run the jobs of each project, front end and way."""
    place = Jobs(setting.folder, setting.progress)
    place.set_up()
    projects, names = _chosen(setting)
    chart = {"kind": "bars", "x": "seconds, second job", "series": {}}
    found = Found([], [], chart, place.versions(), sccache_missed())
    with sccache_ended(place.folder):
        for project in projects:
            place.set_project(project)
            place.commit()
            for name in names:
                _measure(found, place, f"{project.name}, {name}", place.ways(name), _rounds(setting))
    return found


def _measure(found: Found, place: Jobs, what: str, ways: Sequence[Way], rounds: int) -> None:
    """Run a first job of each way, and the later ones in turn; add the rows."""
    for way in ways:
        place.progress.step(f"{what}, {way.name}: job 1")
        place.first_job(way)
    by_kept = {kept: [replace(way, builds=[*way.builds]) for way in _with(kept, ways)] for kept in KEPT}
    for number in range(rounds):
        for kept, later in by_kept.items():
            for way in later:
                place.progress.step(f"{what}, {way.name}, {kept}: job {number + 2}")
                place.next_job(way, kept)
    for kept, later in by_kept.items():
        if later:
            _add(found, f"{what}, {kept}", later)


def _add(found: Found, what: str, ways: Sequence[Way]) -> None:
    """Add what the jobs came to that had the same."""
    check(what, ways)
    for way in ways:
        row: dict[str, object] = {"project, front end, kept": what, "way": way.name}
        row |= {"first job": len(way.builds[0].crates), "second job": len(way.recompiled())}
        found.rows.append({**row, "seconds": way.seconds(), "of these": _named(way)})
        found.chart["series"].setdefault(way.name, {})[what] = way.seconds()
    by_name = {way.name: set(way.recompiled()) for way in ways}
    for ours in [name for name in (SHIM, BOTH) if name in by_name and LIMIT in by_name]:
        text = f"{what}, {ours}: crates that the limit does not compile"
        found.targets.append(Target(text, len(by_name[ours] - by_name[LIMIT]), 0, timed=False))
    found.targets += beside_sccache(what, {way.name: way.seconds() for way in ways})


def _named(way: Way) -> str:
    again = way.recompiled()
    return "all" if again == way.builds[0].crates else ", ".join(again)
