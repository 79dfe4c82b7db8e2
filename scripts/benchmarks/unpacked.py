"""The rows of the benchmark rebuild for sdists that a front end unpacks, and the folder kept for them."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from shared.building import Build
from support.front_ends import BUILD_FROM_SDIST, UV_BUILD_FROM_SDIST, FrontEnd, Host

from .common import Found, Target, the_same
from .ways import PLAIN, Project, Range, Way, check

ABOUT = """
*python -m build*, *uv build* and *pip install SDIST* unpack an sdist, which the first two make, into a
temporary folder and compile there. *in tree* is what they are held against: without isolation, in the
source folder (`--sdist --wheel` makes both from there), with all that a registry has compiled before and
the project's own crates to be compiled anew. So both sides make an sdist where the front end does, and to
unpack it is at the shim's cost. *environment* is here what the same command takes in the source folder with
isolation, less without it: two environments where there is an sdist to be made, else one.

These are seen to compile the same crates in the first build, and *in tree* to compile the project's own and
no others in the rest; all builds of a project, by any front end, make wheels of the same content (but what
names the temporary folder, and RECORD, which has its hash). `pip install` is called with
`--use-feature=venv-isolation` (the wrapper does not run under pip's default isolation) and without pip's
cache of wheels. The first build is made by one front end only: they share what is kept. Without the shim
every build is a first one, so one is timed.
"""

IN_TREE = "in tree, own crates only"
KEPT = "with the shim, PYO3_ENVSHIM_BUILD_CACHE=on"
WITHIN = 1.15  # of the build in the tree and the front end's own environments

_BUILD, _UV, _PIP = "python -m build", "uv build", "pip install SDIST"
_INSTALL = ("{host}/bin/python", "-m", "pip", "install", "-v")
_FRONT_ENDS = {
    _UV: UV_BUILD_FROM_SDIST.variant(name=_UV),
    _BUILD: BUILD_FROM_SDIST.variant(name=_BUILD),
    _PIP: FrontEnd(_PIP, (*_INSTALL, "--no-cache-dir", "--no-deps", "--target", "{out}", "{project}")),
}
_IN_TREE = {_UV: ("--sdist", "--wheel"), _BUILD: ("--sdist", "--wheel"), _PIP: ()}
_FLAT = {_UV: "--no-build-isolation", _BUILD: "--no-isolation", _PIP: "--no-build-isolation"}
_ISOLATED = {_PIP: ("--use-feature=venv-isolation",)}
_CARGOS_PLACE = {"CARGO_TARGET_DIR": "", "CARGO_BUILD_BUILD_DIR": ""}


def front_ends(quick: bool) -> Sequence[str]:
    """Return the front ends that are measured."""
    return [_UV] if quick else list(_FRONT_ENDS)


def steps(names: Sequence[str], rounds: int) -> int:
    """Return how many steps a project takes."""
    return 3 + len(names) * (2 * (rounds + 1) + 2 * rounds + 1)


def add(found: Found, place: Range, project: Project, names: Sequence[str], rounds: int) -> None:
    """Measure a project with these front ends, and add the rows."""
    own = place.own_crates()
    first: list[Build] = []
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
        for number in range(rounds):
            for way in ways:
                if way.name != PLAIN or number == 0:
                    build(place, way, own, f"{project.name}, {name}, {way.name}: build {number + 2}")
        _add(found, project, name, ways, own, environment)


def ways_of(place: Range, name: str) -> list[Way]:
    """Return the ways to build with a front end."""
    plain, shimmed = place.hosts
    # The first front end makes the sdist that others are given.
    sdist = str(place.sdist) if name == _PIP else "."
    front_end = _FRONT_ENDS[name].variant(*_ISOLATED.get(name, ()), project=sdist)
    in_tree = _FRONT_ENDS[name].variant(*_IN_TREE[name], _FLAT[name], base=str(place.permanent.python))
    shim = {"PYO3_ENVSHIM_BUILD_CACHE": "on", **_CARGOS_PLACE}
    if name == _UV:
        shim["CARGO"] = str(shimmed.wrapper)
    return [
        Way(IN_TREE, in_tree, place.permanent),
        Way(PLAIN, front_end, plain, _CARGOS_PLACE),
        Way(KEPT, front_end, Host(shimmed.folder, shimmed=False), shim),
    ]


def isolated(place: Range, name: str) -> Way:
    """Return the way to build in the tree, with isolation."""
    options = (*_IN_TREE[name], *_ISOLATED.get(name, ()))
    return Way(PLAIN, _FRONT_ENDS[name].variant(*options), place.hosts[0])


def build(place: Range, way: Way, own: Container[str], step: str) -> None:
    """Build once."""
    place.progress.step(step)
    place.tidy()
    if way.name == IN_TREE and way.builds:
        place.forget(own)
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


def check_own(what: str, ways: Sequence[Way], own: set[str]) -> None:
    """Raise `Failure` if any build did not compile the project's own crates, or *in tree* more than these."""
    compiled: dict[str, object] = {
        f"{way.name}, build {number}": sorted(own.intersection(build.crates))
        for way in ways
        for number, build in enumerate(way.builds, 1)
    }
    compiled["second builds in tree"] = ways[0].recompiled()
    the_same(f"{what}: its own crates, as compiled", compiled)


def _add(
    found: Found, project: Project, name: str, ways: Sequence[Way], own: set[str], environment: float
) -> None:
    """Add what one project and front end came to."""
    what = f"{project.name}, {name}"
    check(what, ways)
    check_own(what, ways, own)
    for way in ways:
        row: dict[str, object] = {"project": project.name, "front end": name, "way": way.name}
        row |= {"recompiled": len(way.recompiled()), "seconds": way.seconds()}
        found.rows.append({**row, "environment": environment, "wheel": "same content"})
    in_tree, _, kept = ways
    more = set(kept.recompiled()) - own
    found.targets.append(Target(f"{what}: registry crates recompiled", len(more), 0, timed=False))
    text = f"{what}: seconds, and {WITHIN:.2f} of the build in tree and the front end's environments"
    found.targets.append(Target(text, kept.seconds(), WITHIN * (in_tree.seconds() + environment)))
