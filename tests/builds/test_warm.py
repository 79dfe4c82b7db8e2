"""Where a build should be warm, it is."""

from __future__ import annotations

import shutil

import pytest

from support.front_ends import BUILD, UV_BUILD, FrontEnd
from support.sample_crates import BACK_ENDS, MATURIN, BackEnd

from .workshop import Bench, run


@pytest.mark.parametrize("front_end", [BUILD, UV_BUILD], ids=lambda it: it.name)
def test_adopting_the_shim_costs_one_ordinary_build(bench: Bench, front_end: FrontEnd) -> None:
    project = bench.project()
    bench.build(front_end, project, bench.plain)
    ordinary = bench.build(front_end, project, bench.plain)
    adopting = bench.build(front_end, project, bench.shimmed)
    assert set(adopting.compiled) <= set(ordinary.compiled)
    assert len(adopting.compiled) <= len(ordinary.compiled)
    assert bench.build(front_end, project, bench.shimmed).compiled == []


def test_a_fresh_clone_with_a_restored_target_compiles_no_registry_crate(bench: Bench) -> None:
    project = bench.project()
    bench.build(BUILD, project, bench.shimmed)
    restored = bench.folder / "restored"
    run(["cp", "-a", str(project.target), str(restored)], bench.environment())
    shutil.rmtree(project.folder)
    shutil.rmtree(bench.store)
    clone = bench.project(MATURIN, answer="clone", warm=False)
    restored.rename(clone.target)
    built = bench.build(BUILD, clone, bench.shimmed)
    assert built.compiled == ["tiny"]
    assert bench.answer(built) == "clone"


def test_a_changed_source_compiles_only_the_project(bench: Bench) -> None:
    project = bench.project()
    bench.build(BUILD, project, bench.shimmed)
    project.set_answer("changed")
    built = bench.build(BUILD, project, bench.shimmed)
    assert built.compiled == ["tiny"]
    assert bench.answer(built) == "changed"


def test_the_wrapper_tells_what_it_did_when_asked(bench: Bench) -> None:
    project = bench.project()
    words = []
    for _ in range(2):
        built = bench.build(BUILD, project, bench.shimmed, PYO3_ENVSHIM_VERBOSE="1")
        (line,) = {it for it in built.output.splitlines() if "PYO3_PYTHON=" in it}
        words.append(line.split(":")[1].split()[-1])
        assert line.startswith("pyo3-envshim: environment ")
        assert line.endswith(f"PYO3_PYTHON={built.pyo3_python}")
    assert words == ["stored", "reused"]


_MACRO = """\
extern crate proc_macro;
#[proc_macro]
pub fn text(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let place = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/text";
    format!("{:?}", std::fs::read_to_string(place).unwrap()).parse().unwrap()
}
"""


@pytest.mark.parametrize("back_end", BACK_ENDS, ids=lambda it: it.name)
def test_a_project_whose_macro_may_read_anything_stays_warm(bench: Bench, back_end: BackEnd) -> None:
    """What the front and back ends leave in its folder, newer each time, makes nobody doubt."""
    project = bench.project(back_end)
    project.extend("Cargo.toml", 'own-macros = { path = "own-macros" }\n')
    project.write("own-macros/Cargo.toml", '[package]\nname = "own-macros"\n[lib]\nproc-macro = true\n')
    project.write("own-macros/src/lib.rs", _MACRO)
    project.write("text", "one")
    project.set_expression("own_macros::text!().to_string()")
    bench.settle_lock(project)
    for _ in range(2):
        bench.build(BUILD, project, bench.shimmed)
    assert bench.build(BUILD, project, bench.shimmed).compiled == []
    project.write("text", "two")
    built = bench.build(BUILD, project, bench.shimmed)
    assert "pyo3" not in built.compiled
    assert bench.answer(built) == "two"
