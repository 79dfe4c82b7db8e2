"""Fixtures: what a run shares, and a bench for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from .tiny_cargo import TinyCargo
from .workshop import Bench, Shared


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Shared:
    """Return what all workers of this run share, made by the first of them."""
    own = tmp_path_factory.getbasetemp()
    run = own if worker_id == "master" else own.parent
    shared = Shared(run / "shared")
    with FileLock(run / "shared.lock"):
        complete = run / "shared.complete"
        if not complete.exists():
            shared.folder.mkdir()
            shared.make()
            complete.touch()
    return shared


@pytest.fixture
def bench(shared: Shared, tmp_path: Path) -> Bench:
    """Return a bench in a folder of its own."""
    return Bench(shared, tmp_path)


@pytest.fixture(params=["first layout", "second layout"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> TinyCargo:
    """Real cargo, with each of its layouts of a build folder."""
    there = TinyCargo(tmp_path)
    if request.param == "second layout":
        there.use_second_layout()
    return there
