"""Interpreters that few machines have, in the Debian sid folder of scripts/maintain/bring-interpreters."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from support import BROUGHT, CHECKOUT
from support.recording_cargo import RecordingCargo

from . import matrix
from .matrix import SID, Cell, Record
from .workshop import Bench, Shared, real_cargo, run, small_environment

_SCRIPT = CHECKOUT / "scripts" / "maintain" / "bring-interpreters"
_FOLDER = BROUGHT / "sid"
_MAKERS = ("venv", "virtualenv", "uv")
_IN_A_BUILD = {"_PYPROJECT_HOOKS_BUILD_BACKEND": "maturin"}

_DUMP = "import json, os, sys\njson.dump(dict(os.environ), sys.stdout)\n"
_IDENTITY = """\
import os, sys
print(sys.version, sys.base_prefix, sys.base_exec_prefix, os.path.realpath(sys.executable), sep="\\n")
"""


class Sid:
    """The folder, for one interpreter in it."""

    def __init__(self, shared: Shared, python: str, name: str) -> None:
        self.shared = shared
        self.python = python
        self.name = name
        script = ("sh", "-c", 'PATH=$PATH:/usr/sbin exec "$0" "$@"', str(_SCRIPT))  # chroot is there
        self.enter = (*script, "--enter", "--bind", str(shared.folder.parent), str(_FOLDER), "--")
        # HOME is this machine's, where nothing may be written to; hosts need uv's cache inside
        self.environ = small_environment() | {"UV_PYTHON_DOWNLOADS": "never", "UV_LINK_MODE": "copy"}

    def run(self, *command: str | Path, **variables: str) -> str:
        """Run a command inside; return what it printed on both streams."""
        return run([*self.enter, *map(str, command)], self.environ | variables)

    def environment(self, maker: str, nested: bool, hook: str) -> Path:
        """Return an environment of the interpreter with the shim in it, made by the first who asks."""

        def make(root: Path) -> None:
            start = self.python
            if nested:
                outer = root.with_name(root.name + "-outer")
                self._make(maker, start, outer)
                start = str(outer / "bin" / "python")
            self._make(maker, start, root)
            uv = str(self.shared.plain.folder / "bin" / "uv")
            python = str(root / "bin" / "python")
            self.run(uv, "pip", "install", "-q", "--no-deps", "--offline", "-p", python, self.shared.shim)
            (pth,) = root.glob("lib/*/site-packages/pyo3_envshim.pth")
            if hook != "pth":
                shutil.copyfile(CHECKOUT / "hooks" / "pyo3_envshim.start", pth.with_suffix(".start"))
            if hook == "start":
                pth.unlink()

        name = "-".join(["sid", self.name.replace(" ", "-"), maker, hook, *["nested"] * nested])
        return self.shared.once(name, make)

    def _make(self, maker: str, python: str, root: Path) -> None:
        commands = {
            "venv": [python, "-m", "venv", "--without-pip"],
            "virtualenv": [self._virtualenv(), "-m", "virtualenv", "-q", "--no-seed", "-p", python],
            "uv": [str(self.shared.plain.folder / "bin" / "uv"), "venv", "-q", "--no-project", "-p", python],
        }
        self.run(*commands[maker], root)

    def _virtualenv(self) -> str:
        host = self.shared.host("virtualenv", shimmed=False, python=self.python, enter=self.enter)
        return str(host.python)

    def started(self, root: Path, *arguments: str, **variables: str) -> Mapping[str, str | None]:
        """Start an environment's Python; return the variables that it changed. It must print nothing else."""
        told = {}
        for words in (["-I", "-S"], []):  # without any hook, and with ours
            dump = arguments or ("-c", _DUMP)
            dump = ("-c", _DUMP) if words else dump
            told[bool(words)] = json.loads(self.run(root / "bin" / "python", *words, *dump, **variables))
        before, after = told[True], told[False]
        names = {*before, *after}
        return {name: after.get(name) for name in names if before.get(name) != after.get(name)}

    def assert_is_base_of(self, root: Path, base: str | None) -> None:
        """Check that *base* is outside of any environment, and the interpreter *root* was made from."""
        assert base is not None
        assert not (_FOLDER / Path(base).parents[1].relative_to("/") / "pyvenv.cfg").exists()
        here = self.shared.folder
        assert here not in Path(base).parents
        assert self.run(base, "-c", _IDENTITY) == self.run(self.python, "-c", _IDENTITY)


