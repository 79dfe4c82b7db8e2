"""Which files raise doubt: those that something may have read, and no others.

Each test of what is noticed is red if the guard goes by cargo's notes alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyo3_envshim.stamp import STAMP

from .tiny_cargo import LIBRARY, MANIFEST, TinyCargo, write

_YEARS = 5 * 365 * 24 * 3600
_SCRIPT = {"build.rs": 'fn main() { println!("cargo:rerun-if-changed=build.rs"); }\n'}


def replace(path: Path, text: str) -> None:
    """Put an older file in place of another."""
    write(path.with_name("beside"), text, _YEARS).replace(path)


def _node_modules(tree: Path) -> None:
    write(tree / "node_modules" / "x" / "index.js", "", _YEARS)


def _text(tree: Path) -> None:
    write(tree / "NOTES.txt", "", _YEARS)


def _nix(tree: Path) -> None:
    """``nix build`` points its link ``result`` to another folder, with files of 1970."""
    (tree / "result").unlink()
    (tree / "result").symlink_to("../store/two")


@pytest.mark.parametrize("change", [_node_modules, _text, _nix])
@pytest.mark.parametrize("script", [False, True], ids=["plain", "with a build script"])
def test_a_file_that_no_crate_reads_costs_at_most_the_crate(
    change: Callable[[Path], None], script: bool, there: TinyCargo
) -> None:
    tree = there.tree(files=_SCRIPT if script else None)
    for name in ("one", "two"):
        os.utime(write(there.folder / "store" / name / "x", name), (1, 1))
    (tree / "result").symlink_to("../store/one")
    there.build(tree)
    assert there.build(tree) == set()
    change(tree)
    found = there.build(tree)
    assert found <= ({"tiny", "build-script-build"} if script else set())
    assert there.build(tree) == set()


def test_a_module_that_was_added_is_known_from_then_on(there: TinyCargo) -> None:
    tree = there.tree()
    there.build(tree)
    write(tree / "src" / "new" / "mod.rs", "")
    write(tree / "src" / "lib.rs", "mod new;\n" + LIBRARY.format('"two"'))
    assert there.build(tree) == {"tiny"}
    assert there.build(tree) == set()
    assert there.mark() == "two"


def test_what_is_included_from_afar_is_known_from_the_first_build_on(there: TinyCargo) -> None:
    tree = there.tree("tree", 'include_str!("../data/deep/x")', files={"data/deep/x": "one"})
    there.build(tree)
    assert there.build(tree) == set()
    replace(tree / "data" / "deep" / "x", "two")
    assert there.build(tree) == {"tiny"}
    assert there.mark() == "two"


@pytest.mark.parametrize("also", ["", ', include_str!("two")'], ids=["alone", "beside a file of that name"])
def test_a_link_that_leads_elsewhere_is_noticed(also: str, there: TinyCargo) -> None:
    """cargo notes where a link led, not whence, and may have noted the other file too."""
    tree = there.tree("tree", f'include_str!("link"){also}', files={"src/one": "one", "src/two": "two"})
    (tree / "src" / "link").symlink_to("one")
    there.build(tree)
    assert there.build(tree) == set()
    (tree / "src" / "link").unlink()
    (tree / "src" / "link").symlink_to("two")
    assert there.build(tree) == {"tiny"}
    assert there.mark().startswith("two")


def test_an_older_file_in_place_of_a_link_is_noticed(there: TinyCargo) -> None:
    tree = there.tree("tree", 'include_str!("link")', files={"src/one": "one"})
    (tree / "src" / "link").symlink_to("one")
    there.build(tree)
    replace(tree / "src" / "link", "two")
    assert there.build(tree) == {"tiny"}
    assert there.mark() == "two"


_MACRO = """\
extern crate proc_macro;
#[proc_macro]
pub fn template(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let text = std::fs::read_to_string(folder + "/%s").unwrap();
    format!("#[used] #[no_mangle] pub static MARK: &str = {:?};", text).parse().unwrap()
}
"""


@pytest.mark.parametrize("is_local", [True, False], ids=["of its own", "of others"])
@pytest.mark.parametrize("place", ["templates/one.html", ".sqlx/query.json"])
def test_what_a_macro_reads_and_tells_nobody_is_noticed(place: str, is_local: bool, there: TinyCargo) -> None:
    macros = there.folder / ("tree" if is_local else "vendor") / "macros"
    write(macros / "Cargo.toml", MANIFEST.format(name="macros") + "[lib]\nproc-macro = true\n")
    write(macros / "src" / "lib.rs", _MACRO % place)
    write(macros / ".cargo-checksum.json", '{"files": {}}') if not is_local else None
    also = 'macros = { path = "macros" }\n' if is_local else 'macros = "0.1"\n'
    tree = there.tree(also=also, files={"src/lib.rs": "macros::template!();\n", place: "{{one}}"})
    there.build(tree)
    assert there.build(tree) == set()
    replace(tree / place, "{{two}}")
    there.build(tree)
    assert there.mark() == "two"


def test_a_crate_that_the_configuration_puts_in_the_place_of_another_is_noticed(there: TinyCargo) -> None:
    """By ``paths``: neither ``cargo metadata --no-deps`` nor the lock file tells where it lies."""
    vendor, other = there.folder / "vendor" / "over", there.folder / "override"
    manifest = MANIFEST.format(name="over") + '[dependencies]\nstandin = "0.1"\n'
    for folder, text in ((vendor, "vendored"), (other, "one")):
        write(folder / "Cargo.toml", manifest)
        write(folder / "src" / "lib.rs", f'#[macro_export] macro_rules! mark {{ () => {{ "{text}" }} }}')
    write(vendor / ".cargo-checksum.json", '{"files": {}}')
    tree = there.tree("tree", "over::mark!()", 'over = "0.1"\n')
    configuration = there.folder / ".cargo" / "config.toml"
    configuration.write_text(f'paths = ["{other}"]\n' + configuration.read_text())
    for path in other.rglob("*.*"):
        os.utime(path, (1e9, 1e9))
    there.build(tree)
    assert there.mark() == "one"
    replace(other / "src" / "lib.rs", '#[macro_export] macro_rules! mark { () => { "two" } }')
    assert "standin" not in there.build(tree)
    assert there.mark() == "two"


_WRAPPER = """\
#!/bin/sh
exec "$@" --cfg 'mark="%s"'
"""
_BY_WRAPPER = 'if cfg!(mark = "one") { "{{one}}" } else { "{{two}}" }'


@pytest.mark.parametrize("place", ["tree", "."], ids=["in the tree", "above it"])
def test_cargos_configuration_is_watched(place: str, there: TinyCargo) -> None:
    """A wrapper around rustc is no part of what cargo compares."""
    tree = there.tree(files={"src/lib.rs": f"#[used] #[no_mangle] pub static MARK: &str = {_BY_WRAPPER};"})
    configuration = there.folder / place / ".cargo" / "config.toml"
    sources = configuration.read_text() if configuration.exists() else ""
    for mark in ("one", "two"):
        wrapper = write(there.folder / mark, _WRAPPER % mark)
        wrapper.chmod(0o755)
        write(configuration, f'{sources}[build]\nrustc-wrapper = "{wrapper}"\n', _YEARS)
        there.build(tree)
        assert there.mark() == mark
        assert there.build(tree) == set()


@pytest.mark.parametrize("crate", ["rlib", "cdylib"])
def test_what_no_crate_reads_is_not_looked_at(
    crate: str, there: TinyCargo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much it is: not listed, and not kept in mind."""
    also = f'[lib]\ncrate-type = ["{crate}"]\n'
    tree = there.tree(also=also, files={f"node_modules/{number}/deep/x.js": "" for number in range(30)})
    there.build(tree)
    assert there.build(tree) == set()
    listed: list[str] = []
    scandir = os.scandir

    def scan(path: str) -> Iterator[os.DirEntry[str]]:
        listed.append(os.path.relpath(path, tree))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert there.build(tree) == set()
    assert sorted(listed) == [".", "src"]
    assert "node_modules" not in (there.target / "debug" / STAMP).read_text()


