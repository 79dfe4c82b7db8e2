"""The default commands: sdists and clones that a front end unpacks, and the folder kept for them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from shared.building import Build, Failure
from support.front_ends import BUILD_FROM_SDIST, UV_BUILD_FROM_SDIST, FrontEnd, Host

from .common import Found, Setting, Target, the_same
from .ways import (
    BOTH,
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
    with_sccache,
)

TITLE = "Unpacked: the second build by a default command, nothing changed"
ABOUT = """
Crates recompiled (two versions of one count once), and seconds (medians; the ways are built in turn).
*python -m build*, *uv build*, *pip install SDIST* and *pip install git+…*, as they are typed, compile in a
temporary folder: an sdist, which the first two make, is unpacked there, or a repository cloned. *in tree* is
what they are held against: without isolation, in the source folder (`--sdist --wheel` makes both from
there), with all that is kept compiled before, and the project's own crates, and those that may depend on
the system, to be compiled anew. So both sides make an sdist where the front end does, and to unpack it is at
the shim's cost. *environment* is here what the same command takes in the source folder with isolation, less
without it: two environments where there is an sdist to be made, else one. sccache (a local cache, where it
is on PATH) stands in front of rustc, without the shim and with it.

These are seen to compile the same crates in the first build, and *in tree* to compile those crates and no
others in the rest; all builds of a project, by any front end, make wheels of the same content (but what
names the temporary folder, and RECORD, which has its hash). `pip install` is called without pip's cache of
wheels. The first build is made by one front end only: they share what is kept. Without the shim every build
is a first one, so one is timed, of the first front end. pip's default isolation builds with the invoking
interpreter, whose path is another than the stored environment's: the first build by it compiles what asks for
that path once more, which is a note below and not timed. A project that takes minutes has one round.
"""
NEEDS = ("cargo", "tar", "git")

IN_TREE = "in tree, the same crates"
WITHIN = 1.15  # of the build in the tree and the front end's own environments

_BUILD, _UV, _PIP, _GIT = "python -m build", "uv build", "pip install SDIST", "pip install git+…"
_INSTALL = ("{host}/bin/python", "-m", "pip", "install", "-v")
_FLAGS = ("--no-cache-dir", "--no-deps", "--target", "{out}", "{project}")
_FRONT_ENDS = {
    _UV: UV_BUILD_FROM_SDIST.variant(name=_UV),
    _BUILD: BUILD_FROM_SDIST.variant(name=_BUILD),
    _PIP: FrontEnd(_PIP, (*_INSTALL, *_FLAGS)),
    _GIT: FrontEnd(_GIT, (*_INSTALL, *_FLAGS)),
}
_BOTH = ("--sdist", "--wheel")
_IN_TREE = {_UV: _BOTH, _BUILD: _BOTH, _PIP: (), _GIT: ()}
_FLAT = {
    _UV: "--no-build-isolation",
    _BUILD: "--no-isolation",
    _PIP: "--no-build-isolation",
    _GIT: "--no-build-isolation",
}
_CARGOS_PLACE = {"CARGO_TARGET_DIR": "", "CARGO_BUILD_BUILD_DIR": ""}


def _rounds(setting: Setting, project: Project) -> int:
    return setting.rounds or (1 if setting.quick or project.slow else 3)


def _chosen(quick: bool) -> tuple[Sequence[Project], Sequence[str]]:
    found = [it for it in PROJECTS if it.unpacked]
    return (found[:1], (_UV,)) if quick else (found, tuple(_FRONT_ENDS))


def steps(setting: Setting) -> int:
    """Return how many steps it takes."""
    projects, names = _chosen(setting.quick)
    ways = 2 + len(sccache_names())
    found = 2
    for project in projects:
        rounds = _rounds(setting, project)
        overlaid = {SHIM, *sccache_names()[1:]} if _PIP in names else ()
        found += 2 + ways + 2 + len(overlaid) + len(names) * (2 * (rounds + 1) + ways * rounds)
    return found


def measure(setting: Setting) -> Found:
    """Measure all ways, of each project and command."""
    place = Range(setting.folder, setting.progress)
    place.set_up()
    projects, names = _chosen(setting.quick)
    chart = {"kind": "bars", "x": "seconds, second build", "series": {}}
    found = Found([], [], chart, place.versions(), sccache_missed())
    for project in projects:
        try:
            place.set_project(project)
            _measure(found, place, project, names, _rounds(setting, project))
        except Failure as failure:  # what the others came to is not lost
            found.notes.append(f"{project.name}: {failure}")
            found.targets.append(Target(f"{project.name}: what failed", 1, 0, timed=False))
    return found


def _measure(found: Found, place: Range, project: Project, names: Sequence[str], rounds: int) -> None:
    """Measure a project with these front ends, and add the rows."""
    own = place.own_crates()
    for cache in place.folder.glob("shim-cache*"):  # of the project before
        shutil.rmtree(cache)
    place.commit_source()  # for pip, and for back ends that ask git what belongs to an sdist
    place.keep(place.source / ".git")
    first: list[Build] = []
    with sccache_ended(place.folder):
        for name in names:
            ways = ways_of(place, name)
            environment = place.environment_time(name, isolated(place, name), ways[0], rounds)
            if not first:
                for way in ways:
                    build(place, way, own, f"{project.name}, {name}, {way.name}: build 1")
                first = [way.builds[0] for way in ways]
                place.sdist = place.sdist or next(first[0].file.parent.glob("*.tar.gz"))
            else:
                for way, built in zip(ways, first):
                    way.builds.append(built)
                ways = [way for way in ways if way.name != PLAIN]
            if name == _PIP:
                found.notes.append(_first_under_an_overlay(place, project, ways, own))
            for number in range(rounds):
                for way in reversed(ways):  # the tree last: it compiles what the shim does
                    again = own if way.name != IN_TREE else own | system_dependent(place)
                    if way.name != PLAIN or number == 0:  # each of its builds is a first one
                        build(place, way, again, f"{project.name}, {name}, {way.name}: build {number + 2}")
            _add(found, project, name, ways, again - own, own, environment)


def _first_under_an_overlay(place: Range, project: Project, ways: Sequence[Way], own: set[str]) -> str:
    """Build once with pip, whose interpreter has another path; return what is to be said of that."""
    compiled: set[str] = set()
    for way in ways:
        if way.name in (SHIM, BOTH):
            first = replace(way, builds=[])
            build(place, first, own, f"{project.name}, {_PIP}, {way.name}: the first under an overlay")
            compiled |= {*first.builds[0].crates} - own - system_dependent(place)
    what = f"{project.name}, {_PIP}: its first build after {_BUILD} compiled again"
    return f"{what}: {', '.join(sorted(compiled))}"


def system_dependent(place: Range) -> set[str]:
    """Return the registry crates that the kept build folder does not keep, as the shim has noted them."""
    (noted,) = place.folder.glob("shim-cache/builds/*/each-time")
    found = json.loads(noted.read_text())
    return {*found["asks"], *found["needs"]}


def ways_of(place: Range, name: str) -> list[Way]:
    """Return the ways to build with a front end."""
    plain, shimmed = place.hosts
    # The first front end makes the sdist that others are given.
    given = {_PIP: str(place.sdist), _GIT: f"git+file://{place.source}"}
    front_end = _FRONT_ENDS[name].variant(project=given.get(name, "."))
    in_tree = _FRONT_ENDS[name].variant(*_IN_TREE[name], _FLAT[name], base=str(place.permanent.python))
    shim = {**_CARGOS_PLACE, "CARGO": str(shimmed.wrapper)} if name == _UV else _CARGOS_PLACE
    without = Way(PLAIN, front_end, plain, _CARGOS_PLACE)
    ours = Way(SHIM, front_end, Host(shimmed.folder, shimmed=False), shim)
    # With sccache, in kept folders of its own.
    cache = {"PYO3_ENVSHIM_CACHE_DIR": str(place.folder / "shim-cache-with-sccache")}
    both = with_sccache(place.folder, without, replace(ours, variables={**shim, **cache}))
    return [Way(IN_TREE, in_tree, place.permanent), without, ours, *both]


def isolated(place: Range, name: str) -> Way:
    """Return the way to build in the tree, with isolation."""
    return Way(PLAIN, _FRONT_ENDS[name].variant(*_IN_TREE[name]), place.hosts[0])


def build(place: Range, way: Way, again: Container[str], step: str) -> None:
    """Build once; *again*: what a second build in the tree is to compile."""
    place.progress.step(step)
    place.tidy()
    if way.name == IN_TREE and way.builds:
        place.forget(again)
    out, seconds = place.run_way(way)
    compiled = sorted(set(re.findall(r"^ *Compiling (\S+) v", place.said(), re.M)))
    # What is compared is the content, of a wheel or of what was installed, and no name.
    way.builds.append(Build(compiled, seconds, out / "content", digest(out)))


def digest(out: Path) -> str:
    """Return the digest of what a wheel in *out* holds, or of what was installed there."""
    found = hashlib.sha256()
    for name, content in sorted(_members(out)):
        if re.search(r"/(RECORD|INSTALLER|REQUESTED|direct_url\.json)$|(^|/)__pycache__/", name):
            continue
        if name.endswith(".cyclonedx.json"):  # maturin's SBOM names the folder
            content = re.sub(rb"(?<=path\+file://)[^#\"]*", b"", content)
        found.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\0".encode())
    return found.hexdigest()


def _members(out: Path) -> Iterator[tuple[str, bytes]]:
    wheels = list(out.glob("*.whl"))
    if wheels:
        with zipfile.ZipFile(wheels[0]) as wheel:
            yield from ((name, wheel.read(name)) for name in wheel.namelist())
    else:
        for path in out.rglob("*"):
            if path.is_file():
                yield path.relative_to(out).as_posix(), path.read_bytes()


def check_own(what: str, ways: Sequence[Way], again: set[str], own: set[str]) -> None:
    """Raise `Failure` if a build did not compile the project's own crates, or *in tree* not just *again*."""
    compiled: dict[str, object] = {
        f"{way.name}, build {number}": sorted(own.intersection(build.crates))
        for way in ways
        for number, build in enumerate(way.builds, 1)
    }
    the_same(f"{what}: its own crates, as compiled", compiled)
    expected = sorted(again.intersection(ways[0].builds[0].crates))
    the_same(
        f"{what}: what is to be compiled again, and was in tree",
        {"to be": expected, IN_TREE: ways[0].recompiled()},
    )


