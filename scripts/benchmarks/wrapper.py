"""What one wrapped cargo call costs over the bare one, and where the time goes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.building import Failure, find_cargo
from support import CHECKOUT
from support.recording_cargo import RecordingCargo

from .common import Found, Setting, Target, make_environment, median, run, site_packages, the_same
from .startup import instructions

TITLE = "Wrapper: one wrapped cargo call over the bare one"
ABOUT = """
Wall time of a call of the wrapper less that of the bare cargo (`cargo metadata --no-deps`, or `cargo
build` with nothing to compile, of a crate without dependencies), measured in turn; medians. The unit is
`python -c pass` in the environment of the wrapper. The wrapper's script is the one that starts Python
isolated, which people have from the second build on: a Python without site, it can be cheaper. Instructions
(callgrind, where it is installed) are those of Python up to the point where the wrapper becomes cargo, of
calls that compute no digest: valgrind has no SHA instructions. Before
anything is timed, each call is seen to run the same cargo with the same arguments as the bare one, and
to treat the environment as its row says. *being stored*: into an empty store, which knows nothing of the
interpreter either. *50,000 files beside it*: in a folder with as many files that no crate reads.
"""
NEEDS = ("cargo",)

_CRATE = {
    "Cargo.toml": '[package]\nname = "trivial"\nversion = "0.1.0"\nedition = "2021"\n',
    "src/lib.rs": "",
}
_METADATA = ("metadata", "--no-deps", "--offline", "--format-version", "1")
_BUILD = ("build", "-q")
_UNIT = "python -c pass"
_PRESENT = "entry present"
FILES = 50_000
GROWTH = 1.05
_CROWDED = f"{_PRESENT}, {FILES:,} files beside it"

# Up to the point where it becomes cargo.
_UP_TO_CARGO = """
import sys
sys.path.append({site!r})
from pyo3_envshim import call, wrapper
call.run = lambda *it: 0
wrapper.main()
"""
# The same in parts. BENCH_MODULES: all modules of such a call, to import them in a part of its own.
_PARTS = """
import json, os, sys, time
sys.path.append(os.environ.pop("BENCH_SITE"))
from importlib import import_module
spent, began = {}, time.perf_counter()
for name in os.environ.pop("BENCH_MODULES", "").split():
    import_module(name)
from pyo3_envshim import call, freshness, wrapper
from pyo3_envshim.cargo import metadata
from pyo3_envshim.environment import digest
from pyo3_envshim.store import store
spent["imports"] = time.perf_counter() - began
def timed(owner, name, label):
    plain = getattr(owner, name)
    def timed_call(*arguments):
        start = time.perf_counter()
        try:
            return plain(*arguments)
        finally:
            spent[label] = spent.get(label, 0) + time.perf_counter() - start
    setattr(owner, name, timed_call)
timed(digest, "read", "digest")
timed(store.Store, "acquire", "looking at the entry")
timed(metadata.Query, "_finish", "waiting for cargo metadata")
timed(freshness, "nonce_for", "freshness guard")
def end(*call):
    spent["all else"] = time.perf_counter() - began - sum(spent.values())
    print(json.dumps([spent, sorted(sys.modules)]))
    return 0