@pytest.mark.parametrize("place", [".hidden/x", "data/deep/x", "link/x"])
def test_what_lies_in_the_package_is_known_from_the_first_build_on(place: str, there: TinyCargo) -> None:
    tree = there.tree("tree", f'include_str!("../{place}")', files={place: "one"})
    if place.startswith("link"):
        (tree / "link").rename(tree / "folder")
        (tree / "link").symlink_to("folder")
    there.build(tree)
    assert there.build(tree) == set()


_WRITES = """fn main() {{
    println!("cargo:rerun-if-changed=build.rs");
    {}
    std::fs::write("src/made.rs", "\\"made\\"").unwrap();
}}"""


@pytest.mark.parametrize("asks", ["", 'println!("cargo:rerun-if-env-changed=PYO3_PYTHON");'])
def test_a_source_that_a_build_script_writes_costs_its_crate(asks: str, there: TinyCargo) -> None:
    """As bindgen does where it is told to write into ``src``. Who else may have written it, nobody knows."""
    tree = there.tree(mark='include!("made.rs")', files={"build.rs": _WRITES.format(asks)})
    for _ in range(3):
        assert there.build(tree) <= {"build-script-build", "standin", "tiny"}
    assert there.build(tree) == {"build-script-build", "tiny"}
    assert there.mark() == "made"
    replace(tree / "src" / "made.rs", '"older"')
    there.build(tree)
    assert there.mark() == "made"  # the script was run again
    write(tree / "src" / "made.rs", '"newer"')
    there.build(tree)
    assert there.mark() == "newer"


