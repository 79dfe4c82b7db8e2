"""Interpreters, environments, wheels and a fake cargo for the unit tests.

Nothing here uses the network, or writes to anything but the tests' own folders.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import functools
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import coverage
import distlib  # type: ignore[import-untyped]
import uv
from filelock import FileLock

from pyo3_envshim.environment import layout

ROOT = Path(__file__).parents[2]
COVERAGE = Path(__file__).with_name("coverage_in_environments.py")  # run as text, without the tests
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
MARKERS = ("_PYPROJECT_HOOKS_BUILD_BACKEND", "PEP517_BUILD_BACKEND", "UV_INTERNAL__BUILD_DIR")
IN_A_BUILD = {MARKERS[0]: "maturin"}
# The modules that front ends are run as with ``python -m``.
FRONT_END_MODULES = ("pip", "build", "uv", "pdm", "poetry", "hatch", "tox", "nox", "cibuildwheel")
DUMP = "import json, os, sys; json.dump(dict(os.environ), sys.stdout)\n"

Changes = dict[str, Optional[str]]


def variables(home: Path, **more: str) -> dict[str, str]:
    """Return the few variables that the tests' processes get; *home* is a folder of the tests."""
    system = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home)}
    if layout.WINDOWS:
        kept = ("SYSTEMROOT", "SYSTEMDRIVE", "PATHEXT", "COMSPEC", "TEMP", "TMP")
        system = {name: os.environ[name] for name in kept if name in os.environ}
        system["PATH"] = os.path.join(system["SYSTEMROOT"], "system32")
        system["USERPROFILE"] = str(home)
    return {
        **system,
        "LC_ALL": "C.UTF-8",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_OFFLINE": "1",
        "UV_NO_CONFIG": "1",
        "UV_CACHE_DIR": str(home / "uv-cache"),
        "UV_LINK_MODE": "copy",
        "UV_PYTHON_DOWNLOADS": "never",
        "VIRTUALENV_OVERRIDE_APP_DATA": str(home / "virtualenv"),
        **more,
    }


def run(command: Sequence[str | Path], environ: Mapping[str, str], cwd: Path | None = None) -> str:
    """Run a command that must succeed; return its standard output."""
    if layout.WINDOWS:  # no program starts without it
        environ = {"SYSTEMROOT": os.environ["SYSTEMROOT"], **environ}
    done = subprocess.run(
        [str(part) for part in command], env=environ, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def started(python: str | Path, *arguments: str | Path, environ: Mapping[str, str], cwd: Path) -> Changes:
    """Start Python on something that dumps its variables (`DUMP`); return those that have changed.

    It must be as silent as without us.
    """
    command = [str(python), *map(str, arguments)]
    done = subprocess.run(command, env=environ, cwd=cwd, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), f"{command}: {done.returncode}\n{done.stderr}"
    after: dict[str, str] = json.loads(done.stdout)
    return changed(environ, after)


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> Changes:
    """Return the variables that differ, with their new values (None: gone)."""
    names = {*before, *after} - (_of_windows() - before.keys())
    return {name: after.get(name) for name in names if before.get(name) != after.get(name)}


@functools.cache
def _of_windows() -> set[str]:
    """Return the variables that a process on Windows has anyway."""
    code = [sys.executable, "-c", DUMP]
    return set(json.loads(run(code, {}))) if layout.WINDOWS else set()


def started_together(commands: Sequence[Sequence[str]]) -> list[subprocess.Popen[str]]:
    """Start programs, and let them continue once all of them have said that they are ready."""
    pipe = subprocess.PIPE
    found = [subprocess.Popen(it, text=True, stdin=pipe, stdout=pipe, stderr=pipe) for it in commands]
    for one in found:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in found:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    return found


class Shared:
    """What one test run makes once for all its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.environ = variables(folder)

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return the path *name* below the shared folder, on which one worker has run *make*."""
        path = self.folder / name
        complete = path.with_name(path.name + ".complete")
        with FileLock(f"{path}.lock"):
            if not complete.exists():
                make(path)
                complete.touch()
        return path

    @property
    def wheels(self) -> Path:
        """A folder with both wheels of the project."""

        def build(folder: Path) -> None:
            run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], self.environ, ROOT)

        return self.once("wheels", build)

    @property
    def wheel(self) -> Path:
        """The wheel for Python 3.9 to 3.17."""
        (found,) = self.wheels.glob("*-py39-none-any.whl")
        return found

    @property
    def start_wheel(self) -> Path:
        """The wheel for Python 3.18 and later."""
        (found,) = self.wheels.glob("*-py318-none-any.whl")
        return found

    @property
    def front_ends(self) -> Path:
        """A wheel with stand-ins for the front ends, which dump their variables."""

        def make(folder: Path) -> None:
            files = {f"{module}/__main__.py": DUMP for module in (*FRONT_END_MODULES, "other")}
            make_wheel(folder, "dumpers", "1", files)

        (found,) = self.once("front-ends", make).glob("*.whl")
        return found

    def environment(
        self, python: str, maker: str = "uv", nested: bool = False, shim: bool = True, isolated: bool = False
    ) -> Path:
        """Return an environment with the shim and `front_ends`, which tests must not change.

        Its wrapper is the installer's script, or, if it is to be *isolated*, what `launcher` makes of it.
        """

        def make(root: Path) -> None:
            start = python
            if nested:
                outer = root.with_name(root.name + "-outer")
                make_environment(maker, python, outer, self.environ)
                start = layout.interpreter(str(outer))
            make_environment(maker, start, root, self.environ)
            install(root, self.front_ends, *([self.wheel] if shim else []), environ=self.environ)
            if isolated:
                run([program_in(root, "pyo3-envshim"), "env"], self.environ)
            if layout.WINDOWS:  # where the store's folder is asked of it
                import platformdirs

                source = Path(platformdirs.__file__).parent
                shutil.copytree(source, site_packages(root) / "platformdirs")
            if shim:  # without a right to write, `launcher` leaves it as it is
                wrapper(root).chmod(0o555)
            if "COVERAGE_FILE" in os.environ:
                measure(root, os.environ["COVERAGE_FILE"])

        words = [Path(python).name, maker, *["nested"] * nested, *["bare"] * (not shim)]
        words += ["isolated"] * isolated
        return self.once("-".join(words), make)


