"""The ways to build a project that rebuild, unpacked and ci compare: one project at a time."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from shared.building import Build, Failure, Progress, Workshop, find_cargo
from support.front_ends import BUILD, PIP, PIP_VENV, UV_BUILD, FrontEnd, Host
from support.interpreters import base_interpreter
from support.sample_crates import BACK_ENDS, write_project

from .common import Target, make_environment, median, run, the_same

LIMIT = "limit: no isolation"
PLAIN = "without the shim"
SHIM = "with the shim"
SCCACHE = "sccache"
BOTH = "shim + sccache"
TOGETHER = 1.10  # of the faster one of the two

FRONT_ENDS = {"uv": UV_BUILD, "build": BUILD, "pip": PIP}
_ISOLATED = {**FRONT_ENDS, "pip": PIP_VENV}
_NO_ISOLATION = {"uv": "--no-build-isolation", "build": "--no-isolation", "pip": "--no-build-isolation"}

_NOTHING = {
    "nothing.py": """\
import importlib
import tarfile
import zipfile

for module in [{imports}]:
    importlib.import_module(module)

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "nothing-1-py3-none-any.whl"
    with zipfile.ZipFile(folder + "/" + name, "w") as wheel:
        for member, text in (
            ("METADATA", "Metadata-Version: 2.1\\nName: nothing\\nVersion: 1\\n"),
            ("WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"),
            ("RECORD", "nothing-1.dist-info/METADATA,,\\nnothing-1.dist-info/WHEEL,,\\n"),
        ):
            wheel.writestr("nothing-1.dist-info/" + member, text)
    return name

def build_sdist(folder, config_settings=None):
    name = "nothing-1.tar.gz"
    tarfile.open(folder + "/" + name, "w:gz").close()
    return name
""",
    "pyproject.toml": """\