_WRITES_WHAT_DIFFERS = """fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let made = "\\"made\\"";
    if std::fs::read_to_string("src/made.rs").map_or(true, |found| found != made) {
        std::fs::write("src/made.rs", made).unwrap();
    }
}"""


def test_a_source_that_a_build_script_writes_where_it_differs_costs_nothing(there: TinyCargo) -> None:
    """As prost does."""
    tree = there.tree(mark='include!("made.rs")', files={"build.rs": _WRITES_WHAT_DIFFERS})
    there.build(tree)
    assert there.build(tree) == {"build-script-build", "tiny"}
    assert there.build(tree) == set()
    assert there.mark() == "made"


def test_a_folder_that_was_renamed_into_place_while_cargo_compiled(there: TinyCargo) -> None:
    """No time of what is in it tells: both lie between the start of that build and rustc's."""
    tree = there.tree()
    python = there.guard(tree)
    write(tree / "src.new" / "lib.rs", LIBRARY.format('"new"'))
    there.run(["build", "--lib"], tree, PYO3_PYTHON=python)
    (tree / "src").rename(tree / "src.old")
    (tree / "src.new").rename(tree / "src")
    there.build(tree)
    assert there.mark() == "new"


_READS = """fn main() {
    println!("cargo:rerun-if-changed=src/x.txt");
    println!("cargo:rustc-env=X={}", std::fs::read_to_string("src/x.txt").unwrap());
    let _ = std::fs::rename("x.new", "src/x.txt"); // somebody else does
}"""


def test_a_file_that_changed_after_a_build_script_had_read_it(there: TinyCargo) -> None:
    """And before rustc did."""
    files = {"build.rs": _READS, "src/x.txt": "old"}
    tree = there.tree(mark='env!("X"), include_str!("x.txt")', files=files)
    python = there.guard(tree)
    write(tree / "x.new", "new")
    there.run(["build", "--lib"], tree, PYO3_PYTHON=python)
    there.build(tree)
    assert there.mark() == "newnew"