call.run = end
wrapper.main()
"""


@dataclass(frozen=True)
class Call:
    """A call, wrapped or bare. *says*: how the wrapper's line about it begins.

    Its targets: *units* over the bare call, in time, and in all in *instructions*. *crowded*: in the crate
    with many files that no crate reads, where it may take `GROWTH` of the call without.
    """

    name: str
    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    wrapped: bool = True
    says: str = ""
    units: float | None = None
    instructions: float = 0
    asks_cargo: bool = False
    crowded: bool = False

    @property
    def bare(self) -> str:
        """The bare call that it is compared with."""
        return f"cargo {self.arguments[0]}"


def steps(setting: Setting) -> int:
    """Return how many steps it takes."""
    return 3 + _rounds(setting)


def _rounds(setting: Setting) -> int:
    return setting.rounds or (3 if setting.quick else 60)


class Scene:
    """An environment with the shim, one that a front end made, and a crate."""

    def __init__(self, setting: Setting, python: str) -> None:
        folder = setting.folder
        setting.progress.step("making environments")
        self.folder, self.cargo = folder, find_cargo()
        self.store, self.crate = folder / "store", folder / "crate"
        self.python = make_environment(folder / "host", python, str(CHECKOUT))
        self.site = site_packages(folder / "host")
        self.wrapper = self.python.with_name("pyo3-envshim-cargo")
        run([self.python.with_name("pyo3-envshim"), "env"], folder)
        self.is_isolated = self.wrapper.read_text().partition("\n")[0].endswith(" -IS")
        # As build makes them: without pip, in such a folder.
        self.ephemeral = Path(tempfile.mkdtemp(prefix="build-env-", dir=folder))
        run([python, "-m", "venv", "--without-pip", self.ephemeral], folder)
        pip = [self.python, "-m", "pip", "--python", self.ephemeral, "install", "-q", "--no-compile"]
        run([*map(str, pip), "maturin"], folder)
        self.crowded = folder / "crowded"
        for crate in (self.crate, self.crowded):
            for name, text in _CRATE.items():
                (crate / name).parent.mkdir(parents=True, exist_ok=True)
                (crate / name).write_text(text)
        for number in range(FILES):
            file = self.crowded / "node_modules" / str(number // 100) / f"{number}.js"
            if number % 100 == 0:
                file.parent.mkdir(parents=True)
            file.touch()

    def place(self, call: Call) -> Path:
        """Return where a call works."""
        return self.crowded if call.crowded else self.crate

    def calls(self) -> list[Call]:
        """Return what is measured: the bare calls first."""
        path = os.pathsep.join([str(Path(self.cargo).parent), os.environ.get("PATH", os.defpath)])
        kept = {
            name: os.environ[name] for name in ("HOME", "CARGO_HOME", "RUSTUP_HOME") if name in os.environ
        }
        bare = {
            **kept,
            "PATH": path,
            "LC_ALL": "C.UTF-8",
            "PYO3_ENVSHIM_CACHE_DIR": str(self.store),
            "_PYPROJECT_HOOKS_BUILD_BACKEND": "maturin",
            "TMPDIR": str(self.folder),
        }
        served = {**bare, "PYO3_PYTHON": str(self.ephemeral / "bin" / "python")}
        own = {**bare, "PYO3_PYTHON": str(self.python)}
        off = {**served, "PYO3_ENVSHIM": "off"}
        environment = "pyo3-envshim: environment"
        return [
            Call("cargo metadata", _METADATA, bare, wrapped=False),
            Call("cargo build", _BUILD, bare, wrapped=False),
            Call("does not compile", _METADATA, served, units=0.65, instructions=1.1),
            Call("switched off", _BUILD, off, units=0.75, instructions=1.1),
            Call(
                "not an ephemeral environment",
                _BUILD,
                own,
                says="pyo3-envshim: left alone",
                units=1,
                asks_cargo=True,
            ),
            Call(_PRESENT, _BUILD, served, says=environment, units=1.4, asks_cargo=True),
            Call(_CROWDED, _BUILD, served, says=environment, asks_cargo=True, crowded=True),
            Call("being stored", _BUILD, served, says=environment, asks_cargo=True),
        ]

    def before(self, call: Call) -> None:
        """Set the scene for a call."""
        if call.name == "being stored":
            shutil.rmtree(self.store, ignore_errors=True)

    def command(self, call: Call) -> list[str]:
        """Return a call's command line."""
        return [str(self.wrapper) if call.wrapped else self.cargo, *call.arguments]

    def time(self, command: list[str], environ: Mapping[str, str], folder: Path | None = None) -> float:
        """Run a command, in the crate or in *folder*; return the milliseconds it took."""
        start = time.perf_counter()
        done = subprocess.run(
            command, env=environ, cwd=folder or self.crate, stdout=subprocess.DEVNULL, check=False
        )
        spent = time.perf_counter() - start
        if done.returncode:
            raise Failure(f"`{' '.join(command)}` ended with {done.returncode}")
        return spent * 1000

    def check(self, calls: list[Call]) -> None:
        """Make sure that all calls run the same cargo alike, and that each is treated as it should be."""
        recording = RecordingCargo(self.folder / "recording" / "cargo", self.cargo)
        did: dict[str, dict[str, object]] = {}
        for call in calls:
            self.before(call)
            environ = {**call.environ, "PYO3_ENVSHIM_VERBOSE": "1"}
            environ["PATH"] = f"{recording.executable.parent}{os.pathsep}{environ['PATH']}"
            command = [str(self.wrapper) if call.wrapped else str(recording.executable), *call.arguments]
            said = run(command, self.place(call), environ)
            ends = {_PRESENT: " reused: ", _CROWDED: " reused: ", "being stored": " stored: "}
            end = ends.get(call.name, "")
            about = next((line for line in said.splitlines() if line.startswith("pyo3-envshim: ")), "")
            if not (about.startswith(call.says) and end in about and bool(about) == bool(call.says)):
                raise Failure(f"{call.name}: the wrapper says {about!r}")
            ran = [(it.arguments, it.folder == str(self.place(call))) for it in recording.take_calls()]
            if call.asks_cargo:
                ran = [it for it in ran if it != (_ASKED, True)]
            did.setdefault(call.bare, {})[call.name] = ran
        for bare, given in did.items():
            the_same(f"{bare}: what cargo was given", given)


