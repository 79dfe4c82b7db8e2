"""The matrix as data: which PyO3, back end, ABI, interpreter and front end are built together."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from support.front_ends import BUILD, PIP_VENV, UV_BUILD, FrontEnd
from support.sample_crates import BACK_ENDS, MATURIN, SETUPTOOLS_RUST, BackEnd, PyO3

from .workshop import Bench, Built

PYO3 = ("0.22", "0.24", "0.26", "0.28", "0.29", "0.30")
INTERPRETERS = ("3.9", "3.10", "3.11", "3.12", "3.13")
MATRIX_FRONT_ENDS = (BUILD, UV_BUILD, PIP_VENV)
FULL = "PYO3_ENVSHIM_TEST_MATRIX"  # set to "full" by scripts/maintain/matrix
PROPERTY = "cell"  # of a test in pytest's JUnit report: the JSON of `Outcome.row`

_REPRODUCIBLE = {"SOURCE_DATE_EPOCH": "1700000000", "PYO3_ENVSHIM_VERBOSE": "1"}

# The features of PyO3 for each ABI of an extension module.
PER_VERSION, ABI3, ABI3T = "per version", "abi3", "abi3t"
_FEATURES: dict[str, tuple[str, ...]] = {PER_VERSION: (), ABI3: ("abi3-py39",), ABI3T: ("abi3t-py315",)}


@dataclass(frozen=True)
class Cell:
    """One combination. The interpreter is a version, or the name of one that is not a CPython 3.x."""

    pyo3: str
    back_end: BackEnd
    abi: str
    interpreter: str
    front_end: FrontEnd

    def __str__(self) -> str:
        """Return the name of the cell's test."""
        abi = self.abi.replace(" ", "-")
        return "-".join((self.pyo3, self.back_end.name, abi, self.interpreter, self.front_end.name))

    @property
    def crate(self) -> PyO3:
        """What the project asks of PyO3."""
        return PyO3(self.pyo3, _FEATURES[self.abi])

    @property
    def refused(self) -> str | None:
        """Why this combination cannot be had, without the shim as with it; None if it can."""
        if self.front_end is PIP_VENV and self.interpreter == "3.9":
            return "pip 26.0, the last for Python 3.9, has no venv isolation"
        return None


@dataclass(frozen=True)
class Outcome:
    """What a cell's test saw: three builds of the same folder."""

    without: Built
    first: Built
    second: Built

    @property
    def same_wheel(self) -> bool:
        """Whether the wheel is the same byte for byte with the shim and without."""
        assert self.without.wheel
        assert self.first.wheel
        return self.first.wheel.read_bytes() == self.without.wheel.read_bytes()

    @property
    def configured_by_maturin(self) -> bool:
        """Whether maturin described the interpreter in a file of a permanent place, with the shim or without.

        1.16 does for some abi3 projects with PyO3 0.30, and then nothing of PyO3's asks for PYO3_PYTHON.
        """
        config = self.without.compiling_environment.get("PYO3_CONFIG_FILE", "")
        return "/target/maturin/" in config

    @property
    def notes(self) -> str:
        """What the shim said, for a test that fails."""
        lines = [*self.first.output.splitlines(), "", *self.second.output.splitlines()]
        return "\n".join(line for line in lines if not line or "pyo3-envshim: " in line)

    def row(self, cell: Cell) -> str:
        """Return what scripts/maintain/matrix prints, as JSON."""
        found = {
            "PyO3": cell.pyo3,
            "back end": cell.back_end.name,
            "ABI": cell.abi,
            "interpreter": cell.interpreter,
            "front end": cell.front_end.name,
            "first build": str(len(self.first.compiled)),
            "second build": str(len(self.second.compiled)),
            "wheel": "identical" if self.same_wheel else "DIFFERENT",
            "remark": "maturin's own config file" if self.configured_by_maturin else "",
        }
        return json.dumps(found)


# Interpreters that a Debian sid folder has: the name, where to look for it, the wheel's tag.
SID = {
    "3.14": ("usr/bin/python3.14", "cp314-cp314"),
    "3.15": ("usr/bin/python3.15", "cp315-cp315"),
    "PyPy 3.11": ("usr/bin/pypy3", "pp311-pypy311_pp"),
    "3.13t": ("opt/python3.13t/bin/python3.13t", "cp313-cp313t"),
    "3.14t": ("opt/python3.14t/bin/python3.14t", "cp314-cp314t"),
}


