"""What all tests share (made once per run), and the bench each test builds on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .front_ends import FrontEnd
from .projects import MATURIN, BackEnd, Project, write_project
from .recording import CargoCall, RecordingCargo

_ROOT = Path(__file__).parents[2]
_PASSED_ON = re.compile(
    r"HOME|USER|CARGO_HOME|RUSTUP_\w+|\w*CERT\w*|\w*CA_BUNDLE|\w*_proxy|SystemRoot", re.IGNORECASE
)
_FRONT_ENDS = ("pip", "build", "uv", "virtualenv")
_BUILD_REQUIREMENTS = ("maturin", "setuptools", "setuptools-rust", "tomli", "platformdirs")
_REQUIREMENT_VERSIONS = ("1", "2")


def base_interpreter() -> str:
    """Return the interpreter that the tests' own environment was made from."""
    return os.path.realpath(sys.executable)


def other_interpreter() -> str:
    """Return a CPython of another minor version, at least 3.9."""
    root = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    for minor in range(13, 8, -1):
        if minor != sys.version_info.minor:
            installed = sorted(Path(root).glob(f"versions/3.{minor}.*/bin/python3.{minor}"))
            found = str(installed[-1]) if installed else shutil.which(f"python3.{minor}")
            if found:
                return os.path.realpath(found)
    raise LookupError("the tests need a second CPython (3.9 to 3.13), from pyenv or on PATH")


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


def real_cargo() -> str:
    """Return the cargo on our own PATH."""
    found = shutil.which("cargo")
    assert found is not None, "the tests need cargo on PATH"
    return found


def _system_path() -> str:
    return os.pathsep.join([str(Path(real_cargo()).parent), "/usr/bin", "/bin"])


@dataclass(frozen=True)
class Host:
    """An environment that holds the front ends, with the shim or without."""

    folder: Path
    shimmed: bool

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def wrapper(self) -> Path:
        """The shim's cargo."""
        return self.folder / "bin" / "pyo3-envshim-cargo"


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
        return (self._seed.folder / "Cargo.lock").read_text()

    @property
    def seed_target(self) -> Path:
        """A target folder in which every dependency is compiled, for no test's environment."""
        return self._seed.target

    @property
    def wheelhouse(self) -> Path:
        """The back ends' wheels."""
        return self.folder / "wheelhouse"

    def requirement(self, version: str) -> Path:
        """Return the folder of the local build requirement's wheel."""
        return self.folder / f"reqlib-{version}"

    @property
    def _seed(self) -> Project:
        return Project(self.folder / "seed")

    def make(self) -> None:
        """Make everything."""
        environment = small_environment()
        for host in (self.shimmed, self.plain):
            run([base_interpreter(), "-m", "venv", str(host.folder)], environment)
            run([str(host.python), "-m", "pip", "install", "-qU", *_FRONT_ENDS], environment)
        self._install_shim(environment)
        pip_download = [str(self.plain.python), "-m", "pip", "download", "-q"]
        run([*pip_download, "-d", str(self.wheelhouse), *_BUILD_REQUIREMENTS], environment)
        for version in _REQUIREMENT_VERSIONS:
            _make_requirement(self.requirement(version), version)
        self._compile_dependencies(environment)

    def _install_shim(self, environment: dict[str, str]) -> None:
        out = self.wheelhouse
        run([str(self.plain.python), "-m", "build", "-w", "-o", str(out), str(_ROOT)], environment)
        (wheel,) = out.glob("pyo3_envshim-*-py39-none-any.whl")
        run([str(self.shimmed.python), "-m", "pip", "install", "-q", str(wheel)], environment)

    def _compile_dependencies(self, environment: dict[str, str]) -> None:
        write_project(self._seed.folder, MATURIN, "", answer="seed")
        (self._seed.folder / "Cargo.lock").unlink()
        environment |= {"PYO3_PYTHON": base_interpreter()}
        for command in ("fetch", "build"):
            run(["cargo", command], environment, cwd=self._seed.folder)
        for path in self.seed_target.glob("debug/**/*tiny*"):
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

    calls: list[CargoCall]
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


@dataclass
class Bench:
    """A test's own folder, store, and recording cargo."""

    shared: Shared
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    requirement_version: str = "1"
    _count: int = 0

    def __post_init__(self) -> None:
        """Make the recording cargo and the folders."""
        self.cargo = RecordingCargo(self.folder / "recording" / "cargo", real_cargo())
        self.store = self.folder / "store"
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()

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
        warm: bool = True,
    ) -> Project:
        """Write a project; if warm, with its dependencies compiled."""
        project = write_project(
            self.folder / name,
            back_end,
            self.shared.lock,
            answer=answer,
            also_requires=also_requires,
        )
        if warm:
            self.fill(project.target)
        return project

    def fill(self, target: Path) -> Path:
        """Copy the compiled dependencies into a new target folder, times kept."""
        run(["cp", "-a", str(self.shared.seed_target), str(target)], os.environ)
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

    def build(self, front_end: FrontEnd, project: Project, host: Host, **variables: str) -> Built:
        """Build a project (with these variables on top) and tell what happened."""
        self._count += 1
        out = self.folder / "dist" / str(self._count)
        site = self.folder / "site"
        if "{site}" in front_end.command and not site.exists():
            run([base_interpreter(), "-m", "venv", "--without-pip", str(site)], os.environ)
        environment = self.environment(host) | variables
        if host.shimmed and front_end.command[0].endswith("uv"):
            environment.setdefault("CARGO", str(host.wrapper))
        command = front_end.arguments(
            host=host.folder, project=project.folder, out=out, site=site, base=base_interpreter()
        )
        self.cargo.take_calls()
        output = run(command, environment)
        wheels = list(out.glob("*.whl"))
        assert len(wheels) == front_end.makes_wheel, output
        installed = project.folder / ".venv" if front_end.name == "uv-sync" else site
        return Built(self.cargo.take_calls(), wheels[0] if wheels else None, installed, output)

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
        return run([python or base_interpreter(), "-c", script], environment).strip()