[build-system]
requires = [{requires}]
build-backend = "nothing"
backend-path = ["."]
""",
}


@dataclass(frozen=True)
class Project:
    """What is built: an sdist that the package index has, or a small crate with a back end.

    *in_place*: from the same folder each time; *unpacked*: from an sdist that is unpacked each time.
    *slow*: it takes minutes.
    """

    name: str
    back_end: str
    sdist: bool = False
    in_place: bool = True
    unpacked: bool = True
    slow: bool = False


PROJECTS = (
    Project("small, maturin", "maturin"),
    Project("small, setuptools-rust", "setuptools-rust", unpacked=False),
    Project("rpds-py==2026.9.1", "maturin", sdist=True),
    Project("bcrypt==5.0.0", "setuptools-rust", sdist=True),
    Project("cryptography==45.0.7", "maturin", sdist=True, in_place=False, slow=True),
    Project("pydantic-core==2.50.4", "maturin", sdist=True, in_place=False, slow=True),
)


@dataclass
class Way:
    """A way to build: the front end, where it lies, the variables. *builds* are all its builds.

    A variable that is empty is not set at all.
    """

    name: str
    front_end: FrontEnd
    host: Host
    variables: Mapping[str, str] = field(default_factory=dict)
    builds: list[Build] = field(default_factory=list)

    def seconds(self) -> float:
        """Return the median of what its builds took, but the first."""
        return median([build.seconds for build in self.builds[1:]])

    def wheels(self) -> list[tuple[str, str]]:
        """Return its different wheels: one, if it is reproducible."""
        return sorted({(build.wheel, build.sha256) for build in self.builds})

    def recompiled(self) -> list[str]:
        """Return the crates that any of its builds but the first compiled."""
        return sorted({crate for build in self.builds[1:] for crate in build.crates})


class Range(Workshop):
    """One project at a time, and a target folder for each way to build it."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        super().__init__(folder, folder / "source", find_cargo(), progress)
        self.variables: dict[str, str] = {}
        self.target = folder / "target"
        self.permanent = Host(folder / "permanent", shimmed=False)
        self.wheelhouse = folder / "wheelhouse"
        self.offline = False
        self.sdist: Path | None = None
        self._unpacked: set[Path] = set()

    def _environment(self, host: Host | None) -> dict[str, str]:
        found = super()._environment(host)
        # What the recording cargo takes is no part of a build: time stamps tell what was compiled.
        recording = str(self._recording.executable.parent)
        path = [entry for entry in found["PATH"].split(os.pathsep) if entry != recording]
        found |= {"PATH": os.pathsep.join(path), "CARGO_TARGET_DIR": str(self.target)}
        found["CARGO_BUILD_BUILD_DIR"] = str(self.target)
        del found["PYTHONDONTWRITEBYTECODE"]  # as it is for a user
        if self.offline:
            links = str(self.wheelhouse)
            found |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": links, "UV_OFFLINE": "1", "UV_FIND_LINKS": links}
            found["CARGO_NET_OFFLINE"] = "true"
        found |= self.variables
        return {name: value for name, value in found.items() if value or name not in self.variables}

    def set_project(self, project: Project) -> None:
        """Fill the source folder, and fetch all that its builds take: two steps."""
        self.progress.step(f"{project.name}: unpacking and fetching")
        self.offline, self.variables = False, {}
        for folder in (self.source, self.permanent.folder, self.folder / "targets", self.target):
            shutil.rmtree(folder, ignore_errors=True)
        plain = str(self.hosts[0].python)
        self.sdist = self._sdist(project) if project.sdist else None
        if self.sdist:
            self.unpack(self.sdist)
        else:
            (back_end,) = (it for it in BACK_ENDS if it.name == project.back_end)
            write_project(self.source, back_end)
        (manifest,) = self.manifests()
        self._run([self._cargo, "fetch", "--manifest-path", str(manifest)])
        self._unpacked = set(self.source.iterdir())
        self.progress.step(f"{project.name}: its permanent environment")
        requires = requirements((self.source / "pyproject.toml").read_text())
        self._run([plain, "-m", "pip", "download", "-q", "-d", str(self.wheelhouse), *requires])
        host_tools = [f"{name}=={version}" for name, version in self.versions().items() if name in _TOOLS]
        make_environment(self.permanent.folder, base_interpreter(), *host_tools, *requires)
        imports = ["setuptools.build_meta", "setuptools_rust"]
        if project.back_end == "maturin":
            imports = ["maturin"]
        write(
            self.folder / "nothing",
            {
                name: text.replace("{requires}", _listed(requires)).replace("{imports}", _listed(imports))
                for name, text in _NOTHING.items()
            },
        )
        self.offline = True

    def _sdist(self, project: Project) -> Path:
        """Fetch an sdist from the package index."""
        place, name = self.folder / "sdists", project.name.partition("==")[0]
        pip = [str(self.hosts[0].python), "-m", "pip", "download", "-q", "--no-deps"]
        self._run([*pip, "-d", str(place), "--no-binary", name, project.name])
        return next(place.glob(f"{name.replace('-', '?')}-*"))

    def versions(self) -> dict[str, str]:
        """Return what `Workshop.versions` does, and sccache's."""
        found = super().versions()
        return found | {name: self._run([name, "--version"]).split()[1] for name in sccache_names()[:1]}

    def manifests(self) -> list[Path]:
        """Return the ``Cargo.toml`` that cargo is called with."""
        found = sorted(self.source.glob("**/Cargo.toml"), key=lambda path: len(path.parts))
        return found[:1]

    def own_crates(self) -> set[str]:
        """Return the names of the packages in the source folder: not a registry's."""
        command = [self._cargo, "metadata", "--no-deps", "--format-version=1", "--offline"]
        said = self._run([*command, "--manifest-path", str(self.manifests()[0])])
        return {package["name"] for package in json.loads(said)["packages"]}

    def forget(self, packages: Container[str]) -> None:
        """Have cargo compile these packages anew (`cargo clean -p` takes others' with equal crate names)."""
        for unit in [*self.target.rglob(".fingerprint/*"), *self.target.rglob("build/*/*/fingerprint")]:
            if _crate_of(unit) in packages:
                shutil.rmtree(unit)

    def said(self) -> str:
        """Return the output of the last command."""
        return self._output.read_text(errors="replace")

    def ways(self, name: str) -> list[Way]:
        """Return the ways to build with a front end, the limit first; sccache's, where it is on PATH."""
        plain, shimmed = self.hosts
        isolated = _ISOLATED[name].variant(name=name)
        shim = {"CARGO": str(shimmed.wrapper)} if name == "uv" else {}
        ours = Way(SHIM, isolated, Host(shimmed.folder, shimmed=False), shim)
        found = [self.limit(name), Way(PLAIN, isolated, plain), ours]
        return [*found, *with_sccache(self.folder, found[1], ours)]

    def other_ways(self, name: str, project: Project) -> list[Way]:
        """Return what else people set, or give to a front end."""
        plain = Way("", _ISOLATED[name].variant(name=name), self.hosts[0])
        pinned = {"PYO3_CONFIG_FILE": str(self.folder / "pyo3-config.txt")}
        found = [replace(plain, name=_PINNED, variables=pinned, builds=[])]
        if project.back_end == "maturin":
            base = {_USE_BASE.partition("=")[0]: "1"}
            found.insert(0, replace(plain, name=_USE_BASE, variables=base, builds=[]))
        if name == "build":
            front_end = plain.front_end.variant("--env-dir", "../env-dir")
            found.append(replace(plain, name=_ENV_DIR, front_end=front_end, builds=[]))
        return found

    def limit(self, name: str) -> Way:
        """Return the way without isolation."""
        base = str(self.permanent.python)
        front_end = FRONT_ENDS[name].variant(_NO_ISOLATION[name], name=name, base=base)
        return Way(LIMIT, front_end, self.permanent)

    def build_in_turn(self, way: Way, key: str) -> None:
        """Build once, in the way's own target folder; the first time, also without what others left."""
        kept = self.folder / "targets" / key
        kept.parent.mkdir(exist_ok=True)
        if kept.exists():
            kept.rename(self.target)
        else:
            self.tidy()
        self.build_way(way)
        self.target.rename(kept)

    def tidy(self) -> None:
        """Remove what builds have left in the source folder."""
        for path in set(self.source.iterdir()) - self._unpacked:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def keep(self, path: Path) -> None:
        """Have `tidy` leave *path* where it is."""
        self._unpacked.add(path)

    def build_way(self, way: Way) -> None:
        """Build once."""
        before = stamps(self.target)
        self.variables = dict(way.variables)
        try:
            build = self.build(way.front_end, way.host)
        finally:
            self.variables = {}
        known = {(crate, time) for (crate, _), time in before.items()}  # units that move keep their time
        after = stamps(self.target).items()
        compiled = sorted({crate for (crate, _), time in after if (crate, time) not in known})
        way.builds.append(Build(compiled, build.seconds, build.file, build.sha256))

    def environment_time(self, name: str, isolated: Way, limit: Way, rounds: int) -> float:
        """Return what a front end takes to make its environments: two steps a round."""
        source, self.source = self.source, self.folder / "nothing"
        took: list[list[float]] = [[], []]
        try:
            for _ in range(rounds + 1):
                for times, way in zip(took, (isolated, limit)):
                    self.progress.step(f"{name}: a back end that does nothing, {way.name}")
                    times.append(self.run_way(way)[1])
        finally:
            self.source = source
        return max(0.0, median([one - other for one, other in list(zip(*took))[1:]]))

    def run_way(self, way: Way) -> tuple[Path, float]:
        """Run a way's front end with its variables; return where it wrote, and the seconds."""
        self.variables = dict(way.variables)
        try:
            return self.run_front_end(way.front_end, way.host)
        finally:
            self.variables = {}

    def write_configuration(self) -> None:
        """Write the configuration file that PyO3 prints for the base interpreter."""
        self.variables = {"PYO3_PRINT_CONFIG": "1", "PYO3_PYTHON": self._base}
        command = [self._cargo, "build", "--manifest-path", str(self.manifests()[0])]
        try:
            said = self._run(command, self.source)
        except Failure:  # as it is meant to
            said = self.said()
        finally:
            self.variables = {}
            shutil.rmtree(self.target, ignore_errors=True)
        keys = re.findall(rf"^ *((?:{'|'.join(_KEYS)})=.*)$", said, re.M)
        if not any(key.startswith("version=") for key in keys):
            raise Failure("PyO3 printed no configuration", said)
        (self.folder / "pyo3-config.txt").write_text("\n".join(dict.fromkeys(keys)) + "\n")


