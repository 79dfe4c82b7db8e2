"""Several interpreters in turn: crates compiled, time and disk of the second round, beside other ways."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shared.building import several_interpreters
from support.front_ends import UV_BUILD, Host

from .common import Found, Setting, Target, the_same
from .ways import (
    BOTH,
    PLAIN,
    PROJECTS,
    SCCACHE,
    SHIM,
    Project,
    Range,
    Way,
    beside_sccache,
    sccache_ended,
    sccache_missed,
    sccache_names,
    with_sccache,
)

TITLE = "Matrix: three interpreters in turn, second round"
ABOUT = """
`uv build --wheel` for each interpreter, twice over, with nothing changed in between. Crates are those that
cargo compiled in the second round, all interpreters together; seconds are for one wheel (mean of the second
round); MB is what the build folders hold afterwards. *limit*: a target folder for each interpreter, with the
shim, so that nothing is ever overwritten: the least in time, and the most on disk. sccache (a local cache,
as `RUSTC_WRAPPER`) takes part if it is on `PATH`, alone and with the shim; what it brings from its cache
counts as compiled, because cargo runs it.

Before anything is timed, each way is seen to make the same wheel for an interpreter as all others, in both
rounds.
"""
NEEDS = ("cargo", "tar")
SEPARATE = "limit: a target folder each"
WITHIN = 1.10  # of the limit


def _projects(setting: Setting) -> Sequence[Project]:
    return PROJECTS[:1] if setting.quick else [it for it in PROJECTS if it.in_place]


def _names() -> list[str]:
    return [PLAIN, SHIM, SEPARATE, *sccache_names()]


def steps(setting: Setting) -> int:
    """Return how many steps it takes."""
    return 2 + len(_projects(setting)) * (2 + 2 * len(_names()) * len(several_interpreters()))


def measure(setting: Setting) -> Found:
    """Build each project with each way, for all interpreters, twice."""
    place = Range(setting.folder, setting.progress)
    place.set_up()
    chart = {"kind": "bars", "x": "seconds a wheel, second round", "series": {}}
    found = Found([], [], chart, place.versions(), sccache_missed())
    for project in _projects(setting):
        place.set_project(project)
        _measure_project(found, place, project)
    return found


def _measure_project(found: Found, place: Range, project: Project) -> None:
    wheels: dict[str, object] = {}
    seconds: dict[str, float] = {}
    for name in _names():
        with sccache_ended(place.folder):
            ways = [_way(place, name, python) for python in several_interpreters()]
            for number in (1, 2):
                for way in ways:
                    python = Path(way.variables["UV_PYTHON"]).name
                    place.progress.step(f"{project.name}, {name}, {python}: build {number}")
                    place.build_in_turn(way, python if name == SEPARATE else "shared")
        targets = place.folder / "targets"
        compiled = [crate for way in ways for crate in way.builds[1].crates]
        seconds[name] = sum(way.builds[1].seconds for way in ways) / len(ways)
        row = {
            "project": project.name,
            "way": name,
            "first round": sum(len(it.builds[0].crates) for it in ways),
        }
        row |= {"second round": len(compiled), "seconds": seconds[name], "MB": _size(targets) / 1e6}
        made = [way.wheels() for way in ways]
        found.rows.append(
            {**row, "wheels": "identical" if made == wheels.setdefault(PLAIN, made) else "DIFFERENT"}
        )
        found.chart["series"].setdefault(name, {})[project.name] = seconds[name]
        if name != SCCACHE:
            the_same(f"{project.name}: the wheels", {PLAIN: wheels[PLAIN], name: made})
        if name in (SHIM, BOTH):
            text = f"{project.name}, {name}: crates in the second round"
            found.targets.append(Target(text, len(compiled), 0, timed=False))
        shutil.rmtree(targets)
    text = f"{project.name}: seconds a wheel, and {WITHIN:.2f} of the limit"
    found.targets.append(Target(text, seconds[SHIM], WITHIN * seconds[SEPARATE]))
    found.targets += beside_sccache(project.name, seconds)


def _way(place: Range, name: str, python: str) -> Way:
    plain, shimmed = place.hosts
    front_end = UV_BUILD.variant(name="uv", base=python)
    variables = {"UV_PYTHON": python}
    without = Way(PLAIN, front_end, plain, variables)
    variables = {**variables, "CARGO": str(shimmed.wrapper)}
    ours = Way(SHIM, front_end, Host(shimmed.folder, shimmed=False), variables)
    ways = [
        without,
        ours,
        replace(ours, name=SEPARATE, builds=[]),
        *with_sccache(place.folder, without, ours),
    ]
    return next(way for way in ways if way.name == name)


def _size(folder: Path) -> int:
    """Return the bytes on disk below a folder; a file with several names counts once."""
    files = {(at.st_dev, at.st_ino): at.st_blocks * 512 for at in map(Path.lstat, folder.rglob("*"))}
    return sum(files.values())
