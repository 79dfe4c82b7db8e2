"""Second isolated builds with nothing changed: crates recompiled and wall time, beside other ways."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from shared.building import Failure

from .common import Found, Setting, Target
from .ways import (
    BOTH,
    FRONT_ENDS,
    LIMIT,
    PLAIN,
    PROJECTS,
    SHIM,
    Project,
    Range,
    Way,
    beside_sccache,
    check,
    sccache_ended,
    sccache_missed,
    sccache_names,
)

TITLE = "Rebuild: the second isolated build, nothing changed"
ABOUT = """
Crates recompiled, and seconds (medians; the ways are built in turn). *limit*: `--no-build-isolation` in a
permanent environment, the least that any build can take; *environment*: what the front end itself takes
to make an environment, that is a build with the same requirements and a back end that only imports the
project's own, less the same without isolation (front ends install no byte code, so that the first import in
a new environment is slow). Each way has a target folder of its own, which stands at one and the same path
while it builds. All requirements come from a local folder, and nothing from the network. sccache (a local
cache, where it is on `PATH`) is asked when cargo compiles: what it brings counts as recompiled.

Where *seconds* is over the limit and the environment together, *PYO3_CONFIG_FILE, pinned* tells why: it is
isolation without the shim, with nothing recompiled. What it takes over them is the front end's (a real back
end imports more in an environment without byte code than the one that does nothing), and what the shim takes
over it, the wrapper's, of which the table further down has the parts.

Before anything is timed, each way is seen to compile the same crates in its first build as all others,
and to make the same wheel, byte for byte, in all its builds. A way that makes another wheel, or cannot be
had, is a note below the table. For uv, which is no Python program, `CARGO` is set, as
`pyo3-envshim env` does.
"""
NEEDS = ("cargo", "tar")

# What is compared must be the same for these; others may be wrong, and are only noted.
_MUST = (LIMIT, PLAIN, SHIM, BOTH)
WITHIN = 1.10  # of the limit and the front end's own environment


def _rounds(setting: Setting) -> int:
    return setting.rounds or (1 if setting.quick else 3)


def _chosen(quick: bool) -> tuple[Sequence[Project], Sequence[str]]:
    found = [it for it in PROJECTS if it.in_place]
    return (found[:1], ("uv",)) if quick else (found, tuple(FRONT_ENDS))


def steps(setting: Setting) -> int:
    """Return how many steps it takes, at most."""
    projects, names = _chosen(setting.quick)
    rounds = _rounds(setting)
    found = 2 + 2 * len(projects)
    for project in projects:
        ways = sum(4 + (name == "build") + (project.back_end == "maturin") for name in names)
        ways += len(names) * len(sccache_names())
        found += (2 * len(names) + ways) * (rounds + 1)
    return found


def measure(setting: Setting) -> Found:
    """Measure all ways, of each project and front end."""
    place = Range(setting.folder, setting.progress)
    place.set_up()
    rounds = _rounds(setting)
    projects, names = _chosen(setting.quick)
    chart = {"kind": "bars", "x": "seconds, second build", "series": {}}
    found = Found([], [], chart, place.versions(), sccache_missed())
    with sccache_ended(place.folder):
        for project in projects:
            place.set_project(project)
            _measure(found, place, project, names, rounds)
    return found


def _measure(found: Found, place: Range, project: Project, names: Sequence[str], rounds: int) -> None:
    """Measure a project with these front ends, and add the rows."""
    place.write_configuration()
    for name in names:
        ways = [*place.ways(name), *place.other_ways(name, project)]
        environment = place.environment_time(name, ways[1], ways[0], rounds)
        for number in range(rounds + 1):
            for way in list(ways):
                place.progress.step(f"{project.name}, {name}, {way.name}: build {number + 1}")
                try:
                    place.build_in_turn(way, f"{name}-{ways.index(way)}")
                except Failure as failure:
                    if way.name in _MUST:
                        raise
                    found.notes.append(f"{project.name}, {name}, {way.name}: {failure}")
                    way.builds.clear()
                    shutil.rmtree(place.target, ignore_errors=True)
            ways = [way for way in ways if way.builds]
        _add(found, project, name, ways, environment)
        shutil.rmtree(place.folder / "targets")


def _add(found: Found, project: Project, name: str, ways: Sequence[Way], environment: float) -> None:
    """Add what one project and front end came to."""
    what = f"{project.name}, {name}"
    must = [way for way in ways if way.name in _MUST]
    check(what, must)
    seconds = {way.name: way.seconds() for way in ways}
    for way in ways:
        row: dict[str, object] = {"project": project.name, "front end": name, "way": way.name}
        row |= {"recompiled": len(way.recompiled()), "seconds": seconds[way.name]}
        found.rows.append({**row, "environment": environment, "wheel": "identical"})
        if way.wheels() != must[0].wheels():
            found.rows[-1]["wheel"] = "DIFFERENT"
            found.notes.append(f"{what}, {way.name}: makes another wheel.")
        found.chart["series"].setdefault(way.name, {})[what] = seconds[way.name]
    by_name = {way.name: way for way in must}
    for ours in [name for name in (SHIM, BOTH) if name in by_name]:
        needless = set(by_name[ours].recompiled()) - set(by_name[LIMIT].recompiled())
        text = f"{what}, {ours}: crates that the limit does not recompile"
        found.targets.append(Target(text, len(needless), 0, timed=False))
    text = f"{what}: seconds, and {WITHIN:.2f} of the limit and the front end's environment"
    found.targets.append(Target(text, seconds[SHIM], WITHIN * (seconds[LIMIT] + environment)))
    found.targets += beside_sccache(what, seconds)
