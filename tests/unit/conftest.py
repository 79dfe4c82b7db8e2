"""Fixtures of the unit tests: the interpreters, and what a run shares."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import hypothesis
import pytest

from support.interpreters import interpreter

from . import environments
from .posix import IGNORED, skip_what_is_about_posix

collect_ignore = IGNORED

# Every run tries the same examples, or, with HYPOTHESIS_PROFILE=thorough, many new ones. There is
# no deadline, because workers share the machine.
unit = hypothesis.settings(
    deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("unit", unit)
hypothesis.settings.register_profile("thorough", unit, derandomize=False, max_examples=5000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "unit"))

if str(environments.ROOT) not in sys.path:  # the package of this checkout, installed or not
    sys.path.insert(0, str(environments.ROOT))

from pyo3_envshim.store.store import Store  # noqa: E402

from .sample_wheels import SampleWheels  # noqa: E402


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> environments.Shared:
    """Return what all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    run = own if worker_id == "master" else own.parent
    return environments.Shared(run / "unit")


@pytest.fixture(params=environments.VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    """Return the path of each supported CPython."""
    found = interpreter(request.param)
    if found is None:
        pytest.skip(f"there is no CPython {request.param} in PYENV_ROOT or on PATH")
    return found


@pytest.fixture
def a_python() -> str:
    """Return the path of the CPython that runs the tests."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return an empty folder, which a process can have as its HOME and working directory."""
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def environ(shared: environments.Shared, home: Path) -> dict[str, str]:
    """Return the variables that a test's process starts with; uv's cache is shared."""
    names = ["HOME", "USERPROFILE"] if os.name == "nt" else ["HOME"]
    return {**shared.environ, **dict.fromkeys(names, str(home))}


@pytest.fixture
def sample(
    shared: environments.Shared, a_python: str, environ: dict[str, str], tmp_path: Path
) -> SampleWheels:
    """Return a maker of environments with the sample wheels, in the test's folder."""
    return SampleWheels(shared, a_python, environ, tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store."""
    return Store(str(tmp_path / "store"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as quick what makes no environment, asks no cargo and is not slow: `./scripts/test quick`."""
    skip_what_is_about_posix(items)
    no_cargo = shutil.which("cargo") is None
    for item in items:
        if no_cargo and any(item.iter_markers("cargo")):
            item.add_marker(pytest.mark.skip(reason="there is no cargo on PATH"))
        takes_long = "shared" in getattr(item, "fixturenames", ())
        if not (takes_long or any(item.iter_markers("cargo")) or any(item.iter_markers("slow"))):
            item.add_marker("quick")