def sid_cells() -> Iterator[Cell]:
    """Yield the combinations that are built there: each interpreter with each back end once, or all."""
    is_full = os.environ.get(FULL) == "full"
    for interpreter in SID:
        pyo3 = "0.28" if interpreter == "3.13t" else "0.30"  # 0.29 and later refuse 3.13t
        for back_end, front_end in itertools.product(BACK_ENDS, (BUILD, UV_BUILD)):
            if is_full or (back_end is MATURIN) == (front_end is BUILD):
                yield Cell(pyo3, back_end, PER_VERSION, interpreter, front_end)
    for abi, front_end in itertools.product((ABI3, ABI3T), (BUILD, UV_BUILD)):
        if is_full or (abi is ABI3) == (front_end is UV_BUILD):
            yield Cell("0.30", MATURIN, abi, "3.15", front_end)


# Each PyO3 with each back end once; interpreters, ABIs and front ends spread.
CHOSEN = (
    Cell("0.22", MATURIN, PER_VERSION, "3.9", BUILD),
    Cell("0.22", SETUPTOOLS_RUST, ABI3, "3.13", UV_BUILD),
    Cell("0.24", MATURIN, ABI3, "3.10", PIP_VENV),
    Cell("0.24", SETUPTOOLS_RUST, PER_VERSION, "3.12", UV_BUILD),
    Cell("0.26", MATURIN, PER_VERSION, "3.11", UV_BUILD),
    Cell("0.26", SETUPTOOLS_RUST, ABI3, "3.9", BUILD),
    Cell("0.28", MATURIN, ABI3, "3.12", UV_BUILD),
    Cell("0.28", SETUPTOOLS_RUST, PER_VERSION, "3.13", PIP_VENV),
    Cell("0.29", MATURIN, PER_VERSION, "3.13", UV_BUILD),
    Cell("0.29", SETUPTOOLS_RUST, ABI3, "3.10", UV_BUILD),
    Cell("0.30", MATURIN, ABI3, "3.9", UV_BUILD),
    Cell("0.30", SETUPTOOLS_RUST, PER_VERSION, "3.12", UV_BUILD),
)


def product() -> Iterator[Cell]:
    """Yield every combination that can be had."""
    axes = (PYO3, BACK_ENDS, (PER_VERSION, ABI3), INTERPRETERS, MATRIX_FRONT_ENDS)
    for cell in itertools.starmap(Cell, itertools.product(*axes)):
        if cell.refused is None:
            yield cell


def cells() -> list[Cell]:
    """Return the cells of this run."""
    return list(product()) if os.environ.get(FULL) == "full" else list(CHOSEN)


Record = Callable[[str, object], None]  # of pytest's fixture record_property


def build(bench: Bench, cell: Cell, python: str) -> Outcome:
    """Build a cell's project without the shim, then twice with it."""
    plain, shimmed = (bench.host(cell.front_end, shimmed=it, python=python) for it in (False, True))
    project = bench.project(cell.back_end, pyo3=cell.crate)
    without = bench.build(cell.front_end, project, plain, python=python, **_REPRODUCIBLE)
    project.remove_what_builds_left()
    bench.fill(project.target, cell.crate)
    first, second = (
        bench.build(cell.front_end, project, shimmed, python=python, **_REPRODUCIBLE) for _ in range(2)
    )
    return Outcome(without, first, second)


def check(bench: Bench, cell: Cell, python: str, record: Record) -> None:
    """Build a cell, record its row, and check that a second build recompiles nothing of the same wheel."""
    outcome = build(bench, cell, python)
    record(PROPERTY, outcome.row(cell))
    print(outcome.notes)
    wheel = outcome.first.wheel
    assert wheel
    assert "pyo3" in outcome.first.compiled
    assert outcome.first.pyo3_python.startswith(str(bench.store))
    assert outcome.second.compiled == []
    assert outcome.same_wheel
    assert wheel_tag(cell) in wheel.name
    assert bench.answer(outcome.second, python) == "42"


def wheel_tag(cell: Cell) -> str:
    """Return how the name of the cell's wheel begins after the version."""
    if cell.abi == ABI3T:
        return "-cp315-abi3.abi3t-"
    if cell.abi == ABI3:
        return "-cp39-abi3-"
    if cell.interpreter in SID:
        return f"-{SID[cell.interpreter][1]}"
    tag = "cp" + cell.interpreter.replace(".", "")
    return f"-{tag}-{tag}-"
