"""pip's default isolation and pdm overlay the invoking interpreter; sdists have kept folders there, too."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from support.front_ends import PDM_BUILD, PIP, FrontEnd
from support.sample_crates import BACK_ENDS, BackEnd, Project

from .workshop import Bench, run

PIP_SDIST = replace(PIP, name="pip-sdist")
# As cryptography's before 50: it runs its build requirements, by an interpreter whose path stays.
ASKS_PYTHON = """\
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PYO3_PYTHON");
    let python = std::env::var("PYO3_PYTHON").unwrap();
    let mut asked = std::process::Command::new(python);
    asked.args(["-c", "import reqlib; print(reqlib.VERSION)"]);
    let said = String::from_utf8(asked.output().unwrap().stdout).unwrap();
    println!("cargo::rustc-env=REQLIB={}", said.trim());
}
"""


def sdist(bench: Bench, project: Project) -> Project:
    """Return the project's sdist."""
    project.write("MANIFEST.in", "include Cargo.* build.rs\nrecursive-include src *.rs\n")
    out = bench.folder / "sdist"
    shutil.rmtree(out, ignore_errors=True)
    command = [str(bench.plain.python), "-m", "build", "-s", "-o", str(out), str(project.folder)]
    run(command, bench.environment(bench.plain))
    (found,) = out.glob("*.tar.gz")
    return Project(found)


@pytest.mark.parametrize("back_end", BACK_ENDS, ids=lambda it: it.name)
def test_an_sdist_under_pips_default_isolation(bench: Bench, back_end: BackEnd) -> None:
    project = bench.project(back_end, warm=False)
    for answer in ("first", "second"):
        project.set_answer(answer)
        done = bench.build(PIP_SDIST, sdist(bench, project), bench.shimmed)
        assert bench.answer(done) == answer
        assert "pyo3-envshim" not in done.output
    assert done.compiled == ["tiny"]


def test_the_content_of_the_overlay_counts(bench: Bench) -> None:
    project = bench.project(also_requires=("reqlib",), warm=False)
    project.write("build.rs", ASKS_PYTHON)
    project.set_expression('env!("REQLIB").to_string()')
    for version in ("1", "2", "2"):
        bench.requirement_version = version
        done = bench.build(PIP_SDIST, sdist(bench, project), bench.shimmed)
        assert bench.answer(done) == version
    assert done.compiled == ["tiny"]


@pytest.mark.parametrize("front_end", [PIP, PDM_BUILD], ids=lambda it: it.name)
def test_in_the_source_folder_nothing_changes(bench: Bench, front_end: FrontEnd) -> None:
    project = bench.project()
    host = bench.host(front_end, shimmed=True)
    bench.build(front_end, project, host)
    done = bench.build(front_end, project, host)
    assert done.compiled == []
    assert Path(project.target).exists()
    assert not list(bench.store.glob("builds/*"))