_ASKED = ("metadata", "--format-version", "1", "--no-deps", "--offline")


def measure(setting: Setting) -> Found:
    """Time all calls in turn."""
    scene = Scene(setting, setting.pythons[0])
    calls = scene.calls()
    setting.progress.step("seeing what each call does")
    present = next(call for call in calls if call.name == _PRESENT)
    for place in (scene.crate, scene.crowded):
        scene.time(scene.command(present), present.environ, place)  # now it is, and all is compiled
    scene.check(calls)
    setting.progress.step("counting instructions" if shutil.which("valgrind") else "no valgrind to count")
    counts = _instructions(scene, calls) if shutil.which("valgrind") else {}
    unit_command = [str(scene.python), "-c", "pass"]
    times: dict[str, list[float]] = {name: [] for name in (_UNIT, *(call.name for call in calls))}
    parts: dict[str, list[float]] = {}
    modules = ""
    for number in range(_rounds(setting)):
        setting.progress.step(f"round {number + 1}")
        times[_UNIT].append(scene.time(unit_command, calls[0].environ))
        for call in calls:
            scene.before(call)
            times[call.name].append(scene.time(scene.command(call), call.environ, scene.place(call)))
        found = run(
            [scene.python, "-IS", "-c", _PARTS, *_BUILD],
            scene.crate,
            {**present.environ, "BENCH_MODULES": modules, "BENCH_SITE": str(scene.site)},
        )
        spent, imported = json.loads(found)
        if modules:  # not in the first round, which tells them
            for part, seconds in spent.items():
                parts.setdefault(part, []).append(seconds * 1000)
        modules = " ".join(name for name in imported if name != "__main__")
    result = _found(calls, times, parts, counts, _versions(scene))
    if not scene.is_isolated:
        result.notes.append(
            "The script is the installer's: the temporary folder's path is too long for ours."
        )
    return result


def _instructions(scene: Scene, calls: list[Call]) -> dict[str, int]:
    """Return the instructions of each wrapped call, and of the unit."""
    python = str(scene.python)
    counts = {_UNIT: instructions([python, "-c", "pass"])}
    for call in calls:
        if (
            call.wrapped and not call.asks_cargo
        ):  # valgrind has no SHA instructions: the digest would tell lies
            code = _UP_TO_CARGO.format(site=str(scene.site))
            command = [python, "-IS", "-c", code, *call.arguments]
            counts[call.name] = instructions(command, str(scene.crate), **call.environ)
    return counts


def _found(
    calls: list[Call],
    times: Mapping[str, list[float]],
    parts: Mapping[str, list[float]],
    counts: Mapping[str, int],
    versions: dict[str, str],
) -> Found:
    """Return the table: medians, and those of the differences within a round."""
    unit = median(times[_UNIT])
    rows, targets = [], []
    series = {}
    query = median(times["cargo metadata"]) / unit
    for name, found in times.items():
        call = next((it for it in calls if it.name == name and it.wrapped), None)
        over = median([it - bare for it, bare in zip(found, times[call.bare])]) if call else None
        row = {"call": name, "ms": median(found), "over bare, ms": over, "in units": None}
        rows.append({**row, "instructions": counts.get(name)})
        if call is None or over is None:
            continue
        rows[-1]["in units"] = series[name] = over / unit
        if call.crowded:
            growth = median([it / without for it, without in zip(found, times[_PRESENT])])
            targets.append(Target(f"{name}: the call, by that without them", growth, GROWTH))
        if call.units is not None:
            if name in counts:
                text = f"{name}: instructions in units of `{_UNIT}`"
                targets.append(Target(text, counts[name] / counts[_UNIT], call.instructions, timed=False))
            limit = call.units + query * call.asks_cargo
            text = (
                f"{name}: over bare in units of `{_UNIT}`" + ", one cargo metadata allowed" * call.asks_cargo
            )
            targets.append(Target(text, over / unit, limit))
    spent = {"Python's own start": unit, **{part: median(found) for part, found in parts.items()}}
    for part, milliseconds in spent.items():
        rows.append(
            {"call": f"entry present: {part}", "ms": milliseconds, "over bare, ms": None}
            | {"in units": milliseconds / unit, "instructions": None}
        )
    chart = {
        "kind": "bars",
        "x": f"cost over the bare call, in units of `{_UNIT}`",
        "series": {"cost": series},
    }
    return Found(rows, targets, chart, versions)


def _versions(scene: Scene) -> dict[str, str]:
    version = run([scene.python, "-c", "import platform; print(platform.python_version())"], scene.folder)
    return {"CPython": version.strip(), "cargo": run([scene.cargo, "--version"], scene.folder).split()[1]}
