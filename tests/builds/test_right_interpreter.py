"""Never for the wrong interpreter: front ends that run on one, and build for another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.front_ends import (
    BUILD,
    HATCH_BUILD,
    MATURIN_BUILD,
    NOX,
    NOX_WITH_UV,
    PDM_BUILD,
    PDM_INSTALL,
    PIP_PYTHON,
    PIP_PYTHON_VENV,
    POETRY_INSTALL,
    TOX,
    UV_BUILD,
    UV_PIP,
    UV_SYNC,
    FrontEnd,
)
from support.interpreters import other_interpreter

from .workshop import Bench, Built

_FOR_ANY_INTERPRETER = (
    *(PIP_PYTHON, PIP_PYTHON_VENV, UV_BUILD, UV_PIP, UV_SYNC, PDM_BUILD, PDM_INSTALL),
    *(POETRY_INSTALL, HATCH_BUILD, TOX, NOX, NOX_WITH_UV, MATURIN_BUILD),
)


def _assert_is_for(python: str, bench: Bench, built: Built) -> None:
    """Check what cargo was told, the wheel's tag, and that this interpreter imports it."""
    told = built.compiling_environment
    for name in ("PYO3_PYTHON", "PYO3_BASE_PYTHON"):
        assert os.path.realpath(told.get(name, python)) == python
    tag = Path(python).name.replace("python", "cp").replace(".", "")
    assert built.tag.startswith(f"{tag}-{tag}-")
    assert bench.answer(built, python) == "42"


@pytest.mark.parametrize("front_end", _FOR_ANY_INTERPRETER, ids=lambda it: it.name)
def test_a_build_for_another_interpreter_is_told_of_that_one(bench: Bench, front_end: FrontEnd) -> None:
    project, python = bench.project(), other_interpreter()
    built = bench.build(front_end, project, bench.host(front_end, shimmed=True), python=python)
    assert built.pyo3_python.startswith(str(bench.store)) == front_end.ephemeral
    _assert_is_for(python, bench, built)


def test_a_wrapper_of_one_interpreter_serves_builds_for_another(bench: Bench) -> None:
    project, python = bench.project(), other_interpreter()
    elsewhere = bench.shared.host("build", shimmed=False, python=python)
    built = bench.build(BUILD, project, elsewhere, CARGO=str(bench.shimmed.wrapper))
    assert built.pyo3_python.startswith(str(bench.store))
    _assert_is_for(python, bench, built)


def test_each_interpreter_has_its_own_address(bench: Bench) -> None:
    project, python = bench.project(), other_interpreter()
    one = bench.build(UV_BUILD, project, bench.shimmed)
    other = bench.build(UV_BUILD, project, bench.shimmed, python=python)
    assert one.pyo3_python != other.pyo3_python
    _assert_is_for(python, bench, other)
    again = bench.build(UV_BUILD, project, bench.shimmed)
    assert os.path.realpath(again.pyo3_python) == os.path.realpath(one.pyo3_python)
