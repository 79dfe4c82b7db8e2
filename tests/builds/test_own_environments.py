"""A user's own environment is never stored: cargo is told of it as without the shim."""

from __future__ import annotations

import pytest

from support.front_ends import MATURIN_BUILD, MATURIN_DEVELOP, OWN_BUILD, OWN_PIP, OWN_UV, FrontEnd
from support.interpreters import base_interpreter

from .workshop import Bench, run

# Below the temporary folder: like no front end's, and more and more like one.
_NAMES = ("mine", "build-env-mine", "build-env-abcd1234", "tmpabcd1234/.venv")
_HARDEST = _NAMES[-1]


def _make_own(bench: Bench, name: str) -> str:
    """Make an environment with a build back end in the temporary folder, and files beside it."""
    own = bench.temporary / name
    if own.parent != bench.temporary:
        own.parent.mkdir(mode=0o700)
        (own.parent / "notes.txt").touch()
    run([base_interpreter(), "-m", "venv", "--without-pip", str(own)], bench.environment())
    _install(bench, str(own), "maturin")
    return str(own)


def _install(bench: Bench, own: str, requirement: str) -> None:
    uv = [str(bench.plain.folder / "bin" / "uv"), "pip", "install", "-q"]
    run([*uv, "-p", own, requirement], bench.environment())


@pytest.mark.parametrize(
    ("front_end", "name"),
    [
        *((front_end, name) for front_end in (OWN_PIP, OWN_UV) for name in _NAMES),
        *((front_end, _HARDEST) for front_end in (MATURIN_DEVELOP, MATURIN_BUILD)),
    ],
    ids=lambda it: it.name if isinstance(it, FrontEnd) else None,
)
def test_a_build_in_the_users_own_environment_is_left_alone(
    bench: Bench, front_end: FrontEnd, name: str
) -> None:
    project, own = bench.project(), _make_own(bench, name)
    python = f"{own}/bin/python"
    plain, shimmed = (bench.host(front_end, shimmed=it) for it in (False, True))
    # Activated; and maturin installs with a uv from PATH.
    path = f"{own}/bin:{bench.environment()['PATH']}:{bench.plain.folder}/bin"
    without = bench.build(front_end, project, plain, site=own, python=python, PATH=path)
    _install(bench, own, "pyo3-envshim")
    with_it = bench.build(
        front_end, project, shimmed, site=own, python=python, PATH=path, CARGO=str(shimmed.wrapper)
    )
    assert with_it.pyo3_python == without.pyo3_python == python
    assert with_it.compiled == []
    assert bench.entries == []


def test_a_folder_chosen_for_the_build_environment_is_left_alone(bench: Bench) -> None:
    project = bench.project()
    without = bench.build(OWN_BUILD, project, bench.plain)
    with_it = bench.build(OWN_BUILD, project, bench.shimmed)
    assert with_it.pyo3_python == without.pyo3_python
    assert with_it.compiled == []
    assert bench.entries == []
