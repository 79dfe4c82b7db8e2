"""Of this folder's tests, one is for Linux, and the others are for Windows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ON_LINUX = "test_under_wine.py"
ON_WINDOWS = [path.name for path in HERE.glob("test_*.py") if path.name != ON_LINUX]
collect_ignore = [ON_LINUX] if os.name == "nt" else ON_WINDOWS

if str(HERE.parents[1]) not in sys.path:  # the package of this checkout, installed or not
    sys.path.insert(0, str(HERE.parents[1]))

from pyo3_envshim.environment.digest import Environment  # noqa: E402
from unit.conftest import a_python, environ, home, sample, shared, store  # noqa: E402
from unit.entries import small_environment  # noqa: E402
from unit.environments import Shared  # noqa: E402

from .bench import Bench, make_host  # noqa: E402

__all__ = ["a_python", "environ", "home", "sample", "shared", "store"]


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """Return the least that can be stored: an interpreter and `module.py`."""
    return small_environment(tmp_path)


@pytest.fixture
def host(shared: Shared, a_python: str) -> Path:
    """An environment with front ends, and the shim beside them."""
    return shared.once("windows-host", lambda root: make_host(root, a_python, shared))


@pytest.fixture
def bench(tmp_path: Path, shared: Shared, host: Path) -> Bench:
    return Bench(tmp_path, shared, host)