def make_environment(maker: str, python: str | Path, root: Path, environ: Mapping[str, str]) -> Path:
    """Make an environment without pip at *root*, with venv, virtualenv or uv; return *root*."""
    commands: dict[str, list[str | Path]] = {
        "venv": [python, "-m", "venv", "--without-pip", root],
        "virtualenv": [sys.executable, "-m", "virtualenv", "-q", "--no-seed", "-p", python, root],
        "uv": [uv.find_uv_bin(), "venv", "-q", "--no-project", "-p", python, root],
    }
    run(commands[maker], environ)
    return root


def install(root: Path, *wheels: Path, environ: Mapping[str, str], installer: str = "uv") -> None:
    """Install wheels, without what they depend on, into the environment at *root*."""
    python = layout.interpreter(str(root))
    command: list[str | Path] = [uv.find_uv_bin(), "pip", "install", "-q", "--python", python]
    if installer == "pip":
        command = [sys.executable, "-m", "pip", "-q", "--python", python, "install", "--no-compile"]
    run([*command, "--no-deps", *wheels], environ)


def measure(root: Path, data: str) -> None:
    """Let coverage measure what runs in the environment at *root*, if it is one of this Python."""
    if site_packages(root).parent.name == f"python{sys.version_info[0]}.{sys.version_info[1]}":
        given = str(Path(coverage.__file__).parents[1]), str(ROOT / "pyproject.toml"), data
        text = f"{COVERAGE.read_text()}\nmeasure{given}\n"
        line = f"import os; exec({text!r}, {{}})\n"
        (site_packages(root) / "a_measured.pth").write_text(line)
        recorder = site_packages(root) / "pyo3_envshim" / "cli" / "explain" / "recorder.py"
        if recorder.exists():  # it runs in an interpreter that reads no .pth files
            wrapper(root).chmod(0o555)  # and so would the wrapper, if `launcher` might write to it
            recorder.write_text(f"{recorder.read_text()}\n{line}")


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, str | bytes],
    scripts: Mapping[str, str] | None = None,
) -> Path:
    """Write a wheel of *files*, with *scripts* (name to ``module:object``) as entry points."""
    info = f"{name}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if scripts:
        lines = [f"{script} = {reference}\n" for script, reference in scripts.items()]
        contents[f"{info}/entry_points.txt"] = "".join(["[console_scripts]\n", *lines])
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in contents.items():
            data = content.encode() if isinstance(content, str) else content
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o100755 if ".data/scripts/" in path else 0o100644) << 16
            archive.writestr(entry, data)
            rows.writerow([path, record_hash(data), len(data)])
        rows.writerow([f"{info}/RECORD", "", ""])
        archive.writestr(f"{info}/RECORD", record.getvalue())
    return wheel


