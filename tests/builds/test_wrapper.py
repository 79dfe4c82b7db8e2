"""The wrapper is cargo to whoever calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.front_ends import BUILD, PIP, PIP_VENV, FrontEnd
from support.interpreters import base_interpreter
from support.recording_cargo import RecordingCargo

from .workshop import Bench, real_cargo, run

_FAKE = """\
#!{python} -IS
import json, os, sys
if sys.argv[1:2] == ["metadata"]:
    os.execv({cargo!r}, ["cargo", *sys.argv[1:]])
sys.stdout.buffer.write(b"out " + sys.stdin.buffer.read())
sys.stdout.flush()
sys.stderr.write("{name} " + json.dumps([sys.argv[1:], dict(os.environ)]))
sys.stderr.flush()
if {killed_by}:
    os.kill(os.getpid(), {killed_by})
sys.exit({status})
"""

_ODD_ARGUMENTS = [
    "rustc",
    "--lib",
    "",
    "a b",
    "--",
    "-C",
    "link-arg='$x'",
    os.fsdecode(b"\xff\xfe"),
]


def _fake_cargo(bench: Bench, name: str = "fake", *, status: int = 0, killed_by: int = 0) -> Path:
    """Write a cargo that tells what it was given; return its folder."""
    executable = bench.folder / name / "cargo"
    executable.parent.mkdir()
    python = os.path.realpath(sys.executable)
    executable.write_text(
        _FAKE.format(python=python, cargo=real_cargo(), name=name, status=status, killed_by=killed_by)
    )
    executable.chmod(0o755)
    return executable.parent


def _ephemeral_environment(bench: Bench) -> dict[str, str]:
    """Make an environment as `build` does; return the variables of a build in it."""
    folder = Path(tempfile.mkdtemp(prefix="build-env-", dir=bench.temporary))
    run([base_interpreter(), "-m", "venv", "--without-pip", str(folder)], os.environ)
    (site,) = folder.glob("lib/python*/site-packages")
    (wheel,) = bench.shared.requirement("1").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return {
        "PYO3_PYTHON": str(folder / "bin" / "python"),
        "_PYPROJECT_HOOKS_BUILD_BACKEND": "maturin",
    }


@pytest.fixture(params=["outside a build", "in a build"])
def variables(request: pytest.FixtureRequest, bench: Bench) -> dict[str, str]:
    """Return the variables of a call, outside a build and in one."""
    return _ephemeral_environment(bench) if request.param == "in a build" else {}


def _call(
    bench: Bench,
    folders: list[Path],
    *arguments: str,
    stdin: bytes = b"",
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Call the wrapper in a project's folder, with these folders on PATH."""
    environment = {**bench.environment(), **(variables or {})}
    environment["PATH"] = os.pathsep.join(map(str, [*folders, "/usr/bin", "/bin"]))
    return subprocess.run(
        [str(bench.shimmed.wrapper), *arguments],
        cwd=bench.project(warm=False).folder,
        env=environment,
        input=stdin,
        capture_output=True,
        timeout=120,
    )


def _told(stderr: bytes) -> tuple[str, list[str], dict[str, str]]:
    """Return the name, the arguments and the variables that a fake cargo told, and nothing else."""
    name, _, told = stderr.decode().partition(" ")
    arguments, environment = json.loads(told)
    return name, arguments, environment


def test_arguments_and_streams_pass_through(bench: Bench, variables: dict[str, str]) -> None:
    folder = _fake_cargo(bench, status=37)
    result = _call(bench, [folder], *_ODD_ARGUMENTS, stdin=b"in\0\xff\n", variables=variables)
    assert result.stdout == b"out in\0\xff\n"
    _, arguments, environment = _told(result.stderr)
    assert arguments == _ODD_ARGUMENTS
    assert result.returncode == 37
    if variables:
        assert environment["PYO3_PYTHON"].startswith(str(bench.store))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_death_by_signal_is_the_callers_to_see(
    bench: Bench, variables: dict[str, str], number: signal.Signals
) -> None:
    folder = _fake_cargo(bench, killed_by=number)
    assert _call(bench, [folder], "build", variables=variables).returncode == -number


def test_cargo_is_found_on_the_path_of_the_call(bench: Bench) -> None:
    folders = [_fake_cargo(bench, "one"), _fake_cargo(bench, "two")]
    for order in (folders, folders[::-1]):
        name, _, _ = _told(_call(bench, order, "--version").stderr)
        assert name == order[0].name


def test_the_wrapper_never_calls_itself(bench: Bench, variables: dict[str, str]) -> None:
    disguised = bench.folder / "disguised"
    disguised.mkdir()
    (disguised / "cargo").symlink_to(bench.shimmed.wrapper)
    wrapper = str(bench.shimmed.wrapper)
    folders = [disguised, bench.shimmed.folder / "bin", _fake_cargo(bench)]
    name, _, environment = _told(
        _call(bench, folders, "build", variables={**variables, "CARGO": wrapper}).stderr
    )
    assert name == "fake"
    assert "CARGO" not in environment


def test_without_any_cargo_it_says_so(bench: Bench) -> None:
    result = _call(bench, [], "build")
    assert result.returncode != 0
    lines = result.stderr.decode().splitlines()
    assert lines
    assert all(line.startswith("pyo3-envshim: ") for line in lines)


@pytest.mark.parametrize("front_end", [PIP, PIP_VENV, BUILD], ids=lambda it: it.name)
def test_the_users_own_cargo_is_the_real_one(bench: Bench, front_end: FrontEnd) -> None:
    own = RecordingCargo(bench.folder / "own" / "cargo", real_cargo())
    project = bench.project()
    seen = []
    for host in (bench.plain, bench.shimmed):
        built = bench.build(front_end, project, host, CARGO=str(own.executable))
        (call,) = [call for call in own.take_calls() if call.compiles]
        assert not any(call.compiles for call in built.calls)
        seen.append(call.environment)
    assert seen[1].get("CARGO") == seen[0].get("CARGO")
    assert seen[1]["PYO3_PYTHON"].startswith(str(bench.store)) == front_end.ephemeral


def test_the_users_own_cargo_is_handed_on(bench: Bench, variables: dict[str, str]) -> None:
    own = str(_fake_cargo(bench, "own") / "cargo")
    given = {**variables, "CARGO": str(bench.shimmed.wrapper), "PYO3_ENVSHIM_CARGO": own}
    name, _, environment = _told(_call(bench, [], "build", variables=given).stderr)
    assert name == "own"
    assert environment["CARGO"] == own


def test_when_the_store_cannot_be_had_the_build_goes_on(bench: Bench) -> None:
    bench.store.write_text("a file where a folder should be")
    variables = _ephemeral_environment(bench)
    result = _call(bench, [_fake_cargo(bench)], "build", variables=variables)
    warning, told = result.stderr.decode().split("\n", 1)
    assert warning.startswith("pyo3-envshim: ")
    _, _, environment = _told(told.encode())
    assert environment["PYO3_PYTHON"] == variables["PYO3_PYTHON"]


def test_an_unknown_mode_means_the_default_and_is_told_once(bench: Bench) -> None:
    variables = _ephemeral_environment(bench)
    result = _call(bench, [_fake_cargo(bench)], "build", variables={**variables, "PYO3_ENVSHIM": "sideways"})
    warning, told = result.stderr.decode().split("\n", 1)
    assert warning.startswith("pyo3-envshim: ")
    assert "sideways" in warning
    _, _, environment = _told(told.encode())
    assert environment["PYO3_PYTHON"].startswith(str(bench.store))
