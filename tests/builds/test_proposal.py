"""Ready for PyO3's proposal: a pyo3-build-config that reads PYO3_BASE_PYTHON first."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from support.front_ends import BUILD
from support.interpreters import base_interpreter, other_interpreter
from support.sample_crates import Project

from .workshop import Bench, run

_READS = 'if let Some(exe) = env_var("PYO3_PYTHON") {'
_READS_BASE_FIRST = 'if let Some(exe) = env_var("PYO3_BASE_PYTHON") { Ok(exe.into()) } else ' + _READS

_ASKS_ITS_ENVIRONMENT = """\
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PYO3_PYTHON");
    let output = Command::new(std::env::var("PYO3_PYTHON").unwrap())
        .args(["-c", "import reqlib; print(reqlib.VERSION)"])
        .output()
        .unwrap();
    assert!(output.status.success());
    println!("cargo::rustc-env=ANSWER={}", String::from_utf8(output.stdout).unwrap().trim());
}
"""

_TELLS_THE_VERSION = """\
fn main() {
    println!("cargo::rustc-env=ANSWER={}", pyo3_build_config::get().version());
}
"""
_ITS_VERSION = "import sys; print('{}.{}'.format(*sys.version_info))"


def _project_with_the_proposal(bench: Bench) -> Project:
    """Write a project whose PyO3 asks for the base interpreter, as the proposal does."""
    # Not warm: where a target folder was filled without the shim there is a token, in the base too.
    project = bench.project(also_requires=("pyo3-envshim", "reqlib"), warm=False)
    patched = bench.folder / "pyo3-build-config"
    shutil.copytree(_registry_source(bench), patched, copy_function=shutil.copyfile)
    source = patched / "src" / "impl_.rs"
    text = source.read_text()
    assert text.count(_READS) == 1, "find_interpreter of pyo3-build-config is not what it was"
    source.write_text(text.replace(_READS, _READS_BASE_FIRST))
    project.extend("Cargo.toml", f'\n[patch.crates-io]\npyo3-build-config.path = "{patched}"\n')
    bench.settle_lock(project)
    return project


def _registry_source(bench: Bench) -> Path:
    """Return the source folder of the pyo3-build-config that Cargo.lock names."""
    found = re.search(r'name = "(pyo3-build-config)"\nversion = "(.+)"', bench.shared.lock)
    assert found is not None
    home = Path(os.environ.get("CARGO_HOME", str(Path.home() / ".cargo")))
    return next(home.glob(f"registry/src/*/{found[1]}-{found[2]}"))


def test_with_the_proposal_a_changed_requirement_recompiles_no_pyo3(bench: Bench) -> None:
    project = _project_with_the_proposal(bench)
    project.write("build.rs", _ASKS_ITS_ENVIRONMENT)
    project.set_expression('env!("ANSWER").to_string()')
    first = bench.build(BUILD, project, bench.shimmed)
    assert "PYO3_BASE_PYTHON" in first.compiling_environment
    assert bench.answer(first) == "1"
    bench.requirement_version = "2"
    second = bench.build(BUILD, project, bench.shimmed)
    assert second.compiled == ["tiny"]
    assert bench.answer(second) == "2"


def test_with_the_proposal_another_interpreter_gets_its_own_wheel(bench: Bench) -> None:
    project = _project_with_the_proposal(bench)
    project.extend("Cargo.toml", '\n[build-dependencies]\npyo3-build-config = "0.30"\n')
    project.write("build.rs", _TELLS_THE_VERSION)
    project.set_expression('env!("ANSWER").to_string()')
    bench.settle_lock(project)
    for python, arguments in ((base_interpreter(), ""), (other_interpreter(), " -i {}")):
        profile = "--profile dev" + arguments.format(python)
        built = bench.build(BUILD, project, bench.shimmed, MATURIN_PEP517_ARGS=profile)
        version = run([python, "-c", _ITS_VERSION], {}).strip()
        assert built.wheel is not None
        assert f"-cp{version.replace('.', '')}-" in built.wheel.name
        assert bench.answer(built, python) == version


def test_with_the_proposal_older_sources_are_still_noticed(bench: Bench) -> None:
    project = _project_with_the_proposal(bench)
    older = bench.project(name="older", answer="older", warm=False)
    older.age(3600)
    project.set_answer("newer")
    assert bench.answer(bench.build(BUILD, project, bench.shimmed)) == "newer"
    shutil.copy2(older.folder / "src" / "lib.rs", project.folder / "src" / "lib.rs")
    assert bench.answer(bench.build(BUILD, project, bench.shimmed)) == "older"
