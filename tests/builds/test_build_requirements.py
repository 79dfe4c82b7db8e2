"""Build scripts that run Python: they see the build requirements, and their versions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.front_ends import BUILD, UV_BUILD, FrontEnd
from support.sample_crates import BACK_ENDS, MATURIN, BackEnd, Project

from .workshop import Bench

_BUILD_DEPENDENCY = '\n[build-dependencies]\npyo3-build-config = "0.30"\n'

_ASKS_TWICE = """\
use std::process::Command;

fn version(python: &str) -> String {
    let output = Command::new(python)
        .args(["-c", "import reqlib; print(reqlib.VERSION)"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PYO3_PYTHON");
    let variable = version(&std::env::var("PYO3_PYTHON").unwrap());
    let config = version(pyo3_build_config::get().executable().unwrap());
    println!("cargo::rustc-env=ANSWER={variable} {config}");
}
"""

_INCLUDE_MANIFEST = """\
[package]
name = "reqlib-sys"
version = "0.1.0"
edition = "2021"
links = "reqlib"
"""

_PRINTS_INCLUDE_FOLDER = """\
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PYO3_PYTHON");
    let output = Command::new(std::env::var("PYO3_PYTHON").unwrap())
        .args(["-c", "import reqlib; print(reqlib.__path__[0] + '/include')"])
        .output()
        .unwrap();
    println!("cargo::metadata=include={}", String::from_utf8(output.stdout).unwrap().trim());
}
"""

_COMPILES_C = """\
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/version.c");
    println!("cargo::rerun-if-env-changed=DEP_REQLIB_INCLUDE");
    let out = std::env::var("OUT_DIR").unwrap();
    let include = std::env::var("DEP_REQLIB_INCLUDE").unwrap();
    let object = format!("{out}/version.o");
    for (program, arguments) in [
        ("cc", vec!["-c", "-fPIC", "-I", &include, "src/version.c", "-o", &object]),
        ("ar", vec!["crs", &format!("{out}/libversion.a"), &object]),
    ] {
        assert!(Command::new(program).args(arguments).status().unwrap().success());
    }
    println!("cargo::rustc-link-search=native={out}");
    println!("cargo::rustc-link-lib=static=version");
}
"""

_VERSION_C = '#include "reqlib.h"\nconst char *reqlib_version(void) { return REQLIB_VERSION; }\n'

_CALLS_C = """\
extern "C" { fn reqlib_version() -> *const std::ffi::c_char; }
        unsafe { std::ffi::CStr::from_ptr(reqlib_version()) }.to_str().unwrap().to_string()"""

_each_front_end = pytest.mark.parametrize("front_end", [BUILD, UV_BUILD], ids=lambda it: it.name)
_each_back_end = pytest.mark.parametrize("back_end", BACK_ENDS, ids=lambda it: it.name)


def _project_that_asks(bench: Bench, back_end: BackEnd = MATURIN) -> Project:
    """Write a project whose answer is the build requirement's version, asked for in two ways."""
    project = bench.project(back_end, also_requires=("reqlib",))
    project.extend("Cargo.toml", _BUILD_DEPENDENCY)
    project.write("build.rs", _ASKS_TWICE)
    project.set_expression('env!("ANSWER").to_string()')
    bench.settle_lock(project)
    return project


def _project_with_c(bench: Bench) -> Project:
    """Write a project that compiles C against the build requirement's include folder."""
    project = bench.project(also_requires=("reqlib",))
    project.extend("Cargo.toml", 'reqlib-sys = { path = "reqlib-sys" }\n')
    project.write("reqlib-sys/Cargo.toml", _INCLUDE_MANIFEST)
    project.write("reqlib-sys/build.rs", _PRINTS_INCLUDE_FOLDER)
    project.write("reqlib-sys/src/lib.rs", "")
    project.write("build.rs", _COMPILES_C)
    project.write("src/version.c", _VERSION_C)
    project.set_expression(_CALLS_C)
    project.write("src/lib.rs", "use reqlib_sys as _;\n" + (project.folder / "src/lib.rs").read_text())
    bench.settle_lock(project)
    return project


@_each_back_end
@_each_front_end
def test_a_build_script_imports_a_build_requirement(
    bench: Bench, front_end: FrontEnd, back_end: BackEnd
) -> None:
    project = _project_that_asks(bench, back_end)
    first = bench.build(front_end, project, bench.shimmed)
    assert bench.answer(first) == "1 1"
    second = bench.build(front_end, project, bench.shimmed)
    assert second.compiled == []
    assert bench.answer(second) == "1 1"


def test_a_build_script_run_again_imports_from_the_stored_environment(bench: Bench) -> None:
    project = _project_that_asks(bench)
    bench.build(BUILD, project, bench.shimmed)
    project.extend("build.rs", "// changed\n")
    second = bench.build(BUILD, project, bench.shimmed)
    assert second.compiled == ["tiny"]
    assert bench.answer(second) == "1 1"


def test_with_the_base_interpreter_in_its_place_the_import_fails(bench: Bench) -> None:
    project = _project_that_asks(bench)
    with pytest.raises(AssertionError, match="No module named 'reqlib'"):
        bench.build(BUILD, project, bench.plain, MATURIN_PEP517_USE_BASE_PYTHON="1")


@_each_back_end
@_each_front_end
def test_a_changed_requirement_gets_a_new_address_and_its_old_one_back(
    bench: Bench, front_end: FrontEnd, back_end: BackEnd
) -> None:
    project = _project_that_asks(bench, back_end)
    addresses = []
    for version in ("1", "2", "1"):
        bench.requirement_version = version
        built = bench.build(front_end, project, bench.shimmed)
        assert bench.answer(built) == f"{version} {version}"
        addresses.append(built.pyo3_python)
    assert addresses[0] == addresses[2] != addresses[1]


@_each_front_end
def test_a_kept_include_folder_outlives_the_environment(bench: Bench, front_end: FrontEnd) -> None:
    project = _project_with_c(bench)
    first = bench.build(front_end, project, bench.shimmed)
    assert bench.answer(first) == "1"
    _remove_ephemeral_environments(bench)
    changed = _VERSION_C.replace("return REQLIB_VERSION", 'return "touched " REQLIB_VERSION')
    project.write("src/version.c", changed)
    second = bench.build(front_end, project, bench.shimmed)
    assert second.compiled == ["tiny"]
    assert bench.answer(second) == "touched 1"


def _remove_ephemeral_environments(bench: Bench) -> None:
    """Make sure that nothing is left of the environments that front ends made."""
    for folder in (bench.temporary, bench.folder / "uv-cache"):
        shutil.rmtree(folder, ignore_errors=True)
        Path(folder).mkdir()
