"""Releases of PyO3, back ends, ABIs and interpreters: `matrix.py` says which go together."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from support.front_ends import UV_BUILD
from support.interpreters import interpreter
from support.sample_crates import BACK_ENDS, BackEnd

from . import matrix
from .matrix import Cell, Record
from .workshop import Bench


@pytest.mark.parametrize("cell", matrix.cells(), ids=str)
def test_a_second_build_recompiles_nothing_and_the_wheel_is_the_same(
    bench: Bench, cell: Cell, record_property: Record
) -> None:
    python = interpreter(cell.interpreter)
    if python is None:
        pytest.skip(f"there is no CPython {cell.interpreter} in PYENV_ROOT or on PATH")
    matrix.check(bench, cell, python, record_property)


_ASKS_PYTHON = """\
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PYO3_PYTHON");
    let python = std::env::var("PYO3_PYTHON").unwrap();
    let asked = std::process::Command::new(python).args(["-c", "import reqlib"]).status();
    assert!(asked.unwrap().success());
}
"""


@pytest.mark.parametrize("back_end", BACK_ENDS, ids=lambda it: it.name)
@pytest.mark.parametrize("abi", [matrix.PER_VERSION, matrix.ABI3])
def test_a_build_script_that_asks_python_is_served_for_every_abi(
    bench: Bench, abi: str, back_end: BackEnd
) -> None:
    """maturin 1.16 sets PYO3_CONFIG_FILE itself for some; PYO3_PYTHON is still what a build script asks."""
    cell = Cell("0.30", back_end, abi, "3.13", UV_BUILD)
    project = bench.project(back_end, pyo3=cell.crate, also_requires=("reqlib",))
    project.write("build.rs", _ASKS_PYTHON)
    first, second = (bench.build(UV_BUILD, project, bench.shimmed) for _ in range(2))
    assert "pyo3" in first.compiled
    assert second.compiled == []


def test_the_chosen_cells_spread_over_the_matrix() -> None:
    chosen = matrix.CHOSEN
    pairs = Counter((cell.pyo3, cell.back_end) for cell in chosen)
    assert pairs == Counter(itertools.product(matrix.PYO3, BACK_ENDS))
    assert {cell.interpreter for cell in chosen} == set(matrix.INTERPRETERS)
    for axis in (matrix.MATRIX_FRONT_ENDS, (matrix.PER_VERSION, matrix.ABI3)):
        met = {
            (value, cell.back_end) for cell in chosen for value in (cell.front_end, cell.abi) if value in axis
        }
        assert met == set(itertools.product(axis, BACK_ENDS))
    assert all(cell.refused is None for cell in chosen)
