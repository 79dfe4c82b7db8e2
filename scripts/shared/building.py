"""Builds without the shim and with it, in one temporary folder; and how a script ends and says what it does.

Reads: TMPDIR; and all variables but those that would change a build (_NOT_PASSED_ON).
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from support import CHECKOUT, front_ends
from support.front_ends import FrontEnd, Host
from support.interpreters import base_interpreter, interpreter
from support.recording_cargo import RecordingCargo

OLDEST_CARGO = (1, 85)  # PyO3 0.30's rust-version

# What would decide how, where or for whom a build is made, or hide what cargo prints.
_NOT_PASSED_ON = re.compile(
    r"(PYO3|MATURIN|PYTHON|CARGO_(BUILD|PROFILE|TERM|ENCODED)|RUSTFLAGS)(_?[A-Z].*)?"
    r"|CARGO|CARGO_TARGET_DIR|CARGO_MANIFEST_DIR|OUT_DIR|VIRTUAL_ENV|__PYVENV_LAUNCHER__"
    r"|PIP_(USER|TARGET|PREFIX|ROOT|NO_BUILD_ISOLATION|USE_FEATURE|CONSTRAINT|BUILD_CONSTRAINT|QUIET)"
    r"|UV_(NO_BUILD.*|PROJECT.*|CONSTRAINT|BUILD_CONSTRAINT|WORKING_DIR.*|PYTHON.*)"
)
# Of [build-system]: the back end may be one in the tree, which calls maturin.
_REQUIRES_MATURIN = re.compile(r"^requires *= *\[[^]]*[\"']maturin\b", re.M)
_VENV_ISOLATION = "--use-feature=venv-isolation"


class Failure(Exception):
    """It cannot go on: the message is the one line that says why, *output* what a command said last."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class Interrupted(Exception):
    """A signal asked to end."""

    # Its number. Only noted when it comes, and looked at where nothing can be left half done.
    number = 0

    @classmethod
    def note(cls, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        cls.number = number

    @classmethod
    def check(cls) -> None:
        """Raise, if there was a signal."""
        if cls.number:
            raise cls


# As a user calls them in the crate's folder.
FRONT_ENDS = (
    front_ends.PIP.variant(name="pip wheel"),
    front_ends.PIP_VENV.variant(name=f"pip wheel {_VENV_ISOLATION}"),
    front_ends.BUILD.variant(name="python -m build -w"),
    front_ends.UV_BUILD.variant(name="uv build --wheel"),
)


def label(host: Host) -> str:
    """Return what a host is called on the screen."""
    return "with the shim" if host.shimmed else "without"


@dataclass(frozen=True)
class Build:
    """What one build did: *compiled* is what cargo said of each crate, its name first."""

    compiled: list[str]
    seconds: float
    file: Path
    sha256: str

    @property
    def crates(self) -> list[str]:
        """The names of the crates that cargo compiled."""
        return [crate.split()[0] for crate in self.compiled]

    @property
    def wheel(self) -> str:
        """The name of its wheel."""
        return self.file.name


class Progress:
    """Says on standard error what is being done: one line on a terminal, else a line a step."""

    def __init__(self, steps: int) -> None:
        self._terminal = sys.stderr.isatty()
        self._steps = steps
        self._done = 0
        self._text = ""
        self._since = 0.0

    def step(self, text: str) -> None:
        """Begin a step."""
        self._done += 1
        self._text, self._since = text, time.monotonic()
        if self._terminal:
            self.tick()
        else:
            print(self._line(), file=sys.stderr, flush=True)

    def skip(self, steps: int) -> None:
        """Pass over steps that will not be taken."""
        self._done += steps

    def tick(self) -> None:
        """Show that the step is still going on."""
        if self._terminal and self._text:
            line = f"{self._line()} … {time.monotonic() - self._since:.0f} s"
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{line[:width]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away again."""
        if self._terminal and self._text:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        self._text = ""

    def _line(self) -> str:
        return f"[{self._done:2}/{self._steps}] {self._text}"


class Workshop:
    """The temporary folder, and everything that is done in it.

    *source* is the folder of what is built: it may be filled, and emptied, at any time.
    """

    def __init__(self, folder: Path, source: Path, cargo: str, progress: Progress) -> None:
        self.folder = folder
        self.source = source
        self.progress = progress
        self.hosts = [Host(folder / "plain", shimmed=False), Host(folder / "shimmed", shimmed=True)]
        self._base = base_interpreter()
        self._cargo = cargo
        self._recording = RecordingCargo(folder / "recording" / "cargo", cargo, only_compiling=True)
        self._output = folder / "output.txt"
        self._builds = 0

    def set_up(self) -> None:
        """Make the environments with the front ends: two steps."""
        for host in self.hosts:
            self._set_up_host(host)

    def versions(self) -> dict[str, str]:
        """Return the names and versions of the interpreter, cargo, and all that is beside the shim."""
        tools = self._run([str(self.hosts[1].python), "-m", "pip", "list", "--format=freeze"])
        found = dict(line.partition("==")[::2] for line in tools.splitlines())
        found["cargo"] = self._run([self._cargo, "--version"]).split()[1]
        return {platform.python_implementation(): platform.python_version(), **found}

    def _set_up_host(self, host: Host) -> None:
        """Make an environment with the front ends, and the shim if it is to have one."""
        self.progress.step("setting up pip, build and uv" + (" and this checkout" if host.shimmed else ""))
        self._run([self._base, "-m", "venv", str(host.folder)])
        pip = [str(host.python), "-m", "pip", "install", "--upgrade"]
        self._run([*pip, "pip"])
        self._run([*pip, "build", "uv", *([str(CHECKOUT)] if host.shimmed else [])])

    def unpack(self, sdist: Path) -> None:
        """Fill the source folder anew, as a checkout is: maturin makes no sdist of a tree with PKG-INFO."""
        shutil.rmtree(self.source, ignore_errors=True)
        self.source.mkdir(parents=True)
        self._run(["tar", "-xf", str(sdist), "--strip-components=1", "-C", str(self.source)])
        project = self.source / "pyproject.toml"
        if project.exists() and _REQUIRES_MATURIN.search(project.read_text(errors="replace")):
            (self.source / "PKG-INFO").unlink(missing_ok=True)

    def commit_source(self) -> None:
        """Make a repository of the source folder, as a checkout is one."""
        git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
        for command in (["init", "-q"], ["add", "--force", "."], ["commit", "-qm", "as released"]):
            self._run([*git, *command], self.source)

    def has(self, front_end: FrontEnd) -> bool:
        """Tell whether a front end is there: Python 3.9's newest pip has no venv isolation."""
        if _VENV_ISOLATION not in front_end.command:
            return True
        try:
            self._run([str(self.hosts[0].python), "-m", "pip", "wheel", _VENV_ISOLATION, "--help"])
        except Failure:
            return False
        return True

    def build(self, front_end: FrontEnd, host: Host) -> Build:
        """Build a wheel; raise `Failure` if there is none."""
        self._recording.take_calls()
        out, seconds = self.run_front_end(front_end, host)
        wheels = list(out.glob("*.whl"))
        if len(wheels) != 1:
            raise Failure(f"{front_end.name} made {len(wheels)} wheels; it should make 1")
        sha256 = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
        compiled = [unit for call in self._recording.take_calls() for unit in call.units]
        return Build(compiled, seconds, wheels[0], sha256)

    def run_front_end(self, front_end: FrontEnd, host: Host) -> tuple[Path, float]:
        """Run a front end; return the folder, not there before, that it wrote into, and the seconds."""
        self._builds += 1
        out = self.folder / "wheels" / str(self._builds)
        out.mkdir(parents=True)
        command = front_end.arguments(host=host.folder, project=".", out=out, base=self._base)
        if host.shimmed and not front_end.is_python:  # it has no place for a startup hook
            command = [str(host.script("pyo3-envshim")), "run", "--", *command]
        start = time.monotonic()
        self._run(command, cwd=self.source, host=host)
        return out, time.monotonic() - start

    def _environment(self, host: Host | None) -> dict[str, str]:
        """Return all variables of a step; with *host*, those of a build."""
        kept = {n: v for n, v in os.environ.items() if not _NOT_PASSED_ON.fullmatch(n)}
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        path = os.environ.get("PATH", os.defpath)
        if host is not None:
            path = os.pathsep.join([str(self._recording.executable.parent), str(host.folder / "bin"), path])
        return kept | {
            "PATH": path,
            "LC_ALL": "C.UTF-8",
            "TMPDIR": str(temporary),
            "SOURCE_DATE_EPOCH": "1700000000",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYO3_ENVSHIM_CACHE_DIR": str(self.folder / "shim-cache"),
            "PIP_CACHE_DIR": str(self.folder / "pip-cache"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "UV_CACHE_DIR": str(self.folder / "uv-cache"),
            "UV_PYTHON": self._base,
            "UV_PYTHON_DOWNLOADS": "never",
            # Where cargo works anyway, unless a configuration file of the user's says otherwise.
            "CARGO_TARGET_DIR": str(self.source / "target"),
            "CARGO_BUILD_BUILD_DIR": str(self.source / "target"),
            "CARGO_TERM_QUIET": "false",
            "CARGO_TERM_COLOR": "never",
        }

    def _run(self, command: Sequence[str], cwd: Path | None = None, host: Host | None = None) -> str:
        """Run a command and return its output. It has a process group of its own, to be ended as one."""
        Interrupted.check()
        with open(self._output, "wb") as output:
            process = subprocess.Popen(
                command,
                cwd=cwd or self.folder,
                env=self._environment(host),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            # Given a timeout, Popen.wait looks every 50 ms only: too coarse for builds of 0.3 s.
            waiter = threading.Thread(target=process.wait, daemon=True)
            waiter.start()
            try:
                while waiter.is_alive():
                    Interrupted.check()
                    self.progress.tick()
                    waiter.join(0.5)
                Interrupted.check()
            except BaseException:
                _end(process)
                raise
        text = self._output.read_text(errors="replace")
        if process.returncode != 0:
            tail = "".join(f"    {line}\n" for line in text.splitlines()[-15:])
            said = f"`{' '.join(command)}` ended with {process.returncode}"
            raise Failure(f"{said}; the end of its output stands above" if tail else said, tail)
        return text


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and all that it started, at once: nothing it writes is kept."""
    for _ in range(40):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # none is left (macOS says the latter)
            break
        process.poll()
        time.sleep(0.05)
    process.wait()


@contextmanager
def temporary_folder(name: str, keep: bool = False) -> Iterator[Path]:
    """Make the folder; remove it afterwards, whatever happens, unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix=f"pyo3-envshim-{name}-")).resolve()
    try:
        yield folder
    finally:
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def several_interpreters() -> list[str]:
    """Return those that take turns. Raises `Failure` if there are not two."""
    found = [python for minor in (11, 12, 13) if (python := interpreter(f"3.{minor}"))]
    if len(found) < 2:
        raise Failure("two of CPython 3.11, 3.12 and 3.13 are needed; hint: bring them by pyenv")
    return found


def find_cargo() -> str:
    """Return the path of cargo, if it is there, works, and is new enough."""
    cargo = shutil.which("cargo")
    if cargo is None:
        raise Failure("cargo is not on PATH; hint: install Rust 1.85 or later, or add cargo's folder to PATH")
    result = subprocess.run([cargo, "--version"], capture_output=True, text=True, check=False)
    version = re.match(r"cargo (\d+)\.(\d+)", result.stdout)
    if version is None:
        said = result.stderr or result.stdout
        raise Failure(f"`{cargo} --version` tells no version; hint: install Rust 1.85 or later", said)
    if (int(version[1]), int(version[2])) < OLDEST_CARGO:
        raise Failure(f"{cargo} is {version[0]}, PyO3 0.30 needs 1.85; hint: install a newer Rust")
    return cargo


def run_to_the_end(name: str, work: Callable[[], object]) -> int:
    """Do a script's work; return its exit status, and say in one line why it is not 0."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, Interrupted.note)
    try:
        work()
    except Interrupted:
        print(f"{name}: interrupted", file=sys.stderr)
        return 128 + Interrupted.number
    except (Failure, OSError) as error:
        if isinstance(error, Failure):
            sys.stderr.write(error.output)
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0
