"""Crates to build: one PyO3 function, `answer()`, for each build back end."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

_CARGO_TOML = """\
[package]
name = "tiny"
version = "0.1.0"
edition = "2021"

[lib]
crate-type = ["cdylib"]

[dependencies]
pyo3 = {{ version = "{pyo3}", features = [{features}] }}
"""

_PYPROJECT_TOML = """\
[build-system]
requires = [{requires}]
build-backend = "{backend}"

[project]
name = "tiny"
version = "0.1.0"
requires-python = ">=3.9"
"""

_SETUPTOOLS = """
[tool.setuptools]
packages = ["tiny"]

[[tool.setuptools-rust.ext-modules]]
target = "tiny.tiny"
"""

_SETUPTOOLS_ABI3 = """
[tool.distutils.bdist_wheel]
py-limited-api = "cp39"
"""

# In a form that PyO3 takes from 0.22 on.
_LIB_RS = """\
use pyo3::prelude::*;

#[pyfunction]
fn answer() -> String {{
    {expression}
}}

#[pymodule]
fn tiny(module: &Bound<'_, PyModule>) -> PyResult<()> {{
    module.add_function(wrap_pyfunction!(answer, module)?)
}}
"""


@dataclass(frozen=True)
class BackEnd:
    """A build back end, and what its pyproject.toml says."""

    name: str
    requires: tuple[str, ...]
    backend: str
    tables: str = ""
    modules: tuple[tuple[str, str], ...] = ()
    abi3_tables: str = ""

    def pyproject(self, also_requires: tuple[str, ...] = (), *, abi3: bool = False) -> str:
        """Return the text of a pyproject.toml."""
        requires = ", ".join(f'"{name}"' for name in (*self.requires, *also_requires))
        text = _PYPROJECT_TOML.format(requires=requires, backend=self.backend) + self.tables
        return text + self.abi3_tables if abi3 else text


MATURIN = BackEnd("maturin", ("maturin>=1.16,<2",), "maturin")
SETUPTOOLS_RUST = BackEnd(
    "setuptools-rust",
    ("setuptools>=77", "setuptools-rust>=1.13"),
    "setuptools.build_meta",
    _SETUPTOOLS,
    (("tiny/__init__.py", "from .tiny import answer as answer\n"),),
    _SETUPTOOLS_ABI3,
)
BACK_ENDS = (MATURIN, SETUPTOOLS_RUST)


@dataclass(frozen=True)
class PyO3:
    """A release series of PyO3, and the features that a project asks of it."""

    version: str = "0.30"
    features: tuple[str, ...] = ()

    @property
    def abi3(self) -> bool:
        """Whether extension modules use the limited API."""
        return any(feature.startswith("abi3-") for feature in self.features)

    def manifest(self) -> str:
        """Return the text of a Cargo.toml."""
        features = ", ".join(f'"{name}"' for name in self.features)
        return _CARGO_TOML.format(pyo3=self.version, features=features)


NEWEST = PyO3()


@dataclass(frozen=True)
class Project:
    """A source folder."""

    folder: Path

    @property
    def target(self) -> Path:
        """Its usual target folder."""
        return self.folder / "target"

    def write(self, name: str, text: str) -> Path:
        """Write one file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def extend(self, name: str, text: str) -> None:
        """Append to one file."""
        self.write(name, (self.folder / name).read_text() + text)

    def set_answer(self, answer: str) -> None:
        """Make `answer()` return this text."""
        self.set_expression(f'"{answer}".to_string()')

    def set_expression(self, expression: str) -> None:
        """Make `answer()` return the value of a Rust expression."""
        self.write("src/lib.rs", _LIB_RS.format(expression=expression))

    def age(self, seconds: float) -> None:
        """Set every file's mtime into the past, as unpacking an archive does."""
        moment = time.time() - seconds
        for path in self.folder.rglob("*"):
            if self.target not in (path, *path.parents):
                os.utime(path, (moment, moment))

    def remove_what_builds_left(self) -> None:
        """Remove the target folder and what setuptools writes beside the sources."""
        for name in ("target", "build", "tiny.egg-info", "dist"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def copy_to(self, folder: Path) -> Project:
        """Copy sources (times kept) without the target folder."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("target"))
        return Project(folder)


def write_project(
    folder: Path,
    back_end: BackEnd = MATURIN,
    lock: str | None = None,
    *,
    answer: str = "42",
    also_requires: tuple[str, ...] = (),
    pyo3: PyO3 = NEWEST,
) -> Project:
    """Write the one-function crate, with this Cargo.lock; without one, cargo will make it."""
    project = Project(folder)
    project.write("pyproject.toml", back_end.pyproject(also_requires, abi3=pyo3.abi3))
    project.write("Cargo.toml", pyo3.manifest())
    if lock is not None:
        project.write("Cargo.lock", lock)
    for name, text in back_end.modules:
        project.write(name, text)
    project.set_answer(answer)
    return project
