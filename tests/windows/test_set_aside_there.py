"""Setting aside on Windows: two interpreters in turns, with the wrapper as it is installed; what is open."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pyo3_envshim.cargo.metadata import Workspace
from pyo3_envshim.set_aside import exchange
from pyo3_envshim.store.lock import Locks
from unit.environments import make_environment, program_in
from unit.fabricated_cargo import Fabricated

from .bench import ALL, Bench


class Turns:
    """A project, two interpreters, and cargo calls through the wrapper with either."""

    def __init__(self, bench: Bench, python: str) -> None:
        self.bench = bench
        bench.has("maturin")
        self.roots = {}
        for name in ("one", "two"):
            self.roots[name] = make_environment("venv", python, bench.folder / name, bench.environ)
        self.said = ""

    def cargo(self, name: str, by: str = "PYO3_PYTHON", **more: str) -> set[str]:
        """Compile with an interpreter; return what was compiled, and check that it is of that one."""
        root = self.roots[name]
        value = str(program_in(root, "python") if by == "PYO3_PYTHON" else root)
        environ = {**self.bench.environ, "STANDIN_TELLS": "1", "PYO3_ENVSHIM_VERBOSE": "1", by: value, **more}
        wrapper = program_in(self.bench.host, "pyo3-envshim-cargo")
        self.bench.log.unlink(missing_ok=True)
        done = subprocess.run(
            [str(wrapper), "build", "--release"],
            env=environ, cwd=self.bench.project, capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.said = done.stderr
        assert done.returncode == 0, done.stderr
        made = (self.bench.project / "target" / "release" / "tiny.dll").read_bytes()
        assert made.endswith(value.encode()), self.said
        calls = [json.loads(line) for line in self.bench.log.read_text("utf-8").splitlines()]
        return {unit for call in calls for unit in call["compiled"] or ()}

    @property
    def deps(self) -> Path:
        return self.bench.project / "target" / "release" / "deps"


@pytest.fixture
def turns(bench: Bench, a_python: str) -> Turns:
    return Turns(bench, a_python)


def test_each_finds_its_own_units_again(turns: Turns) -> None:
    assert turns.cargo("one") == ALL
    assert turns.cargo("two") == ALL
    for name in ("one", "two", "two", "one"):
        assert turns.cargo(name) == set(), turns.said


def test_a_variable_that_a_build_script_writes_in_small_letters_is_the_same_one(turns: Turns) -> None:
    """Python has the names of variables in capitals."""
    version = {"VISUALSTUDIOVERSION": "17.0"}
    turns.cargo("one", **version)
    assert turns.cargo("one", **version) == set()
    assert "set aside" not in turns.said
    turns.cargo("two", **version)
    assert turns.cargo("one", **version) == set()
    assert turns.cargo("one", VISUALSTUDIOVERSION="18.0") == ALL
    assert turns.cargo("one", **version) == set()


def test_another_interpreter_in_the_same_environment_gets_nothing_of_the_old_ones(turns: Turns) -> None:
    """It is in Scripts there, and VIRTUAL_ENV alone names it."""
    turns.cargo("one", "VIRTUAL_ENV")
    turns.cargo("two", "VIRTUAL_ENV")
    python = program_in(turns.roots["one"], "python")
    with open(python, "ab") as file:
        file.write(b"built anew")
    assert turns.cargo("one", "VIRTUAL_ENV") == ALL
    assert turns.cargo("two", "VIRTUAL_ENV") == set()


@pytest.mark.parametrize("held", ["libpyo3-*.rlib", "tiny.dll"])
def test_a_file_that_is_open_cannot_be_moved_and_nothing_else_is(turns: Turns, held: str) -> None:
    """What is open to somebody else, as to a scanner, cannot be renamed."""
    turns.cargo("one")
    (path,) = turns.deps.glob(held)
    with open(path, "rb"):
        assert turns.cargo("two") == ALL
    assert turns.cargo("two") == set()
    turns.cargo("one")
    assert turns.cargo("two") == set()
    assert turns.cargo("one") == set()


def test_a_set_of_which_a_file_is_open_does_not_come_back_by_halves(turns: Turns) -> None:
    for name in ("one", "two"):
        turns.cargo(name)
    (path,) = turns.deps.parent.glob(".envshim-sets/*/release/deps/libpyo3-*.rlib")
    with open(path, "rb"):
        assert turns.cargo("one") <= ALL
    turns.cargo("two")
    turns.cargo("one")
    for name in ("two", "one"):
        assert turns.cargo(name) == set()


def test_while_another_cargo_works_nothing_is_moved(turns: Turns) -> None:
    turns.cargo("one")
    before = sorted(os.listdir(turns.deps))
    root = str(turns.bench.project)
    answer = {"workspace_root": root, "target_directory": os.path.join(root, "target"), "packages": []}
    with Locks([str(turns.deps.parent / ".cargo-lock")]) as locked:  # a handle of its own: as another process
        assert locked
        done = exchange({"PYO3_PYTHON": "other"}, Workspace(answer, [], ["build", "--release"]))
    assert "another process has locked the build folder" in done.reason
    assert sorted(os.listdir(turns.deps)) == before


def test_a_running_test_stays_where_it_is(tmp_path: Path, a_python: str) -> None:
    """Windows renames a program that runs; cargo, which holds no lock, is about to start the next one."""
    there = Fabricated(tmp_path / "target")
    one, two = ({"PYO3_PYTHON": str(tmp_path / name)} for name in ("one", "two"))
    there.build_for(one, "test")
    test = there.outputs("test")[0]
    folder = os.path.dirname(a_python)
    shutil.copyfile(a_python, test)
    environ = {**os.environ, "PYTHONHOME": folder, "PATH": f"{folder};{os.environ['PATH']}"}
    pipe = subprocess.PIPE
    code = "print(1, flush=True); input()"
    running = subprocess.Popen([str(test), "-c", code], stdin=pipe, stdout=pipe, env=environ)
    assert running.stdout is not None
    assert running.stdout.readline()
    done = there.exchange(two)
    running.communicate(b"\n")
    assert "is in use" in done.reason
    assert test.exists()
