"""Builds within a build, and many at once."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.front_ends import BUILD, PIP_VENV, UV_BUILD, FrontEnd
from support.sample_crates import Project

from .workshop import Bench, run, small_environment

UV_SYNC_WORKSPACE = FrontEnd(
    "uv-sync-workspace",
    ("{host}/bin/uv", "sync", "--python", "{base}", "--reinstall", "--project", "{project}"),
    makes_wheel=False,
    installs_into="{project}/.venv",
)
MEMBERS = ("one", "two", "three", "four", "five")
WORKSPACE = """\
[project]
name = "all"
version = "1"
requires-python = ">=3.9"
dependencies = [{dependencies}]

[tool.uv.workspace]
members = ["packages/*"]

[tool.uv.sources]
{sources}
"""


def renamed(project: Project, name: str) -> Project:
    """Give the one-function crate another name."""
    for file in ("pyproject.toml", "Cargo.toml", "Cargo.lock", "src/lib.rs"):
        path = project.folder / file
        path.write_text(path.read_text().replace("tiny", name))
    return project


@pytest.fixture
def workspace(bench: Bench) -> Project:
    """Return a workspace of uv with five PyO3 projects."""
    for name in MEMBERS:
        renamed(bench.project(name=f"workspace/packages/{name}", answer=name), name)
    dependencies = ", ".join(f'"{name}"' for name in MEMBERS)
    sources = "\n".join(f"{name} = {{ workspace = true }}" for name in MEMBERS)
    workspace = Project(bench.folder / "workspace")
    workspace.write("pyproject.toml", WORKSPACE.format(dependencies=dependencies, sources=sources))
    return workspace


def answers(site: Path) -> list[str]:
    code = f"import {', '.join(MEMBERS)}\nfor it in {', '.join(MEMBERS)}: print(it.answer())"
    return run([str(site / "bin" / "python"), "-c", code], small_environment()).split()


def test_five_projects_of_one_workspace_share_an_environment_and_are_warm(
    bench: Bench, workspace: Project
) -> None:
    first = bench.build(UV_SYNC_WORKSPACE, workspace, bench.shimmed)
    assert set(MEMBERS) <= set(first.compiled)
    assert answers(first.site) == list(MEMBERS)
    assert len(bench.digests) == 1

    second = bench.build(UV_SYNC_WORKSPACE, workspace, bench.shimmed)
    assert len([call for call in second.calls if call.compiles]) == len(MEMBERS)
    assert second.compiled == []

    source = workspace.folder / "packages" / "three" / "src" / "lib.rs"
    source.write_text(source.read_text().replace('"three"', '"changed"'))
    third = bench.build(UV_SYNC_WORKSPACE, workspace, bench.shimmed)
    assert third.compiled == ["three"]
    assert answers(third.site) == ["one", "two", "changed", "four", "five"]


# cargo names itself to build scripts, so that no recording cargo runs inside: pip's log tells
# what is compiled there. It lies, as what is installed, beside the crate: the guard would doubt
# sources that change while cargo runs.
BUILD_RS = """\
use std::{env, fs, process::{Command, Stdio}};

fn main() {
    println!("cargo:rerun-if-env-changed=RUN");
    let log = fs::File::create("../inner.log").unwrap();
    let status = Command::new(env::var("PYTHON_OF_FRONT_END").unwrap())
        .args(["-m", "pip", "install", "-v", "--use-feature=venv-isolation", "--no-deps", "--upgrade"])
        .args(["--force-reinstall", "--target", "../installed", "../inner"])
        .stdout(log.try_clone().unwrap())
        .stderr(Stdio::from(log))
        .status()
        .unwrap();
    assert!(status.success());
}
"""


@pytest.mark.parametrize("front_end", [BUILD, UV_BUILD], ids=lambda it: it.name)
def test_a_build_script_that_installs_another_pyo3_project_is_warm_with_it(
    bench: Bench, front_end: FrontEnd
) -> None:
    outer = bench.project(name="outer")
    inner = renamed(bench.project(name="inner", answer="inside"), "inner")
    outer.write("build.rs", BUILD_RS)
    bench.variables["PYTHON_OF_FRONT_END"] = str(bench.shimmed.python)

    def compiled_inside() -> list[str]:
        return re.findall(r"Compiling (\S+) v", (bench.folder / "inner.log").read_text())

    def answer_inside() -> str:
        code = "import inner; print(inner.answer())"
        environment = small_environment() | {"PYTHONPATH": str(bench.folder / "installed")}
        return run([str(bench.plain.python), "-c", code], environment).strip()

    bench.build(front_end, outer, bench.shimmed, RUN="1")
    assert "inner" in compiled_inside()
    assert answer_inside() == "inside"

    again = bench.build(front_end, outer, bench.shimmed, RUN="2")
    assert again.compiled == ["tiny"]  # its build script ran
    assert compiled_inside() == []

    inner.write("src/lib.rs", (inner.folder / "src/lib.rs").read_text().replace("inside", "changed"))
    changed = bench.build(front_end, outer, bench.shimmed, RUN="3")
    assert compiled_inside() == ["inner"]
    assert answer_inside() == "changed"
    assert bench.answer(changed) == "42"
    assert bench.build(front_end, outer, bench.shimmed, RUN="3").compiled == []


def test_front_ends_that_build_one_project_at_once_are_warm_together(bench: Bench) -> None:
    """They wait for each other in cargo's target folder, and share one entry."""
    project = bench.project(answer="together")
    bench.build(BUILD, project, bench.shimmed)
    both = (BUILD, PIP_VENV, UV_BUILD)
    benches = [Bench(bench.shared, bench.folder / front_end.name) for front_end in both]
    for other in benches:
        other.store = bench.store

    with ThreadPoolExecutor(len(both)) as pool:
        built = list(
            pool.map(lambda one, by: one.build(by, project, one.shimmed), benches, both),
        )
    assert [one.compiled for one in built] == [[], [], []]
    assert {one.answer(it) for one, it in zip(benches, built)} == {"together"}
    assert len(bench.digests) == 1