def sccache_names() -> list[str]:
    """Return the names of the ways with sccache: none where it is not on PATH."""
    return [SCCACHE, BOTH] if shutil.which(SCCACHE) else []


def sccache_missed() -> list[str]:
    """Return the note about sccache, where it is not on PATH."""
    return [] if sccache_names() else ["sccache was not on PATH."]


def with_sccache(folder: Path, plain: Way, ours: Way) -> list[Way]:
    """Return *plain* and *ours* with sccache in front of rustc; none where it is not on PATH.

    Each has a cache and a server of its own in *folder*; builds start it.
    """
    found = []
    for name, way in zip(sccache_names(), (plain, ours)):
        own = name.replace(" ", "")
        server = {"SCCACHE_DIR": str(folder / SCCACHE / own), _SOCKET: str(folder / f"{own}.socket")}
        server |= {"RUSTC_WRAPPER": str(shutil.which(SCCACHE)), "SCCACHE_IDLE_TIMEOUT": "3600"}
        variables = {**way.variables, **server}
        found.append(replace(way, name=name, variables=variables, builds=[]))
    return found


def end_sccache(folder: Path) -> None:
    """End the servers that builds have started, when they have written all."""
    for socket in folder.glob(f"*{SCCACHE}.socket"):
        run([SCCACHE, "--stop-server"], folder, {**os.environ, _SOCKET: str(socket)})
        socket.unlink(missing_ok=True)