def _interpreter(name: str) -> str:
    """Return the path inside of an interpreter, or skip the test."""
    if os.geteuid() != 0:
        pytest.skip("only root can chroot into the Debian sid folder")
    if not (_FOLDER / "etc" / "debian_version").exists():
        pytest.skip(f"there is no {_FOLDER}: scripts/maintain/bring-interpreters makes it")
    if Path.home() / ".cargo" not in Path(real_cargo()).parents:
        pytest.skip("scripts/maintain/bring-interpreters takes cargo along from ~/.cargo only")
    place = SID[name][0]
    if not (_FOLDER / place).exists():
        pytest.skip(f"the Debian sid folder has no {place}")
    return "/" + place


@pytest.fixture(params=SID)
def sid(request: pytest.FixtureRequest, shared: Shared) -> Sid:
    """Return the folder for each interpreter in it."""
    return Sid(shared, _interpreter(request.param), request.param)


class TestTheHook:
    """What the startup hook does there."""

    @pytest.mark.parametrize("nested", [False, True], ids=["", "nested"])
    @pytest.mark.parametrize("maker", _MAKERS)
    def test_names_the_base_interpreter(self, sid: Sid, maker: str, nested: bool) -> None:
        root = sid.environment(maker, nested, "pth")
        changes = sid.started(root, **_IN_A_BUILD)
        base = changes["PYO3_BASE_PYTHON"]
        wrapper = str(root / "bin" / "pyo3-envshim-cargo")
        assert changes == {"PYO3_BASE_PYTHON": base, "PYO3_ENVSHIM_BASE": base, "CARGO": wrapper}
        sid.assert_is_base_of(root, base)

    @pytest.mark.parametrize("hook", ["pth", "pth-and-start", "start"])
    def test_is_silent_and_right(self, sid: Sid, hook: str, tmp_path: Path) -> None:
        """Before 3.15 a `.start` file is just a file."""
        if hook == "start" and sid.name != "3.15":
            pytest.skip(f"{sid.name} knows no .start files")
        root = sid.environment("venv", nested=False, hook=hook)
        named = {"PYO3_BASE_PYTHON", "PYO3_ENVSHIM_BASE", "CARGO"}
        assert set(sid.started(root, **_IN_A_BUILD)) == named
        assert sid.started(root) == {}
        assert sid.started(root, PYO3_ENVSHIM="off", **_IN_A_BUILD) == {}
        assert set(sid.started(root, PYO3_ENVSHIM="base", **_IN_A_BUILD)) == named - {"CARGO"}
        front_end = tmp_path / "build"
        front_end.mkdir()
        (front_end / "__main__.py").write_text(_DUMP)
        assert set(sid.started(root, str(front_end))) == {"CARGO"}


@pytest.mark.parametrize("cell", list(matrix.sid_cells()), ids=str)
def test_a_second_build_recompiles_nothing_and_the_wheel_is_the_same(
    bench: Bench, cell: Cell, record_property: Record
) -> None:
    sid = Sid(bench.shared, _interpreter(cell.interpreter), cell.interpreter)
    bench.enter = sid.enter
    recording = bench.folder / "recording-in-sid" / "cargo"
    bench.cargo = RecordingCargo(recording, real_cargo(), _interpreter("3.14"))
    matrix.check(bench, cell, sid.python, record_property)