def _add(
    found: Found,
    project: Project,
    name: str,
    ways: Sequence[Way],
    named: set[str],
    own: set[str],
    environment: float,
) -> None:
    """Add what one project and front end came to; *named*: what the shim's rule does not keep."""
    what = f"{project.name}, {name}"
    check(what, ways)
    check_own(what, ways, own | named, own)
    by_name = {way.name: way for way in ways}
    for way in ways:
        row: dict[str, object] = {"project": project.name, "front end": name, "way": way.name}
        row |= {"recompiled": len(way.recompiled()), "seconds": way.seconds()}
        found.rows.append({**row, "environment": environment, "wheel": "same content"})
        found.chart["series"].setdefault(way.name, {})[what] = way.seconds()
    kept = by_name[SHIM]
    for ours in [way for way in ways if way.name in (SHIM, BOTH)]:
        more = set(ours.recompiled()) - own - named
        text = f"{what}, {ours.name}: registry crates recompiled that the rule keeps"
        found.targets.append(Target(text, len(more), 0, timed=False))
    text = f"{what}: seconds, and {WITHIN:.2f} of the build in tree and the front end's environments"
    found.targets.append(Target(text, kept.seconds(), WITHIN * (by_name[IN_TREE].seconds() + environment)))
    found.targets += beside_sccache(what, {way.name: way.seconds() for way in ways})
    if again := sorted(named.intersection(kept.recompiled())):
        found.notes.append(f"{what}: compiled each time: {', '.join(again)}")