def record_hash(data: bytes) -> str:
    """Return the hash of *data* as a RECORD has it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def site_packages(root: Path) -> Path:
    """Return the site-packages of the environment at *root*."""
    (found,) = root.glob("Lib/site-packages" if layout.WINDOWS else "lib/python3.*/site-packages")
    return found


def program_in(root: Path, name: str) -> Path:
    """Return the path of a script, or of the interpreter, in the environment at *root*."""
    return root / layout.scripts() / (name + ".exe" if layout.WINDOWS else name)


def wrapper(root: Path) -> Path:
    """Return the wrapper's script in the environment at *root*."""
    return program_in(root, "pyo3-envshim-cargo")


def script(path: Path, text: str) -> Path:
    """Write an executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def program(path: Path, code: str, command: str = "") -> Path:
    """Write a program that runs *code* with a Python's *command*; return its path, with .exe on Windows."""
    if not layout.WINDOWS:
        return script(path, f"#!{command or sys.executable + ' -IS'}\n{code}")
    path.parent.mkdir(parents=True, exist_ok=True)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("__main__.py", code)
    launcher = Path(distlib.__file__).with_name("t64.exe").read_bytes()
    path = path.with_name(path.name + ".exe")
    line = f"#!{command}\n" if command else f'#!"{sys.executable}" -IS\n'
    path.write_bytes(launcher + line.encode() + archive.getvalue())
    return path


def tree(root: Path) -> dict[str, bytes | str]:
    """Return what is in a folder: the content of files, and where links point to."""
    found: dict[str, bytes | str] = {}
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names):
            found[str(path.relative_to(root))] = os.readlink(path) if path.is_symlink() else path.read_bytes()
    return found


_FAKE_CARGO = """\
import json, os, sys
folder = {folder!r}
log = os.path.join(folder, "calls")
metadata = "metadata" in sys.argv
call = dict(arguments=sys.argv[1:], environ=dict(os.environ), cwd=os.getcwd(),
            input="" if metadata else sys.stdin.read())
with open(log, "a") as file:
    file.write(json.dumps(call) + "\\n")
if metadata:
    with open(os.path.join(folder, "metadata.json")) as file:
        sys.stdout.write(file.read())
    sys.exit()
with open(os.path.join(folder, "behaviour.json")) as file:
    behaviour = json.load(file)
if behaviour["out"]:
    print(behaviour["out"], end="", flush=True)
if behaviour["err"]:
    print(behaviour["err"], end="", flush=True, file=sys.stderr)
if behaviour["signal"]:
    os.kill(os.getpid(), behaviour["signal"])
sys.exit(behaviour["status"])
"""


class Call:
    """One call of a fake cargo."""

    def __init__(self, arguments: list[str], environ: dict[str, str], cwd: str, input: str) -> None:
        self.arguments = arguments
        self.environ = environ
        self.cwd = cwd
        self.input = input


class FakeCargo:
    """A program that records its calls, and behaves as it is told."""

    def __init__(self, folder: Path, name: str = "cargo") -> None:
        self.folder = folder
        self.path = program(folder / name, _FAKE_CARGO.format(folder=str(folder)))
        self.behaves()

    def behaves(self, out: str = "", err: str = "", status: int = 0, signal: int = 0) -> None:
        """Set what the next calls print and how they end."""
        behaviour = {"out": out, "err": err, "status": status, "signal": signal}
        (self.folder / "behaviour.json").write_text(json.dumps(behaviour))

    def answers(self, metadata: Mapping[str, Any]) -> None:
        """Set what ``cargo metadata`` answers; it fails before."""
        (self.folder / "metadata.json").write_text(json.dumps(metadata))

    @property
    def all_calls(self) -> list[Call]:
        """All calls so far."""
        log = self.folder / "calls"
        return [Call(**json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def calls(self) -> list[Call]:
        """All calls so far but those for ``cargo metadata``."""
        return [call for call in self.all_calls if "metadata" not in call.arguments]

    @property
    def call(self) -> Call:
        """The only call so far but those for ``cargo metadata``."""
        (found,) = self.calls
        return found


def write_crate(folder: Path, name: str, dependencies: str) -> None:
    """Write an empty library, with the text of its dependencies."""
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "lib.rs").touch()
    package = f'[package]\nname = "{name}"\nversion = "0.1.0"\n\n[dependencies]\n{dependencies}\n'
    (folder / "Cargo.toml").write_text(package)


@contextlib.contextmanager
def standard_input(content: bytes) -> Iterator[None]:
    """Let this process, and what it starts, read *content*."""
    kept = os.dup(0)
    with tempfile.TemporaryFile() as given:
        given.write(content)
        given.seek(0)
        os.dup2(given.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
