"""Each front end that unpacks an sdist, with a build folder that stays: dependencies are compiled once."""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from support import CHECKOUT
from support.front_ends import (
    BUILD_FROM_SDIST,
    OF_UNPACKED,
    PIP_INSTALL_SDIST,
    PIP_VENV,
    PRE_COMMIT,
    UV_BUILD_FROM_SDIST,
    UV_INSTALL_NAME,
    UV_PIP,
    FrontEnd,
)
from support.interpreters import base_interpreter, other_interpreter
from support.sample_crates import BACK_ENDS, MATURIN, SETUPTOOLS_RUST, BackEnd, Project, PyO3

from .workshop import Bench, Built, run

if str(CHECKOUT) not in sys.path:  # the package of this checkout, installed or not
    sys.path.insert(0, str(CHECKOUT))

from pyo3_envshim import build_dir
from pyo3_envshim.cargo import harmless
from pyo3_envshim.cargo.metadata import Workspace

ALSO = tuple(replace(it, name=f"{it.name}-sdist") for it in (PIP_VENV, UV_PIP))
_MANIFEST = "include Cargo.* *.yaml\nrecursive-include src *.rs\n"
_HOOK = "- {id: tiny, name: tiny, entry: tiny, language: python}\n"


def project_of(bench: Bench, back_end: BackEnd, pyo3: PyO3) -> Project:
    """Write a project, and fill the folder that is to be kept for it with its compiled dependencies."""
    project = bench.project(back_end, warm=False, pyo3=pyo3)
    project.write("MANIFEST.in", _MANIFEST)
    if pyo3.abi3:
        bench.settle_lock(project)
    members = [{"name": "tiny", "manifest_path": "/Cargo.toml"}]
    answer = {"workspace_root": "/", "target_directory": "/target", "packages": members}
    kept = bench.store / "builds" / build_dir.key(Workspace(answer, []))
    kept.parent.mkdir(parents=True, mode=0o700)
    bench.store.chmod(0o700)
    bench.fill(kept)
    compiler = harmless.compiler([], bench.environment(bench.shimmed), str(kept))
    (kept / "compiler").write_text(compiler)
    sdists, usual = str(bench.folder / "sdists"), bench.environment()
    Path(sdists).mkdir()
    bench.variables |= {
        "PIP_NO_CACHE_DIR": "1",
        "PIP_FIND_LINKS": f"{usual['PIP_FIND_LINKS']} {sdists}",
        "UV_FIND_LINKS": f"{usual['UV_FIND_LINKS']},{sdists}",
    }
    return project


def publish(bench: Bench, project: Project, answer: str) -> None:
    """Commit the project with another answer, and make its sdist."""
    project.set_answer(answer)
    environ = bench.environment(bench.plain)
    shutil.rmtree(bench.folder / "sdists", ignore_errors=True)
    out = str(bench.folder / "sdists")
    run([str(bench.plain.python), "-m", "build", "-s", "-o", out, str(project.folder)], environ)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(project.folder)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", answer, "--allow-empty"]):
        run([*git, *command], environ)


def built(bench: Bench, front_end: FrontEnd, project: Project, answer: str, shim: bool = True) -> Built:
    """Build the project, or its sdist where that is what the front end is given."""
    publish(bench, project, answer)
    if front_end in ALSO:
        project = Project(bench.folder / "sdists" / "tiny-0.1.0.tar.gz")
    return bench.build(front_end, project, bench.host(front_end, shimmed=shim))


@pytest.mark.parametrize(
    ("front_end", "back_end"),
    [(it, MATURIN) for it in (*OF_UNPACKED, *ALSO)]
    + [(it, SETUPTOOLS_RUST) for it in (BUILD_FROM_SDIST, PIP_INSTALL_SDIST, UV_INSTALL_NAME, PRE_COMMIT)],
    ids=lambda it: it.name,
)
def test_a_changed_sdist_compiles_its_own_crate_only(
    bench: Bench, front_end: FrontEnd, back_end: BackEnd
) -> None:
    project = project_of(bench, back_end, PyO3())
    project.write(".pre-commit-hooks.yaml", _HOOK)
    project.extend("pyproject.toml", '\n[project.scripts]\ntiny = "tiny:answer"\n')
    project.write(".gitignore", "target\ndist\n*.egg-info\nbuild\n.tox\n")
    first = built(bench, front_end, project, "first")
    assert bench.answer(first) == "first"
    assert {"pyo3-ffi", "tiny"} <= set(first.compiled)
    second = built(bench, front_end, project, "second")
    assert (bench.answer(second), set(second.compiled)) == ("second", {"tiny"}), second.output
    assert "pyo3-envshim:" not in first.output + second.output


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
