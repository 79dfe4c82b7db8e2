"""A CI job that restores the target folder only, in a fresh clone at the same path: what is recompiled."""

from __future__ import annotations

import shutil

from .common import Found, Setting, Target, run
from .ways import PROJECTS, SHIM, Project, Range, Way, check

TITLE = "CI: a fresh clone, with the target folder of the last job"
ABOUT = """
Crates compiled by a job that has nothing from the one before it but the target folder (packed and
unpacked by tar): the clone is new, at the same path, and the caches of the front end and of the shim are
empty. A fresh clone's files are newer than the last build, so cargo compiles the project's own crate in
any case, as *limit* (`--no-build-isolation`) shows. Each way is seen to compile the same crates in the
first job as all others, and to make the same wheel in both.
"""
NEEDS = ("cargo", "tar", "git")


class Jobs(Range):
    """Jobs of one project, each on a machine of its own."""

    def commit(self) -> None:
        """Make the source folder a repository that is cloned from then on."""
        self.commit_source()
        shutil.rmtree(self.folder / "origin", ignore_errors=True)
        self.source.rename(self.folder / "origin")

    def job(self, way: Way, restore: bool) -> None:
        """Build as a fresh machine does; save the target folder, or *restore* the one of the last job."""
        for name in ("source", "target", "tmp", "shim-cache", "uv-cache", "pip-cache"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        run(["git", "clone", "-q", self.folder / "origin", self.source], self.folder)
        if restore:
            run(["tar", "-xf", "target.tar"], self.folder)
        self.build_way(way)
        if not restore:
            run(["tar", "--format=posix", "-cf", "target.tar", "target"], self.folder)


def _chosen(setting: Setting) -> tuple[tuple[Project, ...], tuple[str, ...]]:
    return (PROJECTS[:1], ("uv",)) if setting.quick else (PROJECTS[:2], ("uv", "build"))


def steps(setting: Setting) -> int:
    """Return how many steps it takes."""
    projects, names = _chosen(setting)
    return 2 + len(projects) * (2 + 6 * len(names))


def measure(setting: Setting) -> Found:
    """Run two jobs for each project, front end and way."""
    place = Jobs(setting.folder, setting.progress)
    place.set_up()
    projects, names = _chosen(setting)
    found = Found([], [], {"kind": "bars", "x": "crates compiled by the second job", "series": {}}, {})
    for project in projects:
        place.set_project(project)
        place.commit()
        for name in names:
            ways = place.ways(name, project)[:3]  # the limit, without the shim and with it
            for way in ways:
                for number, restore in enumerate((False, True), 1):
                    setting.progress.step(f"{project.name}, {name}, {way.name}: job {number}")
                    place.job(way, restore)
            _add(found, f"{project.name}, {name}", ways)
    found.versions.update(place.versions())
    return found


def _add(found: Found, what: str, ways: list[Way]) -> None:
    check(what, ways)
    for way in ways:
        first, second = (build.crates for build in way.builds)
        row = {"project, front end": what, "way": way.name, "first job": len(first)}
        found.rows.append({**row, "second job": len(second), "of these": ", ".join(second)})
        found.chart["series"].setdefault(way.name, {})[what] = len(second)
    by_name = {way.name: set(way.recompiled()) for way in ways}
    needless = by_name[SHIM] - by_name[ways[0].name]
    text = f"{what}: crates that the limit does not compile"
    found.targets.append(Target(text, len(needless), 0, timed=False))
