"""Each front end that unpacks an sdist, with a build folder that stays: dependencies are compiled once."""

from __future__ import annotations

import re
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from support import CHECKOUT
from support.front_ends import BUILD_FROM_SDIST, PIP_VENV, UV_BUILD_FROM_SDIST, UV_PIP, FrontEnd
from support.interpreters import base_interpreter, other_interpreter
from support.sample_crates import BACK_ENDS, MATURIN, BackEnd, Project, PyO3

from .workshop import Bench, Built, run

if str(CHECKOUT) not in sys.path:  # the package of this checkout, installed or not
    sys.path.insert(0, str(CHECKOUT))

from pyo3_envshim import build_dir
from pyo3_envshim.cargo.metadata import Workspace

OF_SDISTS = (
    BUILD_FROM_SDIST,
    UV_BUILD_FROM_SDIST,
    replace(PIP_VENV, name="pip-venv-isolation-sdist"),
    replace(UV_PIP, name="uv-pip-install-sdist"),
)


def project_of(bench: Bench, back_end: BackEnd, pyo3: PyO3) -> Project:
    """Write a project, and fill the folder that is to be kept for it with its compiled dependencies."""
    project = bench.project(back_end, warm=False, pyo3=pyo3)
    project.write("MANIFEST.in", "include Cargo.*\nrecursive-include src *.rs\n")
    if pyo3.abi3:
        bench.settle_lock(project)
    members = [{"name": "tiny", "manifest_path": "/Cargo.toml"}]
    answer = {"workspace_root": "/", "target_directory": "/target", "packages": members}
    kept = bench.store / "builds" / build_dir.key(Workspace(answer, []))
    kept.parent.mkdir(parents=True, mode=0o700)
    bench.store.chmod(0o700)
    bench.fill(kept)
    bench.variables["PYO3_ENVSHIM_BUILD_CACHE"] = "on"
    return project


def built(bench: Bench, front_end: FrontEnd, project: Project, answer: str, shim: bool = True) -> Built:
    """Build the project, or its sdist where that is what the front end is given."""
    project.set_answer(answer)
    if front_end.name.endswith("-sdist") and "from" not in front_end.name:
        out = bench.folder / "sdist" / answer
        environ = bench.environment(bench.plain)
        run([str(bench.plain.python), "-m", "build", "-s", "-o", str(out), str(project.folder)], environ)
        (sdist,) = out.glob("*.tar.gz")
        project = Project(sdist)
    return bench.build(front_end, project, bench.shimmed if shim else bench.plain)


@pytest.mark.parametrize("back_end", BACK_ENDS, ids=lambda it: it.name)
@pytest.mark.parametrize("front_end", OF_SDISTS, ids=lambda it: it.name)
def test_a_changed_sdist_compiles_its_own_crate_only(
    bench: Bench, front_end: FrontEnd, back_end: BackEnd
) -> None:
    project = project_of(bench, back_end, PyO3())
    first = built(bench, front_end, project, "first")
    assert bench.answer(first) == "first"
    assert {"pyo3-ffi", "tiny"} <= set(first.compiled)
    second = built(bench, front_end, project, "second")
    assert (bench.answer(second), second.compiled) == ("second", ["tiny"])


def test_a_project_for_the_limited_api_compiles_its_own_crate_only(bench: Bench) -> None:
    """maturin writes PyO3's configuration into the unpacked tree."""
    project = project_of(bench, MATURIN, PyO3(features=("abi3-py39",)))
    for answer in ("first", "second"):
        done = built(bench, BUILD_FROM_SDIST, project, answer)
        assert bench.answer(done) == answer
    assert done.compiled == ["tiny"]


@pytest.mark.parametrize("front_end", [BUILD_FROM_SDIST, UV_BUILD_FROM_SDIST], ids=lambda it: it.name)
def test_one_folder_serves_all_interpreters(bench: Bench, front_end: FrontEnd) -> None:
    project = project_of(bench, MATURIN, PyO3())
    for number in range(2):
        for python in (base_interpreter(), other_interpreter()):
            project.set_answer(answer := f"{Path(python).name}, {number}")
            host = bench.host(front_end, shimmed=True, python=python)
            done = bench.build(front_end, project, host, python=python)
            assert bench.answer(done, python) == answer
            assert done.compiled == ["tiny"] or number == 0, done.output
    assert len(list((bench.store / "builds").iterdir())) == 1


def content(wheel: Path | None) -> dict[str, bytes]:
    """Return what is in a wheel but its RECORD, the unpacked tree's path aside: maturin's SBOM holds it."""
    assert wheel is not None
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/RECORD")]
        return {name: re.sub(rb"(build-via-sdist-)\w{8}", rb"\1", archive.read(name)) for name in names}


@pytest.mark.parametrize("back_end", BACK_ENDS, ids=lambda it: it.name)
def test_the_wheel_is_the_one_without_the_shim(bench: Bench, back_end: BackEnd) -> None:
    project = project_of(bench, back_end, PyO3())
    bench.variables["SOURCE_DATE_EPOCH"] = "1600000000"
    one, two, plain = (
        content(built(bench, BUILD_FROM_SDIST, project, answer, shim).wheel)
        for answer, shim in (("one", True), ("two", True), ("two", False))
    )
    assert one != two
    assert two == plain