@contextmanager
def sccache_ended(folder: Path) -> Iterator[None]:
    """End sccache's servers at the end, and remove their caches."""
    try:
        yield
    finally:
        end_sccache(folder)
        shutil.rmtree(folder / SCCACHE, ignore_errors=True)


def beside_sccache(what: str, seconds: Mapping[str, float]) -> list[Target]:
    """Return the targets of the ways with sccache, where it took part: by the seconds of each way.

    The shim, where it has a folder to work with, is ahead of it; both together are as good as the better one.
    """
    if SCCACHE not in seconds or BOTH not in seconds:
        return []
    ahead, alone = [], [seconds[SCCACHE]]
    if SHIM in seconds:
        ahead = [Target(f"{what}: seconds with the shim, and sccache's", seconds[SHIM], seconds[SCCACHE])]
        alone.append(seconds[SHIM])
    text = f"{what}: seconds with the shim and sccache, and {TOGETHER:.2f} of the better one"
    return [*ahead, Target(text, seconds[BOTH], TOGETHER * min(alone))]


_SOCKET = "SCCACHE_SERVER_UDS"
_USE_BASE = "MATURIN_PEP517_USE_BASE_PYTHON=1"
_PINNED = "PYO3_CONFIG_FILE, pinned"
_ENV_DIR = "build --env-dir"
_TOOLS = ("build", "uv")
# Of a configuration file of PyO3 (pyo3-build-config 0.30, impl_.rs).
_KEYS = ("implementation", "version", "shared", "abi3", "lib_name", "lib_dir", "executable", "pointer_width",
    "build_flags", "python_framework_prefix", "suppress_build_script_link_lines", "target_abi")  # fmt: skip


def requirements(text: str) -> list[str]:
    """Return what a pyproject.toml requires for a build (tomllib came with Python 3.11)."""
    lines = "\n".join(re.sub(r"^\s*#.*|(?<=[\"'],)\s*#.*", "", line) for line in text.splitlines())
    listed = re.search(
        r"^\[build-system\]\n[^\[]*?requires *= *\[((?:[^\"'\]]|\"[^\"]*\"|'[^']*')*)\]", lines, re.M
    )
    if listed is None:
        raise Failure("its pyproject.toml has no list of requirements that can be read", text)
    return [double or single for double, single in re.findall(r"\"([^\"]*)\"|'([^']*)'", listed[1])]


def _listed(words: Sequence[str]) -> str:
    return ", ".join(map(json.dumps, words))  # as Python and TOML have it; a marker has quotes of its own


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def _crate_of(unit: Path) -> str:
    """Return the crate of a unit's folder, in cargo's first layout or its second."""
    return unit.parent.parent.name if unit.name in ("fingerprint", "run") else unit.name.rpartition("-")[0]


def stamps(target: Path) -> dict[tuple[str, str], int]:
    """Return when cargo last compiled each unit below a target folder: by crate and path."""
    found = {}
    for path in target.rglob("invoked.timestamp"):
        found[_crate_of(path.parent), str(path.relative_to(target))] = path.stat().st_mtime_ns
    return found


def check(what: str, ways: Sequence[Way]) -> None:
    """Raise `Failure` if these ways did not do the same work."""
    the_same(f"{what}: what the first build compiled", {way.name: way.builds[0].crates for way in ways})
    if not any(crate.startswith("pyo3") for crate in ways[0].builds[0].crates):
        raise Failure(f"{what}: the first build compiled no PyO3: the second shows nothing")
    the_same(f"{what}: the wheels", {way.name: way.wheels() for way in ways})
    if len(ways[0].wheels()) != 1:
        raise Failure(f"{what}: its wheels are not reproducible, and cannot be compared")
