"""Processes on Windows: how the wrapper waits for cargo, and ends as it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyo3_envshim import _startup, subprocesses
from pyo3_envshim.call import CargoCall
from pyo3_envshim.cargo.command_line import find_cargo
from pyo3_envshim.cargo.metadata import Query
from unit.environments import ROOT, FakeCargo, Shared, program, program_in, run

ACCESS_VIOLATION = 0xC0000005


@pytest.fixture
def cargo(tmp_path: Path) -> FakeCargo:
    return FakeCargo(tmp_path / "a bin")


def test_cargo_is_asked_where_it_works(cargo: FakeCargo) -> None:
    """Fault 1: what there is to wait for is not a process number."""
    answer = {"workspace_root": "Z:\\w", "target_directory": "Z:\\w\\target", "packages": []}
    cargo.answers(answer)
    with Query(CargoCall(str(cargo.path), ["build"], os.environ)) as query:
        assert query.answer() == answer


@pytest.mark.parametrize("status", [0, 1, 101, ACCESS_VIOLATION])
def test_the_exit_status_is_cargos(status: int, tmp_path: Path) -> None:
    """Fault 8: `sys.exit` takes a number with a sign."""
    ends = program(tmp_path / "ends", f"import os; os._exit({status - (status >> 31 << 32)})")
    run = f"run_and_wait({str(ends)!r}, [], None)"
    code = f"import sys; from pyo3_envshim import subprocesses as it; sys.exit(it.{run})"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == status
    assert subprocesses.end_as(subprocesses.ended(subprocess.Popen([str(ends)]))) % (1 << 32) == status


def wrapping(python: str, *command: str) -> subprocess.Popen[str]:
    """Start a process that runs a command as the wrapper runs cargo; return it when that says "here"."""
    run = f"it.run_and_wait({command[0]!r}, {command[1:]!r}, None)"
    code = f"from pyo3_envshim import subprocesses as it; {run}"
    pipe = subprocess.PIPE
    wrapper = subprocess.Popen([python, "-c", code], cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
    assert wrapper.stdout is not None
    assert wrapper.stdout.readline() == "here\n"
    return wrapper


def test_cargo_ends_if_the_wrapper_is_killed(a_python: str) -> None:
    """Fault 13."""
    waits = "import sys; print('here', flush=True); sys.stdin.read(); print('left', flush=True)"
    wrapper = wrapping(a_python, a_python, "-IS", "-c", waits)
    wrapper.kill()
    wrapper.wait()
    assert wrapper.communicate()[0] == ""  # if cargo is there still, it goes on now


def test_what_cargo_leaves_running_lives_on(a_python: str) -> None:
    """A server of sccache's, say, which other builds use; and the linker's own.

    cargo puts itself into a job, which is within ours then, so that nothing it starts leaves either.
    """
    daemon = "import sys; print('here', flush=True); sys.stdin.read(); print('lives', flush=True)"
    cargo = f"""\
import subprocess, sys
from pyo3_envshim import windows
class Me:
    _handle = windows._kernel32.GetCurrentProcess()
    if _handle < 0: _handle += 1 << 64
job = windows.end_together(Me)
windows._limit(job, 0x2000)
subprocess.Popen([sys._base_executable, "-IS", "-c", {daemon!r}])
windows.let_live(job)
"""
    wrapper = wrapping(a_python, a_python, "-c", cargo)
    assert wrapper.wait() == 0
    assert wrapper.communicate()[0] == "lives\n"


@pytest.mark.parametrize("quoted", [False, True])
def test_cargo_is_found_on_path(quoted: bool, cargo: FakeCargo, tmp_path: Path) -> None:
    """Fault 9: as Rust's library searches, and not in the working directory."""
    here = FakeCargo(tmp_path / "here")
    folder = f'"{cargo.path.parent}"' if quoted else str(cargo.path.parent)
    environ = {"PATH": f";{tmp_path};;{folder};{here.path.parent}"}
    before = os.getcwd()
    os.chdir(here.path.parent)
    try:
        assert find_cargo(environ, environ) == str(cargo.path)
    finally:
        os.chdir(before)


@pytest.mark.parametrize("name", ["pyproject-build.EXE", "PIP3.exe", "pip3.12.EXE", "Poetry.Exe"])
def test_a_front_end_is_recognised_in_any_case(name: str) -> None:
    """Fault 7: who finds a program takes its ending from PATHEXT, which has capitals."""
    argv = [sys.executable, rf"C:\some where\Scripts\{name}", "--wheel"]
    assert _startup.program_of(argv) in _startup.PROGRAMS


@pytest.mark.parametrize("status", [0, 3])
def test_run_passes_arguments_input_and_status_on(
    status: int, shared: Shared, a_python: str, environ: dict[str, str]
) -> None:
    root = shared.environment(a_python)
    odd = ["a b", "--", "-x", 'a "quoted" word', "back\\slash\\", "%PATH%", "*", "\u00fc\u4e2d"]
    code = "import json, os, sys; it = [sys.stdin.read(), *sys.argv[1:], os.environ['CARGO']]"
    code += f"; sys.stdout.buffer.write(json.dumps(it).encode()); sys.exit({status})"
    command = [str(program_in(root, "pyo3-envshim")), "run", "--", a_python, "-c", code, *odd]
    done = subprocess.run(command, env=environ, input=b"in", capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (status, b"")
    assert json.loads(done.stdout) == ["in", *odd, str(program_in(root, "pyo3-envshim-cargo"))]


def test_env_speaks_powershell(shared: Shared, a_python: str, environ: dict[str, str]) -> None:
    root = shared.environment(a_python)
    said = run([program_in(root, "pyo3-envshim"), "env"], {**environ, "CARGO": r"C:\own\cargo.exe"})
    assert said.splitlines() == [
        f"$env:CARGO = '{program_in(root, 'pyo3-envshim-cargo')}'",
        r"$env:PYO3_ENVSHIM_CARGO = 'C:\own\cargo.exe'",
    ]
